"""Is the model as good for everyone? Figures by sex, age and site, each with n and an interval.

Groups differ in what they have: naevi are common in the young and easy, so plain accuracy is higher
there for that reason alone. So beside each accuracy stands the one to expect if every diagnosis of
the group were found as often as in the cases outside it (direct standardisation to the group's own
mix); the gap between the two is what the mix doesn't explain. Lesions of all cases are drawn for
its interval, so that the chance in the others counts as well. A diagnosis that no other case has
can't be compared and is left out of both sides of the gap.

Limits: skin colour is not recorded in HAM10000 and so not here; a group of few lesions has a wide
interval and proves nothing; many groups are looked at, so one in twenty intervals misses by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from dermx.errors import InputError
from dermx.evaluate.intervals import Estimate, draw_groups, mean_interval, percentile_interval
from dermx.evaluate.metrics import labelled
from dermx.records import Case, Predictions

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

AGES: Final = ((0, 30), (30, 45), (45, 60), (60, 75), (75, 121))  # years, the upper end excluded
UNKNOWN: Final = "not known"


class Subgroup(NamedTuple):
    """Figures of the cases that share one property; fractions in [0, 1], NaN without a case."""

    attribute: str  # "sex", "age" or "site"
    value: str  # e.g. "female", "45 to 59", "back"
    cases: int
    lesions: int
    melanomas: int
    accuracy: Estimate
    expected: float  # accuracy, if each diagnosis were found as often as in all other cases
    gap: Estimate  # accuracy less what is expected, over the diagnoses that other cases have
    recall_mel: Estimate


def by_subgroup(
    predictions: Predictions, cases: Sequence[Case], *, n_boot: int = 2000, seed: int = 0
) -> list[Subgroup]:
    """Score the groups that sex, age band and site make; the most probable class is the answer.

    Args:
        predictions: Of dermoscopic cases; those without a label are left out.
        cases: What is known about them, in any order; more than were predicted is fine.
        n_boot: Resamples of whole lesions.
        seed: Of the resamples.

    Returns:
        Sex, then age from young to old, then sites from the most cases to the fewest; what is not
        known comes last in each.

    Raises:
        InputError: A predicted case is not among the cases, or has an age that nobody reaches.
    """
    known = labelled(predictions)
    by_image = {case.image: case for case in cases}
    if lacking := [image for image in known.images if image not in by_image]:
        raise InputError(f"{len(lacking)} predicted cases are not in the table, first {lacking[0]}")
    labels = np.asarray(known.labels)
    right = (known.logits.argmax(axis=1) == labels).astype(float)
    counts, member = draw_groups(known.groups, n_boot=n_boot, seed=seed)
    draws = np.vstack([np.ones(counts.shape[1]), counts])  # the first is the cases as they are
    melanoma = labels == known.codes.index("mel") if "mel" in known.codes else labels < 0
    rows = []
    for attribute, read in _ATTRIBUTES.items():
        values = np.array([read(by_image[image]) for image in known.images])
        for value in _ordered(attribute, values):
            inside = values == value
            groups = [g for g, there in zip(known.groups, inside, strict=True) if there]
            expected, gaps = _beside_others(draws, member, labels, right, inside)
            of_mel = np.where(melanoma[inside], right[inside], np.nan)

            def interval(numbers: np.ndarray, groups: Sequence[str] = groups) -> Estimate:
                return mean_interval(numbers, groups, n_boot=n_boot, seed=seed)

            rows.append(
                Subgroup(
                    attribute=attribute,
                    value=str(value),
                    cases=int(inside.sum()),
                    lesions=len(set(groups)),
                    melanomas=int(melanoma[inside].sum()),
                    accuracy=interval(right[inside]),
                    expected=float(expected[0]),
                    gap=(float(gaps[0]), *percentile_interval(gaps[1:])),
                    recall_mel=interval(of_mel),
                )
            )
    return rows


def age_band(age: float | None) -> str:
    """Name the band of an age in years.

    Raises:
        InputError: It is no age that people reach.

    >>> age_band(44), age_band(45), age_band(None)
    ('30 to 44', '45 to 59', 'not known')
    """
    if age is None:
        return UNKNOWN
    if not 0 <= age <= 120:
        raise InputError(f"an age must be from 0 to 120 years, got {age:g}")
    low, high = next((low, high) for low, high in AGES if low <= age < high)
    return (
        f"under {high}" if low == 0 else f"{low} and over" if high > 120 else f"{low} to {high - 1}"
    )


def _beside_others(
    draws: Float[np.ndarray, "draws lesions"],
    member: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    right: Float[np.ndarray, " n"],
    inside: Bool[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Expected accuracy and gap of a group in each draw; NaN without a diagnosis in common."""

    def per_diagnosis(weights: np.ndarray) -> Float[np.ndarray, "draws classes"]:
        cells = np.zeros((draws.shape[1], labels.max() + 1))
        np.add.at(cells, (member, labels), weights)
        return np.asarray(draws @ cells)

    cases, hits = per_diagnosis(inside), per_diagnosis(inside * right)
    others, their_hits = per_diagnosis(~inside), per_diagnosis(~inside * right)
    shared = others > 0
    with np.errstate(invalid="ignore"):
        total = (cases * shared).sum(axis=1)
        expected = (cases * their_hits / np.where(shared, others, 1)).sum(axis=1) / total
        return expected, (hits * shared).sum(axis=1) / total - expected


def _ordered(attribute: str, values: np.ndarray) -> list[str]:
    names, counts = np.unique(values, return_counts=True)
    size: Mapping[str, int] = dict(zip(map(str, names), map(int, counts), strict=True))
    if attribute == "age":
        bands = [age_band(low) for low, _ in AGES]
        first = [band for band in bands if band in size]
    else:
        first = sorted((n for n in size if n != UNKNOWN), key=lambda name: (-size[name], name))
    return first + [UNKNOWN] * (UNKNOWN in size)


_ATTRIBUTES: Final[dict[str, Callable[[Case], str]]] = {
    "sex": lambda case: case.sex or UNKNOWN,
    "age": lambda case: age_band(case.age),
    "site": lambda case: case.site or UNKNOWN,
}
