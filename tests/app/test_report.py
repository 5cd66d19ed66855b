"""What is taken home: one file that needs nothing else, tables that programs can read."""

import base64
import csv
import io
import json
import re
from collections.abc import Callable

import pytest
from PIL import Image
from tests.app.conftest import TRUST, red

from dermx.app import report, texts
from dermx.app.answer import Answered
from dermx.diagnoses import CODES
from dermx.model.bundle import Bundle
from dermx.records import Assessment

Make = Callable[..., Assessment]


def item(assessment: Assessment, name: str = "spot.jpg") -> Answered:
    return Answered(id="1", name=name, assessment=assessment, shown=red())


def test_the_report_needs_no_other_file_and_has_two_pictures_without_metadata(
    assessed: Make, tiny_bundle: Bundle
) -> None:
    page = report.as_html(item(assessed(**TRUST)), tiny_bundle, "nv", 0.5)
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    sources = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(sources) == len(re.findall("<img", page)) == 2
    for source in sources:
        assert not Image.open(io.BytesIO(base64.b64decode(source))).getexif()


def test_the_report_says_model_version_class_and_what_it_is_not(
    assessed: Make, tiny_bundle: Bundle
) -> None:
    page = report.as_html(item(assessed(**TRUST), "<b>.jpg"), tiny_bundle, "mel", 0.5)
    assert page.count(texts.DISCLAIMER) == 2  # at the top and at the end
    assert tiny_bundle.name in page
    assert texts.MAP_EMPTY in page  # nothing speaks for mel in this answer
    assert "&lt;b&gt;.jpg" in page
    assert "<b>.jpg" not in page
    assert TRUST["message"] in page


def test_a_drawn_example_says_so_in_its_report(assessed: Make, tiny_bundle: Bundle) -> None:
    for name, marked in (("drawn_naevus.jpg", True), ("spot.jpg", False)):
        page = report.as_html(item(assessed(), name), tiny_bundle, "nv", 0.5)
        assert (texts.DRAWN_MARK in page) is marked


def test_json_is_the_list_of_the_command_line_under_the_visitor_s_names(
    assessed: Make, tiny_bundle: Bundle
) -> None:
    text = report.as_json(
        [item(assessed(**TRUST))], [("x.pdf", "x.pdf is no picture.")], tiny_bundle
    )
    first, second = json.loads(text)
    assert first == {**assessed(**TRUST).to_dict(), "image": "spot.jpg", "model": tiny_bundle.name}
    assert second == {"image": "x.pdf", "error": "x.pdf is no picture."}


def test_csv_leaves_empty_what_a_model_does_not_give(assessed: Make, tiny_bundle: Bundle) -> None:
    answered = [item(assessed(), "a.jpg"), item(assessed(**TRUST), "b.jpg")]
    rows = list(
        csv.DictReader(io.StringIO(report.as_csv(answered, [("c", "c broke")], tiny_bundle)))
    )
    assert [row["image"] for row in rows] == ["a.jpg", "b.jpg", "c"]
    assert rows[0]["is_ood"] == rows[0]["prediction_set"] == ""
    assert (rows[1]["is_ood"], rows[1]["prediction_set"]) == ("False", "nv mel")
    assert (rows[1]["malignancy_probability"], rows[1]["refer"]) == ("0.14", "False")
    assert sum(float(rows[0][code]) for code in CODES) == pytest.approx(1)
    assert rows[2]["error"] == "c broke"
    assert rows[2]["prediction"] == ""


@pytest.mark.parametrize("name", ["=1+1.jpg", "+a.jpg", "-a.jpg", "@a.jpg"])
def test_a_file_s_name_is_no_formula_in_a_spreadsheet(
    assessed: Make, tiny_bundle: Bundle, name: str
) -> None:
    text = report.as_csv([item(assessed(), name)], [], tiny_bundle)
    assert text.splitlines()[1].startswith(f"'{name},")
