"""One checked table of cases: is every row sound, and which rows must never come apart?

A model is tested honestly only if nothing of a test lesion was seen in training: not another
picture of it, not a copy under another name, not the same patient's next photograph.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dermx.data.dermnet import same_session
from dermx.data.duplicates import Reader, find_duplicates
from dermx.data.files import natural, read_table, require_unique
from dermx.diagnoses import CODES
from dermx.errors import DataError
from dermx.records import Case, write_whole

COLUMNS = ("image", "path", "diagnosis", "lesion", "group", "source", "age", "sex", "site")


def build_catalog(
    cases: Iterable[Case],
    read: Reader | None = None,
    *,
    links: Iterable[tuple[str, str]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Case]:
    """Check the cases of all sources as one table and set every case's `group`.

    Args:
        cases: Of one or several readers.
        read: Gives a file's RGB pixels; with it, duplicates and photographs of the same session
            are looked for (about half a minute for 10,328 pictures), without it only names count.
        links: More pairs of picture ids that belong together.
        progress: Told after each file how many of all are read.

    Returns:
        The cases in the given order; those connected by lesion, duplicates or links share a
        `group`, which is the smallest lesion id among them.

    Raises:
        DataError: No case, a repeated id, an unknown label, a missing file, or a lesion with two
            diagnoses; says how many and which first.
    """
    table = list(cases)
    check_cases(table)
    pairs = list(links)
    if read is not None:
        pairs += same_session(table, read)
        names = {case.path: case.image for case in table}
        found = find_duplicates([case.path for case in table], read, progress)
        pairs += [(names[d.first], names[d.second]) for d in found]
    return grouped(table, pairs)


def check_cases(cases: Sequence[Case]) -> None:
    """Raise where a table of cases is not sound; see `build_catalog`."""
    if not cases:
        raise DataError("there is no case in the table")
    require_unique((case.image for case in cases), "the table of cases")
    require_unique((str(case.path) for case in cases), "the table of cases", "files")
    unknown = [c for c in cases if c.diagnosis is not None and c.diagnosis not in CODES]
    if unknown:
        raise DataError(
            f"{len(unknown)} cases have an unknown diagnosis, first {unknown[0].diagnosis!r} of "
            f"{unknown[0].image}; known are {', '.join(CODES)}"
        )
    require_pictures(cases)
    diagnoses: dict[str, set[str | None]] = {}
    for case in cases:
        diagnoses.setdefault(case.lesion, set()).add(case.diagnosis)
    if torn := sorted(lesion for lesion, named in diagnoses.items() if len(named) > 1):
        raise DataError(
            f"{len(torn)} lesions have more than one diagnosis, e.g. {torn[:3]}; "
            f"{torn[0]} has {sorted(map(str, diagnoses[torn[0]]))}"
        )


def require_pictures(cases: Sequence[Case]) -> None:
    """Raise where files are not there, e.g. because their folder is not mounted.

    Raises:
        DataError: Says how many and which first.
    """
    if missing := [case.path for case in cases if not case.path.is_file()]:
        raise DataError(f"{len(missing)} of {len(cases)} pictures are missing, first {missing[0]}")


def grouped(cases: Sequence[Case], pairs: Iterable[tuple[str, str]]) -> list[Case]:
    """Return the cases with `group` set to the connected component of lesions and pairs.

    Raises:
        DataError: A pair names a picture that is not in the table.
    """
    lesion_of = {case.image: case.lesion for case in cases}
    parent = {lesion: lesion for lesion in lesion_of.values()}

    def root(lesion: str) -> str:
        while parent[lesion] != lesion:
            parent[lesion] = parent[parent[lesion]]  # halve the way for the next call
            lesion = parent[lesion]
        return lesion

    def join(one: str, other: str) -> None:
        one, other = sorted((root(one), root(other)), key=natural)
        parent[other] = one  # the smaller id is always the root, so it names the group

    for case in cases:
        if case.group != case.lesion:  # a reader or an earlier catalogue has already joined them
            parent.setdefault(case.group, case.group)
            join(case.lesion, case.group)
    for pair in pairs:
        if unknown := [image for image in pair if image not in lesion_of]:
            raise DataError(f"can't group {pair}: {unknown[0]} is not in the table")
        join(lesion_of[pair[0]], lesion_of[pair[1]])
    return [replace(case, group=root(case.lesion)) for case in cases]


def save_table(cases: Sequence[Case], path: Path, parts: Mapping[str, str] | None = None) -> None:
    """Write cases as CSV, whole or not at all; with `parts` a last column `part` by picture id."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS if parts is None else (*COLUMNS, "part"))
    for case in cases:
        values = [getattr(case, column) for column in COLUMNS]
        writer.writerow(values if parts is None else [*values, parts[case.image]])
    with write_whole(Path(path)) as file:
        file.write(text.getvalue().encode())


def load_table(path: Path) -> list[Case]:
    """Read cases written by `save_table`; empty fields are None.

    Raises:
        DataError: The file can't be read, lacks a column or holds a wrong age.
    """
    cases = []
    for row in read_table(Path(path), COLUMNS):
        try:
            age = float(row["age"]) if row["age"] else None
        except ValueError:
            age = math.nan
        if age is not None and math.isnan(age):
            raise DataError(f"{path}: {row['image']} has age {row['age']!r}, which is no number")
        cases.append(
            Case(
                image=row["image"],
                path=Path(row["path"]),
                diagnosis=row["diagnosis"] or None,
                lesion=row["lesion"],
                group=row["group"],
                source=row["source"],
                age=age,
                sex=row["sex"] or None,
                site=row["site"] or None,
            )
        )
    require_unique((case.image for case in cases), str(path))
    return cases
