"""What does the page look like? The three pictures in docs/, taken in a browser, of drawn lesions.

python benchmarks/page_pictures.py --out docs [--model BUNDLE]
"""

import argparse
import io
import re
import shutil
from pathlib import Path
from typing import Any

from page import FLAGS, encoded, start, stop
from PIL import Image
from playwright.sync_api import sync_playwright

from dermx.app import texts
from dermx.data.phantom import EXAMPLES


def drawn(names: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "mimeType": "image/jpeg", "buffer": encoded(EXAMPLES[name]().picture)}
        for name in names
    ]


def answered(page: Any, url: str, files: list[dict[str, Any]]) -> None:
    page.goto(url)
    page.get_by_role("heading", level=1).wait_for()
    page.locator("input[type=file]").first.set_input_files(files)
    page.get_by_alt_text(re.compile("^Heat map for")).wait_for()
    page.get_by_role("slider").wait_for()
    page.get_by_role("button", name="Report").wait_for()
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
    page.wait_for_timeout(1000)  # pictures and fonts


def keep(page: Any, path: Path) -> None:
    """Write the window's picture."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.save(path, quality=88, subsampling=0, optimize=True)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    names = list(EXAMPLES)
    process, url = start(given.model)
    try:
        with sync_playwright() as tools:
            browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page(viewport={"width": 1180, "height": 1650})
            answered(page, url, drawn(names[:1]))
            keep(page, given.out / "page_answer.jpg")
            refused = {"name": "letter.jpg", "mimeType": "image/jpeg", "buffer": b"%PDF-1.7"}
            answered(page, url, [*drawn(names), refused])
            page.set_viewport_size({"width": 1180, "height": 1120})
            page.wait_for_timeout(1000)
            keep(page, given.out / "page_many.jpg")
            dark = browser.new_page(
                viewport={"width": 390, "height": 1240}, color_scheme="dark", device_scale_factor=1
            )
            answered(dark, url, drawn(names[1:2]))
            dark.get_by_role("heading", name=texts.ASSESS_TITLE).scroll_into_view_if_needed()
            keep(dark, given.out / "page_phone.jpg")
            browser.close()
    finally:
        stop(process)


if __name__ == "__main__":
    main()
