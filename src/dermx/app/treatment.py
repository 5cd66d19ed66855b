"""The second page: did acne get better, and by more than its usual ups and downs?

The figures are those of `dermx longitudinal`: the page and the command call the same function.
"""

import csv
import hashlib
import io
import json
import re
from html import escape
from typing import TYPE_CHECKING, Any, Final

import streamlit as st

from dermx.app import fragments, texts
from dermx.app.answer import Notice
from dermx.app.settings import current
from dermx.errors import DermxError, InputError, MissingExtraError

if TYPE_CHECKING:
    from dermx.longitudinal.study import TreatmentStudy
    from dermx.longitudinal.visits import TableConfig

OWN, SIMULATED = "Your table", "Simulated example"
COLUMNS: Final = ("patient", "day", "treatment", "severity")
CONTROLS: Final = {  # of the page, by the options of the command line
    **{what: f"{what.capitalize()} column" for what in COLUMNS},
    "baseline": "Baseline",
    "lowest": "Lowest severity there is",
}
VERDICT_KIND: Final = {
    "better": "answer",
    "worse": "refer",
    "no clear difference": "unsure",
    "no average effect": "unsure",
}


def show() -> None:
    """Run the page."""
    st.html(
        f'<div class="dx dx-lead"><h1>{texts.TREATMENT_TITLE}</h1>'
        f"<p>{texts.TREATMENT_LEAD}</p></div>"
    )
    try:
        import dermx.longitudinal.report  # noqa: F401 - pandas, scipy, statsmodels are there
    except ModuleNotFoundError:
        st.html(fragments.refusals([str(MissingExtraError("the analysis over time", "stats"))]))
        return
    source = st.segmented_control(
        "Which table",
        [OWN, SIMULATED],
        default=OWN,
        required=True,
        label_visibility="collapsed",
        key="table_source",
    )
    try:
        study = _simulated() if source == SIMULATED else _own()
    except DermxError as error:
        st.html(fragments.refusals([_plain(error)]))
        return
    if study is not None:
        _show_study(study)


def _simulated() -> "TreatmentStudy":
    st.html(f'<p class="dx dx-note">{texts.SIMULATED}</p>')
    return _studied(None, None)


def _own() -> "TreatmentStudy | None":
    """Read the visitor's table, as its columns are to be read."""
    from dermx.longitudinal.visits import TableConfig

    st.html(f'<p class="dx dx-quiet">{texts.TABLE_FORM}</p>')
    file = st.file_uploader("Table of visits, CSV", type=["csv", "txt"], key="table")
    if file is None:
        return None
    data = file.getvalue()
    names, treatments = _look(data, "treatment")
    with st.expander("How the table is read", expanded=not set(COLUMNS) <= set(names)):
        grid = st.columns(4)
        chosen = [
            grid[i].selectbox(
                CONTROLS[what],
                names,
                index=names.index(what) if what in names else min(i, len(names) - 1),
                key=f"column:{what}",
            )
            for i, what in enumerate(COLUMNS)
        ]
        treatments = _look(data, chosen[2])[1]
        grid = st.columns(4)
        known = [name.casefold() for name in treatments]
        first = known.index("baseline") if "baseline" in known else 0
        baseline = grid[0].selectbox(CONTROLS["baseline"], treatments, index=first, key="baseline")
        unit = grid[1].text_input("Unit of severity", "points", max_chars=20, key="unit")
        lowest = grid[2].number_input(CONTROLS["lowest"], value=0.0, key="lowest")
        higher = grid[3].toggle("Higher is better", key="higher")
    if len(set(chosen)) < len(chosen):
        raise InputError(texts.SAME_COLUMN)
    config = TableConfig(
        patient=chosen[0],
        day=chosen[1],
        treatment=chosen[2],
        severity=chosen[3],
        baseline=baseline or "Baseline",
        unit=unit.strip() or "points",
        lowest=float(lowest),
        higher_is_better=higher,
    )
    return _studied(data, config)


def _look(data: bytes, column: str) -> tuple[list[str], list[str]]:
    """Names of the columns, and the different values of one of them, in order.

    Raises:
        InputError: No text, no heading, no row, or more rows than allowed.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(texts.NOT_TEXT) from error
    lines = csv.reader(io.StringIO(text))
    rows = (row for row in lines if len(row) > 1 or "".join(row).strip())
    try:
        names = [name.strip() for name in next(rows, [])]
        limit = current().max_table_rows
        body = [row for _, row in zip(range(limit + 1), rows, strict=False)]
    except csv.Error as error:
        raise InputError(texts.NOT_TEXT) from error
    if len(names) < len(COLUMNS) or not body:
        raise InputError(texts.NO_TABLE)
    if len(body) > limit:
        raise InputError(texts.TOO_LONG.format(limit=limit))
    place = names.index(column) if column in names else 2
    values = [row[place].strip() for row in body if len(row) > place and row[place].strip()]
    return list(dict.fromkeys(names)), list(dict.fromkeys(values)) or ["Baseline"]


def _studied(data: bytes | None, config: "TableConfig | None") -> "TreatmentStudy":
    """Analyse once, not at every click; only this visitor's last table is remembered."""
    from dermx.workflow.longitudinal import treatment_study

    key = (hashlib.sha256(data or b"").hexdigest(), repr(config))
    kept: tuple[Any, TreatmentStudy] | None = st.session_state.get("study")
    if kept is None or kept[0] != key:
        with st.spinner("Comparing treatments, a few seconds …"), table_gate():
            kept = (key, treatment_study(data, columns=config))
        st.session_state["study"] = kept
    return kept[1]


@st.cache_resource(show_spinner=False)
def table_gate() -> Any:
    """Let one table be analysed at a time, over all visitors; pictures don't wait for it."""
    from threading import Lock

    return Lock()


def _show_study(study: "TreatmentStudy") -> None:
    said = zip(study.effects, study.sentences, strict=True)
    cards = [fragments.notice(_said(effect.name, text), level=3) for effect, text in said]
    if cards:
        st.html(f'<div class="dx dx-cards">{"".join(cards)}</div>')
    notes = "".join(f"<li>{escape(note)}</li>" for note in study.notes)
    st.html(f'<div class="dx"><h3>{texts.TO_KNOW}</h3><ul class="dx-list">{notes}</ul></div>')
    _show_patient(study)
    _study_downloads(study)


def _said(subject: str, sentence: str) -> Notice:
    """A comparison as a statement: its verdict as the title."""
    rest = sentence.removeprefix(f"{subject}: ")
    found = next(word for word in VERDICT_KIND if rest.startswith(word))
    text = rest.removeprefix(found).lstrip(",; ")
    kind: Any = VERDICT_KIND[found]
    return Notice(kind, f"{subject}: {found}", f"{text[:1].upper()}{text[1:]}")


@st.fragment
def _show_patient(study: "TreatmentStudy") -> None:
    """One person's days and own change."""
    patients = list(study.visits.patients)
    st.html(f'<div class="dx"><h2>{texts.ONE_PERSON}</h2></div>')
    patient = st.selectbox("Person", patients, key="person") if len(patients) > 1 else patients[0]
    own = [change for change in study.patients if change.patient == patient]
    lines = "".join(f"<li>{escape(change.sentence)}</li>" for change in own)
    st.html(f'<ul class="dx dx-list">{lines or f"<li>{texts.NO_BASELINE}</li>"}</ul>')
    st.altair_chart(_chart(study, str(patient)), width="stretch")


def _chart(study: "TreatmentStudy", patient: str) -> Any:
    """One person's days as points, their own level per treatment as a line."""
    import altair as alt

    from dermx.longitudinal.figures import colour_of

    columns = study.points()
    columns["phase"] = study.visits.changes.cumsum().tolist()  # a line never bridges a return
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    rows = [row for row in rows if row["patient"] == patient]
    names = list(study.visits.treatments)
    shapes = ["circle", "square", "triangle-up", "diamond", "cross"]
    unit = study.visits.config.unit
    legend = alt.Legend(orient="top", title=None, labelLimit=320)
    colour = alt.Color(
        "treatment:N",
        scale=alt.Scale(domain=names, range=[colour_of(k) for k in range(len(names))]),
        legend=legend,
    )
    data = alt.Data(values=rows)  # type: ignore[no-untyped-call]
    base = alt.Chart(data).encode(
        x=alt.X("day:Q", title="day"), color=colour, tooltip=["day:Q", "severity:Q", "treatment:N"]
    )
    points = base.mark_point(filled=True, size=45, opacity=1).encode(
        y=alt.Y("severity:Q", title=f"severity ({unit})"),
        shape=alt.Shape(
            "treatment:N",
            scale=alt.Scale(
                domain=names, range=[shapes[k % len(shapes)] for k in range(len(names))]
            ),
            legend=legend,
        ),
    )
    level = base.mark_line(strokeWidth=3).encode(y="fitted:Q", detail="phase:N")
    return (level + points).properties(height=320)


def _study_downloads(study: "TreatmentStudy") -> None:
    from dermx.longitudinal import report

    def html() -> bytes:
        from dermx.longitudinal.figures import all_figures

        facts = {"made with": "the page of dermx"}
        pictures = all_figures(study)
        page = report.as_page(study, pictures, title=texts.TREATMENT_TITLE, facts=facts)
        return page.encode()

    with st.container(horizontal=True):
        st.download_button(
            "Report",
            html,
            "dermx_treatment.html",
            "text/html",
            on_click="ignore",
            type="primary",
            icon=":material/download:",
            key="study_report",
        )
        st.download_button(
            "Figures, JSON",
            json.dumps(study.to_dict(), indent=2, allow_nan=False) + "\n",
            "dermx_treatment.json",
            "application/json",
            on_click="ignore",
            key="study_json",
        )


def _plain(error: DermxError) -> str:
    """Name controls of the page where a message names options of the command line.

    A clause about an option that the page doesn't have is left out.
    """
    known = "|".join(CONTROLS)
    text = " ".join(str(error).split())
    text = re.sub(rf"(?:[;,]| and)(?:(?![;,]| and ).)*--(?!(?:{known})\b)[^;,]*", "", text)
    named, count = re.subn(rf"--({known})\b", lambda m: CONTROLS[m[1]], text)
    return f"{named} (under \u2018How the table is read\u2019)" if count else named
