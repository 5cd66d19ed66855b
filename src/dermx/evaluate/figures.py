"""What do the numbers look like? Which classes are confused, and how training went.

Numbers in, matplotlib figures out; `png` turns one into bytes. No pyplot, so no global state and
no window. This module needs matplotlib and is imported only where a figure is drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dermx.diagnoses import BY_CODE
from dermx.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Int

# Okabe and Ito's palette, told apart with any colour vision.
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_INK, _QUIET = "#1f2430", "#6b7280"


def confusion_figure(confusion: Int[np.ndarray, "classes classes"], codes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: counts in the cells, colour by the share of the row.

    Args:
        confusion: Counts, rows the truth.
        codes: Of the classes; known ones are written as names.
    """
    support = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, support, out=np.zeros(confusion.shape), where=support > 0)
    n = len(codes)
    figure = Figure(figsize=(1.05 * n + 2.9, 0.84 * n + 2.2), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(n, n):
        _cell(axes, row, column, int(confusion[row, column]), float(share[row, column]))
    names = [BY_CODE[code].name if code in BY_CODE else code for code in codes]
    rows = [f"{_wrap(name)}\nn = {count}" for name, count in zip(names, support[:, 0], strict=True)]
    axes.set_xticks(range(n), [_wrap(name) for name in names], rotation=40, ha="right")
    axes.xaxis.set_tick_params(rotation_mode="anchor")
    axes.set_yticks(range(n), rows)
    axes.set_xticks(np.arange(1, n) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, n) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0, labelsize=9.5, labelcolor=_INK)
    axes.set_xlabel("answer", color=_QUIET, fontsize=11)
    axes.set_ylabel("truth", color=_QUIET, fontsize=11)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, fraction=0.035, pad=0.02, format=PercentFormatter(1))
    bar.set_label("share of the true class", color=_QUIET)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelcolor=_QUIET)
    return figure


def history_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss, validation accuracy and learning rate over the epochs.

    Args:
        history: One row per epoch; of `train_loss`, `val_loss`, `val_balanced_accuracy`,
            `val_accuracy` and `learning_rate` those that are there are drawn.

    Raises:
        InputError: There is no epoch.
    """
    if not history:
        raise InputError("no epoch in the training history: nothing to draw")
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    _lines(loss, history, {"train_loss": ("training", _BLUE), "val_loss": ("validation", _ORANGE)})
    loss.set_title("Loss", loc="left", color=_INK)
    shown = {"val_balanced_accuracy": ("balanced", _ORANGE), "val_accuracy": ("plain", _GREEN)}
    _lines(accuracy, history, shown)
    accuracy.set_title("Validation accuracy", loc="left", color=_INK)
    _mark_best(accuracy, history)
    _lines(rate, history, {"learning_rate": ("learning rate", _BLUE)})
    rate.set_title("Learning rate", loc="left", color=_INK)
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter("{x:g}")
    for axes in (loss, accuracy):
        if axes.get_lines():
            axes.legend(frameon=False, labelcolor=_INK)
    return figure


def png(figure: Figure, dpi: int = 150) -> bytes:
    """Render a figure; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _cell(axes: Axes, row: int, column: int, count: int, share: float) -> None:
    if count == 0:
        axes.text(column, row, "0", ha="center", va="center", color="#c3c8d0", fontsize=9)
        return
    colour = "white" if share > 0.55 else _INK
    weight = "bold" if row == column else "normal"
    axes.text(
        column,
        row - 0.12,
        f"{count}",
        ha="center",
        va="center",
        color=colour,
        weight=weight,
        size=12,
    )
    axes.text(column, row + 0.22, _percent(share), ha="center", va="center", color=colour, size=8)


def _percent(share: float) -> str:
    return "<1 %" if share < 0.01 else f"{math.floor(100 * share + 0.5)} %"


def _wrap(name: str) -> str:
    """Break a long name near its middle, so that labels stay short."""
    words = name.split()
    if len(name) <= 18 or len(words) == 1:
        return name
    cut = min(range(1, len(words)), key=lambda i: abs(len(" ".join(words[:i])) - len(name) / 2))
    return " ".join(words[:cut]) + "\n" + " ".join(words[cut:])


def _lines(
    axes: Axes, history: Sequence[Mapping[str, Any]], shown: Mapping[str, tuple[str, str]]
) -> None:
    for key, (label, colour) in shown.items():
        points = [
            (row.get("epoch", i), row[key])
            for i, row in enumerate(history, 1)
            if row.get(key) is not None
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, label=label, color=colour, linewidth=2, marker="o", markersize=3.5)
    axes.set_xlabel("epoch", color=_QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#c3c8d0")
    axes.tick_params(length=0, labelcolor=_QUIET)
    axes.grid(axis="y", color="#e6e8ec", linewidth=0.8)
    axes.set_axisbelow(True)


def _mark_best(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """Ring the epoch that is best: the first with the highest validation balanced accuracy."""
    key = "val_balanced_accuracy"
    scored = [
        (row[key], row.get("epoch", i))
        for i, row in enumerate(history, 1)
        if row.get(key) is not None and not math.isnan(row[key])
    ]
    if not scored:
        return
    value, epoch = max(scored, key=lambda pair: pair[0])
    axes.plot([epoch], [value], marker="o", markersize=10, markerfacecolor="none", color=_ORANGE)
    axes.set_title(f"best: epoch {epoch}, {value:.3f}", loc="right", color=_QUIET, fontsize=9.5)
