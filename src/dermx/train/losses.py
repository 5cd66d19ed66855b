"""What does a wrong answer cost when 58 naevi come on one dermatofibroma?

Three choices that compose, named in `train.loss` and joined by "+": the loss of one picture
(cross-entropy or focal), a weight per class (by inverse frequency or effective number), and logit
adjustment. All go by the counts that the sampler draws: what it has levelled isn't levelled again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dermx.config import TrainConfig

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def inverse_weights(
    counts: Int[np.ndarray, " classes"], power: float = 1.0
) -> Float[np.ndarray, " classes"]:
    """Weigh each class by its frequency to the power of minus `power`.

    Args:
        counts: Pictures per class; a class without pictures weighs as one with one.
        power: 0 weighs all alike, 1 gives every class the same say in the sum.

    Returns:
        Weights whose mean over all pictures is 1, so that the loss keeps its scale.

    >>> inverse_weights(np.array([90, 10])).round(3)
    array([0.556, 5.   ])
    """
    return _mean_one(np.maximum(counts, 1.0) ** -power, counts)


def effective_weights(
    counts: Int[np.ndarray, " classes"], beta: float = 0.999
) -> Float[np.ndarray, " classes"]:
    """Weigh each class by its effective number of pictures, (1 - beta**n) / (1 - beta), inverted.

    Args:
        counts: Pictures per class; a class without pictures weighs as one with one.
        beta: In [0, 1); 0 weighs all alike, towards 1 as `inverse_weights`.

    Returns:
        Weights whose mean over all pictures is 1; the paper scales their sum to the number of
        classes, which only multiplies the learning rate.

    Source: Cui et al. 2019, section 4 (arXiv:1901.05555).

    >>> effective_weights(np.array([2, 1]), beta=0.5)  # effective numbers 1.5 and 1
    array([0.85714286, 1.28571429])
    """
    return _mean_one((1 - beta) / (1 - beta ** np.maximum(counts, 1.0)), counts)


def log_prior(counts: Int[np.ndarray, " classes"]) -> Float[np.ndarray, " classes"]:
    """Return the log of each class's share; a class without pictures counts as one picture."""
    present = np.maximum(counts, 1.0)
    prior: np.ndarray = np.log(present / present.sum())
    return prior


def focal_loss(
    logits: Float[Tensor, "b classes"],
    labels: Int[Tensor, " b"],
    *,
    gamma: float,
    smoothing: float = 0.0,
) -> Float[Tensor, " b"]:
    """Cross-entropy of each picture with what is already known well counting less.

    Each class's term is multiplied by (1 - p)**gamma; with smoothed labels, every class has one.

    Args:
        logits: Of each picture.
        labels: True class indices.
        gamma: At least 0; 0 is cross-entropy, 2 is the paper's choice.
        smoothing: Probability moved from the true class to all, evenly.

    Source: Lin et al. 2017, equation 4 (arXiv:1708.02002), for a softmax.
    """
    log_probs = F.log_softmax(logits, dim=1)
    n_classes = logits.shape[1]
    targets = F.one_hot(labels, n_classes) * (1 - smoothing) + smoothing / n_classes
    missing = (-torch.expm1(log_probs)).clamp_min(1e-6)  # the slope at 0 is infinite below gamma 1
    losses: Tensor = -(targets * missing**gamma * log_probs).sum(dim=1)
    return losses


def distillation_loss(
    logits: Float[Tensor, "b classes"],
    teacher: Float[Tensor, "b classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """How far is a student's answer from its teacher's, both softened? A mean over a batch.

    Args:
        logits: The student's.
        teacher: Probabilities; rows sum to 1.
        temperature: Above 0; 1 compares the probabilities as they are, more counts the unlikely
            classes for more.

    Returns:
        The Kullback-Leibler divergence times the temperature squared, which keeps the slopes.

    Source: Hinton et al. 2015, section 2 (arXiv:1503.02531).
    """
    student = F.log_softmax(logits / temperature, dim=1)
    softened = F.log_softmax(teacher.clamp_min(1e-12).log() / temperature, dim=1)
    distance = F.kl_div(student, softened, reduction="batchmean", log_target=True)
    return distance * temperature**2


class ClassLoss(nn.Module):
    """The loss that `train.loss` names, as a mean over a batch.

    A picture's weight is that of its label: it multiplies the smoothed loss as a whole, while
    PyTorch's own weights would let a rare class's share of the smoothing outweigh a naevus.
    """

    weights: Tensor  # (classes,)
    offsets: Tensor  # (classes,), added to the logits in training only

    def __init__(self, settings: TrainConfig, counts: Int[np.ndarray, " classes"]) -> None:
        """Prepare the loss for pictures drawn in these counts per class."""
        super().__init__()
        self.terms = settings.loss_terms
        self.share, self.temperature = settings.distill_share, settings.distill_temperature
        self.gamma, self.smoothing = settings.focal_gamma, settings.label_smoothing
        weights, offsets = np.ones(len(counts)), np.zeros(len(counts))
        if "inverse" in self.terms:
            weights = inverse_weights(counts, settings.inverse_power)
        elif "effective" in self.terms:
            weights = effective_weights(counts, settings.effective_beta)
        if "adjusted" in self.terms:  # Menon et al. 2021, equation 10 (arXiv:2007.07314)
            offsets = settings.adjust_tau * log_prior(counts)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.float32))

    def forward(
        self,
        logits: Float[Tensor, "b classes"],
        labels: Int[Tensor, " b"],
        teacher: Float[Tensor, "b classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean over the batch, with the distance to the teacher where there is one."""
        loss = self.of_labels(logits, labels)
        if teacher is None:
            return loss
        distance = distillation_loss(logits, teacher, temperature=self.temperature)
        return (1 - self.share) * loss + self.share * distance

    def of_labels(
        self, logits: Float[Tensor, "b classes"], labels: Int[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """Return the part that `train.loss` names."""
        if "adjusted" in self.terms:
            logits = logits + self.offsets
        if "focal" in self.terms:
            losses = focal_loss(logits, labels, gamma=self.gamma, smoothing=self.smoothing)
        elif self.terms & {"inverse", "effective"}:
            losses = F.cross_entropy(
                logits, labels, label_smoothing=self.smoothing, reduction="none"
            )
        else:
            return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        return (losses * self.weights[labels]).mean()


def _mean_one(
    weights: Float[np.ndarray, " classes"], counts: Int[np.ndarray, " classes"]
) -> Float[np.ndarray, " classes"]:
    scaled: np.ndarray = weights * counts.sum() / (weights * counts).sum()
    return scaled
