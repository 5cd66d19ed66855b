"""The reliability diagram: dots where the figures say, and silence where there are none."""

import re

from dermx.app import about, texts

FIGURES = {
    "part": "test",
    "confidence": [None, 0.5, 0.75, 1.0],
    "accuracy": [None, 0.5, 0.5, 1.0],
    "counts": [0, 4, 16, 1],
}


def test_a_dot_lies_where_stated_and_right_cross() -> None:
    drawn = about.reliability({"reliability": FIGURES})
    dots = re.findall(r"left:([\d.]+)%;bottom:([\d.]+)%;width:([\d.]+)px", drawn)
    assert [(float(x), float(y)) for x, y, _ in dots] == [(50, 50), (75, 50), (100, 100)]
    sizes = [float(width) for _, _, width in dots]
    assert sizes[1] > sizes[0] > sizes[2]  # 16, 4 and 1 cases


def test_the_diagram_is_told_in_words_too_with_its_number_of_cases() -> None:
    drawn = about.reliability({"reliability": FIGURES})
    assert "stated 75%, right 50%" in drawn
    assert "21 pictures of the test part" in drawn


def test_a_model_without_the_figures_gets_no_invented_diagram() -> None:
    assert about.reliability({"cases": 3}) == f'<p class="dx-quiet">{texts.NO_RELIABILITY}</p>'
