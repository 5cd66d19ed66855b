"""Where does confidence break? The trust figures again on changed pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dermx.errors import InputError
from dermx.evaluate.metrics import labelled
from dermx.evaluate.screening import dangerous_cases, rates
from dermx.preprocess.shift import Change, shifted
from dermx.records import Predictions
from dermx.trust.calibration import classwise_calibration_error, expected_calibration_error
from dermx.trust.conformal import coverage_of
from dermx.trust.referral import augrc
from dermx.trust.verdict import Trust, judge

if TYPE_CHECKING:
    from jaxtyping import Float32


class Shifted(NamedTuple):
    """Trust figures under one change; fractions, NaN where undefined."""

    change: str  # "none" for the pictures as they were taken
    severity: int  # 0 for "none"
    cases: int
    accuracy: float
    confidence: float  # mean, calibrated
    ece: float
    classwise_ece: float  # mean over classes
    coverage: float  # mean over classes, of the prediction sets
    set_size: float
    turned_away: float  # by the gate
    answered: float
    accuracy_answered: float
    augrc: float  # of calibrated confidence
    refer_sensitivity: float  # for mel, bcc, akiec
    refer_specificity: float


def shift_rows(
    trust: Trust,
    weight: Float32[np.ndarray, "classes c"],
    bias: Float32[np.ndarray, " classes"],
    predict: Callable[[Change], Predictions],
    changes: Sequence[str],
    severities: Sequence[int],
) -> Iterator[Shifted]:
    """Measure the pictures as they were taken, then under every change at every severity.

    Args:
        trust: Fitted for the model.
        weight: Of the model's linear layer.
        bias: Of the model's linear layer.
        predict: Answers the same cases, each picture changed first, with `trust.views` views.
        changes: Names from `dermx.preprocess.shift.SHIFTS`.
        severities: Of 1 to 5.

    Raises:
        InputError: There is no change or no severity.
    """
    if not changes or not severities:
        raise InputError(f"nothing to change, got {list(changes)} at {list(severities)}")
    yield shift_row("none", 0, trust, weight, bias, predict(_unchanged))
    for name in changes:
        for severity in severities:
            change = partial(shifted, name=name, severity=severity)
            yield shift_row(name, severity, trust, weight, bias, predict(change))


def shift_row(
    change: str,
    severity: int,
    trust: Trust,
    weight: Float32[np.ndarray, "classes c"],
    bias: Float32[np.ndarray, " classes"],
    predictions: Predictions,
) -> Shifted:
    """Measure one set of predictions."""
    known = labelled(predictions)
    judged = judge(trust, known.features, weight, bias)
    right, labels = judged.answers == known.labels, known.labels
    answered = ~judged.abstain
    sets = coverage_of(judged.inside, labels)
    sensitivity, specificity = rates(judged.refer, dangerous_cases(known))
    return Shifted(
        change=change,
        severity=severity,
        cases=len(labels),
        accuracy=float(right.mean()),
        confidence=float(judged.confidence.mean()),
        ece=expected_calibration_error(judged.probs, labels),
        classwise_ece=float(classwise_calibration_error(judged.probs, labels).mean()),
        coverage=float(np.nanmean(sets.of_class)),
        set_size=sets.size,
        turned_away=float(judged.is_ood.mean()),
        answered=float(answered.mean()),
        accuracy_answered=float(right[answered].mean()) if answered.any() else float("nan"),
        augrc=augrc(1 - judged.confidence, ~right),
        refer_sensitivity=float(sensitivity),
        refer_specificity=float(specificity),
    )


def shift_csv(rows: Sequence[Shifted]) -> str:
    """Return a table with a header, figures to four decimals, an empty cell where there is none."""
    lines = [",".join(Shifted._fields)]
    for row in rows:
        figures = ("" if np.isnan(figure) else f"{figure:.4f}" for figure in row[3:])
        lines.append(",".join([row.change, str(row.severity), str(row.cases), *figures]))
    return "\n".join(lines) + "\n"


def _unchanged(picture: np.ndarray) -> np.ndarray:
    return picture
