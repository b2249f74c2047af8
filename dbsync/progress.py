"""Events that a run reports as it proceeds. Console, JSON lines and windows are views of this stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from dbsync.outcomes import OutcomeName

TOLD_AGAIN_SECONDS: Final = 0.1
"""The least time between two progress events of a phase: more than eyes can follow only costs time."""


class Unit(StrEnum):
    """The units in which a phase is measured."""

    NONE = ""
    BYTES = "bytes"
    ROWS = "rows"
    STATEMENTS = "statements"


class WorkPhase(StrEnum):
    """The phases whose time is measured, in the order of a run; flight records have them by name."""

    PUT_ASIDE = "put aside"
    COPY = "copy"
    CHECK_COPY = "check copy"
    BACKUP = "backup"
    CHECK_BACKUP = "check backup"
    MIGRATE = "migrate"
    VERIFY = "verify"
    COMMIT = "commit"
    COMPARE = "compare"
    CARRY_BACK = "carry back"
    RESTORE = "restore"
    CHECK = "check"
    READ = "read"
    INDEXES = "indexes"
    SYNC = "sync"


class EventKind(StrEnum):
    """The kinds of events, with the fields that each uses."""

    LOOKED = "looked"
    """number: current, total: latest"""
    STARTED = "started"
    """total: number of migrations, seconds: expected by a rehearsal, 0 without"""
    BACKUP = "backup"
    """text: path"""
    NOTHING_TO_BACK_UP = "nothing_to_back_up"
    INTEGRITY = "integrity"
    """name: the check that was passed, as SQLite's pragma is called"""
    MIGRATION = "migration"
    """number, name, text: description"""
    LOG = "log"
    """text"""
    VERSION = "version"
    """number"""
    MIGRATED = "migrated"
    """number, name, seconds"""
    FINISHED = "finished"
    """number: number of migrations, done: from version, total: to version, seconds"""
    UP_TO_DATE = "up_to_date"
    """number, total"""
    ENDED = "ended"
    """name: outcome, text: cause, seconds"""
    ADOPTED = "adopted"
    NOT_CARRIED = "not_carried"
    NOT_NOTED = "not_noted"
    NOT_EVALUATED = "not_evaluated"
    """Parts of the database that this machine cannot evaluate were found."""
    PUT_BACK = "put_back"
    """Rows that an older schema could not hold were put back."""
    SIDE_FILES_KEPT = "side_files_kept"
    LOG_DAMAGED = "log_damaged"
    """text: what may be lost, and the copy"""
    COUNTERS_RAISED = "counters_raised"
    """text: the counters with their numbers, and the explanation"""
    MARKS_DAMAGED = "marks_damaged"
    """text: the file, and where it is kept"""
    MARK_NOT_BELIEVED = "mark_not_believed"
    """text: the counter, its mark, and the commands that settle it"""
    MARK_FORGOTTEN = "mark_forgotten"
    BACKUP_ROTTEN = "backup_rotten"
    """text: the backup, and what became of it"""
    SECOND_PLACE_AWAY = "second_place_away"
    """text: the second place, and why it is not complete"""
    PROGRESS = "progress"
    """name: phase, text: the object of the step, done, total and unit: bytes, rows or statements, seconds: in this
    phase, per_second, remaining_seconds. A phase without a measure has total 0."""


class Event(NamedTuple):
    """One event of a run."""

    kind: EventKind
    number: int = 0
    name: str = ""
    text: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    unit: Unit = Unit.NONE
    per_second: float = 0.0
    remaining_seconds: float | None = None
    """None: not known."""

    @staticmethod
    def of(recorded: str, facts: Mapping[str, str | int | float | None]) -> Event:
        """Return the event for something that the coordinator recorded."""
        kind = EventKind(recorded)
        before, after = int(facts.get("before") or 0), int(facts.get("after") or 0)
        if kind is EventKind.LOOKED:
            return Event(kind, number=int(facts["version"] or 0), total=int(facts["latest"] or 0))
        if kind is EventKind.STARTED:
            return Event(kind, total=int(facts["count"] or 0), seconds=float(facts.get("expected_seconds") or 0))
        if kind is not EventKind.ENDED:
            return Event(kind, text=str(facts.get("text") or ""))
        outcome, seconds = str(facts["outcome"]), float(facts.get("seconds") or 0)
        if outcome in (OutcomeName.MIGRATED, OutcomeName.CREATED):
            return Event(EventKind.FINISHED, number=after - before, done=before, total=after, seconds=seconds)
        if outcome == OutcomeName.UP_TO_DATE:
            return Event(EventKind.UP_TO_DATE, number=before, total=before)
        return Event(EventKind.ENDED, name=outcome, text=str(facts.get("cause") or ""), seconds=seconds)


Progress = Callable[[Event], None]


class Told(Protocol):
    """The callback by which a long step reports its progress; `text` names the part that is being done."""

    def __call__(self, done: int, total: int, text: str = "", unit: Unit = Unit.NONE) -> None:
        """Tell how far the step has come."""


def quiet(event: Event) -> None:
    """Ignore an event: the default where no view is attached."""


def nobody(done: int, total: int, text: str = "", unit: Unit = Unit.NONE) -> None:
    """Ignore a report of progress: the default of a long step."""


def safe(progress: Progress) -> Progress:
    """Return a view whose errors cannot fail a run: no console, a closed pipe, a code page without emoji."""

    def told(event: Event) -> None:
        try:
            progress(event)
        except Exception:  # noqa: BLE001 - a failing view must not stop work on the till's database
            return

    return told


class Meter:
    """The only source of rate and remaining time: phases report their progress, views get events.

    Args:
        tell: gets the events.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, tell: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell: Final = tell
        self._clock: Final = clock
        self._current: tuple[WorkPhase, float] | None = None
        self._spent: dict[WorkPhase, float] = {}

    def phase(self, name: WorkPhase, text: str = "") -> Told:
        """Begin a phase, which ends the one before, and return the callback that takes its progress."""
        self._end()
        self._current = (name, self._clock())
        phase = _Phase(self._tell, self._clock, name)
        phase(0, 0, text)
        return phase

    def take_spent(self) -> dict[WorkPhase, float]:
        """End the phase and return the seconds of each phase since the last call."""
        self._end()
        spent, self._spent = self._spent, {}
        return {name: round(seconds, 3) for name, seconds in spent.items()}

    def _end(self) -> None:
        if self._current is not None:
            name, began = self._current
            self._spent[name] = self._spent.get(name, 0.0) + self._clock() - began
            self._current = None


class _Phase:
    """One phase: at most one event in TOLD_AGAIN_SECONDS, plus the first and last of a step and each new `text`."""

    def __init__(self, tell: Progress, clock: Callable[[], float], name: WorkPhase) -> None:
        self._tell: Final = tell
        self._clock: Final = clock
        self._name: Final = name
        self._last = Event(EventKind.PROGRESS, name=name, done=-1)
        self._began: Final = clock()
        self._called_at = self._began
        self._told_at = self._began
        self._step_began = self._began

    def __call__(self, done: int, total: int, text: str = "", unit: Unit = Unit.NONE) -> None:
        now, last = self._clock(), self._last
        text, unit = text or last.text, (unit or last.unit) if total else Unit.NONE
        anew = done < last.done or unit != last.unit
        if anew:
            # A copy that begins again, or another unit: the earlier pace does not apply to it.
            self._step_began = self._called_at if done else now
        self._called_at = now
        per_second, remaining = pace(done, total, now - self._step_began)
        self._last = Event(
            EventKind.PROGRESS, name=self._name, text=text, done=done, total=total, seconds=now - self._began,
            unit=unit, per_second=per_second, remaining_seconds=remaining,
        )  # fmt: skip
        first = last.done < 0 or anew or text != last.text
        if first or (total and done >= total) or now - self._told_at >= TOLD_AGAIN_SECONDS:
            self._told_at = now
            self._tell(self._last)


def pace(done: int, total: int, seconds: float) -> tuple[float, float | None]:
    """Return the rate per second and the remaining seconds; None while nothing is done or no time has passed."""
    if not total or done <= 0 or seconds <= 0:
        return 0.0, 0.0 if total and done >= total else None
    per_second = done / seconds
    return per_second, max(0, total - done) / per_second
