"""What can be asked on the command line? Each command parses, calls one function, shows the result.

Nothing heavy is imported before a command runs, so `dermx --help` is instant. What is the input's
or the setting's fault is one line on stderr and exit status 2; `--debug`, anywhere on the line,
shows the traceback as well.
"""

import os
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
from dermx.cli import training
from dermx.cli import trust as trust_commands
from dermx.cli.explain import audit, explain
from dermx.cli.longitudinal import longitudinal
from dermx.cli.metadata import metadata
from dermx.cli.page import app as page
from dermx.cli.quantize import quantize
from dermx.errors import DermxError, MissingExtraError

# What `dermx[train]` brings, as it is imported: without it, most commands end at one of these.
TRAINING = (
    *("accelerate", "matplotlib", "onnx", "safetensors", "scipy", "sklearn"),
    *("timm", "torch", "torchvision"),
)
STOPPED = 130  # exit status after Ctrl-C, as shells have it

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


@app.command(short_help="Which diagnosis, how sure, and whether to believe it.")
def predict(
    paths: Annotated[
        list[Path],
        # `readable`: typer would end all for one; here it is reported and the others go on.
        typer.Argument(metavar="PATH", readable=False, help="Pictures, or folders of them."),
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
        CsvFormat,
        typer.Option("--format", help="Columns; isic: for its scorer, of one view, uncalibrated."),
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


for command, in_short in (  # in the order of the help; at most 58 letters, or it cuts them
    (page, "Open the page: a picture in, an answer with its doubts."),
    (training.train, "Train a model; RUN holds all the result depends on."),
    (training.evaluate, "Score a model, with 95 % intervals by lesion."),
    (training.crossval, "Train and test K times on folds by lesion."),
    (training.ensemble, "Make one model of several."),
    (quantize, "Make the model under a third as large; show the cost."),
    (metadata, "Fit a head on age, sex and site; score it, too."),
    (training.export, "Write the model to deploy, checked against PyTorch."),
    (training.prune, "Remove what a finished run can do without."),
    (trust_commands.calibrate, "Does 80 % confidence mean right 80 times in 100?"),
    (ood_commands.ood, "Know when not to answer: fit and compare gates."),
    (trust_commands.uncertainty, "How much do answers scatter?"),
    (trust_commands.trust, "Fit all trust parts and write them into the model."),
    (explain, "Show where the model looked: heat maps."),
    (audit, "Check the maps, and what the model leans on."),
    (longitudinal, "Is my treatment working? Effects on daily severity."),
    (training.check, "Verify model, settings, data and devices."),
    (trust_commands.selftest, "Check the trust mathematics, without model or data."),
):
    app.command(short_help=in_short)(command)


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
    nowhere = Path(os.devnull)  # for a stream that was closed before Python began, which is None
    sys.stdout = sys.stdout or nowhere.open("w")
    sys.stderr = sys.stderr or nowhere.open("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may hold what no screen can show
            stream.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = app(words, prog_name="dermx", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = STOPPED
    except (DermxError, OSError) as error:
        if debug:
            raise
        return _fail(_sentence(error), 2)
    except ModuleNotFoundError as error:
        if debug or (error.name or "").partition(".")[0] not in TRAINING:
            raise
        return _fail(str(MissingExtraError("this command", "train")), 2)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise  # a bug: its traceback is wanted
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        return _fail(f"{error.format_message().rstrip('.')}{hint}", 2)
    if status == STOPPED:  # typer may have caught Ctrl-C itself
        return _fail("stopped", STOPPED)
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
