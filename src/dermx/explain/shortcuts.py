"""What does the model lean on besides the lesion? The same cases, changed, answered again.

If accuracy stays when the lesion is painted out, the answer came from elsewhere; if it falls when a
ruler or hair is drawn in, that is leant on. A figure for a painted picture is to be compared with
what guessing gives (one in the number of classes for balanced accuracy), not with zero.

Limits: changed pictures are unlike those that the model was trained on, so a fall may be surprise
rather than reliance; what stays is the stronger evidence. How acne is told apart is asked with its
own questions, since its pictures are of another kind altogether.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from dermx.diagnoses import DERMOSCOPIC
from dermx.errors import InputError
from dermx.evaluate.intervals import Estimate, draw_groups, mean_interval, percentile_interval
from dermx.evaluate.metrics import confusion_matrix, labelled, named
from dermx.model.runtime import Session
from dermx.records import Predictions

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"

FIGURES: Final = ("accuracy", "balanced_accuracy_dermoscopic", "recall_mel")
AS_TAKEN: Final = "as taken"


class Shortcut(NamedTuple):
    """How the answers fare under one change."""

    change: str
    cases: int
    lesions: int
    classes: int  # dermoscopic ones that the cases have; guessing finds one in so many of each
    figures: dict[str, Estimate]  # by the names in `FIGURES`
    drops: dict[str, Estimate]  # as taken less changed, the same resamples of lesions for both
    other_answers: Estimate  # share of cases answered otherwise than as taken
    called_mel: Estimate  # share of the cases that are no melanoma answered melanoma


class Called(NamedTuple):
    """How often one kind of picture gets one answer."""

    kind: str
    pictures: int
    patients: int
    share: Estimate


def answers(
    session: Session,
    variants: Iterable[tuple[Pixels, ...]],
    *,
    batch_size: int = 16,
) -> Float[np.ndarray, "variants n c"]:
    """Features of several variants of each case, every variant of the model's input size.

    Args:
        session: The model.
        variants: Per case, all its variants in one order.
        batch_size: Cases per step; it changes memory, not the result.

    Raises:
        InputError: There is no case, or cases differ in their number of variants.
    """
    parts: list[np.ndarray] = []
    batch: list[tuple[Pixels, ...]] = []

    def run() -> None:
        if len({len(case) for case in batch}) != 1:
            raise InputError("every case needs the same variants")
        features = session.features(np.stack([pixels for case in batch for pixels in case]))
        parts.append(features.reshape(len(batch), len(batch[0]), -1))
        batch.clear()

    for case in variants:
        batch.append(case)
        if len(batch) == batch_size:
            run()
    if batch:
        run()
    if not parts:
        raise InputError("no case to answer")
    return np.moveaxis(np.concatenate(parts), 1, 0)


def compare(
    change: str, as_taken: Predictions, changed: Predictions, *, n_boot: int = 2000, seed: int = 0
) -> Shortcut:
    """Score changed pictures beside the same pictures as they were taken.

    Args:
        change: Its name.
        as_taken: Answers for the pictures as they are.
        changed: Answers for the same cases in the same order.
        n_boot: Resamples of whole lesions.
        seed: Of the resamples.

    Raises:
        InputError: The two are not of the same cases.
    """
    if list(as_taken.images) != list(changed.images):
        raise InputError(f"{change}: the changed cases are not those as taken, in the same order")
    before, after = labelled(as_taken), labelled(changed)
    once, drawn = _figures(after, n_boot, seed), _figures(before, n_boot, seed)
    melanoma = after.codes.index("mel")
    answered = after.logits.argmax(axis=1)
    other = (answered != before.logits.argmax(axis=1)).astype(float)
    called = np.where(after.labels == melanoma, np.nan, answered == melanoma)
    return Shortcut(
        change=change,
        cases=len(after.labels),
        lesions=len(set(after.groups)),
        classes=len({after.codes[i] for i in after.labels} & set(DERMOSCOPIC)),
        figures={name: (value, *percentile_interval(of)) for name, (value, of) in once.items()},
        drops={
            name: (drawn[name][0] - value, *percentile_interval(drawn[name][1] - of))
            for name, (value, of) in once.items()
        },
        other_answers=mean_interval(other, after.groups, n_boot=n_boot, seed=seed),
        called_mel=mean_interval(called, after.groups, n_boot=n_boot, seed=seed),
    )


def called(
    kind: str,
    hits: Bool[np.ndarray, " n"],
    patients: Sequence[str],
    *,
    n_boot: int = 2000,
    seed: int = 0,
) -> Called:
    """Share of pictures that got an answer, with an interval by patient.

    Where all or none did, resampling knows no spread: the open end is then that of the exact
    binomial interval over the patients.

    >>> called("faces", np.array([True] * 5), list("abcde")).share[2]
    1.0
    """
    value, low, high = mean_interval(hits.astype(float), patients, n_boot=n_boot, seed=seed)
    n = len(set(patients))
    beyond = 0.025 ** (1 / n)  # all n of n: the share at which that is 2.5 % likely
    if value == 1:
        low = beyond
    elif value == 0:
        high = 1 - beyond
    return Called(kind, len(hits), n, (value, low, high))


def _figures(
    known: Predictions, n_boot: int, seed: int
) -> dict[str, tuple[float, Float[np.ndarray, " n_boot"]]]:
    """Each figure once, and for every resample of lesions."""
    labels, n = np.asarray(known.labels), len(known.codes)
    answered = known.logits.argmax(axis=1)
    counts, member = draw_groups(known.groups, n_boot=n_boot, seed=seed)
    cells = np.zeros((counts.shape[1], n, n))
    np.add.at(cells, (member, labels, answered), 1)
    drawn = named(np.tensordot(counts.astype(np.float64), cells, axes=1), {}, known.codes)
    once = named(confusion_matrix(labels, answered, n), {}, known.codes)
    return {name: (float(once[name]), drawn[name]) for name in FIGURES}
