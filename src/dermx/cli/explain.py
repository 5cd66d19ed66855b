"""`dermx explain` and `dermx audit`: where the model looked, and whether that is true."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dermx.cli.arguments import RUN, Part


class Method(StrEnum):
    """How a map is computed."""

    gradcam = "gradcam"
    hirescam = "hirescam"
    layercam = "layercam"


def explain(
    model: Annotated[
        Path,
        typer.Argument(metavar="RUN|BUNDLE", help="Folder of `dermx train`, or a model's folder."),
    ],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Pictures or folders; without, a run's own pictures."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the PNG files. [RUN/explanations, explained]"),
    ] = None,
    code: Annotated[
        str | None, typer.Option("--class", metavar="CODE", help="Explain this class. [the answer]")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="CODE", help="Why the class rather than this one.")
    ] = None,
    method: Annotated[Method, typer.Option(help="Kind of map.")] = Method.gradcam,
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the PyTorch network; needs a run. [last map]"),
    ] = None,
    on: Annotated[Part | None, typer.Option(help="Without PATH: part of the run. [test]")] = None,
) -> None:
    """Show where the model looked: heat maps of pictures, or contact sheets of a run's own."""
    from dermx.errors import InputError
    from dermx.workflow.explaining import contact_sheets, explain_pictures

    left_out: list[str] = []

    def leave_out(why: str) -> None:
        typer.echo(why, err=True)
        left_out.append(why)

    if not paths:
        if code or against or layer or method is not Method.gradcam:
            raise InputError("--class, --against, --method and --layer need PATH, a picture")
        from dermx.cli.progress import track

        part = Part.test if on is None else on
        written = contact_sheets(model, on=part.value, out=out, track=track, say=typer.echo)
    else:
        if on is not None:
            raise InputError("--on is for a run's own pictures; leave PATH or --on out")
        written = explain_pictures(
            model,
            paths,
            Path("explained") if out is None else out,
            code=code,
            against=against,
            method=method.value,
            layer=layer,
            say=leave_out,
        )
    for path in written:
        typer.echo(path)
    typer.echo("Research and education, not a medical device.")
    if left_out:
        raise typer.Exit(1)


def audit(
    run: Annotated[Path, RUN],
    on: Annotated[Part, typer.Option(help="Part of the run's own pictures.")] = Part.test,
    sample: Annotated[
        int, typer.Option(help="Lesions per class for deletion, insertion and ROAD.")
    ] = 40,
    outside: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Photographs of other things; what is called acne?"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
) -> None:
    """Check the maps (faithful, on the lesion, not by chance) and what the model leans on."""
    from dermx.cli.progress import track
    from dermx.workflow.audit import audit_run

    page = audit_run(
        run,
        on=on.value,
        sample=sample,
        outside=outside or (),
        seed=seed,
        track=track,
        say=typer.echo,
    )
    typer.echo(f"report: {page}")
