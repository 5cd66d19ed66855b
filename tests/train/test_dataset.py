import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dermx.config import AugmentConfig, Config, PreprocessConfig
from dermx.errors import ConfigError
from dermx.preprocess.artefacts import in_grey_light
from dermx.train.dataset import Draw, EpochBatches, TrainSet, load_batches
from dermx.train.loop import Pictures


def test_two_processes_share_each_batch_of_one_process(config: Config) -> None:
    labels = np.arange(50) % 5
    alone = list(EpochBatches(labels, config.train))
    halves = [list(EpochBatches(labels, config.train, rank=rank, world=2)) for rank in (0, 1)]
    for batch, first, second in zip(alone, *halves, strict=True):
        assert sorted(first + second) == sorted(batch)
        assert not set(first) & set(second)


def test_epochs_differ_follow_each_other_and_each_can_be_made_again(config: Config) -> None:
    batches = EpochBatches(np.arange(50) % 5, config.with_train(epochs=3).train)
    zero, one, two = (batches.of(epoch) for epoch in range(3))
    assert zero == batches.of(0) != one
    assert {draw.epoch for batch in one for draw in batch} == {1}
    assert list(batches) == zero + one + two
    batches.first = 1  # where a resumed run goes on
    assert list(batches) == one + two
    assert len(batches) == len(one + two)


def test_an_incomplete_last_batch_is_left_out(config: Config) -> None:
    batches = EpochBatches(np.arange(50) % 5, config.train)
    assert batches.per_epoch == len(batches.of(0)) == 3  # 50 = 3 * 16 + 2
    assert {len(batch) for batch in batches.of(0)} == {16}


def test_a_curriculum_begins_with_easy_pictures_and_ends_as_without_one(config: Config) -> None:
    labels, difficulty = np.arange(64) % 4, np.arange(64)[::-1].astype(float)
    settings = config.with_train(curriculum_start=0.25, curriculum_epochs=3, oversample=1.0).train
    without = EpochBatches(labels, settings)
    batches = EpochBatches(labels, settings, difficulty=difficulty)
    assert len(batches.of(0)) == len(without.of(0)) == 4
    first = np.array([draw.picture for batch in batches.of(0) for draw in batch])
    assert first.min() >= 48  # the easiest quarter of each class
    assert np.bincount(labels[first]).tolist() == [16, 16, 16, 16]
    assert batches.of(3) == without.of(3)


def test_an_item_depends_on_seed_epoch_and_position_only(
    task: tuple[Pictures, Pictures],
) -> None:
    train = task[0]

    def item(seed: int, draw: Draw) -> torch.Tensor:
        spec = PreprocessConfig(image_size=32)
        return TrainSet(train.cache, AugmentConfig(), spec=spec, seed=seed)[draw]

    first = item(0, Draw(2, 5, 7))
    assert torch.equal(first, item(0, Draw(2, 5, 7)))
    others = [item(1, Draw(2, 5, 7)), item(0, Draw(3, 5, 7)), item(0, Draw(2, 6, 7))]
    assert not any(torch.equal(first, other) for other in others)


def test_colour_constancy_comes_after_what_was_drawn(task: tuple[Pictures, Pictures]) -> None:
    train, cast = task[0], AugmentConfig(colour_cast=0.5)

    def item(constancy: bool) -> np.ndarray:
        spec = PreprocessConfig(image_size=32, colour_constancy=constancy)
        return TrainSet(train.cache, cast, spec=spec, seed=0)[Draw(2, 5, 7)].numpy()

    np.testing.assert_array_equal(item(True), in_grey_light(item(False)))
    assert not np.array_equal(item(True), item(False))


def test_a_loader_gives_uint8_pictures_and_leaves_the_global_generator_alone(
    tmp_path: Path, config: Config, make_pictures: Callable[[Path, int, int, int], Pictures]
) -> None:
    train = make_pictures(tmp_path, 32, 40, 0)
    dataset = TrainSet(train.cache, config.augment, spec=config.preprocess, seed=0)
    batches = EpochBatches(train.labels, config.train)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    pixels = next(load_batches(dataset, batches, workers=0, pin_memory=False))
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (16, 32, 32, 3))
    assert torch.equal(torch.rand(3), expected)


def test_processes_make_the_same_batches_ahead_of_time(
    task: tuple[Pictures, Pictures], config: Config
) -> None:
    """More of them than the ring has places, each read when those asked for ahead are made."""
    train = task[0]
    dataset = TrainSet(train.cache, config.augment, spec=config.preprocess, seed=0)
    batches = EpochBatches(train.labels, config.with_train(epochs=4).train, rank=1, world=3)
    assert len(batches) > 2 * 2 + 1
    alone = list(load_batches(dataset, batches, workers=0, pin_memory=False))
    ahead = load_batches(dataset, batches, workers=2, pin_memory=False)
    for i, theirs in enumerate(ahead):
        time.sleep(0.1)
        assert torch.equal(alone[i], theirs)
    assert i + 1 == len(alone)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_for_a_gpu_stay_when_the_next_take_their_memory(
    workers: int, task: tuple[Pictures, Pictures], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = []

    def copied(pixels: torch.Tensor) -> torch.Tensor:
        copies.append(pixels.clone())
        return copies[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", copied)  # as a CPU can't pin
    dataset = TrainSet(task[0].cache, config.augment, spec=config.preprocess, seed=0)
    batches = EpochBatches(task[0].labels, config.with_train(epochs=4).train)
    alone = list(load_batches(dataset, batches, workers=0, pin_memory=False))
    kept = list(load_batches(dataset, batches, workers=workers, pin_memory=True))
    assert torch.equal(torch.stack(kept), torch.stack(alone))
    assert len(copies) == len(kept)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_fetches_a_batch_before_the_next_takes_its_memory(
    task: tuple[Pictures, Pictures], config: Config
) -> None:
    dataset = TrainSet(task[0].cache, config.augment, spec=config.preprocess, seed=0)
    batches = EpochBatches(task[0].labels, config.with_train(epochs=4).train)
    fetched = []
    for pixels in load_batches(dataset, batches, workers=2, pin_memory=True):
        assert pixels.is_pinned()
        fetched.append(pixels.to("cuda", non_blocking=True))
    alone = list(load_batches(dataset, batches, workers=0, pin_memory=False))
    assert torch.equal(torch.stack(fetched).cpu(), torch.stack(alone))


def test_too_little_shared_memory_is_said(
    task: tuple[Pictures, Pictures], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensor: torch.Tensor) -> None:
        raise RuntimeError("No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    dataset = TrainSet(task[0].cache, config.augment, spec=config.preprocess, seed=0)
    batches = EpochBatches(task[0].labels, config.train)
    with pytest.raises(ConfigError, match=r"can't share .*No space.* 0 needs none"):
        next(load_batches(dataset, batches, workers=2, pin_memory=False))


class Damaged(TrainSet):
    def __getitem__(self, draw: Draw) -> torch.Tensor:
        raise OSError("the cache can't be read")


def test_what_goes_wrong_in_a_process_is_told(
    task: tuple[Pictures, Pictures], config: Config
) -> None:
    dataset = Damaged(task[0].cache, config.augment, spec=config.preprocess, seed=0)
    batches = EpochBatches(task[0].labels, config.train)
    with pytest.raises(OSError, match="the cache can't be read"):
        next(load_batches(dataset, batches, workers=1, pin_memory=False))


class ThreadCounts(TrainSet):
    """Its items are how many threads OpenCV has where they are made."""

    def __getitem__(self, draw: Draw) -> torch.Tensor:
        return torch.full((32, 32, 3), cv2.getNumThreads())


def test_a_loader_s_processes_keep_to_one_core_each(
    task: tuple[Pictures, Pictures], config: Config
) -> None:
    """OpenCV takes all cores for every picture, and every process would."""
    train = task[0]
    dataset = ThreadCounts(train.cache, config.augment, spec=config.preprocess, seed=0)
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        batches = EpochBatches(train.labels, config.train)
        threads = next(load_batches(dataset, batches, workers=2, pin_memory=False))
        assert set(threads.flatten().tolist()) == {1}
        assert cv2.getNumThreads() == 4  # this process's are its own
    finally:
        cv2.setNumThreads(before)
