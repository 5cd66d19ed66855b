"""How do severities vary between patients and days? A linear mixed model by REML.

The model is fitted by statsmodels' `MixedLM`, twice, by optimisers of different kinds: its default
one can return effects of exactly zero, called converged, where a variance runs to its boundary
(statsmodels 0.15.0). Two fits that disagree are refused; a variance at its boundary is said.

Limits: the model takes the days of a patient as exchangeable, and days are not: its own standard
errors are too small. `robust` corrects them; use these only for comparison.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dermx.errors import DermxError, InputError, needs

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Two ways to search without derivatives, along lines and by a simplex: the gradient methods met the
# fault in up to 84 of 100 simulated studies, these two in none.
OPTIMISERS = ("powell", "nm")
TOLERANCE = 0.01  # of a standard error, by which effects of two optimisers may differ
LIKELIHOOD_TOLERANCE = 0.02  # by which their log likelihoods may differ
STEADY = 1e-12  # of the sum of squares; less left over is rounding, and no noise
NEGLIGIBLE = 1e-4  # a variance below this share of the day-to-day variance is called zero


class FitError(DermxError):
    """A model can't be fitted in a way that can be trusted."""


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """A fitted model of patients i: y_i = X_i b + Z_i u_i + e_i, u_i ~ N(0, psi), e ~ N(0, s2)."""

    x: tuple[Float[np.ndarray, "_ p"], ...]  # per patient
    z: tuple[Float[np.ndarray, "_ q"], ...]
    y: tuple[Float[np.ndarray, " _"], ...]
    beta: Float[np.ndarray, " p"]
    psi: Float[np.ndarray, "q q"]
    scale: float  # residual variance
    log_likelihood: float  # restricted
    spread: float  # largest difference between the optimisers' effects, in standard errors
    boundary: bool  # whether a variance between patients is estimated as zero

    @cached_property
    def information(self) -> Float[np.ndarray, "patients p p"]:
        """X_i' V_i^-1 X_i of each patient."""
        return np.stack([x.T @ w for x, w in zip(self.x, self._weighted, strict=True)])

    @cached_property
    def covariance(self) -> Float[np.ndarray, "p p"]:
        """Of the effects, if the model were right."""
        return np.asarray(np.linalg.inv(self.information.sum(axis=0)))

    @cached_property
    def scores(self) -> Float[np.ndarray, "patients p"]:
        """X_i' V_i^-1 (y_i - X_i b) of each patient; they add up to zero."""
        triples = zip(self._weighted, self.y, self.x, strict=True)
        return np.stack([w.T @ (y - x @ self.beta) for w, y, x in triples])

    @cached_property
    def random_effects(self) -> Float[np.ndarray, "patients q"]:
        """Best linear unbiased predictions of u_i: shrunken towards zero."""
        made = []
        for x, z, y in zip(self.x, self.z, self.y, strict=True):
            solved = np.linalg.solve(self._variance(z), y - x @ self.beta)
            made.append(self.psi @ z.T @ solved)
        return np.stack(made)

    @cached_property
    def fitted(self) -> Float[np.ndarray, " n"]:
        """X b + Z u, patient after patient."""
        triples = zip(self.x, self.z, self.random_effects, strict=True)
        return np.concatenate([x @ self.beta + z @ u for x, z, u in triples])

    @property
    def icc(self) -> float:
        """Share of the variance that is between patients, at the reference (z = 1, 0, ...)."""
        return float(self.psi[0, 0] / (self.psi[0, 0] + self.scale))

    @cached_property
    def _weighted(self) -> tuple[Float[np.ndarray, "_ p"], ...]:
        pairs = zip(self.x, self.z, strict=True)
        return tuple(np.linalg.solve(self._variance(z), x) for x, z in pairs)

    def _variance(self, z: Float[np.ndarray, "n q"]) -> Float[np.ndarray, "n n"]:
        return np.asarray(z @ self.psi @ z.T + self.scale * np.eye(len(z)))


def fit_reml(
    y: Float[np.ndarray, " n"],
    x: Float[np.ndarray, "n p"],
    z: Float[np.ndarray, "n q"],
    groups: Int[np.ndarray, " n"],
) -> MixedFit:
    """Fit by REML with two optimisers and compare them.

    Args:
        y: Responses, all rows of a group together.
        x: Design of the effects, of full column rank.
        z: Design of the random effects; their covariance is free.
        groups: Of each row, never falling.

    Raises:
        InputError: Fewer than two groups, or effects that can't be told apart.
        FitError: No optimiser succeeds, the two disagree, or there is no variation to model.
        MissingExtraError: statsmodels is not installed.
    """
    if len(np.unique(groups)) < 2 or (np.diff(groups) < 0).any():
        raise InputError(f"need at least 2 groups in order, got {np.unique(groups).tolist()}")
    if (rank := np.linalg.matrix_rank(x)) < x.shape[1]:
        raise InputError(f"{x.shape[1]} effects can't be told apart by these days (rank {rank})")
    if np.ptp(y) == 0:
        raise FitError(f"every severity is {y[0]:g}: there is no variation to model")
    if _left_over(y, x, z, groups) <= STEADY * float(((y - y.mean()) ** 2).sum()):
        raise FitError(
            "no patient's severity moves from day to day within a treatment, so there is no noise "
            "to tell effects by; analyse each patient alone, or record in finer steps"
        )
    fits = {name: _fit_one(y, x, z, groups, name) for name in OPTIMISERS}
    best, other = sorted(fits.values(), key=lambda fit: -fit.llf)
    spread = float(np.max(np.abs(best.fe_params - other.fe_params) / best.bse_fe))
    gap = float(best.llf - other.llf)
    if not (spread <= TOLERANCE and gap <= LIKELIHOOD_TOLERANCE):
        effects = "; ".join(
            f"{name}: effects {np.round(fit.fe_params, 3).tolist()}, log likelihood {fit.llf:.3f}"
            for name, fit in fits.items()
        )
        raise FitError(
            f"two optimisers of the mixed model disagree ({effects}), so neither is shown; "
            "use fewer random effects (--random intercept)"
        )
    psi = np.atleast_2d(np.asarray(best.cov_re, float))
    ends = np.r_[True, np.diff(groups) != 0].nonzero()[0][1:]
    return MixedFit(
        x=tuple(np.split(x, ends)),
        z=tuple(np.split(z, ends)),
        y=tuple(np.split(y, ends)),
        beta=np.asarray(best.fe_params, float),
        psi=psi,
        scale=float(best.scale),
        log_likelihood=float(best.llf),
        spread=spread,
        boundary=bool(np.linalg.eigvalsh(psi).min() < NEGLIGIBLE * best.scale),
    )


def _left_over(
    y: Float[np.ndarray, " n"],
    x: Float[np.ndarray, "n p"],
    z: Float[np.ndarray, "n q"],
    groups: Int[np.ndarray, " n"],
) -> float:
    """Sum of squares that neither the effects nor each group's own z explain."""
    both = np.column_stack([x, y])
    for group in np.unique(groups):
        rows = groups == group
        both[rows] -= z[rows] @ np.linalg.lstsq(z[rows], both[rows], rcond=None)[0]
    x, y = both[:, :-1], both[:, -1]
    return float(((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum())


def _fit_one(
    y: Float[np.ndarray, " n"],
    x: Float[np.ndarray, "n p"],
    z: Float[np.ndarray, "n q"],
    groups: Int[np.ndarray, " n"],
    optimiser: str,
) -> Any:
    with needs("a mixed model of severities", "stats"):
        from statsmodels.regression.mixed_linear_model import MixedLM
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of is checked here: agreement, boundary
        try:
            fit = MixedLM(y, x, groups, exog_re=z).fit(
                reml=True, method=[optimiser], maxiter=2000, xtol=1e-7, ftol=1e-12
            )
        except (np.linalg.LinAlgError, ValueError) as error:
            raise FitError(f"the mixed model can't be fitted ({optimiser}: {error})") from error
        finite = math.isfinite(fit.llf) and np.isfinite(fit.bse_fe).all()
    if not finite:
        raise FitError(f"the mixed model can't be fitted ({optimiser} found no finite likelihood)")
    return fit
