"""Figures by sex, age and site, worked by hand."""

from pathlib import Path

import numpy as np
import pytest

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.evaluate.subgroups import Subgroup, age_band, by_subgroup
from dermx.records import Case, Predictions


def case(i: int, sex: str | None, age: float | None, site: str | None) -> Case:
    return Case(
        image=f"p{i}", path=Path(f"p{i}.jpg"), diagnosis="nv", lesion=f"l{i}", group=f"l{i}",
        source="ham10000", age=age, sex=sex, site=site,
    )  # fmt: skip


CASES = [
    case(0, "female", 20, "back"),
    case(1, "female", 44, "back"),
    case(2, "female", 45, "face"),
    case(3, "male", 80, "back"),
    case(4, "male", 80, "face"),
    case(5, None, None, None),
]
TRUTH = ["nv", "nv", "mel", "mel", "nv", "nv"]
ANSWERED = ["nv", "nv", "mel", "nv", "nv", "mel"]


@pytest.fixture
def predictions() -> Predictions:
    logits = np.eye(len(CODES), dtype=np.float32)[[CODES.index(code) for code in ANSWERED]]
    return Predictions(
        images=[c.image for c in CASES],
        groups=[c.group for c in CASES],
        labels=np.array([CODES.index(code) for code in TRUTH]),
        logits=logits,
        features=np.zeros((6, 1), np.float32),
    )


def found(predictions: Predictions) -> dict[tuple[str, str], Subgroup]:
    rows = by_subgroup(predictions, CASES, n_boot=100)
    return {(row.attribute, row.value): row for row in rows}


@pytest.mark.parametrize("age", [-1, 121, 150.5])
def test_an_age_that_nobody_reaches_is_named(age: float) -> None:
    assert (age_band(0), age_band(120)) == ("under 30", "75 and over")
    with pytest.raises(InputError, match=f"an age must be from 0 to 120 years, got {age:g}"):
        age_band(age)


def test_figures_by_hand(predictions: Predictions) -> None:
    """Of the men's and the unknown's naevi one of two is found, of the men's melanomas none."""
    female, male = (found(predictions)["sex", sex] for sex in ("female", "male"))
    assert (female.cases, female.lesions, female.melanomas) == (3, 3, 1)
    assert female.accuracy[0] == 1
    assert female.expected == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert female.gap[0] == pytest.approx(2 / 3)
    assert female.recall_mel == (1, 1, 1)
    assert male.accuracy[0] == 0.5
    assert male.expected == pytest.approx((1 + 2 / 3) / 2)
    assert male.gap[0] == pytest.approx(0.5 - male.expected)
    assert male.recall_mel[0] == 0


def test_every_attribute_holds_every_case_once(predictions: Predictions) -> None:
    rows = found(predictions)
    for attribute in ("sex", "age", "site"):
        of_it = [row for (name, _), row in rows.items() if name == attribute]
        assert sum(row.cases for row in of_it) == len(CASES)


def halves(
    labels: np.ndarray, right: np.ndarray, female: np.ndarray
) -> tuple[Predictions, list[Case]]:
    """Naevi (0) and melanomas (1), each a lesion, answered rightly or as the other."""
    cases = [case(i, "female" if one else "male", 50, "back") for i, one in enumerate(female)]
    logits = np.eye(len(CODES), dtype=np.float32)[np.where(right, labels, 1 - labels)]
    said = Predictions(
        images=[c.image for c in cases], groups=[c.group for c in cases], labels=labels,
        logits=logits, features=np.zeros((len(cases), 1), np.float32),
    )  # fmt: skip
    return said, cases


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_without_a_difference_about_one_interval_in_twenty_misses_zero(share: float) -> None:
    missed = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 600)
        right = rng.random(600) < np.array([0.9, 0.6])[labels]
        female = rng.random(600) < share * np.array([1.2, 0.8])[labels]  # another mix
        rows = by_subgroup(*halves(labels, right, female), n_boot=200)
        missed += [not row.gap[1] <= 0 <= row.gap[2] for row in rows if row.attribute == "sex"]
    assert 0.02 < np.mean(missed) < 0.09


def test_the_seed_draws_the_lesions_of_every_interval() -> None:
    rng = np.random.default_rng(0)
    labels, right, female = rng.integers(0, 2, 60), rng.random(60) < 0.7, rng.random(60) < 0.5
    said, cases = halves(labels, right, female)
    first, again, other = (by_subgroup(said, cases, n_boot=50, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again
    for name in ("accuracy", "gap", "recall_mel"):
        assert getattr(first, name)[0] == getattr(other, name)[0]
        assert getattr(first, name)[1:] != getattr(other, name)[1:], name


def test_a_diagnosis_that_no_other_case_has_is_in_neither_side_of_the_gap() -> None:
    # Women: two naevi, one found, and a melanoma that is found; men: two naevi, both found.
    labels, right = np.array([0, 0, 1, 0, 0]), np.array([1, 0, 1, 1, 1], bool)
    said, cases = halves(labels, right, np.array([1, 1, 1, 0, 0], bool))
    female, male, everyone, *_ = by_subgroup(said, cases, n_boot=50)
    assert (female.expected, female.gap[0]) == (1, -0.5)
    assert female.accuracy[0] == pytest.approx(2 / 3)
    assert (male.expected, male.gap[0]) == (0.5, 0.5)
    assert everyone.value == "45 to 59"  # nobody is outside to compare with
    assert np.isnan([everyone.expected, *everyone.gap]).all()


def test_the_order_is_by_age_and_by_size_with_the_unknown_last(predictions: Predictions) -> None:
    names = list(found(predictions))
    assert names == [
        ("sex", "female"), ("sex", "male"), ("sex", "not known"),
        ("age", "under 30"), ("age", "30 to 44"), ("age", "45 to 59"), ("age", "75 and over"),
        ("age", "not known"), ("site", "back"), ("site", "face"), ("site", "not known"),
    ]  # fmt: skip


def test_a_group_without_melanoma_has_no_recall(predictions: Predictions) -> None:
    assert np.isnan(found(predictions)["age", "under 30"].recall_mel).all()


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (0, "under 30"),
        (29.5, "under 30"),
        (30, "30 to 44"),
        (75, "75 and over"),
        (120, "75 and over"),
    ],
)
def test_bands_hold_their_lower_end(age: float, band: str) -> None:
    assert age_band(age) == band


def test_a_case_that_is_not_in_the_table_is_refused(predictions: Predictions) -> None:
    with pytest.raises(InputError, match="2 predicted cases are not in the table, first p4"):
        by_subgroup(predictions, CASES[:4])
