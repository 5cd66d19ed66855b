"""What do age, sex and site add to a trained model? Fitted, compared and kept beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from dermx.data.split import split_folds
from dermx.errors import DataError
from dermx.evaluate.intervals import estimate_json, percentile_interval, resampled
from dermx.evaluate.metrics import labelled, score
from dermx.model.metadata import MetadataHead, Patient, fit_metadata
from dermx.records import Case, Predictions
from dermx.runs import read_parts
from dermx.workflow.evaluation import cases_of, predictions_of, write_json

if TYPE_CHECKING:
    from jaxtyping import Float

    from dermx.train.loop import Track

Say = Callable[[str], None]
HEAD: Final = "metadata.json"  # in the run's folder
FEWEST: Final = 20  # lesions to fit on; a few hundred are wanted
FOLDS: Final = 5  # by lesion, to choose the penalty
PENALTIES: Final = (1.0, 3.0, 10.0, 30.0, 100.0)
COMPARED: Final = (
    *("balanced_accuracy_dermoscopic", "accuracy", "macro_f1", "recall_mel", "auroc_mel"),
)


def metadata_run(
    run: Path,
    *,
    on: Literal["val", "test"] = "test",
    fit: Path | None = None,
    balance: float = 0.75,
    n_boot: int = 2000,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Fit a metadata head and score it beside the picture alone and the metadata alone.

    The penalty is chosen among `PENALTIES` by five folds by lesion of the cases it is fitted on.

    Args:
        run: Folder written by `train_run`; `metadata.json` in it is then the head.
        on: Part that is scored; when it is "val" and the head is fitted on "val", each case is
            scored by a head that was fitted on other folds.
        fit: Out-of-fold predictions, e.g. `predictions.npz` of `dermx crossval`; none of them
            may be of the run's test part. None: the run's validation part.
        balance: See `fit_metadata`; 0.75 keeps the picture's balance between the classes.
        n_boot: How many times lesions are drawn for the intervals.
        track: Shows progress.
        say: Shows one line per figure.

    Returns:
        `evaluation/<on>/metadata.json`: scores with intervals, and the paired difference.

    Raises:
        DataError: The predictions to fit on are of the test part, of unknown cases, or too few; or
            a part has no case.
    """
    parts, to_score = read_parts(run), cases_of(run, on)
    cases = {case.image: case for inside in parts.values() for case in inside}
    fitting = labelled(
        predictions_of(run, cases_of(run, "val"), run / "evaluation" / "val", track, say)
        if fit is None
        else Predictions.load(fit)
    )
    if len(set(fitting.groups)) < FEWEST:
        raise DataError(
            f"{len(set(fitting.groups))} lesions are too few to fit on, need {FEWEST}; "
            "give out-of-fold predictions"
        )
    tested = {case.group for case in parts["test"]}
    known = [image in cases and cases[image].group not in tested for image in fitting.images]
    if not all(known):
        raise DataError(
            f"{known.count(False)} of the {len(known)} pictures to fit on are of the test part or "
            f"not of {run}, e.g. {fitting.images[known.index(False)]}"
        )
    penalty, held_out = _choose_penalty(fitting, cases, balance)
    head = _fit(fitting, cases, balance, penalty)
    head.save(run / HEAD)
    say(f"{run / HEAD}: fitted on {len(fitting.images)} pictures, penalty {penalty:g}")
    scored = labelled(predictions_of(run, to_score, run / "evaluation" / on, track, say))
    if list(scored.images) == list(fitting.images):
        both, alone = held_out, _held_out(fitting, cases, balance, penalty, picture=False)
    elif set(scored.images) & set(fitting.images):
        raise DataError(f"some of the {on} part are among the pictures to fit on; score the test")
    else:
        both = head.logits(scored.logits, _patients(scored, cases))
        lone = _fit(fitting, cases, balance, penalty, picture=False)
        alone = lone.logits(scored.logits, _patients(scored, cases))
    answers = {
        "picture": scored,
        "picture and metadata": _with(scored, both),
        "metadata": _with(scored, alone),
    }
    return _write(run / "evaluation" / on / "metadata.json", answers, head, penalty, n_boot, say)


def _write(
    path: Path,
    answers: dict[str, Predictions],
    head: MetadataHead,
    penalty: float,
    n_boot: int,
    say: Say,
) -> Path:
    drawn = {name: resampled(one, n_boot=n_boot) for name, one in answers.items()}
    values = {name: score(one).values for name, one in answers.items()}
    both, picture = "picture and metadata", "picture"
    gain = "gain"  # paired: of the same lesions in every draw
    drawn[gain] = {key: drawn[both][key] - drawn[picture][key] for key in COMPARED}
    values[gain] = {key: values[both][key] - values[picture][key] for key in COMPARED}
    figures = {
        name: {key: (values[name][key], *percentile_interval(drawn[name][key])) for key in COMPARED}
        for name in values
    }
    for key in COMPARED:
        said = ", ".join(f"{name} {figures[name][key][0]:.3f}" for name in figures)
        say(f"{key}: {said} ({figures[gain][key][1]:+.3f} to {figures[gain][key][2]:+.3f})")
    scores = {
        name: {key: estimate_json(one) for key, one in row.items()} for name, row in figures.items()
    }
    write_json(path, {"penalty": penalty, "sites": head.sites, "scores": scores})
    return path


def _choose_penalty(
    fitting: Predictions, cases: dict[str, Case], balance: float
) -> tuple[float, Float[np.ndarray, "n classes"]]:
    """Take the penalty of the least held-out log loss, every case weighed as in the fit."""
    weight = np.bincount(fitting.labels)[fitting.labels].astype(np.float64) ** -balance
    rows = np.arange(len(fitting.labels))
    found = []
    for penalty in PENALTIES:
        logits = _held_out(fitting, cases, balance, penalty)
        truth = _with(fitting, logits).probs[rows, fitting.labels]
        found.append((float(-(weight * np.log(truth)).sum()), penalty, logits))
    _, penalty, logits = min(found, key=lambda one: one[0])
    return penalty, logits


def _held_out(
    fitting: Predictions,
    cases: dict[str, Case],
    balance: float,
    penalty: float,
    *,
    picture: bool = True,
) -> Float[np.ndarray, "n classes"]:
    """Logits of every case by a head that was fitted on the other four folds by lesion."""
    by_image = split_folds([cases[image] for image in fitting.images], FOLDS)
    fold = np.array([by_image[image] for image in fitting.images])
    logits = np.zeros(fitting.logits.shape)
    for i in range(FOLDS):
        inside, rest = fitting.select(fold == i), fitting.select(fold != i)
        head = _fit(rest, cases, balance, penalty, picture=picture)
        logits[fold == i] = head.logits(inside.logits, _patients(inside, cases))
    return logits


def _fit(
    fitting: Predictions,
    cases: dict[str, Case],
    balance: float,
    penalty: float,
    *,
    picture: bool = True,
) -> MetadataHead:
    return fit_metadata(
        fitting.logits.astype(np.float64),
        _patients(fitting, cases),
        fitting.labels,
        fitting.codes,
        penalty=penalty,
        balance=balance,
        picture=picture,
    )


def _patients(predictions: Predictions, cases: dict[str, Case]) -> list[Patient]:
    return [Patient.of(cases[image]) for image in predictions.images]


def _with(predictions: Predictions, logits: Float[np.ndarray, "n classes"]) -> Predictions:
    return replace(predictions, logits=logits.astype(np.float32))
