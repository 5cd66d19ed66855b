"""Is the model as good for everyone? Figures by sex, age and site, each with n and an interval.

Groups differ in what they have: naevi are common in the young and easy, so plain accuracy is higher
there for that reason alone. So beside each accuracy stands the one that the group's own mix of
diagnoses leads to expect, if every diagnosis were found as often as over all cases; the gap between
the two is what the mix doesn't explain.

Limits: skin colour is not recorded in HAM10000 and so not here; a group of few lesions has a wide
interval and proves nothing; many groups are looked at, so one in twenty intervals misses by chance.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from dermx.errors import InputError
from dermx.evaluate.intervals import Estimate, mean_interval
from dermx.evaluate.metrics import labelled
from dermx.records import Case, Predictions

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
    expected: float  # accuracy, if each diagnosis were found as often as over all cases
    gap: Estimate  # accuracy less what is expected
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
        InputError: A predicted case is not among the cases.
    """
    known = labelled(predictions)
    by_image = {case.image: case for case in cases}
    if lacking := [image for image in known.images if image not in by_image]:
        raise InputError(f"{len(lacking)} predicted cases are not in the table, first {lacking[0]}")
    labels = np.asarray(known.labels)
    right = (known.logits.argmax(axis=1) == labels).astype(float)
    overall = np.array([right[labels == c].mean() if (labels == c).any() else np.nan
                        for c in range(len(known.codes))])  # fmt: skip
    melanoma = labels == known.codes.index("mel") if "mel" in known.codes else labels < 0
    rows = []
    for attribute, read in _ATTRIBUTES.items():
        values = np.array([read(by_image[image]) for image in known.images])
        for value in _ordered(attribute, values):
            inside = values == value
            groups = [g for g, there in zip(known.groups, inside, strict=True) if there]
            expected = overall[labels[inside]]
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
                    expected=float(expected.mean()),
                    gap=interval(right[inside] - expected),
                    recall_mel=interval(of_mel),
                )
            )
    return rows


def age_band(age: float | None) -> str:
    """Name the band of an age in years.

    >>> age_band(44), age_band(45), age_band(None)
    ('30 to 44', '45 to 59', 'not known')
    """
    if age is None:
        return UNKNOWN
    low, high = next((low, high) for low, high in AGES if low <= age < high)
    return (
        f"under {high}" if low == 0 else f"{low} and over" if high > 120 else f"{low} to {high - 1}"
    )


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
