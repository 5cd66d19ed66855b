"""Drawn lesions: pictures whose lesion and hair are known exactly, because code drew them.

For tests, for trying every command without data, and for the example pictures. They resemble
dermoscopy enough to tell the eight classes apart and no more: nothing medical can be concluded
from them, and no model trained on them may be used on people.

    python -m dermx.data.phantom --out examples        # the example pictures
    python -m dermx.data.phantom --dataset drawn       # a small data set in HAM10000's layout
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from dermx.data.appearance import Colours, Plane, draw_acne, draw_lesion
from dermx.diagnoses import CODES, DERMOSCOPIC
from dermx.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """One drawn picture and the truth about it."""

    picture: UInt8[np.ndarray, "h w 3"]  # RGB
    clean: UInt8[np.ndarray, "h w 3"]  # the same picture without hair
    lesion: Bool[np.ndarray, "h w"]
    hair: Bool[np.ndarray, "h w"]  # at least half of the pixel is covered by hair
    diagnosis: str


def draw_phantom(
    seed: int,
    *,
    size: tuple[int, int] = (450, 600),
    diagnosis: str | None = None,
    hair: int = 0,
    vignette: bool = False,
    shot: int = 0,
) -> Phantom:
    """Draw a lesion on skin.

    Args:
        seed: 0 or more; the lesion and its skin depend on nothing else.
        size: Height and width, pixels, each at least 32.
        diagnosis: A code of `dermx.diagnoses.CODES`; drawn from the seed when None. Acne is drawn
            as a photograph from further away, with several papules.
        hair: How many hairs lie over it; the picture beneath does not change with them.
        vignette: Whether the corners are dark, as a dermatoscope's round field leaves them.
        shot: 0 for the first picture of the lesion; another number turns and lights it differently.

    Raises:
        InputError: An unknown diagnosis, a negative number or too small a size.
    """
    if diagnosis is not None and diagnosis not in CODES:
        raise InputError(f"no diagnosis {diagnosis!r}; known are {', '.join(CODES)}")
    if min(size) < 32 or min(seed, hair, shot) < 0:
        raise InputError(
            f"need a size of at least 32 and no negative number, got size {size}, "
            f"seed {seed}, hair {hair}, shot {shot}"
        )
    nature = np.random.default_rng([seed, 0])
    drawn = CODES[int(nature.integers(len(CODES)))]
    code = drawn if diagnosis is None else diagnosis
    colours, lesion = draw_acne(size, nature) if code == "acne" else draw_lesion(code, size, nature)
    camera = np.random.default_rng([seed, 1, shot])
    if shot:
        colours, lesion = _turned(colours, lesion, camera)
    colours = _lit(colours, camera)
    cover, hair_colours = _draw_hair(size, hair, np.random.default_rng([seed, 2, shot]))
    hairy = colours + cover[:, :, None] * (hair_colours - colours)
    finish = _camera(size, vignette, camera)
    return Phantom(
        picture=finish(hairy),
        clean=finish(colours),
        lesion=lesion,
        hair=cover >= 0.5,
        diagnosis=code,
    )


def write_dataset(
    folder: Path,
    counts: int | Mapping[str, int] = 10,
    *,
    seed: int = 0,
    size: tuple[int, int] = (150, 200),
    hair: int = 3,
) -> tuple[Path, Path]:
    """Write drawn pictures in the layouts that people download: HAM10000's and DermNet's.

    Every third lesion has two pictures. The masks are written too, as HAM10000's are. Beside the
    acne lies one picture named as rosacea, which a reader must leave out.

    Args:
        folder: Where to; made if missing, files of the same name are replaced.
        counts: Lesions of each diagnosis (for acne: pictures), or one number for all.
        seed: 0 or more; the same files for the same seed.
        size: Height and width of every picture, pixels.
        hair: At most so many hairs on a dermoscopic picture.

    Returns:
        The folder in HAM10000's layout and the one in DermNet's.

    Raises:
        InputError: A diagnosis is unknown, or a number is negative or too small.
    """
    if not isinstance(counts, int) and (unknown := sorted(set(counts) - set(CODES))):
        raise InputError(f"no diagnosis {unknown[0]!r}; known are {', '.join(CODES)}")
    wanted = {code: counts if isinstance(counts, int) else counts.get(code, 0) for code in CODES}
    if min(size) < 32 or min(seed, hair, *wanted.values()) < 0:
        raise InputError(
            f"need a size of at least 32 and no negative number, got size {size}, "
            f"seed {seed}, hair {hair}, counts {counts}"
        )
    ham10000, dermnet = folder / "ham10000", folder / "dermnet" / "Acne and Rosacea Photos"
    masks = ham10000 / "HAM10000_segmentations_lesion_tschandl"
    parts = [ham10000 / f"HAM10000_images_part_{part}" for part in (1, 2)]
    for place in (masks, dermnet, *parts):
        place.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 3])
    rows: list[dict[str, str]] = []
    lesions = [code for code in DERMOSCOPIC for _ in range(wanted[code])]
    for number, code in enumerate(lesions, start=1):
        about = _about_lesion(number, code, rng)
        for shot in range(2 if number % 3 == 0 else 1):
            image = f"ISIC_99{len(rows) + 1:05}"
            phantom = draw_phantom(
                seed + 1000 * number,
                size=size,
                diagnosis=code,
                hair=int(rng.integers(hair + 1)),
                vignette=bool(rng.random() < 0.3),
                shot=shot,
            )
            _save_jpeg(parts[len(rows) % 2] / f"{image}.jpg", phantom.picture)
            Image.fromarray(phantom.lesion).save(masks / f"{image}_segmentation.png")
            rows.append({"lesion_id": about["lesion_id"], "image_id": image, **about})
    with (ham10000 / "HAM10000_metadata.csv").open("w", newline="", encoding="utf-8") as file:
        columns = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    kinds = ("acne-cystic", "acne-closed-comedo", "acne-pustular")
    names = [f"{kinds[k % 3]}-{k + 1}.jpg" for k in range(wanted["acne"])]
    for number, name in enumerate([*names, "rosacea-1.jpg"], start=1):
        drawn = draw_phantom(seed + 1000 * number, size=size, diagnosis="acne")
        _save_jpeg(dermnet / name, drawn.picture)
    return ham10000, dermnet


def _about_lesion(number: int, code: str, rng: np.random.Generator) -> dict[str, str]:
    """One lesion's row as in HAM10000, where some ages, sexes and sites are missing too."""
    age, sex = 5.0 * rng.integers(4, 18), rng.choice(["female", "male"])
    site = rng.choice(["back", "lower extremity", "trunk", "face", "unknown"])
    missing = rng.random() < 0.05
    return {
        "lesion_id": f"HAM_99{number:05}",
        "dx": code,
        "dx_type": str(rng.choice(["histo", "follow_up", "consensus"])),
        "age": "" if missing else str(age),
        "sex": "unknown" if missing else str(sex),
        "localization": str(site),
    }


EXAMPLES: dict[str, Callable[[], Phantom]] = {
    "drawn_naevus.jpg": lambda: draw_phantom(33, diagnosis="nv"),
    "drawn_melanoma_with_hair.jpg": lambda: draw_phantom(13, diagnosis="mel", hair=12),
    "drawn_basal_cell_carcinoma.jpg": lambda: draw_phantom(12, diagnosis="bcc", vignette=True),
    "drawn_acne.jpg": lambda: draw_phantom(22, diagnosis="acne"),
}


def write_examples(folder: Path) -> list[Path]:
    """Draw the example pictures into a folder, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in EXAMPLES.items():
        _save_jpeg(folder / name, draw().picture)
    return [folder / name for name in EXAMPLES]


def _save_jpeg(path: Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    Image.fromarray(picture).save(path, quality=90, comment="drawn by dermx.data.phantom")


def main(arguments: list[str] | None = None) -> None:
    """Draw the example pictures, a small data set, or both."""
    parser = argparse.ArgumentParser(prog="python -m dermx.data.phantom", description=main.__doc__)
    parser.add_argument("--out", type=Path, help="folder for the example pictures")
    parser.add_argument("--dataset", type=Path, help="folder for a small drawn data set")
    parser.add_argument("--count", type=int, default=10, help="lesions of each diagnosis in it")
    parser.add_argument("--seed", type=int, default=0, help="of the data set")
    given = parser.parse_args(arguments)
    if given.out is None and given.dataset is None:
        parser.error("say where: --out DIR or --dataset DIR")
    if given.out is not None:
        print("\n".join(str(path) for path in write_examples(given.out)))
    if given.dataset is not None:
        try:
            ham10000, dermnet = write_dataset(given.dataset, given.count, seed=given.seed)
        except InputError as error:
            parser.error(str(error))
        print(f"{ham10000}\n{dermnet}")


# --- hair and camera ---------------------------------------------------------------------------


def _draw_hair(
    size: tuple[int, int], count: int, rng: np.random.Generator
) -> tuple[Plane, Colours]:
    """Cover in [0, 1] and colour of tapering curved hairs that lie roughly one way."""
    fine = 4  # drawn this much larger, then averaged: smooth edges and widths in quarter pixels
    height, width = size
    unit = min(size) / 450
    cover = np.zeros((height * fine, width * fine), np.uint8)
    colours = np.zeros((height, width, 3), np.float32)
    lie = rng.uniform(0, np.pi)
    for _ in range(count):
        middle = rng.uniform(0.0, 1.0, 2) * (width, height)
        angle, length = lie + rng.normal(0, 0.45), rng.uniform(0.35, 1.1) * min(size)
        half = length / 2 * np.array([np.cos(angle), np.sin(angle)])
        bend = rng.normal(0, 0.16) * length * np.array([-np.sin(angle), np.cos(angle)])
        t = np.linspace(0, 1, 48)[:, None]
        curve = (
            (1 - t) ** 2 * (middle - half)
            + 2 * t * (1 - t) * (middle + bend)
            + t**2 * (middle + half)
        )
        thick = rng.uniform(1.8, 4.6) * unit * (1 - 0.65 * t[:, 0] ** 2)  # root to tip
        shade = rng.uniform(0.06, 0.3)
        colour = (shade * 1.15, shade * 0.9, shade * 0.75)
        for a, b, across in zip(curve[:-1], curve[1:], thick[1:], strict=True):
            ends = [tuple(int(v) for v in np.rint(point * 16)) for point in (a, b)]
            cv2.line(colours, ends[0], ends[1], colour, max(1, round(across)) + 3, cv2.LINE_8, 4)
            ends = [(end[0] * fine, end[1] * fine) for end in ends]
            cv2.line(cover, ends[0], ends[1], 255, max(1, round(across * fine)), cv2.LINE_8, 4)
    small = cv2.resize(cover, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255, colours


def _turned(
    colours: Colours, lesion: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> tuple[Colours, Bool[np.ndarray, "h w"]]:
    """Another picture of the same lesion: turned, a little nearer or further."""
    height, width = lesion.shape
    matrix = cv2.getRotationMatrix2D(
        (width / 2, height / 2), rng.uniform(0, 360), rng.uniform(0.85, 1.2)
    )
    mirror = cv2.BORDER_REFLECT_101
    turned = cv2.warpAffine(colours, matrix, (width, height), borderMode=mirror)
    mask = cv2.warpAffine(
        lesion.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=mirror
    )
    return np.asarray(turned, np.float32), mask > 0


def _lit(colours: Colours, rng: np.random.Generator) -> Colours:
    """Sharpness, brightness, white balance and a gentle fall of light across the picture."""
    height, width = colours.shape[:2]
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    fall = 1 + 0.08 * (x * np.cos(angle) + y * np.sin(angle)) - 0.12 * (x**2 + y**2)
    gains = rng.uniform(0.9, 1.04) * rng.uniform(0.97, 1.03, 3)
    blurred = cv2.GaussianBlur(colours, (0, 0), 0.3 + 0.6 * min(height, width) / 450)
    return np.asarray(blurred * fall[:, :, None] * gains, np.float32)


def _camera(
    size: tuple[int, int], vignette: bool, rng: np.random.Generator
) -> Callable[[Colours], UInt8[np.ndarray, "h w 3"]]:
    """Dark corners and noise; the same for every call."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = np.hypot(x - width / 2, y - height / 2)
    field = np.hypot(width, height) / 2 * np.float32(rng.uniform(0.84, 0.93))
    seen = 1 / (1 + np.exp(np.clip((away - field) / (0.012 * min(size)), -30, 30)))
    grain = rng.standard_normal((height, width, 3), np.float32) * np.float32(0.008)

    def finish(colours: Colours) -> UInt8[np.ndarray, "h w 3"]:
        if vignette:
            colours = colours * (0.04 + 0.96 * seen[:, :, None])
        return np.asarray(np.clip(np.rint((colours + grain) * 255), 0, 255), np.uint8)

    return finish


if __name__ == "__main__":
    main()
