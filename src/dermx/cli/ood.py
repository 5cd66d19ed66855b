"""The command that fits and measures the gate: ood."""

from pathlib import Path
from typing import Annotated

import typer

from dermx.cli.arguments import RUN, VIEWS, Views
from dermx.cli.trust import SELF_TEST


def ood(
    run: Annotated[Path, RUN],
    outliers: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Pictures of none of the eight: everyday/, clinical/<disease>/."
        ),
    ],
    dermnet: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="DermNet's acne class: its other names count, too."),
    ] = None,
    views: Annotated[Views, VIEWS] = Views.eight,
    acceptance: Annotated[
        float, typer.Option(help="Share of each class's pictures to let in.")
    ] = 0.95,
    let_in: Annotated[
        float, typer.Option(help="Share of clinical strangers to let in without a warning.")
    ] = 0.10,
    self_test: Annotated[bool, SELF_TEST] = False,
) -> None:
    """Know when not to answer: fit the gate, compare seven scores, report on unseen strangers."""
    from dermx.cli.progress import track
    from dermx.workflow.ood import THRESHOLD, ood_run

    figure = ood_run(
        run,
        outliers=outliers,
        dermnet=dermnet,
        views=int(views.value),
        acceptance=acceptance,
        let_in=let_in,
        track=track,
        say=typer.echo,
    )
    typer.echo(f"threshold: {run / THRESHOLD}")
    typer.echo(f"figure: {figure}")
