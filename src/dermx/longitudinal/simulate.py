"""What would be recorded if the truth were known? Studies drawn from a model that is written down.

Severity of patient i on day t, while treatment k is given:

    level + patient_i + effect_k + response_ik + drift_i * (t - middle) + noise_it

`patient`, `response` and `drift` are drawn once per patient; the noise goes on from day to day
(AR(1)); a new effect comes in over some days if `onset_days` says so; days are missing at random;
what falls below the lowest or above the highest score is recorded as that score.

Limits: normal draws, one noise for all patients, missing days that don't depend on severity. Real
diaries are worse.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dermx.errors import ConfigError
from dermx.longitudinal.visits import TableConfig, Visits, missing_days

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Order = Literal["given", "drawn"]


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study and its truth; severities in points, lower is better."""

    patients: int = 10
    treatments: tuple[str, ...] = ("Baseline", "Antibiotics", "Cream")  # baseline first, and first
    effects: tuple[float, ...] = (0.0, -5.0, -3.5)  # points, against baseline
    days: tuple[int, ...] = (28, 28, 28)  # of each treatment
    order: Order = "given"  # drawn: the order after baseline is drawn for each patient
    level: float = 17.0  # points, mean at baseline
    patient_sd: float = 4.0  # points, between patients
    response_sd: float = 1.5  # points, how differently patients respond to a treatment
    drift_sd: float = 0.3  # points in 28 days, of each patient's own drift
    drift: float = 0.0  # points in 28 days, common to all: confounded with treatment
    noise_sd: float = 2.5  # points, of one day
    autocorrelation: float = 0.6  # of the noise, from one day to the next
    onset_days: float = 0.0  # time in which two thirds of a new effect come in
    missing: float = 0.05  # share of days without a severity
    lowest: float = 0.0  # points
    highest: float = 44.0  # points, of the Global Acne Grading System
    unit: str = "GAGS points"
    decimals: int = 1

    def __post_init__(self) -> None:
        if not len(self.treatments) == len(self.effects) == len(self.days) >= 2:
            raise ConfigError(
                "need an effect and a number of days for each of at least 2 treatments, got "
                f"{self.treatments}, {self.effects}, {self.days}"
            )
        if self.patients < 1 or min(self.days) < 1:
            raise ConfigError(f"need patients and days, got {self.patients} and {self.days}")
        if self.effects[0] != 0:
            raise ConfigError(f"the effect of baseline is 0 by definition, got {self.effects[0]}")
        if not 0 <= self.autocorrelation < 1 or not 0 <= self.missing < 1:
            raise ConfigError(
                "autocorrelation and missing must be at least 0 and below 1, got "
                f"{self.autocorrelation} and {self.missing}"
            )
        if (
            min(self.patient_sd, self.response_sd, self.drift_sd, self.noise_sd, self.onset_days)
            < 0
        ):
            raise ConfigError("standard deviations and onset_days must not be negative")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A simulated study: what was recorded, and what is true."""

    visits: Visits
    own_changes: Float[np.ndarray, "patients treatments"]  # points against own baseline, drift in
    at_limit: int  # recorded days cut off at the lowest or highest score


SHIPPED_STUDY = StudyConfig()
SHIPPED_SEED = 2020


def simulate_study(config: StudyConfig, seed: int | np.random.Generator) -> Study:
    """Draw one study; the same configuration and seed give the same study.

    Args:
        config: Design and truth.
        seed: A number, or a generator to go on with.
    """
    rng = np.random.default_rng(seed)
    total, kinds = sum(config.days), len(config.treatments)
    patient = config.patient_sd * rng.standard_normal(config.patients)
    response = config.response_sd * rng.standard_normal((config.patients, kinds))
    response[:, 0] = 0  # a patient's response is meant against baseline
    drift = (config.drift + config.drift_sd * rng.standard_normal(config.patients)) / 28
    noise = config.noise_sd * _ar1(rng, config.patients, total, config.autocorrelation)
    given = np.stack([_schedule(config, rng) for _ in range(config.patients)])  # (patients, days)
    own = np.asarray(config.effects) + response
    time = np.arange(total) - (total - 1) / 2
    effect = _coming_in(np.take_along_axis(own, given, axis=1), config.onset_days)
    expected = config.level + patient[:, None] + effect + drift[:, None] * time
    severity = np.round(expected + noise, config.decimals)
    cut = np.clip(severity, config.lowest, config.highest)
    seen = rng.random(severity.shape) >= config.missing
    who, when = np.nonzero(seen)
    width = len(str(config.patients))
    visits = Visits(
        patients=tuple(f"P{i + 1:0{width}d}" for i in range(config.patients)),
        treatments=config.treatments,
        patient=who,
        day=when + 1,
        treatment=given[seen],
        severity=cut[seen],
        config=TableConfig(
            unit=config.unit, lowest=config.lowest, highest=config.highest, min_days=2
        ),
        missing=missing_days(who, when),
    )
    means = np.stack(
        [(expected * (given == k)).sum(axis=1) / config.days[k] for k in range(kinds)], axis=1
    )
    return Study(
        visits=visits,
        own_changes=means - means[:, :1],
        at_limit=int((severity != cut)[seen].sum()),
    )


def to_csv(visits: Visits) -> str:
    """Return the table that `read_visits` reads; missing days have no row."""
    names = visits.config
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([names.patient, names.day, names.treatment, names.severity])
    for i, d, k, y in zip(
        visits.patient, visits.day, visits.treatment, visits.severity, strict=True
    ):
        writer.writerow([visits.patients[i], int(d), visits.treatments[k], repr(float(y))])
    return buffer.getvalue()


def _schedule(config: StudyConfig, rng: np.random.Generator) -> Int[np.ndarray, " days"]:
    """Which treatment is given on each day; baseline comes first."""
    later = list(range(1, len(config.treatments)))
    if config.order == "drawn":
        later = [int(k) for k in rng.permutation(later)]
    return np.repeat([0, *later], [config.days[k] for k in (0, *later)])


def _ar1(
    rng: np.random.Generator, rows: int, days: int, rho: float
) -> Float[np.ndarray, "rows days"]:
    """Noise of variance 1 whose correlation over g days is rho to the power of g."""
    draws = rng.standard_normal((rows, days))
    for t in range(1, days):
        draws[:, t] = rho * draws[:, t - 1] + math.sqrt(1 - rho**2) * draws[:, t]
    return draws


def _coming_in(
    target: Float[np.ndarray, "patients days"], onset: float
) -> Float[np.ndarray, "patients days"]:
    """The effect on each day when it goes for its target exponentially, `onset` in days."""
    if onset == 0:
        return target
    reached, share = target.copy(), 1 - math.exp(-1 / onset)
    for t in range(1, target.shape[1]):
        reached[:, t] = reached[:, t - 1] + share * (target[:, t] - reached[:, t - 1])
    return reached
