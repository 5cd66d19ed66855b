"""How well does a score hold strangers off, and what does that cost each class?

Scores in, shares out; higher is stranger. Near strangers (clinical photographs of other diseases)
and far ones (everyday photographs, drawings) are never pooled: the far ones are easy and would
hide the near ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from dermx.errors import InputError
from dermx.evaluate.metrics import auroc

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

NEAR: Final = "clinical"
SLACK: Final = 1e-9  # of a count of cases


def threshold_at(known: Float[np.ndarray, " n"], acceptance: float) -> float:
    """Return the lowest score that lets in at least this share of the known cases.

    Raises:
        InputError: There is no case, or the share is not in (0, 1].

    >>> threshold_at(np.array([4.0, 1.0, 2.0, 3.0]), 0.75)
    3.0
    """
    if not 0 < acceptance <= 1:
        raise InputError(f"the share of known cases to let in must be in (0, 1], got {acceptance}")
    if not len(known):
        raise InputError("no known case to set a threshold with")
    return float(np.sort(known)[int(np.ceil(acceptance * len(known) - SLACK)) - 1])


def let_in_at(
    known: Float[np.ndarray, " n"], strange: Float[np.ndarray, " m"], acceptance: float = 0.95
) -> float:
    """Share of strangers let in where this share of the known is (FPR at 95 % by default)."""
    return float((strange <= threshold_at(known, acceptance)).mean())


def shares_by(rejected: Bool[np.ndarray, " n"], names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Count rejected and all cases by name (of a class, a disease), in order of appearance.

    >>> shares_by(np.array([True, False, True]), ["nv", "nv", "mel"])
    {'nv': (1, 2), 'mel': (1, 1)}
    """
    table = dict.fromkeys(names, (0, 0))
    for out, name in zip(rejected, names, strict=True):
        hit, count = table[name]
        table[name] = hit + bool(out), count + 1
    return table


def detector_row(
    known: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    strange: Float[np.ndarray, " m"],
    kinds: Sequence[str],
    *,
    codes: Sequence[str],
    threshold: float,
) -> dict[str, float | None]:
    """What one score does on one set of pictures, as a row of the comparison.

    Args:
        known: Scores of known cases.
        labels: Their classes.
        strange: Scores of strangers.
        kinds: Of each stranger.
        codes: Of the classes.
        threshold: Fitted on other cases; what lies above is rejected.

    Returns:
        For each kind `auroc_<kind>`, `fpr95_<kind>` (at 95 % of these known cases) and
        `let_in_<kind>` (at the threshold); for each class `rejected_<code>`, None without cases;
        `auroc_clinical_acne`: clinical strangers against acne alone, the pair that matters.
    """
    row: dict[str, float | None] = {}
    of_kind = np.array(kinds)
    for kind in dict.fromkeys(kinds):
        part = strange[of_kind == kind]
        row[f"auroc_{kind}"] = _apart(known, part)
        row[f"fpr95_{kind}"] = let_in_at(known, part)
        row[f"let_in_{kind}"] = float((part <= threshold).mean())
    near = strange[of_kind == NEAR]
    acne = known[labels == codes.index("acne")] if "acne" in codes else known[:0]
    if len(near) and len(acne):
        row["auroc_clinical_acne"] = _apart(acne, near)
    for index, code in enumerate(codes):
        inside = known[labels == index]
        row[f"rejected_{code}"] = float((inside > threshold).mean()) if len(inside) else None
    return row


def _apart(known: np.ndarray, strange: np.ndarray) -> float:
    is_strange = np.repeat([False, True], [len(known), len(strange)])
    return float(auroc(np.concatenate([known, strange]), is_strange))
