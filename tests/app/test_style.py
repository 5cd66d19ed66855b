"""Colours: every pair that meets on the page keeps WCAG AA, in light and in dark.

Source: WCAG 2.2, contrast (minimum) 4.5 : 1 for text, non-text contrast 3 : 1; the formula is that
of relative luminance there.
"""

import re

import pytest

from dermx.app import fragments
from dermx.app.server import LOOK

TEXT = [
    ("ink", "paper"), ("ink", "card"), ("ink", "soft"), ("ink", "alert-soft"),
    ("quiet", "paper"), ("quiet", "card"), ("accent", "paper"), ("accent", "card"),
    ("alert", "paper"), ("alert", "alert-soft"), ("premalignant", "paper"),
    ("premalignant", "card"), ("malignant", "paper"), ("malignant", "card"),
]  # fmt: skip
SHAPES = [
    ("benign", "soft"), ("premalignant", "soft"), ("malignant", "soft"), ("faint", "soft"),
    ("alert", "alert-soft"), ("accent", "card"), ("quiet", "paper"),
]  # fmt: skip


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def colours(mode: int) -> dict[str, str]:
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", fragments.style())
    return {name: pair[mode] for name, *pair in found}


def test_the_formula_gives_21_for_black_on_white_and_4_5_for_grey_767676() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back"), TEXT)
def test_text_can_be_read(front: str, back: str, mode: int) -> None:
    assert contrast(colours(mode)[front], colours(mode)[back]) >= 4.5


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back"), SHAPES)
def test_bars_and_frames_can_be_seen(front: str, back: str, mode: int) -> None:
    assert contrast(colours(mode)[front], colours(mode)[back]) >= 3


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_streamlit_s_own_parts_keep_to_the_same_rule(mode: str) -> None:
    paper, ink, frame, accent, card = (
        str(LOOK[f"theme.{mode}.{name}"])
        for name in (
            "backgroundColor", "textColor", "borderColor", "primaryColor",
            "secondaryBackgroundColor",
        )
    )  # fmt: skip
    assert contrast(ink, paper) >= 4.5
    assert contrast(accent, card) >= 4.5
    for back in (paper, card):
        assert contrast(frame, back) >= 3
    ours = colours(("light", "dark").index(mode))
    assert (ours["paper"], ours["ink"], ours["accent"], ours["card"]) == (paper, ink, accent, card)
