"""Is what the map marks on the lesion? Against outlines that people drew.

Two questions per picture: does the map's highest point lie on the lesion (the pointing game), and
which share of all that it marks does (its energy), beside the lesion's share of what the model saw.

Limits: lesions are in the middle of most pictures, so a map that knows nothing but the middle does
well; both are to be read beside `faithfulness.centred_gaussian`. And a map on the lesion doesn't
show that the model reads the lesion: cells see far beyond themselves (arXiv:1904.08818).

Source: pointing game, Zhang et al. 2016 (arXiv:1608.00507); energy, Wang et al. 2020 (Score-CAM,
arXiv:1910.01279).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from dermx.errors import InputError
from dermx.evaluate.intervals import Estimate, draw_groups, mean_interval, percentile_interval
from dermx.records import View

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64

Mask: TypeAlias = "Bool[np.ndarray, 'height width']"


class Localised(NamedTuple):
    """How one map lies to one lesion."""

    hit: float  # 1 where the map's highest point is on the lesion, else 0
    energy: float  # share of the map's sum on the lesion; NaN for a map of nothing
    area: float  # share of what the model saw that is lesion


def localise(cells: Float32[np.ndarray, "h w"], view: View, lesion: Mask) -> Localised:
    """Compare a map with the lesion's outline on the upright picture.

    Args:
        cells: 0 or more, over the part of the picture that the model saw.
        view: That part.
        lesion: The outline, at the picture's size.

    Raises:
        InputError: The map has a negative cell, or the model saw nothing of the picture.

    >>> half = np.array([[True, True, False, False]])
    >>> localise(np.float32([[3, 3, 1, 1]]), View(), half)
    Localised(hit=1.0, energy=0.75, area=0.5)
    """
    if cells.min() < 0:
        raise InputError(f"a map's cells must be 0 or more, the least is {cells.min()}")
    size = (lesion.shape[0], lesion.shape[1])
    seen = view.paste(np.ones((1, 1), np.float32), size) > 0
    if not seen.any():
        raise InputError(f"the model saw nothing of this picture: {view}")
    heat = np.where(seen, view.paste(cells, size), 0).astype(np.float64)
    total = heat.sum()
    return Localised(
        hit=float(lesion[_peak(heat)]) if total > 0 else 0.0,
        energy=float(heat[lesion].sum() / total) if total > 0 else float("nan"),
        area=float(lesion[seen].mean()),
    )


def _peak(heat: Float64[np.ndarray, "h w"]) -> tuple[int, int]:
    """Row and column of the highest point; of a plateau, its point nearest to the middle of it."""
    points = np.argwhere(heat >= heat.max() * (1 - 1e-6))
    row, column = points[((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return int(row), int(column)


class Summary(NamedTuple):
    """One kind of map over many pictures; each with the ends of its 95 % interval by lesion."""

    pictures: int
    hit: Estimate  # share of pictures whose highest point is on the lesion
    energy: Estimate  # mean share of the map on the lesion
    area: Estimate  # mean share of what was seen that is lesion
    ratio: Estimate  # mean energy over mean area; 1 is a map that knows nothing
    ratio_each: Estimate  # mean of each picture's ratio, in which small lesions count for more


def summarise(
    found: Sequence[Localised], groups: Sequence[str], *, n_boot: int = 2000, seed: int = 0
) -> Summary:
    """Average over pictures, with intervals that resample whole lesions.

    Pictures whose map is nothing, or whose lesion lies outside what was seen, have no ratio and
    are left out of energy, area and ratios; a map of nothing is no hit.

    Raises:
        InputError: There is no picture, or not one group per picture.
    """
    if not found:
        raise InputError("no picture to summarise")
    hit, energy, area = (np.array(column, float) for column in zip(*found, strict=True))
    known = ~np.isnan(energy) & (area > 0)
    energy, area = np.where(known, energy, np.nan), np.where(known, area, np.nan)

    def mean(values: np.ndarray) -> Estimate:
        return mean_interval(values, groups, n_boot=n_boot, seed=seed)

    counts, member = draw_groups(groups, n_boot=n_boot, seed=seed)
    sums = [np.bincount(member, weights=np.nan_to_num(values)) for values in (energy, area)]
    above, below = (counts @ total for total in sums)
    drawn = np.divide(above, below, out=np.full(n_boot, np.nan), where=below > 0)
    ratio = float(np.nansum(energy) / np.nansum(area)) if known.any() else float("nan")
    return Summary(
        pictures=len(found),
        hit=mean(hit),
        energy=mean(energy),
        area=mean(area),
        ratio=(ratio, *percentile_interval(drawn)),
        ratio_each=mean(energy / area),
    )
