"""Calibration worked by hand, against scikit-learn, SciPy and relplot, and on drawn truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermx.errors import InputError
from dermx.records import softmax
from dermx.trust.calibration import (
    METHODS,
    Calibration,
    answer_reliability,
    brier_score,
    calibration_error_by_chance,
    classwise_calibration_error,
    consistent_temperature,
    expected_calibration_error,
    fit_calibration,
    log_loss,
    reliability,
    smooth_calibration_error,
    uncalibrated,
)
from dermx.trust.selftest import drawn


def test_ece_is_zero_when_three_of_four_are_right_at_75_percent() -> None:
    probs, labels = np.tile([0.75, 0.25], (4, 1)), np.array([0, 0, 0, 1])
    assert expected_calibration_error(probs, labels) == pytest.approx(0.0)
    assert classwise_calibration_error(probs, labels) == pytest.approx([0, 0])


def test_a_confidence_of_one_falls_into_the_last_bin_and_a_bin_has_its_lower_edge() -> None:
    # 1.0 right and 14/15 wrong share the last of 15 bins: |1 + 0 - 1 - 14/15| / 2.
    probs = np.array([[1.0, 0.0], [14 / 15, 1 / 15]])
    assert expected_calibration_error(probs, np.array([0, 1])) == pytest.approx(7 / 15)
    table = reliability(probs, np.array([0, 1]))
    assert table.counts.tolist() == [0] * 14 + [2]
    assert table.confidence[-1] == pytest.approx((1 + 14 / 15) / 2)
    assert table.accuracy[-1] == 0.5


def test_a_reliability_table_in_json_has_none_where_a_bin_is_empty() -> None:
    # Two answers of 0.75, one of them right, in the second of two bins.
    table = answer_reliability(np.array([0.75, 0.75]), np.array([True, False]), n_bins=2)
    assert table.to_dict() == {
        "edges": [0.0, 0.5, 1.0],
        "counts": [0, 2],
        "confidence": [None, 0.75],
        "accuracy": [None, 0.5],
    }


def test_the_error_by_chance_is_that_of_labels_drawn_from_the_probabilities() -> None:
    # One case of 0.7 is right (error 0.3) or wrong (0.7); four in a bin are 0 to 4 times right.
    one = calibration_error_by_chance(np.array([[0.7, 0.3]]), n_draws=2000)
    assert set(one.round(6)) == {0.3, 0.7}
    assert (one < 0.5).mean() == pytest.approx(0.7, abs=0.04)
    four = calibration_error_by_chance(np.tile([0.5, 0.5], (4, 1)), n_draws=4000)
    assert four.mean() == pytest.approx((2 * 0.5 + 8 * 0.25) / 16, abs=0.01)
    # And the same as the error of whole labels drawn class by class.
    probs, rng = softmax(drawn(400)[0]), np.random.default_rng(5)
    again = [
        expected_calibration_error(probs, rng.multinomial(1, probs).argmax(axis=1))
        for _ in range(400)
    ]
    assert calibration_error_by_chance(probs).mean() == pytest.approx(np.mean(again), rel=0.05)


def test_equal_mass_bins_have_the_same_number_of_cases() -> None:
    # Two bins of two: (0.6, 0.7) both wrong, (0.8, 0.9) both right.
    top = np.array([0.6, 0.7, 0.8, 0.9])
    probs, labels = np.stack([top, 1 - top], axis=1), np.array([1, 1, 0, 0])
    found = expected_calibration_error(probs, labels, n_bins=2, equal_mass=True)
    assert found == pytest.approx((1.3 + 0.3) / 4)
    # Of equal width, 0.5 to 1 is one bin: |2 - 3.0| / 4.
    assert expected_calibration_error(probs, labels, n_bins=2) == pytest.approx(0.25)


def test_weights_are_the_same_as_repeated_cases() -> None:
    logits, labels = drawn(60)
    probs, times = softmax(logits), np.random.default_rng(1).integers(0, 4, 60)
    again, truth = np.repeat(probs, times, axis=0), np.repeat(labels, times)
    for figure in (expected_calibration_error, smooth_calibration_error, brier_score, log_loss):
        assert figure(probs, labels, weights=times) == pytest.approx(figure(again, truth))
    assert classwise_calibration_error(probs, labels, weights=times) == pytest.approx(
        classwise_calibration_error(again, truth)
    )


def test_log_loss_and_brier_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = drawn(300)
    probs = softmax(logits)
    assert log_loss(probs, labels) == pytest.approx(metrics.log_loss(labels, probs))
    expected = metrics.brier_score_loss(labels, probs, scale_by_half=False)
    assert brier_score(probs, labels) == pytest.approx(expected)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 1.5])
def test_smooth_ece_is_its_definition_with_mirror_images(sharpness: float) -> None:
    logits, labels = drawn(600)
    probs = softmax(sharpness * logits)
    confidence, hit = probs.max(axis=1), probs.argmax(axis=1) == labels
    at = (np.arange(1500) + 0.5) / 1500

    def smoothed(width: float) -> float:
        images = np.concatenate([m + s * confidence for m in (-2, 0, 2) for s in (1, -1)])
        kernel = np.exp(-0.5 * ((at[:, None] - images) / width) ** 2)
        gaps = np.tile(hit - confidence, 6) / len(labels) / (width * np.sqrt(2 * np.pi))
        return float(np.abs(kernel @ gaps).mean())

    found = smooth_calibration_error(probs, labels)
    assert smoothed(found) == pytest.approx(found, abs=5e-4)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.5])
def test_smooth_ece_agrees_with_relplot(sharpness: float) -> None:
    """Up to its discretisation: 0.186 at 2.5, where all gaps are of one sign, and sum to 0.180."""
    relplot = pytest.importorskip("relplot")
    logits, labels = drawn(1500)
    probs = softmax(sharpness * logits)
    hits = (probs.argmax(axis=1) == labels).astype(float)
    expected = relplot.smECE(probs.max(axis=1), hits)
    assert smooth_calibration_error(probs, labels) == pytest.approx(expected, abs=2e-3, rel=0.03)


@pytest.mark.parametrize("ridge", [1e-6, 0.1])
@pytest.mark.parametrize("method", ["temperature", "bias", "vector"])
def test_the_fit_has_the_least_loss_that_scipy_finds(method: str, ridge: float) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    logits, labels = drawn(400)
    logits = 1.7 * logits + np.arange(5) / 3
    ours = fit_calibration(logits, labels, method, ridge=ridge)  # type: ignore[arg-type]
    scales, biases = {"temperature": (1, 0), "bias": (1, 5), "vector": (5, 5)}[method]
    unmoved = np.r_[np.ones(scales), np.zeros(biases)]

    def loss(parameters: np.ndarray) -> float:
        scale, bias = parameters[:scales], parameters[scales:] if biases else 0
        pull = ridge * ((parameters - unmoved) ** 2).sum() if biases else 0.0
        return log_loss(softmax(scale * logits + bias), labels) + pull

    theirs = optimize.minimize(loss, unmoved, method="L-BFGS-B")
    found = np.r_[ours.scale[:scales], ours.bias[:biases]]
    assert loss(found) == pytest.approx(theirs.fun, abs=1e-6)
    assert found[:scales] == pytest.approx(theirs.x[:scales], abs=5e-3)


def test_classwise_is_platt_scaling_of_each_class() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    logits, labels = drawn(800)
    ours = fit_calibration(2 * logits, labels, "classwise", ridge=1e-9)
    p = softmax(2 * logits)
    odds = np.log(p / (1 - p))
    for k in range(5):
        theirs = linear.LogisticRegression(C=1e9).fit(odds[:, k : k + 1], labels == k)
        assert ours.scale[k] == pytest.approx(theirs.coef_[0, 0], abs=0.01)
        assert ours.bias[k] == pytest.approx(theirs.intercept_[0], abs=0.01)
    assert ours.probs(logits).sum(axis=1) == pytest.approx(np.ones(800))


@pytest.mark.parametrize("method", ["bias", "vector", "classwise"])
def test_an_endless_pull_changes_nothing(method: str) -> None:
    logits, labels = drawn(200)
    pulled = fit_calibration(2 * logits, labels, method, ridge=1e6)  # type: ignore[arg-type]
    np.testing.assert_allclose(pulled.scale, 1, atol=1e-5)
    np.testing.assert_allclose(pulled.bias, 0, atol=1e-5)


def test_oversampling_is_taken_back_by_the_bias() -> None:
    logits, labels = drawn(20000)
    shift = np.array([0.0, 1.5, 0, 0, -0.5])
    found = fit_calibration(logits + shift, labels, "bias", ridge=1e-9)
    assert found.bias == pytest.approx(-(shift - shift.mean()), abs=0.08)
    assert found.temperature == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_is_what_is_read(method: str) -> None:
    logits, labels = drawn(100)
    fitted = fit_calibration(logits, labels, method)  # type: ignore[arg-type]
    again = Calibration.from_dict(fitted.to_dict())
    np.testing.assert_array_equal(again.probs(logits), fitted.probs(logits))


def test_no_calibration_is_the_softmax() -> None:
    logits, labels = drawn(50)
    np.testing.assert_array_equal(uncalibrated(5).probs(logits), softmax(logits))
    assert fit_calibration(logits, labels, "none").temperature == 1


@given(st.lists(st.sampled_from([0.2, 0.5, 0.8, 1.0]), min_size=1, max_size=30), st.data())
def test_errors_are_fractions(tops: list[float], data: st.DataObject) -> None:
    top = np.array(tops)
    probs = np.stack([top, (1 - top) / 2, (1 - top) / 2], axis=1)
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(top), max_size=len(top))))
    for n_bins in (1, 7, 15):
        assert 0 <= expected_calibration_error(probs, labels, n_bins=n_bins) <= 1
    assert 0 <= smooth_calibration_error(probs, labels) <= 1
    # Fewer bins can only hide gaps that cancel.
    assert (
        expected_calibration_error(probs, labels, n_bins=1)
        <= expected_calibration_error(probs, labels, n_bins=15) + 1e-12
    )


def test_what_can_not_be_fitted_is_refused() -> None:
    logits, labels = drawn(100)
    with pytest.raises(InputError, match=r"need one label per case, got \(100, 5\) and 99 labels"):
        fit_calibration(logits, labels[:99])
    for figure in (
        expected_calibration_error, classwise_calibration_error, smooth_calibration_error,
        brier_score, log_loss, reliability, consistent_temperature,
    ):  # fmt: skip
        with pytest.raises(InputError, match=r"need one label per case, got \(100, 5\) and 99"):
            figure(softmax(logits), labels[:99])
    with pytest.raises(InputError, match="labels must be 0 to 4, got -1 to 4"):
        fit_calibration(logits, np.where(labels == 0, -1, labels))
    with pytest.raises(InputError, match="hold NaN or infinity"):
        fit_calibration(np.full_like(logits, np.nan), labels)
    for method in METHODS[1:]:
        with pytest.raises(InputError, match="the fit turns logits upside down"):
            fit_calibration(-logits, labels, method)
    with pytest.raises(InputError, match="the calibration is for 5 classes"):
        fit_calibration(logits, labels).probs(logits[:, :4])
    with pytest.raises(InputError, match="no calibration 'magic'"):
        Calibration.from_dict({"method": "magic", "scale": [1], "bias": [0]})
    with pytest.raises(InputError, match="need at least one bin, got 0"):
        expected_calibration_error(softmax(logits), labels, n_bins=0)


def test_a_consistent_temperature_makes_confidence_the_share_of_right_answers() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (4000, 5))
    probs = softmax(logits)
    labels = np.array([rng.choice(5, p=row) for row in probs])
    # The truth needs none; twice as sure logits need a temperature of two, and keep their answers.
    assert consistent_temperature(probs, labels) == pytest.approx(1, abs=0.05)
    temperature = consistent_temperature(softmax(2 * logits), labels)
    assert temperature == pytest.approx(2, abs=0.1)
    fitted = uncalibrated(5).tempered(temperature)
    settled = fitted.probs(2 * logits)
    assert settled.max(axis=1).mean() == pytest.approx((probs.argmax(1) == labels).mean(), abs=1e-3)
    np.testing.assert_array_equal(settled.argmax(axis=1), probs.argmax(axis=1))


@pytest.mark.parametrize("method", ["temperature", "bias", "vector"])
def test_a_temperature_on_top_is_one_on_the_fitted_probabilities(method: str) -> None:
    logits, labels = drawn(300)
    fitted = fit_calibration(logits + np.arange(5) / 2, labels, method)  # type: ignore[arg-type]
    expected = softmax(np.log(fitted.probs(logits)) / 1.5)
    np.testing.assert_allclose(fitted.tempered(1.5).probs(logits), expected)


def test_a_few_cases_that_are_all_right_or_all_wrong_are_no_certainty() -> None:
    probs = np.array([[0.8, 0.1, 0.1]] * 5)
    right, wrong = (consistent_temperature(probs, np.full(5, k)) for k in (0, 1))
    assert softmax(np.log(probs) / right).max(axis=1).mean() == pytest.approx(5.5 / 6, abs=1e-4)
    assert softmax(np.log(probs) / wrong).max(axis=1).mean() == pytest.approx(1 / 3, abs=1e-3)
