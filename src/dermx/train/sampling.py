"""Which pictures make up an epoch when 58 naevi come on one dermatofibroma?

Minority oversampling: each class has a target count, between its own and the largest class's.
The sampler "share" goes a share of the way, the sampler "power" by a power of the counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dermx.config import TrainConfig
from dermx.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def epoch_counts(
    counts: Int[np.ndarray, " classes"], settings: TrainConfig, total: int
) -> Int[np.ndarray, " classes"]:
    """How often each class is drawn in an epoch of about `total` pictures, by `train.sampler`."""
    if settings.sampler == "power":
        return power_counts(counts, settings.sample_power, total)
    return target_counts(counts, settings.oversample, total)


def target_counts(
    counts: Int[np.ndarray, " classes"], share: float, total: int = 0
) -> Int[np.ndarray, " classes"]:
    """How often each class is drawn in one epoch.

    Args:
        counts: Pictures per class.
        share: 0 keeps the natural counts; 1 draws every class as often as the largest.
        total: Scale the targets to this sum, about; 0 leaves them.

    Returns:
        Counts, at least 1 for a class that has pictures and 0 for one that has none.

    >>> target_counts(np.array([100, 20, 0]), share=0.5)
    array([100,  60,   0])
    """
    if not 0 <= share <= 1:
        raise InputError(f"the oversampling share is from 0 to 1, got {share}")
    targets = counts + share * (counts.max() - counts)
    targets[counts == 0] = 0
    if total:
        targets = targets * (total / targets.sum())
    return _whole(targets, counts)


def power_counts(
    counts: Int[np.ndarray, " classes"], power: float, total: int
) -> Int[np.ndarray, " classes"]:
    """How often each class is drawn when a picture's chance is its class's count to minus `power`.

    Args:
        counts: Pictures per class.
        power: 0 keeps the natural shares, 0.5 draws by the root of the counts, 1 all alike.
        total: The targets' sum, about.

    Returns:
        Counts, at least 1 for a class that has pictures and 0 for one that has none.

    Source: for 0.5, square-root sampling of Mahajan et al. 2018 (arXiv:1805.00932).

    >>> power_counts(np.array([900, 100, 0]), power=0.5, total=1000)
    array([750, 250,   0])
    """
    if not 0 <= power <= 1:
        raise InputError(f"the power of the counts is from 0 to 1, got {power}")
    targets = np.where(counts > 0, np.maximum(counts, 1.0) ** (1 - power), 0)
    return _whole(targets * (total / targets.sum()), counts)


def _whole(
    targets: Float[np.ndarray, " classes"], counts: Int[np.ndarray, " classes"]
) -> Int[np.ndarray, " classes"]:
    return np.where(counts > 0, np.maximum(1, np.rint(targets)), 0).astype(np.int64)


def easiest(
    labels: Int[np.ndarray, " n"], difficulty: Float[np.ndarray, " n"], share: float
) -> Int[np.ndarray, " m"]:
    """Indices of the easiest pictures of each class: a share of it, at least one, in order.

    >>> easiest(np.array([0, 0, 1, 1, 1]), np.array([2.0, 1.0, 9.0, 7.0, 8.0]), share=0.5)
    array([1, 3, 4])
    """
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(difficulty[members], kind="stable")]
        chosen.append(ranked[: math.ceil(share * len(members))])
    return np.sort(np.concatenate(chosen))


def curriculum_share(epoch: int, settings: TrainConfig) -> float:
    """Which share of each class an epoch, counted from 0, may draw from; 1 once all take part.

    Source: linear pacing as in Platanios et al. 2019 (arXiv:1903.09848), here class by class, so
    that a hard class isn't left for last.
    """
    start = settings.curriculum_start
    return min(1.0, start + (1 - start) * epoch / settings.curriculum_epochs)


def draw_epoch(
    labels: Int[np.ndarray, " n"], targets: Int[np.ndarray, " classes"], rng: np.random.Generator
) -> Int[np.ndarray, " drawn"]:
    """Pick and shuffle the pictures of one epoch.

    A class above its own count uses every picture equally often before the rest is drawn; a class
    below is drawn without repetition. So no picture is left out by bad luck.

    Args:
        labels: Class index of each picture.
        targets: How often each class is drawn.
        rng: Where the choice comes from.

    Returns:
        Indices into `labels`.
    """
    chosen = []
    for label, target in enumerate(targets):
        members = np.flatnonzero(labels == label)
        if target == 0 or len(members) == 0:
            continue
        whole, rest = divmod(int(target), len(members))
        chosen += [np.tile(members, whole), rng.permutation(members)[:rest]]
    return rng.permutation(np.concatenate(chosen))
