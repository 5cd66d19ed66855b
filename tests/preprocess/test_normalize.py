"""Standardisation: the numbers a network was pre-trained with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dermx.preprocess.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize

PIXELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 6), st.just(3)))


def test_black_and_white_by_hand() -> None:
    black, white = normalize(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)).transpose(1, 2, 0)[
        0
    ]
    np.testing.assert_allclose(black, [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-6)
    np.testing.assert_allclose(white, [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rtol=1e-6)


def test_a_pixel_of_the_mean_colour_is_zero() -> None:
    assert normalize(np.full((1, 1, 3), 51, np.uint8), mean=(0.2, 0.2, 0.2)) == pytest.approx(
        0, abs=1e-6
    )


def test_channels_move_to_the_front_and_keep_their_place() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[1, 2, 0] = 255  # red, second row, third column
    values = normalize(pixels, mean=(0, 0, 0), std=(1, 1, 1))
    assert np.argwhere(values).tolist() == [[0, 1, 2]]
    assert values.dtype == np.float32
    assert values.flags.c_contiguous


@given(PIXELS, st.integers(1, 3))
def test_a_batch_is_its_pictures_one_by_one(pixels: np.ndarray, count: int) -> None:
    batch = np.stack([np.roll(pixels, k, axis=0) for k in range(count)])
    np.testing.assert_array_equal(normalize(batch), np.stack([normalize(one) for one in batch]))


def test_agrees_with_torchvision() -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.v2")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 31, 33, 3), np.uint8)
    theirs = transforms.Compose(
        [
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    np.testing.assert_allclose(normalize(pixels), theirs.numpy(), atol=1e-6)
