"""Is my treatment working? From a table of visits to effects, pictures and a page."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dermx.errors import needs

if TYPE_CHECKING:
    import pandas as pd

    from dermx.longitudinal.effects import ModelConfig
    from dermx.longitudinal.power import PlanConfig
    from dermx.longitudinal.study import TreatmentStudy
    from dermx.longitudinal.visits import TableConfig

Say = Callable[[str], None]
Progress = Callable[[Sequence[tuple[int, int]]], Iterator[tuple[int, int]]]


def treatment_study(
    table: "Path | str | bytes | pd.DataFrame | None" = None,
    *,
    columns: "TableConfig | None" = None,
    model: "ModelConfig | None" = None,
) -> "TreatmentStudy":
    """Read, check and analyse a table of visits; the page and the command line both call this.

    Args:
        table: A CSV file, its bytes or a data frame, a row per patient and day; None for the
            shipped simulated study.
        columns: Names of columns, the baseline, unit and range of the severity.
        model: Random effects, trend, carry-over, standard errors.

    Raises:
        DataError: The table doesn't hold what it must.
        FitError: The model can't be fitted in a way that can be trusted.
        MissingExtraError: The extra `stats` is not installed.
    """
    with needs("effects of treatments", "stats"):
        import pandas  # noqa: F401
        import scipy  # noqa: F401
        import statsmodels  # noqa: F401
    from dermx.longitudinal.reading import read_visits
    from dermx.longitudinal.study import study_of

    return study_of(read_visits(table, columns), model)


def longitudinal_run(
    table: Path | None,
    out: Path,
    *,
    columns: "TableConfig | None" = None,
    model: "ModelConfig | None" = None,
    planned: "PlanConfig | None" = None,
    progress: Progress = iter,
    say: Say = print,
) -> Path:
    """Analyse a table of visits and write tables, pictures and the page.

    Args:
        table: A CSV file; None for the shipped simulated study.
        out: Folder of the results.
        columns: As in `treatment_study`.
        model: As in `treatment_study`.
        planned: Designs whose power is simulated with this study's noise and `model`; none if
            None.
        progress: Shows how far the plan is.
        say: Shows the answer.

    Returns:
        The page; beside it `effects.csv`, `effects.md`, `patients.csv`, `study.json`, pictures.
    """
    study = treatment_study(table, columns=columns, model=model)
    from dermx.longitudinal.power import design_like, plan, plan_sentence
    from dermx.longitudinal.report import write_study

    unit = study.visits.config.unit
    for sentence in study.sentences or [own.sentence for own in study.patients]:
        say(sentence)
    cells = []
    if planned is not None:
        cells = plan(design_like(study), planned, study.config, progress)
    if cells:
        say(plan_sentence(cells, unit))
    for note in study.notes:
        say(f"note: {note}")
    name = "sim_acne.csv, a simulated study that comes with dermx" if table is None else table.name
    return write_study(out, study, title="Is the treatment working?", facts={"table": name},
                       cells=cells)  # fmt: skip
