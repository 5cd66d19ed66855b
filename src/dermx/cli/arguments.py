"""Arguments and options that several commands share, with the same names everywhere."""

from enum import StrEnum

import typer

RUN = typer.Argument(metavar="RUN", help="Folder written by `dermx train`.")
FIT = typer.Option(
    "--fit", metavar="FILE", help="Fit on these predictions (of `dermx crossval`), not on val."
)
VIEWS = typer.Option(help="Views of each picture.")


class Part(StrEnum):
    """Which of a run's own pictures figures are about."""

    val = "val"
    test = "test"


class Views(StrEnum):
    """How many views of each picture are averaged."""

    one = "1"
    eight = "8"
