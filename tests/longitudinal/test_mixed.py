"""The mixed model agrees with R, and doesn't hide what its library gets wrong."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermx.errors import InputError
from dermx.longitudinal import mixed
from dermx.longitudinal.effects import ModelConfig, Random, treatment_effects
from dermx.longitudinal.mixed import FitError, MixedFit, fit_reml
from dermx.longitudinal.reading import read_visits
from dermx.longitudinal.simulate import StudyConfig, simulate_study

R = json.loads(Path(__file__).parents[1].joinpath("reference/longitudinal.json").read_text())


def assert_agrees(fit: MixedFit, name: str) -> None:
    """Effects, standard errors, variances and log likelihood as R's."""
    said = R[name]
    assert fit.beta == pytest.approx(said["effects"], abs=1e-3)
    assert np.sqrt(np.diag(fit.covariance)) == pytest.approx(said["errors"], abs=1e-3)
    assert fit.psi.ravel() == pytest.approx(said["psi"], rel=5e-3, abs=5e-3)
    assert fit.scale == pytest.approx(said["scale"][0], rel=1e-3)
    assert fit.log_likelihood == pytest.approx(said["log_likelihood"][0], abs=1e-3)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (ModelConfig(), "study_intercept_lme4"),
        (ModelConfig(), "study_intercept_nlme"),
        (ModelConfig(random="treatment"), "study_treatment_lme4"),
        (ModelConfig(random="day"), "study_day_lme4"),
        (ModelConfig(trend=True), "study_trend_lme4"),
    ],
)
def test_the_shipped_study_gives_what_r_gives(config: ModelConfig, name: str) -> None:
    assert_agrees(treatment_effects(read_visits(), config).fit, name)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("random", ["intercept", "treatment"])
def test_days_that_never_move_within_a_treatment_are_refused(random: Random) -> None:
    drawn = simulate_study(StudyConfig(patients=4), 1).visits
    level = np.array([9.3, 11.1, 7.7, 8.0])[drawn.patient] - 1.3 * drawn.treatment
    if random == "treatment":
        level += np.sin(drawn.patient * drawn.treatment)
    with pytest.raises(FitError, match="no patient's severity moves from day to day within a tr"):
        treatment_effects(replace(drawn, severity=level), ModelConfig(random=random))


@pytest.mark.parametrize(
    ("slope", "name"),
    [(False, "dietox_intercept_lme4"), (False, "dietox_intercept_nlme"),
     (True, "dietox_slope_lme4")],
)  # fmt: skip
def test_growing_pigs_give_what_r_gives(slope: bool, name: str) -> None:
    spec = importlib.util.find_spec("statsmodels.regression.tests.results")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    pigs = pd.read_csv(Path(spec.submodule_search_locations[0], "dietox.csv"))
    pigs = pigs.sort_values(["Pig", "Time"])
    time = pigs["Time"].to_numpy(float)
    x = np.c_[np.ones(len(time)), time]
    z = x if slope else x[:, :1]
    assert_agrees(fit_reml(pigs["Weight"].to_numpy(float), x, z, pigs["Pig"].to_numpy()), name)


def test_a_balanced_study_is_worked_by_hand() -> None:
    """Balanced REML is the analysis of variance: a day's and a patient's mean square."""
    study = simulate_study(StudyConfig(patients=6, missing=0, days=(8, 8, 8)), 2).visits
    fit = treatment_effects(study).fit
    cube = study.severity.reshape(6, 3, 8)
    kinds = cube.mean(axis=(0, 2))
    levels = cube.mean(axis=(1, 2))
    within = ((cube - levels[:, None, None] - (kinds - kinds.mean())[:, None]) ** 2).sum()
    mean_square = within / (6 * 24 - 6 - 2)
    between = (24 * levels.var(ddof=1) - mean_square) / 24
    assert fit.scale == pytest.approx(mean_square, rel=1e-5)
    assert fit.psi[0, 0] == pytest.approx(between, rel=1e-4)
    assert fit.icc == pytest.approx(between / (between + mean_square), rel=1e-4)
    assert fit.beta == pytest.approx([kinds[0], kinds[1] - kinds[0], kinds[2] - kinds[0]])
    shrunken = between / (between + mean_square / 24) * (levels - levels.mean())
    assert fit.random_effects[:, 0] == pytest.approx(shrunken, rel=1e-4)
    assert fit.scores.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-8)


def test_where_the_default_optimiser_fails_the_fit_is_right() -> None:
    """statsmodels 0.15.0's default returns an intercept of zero here, called converged."""
    config = StudyConfig()
    visits = simulate_study(config, np.random.default_rng([1, 0])).visits
    fit = treatment_effects(visits).fit
    assert fit.beta == pytest.approx([17.43772547, -4.64823716, -3.11027042], abs=1e-5)
    assert fit.psi[0, 0] == pytest.approx(6.2316, rel=1e-3)


def test_no_variance_between_patients_is_said() -> None:
    flat = StudyConfig(patient_sd=0, response_sd=0, drift_sd=0, autocorrelation=0, level=22)
    fits = [treatment_effects(simulate_study(flat, seed).visits).fit for seed in range(6)]
    assert any(fit.boundary for fit in fits)
    for fit in fits:
        assert fit.boundary == (fit.psi[0, 0] < 1e-4 * fit.scale)
        assert fit.beta == pytest.approx([22, -5, -3.5], abs=0.7)


def test_two_optimisers_that_disagree_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed, "OPTIMISERS", ("lbfgs", "powell"))
    visits = simulate_study(StudyConfig(), np.random.default_rng([1, 0])).visits
    with pytest.raises(FitError, match=r"disagree|no finite likelihood"):
        treatment_effects(visits)


def test_two_fits_apart_are_refused_with_both_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = mixed._fit_one

    def zeros_by_powell(*arguments: object) -> object:
        fit = honest(*arguments)  # type: ignore[arg-type]
        if arguments[-1] == "powell":
            fit.fe_params[:] = 0
        return fit

    monkeypatch.setattr(mixed, "_fit_one", zeros_by_powell)
    with pytest.raises(FitError, match=r"disagree \(powell: effects \[0.0, 0.0, 0.0\].*nm: eff"):
        treatment_effects(read_visits())


def test_what_can_t_be_fitted_is_refused() -> None:
    one, groups = np.ones((6, 1)), np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(FitError, match="every severity is 3: there is no variation"):
        fit_reml(np.full(6, 3.0), one, one, groups)
    with pytest.raises(InputError, match="at least 2 groups in order, got"):
        fit_reml(np.arange(6.0), one, one, np.zeros(6, int))
    with pytest.raises(InputError, match=r"2 effects can't be told apart by these days \(rank 1\)"):
        fit_reml(np.arange(6.0), np.ones((6, 2)), one, groups)
