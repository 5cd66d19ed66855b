"""The page on treatments: a visitor's own table, its mistakes in one line, the same figures."""

import re
import sys
from typing import Any

import pytest

from dermx.app import settings, texts, treatment
from dermx.app.settings import PageConfig
from dermx.errors import DermxError, InputError

AppTest = pytest.importorskip("streamlit.testing.v1").AppTest
pytest.importorskip("statsmodels", reason="the extra stats is not installed")


@pytest.fixture
def page() -> Any:
    def run() -> None:
        from dermx.app import treatment

        treatment.show()

    return AppTest.from_function(run, default_timeout=120).run()


def html(page: Any) -> str:
    assert not page.exception
    return "\n".join(element.proto.body for element in page.get("html"))


def table(heading: str = "patient,day,treatment,severity", *, drop: int = 8) -> bytes:
    """Two patients, twelve days without and twelve with a cream that takes `drop` points off."""
    rows = [
        f"{who},{day},{'Baseline' if day <= 12 else 'Cream'},"
        f"{20 + day % 3 - (drop if day > 12 else 0)}"
        for who in ("Ann", "Ben")
        for day in range(1, 25)
    ]
    return "\n".join([heading, *rows]).encode()


def give(page: Any, data: bytes, name: str = "mine.csv") -> Any:
    return page.file_uploader[0].set_value((name, data, "text/csv")).run()


def test_before_a_table_the_page_says_what_it_needs(page: Any) -> None:
    assert texts.TABLE_FORM in html(page)
    assert texts.TO_KNOW not in html(page)


def test_a_table_is_answered_for_one_person_after_the_other(page: Any) -> None:
    shown = html(give(page, table()))
    assert texts.TO_KNOW in shown
    assert "Ann, Cream: better." in shown
    page.selectbox(key="person").set_value("Ben").run()
    assert "Ben, Cream: better." in html(page)


def test_the_figures_are_those_of_the_command_line(page: Any) -> None:
    from dermx.longitudinal.visits import TableConfig
    from dermx.workflow.longitudinal import treatment_study

    give(page, table())
    study = treatment_study(table(), columns=TableConfig())
    assert page.session_state["study"][1].to_dict() == study.to_dict()


def test_a_treatment_that_comes_back_is_drawn_as_two_lines(page: Any) -> None:
    give(page, re.sub(rb"Ann,2([34]),Cream", rb"Ann,2\1,Baseline", table()))
    chart = treatment._chart(page.session_state["study"][1], "Ann").to_dict()
    line = chart["layer"][0]
    assert (line["mark"]["type"], line["encoding"]["detail"]["field"]) == ("line", "phase")
    runs = {row["phase"]: row["treatment"] for row in chart["data"]["values"]}
    assert list(runs.values()) == ["Baseline", "Cream", "Baseline"]


def test_columns_with_other_names_are_chosen(page: Any) -> None:
    give(page, table("who,when,what,score"))
    names = [page.selectbox(key=f"column:{what}").value for what in treatment.COLUMNS]
    assert names == ["who", "when", "what", "score"]  # by their places
    assert "Ann, Cream: better." in html(page)


def test_higher_can_be_better(page: Any) -> None:
    give(page, table())
    page.toggle(key="higher").set_value(True).run()
    assert "Ann, Cream: worse." in html(page)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\xff\xfe\x00\x01", texts.NOT_TEXT),
        (b"", texts.NO_TABLE),
        (b"patient;day;treatment;severity\nA;1;B;2", texts.NO_TABLE),
        (b"patient,day,treatment,severity\n", texts.NO_TABLE),
        (table().replace(b"Baseline,21", b"Baseline,much", 1), "is no number"),
        (table() + b"\nAnn,1,Baseline,3", "1 day comes more than once"),
    ],
)
def test_a_mistake_in_a_table_is_one_line(page: Any, data: bytes, sentence: str) -> None:
    shown = html(give(page, data))
    assert sentence in shown
    assert texts.TO_KNOW not in shown


def test_a_table_that_is_too_long_is_refused_before_it_is_analysed() -> None:
    before = settings.current()
    settings.use(PageConfig(max_table_rows=10))
    try:
        with pytest.raises(InputError, match="more than 10 rows; give a shorter one"):
            treatment._look(table(), "treatment")
    finally:
        settings.use(before)


def test_one_column_can_t_be_two_things(page: Any) -> None:
    give(page, table())
    page.selectbox(key="column:day").set_value("patient").run()
    assert texts.SAME_COLUMN in html(page)


def test_options_of_the_command_line_are_named_as_on_the_page() -> None:
    said = treatment._plain(DermxError("no day of 'x'. Name the one to compare with: --baseline"))
    assert "--" not in said
    assert said.endswith("compare with: Baseline (under \u2018How the table is read\u2019)")


@pytest.mark.parametrize(
    ("sentence", "kind", "title"),
    [
        ("A against B: better, -4.7 points.", "answer", "A against B: better"),
        ("A against B: worse, +4.7 points.", "refer", "A against B: worse"),
        (
            "A against B: no clear difference; between 1 and 2.",
            "unsure",
            "A against B: no clear difference",
        ),
        (
            "A against B: no average effect; but see one.",
            "unsure",
            "A against B: no average effect",
        ),
    ],
)
def test_a_comparison_looks_like_what_it_says(sentence: str, kind: str, title: str) -> None:
    said = treatment._said(title.partition(": ")[0], sentence)
    assert (said.kind, said.title) == (kind, title)
    assert said.text[0] in "-+B"


def test_a_treatment_s_name_may_hold_a_colon() -> None:
    name = "Cream: better, evening against Baseline"
    said = treatment._said(name, f"{name}: worse, +4.7 points.")
    assert (said.kind, said.title, said.text) == ("refer", f"{name}: worse", "+4.7 points.")


def test_a_study_whose_treatment_has_a_colon_is_shown(page: Any) -> None:
    people = b"\n".join(
        table(drop=8 + i)
        .partition(b"\n")[2]
        .replace(b"Ann", b"A%d" % i)
        .replace(b"Ben", b"B%d" % i)
        for i in range(3)
    ).replace(b"Cream", b"Cream: evening")
    shown = html(give(page, b"patient,day,treatment,severity\n" + people))
    assert "Cream: evening against Baseline: better" in shown


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "fewer than 3: leave those rows out, or lower --min-days",
            "fewer than 3: leave those rows out",
        ),
        ("they disagree; use fewer random effects (--random intercept)", "they disagree"),
        (
            "if it is right, set the range with --lowest and --highest",
            "if it is right, set the range with Lowest severity there is "
            "(under \u2018How the table is read\u2019)",
        ),
    ],
)
def test_an_option_that_the_page_lacks_is_not_named(message: str, said: str) -> None:
    assert treatment._plain(DermxError(message)) == said


def test_empty_lines_before_the_heading_are_skipped() -> None:
    names, treatments = treatment._look(b"\n  \n" + table(), "treatment")
    assert (names, treatments) == (list(treatment.COLUMNS), ["Baseline", "Cream"])


def test_only_files_with_commas_are_offered(page: Any) -> None:
    assert list(page.file_uploader[0].proto.type) == [".csv", ".txt"]


def test_without_the_extra_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dermx.longitudinal.report", None)

    def run() -> None:
        from dermx.app import treatment

        treatment.show()

    page = AppTest.from_function(run, default_timeout=120).run()
    assert "pip install &quot;dermx[stats]&quot;" in html(page)
    assert not page.file_uploader
