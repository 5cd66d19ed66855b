"""One composition: each figure is that of its own module, and the message says what they mean."""

from dataclasses import replace

import numpy as np
import pytest

from dermx.diagnoses import CODES
from dermx.errors import BundleError
from dermx.records import softmax
from dermx.trust.gate import NO_LESION, OTHER, STRANGERS
from dermx.trust.referral import Rule
from dermx.trust.uncertainty import dropout_logits, mutual_information, predictive_entropy
from dermx.trust.verdict import Screening, Trust, judge, message, trust_keys

from .conftest import layer, strangers, world

KEYS = {
    "predictive_entropy", "mutual_information", "ood_score", "is_ood", "prediction_set",
    "malignancy", "abstain", "message",
}  # fmt: skip


def test_every_figure_is_that_of_its_module(trust: Trust) -> None:
    cases = world(50, seed=2)
    judged = judge(trust, cases.features, *layer())
    probs = trust.calibration.probs(cases.logits)
    np.testing.assert_allclose(judged.probs, probs)
    np.testing.assert_array_equal(judged.answers, cases.logits.argmax(axis=1))
    np.testing.assert_allclose(judged.confidence, probs[range(50), judged.answers])
    danger = [CODES.index(code) for code in ("mel", "bcc", "akiec")]
    np.testing.assert_allclose(judged.malignant, probs[:, danger].sum(axis=1))
    assert trust.gate is not None
    np.testing.assert_allclose(
        judged.strangeness, trust.gate.admit(cases.features, cases.logits).score, rtol=1e-5
    )
    sampled = trust.calibration.probs(dropout_logits(cases.features[7], *layer(), rate=0.2))
    assert judged.entropy[7] == pytest.approx(predictive_entropy(sampled))
    assert judged.information[7] == pytest.approx(mutual_information(sampled))


def test_a_certain_danger_is_no_more_than_certain(trust: Trust) -> None:
    """Three rounded probabilities may add up to 1 + 2e-16, which is none."""
    cases = world(400, seed=8)
    danger = [CODES.index(code) for code in ("mel", "bcc", "akiec")]
    cases.features[:, danger] += 150
    probs = trust.calibration.probs(cases.features[:, :8])
    assert probs[:, danger].sum(axis=1).max() > 1
    assert judge(trust, cases.features, *layer()).malignant.max() == 1


def test_every_part_of_the_rule_sees_its_own_figure(trust: Trust) -> None:
    cases = world(300, seed=11)
    plain = judge(replace(trust, gate=None, rule=Rule(min_confidence=0)), cases.features, *layer())
    assert not plain.abstain.any()
    sizes, scattered = plain.inside.sum(axis=1), float(np.median(plain.information))
    for rule, expected in (
        (Rule(min_confidence=0, max_set=2), sizes > 2),
        (Rule(min_confidence=0, max_information=scattered), plain.information > scattered),
        (Rule(min_confidence=0.5), plain.confidence < 0.5),
    ):
        judged = judge(replace(trust, gate=None, rule=rule), cases.features, *layer())
        assert 0 < expected.sum() < 300
        np.testing.assert_array_equal(judged.abstain, expected)


def test_a_case_at_the_referral_s_threshold_is_referred(trust: Trust) -> None:
    cases = world(50, seed=12)
    malignant = judge(trust, cases.features, *layer()).malignant
    at = Screening(threshold=float(np.sort(malignant)[25]), sensitivity=0.9)
    refer = judge(replace(trust, screening=at), cases.features, *layer()).refer
    np.testing.assert_array_equal(refer, malignant >= np.sort(malignant)[25])
    assert refer.sum() == 25


def test_the_keys_are_those_of_the_first_answer(trust: Trust) -> None:
    unknown, _ = strangers(15)
    features = np.concatenate([world(15, seed=13).features, unknown.features])
    for i in range(len(features)):
        one, many = (
            trust_keys(trust, judge(trust, part, *layer()))
            for part in (features[i : i + 1], np.roll(features, -i, axis=0))
        )
        for name in ("predictive_entropy", "mutual_information", "ood_score"):
            assert many.pop(name) == pytest.approx(one.pop(name), rel=1e-4, abs=1e-5)
        alone, among = one.pop("malignancy"), many.pop("malignancy")
        assert among["probability"] == pytest.approx(alone["probability"], abs=1e-6)
        assert among["refer"] == alone["refer"]
        assert many == one


def test_one_picture_is_judged_as_among_many(trust: Trust) -> None:
    cases = world(20, seed=3)
    many = judge(trust, cases.features, *layer())
    for i in range(20):
        one = judge(trust, cases.features[i : i + 1], *layer())
        for name, values in vars(one).items():
            if name != "reasons":
                np.testing.assert_allclose(values[0], getattr(many, name)[i], rtol=1e-4, atol=1e-5)


def test_calibration_takes_back_what_made_it_too_sure(trust: Trust) -> None:
    assert trust.calibration.temperature == pytest.approx(2, abs=0.15)
    cases = world(8000, seed=4)
    judged = judge(trust, cases.features, *layer())
    right = judged.answers == cases.labels
    plain = softmax(cases.logits).max(axis=1)
    assert judged.confidence.mean() == pytest.approx(right.mean(), abs=0.02)
    assert plain.mean() > right.mean() + 0.15
    answered = ~judged.abstain
    assert right[answered].mean() > right.mean() + 0.03
    assert answered.mean() > 0.7


def test_strangers_are_turned_away_and_told_apart(trust: Trust) -> None:
    unknown, kinds = strangers(seed=21)
    judged = judge(trust, unknown.features, *layer())
    assert judged.is_ood.mean() > 0.9
    assert judged.abstain[judged.is_ood].all()
    said = [
        r == STRANGERS[k] for r, k, o in zip(judged.reasons, kinds, judged.is_ood, strict=True) if o
    ]
    assert np.mean(said) > 0.9


def test_the_keys_are_json_values_under_the_agreed_names(trust: Trust) -> None:
    import json

    keys = trust_keys(trust, judge(trust, world(1).features, *layer()))
    assert set(keys) == KEYS
    assert json.loads(json.dumps(keys)) == keys
    assert set(keys["malignancy"]) == {"probability", "refer"}
    assert {type(keys[name]) for name in ("is_ood", "abstain")} == {bool}


def test_the_answer_is_in_the_set_and_the_set_is_ordered(trust: Trust) -> None:
    cases = world(200, seed=8)
    for i in range(200):
        judged = judge(trust, cases.features[i : i + 1], *layer())
        codes = trust_keys(trust, judged)["prediction_set"]
        assert CODES[int(judged.answers[0])] in codes
        found = [judged.probs[0, CODES.index(code)] for code in codes]
        assert found == sorted(found, reverse=True)


def test_without_a_gate_nobody_is_a_stranger(trust: Trust) -> None:
    unknown, _ = strangers()
    judged = judge(replace(trust, gate=None), unknown.features, *layer())
    assert not judged.is_ood.any()
    assert not judged.strangeness.any()


def test_what_is_saved_is_what_is_read(trust: Trust) -> None:
    import json

    parts = trust.to_parts()
    again = Trust.from_parts(json.loads(json.dumps(parts.settings)), parts.arrays)
    cases = world(100, seed=10)
    first, second = (judge(one, cases.features, *layer()) for one in (trust, again))
    for name, values in vars(first).items():
        np.testing.assert_array_equal(values, getattr(second, name))


def test_parts_that_are_newer_or_incomplete_are_refused(trust: Trust) -> None:
    settings, arrays, _ = trust.to_parts()
    with pytest.raises(BundleError, match="have format 2, this dermx reads 1"):
        Trust.from_parts({**settings, "format": 2}, arrays)
    with pytest.raises(BundleError, match="'rule'; fit them again: dermx trust RUN"):
        Trust.from_parts({k: v for k, v in settings.items() if k != "rule"}, arrays)
    with pytest.raises(BundleError, match="no calibration 'x'"):
        Trust.from_parts({**settings, "calibration": {"method": "x"}}, arrays)
    for threshold in (float("nan"), -0.1, 1.1):
        screening = {**settings["screening"], "threshold": threshold}
        with pytest.raises(BundleError, match=rf"threshold must be in \[0, 1\], got {threshold}"):
            Trust.from_parts({**settings, "screening": screening}, arrays)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"confidence": 0.874, "likely": ["nv"]},
            "Most likely melanocytic naevus: of 100 such answers about 87 are right.",
        ),
        (
            {"confidence": 1.0, "likely": ["nv"], "refer": True},
            "Most likely melanocytic naevus: of 100 such answers about 99 are right. "
            "Skin cancer or a precursor can't be ruled out: please see a dermatologist.",
        ),
        (
            {"confidence": 0.4, "likely": ["nv", "mel"], "abstain": True},
            "The model is not sure: it could be melanocytic naevus or melanoma. "
            "Please have a dermatologist look at it.",
        ),
        (
            {"confidence": 0.4, "likely": ["nv", "mel", "bkl", "df"], "abstain": True},
            "The model is not sure: it could be melanocytic naevus, melanoma or benign keratosis "
            "or something else. Please have a dermatologist look at it.",
        ),
        (
            {"confidence": 0.4, "likely": ["nv"], "abstain": True},
            "The model is not sure that this is melanocytic naevus. "
            "Please have a dermatologist look at it.",
        ),
        (
            {"confidence": 0.9, "likely": ["nv"], "is_ood": True, "reason": NO_LESION},
            "This does not look like a picture of a skin lesion, so there is no answer. "
            "If you worry about your skin, see a dermatologist.",
        ),
        (
            {"confidence": 0.9, "likely": ["acne"], "is_ood": True, "reason": OTHER},
            "This does not look like any of the conditions this model knows, so there is no "
            "answer. If you worry about your skin, see a dermatologist.",
        ),
    ],
)
def test_a_lay_person_is_told_in_one_or_two_sentences(
    facts: dict[str, object], expected: str
) -> None:
    plain = {"is_ood": False, "abstain": False, "refer": False}
    assert message("nv", **{**plain, **facts}) == expected  # type: ignore[arg-type]
