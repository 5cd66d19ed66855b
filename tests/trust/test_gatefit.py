"""The fit agrees with scikit-learn, and thresholds keep what they promise on what was left out."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from dermx.errors import InputError
from dermx.records import Predictions
from dermx.trust.gatefit import CrossFitted, by_picture, cross_fit, discriminant, fit_gate

ACNE = 7
WIDTH = 10


def some(n: int, at: int, label: int, seed: int, name: str, answer: int) -> Predictions:
    """Cases around the unit vector `at`, all answered alike; two pictures a group."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 0.7, (n, WIDTH)) + 3 * np.eye(WIDTH)[at]
    return Predictions(
        images=[f"{name}{i}" for i in range(n)],
        groups=[f"{name}{i // 2}" for i in range(n)],
        labels=np.full(n, label),
        logits=np.repeat(np.eye(8, dtype=np.float32)[answer][None], n, axis=0),
        features=features.astype(np.float32),
    )


def together(*parts: Predictions) -> Predictions:
    return Predictions(
        images=[image for part in parts for image in part.images],
        groups=[group for part in parts for group in part.groups],
        labels=np.concatenate([part.labels for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
        features=np.concatenate([part.features for part in parts]),
    )


def world(seed: int) -> Predictions:
    """Naevi, few dermatofibromas that lie off the naevi, and acne."""
    df = some(30, 0, 6, seed + 1, f"d{seed}-", 6)
    df.features[:, 1] += 1.5
    return together(some(300, 0, 0, seed, f"n{seed}-", 0), df, some(100, 3, ACNE, seed + 2,
                    f"a{seed}-", ACNE))  # fmt: skip


KNOWN, JUDGED = world(0), world(10)
STRANGERS = together(
    some(60, 4, -1, 20, "rosacea", ACNE), some(60, 5, -1, 21, "dog", ACNE),
)  # fmt: skip
KINDS = ["clinical"] * 60 + ["everyday"] * 60


def test_discriminant_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    groups = np.arange(200) % 4
    x = rng.normal(size=(200, 6)) + np.eye(4, 6)[groups] * 2
    weight, bias = discriminant(x, groups, 0.3, [0, 1, 2, 3])
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=[0.25] * 4)
    wanted = theirs.fit(x, groups).decision_function(x)
    ours = x @ weight + bias
    np.testing.assert_allclose(
        ours - ours.mean(axis=1, keepdims=True), wanted - wanted.mean(axis=1, keepdims=True)
    )


def test_every_class_with_enough_cases_is_let_in_as_often_as_wanted() -> None:
    crossed = cross_fit(KNOWN, STRANGERS, KINDS, JUDGED)
    gate = fit_gate(KNOWN, STRANGERS, KINDS, JUDGED, acceptance=0.9, crossed=crossed)
    sources = gate.sources[JUDGED.logits.argmax(axis=1)]
    out = crossed.odds > gate.offsets[sources]
    for label in (0, 6, ACNE):
        assert out[JUDGED.labels == label].mean() <= 0.1
    assert max(out[JUDGED.labels == label].mean() for label in (0, 6)) > 0  # and not laxer


def test_the_strangest_class_with_enough_cases_sets_the_threshold_by_hand() -> None:
    """300 naevi at 0 to 1, 30 dermatofibromas of 15 patients at 2 to 3, acne at 0 to 1."""
    odds = np.r_[np.linspace(0, 1, 300), np.linspace(2, 3, 30), np.linspace(0, 1, 100)]
    # Of ten strangers that get an answer of acne, the third lies above 0.25 of the known acne.
    levels, kinds = np.r_[0.05, 0.15, np.linspace(0.25, 0.95, 8)], ("clinical",) * 10
    crossed = CrossFitted(odds=odds, levels=levels, answered=np.ones(10, int), kinds=kinds)
    gate = fit_gate(KNOWN, STRANGERS, KINDS, JUDGED, acceptance=0.9, let_in=0.25, crossed=crossed)
    # Wanted are 0.9 and one standard error of 15 patients, 0.077: the 30th of 30 from 28.35 up.
    assert gate.offsets[0] == pytest.approx(3)
    # Of acne 0.9 + sqrt(0.09 / 50): the 94th step of 99 from 93.3 up.
    assert gate.offsets[1] == pytest.approx(94 / 99)
    # The level 0.25 of 100 acne cases is the 24th step of 99.
    assert gate.cautions == pytest.approx([0, 24 / 99 - 94 / 99])


def test_how_drawings_differ_among_themselves_changes_no_weight() -> None:
    drawings = some(60, 6, -1, 22, "drawn", ACNE)
    wild = replace(drawings, features=drawings.features.copy())
    middle = drawings.features.mean(axis=0)
    wild.features[:] = middle + 5 * (drawings.features - middle)
    one, other = (
        fit_gate(KNOWN, together(STRANGERS, drawn), [*KINDS, *["drawn"] * 60], JUDGED)
        for drawn in (drawings, wild)
    )
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-3)


def test_few_groups_are_let_in_more_often_than_wanted() -> None:
    """A standard error is added: of 100 pictures of nine patients, all are let in."""
    few = world(10)
    few = replace(few, groups=[g if i < 330 else f"p{i % 9}" for i, g in enumerate(few.groups)])
    crossed = cross_fit(KNOWN, STRANGERS, KINDS, few)
    gate = fit_gate(KNOWN, STRANGERS, KINDS, few, acceptance=0.9, crossed=crossed)
    acne = few.labels == ACNE
    assert (crossed.odds[acne] <= gate.offsets[1]).all()  # 0.9 + 0.1 is all of them
    nevi = crossed.odds[few.labels == 0] <= gate.offsets[0]
    assert 0.9 < nevi.mean() < 1


def test_thresholds_are_set_with_the_shrinkage_that_is_asked_for() -> None:
    gate = fit_gate(KNOWN, STRANGERS, KINDS, JUDGED, shrinkage=0.5)
    crossed = cross_fit(KNOWN, STRANGERS, KINDS, JUDGED, shrinkage=0.5)
    same = fit_gate(KNOWN, STRANGERS, KINDS, JUDGED, shrinkage=0.5, crossed=crossed)
    np.testing.assert_array_equal(gate.offsets, same.offsets)
    assert (gate.offsets != fit_gate(KNOWN, STRANGERS, KINDS, JUDGED).offsets).all()


def test_strangers_that_lie_elsewhere_are_turned_away_for_their_reason() -> None:
    gate = fit_gate(KNOWN, STRANGERS, KINDS, JUDGED)
    new = together(some(40, 4, -1, 30, "rosacea", ACNE), some(40, 5, -1, 31, "cat", ACNE))
    met = gate.admit(new.features, new.logits)
    assert met.rejected.mean() > 0.95
    assert met.reasons[:40].count("other condition") > 36
    assert met.reasons[40:].count("no lesion") > 36


def test_a_disease_like_acne_makes_acne_answers_unsure_and_no_others() -> None:
    like_acne = some(60, 3, -1, 40, "perioral", ACNE)
    kinds = ["clinical"] * 60 + ["everyday"] * 60
    gate = fit_gate(KNOWN, together(like_acne, STRANGERS.select(np.arange(60, 120))), kinds, JUDGED)
    new = some(200, 3, -1, 41, "perioral", ACNE)
    met = gate.admit(new.features, new.logits)
    let_in = ~(met.rejected | met.unsure)
    assert let_in.mean() < 0.25  # 10 % were wanted on the 60 that were left out
    assert met.unsure.mean() > 0.4
    assert gate.cautions[0] == 0


def test_a_stranger_is_judged_without_its_disease() -> None:
    # One disease lies where acne does. Whoever fits on it rejects it, whoever doesn't can't.
    odd = some(40, 6, -1, 50, "", ACNE)
    odd = Predictions(
        images=odd.images, groups=["zoster"] * 20 + ["psoriasis"] * 20, labels=odd.labels,
        logits=odd.logits, features=odd.features.copy(),
    )  # fmt: skip
    odd.features[:20] = KNOWN.features[KNOWN.labels == ACNE][:20]
    kinds = ["clinical"] * 40 + ["everyday"] * 60
    everyone = together(odd, STRANGERS.select(np.arange(60, 120)))
    levels = cross_fit(KNOWN, everyone, kinds, JUDGED).levels
    assert 0.2 < levels[:20].mean() < 0.8  # as strange as acne is
    assert levels[40:].mean() > 0.95


def test_a_case_is_judged_without_its_group() -> None:
    """Nothing of a group that is judged and fitted on reaches the gate that judges it."""
    few = KNOWN.select(np.arange(len(KNOWN.labels)) % 4 < 2)  # every other group
    before = cross_fit(KNOWN, STRANGERS, KINDS, few)
    moved = KNOWN.features.copy()
    moved[np.array(KNOWN.groups) == "n0-0"] += 10
    after = cross_fit(replace(KNOWN, features=moved), STRANGERS, KINDS, few)
    of_it = np.array(few.groups) == "n0-0"
    np.testing.assert_array_equal(after.odds[of_it], before.odds[of_it])
    assert (after.odds != before.odds).any()  # but it does reach those of the others


def of_patients(patients: int) -> Predictions:
    """Judged cases whose acne is of so many patients."""
    groups = [g if i < 330 else f"p{i % patients}" for i, g in enumerate(JUDGED.groups)]
    return replace(JUDGED, groups=groups)


@pytest.mark.parametrize("patients", [2, 3, 4])
@pytest.mark.filterwarnings("error")
def test_fewer_acne_patients_than_folds_are_enough(patients: int) -> None:
    few = of_patients(patients)
    crossed = cross_fit(KNOWN, STRANGERS, KINDS, few)
    assert 10 < crossed.kinds.count("clinical") < 60  # those of folds with a patient
    assert np.isfinite(crossed.levels).all()
    assert len(crossed.levels) == len(crossed.answered) == len(crossed.kinds)
    gate = fit_gate(KNOWN, STRANGERS, KINDS, few, crossed=crossed)
    assert np.isfinite([gate.offsets, gate.cautions]).all()


@pytest.mark.filterwarnings("error")
def test_a_fold_whose_acne_is_answered_as_dermoscopy_compares_no_stranger_with_it() -> None:
    few = of_patients(5)  # one in each fold
    logits = few.logits.copy()
    logits[np.array(few.groups) == "p0"] = np.eye(8, dtype=np.float32)[0]
    crossed = cross_fit(KNOWN, STRANGERS, KINDS, replace(few, logits=logits))
    assert 0 < len(crossed.levels) < 120
    assert np.isfinite(crossed.levels).all()
    logits[few.labels == ACNE] = np.eye(8, dtype=np.float32)[0]
    with pytest.raises(InputError, match="too few judged cases of clinical photograph: no fold"):
        cross_fit(KNOWN, STRANGERS, KINDS, replace(few, logits=logits))


def test_views_of_a_picture_are_averaged_in_order() -> None:
    views = together(*(some(2, 0, 0, seed, "n", 0) for seed in range(3)))
    means, first = by_picture(views)
    assert (list(means.images), first.tolist()) == (["n0", "n1"], [0, 1])
    np.testing.assert_allclose(means.features[1], views.features[[1, 3, 5]].mean(axis=0), rtol=1e-6)


def test_what_can_not_be_fitted_is_refused() -> None:
    with pytest.raises(InputError, match="unknown kind of stranger 'martian'"):
        fit_gate(KNOWN, STRANGERS, ["martian"] * 120, JUDGED)
    with pytest.raises(InputError, match=r"acceptance must be .* got 0 and 0.1"):
        fit_gate(KNOWN, STRANGERS, KINDS, JUDGED, acceptance=0)
    with pytest.raises(InputError, match="no picture of any stranger is left to fit the gate on"):
        fit_gate(KNOWN, STRANGERS.select(np.arange(0)), [], JUDGED)
    one = STRANGERS.select(np.arange(60))
    alike = Predictions(
        images=one.images, groups=["rosacea"] * 60, labels=one.labels, logits=one.logits,
        features=one.features,
    )  # fmt: skip
    with pytest.raises(InputError, match="at least 2 groups or diseases of a kind"):
        fit_gate(KNOWN, alike, ["clinical"] * 60, JUDGED)
    naevi = KNOWN.labels == 0
    with pytest.raises(InputError, match="no picture of clinical photograph is left"):
        fit_gate(KNOWN.select(naevi), STRANGERS, KINDS, JUDGED)
