"""DermNet's acne folder: which of its photographs show acne, and which the same patient?

The class folder `Acne and Rosacea Photos` mixes acne with rosacea, perioral dermatitis,
hidradenitis and others; only the file name tells them apart. It names no patients either, so
what is grouped here is what names and colours give away: see `same_session`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from dermx.data.files import natural, pictures_in, read_table, require_unique
from dermx.errors import DataError
from dermx.records import Case

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

FOLDER = "Acne and Rosacea Photos"
PLACES = "acne_places.csv"
DISEASES = (  # a word in the file name, the disease it stands for; the first that fits counts
    ("rosacea", "rosacea"),
    ("perioral", "perioral dermatitis"),
    ("hidradenitis", "hidradenitis suppurativa"),
    ("rhinophyma", "rhinophyma"),
    ("comedonicus", "naevus comedonicus"),
    ("minocycline", "minocycline pigmentation"),
    ("fordyce", "Fordyce spots"),
    ("milia", "milia"),
)

Reader: TypeAlias = "Callable[[Path], UInt8[np.ndarray, 'h w 3']]"


def read_dermnet_acne(folder: Path) -> list[Case]:
    """Read the acne photographs: names with `acne` and without `rosacea`.

    Args:
        folder: The class folder itself, or one above it, such as Kaggle's with `train/` and
            `test/`.

    Returns:
        One case per photograph in natural order; `lesion` is the patient as far as names tell.

    Raises:
        DataError: No folder, no acne photograph in it, or two of the same name.
    """
    acne = [path for path in _class_pictures(Path(folder)) if is_acne(path.stem)]
    if not acne:
        raise DataError(
            f"no acne photograph in {folder}: no file name has 'acne' without 'rosacea'"
        )
    require_unique((path.stem for path in acne), str(folder), "photographs")
    return [
        Case(
            image=path.stem,
            path=path,
            diagnosis="acne",
            lesion=patient(path.stem),
            group=patient(path.stem),
            source="dermnet",
        )
        for path in sorted(acne, key=lambda path: natural(path.stem))
    ]


def read_dermnet_others(folder: Path) -> list[tuple[Path, str]]:
    """Return the photographs that are not acne, each with its disease by its file name.

    Raises:
        DataError: The folder does not exist or holds no picture.
    """
    others = [path for path in _class_pictures(Path(folder)) if not is_acne(path.stem)]
    named = []
    for path in others:
        name = path.stem.lower()
        named.append((path, next((disease for word, disease in DISEASES if word in name), "other")))
    return named


def is_acne(stem: str) -> bool:
    """Whether a file of this name shows acne.

    >>> is_acne("acne-cystic-12"), is_acne("acne-rosacea-1024x967"), is_acne("milia-3")
    (True, False, False)
    """
    return "acne" in stem.lower() and "rosacea" not in stem.lower()


def patient(stem: str) -> str:
    """Name the patient of a photograph as far as its file name does.

    `X1 - Copy` is X mirrored (checked on all pairs where both are there), and names with a date
    such as `07Acne0811011`, `07Acne0811012` count one patient's photographs.

    >>> patient("acne-closed-comedo-61 - Copy"), patient("07Acne0811012"), patient("acne-scar-3")
    ('acne-closed-comedo-6', '07Acne081101', 'acne-scar-3')
    """
    if stem.lower().endswith(" - copy"):
        stem = re.sub(r"1?$", "", stem[: -len(" - copy")].rstrip(), count=1)
    dated = re.match(r"[0-9]{2}[A-Za-z]+[0-9]{6}", stem)
    return dated.group() if dated else stem


def same_session(
    cases: Sequence[Case], read: Reader, *, reach: int = 2, tolerance: float = 8.0
) -> list[tuple[str, str]]:
    """Pairs that probably show one patient: neighbours in the numbering with the same colours.

    DermNet numbers a patient's photographs in a row (seen on a contact sheet: closed-comedo-6 to
    -8, cystic-87 to -92, infantile-5 to -12), but a row also runs on to the next patient. Skin
    and light together cut it: of consecutive numbers 55 % lie within the tolerance, of random
    pairs 28 %. Grouping too many costs a little evenness; grouping too few would leak.

    Args:
        cases: Any cases; only those of DermNet with a number at the end are compared.
        read: Gives a file's RGB pixels.
        reach: Largest difference of two numbers, so that one missing photograph breaks no row.
        tolerance: Largest distance of the median colours in the a, b plane of 8-bit CIELAB.

    Returns:
        Pairs of picture ids. The same patient under two headings is not found this way, nor
        under another light: of 36 neighbours that the published split sets apart, a few may be
        the same patient by eye.
    """
    series: dict[str, list[tuple[int, Case]]] = {}
    for case in cases:
        numbered = re.fullmatch(r"(.*[^0-9])([0-9]{1,4})", case.lesion)
        if case.source == "dermnet" and numbered:
            series.setdefault(numbered[1].lower(), []).append((int(numbered[2]), case))
    pairs = []
    for members in series.values():
        members.sort(key=lambda member: (member[0], member[1].image))
        colours = [_skin_colour(read(case.path)) for _, case in members]
        for i, (number, case) in enumerate(members):
            for j in range(i + 1, len(members)):
                if members[j][0] - number > reach:
                    break
                if np.hypot(*(colours[i] - colours[j])) < tolerance:
                    pairs.append((case.image, members[j][1].image))
    return pairs


def _skin_colour(rgb: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " 2"]:
    """Median a and b of the middle two thirds, where the skin is; lightness says too little."""
    small = cv2.resize(rgb, (64, 64), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small[12:52, 12:52], cv2.COLOR_RGB2LAB)
    return np.asarray(np.median(lab[..., 1:].reshape(-1, 2), axis=0), dtype=np.float64)


def _class_pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give {FOLDER!r} or the folder above it")
    inside = pictures_in(folder)
    # Above the class folder other DermNet classes lie beside it and must not be searched.
    named = [p for p in inside if FOLDER.lower() in (part.lower() for part in p.parts)]
    flat = [p for p in inside if p.parent == folder]
    if not (named or flat):
        raise DataError(f"no picture in {folder}, and no {FOLDER!r} with pictures below it")
    return named or flat


def load_acne_places() -> dict[str, str]:
    """Where on the body each acne photograph of the published val and test part was taken.

    Returns:
        "face", "body", or "unclear" for close-ups, by the picture's name; judged once, by eye, from
        contact sheets.
    """
    with as_file(files("dermx.data") / "splits" / PLACES) as path:
        return {row["image"]: row["place"] for row in read_table(path, ("image", "place"))}
