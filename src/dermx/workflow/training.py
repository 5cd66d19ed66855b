"""From folders of pictures to a model: check, train, export."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dermx.config import Config, PreprocessConfig, load_config
from dermx.data.catalog import build_catalog, require_pictures
from dermx.data.dermnet import read_dermnet_acne
from dermx.data.ham10000 import read_ham10000
from dermx.data.split import (
    PARTS,
    apply_split,
    load_published_groups,
    load_published_split,
    split_parts,
)
from dermx.diagnoses import CODES
from dermx.errors import BundleError, ConfigError, DataError, MissingExtraError
from dermx.evaluate.metrics import accuracy, balanced_accuracy, confusion_matrix
from dermx.model.batching import large_maps_in_turn
from dermx.model.bundle import (
    INDEX,
    Bundle,
    TrustParts,
    load_bundle,
    same_model,
    write_bundle,
    write_trust,
)
from dermx.model.card import model_card
from dermx.predict import reading_side
from dermx.preprocess.pipeline import clean, prepare, shorter_side_to
from dermx.preprocess.reading import read_picture
from dermx.records import Case
from dermx.runs import (
    environment,
    read_facts,
    read_figures,
    read_findings,
    read_parts,
    require_run,
    run_digest,
    start_run,
)

if TYPE_CHECKING:
    from jaxtyping import Float32, Int, UInt8
    from torch import nn

    from dermx.train.loop import Track

Say = Callable[[str], None]
CHECKPOINT: Final = "checkpoint.safetensors"


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
    if ham10000 is not None:  # resolved: a run must find its pictures from any working directory
        cases += read_ham10000(ham10000.resolve())
    if acne is not None:
        cases += read_dermnet_acne(acne.resolve())
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
        init: Starting weights, safetensors, also when resuming; downloaded by timm when None.
        pretrained: Start at random instead of downloading when False.
        resume: Go on with an interrupted run.
        cache: Keep decoded pictures here for other runs; else they are removed at the end.
        track: Shows progress within an epoch.
        say: Shows one line per step.

    Returns:
        The bundle's folder.

    Raises:
        ConfigError: The folder holds a run already and `resume` is False, or there is none to
            resume, or it has other settings, or its checkpoint was removed (`prune_run`); or
            training with these settings would not end in a model (`check_training`).
        DataError: The pictures or the starting weights are not as promised.
        BundleError: A network of this kind can't be exported.
        MissingExtraError: PyTorch and its companions are not installed.
    """
    started = is_started(out, resume=resume, given=ham10000 is not None or acne is not None)
    begun = started and (out / CHECKPOINT).is_file()  # else nothing is learnt yet
    if started and not begun and (out / "bundle" / INDEX).is_file():
        raise ConfigError(
            f"{out} has its model and no checkpoint to go on from; train in another folder"
        )
    if started and init is None and (known := started_from(out)) is not None:
        raise ConfigError(f"{out} was started from {known['name']}; name it again: --init FILE")
    from dermx.train.check import check_training
    from dermx.train.checkpoint import Progress, read_progress
    from dermx.train.guide import read_guide
    from dermx.train.loop import Pictures, fit, quiet, write_history
    from dermx.train.processes import join_processes

    process = join_processes()  # one of several under `accelerate launch` or `torchrun`
    if not process.is_main_process:
        track, say = quiet, silent
    if started:
        parts = read_parts(out)
        require_pictures(parts["train"] + parts["val"])
        if ham10000 is not None or acne is not None:  # they are not read again
            say(f"going on with the pictures of {out / 'cases.csv'}")
        config = load_config(out / "config.json") if config is None else config
    else:
        parts = load_cases(ham10000, acne, say=say)
        config = Config() if config is None else config
    for part in ("train", "val"):
        if not parts[part]:
            raise DataError(f"the {part} part has no picture")
    guide = read_guide(config.train, [case.image for case in parts["train"]])
    digest, progress = run_digest(config, parts, init), Progress()
    if begun:
        progress = read_progress(out / CHECKPOINT, digest=guide.digest(digest))
    else:
        check_training(config, len(CODES), init=init, pretrained=pretrained)
        same = started and config == load_config(out / "config.json")
        same = same and environment(init)["init"] == started_from(out)
        if process.is_main_process and not same:  # new, or before its first step set right
            start_run(out, parts, config, init)

    pixels = out / "cache" if cache is None else cache
    track = quiet if track is None else track
    if progress.epoch < config.train.epochs:
        train, val = (
            _cached(parts[part], config, pixels, part, track=track, say=say)
            for part in ("train", "val")
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
    elif process.is_main_process:  # killed before the model was written, or it is wanted again
        write_history(out / "history.jsonl", progress.history)
        say(f"all {progress.epoch} epochs are done")
    if process.is_main_process:
        say(f"kept epoch {progress.best_epoch}: balanced accuracy {progress.best_score:.3f}")
        export_run(out, out / "bundle", say=say)
        if cache is None:
            shutil.rmtree(pixels, ignore_errors=True)
    process.wait_for_everyone()  # the model is there when any of them goes on
    return out / "bundle"


def export_run(run: Path, out: Path, *, say: Say = print) -> Path:
    """Write the bundle that a deployment needs, checked against PyTorch on real pictures.

    Trust parts that were fitted in the run go with its model. An older bundle stays until the new
    one is checked.

    A run that was made of others (`ensemble_run`, `quantize_run`) has no weights of its own; its
    bundle is written with the figures measured since, and a network that takes less time.

    Args:
        run: Folder of a run.
        out: Folder of the bundle; an older bundle is replaced.
        say: Shows the result of the check.

    Raises:
        BundleError: The exported network answers differently.
        DataError: The folder is not a run's, or has no trained weights.
    """
    require_run(run)
    if not (run / "best.safetensors").is_file() and (run / "bundle" / INDEX).is_file():
        return _export_made(run, out, say)
    if util.find_spec("torch") is None:
        raise MissingExtraError("exporting", "train")
    from dermx.train.export import head_arrays, to_onnx
    from dermx.train.network import build_network, load_weights

    config = load_config(run / "config.json")
    network = build_network(config.train.architecture, len(CODES), pretrained=False)
    network.load_state_dict(load_weights(run / "best.safetensors"))
    weight, bias = head_arrays(network)
    figures = read_figures(run)

    def finish(fresh: Bundle) -> None:
        said = _check_export(fresh, network, read_parts(run)["val"])
        say(f"{out}: {said}")
        _carry_trust(run, fresh, config, say)

    write_bundle(
        out,
        name=config.train.architecture,
        architecture=config.train.architecture,
        preprocess=config.preprocess,
        network_bytes=to_onnx(network, config.preprocess.image_size),
        weight=weight,
        bias=bias,
        figures=figures,
        card=model_card(config, figures, read_facts(run), findings=read_findings(run)),
        finish=finish,
    )
    return out


def _check_export(bundle: Bundle, network: nn.Module, val: Sequence[Case]) -> str:
    """Compare a bundle with the network that it was made of, and say how close they are."""
    from dermx.model.runtime import Session
    from dermx.preprocess.normalize import normalize
    from dermx.train.export import TOLERANCE, largest_difference

    session, spec = Session(bundle), bundle.preprocess
    sample = val[:: max(1, len(val) // 32)][:32]
    require_pictures(sample)
    pixels = np.stack([finished_input(case.path, spec) for case in sample])
    inputs = normalize(pixels, spec.mean, spec.std)
    difference = largest_difference(network, [(inputs, session.logits(session.features(pixels)))])
    if not difference <= TOLERANCE:  # also NaN
        raise BundleError(
            f"the exported network differs from PyTorch by {difference:.1e} in a logit"
        )
    return f"{len(sample)} pictures within {difference:.1e} of PyTorch"


def _export_made(run: Path, out: Path, say: Say) -> Path:
    from dermx.model.runtime import Session

    if out == run / "bundle":
        raise ConfigError(f"{out} is what would be exported; name another folder")
    made, config = load_bundle(run / "bundle"), load_config(run / "config.json")
    figures = read_figures(run)

    def finish(fresh: Bundle) -> None:
        side = made.preprocess.image_size
        noise = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
        before, after = (Session(one).features(noise) for one in (made, fresh))
        if not np.allclose(before, after, atol=1e-5):
            raise BundleError(f"rewritten to take less time, {made.network} answers differently")
        _carry_trust(run, fresh, config, say)

    write_bundle(
        out,
        name=made.name,
        architecture=made.architecture,
        codes=made.codes,
        preprocess=made.preprocess,
        network_bytes=large_maps_in_turn(made.network.read_bytes(), made.preprocess.image_size),
        weight=made.weight,
        bias=made.bias,
        mapped=made.mapped,
        figures=figures,
        card=model_card(config, figures, read_facts(run), findings=read_findings(run)),
        finish=finish,
    )
    return out


def _carry_trust(run: Path, bundle: Bundle, config: Config, say: Say) -> None:
    """Give an exported bundle the trust parts that were fitted in the run."""
    try:
        carried = trust_parts_of(run / "bundle", bundle)
    except BundleError as error:  # e.g. damaged; the export is what mends it
        say(f"without trust parts: {error}")
        return
    if carried is not None:
        facts, findings = read_facts(run), read_findings(run)
        card = model_card(config, bundle.figures, facts, findings=findings, trusted=True)
        write_trust(bundle, carried, card=card)
        say(f"with the trust parts of {run / 'bundle'}")


def trust_parts_of(folder: Path, model: Bundle) -> TrustParts | None:
    """Trust parts that were fitted for this model, though exported another time; None without."""
    if not (folder / INDEX).is_file():
        return None
    other = load_bundle(folder)
    return other.trust if same_model(other, model) else None


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


def is_started(out: Path, *, resume: bool, given: bool) -> bool:
    """Whether there is a run to go on with; all processes look before the first one writes."""
    if util.find_spec("torch") is None or util.find_spec("accelerate") is None:
        raise MissingExtraError("training", "train")
    from dermx.train.processes import join_processes

    process = join_processes()
    started = (out / "cases.csv").is_file()
    process.wait_for_everyone()
    if started and not resume:
        raise ConfigError(f"{out} holds a run; go on with --resume or choose another folder")
    if resume and not started and not given:
        raise ConfigError(f"no run to resume in {out}")
    return started


def started_from(run: Path) -> dict[str, str] | None:
    """Name and digest of the file of weights that a run was started from; None for timm's."""
    path = run / "environment.json"
    try:
        init = json.loads(path.read_text(encoding="utf-8"))["init"]
        return None if init is None else {key: init[key] for key in ("name", "sha256")}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from error


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


def _cached(
    cases: Sequence[Case], config: Config, folder: Path, part: str, *, track: "Track", say: Say
) -> Any:
    """Decode a part once: finished inputs for validation, larger pictures to vary for training."""
    from dermx.train.cache import open_cache
    from dermx.train.processes import join_processes

    spec = config.preprocess
    # Random crops are enlarged from these pictures: fewer pixels would make what is trained on
    # blurrier than what is answered on, which costs accuracy.
    side = reading_side(spec) * 4 // 3

    def varied(path: Path) -> UInt8[np.ndarray, "h w 3"]:
        return shorter_side_to(clean(read_picture(path, min_side=side).pixels, spec)[0], side)

    def finished(path: Path) -> UInt8[np.ndarray, "s s 3"]:
        return finished_input(path, spec)

    with join_processes().main_process_first():  # the others find it ready
        return open_cache(
            folder / part,
            [case.path for case in cases],
            varied if part == "train" else finished,
            recipe=(spec, side, part),
            track=lambda pictures, what, total: track(pictures, f"{what} ({part})", total),
            say=say,
        )


def finished_input(path: Path, spec: PreprocessConfig) -> UInt8[np.ndarray, "s s 3"]:
    """Read one picture as the model will see it, but for the normalisation."""
    return prepare(read_picture(path, min_side=reading_side(spec)).pixels, spec)[0]


def silent(_: str) -> None:
    """Say nothing: one process of several speaks."""
