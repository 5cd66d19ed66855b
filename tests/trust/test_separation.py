import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.trust.oodfigure import _comparison
from dermx.trust.separation import detector_row, let_in_at, shares_by, threshold_at

SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_auroc_agrees_with_scikit_learn_ties_included(known: list[int], strange: list[int]) -> None:
    row = detector_row(
        np.array(known), np.zeros(len(known)), np.array(strange), ["drawn"] * len(strange),
        codes=CODES, threshold=0,
    )  # fmt: skip
    truth = [0] * len(known) + [1] * len(strange)
    assert row["auroc_drawn"] == pytest.approx(roc_auc_score(truth, known + strange))


@given(SCORES, st.integers(1, 100))
def test_the_threshold_lets_in_what_was_wanted_and_a_lower_one_would_not(
    known: list[int], percent: int
) -> None:
    scores, wanted = np.array(known), percent / 100
    threshold = threshold_at(scores, wanted)
    assert (scores <= threshold).mean() >= wanted - 1e-9
    assert (scores < threshold).mean() < wanted


def test_a_fifth_of_the_strangers_lies_below_95_percent_of_the_known() -> None:
    known, strange = np.arange(100.0), np.array([50.0, 95.0, 96.0, 99.5, 200.0])
    assert threshold_at(known, 0.95) == 94.0
    assert let_in_at(known, strange) == pytest.approx(1 / 5)


def test_rejections_are_counted_by_name() -> None:
    out = np.array([True, False, False, True])
    assert shares_by(out, ["df", "df", "nv", "nv"]) == {"df": (1, 2), "nv": (1, 2)}


def test_a_row_keeps_near_and_far_apart_and_names_every_class() -> None:
    known = np.array([0.0, 1.0, 2.0, 3.0])
    labels = np.array([0, 0, 7, 7])
    row = detector_row(
        known, labels, np.array([2.5, 9.0]), ["clinical", "everyday"], codes=CODES, threshold=2.0
    )
    assert row["auroc_clinical"] == 0.75
    assert row["auroc_everyday"] == 1.0
    assert row["auroc_clinical_acne"] == 0.5  # above 2, below 3
    assert (row["fpr95_clinical"], row["fpr95_everyday"]) == (1.0, 0.0)  # 3.0 lets all known in
    assert (row["let_in_clinical"], row["rejected_acne"]) == (0.0, 0.5)
    assert row["rejected_df"] is None


def test_clinical_strangers_are_set_against_acne_and_let_in_at_the_threshold() -> None:
    known, labels = np.array([9.0, 2.0, 3.0]), np.array([0, 7, 7])
    row = detector_row(
        known, labels, np.array([2.5, 4.0]), ["clinical"] * 2, codes=CODES, threshold=2.5
    )
    assert row["auroc_clinical_acne"] == 0.75  # three of four pairs; against all known, 3 of 6
    assert row["auroc_clinical"] == 0.5
    assert row["let_in_clinical"] == 0.5  # what is at the threshold is let in


def test_no_known_case_and_no_share_are_refused() -> None:
    with pytest.raises(InputError, match="no known case to set a threshold with"):
        threshold_at(np.zeros(0), 0.95)
    for share in (0, 1.5):
        with pytest.raises(InputError, match=rf"in \(0, 1\], got {share}"):
            threshold_at(np.zeros(2), share)


def test_a_score_that_is_always_wrong_is_drawn_as_the_others_are() -> None:
    axes = Figure().add_subplot()
    _comparison(axes, [{"detector": "one", "auroc_drawn": 0.0}, {"detector": "two"}])
    assert list(axes.get_lines()[0].get_xdata()) == [0.0]
    assert axes.get_xlim()[0] < 0
