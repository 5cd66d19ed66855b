"""How much would the numbers move with other lesions of the same kind? Intervals by lesion.

A percentile bootstrap that draws whole lesions (or patients) with replacement: pictures of one
lesion are no independent evidence, and resampling pictures would make intervals too narrow.

Limits: it knows only the lesions at hand. A class that is all right (or all wrong) gets an
interval of no width, and under about 20 lesions intervals are too narrow. The spread between
training runs and the shift to other clinics are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from dermx.errors import InputError
from dermx.evaluate.metrics import aurocs, labelled, named
from dermx.records import Predictions

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Estimate: TypeAlias = tuple[float, float, float]  # value, and the ends of its 95 % interval
_CELLS_AT_ONCE = 1_000_000  # weights held in memory: 8 MB


def bootstrap(
    predictions: Predictions, *, n_boot: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Interval of every number that `metrics.score` gives, by the same names.

    Args:
        predictions: Cases without a label are left out.
        n_boot: How many times the groups are drawn again.
        seed: Of the draws.
        level: Share of the resamples' values inside the interval.

    Returns:
        Low and high end. A resample in which a number is undefined (its class was not drawn) is
        left out of that number's interval; NaN where it always is.

    Raises:
        InputError: As `metrics.labelled` and `draw_groups`.
    """
    drawn = resampled(predictions, n_boot=n_boot, seed=seed)
    return {name: percentile_interval(values, level) for name, values in drawn.items()}


def resampled(
    predictions: Predictions, *, n_boot: int = 2000, seed: int = 0
) -> dict[str, Float[np.ndarray, " n_boot"]]:
    """Every number that `metrics.score` gives, once per draw of the groups.

    The same seed draws the same groups of the same cases, so the difference of what two models
    give here is that of a paired comparison.

    Raises:
        InputError: As `metrics.labelled` and `draw_groups`.
    """
    known = labelled(predictions)
    codes, labels, probs = known.codes, np.asarray(known.labels), known.probs
    counts, member = draw_groups(known.groups, n_boot=n_boot, seed=seed)
    # Per group one small confusion matrix: a resample's matrix is then a weighted sum of them.
    cells = np.zeros((counts.shape[1], len(codes), len(codes)))
    np.add.at(cells, (member, labels, probs.argmax(axis=1)), 1)
    confusion = np.tensordot(counts.astype(np.float64), cells, axes=1)
    rows = max(1, _CELLS_AT_ONCE // len(labels))
    parts = [
        aurocs(probs, labels, codes, counts[start : start + rows, member].astype(np.float64))
        for start in range(0, n_boot, rows)
    ]
    ranked = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return named(confusion, ranked, codes)


def draw_groups(
    groups: Sequence[str], *, n_boot: int, seed: int = 0
) -> tuple[Int[np.ndarray, "n_boot groups"], Int[np.ndarray, " n"]]:
    """Draw as many groups as there are, with replacement, n_boot times.

    Returns:
        How often each group was drawn, and for each case the index of its group:
        `counts[:, member]` are the cases' weights.

    Raises:
        InputError: There is no case, or n_boot is not positive.
    """
    if len(groups) == 0 or n_boot < 1:
        raise InputError(f"need cases and resamples, got {len(groups)} cases, n_boot {n_boot}")
    names, member = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    n = len(names)
    drawn = np.random.default_rng(seed).integers(n, size=(n_boot, n), dtype=np.int32)
    counts = np.empty((n_boot, n), np.int32)
    for row, picks in zip(counts, drawn, strict=True):
        row[:] = np.bincount(picks, minlength=n)
    return counts, member


def case_weights(
    groups: Sequence[str], *, n_boot: int, seed: int = 0
) -> Float[np.ndarray, "n_boot n"]:
    """How often each case counts when whole groups are drawn again; as `draw_groups`.

    >>> case_weights(["a", "a"], n_boot=2)  # one group, so always drawn once
    array([[1., 1.],
           [1., 1.]])
    """
    counts, member = draw_groups(groups, n_boot=n_boot, seed=seed)
    return counts[:, member].astype(np.float64)


def estimate_json(estimate: Estimate) -> dict[str, float | None]:
    """Return a value and the ends of its interval for JSON, None where a number is undefined.

    >>> estimate_json((0.5, 0.25, float("nan")))
    {'value': 0.5, 'low': 0.25, 'high': None}
    """
    named = zip(("value", "low", "high"), estimate, strict=True)
    return {name: None if math.isnan(number) else float(number) for name, number in named}


def percentile_interval(
    values: Float[np.ndarray, " n"], level: float = 0.95
) -> tuple[float, float]:
    """Return the middle `level` of the values that are not NaN; NaN where all are."""
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, got {level}")
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(
    values: Float[np.ndarray, " n"],
    groups: Sequence[str],
    *,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Mean of one number per case, with the interval that resampling whole groups gives.

    For paired comparisons hand in the differences. A case with NaN is left out.

    Returns:
        Mean, low and high end; NaN where no case has a value.

    Raises:
        InputError: There is not one group per value, or n_boot is not positive.

    >>> mean_interval(np.array([1.0, 1.0, 1.0]), ["a", "a", "b"])
    (1.0, 1.0, 1.0)
    """
    values = np.asarray(values, np.float64)
    if len(values) != len(groups):
        raise InputError(f"need one group per value, got {len(values)} and {len(groups)}")
    known = ~np.isnan(values)
    if not known.any():
        return float("nan"), float("nan"), float("nan")
    kept = [group for group, there in zip(groups, known, strict=True) if there]
    counts, member = draw_groups(kept, n_boot=n_boot, seed=seed)
    sums = np.bincount(member, weights=values[known])
    drawn = (counts @ sums) / (counts @ np.bincount(member))
    return float(values[known].mean()), *percentile_interval(drawn, level)
