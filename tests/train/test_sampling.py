import numpy as np
import pytest

from dermx.errors import InputError
from dermx.train.sampling import draw_epoch, target_counts


def test_share_zero_keeps_the_natural_counts_and_one_levels_them() -> None:
    counts = np.array([100, 20, 5])
    assert target_counts(counts, 0).tolist() == [100, 20, 5]
    assert target_counts(counts, 1).tolist() == [100, 100, 100]


def test_a_quarter_share_moves_each_class_a_quarter_of_the_way() -> None:
    assert target_counts(np.array([100, 20]), 0.25).tolist() == [100, 40]


def test_total_scales_the_targets_and_keeps_their_ratios() -> None:
    assert target_counts(np.array([100, 20]), 0.25, total=70).tolist() == [50, 20]


def test_an_absent_class_is_never_drawn_and_a_present_one_always() -> None:
    targets = target_counts(np.array([1000, 1, 0]), 0, total=10)
    assert targets.tolist() == [10, 1, 0]


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"from 0 to 1, got 1\.5"):
        target_counts(np.array([3, 4]), 1.5)


def test_an_epoch_has_exactly_the_target_counts() -> None:
    labels = np.repeat([0, 1, 2], [50, 7, 2])
    targets = np.array([20, 30, 9])
    drawn = draw_epoch(labels, targets, np.random.default_rng(0))
    assert np.bincount(labels[drawn]).tolist() == targets.tolist()


def test_oversampling_uses_every_picture_nearly_equally_often() -> None:
    labels = np.repeat([0, 1], [50, 7])
    drawn = draw_epoch(labels, np.array([50, 30]), np.random.default_rng(0))
    times = np.bincount(drawn, minlength=57)[50:]
    assert set(times) == {4, 5}  # 30 = 7 * 4 + 2


def test_undersampling_repeats_no_picture() -> None:
    labels = np.zeros(50, int)
    drawn = draw_epoch(labels, np.array([20]), np.random.default_rng(3))
    assert len(set(drawn.tolist())) == 20


def test_the_same_generator_draws_the_same_epoch_and_another_does_not() -> None:
    labels = np.repeat([0, 1], [50, 7])
    one, same, other = (
        draw_epoch(labels, np.array([50, 30]), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert one.tolist() == same.tolist() != other.tolist()
