"""What can be asked on the command line? Each command parses, calls one function, shows the result.

Nothing heavy is imported before a command runs, so `dermx --help` is instant. What is the input's
or the setting's fault is one line on stderr and exit status 2; `--debug`, anywhere on the line,
shows the traceback as well.
"""

import sys
import warnings
from collections.abc import Sequence
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from dermx import __version__
from dermx.cli import ood as ood_commands
from dermx.cli import trust as trust_commands
from dermx.cli.explain import audit, explain
from dermx.cli.longitudinal import longitudinal
from dermx.cli.page import app as page
from dermx.errors import DermxError

app = typer.Typer(
    name="dermx",
    add_completion=False,
    rich_markup_mode=None,  # plain help: no drawing library to load
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class CsvFormat(StrEnum):
    """Which columns a table of predictions has."""

    dermx = "dermx"
    isic = "isic"


@app.callback(invoke_without_command=True)
def dermx(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Which of eight skin conditions a picture shows, how sure that is, and where it looked.

    For research and education; not a medical device.
    """
    if version:
        typer.echo(f"dermx {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def predict(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Pictures, or folders of them.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="A model's folder; without it, the shipped model."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list, one object per picture.")
    ] = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a table to this file.")
    ] = None,
    csv_format: Annotated[
        CsvFormat, typer.Option("--format", help="Columns of the table; isic: for its scorer.")
    ] = CsvFormat.dermx,
    heatmaps: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write what the model looked at, a PNG per picture."),
    ] = None,
    no_trust: Annotated[
        bool,
        typer.Option("--no-trust", help="One view, plain softmax, no word on whether to believe."),
    ] = False,
    self_test: Annotated[bool, trust_commands.SELF_TEST] = False,
) -> None:
    """Assess pictures: which diagnosis, how sure, and whether to believe it.

    A picture that can't be read is reported and the others go on. Exit status: 0 when every
    picture was read, 1 when some were not, 2 when nothing could be done.
    """
    from dermx.cli.predict import predict_pictures

    status = predict_pictures(
        paths,
        model=model,
        as_json=as_json,
        csv_file=csv_file,
        isic=csv_format is CsvFormat.isic,
        heatmaps=heatmaps,
        with_trust=not no_trust,
    )
    raise typer.Exit(status)


@app.command()
def train(
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run.")],
    ham10000: Annotated[
        Path | None, typer.Option(metavar="DIR", help="HAM10000: metadata and pictures.")
    ] = None,
    acne: Annotated[
        Path | None, typer.Option(metavar="DIR", help="DermNet's acne class, or one above it.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Settings; see configs/.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Starting weights, safetensors; else timm downloads."),
    ] = None,
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
    typer.echo(f"model: {bundle}")


class Part(StrEnum):
    """Which of a run's own pictures are scored."""

    val = "val"
    test = "test"


class Decide(StrEnum):
    """How probabilities become an answer."""

    argmax = "argmax"
    balanced = "balanced"
    cost = "cost"


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by `dermx train`.")],
    on: Annotated[Part, typer.Option(help="Part of the run's own pictures.")] = Part.test,
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
        float, typer.Option(help="With --decide: wanted for mel, bcc and akiec.")
    ] = 0.92,
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
        track=track,
        say=typer.echo,
    )
    typer.echo((report.parent / "classification_report.txt").read_text(encoding="utf-8"))
    typer.echo(f"report: {report}")


@app.command()
def crossval(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the folds and results.")],
    folds: Annotated[int | None, typer.Option(help="How many. [5]")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Deal the test part into the folds, too.")
    ] = False,
    ham10000: Annotated[
        Path | None, typer.Option(metavar="DIR", help="HAM10000: metadata and pictures.")
    ] = None,
    acne: Annotated[
        Path | None, typer.Option(metavar="DIR", help="DermNet's acne class, or one above it.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Settings; see configs/.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Starting weights, safetensors; else timm downloads."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep each fold's decoded pictures here."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; keep finished folds.")] = False,
) -> None:
    """Train and test K times on folds by lesion: mean, spread, and out-of-fold predictions."""
    from dermx.cli.progress import track
    from dermx.config import load_config
    from dermx.workflow.combining import crossval_run

    report = crossval_run(
        out,
        folds=folds,
        whole=whole,
        ham10000=ham10000,
        acne=acne,
        config=None if config is None else load_config(config),
        init=init,
        resume=resume,
        cache=cache,
        track=track,
        say=typer.echo,
    )
    typer.echo(f"predictions: {out / 'predictions.npz'}")
    typer.echo(f"report: {report}")


class Weighting(StrEnum):
    """How the members of an ensemble are weighted."""

    greedy = "greedy"
    fitted = "fitted"
    equal = "equal"


@app.command()
def ensemble(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders written by `dermx train`.")
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="New folder; evaluate it as a run.")],
    weights: Annotated[
        Weighting, typer.Option(help="Picked or fitted on their validation part, or equal.")
    ] = Weighting.greedy,
) -> None:
    """Make one model of several, also of different architectures: the mean of their logits."""
    from dermx.cli.progress import track
    from dermx.workflow.combining import ensemble_run

    bundle = ensemble_run(runs, out, weights=weights.value, track=track, say=typer.echo)
    typer.echo(f"model: {bundle}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by `dermx train`.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Folder of the model to deploy.")],
) -> None:
    """Write the model to deploy: ONNX, checked against PyTorch on real pictures."""
    from dermx.workflow.training import export_run

    typer.echo(f"model: {export_run(run, out, say=typer.echo)}")


@app.command()
def check(
    ham10000: Annotated[
        Path | None, typer.Option(metavar="DIR", help="HAM10000: metadata and pictures.")
    ] = None,
    acne: Annotated[
        Path | None, typer.Option(metavar="DIR", help="DermNet's acne class, or one above it.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="Settings.")] = None,
) -> None:
    """Verify the shipped model, settings, data and devices before a long run."""
    from dermx.workflow.training import check_setup

    check_setup(ham10000=ham10000, acne=acne, config=config, say=typer.echo)


app.command("app")(page)
app.command()(trust_commands.calibrate)
app.command()(ood_commands.ood)
app.command()(trust_commands.uncertainty)
app.command()(trust_commands.trust)
app.command()(trust_commands.selftest)
app.command()(longitudinal)
app.command()(explain)
app.command()(audit)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the words after `dermx` when `arguments` is None.

    Returns:
        The exit status: 0 done, 1 partly, 2 refused, 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in options
    if debug:
        words.remove("--debug")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may hold what no screen can show
            stream.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = app(words, prog_name="dermx", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped", 130)
    except (DermxError, OSError) as error:
        if debug:
            raise
        return _fail(_sentence(error), 2)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise  # a bug: its traceback is wanted
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        return _fail(f"{error.format_message().rstrip('.')}{hint}", 2)
    return status if isinstance(status, int) else 0


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, DermxError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def _fail(message: str, status: int) -> int:
    typer.echo(f"error: {message}", err=True)
    return status


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.echo(f"warning: {message}", err=True)


if __name__ == "__main__":
    sys.exit(main())
