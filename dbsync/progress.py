"""What a run tells while it goes on: a stream of events. Console, JSON lines and windows are views of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Event(NamedTuple):
    """One thing that happened.

    Kinds, with the fields they use:
        looked (number: current, total: latest), started (total: how many migrations), backup (text: path),
        nothing_to_back_up, integrity, migration (number, name, text: description), log (text), version (number),
        migrated (number, seconds), finished (number: how many, done: from version, total: to version),
        up_to_date (number, total), progress (name: phase, done, total: pages), ended (name: outcome, text: cause).
    """

    kind: str
    number: int = 0
    name: str = ""
    text: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0

    @staticmethod
    def of(kind: str, facts: Mapping[str, str | int | float | None]) -> Event:
        """What the coordinator puts on record, as an event."""
        before, after = int(facts.get("before") or 0), int(facts.get("after") or 0)
        if kind == "looked":
            return Event(kind, number=int(facts["version"] or 0), total=int(facts["latest"] or 0))
        if kind == "started":
            return Event(kind, total=int(facts["count"] or 0))
        if kind != "ended":
            return Event(kind)
        outcome, seconds = str(facts["outcome"]), float(facts.get("seconds") or 0)
        if outcome in ("MIGRATED", "CREATED"):
            return Event("finished", number=after - before, done=before, total=after, seconds=seconds)
        if outcome == "UP_TO_DATE":
            return Event("up_to_date", number=before, total=before)
        return Event("ended", name=outcome, text=str(facts.get("cause") or ""), seconds=seconds)


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
