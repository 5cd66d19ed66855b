"""Is the map true? If what it marks decides the answer, taking that away must change the answer.

Deletion removes a picture's cells, the most marked first, and watches the answer's probability
fall; insertion puts them back into the emptied picture. ROAD removes some shares with a fill that
leaves no edge, the most and the least marked first, and takes the difference. Every map stands
beside two that know nothing of the model: a random one, and one that is highest in the middle,
where photographers put the lesion.

Limits: a picture with pieces missing is none that the model was trained on, so part of each effect
is surprise; that is why only comparisons between maps under the same removal say something. The
unit is the map's own cell. Arrays in, numbers out; the network is handed in as a function.

Source: Petsiuk et al. 2018 (RISE, arXiv:1806.07421); Rong et al. 2022 (ROAD, arXiv:2202.00449).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import cv2
import numpy as np

from dermx.errors import InputError, needs

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int, UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 's s 3']"
Cells: TypeAlias = "Float[np.ndarray, 'h w']"
Answer: TypeAlias = "Callable[[UInt8[np.ndarray, 'n s s 3']], Float[np.ndarray, 'n classes']]"

STEP: Final = 0.1  # share of the cells between two points of a curve
ROAD_SHARES: Final = (0.2, 0.4, 0.6, 0.8)  # of the cells, removed
BLUR: Final = 0.1  # of the picture that deletion and insertion show instead; share of its side
FINE: Final = 8  # pixels each cell has, along a side, where ROAD's fill is solved for
GRAIN: Final = 0.01  # deviation of ROAD's noise, as a share of white


@dataclass(frozen=True, kw_only=True, eq=False)
class Faithful:
    """How one map does on one picture; probabilities of the answer, in [0, 1]."""

    deletion: Float[np.ndarray, " points"]  # from the whole picture to none of it
    insertion: Float[np.ndarray, " points"]  # from none of it to the whole picture
    road: float  # mean drop by the most marked cells less that by the least marked, halved

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve; lower is better."""
        return area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve; higher is better."""
        return area(self.insertion)


def centred_gaussian(side: tuple[int, int], width: float = 0.25) -> Float32[np.ndarray, "h w"]:
    """A map that is 1 in the middle of any picture.

    Args:
        side: Rows and columns.
        width: Standard deviation, as a share of the side; it changes how energy is spread, but
            neither the peak nor the order of the cells.
    """
    rows, columns = (((np.arange(n) + 0.5) / n - 0.5) / width for n in side)
    return np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / 2).astype(np.float32)


def random_map(side: tuple[int, int], rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """Draw a map whose cells are independent and uniform in [0, 1]."""
    return rng.random(side, np.float32)


def faithfulness(
    picture: Pixels,
    maps: Mapping[str, Cells],
    target: int,
    answer: Answer,
    *,
    rng: np.random.Generator,
) -> dict[str, Faithful]:
    """Measure maps of one picture by deletion, insertion and ROAD.

    Args:
        picture: The model's input before normalisation.
        maps: By name; all of one shape. Equal cells come in random order.
        target: Index of the class whose probability is watched.
        answer: Pictures to class probabilities; called once.
        rng: Orders equal cells and draws ROAD's noise.

    Raises:
        InputError: There is no map, or the shapes differ.
    """
    shapes = {cells.shape for cells in maps.values()}
    if len(shapes) != 1:
        raise InputError(f"need maps of one shape, got {sorted(shapes) or 'none'}")
    ((height, width),) = shapes
    n = height * width
    emptied = blurred(picture)
    points = np.unique(np.rint(np.arange(0, 1 + STEP / 2, STEP) * n).astype(int))
    pictures = [picture, emptied]
    for cells in maps.values():
        order = ranked(cells, rng)
        for first in points[1:-1]:
            gone = removed(order[:first], (height, width), picture.shape)
            pictures.append(np.where(gone[..., None], emptied, picture))
        for first in points[1:-1]:
            back = removed(order[:first], (height, width), picture.shape)
            pictures.append(np.where(back[..., None], picture, emptied))
        for marked in (order, order[::-1]):
            for share in ROAD_SHARES:
                chosen = marked[: round(share * n)]
                pictures.append(road_filled(picture, chosen, (height, width), rng))
    probability = answer(np.stack(pictures))[:, target]
    whole, none, rest = probability[0], probability[1], probability[2:]
    inner, shares = len(points) - 2, len(ROAD_SHARES)
    found = {}
    for name, part in zip(maps, np.split(rest, len(maps)), strict=True):
        deleted, inserted, most, least = np.split(part, np.cumsum([inner, inner, shares]))
        found[name] = Faithful(
            deletion=np.array([whole, *deleted, none]),
            insertion=np.array([none, *inserted, whole]),
            road=float((least - most).mean() / 2),
        )
    return found


def ranked(cells: Cells, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Order the cells from the most marked to the least; equal ones at random.

    >>> ranked(np.array([[0.1, 0.9], [0.5, 0.0]]), np.random.default_rng(0)).tolist()
    [1, 2, 0, 3]
    """
    flat = cells.ravel()
    return np.lexsort((rng.random(flat.size), -flat))


def removed(
    chosen: Int[np.ndarray, " k"], cells: tuple[int, int], size: Sequence[int]
) -> Bool[np.ndarray, "s s"]:
    """Mark the pixels that belong to some cells of a coarse grid.

    >>> removed(np.array([1]), (1, 2), (2, 4)).astype(int).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    gone = np.zeros(cells, np.uint8)
    gone.ravel()[chosen] = 1
    shape = (size[1], size[0])
    return np.asarray(cv2.resize(gone, shape, interpolation=cv2.INTER_NEAREST_EXACT) > 0)


def area(curve: Float[np.ndarray, " points"]) -> float:
    """Area under a curve over [0, 1] with equally spaced points.

    >>> area(np.array([1.0, 0.5, 0.0]))
    0.5
    """
    return float((curve[:-1] + curve[1:]).mean() / 2)


def blurred(picture: Pixels) -> Pixels:
    """The picture without detail: what deletion leaves in a removed cell."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), BLUR * picture.shape[0]))


def road_filled(
    picture: Pixels,
    chosen: Int[np.ndarray, " k"],
    cells: tuple[int, int],
    rng: np.random.Generator,
) -> Pixels:
    """Replace some cells by what their surroundings suggest, plus a little noise.

    The fill is solved for at `FINE` pixels a cell, and enlarged: inside a hole it is smooth.
    """
    height, width = picture.shape[:2]
    small = (cells[1] * FINE, cells[0] * FINE)
    coarse = cv2.resize(picture, small, interpolation=cv2.INTER_AREA).astype(np.float64) / 255
    fill = linear_fill(coarse, removed(chosen, cells, coarse.shape))
    large = cv2.resize(fill, (width, height), interpolation=cv2.INTER_LINEAR)
    noisy = np.clip(255 * (large + GRAIN * rng.standard_normal(large.shape)), 0, 255)
    gone = removed(chosen, cells, picture.shape)
    return np.where(gone[..., None], np.rint(noisy).astype(np.uint8), picture)


def linear_fill(
    picture: Float[np.ndarray, "h w 3"], gone: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    """Give every missing pixel the weighted mean of its eight neighbours, missing ones included.

    Args:
        picture: Any range.
        gone: The missing pixels; not all of them.

    Returns:
        The picture with the solution of that linear system; the mean colour where all is missing.

    Raises:
        MissingExtraError: SciPy is not installed.

    Source: Rong et al. 2022, section 4.2: weights 1/6 beside and 1/12 diagonally.
    """
    with needs("the audit", "train"):
        from scipy.sparse import coo_matrix  # here: answering needs no SciPy
        from scipy.sparse.linalg import spsolve
    filled = picture.astype(np.float64)
    if not gone.any():
        return filled
    if gone.all():
        return np.broadcast_to(filled.mean(axis=(0, 1)), filled.shape).copy()
    height, width = gone.shape
    number = np.full(gone.shape, -1)
    number[gone] = np.arange(gone.sum())
    y, x = np.nonzero(gone)
    total, known = np.zeros(len(y)), np.zeros((len(y), picture.shape[2]))
    rows, columns, values = [], [], []
    for down, right in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        weight = 1 / 6 if 0 in (down, right) else 1 / 12
        ny, nx = y + down, x + right
        inside = np.flatnonzero((ny >= 0) & (ny < height) & (nx >= 0) & (nx < width))
        total[inside] += weight
        missing = inside[gone[ny[inside], nx[inside]]]
        there = inside[~gone[ny[inside], nx[inside]]]
        known[there] += weight * filled[ny[there], nx[there]]
        rows.append(missing)
        columns.append(number[ny[missing], nx[missing]])
        values.append(np.full(len(missing), -weight))
    each = np.arange(len(y))
    matrix = coo_matrix(
        (
            np.concatenate([*values, total]),
            (np.concatenate([*rows, each]), np.concatenate([*columns, each])),
        ),
        shape=(len(y), len(y)),
    ).tocsc()
    filled[y, x] = spsolve(matrix, known).reshape(len(y), -1)
    return filled
