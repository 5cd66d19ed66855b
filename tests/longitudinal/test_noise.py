"""Day-to-day noise: R's REML on the shipped study, and the law of a mean's error."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermx.errors import InputError
from dermx.longitudinal.noise import Noise, fit_noise
from dermx.longitudinal.reading import read_visits
from dermx.longitudinal.simulate import SHIPPED_STUDY, simulate_study
from dermx.longitudinal.visits import Visits

R = json.loads(Path(__file__).parents[1].joinpath("reference/longitudinal.json").read_text())


def test_memory_and_size_are_those_of_nlme() -> None:
    noise, said = fit_noise(read_visits()), R["study_noise_nlme"]
    assert noise.rho == pytest.approx(said["rho"][0], abs=1e-4)
    assert noise.sd == pytest.approx(said["sd"][0], abs=1e-4)
    # Days that hang together are worth (1 - rho) / (1 + rho) independent ones; 30 means are taken.
    independent = (len(read_visits()) - 30) * (1 - noise.rho) / (1 + noise.rho)
    assert noise.df == pytest.approx(independent)
    assert noise.rho > 0


@pytest.mark.parametrize("rho", [0.0, 0.4, 0.9])
def test_what_was_drawn_is_found_in_spite_of_gaps(rho: float) -> None:
    config = replace(
        SHIPPED_STUDY, patients=80, autocorrelation=rho, missing=0.3, level=22, drift_sd=0
    )
    noise = fit_noise(simulate_study(config, 9).visits)
    assert noise.rho == pytest.approx(rho, abs=0.03)
    assert noise.sd == pytest.approx(2.5, rel=0.08)


def test_the_error_of_two_means_is_worked_by_hand() -> None:
    noise = Noise(rho=0.5, sd=2.0, df=10)
    covariance = noise.mean_errors(np.array([1, 2, 4]), np.array([0, 0, 1]), 2)
    # Var of the mean of days 1 and 2: 4 * (1 + 0.5) / 2; covariance with day 4: 4 * (1/8 + 1/4) / 2
    assert covariance == pytest.approx(np.array([[3.0, 0.75], [0.75, 4.0]]))


def test_independent_days_give_the_usual_error_of_a_mean() -> None:
    noise = Noise(rho=0.0, sd=3.0, df=10)
    covariance = noise.mean_errors(np.arange(9), np.zeros(9, int), 1)
    assert covariance == pytest.approx(np.array([[1.0]]))


def steady(*levels: float) -> Visits:
    """One patient, five days on each treatment, the same severity every day of it."""
    kinds = len(levels)
    return Visits(
        patients=("Ann",),
        treatments=("Baseline", "Gel", "Cream")[:kinds],
        patient=np.zeros(5 * kinds, int),
        day=np.arange(1, 5 * kinds + 1),
        treatment=np.repeat(np.arange(kinds), 5),
        severity=np.repeat(levels, 5),
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("levels", "step"), [((3.0, 2.0), 1.0), ((2.3, 2.5, 4.1), 0.2), ((3.0, 3.0), 1.0)]
)
def test_a_steady_diary_has_the_noise_of_rounding(levels: tuple[float, ...], step: float) -> None:
    noise = fit_noise(steady(*levels))
    assert noise.rho == 0
    assert noise.sd == pytest.approx(step / np.sqrt(12))
    assert noise.df == 4 * len(levels)


def test_noise_below_that_of_rounding_is_not_believed() -> None:
    visits = steady(3.0, 2.0)
    many = replace(
        visits,
        patients=tuple("ABCDE"),
        patient=np.repeat(np.arange(5), 10),
        day=np.tile(visits.day, 5),
        treatment=np.tile(visits.treatment, 5),
        severity=np.tile(visits.severity, 5) + (np.arange(50) == 7),
    )
    assert fit_noise(many).sd == pytest.approx(1 / np.sqrt(12))  # one odd day of fifty: 0.14


def test_as_many_means_as_days_show_no_noise() -> None:
    visits = read_visits()
    first = visits.select(visits.changes)
    with pytest.raises(InputError, match="30 days can't show the noise around 30 means"):
        fit_noise(first)
