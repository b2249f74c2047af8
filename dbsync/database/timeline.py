"""The past of a database: its own history, every run that was tried, and the backups beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.backups import catalog
from dbsync.counters.explanation import Explained
from dbsync.database import measurements, preflight
from dbsync.database.flight_recorder import FlightRecorder, ended
from dbsync.database.live import LiveEffects
from dbsync.migrations import history
from dbsync.model import Backup, Facts, RunPhase, State
from dbsync.outcomes import OutcomeName
from dbsync.progress import WorkPhase
from dbsync.storage import connections, files
from dbsync.storage.notes import notes_on
from dbsync.upgrade.outcome_record import FlightEvent

_ORDER: Final = tuple(WorkPhase)


class RunKind(StrEnum):
    """The kinds of runs."""

    UPGRADE = "upgrade"
    GOING_BACK = "going back"
    REHEARSAL = "rehearsal"


class RunVerdict(StrEnum):
    """The result of a run, for people."""

    GOOD = "good"
    BAD = "bad"
    """Tried and undone, or interrupted."""
    REFUSED = "refused"
    """Nothing was done."""


class Run(NamedTuple):
    """A run, as the flight record has it."""

    kind: RunKind
    at: str
    """When it began, UTC."""
    until: str
    """When the last one of `times` ended; empty: no end is on record."""
    outcome: str
    """The outcome's name; good or bad for a rehearsal; empty: it was cut, or is under way."""
    verdict: RunVerdict
    before: int | None = None
    after: int | None = None
    phase: str = ""
    migration: str = ""
    cause: str = ""
    seconds: float | None = None
    phases: Mapping[str, float] = {}
    """Seconds of each phase."""
    times: int = 1
    """How many such runs came one after the other; more than one only if they found nothing to do."""


class LastRun(NamedTuple):
    """The end of the last run on a database: the one answer to this question, for every command and page."""

    run: Run | None = None
    """The newest run that is on record, which may have no end; None if there is none. A rehearsal does not count."""
    ended: Mapping[str, Any] | None = None
    """The newest line that records the end of a run."""
    error: Mapping[str, Any] | None = None
    """The newest of these lines that has a cause."""

    @property
    def unfinished_since(self) -> str:
        """The time at which the last run began, if it has no end on record: it was cut, or is under way. Else empty."""
        return self.run.at if self.run is not None and not self.run.outcome else ""

    def as_json(self) -> dict[str, Any]:
        """Return the keys that commands print with --json; the lines are as they are on record."""
        return {"last_run": self.ended, "last_error": self.error, "unfinished_since": self.unfinished_since}


class Past(NamedTuple):
    """Everything that is known of a database's past."""

    at: str
    database: Path
    facts: Facts
    size_bytes: int
    applied: list[dict[str, object]]
    """Rows of the database's own history, oldest first."""
    runs: tuple[Run, ...]
    """Oldest first."""
    lines: list[dict[str, Any]]
    """The flight record as it is."""
    backups: list[Backup]
    """Newest first."""
    gaps: tuple[Explained, ...] = ()
    """The explanations of numbers that were skipped, oldest first."""

    @property
    def last_run(self) -> LastRun:
        """The last run, and how it ended."""
        return last_run(self.lines)


def past_of(effects: LiveEffects) -> Past:
    """Return the past of a database; changes nothing.

    Raises:
        TillkeeperError: a part that exists cannot be read.
    """
    database = effects.database
    facts = effects.look()
    applied: list[dict[str, object]] = []
    if facts.state is State.OK:
        with connections.translated("read the history", database), closing(effects.opened(database)) as live:
            connections.tolerate(live)
            applied = history.rows(live)
    lines = FlightRecorder(effects.backups, database).lines()
    return Past(
        at=files.utc_text(datetime.now(UTC)),
        database=database,
        facts=facts,
        size_bytes=preflight.size_of(database),
        applied=applied,
        runs=runs_of(lines),
        lines=lines,
        backups=catalog.list_backups(backups=effects.backups, database=database),
        gaps=tuple(effects.gaps()),
    )


def last_run(lines: Sequence[Mapping[str, Any]]) -> LastRun:
    """Return how the last run ended, by the lines of a flight record."""
    runs = [run for run in runs_of(lines) if run.kind is not RunKind.REHEARSAL]
    ends = ended(lines)
    errors = [line for line in ends if line.get("cause")]
    return LastRun(runs[-1] if runs else None, ends[-1] if ends else None, errors[-1] if errors else None)


def notes_of(database: Path, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences for `status`; changes nothing.

    They are about the files beside a database, the last damaged log on record, and the last rehearsed way back.
    """
    damaged = [line for line in lines if line.get("event") == FlightEvent.LOG_DAMAGED]
    found = notes_on(database)
    if damaged:
        kept = _text(damaged[-1], "kept")
        copy = f"a copy is kept: {kept}" if kept else "there was no space for a copy"
        found.append(f"a damaged -wal was found at {_text(damaged[-1], 'at')}: {_text(damaged[-1], 'cause')}; {copy}")
    tried = measurements.way_back_tried(lines)
    return [*found, *([tried.in_words] if tried is not None else [])]


def ended_in_words(line: Mapping[str, Any] | None) -> str:
    """Return how a run ended, on one line: `MIGRATION_FAILED at …, migrate 0003_x: no such table`; empty for no run."""
    if line is None:
        return ""
    where = " ".join(_text(line, name) for name in ("phase", "migration") if line.get(name))
    words = f"{_text(line, 'outcome')} at {_text(line, 'at')}" + (f", {where}" if where else "")
    return f"{words}: {line['cause']}" if line.get("cause") else words


def runs_of(lines: Iterable[Mapping[str, Any]]) -> tuple[Run, ...]:
    """Return the runs of a flight record. One that began and has no end was cut, unless it is under way."""
    found: list[Run] = []
    looked: Mapping[str, Any] | None = None
    started = False
    for line in lines:
        event = line.get("event")
        if event == FlightEvent.LOOKED:
            _cut(found, looked if started else None)
            looked, started = line, False
        elif event == FlightEvent.STARTED:
            started = True
        elif event == FlightEvent.REHEARSED:
            found.append(_rehearsal(line))
        elif event == FlightEvent.ENDED:
            _add(found, _ended(line, looked))
            looked, started = None, False
    _cut(found, looked if started else None)
    return tuple(found)


def _cut(found: list[Run], looked: Mapping[str, Any] | None) -> None:
    if looked is not None:
        found.append(
            Run(RunKind.UPGRADE, _text(looked, "at"), "", "", RunVerdict.BAD, before=_number(looked, "version"))
        )


def _add(found: list[Run], run: Run) -> None:
    """Add a run: runs in a row that found nothing to do, as most do, share one line."""
    last = found[-1] if found else None
    if last is not None and run.outcome == last.outcome == OutcomeName.UP_TO_DATE:
        found[-1] = last._replace(until=run.until, times=last.times + 1)
    else:
        found.append(run)


def _ended(line: Mapping[str, Any], looked: Mapping[str, Any] | None) -> Run:
    outcome, phases = _text(line, "outcome"), _phases(line.get("phases"))
    return Run(
        kind=RunKind.GOING_BACK if line.get("phase") == RunPhase.GOING_BACK else RunKind.UPGRADE,
        at=_text(looked or line, "at"),
        until=_text(line, "at"),
        outcome=outcome,
        verdict=_verdict(outcome),
        before=_number(line, "before"),
        after=_number(line, "after"),
        phase=_text(line, "phase"),
        migration=_text(line, "migration"),
        cause=_text(line, "cause"),
        # Going back measures its phases only.
        seconds=_seconds(line.get("seconds")) or sum(phases.values()) or None,
        phases=phases,
    )


def _verdict(outcome: str) -> RunVerdict:
    name = OutcomeName.__members__.get(outcome)
    if name is None or name.refused:
        return RunVerdict.REFUSED
    return RunVerdict.BAD if name.failed else RunVerdict.GOOD


def _rehearsal(line: Mapping[str, Any]) -> Run:
    verdict = RunVerdict.GOOD if line.get("good") else RunVerdict.BAD
    names = line.get("migrations")
    return Run(
        RunKind.REHEARSAL, _text(line, "at"), _text(line, "at"), verdict, verdict, cause=_text(line, "cause"),
        migration=", ".join(str(name) for name in names) if isinstance(names, list) else "",
        seconds=_seconds(line.get("seconds")),
    )  # fmt: skip


def _phases(value: object) -> dict[str, float]:
    found = value if isinstance(value, dict) else {}
    names = sorted(found, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    return {str(name): seconds for name in names if (seconds := _seconds(found[name])) is not None}


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(line: Mapping[str, Any], name: str) -> int | None:
    value = line.get(name)
    return value if isinstance(value, int) else None


def _text(line: Mapping[str, Any], name: str) -> str:
    return str(line.get(name) or "")
