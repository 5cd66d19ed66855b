"""ISIC 2018 Task 3 as people download it: a table of truths and a folder of pictures.

ISIC's own table is one-hot and says nothing about lesions, so every picture counts as its own
until duplicates are grouped. Harvard Dataverse has the test set's table under the same name in
HAM10000's format, with lesions, ages, sexes and sites. The official test set is for scoring, not
for splitting.
"""

from dataclasses import replace
from pathlib import Path

from dermx.data.files import pictures_in, read_table, require_unique
from dermx.data.ham10000 import read_metadata
from dermx.diagnoses import DIAGNOSES, ISIC_COLUMNS
from dermx.errors import DataError
from dermx.records import Case

SOURCE = "isic2018"
_CODES = {d.isic: d.code for d in DIAGNOSES if d.isic is not None}


def read_isic(truth: Path, images: Path) -> list[Case]:
    """Read a ground-truth table and find its pictures.

    Args:
        truth: A table such as `ISIC2018_Task3_Test_GroundTruth.csv`: `image` and the seven columns
            of `ISIC_COLUMNS`, exactly one of them 1 in each row; or the columns of HAM10000.
        images: A folder with exactly the pictures that the table names.

    Returns:
        One case per row, in the table's order.

    Raises:
        DataError: Rows that are repeated, not one-hot, of an unknown label or without a picture,
            or pictures without a row; says how many and which first.
    """
    truth, images = Path(truth), Path(images)
    like_ham10000 = "dx" in read_table(truth, ())[0]
    cases = read_metadata(truth, SOURCE) if like_ham10000 else _one_hot(truth)
    pictures = _pictures(images)
    _require_same({case.image: None for case in cases}, pictures, truth, images)
    return [replace(case, path=pictures[case.image]) for case in cases]


def _one_hot(truth: Path) -> list[Case]:
    """Read ISIC's own table; the paths stay empty."""
    rows = read_table(truth, ("image", *ISIC_COLUMNS))
    require_unique((row["image"] for row in rows), str(truth))
    hot = [[column for column in ISIC_COLUMNS if _value(row[column]) == 1] for row in rows]
    wrong = [i for i, row in enumerate(rows) if len(hot[i]) != 1 or _total(row) != 1]
    if wrong:
        raise DataError(
            f"{len(wrong)} rows of {truth} are not one-hot, first {rows[wrong[0]]['image']} in row "
            f"{wrong[0] + 2}; need one 1 and six 0 under {', '.join(ISIC_COLUMNS)}"
        )
    return [
        Case(
            image=row["image"],
            path=Path(),
            diagnosis=_CODES[column],
            lesion=row["image"],
            group=row["image"],
            source=SOURCE,
        )
        for row, (column,) in zip(rows, hot, strict=True)
    ]


def _pictures(images: Path) -> dict[str, Path]:
    if not images.is_dir():
        raise DataError(f"{images} is not a folder; give the one with the pictures")
    paths = [path for path in pictures_in(images) if not path.stem.endswith("_superpixels")]
    if not paths:
        raise DataError(f"no picture in the folder {images}")
    require_unique((path.stem for path in paths), str(images), "pictures")
    return {path.stem: path for path in paths}


def _require_same(
    named: dict[str, None], pictures: dict[str, Path], truth: Path, images: Path
) -> None:
    if missing := [name for name in named if name not in pictures]:
        raise DataError(
            f"{len(missing)} of {len(named)} pictures named in {truth} are not in {images}, "
            f"first {missing[0]}"
        )
    if extra := [name for name in pictures if name not in named]:
        raise DataError(
            f"{len(extra)} of {len(pictures)} pictures in {images} have no row in {truth}, "
            f"first {extra[0]}; do table and folder belong together?"
        )


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0  # no truth is negative, so the row is reported as not one-hot


def _total(row: dict[str, str]) -> float:
    return sum(abs(_value(row[column])) for column in ISIC_COLUMNS)
