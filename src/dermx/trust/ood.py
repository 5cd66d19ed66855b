"""How strange is a picture to a model? Seven scores from logits and features; higher is stranger.

The first three need nothing but logits. The others are fitted on known cases and measure how far
a feature vector lies from them. None of them has seen a stranger, so each knows only what is far
in this network's features: a photograph of rosacea is not, if the network has learnt that every
clinical photograph is acne. `dermx.trust.gate` is for that.

All agree with pytorch-ood 0.4.0 on the same arrays, up to the constants named below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from dermx.errors import InputError
from dermx.records import Predictions, softmax

if TYPE_CHECKING:
    from jaxtyping import Float, Int

NEIGHBOURS: Final = 10  # of `fit_knn`: fewer than the rarest class has training pictures
CHUNK: Final = 512  # cases whose distances are in memory at once


class Detector(Protocol):
    """What is fitted and scores: the one interface of all."""

    def score(
        self, features: Float[np.ndarray, "n c"], logits: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, " n"]:
        """How strange each case is; higher is stranger."""
        ...


def msp(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, " n"]:
    """Probability that is not on the answer, 1 - max softmax, in [0, 1).

    Source: Hendrycks and Gimpel 2017 (arXiv:1610.02136).

    >>> msp(np.log([[0.5, 0.25, 0.25]]))
    array([0.5])
    """
    return np.asarray(1 - softmax(logits).max(axis=1))


def energy(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, " n"]:
    """Minus the logarithm of the summed exponentials: low where some class has strong evidence.

    Source: Liu et al. 2020 (arXiv:2010.03759), temperature 1.

    >>> energy(np.log([[1.0, 1.0, 2.0]])).round(4)  # -log(1 + 1 + 2)
    array([-1.3863])
    """
    highest = logits.max(axis=1).astype(np.float64)
    return np.asarray(-highest - np.log(np.exp(logits - highest[:, None]).sum(axis=1)))


def gen(logits: Float[np.ndarray, "n classes"], gamma: float = 0.1) -> Float[np.ndarray, " n"]:
    """Generalised entropy: sum over classes of (p (1 - p)) ** gamma; 0 where one class has it all.

    Source: Liu et al., GEN, CVPR 2023, over all classes; pytorch-ood gives the mean, not the sum,
    of probabilities kept 1e-7 away from 0 and 1.

    >>> gen(np.log([[0.5, 0.5]]), gamma=1.0)
    array([0.5])
    """
    probs = softmax(logits)
    return np.asarray(((probs * (1 - probs)) ** gamma).sum(axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitScore:
    """A score that needs nothing but logits, behind the common interface."""

    of: Callable[[np.ndarray], np.ndarray]

    def score(
        self, features: Float[np.ndarray, "n c"], logits: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, " n"]:
        """See `Detector.score`."""
        return self.of(logits)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussians:
    """One normal distribution per class with a common covariance, and one around all cases."""

    means: Float[np.ndarray, "classes c"]
    whitening: Float[np.ndarray, "c r"]  # features times it have the identity as covariance
    background_mean: Float[np.ndarray, " c"]
    background_whitening: Float[np.ndarray, "c r"] | None  # None: plain, not relative, distance

    def score(
        self, features: Float[np.ndarray, "n c"], logits: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, " n"]:
        """Squared Mahalanobis distance to the nearest class, relative to that to all cases."""
        x = features.astype(np.float64)
        near = _squared_distances(x @ self.whitening, self.means @ self.whitening).min(axis=1)
        if self.background_whitening is None:
            return np.asarray(near)
        around = (x - self.background_mean) @ self.background_whitening
        return np.asarray(near - (around**2).sum(axis=1))


def fit_mahalanobis(
    known: Predictions, *, relative: bool = False, shrinkage: float | None = None
) -> Gaussians:
    """Fit the distance to the nearest class mean under the classes' common covariance.

    Args:
        known: Cases with labels.
        relative: Subtract the distance under one normal distribution around all cases, which
            takes out what makes any picture unusual (Ren et al. 2021, arXiv:2106.09022).
        shrinkage: Share of the covariance that is replaced by a sphere of the same trace, in
            [0, 1]; None estimates it (Ledoit and Wolf 2004). 1,280 features of 7,000 cases that
            are correlated need some.

    Returns:
        A detector; pytorch-ood's `Mahalanobis` is this divided by twice the number of cases, its
        `RMD` is this with `relative`.

    Raises:
        InputError: No case has a label.

    Source: Lee et al. 2018 (arXiv:1807.03888).
    """
    x, labels = _labelled(known)
    present = np.unique(labels)
    means = np.stack([x[labels == label].mean(axis=0) for label in present])
    within = x - means[np.searchsorted(present, labels)]
    center = x.mean(axis=0)
    return Gaussians(
        means=means,
        whitening=_whitening(within, shrinkage),
        background_mean=center,
        background_whitening=_whitening(x - center, shrinkage) if relative else None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """Known cases as unit vectors, and how many of them count."""

    bank: Float[np.ndarray, "m c"]
    k: int

    def score(
        self, features: Float[np.ndarray, "n c"], logits: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, " n"]:
        """Distance to the k-th nearest known case on the unit sphere, in [0, 2]."""
        x = _unit(features.astype(np.float64))
        scores = np.empty(len(x))
        for start in range(0, len(x), CHUNK):
            squared = _squared_distances(x[start : start + CHUNK], self.bank)
            nearest = np.partition(squared, self.k - 1, axis=1)[:, self.k - 1]
            scores[start : start + CHUNK] = np.sqrt(np.maximum(nearest, 0))
        return scores


def fit_knn(known: Predictions, k: int = NEIGHBOURS) -> Neighbours:
    """Keep the known cases' directions.

    Raises:
        InputError: There are fewer known cases than `k`, or `k` is below 1.

    Source: Sun et al. 2022 (arXiv:2204.06507).
    """
    if not 1 <= k <= len(known.features):
        raise InputError(f"need from 1 to {len(known.features)} neighbours (known cases), got {k}")
    return Neighbours(bank=_unit(known.features.astype(np.float64)), k=k)


@dataclass(frozen=True, kw_only=True, eq=False)
class Vim:
    """What of a feature vector lies outside the known cases' main directions, as a logit."""

    origin: Float[np.ndarray, " c"]
    directions: Float[np.ndarray, "c d"]  # of the principal space, orthonormal
    alpha: float  # makes the residual's mean the mean of the highest logit

    def score(
        self, features: Float[np.ndarray, "n c"], logits: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, " n"]:
        """Virtual logit plus `energy`."""
        x = features.astype(np.float64) - self.origin
        return np.asarray(self.alpha * _residual(x, self.directions) + energy(logits))


def fit_vim(
    known: Predictions,
    weight: Float[np.ndarray, "classes c"],
    bias: Float[np.ndarray, " classes"],
    dimensions: int | None = None,
) -> Vim:
    """Fit the principal space of the known features around the point where all logits are 0.

    Args:
        known: Cases, labelled or not.
        weight: Of the linear layer that made the logits.
        bias: Of that layer.
        dimensions: Of the principal space; None takes 64 or, where there are fewer features,
            half of them.

    Raises:
        InputError: The dimensions are not from 1 to one below the number of features.

    Source: Wang et al. 2022 (arXiv:2203.10807).
    """
    c = known.features.shape[1]
    d = min(64, c // 2) if dimensions is None else dimensions
    if not 1 <= d < c:
        raise InputError(f"ViM needs from 1 to {c - 1} dimensions, got {d}")
    origin = -np.linalg.pinv(weight.astype(np.float64)) @ bias
    x = known.features.astype(np.float64) - origin
    directions = np.linalg.eigh(x.T @ x)[1][:, -d:]
    alpha = known.logits.max(axis=1).mean() / _residual(x, directions).mean()
    return Vim(origin=origin, directions=directions, alpha=float(alpha))


def fit_detectors(
    known: Predictions, weight: Float[np.ndarray, "classes c"], bias: Float[np.ndarray, " classes"]
) -> Mapping[str, Detector]:
    """Every score by name, fitted on the same known cases; none has seen a stranger."""
    return {
        "MSP": LogitScore(of=msp),
        "energy": LogitScore(of=energy),
        "GEN": LogitScore(of=gen),
        "Mahalanobis": fit_mahalanobis(known),
        "relative Mahalanobis": fit_mahalanobis(known, relative=True),
        "kNN": fit_knn(known),
        "ViM": fit_vim(known, weight, bias),
    }


def _labelled(known: Predictions) -> tuple[np.ndarray, Int[np.ndarray, " n"]]:
    keep = known.labels >= 0
    if not keep.any():
        raise InputError("no case has a label; distances to classes need known cases")
    return known.features[keep].astype(np.float64), known.labels[keep]


def _whitening(
    centered: Float[np.ndarray, "n c"], shrinkage: float | None
) -> Float[np.ndarray, "c c"]:
    """Return W with W Wᵀ the inverse of the shrunk covariance."""
    if shrinkage is None:
        from sklearn.covariance import ledoit_wolf_shrinkage  # only fitting needs it

        shrinkage = float(ledoit_wolf_shrinkage(centered, assume_centered=True))
    covariance = centered.T @ centered / len(centered)
    sphere = np.trace(covariance) / len(covariance)
    values, vectors = np.linalg.eigh(covariance)
    values = (1 - shrinkage) * values + shrinkage * sphere
    floor = 1e-12 * values.max()  # a direction that never varies has no distance of its own
    return np.asarray(vectors / np.sqrt(np.maximum(values, floor)))


def _squared_distances(
    x: Float[np.ndarray, "n c"], points: Float[np.ndarray, "m c"]
) -> Float[np.ndarray, "n m"]:
    squared = (x**2).sum(axis=1)[:, None] + (points**2).sum(axis=1) - 2 * x @ points.T
    return np.asarray(np.maximum(squared, 0))


def _residual(
    x: Float[np.ndarray, "n c"], directions: Float[np.ndarray, "c d"]
) -> Float[np.ndarray, " n"]:
    return np.asarray(np.linalg.norm(x - (x @ directions) @ directions.T, axis=1))


def _unit(x: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
