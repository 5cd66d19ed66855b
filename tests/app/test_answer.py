"""What is said first, what is never said, and why a file is refused."""

from collections.abc import Callable
from threading import Semaphore

import numpy as np
import pytest
from tests.app.conftest import TRUST, encoded, red

from dermx.app import texts
from dermx.app.answer import (
    LONGEST,
    Given,
    answer_picture,
    answers,
    malignant_probability,
    not_ruled_out,
    notices,
    percent,
)
from dermx.assess import Model
from dermx.errors import PictureError
from dermx.model.bundle import Bundle
from dermx.preprocess.reading import ReadLimits
from dermx.records import Assessment

Make = Callable[..., Assessment]
LIMITS = ReadLimits(max_bytes=2**20, max_pixels=1_000_000)


@pytest.fixture(scope="module")
def model(tiny_bundle: Bundle) -> Model:
    return Model(tiny_bundle)


def ask(model: Model, data: bytes, name: str = "a.jpg") -> Assessment:
    return answer_picture(
        Given(id="1", name=name, data=data), model, LIMITS, Semaphore()
    ).assessment


def test_without_trust_parts_the_likeliest_condition_has_a_warning(
    assessed: Make,
) -> None:
    (said,) = notices(assessed())
    assert said.kind == "answer"
    assert said.title == "Melanocytic naevus, 60\u00a0%"
    assert said.text == texts.MEANING["benign"]


def test_a_referral_comes_first_whatever_the_answer_is(assessed: Make) -> None:
    first, second = notices(
        assessed(**{**TRUST, "malignancy": {"probability": 0.14, "refer": True}})
    )
    assert (first.kind, second.kind) == ("refer", "answer")
    assert "14\u00a0%" in first.text


def test_a_referral_comes_before_an_abstention_and_both_are_said(assessed: Make) -> None:
    trust = {**TRUST, "abstain": True, "malignancy": {"probability": 0.3, "refer": True}}
    assert [said.kind for said in notices(assessed(**trust))] == ["refer", "unsure"]


def test_an_abstention_names_no_condition_in_its_title(assessed: Make) -> None:
    assessment = assessed(**{**TRUST, "abstain": True, "message": "It could be x or y."})
    (said,) = notices(assessment)
    assert (said.kind, said.title, said.text) == (
        "unsure",
        texts.UNSURE_TITLE,
        "It could be x or y.",
    )
    assert not answers(assessment)


def test_a_strange_picture_is_called_strange_before_it_is_called_unsure(assessed: Make) -> None:
    assessment = assessed(**{**TRUST, "is_ood": True, "abstain": True, "message": ""})
    (said,) = notices(assessment)
    assert (said.kind, said.text) == ("unfamiliar", texts.UNFAMILIAR)
    assert not_ruled_out(assessment) == []


def test_a_strange_picture_is_referred_only_if_it_is_skin(assessed: Make) -> None:
    trust = {**TRUST, "is_ood": True, "malignancy": {"probability": 0.3, "refer": True}}
    first, second = notices(assessed(**trust))
    assert first.title == texts.REFER_TITLE_UNFAMILIAR
    assert "may mean nothing" in first.text
    assert second.kind == "unfamiliar"


def test_malignancy_is_the_model_s_own_figure_or_the_sum_over_these_classes(assessed: Make) -> None:
    assert malignant_probability(assessed(**TRUST)) == 0.14
    assert malignant_probability(assessed()) == pytest.approx(0.1 + 0.05 + 0.05)  # mel bcc akiec


@pytest.mark.parametrize("value", [0.9951, 0.99999, 0.0049, 0.0])
def test_a_percentage_never_claims_certainty(value: float) -> None:
    assert percent(value)[0] in "<>"


def test_the_page_s_answer_is_that_of_the_command_line(model: Model, phantom_jpeg: bytes) -> None:
    assert ask(model, phantom_jpeg).to_dict() == model.assess(phantom_jpeg).to_dict()


def test_a_large_picture_is_shown_small_and_a_small_one_as_it_is(model: Model) -> None:
    def shown(height: int, width: int) -> tuple[int, ...]:
        given = Given(id="1", name="a.png", data=encoded(red(height, width), "PNG"))
        return answer_picture(given, model, LIMITS, Semaphore()).shown.shape

    assert shown(400, 800) == (LONGEST // 2, LONGEST, 3)
    assert shown(60, 80) == (60, 80, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^scan\.jpg is empty \(0 bytes\)\.$"),
        (b"%PDF-1.7 renamed", r"^scan\.jpg is not a picture in a known format; give JPEG"),
        (encoded(red())[:400], r"^scan\.jpg is truncated or damaged"),
        (b"\xff\xd8\xff" + bytes(2**20), r"^scan\.jpg is larger than 1,048,576 bytes"),
        (
            encoded(np.zeros((1000, 1001), np.uint8), "PNG"),
            r"^scan\.jpg is 1001 x 1000 pixels, more than 1,000,000 in all",
        ),
        (encoded(red(20, 20)), r"^scan\.jpg is 20 x 20 pixels; the shorter side"),
    ],
    ids=["empty", "renamed PDF", "cut off", "too many bytes", "too many pixels", "too small"],
)
def test_a_refusal_is_one_sentence_that_begins_with_the_file(
    model: Model, data: bytes, message: str
) -> None:
    with pytest.raises(PictureError, match=message) as caught:
        ask(model, data, "scan.jpg")
    assert "\n" not in str(caught.value)
