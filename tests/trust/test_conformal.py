"""Sets hold the truth as often as promised, are MAPIE's, and refuse what they can't promise."""

import numpy as np
import pytest

from dermx.errors import InputError
from dermx.records import softmax
from dermx.trust.conformal import (
    SCORES,
    Sets,
    conformal_quantile,
    conformity_scores,
    coverage_of,
    fit_sets,
    needed_cases,
)
from dermx.trust.selftest import drawn


def test_lac_worked_by_hand() -> None:
    # Nine cases of class 0, stated at 0.1 to 0.9: the 90 % quantile is the worst, 1 - 0.1.
    top = np.arange(1, 10) / 10
    probs = np.stack([top, 1 - top], axis=1)
    sets = fit_sets(probs, np.zeros(9, int), coverage=0.9)
    assert sets.thresholds[0] == pytest.approx(0.9)
    assert np.isnan(sets.thresholds[1])  # no case of it: never in a set unless it is the answer
    inside = sets.contain(np.array([[0.15, 0.85], [0.05, 0.95], [0.6, 0.4]]))
    assert inside.tolist() == [[True, True], [False, True], [True, False]]


def test_raps_charges_for_the_third_class_and_after() -> None:
    probs = np.array([[0.5, 0.3, 0.15, 0.05]])
    assert conformity_scores(probs, "aps")[0] == pytest.approx([0.5, 0.8, 0.95, 1.0])
    assert conformity_scores(probs, "raps")[0] == pytest.approx([0.5, 0.8, 1.0, 1.1])


def test_the_quantile_is_the_ceiling_rank_of_n_plus_one() -> None:
    scores = np.arange(1, 20) / 20  # 19 scores: ceil(20 * 0.9) = the 18th
    assert conformal_quantile(scores, 0.9) == pytest.approx(0.9)
    assert conformal_quantile(scores, 0.95) == pytest.approx(0.95)  # the 19th, the last
    assert [needed_cases(c) for c in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("per", ["class", "marginal"])
def test_coverage_holds_on_exchangeable_cases(score: str, per: str) -> None:
    logits, labels = drawn(24000)
    probs = softmax(logits)
    sets = fit_sets(probs[::2], labels[::2], score=score, per=per, coverage=0.8)  # type: ignore[arg-type]
    found = coverage_of(sets.contain(probs[1::2]), labels[1::2])
    assert found.share >= 0.79
    if per == "class":
        assert found.of_class.min() >= 0.775


def test_average_coverage_over_calibration_sets_is_what_was_promised() -> None:
    """Exactly ceil((n + 1) c) / (n + 1) for 20 cases: 19 / 21 at 0.9."""
    rng, held = np.random.default_rng(0), []
    for _ in range(4000):
        scores = rng.random(21)
        held.append(scores[-1] <= conformal_quantile(scores[:20], 0.9))
    assert np.mean(held) == pytest.approx(19 / 21, abs=0.015)


def test_lac_is_mapie_s() -> None:
    classification = pytest.importorskip("mapie.classification")
    base = pytest.importorskip("sklearn.base")

    class Given(base.ClassifierMixin, base.BaseEstimator):
        """Answers with the probabilities that it is handed as features."""

        def fit(self, features: np.ndarray, labels: np.ndarray) -> "Given":
            self.classes_ = np.arange(features.shape[1])
            self.fitted_ = True
            return self

        def predict_proba(self, features: np.ndarray) -> np.ndarray:
            return features

        def predict(self, features: np.ndarray) -> np.ndarray:
            return features.argmax(axis=1)

    logits, labels = drawn(600)
    probs = softmax(logits)
    given = Given().fit(probs, labels)
    theirs = classification.SplitConformalClassifier(
        given, confidence_level=0.9, conformity_score="lac", prefit=True
    ).conformalize(probs[:300], labels[:300])
    inside = theirs.predict_set(probs[300:])[1][:, :, 0]
    ours = fit_sets(probs[:300], labels[:300], per="marginal", score="lac").contain(probs[300:])
    empty = ~inside.any(axis=1)  # ours always hold the most probable class
    np.testing.assert_array_equal(ours[~empty], inside[~empty])
    assert (ours[empty].sum(axis=1) == 1).all()


def test_a_margin_widens_sets_by_lesions_not_pictures() -> None:
    logits, labels = drawn(3000)
    probs = softmax(logits)
    alone = fit_sets(probs, labels, margin=1)
    shared = fit_sets(probs, labels, margin=1, groups=[str(i // 10) for i in range(3000)])
    plain = fit_sets(probs, labels)
    assert (plain.thresholds <= alone.thresholds).all()
    assert alone.thresholds.sum() < shared.thresholds.sum()


def test_no_margin_makes_the_worst_case_of_nineteen_the_threshold() -> None:
    for n, from_the_worst in ((18, 1), (19, 2), (20, 2), (200, 2)):
        top = np.linspace(0.1, 0.9, n)
        probs = np.stack([top, 1 - top], axis=1)
        sets = fit_sets(probs, np.zeros(n, int), coverage=0.9, margin=10)
        assert sets.thresholds[0] == pytest.approx(1 - top[from_the_worst - 1])


def test_coverage_and_size_by_hand_with_a_last_class_that_has_no_case() -> None:
    inside = np.array([[1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 1, 1]], bool)
    found = coverage_of(inside, np.array([0, 0, 1, 1]))
    assert (found.share, found.size) == (0.75, 2.0)
    np.testing.assert_array_equal(found.of_class, [0.5, 1, np.nan])
    np.testing.assert_array_equal(found.size_of_class, [2, 2, np.nan])
    assert found.cases.tolist() == [2, 2, 0]
    probs = np.tile([0.5, 0.3, 0.2], (20, 1))
    assert fit_sets(probs, np.arange(20) % 2).cases.tolist() == [10, 10, 0]


def test_too_few_cases_are_refused_by_name_with_what_is_needed() -> None:
    logits, labels = drawn(400)
    kept = np.r_[np.flatnonzero(labels == 2)[:8], np.flatnonzero(labels != 2)]
    codes = ("nv", "mel", "df", "bcc", "vasc")
    with pytest.raises(InputError, match=r"truth in 90%: df \(8\); need 9 of each class"):
        fit_sets(softmax(logits[kept]), labels[kept], codes=codes)
    with pytest.raises(InputError, match=r"need one label per case, got \(400, 5\) and 399"):
        fit_sets(softmax(logits), labels[:399])
    with pytest.raises(InputError, match="coverage must be between 0 and 1, got 1"):
        fit_sets(softmax(logits), labels, coverage=1)
    with pytest.raises(InputError, match="no score 'rap'"):
        conformity_scores(softmax(logits), "rap")  # type: ignore[arg-type]
    # Eight cases can promise 80 %.
    assert fit_sets(softmax(logits[kept]), labels[kept], coverage=0.8).cases[2] == 8


def test_what_is_saved_is_what_is_read() -> None:
    logits, labels = drawn(400)
    labels[labels == 3] = 2
    sets = fit_sets(softmax(logits), labels, score="raps")
    again = Sets.from_dict(sets.to_dict())
    assert np.isnan(again.thresholds[3])
    np.testing.assert_array_equal(again.contain(softmax(logits)), sets.contain(softmax(logits)))
    with pytest.raises(InputError, match="no sets by 'x' per 'class'"):
        Sets.from_dict({**sets.to_dict(), "score": "x"})
