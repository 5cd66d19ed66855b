"""Which pictures are in these folders, and what does this table say?

Shared by the readers of all sources; file names only, no pixel is read here.
"""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from dermx.errors import DataError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def list_pictures(paths: Sequence[Path]) -> list[Path]:
    """Files as given, folders searched through all their levels, in the order people count in.

    Args:
        paths: A file is taken whatever its ending, so that a wrong one is reported when it is
            read; in a folder only the endings of `PICTURES` count and hidden files do not.

    Returns:
        Paths in the order given, each folder's own sorted so that 2 comes before 10; a file
        that is reached twice is listed once.

    Raises:
        DataError: A path does not exist, or a folder holds no picture or can't be read.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = pictures_in(path)
            if not inside:
                raise DataError(
                    f"no picture in the folder {path}; looked through all its levels for "
                    f"{', '.join(sorted(PICTURES))}"
                )
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise DataError(f"{path} does not exist")
    return list(found)


def pictures_in(folder: Path) -> list[Path]:
    """Every picture below a folder, sorted so that 2 comes before 10; no hidden file or folder.

    Linked folders are followed, after those that lie there; no folder is searched twice.

    Raises:
        DataError: A folder can't be read.
    """
    inside, waiting, seen = [], [str(folder)], set()
    while waiting:
        for place, folders, names in os.walk(waiting.pop(0), onerror=_refuse_unreadable):
            if (real := os.path.realpath(place)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = [Path(place, name) for name in folders]
            waiting += [str(path) for path in below if path.is_symlink()]  # not walked into
            paths = (Path(place, name) for name in names if not name.startswith("."))
            inside += [p for p in paths if p.suffix.lower() in PICTURES and p.is_file()]
    return sorted(inside, key=lambda path: natural(str(path)))


def _refuse_unreadable(error: OSError) -> None:
    raise DataError(f"can't read the folder {error.filename}: {error.strerror}") from error


def unique_names(pictures: Sequence[Path]) -> list[str]:
    """PNG names by stem, none twice, also where capitals make no difference.

    >>> unique_names([Path("a/x.jpg"), Path("b/X.png"), Path("x-2.jpg")])
    ['x.png', 'X-2.png', 'x-2-2.png']
    """
    taken: set[str] = set()
    names = []
    for picture in pictures:
        stem, number = picture.stem, 1
        while (name := f"{stem}-{number}.png" if number > 1 else f"{stem}.png").lower() in taken:
            number += 1
        taken.add(name.lower())
        names.append(name)
    return names


def natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key under which `acne-2` comes before `acne-10`, and capitals make no difference."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.lower())
    return tuple((0, int(p), "") if p[0] in "0123456789" else (1, 0, p) for p in parts), name


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a comma- or tab-separated file with a header, one mapping per row, blanks stripped.

    Rows without any text are left out.

    Raises:
        DataError: The file can't be read, lacks a column or has it twice, holds no row, or has
            rows with more or fewer cells than its header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text table: {error}") from error
    names, *rows = _cells(path, text) or [[]]
    if lacking := [column for column in columns if column not in names]:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}; its columns are {', '.join(names)}"
        )
    if twice := [column for column in columns if names.count(column) > 1]:
        raise DataError(f"{path} has more than one column {', '.join(twice)}; keep one of each")
    if not rows:
        raise DataError(f"{path} holds a header and no row")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _cells(path: Path, text: str) -> list[list[str]]:
    """Split a table into rows of equal length, the header first."""
    delimiter = "\t" if "\t" in text.lstrip("\n").split("\n", 1)[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, odd, done = [], [], 0  # done: lines
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if any("\n" in cell for cell in row):
                raise csv.Error("a cell goes on over several lines")
            if any(row):
                rows.append(row)
                if len(row) != len(rows[0]):
                    odd.append((reader.line_num, len(row)))
            done = reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}, line {done + 1}: {error}; is there a stray quote?") from error
    if odd:
        line, count = odd[0]
        raise DataError(
            f"{len(odd)} rows of {path} don't have {len(rows[0])} cells as its header has; "
            f"first line {line}, which has {count}"
        )
    return rows


def require_unique(names: Iterable[str], where: str, what: str = "image ids") -> None:
    """Raise where a name occurs twice.

    Raises:
        DataError: Says how many names are repeated and the first of them.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{len(repeated)} {what} occur more than once in {where}, first {repeated[0]}"
        )
