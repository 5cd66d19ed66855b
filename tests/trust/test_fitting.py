"""What is chosen on validation is what a known truth asks for, and doubts must earn their place."""

from dataclasses import replace

import numpy as np
import pytest

from dermx.errors import InputError
from dermx.records import Predictions, softmax
from dermx.trust.calibration import fit_calibration
from dermx.trust.conformal import fit_sets
from dermx.trust.fitting import (
    Wanted,
    calibrated,
    deal_groups,
    fit_consistent,
    fit_trust,
    left_out,
    left_out_losses,
    rule_doubt,
)
from dermx.trust.gate import Gate
from dermx.trust.verdict import Trust, judge

from .conftest import layer, world


def test_the_calibration_that_fits_the_truth_has_the_least_loss_left_out() -> None:
    losses, refused = left_out_losses(world(900))
    assert refused == {}
    assert min(losses, key=lambda name: losses[name]) == "temperature"
    assert losses["temperature"] < losses["none"] - 0.1
    shifted = world(900)
    shifted = replace(shifted, logits=shifted.logits + np.float32([4, 0, 0, 0, 0, 0, 0, -3]))
    losses, _ = left_out_losses(shifted)
    assert losses["bias"] < losses["temperature"]


def upside_down() -> Predictions:
    """The logit of df says the opposite: a scale of its own comes out negative."""
    known = world(900)
    return replace(known, logits=known.logits * np.float32([1, 1, 1, 1, 1, 1, -1, 1]))


def test_a_calibration_that_can_t_be_fitted_stops_only_who_wants_it() -> None:
    known = upside_down()
    losses, refused = left_out_losses(known)
    assert list(losses) == ["none", "temperature", "bias"]
    for method in ("vector", "classwise"):
        assert "the fit turns logits upside down" in refused[method]
    given = {"gate": None, "views": 8, "dropout": 0.2}
    for method in (None, "temperature"):
        wanted = Wanted(method=method, n_boot=20)  # type: ignore[arg-type]
        trust = fit_trust(known, known, *layer(), **given, wanted=wanted)  # type: ignore[arg-type]
        assert trust.facts["calibration_not_fitted"] == refused
        assert list(trust.facts["log_loss_left_out"]) == list(losses)
    with pytest.raises(InputError, match="the fit turns logits upside down"):
        fit_trust(known, known, *layer(), **given, wanted=Wanted(method="vector"))  # type: ignore[arg-type]


def test_cases_that_no_calibration_can_be_judged_on_are_refused() -> None:
    with pytest.raises(InputError, match="2 lesions can't be dealt into 5 parts"):
        left_out_losses(world(6))


def test_a_class_without_cases_has_no_threshold_and_is_said_to_have_none() -> None:
    known = world(600)
    wanted = Wanted(method="temperature", n_boot=20)
    for absent, code in ((6, "df"), (7, "acne")):
        few = known.select(known.labels != absent)
        trust = fit_trust(few, few, *layer(), gate=None, views=8, dropout=0.2, wanted=wanted)
        assert trust.facts["classes_without_threshold"] == [code]
        assert np.flatnonzero(np.isnan(trust.sets.thresholds)).tolist() == [absent]


def test_what_is_used_is_as_sure_as_it_is_right_on_lesions_left_out() -> None:
    known = world(150)
    for method in ("temperature", "vector"):
        plain = fit_calibration(known.logits, known.labels, method)
        used = fit_consistent(known, method)
        ratio = plain.scale / used.scale
        np.testing.assert_allclose(ratio, ratio[0])  # one temperature for all
        np.testing.assert_allclose(
            used.probs(known.logits), softmax(np.log(plain.probs(known.logits)) / ratio[0])
        )
        probs = left_out(known, method)
        settled = softmax(np.log(probs) / ratio[0])
        right = (probs.argmax(axis=1) == np.tile(known.labels, 4)).mean()
        assert settled.max(axis=1).mean() == pytest.approx(right, abs=2e-3)
    assert fit_consistent(known, "none").temperature == 1


def test_classwise_is_as_sure_as_it_is_right_too() -> None:
    """Its rows are scaled to sum 1 after the temperature, which is then no plain power of them."""
    known = world(150)
    plain = fit_calibration(known.logits, known.labels, "classwise")
    temperature = (plain.scale / fit_consistent(known, "classwise").scale)[0]
    probs = left_out(known, "classwise", temperature)
    right = (probs.argmax(axis=1) == np.tile(known.labels, 4)).mean()
    assert probs.max(axis=1).mean() == pytest.approx(right, abs=2e-3)


def test_lesions_never_come_apart() -> None:
    groups = [str(i // 3) for i in range(90)]
    fold = deal_groups(groups, 5)
    assert all(len(set(fold[i : i + 3])) == 1 for i in range(0, 90, 3))
    assert np.bincount(fold).tolist() == [18] * 5
    with pytest.raises(InputError, match="2 lesions can't be dealt into 5 parts"):
        deal_groups(["a", "b", "a"], 5)


def test_no_doubt_is_switched_on_that_does_not_beat_confidence(trust: Trust) -> None:
    gains = trust.facts["augrc_gain_over_confidence"]
    assert all(row["low"] <= row["gain"] <= row["high"] for row in gains.values())
    assert not {"confidence", "rule"} & gains.keys()
    assert (trust.rule.max_set is None) == (gains["set size"]["low"] <= 0)
    assert (trust.rule.max_information is None) == (gains["dropout information"]["low"] <= 0)


def test_doubts_that_beat_confidence_turn_away_a_twentieth_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dermx.trust.fitting.worth", lambda *_: (0.02, 0.01, 0.03))
    known = world(900)
    wanted = Wanted(answered=0.8, n_boot=2)
    trust = fit_trust(known, known, *layer(), gate=None, views=8, dropout=0.2, wanted=wanted)
    judged, rule = judge(trust, known.features, *layer()), trust.rule
    assert rule.max_set is not None
    sizes = judged.inside.sum(axis=1)
    assert (sizes > rule.max_set).mean() <= 0.05 < (sizes > rule.max_set - 1).mean()
    assert (judged.information > rule.max_information).mean() == pytest.approx(0.05, abs=0.002)
    # The threshold of confidence takes up the rest, as if what is turned away were as confident.
    others = rule_doubt(rule, judged)
    assert set(others) == {0.0, 1.0}
    unsure = judged.confidence < rule.min_confidence
    assert (1 - unsure.mean()) * (1 - others.mean()) == pytest.approx(0.8, abs=0.01)
    np.testing.assert_array_equal(judged.abstain, unsure | (others > 0))


def test_what_is_asked_for_reaches_the_part_it_is_asked_of() -> None:
    known = world(900)
    given = {"gate": None, "views": 8, "dropout": 0.2}
    wanted = Wanted(method="bias", score="aps", coverage=0.8, margin=0.5, sensitivity=0.7, n_boot=2)
    trust = fit_trust(known, known, *layer(), **given, wanted=wanted)  # type: ignore[arg-type]
    probs = fit_consistent(known, "bias").probs(known.logits)
    assert trust.calibration.method == "bias"
    asked = {"coverage": 0.8, "score": "aps", "groups": known.groups}
    sets = fit_sets(probs, known.labels, margin=0.5, **asked)  # type: ignore[arg-type]
    np.testing.assert_allclose(trust.sets.thresholds, sets.thresholds)
    plain = fit_sets(probs, known.labels, **asked)  # type: ignore[arg-type]
    assert (plain.thresholds < sets.thresholds).any()
    danger = np.isin(known.labels, [known.codes.index(code) for code in ("mel", "bcc", "akiec")])
    found = judge(trust, known.features, *layer()).refer[danger].mean()
    assert found == pytest.approx(0.7, abs=1 / danger.sum())
    assert trust.screening.sensitivity == 0.7


def test_the_wanted_share_is_answered_where_it_was_fitted() -> None:
    known = world(900)
    for share in (0.5, 0.9):
        wanted = Wanted(answered=share, n_boot=20)
        trust = fit_trust(known, known, *layer(), gate=None, views=8, dropout=0.2, wanted=wanted)
        probs = trust.calibration.probs(known.logits)
        confidence = probs[np.arange(900), known.logits.argmax(axis=1)]
        assert (confidence >= trust.rule.min_confidence).mean() == pytest.approx(share, abs=0.01)


def test_what_the_gate_turns_away_counts_as_not_answered() -> None:
    """It turns away a tenth, whatever their confidence, so 8 of the other 9 are to be answered."""
    known = world()
    weight = np.zeros((known.features.shape[1], 3), np.float32)
    weight[9, 2] = 1  # a feature that no logit depends on
    high = np.float32(np.quantile(known.features[:, 9], 0.9))
    gate = Gate(
        codes=known.codes, groups=("dermoscopy", "clinical photograph", "everyday"),
        acceptance=0.9, weight=weight, bias=np.zeros(3, np.float32),
        offsets=np.full(2, high), cautions=np.zeros(2, np.float32),
    )  # fmt: skip
    wanted = Wanted(answered=0.8, n_boot=20)
    trust = fit_trust(known, known, *layer(), gate=gate, views=8, dropout=0.2, wanted=wanted)
    judged = judge(trust, known.features, *layer())
    assert judged.is_ood.mean() == pytest.approx(0.1, abs=0.005)
    assert 1 - judged.abstain.mean() == pytest.approx(0.8, abs=0.02)


def test_out_of_fold_logits_may_come_from_other_networks() -> None:
    """Calibration is fitted on them; their features, which are of other networks, are not used."""
    folds, own = world(1200, seed=30), world(600, seed=31)
    blind = replace(folds, features=np.full_like(folds.features, np.nan))
    wanted = Wanted(n_boot=20)
    given = {"gate": None, "views": 8, "dropout": 0.2, "wanted": wanted}
    first = fit_trust(folds, own, *layer(), **given)  # type: ignore[arg-type]
    second = fit_trust(blind, own, *layer(), **given)  # type: ignore[arg-type]
    assert first.to_parts().settings == second.to_parts().settings
    assert first.facts["cases"] == 1200


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"coverage": 90.0}, "coverage must be between 0 and 1, got 90"),
        ({"coverage": 1.0}, "coverage must be between 0 and 1, got 1"),
        ({"coverage": 0.0}, "coverage must be between 0 and 1, got 0"),
        ({"answered": 0.0}, r"answered must be in \(0, 1\], got 0"),
        ({"sensitivity": 2.0}, r"sensitivity must be in \(0, 1\], got 2"),
    ],
)
def test_a_share_out_of_its_range_is_refused_when_it_is_asked_for(
    asked: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Wanted(**asked)  # type: ignore[arg-type]


def test_a_class_with_too_few_cases_is_named() -> None:
    known = world(600)
    few = known.select(~((known.labels == 6) & (np.cumsum(known.labels == 6) > 4)))
    with pytest.raises(InputError, match=r"df \(4\); need 9 of each class"):
        fit_trust(few, few, *layer(), gate=None, views=8, dropout=0.2)


def test_calibrated_predictions_have_the_calibrated_probabilities(trust: Trust) -> None:
    known = world(30)
    np.testing.assert_allclose(
        calibrated(known, trust.calibration).probs,
        trust.calibration.probs(known.logits),
        rtol=1e-5,
        atol=1e-7,
    )
