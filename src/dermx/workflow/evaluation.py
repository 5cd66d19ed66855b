"""How good is a trained model? On its own parts, on ISIC's pictures, under stress, by a rule."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from dermx.data.catalog import require_pictures
from dermx.data.isic import read_isic
from dermx.diagnoses import DERMOSCOPIC
from dermx.errors import DataError, InputError
from dermx.evaluate.decision import Decide, operating_point
from dermx.evaluate.stress import STRESS, stress, stress_csv
from dermx.model.bundle import Bundle, head_digest, load_bundle
from dermx.model.runtime import Session
from dermx.predict import Progress, predict_cases
from dermx.preprocess.shift import SEVERITIES, Change
from dermx.preprocess.views import VIEWS
from dermx.records import Case, Predictions, write_whole
from dermx.runs import read_facts, read_history, read_parts
from dermx.train.cache import cache_key

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
    sensitivity: float | None = None,
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
            reach on the validation part; 0.92 when None.
        views: 1, or 8 for the mean over turns and mirror images, as `dermx predict` answers where
            the model has trust parts; the report then lies in `run/evaluation/<part>_8_views/`.
        track: Shows progress.
        say: Shows the figures of the decision rule, and that older predictions don't count.

    Returns:
        The page, beside it the tables and figures, in `run/evaluation/<part>/`; those of an ISIC
        test set in `run/evaluation/isic_<name of its truth>/`.

    Raises:
        InputError: Options that don't go together, or a sensitivity outside (0, 1].
        DataError: The folder is not a run's, a part has no case, or a picture is missing or can't
            be read: figures of the others would not be those of the part.
    """
    from dermx.report import write_isic_csv, write_report

    if (isic_truth is None) != (images is None):
        raise InputError("give --isic-truth CSV and --images DIR together")
    if views not in (1, VIEWS):
        raise InputError(f"--views must be 1 or {VIEWS}, got {views}")
    if sensitivity is not None and decide is None:
        raise InputError("--sensitivity is what --decide RULE aims for; give --decide, too")
    if views != 1 and (stressed or decide is not None):
        raise InputError("--stress and --decide are about single views; leave --views out")
    aim = 0.92 if sensitivity is None else sensitivity
    if not 0 < aim <= 1:
        raise InputError(f"--sensitivity must be above 0, at most 1, got {aim:g}")
    val = read_parts(run)["val"]  # refuses what is no run
    if decide is not None and not val:
        raise DataError(f"{run} has no validation part to fit a decision rule on")
    if isic_truth is not None and images is not None:
        cases = read_isic(isic_truth, images)
        name, told = f"isic_{isic_truth.stem}", isic_truth.stem  # a file may be called test.csv
    else:
        cases = cases_of(run, on)
        name, told = on, TITLES.get(on, on)
    folder, title = run / "evaluation" / name, f"{run.name} on {told}"
    if views == 1:
        predictions = predictions_of(run, cases, folder, track, say)
    else:
        bundle = load_bundle(run / "bundle")
        predictions = predicted(bundle, cases, folder / answers_file(views), track, say, views)
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
        fitting = predictions_of(run, val, run / "evaluation" / "val", track, say)
        point = operating_point(fitting, predictions, decide, sensitivity=aim)
        write_json(folder / f"decision_{decide}.json", point.to_dict())
        say(f"{name}: {point.to_text()}")
    return report


def cases_of(run: Path, part: Part) -> list[Case]:
    """Cases of a part of the run's own pictures; "all" are those of every part.

    Raises:
        DataError: There is none, or the folder is not a run's.
    """
    parts = read_parts(run)
    cases = [case for name in parts if part in (name, "all") for case in parts[name]]
    if not cases:
        raise DataError(f"{run} has no {part} part")
    return cases


def predictions_of(
    run: Path, cases: Sequence[Case], folder: Path, track: "Track | None", say: Say
) -> Predictions:
    """Predict, or read what was predicted with the same bundle for the same cases; `predicted`."""
    return predicted(load_bundle(run / "bundle"), cases, folder / answers_file(1), track, say)


def answers_file(views: int) -> str:
    """Name of the file in an evaluation's folder that keeps the answers of so many views."""
    return "predictions.npz" if views == 1 else "views.npz"


def predicted(
    bundle: Bundle,
    cases: Sequence[Case],
    path: Path,
    track: "Track | None",
    say: Say,
    views: int = 1,
) -> Predictions:
    """Predict, or read the file if the same network made it of the same pictures, as they are now.

    Raises:
        DataError: Pictures are missing or can't be read; says how many and which first.
    """
    require_pictures(cases)

    def make() -> Predictions:
        progress = counted(track, "predicting", len(cases))
        return predict_all(bundle, cases, progress=progress, views=views)

    return read_or_make(path, origin(bundle, cases, views), make, say)


def read_or_make(path: Path, key: str, make: Callable[[], Predictions], say: Say) -> Predictions:
    """Read stored predictions, or make and store them where those are of something else.

    What they are of is told by `key` (see `origin`) in a file beside them, of the same name and
    `.key`.
    """
    told = path.with_suffix(".key")
    if path.is_file():
        if told.is_file() and told.read_text(encoding="utf-8") == key:
            return Predictions.load(path)
        say(f"{path}: of another model, or the pictures or their table have changed; made anew")
    told.unlink(missing_ok=True)  # never an old key beside new predictions
    predictions = make()
    predictions.save(path)
    with write_whole(told) as file:
        file.write(key.encode())
    return predictions


def origin(bundle: Bundle, cases: Sequence[Case], views: int) -> str:
    """Digest of all that predictions depend on; trust parts change none of them.

    Cases without a file are drawings, which their names tell.
    """
    network = hashlib.sha256(bundle.network.read_bytes()).hexdigest()
    model = (network, head_digest(bundle.weight, bundle.bias), bundle.codes, bundle.preprocess)
    table = [(case.image, case.group, case.diagnosis) for case in cases]
    files = [case.path for case in cases if case.path.is_file()]
    return cache_key(files, (model, views, table))


def predict_all(
    model: Bundle | Session,
    cases: Sequence[Case],
    *,
    progress: Progress | None = None,
    change: Change | None = None,
    views: int = 1,
) -> Predictions:
    """Predict every case: figures of those that can be read would be about other pictures.

    Raises:
        DataError: Says how many can't be read, and which first.
    """
    predictions, failures = predict_cases(
        model, cases, progress=progress, change=change, views=views
    )
    if failures:
        raise DataError(
            f"{len(failures)} of {len(cases)} pictures can't be read, first {failures[0].image}: "
            f"{failures[0].message}"
        )
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
    cases = [case for case in cases if case.diagnosis in DERMOSCOPIC]
    session = Session(load_bundle(run / "bundle"))
    total = len(cases) * len(STRESS) * len(SEVERITIES)
    progress = counted(track, "predicting changed pictures", total)

    def predict(change: Change) -> Predictions:
        return predict_all(session, cases, progress=progress, change=change)

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
