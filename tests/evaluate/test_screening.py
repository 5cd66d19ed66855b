"""Thresholds agree with scikit-learn's curve, and reach what was asked for."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from dermx.diagnoses import CODES, MALIGNANT
from dermx.evaluate.screening import (
    Screening,
    dangerous,
    fit_screening,
    fit_threshold,
    rates,
    score_screening,
    screening_scores,
)

from .conftest import MEL, NV, calibrated, predicted, two


def test_danger_is_what_the_classes_say() -> None:
    assert {code for code, danger in zip(CODES, dangerous(CODES), strict=True) if danger} == {
        *MALIGNANT
    }
    probs = np.array([[0.1, 0.2, 0.1, 0.1, 0.05, 0.05, 0.1, 0.3]])
    assert screening_scores(probs, CODES) == pytest.approx(0.2 + 0.1 + 0.05)


def test_a_threshold_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.75, 0.1])
    positive = np.array([True, True, True, True, False, False])
    for wanted, threshold in [(0.25, 0.9), (0.26, 0.8), (0.75, 0.7), (0.76, 0.2), (1.0, 0.2)]:
        assert fit_threshold(scores, positive, wanted) == threshold
    sensitivity, specificity = rates(scores >= 0.7, positive)
    assert (sensitivity, specificity) == (0.75, 0.5)


@settings(deadline=None)  # whatever else the machine does
@given(
    arrays(np.int64, 40, elements=st.integers(0, 9)),
    arrays(np.bool_, 40),
    st.sampled_from([0.1, 0.5, 0.8, 0.9, 0.92, 0.95, 1.0]),
)
def test_a_threshold_is_the_point_of_scikit_learn_s_curve(
    scores: np.ndarray, positive: np.ndarray, wanted: float
) -> None:
    assume(positive.any() and not positive.all())
    threshold = fit_threshold(scores.astype(float), positive, wanted)
    fpr, tpr, thresholds = sk.roc_curve(positive, scores, drop_intermediate=False)
    first = int(np.argmax(tpr >= wanted - 1e-12))
    assert threshold == thresholds[first]
    sensitivity, specificity = rates(scores >= threshold, positive)
    assert (sensitivity, specificity) == pytest.approx((tpr[first], 1 - fpr[first]))
    assert sensitivity >= wanted - 1e-12


@settings(deadline=None)  # whatever else the machine does
@given(
    arrays(np.int64, 30, elements=st.integers(0, 6)),
    arrays(np.bool_, 30),
    arrays(np.int64, (3, 30), elements=st.integers(0, 3)),
)
def test_weights_count_as_repeated_cases(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> None:
    assume(positive.any())
    ours = fit_threshold(scores, positive, 0.8, weights.astype(float))
    ours_rates = np.stack(rates(scores >= 3, positive, weights.astype(float)), axis=1)
    for value, both, weight in zip(ours, ours_rates, weights, strict=True):
        repeated, truth = np.repeat(scores, weight), np.repeat(positive, weight)
        np.testing.assert_array_equal(both, rates(repeated >= 3, truth))
        if truth.any():
            assert value == fit_threshold(repeated, truth, 0.8)
        else:
            assert np.isnan(value)


def test_a_wanted_share_that_is_a_whole_number_of_cases_is_not_rounded_up() -> None:
    scores = np.arange(25, 0, -1.0)
    assert 0.28 * 25 > 7  # in floating point
    assert fit_threshold(scores, np.ones(25, bool), 0.28) == scores[6]


def test_screening_is_fitted_with_an_interval_and_scored_on_other_cases() -> None:
    screening = fit_screening(calibrated(3), 0.9, n_boot=300)
    assert screening.low < screening.threshold < screening.high
    here = score_screening(calibrated(3), screening, n_boot=300)
    assert here["sensitivity"][0] >= 0.9
    there = score_screening(calibrated(4, 20_000), screening, n_boot=100)
    assert there["sensitivity"][0] == pytest.approx(0.9, abs=0.03)
    for value, low, high in there.values():
        assert low < value < high


def test_the_seed_draws_the_lesions_of_every_interval() -> None:
    case = calibrated(3)
    one, other = (fit_screening(case, 0.9, n_boot=50, seed=seed) for seed in (0, 1))
    assert one.threshold == other.threshold
    assert (one.low, one.high) != (other.low, other.high)
    here, there = (score_screening(case, one, n_boot=50, seed=seed) for seed in (0, 1))
    for name, (value, *ends) in here.items():
        assert value == there[name][0]
        assert tuple(ends) != there[name][1:], name


def test_the_threshold_s_interval_covers_that_of_very_many_cases() -> None:
    truth = fit_screening(calibrated(5, 200_000), 0.9, n_boot=1).threshold
    fitted = [fit_screening(calibrated(10 + i, 600), 0.9, n_boot=200) for i in range(60)]
    assert sum(one.low <= truth <= one.high for one in fitted) >= 0.85 * 60


def test_a_rounded_sum_is_no_probability_above_one() -> None:
    """Three certain dangers may add up to 1 + 2e-16, which is refused as a threshold."""
    danger = np.flatnonzero(dangerous(CODES))
    thirds = np.random.default_rng(0).dirichlet(np.ones(3), size=500)
    probs = np.zeros((500, 8))
    probs[:, danger] = thirds
    assert probs[:, danger].sum(axis=1).max() > 1
    assert screening_scores(probs, CODES).max() == 1


def test_a_threshold_holds_for_the_case_at_it() -> None:
    case = predicted(np.array([MEL, NV]), np.array([two(0.4, 0.6), two(0.7, 0.3)]) + 1e-9)
    at = screening_scores(case.probs, CODES)[0]
    screening = Screening(threshold=float(at), low=0, high=1, wanted=1.0)
    assert score_screening(case, screening, n_boot=5)["sensitivity"][0] == 1
