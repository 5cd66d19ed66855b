"""What does a network learn from two pictures in one? mixup blends them, CutMix pastes a box.

As everything that is drawn, a mixture depends only on (seed, epoch, step). A picture's partner
stands half a batch further on: several processes, each with every n-th picture of a batch, pair
the same pictures as one process does, as long as their shares of it are even.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dermx.config import TrainConfig

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One drawn mixture; the defaults mix nothing."""

    own: float = 1.0  # share of a picture's own pixels that the mixture wants
    boxed: bool = False  # the partner's part is a box (CutMix); else a blend (mixup)
    across: float = 0.5  # centre of the box, as a share of the width
    down: float = 0.5  # and of the height


def draw_mixture(settings: TrainConfig, epoch: int, step: int) -> Mixture:
    """Draw what is done to one batch.

    Args:
        settings: `mixup` and `cutmix` are the two parameters of a symmetric Beta distribution;
            where both are above 0, a fair coin chooses. `mix_share` of the batches are mixed.
        epoch: Counted from 0.
        step: Batch within the epoch, from 0.
    """
    if not (settings.mixup or settings.cutmix):
        return Mixture()
    rng = np.random.default_rng([settings.seed, 2, epoch, step])
    mixed, coin, across, down = rng.random(4)
    if mixed >= settings.mix_share:
        return Mixture()
    boxed = coin < 0.5 if settings.mixup and settings.cutmix else settings.cutmix > 0
    alpha = settings.cutmix if boxed else settings.mixup
    return Mixture(own=float(rng.beta(alpha, alpha)), boxed=bool(boxed), across=across, down=down)


def mix(
    inputs: Float[Tensor, "b c h w"], mixture: Mixture
) -> tuple[Float[Tensor, "b c h w"], float]:
    """Mix each picture with its partner.

    Args:
        inputs: Standardized pictures; they are left as they are.
        mixture: What to do.

    Returns:
        The mixed pictures, and the share of each that is its own: for a box that is cut at the
        border, more than was drawn.

    Source: mixup of Zhang et al. 2018, section 2 (arXiv:1710.09412); CutMix of Yun et al. 2019,
    section 3.1 (arXiv:1905.04899), with the share corrected to the box as in the authors' code.
    """
    if mixture.own == 1:
        return inputs, 1.0
    others = partners(inputs)
    if not mixture.boxed:
        return others.lerp(inputs, mixture.own), mixture.own
    height, width = inputs.shape[2:]
    top, bottom = _edges(mixture.down, mixture.own, height)
    left, right = _edges(mixture.across, mixture.own, width)
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def partners(batch: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "b *rest"]:
    """Return each one's partner, half a batch further on."""
    return torch.roll(batch, -(len(batch) // 2), 0)


def _edges(centre: float, own: float, size: int) -> tuple[int, int]:
    """First pixel within and first beyond a box whose side is sqrt(1 - own) of the picture's."""
    half = size * math.sqrt(1 - own) / 2
    middle = centre * size
    return max(0, round(middle - half)), min(size, round(middle + half))
