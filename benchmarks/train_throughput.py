"""How many images per second does training reach, and what holds it back?

Four loops over the same pictures in one run, interleaved so that a busy machine slows all alike:

- memory: forward, backward and step on one batch that is already in memory, nothing else;
- ours: `dermx.train.loop.fit` whole, from the uint8 cache, with augmentation, clipping and EMA;
- plain: what a first script looks like: PIL and torchvision transforms on every epoch, fp32;
- plain, tuned: the same pictures the plain way, with our precision and memory format.

    python benchmarks/train_throughput.py --init mobilenetv2_100.imagenet.safetensors \
        --pictures HAM10000_images_part_1

On a GPU, `--steps 40`: six are over before its loaders have filled up. `--apart` adds what ours is
made of: the same fed from memory, that without clipping, and its loader alone beside PyTorch's.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from dermx.config import Config, TrainConfig
from dermx.data.files import pictures_in
from dermx.data.phantom import draw_phantom
from dermx.preprocess.pipeline import prepare, shorter_side_to
from dermx.preprocess.reading import read_picture
from dermx.train.cache import PixelCache, open_cache
from dermx.train.dataset import EpochBatches, TrainSet, load_batches
from dermx.train.loop import Pictures, fit, keep_freed_memory, loader_processes
from dermx.train.network import build_network, choose_precision

BATCH, STEPS = 64, 6  # the plain loops' steps
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PlainSet(Dataset):
    """Decode and transform each picture whenever it is asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(224, scale=(0.4, 1)),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.RandomRotation(180),
                v2.ColorJitter(0.2, 0.2, 0.2, 0.05),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.paths[i]).convert("RGB")), i % 8


def steps_per_second(batches, precision: str, channels_last: bool, device: torch.device) -> float:
    """Images per second of plain training steps; the first step warms up."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    network = build_network("mobilenetv2_100", 8, pretrained=False).to(device, memory_format=form)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler(enabled=precision == "fp16")
    for step, (inputs, labels) in enumerate(batches):
        if step == 1:
            synchronize(device)
            started = time.perf_counter()
        inputs = inputs.to(device, non_blocking=True).to(memory_format=form)
        with torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
            loss = F.cross_entropy(network(inputs), labels.to(device))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    synchronize(device)
    return step * BATCH / (time.perf_counter() - started)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="folder of pictures; else drawn ones")
    parser.add_argument("--init", type=Path, help="starting weights; else random")
    parser.add_argument("--steps", type=int, default=STEPS, help="of memory and ours")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=-1, help="processes of ours that load")
    parser.add_argument("--apart", action="store_true", help="measure the parts of ours, too")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = (
            pictures_in(options.pictures)[: BATCH * (options.steps + 1)]
            if options.pictures
            else draw(folder / "drawn", options.steps)
        )
        config = Config(train=TrainConfig(epochs=2, oversample=0, workers=options.workers))
        precision = choose_precision("auto", device)
        few = paths[: BATCH * (STEPS + 1)]
        speeds: dict[str, list[float]] = {}
        for round_ in range(options.rounds):
            one = torch.randn(BATCH, 3, 224, 224, device=device), torch.arange(BATCH) % 8
            measured = {
                "memory": steps_per_second([one] * (options.steps + 1), precision, True, device),
                "ours": ours(paths, config, folder / str(round_), folder / "cache", options.init),
                "plain": steps_per_second(plain(few), "fp32", False, device),
                "plain, tuned": steps_per_second(plain(few), precision, True, device),
            }
            if options.apart:
                measured |= apart(
                    paths, config, folder / f"{round_} apart", folder / "cache", options.init
                )
            for loop, speed in measured.items():
                speeds.setdefault(loop, []).append(speed)
            print(f"round {round_ + 1}:", {k: round(v, 1) for k, v in measured.items()}, flush=True)
    middle = {loop: statistics.median(values) for loop, values in speeds.items()}
    print(f"median images/s at batch {BATCH}, 224 pixels, {device}, {precision}:")
    for loop, speed in middle.items():
        beside = "" if "loader" in loop else f"   ours is {middle['ours'] / speed:.2f} times this"
        print(f"  {loop:23} {speed:7.1f}{beside}")


def draw(folder: Path, steps: int) -> list[Path]:
    """Write one batch of drawn pictures and name each several times."""
    folder.mkdir()
    paths = []
    for seed in range(BATCH):
        path = folder / f"{seed}.jpg"
        Image.fromarray(draw_phantom(seed, size=(450, 600)).picture).save(path, quality=90)
        paths.append(path)
    return paths * (steps + 1)


def plain(paths: list[Path]) -> DataLoader:
    return DataLoader(PlainSet(paths), batch_size=BATCH, shuffle=True, drop_last=True)


def training_cache(paths: list[Path], folder: Path) -> PixelCache:
    return open_cache(
        folder / "train",
        paths,
        lambda path: shorter_side_to(read_picture(path, min_side=256).pixels, 256),
        recipe="train",
    )


def ours(
    paths: list[Path],
    config: Config,
    out: Path,
    cache: Path,
    init: Path | None,
    *,
    loaded: bool = True,
) -> float:
    """Images per second of the second epoch of a whole training run.

    Without `loaded` it is fed batches that are in memory already.
    """
    labels = np.arange(len(paths)) % 8
    train = training_cache(paths, cache)
    val = open_cache(
        cache / "val",
        paths[:8],
        lambda path: prepare(read_picture(path).pixels, config.preprocess)[0],
        recipe="val",
    )
    with nullcontext() if loaded else mock.patch("dermx.train.loop.load_batches", in_memory):
        progress = fit(
            Pictures(cache=train, labels=labels),
            Pictures(cache=val, labels=labels[:8]),
            config,
            out,
            n_classes=8,
            score=lambda truth, logits: {
                "balanced_accuracy": float((logits.argmax(1) == truth).mean())
            },
            init=init,
            pretrained=False,
            say=lambda line: None,
        )
    return progress.history[-1]["images_per_second"]


def in_memory(
    dataset: TrainSet, batches: EpochBatches, *, workers: int, pin_memory: bool
) -> Iterator[torch.Tensor]:
    """What `load_batches` gives, but all of it the first batch."""
    pixels = torch.stack([dataset[draw] for draw in next(iter(batches))])
    return repeat(pixels.pin_memory() if pin_memory else pixels, len(batches))


def apart(
    paths: list[Path], config: Config, out: Path, cache: Path, init: Path | None
) -> dict[str, float]:
    """Images per second of ours without one part, of its loader alone and of PyTorch's."""
    unclipped = replace(config, train=replace(config.train, clip_norm=0.0))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = EpochBatches(np.arange(len(paths)) % 8, config.train)
    pictures = TrainSet(
        training_cache(paths, cache), config.augment, spec=config.preprocess, seed=0
    )
    workers = loader_processes(config.train.workers, device)
    pin_memory = device.type == "cuda"
    loader = DataLoader(
        pictures,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=keep_to_one_core,
    )
    return {
        "ours from memory": ours(paths, config, out / "1", cache, init, loaded=False),
        "that without clipping": ours(paths, unclipped, out / "2", cache, init, loaded=False),
        "its loader alone": loaded_per_second(
            load_batches(pictures, batches, workers=workers, pin_memory=pin_memory), batches
        ),
        "PyTorch's loader alone": loaded_per_second(iter(loader), batches),
    }


def keep_to_one_core(worker: int) -> None:
    cv2.setNumThreads(0)


def loaded_per_second(stream: Iterator[torch.Tensor], batches: EpochBatches) -> float:
    """Images per second of the second epoch; the first starts the loader's processes."""
    for _ in range(2):
        started = time.perf_counter()
        for _ in range(batches.per_epoch):
            next(stream)
        seconds = time.perf_counter() - started
    return batches.per_epoch * batches.batch_size / seconds


if __name__ == "__main__":
    main()
