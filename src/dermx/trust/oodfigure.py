"""What does the gate see? Scores of known pictures and strangers, and detectors side by side.

Numbers in, a matplotlib figure out; needs matplotlib and is imported only where it is drawn.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dermx.diagnoses import BY_CODE
from dermx.records import Predictions
from dermx.trust.gate import Gate

_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_INK, _QUIET, _LINE = "#1f2430", "#6b7280", "#c3c8d0"
COLOURS: Final = {"clinical": _ORANGE, "everyday": _PURPLE, "drawn": _GREEN}
HARD: Final = "auroc_clinical_acne"
NAMES: Final = {
    "clinical": "other skin diseases",
    "everyday": "everyday photographs",
    "drawn": "drawings",
}


def gate_figure(
    gate: Gate,
    known: Predictions,
    strange: Predictions,
    kinds: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> Figure:
    """Draw the gate's scores by class and kind, and every detector's AUROC.

    Args:
        gate: Fitted.
        known: Labelled cases that it has not seen.
        strange: Pictures of none of the classes that it has not seen.
        kinds: Of each stranger.
        rows: The comparison; those on "report" are drawn.
    """
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _scores(left, gate, known, strange, kinds)
    _comparison(right, [row for row in rows if row["on"] == "report"])
    return figure


def _scores(
    axes: Axes, gate: Gate, known: Predictions, strange: Predictions, kinds: Sequence[str]
) -> None:
    scores = gate.admit(known.features, known.logits).score
    strips = [
        (BY_CODE[code].name, scores[known.labels == index], _BLUE)
        for index, code in enumerate(known.codes)
        if (known.labels == index).any()
    ]
    others = gate.admit(strange.features, strange.logits).score
    for kind in ("clinical", "drawn", "everyday"):
        inside = np.array([k == kind for k in kinds])
        if inside.any():
            strips.append((NAMES[kind], others[inside], COLOURS[kind]))
    jitter = np.random.default_rng(0)
    for place, (_, values, colour) in enumerate(strips):
        at = place + jitter.uniform(-0.3, 0.3, len(values))
        axes.scatter(values, at, s=7, alpha=0.45, color=colour, linewidths=0)
    labels = [f"{name}  {len(values)}" for name, values, _ in strips]
    axes.set_yticks(range(len(strips)), labels, color=_INK)
    axes.invert_yaxis()
    axes.axvline(0, color=_INK, linewidth=1)
    caution = float(gate.cautions.min())
    if caution < 0:
        axes.axvspan(caution, 0, color=_LINE, alpha=0.45, linewidth=0, zorder=0)
        axes.annotate(
            f"unsure, if {_cautious(gate)} ",
            (0, 1.0),
            xycoords=("data", "axes fraction"),
            ha="right",
            va="bottom",
            color=_QUIET,
            fontsize=9,
        )
    axes.annotate(
        " turned away →",
        (0, 1.0),
        xycoords=("data", "axes fraction"),
        va="bottom",
        color=_INK,
        fontsize=9,
    )
    axes.set_xscale("symlog", linthresh=20, linscale=1.2)
    axes.set_title("How strange is each picture for its answer?", loc="left", color=_INK, pad=18)
    axes.set_xlabel("gate's score, higher is stranger", color=_QUIET)
    _plain(axes)
    axes.tick_params(axis="y", length=0)


def _cautious(gate: Gate) -> str:
    """Name the answers that are cautious for longest: a source's only class, or the source."""
    source = gate.groups[int(gate.cautions.argmin())]
    names = [BY_CODE[code].name for code in gate.codes if BY_CODE[code].source == source]
    return names[0] if len(names) == 1 else f"of {source}"


def _comparison(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    names = [str(row["detector"]) for row in rows]
    lowest = 0.4
    columns = [(f"auroc_{kind}", NAMES[kind], "o", colour) for kind, colour in COLOURS.items()]
    columns.append((HARD, "other skin diseases against acne alone", "D", _ORANGE))
    for column, name, marker, colour in columns:
        drawn = [
            (i, float(row[column])) for i, row in enumerate(rows) if row.get(column) is not None
        ]
        if not drawn:
            continue
        places, values = zip(*drawn, strict=True)
        face = "white" if column == HARD else colour
        axes.plot(values, places, marker, color=colour, markerfacecolor=face, label=name)
        lowest = min(lowest, *values)
    axes.axvline(0.5, color=_LINE, linewidth=1, zorder=0)
    for place in range(len(rows)):
        axes.axhline(place, color=_LINE, linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(rows)), names, color=_INK)
    axes.invert_yaxis()
    axes.set_xlim(lowest - 0.02, 1.02)
    axes.set_title("Which score tells strangers apart?", loc="left", color=_INK, pad=18)
    axes.set_xlabel("AUROC on what was not fitted on", color=_QUIET)
    axes.legend(
        frameon=False,
        labelcolor=_INK,
        fontsize=9,
        ncols=2,
        loc="upper center",
        bbox_to_anchor=(0.45, -0.12),
    )
    _plain(axes)
    axes.tick_params(axis="y", length=0)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)
    axes.tick_params(colors=_QUIET, labelsize=9)
    for label in axes.get_yticklabels():
        label.set_color(_INK)
