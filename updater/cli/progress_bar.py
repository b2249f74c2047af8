"""Progress display of a running command: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def download_bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Progress callback (bytes done, bytes in all), shown as a bar on a terminal; one that goes away fails nothing."""
    if quiet or not _is_watched():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("downloading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task("download", total=None)

    def draw(done: int, total: int) -> None:
        with suppress(OSError, ValueError):
            bar.update(task, completed=done, total=total)

    with suppress(OSError, ValueError):
        bar.start()
    try:
        yield draw
    finally:
        with suppress(OSError, ValueError):
            bar.stop()


@contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Progress callback (what, done, in all), shown as a bar on a terminal; one that goes away fails nothing."""
    if not _is_watched():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True))
    tasks: dict[str, Any] = {}

    def draw(what: str, done: int, total: int) -> None:
        with suppress(OSError, ValueError):
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

    with suppress(OSError, ValueError):
        bar.start()
    try:
        yield draw
    finally:
        with suppress(OSError, ValueError):
            bar.stop()


def _is_watched() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False
