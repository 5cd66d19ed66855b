"""What is around every report? One HTML page that needs no other file, no script and no network."""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Final

DISCLAIMER: Final = "Research and education, not a medical device."


def framed(title: str, body: Iterable[str], style: str, *, name: str | None = None) -> str:
    """Return a whole page.

    Args:
        title: Plain text; it is escaped here.
        body: Parts in HTML, a line each; empty ones are left out.
        style: CSS, written into the page.
        name: Of the page's class, for style sheets that are not about this page alone.
    """
    marked = "" if name is None else f' class="{name}"'
    lines = "\n".join(filter(None, body))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body{marked}><main>
{lines}
</main></body>
</html>
"""


def report_style() -> str:
    """Return the style sheet of the reports that commands write."""
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")
