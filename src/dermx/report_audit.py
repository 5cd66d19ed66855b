"""What came out of an audit? The same numbers as JSON and as one page, with plain sentences.

`write_audit` writes `audit.json` and `audit.html`, each whole or not at all.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from dermx.diagnoses import BY_CODE
from dermx.evaluate.intervals import Estimate, mean_interval
from dermx.evaluate.subgroups import Subgroup
from dermx.explain.audit import (
    MEASURES,
    MIDDLE,
    OURS,
    WANTED_RATIO,
    Audit,
    Curves,
    as_dict,
    by_class,
    by_map,
    findings,
)
from dermx.explain.sanity import PASSES_BELOW
from dermx.explain.shortcuts import FIGURES, Called, Shortcut
from dermx.frame import DISCLAIMER, framed, report_style
from dermx.records import write_whole

STYLE: Final = "li { margin: .35rem 0; } ul { margin: 0; padding-left: 1.2rem; }\n"


def write_audit(folder: Path, audit: Audit) -> Path:
    """Write `audit.json` and `audit.html` into a folder, which is made where it is missing.

    Returns:
        The page.
    """
    from dermx.evaluate.figures import png  # here: answering needs no matplotlib
    from dermx.explain import figures

    drawn = {
        "Deletion and insertion": figures.curves_figure(audit.curves.maps),
        "Weights drawn afresh": figures.sanity_figure(
            [
                (share, mean_interval(found, audit.sanity.groups))
                for share, found in audit.sanity.stages
            ],
            mean_interval(audit.sanity.other_picture, audit.sanity.groups)[0],
        ),
    }
    if audit.shortcuts:
        drawn["Balanced accuracy under every change"] = figures.shortcuts_figure(audit.shortcuts)
    if audit.examples:
        drawn["What was changed"] = figures.examples_figure(audit.examples)
    pictures = {name: png(figure) for name, figure in drawn.items()}
    content = json.dumps(as_dict(audit), indent=2, allow_nan=False) + "\n"
    page = as_page(audit, pictures)
    for name, text in {"audit.json": content, "audit.html": page}.items():
        with write_whole(folder / name) as file:
            file.write(text.encode())
    return folder / "audit.html"


def as_page(audit: Audit, pictures: Mapping[str, bytes]) -> str:
    """Return one HTML page that needs no other file, no script and no network."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in findings(audit))
    body = [
        f"<header><h1>{escape(audit.title)}</h1>",
        '<p class="quiet">Are the maps true, and what does the model lean on?</p></header>',
        _tiles(audit),
        _section("In plain words", f"<ul>{lines}</ul>"),
        _section(
            "Do the maps show what decides?",
            _figure(pictures["Deletion and insertion"], "Deletion and insertion curves"),
            _faithful_table(audit.curves),
            f"{len(audit.curves.groups)} lesions, every class alike as far as there are, one "
            "picture each; the watched probability is that of the answer. Deletion blurs the "
            "most marked cells first, insertion starts from the blurred picture. "
            "Read the maps beside each other, not the areas alone.",
        ),
    ]
    if audit.located:
        body.append(
            _section(
                "Are the maps on the lesion?",
                _located_table(audit),
                "Energy: share of the map on the lesion as outlined by people. Ratio: that over "
                "the lesion's share of what the model sees; 1 knows nothing.",
            )
        )
    body.append(
        _section(
            "Do the maps depend on what was learnt?",
            _figure(
                pictures["Weights drawn afresh"], "Rank correlation after drawing weights afresh"
            ),
            f"{len(audit.sanity.groups)} pictures, {audit.sanity.draws} draws each. Passes when "
            f"the interval's upper end is below {PASSES_BELOW} with everything drawn afresh.",
        )
    )
    if audit.shortcuts:
        body.append(
            _section(
                "What does the model lean on?",
                _figure(pictures["Balanced accuracy under every change"], "Accuracy by change"),
                _shortcut_table(audit.shortcuts),
                _guessing(audit.shortcuts[0].classes),
            )
        )
    if "What was changed" in pictures:
        body.append(
            _section("What was changed", _figure(pictures["What was changed"], "Changed pictures"))
        )
    if audit.acne:
        body.append(_section("What is called acne?", _acne_table(audit.acne)))
    if audit.subgroups:
        body.append(
            _section(
                "Is it as good for everyone?",
                _subgroup_table(audit.subgroups),
                "Expected: the accuracy if each diagnosis of the group were found as often as in "
                "all other pictures. Dermoscopic pictures. Under about 20 lesions an interval is "
                "too narrow to trust. Skin colour is not recorded in HAM10000.",
            )
        )
    facts = "".join(
        f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in audit.facts.items()
    )
    body.append(
        f'<section class="facts"><h2>What this rests on</h2><dl>{facts}</dl><p>Intervals are 95 % '
        f"percentile bootstrap intervals over lesions (patients for photographs); seed "
        f"{audit.seed}.</p></section><footer>{DISCLAIMER}</footer>"
    )
    return framed(audit.title, body, report_style() + STYLE)


def _guessing(classes: int) -> str:
    return (
        f"Guessing reaches a balanced accuracy of 1/{classes} = {1 / classes:.3f}. Changed "
        "pictures are unlike those that were trained on: what stays is stronger evidence than "
        "what falls."
    )


def _tiles(audit: Audit) -> str:
    tiles = []
    if audit.located:
        ratio = by_map(audit, OURS).ratio
        tiles.append(("Map on the lesion", f"{ratio[0]:.2f} ×", ratio,
                      f"its share of the picture; aimed for: {WANTED_RATIO}"))  # fmt: skip
    for measure in ("deletion", "insertion"):
        gain = audit.curves.gain(measure, MIDDLE)
        tiles.append((f"{measure.capitalize()}, beside the middle", f"{gain[0]:+.3f}", gain,
                      "above 0: the map beats a centred spot"))  # fmt: skip
    verdict = {True: "passes", False: "fails", None: "can't be made"}[audit.sanity.passes]
    last = audit.sanity.last
    tiles.append((f"Sanity check {verdict}", "n/a" if math.isnan(last[0]) else f"{last[0]:.2f}",
                  last, "correlation left when all weights are drawn afresh"))  # fmt: skip
    made = "".join(
        f"<div><h2>{escape(name)}</h2><p class='big'>{value}</p><p>{_interval(ends)} "
        f"<small>{'' if math.isnan(ends[1]) else '95 %'}</small></p>"
        f"<p class='quiet'>{escape(text)}</p></div>"
        for name, value, ends, text in tiles
    )
    return f'<section class="tiles">{made}</section>'


def _faithful_table(curves: Curves) -> str:
    heads = [label for label, _, _ in MEASURES.values()]
    rows = [
        [name, *(_cell(curves.estimate(name, measure)) for measure in MEASURES)]
        for name in curves.maps
    ]
    rows += [
        [f"better than {rival} by", *(_cell(curves.gain(measure, rival)) for measure in MEASURES)]
        for rival in curves.maps
        if rival != OURS
    ]
    return _table(["map", *heads], rows)


def _located_table(audit: Audit) -> str:
    rows = []
    for name in audit.located:
        one = by_map(audit, name)
        rows.append([f"{name}, all", str(one.pictures), *map(_cell, one[1:5])])
    for code, one in by_class(audit, OURS).items():
        rows.append([f"{OURS}, {BY_CODE[code].name}", str(one.pictures), *map(_cell, one[1:5])])
    heads = ["map", "pictures", "highest point on the lesion", "energy", "lesion's share", "ratio"]
    return _table(heads, rows)


def _shortcut_table(rows: Sequence[Shortcut]) -> str:
    return _table(
        ["change", "accuracy", f"balanced, {rows[0].classes} classes", "melanoma recall",
         "other answers", "others called melanoma"],
        [[row.change, *(_cell(row.figures[name]) for name in FIGURES),
          _cell(row.other_answers), _cell(row.called_mel)] for row in rows],
    )  # fmt: skip


def _acne_table(rows: Sequence[Called]) -> str:
    return _table(
        ["pictures of", "pictures", "called acne"],
        [[row.kind, str(row.pictures), _cell(row.share)] for row in rows],
    )


def _subgroup_table(rows: Sequence[Subgroup]) -> str:
    return _table(
        ["group", "pictures", "lesions", "accuracy", "expected", "gap", "melanomas",
         "melanoma recall"],
        [[f"{row.attribute}: {row.value}", str(row.cases), str(row.lesions), _cell(row.accuracy),
          "n/a" if math.isnan(row.expected) else f"{row.expected:.3f}", _cell(row.gap),
          str(row.melanomas), _cell(row.recall_mel)]
         for row in rows],
    )  # fmt: skip


def _section(heading: str, *parts: str) -> str:
    body = "".join(
        part if part.startswith("<") else f'<p class="quiet">{escape(part)}</p>' for part in parts
    )
    return f"<section><h2>{escape(heading)}</h2>{body}</section>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th scope=col>{escape(text)}</th>" for text in heads)
    body = "".join(
        f"<tr><th scope=row>{escape(first)}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _figure(content: bytes, text: str) -> str:
    data = base64.b64encode(content).decode()
    return f"<figure><img alt='{escape(text)}' src=\"data:image/png;base64,{data}\"></figure>"


def _cell(estimate: Estimate) -> str:
    if math.isnan(estimate[0]):
        return "n/a"
    return f"{estimate[0] + 0.0:.3f}<small>{_interval(estimate)}</small>"


def _interval(estimate: Estimate) -> str:
    return "" if math.isnan(estimate[1]) else f"{estimate[1]:.3f} to {estimate[2]:.3f}"
