"""What is written: the same numbers in table, Markdown and page, and nothing from outside."""

import csv
import io
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dermx.errors import InputError
from dermx.evaluate.figures import png
from dermx.longitudinal import figures
from dermx.longitudinal.effects import ModelConfig
from dermx.longitudinal.power import PowerCell
from dermx.longitudinal.reading import read_visits
from dermx.longitudinal.report import (
    as_page,
    effects_csv,
    effects_markdown,
    method,
    patients_csv,
    write_study,
)
from dermx.longitudinal.study import TreatmentStudy, Variant, signed, study_of


@pytest.fixture(scope="module")
def shipped() -> TreatmentStudy:
    return study_of(read_visits())


def test_every_file_is_written_and_the_page_needs_no_other(
    shipped: TreatmentStudy, tmp_path: Path
) -> None:
    cells = [
        PowerCell(patients=n, days=d, effect=-2, power=n * d / 400, low=0.1, high=0.9, studies=20)
        for n in (5, 10) for d in (7, 14)
    ]  # fmt: skip
    page = write_study(tmp_path, shipped, title="Cream & <pills>", cells=cells)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "report.html", "effects.csv", "effects.md", "patients.csv", "study.json", "power.csv",
        "trajectories.png", "distributions.png", "effects.png", "diagnostics.png", "power.png",
    }  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert "<title>Cream &amp; &lt;pills&gt;</title>" in text
    assert not re.search(r"https?://|<script", text)
    assert text.count("data:image/png;base64,") == 5
    assert "not a medical device" in text
    for name in names:
        if name.endswith(".png"):
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_table_markdown_and_page_show_the_same_numbers(shipped: TreatmentStudy) -> None:
    rows = list(csv.DictReader(io.StringIO(effects_csv(shipped))))
    markdown, page = effects_markdown(shipped), as_page(shipped, {}, title="t", facts={})
    assert len(rows) == 3 * (1 + len(shipped.variants))
    for row, effect in zip(rows, shipped.effects, strict=False):
        assert float(row["estimate"]) == pytest.approx(effect.estimate, rel=1e-5)
        interval = f"{signed(effect.low)} to {signed(effect.high)}"
        assert f"| {effect.name} | {signed(effect.estimate)} | {interval} |" in markdown
        assert interval in page
    for sentence in (*shipped.sentences, *shipped.notes):
        assert f"- {sentence}" in markdown


def test_a_comparison_that_one_patient_makes_is_shown_without_an_interval() -> None:
    visits = read_visits()
    study = study_of(visits.select((visits.treatment != 2) | (visits.patient == 3)))
    cream = signed(study.effects[1].estimate)
    row = (
        f"| Cream against Baseline | {cream} | one patient only | none | none | one patient only |"
    )
    markdown, page = effects_markdown(study), as_page(study, {}, title="t", facts={})
    assert row in markdown
    assert "<p>one patient only <small>GAGS points</small></p>" in page
    assert "<p class='quiet'>no average effect</p>" in page
    assert "nan" not in re.sub("[a-z]nan|nan[a-z]", "", markdown + page)
    assert method(study).endswith("over 1 comparisons")
    shown = [text.get_text() for text in figures.forest(study).axes[0].texts]
    assert shown[1] == f"{cream}\none patient only"
    table = list(csv.DictReader(io.StringIO(effects_csv(study))))
    assert [table[1][name] for name in ("low", "high", "p", "plain_p")] == [""] * 4


def test_a_treatment_s_name_may_hold_a_colon(shipped: TreatmentStudy) -> None:
    effects = tuple(replace(effect, treatment="Pills: 2, daily") for effect in shipped.effects)
    page = as_page(replace(shipped, effects=effects), {}, title="t", facts={})
    verdicts = re.findall(r"<p class='quiet'>(better|worse|no clear difference) \(", page)
    assert len(verdicts) == len(effects)


def test_each_patient_has_a_row_with_a_sentence(shipped: TreatmentStudy) -> None:
    rows = list(csv.DictReader(io.StringIO(patients_csv(shipped.patients))))
    assert [row["sentence"] for row in rows] == [own.sentence for own in shipped.patients]
    assert list(csv.DictReader(io.StringIO(patients_csv([])))) == []


def test_a_model_that_was_not_fitted_stands_in_its_row_with_the_reason(
    shipped: TreatmentStudy,
) -> None:
    failed = Variant(name="slopes", config=ModelConfig(), effects=(), reason="they disagree")
    text = effects_markdown(replace(shipped, variants=(failed,)))
    assert "| slopes | not fitted: they disagree |  |  |" in text


def test_the_method_names_what_was_done() -> None:
    study = study_of(
        read_visits(), ModelConfig(random="day", trend=True, skip_days=3, errors="bootstrap")
    )
    assert method(study) == (
        "linear mixed model by REML, random intercept and slope over days per patient, straight "
        "trend over days, first 3 days after a change left out; standard errors: studentised "
        "bootstrap of patients, 1999 draws; p values adjusted by Holm over 3 comparisons"
    )


def test_two_patients_have_a_page_without_averages(tmp_path: Path) -> None:
    visits = read_visits()
    two = replace(visits.select(visits.patient < 2), patients=visits.patients[:2])
    study = study_of(two)
    text = write_study(tmp_path, study, title="Two").read_text(encoding="utf-8")
    assert "with 2 patients there is only each patient&#x27;s own change" in text
    assert not (tmp_path / "effects.csv").exists()
    assert (tmp_path / "trajectories.png").exists()
    with pytest.raises(InputError, match="no average effect to draw"):
        figures.forest(study)
    with pytest.raises(InputError, match="no model to diagnose"):
        figures.diagnostics(study)


def test_the_same_study_gives_the_same_picture(shipped: TreatmentStudy) -> None:
    one, other = (png(figures.forest(shipped), dpi=50) for _ in range(2))
    assert one == other


def test_every_patient_has_a_panel_with_all_its_days(shipped: TreatmentStudy) -> None:
    panels = figures.trajectories(shipped).axes
    assert [axes.get_title(loc="left") for axes in panels] == list(shipped.visits.patients)
    for i, axes in enumerate(panels):
        drawn = sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == ".")
        assert drawn == (shipped.visits.patient == i).sum()


def test_the_forest_s_axis_says_unit_and_which_way_is_better(shipped: TreatmentStudy) -> None:
    label = figures.forest(shipped).axes[0].get_xlabel()
    assert label == "difference of mean severity (GAGS points)     ← better  |  worse →"


def test_long_names_of_treatments_overlap_nothing_and_are_cut_off_nowhere() -> None:
    visits = read_visits()
    long = "Tablets with a really long name, 20 mg twice a day"
    four = replace(visits.select(visits.patient < 4), patients=visits.patients[:4],
                   treatments=("Baseline", "Gel", long))  # fmt: skip
    study = study_of(four)
    for draw in (figures.trajectories, figures.distributions, figures.diagnostics, figures.forest):
        figure = draw(study)
        FigureCanvasAgg(figure).draw()
        edge = figure.bbox
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert edge.x0 <= box.x0
            assert box.x1 <= edge.x1
            assert all(box.y0 >= axes.title.get_window_extent().y1 for axes in figure.axes)
        if draw is figures.distributions:
            words = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
            assert all(left.x1 < right.x0 for left, right in pairwise(words))


def test_a_model_that_was_not_fitted_says_why_over_all_columns(shipped: TreatmentStudy) -> None:
    why = Variant(name="own", config=ModelConfig(), effects=(), reason="they <disagree>")
    page = as_page(replace(shipped, variants=(why,)), {}, title="t", facts={})
    assert "<td class=reason colspan=3>not fitted: they &lt;disagree&gt;</td></tr>" in page


def test_one_more_day_is_one(shipped: TreatmentStudy) -> None:
    own = replace(shipped.patients[0], verdict="no clear change yet", more_days=1)
    page = as_page(replace(shipped, patients=(own,)), {}, title="t", facts={})
    assert "(1 more day)" in page


def test_no_design_is_no_picture() -> None:
    with pytest.raises(InputError, match="no power to draw"):
        figures.power([], "points")
