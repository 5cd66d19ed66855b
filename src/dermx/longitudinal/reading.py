"""What does a table say? Patient, day, treatment and severity, read from a CSV and checked.

Nothing is repaired silently: what can't be right is an error that names the line and the value.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dermx.errors import DataError
from dermx.longitudinal.visits import TableConfig, Visits, counted, missing_days

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float, Int

SHIPPED = Path(__file__).with_name("sim_acne.csv")  # simulated, see `simulate.SHIPPED_STUDY`
LATEST_DAY = 9_999_999  # a larger number is a date as 20260331, or a time in seconds
LONGEST_STUDY = 36_525  # days: a century on either side of the day in the middle
SHIPPED_TABLE = TableConfig(unit="GAGS points", highest=44.0)
NOT_MEASURED = ("na", "n/a", "nan", "none", "null")  # as programs write a missing number


def read_visits(
    table: "Path | str | bytes | pd.DataFrame | None" = None,
    config: TableConfig | None = None,
) -> Visits:
    """Read a table of one row per patient and day, and check it.

    Args:
        table: A CSV file, its bytes, a data frame, or None for the shipped simulated study.
        config: Names of columns and treatments, range and unit of the severity.

    Raises:
        DataError: A column is missing; a cell is empty, not a number, not a day, out of
            range or a century away; a patient has a day twice, or too few days on a treatment;
            there is no baseline, nothing to compare with it, or a treatment that is not expected.
    """
    given = TableConfig() if config is None else config
    if table is None and config is None:
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
    _refuse_far(day, frame[given.day], given.day)
    _refuse_twice(number, day, names, _lines(frame))
    treatments = _treatments(treatment, day, given, _lines(frame))
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


def _frame(table: "Path | str | bytes | pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        plain = table.reset_index(drop=True).astype(object)
        return plain.where(plain.notna(), None)
    name = "the table" if isinstance(table, bytes) else str(table)
    data = table if isinstance(table, bytes) else Path(table).read_bytes()
    lead = next((n for n, line in enumerate(data.splitlines()) if line.strip()), 0)
    try:
        text = data.decode("utf-8-sig")
        headings = _headings(text, name)
        frame = pd.read_csv(
            io.StringIO(text, newline=""),
            dtype=str,
            index_col=False,  # else pandas takes a cell too many in a row for a name of the row
            usecols=range(headings),
            skipinitialspace=True,
            keep_default_na=False,  # a treatment may be called None
            skiprows=lead,
            skip_blank_lines=False,  # they count: an error names the line of the file
        )
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        csv.Error,
        UnicodeDecodeError,
    ) as error:
        raise DataError(f"{name} can't be read as CSV in UTF-8: {error}") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    frame.index += lead
    return frame[~frame.map(_is_empty).all(axis=1)]


def _headings(text: str, name: str) -> int:
    """Count the headings; no other separator, and nothing beside them in any row."""
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    headings = next((cells for cells in lines if "".join(cells).strip()), [])
    for mark, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(headings) == 1 and mark in headings[0]:
            raise DataError(f"{name} is separated by {called}; save it with commas")
    for cells in lines:
        if "".join(cells[len(headings) :]).strip():
            raise DataError(
                f"row {lines.line_num}: {len(cells)} cells under "
                f"{counted(len(headings), 'heading')}; every column needs a heading, decimals a "
                "point, and a text with a comma quotes"
            )
    return len(headings)


def _names(column: "pd.Series[Any]", what: str) -> list[str]:
    texts = ["" if _is_empty(cell) else str(cell).strip() for cell in column]
    if "" in texts:
        raise DataError(f"row {_lines(column)[texts.index('')]}: {what} is empty")
    return texts


def _treatments(
    names: Sequence[str], day: Int[np.ndarray, " n"], config: TableConfig, lines: Sequence[int]
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
                    f"row {lines[row]}: unknown treatment {name!r}; "
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
    values, lines = np.full(len(column), np.nan), _lines(column)
    for row, cell in enumerate(column):
        if _is_empty(cell) or str(cell).strip().casefold() in NOT_MEASURED:
            continue
        try:
            values[row] = float(str(cell).replace("_", "?"))  # Python takes 1_0 as 10
        except ValueError:
            point = "; write decimals with a point" if "," in str(cell) else ""
            raise DataError(
                f"row {lines[row]}: {config.severity} {cell!r} is no number{point}"
            ) from None
        if not config.lowest <= values[row] <= config.highest or math.isinf(values[row]):
            scale = f"{config.lowest:g} to {config.highest:g} {config.unit}"
            if math.isinf(config.highest):
                scale = f"the scale, {config.lowest:g} {config.unit} or more"
            raise DataError(
                f"row {lines[row]}: {config.severity} {values[row]:g} is outside {scale}; "
                "if it is right, set the range with --lowest and --highest"
            )
    return values


def _days(
    column: "pd.Series[Any]", patient: Int[np.ndarray, " n"], what: str
) -> Int[np.ndarray, " n"]:
    """Whole numbers as they are; dates as days since the patient's first, which is day 1."""
    lines = _lines(column)
    cells = ["" if _is_empty(cell) else str(cell).strip() for cell in column]
    if any(re.fullmatch(r"\d{4}-\d\d-\d\d.*", cell) for cell in cells):
        ordinals = [_date(*pair, what).toordinal() for pair in zip(cells, lines, strict=True)]
        days = np.array(ordinals)
        first = np.array([days[patient == i].min() for i in range(patient.max() + 1)])
        return np.asarray(days - first[patient] + 1)
    days = np.empty(len(cells), int)
    for row, cell in enumerate(cells):
        if not re.fullmatch(r"[+-]?\d+(\.0*)?", cell):
            raise DataError(
                f"row {lines[row]}: {what} {cell!r} is neither a whole number of days nor a date "
                "as 2026-03-31"
            )
        if abs(float(cell)) > LATEST_DAY:
            raise DataError(
                f"row {lines[row]}: {what} {cell} is too large for a number of days; "
                "is it a timestamp? Count days from 1, or write dates as 2026-03-31"
            )
        days[row] = int(float(cell))
    return days


def _refuse_far(days: Int[np.ndarray, " n"], column: "pd.Series[Any]", what: str) -> None:
    far = np.flatnonzero(np.abs(days - np.median(days)) > LONGEST_STUDY)
    if len(far):
        raise DataError(
            f"row {_lines(column)[far[0]]}: {what} {column.iloc[far[0]]} is more than "
            f"{LONGEST_STUDY:,} days from the others; is it a timestamp, or mistyped?"
        )


def _date(cell: str, line: int, what: str) -> date:
    try:
        return date.fromisoformat(cell[:10])
    except ValueError:
        raise DataError(f"row {line}: {what} {cell!r} is no date as 2026-03-31") from None


def _refuse_twice(
    patient: Int[np.ndarray, " n"],
    day: Int[np.ndarray, " n"],
    names: Sequence[str],
    lines: Sequence[int],
) -> None:
    pairs, count = np.unique(np.c_[patient, day], axis=0, return_counts=True)
    if (count > 1).any():
        i, d = pairs[count > 1][0]
        more = int((count > 1).sum())
        twice = [lines[row] for row in np.flatnonzero((patient == i) & (day == d)).tolist()]
        raise DataError(
            f"{counted(more, 'day')} {'comes' if more == 1 else 'come'} more than once, first day "
            f"{d} of patient {names[i]} in rows {twice[0]} and {twice[1]}; keep one row per "
            "patient and day"
        )


def _refuse_few(visits: Visits, pairs: Int[np.ndarray, "pairs 2"]) -> None:
    for i, k in pairs:
        if (n := visits.counts[i, k]) < visits.config.min_days:
            raise DataError(
                f"patient {visits.patients[i]} has {counted(n, 'day')} of {visits.treatments[k]} "
                f"with a severity, fewer than {visits.config.min_days}: leave those rows out, or "
                "lower --min-days"
            )


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Key that puts P2 before P10."""
    return tuple(
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)
    )


def _is_empty(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell)) or str(cell).strip() == ""


def _lines(table: "pd.DataFrame | pd.Series[Any]") -> list[int]:
    """Line of the file of each row: the first is the heading, and empty ones count."""
    return [int(n) + 2 for n in table.index]
