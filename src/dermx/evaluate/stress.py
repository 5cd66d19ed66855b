"""How much of the accuracy survives another camera, light, distance and frame?

The same pictures, changed by name and severity (`dermx.preprocess.shift`), answered again. A model
is chosen by what it scores here as well as on the pictures as they were taken: most of what is lost
on another clinic's pictures is lost to such changes, and the validation part doesn't show it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from dermx.errors import InputError
from dermx.evaluate.metrics import score
from dermx.preprocess.shift import SEVERITIES, Change, shifted
from dermx.records import Predictions

STRESS: Final = ("colour_cast", "brightness", "blur", "zoom", "vignette", "crop")
AS_TAKEN: Final = "none"


class Stressed(NamedTuple):
    """Figures under one change; fractions in [0, 1], NaN where a class has no case."""

    change: str  # "none" for the pictures as they were taken, "mean" for the mean of all changes
    severity: int | None  # 0 for "none", None for "mean"
    cases: int
    balanced_accuracy_dermoscopic: float
    recall_mel: float
    malignant_auroc: float


def stress(
    as_taken: Predictions,
    predict: Callable[[Change], Predictions],
    *,
    changes: Sequence[str] = STRESS,
    severities: Sequence[int] = SEVERITIES,
) -> Iterator[Stressed]:
    """Score pictures as they were taken, then under every change at every severity.

    Args:
        as_taken: Predictions for the pictures as they are.
        predict: Answers the same cases, each picture changed first.
        changes: Names from `dermx.preprocess.shift.SHIFTS`.
        severities: Of 1 to 5.

    Yields:
        One row for the pictures as they are, one per change and severity, and their mean without
        the first.

    Raises:
        InputError: There is no change or no severity.
    """
    if not changes or not severities:
        raise InputError(f"nothing to change, got {list(changes)} at {list(severities)}")
    yield _row(AS_TAKEN, 0, as_taken)
    rows = []
    for name in changes:
        for severity in severities:
            change = partial(shifted, name=name, severity=severity)
            rows.append(_row(name, severity, predict(change)))
            yield rows[-1]
    figures = np.array([row[3:] for row in rows], float).mean(axis=0)
    yield Stressed("mean", None, rows[0].cases, *map(float, figures))


def stress_csv(rows: Sequence[Stressed]) -> str:
    """Return a table with a header, figures to four decimals, an empty cell where there is none."""
    lines = [",".join(Stressed._fields)]
    for row in rows:
        severity = "" if row.severity is None else str(row.severity)
        figures = ("" if np.isnan(figure) else f"{figure:.4f}" for figure in row[3:])
        lines.append(",".join([row.change, severity, str(row.cases), *figures]))
    return "\n".join(lines) + "\n"


def _row(name: str, severity: int, predictions: Predictions) -> Stressed:
    scores = score(predictions)
    return Stressed(
        change=name,
        severity=severity,
        cases=scores.cases,
        balanced_accuracy_dermoscopic=scores["balanced_accuracy_dermoscopic"],
        recall_mel=scores["recall_mel"],
        malignant_auroc=scores["malignant_auroc"],
    )
