"""How do the processes of one training find each other? One or many, on GPUs or on CPUs."""

import atexit
import os

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from dermx.errors import ConfigError


def join_processes() -> PartialState:
    """Meet the others that `accelerate launch` or `torchrun` started; later calls change nothing.

    On CPUs accelerate joins them only when it is told that it is CPUs: else each would train
    alone, and all would write to one folder.

    Raises:
        ConfigError: They can't be joined on this device.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    bare = several and not torch.accelerator.is_available()
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or bare)
    if several and state.num_processes == 1:
        raise ConfigError(
            f"{os.environ['WORLD_SIZE']} processes were started and can't be joined on "
            f"{state.device}; start one, or train on CPUs with ACCELERATE_USE_CPU=true"
        )
    if several:
        atexit.register(_part)
    return state


def _part() -> None:
    """Take leave of the others: threads that still hold a line can abort an interpreter's end."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def processes_here() -> int:
    """How many of them share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # as both starters tell


def require_shares(batch_size: int, processes: int) -> None:
    """See that every process gets as much of a batch as any other.

    Raises:
        ConfigError: The batch can't be split so.
    """
    if batch_size % processes:
        raise ConfigError(f"batch size {batch_size} can't be split over {processes} processes")
