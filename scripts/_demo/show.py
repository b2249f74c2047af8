"""What the demonstration prints: lines, a bar where somebody watches, a table at the end; on any console."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

BEGAN = time.monotonic()


class Show:
    """One screen."""

    def __init__(self, steps_count: int) -> None:
        for stream in (sys.stdout, sys.stderr):
            # An old console or a pipe with a small code page gets question marks, never a traceback.
            stream.reconfigure(errors="replace")
        self.console = Console(highlight=False, soft_wrap=True)
        columns = (TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        self._bar = Progress(*columns, TimeElapsedColumn(), console=self.console, disable=not self.console.is_terminal)
        self._task = self._bar.add_task("the story", total=steps_count)
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def act(self, title: str) -> None:
        """A new act begins."""
        self.line("")
        self.line(f"== {title}")

    def step(self, text: str) -> None:
        """Something that takes a moment begins."""
        self._bar.update(self._task, advance=1)
        self.line(f"[{time.monotonic() - BEGAN:5.1f} s] {text}")

    def line(self, text: str) -> None:
        """A line as it is."""
        self._bar.console.print(text, markup=False)

    def told(self, text: str) -> None:
        """What a process printed."""
        for line in text.splitlines():
            self.line(f"          | {line}")

    def expect(self, so: bool, sentence: str) -> None:
        """Says that something is as the story wants it, or that it is not."""
        if not so:
            self.failures.append(sentence)
        self.line(f"          {'ok:' if so else 'NOT AS TOLD:'} {sentence}")

    def note(self, sentence: str) -> None:
        """Print something that is worth knowing and decides nothing."""
        self.line(f"          note: {sentence}")

    def table(self, rows: list[dict[str, str]]) -> None:
        """The closing table; one row per act."""
        table = Table(title="What happened, act by act")
        for name in rows[0]:
            table.add_column(
                name, justify="left" if name in ("act", "the clerk read", "support reads") else "right", overflow="fold"
            )
        for row in rows:
            table.add_row(*row.values())
        width = self.console.width if self.console.is_terminal else 170
        Console(highlight=False, width=max(width, 100)).print(table)
