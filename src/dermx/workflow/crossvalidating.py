"""One model per fold, and what they say of the cases that they have not seen."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dermx.config import Config, load_config
from dermx.data.split import PARTS
from dermx.diagnoses import CODES
from dermx.errors import ConfigError
from dermx.evaluate.metrics import score
from dermx.model.bundle import load_bundle
from dermx.records import Predictions, write_whole
from dermx.runs import environment, read_facts, read_parts, start_run
from dermx.workflow.combining import write_ensemble
from dermx.workflow.evaluation import predictions_of, write_json
from dermx.workflow.training import is_started, load_cases, silent, started_from, train_run

if TYPE_CHECKING:
    from dermx.train.loop import Track

Say = Callable[[str], None]


def crossval_run(
    out: Path,
    *,
    folds: int | None = None,
    whole: bool = False,
    training: bool = False,
    ham10000: Path | None = None,
    acne: Path | None = None,
    config: Config | None = None,
    init: Path | None = None,
    pretrained: bool = True,
    resume: bool = False,
    cache: Path | None = None,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Train and test K times on folds by lesion; each fold is a run in `out/fold-<i>`.

    Beside them `out` then holds `predictions.npz`, every case's answer by the model that had not
    seen its lesion, a report of these, `difficulty.csv` with their log losses (a curriculum's
    scores), `crossval.json` with mean and spread over the folds, and `bundle/`, the folds' models
    as one, to be evaluated on the test part that no fold has seen.

    Args:
        out: Folder of the cross-validation.
        folds: How many, 5 when None; when resuming, as started.
        whole: Deal the test part into the folds, too; else no fold sees it.
        training: Deal the training part alone: answers that may teach a student which is then
            chosen on the validation part.
        ham10000: Folder of HAM10000; not needed to resume.
        acne: Folder of DermNet's acne class; not needed to resume.
        config: All settings; when resuming, those of the start if None.
        init: Starting weights, safetensors; downloaded by timm when None.
        pretrained: Start at random instead of downloading when False.
        resume: Go on: finished folds are kept, the one that was interrupted goes on.
        cache: Keep each fold's decoded pictures in a folder of its own here.
        track: Shows progress within an epoch.
        say: Shows one line per step.

    Returns:
        The page of the out-of-fold report.

    Raises:
        ConfigError: As `train_run`; something else is asked for than was started, or the folder
            holds no folds to go on with; or `whole` and `training` at once.
        DataError: The pictures are not as promised, or too few for so many folds.
        BundleError: A network of this kind can't be exported.
        MissingExtraError: PyTorch and its companions are not installed.
    """
    if whole and training:
        raise ConfigError("the folds take in either the whole table or the training part alone")
    started = is_started(out, resume=resume, given=ham10000 is not None or acne is not None)
    from dermx.train.check import check_training
    from dermx.train.crossval import check_folds, fold_parts
    from dermx.train.processes import join_processes

    process = join_processes()
    main = process.is_main_process
    say = say if main else silent
    if started:
        runs = _require_same(out, folds, config, init, whole=whole, training=training)
        config = load_config(out / "config.json")
    else:
        parts, config = load_cases(ham10000, acne, say=say), config or Config()
        dealt = ("train",) if training else PARTS if whole else ("train", "val")
        cases = [case for part in dealt for case in parts[part]]
        by_fold = fold_parts(cases, 5 if folds is None else folds)
        check_folds(by_fold, config.train)
        check_training(config, len(CODES), init=init, pretrained=pretrained)
        runs = [out / f"fold-{i + 1}" for i in range(len(by_fold))]
        if main:
            for run, inside in zip(runs, by_fold, strict=True):
                start_run(run, inside, config, init)
            unseen = {part: [] if part in dealt else parts[part] for part in ("val", "test")}
            start_run(out, {"train": cases} | unseen, config, init)
        process.wait_for_everyone()
    for run in runs:
        if (run / "bundle" / "bundle.json").is_file():
            say(f"{run.name} of {len(runs)}: done")
            continue
        say(f"{run.name} of {len(runs)}")
        train_run(
            run,
            config=config,
            init=init,
            pretrained=pretrained,
            resume=True,
            cache=None if cache is None else cache / run.name,
            track=track,
            say=say,
        )
    page = out / "evaluation" / "out-of-fold" / "report.html"
    return _summarise_folds(out, runs, config, track, say) if main else page


def _require_same(
    out: Path,
    folds: int | None,
    config: Config | None,
    init: Path | None,
    *,
    whole: bool,
    training: bool,
) -> list[Path]:
    """Folders of the folds that were started, where nothing else is asked for now.

    Raises:
        ConfigError: Something else is, or there are no folds.
    """
    found = {run.name.removeprefix("fold-"): run for run in out.glob("fold-*")}
    runs = [found[number] for number in sorted(filter(str.isdecimal, found), key=int)]
    if not runs:
        raise ConfigError(f"{out} is a run without folds; go on with it by dermx train --resume")
    other = config not in (None, load_config(out / "config.json"))
    if other or folds not in (None, len(runs)):
        raise ConfigError(f"{out} was started with other settings or {len(runs)} folds")
    kept = read_parts(out)
    if (whole and (kept["val"] or kept["test"])) or (training and not kept["val"]):
        raise ConfigError(f"{out} was started on other parts; go on without --whole or --training")
    known = started_from(out)
    if init is not None and environment(init)["init"]["sha256"] != (known or {}).get("sha256"):
        first = "timm's weights" if known is None else known["name"]
        raise ConfigError(f"{out} was started from {first}, not from what is in {init}")
    return runs


def _summarise_folds(
    out: Path, runs: Sequence[Path], config: Config, track: "Track | None", say: Say
) -> Path:
    """Predict each fold by its own model, and write what `crossval_run` promises."""
    from dermx.report import OVERALL, write_report
    from dermx.train.crossval import pooled, spread

    said = [
        predictions_of(run, read_parts(run)["test"], run / "evaluation" / "test", track, say)
        for run in runs
    ]
    whole, scores = pooled(said), [score(one).values for one in said]
    whole.save(out / "predictions.npz")
    _write_difficulty(out / "difficulty.csv", whole)
    found = spread(scores)
    rows = {
        name: {"mean": _or_none(mean), "sd": _or_none(sd)}
        | {"folds": [_or_none(fold[name]) for fold in scores]}
        for name, (mean, sd) in found.items()
    }
    write_json(out / "crossval.json", {"folds": len(runs), "scores": rows})
    for name, label in OVERALL.items():
        say(f"{label}: mean {found[name][0]:.3f}, standard deviation {found[name][1]:.3f}")
    if not (out / "bundle").exists():
        bundles = [load_bundle(run / "bundle") for run in runs]
        shares = np.full(len(runs), 1 / len(runs))
        write_ensemble(out, bundles, shares, read_parts(out), config, say, start=False)
    return write_report(
        out / "evaluation" / "out-of-fold",
        whole,
        title=f"{out.name}, each case by the fold that had not seen it",
        facts=read_facts(out),
    )


def _write_difficulty(path: Path, said: Predictions) -> None:
    """Write how surprised the models were by each picture's diagnosis, in nats."""
    truth = said.probs[np.arange(len(said.labels)), said.labels]
    losses = -np.log(np.maximum(truth, np.finfo(np.float32).tiny))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "score"])
    writer.writerows(zip(said.images, losses.tolist(), strict=True))
    with write_whole(path) as file:
        file.write(text.getvalue().encode())


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
