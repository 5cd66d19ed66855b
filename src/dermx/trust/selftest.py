"""Is the trust arithmetic of this installation right? Laws and cases worked by hand.

No model, no data, under a second. The tests hold more of them, and second implementations.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from dermx.errors import DermxError, InputError
from dermx.records import softmax
from dermx.trust.calibration import (
    expected_calibration_error,
    fit_calibration,
    smooth_calibration_error,
)
from dermx.trust.conformal import SCORES, coverage_of, fit_sets
from dermx.trust.referral import augrc, aurc, net_benefit, refer_all
from dermx.trust.uncertainty import (
    dropout_logits,
    entropy,
    mutual_information,
    predictive_entropy,
)


class SelfTestError(DermxError):
    """The arithmetic of this installation is wrong."""


def run_checks(say: Callable[[str], None]) -> int:
    """Run every check; say its claim when it held.

    Returns:
        How many there are.

    Raises:
        SelfTestError: The first that fails.
    """
    for check in CHECKS:
        claim = " ".join((check.__doc__ or check.__name__).split()).rstrip(".")
        if not check():
            raise SelfTestError(
                f"not true here: {claim}; reinstall dermx and NumPy {np.__version__}"
            )
        say(f"ok: {claim}")
    return len(CHECKS)


def drawn(n: int = 4000, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their softmax: calibrated by construction."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((n, classes))
    below = rng.random((n, 1)) > softmax(logits).cumsum(axis=1)
    return logits, np.minimum(below.sum(axis=1), classes - 1)


def _temperature_keeps_the_answer() -> bool:
    """Temperature scaling never changes which class is most probable."""
    logits, labels = drawn()
    probs = fit_calibration(3 * logits, labels, "temperature").probs(3 * logits)
    return bool((probs.argmax(axis=1) == logits.argmax(axis=1)).all())


def _temperature_is_recovered() -> bool:
    """A network made 2.5 times too sure gets the temperature 2.5."""
    logits, labels = drawn()
    found = fit_calibration(2.5 * logits, labels, "temperature").temperature
    return abs(found - 2.5) < 0.1


def _shares_are_recovered() -> bool:
    """A class drawn e times too often in training gets a bias of -1 against the others."""
    logits, labels = drawn()
    shifted = logits + np.array([1.0, 0, 0, 0, 0])
    bias = fit_calibration(shifted, labels, "bias").bias
    return bool(abs(bias[0] - bias[1:].mean() + 1) < 0.15)


def _calibrated_is_near_zero() -> bool:
    """Labels drawn from the stated probabilities have a calibration error near 0."""
    logits, labels = drawn(20000)
    probs = softmax(logits)
    found = (expected_calibration_error(probs, labels), smooth_calibration_error(probs, labels))
    return max(found) < 0.02


def _ece_by_hand() -> bool:
    """Always certain and half the time right has a calibration error of 0.5, binned or smooth."""
    probs, labels = np.tile([1.0, 0.0], (10, 1)), np.arange(10) % 2
    found = (expected_calibration_error(probs, labels), smooth_calibration_error(probs, labels))
    return abs(found[0] - 0.5) < 1e-12 and abs(found[1] - 0.5) < 0.01


def _order_does_not_matter() -> bool:
    """Shuffling the cases changes no figure."""
    logits, labels = drawn(500)
    probs = softmax(logits)
    doubt, wrong = 1 - probs.max(axis=1).round(1), probs.argmax(axis=1) != labels
    mixed = np.random.default_rng(1).permutation(500)
    pairs = (
        (expected_calibration_error(probs, labels),
         expected_calibration_error(probs[mixed], labels[mixed])),
        (aurc(doubt, wrong), aurc(doubt[mixed], wrong[mixed])),
        (augrc(doubt, wrong), augrc(doubt[mixed], wrong[mixed])),
        (fit_sets(probs, labels).thresholds.sum(),
         fit_sets(probs[mixed], labels[mixed]).thresholds.sum()),
    )  # fmt: skip
    return all(abs(a - b) < 1e-12 for a, b in pairs)


def _entropy_is_bounded() -> bool:
    """Entropy lies between 0 and log(classes), and mutual information between 0 and entropy."""
    logits, _ = drawn(300)
    samples = softmax(logits).reshape(100, 3, 5)
    total, shared = predictive_entropy(samples), mutual_information(samples)
    flat, certain = entropy(np.full(5, 0.2)), entropy(np.eye(5)[0])
    inside = (total >= 0) & (total <= np.log(5)) & (shared >= 0) & (shared <= total)
    return bool(inside.all() and abs(flat - np.log(5)) < 1e-12 and certain == 0)


def _dropout_has_the_right_mean_and_spread() -> bool:
    """Dropout on the features keeps the mean logit and has its variance in closed form."""
    rng = np.random.default_rng(0)
    features, weight = rng.random(64).astype(np.float32), rng.standard_normal((3, 64))
    bias = np.zeros(3, np.float32)
    logits = dropout_logits(features, weight.astype(np.float32), bias, rate=0.2, samples=20000)
    variance = ((weight * features) ** 2).sum(axis=1) * 0.2 / 0.8
    close = np.abs(logits.mean(axis=0) - weight @ features) < 0.05
    return bool(close.all() and (np.abs(logits.var(axis=0) / variance - 1) < 0.05).all())


def _sets_cover() -> bool:
    """Sets hold the truth in the promised share of new cases, in every class."""
    logits, labels = drawn(20000)
    probs = softmax(logits)
    for score in SCORES:
        sets = fit_sets(probs[::2], labels[::2], coverage=0.9, score=score)
        found = coverage_of(sets.contain(probs[1::2]), labels[1::2]).of_class
        if (found < 0.88).any():
            return False
    return True


def _few_are_refused() -> bool:
    """A class with too few calibration cases is refused, not guessed."""
    logits, labels = drawn(500)
    few = np.flatnonzero(labels == 4)[5:]
    kept = np.setdiff1d(np.arange(500), few)
    try:
        fit_sets(softmax(logits[kept]), labels[kept])
    except InputError as error:
        return "4 (5)" in str(error)
    return False


def _curves_by_hand() -> bool:
    """A perfect doubt has an AUGRC of half the squared error rate, a useless one of half of it."""
    wrong = np.arange(10) < 2
    perfect, useless = augrc(wrong.astype(float), wrong), augrc(np.zeros(10), wrong)
    return abs(perfect - 0.02) < 1e-12 and abs(useless - 0.1) < 1e-12


def _benefit_by_hand() -> bool:
    """Referring everybody has the net benefit prevalence - (1 - prevalence) * t / (1 - t)."""
    positive, at = np.arange(10) < 3, np.array([0.0, 0.25, 0.5])
    expected = 0.3 - 0.7 * at / (1 - at)
    same = np.abs(refer_all(positive, at) - expected) < 1e-12
    return bool(same.all() and (net_benefit(np.zeros(10), positive, at[1:]) == 0).all())


CHECKS: Final = (
    _temperature_keeps_the_answer,
    _temperature_is_recovered,
    _shares_are_recovered,
    _calibrated_is_near_zero,
    _ece_by_hand,
    _order_does_not_matter,
    _entropy_is_bounded,
    _dropout_has_the_right_mean_and_spread,
    _sets_cover,
    _few_are_refused,
    _curves_by_hand,
    _benefit_by_hand,
)
