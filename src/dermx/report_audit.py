"""What came out of an audit? The same numbers as JSON and as one page, with plain sentences.

`write_audit` writes `audit.json` and `audit.html`, each whole or not at all.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from dermx.diagnoses import BY_CODE, CODES
from dermx.evaluate.intervals import mean_interval
from dermx.evaluate.subgroups import Subgroup
from dermx.explain.faithfulness import Faithful
from dermx.explain.localisation import Localised, Summary, summarise
from dermx.explain.painting import PAINTED
from dermx.explain.sanity import PASSES_BELOW
from dermx.explain.shortcuts import AS_TAKEN, FIGURES, Called, Shortcut
from dermx.records import write_whole

Estimate = tuple[float, float, float]  # value, and the ends of its 95 % interval
Pixels = UInt8[np.ndarray, "h w 3"]
Located = Mapping[str, Sequence[tuple[str, str, Localised]]]  # map -> diagnosis, lesion, result

OURS: Final = "Grad-CAM"
MIDDLE: Final = "centred Gaussian"
BALANCED: Final = "balanced_accuracy_dermoscopic"
GUESSING: Final = 1 / 7  # balanced accuracy of seven classes
WANTED_RATIO: Final = 1.5  # of the map's share on the lesion to the lesion's share of the picture
DISCLAIMER: Final = "Research and education, not a medical device."
MEASURES: Final[dict[str, tuple[str, Callable[[Faithful], float], int]]] = {
    "deletion": ("deletion area, lower is better", lambda one: one.deletion_area, -1),
    "insertion": ("insertion area, higher is better", lambda one: one.insertion_area, 1),
    "road": ("ROAD, higher is better", lambda one: one.road, 1),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Deletion, insertion and ROAD of several maps on the same pictures."""

    maps: Mapping[str, Sequence[Faithful]]  # per map, one a picture
    groups: Sequence[str]  # the lesions of the pictures

    def estimate(self, name: str, measure: str) -> Estimate:
        """Mean over the pictures with its interval."""
        _, read, _ = MEASURES[measure]
        return mean_interval(np.array([read(one) for one in self.maps[name]]), self.groups)

    def gain(self, measure: str, rival: str) -> Estimate:
        """How much better ours is than another map on the same pictures; above 0 is better."""
        _, read, sign = MEASURES[measure]
        pairs = zip(self.maps[OURS], self.maps[rival], strict=True)
        differences = np.array([sign * (read(ours) - read(theirs)) for ours, theirs in pairs])
        return mean_interval(differences, self.groups)

    def apart(self, measure: str, rival: str) -> bool:
        """Whether ours is better and the two intervals don't overlap."""
        sign = MEASURES[measure][2]
        ours, theirs = self.estimate(OURS, measure), self.estimate(rival, measure)
        return ours[1] > theirs[2] if sign > 0 else ours[2] < theirs[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sanity:
    """Rank correlations of each picture's map with that of a model that has forgotten."""

    groups: Sequence[str]
    draws: int
    stages: Sequence[tuple[float, Float[np.ndarray, " n"]]]  # share of the layers drawn afresh
    absolute: Float[np.ndarray, " n"]  # mean absolute correlation at the last stage
    other_picture: Float[np.ndarray, " n"]  # with another picture's map by the trained model

    @property
    def passes(self) -> bool:
        """Whether hardly anything of the map is left when all is drawn afresh."""
        return mean_interval(self.stages[-1][1], self.groups)[2] < PASSES_BELOW


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """All that was measured."""

    title: str
    facts: Mapping[str, str]
    seed: int
    curves: Curves
    located: Located
    sanity: Sanity
    shortcuts: Sequence[Shortcut]
    acne: Sequence[Called]
    subgroups: Sequence[Subgroup]
    examples: Mapping[str, Sequence[Pixels]] = field(default_factory=dict)


def write_audit(folder: Path, audit: Audit) -> Path:
    """Write `audit.json` and `audit.html` into a folder, which is made where it is missing.

    Returns:
        The page.
    """
    from dermx.explain import figures  # here: answering needs no matplotlib

    drawn = {
        "Deletion and insertion": figures.curves_figure(audit.curves.maps),
        "Weights drawn afresh": figures.sanity_figure(
            [
                (share, mean_interval(found, audit.sanity.groups))
                for share, found in audit.sanity.stages
            ],
            float(audit.sanity.other_picture.mean()),
        ),
    }
    if audit.shortcuts:
        drawn["Balanced accuracy under every change"] = figures.shortcuts_figure(audit.shortcuts)
    if audit.examples:
        drawn["What was changed"] = figures.examples_figure(audit.examples)
    pictures = {name: figures.png(figure) for name, figure in drawn.items()}
    content = json.dumps(as_dict(audit), indent=2, allow_nan=False) + "\n"
    page = as_page(audit, pictures)
    for name, text in {"audit.json": content, "audit.html": page}.items():
        with write_whole(folder / name) as file:
            file.write(text.encode())
    return folder / "audit.html"


def as_dict(audit: Audit) -> dict[str, Any]:
    """Return every number with its interval, for programs; an undefined number is null."""
    curves, sanity = audit.curves, audit.sanity
    rivals = [name for name in curves.maps if name != OURS]
    return {
        "title": audit.title,
        "seed": audit.seed,
        "interval": {"level": 0.95, "unit": "lesion or patient"},
        "findings": findings(audit),
        "faithfulness": {
            "lesions": len(curves.groups),
            "maps": {
                name: {measure: _estimate(curves.estimate(name, measure)) for measure in MEASURES}
                for name in curves.maps
            },
            "gain": {
                rival: {
                    measure: {
                        **_estimate(curves.gain(measure, rival)),
                        "intervals_apart": curves.apart(measure, rival),
                    }
                    for measure in MEASURES
                }
                for rival in rivals
            },
        },
        "localisation": {
            name: {
                "all": _summary(by_map(audit, name)),
                **{code: _summary(one) for code, one in by_class(audit, name).items()},
            }
            for name in audit.located
        },
        "sanity": {
            "pictures": len(sanity.groups),
            "draws": sanity.draws,
            "passes": sanity.passes,
            "passes_below": PASSES_BELOW,
            "stages": [
                {"share_of_layers": share, **_estimate(mean_interval(found, sanity.groups))}
                for share, found in sanity.stages
            ],
            "absolute": _estimate(mean_interval(sanity.absolute, sanity.groups)),
            "other_picture": _estimate(mean_interval(sanity.other_picture, sanity.groups)),
        },
        "shortcuts": [
            {
                "change": row.change,
                "cases": row.cases,
                "lesions": row.lesions,
                **{name: _estimate(row.figures[name]) for name in FIGURES},
                "drop": {name: _estimate(row.drops[name]) for name in FIGURES},
                "other_answers": _estimate(row.other_answers),
                "called_mel": _estimate(row.called_mel),
            }
            for row in audit.shortcuts
        ],
        "called_acne": [
            {"kind": row.kind, "pictures": row.pictures, "patients": row.patients}
            | _estimate(row.share)
            for row in audit.acne
        ],
        "subgroups": [
            {
                **{k: v for k, v in row._asdict().items() if isinstance(v, str | int)},
                "expected": _number(row.expected),
                **{
                    name: _estimate(getattr(row, name))
                    for name in ("accuracy", "gap", "recall_mel")
                },
            }
            for row in audit.subgroups
        ],
        "facts": dict(audit.facts),
    }


def by_map(audit: Audit, name: str) -> Summary:
    """Localisation of one kind of map over all pictures with an outline."""
    rows = audit.located[name]
    return summarise([found for _, _, found in rows], [lesion for _, lesion, _ in rows])


def by_class(audit: Audit, name: str) -> dict[str, Summary]:
    """Localisation of one kind of map per diagnosis, in the order of the classes."""
    rows = audit.located[name]
    return {
        code: summarise(
            [found for of, _, found in rows if of == code], [g for of, g, _ in rows if of == code]
        )
        for code in CODES
        if any(of == code for of, _, _ in rows)
    }


def findings(audit: Audit) -> list[str]:
    """Say in plain words what was found, met or not."""
    said = []
    if audit.located:
        ours, middle = by_map(audit, OURS), by_map(audit, MIDDLE)
        said.append(
            f"The map puts {ours.energy[0]:.0%} of itself on the lesion, which fills "
            f"{ours.area[0]:.0%} of what the model sees: {_times(ours.ratio)} "
            f"({'at least' if ours.ratio[0] >= WANTED_RATIO else 'below'} the {WANTED_RATIO} aimed "
            f"for). A spot in the middle, which knows nothing of the picture, reaches "
            f"{_times(middle.ratio)}. The map's highest point is on the lesion in "
            f"{_percent(ours.hit)}, the picture's middle in {_percent(middle.hit)}."
        )
    for measure in ("deletion", "insertion"):
        gain = audit.curves.gain(measure, MIDDLE)
        apart = audit.curves.apart(measure, MIDDLE)
        better = "better than" if gain[1] > 0 else "worse than" if gain[2] < 0 else "level with"
        said.append(
            f"By {measure} the map is {better} that spot on the same pictures "
            f"(difference {gain[0]:+.3f}, {gain[1]:+.3f} to {gain[2]:+.3f}); the two intervals "
            f"{'do not overlap' if apart else 'overlap'}."
        )
    last = mean_interval(audit.sanity.stages[-1][1], audit.sanity.groups)
    absolute = mean_interval(audit.sanity.absolute, audit.sanity.groups)
    said.append(
        f"The sanity check {'passes' if audit.sanity.passes else 'FAILS'}: with all weights "
        f"drawn afresh, the map's rank correlation with itself is {last[0]:.2f} "
        f"({last[1]:.2f} to {last[2]:.2f}), whatever its sign {absolute[0]:.2f}."
    )
    return said + _leant_on(audit.shortcuts) + _acne_sentences(audit.acne)


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
                "Guessing reaches a balanced accuracy of 1/7 = 0.143. Changed pictures are unlike "
                "those that were trained on: what stays is stronger evidence than what falls.",
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
                "Expected: the accuracy that the group's mix of diagnoses alone would give. "
                "Dermoscopic pictures. Skin colour is not recorded in HAM10000.",
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
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return _PAGE.format(title=escape(audit.title), style=style, body="\n".join(body))


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
    last = mean_interval(audit.sanity.stages[-1][1], audit.sanity.groups)
    verdict = "passes" if audit.sanity.passes else "fails"
    tiles.append((f"Sanity check {verdict}", f"{last[0]:.2f}", last,
                  "correlation left when all weights are drawn afresh"))  # fmt: skip
    made = "".join(
        f"<div><h2>{escape(name)}</h2><p class='big'>{value}</p><p>{_interval(ends)} "
        f"<small>95 %</small></p><p class='quiet'>{escape(text)}</p></div>"
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
        ["change", "accuracy", "balanced, 7 classes", "melanoma recall",
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
          f"{row.expected:.3f}", _cell(row.gap), str(row.melanomas), _cell(row.recall_mel)]
         for row in rows],
    )  # fmt: skip


def _leant_on(rows: Sequence[Shortcut]) -> list[str]:
    """What is left without the lesion, without the background, and what disturbs."""
    by_name = {row.change: row for row in rows}
    said = []
    for change in ("lesion painted out", "lesion's box painted out", "only the border left"):
        if change in by_name:
            value, low, high = by_name[change].figures[BALANCED]
            above = "above" if low > GUESSING else "not above"
            said.append(
                f"With {change}, balanced accuracy is {value:.3f} ({low:.3f} to {high:.3f}), "
                f"{above} that of guessing, {GUESSING:.3f}."
            )
    for change in ("background painted out", "only the lesion's shape left"):
        if change in by_name:
            value, low, high = by_name[change].figures[BALANCED]
            said.append(f"With {change}, it is {value:.3f} ({low:.3f} to {high:.3f}).")
    drawn = [row for row in rows if row.change not in PAINTED and row.change != AS_TAKEN]
    for verb, hurt in (("Balanced accuracy falls by", True), ("No clear fall by", False)):
        chosen = [row for row in drawn if (row.drops[BALANCED][1] > 0) == hurt]
        chosen.sort(key=lambda row: -row.drops[BALANCED][0])
        listed = [
            f"{row.change} ({row.drops[BALANCED][0]:.3f}, {row.drops[BALANCED][1]:.3f} to "
            f"{row.drops[BALANCED][2]:.3f})"
            for row in chosen
        ]
        if listed:
            said.append(f"{verb}: {'; '.join(listed)}.")
    return said


def _acne_sentences(rows: Sequence[Called]) -> list[str]:
    """What makes a picture acne to the model."""
    shares = {row.kind: row for row in rows}
    said = []
    marked, as_taken = (f"dermoscopy, {name}" for name in ("watermark drawn in", AS_TAKEN))
    if marked in shares:
        said.append(
            f"A watermark drawn over dermoscopic pictures turns {_percent(shares[marked].share)} "
            "of them into acne, a dark rim "
            f"{_percent(shares['dermoscopy, dark rim drawn in'].share)}; as taken it is "
            f"{_percent(shares[as_taken].share)}."
        )
    if "acne, watermark covered" in shares:
        said.append(
            "Of the acne photographs, those called acne: "
            + "; ".join(
                f"{row.kind.removeprefix('acne, ')} {_percent(row.share)}"
                for row in rows
                if row.kind.startswith("acne, ")
            )
            + "."
        )
    others = [row for row in rows if not row.kind.startswith(("acne, ", "dermoscopy, "))]
    if others:
        pictures = sum(row.pictures for row in others)
        wrong = sum(row.pictures * row.share[0] for row in others)
        said.append(
            f"Of {pictures} photographs of other things, {wrong / pictures:.0%} are called acne."
        )
    return said


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


def _times(estimate: Estimate) -> str:
    return f"{estimate[0]:.2f} times its share ({estimate[1]:.2f} to {estimate[2]:.2f})"


def _percent(estimate: Estimate) -> str:
    return f"{estimate[0]:.0%} ({estimate[1]:.0%} to {estimate[2]:.0%})"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return dict(zip(("value", "low", "high"), map(_number, estimate), strict=True))


def _summary(one: Summary) -> dict[str, Any]:
    return {"pictures": one.pictures} | {
        name: _estimate(getattr(one, name))
        for name in ("hit", "energy", "area", "ratio", "ratio_each")
    }


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}
li {{ margin: .35rem 0; }} ul {{ margin: 0; padding-left: 1.2rem; }}
</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""
