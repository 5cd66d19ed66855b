"""What came out of an evaluation? The same numbers as text, table, JSON and one page.

`write_report` writes every file that `dermx evaluate` promises; `write_isic_csv` the file that
ISIC's scorer takes. Each file appears whole or not at all.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dermx.diagnoses import BY_CODE, CODES, DIAGNOSES, ISIC_COLUMNS
from dermx.errors import InputError, needs
from dermx.evaluate.intervals import bootstrap
from dermx.evaluate.metrics import Scores, score
from dermx.frame import DISCLAIMER, framed, report_style
from dermx.records import Predictions, write_whole

if TYPE_CHECKING:
    from jaxtyping import Float

Intervals = Mapping[str, tuple[float, float]]
PER_CLASS = ("precision", "recall", "f1", "auroc")
OVERALL = {
    "balanced_accuracy_dermoscopic": "balanced accuracy, dermoscopic classes",
    "balanced_accuracy": "balanced accuracy, all classes",
    "accuracy": "accuracy",
    "accuracy_dermoscopic": "accuracy, dermoscopic cases",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "macro_auroc": "macro AUROC, one against the rest",
    "malignant_auroc": "malignancy AUROC (mel + bcc + akiec)",
}


def write_report(
    folder: Path,
    predictions: Predictions,
    *,
    title: str,
    history: Sequence[Mapping[str, Any]] | None = None,
    facts: Mapping[str, str] | None = None,
    n_boot: int = 2000,
) -> Path:
    """Score predictions and write every file of `dermx evaluate` into a folder.

    Args:
        folder: Made where it is missing; files of the same names are replaced.
        predictions: Cases without a known truth are left out and counted.
        title: Heading of the page.
        history: One row per epoch of training, for `training_history.png`; not drawn when empty.
        facts: What the numbers depend on: model, data, revision, command.
        n_boot: Resamples behind the 95 % intervals.

    Returns:
        The path of `report.html`, one page without other files or scripts.

    Raises:
        InputError: No case has a label, or a label is none of the classes.
        MissingExtraError: matplotlib is not installed.
    """
    with needs("drawing the evaluation's figures", "train"):
        from dermx.evaluate import figures  # here: answering needs no matplotlib
    scores = score(predictions)
    intervals = bootstrap(predictions, n_boot=n_boot)
    facts = dict(facts or {})
    pictures = {
        "confusion_matrix.png": figures.png(
            figures.confusion_figure(scores.confusion, scores.codes)
        )
    }
    if history:
        pictures["training_history.png"] = figures.png(figures.history_figure(history))
    numbers = as_json(scores, intervals, title=title, facts=facts, n_boot=n_boot)
    page = as_page(scores, intervals, pictures, title=title, facts=facts, n_boot=n_boot)
    files = {
        **pictures,
        "classification_report.txt": as_text(scores, intervals).encode(),
        "per_class_metrics.csv": as_csv(scores, intervals).encode(),
        "metrics.json": numbers.encode(),
        "report.html": page.encode(),
    }
    for name, content in files.items():
        with write_whole(folder / name) as file:
            file.write(content)
    return folder / "report.html"


def write_isic_csv(
    probs: Float[np.ndarray, "n classes"],
    images: Sequence[str],
    path: Path,
    codes: Sequence[str] = CODES,
) -> None:
    """Write probabilities as ISIC 2018 Task 3 asks: seven classes, renormalised.

    What the model gave to acne is spread over the seven in proportion, so an acne answer becomes
    the likeliest of the seven here and may count as right, where `metrics` counts it as wrong.

    Args:
        probs: Class probabilities; each row sums to 1.
        images: Identifiers, each once.
        path: Of the CSV file.
        codes: Of the columns of `probs`.

    Raises:
        InputError: Images and rows differ in number, an image comes twice, or a class is missing.
    """
    if len(images) != len(probs):
        raise InputError(f"need one row per image, got {len(images)} images, {len(probs)} rows")
    if twice := [image for image, count in Counter(images).items() if count > 1]:
        raise InputError(f"{len(twice)} images come more than once, e.g. {twice[:3]}")
    by_column = {d.isic: d.code for d in DIAGNOSES if d.isic}
    if missing := [by_column[c] for c in ISIC_COLUMNS if by_column[c] not in codes]:
        raise InputError(f"ISIC's seven classes are needed, {', '.join(missing)} not predicted")
    order = [list(codes).index(by_column[column]) for column in ISIC_COLUMNS]
    seven = np.asarray(probs, np.float64)[:, order]
    total = seven.sum(axis=1, keepdims=True)
    seven = np.divide(seven, total, out=np.full(seven.shape, 1 / 7), where=total > 0)
    # The scorer refuses a column of integers: repr writes 0.0 and 1.0, and loses no digit.
    rows = [[image, *map(repr, map(float, row))] for image, row in zip(images, seven, strict=True)]
    with write_whole(path) as file:
        text = _csv([["image", *ISIC_COLUMNS], *rows])
        file.write(text.encode(errors="surrogateescape"))  # names keep their bytes


def as_text(scores: Scores, intervals: Intervals) -> str:
    """Return the report as a table of plain text, each number with its interval."""
    width = max(len(_name(code) + code) for code in scores.codes) + 5
    heads = {"precision": "precision", "recall": "recall", "f1": "F1", "auroc": "AUROC"}
    lines = [" " * width + "".join(f"{heads[m]:<23}" for m in PER_CLASS) + f"{'cases':>7}", ""]
    for code, support in zip(scores.codes, scores.confusion.sum(axis=1), strict=True):
        cells = "".join(
            f"{_with_interval(scores, intervals, f'{m}_{code}'):<23}" for m in PER_CLASS
        )
        lines.append(f"{_name(code) + ' (' + code + ')':<{width}}{cells}{support:>7}")
    lines.append("")
    wide = max(len(label) for label in OVERALL.values()) + 3
    for name, label in OVERALL.items():
        lines.append(f"{label:<{wide}}{_with_interval(scores, intervals, name)}")
    between = "[low, high] is the 95 % bootstrap interval, lesions drawn with replacement."
    return "\n".join([*lines, "", between, *_notes(scores), ""])


def as_csv(scores: Scores, intervals: Intervals) -> str:
    """Return one row per class; an undefined number is an empty cell."""
    ends = [f"{m}{end}" for m in PER_CLASS for end in ("", "_low", "_high")]
    rows: list[list[str]] = [["code", "name", "cases", *ends]]
    for code, support in zip(scores.codes, scores.confusion.sum(axis=1), strict=True):
        cells = [str(support)]
        for m in PER_CLASS:
            values = (scores[f"{m}_{code}"], *intervals[f"{m}_{code}"])
            cells += ["" if math.isnan(v) else f"{v:.6f}" for v in values]
        rows.append([code, _name(code), *cells])
    return _csv(rows)


def as_json(
    scores: Scores, intervals: Intervals, *, title: str, facts: Mapping[str, str], n_boot: int
) -> str:
    """Return every number with its interval, for programs; an undefined number is null."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    content = {
        "title": title,
        "cases": scores.cases,
        "cases_without_label": scores.unlabelled,
        "groups": scores.groups,
        "classes_without_cases": list(scores.absent),
        "interval": {"level": 0.95, "resamples": n_boot, "unit": "lesion or patient"},
        "scores": {
            name: {
                "value": number(value),
                "low": number(intervals[name][0]),
                "high": number(intervals[name][1]),
            }
            for name, value in scores.values.items()
        },
        "codes": list(scores.codes),
        "confusion_matrix": scores.confusion.tolist(),
        "facts": dict(facts),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def as_page(
    scores: Scores,
    intervals: Intervals,
    pictures: Mapping[str, bytes],
    *,
    title: str,
    facts: Mapping[str, str],
    n_boot: int,
) -> str:
    """Return one HTML page that needs no other file, no script and no network."""
    figures = [
        _figure(heading, text, pictures[name])
        for name, (heading, text) in _FIGURES.items()
        if name in pictures
    ]
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="quiet">{scores.cases} pictures of {scores.groups} lesions or patients</p>',
        "</header>",
        _headline(scores, intervals),
        f"<section><h2>Each class</h2>{_class_table(scores, intervals)}</section>",
        *figures,
        f"<section><h2>All numbers</h2>{_overall_table(scores, intervals)}</section>",
        _facts(scores, facts, n_boot),
        f"<footer>{DISCLAIMER}</footer>",
    ]
    return framed(title, body, report_style())


def _headline(scores: Scores, intervals: Intervals) -> str:
    dermoscopic = sum(1 for code in scores.codes if _is_dermoscopic(code))
    tiles = {
        "balanced_accuracy_dermoscopic": (
            "Balanced accuracy",
            f"mean recall of the {dermoscopic} dermoscopic classes",
        ),
        "accuracy": ("Accuracy", _baseline(scores)),
        "recall_mel": ("Melanoma recall", "share of melanomas answered melanoma"),
    }
    made = [
        f"<div><h2>{label}</h2><p class='big'>{_number(scores[name])}</p>"
        f"<p>{_interval(intervals[name])} <small>95 %</small></p><p class='quiet'>{text}</p></div>"
        for name, (label, text) in tiles.items()
        if name in scores.values
    ]
    return f'<section class="tiles">{"".join(made)}</section>'


def _baseline(scores: Scores) -> str:
    support = scores.confusion.sum(axis=1)
    code = escape(scores.codes[int(support.argmax())])
    return f"always answering {code} would reach {_number(support.max() / support.sum())}"


def _class_table(scores: Scores, intervals: Intervals) -> str:
    rows = []
    for code, support in zip(scores.codes, scores.confusion.sum(axis=1), strict=True):
        cells = "".join(
            f"<td>{_number(scores[f'{m}_{code}'])}<small>{_interval(intervals[f'{m}_{code}'])}"
            f"</small>{_bar(scores, intervals, code) if m == 'recall' else ''}</td>"
            for m in ("recall", "precision", "f1", "auroc")
        )
        name = f"{escape(_name(code))} <small>{escape(code)}</small>"
        rows.append(f"<tr><th scope=row>{name}</th><td>{support}</td>{cells}</tr>")
    heads = "".join(
        f"<th scope=col>{h}</th>" for h in ("Cases", "Recall", "Precision", "F1", "AUROC")
    )
    return (
        f'<div class="scroll"><table><thead><tr><th scope=col>Class</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _bar(scores: Scores, intervals: Intervals, code: str) -> str:
    """Draw a number and its interval on a line from 0 to 1."""
    value, (low, high) = scores[f"recall_{code}"], intervals[f"recall_{code}"]
    if math.isnan(value) or math.isnan(low):
        return ""
    return (
        f'<span class="bar" aria-hidden="true"><i style="left:{100 * low:.1f}%;'
        f'width:{100 * (high - low):.1f}%"></i><b style="left:{100 * value:.1f}%"></b></span>'
    )


def _overall_table(scores: Scores, intervals: Intervals) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(label)}</th><td>{_number(scores[name])}</td>"
        f"<td>{_interval(intervals[name])}</td></tr>"
        for name, label in OVERALL.items()
    )
    return f'<div class="scroll"><table>{rows}</table></div>'


def _figure(heading: str, text: str, content: bytes) -> str:
    data = base64.b64encode(content).decode()
    return (
        f"<section><h2>{escape(heading)}</h2><figure><img alt='{escape(heading)}' "
        f'src="data:image/png;base64,{data}"></figure><p class="quiet">{escape(text)}</p></section>'
    )


def _facts(scores: Scores, facts: Mapping[str, str], n_boot: int) -> str:
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    method = [
        f"Intervals are 95 % percentile bootstrap intervals: lesions (patients for photographs) "
        f"drawn {n_boot:,} times with replacement.",
        *_notes(scores),
    ]
    notes = "".join(f"<p>{escape(line)}</p>" for line in method)
    listed = f"<dl>{items}</dl>" if items else ""
    return f'<section class="facts"><h2>What this rests on</h2>{listed}{notes}</section>'


def _notes(scores: Scores) -> list[str]:
    """Say what an average leaves out."""
    notes = [
        "The answer is the most probable of all classes; the dermoscopic average counts an acne "
        "answer as wrong and leaves the acne photographs out."
    ]
    if scores.absent:
        notes.append(
            f"No case of {', '.join(scores.absent)}: recall, F1 and AUROC are undefined and left "
            "out of averages."
        )
    if scores.unlabelled:
        notes.append(f"{scores.unlabelled} cases without a known diagnosis are left out.")
    return notes


def _is_dermoscopic(code: str) -> bool:
    return code in BY_CODE and BY_CODE[code].source == "dermoscopy"


def _name(code: str) -> str:
    return BY_CODE[code].name if code in BY_CODE else code


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _interval(ends: tuple[float, float]) -> str:
    return "" if math.isnan(ends[0]) else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _with_interval(scores: Scores, intervals: Intervals, name: str) -> str:
    low, high = intervals[name]
    between = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    return f"{_number(scores[name])}{between}"


def _csv(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


_FIGURES = {
    "confusion_matrix.png": (
        "Which classes are confused",
        "Counts; the percentage and the colour are shares of the true class, so the diagonal "
        "shows recall.",
    ),
    "training_history.png": (
        "How training went",
        "The ring marks the epoch with the best validation balanced accuracy.",
    ),
}
