"""What is painted over is gone, what is left is untouched, what is drawn is where it should be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermx.data.phantom import Phantom, draw_phantom
from dermx.explain.painting import (
    ADDED,
    LESION,
    NOTHING,
    PAINTED,
    SKIN,
    colour_matched,
    colour_statistics,
    grey,
    only_border,
    only_shape,
    unmarked,
    watermarked,
    without_background,
    without_box,
    without_lesion,
)


@pytest.fixture(scope="module")
def drawn() -> Phantom:
    return draw_phantom(3, size=(224, 224), diagnosis="mel")


def darkest(picture: np.ndarray) -> float:
    return float(np.quantile(picture.mean(axis=2), 0.01))


def test_without_the_lesion_its_darkness_is_gone_and_the_rest_untouched(drawn: Phantom) -> None:
    painted = without_lesion(drawn.picture, drawn.lesion)
    skin = np.median(drawn.picture[~drawn.lesion], axis=0)
    assert darkest(drawn.picture) < skin.mean() - 60
    assert darkest(painted) > skin.mean() - 40
    changed = (painted != drawn.picture).any(axis=2)
    assert not changed[~drawn.lesion].all()
    rows, columns = np.nonzero(drawn.lesion)
    corner = np.ones_like(drawn.lesion)
    top, left = max(0, rows.min() - 8), max(0, columns.min() - 8)
    corner[top : rows.max() + 9, left : columns.max() + 9] = False
    assert corner.any()
    assert not changed[corner].any()


def test_the_box_hides_the_outline_too(drawn: Phantom) -> None:
    by_box = without_box(drawn.picture, drawn.lesion)
    changed = (by_box != drawn.picture).any(axis=2)
    rows, columns = np.nonzero(drawn.lesion)
    assert changed[rows.min() : rows.max(), columns.min() : columns.max()].mean() > 0.98
    assert not changed[0].any()


def test_without_the_background_nothing_but_the_lesion_is_left(drawn: Phantom) -> None:
    painted = without_background(drawn.picture, drawn.lesion)
    np.testing.assert_array_equal(painted[drawn.lesion], drawn.picture[drawn.lesion])
    assert (painted[[0, 0, -1, -1], [0, -1, 0, -1]] == NOTHING).all()


def test_lesion_and_background_share_the_picture_between_them(drawn: Phantom) -> None:
    """Every pixel is left by one of the two, none by both."""
    skin = without_lesion(drawn.picture, drawn.lesion) == drawn.picture
    rest = without_background(drawn.picture, drawn.lesion) == drawn.picture
    assert (skin.all(axis=2) | rest.all(axis=2)).all()


def test_the_border_is_a_tenth_on_every_side(drawn: Phantom) -> None:
    painted = only_border(drawn.picture, np.zeros_like(drawn.lesion))
    left = (painted != NOTHING).any(axis=2)
    assert left.mean() == pytest.approx(1 - 0.8**2, abs=0.02)
    np.testing.assert_array_equal(painted[:22], drawn.picture[:22])
    assert (painted[22:-22, 22:-22] == NOTHING).all()


def test_of_a_lesion_that_reaches_into_the_border_nothing_is_left_there(drawn: Phantom) -> None:
    lesion = np.roll(drawn.lesion, -80, axis=0)
    assert lesion[:22].any()
    painted = only_border(drawn.picture, lesion)
    assert (painted[lesion] == NOTHING).all()
    assert (painted[-22:] != NOTHING).any()


def test_the_shape_has_two_colours_alike_for_all(drawn: Phantom) -> None:
    painted = only_shape(drawn.picture, drawn.lesion)
    assert (painted[drawn.lesion] == LESION).all()
    assert (painted[~drawn.lesion] == SKIN).all()
    other = draw_phantom(8, size=(224, 224)).picture
    np.testing.assert_array_equal(only_shape(other, drawn.lesion), painted)


@pytest.mark.parametrize("name", PAINTED)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_lesion_and_nothing_but_lesion_can_be_painted(name: str, share: float) -> None:
    picture = np.full((32, 32, 3), 90, np.uint8)
    painted = PAINTED[name](picture, np.full((32, 32), bool(share)))
    assert painted.shape == picture.shape
    assert painted.dtype == np.uint8
    if name == "lesion painted out":
        assert (painted == (NOTHING if share else picture)).all()


@pytest.mark.parametrize("name", ADDED)
def test_what_is_drawn_is_the_same_every_time_and_leaves_the_picture_alone(
    name: str, drawn: Phantom
) -> None:
    before = drawn.picture.copy()
    first, second = ADDED[name](drawn.picture), ADDED[name](drawn.picture)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(drawn.picture, before)
    assert (first != before).any()


def changed_by(name: str, picture: np.ndarray) -> np.ndarray:
    return (ADDED[name](picture) != picture).any(axis=2)


@given(st.integers(0, 200))
def test_ruler_and_ink_stay_off_the_middle(seed: int) -> None:
    skin = np.full((150, 200, 3), 100 + seed % 100, np.uint8)  # the colour seeds the place
    for name in ("ruler drawn in", "ink drawn in"):
        changed = changed_by(name, skin)
        assert 0.002 < changed.mean() < 0.1
        assert not changed[50:100, 75:125].any()
        # within the centre square, which is what the model gets
        assert changed[:, 25:175].sum() == changed.sum()


def test_hairs_are_dark_lines_all_over(drawn: Phantom) -> None:
    changed = changed_by("hair drawn in", drawn.picture)
    assert 0.03 < changed.mean() < 0.3
    hairy = ADDED["hair drawn in"](drawn.picture)
    assert (hairy[changed].mean() < drawn.picture[changed].mean() - 30).all()


def test_the_dark_rim_leaves_the_middle_alone(drawn: Phantom) -> None:
    rimmed = ADDED["dark rim drawn in"](drawn.picture)
    np.testing.assert_array_equal(rimmed[40:-40, 40:-40], drawn.picture[40:-40, 40:-40])
    assert rimmed[:8, :8].max() < 20


@pytest.mark.parametrize("size", [(150, 200), (200, 150), (180, 180)])
def test_the_covered_band_holds_the_letters(size: tuple[int, int]) -> None:
    skin = np.full((*size, 3), 150, np.uint8)
    marked = watermarked(skin)
    assert 0.005 < (marked != skin).any(axis=2).mean() < 0.1
    np.testing.assert_allclose(unmarked(marked), skin, atol=6)


def test_grey_has_no_colour(drawn: Phantom) -> None:
    assert (np.ptp(grey(drawn.picture), axis=2) == 0).all()


def test_matched_colours_are_those_wanted() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(90, 170, (40, 50, 3), np.uint8)
    wanted = colour_statistics(rng.integers(60, 140, (30, 30, 3), np.uint8))
    found = colour_statistics(colour_matched(picture, wanted))
    np.testing.assert_allclose(found[0], wanted[0], atol=1.0)
    np.testing.assert_allclose(found[1], wanted[1], atol=2.0)
    own = colour_matched(picture, colour_statistics(picture))
    np.testing.assert_allclose(own.astype(int), picture, atol=2)
