"""`dermx quantize`: a model in 8-bit integers."""

from pathlib import Path
from typing import Annotated

import typer

from dermx.cli.arguments import RUN


def quantize(
    run: Annotated[Path, RUN],
    out: Annotated[Path, typer.Option(metavar="RUN", help="New folder; evaluate it as a run.")],
    steps: Annotated[
        int, typer.Option(metavar="N", help="Batches that rounding is learnt on; 0: only rounded.")
    ] = 320,
) -> None:
    """Make the model less than a third as large; show what that costs on the validation part."""
    from dermx.cli.progress import track
    from dermx.workflow.quantizing import quantize_run

    typer.echo(f"model: {quantize_run(run, out, steps=steps, track=track, say=typer.echo)}")
