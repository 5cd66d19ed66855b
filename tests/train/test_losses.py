import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torchvision.ops import sigmoid_focal_loss

from dermx.config import TrainConfig
from dermx.train.losses import (
    ClassLoss,
    distillation_loss,
    effective_weights,
    focal_loss,
    inverse_weights,
    log_prior,
)

COUNTS = np.array([900, 90, 10])


def example(n: int = 20, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(n, classes)) * 3, requires_grad=True)
    return logits, torch.tensor(rng.integers(0, classes, n))


def settings(loss: str, **more: float) -> TrainConfig:
    return TrainConfig(loss=loss, **({"label_smoothing": 0} | more))  # type: ignore[arg-type]


def test_inverse_weights_of_nine_to_one() -> None:
    """100 / (2 * 90) and 100 / (2 * 10); at half the power they differ by 3, not 9."""
    assert inverse_weights(np.array([90, 10])).tolist() == pytest.approx([5 / 9, 5])
    one, other = inverse_weights(np.array([90, 10]), power=0.5)
    assert other / one == pytest.approx(3)
    assert inverse_weights(np.array([90, 10]), power=0).tolist() == [1, 1]


def test_inverse_weights_are_sklearns_balanced_ones() -> None:
    labels = np.repeat([0, 1, 2], COUNTS)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert inverse_weights(COUNTS) == pytest.approx(theirs)


def test_two_pictures_at_beta_one_half_are_worth_one_and_a_half() -> None:
    """Effective numbers 1.5 and 1: weights 2/3 to 1, scaled so that (2 * w + 1 * v) / 3 = 1."""
    assert effective_weights(np.array([2, 1]), 0.5).tolist() == pytest.approx([6 / 7, 9 / 7])


def test_effective_weights_lie_between_none_and_inverse_ones() -> None:
    assert effective_weights(COUNTS, 0).tolist() == [1, 1, 1]
    assert effective_weights(COUNTS, 1 - 1e-9) == pytest.approx(inverse_weights(COUNTS), rel=1e-5)


def test_effective_weights_are_timms_but_for_the_scale() -> None:
    timm = pytest.importorskip("timm.loss.class_weights", reason="timm older than 1.0.30 or so")
    theirs = timm.compute_class_weights(COUNTS.tolist(), 1000, method="effective_num", beta=0.999)
    ours = effective_weights(COUNTS, 0.999)
    assert ours / ours.mean() == pytest.approx(theirs[1].numpy(), rel=1e-5)


@pytest.mark.parametrize("weights", [inverse_weights(COUNTS), effective_weights(COUNTS)])
def test_weights_keep_the_scale_of_the_loss(weights: np.ndarray) -> None:
    assert (weights * COUNTS).sum() / COUNTS.sum() == pytest.approx(1)


def test_a_class_without_pictures_has_finite_weights_and_prior() -> None:
    counts = np.array([50, 0])
    for values in (inverse_weights(counts), effective_weights(counts), log_prior(counts)):
        assert np.isfinite(values).all()
    assert inverse_weights(counts)[0] == 1  # those with pictures are not disturbed


def test_focal_loss_of_three_quarters() -> None:
    """p = 3/4 for the true class: (1/4)**2 * -log(3/4)."""
    logits = torch.tensor([[math.log(3), 0.0]])
    loss = focal_loss(logits, torch.tensor([0]), gamma=2)
    assert loss.item() == pytest.approx(-math.log(0.75) / 16)


def test_smoothed_focal_loss_has_a_term_of_every_class() -> None:
    """Targets 0.9 and 0.1 of p = 3/4 and 1/4."""
    logits = torch.tensor([[math.log(3), 0.0]])
    loss = focal_loss(logits, torch.tensor([0]), gamma=1, smoothing=0.2)
    by_hand = -0.9 * 0.25 * math.log(0.75) - 0.1 * 0.75 * math.log(0.25)
    assert loss.item() == pytest.approx(by_hand)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_loss_at_gamma_zero_is_cross_entropy(smoothing: float) -> None:
    logits, labels = example()
    theirs = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0, smoothing=smoothing), theirs)


def test_focal_loss_of_two_classes_is_torchvisions_binary_one() -> None:
    """A softmax over (0, z) is a sigmoid of z."""
    z, labels = torch.linspace(-6, 6, 25), torch.arange(25) % 2
    ours = focal_loss(torch.stack([torch.zeros(25), z], dim=1), labels, gamma=2.5)
    torch.testing.assert_close(ours, sigmoid_focal_loss(z, labels.float(), alpha=-1, gamma=2.5))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_slopes_are_finite_where_an_answer_is_sure(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0, 0]), gamma=gamma).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_default_is_torchs_cross_entropy_to_the_bit() -> None:
    logits, labels = (t.detach() for t in example())
    loss = ClassLoss(TrainConfig(), COUNTS)(logits.float(), labels)
    assert torch.equal(loss, F.cross_entropy(logits.float(), labels, label_smoothing=0.05))


def test_weights_multiply_each_picture_by_its_label() -> None:
    logits, labels = example()
    weights = torch.tensor(inverse_weights(COUNTS))
    theirs = F.cross_entropy(logits, labels, weight=weights, reduction="sum") / len(labels)
    ours = ClassLoss(settings("inverse"), COUNTS)(logits, labels)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


def test_adjusted_logits_by_hand() -> None:
    """Equal logits, priors 3/4 and 1/4: the loss is -log(1/4); at tau 0.5, roots of the priors."""
    logits, labels = torch.zeros(1, 2), torch.tensor([1])
    loss = ClassLoss(settings("adjusted"), np.array([30, 10]))(logits, labels)
    assert loss.item() == pytest.approx(math.log(4))
    half = ClassLoss(settings("adjusted", adjust_tau=0.5), np.array([30, 10]))(logits, labels)
    assert half.item() == pytest.approx(math.log(1 + math.sqrt(3)))


def test_adjusted_training_ends_at_balanced_probabilities() -> None:
    """One constant input, 30 and 10 pictures: plain logits learn the prior, adjusted ones none."""
    labels = torch.tensor([0] * 30 + [1] * 10)
    gaps = {}
    for loss in ("cross_entropy", "adjusted"):
        logits = torch.zeros(2, requires_grad=True)
        measure = ClassLoss(settings(loss), np.array([30, 10]))
        optimizer = torch.optim.LBFGS([logits], max_iter=50, line_search_fn="strong_wolfe")

        def step(logits=logits, measure=measure, optimizer=optimizer):  # type: ignore[no-untyped-def]
            optimizer.zero_grad()
            value = measure(logits.expand(40, 2), labels)
            value.backward()
            return value

        optimizer.step(step)
        gaps[loss] = (logits[0] - logits[1]).item()
    assert gaps["cross_entropy"] == pytest.approx(math.log(3), abs=1e-4)
    assert gaps["adjusted"] == pytest.approx(0, abs=1e-4)


def test_all_terms_compose() -> None:
    logits, labels = example()
    together = ClassLoss(settings("focal+effective+adjusted", focal_gamma=1), COUNTS)
    shifted = logits + torch.tensor(log_prior(COUNTS))
    probs = shifted.softmax(1)[torch.arange(20), labels]
    weights = torch.tensor(effective_weights(COUNTS))[labels]
    by_hand = (weights * (1 - probs) * -probs.log()).mean()
    assert together(logits, labels).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_distance_to_a_teacher_by_hand() -> None:
    """A teacher of 3/4 and 1/4, a student of 1/2 each: 3/4 log(3/2) + 1/4 log(1/2)."""
    loss = distillation_loss(torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]), temperature=1)
    assert loss.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_a_softened_teacher_by_hand() -> None:
    """At temperature 2, odds of 9 become 3: again 3/4 and 1/4, times 2 squared."""
    loss = distillation_loss(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]]), temperature=2)
    by_hand = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)


def test_a_student_that_agrees_is_at_no_distance_whatever_its_labels() -> None:
    logits, _ = example()
    loss = distillation_loss(logits, logits.softmax(1), temperature=3)
    assert loss.item() == pytest.approx(0, abs=1e-9)


def test_a_sure_teacher_is_a_label() -> None:
    logits, labels = example()
    loss = distillation_loss(logits, F.one_hot(labels, 3).double(), temperature=1)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-6)


def test_hot_distillation_matches_centred_logits() -> None:
    """Equation 4 of the paper: the slope tends to the difference of the centred logits over n."""
    logits, _ = example(n=1)
    target = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    distillation_loss(logits, target.softmax(1), temperature=1000).backward()  # type: ignore[no-untyped-call]
    by_hand = (logits - logits.mean() - (target - target.mean())) / 3
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, by_hand.detach(), rtol=1e-2, atol=1e-2)


def test_label_and_teacher_share_the_loss() -> None:
    logits, labels = example()
    teacher = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64).expand(20, 3)
    measure = ClassLoss(settings("adjusted", distill_share=0.25, distill_temperature=4.0), COUNTS)
    distance = distillation_loss(logits, teacher, temperature=4)  # of the logits as they are
    expected = 0.75 * measure.of_labels(logits, labels) + 0.25 * distance
    assert measure(logits, labels, teacher).item() == pytest.approx(expected.item())
