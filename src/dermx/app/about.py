"""The third page: what the model is, how good it is, and what it must not be used for."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dermx.app import texts
from dermx.app.lesion import opened_model
from dermx.app.settings import current
from dermx.model.bundle import CARD, Bundle


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
    """Bins as dots, their area by the number of cases, beside the line of honesty.

    Boxes placed by CSS, since Streamlit takes drawings (SVG) out of the HTML that it is given.
    """
    most = max(count for _, _, count in bins)
    dots = "".join(
        f'<i class="dx-dot" style="left:{stated:.1%};bottom:{right:.1%};'
        f'width:{2 * radius:.1f}px;height:{2 * radius:.1f}px" '
        f'title="stated {stated:.0%}, right {right:.0%}, {count} cases"></i>'
        for stated, right, count in bins
        for radius in [3 + 9 * (count / most) ** 0.5]
    )
    ticks = "".join(
        f'<b style="left:{share}">{share}</b><em style="bottom:{share}">{share}</em>'
        for share in ("0%", "50%", "100%")
    )
    words = "; ".join(f"stated {s:.0%}, right {r:.0%}" for s, r, _ in bins)
    return (
        f'<div class="dx-diagram" role="img" aria-label="Reliability diagram: {words}">'
        f"{dots}{ticks}<b>stated</b><em>right</em></div>"
    )
