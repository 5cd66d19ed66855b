"""Cases with stated probabilities, and cases for which these are the truth."""

import numpy as np

from dermx.diagnoses import CODES
from dermx.records import Predictions

SHARES = np.array([0.6, 0.11, 0.1, 0.06, 0.05, 0.03, 0.02, 0.03])
MEL, NV = CODES.index("mel"), CODES.index("nv")


def predicted(labels: np.ndarray, probs: np.ndarray) -> Predictions:
    n = len(labels)
    return Predictions(
        images=[f"i{i}" for i in range(n)],
        groups=[f"g{i // 2}" for i in range(n)],
        labels=np.asarray(labels),
        logits=np.log(probs).astype(np.float32),
        features=np.zeros((n, 1), np.float32),
    )


def calibrated(seed: int, n: int = 4000) -> Predictions:
    """Draw cases whose truth is drawn from their stated probabilities, with unequal classes."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(8, n, p=SHARES)
    seen = np.eye(8)[truth] * 1.5 + rng.normal(size=(n, 8))
    logits = 1.5 * seen + np.log(SHARES)  # the posterior of this mixture of normals
    return predicted(truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def two(benign: float, malignant: float) -> list[float]:
    """Probabilities of a case between nv and mel alone."""
    row = [0.0] * 8
    row[NV], row[MEL] = benign, malignant
    return row
