"""A small world whose truth is known: features of eight classes, and trust parts fitted on them."""

import numpy as np
import pytest

from dermx.diagnoses import CODES
from dermx.records import Predictions, softmax
from dermx.trust.fitting import Wanted, fit_trust
from dermx.trust.gate import Gate
from dermx.trust.gatefit import fit_gate
from dermx.trust.verdict import Trust

WIDTH = 12


def world(n: int = 2400, seed: int = 0, sharpness: float = 2.0) -> Predictions:
    """Cases whose labels are drawn from softmax(logits / sharpness): too sure by `sharpness`.

    The logits are the first eight features, so the linear layer is the identity. A lesion has
    three pictures.
    """
    rng = np.random.default_rng(seed)
    features = np.zeros((n, WIDTH), np.float32)
    features[:, :8] = 3 * rng.standard_normal((n, 8))
    features[:, 8:] = 0.1 * rng.standard_normal((n, WIDTH - 8))
    logits = features[:, :8]
    below = rng.random((n, 1)) > softmax(logits / sharpness).cumsum(axis=1)
    clinical = logits.argmax(axis=1) == CODES.index("acne")
    features[:, 8] += clinical  # photographs look different from dermoscopy
    views = logits[:, None] + rng.standard_normal((n, 8, 8)).astype(np.float32)
    return Predictions(
        images=[f"{seed}-{i}" for i in range(n)],
        groups=[f"{seed}-{i // 3}" for i in range(n)],
        labels=np.minimum(below.sum(axis=1), 7),
        logits=logits,
        features=features,
        views=views,
    )


def strangers(n: int = 200, seed: int = 9) -> tuple[Predictions, list[str]]:
    """Pictures of none of the classes: far along features that known cases don't use."""
    known = world(n, seed)
    kinds = [("everyday", "clinical", "drawn")[i // 3 % 3] for i in range(n)]
    features = known.features.copy()
    features[:, 9] += np.where([kind != "clinical" for kind in kinds], 4, 0)
    features[:, 10] += np.where([kind == "clinical" for kind in kinds], 4, 0)
    features[:, 11] += np.where([kind == "drawn" for kind in kinds], 2, 0)
    labels = np.full(n, -1)
    made = Predictions(
        images=known.images, groups=known.groups, labels=labels, logits=known.logits,
        features=features,
    )  # fmt: skip
    return made, kinds


def layer() -> tuple[np.ndarray, np.ndarray]:
    return np.eye(8, WIDTH, dtype=np.float32), np.zeros(8, np.float32)


@pytest.fixture(scope="session")
def gate() -> Gate:
    pytest.importorskip("sklearn")
    return fit_gate(world(seed=5), *strangers(), world(seed=6))


@pytest.fixture(scope="session")
def trust(gate: Gate) -> Trust:
    known = world()
    return fit_trust(
        known, known, *layer(), gate=gate, views=8, dropout=0.2, wanted=Wanted(n_boot=50)
    )
