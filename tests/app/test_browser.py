"""The page in a real browser: Debian's Chromium, driven by Playwright, on loopback only."""

import base64
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.app.conftest import encoded
from tests.app.test_server import served, wait_for
from tests.app.test_style import contrast

from dermx.app import texts
from dermx.data.phantom import draw_phantom

pytestmark = [pytest.mark.browser, pytest.mark.slow]
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# As root no sandbox is possible; the rest keeps the browser from calling home.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served("--base-path", "skin") as url:
        wait_for(f"{url}_stcore/health")
        yield url


@pytest.fixture
def called() -> list[str]:
    """Every address that the page asked for."""
    return []


@pytest.fixture
def page(browser: Any, address: str, called: list[str]) -> Iterator[Any]:
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(120_000)  # a busy machine is no failure
    opened.on("request", lambda request: called.append(request.url))
    opened.goto(address)
    opened.get_by_role("heading", name=texts.ASSESS_TITLE).wait_for()
    yield opened
    context.close()


@pytest.fixture(scope="module")
def spot() -> dict[str, Any]:
    picture = draw_phantom(24, diagnosis="mel", hair=12).picture
    exif = Image.Exif()
    exif[0x010F] = "a camera that nobody should hear of"
    data = encoded(picture, exif=exif)
    return {"name": "spot.jpg", "mimeType": "image/jpeg", "buffer": data}


def upload(page: Any, *files: dict[str, Any]) -> None:
    page.locator("input[type=file]").first.set_input_files(list(files))


def heat(page: Any) -> str:
    return str(page.get_by_alt_text(re.compile("^Heat map for")).get_attribute("src"))


def test_a_visitor_gets_an_answer_moves_the_map_and_takes_a_report(
    page: Any, spot: dict[str, Any], called: list[str]
) -> None:
    upload(page, spot)
    page.get_by_role("heading", name=texts.MAP_TITLE).wait_for()
    assert page.locator(".dx-bars tbody tr").count() == 8
    before = heat(page)
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(3):  # by keyboard
        slider.press("ArrowLeft")
    page.wait_for_function(
        "old => !document.querySelector('img[alt^=\"Heat map\"]').src.endsWith(old.slice(-200))",
        arg=before,
    )
    assert heat(page) != before
    with page.expect_download() as waited:
        page.get_by_role("button", name="Report").click()
    text = Path(waited.value.path()).read_text(encoding="utf-8")
    assert waited.value.suggested_filename == "dermx_spot.html"
    assert texts.DISCLAIMER in text
    assert "a camera that nobody" not in text
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) == 2
    for data in pictures:
        assert not Image.open(io.BytesIO(base64.b64decode(data))).getexif()
    outside = [
        url for url in called if not re.match(r"(https?|wss?)://127\.0\.0\.1:|data:|blob:", url)
    ]
    assert outside == []


def test_what_is_no_picture_is_one_line_and_the_page_goes_on(
    page: Any, spot: dict[str, Any]
) -> None:
    refused = {
        "renamed.jpg": (b"%PDF-1.7 " + bytes(1000), "renamed.jpg is not a picture"),
        "empty.jpg": (b"", "empty.jpg is empty (0 bytes)."),
        "broken.jpg": (spot["buffer"][:2000], "broken.jpg is truncated or damaged"),
        "huge.png": (huge(), "huge.png is 10000 x 6000 pixels, more than 50,000,000 in all"),
    }
    files = [
        {"name": name, "mimeType": "image/jpeg", "buffer": data}
        for name, (data, _) in refused.items()
    ]
    upload(page, *files, spot)
    page.get_by_role("heading", name=texts.MAP_TITLE).wait_for()
    lines = page.locator(".dx-refused li").all_inner_texts()
    assert len(lines) == len(refused)
    for line, (_, sentence) in zip(lines, refused.values(), strict=True):
        assert line.startswith(sentence)
    assert page.locator(".dx-verdict").count() == 1


def test_the_camera_gives_an_answer_too(page: Any) -> None:
    page.get_by_role("radio", name="Camera").click()
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0")
    page.wait_for_function("document.querySelector('video').currentTime > 0")  # a frame has come
    shutter = page.get_by_role("button", name="Take photo")
    answer = page.get_by_role("heading", name=texts.MAP_TITLE)
    for _ in range(3):  # pressed while the camera is still being laid out, it is not heard
        if shutter.is_visible():
            shutter.click()
        try:
            answer.wait_for(timeout=40_000)
        except playwright.TimeoutError:
            continue
        return
    pytest.fail("no answer to a photograph")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_disclaimer_is_in_sight_wherever_one_has_scrolled(
    page: Any, spot: dict[str, Any], width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    upload(page, spot)
    page.get_by_role("heading", name=texts.MAP_TITLE).wait_for()
    for place in ("heading", "button"):
        name = texts.ASSESS_TITLE if place == "heading" else "Report"
        page.get_by_role(place, name=name).scroll_into_view_if_needed()
        box = page.locator(".dx-strip").bounding_box()
        assert 0 <= box["y"] < 800 - box["height"] + 1
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_words_on_the_first_button_can_be_read(
    page: Any, spot: dict[str, Any], theme: str
) -> None:
    page.emulate_media(color_scheme=theme)
    upload(page, spot)
    button = page.get_by_role("button", name="Report")
    button.wait_for()
    colours = "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    ground = button.evaluate(colours)[1]
    words = button.get_by_text("Report").evaluate(colours)[0]
    assert contrast(hexed(words), hexed(ground)) >= 4.5


def test_on_a_phone_nothing_is_wider_than_the_screen(
    page: Any, spot: dict[str, Any], tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    wide = "document.querySelector('[data-testid=stMain]').scrollWidth"
    long = {**spot, "name": f"a_name_{'without_a_space_' * 4}.jpg"}
    upload(page, long, spot)
    page.get_by_role("heading", name=texts.MAP_TITLE).wait_for()
    assert page.evaluate(wide) <= 390
    table = "document.querySelector('.dx-overview')"
    assert page.evaluate(f"{table}.scrollWidth <= {table}.clientWidth")
    with page.expect_download() as waited:
        page.get_by_role("button", name="Report").click()
    report = tmp_path / "report.html"
    waited.value.save_as(report)
    page.get_by_role("link", name=texts.ABOUT_TITLE).last.click()
    page.get_by_role("heading", name=re.compile("Model card")).wait_for()
    page.locator("table").first.wait_for()
    assert page.evaluate(wide) <= 390
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_other_pages_open_under_the_same_path(page: Any, address: str) -> None:
    page.get_by_role("link", name=texts.ABOUT_TITLE).first.click()
    page.get_by_role("heading", name=re.compile("Model card")).wait_for()
    assert page.url == f"{address}about"
    page.locator(".dx-diagram .dx-dot").first.wait_for()  # Streamlit leaves it in the page


def hexed(colour: str) -> str:
    """`rgb(1, 2, 3)` as `#010203`."""
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)[:3])


def huge() -> bytes:
    """A picture of 60 megapixels in few bytes."""
    file = io.BytesIO()
    Image.new("1", (10000, 6000)).save(file, "PNG")
    return file.getvalue()
