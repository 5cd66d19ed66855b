"""The eight views are the eight symmetries of the square, and can be undone."""

import cv2
import numpy as np

from dermx.preprocess.views import VIEWS, align, eight_views


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, 6, 6), np.uint8)


def test_the_first_is_the_picture_and_no_two_are_the_same() -> None:
    views = eight_views(picture())
    np.testing.assert_array_equal(views[0], picture())
    assert len({view.tobytes() for view in views}) == VIEWS


def test_they_are_the_quarter_turns_and_flips_of_opencv() -> None:
    turns = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
    upright = np.ascontiguousarray(np.moveaxis(picture(), 0, -1))
    sides = (upright, cv2.flip(upright, 1))
    expected = [
        one for side in sides for one in (side, *(cv2.rotate(side, turn) for turn in turns))
    ]
    np.testing.assert_array_equal(eight_views(picture()), np.moveaxis(np.stack(expected), -1, 1))


def test_a_view_of_a_view_is_a_view() -> None:
    views = {view.tobytes() for view in eight_views(picture())}
    for view in eight_views(picture()):
        assert {again.tobytes() for again in eight_views(view)} == views


def test_maps_are_turned_back_to_the_picture_as_it_was_taken() -> None:
    maps = eight_views(picture().astype(np.float32))
    np.testing.assert_array_equal(align(maps), np.tile(maps[:1], (VIEWS, 1, 1, 1)))
