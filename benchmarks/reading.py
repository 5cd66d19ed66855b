"""How long reading a JPEG takes: ours against a plain, full PIL decode, in one run.

    python benchmarks/reading.py

The large picture is where decoding at reduced scale pays; at 600 x 450 the checks and notes that
PIL's one-liner lacks must cost next to nothing. Both pictures are drawn, both decoders read
bytes from memory, one after the other in turn, and the median of each is printed.
"""

import io
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageOps

from dermx.data.phantom import draw_phantom
from dermx.preprocess.reading import read_picture

NEEDED = 256  # pixels of the shorter side: enough for an input of 224


def plain_pil(data: bytes) -> np.ndarray:
    """Decode as a script without care would, but upright."""
    return np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def medians(tasks: list[Callable[[], object]], seconds: float = 3.0) -> list[float]:
    """Milliseconds of each task, taken in turn so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in tasks]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for task, taken in zip(tasks, times, strict=True):
            start = time.perf_counter()
            task()
            taken.append(1000 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]


def main() -> None:
    drawn = draw_phantom(33, diagnosis="nv", hair=8).picture
    for height, width in ((3000, 4000), (450, 600)):
        file = io.BytesIO()
        Image.fromarray(cv2.resize(drawn, (width, height))).save(file, "JPEG", quality=92)
        data = file.getvalue()
        full, ours, reduced = medians(
            [
                lambda data=data: plain_pil(data),
                lambda data=data: read_picture(data),
                lambda data=data: read_picture(data, min_side=NEEDED),
            ]
        )
        shape = read_picture(data, min_side=NEEDED).pixels.shape
        print(f"{width} x {height} JPEG, {len(data) / 1e6:.2f} MB")
        print(f"  plain PIL              {full:8.2f} ms")
        print(f"  ours, full scale       {ours:8.2f} ms   {full / ours:5.2f} times as fast")
        print(
            f"  ours, min_side={NEEDED}    {reduced:8.2f} ms   {full / reduced:5.2f} times as fast"
            f"   (decoded to {shape[1]} x {shape[0]})"
        )


if __name__ == "__main__":
    main()
