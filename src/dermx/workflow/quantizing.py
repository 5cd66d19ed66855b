"""A trained run's model in 8-bit integers, beside what that costs on the validation part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from dermx.config import PreprocessConfig, load_config
from dermx.errors import ConfigError, DataError, InputError
from dermx.evaluate.intervals import percentile_interval, resampled
from dermx.evaluate.metrics import score
from dermx.model.bundle import load_bundle, write_bundle
from dermx.model.card import model_card
from dermx.model.quantize import quantize
from dermx.preprocess.normalize import normalize
from dermx.preprocess.views import VIEWS, eight_views
from dermx.records import Case, Predictions
from dermx.runs import read_facts, read_parts, require_run, start_run
from dermx.workflow.evaluation import predictions_of, write_json
from dermx.workflow.training import finished_input

if TYPE_CHECKING:
    from jaxtyping import Float32

    from dermx.train.loop import Track

Say = Callable[[str], None]
SAMPLE: Final = 256  # training pictures that ranges are measured on
PRACTICE: Final = 2048  # training pictures, at most, that rounding is learnt on
STEPS, BATCH = 320, 16  # of learning, and pictures in each
COMPARED: Final = ("balanced_accuracy_dermoscopic", "accuracy", "recall_mel", "malignant_auroc")


def quantize_run(
    run: Path,
    out: Path,
    *,
    steps: int = STEPS,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Quantise a run's model; `out` is then a run's folder that `evaluate_run` reads.

    Args:
        run: Folder written by `train_run`.
        out: New or empty folder; `out/quantize.json` compares both models on the validation part.
        steps: Batches of training pictures on which rounding is learnt; 0 leaves that out, and so
            does a network that `dermx.train.rounding` doesn't know.
        track: Shows progress.
        say: Shows one line per figure.

    Returns:
        The bundle's folder.

    Raises:
        ConfigError: `out` is not empty.
        DataError: The run has no validation part.
        InputError: `steps` is negative, or the run's network is in integers already.
    """
    if steps < 0:
        raise InputError(f"--steps must be 0 or more, got {steps}")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose another folder")
    require_run(run)
    bundle, parts = load_bundle(run / "bundle"), read_parts(run)
    if not parts["val"]:
        raise DataError(f"{run} has no validation part to measure the cost on")
    spec, config = bundle.preprocess, load_config(run / "config.json")
    before = bundle.network.read_bytes()
    seen = _pixels(_spread(parts["train"], SAMPLE), spec)
    network = quantize(before, normalize(seen, spec.mean, spec.std))
    if steps:
        from dermx.train.rounding import learn_rounding

        batches = _turned(_pixels(_spread(parts["train"], PRACTICE), spec), spec)
        try:
            network = learn_rounding(network, before, batches, steps=steps, say=say)
        except InputError as error:
            say(f"only rounded: {error}")
    config = replace(config, train=replace(config.train, architecture=f"{bundle.name}, int8"))
    start_run(out, parts, config, None)
    small = write_bundle(
        out / "bundle",
        name=f"{bundle.name}-int8",
        architecture=bundle.architecture,
        codes=bundle.codes,
        preprocess=spec,
        network_bytes=network,
        weight=bundle.weight,
        bias=bundle.bias,
        mapped=bundle.mapped,
        figures={},
        card=model_card(config, {}, read_facts(out)),
    )
    sizes = [one.network.stat().st_size / 2**20 for one in (bundle, small)]
    say(f"{small.network}: {sizes[1]:.1f} MiB, in floating point {sizes[0]:.1f}")
    said = [
        predictions_of(one, parts["val"], one / "evaluation" / "val", track, say)
        for one in (run, out)
    ]
    write_json(out / "quantize.json", {"mebibytes": sizes} | _compare(*said, say=say))
    return small.folder


def _spread(cases: Sequence[Case], count: int) -> list[Case]:
    """At most so many of the cases, evenly over their order."""
    chosen = np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)
    return [cases[i] for i in chosen]


def _pixels(cases: Sequence[Case], spec: PreprocessConfig) -> np.ndarray:
    return np.stack([finished_input(case.path, spec) for case in cases])


def _turned(pixels: np.ndarray, spec: PreprocessConfig) -> Iterator[Float32[np.ndarray, "n 3 s s"]]:
    """Batches without end, of pictures in a new order each time, each turned at random."""
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(pixels))
        for chosen in np.split(order, range(BATCH, len(order), BATCH)):
            views = rng.integers(VIEWS, size=len(chosen))
            planes = normalize(pixels[chosen], spec.mean, spec.std)
            yield np.stack([eight_views(p)[v] for p, v in zip(planes, views, strict=True)])


def _compare(before: Predictions, after: Predictions, *, say: Say) -> dict[str, object]:
    """Figures of both, and the paired difference with its interval, lesions drawn again."""
    agree = float((before.logits.argmax(axis=1) == after.logits.argmax(axis=1)).mean())
    apart = float(np.sqrt(((before.logits - after.logits) ** 2).mean()))
    say(f"the same answer for {agree:.1%} of {len(before.images)} pictures, logits {apart:.3f} off")
    drawn = [resampled(one) for one in (before, after)]
    values = [score(one).values for one in (before, after)]
    rows = {}
    for key in COMPARED:
        low, high = percentile_interval(drawn[1][key] - drawn[0][key])
        rows[key] = {"float": values[0][key], "int8": values[1][key], "change": [low, high]}
        said = f"{values[0][key]:.4f} in floating point, {values[1][key]:.4f} in int8"
        say(f"{key}: {said} (change {low:+.4f} to {high:+.4f})")
    return {"agreement": agree, "logits_rms": apart, "scores": rows}
