"""Pieces of HTML: nothing from outside is taken for HTML, and an abstention looks like one."""

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from tests.app.conftest import TRUST, red

from dermx.app import fragments, texts
from dermx.app.answer import Answered
from dermx.diagnoses import BY_CODE, CODES
from dermx.records import Assessment

Make = Callable[..., Assessment]
NASTY = "<script>alert('x')</script>&\".jpg"


class Tags(HTMLParser):
    """Which tags a piece opens and closes, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def pieces(assessment: Assessment, name: str) -> list[str]:
    item = Answered(id="1", name=name, assessment=assessment, shown=red())
    return [
        fragments.verdict(assessment),
        fragments.bars(assessment),
        fragments.trust(assessment),
        fragments.picture("data:,", name, name),
        fragments.legend(0.5),
        fragments.overview([item]),
        fragments.refusals([name]),
    ]


@pytest.mark.parametrize("trust", [{}, {**TRUST, "message": NASTY}, {**TRUST, "is_ood": True}])
def test_every_piece_is_well_formed_and_runs_nothing(assessed: Make, trust: dict) -> None:
    for piece in pieces(assessed(**trust), NASTY):
        tags = Tags(piece)
        assert tags.open == []
        assert "script" not in tags.names


def test_every_class_is_listed_likeliest_first_with_how_dangerous_it_is(assessed: Make) -> None:
    said = "".join(Tags(fragments.bars(assessed())).said)
    places = [said.index(BY_CODE[code].name) for code in CODES]
    assert places == sorted(places)
    assert said.count("benign") == 6  # five classes, and "benign keratosis" in its name
    assert said.count("pre-malignant") == 1


def test_the_legend_has_the_map_s_colours_on_the_same_ground_in_light_and_dark() -> None:
    piece = fragments.legend(0.25)
    stops = re.findall(r"rgb\(\d+ \d+ \d+ / ([\d.]+)\)", piece)
    assert stops == ["0.25"] * 9
    assert "opacity" not in piece  # it would let the page through, and that may be dark
    assert re.search(r"\.dx-legend i {[^}]*background-color: #\w{6};", fragments.style())


def test_the_prediction_set_is_marked_only_where_the_model_has_one(assessed: Make) -> None:
    assert fragments.bars(assessed(**TRUST)).count(texts.IN_SET) == 1  # besides the answer itself
    unsure = {**TRUST, "abstain": True}
    assert fragments.bars(assessed(**unsure)).count(texts.IN_SET) == 2
    assert texts.IN_SET not in fragments.bars(assessed())


def test_an_abstention_is_drawn_faint_and_called_no_answer(assessed: Make) -> None:
    piece = fragments.bars(assessed(**{**TRUST, "abstain": True}))
    assert "dx-faint" in piece
    assert texts.PROBABILITIES_ABSTAINED in piece
    assert "dx-chip" not in fragments.verdict(assessed(**{**TRUST, "abstain": True}))


def test_a_model_without_trust_parts_says_so_and_shows_no_figure_it_lacks(assessed: Make) -> None:
    without, with_parts = fragments.trust(assessed()), fragments.trust(assessed(**TRUST))
    assert texts.NO_TRUST in without
    assert texts.ENTROPY not in without
    for text in (texts.ENTROPY, texts.MUTUAL, texts.OOD_SCORE, texts.CALIBRATED):
        assert text in with_parts
    assert texts.NO_TRUST not in with_parts


def test_a_part_that_is_missing_is_left_out_and_the_others_stay(assessed: Make) -> None:
    piece = fragments.trust(assessed(predictive_entropy=0.5))
    assert texts.ENTROPY in piece
    assert texts.OOD_SCORE not in piece


def test_a_referral_is_announced_and_an_answer_is_not(assessed: Make) -> None:
    refer = {**TRUST, "malignancy": {"probability": 0.4, "refer": True}}
    assert 'role="alert"' in fragments.verdict(assessed(**refer))
    assert 'role="alert"' not in fragments.verdict(assessed(**TRUST))


def test_a_strange_picture_has_no_figure_of_malignancy_but_one_that_refers(assessed: Make) -> None:
    strange = {**TRUST, "is_ood": True}
    assert "14\u00a0%" not in fragments.trust(assessed(**strange))
    assert texts.NOT_FOR_THIS in fragments.trust(assessed(**strange))
    refers = {**strange, "malignancy": {"probability": 0.14, "refer": True}}
    assert "14\u00a0%" in fragments.trust(assessed(**refers))
