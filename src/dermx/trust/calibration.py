"""Calibration: does 80 % confidence mean right 80 times in 100?

Arrays in, numbers out: no model, no files, so every function can be checked by hand.
Fit on the validation part (or out-of-fold predictions) only; cases used to fit make the error look
smaller than it is.

All fitted maps are scale * logits + bias, so one convex problem with one solution each:
"temperature" has one scale and never changes the answer; "bias" adds a bias per class, which takes
back what oversampling did to the class shares; "vector" has a scale and a bias per class.
"classwise" is each class against the rest, for comparison. Whichever is used can be made surer or
less sure afterwards, until its mean confidence on cases left out is how often it is right there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

import numpy as np

from dermx.errors import InputError
from dermx.records import check_cases, softmax

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

Method = Literal["none", "temperature", "bias", "vector", "classwise"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
RIDGE: Final = 1e-3  # pull of each parameter towards "no change", per case; see `fit_calibration`
STEPS: Final = 100  # of Newton's method; a handful is enough
GRID: Final = 256  # cells on [0, 1] of the smooth error


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """A fitted map from logits to probabilities."""

    method: Method
    scale: Float[np.ndarray, " classes"]  # one over the temperature, where that is one number
    bias: Float[np.ndarray, " classes"]  # of mean 0, but for "classwise"

    @property
    def temperature(self) -> float:
        """One over the mean scale; above 1 the network was too sure."""
        return float(1 / self.scale.mean())

    def probs(self, logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
        """Calibrated probabilities; rows sum to 1.

        Raises:
            InputError: The number of classes differs from the fitted one.
        """
        if logits.shape[-1] != len(self.scale):
            raise InputError(
                f"the calibration is for {len(self.scale)} classes, got logits {logits.shape}"
            )
        if self.method == "classwise":
            shares = _sigmoid(self.scale * log_odds(softmax(logits)) + self.bias)
            return np.asarray(shares / shares.sum(axis=-1, keepdims=True))
        return softmax(self.scale * logits.astype(np.float64) + self.bias)

    def tempered(self, temperature: float) -> Self:
        """The same map, less sure by a temperature above 1; it never changes the answer."""
        return replace(self, scale=self.scale / temperature, bias=self.bias / temperature)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "method": self.method,
            "scale": [float(value) for value in self.scale],
            "bias": [float(value) for value in self.bias],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Invert `to_dict`."""
        if content["method"] not in METHODS:
            raise InputError(f"no calibration {content['method']!r}; known: {', '.join(METHODS)}")
        scale, bias = (np.asarray(content[key], np.float64) for key in ("scale", "bias"))
        return cls(method=content["method"], scale=scale, bias=bias)


def uncalibrated(classes: int) -> Calibration:
    """The plain softmax, as a calibration."""
    return Calibration(method="none", scale=np.ones(classes), bias=np.zeros(classes))


def fit_calibration(
    logits: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    method: Method = "temperature",
    *,
    ridge: float = RIDGE,
) -> Calibration:
    """Fit the map with the least log loss.

    Args:
        logits: Of cases that did not train the model.
        labels: True class indices.
        method: One of `METHODS`.
        ridge: Times the squared distance of the parameters from "no change", added to the mean log
            loss: a class with ten cases then moves less than one with a thousand. Not used for
            "temperature", which every case speaks for.

    Raises:
        InputError: No case, not one label per case, or values that can't be fitted.

    Source: Guo et al. 2017, section 4.2 (arXiv:1706.04599); "bias" is the bias-corrected
    temperature scaling of Alexandari, Kundaje and Shrikumar 2020 (arXiv:1901.06852).
    """
    check_cases(logits, labels)
    logits = logits.astype(np.float64)
    n, classes = logits.shape
    one, none = np.ones(classes), np.zeros(classes)
    if method == "none":
        return uncalibrated(classes)
    if method == "classwise":
        scale, bias = _fit_classwise(logits, labels, ridge)
    elif method == "temperature":
        slopes = logits[:, :, None]  # (n, classes, parameters)
        scale, bias = _newton(slopes, labels, np.ones(1), 0.0) * one, none
    else:
        each = np.broadcast_to(np.eye(classes), (n, classes, classes))
        parts = logits[:, :, None] if method == "bias" else logits[:, :, None] * each
        slopes = np.concatenate([parts, each], axis=2)
        start = np.concatenate([np.ones(parts.shape[2]), none])
        fitted = _newton(slopes, labels, start, ridge)
        scale, bias = fitted[:-classes] * one, fitted[-classes:] - fitted[-classes:].mean()
    if (scale <= 0).any():
        raise InputError(
            f"the fit turns logits upside down (scale {scale.min():.3g}): on these {n} cases the "
            "model is right where it is unsure; check that labels and logits belong together"
        )
    return Calibration(method=method, scale=scale, bias=bias)


def consistent_temperature(
    probs: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> float:
    """Temperature at which the stated confidence is, in the mean, the share of right answers.

    Least log loss doesn't promise that: it weighs all classes, and on cases that it was fitted on
    it is surer than on new ones. So this is for cases that were left out of the fit.

    Args:
        probs: Class probabilities; each row sums to 1.
        labels: True class indices.

    Returns:
        Above 1 where the confidence is too high. With half a right answer of one more case, so
        that a few cases that are all right, or all wrong, don't ask for certainty.

    Source: expectation consistency, Clarte et al. 2023 (arXiv:2303.02644).

    >>> probs = np.array([[0.9, 0.1]] * 4)
    >>> round(consistent_temperature(probs, np.array([0, 0, 0, 1])), 2)  # right in 3.5 of 5
    2.59
    """
    check_cases(probs, labels)
    logits = np.log(np.maximum(probs, np.finfo(np.float64).tiny))
    hits = (probs.argmax(axis=1) == labels).sum()
    wanted = max((hits + 0.5) / (len(labels) + 1), 1 / probs.shape[1] + 1e-6)
    low, high = 1e-3, 1e3
    while high / low > 1 + 1e-6:  # confidence falls as the temperature rises
        middle = float(np.sqrt(low * high))
        sure = softmax(logits / middle).max(axis=1).mean() > wanted
        low, high = (middle, high) if sure else (low, middle)
    return high


def expected_calibration_error(
    probs: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    *,
    n_bins: int = 15,
    equal_mass: bool = False,
    weights: Float[np.ndarray, " n"] | None = None,
) -> float:
    """Mean gap between stated confidence and observed accuracy, weighted by bin size.

    Args:
        probs: Class probabilities; each row sums to 1.
        labels: True class indices, 0 to classes - 1.
        n_bins: Number of confidence bins on [0, 1].
        equal_mass: Bins with about the same number of cases, instead of the same width.
        weights: How often each case counts; once when None. Bins stay those of the cases.

    Returns:
        A fraction in [0, 1], not a percentage; 0 is perfectly calibrated.

    Raises:
        InputError: There is no case, or not one label per case.

    Source: Guo et al. 2017, section 2 (arXiv:1706.04599); here a bin includes its lower edge.

    >>> expected_calibration_error(np.array([[0.875, 0.125], [0.75, 0.25]]), np.array([0, 1]))
    0.4375
    """
    check_cases(probs, labels)
    confidence, hit = probs.max(axis=1), probs.argmax(axis=1) == labels
    return _binned_gap(confidence, hit, _bins(confidence, n_bins, equal_mass), weights)


def calibration_error_by_chance(
    probs: Float[np.ndarray, "n classes"], *, n_bins: int = 15, n_draws: int = 1000, seed: int = 0
) -> Float[np.ndarray, " n_draws"]:
    """`expected_calibration_error` of a model that is right exactly as often as it says.

    Few cases in a bin are rarely right in exactly the stated share, so the error of a perfectly
    calibrated model is not 0: only one beyond these values shows that confidence is off. Cases
    are drawn one by one; where several are of one lesion, chance does more than this.

    Args:
        probs: Class probabilities, the only thing that the error depends on here.
        n_bins: Number of confidence bins on [0, 1].
        n_draws: How many times it is drawn which cases are right.
        seed: Of the draws.

    Source: consistency resampling, Broecker and Smith 2007 (doi:10.1175/WAF993.1).
    """
    confidence = probs.max(axis=1)
    bins = _bins(confidence, n_bins, False)
    rng = np.random.default_rng(seed)
    draws = (rng.random(len(confidence)) < confidence for _ in range(n_draws))
    return np.array([_binned_gap(confidence, hit, bins, None) for hit in draws])


def classwise_calibration_error(
    probs: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    *,
    n_bins: int = 15,
    weights: Float[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " classes"]:
    """Gap between each class's stated probability and its share, over all cases, not only answers.

    Source: Kull et al. 2019, section 2 (arXiv:1910.12656), whose figure is the mean over classes.

    >>> classwise_calibration_error(np.array([[0.875, 0.125], [0.75, 0.25]]), np.array([0, 1]))
    array([0.4375, 0.4375])
    """
    check_cases(probs, labels)
    gaps = [
        _binned_gap(column, labels == k, _bins(column, n_bins, False), weights)
        for k, column in enumerate(probs.T)
    ]
    return np.array(gaps)


def smooth_calibration_error(
    probs: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    *,
    weights: Float[np.ndarray, " n"] | None = None,
) -> float:
    """Calibration error without bins: gaps smoothed over confidences as wide as the error itself.

    Args:
        probs: Class probabilities.
        labels: True class indices.
        weights: How often each case counts; once when None.

    Returns:
        A fraction in [0, 1]; exact to about 1 / `GRID`.

    Source: Blasiok and Nakkiran 2023, definition 3 (arXiv:2309.12236), reflected Gaussian kernel.
    """
    check_cases(probs, labels)
    confidence, hit = probs.max(axis=1), probs.argmax(axis=1) == labels
    counted = np.ones(len(labels)) if weights is None else weights
    mass = counted / counted.sum() * (hit - confidence)
    place = np.clip(confidence * GRID - 0.5, 0, GRID - 1)  # between two cells' middles
    lower = np.minimum(place.astype(int), GRID - 2)
    gaps = np.bincount(lower, mass * (lower + 1 - place), GRID)
    gaps += np.bincount(lower + 1, mass * (place - lower), GRID)
    waves = _cosines() @ gaps
    low, high = 1 / GRID, 1.0
    while high - low > 1e-4:  # the smoothed error falls as the width grows: where the two meet
        width = (low + high) / 2
        low, high = (low, width) if _smoothed(waves, width) < width else (width, high)
    return _smoothed(waves, high)


def brier_score(
    probs: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    *,
    weights: Float[np.ndarray, " n"] | None = None,
) -> float:
    """Mean squared distance of the probabilities from the truth, summed over classes; 0 to 2.

    >>> brier_score(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]))
    0.25
    """
    check_cases(probs, labels)
    distance = ((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1)
    return float(np.average(distance, weights=weights))


def log_loss(
    probs: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    *,
    weights: Float[np.ndarray, " n"] | None = None,
) -> float:
    """Mean of -log P(truth), nats; a probability of 0 counts as the smallest number there is.

    >>> round(log_loss(np.array([[0.5, 0.5]]), np.array([1])), 4)
    0.6931
    """
    check_cases(probs, labels)
    truth = np.maximum(probs[np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
    return float(np.average(-np.log(truth), weights=weights))


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """What a reliability diagram shows: a bin per entry, NaN where a bin is empty."""

    edges: Float[np.ndarray, " bins_and_one"]
    counts: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]  # mean
    accuracy: Float[np.ndarray, " bins"]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: a list per field, None where a bin is empty."""
        stated, right = (
            [None if np.isnan(value) else float(value) for value in means]
            for means in (self.confidence, self.accuracy)
        )
        return {
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "confidence": stated,
            "accuracy": right,
        }


def reliability(
    probs: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], *, n_bins: int = 15
) -> Reliability:
    """Mean confidence, accuracy and number of cases in bins of equal width."""
    check_cases(probs, labels)
    return answer_reliability(probs.max(axis=1), probs.argmax(axis=1) == labels, n_bins=n_bins)


def answer_reliability(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], *, n_bins: int = 15
) -> Reliability:
    """`reliability` of answers that need not be the most probable class."""
    bins = _bins(confidence, n_bins, False)
    counts = np.bincount(bins, minlength=n_bins)
    sums = [np.bincount(bins, values, n_bins) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):
        means = [total / counts for total in sums]
    edges = np.linspace(0, 1, n_bins + 1)
    return Reliability(edges=edges, counts=counts, confidence=means[0], accuracy=means[1])


def log_odds(probs: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """log(p / (1 - p)), p kept a little away from 0 and 1."""
    inside = np.clip(probs, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(inside / (1 - inside)))


def _bins(values: np.ndarray, n_bins: int, equal_mass: bool) -> Int[np.ndarray, " n"]:
    if n_bins < 1:
        raise InputError(f"need at least one bin, got {n_bins}")
    if equal_mass:
        edges = np.quantile(values, np.linspace(0, 1, n_bins + 1)[1:-1])
        return np.asarray(np.searchsorted(edges, values, side="right"))
    return np.asarray(np.minimum((values * n_bins).astype(int), n_bins - 1))


def _binned_gap(
    stated: np.ndarray, hit: np.ndarray, bins: np.ndarray, weights: np.ndarray | None
) -> float:
    counted = np.ones(len(stated)) if weights is None else weights
    gaps = np.bincount(bins, weights=counted * (hit - stated))  # size * (accuracy - confidence)
    return float(np.abs(gaps).sum() / counted.sum())


@cache
def _cosines() -> Float[np.ndarray, "waves cells"]:
    middles = (np.arange(GRID) + 0.5) / GRID
    return np.asarray(np.cos(np.pi * np.arange(GRID)[:, None] * middles[None, :]))


def _smoothed(waves: np.ndarray, width: float) -> float:
    """Sum of |gaps smoothed by a Gaussian that is mirrored at 0 and 1|, from their cosine series.

    Such smoothing multiplies the k-th cosine by exp(-(pi k width)^2 / 2).
    """
    damped = waves * np.exp(-0.5 * (np.pi * np.arange(GRID) * width) ** 2)
    damped[1:] *= 2
    return float(np.abs(damped @ _cosines()).mean())


def _newton(
    slopes: Float[np.ndarray, "n classes parameters"],
    labels: Int[np.ndarray, " n"],
    start: Float[np.ndarray, " parameters"],
    ridge: float,
) -> Float[np.ndarray, " parameters"]:
    """Minimise the log loss of softmax(slopes @ parameters), convex in the parameters."""
    n, classes, size = slopes.shape
    truth, at = np.eye(classes)[labels], start.copy()

    def loss(parameters: np.ndarray) -> float:
        z = slopes @ parameters
        top = z.max(axis=1)
        log_sum = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
        pull = ridge * ((parameters - start) ** 2).sum()
        return float((log_sum - z[np.arange(n), labels]).mean() + pull)

    for _ in range(STEPS):
        p = softmax(slopes @ at)
        gradient = np.einsum("nk,nkp->p", p - truth, slopes) / n + 2 * ridge * (at - start)
        mean = np.einsum("nk,nkp->np", p, slopes)
        curve = np.einsum("nk,nkp,nkq->pq", p, slopes, slopes, optimize=True) - mean.T @ mean
        step = np.linalg.solve(curve / n + (2 * ridge + 1e-12) * np.eye(size), gradient)
        size_of_step = 1.0
        while loss(at - size_of_step * step) > loss(at) and size_of_step > 1e-6:
            size_of_step /= 2
        at = at - size_of_step * step
        if np.abs(step).max() < 1e-10:
            break
    return at


def _fit_classwise(
    logits: np.ndarray, labels: np.ndarray, ridge: float
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """Platt's two parameters per class against the rest; the rows are then scaled to sum 1."""
    odds = log_odds(softmax(logits))
    fitted = []
    for k in range(logits.shape[1]):
        # Two classes with logits 0 and a * odds + b are the logistic function of the latter.
        one = np.stack([odds[:, k], np.ones(len(odds))], axis=1)
        slopes = np.stack([np.zeros_like(one), one], axis=1)
        fitted.append(_newton(slopes, (labels == k).astype(int), np.array([1.0, 0.0]), ridge))
    scale, bias = np.array(fitted).T
    return scale, bias


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
