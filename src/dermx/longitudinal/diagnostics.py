"""Does the model fit the days? Residuals, their memory, and how much one patient decides.

Numbers only; `figures` draws them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dermx.longitudinal.effects import StudyEffects
from dermx.longitudinal.noise import Noise

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LAGS = 14  # days over which the memory of residuals is shown
LONG_TAILS, SKEWED = 1.0, 0.5  # excess kurtosis and skewness that are worth a sentence
MEMORY = 0.1  # correlation of neighbouring days from which plain errors are too small


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """How well a mixed model describes a study."""

    fitted: Float[np.ndarray, " n"]  # points, with the patient's own random effects
    residuals: Float[np.ndarray, " n"]  # points
    levels: Float[np.ndarray, " patients"]  # random intercepts, points
    memory: Float[np.ndarray, " lags"]  # correlation of residuals 1, 2, ... days apart
    skewness: float
    excess_kurtosis: float
    notes: tuple[str, ...]


def diagnose(study: StudyEffects, noise: Noise) -> Diagnostics:
    """Look at what the model leaves over."""
    fit = study.fit
    residuals = np.concatenate(fit.y) - fit.fitted
    memory = correlation_by_lag(residuals, study.visits.patient, study.visits.day, LAGS)
    scaled = (residuals - residuals.mean()) / max(float(residuals.std()), 1e-12)
    skewness, kurtosis = float((scaled**3).mean()), float((scaled**4).mean() - 3)
    return Diagnostics(
        fitted=fit.fitted,
        residuals=residuals,
        levels=fit.random_effects[:, 0],
        memory=memory,
        skewness=skewness,
        excess_kurtosis=kurtosis,
        notes=tuple(_notes(study, noise, skewness, kurtosis)),
    )


def correlation_by_lag(
    values: Float[np.ndarray, " n"],
    patient: Int[np.ndarray, " n"],
    day: Int[np.ndarray, " n"],
    lags: int,
) -> Float[np.ndarray, " lags"]:
    """Return the correlation of values of one patient that are 1 to `lags` days apart.

    Days are days of the calendar, so a gap is no neighbourhood. NaN where no such pair is.
    """
    # One line of days, on which patients lie too far apart to be neighbours.
    place = patient * (int(np.ptp(day)) + 1 + lags) + day
    centred = values - values.mean()
    found = np.full(lags, math.nan)
    for lag in range(1, lags + 1):
        _, early, late = np.intersect1d(place + lag, place, return_indices=True)
        if len(early):
            found[lag - 1] = np.mean(centred[early] * centred[late]) / np.mean(centred**2)
    return found


def _notes(study: StudyEffects, noise: Noise, skewness: float, kurtosis: float) -> list[str]:
    notes = []
    if study.fit.boundary:
        notes.append(
            "The mixed model puts a variance between patients at its boundary, zero: patients look "
            "alike in it. Robust intervals allow for more."
        )
    if noise.rho > MEMORY:
        notes.append(
            f"Neighbouring days are correlated ({noise.rho:.2f}), so the plain model's intervals, "
            "which take them as independent, are too narrow; the robust ones allow for it."
        )
    if abs(skewness) > SKEWED or kurtosis > LONG_TAILS:
        notes.append(
            f"Residuals are not normal (skewness {skewness:.2f}, excess kurtosis {kurtosis:.2f}); "
            "with few patients read p values near 0.05 with caution."
        )
    for effect, column in zip(study.effects, study.without_one.T, strict=True):
        if not effect.hangs_on_one and (np.sign(column) != np.sign(effect.estimate)).any():
            worst = int(np.argmax(np.abs(column - effect.estimate)))
            notes.append(
                f"{effect.name} changes its sign without patient "
                f"{study.visits.patients[worst]}: it hangs on one patient."
            )
    return notes
