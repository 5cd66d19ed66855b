"""Risk against coverage worked by hand, against scikit-learn, and without order mattering."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermx.errors import InputError
from dermx.trust.referral import (
    Rule,
    accuracy_at,
    augrc,
    aurc,
    fit_confidence,
    net_benefit,
    refer_all,
    risk_coverage,
    worth,
)

CASES = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40)


def test_risk_and_coverage_by_hand() -> None:
    doubt, wrong = np.array([0.1, 0.2, 0.2, 0.9]), np.array([False, True, False, True])
    coverage, risk = risk_coverage(doubt, wrong)
    assert coverage.tolist() == [0.25, 0.75, 1.0]  # the two of equal doubt go together
    assert risk == pytest.approx([0, 1 / 3, 1 / 2])
    # Answered one by one, half an error each at the tie: (0 + 0.5/2 + 1/3 + 2/4) / 4.
    assert aurc(doubt, wrong) == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)
    # Trapezoids under errors / 4 at coverages 0, 1/4, 3/4, 1.
    assert augrc(doubt, wrong) == pytest.approx(0.5 * 0.125 + 0.25 * 0.375)
    assert accuracy_at(doubt, wrong, 0.5) == pytest.approx(0.75)
    assert accuracy_at(doubt, wrong, 1.0) == pytest.approx(0.5)
    assert accuracy_at(np.zeros(4), wrong, 0.25) == pytest.approx(0.5)  # all are alike


def test_augrc_is_its_closed_form_in_the_auroc_of_errors() -> None:
    """Traub et al. 2024, equation 8, with scikit-learn's AUROC, ties counting half."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for levels in (5, 1000):
        doubt = rng.integers(levels, size=400) / levels
        wrong = rng.random(400) < 0.1 + 0.4 * doubt
        area, errors = metrics.roc_auc_score(wrong, doubt), wrong.mean()
        closed = (1 - area) * errors * (1 - errors) + errors**2 / 2
        assert augrc(doubt, wrong) == pytest.approx(closed)


@given(CASES, st.randoms(use_true_random=False))
def test_the_order_of_cases_does_not_matter(cases: list[tuple[int, bool]], random) -> None:  # type: ignore[no-untyped-def]
    mixed = random.sample(cases, len(cases))
    first, second = (
        (np.array([d for d, _ in part], float), np.array([w for _, w in part]))
        for part in (cases, mixed)
    )
    for figure in (aurc, augrc):
        assert figure(*first) == pytest.approx(figure(*second))
    assert accuracy_at(*first, 0.7) == pytest.approx(accuracy_at(*second, 0.7))


@given(CASES)
def test_areas_lie_between_a_perfect_and_a_reversed_doubt(cases: list[tuple[int, bool]]) -> None:
    doubt, wrong = np.array([d for d, _ in cases], float), np.array([w for _, w in cases])
    share = wrong.mean()
    assert share**2 / 2 - 1e-12 <= augrc(doubt, wrong) <= share - share**2 / 2 + 1e-12
    assert aurc(wrong.astype(float), wrong) - 1e-12 <= aurc(doubt, wrong) <= 1


def test_the_rule_turns_away_for_any_reason_that_is_on() -> None:
    confidence = np.array([0.9, 0.5, 0.9, 0.9, 0.9])
    facts = {
        "is_ood": np.array([False, False, True, False, False]),
        "set_size": np.array([1, 1, 1, 4, 1]),
        "information": np.array([0.0, 0.0, 0.0, 0.0, 0.7]),
    }
    plain = Rule(min_confidence=0.6)
    assert plain.abstain(confidence, **facts).tolist() == [False, True, True, False, False]
    strict = Rule(min_confidence=0.6, max_set=3, max_information=0.5)
    assert strict.abstain(confidence, **facts).tolist() == [False, True, True, True, True]
    assert Rule.from_dict(strict.to_dict()) == strict
    assert not Rule(min_confidence=0.9).abstain(confidence, **facts)[0]  # at it: answered


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 1))
def test_the_fitted_threshold_answers_enough_and_no_higher_one_does(
    values: list[float], share: float
) -> None:
    confidence = np.array(values)
    threshold = fit_confidence(confidence, share)
    assert (confidence >= threshold).mean() >= share - 1e-9
    assert (confidence > threshold).mean() < share


def test_a_better_doubt_is_worth_more_and_its_interval_says_so() -> None:
    rng = np.random.default_rng(0)
    wrong = rng.random(500) < 0.3
    noise, better = rng.random(500), wrong + rng.random(500)
    resamples = rng.multinomial(500, np.full(500, 1 / 500), size=200)
    gain, low, high = worth(better, noise, wrong, resamples)
    assert 0 < low < gain < high
    same, low, high = worth(noise, noise, wrong, resamples)
    assert same == low == high == 0


def test_net_benefit_by_hand() -> None:
    probability = np.array([0.9, 0.6, 0.6, 0.1, 0.1])
    positive = np.array([True, True, False, False, False])
    # At 0.2: two found, one unneeded at 0.25 each, per five cases.
    assert net_benefit(probability, positive, np.array([0.2])) == pytest.approx([(2 - 0.25) / 5])
    assert refer_all(positive, np.array([0.2])) == pytest.approx([(2 - 3 * 0.25) / 5])
    # At 0.6 those of 0.6 are referred: two found, one unneeded at 1.5.
    assert net_benefit(probability, positive, np.array([0.6])) == pytest.approx([(2 - 1.5) / 5])


def test_what_makes_no_sense_is_refused() -> None:
    doubt, wrong = np.array([0.1, np.nan]), np.array([True, False])
    with pytest.raises(InputError, match="doubt is NaN for 1 of 2 cases"):
        augrc(doubt, wrong)
    with pytest.raises(InputError, match="need one doubt per case, got 2 for 1 cases"):
        aurc(doubt, wrong[:1])
    with pytest.raises(InputError, match=r"answered cases must be in \(0, 1\], got 0"):
        fit_confidence(np.ones(3), 0)
    with pytest.raises(InputError, match=r"coverage must be in \(0, 1\], got 1.5"):
        accuracy_at(np.ones(2), wrong, 1.5)
