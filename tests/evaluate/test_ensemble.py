"""Weights and selection keep their promises, and agree with SciPy's optimiser."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn import metrics as sk

from dermx.errors import InputError
from dermx.evaluate.ensemble import (
    balanced_log_loss,
    combine,
    fit_weights,
    select_greedy,
    stacked,
)
from dermx.records import Predictions


def balanced(labels: np.ndarray, logits: np.ndarray) -> float:
    return float(sk.balanced_accuracy_score(labels, logits.argmax(axis=1)))


def models(seed: int, noise: tuple[float, ...], n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Logits of models that see the truth through noise of their own, and the truth."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05])
    logits = [2 * np.eye(4)[labels] + level * rng.normal(size=(n, 4)) for level in noise]
    return np.stack(logits), labels


def predicted(logits: np.ndarray, labels: np.ndarray, prefix: str = "i") -> Predictions:
    n = len(labels)
    return Predictions(
        images=[f"{prefix}{i}" for i in range(n)],
        groups=[f"g{i}" for i in range(n)],
        labels=labels,
        logits=logits.astype(np.float32),
        features=np.zeros((n, 1), np.float32),
        codes=("nv", "mel", "bkl", "bcc"),
    )


def test_two_members_by_hand() -> None:
    members = np.array([[[1.0, 3.0]], [[5.0, -1.0]]])
    np.testing.assert_array_equal(combine(members, np.array([0.75, 0.25])), [[2, 2]])


def test_one_member_is_itself() -> None:
    members, labels = models(0, (1.0,))
    for weights in (fit_weights(members, labels), select_greedy(members, labels, balanced)):
        np.testing.assert_array_equal(weights, [1])
        np.testing.assert_array_equal(combine(members, weights), members[0])


@pytest.mark.filterwarnings("ignore:y_pred contains classes")  # some draws lack the rare one
@settings(deadline=None)  # whatever else the machine does
@given(st.integers(0, 10_000))
def test_greedy_selection_is_never_worse_than_its_best_member(seed: int) -> None:
    members, labels = models(seed, (1.0, 1.5, 2.0, 4.0), n=60)
    weights = select_greedy(members, labels, balanced)
    chosen = balanced(labels, combine(members, weights))
    assert chosen >= max(balanced(labels, member) for member in members)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()


def test_greedy_selection_by_hand() -> None:
    """Members 0 and 1 are each right where the other is unsure; member 2 is always wrong."""
    labels = np.array([0, 1, 0, 1])
    members = np.array(
        [
            [[3, 0], [0, 3], [0, 1], [1, 0]],
            [[0, 1], [1, 0], [3, 0], [0, 3]],
            [[0, 3], [3, 0], [0, 3], [3, 0]],
        ],
        float,
    )
    np.testing.assert_array_equal(select_greedy(members, labels, balanced), [0.5, 0.5, 0])


def test_greedy_selection_stops_at_the_first_step_without_a_gain() -> None:
    members, labels = models(1, (1.0, 1.0, 1.0))
    calls: list[int] = []

    def constant(labels: np.ndarray, logits: np.ndarray) -> float:
        calls.append(len(labels))
        return 0.5

    np.testing.assert_array_equal(select_greedy(members, labels, constant), [1, 0, 0])
    assert len(calls) == 6


def test_a_score_is_asked_about_the_mean_of_what_was_picked() -> None:
    # Logits of 2 and 5, wanted 3: first 2, then the 5 for 3.5, then the 2 again for 9 / 3.
    members = np.stack([np.full((1, 2), 2.0), np.full((1, 2), 5.0)])
    asked: list[float] = []

    def near_three(labels: np.ndarray, logits: np.ndarray) -> float:
        asked.append(float(logits[0, 0]))
        return -abs(logits[0, 0] - 3)

    weights = select_greedy(members, np.array([0]), near_three)
    assert asked == [2, 5, 2, 3.5, 3, 4, 2.75, 3.5]
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3])


def test_a_score_without_end_is_bounded() -> None:
    members, labels = models(2, (1.0, 1.0))
    steps = iter(range(1000))
    weights = select_greedy(members, labels, lambda *_: float(next(steps)))
    np.testing.assert_array_equal(weights, [0, 1])
    assert next(steps) == 2 * 20  # both members at each of the twenty picks


@pytest.mark.parametrize("seed", range(4))
def test_fitted_weights_agree_with_scipy(seed: int) -> None:
    members, labels = models(seed, (1.0, 1.5, 3.0))

    def loss(weights: np.ndarray) -> float:
        return balanced_log_loss(labels, combine(members, weights))

    theirs = minimize(
        loss,
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12},
    )
    ours = fit_weights(members, labels)
    assert ours.sum() == pytest.approx(1)
    assert loss(ours) == pytest.approx(theirs.fun, abs=1e-6)
    np.testing.assert_allclose(ours, theirs.x, atol=0.01)


def test_copies_of_a_member_share_its_weight_and_noise_gets_none() -> None:
    members, labels = models(3, (1.0, 1.0))
    noise = 20 * np.random.default_rng(0).normal(size=(1, 400, 4))
    weights = fit_weights(np.concatenate([members[:1], members[:1], noise]), labels)
    assert weights[0] == pytest.approx(weights[1])
    assert weights[2] == 0


def test_the_balanced_loss_is_scikit_learn_s_with_balanced_weights() -> None:
    members, labels = models(4, (1.0,))
    probs = np.exp(members[0]) / np.exp(members[0]).sum(axis=1, keepdims=True)
    counts = np.bincount(labels)
    assert balanced_log_loss(labels, members[0]) == pytest.approx(
        sk.log_loss(labels, probs, sample_weight=1 / counts[labels])
    )
    assert balanced_log_loss(labels, members[0] + 500) == pytest.approx(
        balanced_log_loss(labels, members[0])
    )


def test_members_are_stacked_only_for_the_same_cases() -> None:
    members, labels = models(5, (1.0, 1.0), n=20)
    one, other = (predicted(member, labels) for member in members)
    np.testing.assert_allclose(stacked([one, other]), members, atol=1e-6)
    with pytest.raises(InputError, match="20 and 15 pictures, 15 of them shared"):
        stacked([one, other.select(np.arange(15))])
    with pytest.raises(InputError, match="0 of them shared"):
        stacked([one, predicted(members[1], labels, "j")])
    with pytest.raises(InputError, match="with the same labels"):
        stacked([one, replace(other, labels=labels[::-1])])
    with pytest.raises(InputError, match="need the same"):
        stacked([one, replace(other, codes=("mel", "nv", "bkl", "bcc"))])


def test_what_weights_can_t_be_fitted_on_is_refused() -> None:
    members, labels = models(6, (1.0, 1.0), n=20)
    with pytest.raises(InputError, match=r"got logits \(2, 20, 4\), 19 labels"):
        fit_weights(members, labels[1:])
    with pytest.raises(InputError, match="known diagnosis and finite logits"):
        select_greedy(members, labels - 1, balanced)
    with pytest.raises(InputError, match="known diagnosis and finite logits"):
        fit_weights(members * np.inf, labels)
