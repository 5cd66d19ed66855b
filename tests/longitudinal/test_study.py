"""One object for page, files and command line: it agrees with itself and says what it must."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dermx.longitudinal import study as module
from dermx.longitudinal.diagnostics import correlation_by_lag
from dermx.longitudinal.effects import ModelConfig
from dermx.longitudinal.mixed import FitError
from dermx.longitudinal.reading import read_visits
from dermx.longitudinal.simulate import StudyConfig, simulate_study
from dermx.longitudinal.study import TreatmentStudy, effect_sentence, p_text, signed, study_of
from dermx.longitudinal.visits import Visits


@pytest.fixture(scope="module")
def shipped() -> TreatmentStudy:
    return study_of(read_visits())


def patients(visits: Visits, count: int) -> Visits:
    return replace(visits.select(visits.patient < count), patients=visits.patients[:count])


def test_the_first_thing_to_know_is_that_treatment_and_time_are_one(
    shipped: TreatmentStudy,
) -> None:
    assert "can't be told apart" in shipped.notes[0]
    assert any("plain model's intervals" in note for note in shipped.notes)


def test_words_and_numbers_are_the_same(shipped: TreatmentStudy) -> None:
    first = shipped.effects[0]
    assert signed(first.estimate) in shipped.sentences[0]
    assert shipped.sentences[0].startswith("Antibiotics against Baseline: better, −4.7 GAGS points")
    assert shipped.sentences[2].startswith("Cream against Antibiotics: no clear difference")
    content = json.loads(json.dumps(shipped.to_dict(), allow_nan=False))
    assert content["effects"][0]["estimate"] == first.estimate
    assert content["own_changes"][0]["sentence"] == shipped.patients[0].sentence


def test_every_other_model_is_shown_and_this_one_only_once(shipped: TreatmentStudy) -> None:
    names = [variant.name for variant in shipped.variants]
    assert "plain mixed model" in names
    assert "robust errors by patient" not in names
    plain = next(v for v in shipped.variants if v.name == "plain mixed model")
    for beside, effect in zip(plain.effects, shipped.effects, strict=True):
        assert (beside.low, beside.high) == (effect.plain_low, effect.plain_high)
        assert effect.high - effect.low > 2 * (beside.high - beside.low)
    settled = {variant.name: variant.config for variant in shipped.variants}
    assert settled["without the first 7 days of a treatment"] == ModelConfig(skip_days=7)
    assert settled["with a straight trend over days"] == ModelConfig(trend=True)
    assert settled["bootstrap of patients"] == ModelConfig(errors="bootstrap")


def test_a_variant_that_can_t_be_fitted_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = module.treatment_effects

    def refuse_slopes(visits: Visits, config: ModelConfig) -> object:
        if config.random == "treatment":
            raise FitError("two optimisers disagree")
        return honest(visits, config)

    monkeypatch.setattr(module, "treatment_effects", refuse_slopes)
    (failed,) = [v for v in study_of(read_visits()).variants if not v.effects]
    assert (failed.name, failed.reason) == (
        "own response of each patient",
        "two optimisers disagree",
    )


def test_points_hold_a_row_per_day_and_the_lines_through_them(shipped: TreatmentStudy) -> None:
    points = shipped.points()
    assert points["severity"] == shipped.visits.severity.tolist()
    for own in shipped.patients[:4]:
        rows = [n for n, (p, t) in enumerate(zip(points["patient"], points["treatment"],
                strict=True)) if (p, t) == (own.patient, own.treatment)]  # fmt: skip
        assert {round(points["fitted"][n], 9) for n in rows} == {
            round(own.baseline + own.estimate, 9)
        }
    levels = np.unique(np.round(points["average"], 9))
    assert len(levels) == 30  # a level a patient, each shifted by two effects


def test_an_interval_that_leaves_0_out_is_not_told_as_if_it_held_0(shipped: TreatmentStudy) -> None:
    effect = replace(shipped.effects[2], low=-2.0, high=-0.5, p_adjusted=0.13)
    assert effect_sentence(effect, shipped.visits, shipped.config) == (
        "Cream against Antibiotics: no clear difference; the 95 % interval, \N{MINUS SIGN}2.0 to "
        "\N{MINUS SIGN}0.5 GAGS points, leaves 0 out, but not after Holm's correction for several "
        "comparisons (p = 0.13)."
    )


def test_phases_are_the_runs_of_days(shipped: TreatmentStudy) -> None:
    phases = shipped.phases()
    assert len(phases) == 30
    assert [p["treatment"] for p in phases[:3]] == ["Baseline", "Antibiotics", "Cream"]
    assert phases[0]["first_day"] == 1
    assert phases[1]["first_day"] > phases[0]["last_day"]


def test_one_patient_gets_the_own_change_and_no_average() -> None:
    study = study_of(patients(read_visits(), 1))
    assert study.effects == ()
    assert study.variants == ()
    assert [own.treatment for own in study.patients] == ["Antibiotics", "Cream"]
    assert study.notes[-1] == (
        "Average effects need at least 3 patients; with 1 patient there is only each patient's own "
        "change."
    )
    assert study.points()["average"] == [None] * len(study.visits)
    json.dumps(study.to_dict(), allow_nan=False)


def test_three_patients_are_enough_for_an_average() -> None:
    study = study_of(patients(read_visits(), 3))
    assert len(study.effects) == 3
    assert not any("Average effects need" in note for note in study.notes)


def test_days_left_out_are_left_out_everywhere() -> None:
    study = study_of(patients(read_visits(), 4), ModelConfig(skip_days=7))
    assert len(study.points()["day"]) == len(study.visits) < len(patients(read_visits(), 4))
    assert study.model is not None
    assert len(study.model.visits) == len(study.visits)
    assert any("just after a change of treatment are left out" in note for note in study.notes)


def test_days_left_out_are_told_to_one_patient_and_are_no_gap() -> None:
    notes = study_of(patients(read_visits(), 1), ModelConfig(skip_days=8)).notes
    assert any("days just after a change of treatment are left out" in note for note in notes)
    assert not any("gaps are longer" in note for note in notes)


def test_a_comparison_that_one_patient_makes_is_no_average() -> None:
    visits = read_visits()
    study = study_of(visits.select((visits.treatment != 2) | (visits.patient == 3)))
    assert study.sentences[1] == (
        "Cream against Baseline: no average effect; it hangs on one patient alone, so see that "
        "patient's own change."
    )
    assert not any("changes its sign" in note for note in study.notes)
    content = json.loads(json.dumps(study.to_dict(), allow_nan=False))
    assert content["effects"][1]["p"] is None
    assert content["effects"][1]["estimate"] == study.effects[1].estimate


def test_a_study_that_hangs_on_one_patient_says_so() -> None:
    quiet = StudyConfig(patients=4, effects=(0, 0.05, 0), response_sd=0, drift_sd=0, noise_sd=0.4,
                        missing=0, days=(8, 8, 8), level=25)  # fmt: skip
    visits = simulate_study(quiet, 1).visits
    lifted = np.where((visits.patient == 1) & (visits.treatment == 1), 6.0, -1.0)
    moved = visits.severity + np.where(visits.treatment == 1, lifted, 0)
    notes = " ".join(study_of(replace(visits, severity=moved)).notes)
    assert "Antibiotics against Baseline changes its sign without patient P2" in notes


def test_memory_counts_days_of_the_calendar() -> None:
    values = np.array([1.0, -1, 1, -1, 1, -1])
    patient, day = np.zeros(6, int), np.array([1, 2, 3, 4, 6, 7])
    memory = correlation_by_lag(values, patient, day, 3)
    assert memory == pytest.approx([-1, (1 + 1 - 1) / 3, (-1 + 1 + 1) / 3])
    assert np.isnan(correlation_by_lag(values[:2], patient[:2], day[:2], 3)[1:]).all()


def test_memory_of_many_patients_over_a_century_takes_no_room_and_keeps_patients_apart() -> None:
    values = np.tile([1.0, -1.0], 50_000)
    patient, day = np.arange(100_000) // 2, np.tile([1, 36_525], 50_000)
    assert np.isnan(correlation_by_lag(values, patient, day, 14)).all()


@pytest.mark.parametrize(("p", "text"), [(0.5, "p = 0.5"), (0.0123, "p = 0.012"),
                                         (1e-5, "p < 0.0001")])  # fmt: skip
def test_a_p_value_is_never_zero(p: float, text: str) -> None:
    assert p_text(p) == text
