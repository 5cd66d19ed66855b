"""What does the study look like? Days per patient, distributions, effects, and the model's faults.

A study in, matplotlib figures out. No pyplot, so no global state and no window; this module needs
matplotlib and is imported only where a figure is drawn.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dermx.errors import InputError
from dermx.evaluate.figures import png
from dermx.longitudinal.power import PowerCell
from dermx.longitudinal.study import TreatmentStudy, p_text, signed

# Okabe and Ito's palette, told apart with any colour vision; grey for baseline.
COLOURS = ("#6b7280", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _QUIET, _FAINT = "#1f2430", "#5c6470", "#c3c8d0"
_DASHED = (0, (3, 2))
MOST_PANELS = 24  # patients drawn one by one
LONG_NAME = 24  # letters of a treatment's name in a line


def colour_of(treatment: int) -> str:
    """Colour of the n-th treatment, baseline first."""
    return COLOURS[0] if treatment == 0 else COLOURS[1 + (treatment - 1) % (len(COLOURS) - 1)]


def trajectories(study: TreatmentStudy) -> Figure:
    """Draw each patient's days, phases shaded, with the model's line; at most 24 patients."""
    visits = study.visits
    shown = min(len(visits.patients), MOST_PANELS)
    columns = min(5, shown) if shown != 4 else 2
    rows = math.ceil(shown / columns)
    figure = Figure(figsize=(max(1.95 * columns, 7) + 0.5, 1.75 * rows + 1.0), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    lines = study.own_levels(), study.average_levels()
    for i, axes in enumerate(grid.flat):
        if i >= shown:
            axes.set_visible(False)
            continue
        _panel(axes, study, i, *lines)
        if i + columns >= shown:
            axes.xaxis.set_tick_params(labelbottom=True)
    low = min(visits.config.lowest, float(visits.severity.min()))
    grid[0, 0].set_ylim(bottom=low if math.isfinite(low) else None)
    figure.supxlabel("day", color=_QUIET, fontsize=10)
    figure.supylabel(f"severity ({visits.config.unit})", color=_QUIET, fontsize=10)
    handles: list[Patch | Line2D] = [
        Patch(facecolor=colour_of(k), alpha=0.35, label=textwrap.fill(name, LONG_NAME))
        for k, name in enumerate(visits.treatments)
    ]
    handles.append(Line2D([], [], marker="o", ls="", ms=3.5, color=_INK, label="one day"))
    handles.append(Line2D([], [], color=_INK, lw=2.2, label="own level"))
    if study.model is not None:
        average = "average effect"
        handles.append(Line2D([], [], color=_INK, lw=1, ls=_DASHED, label=average))
    _legend(figure, handles)
    if shown < len(visits.patients):
        text = f"first {shown} of {len(visits.patients)} patients"
        figure.text(0.995, 0.995, text, ha="right", va="top", color=_QUIET, fontsize=9)
    return figure


def distributions(study: TreatmentStudy) -> Figure:
    """Draw the days' severities per treatment, with each patient's mean joined by lines."""
    visits, kinds = study.visits, len(study.visits.treatments)
    figure = Figure(figsize=(2.1 * kinds + 1.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    means = np.full(visits.counts.shape, np.nan)
    for i, k in np.argwhere(visits.counts > 0):
        means[i, k] = visits.severity[(visits.patient == i) & (visits.treatment == k)].mean()
    for k in range(kinds):
        days = visits.severity[visits.treatment == k]
        if np.ptp(days) > 0:
            body = axes.violinplot(days, [k], widths=0.8, showextrema=False)["bodies"][0]  # type: ignore[index]
            body.set(facecolor=colour_of(k), alpha=0.25, edgecolor="none")
        low, middle, high = np.quantile(days, [0.25, 0.5, 0.75])
        axes.plot([k, k], [low, high], color=colour_of(k), lw=7, solid_capstyle="butt", alpha=0.55)
        axes.plot([k - 0.14, k + 0.14], [middle, middle], color=colour_of(k), lw=3)
    axes.plot(range(kinds), means.T, color=_INK, lw=0.8, alpha=0.45, marker="o", ms=3.5, mew=0)
    counts = [int((visits.treatment == k).sum()) for k in range(kinds)]
    names = [
        f"{textwrap.fill(name, 16)}\n{n} days"
        for name, n in zip(visits.treatments, counts, strict=True)
    ]
    axes.set_xticks(range(kinds), names)
    axes.set_xlim(-0.6, kinds - 0.4)
    _style(axes, "", f"severity ({visits.config.unit})")
    axes.set_title(
        "shape: all days   bar: middle half   thick line: median   dots: patients' means",
        loc="left", color=_QUIET, fontsize=8,
    )  # fmt: skip
    axes.tick_params(axis="x", labelcolor=_INK)
    return figure


def forest(study: TreatmentStudy) -> Figure:
    """Draw each comparison with its interval, and what the plain mixed model would have said.

    Raises:
        InputError: The study has too few patients for average effects.
    """
    if not study.effects:
        raise InputError("no average effect to draw: the study has too few patients")
    count = len(study.effects)
    figure = Figure(figsize=(8.6, 0.62 * count + 1.3), layout="constrained")
    axes = figure.add_subplot()
    for row, effect in enumerate(study.effects):
        colour = colour_of(study.visits.treatments.index(effect.treatment))
        axes.plot([effect.plain_low, effect.plain_high], [row + 0.22] * 2, color=_FAINT, lw=4,
                  solid_capstyle="butt", zorder=2)  # fmt: skip
        axes.plot([effect.low, effect.high], [row] * 2, color=colour, lw=2.4, zorder=3)
        alone = effect.hangs_on_one  # matplotlib leaves the lines of NaN out
        axes.plot([effect.estimate], [row], marker="o", ms=8, color=colour, zorder=4,
                  fillstyle="none" if alone else "full")  # fmt: skip
        text = f"{signed(effect.estimate)} ({signed(effect.low)} to {signed(effect.high)})"
        text += f"\n{p_text(effect.p_adjusted)}, Holm"
        if alone:
            text = f"{signed(effect.estimate)}\none patient only"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center",
                  color=_INK, fontsize=9, linespacing=1.35)  # fmt: skip
    axes.axvline(0, color=_QUIET, lw=1, zorder=1)
    axes.set_yticks(
        range(count),
        [
            f"{textwrap.fill(e.treatment, 30)}\n{textwrap.fill(f'against {e.reference}', 30)}"
            for e in study.effects
        ],
    )
    axes.set_ylim(count - 0.5, -0.6)
    ends = [
        x for e in study.effects for x in (e.estimate, e.low, e.high, e.plain_low, e.plain_high)
    ]
    low, high = np.nanmin([*ends, 0.0]), np.nanmax([*ends, 0.0])
    margin = 0.06 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    unit = study.visits.config.unit
    worse, better = ("worse →", "← better") if not study.visits.config.higher_is_better else (
        "better →", "← worse")  # fmt: skip
    _style(axes, f"difference of mean severity ({unit})     {better}  |  {worse}", "")
    axes.grid(axis="x", color="#e6e8ec", lw=0.8)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", labelcolor=_INK)
    level = f"{study.config.level * 100:g} % interval"
    axes.legend(
        handles=[
            Line2D([], [], color=_INK, lw=2.4, marker="o", ms=7, label=level),
            Line2D([], [], color=_FAINT, lw=4, label="plain mixed model (too narrow)"),
        ],
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, labelcolor=_QUIET,
        fontsize=9, borderaxespad=0.2,
    )  # fmt: skip
    return figure


def diagnostics(study: TreatmentStudy) -> Figure:
    """Draw residuals against the fitted line, their quantiles, their memory, and the patients.

    Raises:
        InputError: The study has too few patients for a model.
    """
    if study.diagnostics is None or study.model is None:
        raise InputError("no model to diagnose: the study has too few patients")
    found, unit = study.diagnostics, study.visits.config.unit
    figure = Figure(figsize=(10.4, 7.2), layout="constrained")
    (spread, normal), (memory, levels) = figure.subplots(2, 2)
    for k in range(len(study.visits.treatments)):
        rows = study.model.visits.treatment == k
        spread.plot(found.fitted[rows], found.residuals[rows], ".", ms=4, alpha=0.55,
                    color=colour_of(k))  # fmt: skip
    spread.axhline(0, color=_QUIET, lw=1)
    handles = [
        Line2D([], [], marker="o", ls="", ms=5, color=colour_of(k), alpha=0.75,
               label=textwrap.fill(name, LONG_NAME))
        for k, name in enumerate(study.visits.treatments)
    ]  # fmt: skip
    _legend(figure, handles)
    _style(spread, f"fitted severity ({unit})", f"residual ({unit})")
    spread.set_title("One spread everywhere?", loc="left", color=_INK, fontsize=10.5)
    _quantiles(normal, found.residuals, f"residual ({unit})")
    normal.set_title("Normal residuals?", loc="left", color=_INK, fontsize=10.5)
    _memory(memory, study, found.memory)
    _quantiles(levels, found.levels, f"patient's level ({unit})")
    levels.set_title("Normal levels of patients?", loc="left", color=_INK, fontsize=10.5)
    return figure


def power(cells: Sequence[PowerCell], unit: str) -> Figure:
    """Draw the chance to see an effect against the number of patients, a line per length."""
    if not cells:
        raise InputError("no power to draw")
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    lengths = sorted({cell.days for cell in cells})
    for n, days in enumerate(lengths):
        line = sorted((c for c in cells if c.days == days), key=lambda c: c.patients)
        x, y = [c.patients for c in line], [100 * c.power for c in line]
        colour = COLOURS[1 + n % (len(COLOURS) - 1)]
        axes.fill_between(x, [100 * c.low for c in line], [100 * c.high for c in line],
                          color=colour, alpha=0.15, lw=0)  # fmt: skip
        axes.plot(x, y, color=colour, lw=2, marker="os^Dvp"[n % 6], ms=5.5,
                  label=f"{days} days a phase")  # fmt: skip
    axes.axhline(80, color=_QUIET, lw=1, ls=(0, (4, 3)))
    axes.set_ylim(0, 101)
    axes.set_xticks(sorted({cell.patients for cell in cells}))
    _style(axes, "patients", "studies that see it (%)")
    axes.set_title(f"A true effect of {abs(cells[0].effect):g} {unit}", loc="left", color=_INK,
                   fontsize=10.5)  # fmt: skip
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9.5, loc="lower right")
    return figure


def all_figures(study: TreatmentStudy) -> Mapping[str, bytes]:
    """Every figure that the study has, by file name."""
    made = {"trajectories.png": trajectories(study), "distributions.png": distributions(study)}
    if study.effects:
        made["effects.png"] = forest(study)
        made["diagnostics.png"] = diagnostics(study)
    return {name: png(figure) for name, figure in made.items()}


def _legend(figure: Figure, handles: Sequence[Patch | Line2D]) -> None:
    """Say above all panels what is what, in as many rows as the names need."""
    names = [str(handle.get_label()) for handle in handles]
    inches = [0.085 * max(map(len, name.splitlines())) + 0.45 for name in names]
    room = figure.get_figwidth()
    columns = len(handles) if sum(inches) <= room else max(1, int(room / max(inches)))
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, frameon=False,
        labelcolor=_INK, fontsize=9, handlelength=1.3, columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip


def _panel(
    axes: Axes, study: TreatmentStudy, i: int, own: np.ndarray, average: np.ndarray | None
) -> None:
    visits = study.visits
    name = visits.patients[i]
    for phase in study.phases():
        if phase["patient"] != name:
            continue
        k = visits.treatments.index(phase["treatment"])
        first, last = phase["first_day"], phase["last_day"]
        axes.axvspan(first - 0.5, last + 0.5, color=colour_of(k), alpha=0.16, lw=0)
        rows = (visits.patient == i) & (visits.day >= first) & (visits.day <= last)
        axes.plot(visits.day[rows], own[rows], color=colour_of(k), lw=2.4, zorder=3)
        if average is not None:
            axes.plot(visits.day[rows], average[rows], color=_INK, lw=1, ls=_DASHED, zorder=4)
        axes.plot(visits.day[rows], visits.severity[rows], ".", ms=3.2, color=_INK, alpha=0.55)
    axes.set_title(name, loc="left", fontsize=9.5, color=_INK, pad=3)
    _style(axes, "", "")
    axes.grid(visible=False)
    axes.tick_params(labelsize=8)


def _quantiles(axes: Axes, values: np.ndarray, label: str) -> None:
    """Quantiles against a normal's; a straight line means normal."""
    from scipy.special import ndtri

    ordered = np.sort(values)
    expected = ndtri((np.arange(len(ordered)) + 0.5) / len(ordered))
    axes.plot(expected, ordered.mean() + ordered.std() * expected, color=_QUIET, lw=1)
    axes.plot(expected, ordered, "." if len(ordered) > 60 else "o", ms=4.5, color=COLOURS[1])
    _style(axes, "quantile of a normal", label)


def _memory(axes: Axes, study: TreatmentStudy, memory: np.ndarray) -> None:
    lags = np.arange(1, len(memory) + 1)
    axes.vlines(lags, 0, memory, color=COLOURS[1], lw=3)
    axes.plot(lags, study.noise.rho ** lags.astype(float), color=COLOURS[2], lw=1.5, marker="o",
              ms=3.5, label=f"AR(1), {study.noise.rho:.2f} a day")  # fmt: skip
    axes.axhline(0, color=_QUIET, lw=1)
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9)
    _style(axes, "days apart", "correlation of residuals")
    axes.set_title("How long does a bad day last?", loc="left", color=_INK, fontsize=10.5)


def _style(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=_QUIET)
    axes.set_ylabel(y, color=_QUIET)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(length=0, labelcolor=_QUIET)
    axes.grid(axis="y", color="#e6e8ec", lw=0.8)
    axes.set_axisbelow(True)
