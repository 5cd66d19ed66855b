from itertools import pairwise

import pytest

from dermx.train.schedule import learning_rate_at


def rates(total: int, warmup: float) -> list[float]:
    return [learning_rate_at(s, total=total, peak=1.0, warmup=warmup) for s in range(total)]


def test_climbs_evenly_then_reaches_the_peak() -> None:
    assert rates(10, 0.3)[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_a_share_that_is_no_whole_number_of_steps_is_rounded() -> None:
    assert rates(11, 0.2)[:3] == pytest.approx([1 / 3, 2 / 3, 1])  # 2.2 steps


def test_half_the_peak_halfway_down() -> None:
    assert learning_rate_at(60, total=110, peak=2.0, warmup=10 / 110) == pytest.approx(1.0)


def test_without_warmup_it_starts_at_the_peak_and_only_falls() -> None:
    curve = rates(50, 0)
    assert curve[0] == 1
    assert all(later < earlier for earlier, later in pairwise(curve))
    assert 0 < curve[-1] < 0.01
