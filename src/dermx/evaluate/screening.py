"""From which probability on is a lesion to be seen by somebody? A threshold for screening.

One score, P(mel) + P(bcc) + P(akiec), against the truth being one of them; the highest threshold
that reaches a wanted sensitivity. Fit it on the validation part only: on those cases the
sensitivity is what was asked for, elsewhere it is what `score_screening` finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from dermx.diagnoses import MALIGNANT
from dermx.errors import InputError
from dermx.evaluate.intervals import Estimate, case_weights, percentile_interval
from dermx.evaluate.metrics import labelled
from dermx.records import Predictions

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

SLACK: Final = 1e-9  # of a count of cases: 0.28 * 25 is 7, not 7.000000000000001


@dataclass(frozen=True, kw_only=True)
class Screening:
    """From which P(mel) + P(bcc) + P(akiec) on a lesion is to be seen by somebody."""

    threshold: float  # in [0, 1]; a case at the threshold is flagged
    low: float  # ends of the threshold's 95 % interval, lesions of the fitting cases resampled
    high: float
    wanted: float  # sensitivity on the fitting cases, at least

    @property
    def threshold_interval(self) -> Estimate:
        """The threshold with its interval."""
        return self.threshold, self.low, self.high


def fit_screening(
    predictions: Predictions, sensitivity: float = 0.92, *, n_boot: int = 2000, seed: int = 0
) -> Screening:
    """Fit the screening threshold on validation predictions, with its interval by lesion."""
    known = labelled(predictions)
    scores, positive = screening_scores(known.probs, known.codes), dangerous_cases(known)
    threshold = fit_threshold(scores, positive, sensitivity)
    weights = case_weights(known.groups, n_boot=n_boot, seed=seed)
    low, high = percentile_interval(fit_threshold(scores, positive, sensitivity, weights))
    return Screening(threshold=float(threshold), low=low, high=high, wanted=sensitivity)


def score_screening(
    predictions: Predictions, screening: Screening, *, n_boot: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Sensitivity and specificity of a fitted threshold, with 95 % intervals by lesion."""
    known = labelled(predictions)
    flagged = screening_scores(known.probs, known.codes) >= screening.threshold
    return estimated_rates(known, flagged, n_boot, seed)


def screening_scores(
    probs: Float[np.ndarray, "n classes"], codes: tuple[str, ...]
) -> Float[np.ndarray, " n"]:
    """P(mel) + P(bcc) + P(akiec); a sum of rounded numbers, so kept from passing 1."""
    return np.asarray(np.minimum(probs[:, dangerous(codes)].sum(axis=1), 1.0))


def fit_threshold(
    scores: Float[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    sensitivity: float,
    weights: Float[np.ndarray, "resamples n"] | None = None,
) -> Float[np.ndarray, "*resamples"]:
    """Return the highest threshold that enough of the positive cases reach.

    Args:
        scores: Higher means more likely positive.
        positive: The truth.
        sensitivity: Share of the positive cases at or above the threshold, at least.
        weights: How often each case counts, one row per resample; once when None.

    Returns:
        One of the positive cases' scores, per row of weights; NaN for a row without one.

    Raises:
        InputError: The sensitivity is not in (0, 1], or no case is positive.

    >>> scores, positive = np.array([0.9, 0.6, 0.2, 0.7]), np.array([True, True, True, False])
    >>> float(fit_threshold(scores, positive, 0.6))
    0.6
    """
    if not 0 < sensitivity <= 1:
        raise InputError(f"sensitivity must be above 0, at most 1, got {sensitivity}")
    if not positive.any():
        raise InputError(f"none of {len(positive)} cases is positive: no threshold can be fitted")
    rows = np.ones((1, len(scores))) if weights is None else weights
    ranked = np.flatnonzero(positive)[np.argsort(-scores[positive], kind="stable")]
    reached = np.cumsum(rows[:, ranked], axis=1)
    total = reached[:, -1:]
    first = (reached >= sensitivity * total - SLACK).argmax(axis=1)
    value = np.where(total[:, 0] > 0, scores[ranked[first]], np.nan)
    return value.reshape(()) if weights is None else value


def rates(
    flagged: Bool[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    weights: Float[np.ndarray, "resamples n"] | None = None,
) -> tuple[Float[np.ndarray, "*resamples"], Float[np.ndarray, "*resamples"]]:
    """Sensitivity and specificity, per row of weights; NaN where there is no such case."""
    rows = np.ones((1, len(flagged))) if weights is None else weights
    both = [
        _ratio(rows @ (right & of).astype(np.float64), rows @ of.astype(np.float64))
        for right, of in ((flagged, positive), (~flagged, ~positive))
    ]
    sensitivity, specificity = (v.reshape(()) if weights is None else v for v in both)
    return sensitivity, specificity


def dangerous(codes: tuple[str, ...]) -> Bool[np.ndarray, " classes"]:
    """Which classes are malignant or pre-malignant."""
    return np.array([code in MALIGNANT for code in codes])


def dangerous_cases(predictions: Predictions) -> Bool[np.ndarray, " n"]:
    """Which cases are truly malignant or pre-malignant; all must have a label."""
    return np.asarray(dangerous(predictions.codes)[predictions.labels])


def estimated_rates(
    known: Predictions, flagged: np.ndarray, n_boot: int, seed: int = 0
) -> dict[str, Estimate]:
    """Sensitivity and specificity for danger, with 95 % intervals by lesion."""
    positive = dangerous_cases(known)
    weights = case_weights(known.groups, n_boot=n_boot, seed=seed)
    once, drawn = rates(flagged, positive), rates(flagged, positive, weights)
    return {
        name: (float(value), *percentile_interval(values))
        for name, value, values in zip(("sensitivity", "specificity"), once, drawn, strict=True)
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
