"""What does a visitor take home? One HTML file per picture; JSON and CSV for many.

The HTML needs no other file, no script and no network, prints on one or two sheets, and holds
freshly encoded pictures without EXIF data.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape

from dermx import __version__, answers
from dermx.app import fragments, texts
from dermx.app.answer import Answered
from dermx.app.drawing import class_map, cut_off, data_uri, mapped
from dermx.diagnoses import BY_CODE
from dermx.frame import framed
from dermx.model.bundle import Bundle
from dermx.predict import Failure

Refused = tuple[str, str]  # a file's name and why it was not taken


def as_html(item: Answered, bundle: Bundle, code: str, opacity: float) -> str:
    """Return the report on one picture.

    Args:
        item: The picture and its answer.
        bundle: The model that gave it.
        code: The class whose map is shown.
        opacity: Of the map's colours, in [0, 1].
    """
    assessment, name = item.assessment, BY_CODE[code].name
    mark = texts.DRAWN_MARK if item.drawn else "Picture"
    original = fragments.picture(data_uri(item.shown), "The picture that was assessed", mark)
    caption = f"{texts.MAP_TITLE}: what speaks for {name}"
    if not class_map(assessment, code).any():
        caption = texts.MAP_EMPTY
    overlaid = data_uri(mapped(item.shown, assessment, code, opacity))
    heat = fragments.picture(overlaid, f"Heat map for {name}", caption)
    help_text = texts.MAP_HELP + (f" {texts.OUTSIDE}" if cut_off(item.shown, assessment) else "")
    read = "".join(f"<li>{escape(note)}</li>" for note in assessment.notes)
    notes = f"<h3>How the picture was read</h3><ul>{read}</ul>" if read else ""
    facts = {
        "Picture": f"{item.name}, {assessment.size[1]} × {assessment.size[0]} pixels",
        "Model": f"{bundle.name}, made {bundle.created or 'at an unknown time'}",
        "Program": f"{texts.NAME} {__version__}",
        "Report of": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    listed = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    body = (
        f"<header><h1>{escape(item.name)}</h1>",
        f"<p class='dx-strip'>{texts.DISCLAIMER}</p></header>",
        fragments.verdict(assessment),
        fragments.pair((original, heat)),
        fragments.legend(opacity),
        f"<p class='dx-quiet'>{help_text}</p>",
        fragments.bars(assessment),
        fragments.trust(assessment, unfolded=True),
        notes,
        f"<div class='dx'><dl class='dx-facts'>{listed}</dl></div>",
        f"<footer>{texts.DISCLAIMER} {texts.ADVICE}</footer>",
    )
    return framed(item.name, body, fragments.style(), name="dx-report")


def as_json(answered: Sequence[Answered], refused: Sequence[Refused], bundle: Bundle) -> str:
    """Return the list that `dermx predict --json` prints, with the model's name on each answer."""
    rows: list[dict[str, object]] = [
        {**item.assessment.to_dict(), "image": item.name, "model": bundle.name} for item in answered
    ]
    rows += [{"image": name, "error": reason} for name, reason in refused]
    return json.dumps(rows, indent=2) + "\n"


def as_csv(answered: Sequence[Answered], refused: Sequence[Refused], bundle: Bundle) -> str:
    """Return the table of `dermx predict --csv`, under the visitor's names."""
    read = [replace(item.assessment, image=item.name) for item in answered]
    return answers.as_csv([*read, *(Failure(*why) for why in refused)], bundle.codes)
