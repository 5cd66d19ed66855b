"""How fast are answers, beside a plain loop over PIL and ONNX Runtime with default settings?

Both sides read the same files through the same network on the same threads, in turn, in one run;
each figure is the best of `--repeats`. The plain loop is what one writes first: open, convert,
crop, resize, normalise, stack, run. It gives logits; ours also checks the files, gives heat maps
(one picture) or features (many), and survives files that can't be read.

    python benchmarks/predict.py [--model BUNDLE] [--images DIR] [--count 256]

Without `--images`, pictures of 600 x 450 pixels are drawn first.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from dermx.assess import Model
from dermx.data.files import list_pictures
from dermx.data.phantom import draw_phantom
from dermx.model.bundle import Bundle, load_bundle
from dermx.model.runtime import usable_cores
from dermx.predict import predict_cases
from dermx.records import Case


def plain_input(path: Path, bundle: Bundle) -> np.ndarray:
    spec = bundle.preprocess
    image = Image.open(path).convert("RGB")
    side = round(min(image.size) * spec.crop_fraction)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    small = square.resize((spec.image_size, spec.image_size), Image.Resampling.BILINEAR)
    values = (np.asarray(small, np.float32) / 255 - spec.mean) / spec.std
    return values.astype(np.float32).transpose(2, 0, 1)


def plain_loop(
    session: onnxruntime.InferenceSession, bundle: Bundle, paths: Sequence[Path], batch_size: int
) -> np.ndarray:
    rows = []
    for start in range(0, len(paths), batch_size):
        batch = np.stack([plain_input(p, bundle) for p in paths[start : start + batch_size]])
        features = session.run(["features"], {"pixels": batch})[0]
        rows.append(features @ bundle.weight.T + bundle.bias)
    return np.concatenate(rows)


def best(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each, the shortest of several rounds, in turn; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for name in list(work) * (repeats + 1):
        started = time.perf_counter()
        work[name]()
        seconds[name].append(time.perf_counter() - started)
    return {name: min(taken[1:]) for name, taken in seconds.items()}


def draw(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"drawn{i:04d}.jpg" for i in range(count)]
    for seed, path in enumerate(paths):
        picture = draw_phantom(seed % 16).picture  # drawing is slow; sixteen different ones do
        Image.fromarray(picture).save(path, quality=92)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model's folder; default: the shipped one")
    parser.add_argument("--images", type=Path, help="a folder of pictures; default: drawn ones")
    parser.add_argument("--count", type=int, default=256, help="pictures of the batch measurement")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    bundle = load_bundle(given.model)
    with tempfile.TemporaryDirectory() as folder:
        found = list_pictures([given.images]) if given.images else draw(Path(folder), given.count)
        measure(bundle, found[: given.count], given.repeats)


def measure(bundle: Bundle, paths: list[Path], repeats: int) -> None:
    plain = onnxruntime.InferenceSession(str(bundle.network), providers=["CPUExecutionProvider"])
    model = Model(bundle, with_trust=False)  # one view, as the plain loop
    cases = [
        Case(image=str(i), path=path, diagnosis=None, lesion="", group="", source="folder")
        for i, path in enumerate(paths)
    ]
    with Image.open(paths[0]) as image:
        print(f"{bundle.name}, {len(paths)} pictures like {image.width} x {image.height} "
              f"{image.format}, {usable_cores()} cores")  # fmt: skip
    ours, failures = predict_cases(model.session, cases)
    assert not failures, failures[:3]
    theirs = plain_loop(plain, bundle, paths, 32)
    agree = (ours.logits.argmax(axis=1) == theirs.argmax(axis=1)).mean()
    print(f"same answer on {agree:.1%} (resizing differs)")

    many = best(
        {
            "plain": lambda: plain_loop(plain, bundle, paths, 32),
            "dermx": lambda: predict_cases(model.session, cases, batch_size=32),
        },
        repeats,
    )
    for name, seconds in many.items():
        print(f"batch 32   {name}  {len(paths) / seconds:7.1f} images/s")
    print(f"batch 32   dermx is {many['plain'] / many['dermx']:.2f} times as fast")

    few = paths[:32]
    single = best(
        {
            "plain": lambda: [plain_loop(plain, bundle, [path], 1) for path in few],
            "dermx": lambda: [model.assess(path) for path in few],
        },
        repeats,
    )
    for name, seconds in single.items():
        print(f"one by one {name}  {1000 * seconds / len(few):7.1f} ms a picture")
    print(f"one by one dermx is {single['plain'] / single['dermx']:.2f} times as fast")


if __name__ == "__main__":
    main()
