import math

import numpy as np
import pytest

from dermx.config import AugmentConfig
from dermx.preprocess.pipeline import square
from dermx.train.augment import Change, apply_change, draw_change

OFF = AugmentConfig(
    rotation=False, flip=False, min_area=1, max_aspect=1, shift=0,
    brightness=0, contrast=0, saturation=0, colour_cast=0,
)  # fmt: skip


def noise(height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_no_change_is_the_centre_square_of_inference() -> None:
    picture = noise(64, 96)
    assert np.array_equal(apply_change(picture, Change(), 64), square(picture, 64)[0])


def test_everything_switched_off_draws_no_change() -> None:
    assert draw_change(OFF, np.random.default_rng(5)) == Change()


def test_a_quarter_turn_is_numpys_quarter_turn() -> None:
    picture = noise()
    turned = apply_change(picture, Change(angle=math.pi / 2), 64)
    assert np.array_equal(turned, np.rot90(picture))


def test_mirroring_turns_left_to_right() -> None:
    picture = noise()
    assert np.array_equal(apply_change(picture, Change(mirrored=True), 64), picture[:, ::-1])


def test_half_the_width_and_height_is_the_inner_square_enlarged() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16:48, 16:48] = 200
    zoomed = apply_change(picture, Change(width=0.5, height=0.5), 64)
    assert (zoomed[2:-2, 2:-2] == 200).all()


def test_a_shift_moves_the_window_to_the_right_and_down() -> None:
    picture = noise()
    shifted = apply_change(picture, Change(right=8 / 64, down=4 / 64), 64)
    assert np.array_equal(shifted[:60, :56], picture[4:, 8:])


def test_outside_the_picture_lies_its_mirror_image_not_black() -> None:
    picture = np.full((64, 64, 3), 180, np.uint8)
    turned = apply_change(picture, Change(angle=0.7, right=0.3), 64)
    assert (turned == 180).all()


def test_gains_multiply_each_channel_and_clip() -> None:
    picture = np.full((8, 8, 3), (100, 100, 200), np.uint8)
    changed = apply_change(picture, Change(gains=(0.5, 1.2, 2.0)), 8)
    assert changed[4, 4].tolist() == [50, 120, 255]


def test_no_saturation_is_grey() -> None:
    changed = apply_change(noise(), Change(saturation=0.0), 64)
    assert (np.ptp(changed.astype(int), axis=-1) <= 1).all()


def test_contrast_keeps_the_mean_grey() -> None:
    picture = np.full((8, 8, 3), 80, np.uint8)
    picture[:4] = 120
    changed = apply_change(picture, Change(contrast=0.5), 8)
    assert sorted(np.unique(changed)) == [90, 110]


def test_changes_stay_within_the_configured_ranges() -> None:
    config = AugmentConfig(min_area=0.5, max_aspect=1.5, shift=0.1, contrast=0.3)
    changes = [draw_change(config, np.random.default_rng([1, i])) for i in range(500)]
    areas = np.array([c.width * c.height for c in changes])
    aspects = np.array([c.width / c.height for c in changes])
    assert 0.5 <= areas.min() < 0.52
    assert 0.98 < areas.max() <= 1
    assert 1 / 1.5 <= aspects.min() < 0.7
    assert 1.45 < aspects.max() <= 1.5
    assert max(abs(c.right) for c in changes) <= 0.1
    assert all(0.7 <= c.contrast <= 1.3 for c in changes)
    assert sum(c.mirrored for c in changes) == pytest.approx(250, abs=50)


def test_the_same_seed_draws_the_same_change() -> None:
    one, same, other = (draw_change(AugmentConfig(), np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == same != other
