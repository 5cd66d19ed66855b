"""Rules agree with numbers worked by hand, with scikit-learn, and keep what they promise."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.evaluate.decision import (
    Rule,
    cost_matrix,
    even_weights,
    fit_rule,
    fit_strength,
    least_cost,
    operating_point,
    prior_weights,
    score_rule,
)
from dermx.evaluate.intervals import bootstrap
from dermx.evaluate.metrics import score
from dermx.evaluate.screening import dangerous, dangerous_cases, fit_screening

from .conftest import MEL, NV, SHARES, calibrated, two


@settings(deadline=None)  # whatever else the machine does
@given(arrays(np.float64, (20, 8), elements=st.floats(0, 1)))
def test_equal_costs_and_equal_shares_give_the_argmax(values: np.ndarray) -> None:
    costs = cost_matrix(np.ones(8), CODES)
    np.testing.assert_array_equal(least_cost(values, costs), values.argmax(axis=1))
    weights = prior_weights(np.full(8, 1 / 8))
    np.testing.assert_allclose(weights, 1)
    assert len(set(weights)) == 1


@settings(deadline=None)  # whatever else the machine does
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
    assert fit_strength(case.probs, case.labels) == pytest.approx(1, abs=0.1)
    fitted = fit_rule(case, "balanced")
    fresh = calibrated(1, 20_000)
    answers = fitted.answers(fresh.probs)
    plain = sk.balanced_accuracy_score(fresh.labels, fresh.probs.argmax(axis=1))
    assert sk.balanced_accuracy_score(fresh.labels, answers) > plain + 0.05


def test_of_probabilities_that_are_balanced_already_nothing_is_taken_out() -> None:
    case = calibrated(2, 20_000)
    level = case.probs / SHARES
    assert fit_strength(level / level.sum(axis=1, keepdims=True), case.labels) <= 0.1


@pytest.mark.parametrize("seed", range(5))
def test_the_strength_has_the_least_balanced_loss_where_it_was_fitted(seed: int) -> None:
    case = calibrated(seed, 300)
    shares = np.bincount(case.labels, minlength=8) / 300

    def loss(strength: float) -> float:
        moved = case.probs * prior_weights(shares, strength)
        moved /= moved.sum(axis=1, keepdims=True)
        return float(sk.log_loss(case.labels, moved, sample_weight=1 / shares[case.labels]))

    fitted = fit_strength(case.probs, case.labels)
    assert loss(fitted) <= min(map(loss, np.arange(0, 1.55, 0.05))) + 1e-12


def test_with_equal_class_counts_nothing_is_taken_out() -> None:
    case = calibrated(13, 4000)
    few = min(np.bincount(case.labels))
    even = case.select(np.concatenate([np.flatnonzero(case.labels == k)[:few] for k in range(8)]))
    rule = fit_rule(even, "balanced")
    assert rule.strength == 0
    np.testing.assert_array_equal(rule.answers(even.probs), even.probs.argmax(axis=1))


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


def test_an_operating_point_is_fitted_on_one_part_and_scored_on_another() -> None:
    fitting, scored = calibrated(10, 500), calibrated(11, 300)
    point = operating_point(fitting, scored, "cost", sensitivity=0.97, n_boot=20)
    assert (point.fitted_on, point.cases) == (500, 300)
    rule = fit_rule(fitting, "cost", sensitivity=0.97)
    assert (point.rule.strength, point.rule.miss) == (rule.strength, rule.miss)
    assert rule.miss != fit_rule(fitting, "cost").miss  # of another sensitivity
    assert point.screening == fit_screening(fitting, 0.97, n_boot=20)
    assert point.scores["accuracy"] == score_rule(scored, point.rule, n_boot=20)["accuracy"]
    content = json.loads(json.dumps(point.to_dict(), allow_nan=False))
    value, low, high = point.screened["specificity"]
    assert content["screening"]["specificity"] == {"value": value, "low": low, "high": high}
    assert content["decide"] == "cost"


def test_a_number_that_is_undefined_is_null_in_json_and_n_a_in_words() -> None:
    fitting = calibrated(12, 500)
    scored = fitting.select(fitting.labels != CODES.index("df"))
    point = operating_point(fitting, scored, "argmax", n_boot=5)
    nothing = {"value": None, "low": None, "high": None}
    assert point.to_dict()["scores"]["recall_df"] == nothing
    assert "nan" not in point.to_text().split()
    assert ["recall_df", "n/a"] in [line.split() for line in point.to_text().splitlines()]


def worth(answers: np.ndarray, labels: np.ndarray) -> float:
    """Mean of accuracy and balanced accuracy, by scikit-learn."""
    accuracy = sk.accuracy_score(labels, answers)
    return float(accuracy + sk.balanced_accuracy_score(labels, answers)) / 2


def test_even_weights_serve_accuracy_and_balanced_accuracy_alike() -> None:
    """Fitted on one half, better on the other than either measure's own answer, or any power."""
    known, unknown = calibrated(0), calibrated(1)
    weights = even_weights(known.probs, CODES)
    assert known.probs.mean(axis=0) @ weights == pytest.approx(1)
    even = worth((unknown.probs * weights).argmax(axis=1), unknown.labels)
    for power in np.linspace(0, 1, 6):
        other = (unknown.probs * prior_weights(SHARES, power)).argmax(axis=1)
        assert even > worth(other, unknown.labels) - 0.002
    assert even > worth(unknown.probs.argmax(axis=1), unknown.labels) + 0.01


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 1.0])
def test_even_weights_are_expected_to_find_the_melanomas_that_are_wanted(wanted: float) -> None:
    probs = calibrated(2).probs
    plain, weights = even_weights(probs, CODES), even_weights(probs, CODES, wanted)

    def found(weights: np.ndarray) -> float:
        answers = (probs * weights).argmax(axis=1)
        return float(probs[answers == MEL, MEL].sum() / probs[:, MEL].sum())

    assert found(weights) >= wanted - 1e-9
    assert found(weights) < max(wanted, found(plain)) + 0.01  # and hardly more
    others = np.delete(weights / plain, MEL)
    np.testing.assert_allclose(others, others[0])
    assert (weights / plain)[MEL] >= others[0] * (1 - 1e-9)


def test_even_weights_of_classes_that_are_not_there() -> None:
    sure = np.tile(np.eye(8)[NV], (3, 1))
    weights = even_weights(sure, CODES, 0.9)
    assert (sure * weights).argmax(axis=1).tolist() == [NV] * 3
    assert np.isfinite(weights).all()
