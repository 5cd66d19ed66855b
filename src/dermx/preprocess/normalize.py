"""ImageNet standardisation: uint8 pixels to the float input a network was pre-trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # per RGB channel, of pixels scaled to [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(
    pixels: UInt8[np.ndarray, "*batch h w 3"],
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    *,
    out: Float32[np.ndarray, "*batch 3 h w"] | None = None,
) -> Float32[np.ndarray, "*batch 3 h w"]:
    """Scale to [0, 1], subtract the mean, divide by the deviation; channels move to the front.

    Args:
        pixels: RGB, one picture or a batch.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, > 0.
        out: Memory for the result; new when None.

    Returns:
        Contiguous float32, about -2.1 to 2.7 for ImageNet's numbers.
    """
    scale = np.float32(1 / 255) / np.asarray(std, np.float32)
    offset = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, -3))  # bytes, a quarter to move
    values: np.ndarray = np.multiply(planes, scale[:, None, None], out=out, dtype=np.float32)
    values -= offset[:, None, None]
    return values
