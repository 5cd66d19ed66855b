"""What was recorded? Days with a severity, per patient and treatment, and what to know about them.

What may be right but matters to a reader (gaps, missing days, one order for all patients) becomes a
note that travels with the result. A day without a severity is a missing day and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from dermx.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

LONG_GAP = 7  # days without an entry that are worth a note


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """How a table of visits is to be read; the defaults fit the shipped one."""

    patient: str = "patient"  # names of the columns
    day: str = "day"  # whole numbers, or dates as 2026-03-31
    treatment: str = "treatment"
    severity: str = "severity"
    baseline: str = "Baseline"  # the treatment that the others are compared with; case is ignored
    treatments: tuple[str, ...] = ()  # if given: no others are allowed, and this is their order
    unit: str = "points"  # of the severity, as written on axes
    lowest: float = 0.0  # severities below are errors
    highest: float = math.inf  # severities above are errors
    higher_is_better: bool = False
    min_days: int = 5  # fewest days of a patient on one treatment

    def __post_init__(self) -> None:
        columns = [self.patient, self.day, self.treatment, self.severity]
        if len(set(columns)) < len(columns):
            raise ConfigError(f"one column can't be read as two things, got {columns}")
        if not self.lowest < self.highest:
            raise ConfigError(f"lowest {self.lowest:g} must be below highest {self.highest:g}")
        if self.min_days < 2:
            raise ConfigError(f"min_days must be at least 2, got {self.min_days}")


@dataclass(frozen=True, kw_only=True)
class Visits:
    """Days with a severity, ordered by patient and day."""

    patients: tuple[str, ...]  # names; `patient` counts them
    treatments: tuple[str, ...]  # names, baseline first; `treatment` counts them
    patient: Int[np.ndarray, " n"]
    day: Int[np.ndarray, " n"]
    treatment: Int[np.ndarray, " n"]
    severity: Float[np.ndarray, " n"]
    config: TableConfig = TableConfig()
    missing: int = 0  # days from first to last that have no severity
    left_out: int = 0  # days left out on request after a change of treatment

    def __len__(self) -> int:
        return len(self.severity)

    def select(self, kept: Bool[np.ndarray, " n"]) -> "Visits":
        """Return these days only; patients and treatments keep their numbers."""
        return replace(
            self,
            patient=self.patient[kept],
            day=self.day[kept],
            treatment=self.treatment[kept],
            severity=self.severity[kept],
        )

    @cached_property
    def changes(self) -> Bool[np.ndarray, " n"]:
        """Whether a day is the first of its patient or of a new treatment."""
        first = np.ones(len(self), bool)
        first[1:] = (np.diff(self.patient) != 0) | (np.diff(self.treatment) != 0)
        return first

    @cached_property
    def counts(self) -> Int[np.ndarray, "patients treatments"]:
        """Days with a severity per patient and treatment."""
        counts = np.zeros((len(self.patients), len(self.treatments)), int)
        np.add.at(counts, (self.patient, self.treatment), 1)
        return counts

    def order_of(self, patient: int) -> tuple[str, ...]:
        """Return the treatments of one patient as they came, a return included."""
        rows = (self.patient == patient) & self.changes
        return tuple(self.treatments[k] for k in self.treatment[rows])

    def without_first_days(self, days: int) -> "Visits":
        """Leave out the first days after each change to another treatment (carry-over).

        Days are counted on the calendar from the first recorded day of the new treatment; the
        first treatment of a patient has nothing before it and stays whole.

        Raises:
            ConfigError: Too few days of a patient on a treatment would be left.
        """
        if days < 0:
            raise ConfigError(f"days to leave out must be 0 or more, got {days}")
        start = np.flatnonzero(self.changes)
        run = np.cumsum(self.changes) - 1
        is_first = np.r_[True, np.diff(self.patient[start]) != 0]
        since = self.day - self.day[start][run]
        kept = (since >= days) | is_first[run]
        rest = replace(self.select(kept), left_out=self.left_out + int((~kept).sum()))
        short = (rest.counts < self.config.min_days) & (self.counts > 0)
        if short.any():
            i, k = np.argwhere(short)[0]
            raise ConfigError(
                f"leaving out {counted(days, 'day')} leaves patient {self.patients[i]} with "
                f"{counted(rest.counts[i, k], 'day')} of {self.treatments[k]}, fewer than "
                f"{self.config.min_days}; leave out fewer"
            )
        return rest


def counted(number: int, what: str) -> str:
    """Write how many there are.

    >>> counted(1, "day"), counted(0, "day")
    ('1 day', '0 days')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def missing_days(patient: Int[np.ndarray, " n"], day: Int[np.ndarray, " n"]) -> int:
    """Count the days between each patient's first and last that have no row."""
    spans = [int(np.ptp(day[patient == i])) + 1 for i in np.unique(patient)]
    return sum(spans) - len(day)


def notes_on(visits: Visits) -> list[str]:
    """Say what a reader of the result must know about these days, one sentence each."""
    notes = []
    if len(visits.patients) > 1:
        notes += _order_note([visits.order_of(i) for i in range(len(visits.patients))])
    else:
        notes.append(
            "One patient, one time line: an effect of treatment can't be told apart from whatever "
            "else changed over the same weeks."
        )
    if visits.missing:
        have = "has" if visits.missing == 1 else "have"
        days = counted(visits.missing, "day")
        notes.append(f"{days} between first and last entries {have} no severity.")
    if visits.left_out:
        are = "is" if visits.left_out == 1 else "are"
        days = counted(visits.left_out, "day")
        notes.append(f"{days} just after a change of treatment {are} left out.")
    step = np.diff(visits.day, prepend=visits.day[:1])
    step[np.r_[True, np.diff(visits.patient) != 0]] = 1
    if (step > LONG_GAP).any():
        worst = int(step.argmax())
        gaps = int((step > LONG_GAP).sum())
        notes.append(
            f"{counted(gaps, 'gap')} {'is' if gaps == 1 else 'are'} longer than {LONG_GAP} days; "
            f"the longest, {int(step[worst]) - 1} days, is of patient "
            f"{visits.patients[visits.patient[worst]]}."
        )
    lacking = [
        f"{visits.patients[i]} without {visits.treatments[k]}"
        for i, k in np.argwhere(visits.counts == 0)
    ]
    if lacking:
        shown = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
        notes.append(f"Not every patient had every treatment: {shown}.")
    config = visits.config
    for end, beyond, limit, at in (
        ("lowest", "below", config.lowest, visits.severity <= config.lowest),
        ("highest", "above", config.highest, visits.severity >= config.highest),
    ):
        if at.mean() > 0.05:
            notes.append(
                f"{at.mean():.0%} of days are at the {end} score, {limit:g}: {beyond} it "
                "nothing is measured, and effects may be larger than they seem."
            )
    return notes


def _order_note(orders: Sequence[tuple[str, ...]]) -> list[str]:
    """Note that no two treatments came in both orders; who stopped early had the same order."""
    firsts = [tuple(dict.fromkeys(order)) for order in orders]  # a return is no other order
    pairs = {pair for order in firsts for pair in combinations(order, 2)}
    if not pairs or any((later, earlier) in pairs for earlier, later in pairs):
        return []
    longest = max(orders, key=len)
    if all(order == longest[: len(order)] for order in orders):
        head = f"Every patient had the same order ({', then '.join(longest)})"
    else:
        head = "No two treatments came in both orders"
    return [
        f"{head}, so a treatment can't be told apart from whatever else changed over the same "
        "weeks; only a drawn order could."
    ]
