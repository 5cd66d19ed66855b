"""What is taken home: one file that needs nothing else, tables that programs can read."""

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace

from PIL import Image
from tests.app.conftest import TRUST, red

from dermx.answers import as_csv
from dermx.app import report, texts
from dermx.app.answer import Answered
from dermx.model.bundle import Bundle
from dermx.predict import Failure
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
    for marked in (True, False):  # not by the name, which a visitor's file may have too
        given = replace(item(assessed(), "drawn_naevus.jpg"), drawn=marked)
        page = report.as_html(given, tiny_bundle, "nv", 0.5)
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


def test_csv_is_the_table_of_the_command_line_under_the_visitor_s_names(
    assessed: Make, tiny_bundle: Bundle
) -> None:
    text = report.as_csv([item(assessed(**TRUST), "=a.jpg")], [("c", "c broke")], tiny_bundle)
    row = replace(assessed(**TRUST), image="=a.jpg")
    assert text == as_csv([row, Failure("c", "c broke")], tiny_bundle.codes)
    assert [line.split(",")[0] for line in text.splitlines()] == ["image", "'=a.jpg", "c"]
