"""The simulator draws what it says it draws."""

from dataclasses import replace

import numpy as np
import pytest

from dermx.errors import ConfigError
from dermx.longitudinal.reading import SHIPPED, SHIPPED_TABLE, read_visits
from dermx.longitudinal.simulate import (
    SHIPPED_SEED,
    SHIPPED_STUDY,
    StudyConfig,
    simulate_study,
    to_csv,
)

QUIET = StudyConfig(
    patients=4, patient_sd=0, response_sd=0, drift_sd=0, noise_sd=0, missing=0, days=(5, 6, 7)
)


def test_the_shipped_table_is_what_the_simulator_draws() -> None:
    drawn = simulate_study(SHIPPED_STUDY, SHIPPED_SEED)
    assert to_csv(drawn.visits) == SHIPPED.read_text()
    read = read_visits(SHIPPED, SHIPPED_TABLE)
    assert np.array_equal(read.severity, drawn.visits.severity)
    assert read.missing == drawn.visits.missing


def test_without_any_spread_severities_are_level_and_effects() -> None:
    visits = simulate_study(QUIET, 0).visits
    for k, effect in enumerate(QUIET.effects):
        assert set(visits.severity[visits.treatment == k]) == {QUIET.level + effect}
    assert visits.counts.tolist() == [[5, 6, 7]] * 4


def test_an_effect_that_takes_time_comes_in_exponentially() -> None:
    slow = replace(QUIET, onset_days=5.0, decimals=6, patients=1)
    severity = simulate_study(slow, 0).visits.severity
    wanted = 17 - 5 * (1 - np.exp(-np.arange(1, 7) / 5))
    assert severity[5:11] == pytest.approx(wanted, abs=1e-5)


def test_a_common_drift_is_part_of_every_own_change() -> None:
    study = simulate_study(replace(QUIET, drift=-2.8, decimals=6), 0)
    assert study.own_changes[0] == pytest.approx([0, -5 - 0.1 * 5.5, -3.5 - 0.1 * 12])


def test_severities_stop_at_the_ends_of_the_scale_and_are_counted() -> None:
    study = simulate_study(replace(QUIET, level=2.0), 0)
    assert study.visits.severity.min() == 0
    assert study.at_limit == 4 * (6 + 7)


def test_noise_and_patients_have_the_spread_and_memory_that_are_asked_for() -> None:
    config = replace(SHIPPED_STUDY, patients=400, level=22, drift_sd=0, missing=0.2, decimals=6)
    study = simulate_study(config, 3)
    visits = study.visits
    days = np.full((400, 84), np.nan)
    days[visits.patient, visits.day - 1] = visits.severity
    first = days[:, :28]
    level = np.nanmean(first, axis=1)
    noise = first - level[:, None]
    # A mean of 28 days of AR(1) noise takes its own share of the variance with it.
    lags = np.arange(1, 28)
    share = (1 + 2 * ((1 - lags / 28) * 0.6**lags).sum()) / 28
    assert np.nanvar(noise) == pytest.approx(2.5**2 * (1 - share), rel=0.05)
    assert np.std(level) == pytest.approx(np.sqrt(16 + 2.5**2 * share), rel=0.08)
    lagged = np.nanmean(noise[:, 1:] * noise[:, :-1]) / np.nanvar(noise)
    assert lagged == pytest.approx((0.6 - share) / (1 - share), abs=0.04)
    assert study.own_changes[:, 1:].std(axis=0) == pytest.approx([1.5, 1.5], rel=0.1)
    assert visits.missing / (400 * 84) == pytest.approx(0.2, abs=0.02)


def test_a_drawn_order_begins_with_baseline_and_uses_both_orders() -> None:
    visits = simulate_study(replace(QUIET, patients=30, order="drawn"), 1).visits
    orders = {visits.order_of(i) for i in range(30)}
    assert orders == {("Baseline", "Antibiotics", "Cream"), ("Baseline", "Cream", "Antibiotics")}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"effects": (0.0, -1.0)}, "an effect and a number of days for each"),
        ({"effects": (1.0, -1.0, 0.0)}, "baseline is 0 by definition, got 1.0"),
        ({"patients": 0}, "need patients and days, got 0"),
        ({"autocorrelation": 1.0}, "below 1, got 1.0"),
        ({"noise_sd": -1.0}, "must not be negative"),
    ],
)
def test_an_impossible_study_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(SHIPPED_STUDY, **change)
