"""Where the stages are joined; each public function is one command.

Nothing below knows its neighbours: readers give cases, training is handed pictures and a score,
evaluation reads one file of predictions.
"""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float32, Int, UInt8

from dermx.config import Config, PreprocessConfig, load_config
from dermx.data.catalog import build_catalog
from dermx.data.dermnet import read_dermnet_acne
from dermx.data.ham10000 import read_ham10000
from dermx.data.isic import read_isic
from dermx.data.split import (
    PARTS,
    apply_split,
    load_published_groups,
    load_published_split,
    split_parts,
)
from dermx.diagnoses import CODES, DERMOSCOPIC
from dermx.errors import BundleError, ConfigError, DataError, InputError, MissingExtraError
from dermx.evaluate.decision import Decide, operating_point
from dermx.evaluate.ensemble import combine, fit_weights, select_greedy, stacked
from dermx.evaluate.metrics import accuracy, balanced_accuracy, confusion_matrix, score
from dermx.evaluate.stress import STRESS, stress, stress_csv
from dermx.model.bundle import Bundle, load_bundle, write_bundle
from dermx.model.card import model_card
from dermx.predict import Progress, predict_cases, reading_side
from dermx.preprocess.pipeline import clean, prepare, shorter_side_to
from dermx.preprocess.reading import read_picture
from dermx.preprocess.shift import SEVERITIES, Change
from dermx.records import Case, Predictions, write_whole
from dermx.runs import (
    environment,
    read_facts,
    read_figures,
    read_history,
    read_parts,
    run_digest,
    start_run,
)

if TYPE_CHECKING:
    from dermx.train.loop import Track

Part = Literal["train", "val", "test"]
Weighting = Literal["greedy", "fitted", "equal"]
Say = Callable[[str], None]


def load_cases(
    ham10000: Path | None, acne: Path | None, *, say: Say = print
) -> dict[str, list[Case]]:
    """Read the pictures of both sources, check them as one table and part them by lesion.

    Where every picture is in the published split, that split is used, so figures can be compared;
    else duplicates are searched for and a new split is made by the same rules.

    Args:
        ham10000: Folder of HAM10000, or None.
        acne: Folder of DermNet's acne class, or None.
        say: Shows one line per step.

    Returns:
        The cases of "train", "val" and "test".

    Raises:
        DataError: No folder is given, or one does not hold what its layout promises.
    """
    cases: list[Case] = []
    if ham10000 is not None:
        cases += read_ham10000(ham10000)
    if acne is not None:
        cases += read_dermnet_acne(acne)
    if not cases:
        raise DataError("no pictures to train on; give --ham10000 DIR, --acne DIR or both")
    published = load_published_split()
    if all(case.image in published for case in cases):
        groups = load_published_groups()
        cases = [replace(case, group=groups[case.image]) for case in build_catalog(cases)]
        parts = apply_split(cases, {case.image: published[case.image] for case in cases})
        where = "published split"
    else:
        say(f"searching {len(cases)} pictures for duplicates")
        cases = build_catalog(cases, lambda path: read_picture(path, min_side=128).pixels)
        parts = apply_split(cases, split_parts(cases))
        where = "new split by lesion"
    parts = {part: parts.get(part, []) for part in PARTS}  # a few pictures may not reach all
    counts = ", ".join(f"{len(parts[part])} {part}" for part in PARTS)
    say(f"{len(cases)} pictures: {counts} ({where})")
    return parts


def train_run(
    out: Path,
    *,
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
    """Train one model and export its best weights.

    `out` then holds all that the result depends on: `config.json`, `cases.csv` with every case's
    part, `environment.json`, `history.jsonl`, `best.safetensors` and `bundle/`, the model to use.

    Args:
        out: The run's folder.
        ham10000: Folder of HAM10000; not needed to resume.
        acne: Folder of DermNet's acne class; not needed to resume.
        config: All settings; when resuming, those of the run if None.
        init: Starting weights, safetensors; downloaded by timm when None.
        pretrained: Start at random instead of downloading when False.
        resume: Go on with an interrupted run.
        cache: Keep decoded pictures here for other runs; else they are removed at the end.
        track: Shows progress within an epoch.
        say: Shows one line per step.

    Returns:
        The bundle's folder.

    Raises:
        ConfigError: The folder holds a run already and `resume` is False, or there is none to
            resume, or it has other settings.
        DataError: The pictures are not as promised.
        MissingExtraError: PyTorch and its companions are not installed.
    """
    started = _is_started(out, resume=resume, given=ham10000 is not None or acne is not None)
    from accelerate import PartialState

    from dermx.train.guide import read_guide
    from dermx.train.loop import Pictures, fit, quiet

    process = PartialState()  # one of several under `accelerate launch` or `torchrun`
    if not process.is_main_process:
        track, say = quiet, _silent
    if started:
        parts = read_parts(out)
        config = load_config(out / "config.json") if config is None else config
    else:
        parts = load_cases(ham10000, acne, say=say)
        config = Config() if config is None else config
    for part in ("train", "val"):
        if not parts[part]:
            raise DataError(f"the {part} part has no picture")
    guide = read_guide(config.train, [case.image for case in parts["train"]])
    digest = run_digest(config, parts, init)
    if not started and process.is_main_process:
        start_run(out, parts, config, init)

    pixels = out / "cache" if cache is None else cache
    track = quiet if track is None else track
    train, val = (
        _cached(parts[part], config, pixels, part, track=track) for part in ("train", "val")
    )
    progress = fit(
        Pictures(cache=train, labels=labels_of(parts["train"]), guide=guide),
        Pictures(cache=val, labels=labels_of(parts["val"])),
        config,
        out,
        n_classes=len(CODES),
        score=score_logits,
        init=init,
        pretrained=pretrained,
        resume=resume,
        digest=digest,
        track=track,
        say=say,
    )
    if process.is_main_process:
        say(f"best epoch {progress.best_epoch}: balanced accuracy {progress.best_score:.3f}")
        export_run(out, out / "bundle", say=say)
        if cache is None:
            shutil.rmtree(pixels, ignore_errors=True)
    return out / "bundle"


def evaluate_run(
    run: Path,
    *,
    on: Part = "test",
    isic_truth: Path | None = None,
    images: Path | None = None,
    stressed: bool = False,
    decide: Decide | None = None,
    sensitivity: float = 0.92,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Score a trained model on one part of its own pictures, or on an ISIC test set.

    Args:
        run: Folder written by `train_run`.
        on: Part of the run's own pictures.
        isic_truth: ISIC 2018 Task 3 ground truth; with `images`, scored instead of `on`.
        images: Folder of the pictures that the ground truth names.
        stressed: Also score the pictures changed in colour, light, sharpness, distance and frame:
            `stress.csv`.
        decide: Fit this decision rule and a screening threshold on the validation part as well,
            and write how they do to `decision_<decide>.json`; the report stays that of the argmax.
        sensitivity: For malignant or pre-malignant cases, that the rule "cost" and the threshold
            reach on the validation part.
        track: Shows progress.
        say: Shows pictures that could not be read, and the figures of the decision rule.

    Returns:
        The page, beside it the tables and figures, in `run/evaluation/<part>/`.
    """
    from dermx.report import write_isic_csv, write_report

    if (isic_truth is None) != (images is None):
        raise InputError("give --isic-truth CSV and --images DIR together")
    if isic_truth is not None and images is not None:
        name, cases = isic_truth.stem, read_isic(isic_truth, images)
    else:
        name, cases = on, read_parts(run)[on]
    folder = run / "evaluation" / name
    predictions = _predictions_of(run, cases, folder, track, say)
    report = write_report(
        folder,
        predictions,
        title=f"{run.name} on {name}",
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
        fitting = _predictions_of(run, val, run / "evaluation" / "val", track, say)
        point = operating_point(fitting, predictions, decide, sensitivity=sensitivity)
        _write_json(folder / f"decision_{decide}.json", point.to_dict())
        say(f"{name}: {point.to_text()}")
    return report


def crossval_run(
    out: Path,
    *,
    folds: int | None = None,
    whole: bool = False,
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
    seen its lesion, a report of these, `crossval.json` with mean and spread over the folds, and
    `bundle/`, the folds' models as one, to be evaluated on the test part that no fold has seen.

    Args:
        out: Folder of the cross-validation.
        folds: How many, 5 when None; when resuming, as started.
        whole: Deal the test part into the folds, too; else no fold sees it.
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
        ConfigError: As `train_run`; or another number of folds is asked for than was started.
        DataError: The pictures are not as promised.
        MissingExtraError: PyTorch and its companions are not installed.
    """
    started = _is_started(out, resume=resume, given=ham10000 is not None or acne is not None)
    from accelerate import PartialState

    from dermx.train.crossval import fold_parts

    main = PartialState().is_main_process
    say = say if main else _silent
    if started:
        config = load_config(out / "config.json") if config is None else config
        runs = sorted(out.glob("fold-*"), key=lambda run: int(run.name.removeprefix("fold-")))
        if config != load_config(out / "config.json") or folds not in (None, len(runs)):
            raise ConfigError(f"{out} was started with other settings or {len(runs)} folds")
    else:
        parts, config = load_cases(ham10000, acne, say=say), config or Config()
        cases = [case for part in PARTS for case in parts[part] if whole or part != "test"]
        by_fold = fold_parts(cases, 5 if folds is None else folds)
        runs = [out / f"fold-{i + 1}" for i in range(len(by_fold))]
        if main:
            for run, inside in zip(runs, by_fold, strict=True):
                start_run(run, inside, config, init)
            unseen = [] if whole else parts["test"]
            start_run(out, {"train": cases, "val": [], "test": unseen}, config, init)
        PartialState().wait_for_everyone()
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


def ensemble_run(
    members: Sequence[Path],
    out: Path,
    *,
    weights: Weighting = "greedy",
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Make one model of several trained ones, weighted by their validation predictions.

    `out` is then a run's folder that `evaluate_run` reads. A case is in its validation or test part
    only if it is there in every member: what one of them was trained on is no test.

    Args:
        members: Folders written by `train_run`; of any architectures, for the same inputs.
        out: New or empty folder; `out/bundle` is the model, `out/ensemble.json` says what is in it.
        weights: "greedy" picks members while balanced accuracy rises, "fitted" minimises the
            class-balanced log loss, "equal" needs no validation part.
        track: Shows progress.
        say: Shows each member's weight.

    Returns:
        The bundle's folder.

    Raises:
        ConfigError: `out` is not empty.
        DataError: The members have no validation case in common to fit weights on.
        BundleError: The members can't be made one; see `dermx.model.merge.merge`.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose another folder")
    if not members:
        raise InputError("name the runs to make one model of")
    bundles = [load_bundle(run / "bundle") for run in members]
    tables = [read_parts(run) for run in members]
    parts = _common_parts(tables)
    shares, facts = np.full(len(members), 1 / len(members)), {}
    if weights != "equal":
        if not parts["val"]:
            raise DataError(
                f"the {len(members)} runs share no validation case; weigh them equally "
                "or train them on the same parts"
            )
        said = [
            _predictions_of(run, parts["val"], run / "evaluation" / "val", track, say)
            for run in members
        ]
        logits, labels = stacked(said), said[0].labels
        fit_them = fit_weights if weights == "fitted" else _greedy_weights
        shares = fit_them(logits, labels)
        facts = {"all": _balanced(labels, combine(logits, shares))}
        facts |= {str(i): _balanced(labels, one) for i, one in enumerate(logits)}
        say(f"validation: balanced accuracy {facts['all']:.3f}")
    rows = []
    for i, (run, bundle) in enumerate(zip(members, bundles, strict=True)):
        row = {"run": str(run), "architecture": bundle.architecture, "weight": float(shares[i])}
        alone = facts.get(str(i))
        rows.append(row if alone is None else row | {"val_balanced_accuracy": alone})
        say(f"{run}: weight {shares[i]:.3f}" + ("" if alone is None else f", alone {alone:.3f}"))
    config = load_config(members[0] / "config.json")
    _write_ensemble(out, bundles, shares, parts, config, say)
    content = {"weights": weights, "val_balanced_accuracy": facts.get("all"), "members": rows}
    _write_json(out / "ensemble.json", content)
    return out / "bundle"


def export_run(run: Path, out: Path, *, say: Say = print) -> Path:
    """Write the bundle that a deployment needs, checked against PyTorch on real pictures.

    Args:
        run: Folder written by `train_run`.
        out: Folder of the bundle; an older bundle is replaced.
        say: Shows the result of the check.

    Raises:
        BundleError: The exported network answers differently.
        DataError: The run has no trained weights.
    """
    if util.find_spec("torch") is None:
        raise MissingExtraError("exporting", "train")
    from dermx.model.runtime import Session
    from dermx.preprocess.normalize import normalize
    from dermx.train.export import TOLERANCE, head_arrays, largest_difference, to_onnx
    from dermx.train.network import build_network, load_weights

    config = load_config(run / "config.json")
    network = build_network(config.train.architecture, len(CODES), pretrained=False)
    network.load_state_dict(load_weights(run / "best.safetensors"))
    weight, bias = head_arrays(network)
    figures = read_figures(run)
    bundle = write_bundle(
        out,
        name=config.train.architecture,
        architecture=config.train.architecture,
        preprocess=config.preprocess,
        network_bytes=to_onnx(network, config.preprocess.image_size),
        weight=weight,
        bias=bias,
        figures=figures,
        card=model_card(config, figures, read_facts(run)),
    )
    session, spec = Session(bundle), config.preprocess
    val = read_parts(run)["val"]
    sample = val[:: max(1, len(val) // 32)][:32]
    pixels = np.stack([_finished(case.path, spec) for case in sample])
    inputs = normalize(pixels, spec.mean, spec.std)
    difference = largest_difference(network, [(inputs, session.logits(session.run(pixels)[1]))])
    if difference > TOLERANCE:
        shutil.rmtree(out)
        raise BundleError(
            f"the exported network differs from PyTorch by {difference:.1e} in a logit"
        )
    say(f"{out}: {len(sample)} pictures within {difference:.1e} of PyTorch")
    return out


def check_setup(
    *,
    ham10000: Path | None = None,
    acne: Path | None = None,
    config: Path | None = None,
    say: Say = print,
) -> None:
    """Verify what a long run would need; the first fault is raised as its own error.

    Args:
        ham10000: Folder of HAM10000, or None.
        acne: Folder of DermNet's acne class, or None.
        config: A file of settings, or None.
        say: Shows one line per thing that is in order.
    """
    settings = load_config(config)
    say(f"settings: {settings.train.architecture}, {settings.preprocess.image_size} pixels")
    bundle = load_bundle()
    say(f"shipped model: {bundle.name}, created {bundle.created}")
    if util.find_spec("torch") is None:
        say('training: not installed; pip install "dermx[train]"')
    else:
        import torch

        from dermx.train.network import choose_precision

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = choose_precision(settings.train.precision, device)
        say(f"training: torch {torch.__version__} on {environment()['device']} in {precision}")
    if ham10000 is not None or acne is not None:
        parts = load_cases(ham10000, acne, say=say)
        counts = Counter(case.diagnosis or "" for part in parts.values() for case in part)
        say(", ".join(f"{code} {counts[code]}" for code in CODES if counts[code]))


def score_logits(
    labels: Int[np.ndarray, " n"], logits: Float32[np.ndarray, "n classes"]
) -> dict[str, float]:
    """Figures of one epoch on the validation part; training picks by the first."""
    confusion = confusion_matrix(labels, logits.argmax(axis=1), logits.shape[1])
    return {
        "balanced_accuracy": float(balanced_accuracy(confusion)),
        "accuracy": float(accuracy(confusion)),
    }


def labels_of(cases: Sequence[Case]) -> Int[np.ndarray, " n"]:
    """Class indices of cases that all have a diagnosis."""
    return np.array([CODES.index(case.diagnosis or "") for case in cases], np.int64)


def _is_started(out: Path, *, resume: bool, given: bool) -> bool:
    """Whether there is a run to go on with; all processes look before the first one writes."""
    if util.find_spec("torch") is None or util.find_spec("accelerate") is None:
        raise MissingExtraError("training", "train")
    from accelerate import PartialState

    started = (out / "cases.csv").is_file()
    PartialState().wait_for_everyone()
    if started and not resume:
        raise ConfigError(f"{out} holds a run; go on with --resume or choose another folder")
    if resume and not started and not given:
        raise ConfigError(f"no run to resume in {out}")
    return started


def _summarise_folds(
    out: Path, runs: Sequence[Path], config: Config, track: "Track | None", say: Say
) -> Path:
    """Predict each fold by its own model, and write what `crossval_run` promises."""
    from dermx.report import OVERALL, write_report
    from dermx.train.crossval import pooled, spread

    said = [
        _predictions_of(run, read_parts(run)["test"], run / "evaluation" / "test", track, say)
        for run in runs
    ]
    whole, scores = pooled(said), [score(one).values for one in said]
    whole.save(out / "predictions.npz")
    found = spread(scores)
    rows = {
        name: {"mean": _or_none(mean), "sd": _or_none(sd)}
        | {"folds": [_or_none(fold[name]) for fold in scores]}
        for name, (mean, sd) in found.items()
    }
    _write_json(out / "crossval.json", {"folds": len(runs), "scores": rows})
    for name, label in OVERALL.items():
        say(f"{label}: mean {found[name][0]:.3f}, standard deviation {found[name][1]:.3f}")
    if not (out / "bundle").exists():
        bundles = [load_bundle(run / "bundle") for run in runs]
        shares = np.full(len(runs), 1 / len(runs))
        _write_ensemble(out, bundles, shares, read_parts(out), config, say, start=False)
    return write_report(
        out / "evaluation" / "out-of-fold",
        whole,
        title=f"{out.name}, each case by the fold that had not seen it",
        facts=read_facts(out),
    )


def _write_ensemble(
    out: Path,
    bundles: Sequence[Bundle],
    weights: np.ndarray,
    parts: dict[str, list[Case]],
    config: Config,
    say: Say,
    *,
    start: bool = True,
) -> None:
    """Write `out/bundle`, checked against its members on pictures, and with `start` the run."""
    from dermx.model.merge import merge
    from dermx.train.export import TOLERANCE

    merged = merge(bundles, weights)
    counts = Counter(b.architecture for b, w in zip(bundles, weights, strict=True) if w > 0)
    name = " + ".join(f"{n} x {kind}" if n > 1 else kind for kind, n in counts.items())
    config = config.with_train(architecture=name)
    if start:
        start_run(out, parts, config, None)
    bundle = write_bundle(
        out / "bundle",
        name=name,
        architecture=name,
        codes=bundles[0].codes,
        preprocess=bundles[0].preprocess,
        network_bytes=merged.network,
        weight=merged.weight,
        bias=merged.bias,
        figures={},
        card=model_card(config, {}, read_facts(out)),
    )
    cases = [case for part in PARTS for case in parts[part]]
    sample = cases[:: max(1, len(cases) // 16)][:16]
    apart = combine(stacked([predict_cases(one, sample)[0] for one in bundles]), weights)
    difference = float(np.abs(predict_cases(bundle, sample)[0].logits - apart).max())
    if difference > TOLERANCE:
        shutil.rmtree(out / "bundle")
        raise BundleError(f"the ensemble differs from its members by {difference:.1e} in a logit")
    say(f"{out / 'bundle'}: {len(sample)} pictures within {difference:.1e} of the members")


def _common_parts(tables: Sequence[dict[str, list[Case]]]) -> dict[str, list[Case]]:
    """Part the cases of several runs: a group stays in a part only if it is there in all runs."""
    held: dict[str, set[str]] = {}
    cases: dict[str, Case] = {}
    for parts in tables:
        for part, inside in parts.items():
            for case in inside:
                cases.setdefault(case.image, case)
                held.setdefault(cases[case.image].group, set()).add(part)
    common: dict[str, list[Case]] = {part: [] for part in PARTS}
    for case in cases.values():
        where = held[case.group]
        common[next(iter(where)) if len(where) == 1 else "train"].append(case)
    return common


def _greedy_weights(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return select_greedy(logits, labels, _balanced)


def _balanced(labels: np.ndarray, logits: np.ndarray) -> float:
    return score_logits(labels, logits)["balanced_accuracy"]


def _write_json(path: Path, content: object) -> None:
    with write_whole(path) as file:
        file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _cached(
    cases: Sequence[Case], config: Config, folder: Path, part: str, *, track: "Track"
) -> Any:
    """Decode a part once: finished inputs for validation, larger pictures to vary for training."""
    from accelerate import PartialState

    from dermx.train.cache import open_cache

    spec = config.preprocess
    # Random crops are enlarged from these pictures: fewer pixels would make what is trained on
    # blurrier than what is answered on, which costs accuracy.
    side = reading_side(spec) * 4 // 3

    def varied(path: Path) -> UInt8[np.ndarray, "h w 3"]:
        return shorter_side_to(clean(read_picture(path, min_side=side).pixels, spec)[0], side)

    def finished(path: Path) -> UInt8[np.ndarray, "s s 3"]:
        return _finished(path, spec)

    with PartialState().main_process_first():  # the others find it ready
        return open_cache(
            folder / part,
            [case.path for case in cases],
            varied if part == "train" else finished,
            recipe=(spec, side, part),
            track=lambda pictures, what, total: track(pictures, f"{what} ({part})", total),
        )


def _finished(path: Path, spec: PreprocessConfig) -> UInt8[np.ndarray, "s s 3"]:
    return prepare(read_picture(path, min_side=reading_side(spec)).pixels, spec)[0]


def _predictions_of(
    run: Path, cases: Sequence[Case], folder: Path, track: "Track | None", say: Say
) -> Predictions:
    """Predict, or read what was predicted with the same bundle for the same cases."""
    bundle, path = load_bundle(run / "bundle"), folder / "predictions.npz"
    if path.is_file() and path.stat().st_mtime > (run / "bundle" / "bundle.json").stat().st_mtime:
        known = Predictions.load(path)
        if list(known.images) == [case.image for case in cases]:
            return known
    progress = _counted(track, "predicting", len(cases))
    predictions, failures = predict_cases(bundle, cases, progress=progress)
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
    progress = _counted(track, "predicting changed pictures", total)

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


def _counted(track: "Track | None", what: str, total: int) -> Progress:
    """A progress display that is told of each picture done."""
    if track is None:
        return lambda _: None
    steps = iter(track(range(total + 1), what, total))
    next(steps)
    return lambda _: next(steps, None)


def _silent(_: str) -> None:
    """Say nothing: one process of several speaks."""
