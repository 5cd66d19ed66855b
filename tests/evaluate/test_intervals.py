"""Intervals resample lesions, cover the truth, and equal a plain loop that resamples cases."""

import numpy as np
import pytest
from scipy import stats

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.evaluate.intervals import (
    bootstrap,
    case_weights,
    draw_groups,
    estimate_json,
    mean_interval,
    percentile_interval,
    resampled,
)
from dermx.evaluate.metrics import score
from dermx.records import Predictions


def predicted(labels: np.ndarray, logits: np.ndarray, groups: list[str]) -> Predictions:
    return Predictions(
        images=[f"i{i}" for i in range(len(labels))],
        groups=groups,
        labels=labels,
        logits=logits.astype(np.float32),
        features=np.zeros((len(labels), 1), np.float32),
    )


def drawn(seed: int, n: int, per_lesion: int = 1, right: float = 0.8) -> Predictions:
    """Draw n lesions; all pictures of one are answered alike, right with a given chance."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 8, n)
    answers = np.where(rng.random(n) < right, labels, (labels + rng.integers(1, 8, n)) % 8)
    logits = rng.normal(size=(n, 8)) + 8 * np.eye(8)[answers]
    return predicted(
        np.repeat(labels, per_lesion),
        np.repeat(logits, per_lesion, axis=0),
        [f"l{i}" for i in range(n) for _ in range(per_lesion)],
    )


def test_intervals_equal_those_of_a_loop_that_repeats_the_drawn_lesions() -> None:
    case = drawn(0, 60, per_lesion=3)
    counts, member = draw_groups(case.groups, n_boot=25, seed=3)
    looped = [score(case.select(np.repeat(np.arange(180), row[member]))).values for row in counts]
    for name, interval in bootstrap(case, n_boot=25, seed=3).items():
        expected = percentile_interval(np.array([values[name] for values in looped]))
        assert interval == pytest.approx(expected, nan_ok=True), name


def test_resamples_that_go_through_memory_in_pieces_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = drawn(9, 60)
    whole = resampled(case, n_boot=25)
    monkeypatch.setattr("dermx.evaluate.intervals._CELLS_AT_ONCE", 7 * 60)  # seven of 25 at once
    for name, values in resampled(case, n_boot=25).items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)


def test_two_lesions_by_hand() -> None:
    # drawn twice from {right, wrong}: accuracy 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    case = predicted(np.array([0, 0]), 5 * np.eye(8)[[0, 1]], ["a", "b"])
    assert bootstrap(case)["accuracy"] == (0, 1)
    assert bootstrap(case, level=0.4)["accuracy"] == (0.5, 0.5)


def test_all_right_leaves_no_room() -> None:
    intervals = bootstrap(drawn(1, 100, right=1.0), n_boot=200)
    for name in ("accuracy", "balanced_accuracy_dermoscopic", "recall_mel", "macro_auroc"):
        assert intervals[name] == (1, 1)


def test_every_score_has_an_interval_around_it() -> None:
    case = drawn(2, 400)
    scores, intervals = score(case).values, bootstrap(case, n_boot=300)
    assert intervals.keys() == scores.keys()
    for name, (low, high) in intervals.items():
        assert low <= scores[name] <= high, name


def test_accuracy_of_single_pictures_agrees_with_scipy() -> None:
    case = drawn(3, 300)
    hits = (case.labels == case.probs.argmax(axis=1)).astype(float)
    theirs = stats.bootstrap((hits,), np.mean, method="percentile", n_resamples=4000, rng=0)
    ours = bootstrap(case, n_boot=4000)["accuracy"]
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.006)


def test_copies_of_a_picture_are_no_new_evidence() -> None:
    once, four_times = drawn(4, 150), drawn(4, 150, per_lesion=4)
    alone = predicted(four_times.labels, four_times.logits, list(four_times.images))

    def width(case: Predictions) -> float:
        low, high = bootstrap(case)["accuracy"]
        return high - low

    assert width(four_times) == pytest.approx(width(once), rel=1e-9)
    assert width(alone) == pytest.approx(width(once) / 2, rel=0.1)  # 1 / sqrt(4): too narrow


def test_lesions_cover_the_truth_95_times_in_100_and_pictures_do_not() -> None:
    def covered(case: Predictions) -> bool:
        low, high = bootstrap(case, n_boot=200)["accuracy"]
        return low <= 0.8 <= high

    by_lesion, by_picture = 0, 0
    for seed in range(200):
        case = drawn(seed, 100, per_lesion=3)
        by_lesion += covered(case)
        by_picture += covered(predicted(case.labels, case.logits, list(case.images)))
    assert 0.90 <= by_lesion / 200 <= 0.98
    assert by_picture / 200 < 0.85


def test_the_same_seed_draws_the_same_and_another_another() -> None:
    case = drawn(5, 80)
    assert bootstrap(case, n_boot=50) == bootstrap(case, n_boot=50)
    assert bootstrap(case, n_boot=50)["accuracy"] != bootstrap(case, n_boot=50, seed=1)["accuracy"]


def test_an_undefined_number_has_an_undefined_interval() -> None:
    case = drawn(6, 50)
    without = case.select(case.labels != CODES.index("df"))
    assert np.isnan(bootstrap(without, n_boot=20)["recall_df"]).all()
    assert not np.isnan(bootstrap(without, n_boot=20)["balanced_accuracy"]).any()


def test_cases_without_a_label_are_not_drawn() -> None:
    case = drawn(7, 60)
    more = predicted(
        np.append(case.labels, [-1] * 20),
        np.vstack([case.logits, np.zeros((20, 8))]),
        [*case.groups, *(f"u{i}" for i in range(20))],
    )
    assert bootstrap(more, n_boot=30) == bootstrap(case, n_boot=30)


def test_each_draw_takes_as_many_groups_as_there_are() -> None:
    counts, member = draw_groups(["b", "a", "b", "c"], n_boot=500)
    assert (counts.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(member, [1, 0, 1, 2])
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.15)


def test_an_interval_is_cut_at_equal_tails_without_the_undefined() -> None:
    values = np.append(np.arange(101.0), [np.nan] * 7)
    assert percentile_interval(values, 0.9) == pytest.approx((5, 95))
    assert np.isnan(percentile_interval(np.array([np.nan]))).all()


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(InputError, match="got 5 cases, n_boot 0"):
        bootstrap(drawn(8, 5), n_boot=0)
    with pytest.raises(InputError, match="got 0 cases, n_boot 10"):
        draw_groups([], n_boot=10)
    for level in (0, 1, 95):
        with pytest.raises(InputError, match=f"level must be between 0 and 1, got {level}"):
            bootstrap(drawn(8, 5), n_boot=10, level=level)


def test_the_mean_of_pictures_of_one_lesion_is_no_surer_than_one() -> None:
    rng = np.random.default_rng(0)
    of_lesions = rng.random(30)
    once = mean_interval(of_lesions, [str(i) for i in range(30)])
    thrice = mean_interval(np.repeat(of_lesions, 3), [str(i) for i in range(30) for _ in "abc"])
    np.testing.assert_allclose(thrice, once)
    assert once[0] == pytest.approx(of_lesions.mean())


def test_a_mean_interval_covers_like_the_normal_one_on_many_cases() -> None:
    values = np.random.default_rng(1).normal(5, 2, 2000)
    mean, low, high = mean_interval(values, [str(i) for i in range(2000)], n_boot=4000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert (low, high) == (
        pytest.approx(mean - half, rel=0.005),
        pytest.approx(mean + half, rel=0.005),
    )


def test_a_mean_leaves_out_what_is_not_a_number() -> None:
    assert mean_interval(np.array([1.0, np.nan]), ["a", "b"]) == (1, 1, 1)
    assert np.isnan(mean_interval(np.array([np.nan]), ["a"])).all()
    with pytest.raises(InputError, match="one group per value, got 2 and 1"):
        mean_interval(np.array([1.0, 2.0]), ["a"])


def test_cases_of_a_group_are_drawn_together() -> None:
    weights = case_weights(["a", "b", "a", "c"], n_boot=200, seed=1)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()  # as many groups as there are


def test_a_figure_for_json_has_none_for_what_is_undefined() -> None:
    nan = float("nan")
    assert estimate_json((0.5, 0.25, 0.75)) == {"value": 0.5, "low": 0.25, "high": 0.75}
    assert estimate_json((0.5, nan, nan)) == {"value": 0.5, "low": None, "high": None}
