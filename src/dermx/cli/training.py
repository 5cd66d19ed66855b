"""`dermx train` and what follows: evaluate, cross-validate, combine, export, prune; `check`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dermx.cli.arguments import RUN

Ham10000 = Annotated[
    Path | None, typer.Option(metavar="DIR", help="HAM10000: metadata and pictures.")
]
Acne = Annotated[
    Path | None, typer.Option(metavar="DIR", help="DermNet's acne class, or one above it.")
]
Settings = Annotated[Path | None, typer.Option(metavar="TOML", help="Settings; see configs/.")]
Init = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Starting weights, safetensors; else timm downloads."),
]


def _tell(*lines: str) -> None:
    """Say where the result is; of several processes, one speaks."""
    from dermx.train.processes import join_processes

    if join_processes().is_main_process:
        typer.echo("\n".join(lines))


def train(
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run.")],
    ham10000: Ham10000 = None,
    acne: Acne = None,
    config: Settings = None,
    init: Init = None,
    architecture: Annotated[
        str | None, typer.Option(metavar="NAME", help="A timm name. [mobilenetv2_100]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the pictures. [20]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures per step. [64]")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate. [8e-4]")] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="TERMS",
            help="cross_entropy or focal, inverse or effective, adjusted; joined by +. "
            "[cross_entropy]",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="share: by --oversample; power: by a power of the counts. [share]"),
    ] = None,
    oversample: Annotated[
        float | None, typer.Option(help="0: natural class counts; 1: all alike. [0.35]")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16. [auto]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random draw. [0]")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep decoded pictures here for other runs."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with this run.")] = False,
) -> None:
    """Train a model; RUN then holds everything the result depends on."""
    from dermx.cli.progress import track
    from dermx.config import load_config
    from dermx.workflow.training import train_run

    saved = out / "config.json"
    settings = load_config(saved if config is None and resume and saved.is_file() else config)
    bundle = train_run(
        out,
        ham10000=ham10000,
        acne=acne,
        config=settings.with_train(
            architecture=architecture,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=lr,
            loss=loss,
            sampler=sampler,
            oversample=oversample,
            precision=precision,
            seed=seed,
        ),
        init=init,
        resume=resume,
        cache=cache,
        track=track,
        say=typer.echo,
    )
    _tell(f"model: {bundle}")


class Part(StrEnum):
    """Which of a run's own pictures are scored."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


class Decide(StrEnum):
    """How probabilities become an answer."""

    argmax = "argmax"
    balanced = "balanced"
    cost = "cost"


def evaluate(
    run: Annotated[Path, RUN],
    on: Annotated[
        Part, typer.Option(help="Part of the run's own pictures; all: with those of training.")
    ] = Part.test,
    isic_truth: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Score ISIC 2018 Task 3 pictures of this truth instead."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the pictures of --isic-truth.")
    ] = None,
    stress: Annotated[
        bool,
        typer.Option("--stress", help="Also score changed pictures: colour, light, blur, framing."),
    ] = False,
    decide: Annotated[
        Decide | None,
        typer.Option(help="Fit this rule and a screening threshold on val; score them, too."),
    ] = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(help="With --decide: wanted for mel, bcc and akiec. [0.92]"),
    ] = None,
    views: Annotated[
        int, typer.Option(help="1, or 8: the mean over turns and mirror images, as in use.")
    ] = 1,
) -> None:
    """Score a trained model: accuracy, recall and F1 per class, with 95 % intervals by lesion."""
    from dermx.cli.progress import track
    from dermx.workflow.evaluation import evaluate_run

    report = evaluate_run(
        run,
        on=on.value,
        isic_truth=isic_truth,
        images=images,
        stressed=stress,
        decide=None if decide is None else decide.value,
        sensitivity=sensitivity,
        views=views,
        track=track,
        say=typer.echo,
    )
    typer.echo((report.parent / "classification_report.txt").read_text(encoding="utf-8"))
    typer.echo(f"report: {report}")


def crossval(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the folds and results.")],
    folds: Annotated[int | None, typer.Option(help="How many. [5]")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Deal the test part into the folds, too.")
    ] = False,
    training: Annotated[
        bool, typer.Option("--training", help="Only the training part: answers that may teach.")
    ] = False,
    ham10000: Ham10000 = None,
    acne: Acne = None,
    config: Settings = None,
    init: Init = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep each fold's decoded pictures here."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; keep finished folds.")] = False,
) -> None:
    """Train and test K times on folds by lesion: mean, spread, and out-of-fold predictions."""
    from dermx.cli.progress import track
    from dermx.config import load_config
    from dermx.workflow.crossvalidating import crossval_run

    report = crossval_run(
        out,
        folds=folds,
        whole=whole,
        training=training,
        ham10000=ham10000,
        acne=acne,
        config=None if config is None else load_config(config),
        init=init,
        resume=resume,
        cache=cache,
        track=track,
        say=typer.echo,
    )
    _tell(f"predictions: {out / 'predictions.npz'}", f"report: {report}")


class Weighting(StrEnum):
    """How the members of an ensemble are weighted."""

    greedy = "greedy"
    fitted = "fitted"
    equal = "equal"


def ensemble(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders written by `dermx train`.")
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="New folder; evaluate it as a run.")],
    weights: Annotated[
        Weighting | None,
        typer.Option(help="Picked or fitted on their validation part, or equal. [greedy]"),
    ] = None,
    share: Annotated[
        list[float] | None,
        typer.Option(help="Instead: a weight above 0, once for each RUN in their order."),
    ] = None,
    crop_fraction: Annotated[
        list[float] | None,
        typer.Option(help="How much of the square each RUN looks at, instead of its own."),
    ] = None,
    adjust: Annotated[
        float,
        typer.Option(help="Answer rare classes sooner: their share of training to this power."),
    ] = 0.0,
    melanomas: Annotated[
        float | None,
        typer.Option(
            help="Instead: so that accuracy and balanced accuracy count alike and this share of "
            "melanomas is expected to be found, by the validation part."
        ),
    ] = None,
    mapped: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Heat maps show this run's network, not all; repeat it."),
    ] = None,
) -> None:
    """Make one model of several, also of different architectures: the mean of their logits."""
    from dermx.cli.progress import track
    from dermx.errors import InputError
    from dermx.workflow.combining import ensemble_run

    if share and weights is not None:
        raise InputError("--share gives the weights itself; leave --weights out")
    bundle = ensemble_run(
        runs,
        out,
        weights=share or (weights or Weighting.greedy).value,
        crop_fractions=crop_fraction or (),
        adjust=adjust,
        melanomas=melanomas,
        mapped=mapped or (),
        track=track,
        say=typer.echo,
    )
    typer.echo(f"model: {bundle}")


def export(
    run: Annotated[Path, RUN],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Folder of the model to deploy.")],
) -> None:
    """Write the model to deploy: ONNX, checked against PyTorch on real pictures."""
    from dermx.workflow.training import export_run

    typer.echo(f"model: {export_run(run, out, say=typer.echo)}")


def prune(
    run: Annotated[Path, RUN],
) -> None:
    """Remove what a finished run can do without: checkpoint, cache, stored predictions.

    Commands make the predictions again when they need them; training can't be resumed afterwards.
    """
    from dermx.workflow.pruning import prune_run

    prune_run(run, say=typer.echo)


def check(
    ham10000: Ham10000 = None,
    acne: Acne = None,
    config: Settings = None,
) -> None:
    """Verify the shipped model, settings, data and devices before a long run."""
    from dermx.workflow.training import check_setup

    check_setup(ham10000=ham10000, acne=acne, config=config, say=typer.echo)
