"""HAM10000 as people download it: which picture shows which lesion, and what is it?

Understands the layouts of Harvard Dataverse and of Kaggle: a metadata table beside the pictures,
which lie in two part folders (in either order, nested in themselves or not) or all in one.

Source: Tschandl, Rosendahl and Kittler, Sci. Data 5:180161, 2018 (CC BY-NC 4.0).
"""

import math
from dataclasses import replace
from pathlib import Path

from dermx.data.files import pictures_in, read_table, require_unique
from dermx.diagnoses import DERMOSCOPIC
from dermx.errors import DataError
from dermx.records import Case

METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
MASKS = "HAM10000_segmentations_lesion_tschandl"
UNKNOWN = frozenset({"", "unknown", "na", "nan", "none"})


def read_ham10000(folder: Path) -> list[Case]:
    """Read the metadata table and find its pictures.

    The column `dx_type` (how a diagnosis was made) is not read: it leaks the label. Pictures that
    the table does not name, and lesion masks (`…_segmentation.png`), are left alone.

    Args:
        folder: Holds `HAM10000_metadata.csv` (or `.tab`) and, at any depth, the pictures.

    Returns:
        One case per row, in the table's order. `group` is the lesion; `build_catalog` widens it
        to duplicates.

    Raises:
        DataError: No metadata, or rows with a repeated id, an unknown label, a wrong age or no
            picture; says how many and which first.
    """
    folder = Path(folder)
    table = _metadata(folder)
    cases = read_metadata(table, "ham10000")
    pictures = _pictures(folder, {case.image for case in cases})
    if missing := [case.image for case in cases if case.image not in pictures]:
        raise DataError(
            f"{len(missing)} of {len(cases)} pictures named in {table} are not below {folder}, "
            f"first {missing[0]}.jpg; unpack both HAM10000_images_part_1 and _part_2 there"
        )
    return [replace(case, path=pictures[case.image]) for case in cases]


def read_metadata(table: Path, source: str) -> list[Case]:
    """Read a table in HAM10000's format; of each case all but the path, which stays empty.

    Raises:
        DataError: Rows with a repeated id, an unknown label, no lesion or a wrong age.
    """
    rows = read_table(table, ("lesion_id", "image_id", "dx", "age", "sex", "localization"))
    require_unique((row["image_id"] for row in rows), str(table))
    _require_known_labels(rows, table)
    if loose := [row["image_id"] for row in rows if not row["lesion_id"]]:
        raise DataError(
            f"{len(loose)} rows of {table} have no lesion_id, first {loose[0]}; without one a "
            "split can't keep lesions whole"
        )
    return [_case(row, source) for row in rows]


def lesion_mask(picture: Path) -> Path | None:
    """Find the lesion's outline, `…_segmentation.png`, of a picture of HAM10000.

    The folder of outlines lies beside the picture folders, which Kaggle nests in themselves.

    Returns:
        The file; None where there is none.
    """
    for folder in picture.parents[:3]:
        for mask in (
            folder / MASKS / f"{picture.stem}_segmentation.png",
            folder / MASKS / MASKS / f"{picture.stem}_segmentation.png",
        ):
            if mask.is_file():
                return mask
    return None


def _metadata(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give the one with {METADATA[0]}")
    for name in METADATA:
        if (folder / name).is_file():
            return folder / name
    held = "which is empty" if not any(folder.iterdir()) else "which holds other files"
    raise DataError(
        f"no {METADATA[0]} (or .tab) in {folder}, {held}; give the folder with that table"
    )


def _pictures(folder: Path, wanted: set[str]) -> dict[str, Path]:
    """Map each wanted id to its picture; of several copies the first in order of path."""
    found: dict[str, Path] = {}
    for path in pictures_in(folder):
        if path.stem in wanted:  # a mask's stem ends in _segmentation, so it is never wanted
            found.setdefault(path.stem, path)
    return found


def _require_known_labels(rows: list[dict[str, str]], table: Path) -> None:
    wrong = [i for i, row in enumerate(rows) if row["dx"] not in DERMOSCOPIC]
    if wrong:
        first = rows[wrong[0]]
        raise DataError(
            f"{len(wrong)} rows of {table} have an unknown diagnosis, first {first['dx']!r} of "
            f"{first['image_id']} in row {wrong[0] + 2}; known are {', '.join(DERMOSCOPIC)}"
        )


def _case(row: dict[str, str], source: str) -> Case:
    known = {key: None if text.lower() in UNKNOWN else text for key, text in row.items()}
    return Case(
        image=row["image_id"],
        path=Path(),
        diagnosis=row["dx"],
        lesion=row["lesion_id"],
        group=row["lesion_id"],
        source=source,
        age=_age(known["age"], row["image_id"]),
        sex=known["sex"],
        site=known["localization"],
    )


def _age(text: str | None, image: str) -> float | None:
    if text is None:
        return None
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age <= 120:
        raise DataError(f"{image} has age {text!r}; need years from 0 to 120, or nothing")
    return age
