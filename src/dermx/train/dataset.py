"""What does the network see, and in which order?

Every random draw is made from (seed, epoch, position), never from a generator that is carried
along. So any epoch can be made again on its own: resuming needs no saved generator, and neither
the number of loader processes nor of training processes changes what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dermx.config import AugmentConfig, PreprocessConfig, TrainConfig
from dermx.errors import ConfigError
from dermx.preprocess.pipeline import relit
from dermx.train.augment import apply_change, draw_change
from dermx.train.cache import PixelCache
from dermx.train.sampling import curriculum_share, draw_epoch, easiest, epoch_counts

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8


class Draw(NamedTuple):
    """One place in one epoch and the picture that fills it."""

    epoch: int
    position: int
    picture: int


class TrainSet(Dataset[torch.Tensor]):
    """Cached pictures, changed as drawn; the key of an item is a `Draw`.

    An item has no label: whoever draws knows it, and all that a process hands over takes time.
    """

    def __init__(
        self, cache: PixelCache, augment: AugmentConfig, *, spec: PreprocessConfig, seed: int
    ) -> None:
        self.cache, self.augment, self.spec, self.seed = cache, augment, spec, seed

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, draw: Draw) -> UInt8[torch.Tensor, "s s 3"]:
        rng = np.random.default_rng([self.seed, 1, draw.epoch, draw.position])
        change = draw_change(self.augment, rng)
        spec = self.spec
        changed = apply_change(
            self.cache[draw.picture], change, spec.image_size, spec.crop_fraction
        )
        return torch.from_numpy(relit(changed, spec))


class EpochBatches(Sampler[list[Draw]]):
    """The batches of all epochs from `first` on, one after the other.

    One pass for all of them: a loader that was asked for each epoch anew would begin each with
    nothing made, and training would wait for the first pictures.
    A batch is split evenly over the processes, so the global batch does not depend on their
    number. The last, incomplete batch is left out: its few pictures would weigh more.
    Where the pictures' difficulty is known, the first epochs draw from the easier ones only.
    """

    def __init__(
        self,
        labels: Int[np.ndarray, " n"],
        config: TrainConfig,
        *,
        difficulty: Float[np.ndarray, " n"] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.difficulty = difficulty
        self.labels, self.config, self.rank, self.world = labels, config, rank, world
        self.first = 0
        counts = np.bincount(labels)
        total = config.samples_per_epoch or len(labels)
        self.targets = epoch_counts(counts, config, total)
        self.batch_size = min(config.batch_size, int(self.targets.sum()))

    @property
    def per_epoch(self) -> int:
        """Batches of one epoch."""
        return int(self.targets.sum()) // self.batch_size

    def of(self, epoch: int) -> list[list[Draw]]:
        """Draw one epoch: this process's share of each of its batches."""
        rng = np.random.default_rng([self.config.seed, 0, epoch])
        if self.difficulty is None:
            order = draw_epoch(self.labels, self.targets, rng)
        else:
            share = curriculum_share(epoch, self.config)
            known = easiest(self.labels, self.difficulty, share)
            order = known[draw_epoch(self.labels[known], self.targets, rng)]
        draws = [Draw(epoch, position, int(i)) for position, i in enumerate(order)]
        starts = range(0, self.per_epoch * self.batch_size, self.batch_size)
        return [draws[at + self.rank : at + self.batch_size : self.world] for at in starts]

    def __len__(self) -> int:
        return (self.config.epochs - self.first) * self.per_epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        for epoch in range(self.first, self.config.epochs):
            yield from self.of(epoch)


class BatchRing(Dataset[int]):
    """Batches in memory that all processes share; an item is where in it a batch now lies.

    Handed over as a tensor, each batch is memory that the training process has not seen before:
    finding and mapping its pages takes 3 ms and more there, of the 30 of a GPU's step.

    Raises:
        ConfigError: The machine has too little of such memory; containers have 64 MB unless told.
    """

    def __init__(self, dataset: TrainSet, *, places: int, batch_size: int) -> None:
        size = dataset.spec.image_size
        self.dataset = dataset
        self.memory: UInt8[torch.Tensor, "places b s s 3"] = torch.empty(
            places, batch_size, size, size, 3, dtype=torch.uint8
        )
        try:
            self.memory.share_memory_()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            megabytes = self.memory.nbytes / 1e6
            raise ConfigError(
                f"can't share {megabytes:.0f} MB of pictures between processes ({error}); enlarge "
                "the shared memory (docker run --shm-size) or lower train.workers, 0 needs none"
            ) from error

    def __getitem__(self, job: tuple[int, list[Draw]]) -> int:
        place, draws = job
        for pixels, draw in zip(self.memory[place], draws, strict=True):
            pixels.copy_(self.dataset[draw])
        return place


def load_batches(
    dataset: TrainSet, batches: EpochBatches, *, workers: int, pin_memory: bool
) -> Iterator[UInt8[torch.Tensor, "b s s 3"]]:
    """Load batches as uint8, a quarter of the bytes that normalised pixels would take.

    Args:
        dataset: Makes the pictures.
        batches: Which, in what order.
        workers: Processes that make them ahead of time; 0: this one, when asked.
        pin_memory: Copy each batch to where a GPU can fetch it while the next step is prepared.

    Yields:
        One batch, this process's share; the next may take its memory.

    Raises:
        ConfigError: See `BatchRing`.
    """
    if workers:
        made = _made_ahead(dataset, batches, workers)
    else:
        made = (torch.stack([dataset[draw] for draw in draws]) for draws in batches)
    for pixels in made:
        yield pixels.pin_memory() if pin_memory else pixels


def _made_ahead(
    dataset: TrainSet, batches: EpochBatches, workers: int
) -> Iterator[UInt8[torch.Tensor, "b s s 3"]]:
    ahead = 2  # batches that each process is asked for
    places = ahead * workers + 1  # the one more is in use
    share = len(range(batches.rank, batches.batch_size, batches.world))
    ring = BatchRing(dataset, places=places, batch_size=share)
    loader = DataLoader(
        ring,
        batch_size=None,
        sampler=zip(cycle(range(places)), batches),  # they take the places in turn
        num_workers=workers,
        prefetch_factor=ahead,
        generator=torch.Generator(),  # its own: opening a loader must not move dropout's draws
        worker_init_fn=_work_alone,
    )
    for place in loader:
        yield ring.memory[place]


def _work_alone(worker: int) -> None:
    """Keep OpenCV from sharing a picture over all cores: the processes share the pictures."""
    cv2.setNumThreads(0)  # no threads; 1 waits for those that this process did not inherit
