"""When is it better not to answer, and when should somebody look?

Scores that rank cases by how little to believe them, judged by what is left after the worst were
turned away; and one rule that composes them. A score that doesn't beat calibrated confidence has
no place in the rule: `worth` says so with a figure.

Screening is another question: from which P(malignant) on a lesion should be seen by somebody
(`dermx.evaluate.screening` fits that threshold; `net_benefit` says what it is worth).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dermx.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Not to answer a case: outside what is known, or unsure by any figure that is switched on."""

    min_confidence: float  # calibrated; a case at it is answered
    max_set: int | None = None  # classes in the prediction set; None: not looked at
    max_information: float | None = None  # mutual information, nats; None: not looked at

    def abstain(
        self,
        confidence: Float[np.ndarray, " n"],
        *,
        is_ood: Bool[np.ndarray, " n"],
        set_size: Float[np.ndarray, " n"],
        information: Float[np.ndarray, " n"],
    ) -> Bool[np.ndarray, " n"]:
        """Which cases not to answer."""
        unsure = confidence < self.min_confidence
        if self.max_set is not None:
            unsure = unsure | (set_size > self.max_set)
        if self.max_information is not None:
            unsure = unsure | (information > self.max_information)
        return np.asarray(is_ood | unsure)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Invert `to_dict`."""
        return cls(**content)


def fit_confidence(confidence: Float[np.ndarray, " n"], answered: float) -> float:
    """Return the highest confidence threshold at which enough cases are answered.

    Args:
        confidence: Calibrated, of cases that did not train the model.
        answered: Wanted share of these cases, in (0, 1].

    Raises:
        InputError: The share is not in (0, 1].

    >>> fit_confidence(np.array([0.9, 0.5, 0.7, 0.6]), 0.5)
    0.7
    """
    if not 0 < answered <= 1:
        raise InputError(f"the share of answered cases must be in (0, 1], got {answered}")
    wanted = int(np.ceil(answered * len(confidence) - 1e-9))
    return float(np.sort(confidence)[::-1][wanted - 1])


def risk_coverage(
    doubt: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Share of answered cases, and share of these that are wrong, from few to all.

    Args:
        doubt: Higher means to be turned away first; cases of equal doubt go together.
        wrong: Whether the answer is.

    Returns:
        Coverage and selective risk at each distinct doubt, coverage ascending to 1.

    >>> coverage, risk = risk_coverage(np.array([0.1, 0.2, 0.3]), np.array([False, False, True]))
    >>> risk.tolist()
    [0.0, 0.0, 0.3333333333333333]
    """
    answered, errors = _answered_errors(doubt, wrong)
    return answered / len(doubt), errors / answered


def aurc(doubt: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"]) -> float:
    """Mean selective risk over all coverages; ties in random order. Lower is better.

    Source: Geifman, Uziel, El-Yaniv 2019 (arXiv:1805.08206).

    >>> round(aurc(np.array([0.1, 0.2, 0.3]), np.array([False, False, True])), 4)  # (1/3) / 3
    0.1111
    """
    answered, errors = _answered_errors(doubt, wrong)
    n = len(doubt)
    steps = np.arange(1, n + 1)  # within a tie the expected number of errors grows evenly
    expected = np.interp(steps, np.r_[0, answered], np.r_[0, errors])
    return float((expected / steps).mean())


def augrc(doubt: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"]) -> float:
    """Area under the generalised risk: chance that a case is answered and wrong, over coverages.

    Unlike AURC it gives every error the same weight. Lower is better; a random score has half the
    error rate.

    Source: Traub et al. 2024, equation 6 (arXiv:2407.01032).

    >>> augrc(np.array([0.0, 0.0, 0.0, 1.0]), np.array([False, False, False, True]))  # (1/4)^2 / 2
    0.03125
    """
    answered, errors = _answered_errors(doubt, wrong)
    n = len(doubt)
    return float(np.trapezoid(np.r_[0, errors] / n, np.r_[0, answered] / n))


def accuracy_at(
    doubt: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"], coverage: float
) -> float:
    """Share of right answers when the least doubtful share of cases is answered.

    Ties at the border count by their mean, so the order of the cases doesn't matter.
    """
    if not 0 < coverage <= 1:
        raise InputError(f"coverage must be in (0, 1], got {coverage}")
    answered, errors = _answered_errors(doubt, wrong)
    wanted = coverage * len(doubt)
    return float(1 - np.interp(wanted, np.r_[0, answered], np.r_[0, errors]) / wanted)


def worth(
    candidate: Float[np.ndarray, " n"],
    baseline: Float[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"],
    resamples: Float[np.ndarray, "resamples n"],
) -> tuple[float, float, float]:
    """How much lower a candidate's AUGRC is than the baseline's, with its 95 % interval.

    Args:
        candidate: Doubt by the candidate.
        baseline: Doubt by calibrated confidence.
        wrong: Whether the answer is.
        resamples: How often each case counts, one row per resample of lesions.

    Returns:
        Gain and its ends; only a gain whose lower end is above 0 is one.
    """
    from dermx.evaluate.intervals import percentile_interval

    drawn = [
        augrc(np.repeat(baseline, row), np.repeat(wrong, row))
        - augrc(np.repeat(candidate, row), np.repeat(wrong, row))
        for row in resamples.astype(int)
    ]
    gain = augrc(baseline, wrong) - augrc(candidate, wrong)
    return gain, *percentile_interval(np.array(drawn))


def net_benefit(
    probability: Float[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    thresholds: Float[np.ndarray, " t"],
) -> Float[np.ndarray, " t"]:
    """Decision curve: found cases minus unneeded referrals, at each threshold's exchange rate.

    Args:
        probability: Calibrated P(malignant).
        positive: The truth.
        thresholds: In [0, 1); at t, one found case is worth (1 - t) / t unneeded referrals.

    Returns:
        Net benefit per case; referring nobody has 0, everybody what `refer_all` says.

    Source: Vickers and Elkin, Med. Decis. Making 26:565 (2006).

    >>> net_benefit(np.array([0.9, 0.6, 0.1]), np.array([True, False, False]), np.array([0.5]))
    array([0.])
    """
    flagged = probability[None, :] >= thresholds[:, None]
    found = (flagged & positive).mean(axis=1)
    unneeded = (flagged & ~positive).mean(axis=1)
    return np.asarray(found - unneeded * thresholds / (1 - thresholds))


def refer_all(
    positive: Bool[np.ndarray, " n"], thresholds: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " t"]:
    """Net benefit of referring everybody."""
    return net_benefit(np.ones(len(positive)), positive, thresholds)


def _answered_errors(
    doubt: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Answered cases and errors among them, up to each distinct doubt."""
    if len(doubt) != len(wrong) or len(doubt) == 0:
        raise InputError(f"need one doubt per case, got {len(doubt)} for {len(wrong)} cases")
    if np.isnan(doubt).any():
        raise InputError(f"doubt is NaN for {np.isnan(doubt).sum()} of {len(doubt)} cases")
    order = np.argsort(doubt, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(doubt[order]) != 0, True])
    errors = np.cumsum(wrong[order])[ends]
    return (ends + 1).astype(np.float64), errors.astype(np.float64)
