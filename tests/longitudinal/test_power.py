"""Planning: the power of simulated studies against a formula, and what a plan says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from dermx.errors import ConfigError, InputError
from dermx.longitudinal.effects import ModelConfig
from dermx.longitudinal.noise import Noise
from dermx.longitudinal.power import (
    PlanConfig,
    PowerCell,
    design_like,
    plan,
    plan_sentence,
    wilson,
)
from dermx.longitudinal.reading import read_visits
from dermx.longitudinal.study import study_of


def test_wilson_s_interval_is_that_of_statsmodels() -> None:
    for count, n in ((0, 20), (7, 20), (200, 200)):
        assert wilson(count, n) == pytest.approx(proportion_confint(count, n, method="wilson"))


def test_power_is_what_the_t_test_of_patients_means_promises() -> None:
    design = replace(design_like(study_of(read_visits())), level=25.0, missing=0.0)
    (cell,) = plan(design, PlanConfig(effect=2.0, patients=(6,), days=(10,), studies=100))
    noise = Noise(rho=design.autocorrelation, sd=design.noise_sd, df=100)
    covariance = noise.mean_errors(np.arange(20), np.repeat([0, 1], 10), 2)
    variance = np.array([-1, 1]) @ covariance @ np.array([-1, 1]) + design.response_sd**2
    shift = 2.0 / np.sqrt(variance / 6)
    promised = stats.nct.sf(stats.t.ppf(0.975, 5), 5, shift)
    assert cell.low - 0.02 < promised < cell.high + 0.02
    assert cell.effect == -2.0


def test_a_design_is_like_the_study_it_is_taken_from() -> None:
    study = study_of(read_visits())
    design = design_like(study)
    assert design.autocorrelation == study.noise.rho
    assert design.missing == pytest.approx(40 / 840)
    assert design.patient_sd == pytest.approx(4.2, abs=0.3)
    assert 0.8 < design.response_sd < 2.5  # 1.5 and the drift were put in
    assert design.level == pytest.approx(17, abs=0.5)


@pytest.mark.parametrize(("higher_is_better", "effect"), [(False, -9.0), (True, 9.0)])
def test_the_effect_planned_for_is_one_for_the_better(
    higher_is_better: bool, effect: float
) -> None:
    visits = read_visits()
    config = replace(visits.config, higher_is_better=higher_is_better)
    design = design_like(study_of(replace(visits, config=config)))
    (cell,) = plan(design, PlanConfig(effect=-9, patients=(8,), days=(7,), studies=20))
    assert cell.effect == effect
    assert cell.power == 1


def test_a_plan_analyses_as_the_study_is_analysed() -> None:
    design = design_like(study_of(read_visits()))
    config = PlanConfig(effect=2, patients=(12,), days=(7,), studies=20)
    usual, strict, skipping = (
        plan(design, config, model)[0].power
        for model in (None, ModelConfig(level=0.9999), ModelConfig(skip_days=7))
    )
    assert usual > 0.5
    assert strict < usual - 0.2
    assert skipping == 0  # nothing is left of a phase


def cell(patients: int, days: int, power: float) -> PowerCell:
    return PowerCell(
        patients=patients, days=days, effect=-2.0, power=power, low=0, high=1, studies=100
    )


def test_a_plan_names_the_smallest_designs_that_do() -> None:
    cells = [cell(5, 7, 0.3), cell(10, 7, 0.5), cell(5, 14, 0.4), cell(10, 14, 0.85),
             cell(20, 14, 0.99), cell(5, 28, 0.8),
             cell(5, 56, 0.9)]  # fmt: skip
    assert plan_sentence(cells, "points") == (
        "To see an effect of 2 points in 80 % of studies: 10 patients with 14 days a phase, "
        "or 5 patients with 28 days a phase."
    )
    assert "more patients than any design here" in plan_sentence(cells[:2], "points")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"effect": 0.0}, "must be a number but 0, got 0.0"),
        ({"patients": (2,)}, r"at least 3 patients, got \(2,\)"),
        ({"days": ()}, r"at least 2 days a phase, got \(\)"),
        ({"studies": 5}, "at least 20 simulated studies, got 5"),
    ],
)
def test_a_plan_without_sense_is_refused(setting: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PlanConfig(**{"effect": 1.0, **setting})  # type: ignore[arg-type]


def test_a_plan_needs_patients_to_learn_from() -> None:
    visits = read_visits()
    two = replace(visits.select(visits.patient < 2), patients=visits.patients[:2])
    with pytest.raises(InputError, match="at least 4 patients, got 2"):
        design_like(study_of(two))
