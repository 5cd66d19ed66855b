"""The third page: what the model is, how good it is, and what it must not be used for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import streamlit as st

from dermx.app import texts
from dermx.app.lesion import opened_model
from dermx.app.settings import current
from dermx.model.bundle import CARD, Bundle

SIDE: Final = 300  # pixels of the diagram's square
EDGE: Final = 46  # pixels around it, for words


def show() -> None:
    """Run the page: the card that comes with the model, and how far to believe a percentage."""
    bundle = opened_model(current().model).bundle
    st.html(f'<div class="dx dx-lead"><h1>{texts.ABOUT_TITLE}</h1></div>')
    st.markdown(card_of(bundle))
    st.html(f'<div class="dx"><h2>{texts.RELIABILITY}</h2>{reliability(bundle.figures)}</div>')


def card_of(bundle: Bundle) -> str:
    """The model's card, its heading one step lower than the page's."""
    path = bundle.folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else texts.NO_CARD
    return f"#{text}" if text.startswith("# ") else text


def reliability(figures: Mapping[str, Any]) -> str:
    """Draw how often answers of each confidence were right, if the model's figures say so.

    Args:
        figures: Of a bundle. `reliability`, where there is one, has `confidence`, `accuracy` and
            `counts`, a number per bin (None where a bin is empty), and the `part` measured on.
    """
    found = figures.get("reliability")
    if not isinstance(found, Mapping):
        return f'<p class="dx-quiet">{texts.NO_RELIABILITY}</p>'
    bins = [
        (float(stated), float(right), int(count))
        for stated, right, count in zip(
            found["confidence"], found["accuracy"], found["counts"], strict=True
        )
        if count
    ]
    total = sum(count for _, _, count in bins)
    note = texts.RELIABILITY_HELP.format(cases=f"{total:,}", part=found.get("part", "held-out"))
    return f'{_diagram(bins)}<p class="dx-quiet">{note}</p>'


def _diagram(bins: Sequence[tuple[float, float, int]]) -> str:
    """An SVG: bins as dots, their area by the number of cases, beside the line of honesty."""
    most = max(count for _, _, count in bins)
    dots = "".join(
        f'<circle cx="{EDGE + SIDE * stated:.1f}" cy="{10 + SIDE * (1 - right):.1f}" '
        f'r="{3 + 9 * (count / most) ** 0.5:.1f}" class="dx-dot"><title>stated {stated:.0%}, '
        f"right {right:.0%}, {count} cases</title></circle>"
        for stated, right, count in bins
    )
    ticks = "".join(
        f'<text x="{EDGE + SIDE * share}" y="{SIDE + 28}" text-anchor="middle">{share:.0%}</text>'
        f'<text x="{EDGE - 8}" y="{14 + SIDE * (1 - share)}" text-anchor="end">{share:.0%}</text>'
        for share in (0, 0.5, 1)
    )
    words = "; ".join(f"stated {s:.0%}, right {r:.0%}" for s, r, _ in bins)
    return (
        f'<svg class="dx-svg" role="img" viewBox="0 0 {SIDE + 2 * EDGE} {SIDE + 62}" '
        f'aria-label="Reliability diagram: {words}">'
        f'<rect x="{EDGE}" y="10" width="{SIDE}" height="{SIDE}" class="dx-frame"/>'
        f'<line x1="{EDGE}" y1="{10 + SIDE}" x2="{EDGE + SIDE}" y2="10" class="dx-ideal"/>'
        f"{dots}{ticks}"
        f'<text x="{EDGE + SIDE / 2}" y="{SIDE + 52}" text-anchor="middle">stated</text>'
        f'<text x="14" y="{10 + SIDE / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {10 + SIDE / 2})">right</text></svg>'
    )
