from typing import NamedTuple

import pytest
import torch

from dermx.errors import ConfigError
from dermx.train import processes
from dermx.train.processes import join_processes, require_shares


class Alone(NamedTuple):
    """What accelerate gives a process that it did not join with others."""

    cpu: bool
    num_processes: int = 1
    device: str = "mps"


class Joined(NamedTuple):
    """And one of two that it did."""

    cpu: bool
    num_processes: int = 2


@pytest.mark.parametrize(
    ("size", "accelerator", "flag", "cpu"),
    [
        ("1", False, "false", False),  # accelerate sees itself what there is
        ("2", True, "false", False),
        ("2", False, "false", True),
        ("1", True, "true", True),
    ],
)
def test_several_processes_on_a_bare_machine_are_joined_as_cpus(
    size: str, accelerator: bool, flag: str, cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("ACCELERATE_USE_CPU", flag)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    monkeypatch.setattr(processes, "PartialState", Joined if size == "2" else Alone)
    assert join_processes().cpu is cpu  # type: ignore[attr-defined]


def test_processes_that_would_each_train_alone_in_one_folder_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(processes, "PartialState", Alone)
    with pytest.raises(ConfigError, match=r"4 processes were started and can't be joined on mps"):
        join_processes()


def test_a_batch_that_does_not_divide_is_refused() -> None:
    require_shares(64, 4)
    with pytest.raises(ConfigError, match="batch size 16 can't be split over 3 processes"):
        require_shares(16, 3)
