"""When does a model get a picture that it should not answer? The gate fitted, and its worth shown.

Fitted and chosen on the training and validation parts and on the fitting part of the outlier
pictures; reported once on the test part and on diseases, photographs and kinds of drawings that
were not fitted on.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dermx.diagnoses import BY_CODE
from dermx.errors import BundleError, DataError
from dermx.model.bundle import load_bundle
from dermx.preprocess.views import VIEWS
from dermx.records import Predictions, write_whole
from dermx.runs import read_parts
from dermx.trust.gate import KNOWN, Gate
from dermx.trust.gatefit import ACCEPTANCE, LET_IN, CrossFitted, by_picture, cross_fit, fit_gate
from dermx.trust.ood import fit_detectors
from dermx.trust.separation import detector_row, shares_by, threshold_at
from dermx.workflow.evaluation import Say, predicted, write_json
from dermx.workflow.strangers import Views, known_views, stranger_views

if TYPE_CHECKING:
    from dermx.train.loop import Track

THRESHOLD: Final = "ood_threshold.json"
SETTINGS, ARRAYS = "gate.json", "gate.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What the gate is fitted on."""

    known: Predictions  # means of the views of dermoscopic training pictures, views of the others
    strangers: Views
    judged: Predictions  # validation part and training photographs, as they are met in use


def fitted_gate(
    run: Path,
    *,
    outliers: Path,
    dermnet: Path | None = None,
    views: int = VIEWS,
    acceptance: float = ACCEPTANCE,
    let_in: float = LET_IN,
    track: "Track | None" = None,
    say: Say = print,
) -> Gate:
    """Fit a run's gate and save it in `run/ood/`.

    Args:
        run: Folder written by `train_run`.
        outliers: Folder with `everyday/` and `clinical/<disease>/`; only the part for fitting of
            the published split is used, or of a new deal where pictures are not in it.
        dermnet: DermNet's acne class, or a folder above it, whose other names count, too.
        views: 1, or 8 for the mean over turns and mirror images, as the model will be used.
        acceptance: Share of every class to let in, see `fit_gate`.
        let_in: Share of clinical strangers that may pass without a warning, see `fit_gate`.
        track: Shows progress.
        say: Shows pictures that could not be read.
    """
    material = _material(run, outliers, dermnet, views, track, say)
    gate = _fit(material, acceptance, let_in, crossed=None)
    save_gate(gate, run)
    return gate


def ood_run(
    run: Path,
    *,
    outliers: Path,
    dermnet: Path | None = None,
    views: int = VIEWS,
    acceptance: float = ACCEPTANCE,
    let_in: float = LET_IN,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Fit the gate and the detectors it is compared with, and report on what none has seen.

    Writes `ood_threshold.json`, and in `run/ood/` the gate, `detectors.csv`, `strangers.csv`,
    `ood.json` and `ood.png`. Arguments as `fitted_gate`.

    Returns:
        The figure.
    """
    from dermx.evaluate.figures import png
    from dermx.trust.oodfigure import gate_figure

    material = _material(run, outliers, dermnet, views, track, say)
    test = _part(run, "test", views, track, say)
    seen = stranger_views(
        run, "report", outliers=outliers, dermnet=dermnet, views=views, track=track, say=say
    )
    crossed = _crossed(material)
    gate = _fit(material, acceptance, let_in, crossed)
    save_gate(gate, run)
    rows = _compared(run, material, gate, crossed, test, seen, acceptance, views, track, say)
    report = _report(gate, test, seen)
    folder = run / "ood"
    _write_csv(folder / "detectors.csv", rows)
    _write_csv(folder / "strangers.csv", report["strangers"])
    write_json(folder / "ood.json", {"detectors": rows, **report})
    write_json(run / THRESHOLD, _threshold(gate, rows, report, views))
    strange, first = by_picture(seen.predictions)
    figure = gate_figure(gate, test, strange, [seen.kinds[i] for i in first], rows)
    with write_whole(folder / "ood.png") as file:
        file.write(png(figure))
    for line in _told(rows, report):
        say(line)
    return folder / "ood.png"


def save_gate(gate: Gate, run: Path) -> None:
    """Write the gate's settings and arrays to `run/ood/`."""
    settings, arrays = gate.to_parts()
    with write_whole(run / "ood" / ARRAYS) as file:
        np.savez(file, allow_pickle=False, **arrays)
    write_json(run / "ood" / SETTINGS, settings)


def load_gate(run: Path) -> Gate | None:
    """Read the gate of `save_gate`; None where the run has none.

    Raises:
        BundleError: It is damaged, or of a newer format.
    """
    settings, arrays = run / "ood" / SETTINGS, run / "ood" / ARRAYS
    if not settings.is_file():
        return None
    try:
        with np.load(arrays, allow_pickle=False) as parts:
            return Gate.from_parts(json.loads(settings.read_text(encoding="utf-8")), dict(parts))
    except (OSError, ValueError) as error:
        raise BundleError(f"can't read the gate in {settings.parent}: {error}") from error


def _part(run: Path, part: str, views: int, track: "Track | None", say: Say) -> Predictions:
    cases = read_parts(run)[part]
    if not cases:
        raise DataError(f"{run} has no {part} part")
    path = run / "evaluation" / part / ("predictions.npz" if views == 1 else "views.npz")
    return predicted(load_bundle(run / "bundle"), cases, path, track, say, views)


def _material(
    run: Path,
    outliers: Path,
    dermnet: Path | None,
    views: int,
    track: "Track | None",
    say: Say,
) -> Material:
    judged = _part(run, "val", views, track, say)
    strangers = stranger_views(
        run, "fit", outliers=outliers, dermnet=dermnet, views=views, track=track, say=say
    )
    known = known_views(run, views=views, track=track, say=say)
    photograph = np.array([BY_CODE[code].source != "dermoscopy" for code in known.codes])
    # Photographs are few: each view is a row, and they are judged as well, left out by patient.
    clinical = known.select(photograph[known.labels])
    dermoscopic = by_picture(known.select(~photograph[known.labels]))[0]
    judged = judged.select(judged.labels >= 0)
    if len(clinical.images):
        return Material(
            known=_joined(dermoscopic, clinical),
            strangers=strangers,
            judged=_joined(judged, by_picture(clinical)[0]),
        )
    return Material(known=dermoscopic, strangers=strangers, judged=judged)


def _crossed(material: Material) -> CrossFitted:
    return cross_fit(
        material.known, material.strangers.predictions, material.strangers.kinds, material.judged
    )


def _fit(material: Material, acceptance: float, let_in: float, crossed: CrossFitted | None) -> Gate:
    return fit_gate(
        material.known,
        material.strangers.predictions,
        material.strangers.kinds,
        material.judged,
        acceptance=acceptance,
        let_in=let_in,
        crossed=crossed,
    )


def _compared(
    run: Path,
    material: Material,
    gate: Gate,
    crossed: CrossFitted,
    test: Predictions,
    seen: Views,
    acceptance: float,
    views: int,
    track: "Track | None",
    say: Say,
) -> list[dict[str, Any]]:
    """Rows of all detectors, first where they were fitted and chosen, then where they are shown."""
    model = load_bundle(run / "bundle")
    val = _part(run, "val", views, track, say)
    val = val.select(val.labels >= 0)
    detectors = fit_detectors(
        by_picture(known_views(run, views=views, track=track, say=say))[0],
        model.weight,
        model.bias,
    )
    fit, first = by_picture(material.strangers.predictions)
    report, first_seen = by_picture(seen.predictions)
    sets = (
        ("choose", val, fit, [material.strangers.kinds[i] for i in first]),
        ("report", test.select(test.labels >= 0), report, [seen.kinds[i] for i in first_seen]),
    )
    rows: list[dict[str, Any]] = []
    for name, detector in detectors.items():
        threshold = threshold_at(detector.score(val.features, val.logits), acceptance)
        for on, known, strange, kinds in sets:
            row = detector_row(
                detector.score(known.features, known.logits),
                known.labels,
                detector.score(strange.features, strange.logits),
                kinds,
                codes=known.codes,
                threshold=threshold,
            )
            rows.append({"detector": name, "on": on, **row})
    rows.append({"detector": "gate", "on": "choose", **_left_out(crossed, acceptance)})
    on, known, strange, kinds = sets[1]
    row = detector_row(
        gate.score(known.features, known.logits),
        known.labels,
        gate.score(strange.features, strange.logits),
        kinds,
        codes=known.codes,
        threshold=gate.threshold,
    )
    return [*rows, {"detector": "gate", "on": on, **row}]


def _left_out(crossed: CrossFitted, acceptance: float) -> dict[str, float]:
    """The gate on strangers of left-out diseases, each against known cases of its answer's kind."""
    row = {}
    kinds = np.array(crossed.kinds)
    for kind in dict.fromkeys(crossed.kinds):
        levels = crossed.levels[kinds == kind]
        row[f"auroc_{kind}"] = float(levels.mean())
        row[f"fpr95_{kind}"] = float((levels < 0.95).mean())
        row[f"let_in_{kind}"] = float((levels < acceptance).mean())
    return row


def _report(gate: Gate, test: Predictions, seen: Views) -> dict[str, Any]:
    """Counts on the test part by class, and on strangers by kind and disease."""
    test = test.select(test.labels >= 0)
    names = [test.codes[label] for label in test.labels]
    out, unsure = (f(test.features, test.logits) for f in (gate.rejects, gate.unsure))
    rejected, doubted = shares_by(out, names), shares_by(unsure, names)
    classes = [
        {
            "class": code,
            "cases": rejected[code][1],
            "rejected": rejected[code][0],
            "unsure": doubted[code][0],
        }
        for code in test.codes
        if code in rejected
    ]
    strange, first = by_picture(seen.predictions)
    kinds = [seen.kinds[i] for i in first]
    # Each everyday photograph is a group of its own; a table has one row for them all.
    what = [k if k == "everyday" else g for k, g in zip(kinds, strange.groups, strict=True)]
    away, doubt = (f(strange.features, strange.logits) for f in (gate.rejects, gate.unsure))
    reasons = gate.reasons(strange.features, strange.logits)
    table = []
    for kind, group in dict.fromkeys(zip(kinds, what, strict=True)):
        here = np.array([pair == (kind, group) for pair in zip(kinds, what, strict=True)])
        table.append(
            {
                "kind": kind,
                "group": group,
                "pictures": int(here.sum()),
                "rejected": int(away[here].sum()),
                "unsure": int(doubt[here].sum()),
                "confident": int((~(away | doubt))[here].sum()),
                "called_no_lesion": sum(
                    reason not in (KNOWN, "other condition")
                    for reason, inside in zip(reasons, here, strict=True)
                    if inside
                ),
            }
        )
    return {"classes": classes, "strangers": table}


def _threshold(
    gate: Gate, rows: list[dict[str, Any]], report: Mapping[str, Any], views: int
) -> dict[str, Any]:
    settings, arrays = gate.to_parts()
    groups = list(gate.groups)
    chosen = next(row for row in rows if row["detector"] == "gate" and row["on"] == "choose")
    return {
        "score": "log odds of a stranger against the answer's source; higher is stranger",
        "threshold": settings["threshold"],
        "acceptance": settings["acceptance"],
        "views": views,
        "log_odds_at_threshold": dict(
            zip(groups, map(float, arrays["gate_offsets"]), strict=False)
        ),
        "unsure_above": dict(zip(groups, map(float, arrays["gate_cautions"]), strict=False)),
        "left_out": {key: value for key, value in chosen.items() if key not in ("detector", "on")},
        "test": {row["class"]: {**row} for row in report["classes"]},
    }


def _told(rows: list[dict[str, Any]], report: Mapping[str, Any]) -> list[str]:
    lines = []
    for row in rows:
        shown = [
            f"{kind} AUROC {row[f'auroc_{kind}']:.3f} FPR95 {row[f'fpr95_{kind}']:.3f}"
            for kind in ("everyday", "drawn", "clinical")
            if f"auroc_{kind}" in row
        ]
        lines.append(f"{row['on']:6} {row['detector']:20} {'; '.join(shown)}")
    lines.append("of the test part the gate turns away, and calls unsure:")
    lines += [
        f"  {row['class']:5} {row['rejected']} and {row['unsure']} of {row['cases']}"
        for row in report["classes"]
    ]
    lines.append("of strangers of the report part it turns away, calls unsure, lets in:")
    for kind in dict.fromkeys(row["kind"] for row in report["strangers"]):
        inside = [row for row in report["strangers"] if row["kind"] == kind]
        count = {key: sum(row[key] for row in inside) for key in inside[0] if key not in _WORDS}
        inside = [*inside, {"group": f"all {kind}", **count}] if len(inside) > 1 else inside
        lines += [
            f"  {row['group']:24} {row['rejected']:4} {row['unsure']:4} {row['confident']:4} "
            f"of {row['pictures']}"
            for row in inside
        ]
    return lines


_WORDS: Final = ("kind", "group")


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with write_whole(path) as file:
        file.write(text.getvalue().encode())


def _joined(one: Predictions, other: Predictions) -> Predictions:
    return Predictions(
        images=[*one.images, *other.images],
        groups=[*one.groups, *other.groups],
        labels=np.concatenate([one.labels, other.labels]),
        logits=np.concatenate([one.logits, other.logits]),
        features=np.concatenate([one.features, other.features]),
        codes=one.codes,
    )
