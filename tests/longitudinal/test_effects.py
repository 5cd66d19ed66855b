"""Effects mean what they say: the right sign, the right reference, the right correction."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from dermx.errors import ConfigError, InputError
from dermx.longitudinal.effects import Errors, ModelConfig, holm, treatment_effects
from dermx.longitudinal.mixed import fit_reml
from dermx.longitudinal.reading import read_visits
from dermx.longitudinal.simulate import SHIPPED_STUDY, StudyConfig, simulate_study
from dermx.longitudinal.visits import Visits


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert holm(np.array(p)) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_counts_only_comparisons_that_were_made() -> None:
    assert holm(np.array([0.01, np.nan, 0.03])) == pytest.approx([0.02, np.nan, 0.03], nan_ok=True)


def test_every_pair_is_compared_and_the_comparisons_add_up() -> None:
    effects = treatment_effects(read_visits()).effects
    assert [e.name for e in effects] == [
        "Antibiotics against Baseline",
        "Cream against Baseline",
        "Cream against Antibiotics",
    ]
    one, two, between = (e.estimate for e in effects)
    assert two - one == pytest.approx(between)


def test_adding_points_to_all_days_changes_nothing_and_doubling_doubles() -> None:
    visits = read_visits()
    before = treatment_effects(visits).effects
    after = treatment_effects(replace(visits, severity=2 * visits.severity + 3)).effects
    for one, other in zip(before, after, strict=True):
        assert (other.estimate, other.low, other.high) == pytest.approx(
            (2 * one.estimate, 2 * one.low, 2 * one.high), rel=1e-5
        )
        assert other.p == pytest.approx(one.p, rel=1e-3)


def test_without_noise_the_truth_comes_out_exactly() -> None:
    quiet = StudyConfig(patients=5, response_sd=0, drift_sd=0, noise_sd=1e-3, decimals=6,
                        level=30, days=(9, 7, 8))  # fmt: skip
    effects = treatment_effects(simulate_study(quiet, 3).visits).effects
    assert [e.estimate for e in effects] == pytest.approx([-5, -3.5, 1.5], abs=1e-3)
    assert all(e.p_adjusted < 0.001 for e in effects)


def test_a_common_drift_is_mistaken_for_an_effect_unless_a_trend_is_allowed_for() -> None:
    drifting = replace(SHIPPED_STUDY, patients=40, effects=(0.0, 0.0, 0.0), drift=-2.0, level=25)
    visits = simulate_study(drifting, 11).visits
    misled = treatment_effects(visits)
    assert misled.effects[1].estimate == pytest.approx(-4, abs=0.8)  # two phases of drift
    assert misled.trend_per_week is None
    allowed = treatment_effects(visits, ModelConfig(trend=True))
    assert allowed.trend_per_week == pytest.approx(-0.5, abs=0.2)
    assert all(e.low < 0 < e.high for e in allowed.effects)


def test_carry_over_left_out_brings_a_slow_effect_back() -> None:
    slow = replace(SHIPPED_STUDY, patients=40, onset_days=4.0, level=25, effects=(0.0, -8.0, 0.0))
    visits = simulate_study(slow, 2).visits
    blurred = treatment_effects(visits).effects[0].estimate
    sharp = treatment_effects(visits, ModelConfig(skip_days=14)).effects[0].estimate
    assert sharp < blurred - 0.5
    assert sharp == pytest.approx(-8, abs=0.8)


def test_patients_with_one_treatment_each_can_be_compared() -> None:
    """Two groups of patients: the t test of their means, nearly."""
    drawn = simulate_study(StudyConfig(patients=12, missing=0, effects=(0, -6, -3.5)), 4).visits
    kept = np.where(drawn.patient < 6, drawn.treatment == 0, drawn.treatment == 1)
    visits = replace(drawn.select(kept), treatments=drawn.treatments[:2])
    (effect,) = treatment_effects(visits).effects
    means = [visits.severity[visits.patient == i].mean() for i in range(12)]
    assert effect.estimate == pytest.approx(np.mean(means[6:]) - np.mean(means[:6]), rel=1e-6)
    error = np.sqrt((np.var(means[:6], ddof=1) + np.var(means[6:], ddof=1)) / 6)
    assert effect.error == pytest.approx(error, rel=1e-6)
    assert effect.df == pytest.approx(10, abs=0.01)


def cream_for(patients: list[int]) -> Visits:
    visits = read_visits()
    return visits.select((visits.treatment != 2) | np.isin(visits.patient, patients))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("errors", ["robust", "bootstrap", "plain"])
def test_what_one_patient_alone_tells_has_no_interval(errors: Errors) -> None:
    study = treatment_effects(cream_for([3]), ModelConfig(errors=errors, n_boot=199))
    pills, *cream = study.effects
    for effect in cream:
        assert effect.hangs_on_one
        assert np.isfinite(effect.estimate)
        rest = (effect.error, effect.low, effect.high, effect.p, effect.p_adjusted,
                effect.plain_low, effect.plain_high, effect.plain_p)  # fmt: skip
        assert np.isnan(rest).all()
    assert not pills.hangs_on_one
    assert pills.p_adjusted == pills.p < 0.05
    assert np.isnan(study.without_one).sum(axis=0).tolist() == [0, 1, 1]
    assert np.isnan(study.without_one[3, 1:]).all()


@pytest.mark.parametrize("errors", ["robust", "bootstrap", "plain"])
def test_an_interval_as_wide_as_its_p_value_ends_at_zero(errors: Errors) -> None:
    weak = replace(SHIPPED_STUDY, effects=(0.0, -1.0, -2.0), response_sd=0.5, patients=8,
                   days=(8, 8, 8))  # fmt: skip
    visits = simulate_study(weak, 2).visits
    for i, effect in enumerate(treatment_effects(visits, ModelConfig(errors=errors)).effects):
        if effect.p > 0.001:  # of the bootstrap, a smaller one is of too few draws
            level = ModelConfig(errors=errors, level=1 - effect.p)
            same = treatment_effects(visits, level).effects[i]
            assert min(abs(same.low), abs(same.high)) < 0.02 * (same.high - same.low)
        assert 1e-12 < effect.plain_p < 0.5
        level = ModelConfig(level=1 - effect.plain_p)
        same = treatment_effects(visits, level).effects[i]
        assert min(abs(same.plain_low), abs(same.plain_high)) < 1e-3


def test_what_two_patients_tell_has_a_wide_interval() -> None:
    pills, cream, _ = treatment_effects(cream_for([3, 5])).effects
    assert cream.df == pytest.approx(1, abs=0.2)
    assert cream.high - cream.low > 2 * (pills.high - pills.low)


def test_without_one_is_the_fit_without_one() -> None:
    study = treatment_effects(read_visits())
    visits, fit = study.visits, study.fit
    kept = visits.patient != 3
    weights = [np.linalg.inv(z @ fit.psi @ z.T + fit.scale * np.eye(len(z))) for z in fit.z]
    rest = [i for i in range(10) if i != 3]
    g = sum(fit.x[i].T @ weights[i] @ fit.x[i] for i in rest)
    beta = np.linalg.solve(g, sum(fit.x[i].T @ weights[i] @ fit.y[i] for i in rest))
    assert study.without_one[3] == pytest.approx(study.contrasts @ beta, rel=1e-6)
    x = np.concatenate(fit.x)[kept]
    refitted = fit_reml(visits.severity[kept], x, x[:, :1], visits.patient[kept])
    assert study.without_one[3] == pytest.approx(study.contrasts @ refitted.beta, abs=0.02)


def first_patients(count: int) -> Visits:
    visits = read_visits()
    return replace(visits.select(visits.patient < count), patients=visits.patients[:count])


def test_two_patients_are_too_few_and_three_are_wide() -> None:
    with pytest.raises(InputError, match="at least 3 patients, got 2"):
        treatment_effects(first_patients(2))
    three, ten = (treatment_effects(first_patients(n)).effects[0] for n in (3, 10))
    assert three.df == pytest.approx(2, abs=0.1)
    assert three.high - three.low > ten.high - ten.low


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"random": "slope"}, "random must be one of intercept, treatment, day, got 'slope'"),
        ({"errors": "none"}, "errors must be one of robust, bootstrap, plain, got 'none'"),
        ({"level": 95}, "below 1, got 95"),
        ({"level": 1.0}, "below 1, got 1"),
        ({"skip_days": -1}, "skip_days must be 0 or more, got -1"),
        ({"n_boot": 10}, "n_boot must be at least 99, got 10"),
    ],
)
def test_a_model_that_does_not_exist_is_refused(setting: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ModelConfig(**setting)  # type: ignore[arg-type]


def test_over_studies_the_default_covers_and_the_plain_model_does_not() -> None:
    """A small edition of benchmarks/coverage.py: 40 studies, 3 comparisons each."""
    held = plain = 0
    truth = (-5, -3.5, 1.5)
    for seed in range(40):
        effects = treatment_effects(simulate_study(SHIPPED_STUDY, seed).visits).effects
        held += sum(e.low <= t <= e.high for e, t in zip(effects, truth, strict=True))
        plain += sum(e.plain_low <= t <= e.plain_high for e, t in zip(effects, truth, strict=True))
    assert held / 120 > 0.88
    assert plain / 120 < 0.7
