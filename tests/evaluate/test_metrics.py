"""Scores agree with scikit-learn and with numbers worked by hand."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from dermx.diagnoses import CODES, DERMOSCOPIC, MALIGNANT
from dermx.errors import InputError
from dermx.evaluate.metrics import (
    accuracy,
    auroc,
    aurocs,
    balanced_accuracy,
    confusion_matrix,
    f1,
    labelled,
    precision,
    recall,
    score,
)
from dermx.records import Predictions

ACNE = CODES.index("acne")


def predicted(labels: np.ndarray, logits: np.ndarray) -> Predictions:
    n = len(labels)
    return Predictions(
        images=[f"i{i}" for i in range(n)],
        groups=[f"g{i}" for i in range(n)],
        labels=np.asarray(labels),
        logits=logits.astype(np.float32),
        features=np.zeros((n, 1), np.float32),
    )


def random_case(seed: int, classes: int = 8, n: int = 200) -> Predictions:
    """Draw cases of the first `classes` classes; logits in steps of 0.5, so there are ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = np.round(2 * rng.normal(size=(n, 8))) / 2
    logits[np.arange(n), labels] += 1
    return predicted(labels, logits)


def answers_only(labels: list[int], answers: list[int]) -> Predictions:
    return predicted(np.array(labels), 5 * np.eye(8)[answers])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [8, 5, 2])
def test_scores_agree_with_scikit_learn(seed: int, classes: int) -> None:
    case = random_case(seed, classes)
    ours, truth, answer = score(case), case.labels, case.probs.argmax(axis=1)
    present = list(range(classes))
    np.testing.assert_array_equal(
        ours.confusion, sk.confusion_matrix(truth, answer, labels=range(8))
    )
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(truth, answer))
    with warnings.catch_warnings():  # it says that some answers are of classes without cases
        warnings.simplefilter("ignore", UserWarning)
        assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, answer))
    p, r, f, _ = sk.precision_recall_fscore_support(
        truth, answer, labels=present, zero_division=np.nan
    )
    for i in present:
        assert ours[f"precision_{CODES[i]}"] == pytest.approx(p[i], nan_ok=True)
        assert ours[f"recall_{CODES[i]}"] == pytest.approx(r[i])
        assert ours[f"f1_{CODES[i]}"] == pytest.approx(f[i])
        assert ours[f"auroc_{CODES[i]}"] == pytest.approx(
            sk.roc_auc_score(truth == i, case.probs[:, i])
        )
    for average in ("macro", "weighted"):
        assert ours[f"{average}_f1"] == pytest.approx(
            sk.f1_score(truth, answer, labels=present, average=average)
        )
    dangerous = [CODES.index(code) for code in MALIGNANT]
    assert ours["malignant_auroc"] == pytest.approx(
        sk.roc_auc_score(np.isin(truth, dangerous), case.probs[:, dangerous].sum(axis=1))
    )


def test_macro_auroc_is_scikit_learns_one_against_the_rest() -> None:
    case = random_case(1)
    assert score(case)["macro_auroc"] == pytest.approx(
        sk.roc_auc_score(case.labels, case.probs, multi_class="ovr", average="macro")
    )


def test_three_classes_by_hand() -> None:
    confusion = np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0]])
    np.testing.assert_allclose(recall(confusion), [0.75, 0.5, np.nan])
    np.testing.assert_allclose(precision(confusion), [1, 2 / 3, 0])
    np.testing.assert_allclose(f1(confusion), [6 / 7, 4 / 7, np.nan])
    assert accuracy(confusion) == pytest.approx(5 / 8)
    assert balanced_accuracy(confusion) == pytest.approx(0.625)


def test_a_class_that_is_never_answered_has_no_precision_but_an_f1_of_zero() -> None:
    confusion = np.array([[4, 0], [1, 0]])
    np.testing.assert_allclose(precision(confusion), [0.8, np.nan])
    assert f1(confusion)[1] == 0


def test_the_headline_counts_an_acne_answer_as_wrong_and_leaves_acne_out() -> None:
    nv, mel = CODES.index("nv"), CODES.index("mel")
    scores = score(answers_only([nv, nv, mel, mel, ACNE, ACNE], [nv, nv, mel, ACNE, ACNE, ACNE]))
    assert scores["balanced_accuracy_dermoscopic"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["balanced_accuracy"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert scores["accuracy_dermoscopic"] == pytest.approx(3 / 4)
    assert scores["accuracy"] == pytest.approx(5 / 6)


def test_perfect_acne_answers_cannot_raise_the_headline() -> None:
    case = random_case(3)
    acne = answers_only([ACNE] * 50, [ACNE] * 50)
    both = predicted(np.append(case.labels, acne.labels), np.vstack([case.logits, acne.logits]))
    name = "balanced_accuracy_dermoscopic"
    assert score(both)[name] == pytest.approx(score(case)[name])
    assert score(both)["balanced_accuracy"] > score(case)["balanced_accuracy"]


def test_classes_without_cases_are_undefined_said_and_in_no_average() -> None:
    scores = score(answers_only([0, 0, 1], [0, 1, 1]))
    assert scores.absent == CODES[2:]
    assert np.isnan([scores[f"{m}_df"] for m in ("recall", "precision", "f1", "auroc")]).all()
    assert scores["balanced_accuracy"] == pytest.approx(0.75)
    assert scores["macro_f1"] == pytest.approx(2 / 3)
    assert scores["macro_auroc"] == pytest.approx(0.75)


def test_one_class_alone_has_no_auroc() -> None:
    scores = score(answers_only([1, 1], [1, 0]))
    assert np.isnan(scores["macro_auroc"])
    assert np.isnan(scores["malignant_auroc"])
    assert scores["accuracy"] == 0.5


def test_auroc_counts_pairs_and_a_tie_counts_half() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.1, 0.5])
    positive = np.array([True, True, False, False, False])
    # pairs: 0.9 wins all three; 0.5 ties two and wins one
    assert auroc(scores, positive) == pytest.approx((3 + 0.5 + 0.5 + 1) / 6)
    assert auroc(np.ones(5), positive) == 0.5


@given(
    arrays(np.int64, 30, elements=st.integers(0, 6)),
    arrays(np.bool_, 30),
    arrays(np.int64, (3, 30), elements=st.integers(0, 3)),
)
def test_weighted_auroc_is_the_auroc_of_repeated_cases(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> None:
    ours = auroc(scores.astype(float), positive, weights.astype(float))
    for value, weight in zip(ours, weights, strict=True):
        repeated = np.repeat(positive, weight)
        if repeated.all() or not repeated.any():
            assert np.isnan(value)
        else:
            assert value == pytest.approx(sk.roc_auc_score(repeated, np.repeat(scores, weight)))


@given(arrays(np.float64, 20, elements=st.floats(-100, 100)), arrays(np.bool_, 20))
def test_auroc_of_the_opposite_question_is_the_complement(
    scores: np.ndarray, positive: np.ndarray
) -> None:
    assume(positive.any() and not positive.all())
    assert auroc(scores, positive) + auroc(scores, ~positive) == pytest.approx(1.0)


def test_malignancy_sums_melanoma_basal_cell_carcinoma_and_actinic_keratosis() -> None:
    probs = np.full((2, 8), 0.05)
    for code in ("mel", "bcc", "akiec"):
        probs[0, CODES.index(code)] = 0.2  # 0.6 in all
    probs[1, CODES.index("nv")] = 0.5
    labels = np.array([CODES.index("akiec"), CODES.index("nv")])
    assert aurocs(probs, labels, CODES)["malignant_auroc"] == 1


def test_stacked_matrices_score_as_each_alone() -> None:
    stack = np.random.default_rng(0).integers(0, 9, (4, 3, 3))
    for function in (accuracy, recall, precision, f1, balanced_accuracy):
        np.testing.assert_allclose(function(stack), [function(one) for one in stack])


def test_confusion_rows_are_the_truth() -> None:
    matrix = confusion_matrix(np.array([0, 0, 0, 2]), np.array([1, 1, 0, 0]), 3)
    np.testing.assert_array_equal(matrix, [[1, 2, 0], [0, 0, 0], [1, 0, 0]])


def test_cases_without_a_label_are_left_out_and_counted() -> None:
    case = random_case(4)
    hidden = case.labels.copy()
    hidden[:50] = -1
    part = score(predicted(hidden, case.logits))
    rest = score(case.select(np.arange(50, 200)))
    assert (part.cases, part.unlabelled, part.groups) == (150, 50, 150)
    assert part.values == rest.values


def test_a_seven_class_model_is_scored_without_acne() -> None:
    case = random_case(5, classes=7)
    seven = Predictions(**vars(case) | {"logits": case.logits[:, :7], "codes": DERMOSCOPIC})
    scores = score(seven)
    assert scores["balanced_accuracy"] == scores["balanced_accuracy_dermoscopic"]
    assert "recall_acne" not in scores.values


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([-1, -1], "none of 2 cases has a known diagnosis: nothing to score"),
        ([0, 8], r"labels must be -1 \(not known\) or 0 to 7, got \[8\]"),
        ([0, -2], r"labels must be -1 \(not known\) or 0 to 7, got \[-2\]"),
        ([], "none of 0 cases has a known diagnosis"),
    ],
)
def test_labels_that_cannot_be_scored_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(predicted(np.array(labels, dtype=int), np.zeros((len(labels), 8))))


def test_logits_of_a_diverged_model_are_refused_by_the_first_cases_name() -> None:
    logits = np.zeros((3, 8))
    logits[1, 4] = np.nan
    with pytest.raises(InputError, match="NaN or infinity, first for i1; the model diverged"):
        labelled(predicted(np.array([0, 1, 2]), logits))
