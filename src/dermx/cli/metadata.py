"""`dermx metadata`: what age, sex and site add to the picture."""

from pathlib import Path
from typing import Annotated

import typer

from dermx.cli.explain import Part


def metadata(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by `dermx train`.")],
    on: Annotated[Part, typer.Option(help="Part of the run's own pictures.")] = Part.test,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="NPZ", help="Fit on these out-of-fold predictions instead of the val part."
        ),
    ] = None,
) -> None:
    """Fit a head on age, sex and site; score it beside the picture alone."""
    from dermx.cli.progress import track
    from dermx.workflow.metadata import metadata_run

    table = metadata_run(run, on=on.value, fit_on=predictions, track=track, say=typer.echo)
    typer.echo(f"figures: {table}")
