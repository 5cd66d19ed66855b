"""One patient's change: its size, how sure, in words, and how long to wait."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermx.longitudinal.noise import Noise, fit_noise
from dermx.longitudinal.patient import own_changes, shrink
from dermx.longitudinal.simulate import SHIPPED_STUDY, StudyConfig, simulate_study
from dermx.longitudinal.visits import TableConfig, Visits

INDEPENDENT = Noise(rho=0.0, sd=3.0, df=1e9)


def one_patient(change: float, days: int = 9, **config: object) -> Visits:
    """As many days of Baseline at 10 as of Cream at 10 + change."""
    return Visits(
        patients=("Ann",),
        treatments=("Baseline", "Cream"),
        patient=np.zeros(2 * days, int),
        day=np.arange(1, 2 * days + 1),
        treatment=np.repeat([0, 1], days),
        severity=np.repeat([10.0, 10.0 + change], days),
        config=TableConfig(**config),  # type: ignore[arg-type]
    )


def test_a_clear_change_is_said_with_its_interval() -> None:
    (own,) = own_changes(one_patient(-4), INDEPENDENT)
    error = 3 * np.sqrt(2 / 9)
    assert own.observed_error == pytest.approx(error)
    assert (own.low, own.high) == pytest.approx((-4 - 1.96 * error, -4 + 1.96 * error), abs=1e-3)
    assert own.sentence == (
        "Ann, Cream: better. Severity is 4.0 points lower than on Baseline "
        "(95 % interval 1.2 to 6.8), 40 % of the level before."
    )
    assert own.more_days is None


@pytest.mark.parametrize(
    ("change", "up", "verdict"),
    [(-4, False, "better"), (4, False, "worse"), (-4, True, "worse"), (4, True, "better")],
)
def test_better_depends_on_which_way_the_score_runs(change: float, up: bool, verdict: str) -> None:
    (own,) = own_changes(one_patient(change, higher_is_better=up), INDEPENDENT)
    assert own.verdict == verdict


def test_how_many_more_days_would_tell_is_worked_by_hand() -> None:
    """sd 3, 9 and 9 days, change 2.5: clear once 1.96 * 3 * sqrt(1/9 + 1/n) < 2.5."""
    (own,) = own_changes(one_patient(-2.5), INDEPENDENT)
    needed = int(np.ceil(1 / ((2.5 / (1.959964 * 3)) ** 2 - 1 / 9)))
    assert own.verdict == "no clear change yet"
    assert own.more_days == needed - 9
    assert own.sentence == (
        "Ann, Cream: no clear change yet. Compared with Baseline, severity is somewhere between "
        "5.3 points lower and 0.3 points higher. If it goes on like this, about 6 more days of "
        "Cream would tell."
    )


def test_a_change_below_what_baseline_itself_leaves_open_can_t_be_waited_for() -> None:
    (own,) = own_changes(one_patient(-1.5), INDEPENDENT)
    assert own.more_days is None
    assert own.sentence.endswith("More days of Cream alone would probably not tell.")


def test_a_steady_diary_has_an_interval_of_some_width() -> None:
    visits = one_patient(-1, days=5)
    (own,) = own_changes(visits, fit_noise(visits))
    half = 2.306 * np.sqrt(2 / 5 / 12)  # t of 8 days; steps of 1 point
    assert (own.low, own.high) == pytest.approx((-1 - half, -1 + half), abs=1e-3)


def test_no_end_of_an_interval_lies_off_the_scale() -> None:
    noise = replace(INDEPENDENT, sd=30.0)
    (own,) = own_changes(one_patient(1, lowest=0, highest=12), noise)
    assert own.verdict == "no clear change yet"
    assert (own.low, own.high) == (-10, 2)
    assert "between 10.0 points lower and 2.0 points higher" in own.sentence


def longer(visits: Visits, i: int, k: int, more: int) -> Visits:
    """As if a patient had gone on with a treatment, at the same mean."""
    rows = (visits.patient == i) & (visits.treatment == k)
    last = visits.day[(visits.patient == i) & np.isin(visits.treatment, (0, k))].max()
    return replace(
        visits,
        patient=np.r_[visits.patient, np.full(more, i)],
        day=np.r_[visits.day, last + 1 + np.arange(more)],
        treatment=np.r_[visits.treatment, np.full(more, k)],
        severity=np.r_[visits.severity, np.full(more, visits.severity[rows].mean())],
    )


def test_among_others_so_many_more_days_tell_and_one_fewer_does_not() -> None:
    weak = StudyConfig(effects=(0.0, -1.0, -1.0), patients=6)
    waits = []
    for seed in range(8):
        visits = simulate_study(weak, np.random.default_rng([3, seed])).visits
        noise = fit_noise(visits)
        for own in own_changes(visits, noise):
            if own.more_days is None:
                continue
            who = visits.patients.index(own.patient), visits.treatments.index(own.treatment)
            said = [
                next(
                    later.verdict
                    for later in own_changes(longer(visits, *who, more), noise)
                    if (later.patient, later.treatment) == (own.patient, own.treatment)
                )
                for more in (own.more_days - 1, own.more_days)
            ]
            assert said[0] == "no clear change yet"
            assert said[1] != "no clear change yet"
            waits.append(own.more_days)
    assert len(waits) > 5
    assert max(waits) > 10


def test_days_that_hang_together_are_worth_less() -> None:
    alone, together = (
        own_changes(one_patient(-4), Noise(rho=rho, sd=3.0, df=1e9))[0] for rho in (0.0, 0.7)
    )
    assert together.observed_error > 1.5 * alone.observed_error
    assert together.verdict == "no clear change yet"


observed = st.lists(st.floats(-20, 20), min_size=4, max_size=12)


@given(observed, st.floats(0.2, 5))
def test_shrinking_goes_towards_the_mean_and_never_beyond(
    values: list[float], error: float
) -> None:
    own = np.array(values)
    found = shrink(own, np.full(len(own), error))
    assert (found.low < found.estimate).all()
    assert (found.estimate < found.high).all()
    assert found.mean == pytest.approx(own.mean(), abs=1e-6)
    away = (own - own.mean()) * (found.estimate - own.mean())
    assert (away >= -1e-9).all()
    assert (np.abs(found.estimate - own.mean()) <= np.abs(own - own.mean()) + 1e-9).all()


@given(observed, st.floats(-10, 10))
def test_shrinking_doesn_t_mind_where_zero_is(values: list[float], shift: float) -> None:
    own, errors = np.array(values), np.full(len(values), 1.0)
    here, there = shrink(own, errors), shrink(own + shift, errors)
    assert there.estimate == pytest.approx(here.estimate + shift, abs=1e-6)
    assert there.low == pytest.approx(here.low + shift, abs=1e-5)


def test_patients_who_differ_hardly_shrink_and_alike_ones_nearly_wholly() -> None:
    differing = np.array([-30.0, -10, 10, 30, 50])
    assert shrink(differing, np.full(5, 0.5)).estimate == pytest.approx(differing, abs=0.1)
    alike = shrink(np.array([-5.1, -4.9, -5.0, -5.05, -4.95]), np.full(5, 2.0))
    assert np.ptp(alike.estimate) < 0.1


def test_the_eight_schools_come_out_as_in_the_book() -> None:
    """Gelman et al., table 5.3: posterior medians about 8 (10 for school A), sd between about 6."""
    effects = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    errors = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    found = shrink(effects, errors)
    assert found.mean == pytest.approx(8, abs=0.5)
    assert found.sd == pytest.approx(6.6, abs=0.5)
    assert found.estimate == pytest.approx([11, 8, 6, 8, 5, 6, 10, 8.5], abs=0.8)
    assert found.low[0] == pytest.approx(-2, abs=1)
    assert found.high[0] == pytest.approx(31, abs=2)


def test_a_patient_without_baseline_has_no_change_and_the_others_have_theirs() -> None:
    drawn = simulate_study(SHIPPED_STUDY, 1).visits
    visits = drawn.select(~((drawn.patient == 2) & (drawn.treatment == 0)))
    found = own_changes(visits, fit_noise(visits))
    assert len(found) == 18
    assert "P03" not in {own.patient for own in found}


def test_over_studies_intervals_hold_the_patients_own_change() -> None:
    held = total = 0
    for seed in range(40):
        study = simulate_study(replace(SHIPPED_STUDY, level=24), seed)
        for own in own_changes(study.visits, fit_noise(study.visits)):
            i = study.visits.patients.index(own.patient)
            k = study.visits.treatments.index(own.treatment)
            held += own.low <= study.own_changes[i, k] <= own.high
            total += 1
    assert 0.9 < held / total < 0.98
