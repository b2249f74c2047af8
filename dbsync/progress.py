"""What a run tells while it goes on: a stream of events. Console, JSON lines and windows are views of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Event(NamedTuple):
    """One thing that happened.

    Kinds, with the fields they use:
        looked (number: current, total: latest), started (total: how many migrations), backup (text: path),
        nothing_to_back_up, integrity, migration (number, name, text: description), log (text), version (number),
        migrated (number, seconds), finished (number: how many, done: from version, total: to version),
        up_to_date (number, total), progress (name: phase, done, total: pages or rows), failed (name, text).
    """

    kind: str
    number: int = 0
    name: str = ""
    text: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0


Progress = Callable[[Event], None]


def quiet(event: Event) -> None:
    """Nobody watches."""


def safe(progress: Progress) -> Progress:
    """A view that can never fail a run: no console, a closed pipe, a code page without emoji."""

    def told(event: Event) -> None:
        try:
            progress(event)
        except Exception:  # noqa: BLE001 - whatever a view does wrong, the till's database comes first
            return

    return told
