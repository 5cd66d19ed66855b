"""The table of answers: a row per picture, empty where nothing is known, safe in a spreadsheet."""

import csv
import io
from typing import Any

import numpy as np
import pytest

from dermx.answers import TRUST_COLUMNS, Answer, as_csv
from dermx.predict import Failure
from dermx.records import Assessment, View

TRUST = {
    "predictive_entropy": 0.9,
    "mutual_information": 0.04,
    "ood_score": 0.3,
    "is_ood": False,
    "prediction_set": ["nv", "mel"],
    "malignancy": {"probability": 0.14, "refer": True},
    "abstain": False,
    "message": "Most likely melanocytic naevus, says the model.",
}


def assessed(image: str, **trust: Any) -> Assessment:
    return Assessment(
        image=image,
        size=(60, 80),
        probabilities={"nv": 0.75, "mel": 0.25},
        view=View(),
        maps=np.zeros((2, 2, 2), np.float32),
        trust=trust,
    )


def rows(*answers: Answer) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(answers, ("nv", "mel")))))


def test_a_row_holds_probabilities_by_class_and_trust_as_plain_cells() -> None:
    plain, judged, failed = rows(assessed("a"), assessed("b", **TRUST), Failure("c", "c broke"))
    head = ["image", "prediction", "confidence", "nv", "mel"]
    assert list(judged) == [*head, *TRUST_COLUMNS, "error"]
    assert [judged[name] for name in head] == ["b", "nv", "0.75", "0.75", "0.25"]
    assert (judged["is_ood"], judged["prediction_set"], judged["abstain"]) == ("0", "nv mel", "0")
    assert (judged["malignancy"], judged["refer"]) == ("0.14", "1")
    assert judged["message"] == TRUST["message"]
    assert {plain[name] for name in TRUST_COLUMNS} == {""}
    assert plain["mel"] == "0.25"
    assert failed == {**dict.fromkeys(judged, ""), "image": "c", "error": "c broke"}
    assert "\r" not in as_csv([assessed("a")], ("nv", "mel"))  # the same file on every system


def test_without_trust_there_are_no_columns_of_it() -> None:
    (plain,) = rows(assessed("a"))
    assert list(plain) == ["image", "prediction", "confidence", "nv", "mel", "error"]


@pytest.mark.parametrize("name", ["=1+1.jpg", "+a.jpg", "-a.jpg", "@a.jpg"])
def test_a_file_s_name_is_no_formula_in_a_spreadsheet(name: str) -> None:
    good, bad = rows(assessed(name), Failure(name, f"{name} is empty"))
    assert good["image"] == bad["image"] == f"'{name}"
    assert bad["error"] == f"'{name} is empty"
