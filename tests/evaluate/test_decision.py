"""Rules agree with numbers worked by hand, with scikit-learn, and keep what they promise."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from dermx.diagnoses import CODES, MALIGNANT
from dermx.errors import InputError
from dermx.evaluate.decision import (
    Rule,
    Screening,
    cost_matrix,
    dangerous,
    dangerous_cases,
    fit_rule,
    fit_screening,
    fit_strength,
    fit_threshold,
    least_cost,
    prior_weights,
    rates,
    score_rule,
    score_screening,
    screening_scores,
)
from dermx.evaluate.intervals import bootstrap
from dermx.evaluate.metrics import score
from dermx.records import Predictions

SHARES = np.array([0.6, 0.11, 0.1, 0.06, 0.05, 0.03, 0.02, 0.03])
MEL, NV = CODES.index("mel"), CODES.index("nv")


def predicted(labels: np.ndarray, probs: np.ndarray) -> Predictions:
    n = len(labels)
    return Predictions(
        images=[f"i{i}" for i in range(n)],
        groups=[f"g{i // 2}" for i in range(n)],
        labels=np.asarray(labels),
        logits=np.log(probs).astype(np.float32),
        features=np.zeros((n, 1), np.float32),
    )


def calibrated(seed: int, n: int = 4000) -> Predictions:
    """Draw cases whose truth is drawn from their stated probabilities, with unequal classes."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(8, n, p=SHARES)
    seen = np.eye(8)[truth] * 1.5 + rng.normal(size=(n, 8))
    logits = 1.5 * seen + np.log(SHARES)  # the posterior of this mixture of normals
    return predicted(truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def two(benign: float, malignant: float) -> list[float]:
    """Probabilities of a case between nv and mel alone."""
    row = [0.0] * 8
    row[NV], row[MEL] = benign, malignant
    return row


@given(arrays(np.float64, (20, 8), elements=st.floats(0, 1)))
def test_equal_costs_and_equal_shares_give_the_argmax(values: np.ndarray) -> None:
    costs = cost_matrix(np.ones(8), CODES)
    np.testing.assert_array_equal(least_cost(values, costs), values.argmax(axis=1))
    weights = prior_weights(np.full(8, 1 / 8))
    np.testing.assert_allclose(weights, 1)
    assert len(set(weights)) == 1


@given(
    arrays(np.int64, (20, 8), elements=st.integers(0, 1000)),
    arrays(np.int64, (8, 8), elements=st.integers(0, 9)),
)
def test_the_answer_has_no_dearer_rival_and_scale_does_not_matter(
    cells: np.ndarray, cost: np.ndarray
) -> None:
    answers, expected = least_cost(cells, cost), cells @ cost  # whole numbers: no rounding
    np.testing.assert_array_equal(expected[np.arange(20), answers], expected.min(axis=1))
    np.testing.assert_array_equal(answers, least_cost(cells * 4, cost * 8))
    per_truth = np.arange(8)[:, None]  # what is lost whatever the answer
    np.testing.assert_array_equal(answers, least_cost(cells, cost + per_truth))


def test_a_missed_melanoma_at_nine_times_the_cost_is_answered_from_one_tenth_on() -> None:
    cost = cost_matrix(np.ones(8), CODES, miss=9)
    assert cost[MEL, NV] == 9
    assert cost[NV, MEL] == cost[MEL, CODES.index("bcc")] == 1
    assert not cost.diagonal().any()
    probs = np.array([two(0.91, 0.09), two(0.89, 0.11)])
    np.testing.assert_array_equal(least_cost(probs, cost), [NV, MEL])


def test_weights_are_inverse_shares_and_an_absent_class_is_left_alone() -> None:
    weights = prior_weights(np.array([0.9, 0.1, 0.0]))
    assert weights[1] / weights[0] == pytest.approx(9)
    assert weights[0] * weights[1] == pytest.approx(1)
    assert weights[2] == 1
    np.testing.assert_array_equal(prior_weights(np.array([0.9, 0.1, 0.0]), 0), 1)
    half = prior_weights(np.array([0.9, 0.1]), 0.5)
    assert half[1] / half[0] == pytest.approx(3)


def test_of_calibrated_probabilities_about_the_whole_prior_is_taken_out() -> None:
    case = calibrated(0, 20_000)
    assert fit_strength(case.probs, case.labels) == pytest.approx(1, abs=0.2)
    fitted = fit_rule(case, "balanced")
    fresh = calibrated(1, 20_000)
    answers = fitted.answers(fresh.probs)
    plain = sk.balanced_accuracy_score(fresh.labels, fresh.probs.argmax(axis=1))
    assert sk.balanced_accuracy_score(fresh.labels, answers) > plain + 0.05


def test_of_probabilities_that_are_balanced_already_nothing_is_taken_out() -> None:
    case = calibrated(2, 20_000)
    level = case.probs / SHARES
    assert fit_strength(level / level.sum(axis=1, keepdims=True), case.labels) <= 0.2


@pytest.mark.parametrize("seed", range(5))
def test_a_balanced_rule_is_never_worse_where_it_was_fitted(seed: int) -> None:
    case = calibrated(seed, 300)
    answers = fit_rule(case, "balanced").answers(case.probs)
    plain = sk.balanced_accuracy_score(case.labels, case.probs.argmax(axis=1))
    assert sk.balanced_accuracy_score(case.labels, answers) >= plain


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wanted", [0.5, 0.92, 1.0])
def test_a_cost_rule_answers_enough_dangerous_cases_as_dangerous(seed: int, wanted: float) -> None:
    case = calibrated(seed, 300)
    rule = fit_rule(case, "cost", sensitivity=wanted)
    danger, truth = dangerous(CODES), dangerous_cases(case)

    def found(miss: float) -> float:
        weights = prior_weights(np.bincount(case.labels, minlength=8) / 300, rule.strength)
        answers = least_cost(case.probs, cost_matrix(weights, CODES, miss))
        return float(danger[answers][truth].mean())

    assert danger[rule.answers(case.probs)][truth].mean() == found(rule.miss) >= wanted
    if rule.miss > 1:  # and no larger factor than needed
        assert found(rule.miss * 0.999) < wanted


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


def test_the_threshold_s_interval_covers_that_of_very_many_cases() -> None:
    truth = fit_screening(calibrated(5, 200_000), 0.9, n_boot=1).threshold
    fitted = [fit_screening(calibrated(10 + i, 600), 0.9, n_boot=200) for i in range(60)]
    assert sum(one.low <= truth <= one.high for one in fitted) >= 0.85 * 60


def test_argmax_scores_as_ever() -> None:
    case = calibrated(6, 400)
    ours, plain = score_rule(case, fit_rule(case, "argmax"), n_boot=50), score(case)
    ends = bootstrap(case, n_boot=50)
    for name in plain.values:
        if "auroc" not in name:
            assert ours[name] == pytest.approx((plain[name], *ends[name]), nan_ok=True), name
    assert ours.keys() >= {"balanced_accuracy_dermoscopic", "macro_f1", "recall_mel"}
    flagged = dangerous(CODES)[case.probs.argmax(axis=1)]
    value, low, high = ours["malignant_sensitivity"]
    assert value == sk.recall_score(dangerous_cases(case), flagged)
    assert low < value < high
    assert ours["malignant_specificity"][0] == sk.recall_score(~dangerous_cases(case), ~flagged)


def test_a_rule_is_scored_by_its_own_answers() -> None:
    case = calibrated(7, 400)
    rule = fit_rule(case, "cost", sensitivity=0.95)
    ours = score_rule(case, rule, n_boot=20)
    answers = rule.answers(case.probs)
    assert ours["balanced_accuracy"][0] == pytest.approx(
        sk.balanced_accuracy_score(case.labels, answers)
    )
    assert ours["recall_mel"][0] == pytest.approx((answers[case.labels == MEL] == MEL).mean())
    assert ours["malignant_sensitivity"][0] >= 0.95


def test_cases_without_a_label_change_nothing() -> None:
    case = calibrated(8, 400)
    more = replace(case, labels=np.where(np.arange(400) < 300, case.labels, -1))
    known = case.select(np.arange(300))
    assert fit_screening(more, 0.9, n_boot=20) == fit_screening(known, 0.9, n_boot=20)
    for decide in ("argmax", "balanced", "cost"):
        np.testing.assert_array_equal(fit_rule(more, decide).cost, fit_rule(known, decide).cost)


def test_wrong_requests_are_refused() -> None:
    case = calibrated(9, 200)
    benign = case.select(~dangerous_cases(case))
    with pytest.raises(InputError, match=r"sensitivity must be above 0, at most 1, got 92"):
        fit_screening(case, 92)
    with pytest.raises(InputError, match=rf"none of {len(benign.labels)} cases is positive"):
        fit_rule(benign, "cost")
    with pytest.raises(InputError, match=r"8 classes need a square of costs, got \(7, 7\)"):
        least_cost(case.probs, np.ones((7, 7)))
    rule = Rule(decide="argmax", codes=CODES[::-1], cost=cost_matrix(np.ones(8), CODES[::-1]))
    with pytest.raises(InputError, match=r"the rule is for acne, df, .* the predictions for nv"):
        score_rule(case, rule)


def test_a_threshold_holds_for_the_case_at_it() -> None:
    case = predicted(np.array([MEL, NV]), np.array([two(0.4, 0.6), two(0.7, 0.3)]) + 1e-9)
    at = screening_scores(case.probs, CODES)[0]
    screening = Screening(threshold=float(at), low=0, high=1, wanted=1.0)
    assert score_screening(case, screening, n_boot=5)["sensitivity"][0] == 1
