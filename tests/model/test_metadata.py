import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.model.metadata import Patient, encode, fit_metadata, raw_columns

SITES = ("back", "face")
PATIENTS = st.builds(
    Patient,
    age=st.none() | st.floats(0, 120),
    sex=st.sampled_from([None, "female", "male"]),
    site=st.sampled_from([None, "back", "face", "ear"]),
)


def drawn_patients(n: int, seed: int = 0) -> list[Patient]:
    rng = np.random.default_rng(seed)
    return [
        Patient(
            age=float(rng.uniform(10, 90)) if rng.random() < 0.9 else None,
            sex=str(rng.choice(["female", "male"])) if rng.random() < 0.9 else None,
            site=str(rng.choice(["back", "face"])),
        )
        for _ in range(n)
    ]


def test_columns_of_one_patient_by_hand() -> None:
    columns = raw_columns([Patient(age=42.5, sex="male", site="face")], SITES)
    assert columns.tolist() == [[0, 0.5, 0.5, 0, 0, 1, 0, 1]]


def test_ages_beyond_the_ends_count_as_the_ends() -> None:
    young, old = raw_columns([Patient(age=3), Patient(age=99)], ())[:, :5]
    assert young.tolist() == [1, 0, 0, 0, 0]
    assert old.tolist() == [0, 0, 0, 0, 1]


@given(st.lists(PATIENTS, min_size=1, max_size=5))
def test_what_is_not_known_adds_nothing(patients: list[Patient]) -> None:
    columns = encode(patients, SITES, np.full(8, 0.3))
    for row, patient in zip(columns, patients, strict=True):
        assert (row[:5] == 0).all() == (patient.age is None)
        assert (row[5] == 0) == (patient.sex is None)
        assert (row[6:] == 0).all() == (patient.site not in SITES)


def test_without_metadata_the_picture_decides_alone() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 8)), rng.integers(8, size=200)
    head = fit_metadata(logits, drawn_patients(200), labels, CODES)
    alone = head.logits(logits, [Patient()] * 200)
    assert np.allclose(alone, head.scale * logits + head.bias)


def test_metadata_alone_agrees_with_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)
    patients = drawn_patients(400)
    old = np.array([p.age is not None and p.age > 50 for p in patients])
    labels = np.where(rng.random(400) < 0.2, rng.integers(3, size=400), old * 1)
    codes = ("nv", "mel", "bkl")
    head = fit_metadata(
        np.zeros((400, 3)), patients, labels, codes, penalty=2.0, balance=0.0, picture=False
    )
    columns = encode(patients, head.sites, head.centre)
    # C is the inverse of the penalty; scikit-learn leaves the intercept free, too.
    theirs = linear.LogisticRegression(C=1 / 2.0, tol=1e-8, max_iter=5000).fit(columns, labels)
    ours = head.logits(np.zeros((400, 3)), patients)
    probs = np.exp(ours) / np.exp(ours).sum(axis=1, keepdims=True)
    assert np.abs(probs - theirs.predict_proba(columns)).max() < 1e-4


def test_a_sign_that_the_picture_lacks_is_learnt() -> None:
    rng = np.random.default_rng(2)
    patients, logits = drawn_patients(600), rng.normal(size=(600, 8))
    labels = np.array([CODES.index("bcc" if p.site == "face" else "nv") for p in patients])
    head = fit_metadata(logits, patients, labels, CODES)
    assert (head.logits(logits, patients).argmax(axis=1) == labels).all()


def test_acne_is_moved_by_no_metadata() -> None:
    rng = np.random.default_rng(3)
    head = fit_metadata(
        rng.normal(size=(300, 8)), drawn_patients(300), rng.integers(7, size=300), CODES
    )
    assert (head.table[:, CODES.index("acne")] == 0).all()
    assert (head.table[:, : CODES.index("acne")] != 0).any()


def test_balance_weighs_rare_classes_more() -> None:
    rng = np.random.default_rng(4)
    labels = (rng.random(2000) < 0.05).astype(int)
    logits = rng.normal(size=(2000, 2)) + 2 * np.eye(2)[labels]
    asked = [Patient()] * 2000
    answered = [
        fit_metadata(logits, asked, labels, ("nv", "mel"), balance=balance)
        .logits(logits, asked)
        .argmax(axis=1)
        .mean()
        for balance in (0.0, 0.5, 1.0)
    ]
    assert answered[0] < answered[1] < answered[2]


def test_every_number_of_a_head_is_saved_in_full(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    patients, logits = drawn_patients(100), rng.normal(size=(100, 8))
    head = fit_metadata(logits, patients, rng.integers(8, size=100), CODES)
    head.save(tmp_path / "metadata.json")
    saved = json.loads((tmp_path / "metadata.json").read_text())
    assert (saved["codes"], saved["sites"]) == ([*CODES], [*head.sites])
    assert saved["scale"] == head.scale
    for name in ("centre", "table", "bias"):
        assert saved[name] == getattr(head, name).tolist()


def test_impossible_patients() -> None:
    with pytest.raises(InputError, match="age must be 0 to 120 years, got 150"):
        Patient(age=150)
    with pytest.raises(InputError, match="sex must be female or male, got 'm'"):
        Patient(sex="m")


def test_one_patient_per_picture() -> None:
    with pytest.raises(InputError, match="got 2 pictures, 1 patients, 2 labels"):
        fit_metadata(np.zeros((2, 8)), [Patient()], np.zeros(2, int), CODES)
    head = fit_metadata(np.zeros((1, 8)), [Patient()], np.zeros(1, int), CODES)
    with pytest.raises(InputError, match="2 pictures, but 1 patients"):
        head.logits(np.zeros((2, 8)), [Patient()])
