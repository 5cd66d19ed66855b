import numpy as np
import pytest

from dermx.config import TrainConfig
from dermx.errors import InputError
from dermx.train.sampling import (
    curriculum_share,
    draw_epoch,
    easiest,
    epoch_counts,
    power_counts,
    target_counts,
)


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


def test_the_root_of_the_counts_by_hand() -> None:
    """Roots 30 and 10: three to one, not nine to one."""
    assert power_counts(np.array([900, 100]), 0.5, total=1000).tolist() == [750, 250]


def test_power_zero_keeps_the_natural_shares_and_one_levels_them() -> None:
    counts = np.array([70, 20, 0, 10])
    assert power_counts(counts, 0, total=50).tolist() == [35, 10, 0, 5]
    assert power_counts(counts, 1, total=90).tolist() == [30, 30, 0, 30]


def test_drawing_each_picture_by_its_classs_power_gives_these_counts() -> None:
    """The second implementation: chances per picture, as a weighted sampler takes them."""
    counts = np.array([400, 60, 5])
    chances = np.repeat(counts**-0.7, counts)
    labels = np.repeat([0, 1, 2], counts)
    expected = np.bincount(labels, weights=chances / chances.sum() * 1000)
    assert power_counts(counts, 0.7, total=1000).tolist() == np.rint(expected).tolist()


def test_a_present_class_is_drawn_at_any_power() -> None:
    assert power_counts(np.array([10_000, 1]), 0, total=100).tolist() == [100, 1]


def test_a_power_above_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"power of the counts is from 0 to 1, got 1\.5"):
        power_counts(np.array([3, 4]), 1.5, total=7)


def test_the_settings_choose_the_sampler() -> None:
    counts = np.array([900, 100])
    by_share = epoch_counts(counts, TrainConfig(oversample=1), 1000)
    by_power = epoch_counts(counts, TrainConfig(sampler="power", oversample=1), 1000)
    assert by_share.tolist() == [500, 500]
    assert by_power.tolist() == [750, 250]


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


def test_a_class_without_pictures_is_passed_over() -> None:
    drawn = draw_epoch(np.array([2, 0, 2]), np.array([3, 0, 1]), np.random.default_rng(0))
    assert np.bincount(drawn, minlength=3)[1] == 3
    assert len(drawn) == 4
    drawn = draw_epoch(np.array([0, 0]), np.array([2, 5]), np.random.default_rng(0))
    assert sorted(drawn.tolist()) == [0, 1]


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


def test_the_easiest_share_is_taken_class_by_class() -> None:
    labels = np.array([0, 1, 0, 1, 0, 0])
    difficulty = np.array([4.0, 90.0, 3.0, 80.0, 2.0, 1.0])
    assert easiest(labels, difficulty, 0.5).tolist() == [3, 4, 5]
    assert easiest(labels, difficulty, 0.01).tolist() == [3, 5]  # at least one of each
    assert easiest(labels, difficulty, 1).tolist() == [0, 1, 2, 3, 4, 5]


def test_of_equally_easy_pictures_the_first_are_taken() -> None:
    assert easiest(np.zeros(4, int), np.ones(4), 0.5).tolist() == [0, 1]


def test_the_curriculum_widens_evenly_until_all_take_part() -> None:
    settings = TrainConfig(curriculum_start=0.2, curriculum_epochs=4)
    shares = [curriculum_share(epoch, settings) for epoch in range(6)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
