"""Pictures that are none of the eight: which are there, and which may a gate be fitted on?

Three kinds, told apart by where they lie: everyday photographs, clinical photographs of other
skin diseases, and the names in DermNet's acne folder that are not acne. A gate that was fitted on
rosacea says nothing about how it would meet a disease it has never seen, so **diseases**, not
pictures, are dealt to the part for fitting and the part for reporting; the deal is published.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from dermx.data.dermnet import patient, read_dermnet_others
from dermx.data.files import natural, pictures_in, read_table, require_unique
from dermx.data.split import split_parts
from dermx.errors import DataError
from dermx.records import Case, write_whole

PUBLISHED: Final = "outliers.csv"
COLUMNS: Final = ("image", "kind", "disease", "part")
SHARES: Final = {"fit": 0.5, "report": 0.5}
EVERYDAY, CLINICAL = "everyday", "clinical"  # folders, and kinds
# Names of one disease's family go to one part: rhinophyma is rosacea of the nose, the one
# photograph without a disease in its name (`07VascularFace`) shows red cheeks.
FAMILIES: Final = {"rhinophyma": "rosacea", "other": "rosacea"}
# The same photograph as acne-closed-comedo-32, a test case, found by `dermx.data.duplicates`.
ALSO_ACNE: Final = ("milia-18",)


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A picture of none of the eight diagnoses."""

    case: Case  # without a diagnosis; its image id is "<kind or dermnet>/[<disease>/]<name>"
    kind: str  # "everyday" or "clinical"
    disease: str  # what is never in both parts; for an everyday photograph its own name


def read_outliers(folder: Path, dermnet: Path | None = None) -> list[Outlier]:
    """List the pictures that are none of the eight.

    Args:
        folder: Holds `everyday/` with photographs, `clinical/` with a folder per disease, or both.
        dermnet: DermNet's acne class folder, or one above it; its names that are not acne count
            as clinical.

    Returns:
        In natural order of their ids.

    Raises:
        DataError: There is neither folder, or two pictures have the same id.
    """
    folder = Path(folder)
    found = [*_everyday(folder / EVERYDAY), *_clinical(folder / CLINICAL)]
    if not found:
        raise DataError(
            f"no picture in {folder / EVERYDAY} or in a disease's folder in {folder / CLINICAL}"
        )
    if dermnet is not None:
        for path, named in read_dermnet_others(dermnet):
            if path.stem in ALSO_ACNE:
                continue
            disease = FAMILIES.get(named, named)
            image = f"dermnet/{disease}/{path.stem}"
            found.append(_outlier(image, path, CLINICAL, disease, "dermnet"))
    require_unique((outlier.case.image for outlier in found), str(folder), "outlier pictures")
    return sorted(found, key=lambda outlier: natural(outlier.case.image))


def split_outliers(outliers: Sequence[Outlier], seed: int = 0) -> dict[str, str]:
    """Deal whole diseases to "fit" and "report", half of each source's pictures to either.

    Returns:
        The part of every image id, drawn by `dermx.data.split.split_parts`.
    """
    parts: dict[str, str] = {}
    for source in sorted({outlier.case.source for outlier in outliers}):
        cases = [
            Case(
                image=outlier.case.image,
                path=outlier.case.path,
                diagnosis=None,
                lesion=outlier.disease,
                group=outlier.disease,
                source=source,
            )
            for outlier in outliers
            if outlier.case.source == source
        ]
        parts.update(split_parts(cases, SHARES, seed))
    return parts


def save_outlier_split(outliers: Sequence[Outlier], parts: Mapping[str, str], path: Path) -> None:
    """Write ids, kinds, diseases and parts as CSV, whole or not at all.

    Raises:
        DataError: A disease is in both parts.
    """
    check_apart(outliers, parts)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for outlier in outliers:
        image = outlier.case.image
        writer.writerow((image, outlier.kind, outlier.disease, parts[image]))
    with write_whole(Path(path)) as file:
        file.write(text.getvalue().encode())


def load_outlier_split() -> dict[str, str]:
    """Read the published part, "fit" or "report", of every outlier picture's id."""
    with as_file(files("dermx.data") / "splits" / PUBLISHED) as path:
        rows = read_table(path, COLUMNS)
    return {row["image"]: row["part"] for row in rows}


def parts_of(outliers: Sequence[Outlier]) -> dict[str, str]:
    """Return the published parts where every picture is in them, else a deal of these pictures."""
    published = load_outlier_split()
    if all(outlier.case.image in published for outlier in outliers):
        return {outlier.case.image: published[outlier.case.image] for outlier in outliers}
    return split_outliers(outliers)


def check_apart(outliers: Sequence[Outlier], parts: Mapping[str, str]) -> None:
    """Raise where a disease, or an everyday photograph, is in both parts.

    Raises:
        DataError: Names the disease, or a picture that is in no part.
    """
    held: dict[str, str] = {}
    for outlier in outliers:
        image = outlier.case.image
        if image not in parts:
            raise DataError(f"{image} is in no part of the outliers' split")
        if held.setdefault(outlier.disease, parts[image]) != parts[image]:
            raise DataError(
                f"{outlier.disease} is in both parts of the outliers' split; deal whole diseases"
            )


def _everyday(folder: Path) -> list[Outlier]:
    return [
        _outlier(f"{EVERYDAY}/{path.stem}", path, EVERYDAY, path.stem, EVERYDAY)
        for path in (pictures_in(folder) if folder.is_dir() else [])
    ]


def _clinical(folder: Path) -> list[Outlier]:
    found = []
    for path in pictures_in(folder) if folder.is_dir() else []:
        disease = path.relative_to(folder).parts[0]
        if path.parent != folder:
            name = re.sub(r"[_ ]+", " ", disease).lower()
            image = f"{CLINICAL}/{disease}/{path.stem}"
            found.append(_outlier(image, path, CLINICAL, name, CLINICAL))
    return found


def _outlier(image: str, path: Path, kind: str, disease: str, source: str) -> Outlier:
    # Without patients' names, a photograph and its mirrored copy are what can be joined.
    lesion = f"{disease}/{patient(path.stem)}"
    case = Case(image=image, path=path, diagnosis=None, lesion=lesion, group=lesion, source=source)
    return Outlier(case=case, kind=kind, disease=disease)
