"""Which class is answered, given the probabilities? The operating point is a choice.

Every rule here is a cost matrix, and the answer is the class of least expected cost: `argmax` where
all errors cost the same, `balanced` where an error on a rare class costs more, `cost` where calling
a malignant or pre-malignant lesion benign costs still more.

Fit on the validation part only. The probabilities should be calibrated; what oversampling shifts
them by is taken up by the strength that is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from dermx.errors import InputError
from dermx.evaluate.ensemble import balanced_log_loss
from dermx.evaluate.intervals import Estimate, bootstrap, estimate_json
from dermx.evaluate.metrics import labelled, score
from dermx.evaluate.screening import (
    Screening,
    dangerous,
    estimated_rates,
    fit_screening,
    fit_threshold,
    score_screening,
)
from dermx.records import Predictions

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Decide = Literal["argmax", "balanced", "cost"]
HEADLINE: Final = (
    "balanced_accuracy_dermoscopic",
    "balanced_accuracy",
    "accuracy",
    "macro_f1",
    "malignant_sensitivity",
    "malignant_specificity",
)
STRENGTHS: Final = tuple(i / 20 for i in range(31))  # 0 is argmax, 1 the whole prior, up to 1.5


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


@dataclass(frozen=True, kw_only=True, eq=False)
class OperatingPoint:
    """A rule and a screening threshold, where they were fitted, and how they do."""

    rule: Rule
    screening: Screening
    fitted_on: int  # validation cases
    cases: int  # scored
    scores: Mapping[str, Estimate]  # of the rule's answers, by the names of `score_rule`
    screened: Mapping[str, Estimate]  # sensitivity and specificity of the threshold

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an undefined number is None."""
        rule, screening = self.rule, self.screening
        return {
            "decide": rule.decide,
            "strength": rule.strength,
            "miss": rule.miss,
            "codes": list(rule.codes),
            "cost": rule.cost.tolist(),
            "fitted_on": self.fitted_on,
            "cases": self.cases,
            "scores": _json(self.scores),
            "screening": {
                "wanted_sensitivity": screening.wanted,
                "threshold": estimate_json(screening.threshold_interval),
                **_json(self.screened),
            },
        }

    def to_text(self) -> str:
        """Return a heading and a line per figure, each with its interval."""
        rule, screening = self.rule, self.screening
        lines = [
            f"decision rule {rule.decide} (strength {rule.strength:.2f}, miss {rule.miss:.2f}), "
            f"fitted on {self.fitted_on} validation cases, on {self.cases} cases",
            *(_line(name, self.scores[name]) for name in HEADLINE),
            *(_line(name, self.scores[name]) for name in map("recall_{}".format, rule.codes)),
            f"screening for mel, bcc, akiec, wanted sensitivity {screening.wanted:g}",
            _line("threshold", screening.threshold_interval),
            *(_line(name, estimate) for name, estimate in self.screened.items()),
            "[low, high] is the 95 % bootstrap interval, lesions drawn with replacement.",
        ]
        return "\n".join(lines)


def operating_point(
    fitting: Predictions,
    scored: Predictions,
    decide: Decide,
    *,
    sensitivity: float = 0.92,
    n_boot: int = 2000,
) -> OperatingPoint:
    """Fit a rule and a screening threshold on one part and score them on another.

    Raises:
        InputError: As `fit_rule`, `fit_screening` and `score_rule`.
    """
    rule = fit_rule(fitting, decide, sensitivity=sensitivity)
    screening = fit_screening(fitting, sensitivity, n_boot=n_boot)
    return OperatingPoint(
        rule=rule,
        screening=screening,
        fitted_on=int((fitting.labels >= 0).sum()),
        cases=int((scored.labels >= 0).sum()),
        scores=score_rule(scored, rule, n_boot=n_boot),
        screened=score_screening(scored, screening, n_boot=n_boot),
    )


def fit_rule(predictions: Predictions, decide: Decide, *, sensitivity: float = 0.92) -> Rule:
    """Fit a decision rule on validation predictions.

    Args:
        predictions: Of cases that neither trained the model nor will score it.
        decide: "argmax" fits nothing; "balanced" the strength of the correction for class shares;
            "cost" also the factor on misses.
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


def even_weights(
    probs: Float[np.ndarray, "n classes"], codes: tuple[str, ...], melanomas: float = 0.0
) -> Float[np.ndarray, " classes"]:
    """Weights with which the answers serve accuracy and balanced accuracy alike.

    A right answer is worth 1/n to accuracy, and 1/(classes * cases of its class) to balanced
    accuracy; the weight is the mean of both. Melanoma's is then raised until enough of them are
    found. Cases count by their probabilities, not by their labels: of a rare class that is much
    steadier.

    Args:
        probs: Calibrated on other cases than these.
        codes: Names of the classes.
        melanomas: Share expected to be found, at least; from 0 to 1.

    Returns:
        To multiply probabilities with, of mean 1 over the cases; a class that is never expected
        counts for accuracy only.

    >>> even_weights(np.tile([0.75, 0.25], (4, 1)), ("nv", "bkl")).round(3)
    array([0.833, 1.5  ])
    """
    expected = probs.sum(axis=0)
    there = expected > 0
    weights = np.full(len(codes), 0.5)
    weights[there] += len(probs) / (2 * there.sum() * expected[there])
    melanoma = codes.index("mel") if "mel" in codes else -1
    if melanomas > 0 and melanoma >= 0 and there[melanoma]:
        weighted = probs * weights
        rival = np.delete(weighted, melanoma, axis=1).max(axis=1)
        turns_at = rival / np.maximum(weighted[:, melanoma], np.finfo(float).tiny)
        order = turns_at.argsort()
        found = probs[order, melanoma].cumsum() / expected[melanoma]
        last = min(int(np.searchsorted(found, melanomas)), len(probs) - 1)
        weights[melanoma] *= max(1.0, float(turns_at[order[last]]) * (1 + 1e-9))
    return np.asarray(weights * len(probs) / (weights @ expected))


def fit_strength(probs: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> float:
    """Strength of `prior_weights` with the least class-balanced log loss; the smallest of equals.

    One number is fitted, not one per class, for the rarest class has about ten validation cases;
    and by log loss, because balanced accuracy jumps when one of those turns, and its best strength
    with it.
    """
    classes = probs.shape[1]
    shares = np.bincount(labels, minlength=classes) / len(labels)
    logs = np.log(np.maximum(probs, np.finfo(np.float64).tiny))

    def loss(strength: float) -> float:
        return balanced_log_loss(labels, logs + np.log(prior_weights(shares, strength)))

    return min(STRENGTHS, key=loss)


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
    found = estimated_rates(known, flagged, n_boot, seed)
    return {
        **{name: (values[name], *ends[name]) for name in values if "auroc" not in name},
        **{f"malignant_{name}": estimate for name, estimate in found.items()},
    }


def _json(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {name: estimate_json(estimate) for name, estimate in estimates.items()}


def _line(name: str, estimate: Estimate) -> str:
    value, low, high = estimate
    figures = "n/a" if np.isnan(value) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
    return f"  {name:<32}{figures}"
