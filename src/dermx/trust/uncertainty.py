"""How much do the answers scatter when the network is varied a little?

MC-dropout without another forward pass: dropout before the linear layer only multiplies features by
masks, so its samples are arithmetic on the features, equal in distribution to running the network
again. The spread over the eight views of a picture is measured by the same functions.

Limits: dropout in the last layer knows nothing of what the layers before it don't know. Whether any
of these figures says more than the calibrated confidence is decided by `referral.py`, not assumed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from dermx.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

SAMPLES = 30


def dropout_logits(
    features: Float[np.ndarray, " c"],
    weight: Float32[np.ndarray, "classes c"],
    bias: Float32[np.ndarray, " classes"],
    *,
    rate: float,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "samples classes"]:
    """Logits under random dropout of the features, as in training.

    Args:
        features: Of one picture; of several views, their mean, all with the same mask.
        weight: Of the linear layer.
        bias: Of the linear layer.
        rate: Share of the features that is dropped; the others grow by 1 / (1 - rate).
        samples: How often.
        seed: Of the masks; the same picture gets the same answer each time.

    Raises:
        InputError: `rate` is not in [0, 1), or there is no sample.

    Source: Gal and Ghahramani 2016 (arXiv:1506.02142).

    >>> ones = np.ones(4, np.float32)
    >>> logits = dropout_logits(ones, ones[None], np.zeros(1, np.float32), rate=0.5, samples=1000)
    >>> sorted({float(value) for value in logits[:, 0]})  # 0 to 4 features kept, each doubled
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    if not 0 <= rate < 1 or samples < 1:
        raise InputError(f"need a rate in [0, 1) and a sample, got {rate} and {samples}")
    kept = _masks(samples, len(features), rate, seed)
    return np.asarray(kept @ (weight * (features / (1 - rate))).T + bias)


@lru_cache(maxsize=1)  # drawing them takes longer than all that is done with them
def _masks(samples: int, n: int, rate: float, seed: int) -> Float32[np.ndarray, "samples n"]:
    """Draw for each sample which features stay, 1, and which are dropped, 0; read-only."""
    drawn = np.random.default_rng(seed).random((samples, n), np.float32)
    kept = (drawn >= rate).astype(np.float32)
    kept.flags.writeable = False  # shared by all who ask
    return kept


def predictive_entropy(
    probs: Float[np.ndarray, "*n samples classes"],
) -> Float[np.ndarray, "*n"]:
    """Entropy of the mean over the samples, in nats: 0 to log(classes).

    >>> round(float(predictive_entropy(np.array([[1.0, 0.0], [0.0, 1.0]]))), 4)  # log 2
    0.6931
    """
    return entropy(probs.mean(axis=-2))


def expected_entropy(
    probs: Float[np.ndarray, "*n samples classes"],
) -> Float[np.ndarray, "*n"]:
    """Mean of the samples' entropies, in nats: what stays when the network is certain.

    >>> float(expected_entropy(np.array([[1.0, 0.0], [0.0, 1.0]])))
    0.0
    """
    return np.asarray(entropy(probs).mean(axis=-1))


def mutual_information(
    probs: Float[np.ndarray, "*n samples classes"],
) -> Float[np.ndarray, "*n"]:
    """Predictive minus expected entropy, in nats: how much the samples disagree; never below 0.

    Source: Houlsby et al. 2011 (BALD, arXiv:1112.5745), equation 2.
    """
    return np.asarray(np.maximum(predictive_entropy(probs) - expected_entropy(probs), 0))


def entropy(probs: Float[np.ndarray, "*n classes"]) -> Float[np.ndarray, "*n"]:
    """-sum p log p over the last axis, in nats; 0 log 0 is 0.

    >>> float(entropy(np.array([1.0, 0.0])))
    0.0
    """
    safe = np.where(probs > 0, probs, 1)
    return np.asarray(np.maximum(-(probs * np.log(safe)).sum(axis=-1), 0))
