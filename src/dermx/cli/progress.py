"""How far is it? A bar with speed and time left on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import typer

T = TypeVar("T")

EVERY = 60.0  # seconds between two plain lines


def track(items: Iterable[T], what: str, total: int, unit: int = 1) -> Iterator[T]:
    """Hand on `total` items, each worth `unit` pictures, and show speed and time left."""
    return (_bar if sys.stderr.isatty() else _lines)(items, what, total, unit)


def _bar(items: Iterable[T], what: str, total: int, unit: int) -> Iterator[T]:
    from rich.console import Console  # here: most calls need no bar
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total, speed="")
        started = time.perf_counter()
        for done, item in enumerate(items):
            yield item
            speed = (done + 1) * unit / (time.perf_counter() - started)
            progress.update(task, advance=1, speed=f"{speed:.0f} images/s")


def _lines(items: Iterable[T], what: str, total: int, unit: int) -> Iterator[T]:
    started = said = time.perf_counter()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.perf_counter()
        if now - said >= EVERY:
            speed = done / (now - started)
            left = (total - done) / speed
            typer.echo(
                f"{what}: {done}/{total}, {speed * unit:.0f} images/s, {left / 60:.0f} min left",
                err=True,
            )
            said = now
