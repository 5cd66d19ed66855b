"""How is the page served? Streamlit's ASGI application under uvicorn, in this process.

The model is opened before the first visitor comes, so a damaged one is one line at the start and
nobody waits for it. Streamlit's own habits that don't suit pictures of people are switched off
here, in one place: statistics, the look-up of one's outside address, and temporary files.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dermx.app import texts
from dermx.app.settings import PageConfig, use
from dermx.errors import DermxError, InputError, needs

if TYPE_CHECKING:
    import uvicorn

SCRIPT: Final = Path(__file__).with_name("page.py")
CHECK_SECONDS: Final = 30.0
RECONNECT_SECONDS: Final = 30  # a visitor whose connection broke finds the page as it was
SWEEP_SECONDS: Final = 10.0

# Everything that a page may load comes from the page itself: the browser enforces the promise.
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "frame-ancestors 'self'; form-action 'none'; base-uri 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}

LOOK: Final = {
    "theme.headingFont": "serif",
    "theme.baseRadius": "10px",
    "theme.buttonRadius": "8px",
    "theme.showWidgetBorder": True,
    "theme.headingFontWeights": [600] * 6,
    "theme.headingFontSizes": ["2.1rem", "1.4rem", "1.15rem", "1rem", "1rem", "1rem"],
    "theme.light.primaryColor": "#0b6078",
    "theme.light.backgroundColor": "#f6f8f9",
    "theme.light.secondaryBackgroundColor": "#ffffff",
    "theme.light.textColor": "#1c2833",
    "theme.light.borderColor": "#7b8a96",
    "theme.light.linkColor": "#0b6078",
    "theme.dark.primaryColor": "#6cc3d8",
    "theme.dark.backgroundColor": "#11161b",
    "theme.dark.secondaryBackgroundColor": "#1a2127",
    "theme.dark.textColor": "#e6ebef",
    "theme.dark.borderColor": "#71808c",
    "theme.dark.linkColor": "#6cc3d8",
}


def serve(
    config: PageConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    base_path: str = "",
    browser: bool = False,
    check: bool = False,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the page until it is stopped.

    Args:
        config: Limits, and the model's folder.
        host: Address to listen at; only this machine reaches 127.0.0.1.
        port: Port to listen at; 0 takes a free one.
        base_path: The path under which a reverse proxy shows the page, e.g. "/skin".
        browser: Open the page in a browser.
        check: Stop as soon as the page has answered, for unattended checks.
        say: Takes each line that is for the person who started it.

    Raises:
        MissingExtraError: Streamlit is not installed.
        BundleError: The model can't be used.
        InputError: The address can't be listened at.
        DermxError: With `check`: the page did not answer.
    """
    base_path = base_path.strip("/")
    with needs("the page", "app"):
        import uvicorn
        from streamlit.starlette import App
    _set_options(config, host, base_path)
    _be_quiet()
    _keep_uploads_in_memory(config)
    use(config)
    listening = _listen(host, port)
    from dermx.app.lesion import opened_model  # after the options

    with listening:
        model = opened_model(config.model)
        app: Any = Guarded(App(SCRIPT, on_script_error=_friendly, lifespan=_forgetting))
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=3)
        )
        url = address(host, listening.getsockname()[1], base_path)
        say(f"dermx page with {model.bundle.name}: {url}  (Ctrl-C stops it)")
        outcome: list[str] = []
        after = _checker(server, url, outcome) if check else _opener(url, browser)
        threading.Thread(target=after, daemon=True).start()
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            say("stopped")
    if check:
        if not outcome or outcome[0] != "ok":
            raise DermxError(f"the page at {url} did not answer: {outcome or 'it ended'}")
        say("the page answers")


class Guarded:
    """An ASGI application that sets our headers and refuses requests from other sites' pages.

    Streamlit would look up its own outside address on the internet to decide about a foreign
    origin; here nothing is asked, a foreign origin is refused.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        given = {name.decode("latin-1"): value for name, value in scope["headers"]}
        origin, host = (given.get(name, b"").decode("latin-1") for name in ("origin", "host"))
        if foreign(origin, host):
            await _refuse(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        await self.app(scope, receive, with_headers)


def foreign(origin: str, host: str) -> bool:
    """Whether a request comes from a page of another site; without an origin it does not.

    >>> foreign("https://other.example", "skin.example"), foreign("", "skin.example")
    (True, False)
    """
    return bool(origin) and origin.partition("://")[2].lower() != host.lower()


def address(host: str, port: int, base_path: str = "") -> str:
    """Return what to type into a browser on this machine.

    >>> address("0.0.0.0", 8501, "skin")
    'http://localhost:8501/skin/'
    """
    shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/{base_path + '/' if base_path else ''}"


def _friendly(error: Exception) -> bool:
    """Show one line to the visitor; the traceback goes to the log of who serves the page."""
    import streamlit as st

    logging.getLogger(__name__).error("a visitor met a bug", exc_info=error)
    st.error(texts.BUG)
    return True


@asynccontextmanager
async def _forgetting(_: Any) -> AsyncIterator[None]:
    """Forget who left, for as long as the page is served."""

    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if not forget_who_left():
                logging.getLogger(__name__).warning(
                    "this version of Streamlit keeps the last visitor's pictures in memory until "
                    "another visitor leaves; restart the page to drop them"
                )
                return

    task = asyncio.create_task(sweep())
    try:
        yield
    finally:
        task.cancel()


def forget_who_left() -> bool:
    """Drop uploads and answers of visitors who left longer than `RECONNECT_SECONDS` ago.

    Streamlit by itself drops them only when a later visitor leaves. To be called in the event
    loop of the server.

    Returns:
        False where this version of Streamlit keeps them elsewhere, so that nothing was done.
    """
    from streamlit.runtime import get_instance

    try:
        gone = get_instance()._session_mgr._session_storage._cache.expire()  # type: ignore[attr-defined]
        for _, info in gone:
            info.session.shutdown()
            # Streamlit's own loop holds on to the last session, so what is in it is emptied.
            info.session.session_state.clear()
            info.session._fragment_storage.clear()
    except (AttributeError, TypeError, ValueError):
        return False
    if gone:
        gone.clear()
        info = None
        gc.collect()  # a session and its state hold each other
    return True


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"This page answers only its own site."})


def _set_options(config: PageConfig, host: str, base_path: str) -> None:
    """Set Streamlit's options for this process, over whatever a file of the user's says."""
    from streamlit import config as streamlit_config

    options: dict[str, Any] = {
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "global.developmentMode": False,
        "logger.hideWelcomeMessage": True,
        "runner.magicEnabled": False,
        "server.address": host,
        "server.baseUrlPath": base_path,
        "server.disconnectedSessionTTL": RECONNECT_SECONDS,
        "server.enableStaticServing": False,
        "server.fileWatcherType": "none",
        "server.headless": True,
        "server.maxUploadSize": config.max_megabytes,
        **LOOK,
    }
    for name, value in options.items():
        streamlit_config.set_option(name, value)


def _be_quiet() -> None:
    """Only warnings are logged: a line per request says who looked when."""
    for name in ("uvicorn", "uvicorn.access", "uvicorn.error", "websockets"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Said once about a cache that is filled before the server runs, which is what is wanted here.
    logging.getLogger("streamlit.runtime.caching.cache_data_api").setLevel(logging.ERROR)


def _keep_uploads_in_memory(config: PageConfig) -> None:
    """Starlette would put what exceeds a megabyte into a temporary file."""
    from starlette.formparsers import MultiPartParser

    MultiPartParser.spool_max_size = (config.max_megabytes + 1) * 2**20


def _listen(host: str, port: int) -> socket.socket:
    try:
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        if not 0 <= port <= 65535:
            raise InputError(f"a port is a number from 0 to 65535, got {port}")
        listening = socket.socket(kind)
        if os.name != "nt":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"can't listen at {host}, port {port}: {reason}; give another --host or --port"
        ) from error
    return listening


def _opener(url: str, wanted: bool) -> Callable[[], None]:
    """Open the page, on a machine that has a screen."""
    screen = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )

    def open_browser() -> None:
        if wanted and screen:
            webbrowser.open(url)

    return open_browser


def _checker(server: "uvicorn.Server", url: str, outcome: list[str]) -> Callable[[], None]:
    """Ask for the page until it comes, then stop the server."""

    def ask() -> None:
        until = time.monotonic() + CHECK_SECONDS
        while not outcome and time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{url}_stcore/health", timeout=5) as health:
                    alive = health.status == 200
                with urllib.request.urlopen(url, timeout=5) as page:
                    outcome.append("ok" if alive and b"<html" in page.read() else "no page")
            except (urllib.error.URLError, OSError) as error:
                last = str(error)
                time.sleep(0.1)
                if time.monotonic() >= until:
                    outcome.append(last)
        server.should_exit = True

    return ask
