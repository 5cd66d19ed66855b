"""What does each treatment do, on average over patients, and how sure is that?

Effects are differences of mean severity between treatments, from a linear mixed model with a random
intercept per patient. Standard errors come by default from a bias-reduced sandwich by patient,
because days of a patient hang together and patients respond differently; what the plain model would
have said stands beside them.

Limits: all patients in one order leave treatment and time confounded, with or without the linear
trend; the interval is about the mean of patients like these, not about one patient. A comparison
that one patient alone makes possible has no interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from dermx.errors import ConfigError, InputError
from dermx.longitudinal.mixed import MixedFit, fit_reml
from dermx.longitudinal.robust import bootstrap_t, cr2_covariance, indispensable, satterthwaite
from dermx.longitudinal.visits import Visits

if TYPE_CHECKING:
    from jaxtyping import Float

Random = Literal["intercept", "treatment", "day"]
Errors = Literal["robust", "bootstrap", "plain"]
FEWEST_PATIENTS = 3


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model of a study's effects."""

    random: Random = "intercept"  # what varies between patients, besides their level
    trend: bool = False  # a straight line over days, common to all patients
    skip_days: int = 0  # days left out after each change of treatment (carry-over)
    errors: Errors = "robust"  # where standard errors come from
    level: float = 0.95  # of intervals
    n_boot: int = 1999  # draws of the bootstrap
    seed: int = 0  # of the bootstrap

    def __post_init__(self) -> None:
        for name, allowed in (
            ("random", ("intercept", "treatment", "day")),
            ("errors", ("robust", "bootstrap", "plain")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if not 0.5 <= self.level < 1:
            raise ConfigError(f"level must be at least 0.5 and below 1, got {self.level}")
        if self.skip_days < 0:
            raise ConfigError(f"skip_days must be 0 or more, got {self.skip_days}")
        if self.n_boot < 99:
            raise ConfigError(f"n_boot must be at least 99, got {self.n_boot}")


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One treatment less another, in points of severity.

    Where the comparison hangs on one patient alone, all but the estimate is NaN.
    """

    treatment: str
    reference: str
    estimate: float
    error: float
    df: float  # of the t distribution; infinite for the normal, NaN for the bootstrap
    low: float
    high: float
    p: float
    p_adjusted: float  # Holm, over all comparisons of the study
    plain_low: float  # what the mixed model alone would say
    plain_high: float
    plain_p: float

    @property
    def name(self) -> str:
        """Which treatment against which."""
        return f"{self.treatment} against {self.reference}"

    @property
    def hangs_on_one(self) -> bool:
        """Whether it can't be estimated without some one patient, so nothing tells its error."""
        return math.isnan(self.p)


@dataclass(frozen=True, kw_only=True)
class StudyEffects:
    """All comparisons of a study and the model behind them."""

    effects: tuple[Effect, ...]
    fit: MixedFit
    visits: Visits  # those that were used
    config: ModelConfig
    trend_per_week: float | None  # points; None without a trend
    contrasts: Float[np.ndarray, "k p"]

    @cached_property
    def without_one(self) -> Float[np.ndarray, "patients k"]:
        """Estimates without one patient each, the variances held; NaN where there is none."""
        total, scores = self.fit.information.sum(axis=0), self.fit.scores
        shifts = [
            np.linalg.lstsq(total - g, -score, rcond=None)[0]
            for g, score in zip(self.fit.information, scores, strict=True)
        ]
        estimates = (self.fit.beta + np.stack(shifts)) @ self.contrasts.T
        return np.where(indispensable(self.fit, self.contrasts), np.nan, estimates)


def treatment_effects(visits: Visits, config: ModelConfig | None = None) -> StudyEffects:
    """Estimate every treatment against baseline and against each other.

    Args:
        visits: At least three patients.
        config: Model, standard errors, carry-over.

    Raises:
        InputError: There are too few patients, or the days can't tell the effects apart.
        FitError: Two optimisers disagree.
    """
    config = config or ModelConfig()
    if len(visits.patients) < FEWEST_PATIENTS:
        raise InputError(
            f"effects over patients need at least {FEWEST_PATIENTS} patients, "
            f"got {len(visits.patients)}"
        )
    if config.skip_days:
        visits = visits.without_first_days(config.skip_days)
    x, z = _design(visits, config)
    fit = fit_reml(visits.severity, x, z, visits.patient)
    pairs = _pairs(len(visits.treatments))
    contrasts = np.stack([_contrast(k, reference, x.shape[1]) for k, reference in pairs])
    found = _comparisons(fit, contrasts, config)
    plain = _comparisons(fit, contrasts, replace(config, errors="plain"))
    alone = indispensable(fit, contrasts).any(axis=0)
    found[alone, 1:] = plain[alone, 1:] = math.nan
    adjusted = holm(found[:, 5])
    effects = tuple(
        Effect(
            treatment=visits.treatments[k],
            reference=visits.treatments[reference],
            **dict(
                zip(("estimate", "error", "df", "low", "high", "p"), map(float, row), strict=True)
            ),
            p_adjusted=float(p),
            plain_low=float(beside[3]),
            plain_high=float(beside[4]),
            plain_p=float(beside[5]),
        )
        for (k, reference), row, p, beside in zip(pairs, found, adjusted, plain, strict=True)
    )
    return StudyEffects(
        effects=effects,
        fit=fit,
        visits=visits,
        config=config,
        trend_per_week=float(fit.beta[-1]) if config.trend else None,
        contrasts=contrasts,
    )


def holm(p: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Adjust p values so that one false finding among them is as rare as promised.

    Source: Holm 1979. Valid however the comparisons depend on each other. A NaN is no comparison.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)[: np.isfinite(p).sum()]  # a NaN comes last
    stepped = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    adjusted = np.full(len(p), math.nan)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def weeks(visits: Visits) -> Float[np.ndarray, " n"]:
    """Weeks from the middle day of the study, as the trend counts them."""
    return np.asarray((visits.day - (visits.day.min() + visits.day.max()) / 2) / 7)


def _design(
    visits: Visits, config: ModelConfig
) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n q"]]:
    """Columns: one, each treatment but baseline, then weeks if there is a trend."""
    kinds = np.arange(1, len(visits.treatments))
    one = np.ones((len(visits), 1))
    given = (visits.treatment[:, None] == kinds).astype(float)
    time = weeks(visits)[:, None]
    x = np.hstack([one, given, time] if config.trend else [one, given])
    return x, np.hstack(
        [one, *{"intercept": [], "treatment": [given], "day": [time]}[config.random]]
    )


def _pairs(kinds: int) -> list[tuple[int, int]]:
    """Each treatment against baseline, then the later against the earlier."""
    among = [(k, j) for j, k in combinations(range(1, kinds), 2)]
    return [*((k, 0) for k in range(1, kinds)), *among]


def _contrast(treatment: int, reference: int, size: int) -> Float[np.ndarray, " p"]:
    weights = np.zeros(size)
    weights[treatment] = 1
    if reference:
        weights[reference] = -1
    return weights


def _comparisons(
    fit: MixedFit, contrasts: Float[np.ndarray, "k p"], config: ModelConfig
) -> Float[np.ndarray, "k 6"]:
    """Estimate, standard error, degrees of freedom, low, high and p of each comparison."""
    from scipy.stats import norm, t

    estimate = contrasts @ fit.beta
    tail = (1 + config.level) / 2
    if config.errors == "bootstrap":
        drawn, error = bootstrap_t(fit, contrasts, n_boot=config.n_boot, seed=config.seed)
        drawn = np.abs(drawn)
        quantile = np.nanquantile(drawn, config.level, axis=0)
        ratio = _ratio(estimate, error)
        beyond = (drawn >= ratio).sum(axis=0)  # a NaN is not beyond
        p = (1 + beyond) / (1 + np.isfinite(drawn).sum(axis=0))
        df = np.full(len(estimate), math.nan)
    elif config.errors == "plain":
        error = np.sqrt(np.einsum("kp,pq,kq->k", contrasts, fit.covariance, contrasts))
        quantile = np.full(len(estimate), norm.ppf(tail))
        p = 2 * norm.sf(_ratio(estimate, error))
        df = np.full(len(estimate), math.inf)
    else:
        covariance = cr2_covariance(fit)
        error = np.sqrt(np.einsum("kp,pq,kq->k", contrasts, covariance, contrasts))
        df = np.array([satterthwaite(fit, weights) for weights in contrasts])
        quantile = t.ppf(tail, df)
        p = 2 * t.sf(_ratio(estimate, error), df)
    half = quantile * error
    return np.stack([estimate, error, df, estimate - half, estimate + half, p], axis=1)


def _ratio(
    estimate: Float[np.ndarray, " k"], error: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    """Size of the estimates in standard errors; 0 of 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(estimate) / error
    return np.asarray(np.nan_to_num(ratio, nan=0, posinf=math.inf))
