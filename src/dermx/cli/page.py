"""`dermx app`: open the page in a browser. Parse, hand over, end."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def app(
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            envvar="DERMX_APP_MODEL",
            help="A model's folder; without it, the shipped model.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="H",
            envvar="DERMX_APP_HOST",
            help="Address to listen at; 0.0.0.0 lets other machines in.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(metavar="N", envvar="DERMX_APP_PORT", help="Port; 0 takes a free one."),
    ] = 8501,
    base_path: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            envvar="DERMX_APP_BASE_PATH",
            help="Path under which a reverse proxy shows the page, e.g. /skin.",
        ),
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML", envvar="DERMX_APP_CONFIG", help="Limits, in a section [page]."
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option(help="Open the page in a browser, where there is a screen.")
    ] = True,
    check: Annotated[
        bool,
        typer.Option(
            "--check", envvar="DERMX_APP_CHECK", help="End as soon as the page has answered."
        ),
    ] = False,
) -> None:
    """Open the page: upload a picture, see an answer with its heat map."""
    from dataclasses import replace

    from dermx.app.server import serve
    from dermx.app.settings import load_page_config

    settings = load_page_config(config)
    if model is not None:
        settings = replace(settings, model=str(model))
    serve(
        settings,
        host=host,
        port=port,
        base_path=base_path,
        browser=browser and not check and sys.stdout.isatty(),
        check=check,
        say=typer.echo,
    )
