"""What was recorded? One table of patient, day, treatment and severity, read and checked.

Nothing is repaired silently: what can't be right is an error that names the line, what may be
right but matters (gaps, missing days, one order for all patients) becomes a note that travels with
the result. A day without a severity is a missing day and nothing else.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from dermx.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

SHIPPED = Path(__file__).with_name("sim_acne.csv")  # simulated, see `simulate.SHIPPED_STUDY`
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
                f"leaving out {days} days leaves patient {self.patients[i]} with "
                f"{rest.counts[i, k]} days of {self.treatments[k]}, fewer than "
                f"{self.config.min_days}; leave out fewer"
            )
        return rest


def read_visits(
    table: "Path | str | bytes | pd.DataFrame | None" = None,
    config: TableConfig | None = None,
) -> Visits:
    """Read a table of one row per patient and day, and check it.

    Args:
        table: A CSV file, its bytes, a data frame, or None for the shipped simulated study.
        config: Names of columns and treatments, range and unit of the severity.

    Raises:
        DataError: A column is missing; a cell is empty, not a number, not a day or out of range;
            a patient has a day twice, or too few days on a treatment; there is no baseline,
            nothing to compare with it, or a treatment that is not expected.
    """
    given = TableConfig() if config is None else config
    if table is None and config is None:
        from dermx.longitudinal.simulate import SHIPPED_TABLE

        given = SHIPPED_TABLE
    frame = _frame(SHIPPED if table is None else table)
    columns = [given.patient, given.day, given.treatment, given.severity]
    if absent := [name for name in columns if name not in frame.columns]:
        raise DataError(
            f"no column {', '.join(absent)}; the table has {', '.join(map(str, frame.columns))}. "
            "Name yours with --patient, --day, --treatment, --severity"
        )
    if len(frame) == 0:
        raise DataError("the table has no row")
    patient = _names(frame[given.patient], given.patient)
    treatment = _names(frame[given.treatment], given.treatment)
    severity = _severities(frame[given.severity], given)
    names = tuple(sorted(set(patient), key=_natural))
    number = np.array([names.index(name) for name in patient])
    day = _days(frame[given.day], number, given.day)
    _refuse_twice(number, day, names)
    treatments = _treatments(treatment, day, given)
    seen = ~np.isnan(severity)
    order = np.lexsort((day, number))
    order = order[seen[order]]
    kinds = np.array([treatments.index(name) for name in treatment])
    visits = Visits(
        patients=names,
        treatments=treatments,
        patient=number[order],
        day=day[order],
        treatment=kinds[order],
        severity=severity[order],
        config=given,
        missing=missing_days(number, day) + int((~seen).sum()),
    )
    _refuse_few(visits, np.unique(np.c_[number, kinds], axis=0))
    return visits


def missing_days(patient: Int[np.ndarray, " n"], day: Int[np.ndarray, " n"]) -> int:
    """Count the days between each patient's first and last that have no row."""
    spans = [int(np.ptp(day[patient == i])) + 1 for i in np.unique(patient)]
    return sum(spans) - len(day)


def notes_on(visits: Visits) -> list[str]:
    """Say what a reader of the result must know about these days, one sentence each."""
    notes = []
    orders = {visits.order_of(i) for i in range(len(visits.patients))}
    if len(orders) == 1 and len(visits.patients) > 1:
        (order,) = orders
        notes.append(
            f"Every patient had the same order ({', then '.join(order)}), so a treatment can't be "
            "told apart from whatever else changed over the same weeks; only a drawn order could."
        )
    elif len(visits.patients) == 1:
        notes.append(
            "One patient, one time line: an effect of treatment can't be told apart from whatever "
            "else changed over the same weeks."
        )
    if visits.missing:
        notes.append(f"{visits.missing} days between first and last entries have no severity.")
    if visits.left_out:
        notes.append(f"{visits.left_out} days just after a change of treatment are left out.")
    step = np.diff(visits.day, prepend=visits.day[:1])
    step[np.r_[True, np.diff(visits.patient) != 0]] = 1
    if (step > LONG_GAP).any():
        worst = int(step.argmax())
        notes.append(
            f"{int((step > LONG_GAP).sum())} gaps are longer than {LONG_GAP} days; the longest, "
            f"{int(step[worst]) - 1} days, is of patient {visits.patients[visits.patient[worst]]}."
        )
    lacking = [
        f"{visits.patients[i]} without {visits.treatments[k]}"
        for i, k in np.argwhere(visits.counts == 0)
    ]
    if lacking:
        shown = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
        notes.append(f"Not every patient had every treatment: {shown}.")
    low = visits.severity <= visits.config.lowest
    if low.mean() > 0.05:
        notes.append(
            f"{low.mean():.0%} of days are at the lowest score, {visits.config.lowest:g}: below it "
            "nothing is measured, and effects may be larger than they seem."
        )
    return notes


def _frame(table: "Path | str | bytes | pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return table.reset_index(drop=True)
    name = "the table" if isinstance(table, bytes) else str(table)
    source = io.BytesIO(table) if isinstance(table, bytes) else Path(table)
    try:
        frame = pd.read_csv(source, dtype=str, encoding="utf-8-sig", skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{name} can't be read as CSV in UTF-8: {error}") from error
    if len(frame.columns) == 1 and ";" in str(frame.columns[0]):
        raise DataError(f"{name} is separated by semicolons; save it with commas")
    frame.columns = [str(column).strip() for column in frame.columns]
    return frame


def _names(column: "pd.Series[Any]", what: str) -> list[str]:
    texts = ["" if _is_empty(cell) else str(cell).strip() for cell in column]
    if "" in texts:
        raise DataError(f"row {_row(texts.index(''))}: {what} is empty")
    return texts


def _treatments(
    names: Sequence[str], day: Int[np.ndarray, " n"], config: TableConfig
) -> tuple[str, ...]:
    """Names as configured, or by their earliest day; baseline first."""
    spelled: dict[str, str] = {}
    for name in names:
        if (twin := spelled.setdefault(name.casefold(), name)) != name:
            raise DataError(
                f"treatments {twin!r} and {name!r} differ by case only; write them alike"
            )
    baseline = spelled.get(config.baseline.casefold())
    if baseline is None:
        raise DataError(
            f"no day of {config.baseline!r}; the treatments are {', '.join(sorted(set(names)))}. "
            "Name the one to compare with: --baseline"
        )
    known = [name.casefold() for name in (config.baseline, *config.treatments)]
    if config.treatments:
        for row, name in enumerate(names):
            if name.casefold() not in known:
                raise DataError(
                    f"row {_row(row)}: unknown treatment {name!r}; "
                    f"known are {', '.join((config.baseline, *config.treatments))}"
                )
        others = sorted(spelled.values(), key=lambda name: known.index(name.casefold()))
    else:
        earliest = {name: int(d) for d, name in sorted(zip(-day, names, strict=True))}
        others = sorted(spelled.values(), key=lambda name: (-earliest[name], name))
    others = [name for name in others if name != baseline]
    if not others:
        raise DataError(f"every day is {baseline}: there is no treatment to compare with it")
    return (baseline, *others)


def _severities(column: "pd.Series[Any]", config: TableConfig) -> Float[np.ndarray, " n"]:
    """Numbers in range; NaN where a cell is empty."""
    values = np.full(len(column), np.nan)
    for row, cell in enumerate(column):
        if _is_empty(cell):
            continue
        try:
            values[row] = float(cell)
        except ValueError:
            raise DataError(f"row {_row(row)}: {config.severity} {cell!r} is no number") from None
        if not config.lowest <= values[row] <= config.highest or math.isinf(values[row]):
            raise DataError(
                f"row {_row(row)}: {config.severity} {values[row]:g} is outside "
                f"{config.lowest:g} to {config.highest:g} {config.unit}; if it is right, "
                "set the range with --lowest and --highest"
            )
    return values


def _days(
    column: "pd.Series[Any]", patient: Int[np.ndarray, " n"], what: str
) -> Int[np.ndarray, " n"]:
    """Whole numbers as they are; dates as days since the patient's first, which is day 1."""
    cells = ["" if _is_empty(cell) else str(cell).strip() for cell in column]
    if any(re.fullmatch(r"\d{4}-\d\d-\d\d.*", cell) for cell in cells):
        ordinals = [_date(cell, row, what).toordinal() for row, cell in enumerate(cells)]
        days = np.array(ordinals)
        first = np.array([days[patient == i].min() for i in range(patient.max() + 1)])
        return np.asarray(days - first[patient] + 1)
    days = np.empty(len(cells), int)
    for row, cell in enumerate(cells):
        if not re.fullmatch(r"[+-]?\d+(\.0*)?", cell):
            raise DataError(
                f"row {_row(row)}: {what} {cell!r} is neither a whole number of days nor a date "
                "as 2026-03-31"
            )
        days[row] = int(float(cell))
    return days


def _date(cell: str, row: int, what: str) -> date:
    try:
        return date.fromisoformat(cell[:10])
    except ValueError:
        raise DataError(f"row {_row(row)}: {what} {cell!r} is no date as 2026-03-31") from None


def _refuse_twice(
    patient: Int[np.ndarray, " n"], day: Int[np.ndarray, " n"], names: Sequence[str]
) -> None:
    pairs, count = np.unique(np.c_[patient, day], axis=0, return_counts=True)
    if (count > 1).any():
        i, d = pairs[count > 1][0]
        raise DataError(
            f"{int((count > 1).sum())} days come more than once, first day {d} of patient "
            f"{names[i]}; keep one row per patient and day"
        )


def _refuse_few(visits: Visits, pairs: Int[np.ndarray, "pairs 2"]) -> None:
    for i, k in pairs:
        if (n := visits.counts[i, k]) < visits.config.min_days:
            raise DataError(
                f"patient {visits.patients[i]} has {n} days of {visits.treatments[k]} with a "
                f"severity, fewer than {visits.config.min_days}: leave those rows out, or lower "
                "--min-days"
            )


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Key that puts P2 before P10."""
    return tuple(
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)
    )


def _is_empty(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell)) or str(cell).strip() == ""


def _row(index: int) -> int:
    """Line of the file: the first is the heading."""
    return index + 2
