"""The sandwich is R's, and on balanced data it is the paired t test."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dermx.longitudinal.effects import ModelConfig, treatment_effects
from dermx.longitudinal.mixed import MixedFit
from dermx.longitudinal.reading import read_visits
from dermx.longitudinal.robust import bootstrap_t, cr2_adjusters, cr2_covariance, satterthwaite
from dermx.longitudinal.simulate import StudyConfig, simulate_study

R = json.loads(Path(__file__).parents[1].joinpath("reference/longitudinal.json").read_text())


def test_errors_and_degrees_of_freedom_are_those_of_clubsandwich() -> None:
    effects = treatment_effects(read_visits()).effects
    said = R["study_cr2_clubsandwich"]
    assert [e.estimate for e in effects] == pytest.approx(said["estimates"], abs=1e-5)
    assert [e.error for e in effects] == pytest.approx(said["errors"], rel=1e-4)
    assert [e.df for e in effects] == pytest.approx(said["df"], rel=1e-4)


def test_patients_who_stopped_early_or_came_late_are_treated_as_by_clubsandwich() -> None:
    visits = read_visits()
    kept = ~((visits.patient == 0) & (visits.day > 40) | (visits.patient == 1) & (visits.day < 20))
    effects = treatment_effects(visits.select(kept)).effects
    said = R["uneven_cr2_clubsandwich"]
    assert [e.estimate for e in effects] == pytest.approx(said["estimates"], abs=1e-4)
    # Another square root of the same matrix: both are exact under the model, and nearly equal.
    assert [e.error for e in effects] == pytest.approx(said["errors"], rel=1e-3)
    assert [e.df for e in effects] == pytest.approx(said["df"], rel=1e-3)


def test_balanced_data_give_the_paired_t_test() -> None:
    visits = simulate_study(StudyConfig(patients=7, missing=0), 5).visits
    means = visits.severity.reshape(7, 3, 28).mean(axis=2)
    for effect, (k, j) in zip(treatment_effects(visits).effects, [(1, 0), (2, 0), (2, 1)],
                              strict=True):  # fmt: skip
        test = stats.ttest_rel(means[:, k], means[:, j])
        interval = test.confidence_interval()
        assert effect.df == pytest.approx(6)
        assert effect.p == pytest.approx(test.pvalue, rel=1e-6)
        assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high), rel=1e-6)


def dense(fit: MixedFit, contrast: np.ndarray) -> tuple[float, float]:
    """The definition with n by n matrices: variance and degrees of freedom."""
    x, n = np.concatenate(fit.x), [len(y) for y in fit.y]
    ends = np.cumsum([0, *n])
    phi = np.zeros((ends[-1], ends[-1]))
    for a, b, z in zip(ends[:-1], ends[1:], fit.z, strict=True):
        phi[a:b, a:b] = z @ fit.psi @ z.T + fit.scale * np.eye(b - a)
    w = np.linalg.inv(phi)
    m = np.linalg.inv(x.T @ w @ x)
    residual_maker = np.eye(ends[-1]) - x @ m @ x.T @ w
    columns = []
    for a, b in pairwise(ends):
        values, vectors = np.linalg.eigh(phi[a:b, a:b])
        root, back = (vectors * values**power @ vectors.T for power in (0.5, -0.5))
        white = back @ (residual_maker @ phi)[a:b, a:b] @ back
        v, q = np.linalg.eigh(white)
        kept = v > 1e-9
        adjuster = root @ (q[:, kept] / np.sqrt(v[kept])) @ q[:, kept].T @ back
        columns.append(residual_maker[a:b].T @ adjuster.T @ w[a:b, a:b] @ x[a:b] @ m @ contrast)
    p = np.stack(columns, axis=1)
    y = np.concatenate(fit.y)
    pairs = p.T @ phi @ p
    return float(((p.T @ y) ** 2).sum()), float(np.trace(pairs) ** 2 / (pairs**2).sum())


@pytest.mark.parametrize(("random", "patients"), [("intercept", 5), ("treatment", 10)])
def test_the_short_way_is_the_definition(random: str, patients: int) -> None:
    """Of five patients with random treatments, the two optimisers agree on some processors only."""
    drawn = simulate_study(StudyConfig(patients=patients, missing=0.3, days=(6, 9, 12)), 8).visits
    visits = drawn.select(~((drawn.patient == 2) & (drawn.treatment == 2)))
    fit = treatment_effects(visits, ModelConfig(random=random)).fit  # type: ignore[arg-type]
    for contrast in np.array([[0, 1, 0], [0, 0, 1], [0, -1, 1.0]]):
        variance, df = dense(fit, contrast)
        assert contrast @ cr2_covariance(fit) @ contrast == pytest.approx(variance, rel=1e-6)
        assert satterthwaite(fit, contrast) == pytest.approx(df, rel=1e-6)


def test_the_sandwich_is_unbiased_under_its_model() -> None:
    """Put the expected outer products of the scores in, and the model's covariance comes out."""
    fit = treatment_effects(read_visits()).fit
    g, m = fit.information, fit.covariance
    expected = g - g @ m @ g
    k = cr2_adjusters(fit)
    meat = np.einsum("ipq,iqr,isr->ps", k, expected, k)
    assert m @ meat @ m == pytest.approx(m, rel=1e-6)


def test_a_bootstrap_draw_is_the_refit_of_the_drawn_patients() -> None:
    study = treatment_effects(read_visits())
    fit, contrasts = study.fit, study.contrasts
    t, error = bootstrap_t(fit, contrasts, n_boot=3, seed=4)
    drawn = np.random.default_rng(4).integers(10, size=(3, 10))[1]
    g = fit.information[drawn].sum(axis=0)
    weighted = [np.linalg.solve(z @ fit.psi @ z.T + fit.scale * np.eye(len(z)), x)
                for x, z in zip(fit.x, fit.z, strict=True)]  # fmt: skip
    beta = np.linalg.solve(g, sum(weighted[i].T @ fit.y[i] for i in drawn))
    scores = [weighted[i].T @ (fit.y[i] - fit.x[i] @ beta) for i in drawn]
    inverse = np.linalg.inv(g)
    spread = inverse @ sum(np.outer(s, s) for s in scores) @ inverse
    errors = np.sqrt(np.einsum("kp,pq,kq->k", contrasts, spread, contrasts))
    assert t[1] == pytest.approx(contrasts @ (beta - fit.beta) / errors, rel=1e-6)
    assert (error < [e.error for e in study.effects]).all()  # no bias reduction in it


def test_a_draw_without_the_only_one_on_cream_still_tells_of_the_pills() -> None:
    visits = read_visits()
    study = treatment_effects(visits.select((visits.treatment != 2) | (visits.patient == 3)))
    t, _ = bootstrap_t(study.fit, study.contrasts, n_boot=400)
    absent = np.isnan(t).mean(axis=0)
    assert absent[0] == 0
    assert absent[1:] == pytest.approx([0.9**10] * 2, abs=0.08)


def test_the_same_seed_draws_the_same_patients() -> None:
    visits = read_visits()
    one, again, other = (
        treatment_effects(visits, ModelConfig(errors="bootstrap", seed=seed)).effects[0]
        for seed in (1, 1, 2)
    )
    assert (one.low, one.high, one.p) == (again.low, again.high, again.p)
    assert one.high != other.high
    assert one.high == pytest.approx(other.high, abs=0.2)
