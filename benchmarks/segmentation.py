"""How well the lesion is outlined, beside plain Otsu, against the masks drawn for HAM10000.

Three methods on the same pictures in one run: the grey picture below Otsu's threshold, the piece
of it with most pixels in the picture's central half, and `dermx.preprocess.lesion`. The settings
of the last were chosen on pictures whose lesion has crc32(lesion_id) % 5 != 0; the other fifth of
the lesions is the row to believe.

    python benchmarks/segmentation.py --data ../shared/data
    python benchmarks/segmentation.py --data ../shared/data --limit 300
"""

import argparse
import csv
import random
import statistics
import time
import zlib
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np

from dermx.preprocess.hair import remove_hair
from dermx.preprocess.lesion import lesion_box, segment_lesion

METHODS = ("Otsu", "Otsu, central piece", "dermx", "dermx after hair removal")
MARGIN = 0.2


def otsu(picture: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)[1] > 0


def central_piece(mask: np.ndarray) -> np.ndarray:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    height, width = mask.shape
    middle = labels[height // 4 : -height // 4, width // 4 : -width // 4]
    sizes = np.bincount(middle.ravel(), minlength=count)
    return labels == 1 + int(np.argmax(sizes[1:])) if count > 1 else mask


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def read(data: Path, image: str) -> tuple[np.ndarray, np.ndarray]:
    folder = data / "ham10000"
    (path,) = folder.glob(f"HAM10000_images_part_[12]/{image}.jpg")
    masks = folder / "HAM10000_segmentations_lesion_tschandl"
    mask = cv2.imread(str(masks / f"{image}_segmentation.png"), cv2.IMREAD_GRAYSCALE) > 0
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), mask


def score(data: Path, row: dict[str, str]) -> list[float]:
    """Jaccard of each method; then, of the box, the lesion's share in it and its own share."""
    cv2.setNumThreads(1)
    picture, truth = read(data, row["image_id"])
    plain = otsu(picture)
    masks = (
        plain,
        central_piece(plain),
        segment_lesion(picture),
        segment_lesion(remove_hair(picture)),
    )
    top, left, bottom, right = lesion_box(picture, margin=MARGIN)
    inside = truth[top:bottom, left:right].sum() / truth.sum()
    area = (bottom - top) * (right - left) / truth.size
    return [*(jaccard(mask, truth) for mask in masks), float(inside), area]


def table(title: str, scores: np.ndarray, cases: list[str], parts: dict[str, np.ndarray]) -> None:
    print(f"\n| {title} | pictures | {' | '.join(cases)} |\n|---|---|{'---|' * len(cases)}")
    for part, rows in parts.items():
        chosen = scores[rows]
        cells = [f"{mean:.3f} ({low:.1%})" for mean, low in zip(
            chosen.mean(axis=0), (chosen < 0.5).mean(axis=0), strict=True)]  # fmt: skip
        print(f"| {part} | {len(chosen)} | {' | '.join(cells)} |")


def print_times(data: Path, images: list[str]) -> None:
    cv2.setNumThreads(1)
    pictures = [
        cv2.resize(read(data, image)[0], (600, 450), interpolation=cv2.INTER_CUBIC)
        for image in images
    ]
    print("\nmilliseconds of one CPU at 600x450, median of", len(pictures), "pictures:")
    for name, method in (("segment_lesion", segment_lesion), ("lesion_box", lesion_box)):
        times = []
        for picture in pictures:
            start = time.process_time()
            method(picture)
            times.append(1e3 * (time.process_time() - start))
        print(f"  {name}: {statistics.median(times):.1f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="folder with ham10000/ in it")
    options.add_argument("--limit", type=int, help="so many pictures, drawn at random")
    options.add_argument("--processes", type=int, default=2)
    given = options.parse_args()
    with (given.data / "ham10000" / "HAM10000_metadata.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image_id"])
    if given.limit:
        rows = random.Random(1).sample(rows, min(given.limit, len(rows)))
    with Pool(given.processes) as pool:
        results = pool.map(partial(score, given.data), rows, chunksize=50)
    scores = np.array(results)

    held = np.array([zlib.crc32(row["lesion_id"].encode()) % 5 == 0 for row in rows])
    diagnoses = np.array([row["dx"] for row in rows])
    parts = {"all": np.ones(len(rows), bool), "held-out lesions": held}
    for code in np.unique(diagnoses):
        parts[f"all {code}"] = diagnoses == code
        parts[f"held-out {code}"] = held & (diagnoses == code)
    parts = {part: chosen for part, chosen in parts.items() if chosen.any()}
    print("Mean Jaccard index (share of pictures below 0.5)")
    table("part", scores[:, :4], list(METHODS), parts)
    inside, area = scores[:, 4], scores[:, 5]
    print(
        f"\nbox with margin {MARGIN}: holds {inside.mean():.1%} of the lesion, all but 1 % of it "
        f"in {(inside > 0.99).mean():.1%} of pictures; takes {area.mean():.1%} of the picture"
    )
    print_times(given.data, [row["image_id"] for row in rows[:: max(1, len(rows) // 100)]])


if __name__ == "__main__":
    main()
