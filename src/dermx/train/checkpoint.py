"""How does a killed run go on as if nothing had happened?

One safetensors file holds the network, its running average and the optimizer's memory; its text
header holds the few numbers beside them. Random draws need no saving (see `dataset`).
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dermx.errors import ConfigError, DataError
from dermx.records import write_whole


@dataclass(kw_only=True)
class Progress:
    """How far a run has come."""

    epoch: int = 0  # epochs done
    best_score: float = -1.0
    best_epoch: int = -1
    averaged_steps: int = 0  # steps that the running average has seen
    scaler: dict[str, Any] = field(default_factory=dict)  # of fp16 gradients
    history: list[dict[str, float]] = field(default_factory=list)  # one row per epoch
    digest: str = ""  # of the configuration, split and starting weights


def save_checkpoint(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write everything the next epoch depends on, whole or not at all."""
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in average.state_dict().items()}
    for number, memory in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in memory.items()}
    save_tensors(path, tensors, {"progress": json.dumps(asdict(progress))})


def read_progress(path: Path, *, digest: str) -> Progress:
    """Read how far a run has come, and see that it goes on as it began.

    Raises:
        ConfigError: The run was started with another `digest`.
        DataError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress(**json.loads((file.metadata() or {})["progress"]))
    except Exception as error:  # safetensors raises many kinds for a damaged file
        raise DataError(f"can't resume from {path}: {error}") from error
    if progress.digest != digest:
        raise ConfigError(
            f"{path.parent} was started with other settings, pictures or starting weights"
        )
    return progress


def load_checkpoint(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    digest: str,
) -> Progress:
    """Put a saved state back into freshly made parts.

    Raises:
        ConfigError: The run was started with another `digest`.
        DataError: The file is damaged or of another network.
    """
    progress = read_progress(path, digest=digest)  # first: another network's tensors don't fit
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for module, part in ((network, "network."), (average, "average.")):
            module.load_state_dict(
                {
                    key.removeprefix(part): value
                    for key, value in tensors.items()
                    if key.startswith(part)
                }
            )
    except Exception as error:  # safetensors and torch raise many kinds for a damaged file
        raise DataError(f"can't resume from {path}: {error}") from error
    state = optimizer.state_dict()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            weight = weights[int(number)]
            if value.shape == weight.shape:  # in its order in memory, by which fused kernels go
                value = torch.empty_like(weight, dtype=value.dtype).copy_(value)
            state["state"].setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(state)
    return progress


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all."""
    ready = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with write_whole(path) as file:
        file.write(save(ready, header))
