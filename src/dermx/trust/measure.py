"""Do the trust parts keep what they promise, on cases that neither trained nor fitted anything?

Every figure has a 95 % interval that resamples lesions. That of a calibration error lies high:
resampled cases are noisier than the cases themselves, and noise only adds to such an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from dermx.diagnoses import DERMOSCOPIC
from dermx.errors import InputError
from dermx.evaluate.intervals import case_weights, estimate_json, percentile_interval
from dermx.evaluate.metrics import labelled
from dermx.evaluate.screening import estimated_rates
from dermx.records import Predictions
from dermx.trust.calibration import (
    brier_score,
    calibration_error_by_chance,
    classwise_calibration_error,
    expected_calibration_error,
    log_loss,
    smooth_calibration_error,
)
from dermx.trust.conformal import coverage_of
from dermx.trust.referral import accuracy_at, augrc, aurc, worth

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

N_BOOT: Final = 1000
ANSWERED: Final = 0.8  # share of cases at which accuracy is told
Weights: TypeAlias = "Float[np.ndarray, ' n'] | None"
Figure = dict[str, float | None]


def estimate(value: float, drawn: np.ndarray) -> Figure:
    """Return a figure with its interval; what is undefined is None."""
    return estimate_json((value, *percentile_interval(drawn)))


def calibration_figures(
    probs: Float[np.ndarray, "n classes"], known: Predictions, *, n_boot: int = N_BOOT
) -> dict[str, Figure]:
    """Calibration errors of the cases given, all of which have labels.

    Args:
        probs: Their calibrated probabilities.
        known: The cases; select the dermoscopic ones before for figures of those.
        n_boot: Resamples of lesions.

    Returns:
        `ece` (15 bins of equal width), `ece_by_chance` (what it is where confidence is right, with
        95 % of the draws), `ece_equal_mass`, `classwise_ece` (mean over the classes that have
        cases), `smooth_ece`, `brier`, `log_loss`.
    """
    present = np.unique(known.labels)

    def classwise(p: np.ndarray, y: np.ndarray, *, weights: Weights = None) -> float:
        return float(classwise_calibration_error(p, y, weights=weights)[present].mean())

    def equal_mass(p: np.ndarray, y: np.ndarray, *, weights: Weights = None) -> float:
        return expected_calibration_error(p, y, equal_mass=True, weights=weights)

    figures: Mapping[str, Callable[..., float]] = {
        "ece": expected_calibration_error,
        "ece_equal_mass": equal_mass,
        "classwise_ece": classwise,
        "smooth_ece": smooth_calibration_error,
        "brier": brier_score,
        "log_loss": log_loss,
    }
    drawn = case_weights(known.groups, n_boot=n_boot)
    labels = known.labels
    told = {
        name: estimate(
            of(probs, labels), np.array([of(probs, labels, weights=row) for row in drawn])
        )
        for name, of in figures.items()
    }
    chance = calibration_error_by_chance(probs, n_draws=n_boot)
    return {**told, "ece_by_chance": estimate(float(chance.mean()), chance)}


def dermoscopic(predictions: Predictions) -> Predictions:
    """Return the labelled cases of the dermoscopic classes.

    Raises:
        InputError: There is none.
    """
    known = labelled(predictions)
    kept = np.isin(known.labels, [known.codes.index(c) for c in known.codes if c in DERMOSCOPIC])
    if not kept.any():
        raise InputError(f"none of {len(kept)} cases is of a dermoscopic class")
    return known.select(kept)


def set_figures(
    inside: Bool[np.ndarray, "n classes"], known: Predictions, *, n_boot: int = N_BOOT
) -> dict[str, Any]:
    """Coverage of prediction sets, in all and per class with the number of cases."""
    labels, drawn = known.labels, case_weights(known.groups, n_boot=n_boot)
    found = coverage_of(inside, labels)
    held = inside[np.arange(len(labels)), labels]
    rows = {}
    for k, code in enumerate(known.codes):
        of = (labels == k).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            again = (drawn @ (held * of)) / (drawn @ of)
        rows[code] = {
            "cases": int(found.cases[k]),
            "coverage": estimate(float(found.of_class[k]), again),
            "size": None if np.isnan(found.size_of_class[k]) else float(found.size_of_class[k]),
        }
    total = (drawn @ held) / drawn.sum(axis=1)
    return {"coverage": estimate(found.share, total), "size": found.size, "of_class": rows}


def doubt_figures(
    doubts: Mapping[str, Float[np.ndarray, " n"]],
    wrong: Bool[np.ndarray, " n"],
    known: Predictions,
    *,
    n_boot: int = N_BOOT,
) -> dict[str, dict[str, Any]]:
    """How well each doubt ranks errors: AURC, AUGRC and its gain, accuracy at 80 % answered."""
    drawn = case_weights(known.groups, n_boot=n_boot)
    base, rows = doubts["confidence"], {}
    for name, doubt in doubts.items():
        gain = worth(doubt, base, wrong, drawn)
        again = [_repeated(accuracy_at, doubt, wrong, row, ANSWERED) for row in drawn]
        full = [_repeated(accuracy_at, doubt, wrong, row, 1.0) for row in drawn]
        at_most = accuracy_at(doubt, wrong, ANSWERED)
        rows[name] = {
            "aurc": aurc(doubt, wrong),
            "augrc": augrc(doubt, wrong),
            "augrc_gain": estimate_json(gain),
            "accuracy_at_80": estimate(at_most, np.array(again)),
            "gain_at_80": estimate(
                at_most - float(1 - wrong.mean()), np.array(again) - np.array(full)
            ),
        }
    return rows


def answered_figures(
    abstain: Bool[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"],
    known: Predictions,
    *,
    n_boot: int = N_BOOT,
) -> dict[str, Figure]:
    """Share of cases that the rule answers, and accuracy there and over all."""
    drawn = case_weights(known.groups, n_boot=n_boot)
    right, answered = ~wrong, ~abstain
    with np.errstate(invalid="ignore", divide="ignore"):
        again = {
            "answered": (drawn @ answered) / drawn.sum(axis=1),
            "accuracy_answered": (drawn @ (right & answered)) / (drawn @ answered),
            "accuracy": (drawn @ right) / drawn.sum(axis=1),
        }
        values = {
            "answered": answered.mean(),
            "accuracy_answered": right[answered].mean() if answered.any() else np.nan,
            "accuracy": right.mean(),
        }
    return {name: estimate(float(value), again[name]) for name, value in values.items()}


def referral_figures(
    refer: Bool[np.ndarray, " n"], known: Predictions, *, n_boot: int = N_BOOT
) -> dict[str, Figure]:
    """Sensitivity and specificity of the referral for mel, bcc and akiec."""
    found = estimated_rates(known, refer, n_boot)
    return {name: estimate_json(one) for name, one in found.items()}


def rejected_by_class(
    is_ood: Bool[np.ndarray, " n"], labels: Int[np.ndarray, " n"], codes: tuple[str, ...]
) -> dict[str, float | None]:
    """Share of each class's cases that the gate turns away; None for a class without cases."""
    shares = {code: is_ood[labels == k] for k, code in enumerate(codes)}
    return {code: float(part.mean()) if len(part) else None for code, part in shares.items()}


def _repeated(
    of: Callable[[np.ndarray, np.ndarray, float], float],
    doubt: np.ndarray,
    wrong: np.ndarray,
    row: np.ndarray,
    coverage: float,
) -> float:
    times = row.astype(int)
    return of(np.repeat(doubt, times), np.repeat(wrong, times), coverage)
