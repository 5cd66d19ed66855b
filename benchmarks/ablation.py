"""What does each lever give? Short runs from one file, compared on the validation part.

    python benchmarks/ablation.py --ham10000 HAM10000 --acne DERMNET --init WEIGHTS --out RUNS

Goes on where it was stopped. Prints a table of what is finished: per lever the mean over the seeds,
the gain against the base with a 95 % interval (lesions drawn with replacement, the same ones for
both), and the mean under six changes of the pictures at severity 3. Nothing here looks at the test
part.
"""

import argparse
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import log_loss

from dermx.config import Config, config_from
from dermx.data.split import apply_split, split_parts
from dermx.diagnoses import CODES
from dermx.evaluate.intervals import percentile_interval, resampled
from dermx.evaluate.metrics import score
from dermx.evaluate.stress import stress
from dermx.model.bundle import load_bundle
from dermx.model.runtime import Session
from dermx.predict import predict_cases
from dermx.records import Case, Predictions, write_whole
from dermx.runs import read_parts, start_run
from dermx.workflow.evaluation import predictions_of
from dermx.workflow.training import load_cases, train_run

SHOWN = ("balanced_accuracy_dermoscopic", "accuracy", "macro_f1", "recall_mel", "auroc_mel")
SEVERITY = 3
CLASSES = range(len(CODES))


def main() -> None:
    options = parse()
    plan = tomllib.loads(options.config.read_text(encoding="utf-8"))
    levers, made = {"base": {}, **plan["lever"]}, plan.get("made", {})
    names = [name for name in levers if options.only is None or name in options.only]
    parts = load_cases(options.ham10000, options.acne)
    for seed in range(options.seeds):
        for name in names:
            run = options.out / f"{name}-{seed}"
            if not (run / "stress.json").is_file():
                print(f"== {run.name}", flush=True)
                one_run(run, plan["base"], levers[name], seed, parts, options)
    done = {name: [name] for name in levers} | {name: one["of"] for name, one in made.items()}
    done = {n: of for n, of in done.items() if finished(options.out, of, options.seeds)}
    if "base" in done:
        print(table(options.out, done, made, options.seeds))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ham10000", type=Path, required=True)
    parser.add_argument("--acne", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/ablation.toml"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="these; several may run side by side")
    return parser.parse_args()


def one_run(
    run: Path,
    base: dict[str, Any],
    lever: dict[str, Any],
    seed: int,
    parts: dict[str, list[Case]],
    options: argparse.Namespace,
) -> None:
    """Train, answer the validation part, and answer it changed."""
    config = settings(base, lever, seed)
    init = options.init.parent / lever.get("init", options.init.name)
    if not (run / "cases.csv").is_file():
        inside = by_image(parts) if lever.get("split") == "image" else parts
        start_run(run, {**inside, "test": []}, config, init)
    spec = config.preprocess
    shared = options.out / "cache" / hashlib.sha256(repr(spec).encode()).hexdigest()[:8]
    cache = None if "split" in lever else shared
    train_run(run, config=config, init=init, resume=True, cache=cache)
    val = [case for case in read_parts(run)["val"] if case.diagnosis != "acne"]
    taken = predictions_of(run, val, run / "evaluation" / "val", None, print)
    session = Session(load_bundle(run / "bundle"))
    rows = stress(
        taken,
        lambda change: predict_cases(session, val, change=change)[0],
        severities=[SEVERITY],
    )
    with write_whole(run / "stress.json") as file:
        file.write(json.dumps([row._asdict() for row in rows], indent=1).encode())


def settings(base: dict[str, Any], lever: dict[str, Any], seed: int) -> Config:
    """Lay a lever's settings over the base's."""
    sections = ("preprocess", "augment", "train")
    merged = {name: {**base.get(name, {}), **lever.get(name, {})} for name in sections}
    return config_from(merged).with_train(seed=seed)


def by_image(parts: dict[str, list[Case]]) -> dict[str, list[Case]]:
    """Deal out training and validation pictures one by one, as if each were a lesion."""
    cases = [replace(c, group=c.image, lesion=c.image) for c in parts["train"] + parts["val"]]
    share = len(parts["val"]) / len(cases)
    return apply_split(cases, split_parts(cases, {"train": 1 - share, "val": share}))


def finished(out: Path, names: Sequence[str], seeds: int) -> bool:
    return all(
        (out / f"{n}-{seed}" / "stress.json").is_file() for n in names for seed in range(seeds)
    )


def table(
    out: Path, levers: Mapping[str, Sequence[str]], made: Mapping[str, Any], seeds: int
) -> str:
    """Return the Markdown table of what is finished: levers by name, with the runs each is of."""
    rows = ["| lever | " + " | ".join(SHOWN) + " | log loss | gain in the first | under stress |"]
    rows.append("|---" * (len(SHOWN) + 4) + "|")
    first = SHOWN[0]
    for name, of in levers.items():
        said = [answers(out, of, seed, made.get(name, {})) for seed in range(seeds)]
        scores = [score(one) for one in said]
        drawn = np.mean([resampled(one)[first] for one in said], axis=0)
        if name == "base":
            base_drawn, base = drawn, np.mean([s[first] for s in scores])
        mean = [np.mean([s[key] for s in scores]) for key in SHOWN]
        mean.append(np.mean([log_loss(one.labels, one.probs, labels=CLASSES) for one in said]))
        gain = stressed = ""
        if name not in ("base", "split_by_image"):  # whose pictures are others
            low, high = percentile_interval(drawn - base_drawn)
            gain = f"{mean[0] - base:+.3f} ({low:+.3f} to {high:+.3f})"
        if name not in made:
            runs = [out / f"{name}-{seed}" / "stress.json" for seed in range(seeds)]
            stressed = f"{np.mean([json.loads(run.read_text())[-1][first] for run in runs]):.3f}"
        figures = " | ".join(f"{value:.3f}" for value in mean)
        rows.append(f"| {name} | {figures} | {gain} | {stressed} |")
    return "\n".join(rows)


def answers(out: Path, of: Sequence[str], seed: int, how: Mapping[str, Any]) -> Predictions:
    """Answers of one run, or the mean logits of several; `adjust` takes that power of the training
    part's class shares out of them, which is logit adjustment after training (arXiv:2007.07314).
    """
    runs = [out / f"{name}-{seed}" for name in of]
    said = [Predictions.load(run / "evaluation" / "val" / "predictions.npz") for run in runs]
    logits = np.mean([one.logits for one in said], axis=0)
    train = [case.diagnosis for case in read_parts(runs[0])["train"]]
    shares = np.array([train.count(code) for code in said[0].codes]) / len(train)
    adjusted = logits - how.get("adjust", 0.0) * np.log(shares)
    return replace(said[0], logits=adjusted.astype(np.float32))


if __name__ == "__main__":
    main()
