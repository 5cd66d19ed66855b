"""Which weights learn, and how fast? The linear layer alone at first, early layers slower or never.

All are off by default: then all weights learn at one rate from the first step.
"""

from typing import Any

from timm.models import group_parameters
from timm.optim import (  # type: ignore[attr-defined]
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dermx.config import TrainConfig
from dermx.errors import ConfigError
from dermx.train.network import linear_head
from dermx.train.schedule import learning_rate_at


def parameter_groups(network: nn.Module, settings: TrainConfig) -> list[dict[str, Any]]:
    """Sort the weights for the optimizer: biases and normalisation apart, layers by their depth.

    With `layer_decay` below 1 each group has an "lr_scale": 1 for the linear layer and once more
    `layer_decay` for every block before it, as timm counts them.

    Source: discriminative fine-tuning of Howard and Ruder 2018 (arXiv:1801.06146), layer by layer
    as in BEiT (arXiv:2106.08254).
    """
    groups: list[dict[str, Any]]
    if settings.layer_decay == 1:
        groups = param_groups_weight_decay(network, settings.weight_decay)
    else:
        groups = param_groups_layer_decay(
            network, settings.weight_decay, layer_decay=settings.layer_decay
        )
    return groups


def start_stage(network: nn.Module, *, head_only: bool, frozen_layers: int = 0) -> None:
    """Let weights learn or keep them; call it after `train()`, which undoes it.

    What doesn't learn has no gradient, so an optimizer leaves it and its memory alone; and its
    batch normalisation stays as it was learnt. First layers, where the pictures are largest, are
    most of the work and learn least: without the first four of MobileNetV2 an epoch takes half
    the time.

    Args:
        network: Changed in place.
        head_only: Only the linear layer learns.
        frozen_layers: The first so many layers keep their weights, as timm counts them when it
            counts few: the stem is the first, then each group of blocks.

    Raises:
        ConfigError: The network has no more layers than are to be kept.
    """
    network.requires_grad_(not head_only)
    for name in _first_layers(network, frozen_layers):
        network.get_parameter(name).requires_grad_(False)
    linear_head(network).requires_grad_(True)
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not all(p.requires_grad for p in module.parameters()):
            module.eval()


def _first_layers(network: nn.Module, count: int) -> list[str]:
    """Names of the weights of the first layers; nothing is asked of the network if it is none."""
    if count == 0:
        return []
    layers = group_parameters(network, network.group_matcher(coarse=True))  # type: ignore[operator]
    if count >= len(layers):
        raise ConfigError(
            f"train.frozen_layers must be below {len(layers)}, the network's layers, got {count}"
        )
    return [name for layer in sorted(layers)[:count] for name in layers[layer]]


def staged_rate(step: int, *, per_epoch: int, settings: TrainConfig) -> float:
    """Learning rate of one optimizer step: each stage has a warm-up and a descent of its own.

    Args:
        step: From 0, over both stages.
        per_epoch: Steps of an epoch.
        settings: Peak, warm-up and length of the stages.
    """
    first = settings.head_epochs * per_epoch
    start, end = (0, first) if step < first else (first, settings.epochs * per_epoch)
    return learning_rate_at(
        step - start, total=end - start, peak=settings.learning_rate, warmup=settings.warmup
    )
