"""How good is a trained model? On its own parts, on ISIC's pictures, under stress, by a rule."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from dermx.data.isic import read_isic
from dermx.diagnoses import DERMOSCOPIC
from dermx.errors import DataError, InputError
from dermx.evaluate.decision import Decide, operating_point
from dermx.evaluate.stress import STRESS, stress, stress_csv
from dermx.model.bundle import HEAD, Bundle, load_bundle
from dermx.predict import Progress, predict_cases
from dermx.preprocess.shift import SEVERITIES, Change
from dermx.records import Case, Predictions, write_whole
from dermx.runs import (
    read_facts,
    read_history,
    read_parts,
)

if TYPE_CHECKING:
    from dermx.train.loop import Track

Part = Literal["train", "val", "test", "all"]
Say = Callable[[str], None]
TITLES: Final = {
    "train": "train, what it was trained on",
    "all": "all pictures, those it was trained on included",
}


def evaluate_run(
    run: Path,
    *,
    on: Part = "test",
    isic_truth: Path | None = None,
    images: Path | None = None,
    stressed: bool = False,
    decide: Decide | None = None,
    sensitivity: float = 0.92,
    views: int = 1,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Score a trained model on one part of its own pictures, or on an ISIC test set.

    Args:
        run: Folder written by `train_run`.
        on: Part of the run's own pictures; "all" is the protocol of those who also score what
            they trained on, and the report says so.
        isic_truth: ISIC 2018 Task 3 ground truth; with `images`, scored instead of `on`.
        images: Folder of the pictures that the ground truth names.
        stressed: Also score the pictures changed in colour, light, sharpness, distance and frame:
            `stress.csv`.
        decide: Fit this decision rule and a screening threshold on the validation part as well,
            and write how they do to `decision_<decide>.json`; the report stays that of the argmax.
        sensitivity: For malignant or pre-malignant cases, that the rule "cost" and the threshold
            reach on the validation part.
        views: 1, or 8 for the mean over turns and mirror images, as `dermx predict` answers where
            the model has trust parts; the report then lies in `run/evaluation/<part>_8_views/`.
        track: Shows progress.
        say: Shows pictures that could not be read, and the figures of the decision rule.

    Returns:
        The page, beside it the tables and figures, in `run/evaluation/<part>/`.
    """
    from dermx.report import write_isic_csv, write_report

    if (isic_truth is None) != (images is None):
        raise InputError("give --isic-truth CSV and --images DIR together")
    if views != 1 and (stressed or decide is not None):
        raise InputError("--stress and --decide are about single views; leave --views out")
    if isic_truth is not None and images is not None:
        name, cases = isic_truth.stem, read_isic(isic_truth, images)
    else:
        parts = read_parts(run)
        name, cases = on, [case for part in parts if on in (part, "all") for case in parts[part]]
    folder, title = run / "evaluation" / name, f"{run.name} on {TITLES.get(name, name)}"
    if views == 1:
        predictions = predictions_of(run, cases, folder, track, say)
    else:
        bundle = load_bundle(run / "bundle")
        predictions = predicted(bundle, cases, folder / "views.npz", track, say, views)
        folder, title = folder.with_name(f"{name}_{views}_views"), f"{title}, mean of {views} views"
    report = write_report(
        folder,
        predictions,
        title=title,
        history=read_history(run),
        facts=read_facts(run),
    )
    write_isic_csv(predictions.probs, predictions.images, folder / "isic.csv", predictions.codes)
    if stressed:
        _stress_table(run, cases, predictions, folder, track, say)
    if decide is not None:
        val = read_parts(run)["val"]
        if not val:
            raise DataError(f"{run} has no validation part to fit a decision rule on")
        fitting = predictions_of(run, val, run / "evaluation" / "val", track, say)
        point = operating_point(fitting, predictions, decide, sensitivity=sensitivity)
        write_json(folder / f"decision_{decide}.json", point.to_dict())
        say(f"{name}: {point.to_text()}")
    return report


def predictions_of(
    run: Path, cases: Sequence[Case], folder: Path, track: "Track | None", say: Say
) -> Predictions:
    """Predict, or read what was predicted with the same bundle for the same cases."""
    return predicted(load_bundle(run / "bundle"), cases, folder / "predictions.npz", track, say)


def predicted(
    bundle: Bundle,
    cases: Sequence[Case],
    path: Path,
    track: "Track | None",
    say: Say,
    views: int = 1,
) -> Predictions:
    """Predict, or read the file if the same network made it for the same cases and views."""
    # Not the index: it is written anew when trust parts are added, which change no prediction.
    newest = max(part.stat().st_mtime for part in (bundle.network, bundle.folder / HEAD))
    if path.is_file() and path.stat().st_mtime > newest:
        known = Predictions.load(path)
        same_views = (1 if known.views is None else known.views.shape[1]) == views
        if same_views and list(known.images) == [case.image for case in cases]:
            return known
    progress = counted(track, "predicting", len(cases))
    predictions, failures = predict_cases(bundle, cases, progress=progress, views=views)
    for image, message in failures:
        say(f"{image}: {message}")
    predictions.save(path)
    return predictions


def _stress_table(
    run: Path,
    cases: Sequence[Case],
    as_taken: Predictions,
    folder: Path,
    track: "Track | None",
    say: Say,
) -> None:
    """Write `stress.csv`: the dermoscopic cases under every change and severity, and their mean."""
    from dermx.model.runtime import Session

    read = set(as_taken.images)
    cases = [case for case in cases if case.image in read and case.diagnosis in DERMOSCOPIC]
    session = Session(load_bundle(run / "bundle"))
    total = len(cases) * len(STRESS) * len(SEVERITIES)
    progress = counted(track, "predicting changed pictures", total)

    def predict(change: Change) -> Predictions:
        return predict_cases(session, cases, progress=progress, change=change)[0]

    kept = {case.image for case in cases}
    same = as_taken.select(np.array([image in kept for image in as_taken.images], bool))
    rows = list(stress(same, predict))
    with write_whole(folder / "stress.csv") as file:
        file.write(stress_csv(rows).encode())
    before, mean = (row.balanced_accuracy_dermoscopic for row in (rows[0], rows[-1]))
    say(
        f"{folder / 'stress.csv'}: balanced accuracy of the dermoscopic classes "
        f"{before:.3f} as taken, {mean:.3f} on average over {len(rows) - 2} changes"
    )


def counted(track: "Track | None", what: str, total: int) -> Progress:
    """A progress display that is told of each picture done."""
    if track is None:
        return lambda _: None
    steps = iter(track(range(total + 1), what, total))
    next(steps)
    return lambda _: next(steps, None)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, whole or not at all; NaN is refused."""
    with write_whole(path) as file:
        file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
