"""How much does severity move from day to day, and how long does a bad day last?

Noise around each patient's mean on each treatment is taken as AR(1): the correlation over g days is
rho to the power of g, so missing days need no filling. rho and the size are common to all patients
and estimated by REML, which allows for the means being estimated from the same days.

A diary is written in steps, so noise below what rounding to a step makes is not believed.

Limits: a slow drift inside a treatment looks like a long memory and raises rho; that errs to the
safe side, towards wider intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dermx.errors import InputError
from dermx.longitudinal.visits import Visits

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LARGEST_RHO = 0.99
SAME = 1e-9  # of the range of the severities: a smaller difference is rounding of the computer


@dataclass(frozen=True)
class Noise:
    """AR(1) noise of the days."""

    rho: float  # correlation of neighbouring days, 0 to 0.99
    sd: float  # points, of one day
    df: float  # independent days' worth of evidence on `sd`, after the means

    def correlation(self, day: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
        """Correlation between days."""
        return np.asarray(self.rho ** np.abs(day[:, None] - day[None, :]).astype(float))

    def mean_errors(
        self, day: Int[np.ndarray, " n"], treatment: Int[np.ndarray, " n"], kinds: int
    ) -> Float[np.ndarray, "kinds kinds"]:
        """Covariance of one patient's means per treatment; rows of absent treatments are NaN."""
        counts = np.bincount(treatment, minlength=kinds).astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            average = (treatment == np.arange(kinds)[:, None]) / counts[:, None]
        return np.asarray(self.sd**2 * average @ self.correlation(day) @ average.T)


def fit_noise(visits: Visits) -> Noise:
    """Estimate the noise around the means of each patient on each treatment, by REML.

    It is at least that of rounding to the smallest step between recorded severities, the step over
    the square root of 12; a steady diary gets that, with independent days.

    Raises:
        InputError: There are no more days than means.
    """
    from scipy.optimize import minimize_scalar

    parts = []
    for i in range(len(visits.patients)):
        rows = visits.patient == i
        kinds = np.unique(visits.treatment[rows])
        x = (visits.treatment[rows][:, None] == kinds).astype(float)
        parts.append((visits.day[rows], x, visits.severity[rows]))
    means = sum(x.shape[1] for _, x, _ in parts)
    if len(visits) <= means:
        raise InputError(f"{len(visits)} days can't show the noise around {means} means")

    step = _step(visits.severity)
    least = step / math.sqrt(12)
    if _reml(0.0, parts, means)[1] <= (SAME * step) ** 2:
        return Noise(0.0, least, float(len(visits) - means))

    def loss(rho: float) -> float:
        return _reml(rho, parts, means)[0]

    found = minimize_scalar(loss, bounds=(0, LARGEST_RHO), method="bounded")
    rho = float(min((0.0, float(found.x), LARGEST_RHO), key=loss))
    variance = _reml(rho, parts, means)[1]
    worth = (len(visits) - means) * (1 - rho) / (1 + rho)
    return Noise(rho, max(math.sqrt(variance), least), max(worth, 1.0))


def _step(severity: Float[np.ndarray, " n"]) -> float:
    """Smallest difference of recorded severities; 1 point where all are alike."""
    steps = np.diff(np.unique(severity))
    steps = steps[steps > SAME * np.ptp(severity)]
    return float(steps.min()) if len(steps) else 1.0


def _reml(
    rho: float,
    parts: list[tuple[Int[np.ndarray, " _"], Float[np.ndarray, "_ k"], Float[np.ndarray, " _"]]],
    means: int,
) -> tuple[float, float]:
    """Minus twice the restricted log likelihood, up to a constant, and the variance at its best."""
    squares = log_determinants = 0.0
    days = 0
    for day, x, y in parts:
        step = rho ** np.diff(day).astype(float)  # correlation with the day before
        size = np.sqrt(1 - step**2)
        wx, wy = x.copy(), y.copy()
        wx[1:] = (x[1:] - step[:, None] * x[:-1]) / size[:, None]
        wy[1:] = (y[1:] - step * y[:-1]) / size
        gram = wx.T @ wx
        beta = np.linalg.solve(gram, wx.T @ wy)
        squares += float(((wy - wx @ beta) ** 2).sum())
        log_determinants += float(2 * np.log(size).sum() + np.linalg.slogdet(gram)[1])
        days += len(y)
    variance = squares / (days - means)
    if variance <= 0:
        return -math.inf, 0.0
    return (days - means) * math.log(variance) + log_determinants, variance
