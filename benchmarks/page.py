"""How soon does the page show itself, how fast does it answer, and for how many visitors at once?

Three figures, all on loopback: from starting `dermx app` to its first heading in a browser, with
the model opened; from choosing a file to the heat map in the browser; and the same answer for
visitors who come together, without browsers, over the protocol a browser speaks.

    python benchmarks/page.py [--model BUNDLE] [--visitors 20] [--repeats 5]

Needs `.[app]`, Playwright and Chromium for the first two figures.
"""

import argparse
import asyncio
import io
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dermx.data.phantom import draw_phantom

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


def picture(seed: int) -> bytes:
    return encoded(draw_phantom(seed).picture)


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def start(model: Path | None) -> tuple[subprocess.Popen[str], str]:
    words = [sys.executable, "-m", "dermx.cli.main", "app", "--port", "0"]
    words += ["--model", str(model)] if model else []
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, re.findall(r"http://\S+", process.stdout.readline())[0]


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(timeout=30)


def in_a_browser(model: Path | None, repeats: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds to the first heading after the start, the server's processor time until then, and
    seconds from a file to its heat map.
    """
    from playwright.sync_api import sync_playwright

    paints, spent, answers = [], [], []
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for repeat in range(repeats):
            began = time.perf_counter()
            process, url = start(model)
            page = browser.new_page()
            page.goto(url)
            page.get_by_role("heading", level=1).wait_for()
            paints.append(time.perf_counter() - began)
            spent.append(processor_seconds(process.pid))
            for seed in (2 * repeat, 2 * repeat + 1):
                file = {"name": f"{seed}.jpg", "mimeType": "image/jpeg", "buffer": picture(seed)}
                began = time.perf_counter()
                page.locator("input[type=file]").first.set_input_files([file])
                page.get_by_alt_text(re.compile("^Heat map for")).wait_for()
                answers.append(time.perf_counter() - began)
                page.get_by_role("button", name=re.compile("^Remove")).first.click()
                page.get_by_alt_text(re.compile("^Heat map for")).wait_for(state="detached")
            page.close()
            stop(process)
        browser.close()
    return paints, spent, answers


async def visit(url: str, data: bytes, together: asyncio.Barrier) -> float:
    """One visitor without a browser: connect, wait for the others, upload, read the answer."""
    import websockets
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    address = url.replace("http", "ws") + "_stcore/stream"
    async with websockets.connect(address, max_size=None, subprotocols=["streamlit"]) as socket:

        async def until(found: Any) -> list[Any]:
            """Read messages until the script ends; keep those wanted."""
            kept = []
            while True:
                raw = await asyncio.wait_for(socket.recv(), 120)
                message = ForwardMsg.FromString(raw)
                kept += [message] if found(message, raw) else []
                if message.WhichOneof("type") == "script_finished":
                    return kept

        first = BackMsg()
        first.rerun_script.query_string = ""
        await socket.send(first.SerializeToString())
        seen = await until(lambda m, _: m.WhichOneof("type") in ("new_session", "delta"))
        session = next(m for m in seen if m.WhichOneof("type") == "new_session").new_session
        widget = next(
            m.delta.new_element.file_uploader.id
            for m in seen
            if m.WhichOneof("type") == "delta"
            and m.delta.new_element.WhichOneof("type") == "file_uploader"
        )
        await together.wait()
        began = time.perf_counter()
        place = f"_stcore/upload_file/{session.initialize.session_id}/{uuid.uuid4()}"
        await asyncio.to_thread(put, url, place, data)
        asked = BackMsg()
        asked.rerun_script.page_script_hash = session.page_script_hash
        state = asked.rerun_script.widget_states.widgets.add()
        state.id = widget
        info = state.file_uploader_state_value.uploaded_file_info.add()
        info.name, info.size, info.file_id = "spot.jpg", len(data), place.rpartition("/")[2]
        info.file_urls.file_id = info.file_id
        info.file_urls.upload_url = "/" + place
        await socket.send(asked.SerializeToString())
        shown = await until(lambda _, raw: b"Heat map for" in raw)
        assert shown, "no heat map came"
        return time.perf_counter() - began


def put(url: str, place: str, data: bytes) -> None:
    """Upload as the page does: with the token that guards against other sites' forms."""
    with urllib.request.urlopen(f"{url}_stcore/health", timeout=120) as health:
        token = re.findall("_streamlit_xsrf=([^;]+)", str(health.headers["Set-Cookie"]))[0]
    edge = uuid.uuid4().hex
    body = (
        f'--{edge}\r\nContent-Disposition: form-data; name="f"; filename="spot.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={edge}",
        "Cookie": f"_streamlit_xsrf={token}",
        "X-Xsrftoken": token,
    }
    body += data + f"\r\n--{edge}--\r\n".encode()
    request = urllib.request.Request(url + place, body, headers, method="PUT")
    urllib.request.urlopen(request, timeout=120).close()


def processor_seconds(pid: int) -> float:
    """Time that a process has spent on processors so far; NaN where the system doesn't tell."""
    path = Path(f"/proc/{pid}/stat")
    if not path.is_file():
        return float("nan")
    parts = path.read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


async def together(url: str, visitors: int) -> list[float]:
    barrier = asyncio.Barrier(visitors)
    files = [picture(seed) for seed in range(4)]
    return await asyncio.gather(*(visit(url, files[i % 4], barrier) for i in range(visitors)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model's folder; default: the shipped one")
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    if shutil.which("chromium"):
        paints, spent, answers = in_a_browser(given.model, given.repeats)
        print(f"first heading after the start: median {statistics.median(paints):.2f} s, "
              f"worst {max(paints):.2f} s of {len(paints)}; the server's share "
              f"{statistics.median(spent):.2f} s of one core")  # fmt: skip
        print(f"file to heat map in the browser: median {statistics.median(answers):.2f} s, "
              f"worst {max(answers):.2f} s of {len(answers)}")  # fmt: skip
    process, url = start(given.model)
    try:
        asyncio.run(together(url, 1))  # the first drawing of a font and the like
        for visitors in (1, given.visitors):
            before = processor_seconds(process.pid)
            taken = asyncio.run(together(url, visitors))
            each = (processor_seconds(process.pid) - before) / visitors
            print(f"{visitors} at once, upload to heat map: median {statistics.median(taken):.2f} "
                  f"s, worst {max(taken):.2f} s, {len(taken)} of {visitors} answered; "
                  f"{each:.2f} s of one core each, connecting included")  # fmt: skip
        memory = Path(f"/proc/{process.pid}/status")
        if memory.is_file():
            peak = re.findall(r"VmHWM:\s+(\d+)", memory.read_text())[0]
            print(f"memory of the server at its peak: {int(peak) / 1024:.0f} MiB")
    finally:
        stop(process)


if __name__ == "__main__":
    main()
