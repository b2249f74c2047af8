"""Dry run of an upgrade: the decision, SQL, space and time, without changing one byte."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, assert_never

from dbsync.commands import rehearse
from dbsync.database import measurements, preflight, recognition
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.database.live import LiveEffects
from dbsync.errors import DiskFull, MigrationFailed, ReadOnly, RehearsalSkipped, TillkeeperError
from dbsync.migrations import history, runner
from dbsync.migrations.migration_file import text_of
from dbsync.model import NO_SCHEMA, Applied, Facts, Migration, MigrationKind, SchemaNumber, State
from dbsync.outcomes import OutcomeName
from dbsync.progress import Meter, Progress, quiet, safe
from dbsync.schema.declarations import declared
from dbsync.schema.sql_text import split
from dbsync.storage import file_calls
from dbsync.storage.connections import (
    Connection,
    is_wal_file,
    look,
    open_scratch,
    open_untouched,
    open_writing,
    translated,
)
from dbsync.storage.copied_files import copy_files
from dbsync.storage.introspection import TableKind, tables
from dbsync.upgrade import adoption_decision, decisions
from dbsync.verification.broken_causes import needs_sentence
from dbsync.verification.schema_copy import Schema, schema_of
from dbsync.verification.working import judge


class Would(StrEnum):
    """The action that an upgrade would take if it is not refused."""

    MIGRATE = "migrate"
    CREATE = "create"
    MARK = "mark"
    """Only rows of the history."""
    NOTHING = "nothing"


class TriedOn(StrEnum):
    """The copy on which the migrations were tried."""

    SCHEMA = "schema"
    """An empty copy of the schema."""
    DATA = "data"
    """A copy of everything, verified as well."""


class Statement(NamedTuple):
    """A statement of a migration and how often it is issued, without its parameters."""

    sql: str
    times: int


class Step(NamedTuple):
    """One migration that would run."""

    number: SchemaNumber
    name: str
    description: str
    kind: MigrationKind
    changes: tuple[str, ...]
    """Its declarations."""
    readable_from: SchemaNumber | None
    statements: tuple[Statement, ...]
    """All of an SQL file; of a Python migration those that it issued on the copy, each once, by first appearance."""


class DryRun(NamedTuple):
    """The result of a dry run."""

    would: Would | OutcomeName
    """The action; an outcome where the upgrade would be refused."""
    cause: str
    hint: str
    version: SchemaNumber
    latest: SchemaNumber
    steps: tuple[Step, ...]
    backs_up: bool
    tried_on: TriedOn
    problem: str
    """The failure on that copy; empty if there was none."""
    size_bytes: int
    space: tuple[preflight.Space, ...]
    measured_by: str
    """The run that measured time and space; empty if there was none: then the space is a rule of thumb."""
    expected_seconds: float | None


def dry_run(
    effects: LiveEffects, found: tuple[Migration, ...], *, on_copy: bool = False, progress: Progress = quiet
) -> DryRun:
    """Decide as an upgrade would, and try the migrations on a throw-away copy of the schema, or of everything.

    The copy is in memory or in the temporary folder of the system. Python migrations are run, and their effects outside
    of the database are real. Never call this for a database that this process has open (`sqlite.open_untouched`).

    Raises:
        TillkeeperError: the database cannot be read, or there is no space for the copy.
    """
    database = effects.database
    with _still(database) as path:
        facts, step = _decided(path, effects, found)
        decided = _as_decided(step)
        pending = decided.pending
        issued = _Issued()
        size_bytes = preflight.size_of(database)
        measured = measurements.measured(FlightRecorder(effects.backups, effects.database).lines(), pending, size_bytes)
        if on_copy and pending and facts.state is State.OK:
            problem, now = _on_data(path, found, issued, Meter(safe(progress)))
            # A failed run has measured nothing.
            measured = measured if problem else now
        else:
            problem = _on_schema(path, facts, found, pending, issued)
    return DryRun(
        would=decided.would,
        cause=decided.cause,
        hint=decided.hint,
        version=facts.version if facts.state is State.OK else NO_SCHEMA,
        latest=found[-1].number if found else NO_SCHEMA,
        steps=tuple(_step(migration, issued) for migration in pending),
        backs_up=decided.backs_up,
        tried_on=TriedOn.DATA if on_copy and facts.state is State.OK else TriedOn.SCHEMA,
        problem=problem,
        size_bytes=size_bytes,
        space=preflight.space(database=database, backups=effects.backups, measured=measured) if pending else (),
        measured_by=measured.by if measured is not None else "",
        expected_seconds=measured.expected_seconds if measured is not None else None,
    )


class _Issued:
    """A collector of statements, which counts repetitions."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str], int] = {}

    def __call__(self, migration: Migration, sql: str) -> None:
        key = migration.number, sql
        self._counts[key] = self._counts.get(key, 0) + 1

    def of(self, number: SchemaNumber) -> tuple[Statement, ...]:
        return tuple(Statement(key[1], count) for key, count in self._counts.items() if key[0] == number)


def _step(migration: Migration, issued: _Issued) -> Step:
    statements = _statements(migration, issued)
    return Step(
        migration.number,
        migration.name,
        migration.description,
        migration.kind,
        migration.changes,
        migration.readable_from,
        statements,
    )


def _statements(migration: Migration, issued: _Issued) -> tuple[Statement, ...]:
    match migration.kind:
        case MigrationKind.SQL:
            return tuple(Statement(text, 1) for text in split(text_of(migration.path)))
        case MigrationKind.PYTHON:
            return issued.of(migration.number)
        case MigrationKind.COMMAND:
            # The file that names the program, as it is.
            return (Statement(text_of(migration.path), 1),)
        case _:
            assert_never(migration.kind)


class _Decided(NamedTuple):
    would: Would | OutcomeName
    pending: tuple[Migration, ...] = ()
    backs_up: bool = False
    cause: str = ""
    hint: str = ""


def _as_decided(step: decisions.UpgradeStep) -> _Decided:
    match step:
        case decisions.Refuse():
            return _Decided(step.name, cause=step.cause, hint=step.hint)
        case decisions.Nothing():
            return _Decided(Would.NOTHING)
        case decisions.Migrate():
            would = Would.CREATE if step.fresh else Would.MIGRATE if step.pending else Would.MARK
            return _Decided(would, step.pending, step.backs_up)
        case _:
            assert_never(step)


@contextmanager
def _still(database: Path) -> Iterator[Path]:
    """A file of the same content that can be read without changing a byte: mostly the database itself.

    Where only SQLite's recovery could read it, a copy of its files is recovered; no process has it open then.
    """
    try:
        if database.exists():
            with translated("look at", database), closing(open_untouched(database)):
                pass
    except ReadOnly:
        with file_calls.temporary_folder() as folder:
            copied = copy_files(database=database, folder=Path(folder))
            with translated("recover a copy of", database), closing(open_writing(copied)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            yield copied
            return
    except TillkeeperError:
        # The look that follows reports this error.
        pass
    yield database


def _decided(path: Path, effects: LiveEffects, found: tuple[Migration, ...]) -> tuple[Facts, decisions.UpgradeStep]:
    facts = look(path, had_data=effects.traces, opened=open_untouched)
    applied: tuple[Applied, ...] = ()
    if facts.state is State.OK:
        with translated("read the history", path), closing(open_untouched(path)) as connection:
            applied = history.applied(connection)
    elif facts.state is State.UNTRACKED:
        with translated("recognise", path), closing(open_untouched(path)) as connection:
            step = recognition.decided_adoption(connection, found)
        match step:
            case decisions.Refuse():
                return facts, step
            case adoption_decision.Adopt():
                facts, applied = recognition.as_adopted(facts, step, found)
            case _:
                assert_never(step)
    return facts, decisions.decide_upgrade(facts, applied, found, None)


def _on_data(
    path: Path, found: tuple[Migration, ...], issued: _Issued, meter: Meter
) -> tuple[str, measurements.Measured]:
    scratch = Path(tempfile.gettempdir())
    try:
        preflight.check_rehearsal_space(database=path, folder=scratch)
    except RehearsalSkipped as error:
        raise DiskFull(
            operation="copy to", path=scratch, cause=error.cause, hint="Name a roomier folder by TMPDIR."
        ) from error
    with file_calls.temporary_folder() as folder:
        done, _ = rehearse.try_out(
            found,
            meter,
            database=path,
            folder=Path(folder),
            opened=open_untouched,
            writes_ahead=is_wal_file(path),
            issued=issued,
        )
    return done.cause, measurements.Measured(done.expected_seconds, done.needed_bytes, "this dry run")


def _on_schema(
    path: Path, facts: Facts, found: tuple[Migration, ...], pending: tuple[Migration, ...], issued: _Issued
) -> str:
    """Run the migrations on empty tables, one by one; return the first that fails and why, or an empty string."""
    with translated("try", path, otherwise=MigrationFailed), closing(open_scratch()) as scratch:
        before: Schema | None = None
        if facts.state is State.OK and pending:
            with closing(open_untouched(path)) as source:
                _copy_schema(source, scratch)
                before = schema_of(source)
        scratch.execute("PRAGMA foreign_keys=OFF")
        scratch.execute("BEGIN")
        for migration in pending:
            if migration.kind is MigrationKind.COMMAND:
                # A program needs a file with the data in it, which only `--on-copy` makes.
                return ""
            try:
                runner.apply_all(scratch, (migration,), issued=issued)
            except TillkeeperError as error:
                return f"v{migration.number} {migration.name}: {error.cause}"
        return _broken(before, schema_of(scratch), pending, found)


def _broken(before: Schema | None, after: Schema, pending: tuple[Migration, ...], found: tuple[Migration, ...]) -> str:
    """Return what the migrations break, and what they need undeclared; empty if nothing."""
    if not pending:
        return ""
    needs = [need for migration in found for need in migration.needs]
    judgement = judge(before, after, declared(pending), needs)
    return "; ".join([*judgement.failing, *map(needs_sentence, judgement.undeclared)])


def _copy_schema(source: Connection, scratch: Connection) -> None:
    version = source.execute("PRAGMA user_version").fetchone()[0]
    shadows = {name for name, facts in tables(source).items() if facts.kind is TableKind.SHADOW}
    rows = source.execute(
        "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
        " ORDER BY type <> 'table', type = 'trigger', rowid"
    ).fetchall()
    for name, sql in rows:
        if name not in shadows:
            scratch.execute(sql)
    scratch.execute(f"PRAGMA user_version={int(version)}")
