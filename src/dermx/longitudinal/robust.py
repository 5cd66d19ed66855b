"""How sure are the effects if days of a patient hang together in a way that nobody modelled?

A sandwich by patient needs no model of the noise, but with ten patients the plain one is too small
and its normal reference too narrow. So: bias-reduced (CR2), and a t distribution whose degrees of
freedom are Satterthwaite's for each comparison. The bootstrap draws whole patients and studentises.

Everything is computed from each patient's X'V^-1 X and score, so a comparison costs microseconds.
Limits: at least three patients; few patients stay few, and the intervals say so by their width.
What only one patient tells has no such error at all: see `indispensable`.

Source: Bell & McCaffrey 2002; Pustejovsky & Tipton 2018 (J. Bus. Econ. Stat. 36:672), with the
symmetric square root of the whitened residual-maker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dermx.longitudinal.mixed import MixedFit

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

TINY = 1e-8  # eigenvalues below this share of 1 are taken as zero


def indispensable(
    fit: MixedFit, contrasts: Float[np.ndarray, "k p"]
) -> Bool[np.ndarray, "patients k"]:
    """Return which comparisons can't be estimated without which patient.

    The fit follows such a patient wherever the patient goes and leaves no residual, so neither the
    sandwich nor a bootstrap of patients sees how far off that is.
    """
    small = [np.linalg.qr(x, mode="r") for x in fit.x]  # few rows that span the same
    found = []
    for i in range(len(small)):
        rest = np.concatenate([*small[:i], *small[i + 1 :]])
        rank = np.linalg.matrix_rank(rest)
        found.append([np.linalg.matrix_rank(np.vstack([rest, c])) > rank for c in contrasts])
    return np.array(found)


def cr2_adjusters(fit: MixedFit) -> Float[np.ndarray, "patients p p"]:
    """Return K_i, which turns a patient's score into one of the right expected size.

    In whitened coordinates a patient's residuals have covariance I - Q S Q', with Q from
    X_i V_i^-1/2; K_i applies its inverse square root without building any n by n matrix.
    """
    made = []
    for g in fit.information:
        values, vectors = np.linalg.eigh(g)
        kept = values > TINY * values.max()
        root = vectors[:, kept] * np.sqrt(values[kept])  # (p, r): g = root @ root.T
        s = root.T @ fit.covariance @ root
        inverse_root = _power(np.eye(len(s)) - s, -0.5)
        back = vectors[:, kept] / np.sqrt(values[kept])
        made.append(root @ inverse_root @ back.T)
    return np.stack(made)


def cr2_covariance(fit: MixedFit) -> Float[np.ndarray, "p p"]:
    """Return the bias-reduced sandwich covariance of the effects."""
    scores = np.einsum("ipq,iq->ip", cr2_adjusters(fit), fit.scores)
    return np.asarray(fit.covariance @ (scores.T @ scores) @ fit.covariance)


def satterthwaite(fit: MixedFit, contrast: Float[np.ndarray, " p"]) -> float:
    """Return the degrees of freedom of one comparison's CR2 standard error.

    Args:
        fit: Its covariance is taken as the working model.
        contrast: Weights of the effects.
    """
    h = np.einsum("p,pq,iqr->ir", contrast, fit.covariance, cr2_adjusters(fit))
    hg = np.einsum("ir,irs->is", h, fit.information)
    pairs = -hg @ fit.covariance @ hg.T
    pairs[np.diag_indices_from(pairs)] += np.einsum("is,is->i", hg, h)
    return float(np.trace(pairs) ** 2 / (pairs**2).sum())


def bootstrap_t(
    fit: MixedFit, contrasts: Float[np.ndarray, "k p"], *, n_boot: int = 1999, seed: int = 0
) -> tuple[Float[np.ndarray, "n_boot k"], Float[np.ndarray, " k"]]:
    """Draw patients with replacement and studentise; variances stay at their estimates.

    Returns:
        The drawn t values, NaN where a draw can't tell what is compared apart, and the standard
        errors that they go with.
    """
    g, score = fit.information, fit.scores
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(g), size=(n_boot, len(g)))
    weights = np.stack([np.bincount(row, minlength=len(g)) for row in drawn]).astype(float)
    shift, error = _refit(np.r_[np.ones((1, len(g))), weights], g, score, contrasts)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = shift[1:] / error[1:]
    t[~np.isfinite(t)] = np.nan
    return t, error[0]


def _refit(
    weights: Float[np.ndarray, "b patients"],
    g: Float[np.ndarray, "patients p p"],
    score: Float[np.ndarray, "patients p"],
    contrasts: Float[np.ndarray, "k p"],
) -> tuple[Float[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
    """Effects of weighted patients less those of all, and their plain sandwich errors."""
    total = np.einsum("bi,ipq->bpq", weights, g)
    inverse = np.linalg.pinv(total, hermitian=True, rcond=TINY)
    shift = np.einsum("bpq,bi,iq->bp", inverse, weights, score)
    own = score[None] - np.einsum("ipq,bq->bip", g, shift)
    meat = np.einsum("bi,bip,biq->bpq", weights, own, own)
    lean = np.einsum("kp,bpq->bkq", contrasts, inverse)
    error = np.sqrt(np.maximum(np.einsum("bkp,bpq,bkq->bk", lean, meat, lean), 0))
    error[np.abs(lean @ total - contrasts).max(axis=2) > 1e-6] = np.nan  # not in this draw
    return shift @ contrasts.T, error


def _power(matrix: Float[np.ndarray, "r r"], exponent: float) -> Float[np.ndarray, "r r"]:
    """Power of a symmetric matrix; directions of no size stay out."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > TINY
    return np.asarray((vectors[:, kept] * values[kept] ** exponent) @ vectors[:, kept].T)
