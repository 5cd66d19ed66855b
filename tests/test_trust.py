"""The laws of trust: what must hold whatever the model and the data are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dermx.records import softmax
from dermx.trust.calibration import (
    METHODS,
    classwise_calibration_error,
    expected_calibration_error,
    fit_calibration,
    log_loss,
    smooth_calibration_error,
)
from dermx.trust.conformal import SCORES, coverage_of, fit_sets
from dermx.trust.referral import Rule, accuracy_at, augrc, aurc
from dermx.trust.selftest import drawn
from dermx.trust.uncertainty import (
    dropout_logits,
    entropy,
    expected_entropy,
    mutual_information,
    predictive_entropy,
)

SEEDS = st.integers(0, 2**16)
LOGITS = arrays.arrays(np.float64, (6, 5), elements=st.floats(-20, 20, width=32))


@given(SEEDS, st.floats(0.3, 4))
@settings(max_examples=20)
def test_temperature_never_changes_the_answer(seed: int, sharpness: float) -> None:
    logits, labels = drawn(300, seed=seed)
    fitted = fit_calibration(sharpness * logits, labels, "temperature")
    probs = fitted.probs(sharpness * logits)
    np.testing.assert_array_equal(probs.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_array_equal(np.argsort(probs, axis=1), np.argsort(logits, axis=1))


@given(SEEDS, st.floats(0.4, 3))
@settings(max_examples=20)
def test_a_known_miscalibration_is_recovered(seed: int, sharpness: float) -> None:
    logits, labels = drawn(3000, seed=seed)
    fitted = fit_calibration(sharpness * logits, labels, "temperature")
    assert fitted.temperature == pytest.approx(sharpness, rel=0.15)
    before = expected_calibration_error(softmax(sharpness * logits), labels)
    after = expected_calibration_error(fitted.probs(sharpness * logits), labels)
    assert after <= max(before, 0.04)


@given(SEEDS, st.sampled_from(METHODS))
@settings(max_examples=20)
def test_no_fit_is_worse_than_none_where_it_was_fitted(seed: int, method: str) -> None:
    logits, labels = drawn(300, seed=seed)
    skewed = 2 * logits + np.arange(5)
    fitted = fit_calibration(skewed, labels, method)  # type: ignore[arg-type]
    plain = log_loss(softmax(skewed), labels)
    assert log_loss(fitted.probs(skewed), labels) <= plain + (0.01 if method == "classwise" else 0)


@given(LOGITS, st.floats(-5, 5))
def test_a_constant_added_to_all_logits_changes_no_probability(
    logits: np.ndarray, constant: float
) -> None:
    truth, labels = drawn(100)
    for method in ("temperature", "bias"):
        fitted = fit_calibration(truth, labels, method)  # type: ignore[arg-type]
        np.testing.assert_allclose(fitted.probs(logits), fitted.probs(logits + constant), atol=1e-9)


@given(LOGITS)
def test_probabilities_stay_probabilities(logits: np.ndarray) -> None:
    truth, labels = drawn(100)
    for method in METHODS:
        probs = fit_calibration(truth, labels, method).probs(logits)
        assert (probs >= 0).all()
        np.testing.assert_allclose(probs.sum(axis=1), 1)


@given(LOGITS)
def test_entropies_are_bounded_and_add_up(logits: np.ndarray) -> None:
    samples = softmax(logits).reshape(2, 3, 5)
    total, within = predictive_entropy(samples), expected_entropy(samples)
    shared = mutual_information(samples)
    assert (total >= 0).all()
    assert (total <= np.log(5) + 1e-12).all()
    assert (shared >= 0).all()
    assert (within <= total + 1e-9).all()  # Jensen
    np.testing.assert_allclose(within + shared, total, atol=1e-9)
    np.testing.assert_allclose(mutual_information(samples[:, :1]), 0, atol=1e-12)
    np.testing.assert_allclose(entropy(samples[..., ::-1]), entropy(samples), atol=1e-12)


@given(st.floats(0, 0.9), SEEDS)
@settings(max_examples=20)
def test_dropout_is_unbiased(rate: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, weight = rng.random(50).astype(np.float32), rng.random((3, 50)).astype(np.float32)
    logits = dropout_logits(
        features, weight, np.zeros(3, np.float32), rate=rate, samples=2000, seed=seed
    )
    spread = np.sqrt((weight**2 @ features**2) * rate / (1 - rate) / 2000)
    assert (np.abs(logits.mean(axis=0) - weight @ features) <= 5 * spread + 1e-3).all()


@given(SEEDS, st.sampled_from(SCORES), st.sampled_from([0.7, 0.8, 0.9]))
@settings(max_examples=15)
def test_sets_cover_exchangeable_cases(seed: int, score: str, coverage: float) -> None:
    logits, labels = drawn(6000, seed=seed)
    probs = softmax(logits)
    mixed = np.random.default_rng(seed).permutation(6000)
    fit, new = mixed[:3000], mixed[3000:]
    sets = fit_sets(probs[fit], labels[fit], coverage=coverage, score=score)  # type: ignore[arg-type]
    found = coverage_of(sets.contain(probs[new]), labels[new])
    noise = np.sqrt(coverage * (1 - coverage) * (1 / found.cases + 1 / sets.cases))
    assert (found.of_class >= coverage - 5 * noise).all()


@given(SEEDS, st.sampled_from(SCORES))
@settings(max_examples=20)
def test_more_coverage_makes_no_set_smaller(seed: int, score: str) -> None:
    logits, labels = drawn(500, seed=seed)
    probs, before = softmax(logits), np.zeros((500, 5), bool)
    for coverage in (0.5, 0.8, 0.9):
        inside = fit_sets(probs, labels, coverage=coverage, score=score).contain(probs)  # type: ignore[arg-type]
        assert (inside >= before).all()
        assert inside.any(axis=1).all()
        before = inside


@given(SEEDS)
@settings(max_examples=20)
def test_shuffling_cases_changes_nothing(seed: int) -> None:
    logits, labels = drawn(300, seed=seed)
    mixed = np.random.default_rng(seed).permutation(300)
    probs = softmax(logits)
    doubt, wrong = (1 - probs.max(axis=1)).round(2), probs.argmax(axis=1) != labels
    for figure in (expected_calibration_error, smooth_calibration_error):
        assert figure(probs, labels) == pytest.approx(figure(probs[mixed], labels[mixed]))
    for curve in (aurc, augrc):
        assert curve(doubt, wrong) == pytest.approx(curve(doubt[mixed], wrong[mixed]))
    for method in ("temperature", "vector"):
        first, second = (
            fit_calibration(logits[order], labels[order], method).scale  # type: ignore[arg-type]
            for order in (np.arange(300), mixed)
        )
        np.testing.assert_allclose(first, second, rtol=1e-6)
    np.testing.assert_allclose(
        fit_sets(probs, labels).thresholds, fit_sets(probs[mixed], labels[mixed]).thresholds
    )


@given(SEEDS)
@settings(max_examples=20)
def test_renaming_the_classes_changes_no_figure(seed: int) -> None:
    logits, labels = drawn(300, seed=seed)
    renamed = np.random.default_rng(seed).permutation(5)
    probs, place = softmax(logits), np.argsort(renamed)
    other, truth = probs[:, renamed], place[labels]
    assert expected_calibration_error(probs, labels) == pytest.approx(
        expected_calibration_error(other, truth)
    )
    np.testing.assert_allclose(
        classwise_calibration_error(probs, labels)[renamed],
        classwise_calibration_error(other, truth),
    )
    np.testing.assert_array_equal(
        fit_sets(probs, labels).contain(probs)[:, renamed],
        fit_sets(other, truth).contain(other),
    )


@given(SEEDS)
@settings(max_examples=20)
def test_only_the_order_of_doubt_matters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    doubt, wrong = rng.integers(20, size=100) / 20, rng.random(100) < 0.3
    for curve in (aurc, augrc, lambda d, w: accuracy_at(d, w, 0.8)):
        assert curve(doubt, wrong) == pytest.approx(curve(np.exp(3 * doubt), wrong))


@given(st.floats(0, 1), st.floats(0, 1), SEEDS)
def test_a_stricter_rule_answers_no_case_more(first: float, second: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, size, scatter = rng.random(50), rng.integers(1, 5, 50), rng.random(50)
    facts = {"is_ood": rng.random(50) < 0.2, "set_size": size, "information": scatter}
    loose, strict = sorted((first, second))
    before = Rule(min_confidence=loose).abstain(confidence, **facts)
    after = Rule(min_confidence=strict, max_set=3, max_information=0.9).abstain(confidence, **facts)
    assert (after >= before).all()
    assert (before >= facts["is_ood"]).all()
