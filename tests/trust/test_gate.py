import json
from dataclasses import replace

import numpy as np
import pytest

from dermx.diagnoses import CODES
from dermx.errors import BundleError, InputError
from dermx.trust.gate import KNOWN, NO_LESION, OTHER, Gate, groups_of, log_odds

GROUPS = ("dermoscopy", "clinical photograph", "clinical", "everyday")
LOGITS = np.eye(8, dtype=np.float32)


def hand_made() -> Gate:
    """Four features, each the logit of one group."""
    return Gate(
        codes=CODES,
        groups=GROUPS,
        acceptance=0.95,
        weight=np.eye(4, dtype=np.float32),
        bias=np.zeros(4, np.float32),
        offsets=np.array([1.0, 2.0], np.float32),
        cautions=np.array([0.0, -3.0], np.float32),
    )


def test_the_group_that_must_be_right_is_that_of_the_answer() -> None:
    photograph = np.array([[0.0, 10.0, 0.0, 0.0]])
    nv, acne = LOGITS[CODES.index("nv")][None], LOGITS[CODES.index("acne")][None]
    # Two strangers with logit 0 each: log 2, less the source's logit, less the offset.
    assert hand_made().admit(photograph, nv).score == pytest.approx([np.log(2) - 0 - 1])
    assert hand_made().admit(photograph, acne).score == pytest.approx([np.log(2) - 10 - 2])
    other = np.array([[0.0, 10.0, 10.0, 0.0]])
    assert hand_made().admit(other, nv).rejected.tolist() == [True]


def test_the_reason_is_the_most_likely_kind_of_stranger() -> None:
    features = np.array([[9.0, 0, 0, 0], [0, 0, 9.0, 0], [0, 0, 0, 9.0]])
    logits = np.repeat(LOGITS[:1], 3, axis=0)
    assert hand_made().admit(features, logits).reasons == [KNOWN, OTHER, NO_LESION]


def test_unsure_is_let_in_and_near_the_threshold_for_acne_only() -> None:
    gate, acne = hand_made(), LOGITS[[7, 7, 7]]
    # Scores log 2 - logit - 2: turned away above 0, unsure from -3 to 0, sure below.
    features = np.array([[0, -2.0, 0, 0], [0, 0.0, 0, 0], [0, 2.0, 0, 0]])
    assert gate.admit(features, acne).rejected.tolist() == [True, False, False]
    assert gate.admit(features, acne).unsure.tolist() == [False, True, False]
    assert not gate.admit(features[:, [1, 0, 2, 3]], LOGITS[[0, 0, 0]]).unsure.any()


def test_the_score_of_mean_features_is_the_mean_score_but_for_the_strangers_sum() -> None:
    gate = replace(hand_made(), groups=GROUPS[:3], weight=np.eye(3, dtype=np.float32),
                   bias=np.zeros(3, np.float32))  # fmt: skip
    views = np.random.default_rng(0).normal(size=(8, 3))
    mean = gate.admit(views.mean(axis=0, keepdims=True), LOGITS[:1]).score
    assert mean == pytest.approx([gate.admit(views, np.repeat(LOGITS[:1], 8, axis=0)).score.mean()])


def test_parts_make_the_same_gate_through_json() -> None:
    gate = hand_made()
    settings, arrays = gate.to_parts()
    again = Gate.from_parts(json.loads(json.dumps(settings)), {**arrays, "foreign": np.zeros(1)})
    features = np.random.default_rng(1).normal(size=(8, 4))
    assert (again.admit(features, LOGITS).score == gate.admit(features, LOGITS).score).all()
    assert sum(array.nbytes for array in arrays.values()) < 200
    older = Gate.from_parts({**settings, "threshold": 0.0}, arrays)
    assert (older.admit(features, LOGITS).rejected == gate.admit(features, LOGITS).rejected).all()


def test_a_foreign_gate_is_refused() -> None:
    settings, arrays = hand_made().to_parts()
    with pytest.raises(BundleError, match="format 2, this dermx reads 1; fit it again"):
        Gate.from_parts({**settings, "format": 2}, arrays)
    with pytest.raises(BundleError, match="lacks a part: 'gate_bias'"):
        Gate.from_parts(settings, {k: v for k, v in arrays.items() if k != "gate_bias"})
    with pytest.raises(BundleError, match="arrays have shapes"):
        Gate.from_parts(settings, {**arrays, "gate_offsets": np.zeros(3)})
    with pytest.raises(BundleError, match="holds NaN and would let everything in"):
        Gate.from_parts(settings, {**arrays, "gate_offsets": np.array([1.0, np.nan])})
    with pytest.raises(InputError, match=r"features \(n, 4\).*another model"):
        hand_made().admit(np.zeros((1, 5)), LOGITS[:1])


def test_a_model_without_acne_has_one_source() -> None:
    assert groups_of(("nv", "mel"), ["everyday"]) == ("dermoscopy", "everyday")


def test_log_odds_weigh_all_strangers_against_the_source() -> None:
    bias = np.log([4.0, 1.0, 1.0, 2.0])
    for source, wanted in ((0, 3 / 4), (1, 3)):
        odds = log_odds(np.zeros((1, 2)), np.array([source]), np.zeros((2, 4)), bias, 2)
        assert odds == pytest.approx([np.log(wanted)])
