"""How else could the same lesion have been held? Its eight views: four quarter turns, two mirrors.

A lesion has no up and no left, so the eight are equally good pictures of it, made without any
interpolation. `align` turns what the network says about places back to the first view.

Limit: a photograph of a face has an up; its turned views are less like what a model was trained on.
"""

from __future__ import annotations

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
    views = np.empty((VIEWS, *planes.shape), planes.dtype)
    views[0], views[4] = planes, planes[:, :, ::-1]
    for first in (0, 4):
        for i, turn in enumerate(_TURNS, first + 1):
            for plane, turned in zip(views[first], views[i], strict=True):
                cv2.rotate(plane, turn, turned)
    return views


def align(maps: Float32[np.ndarray, "8 c h h"]) -> Float32[np.ndarray, "8 c h h"]:
    """Turn each view's map back, so that cells of all eight show the same place.

    >>> maps = eight_views(np.arange(27, dtype=np.float32).reshape(3, 3, 3))
    >>> bool((align(maps) == maps[0]).all())
    True
    """
    back = [np.rot90(maps[i], -(i % 4), axes=(1, 2)) for i in range(VIEWS)]
    return np.stack([view[:, :, ::-1] if i >= 4 else view for i, view in enumerate(back)])
