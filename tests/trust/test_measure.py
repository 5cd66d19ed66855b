"""Figures of the trust parts: their values by hand, their intervals by lesion."""

from dataclasses import replace

import numpy as np
import pytest

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.evaluate.intervals import bootstrap
from dermx.records import softmax
from dermx.trust.measure import (
    answered_figures,
    calibration_figures,
    dermoscopic,
    doubt_figures,
    referral_figures,
    rejected_by_class,
    set_figures,
)

from .conftest import world


def test_the_rule_s_figures_by_hand() -> None:
    known = world(6)
    wrong = np.array([True, False, False, True, False, False])
    abstain = np.array([True, True, False, False, False, False])
    found = answered_figures(abstain, wrong, known, n_boot=50)
    assert found["answered"]["value"] == pytest.approx(4 / 6)
    assert found["accuracy_answered"]["value"] == pytest.approx(3 / 4)
    assert found["accuracy"]["value"] == pytest.approx(4 / 6)


def test_accuracy_has_the_interval_of_the_evaluation() -> None:
    known = world(300)
    wrong = known.logits.argmax(axis=1) != known.labels
    found = answered_figures(np.zeros(300, bool), wrong, known, n_boot=400)["accuracy"]
    low, high = bootstrap(known, n_boot=400)["accuracy"]
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_coverage_by_class_by_hand() -> None:
    known = replace(world(4), labels=np.array([0, 0, 1, 1]))
    inside = np.zeros((4, 8), bool)
    inside[[0, 1, 2], [0, 0, 1]] = True
    found = set_figures(inside, known, n_boot=20)
    assert found["coverage"]["value"] == 0.75
    assert found["size"] == 0.75
    assert found["of_class"]["nv"]["coverage"]["value"] == 1
    assert found["of_class"]["mel"]["coverage"]["value"] == 0.5
    assert found["of_class"]["df"] == {
        "cases": 0, "coverage": {"value": None, "low": None, "high": None}, "size": None,
    }  # fmt: skip


def test_a_calibrated_world_has_small_errors_inside_their_own_intervals() -> None:
    known = world(3000, sharpness=1.0)
    found = calibration_figures(softmax(known.logits), known, n_boot=60)
    assert set(found) == {
        "ece", "ece_by_chance", "ece_equal_mass", "classwise_ece", "smooth_ece", "brier",
        "log_loss",
    }  # fmt: skip
    assert found["ece"]["value"] < 0.02
    for name, of in (("ece", "ece_by_chance"), ("brier", "brier"), ("log_loss", "log_loss")):
        low, value, high = found[of]["low"], found[name]["value"], found[of]["high"]
        assert low is not None
        assert value is not None
        assert high is not None
        assert low < value < high


def test_calibrated_confidence_has_no_gain_over_itself_and_a_perfect_doubt_has() -> None:
    known = world(300)
    wrong = known.logits.argmax(axis=1) != known.labels
    doubts = {"confidence": 1 - softmax(known.logits).max(axis=1), "perfect": wrong.astype(float)}
    found = doubt_figures(doubts, wrong, known, n_boot=40)
    assert found["confidence"]["augrc_gain"] == {"value": 0, "low": 0, "high": 0}
    assert found["perfect"]["augrc_gain"]["low"] > 0
    at_most = min(1.0, (1 - wrong.mean()) / 0.8)
    assert found["perfect"]["accuracy_at_80"]["value"] == pytest.approx(at_most)
    assert found["perfect"]["gain_at_80"]["low"] > 0


def test_referring_all_finds_all_and_spares_none() -> None:
    known = world(60)
    found = referral_figures(np.ones(60, bool), known, n_boot=20)
    assert (found["sensitivity"]["value"], found["specificity"]["value"]) == (1, 0)


def test_rejections_are_told_for_every_class() -> None:
    labels = np.array([0, 0, 7, 7])
    found = rejected_by_class(np.array([True, False, True, True]), labels, CODES)
    assert (found["nv"], found["acne"], found["df"]) == (0.5, 1.0, None)


def test_dermoscopic_cases_are_those_of_the_seven_classes() -> None:
    known = replace(world(4), labels=np.array([0, 7, -1, 6]))
    assert list(dermoscopic(known).images) == ["0-0", "0-3"]
    with pytest.raises(InputError, match="none of 1 cases is of a dermoscopic class"):
        dermoscopic(known.select(np.array([False, True, False, False])))
