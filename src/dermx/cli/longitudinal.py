"""`dermx longitudinal`: is my treatment working?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dermx.errors import ConfigError


class Random(StrEnum):
    """What varies between patients besides their level."""

    intercept = "intercept"
    treatment = "treatment"
    day = "day"


class Errors(StrEnum):
    """Where standard errors come from."""

    robust = "robust"
    bootstrap = "bootstrap"
    plain = "plain"


def longitudinal(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.")],
    table: Annotated[
        Path | None,
        typer.Argument(
            metavar="CSV", help="A row per patient and day; without it, the shipped example."
        ),
    ] = None,
    patient: Annotated[str | None, typer.Option(help="Column of the patient. [patient]")] = None,
    day: Annotated[str | None, typer.Option(help="Column of day numbers or dates. [day]")] = None,
    treatment: Annotated[
        str | None, typer.Option(help="Column of the treatment. [treatment]")
    ] = None,
    severity: Annotated[str | None, typer.Option(help="Column of the severity. [severity]")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Treatment to compare the others with. [Baseline]")
    ] = None,
    treatments: Annotated[
        str | None, typer.Option(metavar="A,B", help="The others, in order; no more are allowed.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Of the severity, as written. [points]")] = None,
    lowest: Annotated[float | None, typer.Option(help="Lowest possible severity. [0]")] = None,
    highest: Annotated[float | None, typer.Option(help="Highest possible severity.")] = None,
    higher_is_better: Annotated[
        bool, typer.Option("--higher-is-better", help="A high score is a good one.")
    ] = False,
    min_days: Annotated[
        int | None, typer.Option(help="Fewest days of a patient on a treatment. [5]")
    ] = None,
    random: Annotated[
        Random, typer.Option(help="What varies between patients besides their level.")
    ] = Random.intercept,
    trend: Annotated[
        bool, typer.Option("--trend", help="Allow for a straight trend over days.")
    ] = False,
    skip_days: Annotated[
        int, typer.Option(help="Days to leave out after each change of treatment (carry-over).")
    ] = 0,
    errors: Annotated[Errors, typer.Option(help="Standard errors.")] = Errors.robust,
    plan: Annotated[
        float | None,
        typer.Option(metavar="EFFECT", help="Simulate who would see an effect of this size."),
    ] = None,
    plan_patients: Annotated[
        str | None, typer.Option(metavar="N,N", help="Numbers of patients. [5,10,15,20,30]")
    ] = None,
    plan_days: Annotated[
        str | None, typer.Option(metavar="N,N", help="Days of each phase. [7,14,28]")
    ] = None,
    plan_studies: Annotated[int | None, typer.Option(help="Simulated per design. [200]")] = None,
    seed: Annotated[int, typer.Option(help="Of bootstrap and plan.")] = 0,
) -> None:
    """Is my treatment working? Effects on daily severity, with honest uncertainty."""
    from dermx.longitudinal.effects import ModelConfig
    from dermx.longitudinal.power import PlanConfig
    from dermx.longitudinal.reading import SHIPPED_TABLE
    from dermx.longitudinal.visits import TableConfig
    from dermx.workflow.longitudinal import longitudinal_run

    named = {
        "patient": patient,
        "day": day,
        "treatment": treatment,
        "severity": severity,
        "baseline": baseline,
        "treatments": None if treatments is None else _words(treatments),
        "unit": unit,
        "lowest": lowest,
        "highest": highest,
        "min_days": min_days,
        "higher_is_better": higher_is_better or None,
    }
    given = {key: value for key, value in named.items() if value is not None}
    numbers = {
        "patients": None if plan_patients is None else _numbers(plan_patients, "--plan-patients"),
        "days": None if plan_days is None else _numbers(plan_days, "--plan-days"),
        "studies": plan_studies,
    }
    wanted = {key: value for key, value in numbers.items() if value is not None}
    if plan is None and wanted:
        raise ConfigError("--plan-patients, --plan-days and --plan-studies need --plan EFFECT")
    report = longitudinal_run(
        table,
        out,
        columns=replace(SHIPPED_TABLE if table is None else TableConfig(), **given),  # type: ignore[arg-type]
        model=ModelConfig(
            random=random.value, trend=trend, skip_days=skip_days, errors=errors.value, seed=seed
        ),
        planned=None if plan is None else PlanConfig(effect=plan, seed=seed, **wanted),  # type: ignore[arg-type]
        progress=_designs,
        say=typer.echo,
    )
    typer.echo(f"report: {report}")


def _designs(designs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for n, (patients, days) in enumerate(designs, 1):
        typer.echo(f"plan {n}/{len(designs)}: {patients} patients, {days} days a phase", err=True)
        yield patients, days


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise ConfigError(f"{option} takes whole numbers as 5,10,20, got {text!r}") from None
