import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from dermx.config import Config
from dermx.errors import ConfigError, DataError
from dermx.train import loop
from dermx.train.checkpoint import Progress
from dermx.train.guide import Guide
from dermx.train.loop import (
    Pictures,
    averaged,
    fit,
    loader_processes,
    seed_epoch,
    update_average,
)
from dermx.train.network import build_network

Task = tuple[Pictures, Pictures]


def hit_rate(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    return {"balanced_accuracy": float((logits.argmax(1) == labels).mean())}


def run(task: Task, config: Config, out: Path, **options: Any) -> Progress:
    given: dict[str, Any] = {"score": hit_rate, "n_classes": 3, "pretrained": False}
    return fit(task[0], task[1], config, out, **(given | {"say": lambda line: None} | options))


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    different = [key for key in first if not torch.equal(first[key], second[key])]
    assert different == []


class KilledError(Exception):
    pass


def dying(epoch: int, batch: int) -> loop.Track:
    """Progress that ends the process in the middle of an epoch."""

    def track(items: Iterable[Any], what: str, total: int, unit: int = 1) -> Iterable[Any]:
        for i, item in enumerate(items):
            if what.startswith(f"epoch {epoch}/") and i == batch:
                raise KilledError
            yield item

    return track


def test_learns_to_tell_colours_apart(task: Task, config: Config, tmp_path: Path) -> None:
    settings = config.with_train(epochs=8)
    progress = run(task, settings, tmp_path)
    losses = [row["train_loss"] for row in progress.history]
    assert losses[-1] < 0.5 * losses[0]
    assert progress.best_score >= 0.9


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("epoch", "batch"), [(1, 2), (2, 0), (3, 1)])
def test_killed_and_resumed_gives_the_same_weights_bit_for_bit(
    task: Task, config: Config, tmp_path: Path, precision: str, epoch: int, batch: int
) -> None:
    settings = config.with_train(precision=precision)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(task, settings, whole)
    with pytest.raises(KilledError):
        run(task, settings, parts, track=dying(epoch, batch))
    run(task, settings, parts, resume=True)
    for name in ("checkpoint.safetensors", "best.safetensors"):
        assert_same_weights(whole / name, parts / name)
    rows = [
        [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        for folder in (whole, parts)
    ]
    timing = ("images_per_second", "seconds", "peak_memory_mib")
    for one, other in zip(*rows, strict=True):
        assert {k: v for k, v in one.items() if k not in timing} == {
            k: v for k, v in other.items() if k not in timing
        }


EVERYTHING: dict[str, Any] = {
    "loss": "focal+effective+adjusted", "sampler": "power", "mixup": 0.4, "cutmix": 1.0,
    "mix_share": 0.7, "head_epochs": 1, "layer_decay": 0.8, "frozen_layers": 2,
    "curriculum": "scores.csv", "curriculum_epochs": 2, "teacher": ("predictions.npz",),
}  # fmt: skip


def guided(task: Task, **more: Any) -> Task:
    """The same task with made-up scores and a teacher that has its doubts."""
    n = len(task[0].labels)
    doubts = np.full((n, 3), 0.1, np.float32) + 0.7 * np.eye(3, dtype=np.float32)[task[0].labels]
    guide = Guide(**({"difficulty": np.arange(n) % 7.0, "teacher": doubts} | more))
    return replace(task[0], guide=guide), task[1]


def test_with_every_option_a_killed_run_ends_with_the_same_bits(
    task: Task, config: Config, tmp_path: Path
) -> None:
    settings, task = config.with_train(**EVERYTHING, epochs=4), guided(task)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    progress = run(task, settings, whole)
    for number, (epoch, batch) in enumerate([(2, 1), (3, 2)]):  # after the head's stage and later
        with pytest.raises(KilledError):
            run(task, settings, parts, track=dying(epoch, batch), resume=number > 0)
    assert run(task, settings, parts, resume=True).best_epoch == progress.best_epoch
    for name in ("checkpoint.safetensors", "best.safetensors"):
        assert_same_weights(whole / name, parts / name)


def test_a_gpu_gets_one_kernel_for_many_weights_and_a_cpu_what_it_always_had(
    config: Config,
) -> None:
    network = nn.Linear(2, 2)
    fused = {
        kind: loop.make_optimizer(network, config.train, torch.device(kind)).defaults["fused"]
        for kind in ("cuda", "cpu")
    }
    assert fused == {"cuda": True, "cpu": None}


def test_the_optimizer_of_a_gpu_learns_the_same_and_resumes_to_the_same_bits(
    task: Task, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernels run on a CPU, too: what is left for a GPU to show is the speed."""
    plain = run(task, config, tmp_path / "plain")
    make = loop.make_optimizer
    monkeypatch.setattr(
        loop, "make_optimizer", lambda n, s, device: make(n, s, torch.device("cuda"))
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fused = run(task, config, whole)
    for one, other in zip(plain.history, fused.history, strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
    with pytest.raises(KilledError):
        run(task, config, parts, track=dying(2, 1))
    run(task, config, parts, resume=True)
    for name in ("checkpoint.safetensors", "best.safetensors"):
        assert_same_weights(whole / name, parts / name)


@pytest.mark.parametrize("architecture", ["mobilenetv2_035", "tf_efficientnet_lite0", "resnet10t"])
def test_over_several_gpus_it_is_still_the_same_network(architecture: str) -> None:
    """Its normalisation has activations in it, which must outlast being synchronized."""
    torch.manual_seed(0)
    network = build_network(architecture, 3, pretrained=False).eval()
    inputs = torch.randn(2, 3, 64, 64)
    names, kinds = list(network.state_dict()), (nn.BatchNorm2d, nn.SyncBatchNorm)
    layers = sum(isinstance(module, kinds[0]) for module in network.modules())
    with torch.no_grad():
        before = network(inputs)
        network = loop.synchronized(network)
        torch.testing.assert_close(network(inputs), before)
    assert list(network.state_dict()) == names
    assert sum(isinstance(module, kinds[1]) for module in network.modules()) == layers > 0


def test_in_the_first_stage_the_network_but_for_its_linear_layer_stays(
    task: Task, config: Config, tmp_path: Path
) -> None:
    start = build_network("test_efficientnet", 3, pretrained=False).state_dict()
    save_file({k: v.contiguous() for k, v in start.items()}, tmp_path / "init.safetensors")
    settings = config.with_train(epochs=3, head_epochs=2)
    with pytest.raises(KilledError):
        run(task, settings, tmp_path, track=dying(3, 0), init=tmp_path / "init.safetensors")
    saved = load_file(tmp_path / "checkpoint.safetensors")
    for part in ("network", "average"):
        moved = {key for key in start if not torch.equal(saved[f"{part}.{key}"], start[key])}
        assert moved == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "focal"},
        {"loss": "effective", "oversample": 0},
        {"mixup": 0.4},
        {"sampler": "power"},
        {"layer_decay": 0.5},
        {"head_epochs": 1},
        {"frozen_layers": 2},
    ],
)
def test_each_option_changes_what_is_learnt(
    task: Task, config: Config, tmp_path: Path, options: dict[str, Any]
) -> None:
    uneven = Pictures(cache=task[0].cache, labels=np.array([0] * 32 + [1] * 12 + [2] * 4))
    settings = config.with_train(epochs=2, oversample=0.3)
    run((uneven, task[1]), settings, tmp_path / "plain")
    run((uneven, task[1]), settings.with_train(**options), tmp_path / "other")
    plain, other = (load_file(tmp_path / d / "best.safetensors") for d in ("plain", "other"))
    assert not torch.equal(plain["classifier.weight"], other["classifier.weight"])


def test_a_student_follows_its_teacher_against_the_labels(
    task: Task, config: Config, tmp_path: Path
) -> None:
    """The teacher calls every class by the next one's name; a student of it alone does so too."""
    wrong = np.eye(3, dtype=np.float32)[(task[0].labels + 1) % 3] * 0.94 + 0.02
    settings = config.with_train(epochs=8, teacher=("predictions.npz",), distill_share=1.0)
    taught = guided(task, difficulty=None, teacher=wrong)
    assert run(taught, settings, tmp_path).history[-1]["val_balanced_accuracy"] < 0.1


def test_settings_and_pictures_must_agree_on_what_guides_a_run(
    task: Task, config: Config, tmp_path: Path
) -> None:
    scores = config.with_train(curriculum="scores.csv")
    with pytest.raises(ConfigError, match=r"train\.curriculum tells .* pictures is missing"):
        run(task, scores, tmp_path)
    with pytest.raises(ConfigError, match=r"train\.teacher tells .* given, but not asked for"):
        run(guided(task), scores, tmp_path)
    with pytest.raises(ConfigError, match=r"of shape \(7,\) doesn't fit, need \(48,\)"):
        run(guided(task, difficulty=np.zeros(7), teacher=None), scores, tmp_path)


def test_resuming_with_other_scores_is_refused(task: Task, config: Config, tmp_path: Path) -> None:
    settings = config.with_train(epochs=1, curriculum="scores.csv")
    run(guided(task, teacher=None), settings, tmp_path)
    changed = guided(task, difficulty=np.arange(48) % 5.0, teacher=None)
    with pytest.raises(ConfigError, match="started with other settings"):
        run(changed, settings, tmp_path, resume=True)


def test_loader_processes_change_nothing(task: Task, config: Config, tmp_path: Path) -> None:
    run(task, config, tmp_path / "none")
    run(task, config.with_train(workers=2), tmp_path / "two")
    assert_same_weights(tmp_path / "none/best.safetensors", tmp_path / "two/best.safetensors")


def test_resuming_a_finished_run_changes_nothing(
    task: Task, config: Config, tmp_path: Path
) -> None:
    run(task, config, tmp_path)
    before = (tmp_path / "best.safetensors").read_bytes()
    assert run(task, config, tmp_path, resume=True).epoch == 3
    assert (tmp_path / "best.safetensors").read_bytes() == before


def test_a_training_that_diverges_ends_at_once_and_says_so(
    task: Task, config: Config, tmp_path: Path
) -> None:
    wild = config.with_train(learning_rate=1e30, clip_norm=0.0)
    with pytest.raises(ConfigError, match=r"diverged in epoch 1: .*learning_rate below 1e\+30"):
        run(task, wild, tmp_path)
    assert not (tmp_path / "best.safetensors").exists()


def test_going_on_needs_no_weights_to_start_from(
    task: Task, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the file, nor those of ImageNet, which timm would look for on the internet."""
    run(task, config.with_train(epochs=1), tmp_path)
    asked: list[tuple[object, object]] = []

    def build(*args: Any, init: Path | None, pretrained: bool, **more: Any) -> nn.Module:
        asked.append((init, pretrained))
        return build_network(*args, pretrained=False, **more)

    monkeypatch.setattr(loop, "build_network", build)
    start = {"init": tmp_path / "gone.safetensors", "pretrained": True}
    run(task, config.with_train(epochs=1), tmp_path, resume=True, **start)
    run(task, config.with_train(epochs=1), tmp_path / "new", resume=True, **start)
    assert asked == [(None, False), (tmp_path / "gone.safetensors", True)]


def test_resuming_with_other_settings_is_refused(
    task: Task, config: Config, tmp_path: Path
) -> None:
    run(task, config.with_train(epochs=1), tmp_path, digest="one")
    with pytest.raises(ConfigError, match="started with other settings"):
        run(task, config.with_train(epochs=1), tmp_path, digest="two", resume=True)


def test_another_architecture_is_told_as_other_settings_not_as_a_list_of_weights(
    task: Task, config: Config, tmp_path: Path
) -> None:
    run(task, config.with_train(epochs=1), tmp_path, digest="one")
    other = config.with_train(epochs=1, architecture="test_resnet")
    with pytest.raises(ConfigError, match="started with other settings"):
        run(task, other, tmp_path, digest="two", resume=True)


def test_a_kill_before_the_last_row_of_the_history_loses_no_row(
    task: Task, config: Config, tmp_path: Path
) -> None:
    run(task, config, tmp_path)
    rows = (tmp_path / "history.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "history.jsonl").write_text("".join(rows[:-1]))
    run(task, config, tmp_path, resume=True)
    assert (tmp_path / "history.jsonl").read_text() == "".join(rows)


def test_a_damaged_checkpoint_is_named(task: Task, config: Config, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"can't resume from .*checkpoint\.safetensors"):
        run(task, config, tmp_path, resume=True)


def test_the_best_epoch_is_kept_not_the_last(task: Task, config: Config, tmp_path: Path) -> None:
    scores = iter([0.4, 0.9, 0.5])
    progress = run(
        task, config, tmp_path, score=lambda labels, logits: {"balanced_accuracy": next(scores)}
    )
    assert (progress.best_epoch, progress.best_score) == (2, 0.9)
    last = {
        key.removeprefix("average."): value
        for key, value in load_file(tmp_path / "checkpoint.safetensors").items()
        if key.startswith("average.")
    }
    best = load_file(tmp_path / "best.safetensors")
    assert any(not torch.equal(best[key], last[key]) for key in best)


def test_the_average_moves_by_one_minus_decay_once_it_is_warm() -> None:
    slow, fast = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(slow.weight, 1.0)
    nn.init.constant_(fast.weight, 2.0)
    update_average(averaged(slow, fast), decay=0.9, step=1000)
    assert slow.weight.item() == pytest.approx(1.1)
    update_average(averaged(slow, fast), decay=0.9, step=1)  # (1 + 1) / (10 + 1) is kept
    assert slow.weight.item() == pytest.approx(1.1 * 2 / 11 + 2 * 9 / 11)
    update_average(averaged(slow, fast), decay=0, step=1000)
    assert slow.weight.item() == 2


def test_a_cpu_loads_pictures_in_its_own_process_and_a_gpu_in_several() -> None:
    assert loader_processes(-1, torch.device("cpu")) == 0
    assert 1 <= loader_processes(-1, torch.device("cuda")) <= 8
    assert loader_processes(3, torch.device("cpu")) == 3


def test_a_process_bound_to_two_cores_loads_with_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr(loop, "usable_cores", lambda: 2)
    assert loader_processes(-1, torch.device("cuda")) == 2


def test_processes_on_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "usable_cores", lambda: 16)
    for processes, each in ((1, 8), (2, 8), (4, 4), (32, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert loader_processes(-1, torch.device("cuda")) == each


def test_every_process_and_epoch_drops_other_features_and_one_alone_draws_as_before() -> None:
    def drawn(epoch: int, process: int) -> tuple[bool, ...]:
        seed_epoch(3, epoch, process)
        return tuple(F.dropout(torch.ones(64)).bool().tolist())

    masks = [drawn(epoch, process) for epoch in (0, 1) for process in (0, 1, 2)]
    assert len(set(masks)) == 6
    torch.manual_seed(3 * 1_000_003 + 1)
    assert masks[3] == tuple(F.dropout(torch.ones(64)).bool().tolist())


def test_a_batch_that_does_not_divide_is_refused(
    task: Task, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Three:
        device, num_processes = torch.device("cpu"), 3

    monkeypatch.setattr(loop, "make_accelerator", lambda *_, **__: Three())
    with pytest.raises(ConfigError, match="batch size 16 can't be split over 3 processes"):
        run(task, config, tmp_path)


TWO = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import hit_rate, pictures
from dermx.config import config_from
from dermx.train.loop import fit
from dermx.train.processes import join_processes
assert join_processes().num_processes == 2
folder = Path(sys.argv[2])
train, val = pictures(folder / "train", 48, 40, 0), pictures(folder / "val", 12, 32, 1)
for name in ("plain", "staged"):
    config = config_from(json.loads((folder / f"{name}.json").read_text()))
    fit(train, val, config, folder / name, n_classes=3, score=hit_rate, pretrained=False)
"""


def test_two_processes_follow_the_loss_of_one(
    task: Task,
    config: Config,
    tmp_path: Path,
    make_pictures: Callable[[Path, int, int, int], Pictures],
) -> None:
    """The same global batch on one and on two processes (gloo), mixed and in stages too.

    They are not equal: on a CPU each process normalises by its own half of the batch. The loss of
    each epoch agrees within 10 %; while only the linear layer learns, but for rounding.
    """
    plain = replace(config, train=replace(config.train, learning_rate=1e-3, precision="fp32"))
    staged = plain.with_train(head_epochs=1, mixup=0.4, cutmix=1.0, dropout=0.0)
    for name, args in {"train": (48, 40, 0), "val": (12, 32, 1)}.items():
        make_pictures(tmp_path / name, *args)
    for name, settings in {"plain": plain, "staged": staged}.items():
        (tmp_path / f"{name}.json").write_text(settings.to_json())
    (tmp_path / "two.py").write_text(TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(tmp_path / "two.py"), str(Path(__file__).parent), str(tmp_path)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    for name, settings in {"plain": plain, "staged": staged}.items():
        alone = run(task, settings, tmp_path / "alone" / name).history
        lines = (tmp_path / name / "history.jsonl").read_text().splitlines()
        together = [json.loads(line) for line in lines]
        assert [row["epoch"] for row in together] == [1, 2, 3]
        for one, two in zip(alone, together, strict=True):
            assert two["train_loss"] == pytest.approx(one["train_loss"], rel=0.10)
    assert together[0]["train_loss"] == pytest.approx(alone[0]["train_loss"], rel=1e-5)


def test_the_last_epoch_is_kept_where_that_is_asked_for(
    task: Task, config: Config, tmp_path: Path
) -> None:
    scores = iter([0.4, 0.9, 0.5])
    settings = config.with_train(keep="last")
    progress = run(
        task, settings, tmp_path, score=lambda labels, logits: {"balanced_accuracy": next(scores)}
    )
    assert (progress.best_epoch, progress.best_score) == (3, 0.5)
    stored = load_file(tmp_path / "checkpoint.safetensors")
    kept = load_file(tmp_path / "best.safetensors")
    assert all(torch.equal(value, stored[f"average.{key}"]) for key, value in kept.items())
