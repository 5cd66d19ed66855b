"""Hair removal: what it finds, what it leaves alone, what it puts there."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermx.data.phantom import draw_phantom
from dermx.errors import InputError
from dermx.preprocess.hair import hair_mask, remove_hair


def skin(size: tuple[int, int] = (300, 400), level: int = 190) -> np.ndarray:
    return np.full((*size, 3), (level, level - 40, level - 60), np.uint8)


def with_line(
    picture: np.ndarray, start: tuple[int, int], end: tuple[int, int], width: int = 2
) -> np.ndarray:
    return cv2.line(picture.copy(), start, end, (50, 35, 30), width)


def near(mask: np.ndarray, pixels: int = 1) -> np.ndarray:
    square = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return cv2.dilate(mask.astype(np.uint8), square) > 0


# --- what is hair ------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 20, 45, 80, 90, 130, 170])
def test_one_dark_line_in_any_direction_is_hair_and_nothing_else_is(degrees: int) -> None:
    dx, dy = (round(90 * f(np.deg2rad(degrees))) for f in (np.cos, np.sin))
    picture = with_line(skin(), (200 - dx, 150 - dy), (200 + dx, 150 + dy))
    drawn = (picture != skin()).any(axis=2)
    found = hair_mask(picture)
    assert (found & drawn).sum() / drawn.sum() > 0.95
    assert not (found & ~near(drawn, 2)).any()


def test_dark_disc_and_broad_bar_are_not_hair() -> None:
    picture = cv2.circle(skin(), (120, 150), 30, (60, 40, 30), cv2.FILLED)
    picture = cv2.rectangle(picture, (240, 60), (270, 240), (60, 40, 30), cv2.FILLED)
    assert not hair_mask(picture).any()


@pytest.mark.parametrize("red", [110, 140, 170])
def test_honeycomb_of_thin_dark_lines_is_not_hair(red: int) -> None:
    """A pigment network: as thin and dark as hair, but no line of it runs on."""
    rng = np.random.default_rng(0)
    picture = skin()
    for y in range(60, 240, 10):
        for x in range(90 + (y // 10 % 2) * 5, 300, 10):
            centre = (x + int(rng.integers(-1, 2)), y + int(rng.integers(-1, 2)))
            picture = cv2.circle(picture, centre, 5, (red, red - 35, red - 50), 1, cv2.LINE_AA)
    assert hair_mask(picture).mean() < 0.001


def test_hair_shows_on_a_dark_lesion_too() -> None:
    lesion = cv2.circle(skin(), (200, 150), 70, (150, 85, 60), cv2.FILLED)
    picture = with_line(lesion, (100, 140), (300, 165))
    drawn = (picture != lesion).any(axis=2)
    assert (hair_mask(picture) & drawn).sum() / drawn.sum() > 0.9


def test_white_hair_is_left_in_as_documented() -> None:
    picture = cv2.line(skin(level=150), (40, 40), (300, 200), (240, 240, 235), 2)
    assert not hair_mask(picture).any()


def test_drawn_hair_is_found_and_little_else() -> None:
    recalls, precisions = [], []
    for seed in range(10):
        drawn = draw_phantom(seed, size=(300, 400), hair=20, vignette=seed % 3 == 0)
        found = hair_mask(drawn.picture)
        recalls.append((found & drawn.hair).sum() / drawn.hair.sum())
        precisions.append((found & near(drawn.hair, 2)).sum() / found.sum())
    assert np.mean(recalls) > 0.96
    assert min(recalls) > 0.85
    assert np.mean(precisions) > 0.95


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.5])
def test_same_hair_is_found_at_another_resolution(factor: float) -> None:
    drawn = draw_phantom(2, hair=15)
    size = (round(600 * factor), round(450 * factor))
    other = cv2.resize(drawn.picture, size, interpolation=cv2.INTER_AREA)
    share = drawn.hair.astype(np.float32)
    truth = cv2.resize(share, size, interpolation=cv2.INTER_AREA) >= 0.5
    found = hair_mask(other)
    reach = max(2, round(2 * factor))
    assert (found & truth).sum() / truth.sum() > 0.93
    assert (found & near(truth, reach)).sum() / found.sum() > 0.93


# --- what is put there -------------------------------------------------------------------------


def test_every_pixel_outside_the_mask_is_bit_identical() -> None:
    for seed, size in ((0, (450, 600)), (1, (300, 400)), (2, (360, 260))):
        picture = draw_phantom(seed, size=size, hair=15).picture
        before = picture.copy()
        result = remove_hair(picture)
        mask = hair_mask(picture)
        assert mask.any()
        assert np.array_equal(result[~mask], picture[~mask])
        assert np.array_equal(picture, before), "the given picture was written to"


def test_without_hair_the_picture_comes_back_all_but_unchanged() -> None:
    for seed in range(10):
        clean = draw_phantom(seed, size=(300, 400), vignette=seed % 3 == 0).picture
        result = remove_hair(clean)
        assert (result != clean).any(axis=2).mean() < 0.01
        assert np.abs(result.astype(int) - clean).mean() < 0.1


def test_fill_is_much_closer_to_the_skin_beneath_than_the_hair_was() -> None:
    for seed in (3, 4, 5):
        drawn = draw_phantom(seed, size=(300, 400), hair=20)
        before = np.abs(drawn.picture.astype(int) - drawn.clean)[drawn.hair].mean()
        after = np.abs(remove_hair(drawn.picture).astype(int) - drawn.clean)[drawn.hair].mean()
        assert after < 0.12 * before


def test_line_on_even_skin_vanishes_completely() -> None:
    assert np.array_equal(remove_hair(with_line(skin(), (60, 40), (330, 260))), skin())


def test_second_removal_finds_next_to_nothing() -> None:
    drawn = draw_phantom(6, hair=20)
    once = remove_hair(drawn.picture)
    assert hair_mask(once).mean() < 0.1 * hair_mask(drawn.picture).mean()


# --- odd pictures ------------------------------------------------------------------------------


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25, deadline=None)
def test_small_noisy_pictures_keep_their_shape_and_the_law(
    height: int, width: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    mask, result = hair_mask(picture), remove_hair(picture)
    assert mask.shape == (height, width)
    assert mask.dtype == bool
    assert np.array_equal(result[~mask], picture[~mask])


@pytest.mark.parametrize("size", [(3, 3000), (3000, 3), (1, 1), (40, 2000)])
def test_extreme_shapes_without_hair_come_back_as_they_are(size: tuple[int, int]) -> None:
    assert np.array_equal(remove_hair(skin(size)), skin(size))


def test_a_view_into_a_larger_picture_works_like_its_copy() -> None:
    picture = draw_phantom(1, hair=10).picture
    window = picture[50:400, 40:560]
    assert np.array_equal(remove_hair(window), remove_hair(window.copy()))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((10, 10), np.uint8), r"got shape \(10, 10\)"),
        (np.zeros((10, 10, 4), np.uint8), r"got shape \(10, 10, 4\)"),
        (np.zeros((10, 10, 3), np.float32), "type float32"),
        (np.zeros((0, 10, 3), np.uint8), "no pixels"),
    ],
)
def test_what_is_no_rgb_picture_is_refused(picture: np.ndarray, message: str) -> None:
    for function in (hair_mask, remove_hair):
        with pytest.raises(InputError, match=message):
            function(picture)


# --- real pictures -----------------------------------------------------------------------------


def real_picture(real_data: Path, name: str) -> np.ndarray:
    (path,) = (real_data / "ham10000").glob(f"HAM10000_images_part_*/ISIC_{name}.jpg")
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


@pytest.mark.data
def test_real_skin_without_hair_is_hardly_called_hair(real_data: Path) -> None:
    names = ["0027906", "0028510", "0031653", "0027301", "0024766", "0029770", "0026236", "0029007"]
    names += ["0032596", "0026894", "0030043", "0025351", "0032639", "0029948", "0029373"]
    shares = [hair_mask(real_picture(real_data, name)).mean() for name in names]
    assert np.mean(shares) < 0.006
    assert max(shares) < 0.04
