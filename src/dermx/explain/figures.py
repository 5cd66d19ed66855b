"""What do an audit's numbers look like? Curves, intervals and changed pictures.

Numbers in, matplotlib figures out. This module needs matplotlib and is imported only where a figure
is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from dermx.evaluate.intervals import Estimate
from dermx.explain.faithfulness import Faithful
from dermx.explain.shortcuts import AS_TAKEN, Shortcut

if TYPE_CHECKING:
    from jaxtyping import UInt8

# Okabe and Ito's palette, told apart with any colour vision; ours first.
COLOURS: Final = ("#0072B2", "#D55E00", "#8a8f99")
INK, QUIET, LINE = "#1f2430", "#6b7280", "#c3c8d0"


def curves_figure(maps: Mapping[str, Sequence[Faithful]]) -> Figure:
    """Draw the mean deletion and insertion curves of several maps."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(
        figure.subplots(1, 2, sharey=True), ("deletion", "insertion"), strict=True
    ):
        for (label, found), colour in zip(maps.items(), COLOURS, strict=False):
            mean = np.mean([getattr(one, name) for one in found], axis=0)
            axes.plot(np.linspace(0, 1, len(mean)), mean, color=colour, linewidth=2.2, label=label)
        done = "taken away, the most marked first" if name == "deletion" else "put back, likewise"
        axes.set_xlabel(f"share of the picture {done}", color=QUIET)
        axes.set_title(
            f"{name.capitalize()}: {'lower' if name == 'deletion' else 'higher'} is better",
            loc="left", color=INK, fontsize=12,
        )  # fmt: skip
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlim(0, 1)
        _plain(axes)
        if name == "deletion":
            axes.set_ylabel("probability of the answer", color=QUIET)
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False, labelcolor=INK)
    return figure


def sanity_figure(stages: Sequence[tuple[float, Estimate]], other_picture: float) -> Figure:
    """Draw how the map's likeness to itself falls as layers are drawn afresh."""
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    labels = ["nothing", *(f"head\n+ {share:.0%}" if share else "head" for share, _ in stages)]
    values = np.array([(1, 1, 1), *(estimate for _, estimate in stages)])
    x = np.arange(len(labels))
    axes.axhline(0, color=LINE, linewidth=1)
    axes.axhline(other_picture, color=COLOURS[1], linewidth=1.4, linestyle=(0, (5, 3)))
    axes.text(x[-1] + 0.4, other_picture + 0.02, "another picture's map, same model",
              color=COLOURS[1], ha="right", va="bottom", fontsize=9.5)  # fmt: skip
    spread = np.abs(values[:, 1:].T - values[:, 0])
    axes.errorbar(
        x, values[:, 0], yerr=spread, color=COLOURS[0], marker="o", capsize=3, linewidth=2
    )
    axes.set_xticks(x, labels)
    axes.set_xlim(-0.3, x[-1] + 0.4)
    axes.set_xlabel(
        "drawn afresh: the linear layer, and this share of the layers from the end", color=QUIET
    )
    axes.set_ylabel("rank correlation", color=QUIET)
    _plain(axes)
    return figure


def shortcuts_figure(rows: Sequence[Shortcut]) -> Figure:
    """Draw balanced accuracy and its interval under every change, beside that of guessing."""
    figure = Figure(figsize=(9, 0.36 * len(rows) + 1.3), layout="constrained")
    axes = figure.add_subplot()
    name = "balanced_accuracy_dermoscopic"
    values = np.array([row.figures[name] for row in rows])
    y = np.arange(len(rows))[::-1]
    guessing = 1 / rows[0].classes
    axes.axvline(guessing, color=COLOURS[1], linewidth=1.4, linestyle=(0, (5, 3)))
    axes.text(
        guessing + 0.008, len(rows) - 0.45, "guessing", color=COLOURS[1], fontsize=9.5, va="bottom"
    )
    axes.axvline(values[0, 0], color=LINE, linewidth=1.2)
    spread = np.abs(values[:, 1:].T - values[:, 0])
    axes.errorbar(values[:, 0], y, xerr=spread, fmt="o", color=COLOURS[0], capsize=3, linewidth=2)
    axes.set_yticks(y, [row.change for row in rows])
    axes.set_ylim(-0.6, len(rows))
    axes.set_xlim(0, 1)
    said = f"balanced accuracy, {rows[0].classes} dermoscopic classes, 95 % interval"
    axes.set_xlabel(said, color=QUIET)
    _plain(axes, grid="x")
    return figure


def examples_figure(examples: Mapping[str, Sequence[UInt8[np.ndarray, "h w 3"]]]) -> Figure:
    """Show a few pictures under every change, a row per picture, in two blocks of columns."""
    names = list(examples)
    across = -(-len(names) // 2)
    down = len(next(iter(examples.values())))
    figure = Figure(figsize=(1.75 * across, 1.85 * 2 * down), layout="constrained")
    cells = figure.subplots(2 * down, across, squeeze=False)
    for axes in cells.flat:
        axes.set_axis_off()
    for i, name in enumerate(names):
        block, column = divmod(i, across)
        for row, pixels in enumerate(examples[name]):
            axes = cells[block * down + row, column]
            axes.imshow(pixels)
            if row == 0:
                bold = "bold" if name == AS_TAKEN else "normal"
                axes.set_title(_wrapped(name), fontsize=9.5, color=INK, fontweight=bold)
    return figure


def _wrapped(name: str) -> str:
    words = name.split()
    cut = (len(words) + 1) // 2
    return " ".join(words[:cut]) + "\n" + " ".join(words[cut:])


def _plain(axes: Axes, grid: str = "y") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(length=0, labelcolor=QUIET)
    axes.grid(axis=grid, color="#e6e8ec", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
