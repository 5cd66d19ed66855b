"""What does it cost the training process to be handed batches that other processes made?

At this batch size a GPU waits for its host. A CPU shows what the host needs when the network is
given next to nothing: two pictures of 32 pixels, for which MobileNetV2 takes as many calls as for
a whole batch. Batches of 64 pictures of 224 pixels, ready-made, come in three ways, interleaved:

- memory: one that is there already;
- ours: `dermx.train.dataset.load_batches`, through memory that the processes share;
- loader: PyTorch's own, each batch a tensor sent by a process, on a GPU through its pinning thread.

    python benchmarks/handover.py
"""

import argparse
import statistics
from collections.abc import Iterator
from itertools import islice, repeat

import numpy as np
import torch
from torch.utils.data import DataLoader
from train_throughput import BATCH, keep_to_one_core, steps_per_second

from dermx.config import Config, TrainConfig
from dermx.train.dataset import Draw, EpochBatches, TrainSet, load_batches
from dermx.train.network import Standardize, choose_precision

STEPS = 60


class Ready(TrainSet):
    """Pictures that take no making."""

    picture = torch.zeros(224, 224, 3, dtype=torch.uint8)

    def __getitem__(self, draw: Draw) -> torch.Tensor:
        return self.picture


def handed_over(
    stream: Iterator[torch.Tensor], standardize: Standardize, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The inputs and labels of the stream's next steps, on a CPU next to nothing of each batch."""
    labels = torch.arange(BATCH) % 8
    for pixels in islice(stream, STEPS + 1):
        if device.type == "cpu":
            pixels = pixels[:2, :32, :32]
        yield standardize(pixels.to(device, non_blocking=True)), labels[: len(pixels)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pin_memory = device.type == "cuda"
    config = Config(train=TrainConfig(epochs=10**4, batch_size=BATCH, oversample=0))
    batches = EpochBatches(np.arange(BATCH * STEPS) % 8, config.train)
    ready = Ready(None, config.augment, spec=config.preprocess, seed=0)
    loader = DataLoader(
        ready,
        batch_sampler=batches,
        num_workers=options.workers,
        pin_memory=pin_memory,
        worker_init_fn=keep_to_one_core,
    )
    one = torch.zeros(BATCH, 224, 224, 3, dtype=torch.uint8)
    streams = {
        "memory": repeat(one.pin_memory() if pin_memory else one),
        "ours": load_batches(ready, batches, workers=options.workers, pin_memory=pin_memory),
        "loader": iter(loader),
    }
    spec, precision = config.preprocess, choose_precision("auto", device)
    standardize = Standardize(spec.mean, spec.std).to(device)
    times: dict[str, list[float]] = {way: [] for way in streams}
    for _ in range(options.rounds):
        for way, stream in streams.items():
            given = handed_over(stream, standardize, device)
            speed = steps_per_second(given, precision, True, device)
            times[way].append(1e3 * BATCH / speed)
    print(f"milliseconds per step, {device}, median of {options.rounds} rounds (least, most):")
    for way, values in times.items():
        middle, memory = statistics.median(values), statistics.median(times["memory"])
        print(
            f"  {way:8} {middle:5.1f} ({min(values):.1f}, {max(values):.1f}), "
            f"{memory / middle:.2f} times the speed from memory"
        )


if __name__ == "__main__":
    main()
