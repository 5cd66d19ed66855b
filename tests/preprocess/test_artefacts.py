"""Each artefact by hand, or as a law: what it changes, by how much, and what it leaves alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermx.data.phantom import draw_phantom
from dermx.preprocess.artefacts import (
    GREY,
    MOST_GAIN,
    Field,
    Strand,
    bent,
    blurred,
    contrasted,
    erased,
    estimated_light,
    field_light,
    grey_gains,
    in_grey_light,
    lit,
    noisy,
    recompressed,
    slope,
    tinted,
    with_strands,
)
from dermx.preprocess.hair import hair_mask


def flat(value: float | tuple[int, int, int] = 120, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def lesion() -> np.ndarray:
    return draw_phantom(33, size=(150, 200), diagnosis="nv").picture


def test_a_blurred_edge_is_half_way_in_the_middle_and_as_wide_as_its_sigma() -> None:
    picture = flat(0, (100, 200))
    picture[:, 100:] = 200
    row = blurred(picture, 0.05)[50, :, 0].astype(float)  # sigma: 5 pixels
    assert row[99] + row[100] == pytest.approx(200, abs=2)
    # a Gaussian edge reaches 15.9 % one sigma before its middle, which lies between the two pixels
    assert np.interp(99.5 - 5, np.arange(200), row) / 200 == pytest.approx(0.159, abs=0.01)
    assert (row[[60, 140]] == (0, 200)).all()


def test_noise_has_the_deviation_asked_for_and_no_offset() -> None:
    grain = noisy(flat(128, (300, 300)), 10, seed=4).astype(float) - 128
    assert grain.std() == pytest.approx(10, rel=0.02)
    assert abs(grain.mean()) < 0.1
    channels = np.corrcoef(grain.reshape(-1, 3).T)
    assert np.abs(channels - np.eye(3)).max() < 0.02


def test_noise_clips_at_black_and_white() -> None:
    assert noisy(flat(0), 20, 1).min() == 0
    assert np.median(noisy(flat(0), 20, 1)) == 0  # what would fall below black stays black
    assert np.median(noisy(flat(255), 20, 1)) == 255


def test_noise_depends_on_the_seed_only_and_covers_large_pictures() -> None:
    assert np.array_equal(noisy(flat(), 9, 1), noisy(flat(), 9, 1))
    assert not np.array_equal(noisy(flat(), 9, 1), noisy(flat(), 9, 2))
    large = noisy(flat(128, (700, 900)), 10, 3).astype(float) - 128
    assert large[-50:, -50:].std() == pytest.approx(10, rel=0.05)


def test_jpeg_of_a_grey_picture_is_itself_and_low_quality_costs_more() -> None:
    # at quality 20 a block's mean is kept in steps of 40 / 8 grey levels
    assert np.abs(recompressed(flat(), 20).astype(int) - 120).max() <= 3
    picture = lesion()
    loss = [np.abs(recompressed(picture, q).astype(int) - picture).mean() for q in (95, 50, 10)]
    assert 0 < loss[0] < loss[1] < loss[2]


def test_jpeg_keeps_red_red() -> None:
    stored = recompressed(flat((200, 60, 40), (64, 64)), 90)
    assert np.abs(stored.astype(int) - (200, 60, 40)).max() <= 3


def test_gains_contrast_and_gamma_by_hand() -> None:
    assert tinted(flat((100, 100, 200)), (0.5, 1.2, 2.0))[0, 0].tolist() == [50, 120, 255]
    two = flat(80, (10, 10))
    two[:5] = 120
    assert np.unique(contrasted(two, 0.5)).tolist() == [90, 110]
    assert np.unique(contrasted(two, 2.0)).tolist() == [60, 140]
    # (64 / 255) ** 0.5 * 255 = 127.7; black and white stay
    assert bent(np.array([[[0, 64, 255]]], np.uint8), 0.5)[0, 0].tolist() == [0, 128, 255]


def test_light_that_falls_to_the_right_by_hand() -> None:
    light = slope(2, 4, -0.5, 0.0)  # a picture of 4 by 2: in halves of its height, x is -1.5 to 1.5
    np.testing.assert_allclose(light, [[1.75, 1.25, 0.75, 0.25]] * 2)
    assert lit(flat(100, (2, 4)), light)[0, :, 1].tolist() == [175, 125, 75, 25]


def test_light_clips_at_white() -> None:
    assert lit(flat(200, (2, 2)), np.full((2, 2), 2, np.float32)).max() == 255


def test_a_round_field_is_bright_inside_dark_outside_and_has_the_area_of_a_circle() -> None:
    light = field_light(200, 200, Field(radius=0.6, rest=0.1))
    assert light[100, 100] == 1
    assert light[0, 0] == pytest.approx(0.1)
    assert (light > 0.55).mean() == pytest.approx(np.pi * 0.3**2, rel=0.01)


def test_a_field_moves_with_its_centre() -> None:
    light = field_light(100, 100, Field(radius=0.5, right=0.2, down=-0.1))
    y, x = (float((axis * light).sum() / light.sum()) for axis in np.mgrid[:100, :100])
    still = field_light(100, 100, Field(radius=0.5, rest=0.0))
    moved = field_light(100, 100, Field(radius=0.5, right=0.2, down=-0.1, rest=0.0))
    assert np.allclose(moved, np.roll(still, (-10, 20), (0, 1)), atol=1e-3)
    assert x > 49.5 > y


def test_a_field_larger_than_the_picture_keeps_all_of_it() -> None:
    assert (field_light(64, 64, Field(radius=1.5)) == 1).all()


# --- colour constancy ----------------------------------------------------------------------------


def test_the_gains_of_an_evenly_tinted_picture_by_hand() -> None:
    # of one colour, the estimate is the colour itself: its mean, 150, over each channel
    np.testing.assert_allclose(grey_gains(flat((200, 150, 100))), [0.75, 1, 1.5])


def test_grey_needs_no_gain_and_black_is_no_error() -> None:
    np.testing.assert_allclose(grey_gains(flat(90)), 1)
    np.testing.assert_allclose(grey_gains(flat(0)), 1)


def test_in_grey_light_the_estimated_light_is_the_set_grey() -> None:
    """By hand: one colour is its own light, so all of it becomes that grey."""
    assert set(in_grey_light(flat((200, 150, 100))).ravel()) == {round(GREY * 255)}
    np.testing.assert_allclose(estimated_light(in_grey_light(lesion())), GREY, atol=0.01)


def test_what_is_nearly_black_is_not_blown_up() -> None:
    assert in_grey_light(flat(0)).max() == 0
    assert in_grey_light(flat(5)).max() == 5 * MOST_GAIN


@given(st.tuples(*[st.floats(0.5, 1.0)] * 3))
@settings(deadline=None, max_examples=20)
def test_the_gains_undo_a_cast(cast: tuple[float, float, float]) -> None:
    grey = np.repeat(np.random.default_rng(0).integers(60, 250, (90, 90, 1), np.uint8), 3, axis=2)
    corrected = tinted(tinted(grey, cast), grey_gains(tinted(grey, cast)))
    means = corrected.reshape(-1, 3).mean(axis=0)
    assert np.ptp(means) < 2.5


def test_bright_pixels_count_for_more_than_dark_ones() -> None:
    picture = flat((20, 20, 60))  # much that is dark and blue,
    picture[:20] = (220, 200, 200)  # a little that is bright and reddish: the light
    assert grey_gains(picture)[0] < 1 < grey_gains(picture)[1]


# --- hair ----------------------------------------------------------------------------------------


def straight(width: float = 0.05, cover: float = 1.0) -> Strand:
    return Strand(root=(0.5, -0.2), bend=(0.5, 0.5), tip=(0.5, 1.2), width=width, cover=cover)


def test_a_straight_strand_is_a_line_of_its_width_and_colour() -> None:
    hairy = with_strands(flat(200, (100, 100)), [straight()], (30, 20, 10))
    dark = (hairy[:, :, 0] < 100).sum(axis=1)
    assert dark[:40] == pytest.approx(5, abs=1)
    assert dark[-40:] == pytest.approx(0.75 * 5, abs=1)
    assert hairy[20, 50].tolist() == [30, 20, 10]
    assert (hairy[:, :40] == 200).all()


def test_a_strand_that_covers_half_lets_half_through() -> None:
    hairy = with_strands(flat(200, (100, 100)), [straight(cover=0.5)], (0, 0, 0))
    assert np.abs(hairy[20, 50].astype(int) - 100).max() <= 1


def test_a_bent_strand_passes_half_way_to_its_bend() -> None:
    strand = Strand(root=(0.1, 0.5), bend=(0.5, 0.1), tip=(0.9, 0.5), width=0.03)
    hairy = with_strands(flat(200, (100, 100)), [strand], (0, 0, 0))
    column = hairy[:, 50, 0]
    assert column.argmin() == pytest.approx(30, abs=1)


def test_no_strand_and_no_pixel_outside_change_nothing() -> None:
    picture = lesion()
    away = Strand(root=(3, 3), bend=(4, 3), tip=(5, 3), width=0.02)
    assert np.array_equal(with_strands(picture, [], (0, 0, 0)), picture)
    assert np.array_equal(with_strands(picture, [away], (0, 0, 0)), picture)


def test_drawn_strands_are_found_by_the_search_for_hair() -> None:
    picture = draw_phantom(33, diagnosis="nv").picture
    strands = [
        Strand(root=(0.1 + d, 0.1), bend=(0.4 + d, 0.6), tip=(0.5 + d, 1.1), width=0.008)
        for d in (0, 0.25, 0.5)
    ]
    hairy = with_strands(picture, strands, (40, 30, 25))
    drawn = np.abs(hairy.astype(int) - picture).max(axis=2) > 60
    assert hair_mask(hairy)[drawn].mean() > 0.8


def test_a_picture_is_never_changed_in_place() -> None:
    picture = lesion()
    before = picture.copy()
    with_strands(picture, [straight()], (0, 0, 0))
    erased(picture, (0, 0, 1, 1))
    lit(picture, field_light(150, 200, Field(radius=0.5)))
    assert np.array_equal(picture, before)


# --- erasing -------------------------------------------------------------------------------------


def test_a_rectangle_is_filled_with_the_mean_colour_and_the_rest_stays() -> None:
    picture = flat(0, (10, 10))
    picture[:, :5] = 100
    wiped = erased(picture, (0.2, 0.3, 0.6, 0.8))
    assert (wiped[2:6, 3:8] == 50).all()
    wiped[2:6, 3:8] = picture[2:6, 3:8]
    assert np.array_equal(wiped, picture)


def test_a_rectangle_that_reaches_outside_is_cut() -> None:
    picture = flat(0, (10, 10))
    picture[9, 9] = 255
    assert (erased(picture, (-0.5, -0.5, 2.0, 2.0)) == 3).all()  # 255 / 100, rounded
