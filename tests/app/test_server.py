"""The server: what it refuses; it calls nobody, keeps nothing, and ends when it is asked to."""

import asyncio
import io
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from dermx.app import server
from dermx.app.settings import PageConfig
from dermx.cli.main import main
from dermx.errors import InputError, MissingExtraError
from dermx.model.bundle import Bundle

pytest.importorskip("streamlit")
Output = pytest.CaptureFixture[str]


@contextmanager
def served(*options: str) -> Iterator[str]:
    """The page in a process of its own; its address."""
    words = [sys.executable, "-m", "dermx.cli.main", "app", "--port", "0", *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stdout.read()
        yield found[0]
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def address(tiny_bundle: Bundle) -> Iterator[str]:
    with served("--model", str(tiny_bundle.folder), "--base-path", "/skin") as url:
        wait_for(f"{url}_stcore/health")
        yield url


def wait_for(url: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            continue
        return


def test_the_page_lies_under_its_path_and_forbids_what_is_not_its_own(address: str) -> None:
    assert address.endswith("/skin/")
    with urllib.request.urlopen(address, timeout=10) as page:
        policy = page.headers["Content-Security-Policy"]
        assert "<title>" in page.read().decode()
        assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'self'" in policy
    assert "connect-src 'self' data: blob:;" in policy
    assert "http" not in policy


def test_another_site_s_page_is_refused(address: str) -> None:
    request = urllib.request.Request(address, headers={"Origin": "https://other.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10)


@pytest.mark.parametrize(
    ("origin", "host", "refused"),
    [
        ("", "skin.example", False),
        ("https://skin.example", "skin.example", False),
        ("https://SKIN.example", "skin.example", False),
        ("https://skin.example:444", "skin.example", True),
        ("https://skin.example.evil", "skin.example", True),
        ("null", "skin.example", True),
    ],
)
def test_a_foreign_origin_is_one_that_is_not_the_host(
    origin: str, host: str, refused: bool
) -> None:
    assert server.foreign(origin, host) is refused


def test_a_foreign_websocket_is_closed_before_the_application_sees_it() -> None:
    sent: list[dict[str, Any]] = []

    async def never(*_: Any) -> None:
        raise AssertionError("the application was reached")

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"origin", b"https://other.example"), (b"host", b"skin.example")]
    scope = {"type": "websocket", "headers": headers}
    asyncio.run(server.Guarded(never)(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_an_upload_is_kept_in_memory_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.formparsers import MultiPartParser
    from starlette.requests import Request

    monkeypatch.setattr(MultiPartParser, "spool_max_size", MultiPartParser.spool_max_size)
    server._keep_uploads_in_memory(PageConfig(max_megabytes=4))
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.jpg"\r\n\r\n'
    body += bytes(4 * 2**20) + b"\r\n--x--\r\n"

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def rolled() -> bool:
        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        form = await Request({"type": "http", "headers": headers}, receive).form()
        return bool(form["f"].file._rolled)  # whether it went to a temporary file

    assert asyncio.run(rolled()) is False


def test_who_left_is_forgotten_without_another_visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit import runtime
    from streamlit.runtime.memory_session_storage import MemorySessionStorage
    from streamlit.runtime.session_manager import SessionInfo

    ended: list[str] = []
    emptied: list[str] = []
    storage = MemorySessionStorage(ttl_seconds=0)
    session: Any = Mock(id="first", shutdown=lambda: ended.append("first"))
    session.session_state.clear = lambda: emptied.append("state")
    storage.save(SessionInfo(client=None, session=session))
    serving = SimpleNamespace(_session_mgr=SimpleNamespace(_session_storage=storage))
    monkeypatch.setattr(runtime, "get_instance", lambda: serving)
    left = weakref.ref(session)
    del session
    assert server.forget_who_left()
    assert (ended, left()) == (["first"], None)
    assert emptied == ["state"]
    serving._session_mgr = None  # another version's inside
    assert not server.forget_who_left()


def test_the_page_forgets_while_it_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.001)
    monkeypatch.setattr(server, "forget_who_left", lambda: calls.append(True) or len(calls) < 3)

    async def serving() -> None:
        async with server._forgetting(None):
            await asyncio.sleep(0.2)

    asyncio.run(serving())
    assert len(calls) == 3


def test_statistics_and_greetings_are_off_and_the_limit_is_ours() -> None:
    script = (
        "from dermx.app import server; from dermx.app.settings import PageConfig\n"
        "server._set_options(PageConfig(max_megabytes=7), '127.0.0.1', 'skin')\n"
        "from streamlit import config\n"
        "for name in ('browser.gatherUsageStats', 'logger.hideWelcomeMessage',\n"
        "  'server.maxUploadSize', 'server.fileWatcherType', 'server.baseUrlPath',\n"
        "  'server.disconnectedSessionTTL'):\n"
        "    print(config.get_option(name))\n"
    )
    environment = {**os.environ, "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "true"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=180
    )
    assert done.stdout.split() == ["False", "True", "7", "none", "skin", "30"], done.stderr


def test_a_port_that_is_taken_is_named(capsys: Output) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"can't listen at 127.0.0.1, port {port}: .*in use"):
            server._listen("127.0.0.1", port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_can_t_be_is_named(port: int) -> None:
    with pytest.raises(InputError, match=f"a number from 0 to 65535, got {port}"):
        server._listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "path", "url"),
    [
        ("127.0.0.1", "", "http://127.0.0.1:80/"),
        ("0.0.0.0", "skin", "http://localhost:80/skin/"),
        ("::1", "", "http://[::1]:80/"),
    ],
)
def test_the_address_can_be_typed_into_a_browser(host: str, path: str, url: str) -> None:
    assert server.address(host, 80, path) == url


def test_check_answers_and_ends(tiny_bundle: Bundle, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "dermx.cli.main", "app", "--port", "0", "--check"]
    done = subprocess.run(
        [*words, "--model", str(tiny_bundle.folder)], capture_output=True, text=True, timeout=180
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("dermx page with tiny: http://127.0.0.1:")
    assert done.stdout.splitlines()[-1] == "the page answers"


def test_a_damaged_model_is_one_line_before_anything_is_served(
    tmp_path: Path, capsys: Output
) -> None:
    assert main(["app", "--model", str(tmp_path / "nothing"), "--check", "--port", "0"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


def test_without_the_extra_the_line_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r'the page needs .*pip install "dermx\[app\]"'):
        server.serve(PageConfig(), check=True, say=io.StringIO().write)
