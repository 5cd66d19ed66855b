"""Which pictures are in these folders, and what does this table say?

Shared by the readers of all sources; file names only, no pixel is read here.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from dermx.errors import DataError

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def list_pictures(paths: Sequence[Path]) -> list[Path]:
    """Files as given, folders searched through all their levels, in the order people count in.

    Args:
        paths: A file is taken whatever its ending, so that a wrong one is reported when it is
            read; in a folder only the endings of `PICTURES` count and hidden files do not.

    Returns:
        Paths in the order given, each folder's own sorted so that 2 comes before 10; a file
        that is reached twice is listed once.

    Raises:
        DataError: A path does not exist, or a folder holds no picture.
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
    """Every picture below a folder, sorted so that 2 comes before 10; no hidden file or folder."""
    inside = (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    return sorted(inside, key=lambda path: natural(str(path)))


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


def read_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Read a comma- or tab-separated file with a header, one mapping per row, blanks stripped.

    Raises:
        DataError: The file can't be read, lacks a column, or holds no row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text table: {error}") from error
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in header else ",")
    names = [name.strip() for name in reader.fieldnames or ()]
    if lacking := [column for column in columns if column not in names]:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}; its columns are {', '.join(names)}"
        )
    reader.fieldnames = names
    rows = [{k: (v or "").strip() for k, v in row.items() if k is not None} for row in reader]
    if not rows:
        raise DataError(f"{path} holds a header and no row")
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
