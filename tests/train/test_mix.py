import numpy as np
import pytest
import torch

from dermx.config import TrainConfig
from dermx.train.mix import Mixture, draw_mixture, mix, partners


def batch(b: int = 4, side: int = 8) -> torch.Tensor:
    values = np.random.default_rng(0).normal(size=(b, side, side, 3)).astype(np.float32)
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def test_nothing_is_mixed_unless_asked_for() -> None:
    inputs = batch()
    mixed, own = mix(inputs, draw_mixture(TrainConfig(), 0, 0))
    assert mixed is inputs
    assert own == 1


def test_a_blend_of_a_quarter() -> None:
    inputs = batch()
    before = inputs.clone()
    mixed, own = mix(inputs, Mixture(own=0.25))
    assert own == 0.25
    torch.testing.assert_close(mixed[1], 0.25 * inputs[1] + 0.75 * inputs[3])
    torch.testing.assert_close(mixed[3], 0.25 * inputs[3] + 0.75 * inputs[1])
    assert torch.equal(inputs, before)


def test_a_box_of_a_quarter_of_the_area_is_half_as_wide_and_high() -> None:
    inputs = batch()
    mixed, own = mix(inputs, Mixture(own=0.75, boxed=True))
    assert own == 0.75
    expected = inputs.clone()
    expected[:, :, 2:6, 2:6] = inputs[[2, 3, 0, 1]][:, :, 2:6, 2:6]
    assert torch.equal(mixed, expected)


def test_a_box_cut_at_the_corner_counts_what_is_left_of_it() -> None:
    inputs = batch()
    mixed, own = mix(inputs, Mixture(own=0.75, boxed=True, across=1.0, down=0.0))
    assert own == 1 - 4 / 64  # two by two pixels of four by four
    assert torch.equal(mixed[0, :, :2, 6:], inputs[2, :, :2, 6:])
    assert torch.equal(mixed[0, :, 2:], inputs[0, :, 2:])


def test_the_share_of_a_box_is_the_share_of_pixels_for_any_draw() -> None:
    settings = TrainConfig(cutmix=1.0)
    inputs = torch.stack([torch.zeros(3, 21, 30), torch.ones(3, 21, 30)])
    for step in range(50):
        mixed, own = mix(inputs, draw_mixture(settings, 0, step))
        assert mixed[0].mean().item() == pytest.approx(1 - own, abs=1e-6)
        assert mixed[1].mean().item() == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize("boxed", [False, True])
def test_mixing_keeps_the_memory_layout(boxed: bool) -> None:
    mixed = mix(batch(), Mixture(own=0.4, boxed=boxed))[0]
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_two_processes_pair_the_pictures_that_one_pairs() -> None:
    positions = torch.arange(12)
    alone = dict(zip(positions.tolist(), partners(positions).tolist(), strict=True))
    for rank in (0, 1):
        share = positions[rank::2]
        pairs = dict(zip(share.tolist(), partners(share).tolist(), strict=True))
        assert pairs.items() <= alone.items()


def test_a_draw_depends_on_seed_epoch_and_step_only() -> None:
    settings = TrainConfig(mixup=0.4, cutmix=1.0)
    first = draw_mixture(settings, 2, 5)
    assert first == draw_mixture(settings, 2, 5)
    others = [
        draw_mixture(TrainConfig(mixup=0.4, cutmix=1.0, seed=1), 2, 5),
        draw_mixture(settings, 3, 5),
        draw_mixture(settings, 2, 6),
    ]
    assert first not in others


def test_shares_follow_the_beta_distribution_and_a_fair_coin_chooses() -> None:
    """Beta(a, a) has mean 1/2 and variance 1 / (8 a + 4)."""
    drawn = [draw_mixture(TrainConfig(mixup=2.0, cutmix=0.5), 0, step) for step in range(2000)]
    assert np.mean([m.boxed for m in drawn]) == pytest.approx(0.5, abs=0.04)
    for boxed, variance in ((False, 1 / 20), (True, 1 / 8)):
        shares = [m.own for m in drawn if m.boxed == boxed]
        assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
        assert np.var(shares) == pytest.approx(variance, rel=0.12)


def test_only_the_wanted_share_of_batches_is_mixed() -> None:
    drawn = [draw_mixture(TrainConfig(mixup=1.0, mix_share=0.3), 0, step) for step in range(1000)]
    assert np.mean([m != Mixture() for m in drawn]) == pytest.approx(0.3, abs=0.05)
    assert not any(m.boxed for m in drawn)
