"""The recipe's geometry: which part is seen, and that the view says so rightly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermx.config import PreprocessConfig
from dermx.data.phantom import draw_phantom
from dermx.preprocess import pipeline
from dermx.preprocess.artefacts import tinted
from dermx.preprocess.pipeline import clean, prepare, resize, shorter_side_to, square
from dermx.records import View

SIDES = st.integers(33, 300)


def ramp(height: int, width: int) -> np.ndarray:
    """Red grows to the right and green downwards, so that a pixel tells where it came from."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([255 * x / width, 255 * y / height, np.full(x.shape, 7)], axis=2).astype(
        np.uint8
    )


def pixel_box(view: View, height: int, width: int) -> tuple[float, float, float, float]:
    return (view.top * height, view.left * width, view.height * height, view.width * width)


# --- the centre square ---------------------------------------------------------------------------


def test_the_full_square_of_a_landscape_picture_by_hand() -> None:
    picture = ramp(300, 400)
    pixels, view = square(picture, 300)
    np.testing.assert_array_equal(pixels, picture[:, 50:350])
    assert view == View(left=0.125, top=0.0, width=0.75, height=1.0)


def test_half_of_a_portrait_picture_by_hand() -> None:
    picture = ramp(400, 200)
    pixels, view = square(picture, 100, 0.5)
    np.testing.assert_array_equal(pixels, picture[150:250, 50:150])
    assert view == View(left=0.25, top=0.375, width=0.5, height=0.25)


@given(SIDES, SIDES, st.integers(32, 96), st.floats(0.2, 1))
@settings(deadline=None)
def test_the_view_is_a_centred_square_of_whole_pixels(
    h: int, w: int, size: int, share: float
) -> None:
    pixels, view = square(ramp(h, w), size, share)
    assert pixels.shape == (size, size, 3)
    top, left, height, width = pixel_box(view, h, w)
    assert height == pytest.approx(width)  # a square in pixels, not in fractions
    assert height == pytest.approx(round(min(h, w) * share))
    assert top == pytest.approx(round(top))
    assert abs(h - height - 2 * top) < 1.01
    assert abs(w - width - 2 * left) < 1.01


@given(SIDES, SIDES, st.floats(0.3, 1))
@settings(deadline=None)
def test_the_view_says_where_the_pixels_came_from(h: int, w: int, share: float) -> None:
    pixels, view = square(ramp(h, w), 32, share)
    centres = (np.arange(32) + 0.5) / 32
    across = 255 * (view.left + centres * view.width)
    down = 255 * (view.top + centres * view.height)
    # one source pixel is 255 / side levels wide
    assert np.abs(pixels[16, :, 0] - across).max() <= 2 + 255 / w
    assert np.abs(pixels[:, 16, 1] - down).max() <= 2 + 255 / h


def test_a_mirrored_picture_gives_a_mirrored_square() -> None:
    picture = draw_phantom(3, size=(96, 128)).picture
    np.testing.assert_array_equal(square(picture[:, ::-1], 48)[0], square(picture, 48)[0][:, ::-1])


# --- the whole recipe ----------------------------------------------------------------------------


def test_with_both_switches_off_nothing_is_touched() -> None:
    picture = ramp(60, 80)
    cleaned, view = clean(picture, PreprocessConfig())
    assert cleaned is picture
    assert view == View()


def test_the_lesion_crop_and_the_square_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "lesion_box", lambda picture, margin: (40, 100, 140, 300))
    spec = PreprocessConfig(image_size=50, crop_fraction=0.5, lesion_crop=True)
    picture = ramp(200, 400)
    pixels, view = prepare(picture, spec)
    # box: rows 40-140, columns 100-300; its centre square of side 50: rows 65-115, columns 175-225
    np.testing.assert_array_equal(pixels, picture[65:115, 175:225])
    assert pixel_box(view, 200, 400) == pytest.approx((65, 175, 50, 50))


def test_the_margin_of_the_spec_reaches_the_lesion_box(monkeypatch: pytest.MonkeyPatch) -> None:
    given_margins: list[float] = []

    def box(picture: np.ndarray, margin: float) -> tuple[int, int, int, int]:
        given_margins.append(margin)
        return 0, 0, 32, 32

    monkeypatch.setattr(pipeline, "lesion_box", box)
    clean(ramp(60, 80), PreprocessConfig(lesion_crop=True, lesion_margin=0.7))
    assert given_margins == [0.7]


def test_hair_goes_before_the_lesion_is_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    shaved = ramp(60, 80)

    def remove(picture: np.ndarray) -> np.ndarray:
        order.append("hair")
        return shaved

    def box(picture: np.ndarray, margin: float) -> tuple[int, int, int, int]:
        assert picture is shaved
        order.append("lesion")
        return 10, 20, 50, 60

    monkeypatch.setattr(pipeline, "remove_hair", remove)
    monkeypatch.setattr(pipeline, "lesion_box", box)
    cleaned, _ = clean(
        np.zeros((60, 80, 3), np.uint8), PreprocessConfig(hair_removal=True, lesion_crop=True)
    )
    assert order == ["hair", "lesion"]
    np.testing.assert_array_equal(cleaned, shaved[10:50, 20:60])


@pytest.mark.parametrize("hair", [False, True])
@pytest.mark.parametrize("crop", [False, True])
def test_prepare_is_clean_then_square(hair: bool, crop: bool) -> None:
    spec = PreprocessConfig(image_size=64, crop_fraction=0.9, hair_removal=hair, lesion_crop=crop)
    picture = draw_phantom(33, diagnosis="nv", size=(150, 200), hair=6).picture
    before = picture.copy()
    pixels, view = prepare(picture, spec)
    cleaned, outer = clean(picture, spec)
    np.testing.assert_array_equal(pixels, square(cleaned, 64, 0.9)[0])
    np.testing.assert_array_equal(picture, before)  # what was given is not written to
    assert outer.left <= view.left <= view.left + view.width <= outer.left + outer.width + 1e-9
    assert outer.top <= view.top <= view.top + view.height <= outer.top + outer.height + 1e-9


def test_with_colour_constancy_the_colour_and_strength_of_the_light_matter_little() -> None:
    plain = PreprocessConfig(image_size=64)
    constant = PreprocessConfig(image_size=64, colour_constancy=True)
    picture = draw_phantom(33, diagnosis="nv", size=(150, 200)).picture // 2 + 40

    def moved(gains: tuple[float, float, float], spec: PreprocessConfig) -> float:
        change = prepare(tinted(picture, gains), spec)[0].astype(float) - prepare(picture, spec)[0]
        return float(np.abs(change).mean())

    for gains in ((0.8, 1.0, 1.2), (0.7, 0.7, 0.7), (1.1, 0.9, 1.0)):
        assert moved(gains, constant) < 1.5  # of 255: what rounding and clipping leave
        assert moved(gains, plain) > 5


def test_what_the_model_saw_is_pasted_back_onto_it() -> None:
    """The whole way round: a map that is bright where the lesion is lands on the lesion."""
    phantom = draw_phantom(35, diagnosis="nv", size=(300, 400))
    spec = PreprocessConfig(image_size=224, lesion_crop=True)
    _, view = prepare(phantom.picture, spec)
    top, left, height, width = (round(v) for v in pixel_box(view, 300, 400))
    inside = phantom.lesion[top : top + height, left : left + width].astype(np.float32)
    back = view.paste(inside, (300, 400)) > 0.5
    both = (back & phantom.lesion).sum() / (back | phantom.lesion).sum()
    assert both > 0.95


def test_paste_lands_on_the_pixels_that_were_cut() -> None:
    _, view = square(ramp(300, 400), 224)
    whole = view.paste(np.ones((7, 7), np.float32), (300, 400))
    expected = np.zeros((300, 400), np.float32)
    expected[:, 50:350] = 1
    np.testing.assert_array_equal(whole, expected)


@given(SIDES, SIDES, st.floats(0.3, 1))
@settings(deadline=None)
def test_paste_covers_exactly_the_view_at_any_size(h: int, w: int, share: float) -> None:
    _, view = square(ramp(h, w), 32, share)
    side = round(min(h, w) * share)
    assert view.paste(np.ones((3, 3), np.float32), (h, w)).sum() == side * side
    # a picture decoded at a quarter of its scale: the view, in fractions, still fits the original
    large = view.paste(np.ones((3, 3), np.float32), (4 * h, 4 * w))
    assert large.sum() == pytest.approx(16 * side * side)


def test_paste_puts_a_cell_where_it_was_seen() -> None:
    _, view = square(ramp(280, 560), 224)  # columns 140 to 420, cells of 40 pixels
    cells = np.zeros((7, 7), np.float32)
    cells[2, 5] = 1
    whole = view.paste(cells, (280, 560))
    y, x = (float((axis * whole).sum() / whole.sum()) for axis in np.mgrid[:280, :560])
    assert (y, x) == pytest.approx((2.5 * 40 - 0.5, 140 + 5.5 * 40 - 0.5))


# --- scaling -------------------------------------------------------------------------------------


@given(st.integers(2, 5), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_shrinking_by_a_whole_factor_is_pils_box_filter(factor: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (32 * factor, 32 * factor, 3), np.uint8)
    theirs = np.asarray(Image.fromarray(noise).resize((32, 32), Image.Resampling.BOX))
    assert np.abs(square(noise, 32)[0].astype(int) - theirs).max() <= 1


def test_shrinking_a_picture_agrees_with_torchvision() -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.v2")
    picture = draw_phantom(33, diagnosis="nv", size=(300, 400)).picture
    recipe = transforms.Compose(
        [transforms.CenterCrop(300), transforms.Resize(224, antialias=True)]
    )
    theirs = recipe(torch.from_numpy(picture).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.abs(square(picture, 224)[0].astype(int) - theirs).mean() < 1


def test_enlarging_keeps_the_corners_and_makes_no_new_colours() -> None:
    small = ramp(40, 40)
    large = resize(small, (160, 160))
    np.testing.assert_array_equal(large[0, 0], small[0, 0])
    np.testing.assert_array_equal(large[-1, -1], small[-1, -1])
    assert large[:, :, 2].tolist() == [[7] * 160] * 160


@given(SIDES, SIDES, st.integers(32, 200))
@settings(deadline=None)
def test_the_shorter_side_is_met_and_the_shape_kept(h: int, w: int, side: int) -> None:
    picture = ramp(h, w)
    scaled = shorter_side_to(picture, side)
    if min(h, w) <= side:
        assert scaled is picture
    else:
        height, width = scaled.shape[:2]
        assert min(height, width) == side
        assert abs(max(height, width) - max(h, w) * side / min(h, w)) <= 0.5
        assert (height <= width) == (h <= w) or height == width
