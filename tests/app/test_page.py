"""The page's logic, run by Streamlit's own test runner without a browser."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.app.conftest import PAGE, TRUST, encoded, red

from dermx.app import lesion, settings, texts
from dermx.app.settings import PageConfig
from dermx.assess import Model
from dermx.data.phantom import EXAMPLES, draw_phantom
from dermx.preprocess.reading import Source
from dermx.records import Assessment

AppTest = pytest.importorskip("streamlit.testing.v1").AppTest


@pytest.fixture
def page(config: PageConfig) -> Iterator[Any]:
    """The page on the drawn-up model, without a visitor's picture."""
    yield AppTest.from_file(str(PAGE), default_timeout=120).run()
    lesion.opened_model.clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the model was asked, as it is asked."""
    calls: list[bytes] = []
    plain = Model.assess

    def assess(self: Model, picture: Source) -> Assessment:
        calls.append(picture if isinstance(picture, bytes) else b"")
        return plain(self, picture)

    monkeypatch.setattr(Model, "assess", assess)
    return calls


@pytest.fixture
def with_trust(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let every answer carry these trust keys."""
    plain = Model.assess

    def use(**changes: Any) -> None:
        def assess(self: Model, picture: Source) -> Assessment:
            return replace(plain(self, picture), trust={**TRUST, **changes})

        monkeypatch.setattr(Model, "assess", assess)

    return use


def html(page: Any) -> str:
    """All HTML that the page shows, but its style sheet."""
    assert not page.exception
    bodies = [element.proto.body for element in page.get("html")]
    return "\n".join(body for body in bodies if not body.startswith("<style"))


def upload(page: Any, *files: tuple[str, bytes]) -> Any:
    given = [(name, data, "image/jpeg") for name, data in files]
    return page.file_uploader[0].set_value(given).run()


def test_before_a_picture_there_is_no_answer_and_the_disclaimer_is_there(page: Any) -> None:
    assert texts.DISCLAIMER in html(page)
    assert texts.ASSESS_TITLE in html(page)
    assert "dx-verdict" not in html(page)


def test_a_picture_gets_an_answer_a_map_and_three_downloads(page: Any, phantom_jpeg: bytes) -> None:
    shown = html(upload(page, ("spot.jpg", phantom_jpeg)))
    for part in ("dx-verdict", "dx-bars", texts.MAP_TITLE, texts.NO_TRUST, "spot.jpg"):
        assert part in shown
    assert [button.label for button in page.get("download_button")] == ["Report", "JSON", "CSV"]


def test_a_file_that_is_no_picture_is_one_line_and_the_page_goes_on(
    page: Any, phantom_jpeg: bytes
) -> None:
    shown = html(upload(page, ("notes.jpg", b"%PDF-1.7"), ("empty.png", b"")))
    assert "notes.jpg is not a picture in a known format" in shown
    assert "empty.png is empty (0 bytes)." in shown
    assert "dx-verdict" not in shown
    shown = html(upload(page, ("notes.jpg", b"%PDF-1.7"), ("spot.jpg", phantom_jpeg)))
    assert "notes.jpg is not a picture" in shown
    assert "dx-verdict" in shown


def test_controls_of_the_map_need_no_new_answer(page: Any, asked: list[bytes]) -> None:
    hairy = encoded(draw_phantom(24, diagnosis="mel", hair=12).picture)
    before = html(upload(page, ("spot.jpg", hairy)))
    assert len(asked) == 1
    page.slider(key="opacity").set_value(0).run()
    clear = html(page)
    assert clear != before
    page.selectbox[0].set_value("mel").run()
    assert "Heat map for melanoma" in html(page)
    page.toggle(key="box").set_value(True).run()
    assert texts.BOX_NOTE in html(page)
    page.toggle(key="hair").set_value(True).run()
    assert "Hair removed" in html(page)
    assert len(asked) == 1


def test_where_there_is_no_hair_no_second_picture_is_called_without_it(page: Any) -> None:
    upload(page, ("red.png", encoded(red(), "PNG")))
    page.toggle(key="hair").set_value(True).run()
    shown = html(page)
    assert texts.HAIR_NONE in shown
    assert "Hair removed" not in shown


def test_a_picture_that_is_taken_away_is_forgotten(page: Any, phantom_jpeg: bytes) -> None:
    upload(page, ("spot.jpg", phantom_jpeg))
    assert len(page.session_state["answers"]) == 1
    page.file_uploader[0].set_value(None).run()
    assert len(page.session_state["answers"]) == 0
    assert "dx-verdict" not in html(page)


def test_several_pictures_are_listed_and_one_is_looked_at(page: Any, phantom_jpeg: bytes) -> None:
    files = [(f"spot{i}.jpg", phantom_jpeg) for i in range(5)]
    shown = html(upload(page, *files))
    assert shown.count('<th scope="row">spot') == 5
    assert shown.count("dx-verdict") == 1
    assert page.get("download_button")[1].label == "All answers, JSON"
    page.selectbox(key="chosen").set_value(3).run()
    assert "<figcaption>spot3.jpg</figcaption>" in html(page)


def test_one_picture_s_class_is_not_another_s(page: Any) -> None:
    green = red()[..., [1, 0, 2]]
    upload(page, ("red.png", encoded(red(), "PNG")), ("green.png", encoded(green, "PNG")))
    assert page.selectbox[1].value == "vasc"  # red speaks for it in the drawn-up model
    page.selectbox(key="chosen").set_value(1).run()
    assert page.selectbox[1].value == "nv"


def test_more_pictures_than_allowed_are_left_out_and_counted(page: Any, config: PageConfig) -> None:
    settings.use(replace(config, max_pictures=2))
    shown = html(upload(page, *((f"{i}.png", encoded(red(), "PNG")) for i in range(3))))
    assert texts.TOO_MANY.format(limit=2, left=1) in shown
    assert "2.png" not in shown


def test_a_picture_over_the_pixel_limit_is_refused_before_it_is_decoded(
    page: Any, config: PageConfig, asked: list[bytes]
) -> None:
    settings.use(replace(config, max_megapixels=1))
    shown = html(upload(page, ("large.png", encoded(red(1001, 1000), "PNG"))))
    assert "large.png is 1000 x 1001 pixels, more than 1,000,000 in all" in shown
    assert asked == []


def test_an_example_is_drawn_and_says_so(page: Any) -> None:
    page.button_group(key="source").set_value(lesion.EXAMPLE).run()
    assert texts.DRAWN in html(page)
    name = next(iter(EXAMPLES))
    page.button_group(key="example").set_value(name).run()
    assert f"{texts.DRAWN_MARK}. {name}" in html(page)


def test_a_visitor_s_file_is_not_called_drawn_for_its_name(page: Any, phantom_jpeg: bytes) -> None:
    name = next(iter(EXAMPLES))
    shown = html(upload(page, (name, phantom_jpeg)))
    assert name in shown
    assert texts.DRAWN_MARK not in shown


def test_the_camera_is_asked_for_only_when_it_is_chosen(page: Any, phantom_jpeg: bytes) -> None:
    assert len(page.get("camera_input")) == 0
    page.button_group(key="source").set_value(lesion.CAMERA).run()
    assert len(page.get("camera_input")) == 1
    page.get("camera_input")[0].set_value(("shot.jpg", phantom_jpeg, "image/jpeg")).run()
    assert "<figcaption>camera.jpg</figcaption>" in html(page)


def test_a_referral_is_said_before_the_answer(
    page: Any, with_trust: Callable[..., None], phantom_jpeg: bytes
) -> None:
    with_trust(malignancy={"probability": 0.4, "refer": True})
    shown = html(upload(page, ("spot.jpg", phantom_jpeg)))
    assert shown.index(texts.REFER_TITLE) < shown.index(TRUST["message"])


def test_an_abstention_shows_no_diagnosis_in_its_heading(
    page: Any, with_trust: Callable[..., None], phantom_jpeg: bytes
) -> None:
    with_trust(abstain=True, message="The model is not sure.")
    shown = html(upload(page, ("spot.jpg", phantom_jpeg)))
    assert f"<h2>{texts.UNSURE_TITLE}</h2>" in shown
    assert texts.PROBABILITIES_ABSTAINED in shown
    assert "dx-answer" not in shown


def test_a_strange_picture_is_called_so(
    page: Any, with_trust: Callable[..., None], phantom_jpeg: bytes
) -> None:
    with_trust(is_ood=True, abstain=True)
    shown = html(upload(page, ("cat.jpg", phantom_jpeg)))
    assert texts.UNFAMILIAR_TITLE in shown
    assert texts.IN_SET not in shown


def test_the_page_about_the_model_shows_the_card_that_came_with_it(config: PageConfig) -> None:
    def run() -> None:
        from dermx.app import about

        about.show()

    page = AppTest.from_function(run, default_timeout=120).run()
    assert not page.exception
    card = (lesion.opened_model(config.model).bundle.folder / "card.md").read_text()
    assert (
        page.markdown[0].value == f"#{card}".strip()
    )  # one step lower than the page's own heading
    assert texts.NO_RELIABILITY in html(page)
