"""When does a model get a picture that it should not answer? The gate fitted, and its worth shown.

Fitted and chosen on the training and validation parts and on the fitting part of the outlier
pictures; reported once on the test part and on diseases, photographs and kinds of drawings that
were not fitted on.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dermx.diagnoses import BY_CODE
from dermx.errors import BundleError, InputError
from dermx.model.bundle import head_digest, load_bundle
from dermx.preprocess.views import VIEWS
from dermx.records import Predictions, write_whole
from dermx.runs import require_run
from dermx.trust.gate import Gate
from dermx.trust.gatefit import (
    ACCEPTANCE,
    LET_IN,
    CrossFitted,
    by_picture,
    check_shares,
    cross_fit,
    fit_gate,
)
from dermx.trust.ood import fit_detectors
from dermx.trust.separation import detector_row, threshold_at
from dermx.workflow.calibrating import views_of
from dermx.workflow.evaluation import Say, write_json
from dermx.workflow.oodreport import left_out_row, report_gate, threshold_json, told
from dermx.workflow.strangers import Views, known_views, stranger_views

if TYPE_CHECKING:
    from dermx.train.loop import Track

THRESHOLD: Final = "ood_threshold.json"
SETTINGS, ARRAYS = "gate.json", "gate.npz"
LEFT_OUT: Final = {"clinical": "other skin diseases", "everyday": "everyday photographs"}


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
    track: "Track | None" = None,
    say: Say = print,
) -> Gate:
    """Fit a run's gate to the default shares and save it in `run/ood/`; arguments as `ood_run`."""
    material = _material(run, outliers, dermnet, views, track, say)
    gate = _fit(material, ACCEPTANCE, LET_IN, crossed=None)
    save_gate(gate, run, views)
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
    `ood.json` and `ood.png`.

    Args:
        run: Folder written by `train_run`.
        outliers: Folder with `everyday/` and `clinical/<disease>/`; only the part for fitting of
            the published split is fitted on, or of a new deal where pictures are not in it.
        dermnet: DermNet's acne class, or a folder above it, whose other names count, too.
        views: 1, or 8 for the mean over turns and mirror images, as the model will be used.
        acceptance: Share of every class to let in, see `fit_gate`.
        let_in: Share of clinical strangers that may pass without a warning, see `fit_gate`.
        track: Shows progress.
        say: Shows pictures that could not be read, and the figures.

    Returns:
        The figure.

    Raises:
        InputError: A share is out of its range, or there is one other disease or everyday
            photograph alone to fit on.
    """
    from dermx.evaluate.figures import png
    from dermx.trust.oodfigure import gate_figure

    check_shares(acceptance, let_in)
    material = _material(run, outliers, dermnet, views, track, say)
    test = views_of(run, "test", views=views, track=track, say=say)
    seen = stranger_views(
        run, "report", outliers=outliers, dermnet=dermnet, views=views, track=track, say=say
    )
    crossed = _crossed(material)
    gate = _fit(material, acceptance, let_in, crossed)
    save_gate(gate, run, views)
    rows = _compared(run, material, gate, crossed, test, seen, acceptance, views, track, say)
    report = report_gate(gate, test, seen)
    folder = run / "ood"
    _write_csv(folder / "detectors.csv", rows)
    _write_csv(folder / "strangers.csv", report["strangers"])
    write_json(folder / "ood.json", {"detectors": rows, **report})
    write_json(run / THRESHOLD, threshold_json(gate, rows, report, views))
    strange, first = by_picture(seen.predictions)
    figure = gate_figure(gate, test, strange, [seen.kinds[i] for i in first], rows)
    with write_whole(folder / "ood.png") as file:
        file.write(png(figure))
    for line in told(rows, report):
        say(line)
    return folder / "ood.png"


def save_gate(gate: Gate, run: Path, views: int) -> None:
    """Write a gate to `run/ood/`, with the model and the number of views that it was set on."""
    settings, arrays = gate.to_parts()
    settings |= {"head": _head(run), "views": views}
    with write_whole(run / "ood" / ARRAYS) as file:
        np.savez(file, allow_pickle=False, **arrays)
    write_json(run / "ood" / SETTINGS, settings)


def load_gate(run: Path, views: int = VIEWS) -> Gate | None:
    """Read the gate of `save_gate`; None where the run has none.

    Args:
        run: Folder written by `train_run`.
        views: As the gate will be used. A file that doesn't say its views counts as one of 8.

    Raises:
        BundleError: It is damaged, of a newer format, not of the model that the run has now, or
            its thresholds were set on another number of views.
    """
    settings, arrays = run / "ood" / SETTINGS, run / "ood" / ARRAYS
    if not settings.is_file():
        return None
    try:
        content = json.loads(settings.read_text(encoding="utf-8"))
        with np.load(arrays, allow_pickle=False) as parts:
            gate = Gate.from_parts(content, dict(parts))
    except (OSError, ValueError) as error:
        raise BundleError(f"can't read the gate in {settings.parent}: {error}") from error
    if content.get("head") != _head(run):
        raise BundleError(
            f"the gate in {settings.parent} was not fitted for the model that {run} has now; "
            f"fit it again: dermx ood {run} --outliers DIR"
        )
    if (fitted := content.get("views", VIEWS)) != views:
        raise BundleError(
            f"the gate in {settings.parent} was fitted with --views {fitted}, not {views}; "
            f"give --views {fitted}, or fit it again: "
            f"dermx ood {run} --outliers DIR --views {views}"
        )
    return gate


def _head(run: Path) -> str:
    model = load_bundle(run / "bundle")
    return head_digest(model.weight, model.bias)


def _material(
    run: Path,
    outliers: Path,
    dermnet: Path | None,
    views: int,
    track: "Track | None",
    say: Say,
) -> Material:
    require_run(run)
    strangers = stranger_views(
        run, "fit", outliers=outliers, dermnet=dermnet, views=views, track=track, say=say
    )
    _require_two(strangers.predictions.groups, strangers.kinds)
    judged = views_of(run, "val", views=views, track=track, say=say)
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


def _require_two(groups: Sequence[str], kinds: Sequence[str]) -> None:
    """See that one group of each kind can be left out, before more pictures are predicted."""
    for kind, plural in LEFT_OUT.items():
        found = {group for group, one in zip(groups, kinds, strict=True) if one == kind}
        if len(found) == 1:
            raise InputError(
                f"need at least 2 {plural} in the part for fitting, so that one can be left out, "
                f"got {found.pop()} alone; give more of them"
            )


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
    val = views_of(run, "val", views=views, track=track, say=say)
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
    rows.append({"detector": "gate", "on": "choose", **left_out_row(crossed, acceptance)})
    on, known, strange, kinds = sets[1]
    row = detector_row(
        gate.admit(known.features, known.logits).score,
        known.labels,
        gate.admit(strange.features, strange.logits).score,
        kinds,
        codes=known.codes,
        threshold=0.0,
    )
    return [*rows, {"detector": "gate", "on": on, **row}]


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
