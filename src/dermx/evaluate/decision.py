"""Which class is answered, given the probabilities? The operating point is a choice.

Every rule here is a cost matrix, and the answer is the class of least expected cost: `argmax` where
all errors cost the same, `balanced` where an error on a rare class costs more, `cost` where calling
a malignant or pre-malignant lesion benign costs still more. A screening threshold asks only
whether a lesion is one of those.

Fit on the validation part only. The probabilities should be calibrated; a constant excess for some
classes, as oversampling leaves, is taken up by the strength that is fitted. Sensitivity on the
cases that a threshold was fitted on is what was asked for, not what others will see.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from dermx.diagnoses import MALIGNANT
from dermx.errors import InputError
from dermx.evaluate.intervals import bootstrap, draw_groups, percentile_interval
from dermx.evaluate.metrics import balanced_accuracy, confusion_matrix, labelled, score
from dermx.records import Predictions

Decide = Literal["argmax", "balanced", "cost"]
Estimate = tuple[float, float, float]  # value, and the ends of its 95 % interval
STRENGTHS: Final = tuple(i / 20 for i in range(31))  # 0 is argmax, 1 the whole prior, up to 1.5
SLACK: Final = 1e-9  # of a count of cases: 0.28 * 25 is 7, not 7.000000000000001


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """How probabilities become an answer."""

    decide: Decide
    codes: tuple[str, ...]
    cost: Float[np.ndarray, "true answered"]  # 0 on the diagonal; only ratios matter
    strength: float = 0.0  # of the correction for class shares
    miss: float = 1.0  # factor on calling a malignant or pre-malignant lesion benign

    def answers(self, probs: Float[np.ndarray, "n classes"]) -> Int[np.ndarray, " n"]:
        """Class indices of least expected cost."""
        return least_cost(probs, self.cost)


@dataclass(frozen=True, kw_only=True)
class Screening:
    """From which P(mel) + P(bcc) + P(akiec) on a lesion is to be seen by somebody."""

    threshold: float  # in [0, 1]; a case at the threshold is flagged
    low: float  # ends of the threshold's 95 % interval, lesions of the fitting cases resampled
    high: float
    wanted: float  # sensitivity on the fitting cases, at least


def fit_rule(predictions: Predictions, decide: Decide, *, sensitivity: float = 0.92) -> Rule:
    """Fit a decision rule on validation predictions.

    Args:
        predictions: Of cases that neither trained the model nor will score it.
        decide: "argmax" fits nothing; "balanced" the strength of the correction for class shares,
            by balanced accuracy over all classes; "cost" also the factor on misses.
        sensitivity: For "cost": share of malignant or pre-malignant cases answered as one of
            those, at least.

    Raises:
        InputError: No case has a label, or, for "cost", none is malignant or pre-malignant.
    """
    known = labelled(predictions)
    probs, labels, codes = known.probs, known.labels, known.codes
    weights, strength, miss = np.ones(len(codes)), 0.0, 1.0
    if decide != "argmax":
        shares = np.bincount(labels, minlength=len(codes)) / len(labels)
        strength = fit_strength(probs, labels)
        weights = prior_weights(shares, strength)
    if decide == "cost":
        miss = fit_miss(probs, labels, weights, codes, sensitivity)
    cost = cost_matrix(weights, codes, miss)
    return Rule(decide=decide, codes=codes, cost=cost, strength=strength, miss=miss)


def least_cost(
    probs: Float[np.ndarray, "n classes"], cost: Float[np.ndarray, "true answered"]
) -> Int[np.ndarray, " n"]:
    """Class of least expected cost, the first of equals.

    Args:
        probs: Class probabilities.
        cost: What each answer costs for each truth; equal costs off the diagonal give the argmax.

    Source: Elkan, The foundations of cost-sensitive learning, IJCAI 2001, equation 1.

    >>> missed_twice_as_dear = np.array([[0, 1], [2, 0]])
    >>> least_cost(np.array([[0.6, 0.4], [0.7, 0.3]]), missed_twice_as_dear)
    array([1, 0])
    """
    if cost.shape != (probs.shape[1],) * 2:
        raise InputError(f"{probs.shape[1]} classes need a square of costs, got {cost.shape}")
    # What an answer spares, so that equal costs compare the probabilities themselves.
    spared = cost.max(axis=1, keepdims=True) - cost
    return np.asarray((probs @ spared).argmax(axis=1))


def cost_matrix(
    weights: Float[np.ndarray, " classes"], codes: tuple[str, ...], miss: float = 1.0
) -> Float[np.ndarray, "true answered"]:
    """Costs of errors: a weight per true class, `miss` times that for calling danger benign."""
    danger = dangerous(codes)
    factor = np.where(danger[:, None] & ~danger[None, :], miss, 1.0)
    return np.asarray(weights[:, None] * factor * (1 - np.eye(len(codes))))


def prior_weights(
    shares: Float[np.ndarray, " classes"], strength: float = 1.0
) -> Float[np.ndarray, " classes"]:
    """Weights 1 / share^strength, of geometric mean 1; a class without cases gets 1.

    With calibrated probabilities and strength 1 the rule maximises balanced accuracy.

    Source: Menon et al. 2021, post-hoc logit adjustment (arXiv:2007.07314), equation 9.

    >>> prior_weights(np.array([0.8, 0.2, 0.0]))
    array([0.5, 2. , 1. ])
    """
    there = shares > 0
    logs = np.log(shares[there])
    weights = np.ones(len(shares))
    weights[there] = np.exp(strength * (logs.mean() - logs))
    return weights


def fit_strength(probs: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> float:
    """Strength of `prior_weights` with the best balanced accuracy; the smallest of equals.

    One number is fitted, not one per class: the rarest class has about ten validation cases.
    """
    classes = probs.shape[1]
    shares = np.bincount(labels, minlength=classes) / len(labels)

    def quality(strength: float) -> float:
        answers = (probs * prior_weights(shares, strength)).argmax(axis=1)
        return float(balanced_accuracy(confusion_matrix(labels, answers, classes)))

    return max(STRENGTHS, key=quality)


def fit_miss(
    probs: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    weights: Float[np.ndarray, " classes"],
    codes: tuple[str, ...],
    sensitivity: float,
) -> float:
    """Smallest factor on misses with which enough dangerous cases are answered as dangerous.

    A case turns at 1 + (B - A) / D: A and B are its largest weighted probabilities among dangerous
    and benign classes, D the sum over the dangerous ones.
    """
    danger = dangerous(codes)
    weighted = probs * weights
    best, rival = weighted[:, danger].max(axis=1), weighted[:, ~danger].max(axis=1)
    sum_ = np.maximum(weighted[:, danger].sum(axis=1), np.finfo(float).tiny)
    turns_at = 1 + (rival - best) / sum_
    miss = -fit_threshold(-turns_at, danger[labels], sensitivity)
    return max(1.0, float(miss) * (1 + 1e-9))  # just past the point where both cost the same


def screening_scores(
    probs: Float[np.ndarray, "n classes"], codes: tuple[str, ...]
) -> Float[np.ndarray, " n"]:
    """P(mel) + P(bcc) + P(akiec)."""
    return np.asarray(probs[:, dangerous(codes)].sum(axis=1))


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


def fit_screening(
    predictions: Predictions, sensitivity: float = 0.92, *, n_boot: int = 2000, seed: int = 0
) -> Screening:
    """Fit the screening threshold on validation predictions, with its interval by lesion."""
    known = labelled(predictions)
    scores, positive = screening_scores(known.probs, known.codes), dangerous_cases(known)
    threshold = fit_threshold(scores, positive, sensitivity)
    weights = _resampled(known, n_boot, seed)
    low, high = percentile_interval(fit_threshold(scores, positive, sensitivity, weights))
    return Screening(threshold=float(threshold), low=low, high=high, wanted=sensitivity)


def score_screening(
    predictions: Predictions, screening: Screening, *, n_boot: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Sensitivity and specificity of a fitted threshold, with 95 % intervals by lesion."""
    known = labelled(predictions)
    flagged = screening_scores(known.probs, known.codes) >= screening.threshold
    return _estimated_rates(known, flagged, n_boot, seed)


def score_rule(
    predictions: Predictions, rule: Rule, *, n_boot: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Score the answers of a rule, with 95 % intervals by lesion.

    Returns:
        What `metrics.score` gives, without the AUROCs, which no rule changes; and
        `malignant_sensitivity` and `malignant_specificity` of answering mel, bcc or akiec.

    Raises:
        InputError: No case has a label, or the rule is for other classes.
    """
    if rule.codes != predictions.codes:
        raise InputError(
            f"the rule is for {', '.join(rule.codes)}, "
            f"the predictions for {', '.join(predictions.codes)}"
        )
    known = labelled(predictions)
    answers = rule.answers(known.probs)
    # Certain of its answers: `score` and `bootstrap` then count these.
    sure = replace(known, logits=np.eye(len(known.codes), dtype=np.float32)[answers])
    values, ends = score(sure).values, bootstrap(sure, n_boot=n_boot, seed=seed)
    flagged = dangerous(known.codes)[answers]
    found = _estimated_rates(known, flagged, n_boot, seed)
    return {
        **{name: (values[name], *ends[name]) for name in values if "auroc" not in name},
        **{f"malignant_{name}": estimate for name, estimate in found.items()},
    }


def dangerous(codes: tuple[str, ...]) -> Bool[np.ndarray, " classes"]:
    """Which classes are malignant or pre-malignant."""
    return np.array([code in MALIGNANT for code in codes])


def dangerous_cases(predictions: Predictions) -> Bool[np.ndarray, " n"]:
    """Which cases are truly malignant or pre-malignant; all must have a label."""
    return np.asarray(dangerous(predictions.codes)[predictions.labels])


def _estimated_rates(
    known: Predictions, flagged: np.ndarray, n_boot: int, seed: int
) -> dict[str, Estimate]:
    positive = dangerous_cases(known)
    once, drawn = (
        rates(flagged, positive),
        rates(flagged, positive, _resampled(known, n_boot, seed)),
    )
    return {
        name: (float(value), *percentile_interval(values))
        for name, value, values in zip(("sensitivity", "specificity"), once, drawn, strict=True)
    }


def _resampled(known: Predictions, n_boot: int, seed: int) -> Float[np.ndarray, "n_boot n"]:
    counts, member = draw_groups(known.groups, n_boot=n_boot, seed=seed)
    return counts[:, member].astype(np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
