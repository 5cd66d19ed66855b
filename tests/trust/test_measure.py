"""Figures of the trust parts: their values by hand, their intervals by lesion."""

from dataclasses import replace

import numpy as np
import pytest

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.evaluate.intervals import bootstrap
from dermx.records import softmax
from dermx.trust.calibration import classwise_calibration_error, expected_calibration_error
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
    sure = softmax(known.logits).max(axis=1) > 0.7
    for one in answered_figures(~sure, wrong, known, n_boot=100).values():
        assert one["low"] < one["value"] < one["high"]  # type: ignore[operator]
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


def test_each_error_is_the_one_of_its_name_and_absent_classes_have_none() -> None:
    known = world(600)
    known = known.select(known.labels != CODES.index("df"))
    probs, labels = softmax(known.logits), known.labels
    found = calibration_figures(probs, known, n_boot=40)
    assert all(one["low"] < one["high"] for one in found.values())  # type: ignore[operator]
    chance = found["ece_by_chance"]
    assert chance["low"] < chance["value"] < chance["high"]  # type: ignore[operator]
    equal = expected_calibration_error(probs, labels, equal_mass=True)
    assert found["ece_equal_mass"]["value"] == equal != found["ece"]["value"]
    gaps = classwise_calibration_error(probs, labels)
    there = [k for k, code in enumerate(CODES) if code != "df"]
    assert found["classwise_ece"]["value"] == pytest.approx(sum(gaps[k] for k in there) / 7)


def test_sets_of_the_answer_alone_are_covered_as_often_as_it_is_right() -> None:
    known = world(300)
    answered = known.logits.argmax(axis=1)
    found = set_figures(np.eye(8, dtype=bool)[answered], known, n_boot=300)
    low, high = bootstrap(known, n_boot=300)["accuracy"]
    assert (found["coverage"]["low"], found["coverage"]["high"]) == pytest.approx((low, high))
    of_nevi = found["of_class"]["nv"]["coverage"]
    low, high = bootstrap(known, n_boot=300)["recall_nv"]
    assert (of_nevi["low"], of_nevi["high"]) == pytest.approx((low, high))


def test_calibrated_confidence_has_no_gain_over_itself_and_a_perfect_doubt_has() -> None:
    known = world(300)
    wrong = known.logits.argmax(axis=1) != known.labels
    doubts = {"confidence": 1 - softmax(known.logits).max(axis=1), "perfect": wrong.astype(float)}
    found = doubt_figures(doubts, wrong, known, n_boot=40)
    assert found["confidence"]["augrc_gain"] == {"value": 0, "low": 0, "high": 0}
    assert found["perfect"]["augrc_gain"]["low"] > 0
    at_most = min(1.0, (1 - wrong.mean()) / 0.8)
    assert found["perfect"]["accuracy_at_80"]["value"] == pytest.approx(at_most)
    assert found["perfect"]["gain_at_80"]["value"] == pytest.approx(at_most - 1 + wrong.mean())
    assert found["perfect"]["gain_at_80"]["low"] > 0
    # All right ones are answered before the first wrong one; the k-th answer then has k - right.
    steps, right = np.arange(1, 301), int((~wrong).sum())
    by_hand = (np.maximum(steps - right, 0) / steps).mean()
    assert found["perfect"]["aurc"] == pytest.approx(by_hand)
    least_doubted = np.argsort(doubts["confidence"])
    by_hand = (np.cumsum(wrong[least_doubted]) / steps).mean()
    assert found["confidence"]["aurc"] == pytest.approx(by_hand)
    for row in found.values():
        for name in ("accuracy_at_80", "gain_at_80"):
            assert row[name]["low"] < row[name]["value"] < row[name]["high"]


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
