"""What is fitted so that answers can be believed, on which cases, and by which choice?

Everything is fitted on cases that did not train the model, and every choice is made there: the
calibration by log loss on lesions left out in turn, how sure it is by how often it is right on
these; a doubt beside calibrated confidence is used only if it ranks errors better than that. The
test part has no say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dermx.errors import InputError
from dermx.evaluate.intervals import case_weights
from dermx.evaluate.metrics import labelled
from dermx.evaluate.screening import fit_screening
from dermx.records import Predictions
from dermx.trust.calibration import (
    METHODS,
    Calibration,
    Method,
    consistent_temperature,
    fit_calibration,
    log_loss,
)
from dermx.trust.conformal import Score, fit_sets
from dermx.trust.gate import Gate
from dermx.trust.referral import Rule, fit_confidence, worth
from dermx.trust.uncertainty import mutual_information, predictive_entropy
from dermx.trust.verdict import Dropout, Judged, Screening, Trust, judge

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int

FOLDS: Final = 5
REPEATS: Final = 4  # of the folds, dealt anew
CLOSER: Final = 4  # rounds towards the temperature of "classwise"
RESAMPLES: Final = 300


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a user asks of the trust parts."""

    method: Method | None = None  # None: the one with the least log loss on lesions left out
    score: Score = "lac"
    coverage: float = 0.9  # of the prediction sets, in every class
    margin: float = 1.0  # standard errors of the calibration lesions, on top of `coverage`
    answered: float = 0.8  # share of known cases to answer, about; see `_fit_rule`
    sensitivity: float = 0.92  # for mel, bcc and akiec, of the referral
    n_boot: int = RESAMPLES

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise InputError(f"coverage must be between 0 and 1, got {self.coverage:g}")
        for name in ("answered", "sensitivity"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} must be in (0, 1], got {getattr(self, name):g}")


def fit_trust(
    known: Predictions,
    own: Predictions,
    weight: Float32[np.ndarray, "classes c"],
    bias: Float32[np.ndarray, " classes"],
    *,
    gate: Gate | None,
    views: int,
    dropout: float,
    wanted: Wanted | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Trust:
    """Fit all trust parts of one model but the gate.

    Args:
        known: Logits and labels to fit calibration, sets and thresholds on: the validation part, or
            out-of-fold predictions of models of the same kind.
        own: This model's predictions for its validation part, whose features are its own.
        weight: Of the model's linear layer.
        bias: Of the model's linear layer.
        gate: Fitted already, or None.
        views: 1 or 8; as `known` and `own` were made.
        dropout: Rate before the linear layer in training.
        wanted: What to aim for; defaults when None.
        facts: Added to what is said about the fit.

    Raises:
        InputError: No case has a label, a class has too few for what is wanted, or the wanted
            calibration can't be fitted.
    """
    wanted = Wanted() if wanted is None else wanted
    known, own = labelled(known), labelled(own)
    losses, refused = left_out_losses(known)
    best = min(losses, key=lambda name: losses[name])
    method = wanted.method or best
    calibration = fit_consistent(known, method)
    sure = calibrated(known, calibration)
    screening = fit_screening(sure, wanted.sensitivity, n_boot=1)
    trust = Trust(
        codes=known.codes,
        views=views,
        calibration=calibration,
        gate=gate,
        dropout=Dropout(rate=dropout),
        sets=fit_sets(
            calibration.probs(known.logits),
            known.labels,
            coverage=wanted.coverage,
            score=wanted.score,
            margin=wanted.margin,
            groups=known.groups,
            codes=known.codes,
        ),
        rule=Rule(min_confidence=0.0),
        screening=Screening(threshold=screening.threshold, sensitivity=wanted.sensitivity),
        facts={},
    )
    rule, gains = _fit_rule(trust, known, own, weight, bias, wanted)
    counts = _counts(known)
    said = {
        "cases": len(known.labels),
        "groups": len(set(known.groups)),
        "cases_of_class": counts,
        "log_loss_left_out": losses,
        "calibration_not_fitted": refused,
        "classes_without_threshold": [code for code, count in counts.items() if count == 0],
        "augrc_gain_over_confidence": gains,
        **(facts or {}),
    }
    return replace(trust, rule=rule, facts=said)


def left_out_losses(known: Predictions) -> tuple[dict[Method, float], dict[Method, str]]:
    """Log loss of every kind of calibration on lesions that did not fit it.

    Returns:
        The loss of each kind that can be fitted, and why each other one can't: with few cases of
        a class, say, its scale may come out negative where every class has one of its own.

    Raises:
        InputError: Not even "none" can be judged: the cases don't fit together, or are too few.
    """
    labels = np.tile(known.labels, REPEATS)
    losses: dict[Method, float] = {}
    refused: dict[Method, str] = {}
    for method in METHODS:
        try:
            fit_calibration(known.logits, known.labels, method)  # as it would be used
            losses[method] = log_loss(left_out(known, method), labels)
        except InputError as error:
            if method == "none":
                raise
            refused[method] = str(error)
    return losses, refused


def left_out(
    known: Predictions, method: Method, temperature: float = 1.0
) -> Float[np.ndarray, "repeats*n classes"]:
    """Calibrated probabilities of every case by a fit without its lesion, `REPEATS` times.

    Args:
        known: Labelled cases.
        method: One of `METHODS`.
        temperature: On top of every fit.
    """
    probs = np.empty((REPEATS, *known.logits.shape))
    for seed, found in enumerate(probs):
        fold = deal_groups(known.groups, FOLDS, seed)
        for part in range(FOLDS):
            inside = fold != part
            fitted = fit_calibration(known.logits[inside], known.labels[inside], method)
            found[~inside] = fitted.tempered(temperature).probs(known.logits[~inside])
    return probs.reshape(-1, probs.shape[-1])


def fit_consistent(known: Predictions, method: Method) -> Calibration:
    """Fit a calibration, then make its mean confidence that of right answers on lesions left out.

    A fit is surer of the cases it was made on than it may be of new ones, the more so the more
    parameters it has; "none" stays what it is.

    Args:
        known: Labelled cases that did not train the model.
        method: One of `METHODS`.

    Raises:
        InputError: As `fit_calibration`; or there are too few lesions to leave some out.
    """
    fitted = fit_calibration(known.logits, known.labels, method)
    if method == "none":
        return fitted
    labels, temperature = np.tile(known.labels, REPEATS), 1.0
    # Once is exact but for "classwise", whose rows are scaled to sum 1 after the temperature.
    for _ in range(CLOSER if method == "classwise" else 1):
        temperature *= consistent_temperature(left_out(known, method, temperature), labels)
    return fitted.tempered(temperature)


def deal_groups(groups: Sequence[str], parts: int, seed: int = 0) -> Int[np.ndarray, " n"]:
    """Part of each case, whole groups together, in an order drawn by the seed.

    Raises:
        InputError: There are fewer groups than parts.
    """
    names, member = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    if len(names) < parts:
        raise InputError(f"{len(names)} lesions can't be dealt into {parts} parts; need more cases")
    return (np.random.default_rng(seed).permutation(len(names)) % parts)[member]


def calibrated(predictions: Predictions, calibration: Calibration) -> Predictions:
    """Return the same cases with logarithms of calibrated probabilities as logits."""
    probs = calibration.probs(predictions.logits)
    logits = np.log(np.maximum(probs, 1e-30)).astype(np.float32)
    return replace(predictions, logits=logits)


def doubts(
    trust: Trust, judged: Judged, views: Float[np.ndarray, "n v classes"] | None
) -> dict[str, Float[np.ndarray, " n"]]:
    """Every figure that could say which answers not to believe; higher is to be doubted more."""
    found = {
        "confidence": 1 - judged.confidence,
        "dropout entropy": judged.entropy,
        "dropout information": judged.information,
        "set size": judged.inside.sum(axis=1).astype(np.float64),
    }
    if views is not None:
        probs = trust.calibration.probs(views)
        found["views entropy"] = predictive_entropy(probs)
        found["views information"] = mutual_information(probs)
    if trust.gate is not None:
        found["gate score"] = judged.strangeness
    found["rule"] = found["confidence"] + rule_doubt(trust.rule, judged)
    return found


def rule_doubt(rule: Rule, judged: Judged) -> Float[np.ndarray, " n"]:
    """1 for what the rule turns away for another reason than confidence, else 0."""
    rest = replace(rule, min_confidence=0.0)
    away = rest.abstain(
        judged.confidence,
        is_ood=judged.is_ood | judged.unsure,
        set_size=judged.inside.sum(axis=1),
        information=judged.information,
    )
    return away.astype(np.float64)


def _fit_rule(
    trust: Trust,
    known: Predictions,
    own: Predictions,
    weight: np.ndarray,
    bias: np.ndarray,
    wanted: Wanted,
) -> tuple[Rule, dict[str, dict[str, float]]]:
    """Switch on what ranks errors better than confidence, then set the confidence threshold."""
    judged = judge(trust, own.features, weight, bias)
    wrong = judged.answers != own.labels
    drawn = case_weights(own.groups, n_boot=wanted.n_boot)
    candidates = doubts(trust, judged, own.views)
    gains = {
        name: dict(
            zip(
                ("gain", "low", "high"),
                worth(doubt, candidates["confidence"], wrong, drawn),
                strict=True,
            )
        )
        for name, doubt in candidates.items()
        if name not in ("confidence", "rule")
    }
    better = {name for name, row in gains.items() if row["low"] > 0}
    largest = int(np.quantile(candidates["set size"], 0.95)) if "set size" in better else None
    scatter = (
        float(np.quantile(judged.information, 0.95)) if "dropout information" in better else None
    )
    rule = Rule(min_confidence=0.0, max_set=largest, max_information=scatter)
    # What is turned away for other reasons is known for the model's own features only, and taken to
    # be as confident as the rest.
    away = rule_doubt(rule, judged).mean() if trust.gate is not None or better else 0.0
    logits = known.logits
    confidence = trust.calibration.probs(logits)[np.arange(len(logits)), logits.argmax(axis=1)]
    share = min(1.0, wanted.answered / max(1 - float(away), wanted.answered))
    threshold = fit_confidence(confidence, share)
    return replace(rule, min_confidence=threshold), gains


def _counts(known: Predictions) -> dict[str, int]:
    counts = np.bincount(known.labels, minlength=len(known.codes))
    return {code: int(count) for code, count in zip(known.codes, counts, strict=True)}
