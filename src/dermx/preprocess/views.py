"""How else could the same lesion have been held? Its eight views: four quarter turns, two mirrors.

A lesion has no up and no left, so the eight are equally good pictures of it, made without any
interpolation. `align` turns what the network says about places back to the first view.

Limit: a photograph of a face has an up; its turned views are less like what a model was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Shaped

VIEWS: Final = 8
_TURNS: Final = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


def eight_views(planes: Shaped[np.ndarray, "c s s"]) -> Shaped[np.ndarray, "8 c s s"]:
    """Return the picture turned by 0, 90, 180 and 270 degrees, then the same of its mirror image.

    Args:
        planes: The channels of a picture, of any type: turned after `normalize`, it need not be
            normalised eight times.

    >>> corner = np.uint8([[[1, 0], [0, 0]]])
    >>> [tuple(map(int, np.argwhere(view[0])[0])) for view in eight_views(corner)[:4]]
    [(0, 0), (1, 0), (1, 1), (0, 1)]
    """
    return next(views_in_turn(planes, VIEWS))


def views_in_turn(
    planes: Shaped[np.ndarray, "c s s"], at_once: int
) -> Iterator[Shaped[np.ndarray, "n c s s"]]:
    """Yield the eight views a few at a time, always in the same memory: use them before the next.

    What fits into a core's cache is still there when the network reads it.

    >>> [len(views) for views in views_in_turn(np.zeros((3, 4, 4), np.uint8), 3)]
    [3, 3, 2]
    """
    memory = np.empty((at_once, *planes.shape), planes.dtype)
    for first in range(0, VIEWS, at_once):
        views = memory[: VIEWS - first]
        for number, view in enumerate(views, first):
            if number == VIEWS // 2:
                planes = np.ascontiguousarray(planes[:, :, ::-1])
            turn = number % (VIEWS // 2)
            if turn == 0:
                view[:] = planes
                continue
            for plane, turned in zip(planes, view, strict=True):
                cv2.rotate(plane, _TURNS[turn - 1], turned)
        yield views


def align(maps: Float32[np.ndarray, "8 c h h"]) -> Float32[np.ndarray, "8 c h h"]:
    """Turn each view's map back, so that cells of all eight show the same place.

    >>> maps = eight_views(np.arange(27, dtype=np.float32).reshape(3, 3, 3))
    >>> bool((align(maps) == maps[0]).all())
    True
    """
    back = [np.rot90(maps[i], -(i % 4), axes=(1, 2)) for i in range(VIEWS)]
    return np.stack([view[:, :, ::-1] if i >= 4 else view for i, view in enumerate(back)])
