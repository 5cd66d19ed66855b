"""`dermx metadata`: what age, sex and site add to the picture."""

from pathlib import Path
from typing import Annotated

import typer

from dermx.cli.arguments import FIT, RUN, Part


def metadata(
    run: Annotated[Path, RUN],
    on: Annotated[Part, typer.Option(help="Part of the run's own pictures.")] = Part.test,
    fit: Annotated[Path | None, FIT] = None,
) -> None:
    """Fit a head on age, sex and site; score it beside the picture alone."""
    from dermx.cli.progress import track
    from dermx.workflow.metadata import metadata_run

    table = metadata_run(run, on=on.value, fit=fit, track=track, say=typer.echo)
    typer.echo(f"figures: {table}")
