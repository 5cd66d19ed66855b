"""How good are the answers? Every number from a confusion matrix or from ranked scores.

Arrays in, numbers out. The functions on confusion matrices take any leading axes, so the same
formula scores one model and 2,000 bootstrap resamples of it (`intervals.py`).

A class without cases has no recall, F1 or AUROC: they are NaN and left out of averages, as
scikit-learn does for balanced accuracy (its F1 and AUROC averages would count 0 or fail).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from dermx.diagnoses import DERMOSCOPIC, MALIGNANT
from dermx.errors import InputError
from dermx.records import Predictions

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Num

Matrix: TypeAlias = "Num[np.ndarray, '*resamples true answered']"
PerClass: TypeAlias = "Float[np.ndarray, '*resamples classes']"
PerResample: TypeAlias = "Float[np.ndarray, '*resamples']"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What `score` found; fractions in [0, 1], not percentages, NaN where undefined."""

    codes: tuple[str, ...]
    cases: int  # with a known truth; only these are scored
    unlabelled: int  # left out
    groups: int  # lesions or patients
    confusion: Int[np.ndarray, "true answered"]
    values: dict[str, float]  # by the names in `named`, e.g. "accuracy", "recall_mel"

    @property
    def absent(self) -> tuple[str, ...]:
        """Codes of the classes without a case: in no average."""
        counts = self.confusion.sum(axis=1)
        return tuple(code for code, count in zip(self.codes, counts, strict=True) if count == 0)

    def __getitem__(self, name: str) -> float:
        return self.values[name]


def score(predictions: Predictions) -> Scores:
    """Score one model's answers: the most probable of all classes is the answer.

    Returns:
        All numbers of `named`: `accuracy`, `accuracy_dermoscopic`, `balanced_accuracy` (all
        classes), `balanced_accuracy_dermoscopic` (the headline), `macro_f1`, `weighted_f1`,
        `macro_auroc`, `malignant_auroc`, and per class `precision_`, `recall_`, `f1_`, `auroc_`.

    Raises:
        InputError: No case has a label, or a label is none of the classes.
    """
    known = labelled(predictions)
    codes, probs = known.codes, known.probs
    confusion = confusion_matrix(known.labels, probs.argmax(axis=1), len(codes))
    ranked = aurocs(probs, known.labels, codes)
    return Scores(
        codes=codes,
        cases=len(known.labels),
        unlabelled=len(predictions.labels) - len(known.labels),
        groups=len(set(known.groups)),
        confusion=confusion,
        values={name: float(value) for name, value in named(confusion, ranked, codes).items()},
    )


def labelled(predictions: Predictions) -> Predictions:
    """Return the cases whose truth is known.

    Raises:
        InputError: There is none, or a label is none of the classes.
    """
    labels = predictions.labels
    if wrong := sorted({int(v) for v in labels if not -1 <= v < len(predictions.codes)}):
        raise InputError(
            f"labels must be -1 (not known) or 0 to {len(predictions.codes) - 1}, got {wrong[:3]}"
        )
    if not (labels >= 0).any():
        raise InputError(f"none of {len(labels)} cases has a known diagnosis: nothing to score")
    if not np.isfinite(predictions.logits).all():
        bad = predictions.images[int(np.argmin(np.isfinite(predictions.logits).all(axis=1)))]
        raise InputError(f"logits hold NaN or infinity, first for {bad}; the model diverged")
    return predictions.select(labels >= 0)


def named(
    confusion: Matrix, ranked: dict[str, PerResample], codes: tuple[str, ...]
) -> dict[str, PerResample]:
    """Every number by its name, for one confusion matrix or for a stack of them.

    Args:
        confusion: Counts, rows the truth; any leading axes.
        ranked: What `aurocs` returned for the same cases or resamples.
        codes: Of the classes, in the matrix's order.
    """
    dermoscopic = [i for i, code in enumerate(codes) if code in DERMOSCOPIC]
    found, right, f = recall(confusion), precision(confusion), f1(confusion)
    support = confusion.sum(axis=-1)
    values = {
        "balanced_accuracy_dermoscopic": mean_defined(found[..., dermoscopic]),
        "balanced_accuracy": mean_defined(found),
        "accuracy": accuracy(confusion),
        "accuracy_dermoscopic": _ratio(
            np.diagonal(confusion, axis1=-2, axis2=-1)[..., dermoscopic].sum(axis=-1),
            support[..., dermoscopic].sum(axis=-1),
        ),
        "macro_f1": mean_defined(f),
        "weighted_f1": np.nansum(f * support, axis=-1) / support.sum(axis=-1),
        **ranked,
    }
    for i, code in enumerate(codes):
        values |= {f"precision_{code}": right[..., i], f"recall_{code}": found[..., i]}
        values |= {f"f1_{code}": f[..., i]}
    return values


def confusion_matrix(
    labels: Int[np.ndarray, " n"], answers: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Count cases by truth (row) and answer (column).

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    cells = np.bincount(labels * classes + answers, minlength=classes * classes)
    return cells.reshape(classes, classes)


def accuracy(confusion: Matrix) -> PerResample:
    """Share of all cases that are right."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def recall(confusion: Matrix) -> PerClass:
    """Share of each class's cases that are answered so; NaN for a class without cases."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1))


def precision(confusion: Matrix) -> PerClass:
    """Share of each class's answers that are right; NaN for a class that is never answered."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-2))


def f1(confusion: Matrix) -> PerClass:
    """Harmonic mean of precision and recall; 0 if never right, NaN for a class without cases."""
    support, answered = confusion.sum(axis=-1), confusion.sum(axis=-2)
    both = np.where(support > 0, support + answered, 0)
    return _ratio(2 * np.diagonal(confusion, axis1=-2, axis2=-1), both)


def balanced_accuracy(confusion: Matrix) -> PerResample:
    """Mean recall over the classes that have cases."""
    return mean_defined(recall(confusion))


def aurocs(
    probs: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    codes: tuple[str, ...],
    weights: Float[np.ndarray, "resamples n"] | None = None,
) -> dict[str, PerResample]:
    """One-vs-rest AUROC per class, their mean, and that of malignancy.

    Args:
        probs: Class probabilities.
        labels: True class indices.
        codes: Of the classes, in the columns' order.
        weights: How often each case counts, one row per resample; once when None.

    Returns:
        `auroc_<code>`, `macro_auroc` over the classes that have one, and `malignant_auroc`: the
        summed probability of mel, bcc and akiec against the truth being one of them.
    """
    one = {
        f"auroc_{code}": auroc(probs[:, i], labels == i, weights) for i, code in enumerate(codes)
    }
    dangerous = [i for i, code in enumerate(codes) if code in MALIGNANT]
    malignant = auroc(probs[:, dangerous].sum(axis=1), np.isin(labels, dangerous), weights)
    macro = mean_defined(np.stack(list(one.values()), axis=-1))
    return {"macro_auroc": macro, "malignant_auroc": malignant, **one}


def auroc(
    scores: Float[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    weights: Float[np.ndarray, "resamples n"] | None = None,
) -> PerResample:
    """Chance that a positive case scores above a negative one; a tie counts half.

    Args:
        scores: Higher means more likely positive.
        positive: The truth.
        weights: How often each case counts, one row per resample; once when None.

    Returns:
        A fraction in [0, 1], one per row of weights; NaN without a positive or a negative case.

    Source: Mann-Whitney U over the number of pairs (Hanley and McNeil, Radiology 143:29, 1982).

    >>> float(auroc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False])))
    0.875
    """
    rows = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(scores[~positive])
    ranked = scores[~positive][order]
    below = np.searchsorted(ranked, scores[positive], side="left")
    not_above = np.searchsorted(ranked, scores[positive], side="right")
    wins = np.zeros((len(rows), len(ranked) + 1))  # total weight of the i lowest negatives
    np.cumsum(rows[:, ~positive][:, order], axis=1, out=wins[:, 1:])
    of_positive = rows[:, positive]
    won = ((wins[:, below] + wins[:, not_above]) * of_positive).sum(axis=1) / 2
    value = _ratio(won, of_positive.sum(axis=1) * wins[:, -1])
    return value.reshape(()) if weights is None else value


def mean_defined(values: PerClass) -> PerResample:
    """Mean over the last axis without its NaN entries; NaN where all are."""
    there = ~np.isnan(values)
    return _ratio(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    whole = np.asarray(whole, np.float64)
    part = np.asarray(part, np.float64)
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
