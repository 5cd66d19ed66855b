"""Does a model's confidence mean what it says? Every calibration fitted, compared and drawn."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dermx.errors import DataError, InputError
from dermx.evaluate.metrics import labelled
from dermx.model.bundle import load_bundle
from dermx.preprocess.views import VIEWS
from dermx.records import Predictions, write_whole
from dermx.runs import read_parts
from dermx.trust.calibration import Calibration, fit_calibration, reliability
from dermx.trust.fitting import fit_consistent, left_out_losses
from dermx.trust.measure import calibration_figures, dermoscopic
from dermx.workflow.evaluation import Part, Say, answers_file, cases_of, predicted, write_json

if TYPE_CHECKING:
    from dermx.train.loop import Track

TEMPERATURE: Final = "calibration_temperature.json"
CONSISTENT: Final = "consistent"


def calibrate_run(
    run: Path,
    *,
    on: Part = "test",
    views: int = VIEWS,
    fit: Path | None = None,
    n_boot: int = 1000,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Fit every calibration on the validation part and compare them on another.

    Writes `calibration_temperature.json` into the run; `calibration.json` and `reliability.png`
    into `run/evaluation/<on>/`.

    Args:
        run: Folder written by `train_run`.
        on: Part that the figures are about; they are about its dermoscopic cases.
        views: 1, or 8 for means over turns and mirror images.
        fit: Fit on these predictions instead, e.g. out-of-fold ones.
        n_boot: Resamples of lesions.
        track: Shows progress.
        say: Shows the figures.

    Returns:
        The reliability diagram.

    Raises:
        InputError: Not even a temperature can be fitted; what else can't be is told and left out.
        DataError: A part has no case, or `fit` holds cases of the test part.
    """
    from dermx.evaluate.figures import png
    from dermx.trust.figures import reliability_figure

    fitting = fitting_cases(run, fit, views, track, say)
    scored = dermoscopic(views_of(run, on, views=views, track=track, say=say))
    folder = run / "evaluation" / on
    table: dict[str, Any] = {}
    diagrams = {}
    losses, refused = left_out_losses(fitting)
    if "temperature" in refused:  # which is what a run keeps
        raise InputError(refused["temperature"])
    for name, reason in refused.items():
        say(f"{name} is left out: {reason}")
    fits: dict[str, Calibration] = {
        m: fit_calibration(fitting.logits, fitting.labels, m) for m in losses
    }
    best = min(losses, key=lambda method: losses[method])
    fits[f"{best}, {CONSISTENT}"] = fit_consistent(fitting, best)  # what `dermx trust` uses
    for method, calibration in fits.items():
        probs = calibration.probs(scored.logits)
        right = (probs.argmax(axis=1) == scored.labels).mean()
        figures = calibration_figures(probs, scored, n_boot=n_boot)
        table[method] = {"accuracy": float(right), **figures}
        diagrams[method] = reliability(probs, scored.labels)
        say(f"{method:<25}" + "  ".join(f"{k} {told(v)}" for k, v in figures.items()))
        if method == "temperature":
            content = {
                "temperature": calibration.temperature,
                "views": views,
                "fitted_on": {
                    "cases": len(fitting.labels),
                    "file": None if fit is None else fit.name,
                },
            }
            write_json(run / TEMPERATURE, content)
    content = {
        "part": on,
        "cases": len(scored.labels),
        "views": views,
        "methods": table,
        "not_fitted": refused,
    }
    write_json(folder / "calibration.json", content)
    chosen = {name: diagrams[name] for name in ("none", "temperature", list(fits)[-1])}
    errors = {name: table[name]["ece"]["value"] for name in chosen}
    path = folder / "reliability.png"
    with write_whole(path) as file:
        file.write(png(reliability_figure(chosen, errors)))
    return path


def views_of(
    run: Path, part: Part, *, views: int = VIEWS, track: "Track | None" = None, say: Say = print
) -> Predictions:
    """Predict a part of a run with all views, or read what was predicted with the same network."""
    cases = cases_of(run, part)
    path = run / "evaluation" / part / answers_file(views)
    return predicted(load_bundle(run / "bundle"), cases, path, track, say, views)


def fitting_cases(
    run: Path, fit: Path | None, views: int, track: "Track | None", say: Say
) -> Predictions:
    """Labelled cases to fit on: the validation part, or those of a file.

    Raises:
        InputError: No case has a label.
        DataError: The file holds cases of the run's test part, or of their lesions.
    """
    if fit is None:
        return labelled(views_of(run, "val", views=views, track=track, say=say))
    said = Predictions.load(fit)
    tested = read_parts(run)["test"]
    images, groups = {case.image for case in tested}, {case.group for case in tested}
    both = zip(said.images, said.groups, strict=True)
    if leaked := [image for image, group in both if image in images or group in groups]:
        raise DataError(
            f"{len(leaked)} of the {len(said.images)} cases in {fit} are of the test part of "
            f"{run}, e.g. {leaked[0]}; fitted on them, it would be no test"
        )
    return labelled(said)


def told(figure: dict[str, Any]) -> str:
    """Write a figure with its interval."""
    value, low, high = (figure[key] for key in ("value", "low", "high"))
    return "none" if value is None else f"{value:.4f} [{low:.4f}, {high:.4f}]"
