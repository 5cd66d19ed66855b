"""Commands that ask whether to believe a model: calibrate, uncertainty, trust, selftest."""

from pathlib import Path
from typing import Annotated

import typer

from dermx.cli.arguments import FIT, RUN, VIEWS, Part, Views


def _self_test(wanted: bool) -> None:
    if wanted:
        selftest()
        raise typer.Exit


SELF_TEST = typer.Option(
    "--self-test", callback=_self_test, is_eager=True, help="Check the mathematics and end."
)


def selftest() -> None:
    """Check the trust mathematics, without a model and without data."""
    from dermx.trust.selftest import run_checks

    count = run_checks(typer.echo)
    typer.echo(f"{count} checks passed")


def calibrate(
    run: Annotated[Path, RUN],
    on: Annotated[Part, typer.Option(help="Part that the figures are about.")] = Part.test,
    views: Annotated[Views, VIEWS] = Views.eight,
    fit: Annotated[Path | None, FIT] = None,
    self_test: Annotated[bool, SELF_TEST] = False,
) -> None:
    """Does 80 % confidence mean right 80 times in 100? Fits on val, draws the diagram of a part."""
    from dermx.cli.progress import track
    from dermx.workflow.calibrating import calibrate_run

    page = calibrate_run(
        run, on=on.value, views=int(views.value), fit=fit, track=track, say=typer.echo
    )
    typer.echo(f"reliability diagram: {page}")


def uncertainty(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Pictures, or folders of them.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="A model's folder; without it, the shipped model."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Dropout masks.")] = 30,
    rate: Annotated[
        float | None, typer.Option(help="Dropout rate. [that of training, else 0.2]")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list, one object per picture.")
    ] = False,
    self_test: Annotated[bool, SELF_TEST] = False,
) -> None:
    """How much do answers scatter, under dropout and over the eight views of a picture?"""
    from dermx.cli.uncertainty import show_uncertainty

    raise typer.Exit(show_uncertainty(paths, model, samples, rate, as_json=as_json))


def trust(
    run: Annotated[Path, RUN],
    outliers: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Pictures that are none of the eight, for a gate if RUN has none."
        ),
    ] = None,
    dermnet: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="DermNet's acne class: its other names, for the gate."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="An exported copy of the model to write them into."),
    ] = None,
    fit: Annotated[Path | None, FIT] = None,
    views: Annotated[Views, VIEWS] = Views.eight,
    coverage: Annotated[
        float, typer.Option(help="Share of each class whose set holds the truth.")
    ] = 0.9,
    answered: Annotated[float, typer.Option(help="Share of known cases to answer.")] = 0.8,
    sensitivity: Annotated[float, typer.Option(help="Of referral, for mel, bcc and akiec.")] = 0.92,
    measure: Annotated[
        Part | None, typer.Option(help="Then measure all parts on this one: trust.json.")
    ] = None,
    shift: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Also measure on N changed pictures of that part."),
    ] = 0,
    self_test: Annotated[bool, SELF_TEST] = False,
) -> None:
    """Fit all trust parts on the validation part and write them into the run's bundle."""
    from dermx.cli.progress import track
    from dermx.errors import InputError
    from dermx.trust.fitting import Wanted
    from dermx.workflow.evaluation import cases_of
    from dermx.workflow.trusting import shift_figures, trust_figures, trust_run

    if shift and measure is None:
        raise InputError("--shift needs --measure PART, whose pictures are changed")
    if measure is not None:
        cases_of(run, measure.value)  # refused before anything is fitted
    made = trust_run(
        run,
        outliers=outliers,
        dermnet=dermnet,
        bundle=bundle,
        fit=fit,
        views=int(views.value),
        wanted=Wanted(coverage=coverage, answered=answered, sensitivity=sensitivity),
        track=track,
        say=typer.echo,
    )
    if measure is not None:
        page = trust_figures(
            run,
            on=measure.value,
            outliers=outliers,
            dermnet=dermnet,
            bundle=bundle,
            track=track,
            say=typer.echo,
        )
        typer.echo(f"figures: {page}")
        if shift:
            shift_figures(run, on=measure.value, sample=shift, track=track, say=typer.echo)
    typer.echo(f"model: {made}")
