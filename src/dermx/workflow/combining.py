"""Several models: one per fold, and several as one."""

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from dermx.config import Config, load_config
from dermx.data.catalog import require_pictures
from dermx.data.split import PARTS
from dermx.diagnoses import CODES
from dermx.errors import BundleError, ConfigError, DataError, InputError
from dermx.evaluate.decision import even_weights
from dermx.evaluate.ensemble import combine, fit_weights, select_greedy, stacked
from dermx.evaluate.metrics import score
from dermx.model.bundle import Bundle, load_bundle, write_bundle
from dermx.model.card import model_card
from dermx.preprocess.views import VIEWS
from dermx.records import Case, Predictions, write_whole
from dermx.runs import environment, read_facts, read_parts, require_run, start_run
from dermx.trust.calibration import fit_calibration
from dermx.trust.fitting import left_out
from dermx.workflow.evaluation import (
    counted,
    predict_all,
    predicted,
    predictions_of,
    write_json,
)
from dermx.workflow.training import (
    is_started,
    load_cases,
    score_logits,
    silent,
    started_from,
    train_run,
)

if TYPE_CHECKING:
    from dermx.train.loop import Track

RESCALED: Final = 1.0  # logits; where pictures are shrunk twice instead of once
Weighting = Literal["greedy", "fitted", "equal"]
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


def ensemble_run(
    members: Sequence[Path],
    out: Path,
    *,
    weights: Weighting | Sequence[float] = "greedy",
    crop_fractions: Sequence[float] = (),
    adjust: float = 0.0,
    melanomas: float | None = None,
    mapped: Sequence[Path] = (),
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Make one model of several trained ones, weighted by their validation predictions.

    `out` is then a run's folder that `evaluate_run` reads. A case is in its validation or test part
    only if it is there in every member that has it: what one of them was trained on is no test.

    Args:
        members: Folders written by `train_run`; of any architectures, and for pictures prepared
            alike but for their size and crop.
        out: New or empty folder; `out/bundle` is the model, `out/ensemble.json` says what is in it.
        weights: "greedy" picks members while balanced accuracy rises, "fitted" minimises the
            class-balanced log loss, "equal" needs no validation part; or a number for each
            member, above 0, in any scale.
        crop_fractions: How much of the square each member looks at, instead of what it was trained
            for: networks that look at more and at less of a picture err less alike. As trained when
            empty.
        adjust: Takes the classes' shares of the training part to this power out of the answer, so
            that rare classes are answered sooner (logit adjustment, Menon et al. 2021). From 0 to
            1; choose it on validation.
        melanomas: Instead: biases of the classes are fitted to the validation part, over eight
            views, and each class weighted so that the answers serve accuracy and balanced accuracy
            alike and this share of the melanomas, from 0 to 1, is expected to be found; see
            `dermx.evaluate.decision.even_weights`.
        mapped: Heat maps show the last layers of these members alone; of all when empty. Choose
            them by the audit of the validation part.
        track: Shows progress.
        say: Shows each member's weight.

    Returns:
        The bundle's folder.

    Raises:
        ConfigError: `out` is not empty.
        InputError: No member is named, one of `mapped` is none of them, `adjust` or `melanomas` is
            out of its range or both are given, or there isn't one weight above 0, or one crop
            fraction above 0 and at most 1, for each member.
        DataError: The members have no validation case in common to fit weights or biases on.
        BundleError: The members can't be made one; see `dermx.model.merge.merge`.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose another folder")
    if not members:
        raise InputError("name the runs to make one model of")
    if not 0 <= adjust <= 1:
        raise InputError(f"adjust must be from 0 to 1, got {adjust}")
    if melanomas is not None and not 0 <= melanomas <= 1:
        raise InputError(f"melanomas must be from 0 to 1, got {melanomas}")
    if melanomas is not None and adjust:
        raise InputError("adjust and melanomas both say how soon a class is answered; give one")
    if strange := [run for run in mapped if run not in members]:
        raise InputError(f"{strange[0]}, whose maps to show, is none of the runs")
    given = None if isinstance(weights, str) else np.array(weights, np.float64)
    if given is not None and (
        given.shape != (len(members),) or not (np.isfinite(given).all() and (given > 0).all())
    ):
        raise InputError(
            f"need a weight above 0 for each of {len(members)} runs, got {list(weights)}"
        )
    cropped = np.array(crop_fractions, np.float64)
    if crop_fractions and not (
        cropped.shape == (len(members),) and ((cropped > 0) & (cropped <= 1)).all()
    ):
        raise InputError(
            f"need a crop fraction above 0, at most 1, for each of {len(members)} runs, "
            f"got {list(crop_fractions)}"
        )
    from dermx.train.losses import log_prior

    for run in members:
        require_run(run)
    bundles = [load_bundle(run / "bundle") for run in members]
    if crop_fractions:
        bundles = [
            replace(bundle, preprocess=replace(bundle.preprocess, crop_fraction=float(fraction)))
            for bundle, fraction in zip(bundles, crop_fractions, strict=True)
        ]
    tables = [read_parts(run) for run in members]
    parts = _common_parts(tables)
    shares, facts = np.full(len(members), 1 / len(members)), {}
    if not parts["val"] and ((given is None and weights != "equal") or melanomas is not None):
        raise DataError(
            f"the {len(members)} runs share no validation case; weigh them equally "
            "or train them on the same parts"
        )
    if given is not None:
        shares = given / given.sum()
    elif weights != "equal":
        said = [
            _said_of(run, bundle, own["val"], parts["val"], track, say)
            for run, bundle, own in zip(members, bundles, tables, strict=True)
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
        row["crop_fraction"] = bundle.preprocess.crop_fraction
        alone = facts.get(str(i))
        rows.append(row if alone is None else row | {"val_balanced_accuracy": alone})
        say(f"{run}: weight {shares[i]:.3f}" + ("" if alone is None else f", alone {alone:.3f}"))
    config = load_config(members[0] / "config.json")
    counts = Counter(case.diagnosis for case in parts["train"])
    offsets = -adjust * log_prior(np.array([counts[code] for code in bundles[0].codes]))
    if melanomas is not None:
        said = [
            _said_of(run, bundle, own["val"], parts["val"], track, say, VIEWS)
            for run, bundle, own in zip(members, bundles, tables, strict=True)
        ]
        known = replace(said[0], logits=combine(stacked(said), shares).astype(np.float32))
        offsets = _even_offsets(known, melanomas, say)
    which = [list(members).index(run) for run in mapped] or None
    _write_ensemble(out, bundles, shares, parts, config, say, offsets=offsets, mapped=which)
    content = {
        "weights": "given" if given is not None else weights,
        "adjust": adjust,
        "melanomas": melanomas,
        "offsets": dict(zip(bundles[0].codes, offsets.tolist(), strict=True)),
        "mapped": [str(run) for run in mapped],
        "val_balanced_accuracy": facts.get("all"),
        "members": rows,
    }
    write_json(out / "ensemble.json", content)
    return out / "bundle"


def _even_offsets(known: Predictions, melanomas: float, say: Say) -> np.ndarray:
    """What to add to the logits: the classes' fitted biases, and the weights of an answer."""
    probs = left_out(known, "bias").reshape(-1, *known.logits.shape).mean(axis=0)
    weights = even_weights(probs, known.codes, melanomas)
    answers = (probs * weights).argmax(axis=1)
    right = probs[np.arange(len(probs)), answers]
    recalls = np.bincount(answers, right, len(known.codes)) / probs.sum(axis=0)
    fitted = fit_calibration(known.logits, known.labels, "bias")
    offsets = np.asarray((fitted.bias + np.log(weights)) / fitted.scale)
    say(
        f"expected on {len(probs)} validation pictures: accuracy {right.mean():.3f}, recall "
        + ", ".join(map("{} {:.3f}".format, known.codes, recalls))
    )
    say("added to the logits: " + ", ".join(map("{} {:+.2f}".format, known.codes, offsets)))
    return offsets


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


def _said_of(
    run: Path,
    bundle: Bundle,
    own: Sequence[Case],
    wanted: Sequence[Case],
    track: "Track | None",
    say: Say,
    views: int = 1,
) -> Predictions:
    """What a member says of cases; where it stores them, they stay its own answers of its part."""
    inside = {case.image for case in wanted} <= {case.image for case in own}
    if not inside or bundle.preprocess != load_bundle(run / "bundle").preprocess:
        require_pictures(wanted)
        progress = counted(track, "predicting", len(wanted))
        return predict_all(bundle, wanted, progress=progress, views=views)
    name = "predictions.npz" if views == 1 else "views.npz"
    stored = run / "evaluation" / "val" / name
    said = predicted(bundle, own, stored, track, say, views)
    rows = {image: row for row, image in enumerate(said.images)}
    return said.select(np.array([rows[case.image] for case in wanted]))


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
        _write_ensemble(out, bundles, shares, read_parts(out), config, say, start=False)
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


def _write_ensemble(
    out: Path,
    bundles: Sequence[Bundle],
    weights: np.ndarray,
    parts: dict[str, list[Case]],
    config: Config,
    say: Say,
    *,
    start: bool = True,
    offsets: np.ndarray | float = 0.0,
    mapped: Collection[int] | None = None,
) -> None:
    """Write `out/bundle`, checked against its members on pictures, and with `start` the run.

    `offsets`, one per class, are added to the mean of the members' logits; `mapped` are the numbers
    of those whose last layers heat maps show.
    """
    from dermx.model.merge import merge
    from dermx.train.export import TOLERANCE

    merged = merge(bundles, weights, mapped)
    counts = Counter(b.architecture for b, w in zip(bundles, weights, strict=True) if w > 0)
    name = " + ".join(f"{n} x {kind}" if n > 1 else kind for kind, n in counts.items())
    config = replace(config.with_train(architecture=name), preprocess=merged.preprocess)
    if start:
        start_run(out, parts, config, None)
    cases = [case for part in PARTS for case in parts[part]]
    sample = cases[:: max(1, len(cases) // 16)][:16]

    def finish(fresh: Bundle) -> None:
        apart = combine(stacked([predict_all(one, sample) for one in bundles]), weights) + offsets
        difference = float(np.abs(predict_all(fresh, sample).logits - apart).max())
        # members that see the picture in another scale get it from another hand: shrunk once more
        same = all(bundle.preprocess == merged.preprocess for bundle in bundles)
        if not difference <= (TOLERANCE if same else RESCALED):  # also NaN
            raise BundleError(
                f"the ensemble differs from its members by {difference:.1e} in a logit"
            )
        say(f"{out / 'bundle'}: {len(sample)} pictures within {difference:.1e} of the members")

    write_bundle(
        out / "bundle",
        name=name,
        architecture=name,
        codes=bundles[0].codes,
        preprocess=merged.preprocess,
        network_bytes=merged.network,
        weight=merged.weight,
        bias=(merged.bias + offsets).astype(np.float32),
        mapped=merged.mapped,
        figures={},
        card=model_card(config, {}, read_facts(out)),
        finish=finish,
    )


def _common_parts(tables: Sequence[dict[str, list[Case]]]) -> dict[str, list[Case]]:
    """Part the cases of several runs: a group stays in a part if it is in no other in any run."""
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


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
