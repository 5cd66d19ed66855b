"""The table of changed pictures, with a model worked by hand."""

import numpy as np
import pytest

from dermx.diagnoses import CODES, DERMOSCOPIC
from dermx.errors import InputError
from dermx.evaluate.stress import STRESS, Change, Stressed, stress, stress_csv
from dermx.preprocess.shift import SHIFTS
from dermx.records import Predictions

LABELS = np.array([CODES.index(code) for code in DERMOSCOPIC] * 2)


def answered(right: np.ndarray) -> Predictions:
    """Fourteen cases, two of each dermoscopic class; the wrong ones are called acne."""
    answers = np.where(right, LABELS, CODES.index("acne"))
    return Predictions(
        images=[f"image {i}" for i in range(14)],
        groups=[f"lesion {i}" for i in range(14)],
        labels=LABELS,
        logits=np.eye(len(CODES), dtype=np.float32)[answers],
        features=np.zeros((14, 1), np.float32),
    )


ALL = answered(np.ones(14, bool))


def test_rows_are_as_taken_then_each_change_then_their_mean() -> None:
    calls = []

    def predict(change: Change) -> Predictions:
        calls.append(change)
        return answered(np.arange(14) >= 7 * (len(calls) % 2))  # one of two right, then both

    rows = list(stress(ALL, predict, changes=("blur", "crop"), severities=(1, 5)))
    names = [(row.change, row.severity) for row in rows]
    assert names == [
        ("none", 0),
        ("blur", 1),
        ("blur", 5),
        ("crop", 1),
        ("crop", 5),
        ("mean", None),
    ]
    assert [row.balanced_accuracy_dermoscopic for row in rows] == [1, 0.5, 1, 0.5, 1, 0.75]
    assert [row.recall_mel for row in rows] == [1, 0.5, 1, 0.5, 1, 0.75]
    assert {row.cases for row in rows} == {14}


def test_each_change_is_the_one_its_row_names() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    changed = []

    def predict(change: Change) -> Predictions:
        changed.append(change(picture))
        return ALL

    list(stress(ALL, predict, changes=("crop", "vignette"), severities=(2, 5)))
    assert [one.shape[0] for one in changed] == [54, 42, 60, 60]
    assert changed[3].mean() < changed[2].mean() < picture.mean()


def test_a_melanoma_lost_counts_in_both_figures() -> None:
    lost = np.ones(14, bool)
    lost[DERMOSCOPIC.index("mel")] = False
    row, *_ = stress(answered(lost), lambda _: ALL, changes=("blur",), severities=(1,))
    assert row.recall_mel == 0.5
    assert row.balanced_accuracy_dermoscopic == pytest.approx(6.5 / 7)


def test_the_standard_changes_are_known_ones() -> None:
    assert set(STRESS) <= set(SHIFTS)
    assert len(list(stress(ALL, lambda _: ALL))) == 1 + 6 * 5 + 1


def test_the_table_by_hand() -> None:
    rows = [
        Stressed("none", 0, 14, 1.0, 0.5, float("nan")),
        Stressed("mean", None, 14, 2 / 3, 0.25, 0.875),
    ]
    assert stress_csv(rows) == (
        "change,severity,cases,balanced_accuracy_dermoscopic,recall_mel,malignant_auroc\n"
        "none,0,14,1.0000,0.5000,\n"
        "mean,,14,0.6667,0.2500,0.8750\n"
    )


@pytest.mark.parametrize("given", [{"changes": ()}, {"severities": ()}])
def test_nothing_to_change_is_refused(given: dict[str, tuple[()]]) -> None:
    with pytest.raises(InputError, match="nothing to change, got"):
        list(stress(ALL, lambda _: ALL, **given))
