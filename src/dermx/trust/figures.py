"""What do the trust figures look like? Reliability, risk against coverage, worth of referring.

Numbers in, matplotlib figures out; `dermx.evaluate.figures.png` makes bytes of them. Needs
matplotlib, so it is imported only where something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from dermx.trust.calibration import Reliability
from dermx.trust.referral import net_benefit, refer_all, risk_coverage

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_INK, _QUIET, _LINE = "#1f2430", "#6b7280", "#c3c8d0"


def reliability_figure(parts: Mapping[str, Reliability], errors: Mapping[str, float]) -> Figure:
    """Draw accuracy against confidence, a panel per calibration, the number of cases below.

    Args:
        parts: By the name that the panel gets.
        errors: Expected calibration error of each.
    """
    figure = Figure(figsize=(4.3 * len(parts), 5.2), layout="constrained")
    figure.get_layout_engine().set(wspace=0.08)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(2, len(parts), height_ratios=(3, 1), sharex=True, squeeze=False)
    most = max(int(part.counts.max()) for part in parts.values())
    for column, (name, part) in enumerate(parts.items()):
        above, below = axes[0, column], axes[1, column]
        left, width = part.edges[:-1], np.diff(part.edges)
        above.plot([0, 1], [0, 1], color=_LINE, linewidth=1.2, zorder=1)
        above.bar(left, part.accuracy, width, align="edge", color=_BLUE, alpha=0.25, linewidth=0)
        dots = {"color": _BLUE, "markersize": 5, "zorder": 3, "clip_on": False}
        above.plot(part.confidence, part.accuracy, "o", **dots)
        for x, y, stated in zip(part.confidence, part.accuracy, part.confidence, strict=True):
            above.plot([x, x], [stated, y], color=_ORANGE, linewidth=1.6, zorder=2)
        above.set(xlim=(0, 1), ylim=(0, 1))
        above.set_title(name, loc="left", color=_INK)
        above.set_title(f"ECE {errors[name]:.3f}", loc="right", color=_QUIET, fontsize=10)
        below.bar(left, part.counts, width * 0.92, align="edge", color=_QUIET, linewidth=0)
        for x, count in zip(left + width / 2, part.counts, strict=True):
            if count:
                below.text(x, count, f"{count}", ha="center", va="bottom", size=6.5, color=_QUIET)
        below.set_ylim(0, 1.22 * most)
        below.set_xlabel("stated confidence", color=_QUIET)
        for one in (above, below):
            _plain(one)
            one.xaxis.set_major_formatter(PercentFormatter(1))
            one.set_xticks([0, 0.25, 0.5, 0.75, 1])
        above.yaxis.set_major_formatter(PercentFormatter(1))
    axes[0, 0].set_ylabel("right", color=_QUIET)
    axes[1, 0].set_ylabel("cases", color=_QUIET)
    return figure


def risk_figure(
    doubts: Mapping[str, Float[np.ndarray, " n"]],
    wrong: Bool[np.ndarray, " n"],
    areas: Mapping[str, float],
    *,
    answered: Bool[np.ndarray, " n"],
) -> Figure:
    """Draw the share of wrong answers against the share answered, a line per doubt.

    Args:
        doubts: By name; higher is turned away first.
        wrong: Whether each answer is.
        areas: AUGRC of each.
        answered: Which cases the rule answers; no point is drawn where it answers none.
    """
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    colours = (_BLUE, _ORANGE, _GREEN, _PURPLE, "#E69F00", "#56B4E9", _QUIET, _INK)
    for colour, (name, doubt) in zip(colours, doubts.items(), strict=False):
        coverage, risk = risk_coverage(doubt, wrong)
        shown = coverage >= 0.05  # below, a handful of cases makes the line jump
        label = f"{name} (AUGRC {areas[name]:.4f})"
        bold = 2.4 if name == "rule" else 1.5
        axes.plot(coverage[shown], risk[shown], color=colour, linewidth=bold, label=label)
    if answered.any():
        at = answered.mean(), wrong[answered].mean()
        axes.plot(*at, "o", color=_INK, markersize=7, label="the rule as set", zorder=5)
    axes.axhline(wrong.mean(), color=_LINE, linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.set_xlabel("share of cases answered", color=_QUIET)
    axes.set_ylabel("of these wrong", color=_QUIET)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _plain(axes)
    axes.legend(
        frameon=False, labelcolor=_INK, fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1.0)
    )
    return figure


def decision_figure(
    probability: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], threshold: float
) -> Figure:
    """Draw the decision curve of P(malignant) beside referring everybody and nobody."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    at = np.linspace(0.005, 0.6, 240)
    lines: Sequence[tuple[str, np.ndarray, str]] = (
        ("by the model", net_benefit(probability, positive, at), _BLUE),
        ("refer everybody", refer_all(positive, at), _QUIET),
        ("refer nobody", np.zeros(len(at)), _LINE),
    )
    for label, values, colour in lines:
        axes.plot(at, values, color=colour, label=label, linewidth=2)
    axes.axvline(threshold, color=_ORANGE, linewidth=1.2, linestyle=":", label="threshold in use")
    axes.set(xlim=(0, 0.6), ylim=(-0.02, float(positive.mean()) * 1.08))
    axes.set_xlabel("P(mel, bcc or akiec) from which one would refer", color=_QUIET)
    axes.set_ylabel("net benefit per case", color=_QUIET)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    _plain(axes)
    axes.legend(frameon=False, labelcolor=_INK)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.tick_params(length=0, labelcolor=_QUIET)
    axes.set_axisbelow(True)
