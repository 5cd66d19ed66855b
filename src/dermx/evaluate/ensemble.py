"""How much should each model of an ensemble count? Weights, from validation predictions.

An ensemble's logits are the weighted mean of its members' logits: a product of their probabilities,
which, unlike the mean of probabilities, is again one linear layer on the members' features.

Arrays in, numbers out. Fit on validation cases only, and on none that trained a member: a member
looks better than it is on what it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from dermx.errors import InputError
from dermx.records import Predictions, softmax

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Members: TypeAlias = "Float[np.ndarray, 'members n classes']"  # logits
Weights: TypeAlias = "Float[np.ndarray, ' members']"  # sum 1, none negative
Score: TypeAlias = "Callable[[Int[np.ndarray, ' n'], Float[np.ndarray, 'n classes']], float]"
LARGEST: Final = 20  # picks of the greedy selection
SMALLEST: Final = 0.01  # a fitted weight below this is not worth running a network for


def combine(members: Members, weights: Weights) -> Float[np.ndarray, "n classes"]:
    """Weighted mean of the members' logits."""
    return np.asarray(np.tensordot(weights, members, axes=1))


def select_greedy(members: Members, labels: Int[np.ndarray, " n"], score: Score) -> Weights:
    """Pick members one by one, a member perhaps again, until none makes the score better.

    Args:
        members: Logits of each member for the same validation cases.
        labels: True class indices.
        score: Labels and logits to what should be large.

    Returns:
        How often each was picked, as shares; 0 leaves a member out.

    Source: Caruana et al. 2004, Ensemble selection from libraries of models, section 2; stopped at
    the first step without a gain.
    """
    _check(members, labels)
    picks, total, best = np.zeros(len(members)), np.zeros(members.shape[1:]), -np.inf
    while (size := int(picks.sum())) < LARGEST:
        scores = [score(labels, (total + member) / (size + 1)) for member in members]
        pick = int(np.argmax(scores))
        if not scores[pick] > best:
            break
        best = scores[pick]
        picks[pick] += 1
        total += members[pick]
    return np.asarray(picks / picks.sum())


def fit_weights(members: Members, labels: Int[np.ndarray, " n"], *, steps: int = 500) -> Weights:
    """Weights of the least class-balanced log loss: convex, so there is one answer.

    Exponentiated gradient descent from equal weights (Kivinen and Warmuth 1997), the step halved
    whenever the loss would rise. What ends below `SMALLEST` is set to 0.
    """
    _check(members, labels)
    members = members - members.mean(axis=2, keepdims=True)
    of_case = _balanced(labels)
    truth = np.eye(members.shape[2])[labels]
    weights, rate = np.full(len(members), 1 / len(members)), 1.0
    loss = balanced_log_loss(labels, combine(members, weights))
    for _ in range(steps):
        error = (softmax(combine(members, weights)) - truth) * of_case[:, None]
        gradient = (members * error).sum(axis=(1, 2))
        moved = weights * np.exp(-rate * (gradient - gradient.min()))
        moved /= moved.sum()
        if (fresh := balanced_log_loss(labels, combine(members, moved))) <= loss:
            weights, loss, rate = moved, fresh, rate * 1.2
        else:
            rate /= 2
    weights = np.where(weights < SMALLEST, 0, weights)
    return np.asarray(weights / weights.sum())


def balanced_log_loss(
    labels: Int[np.ndarray, " n"], logits: Float[np.ndarray, "n classes"]
) -> float:
    """Mean over the classes of each one's mean of -log p(truth).

    >>> round(balanced_log_loss(np.array([0, 0, 0, 1]), np.zeros((4, 2))), 4)  # log 2
    0.6931
    """
    largest = logits.max(axis=1)
    log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return float((_balanced(labels) * (log_sum - logits[np.arange(len(labels)), labels])).sum())


def stacked(members: Sequence[Predictions]) -> Members:
    """Logits of several models for the same cases.

    Raises:
        InputError: The cases or the classes are not the same.
    """
    first = members[0]
    for other in members[1:]:
        if other.codes != first.codes:
            raise InputError(f"members answer {first.codes} and {other.codes}; need the same")
        if list(other.images) != list(first.images) or (other.labels != first.labels).any():
            shared = len(set(first.images) & set(other.images))
            raise InputError(
                f"members were asked about {len(first.images)} and {len(other.images)} pictures, "
                f"{shared} of them shared; need the same in the same order, with the same labels"
            )
    return np.stack([member.logits for member in members]).astype(np.float64)


def _balanced(labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Weight of each case, so that every class that is there counts the same; sum 1."""
    counts = np.bincount(labels)
    return np.asarray(1 / (counts[labels] * (counts > 0).sum()))


def _check(members: Members, labels: Int[np.ndarray, " n"]) -> None:
    if len(members) == 0 or len(labels) == 0 or members.shape[1] != len(labels):
        raise InputError(
            f"need members and one label per case, got logits {members.shape}, {len(labels)} labels"
        )
    if labels.min() < 0 or labels.max() >= members.shape[2] or not np.isfinite(members).all():
        raise InputError("every case needs a known diagnosis and finite logits to fit weights on")
