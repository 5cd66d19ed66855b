"""The first page: pictures in, answers out, each with a map to look at and a report to keep."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from threading import BoundedSemaphore
from typing import Final

import streamlit as st

from dermx.app import drawing, fragments, report, texts
from dermx.app.answer import Answered, Given, answer_picture, percent, ranked
from dermx.app.settings import current
from dermx.assess import Model, load_model
from dermx.data.files import PICTURES
from dermx.data.phantom import EXAMPLES
from dermx.diagnoses import BY_CODE
from dermx.errors import PictureError
from dermx.explain.overlay import OPACITY

ENDINGS: Final = [ending.removeprefix(".") for ending in PICTURES]
UPLOAD, CAMERA, EXAMPLE = "Upload", "Camera", "Drawn examples"
SHOW_PROGRESS_FROM: Final = 4  # pictures


@st.cache_resource(show_spinner=False)
def opened_model(path: str) -> Model:
    """Open a model once for all visitors."""
    return load_model(path or None)


@st.cache_resource(show_spinner=False)
def gate(at_once: int) -> BoundedSemaphore:
    """Let this many pictures be decoded at the same time, over all visitors."""
    return BoundedSemaphore(at_once)


@st.cache_data(show_spinner=False)
def drawn(name: str) -> bytes:
    """Draw one of the examples."""
    return drawing.jpeg(EXAMPLES[name]().picture, quality=90)


def show() -> None:
    """Run the page."""
    model = opened_model(current().model)
    st.html(
        f'<div class="dx dx-lead"><h1>{texts.ASSESS_TITLE}</h1><p>{texts.ASSESS_LEAD}</p></div>'
    )
    source = st.segmented_control(
        "Where the picture comes from",
        [UPLOAD, CAMERA, EXAMPLE],
        default=UPLOAD,
        required=True,
        label_visibility="collapsed",
        key="source",
    )
    given = _given(source or UPLOAD)
    limit = current().max_pictures
    answered, refused = _answers(given[:limit], model)
    lines = [reason for _, reason in refused]
    if len(given) > limit:
        lines.append(texts.TOO_MANY.format(limit=limit, left=len(given) - limit))
    if lines:
        st.html(fragments.refusals(lines))
    if not answered:
        return
    item = answered[0] if len(answered) == 1 else _chosen(answered)
    _show_answer(item, model)
    _downloads(item, answered, refused, model)


def _given(source: str) -> list[Given]:
    """The files of the chosen door."""
    if source == EXAMPLE:
        st.html(f'<p class="dx dx-note">{texts.DRAWN}</p>')
        name = st.segmented_control(
            "Example",
            list(EXAMPLES),
            format_func=lambda file: PurePath(file).stem.removeprefix("drawn_").replace("_", " "),
            label_visibility="collapsed",
            key="example",
        )
        return [Given(id=name, name=name, data=drawn(name), drawn=True)] if name else []
    if source == CAMERA:
        shot = st.camera_input("Take a picture, close and sharp", key="camera")
        return [Given(id=shot.file_id, name="camera.jpg", data=shot.getvalue())] if shot else []
    files = st.file_uploader(texts.CHOOSE, type=ENDINGS, accept_multiple_files=True, key="files")
    return [Given(id=file.file_id, name=file.name, data=file.getvalue()) for file in files or []]


def _answers(given: Sequence[Given], model: Model) -> tuple[list[Answered], list[tuple[str, str]]]:
    """Assess what is new; forget what was taken away.

    Returns:
        The answers, and the files that were refused, each with one sentence.
    """
    known: dict[str, Answered | str] = st.session_state.setdefault("answers", {})
    for gone in set(known) - {file.id for file in given}:
        del known[gone]
    new = [file for file in given if file.id not in known]
    for file in _tracked(new):
        try:
            known[file.id] = answer_picture(file, model, current().reading, gate(current().at_once))
        except PictureError as error:
            known[file.id] = str(error)
    answered: list[Answered] = []
    refused: list[tuple[str, str]] = []
    for file in given:
        found = known[file.id]
        if isinstance(found, str):
            refused.append((file.name, found))
        else:
            answered.append(found)
    return answered, refused


def _tracked(new: Sequence[Given]) -> Iterator[Given]:
    if len(new) < SHOW_PROGRESS_FROM:
        yield from new
        return
    bar = st.progress(0.0)
    for done, file in enumerate(new):
        bar.progress(done / len(new), text=f"{done + 1} of {len(new)}: {file.name}")
        yield file
    bar.empty()


def _chosen(answered: Sequence[Answered]) -> Answered:
    st.html(fragments.overview(answered))
    names = [item.name for item in answered]  # Streamlit keeps the function: no pictures in it
    number = st.selectbox(
        "Picture to look at",
        range(len(answered)),
        format_func=lambda i: f"{i + 1}. {names[i]}",
        key="chosen",
    )
    return answered[number]


def _show_answer(item: Answered, model: Model) -> None:
    mark = f"{texts.DRAWN_MARK}. " if item.drawn else ""
    st.html(fragments.verdict(item.assessment))
    left, right = st.columns(2, gap="medium")
    with left:
        notes = "; ".join(item.assessment.notes)
        caption = f"{mark}{item.name}{': ' + notes if notes else ''}"
        source = drawing.data_uri(item.shown)
        st.html(fragments.picture(source, "The picture that was assessed", caption))
    with right:
        st.html(fragments.bars(item.assessment))
    st.html(fragments.trust(item.assessment))
    _show_map(item, model)


@st.fragment
def _show_map(item: Answered, model: Model) -> None:
    """The map with its controls; moving them runs only this part, and no forward pass."""
    assessment = item.assessment
    chances = assessment.probabilities
    codes = [code for code, _ in ranked(assessment)]
    st.html(f'<div class="dx"><h2>{texts.MAP_TITLE}</h2></div>')
    left, right = st.columns(2, gap="medium")
    with right:
        code = st.selectbox(
            "Condition to explain",
            codes,
            format_func=lambda c: f"{BY_CODE[c].name}, {percent(chances[c])}",
            key=f"code:{item.id}",  # not one picture's choice for another
        )
        opacity = st.slider(
            "Opacity of the map", 0, 100, round(100 * OPACITY), 5, format="%d %%", key="opacity"
        )
        box = st.toggle("Frame the lesion", key="box")
        hair = st.toggle("Compare without hair", key="hair")
        st.html(fragments.legend(opacity / 100))
        st.html(f'<p class="dx dx-quiet">{_map_help(item)}</p>')
    with left:
        pixels = drawing.mapped(item.shown, assessment, code, opacity / 100)
        caption = "" if drawing.class_map(assessment, code).any() else texts.MAP_EMPTY
        if box:
            frame = drawing.find_box(item.shown)
            caption = f"{caption} {texts.BOX_NOTE if frame else texts.BOX_NONE}".strip()
            pixels = drawing.framed(pixels, frame) if frame else pixels
        alt = f"Heat map for {BY_CODE[code].name}"
        st.html(fragments.picture(drawing.data_uri(pixels), alt, caption))
    if hair:
        _show_hair(item, uses=model.bundle.preprocess.hair_removal)


def _map_help(item: Answered) -> str:
    more = f" {texts.OUTSIDE}" if drawing.cut_off(item.shown, item.assessment) else ""
    return texts.MAP_HELP + more


def _show_hair(item: Answered, uses: bool) -> None:
    clean, found = drawing.without_hair(item.shown)
    if not found:
        st.html(f'<p class="dx dx-quiet">{texts.HAIR_NONE}</p>')
        return
    note = texts.HAIR_NOTE.format(uses="uses" if uses else "doesn\u2019t use")
    st.html(
        fragments.pair(
            (
                fragments.picture(drawing.data_uri(item.shown), "With hair", "Before"),
                fragments.picture(drawing.data_uri(clean), "Hair removed", "After"),
            )
        )
        + f'<p class="dx dx-quiet">{note}</p>'
    )


def _downloads(
    item: Answered,
    answered: Sequence[Answered],
    refused: Sequence[tuple[str, str]],
    model: Model,
) -> None:
    """Files to keep, made when they are asked for."""
    bundle = model.bundle

    def html() -> bytes:
        code = st.session_state.get(f"code:{item.id}") or item.assessment.prediction
        opacity = st.session_state.get("opacity", 100 * OPACITY) / 100
        return report.as_html(item, bundle, code, opacity).encode()

    with st.container(horizontal=True):
        stem = PurePath(item.name).stem
        st.download_button(
            "Report",
            html,
            f"{texts.NAME}_{stem}.html",
            "text/html",
            on_click="ignore",
            type="primary",
            icon=":material/download:",
            key="report",
        )
        st.download_button(
            "All answers, JSON" if len(answered) > 1 else "JSON",
            report.as_json(answered, refused, bundle),
            f"{texts.NAME}.json",
            "application/json",
            on_click="ignore",
            key="json",
        )
        st.download_button(
            "All answers, CSV" if len(answered) > 1 else "CSV",
            report.as_csv(answered, refused, bundle),
            f"{texts.NAME}.csv",
            "text/csv",
            on_click="ignore",
            key="csv",
        )
