"""Adoption of a database that another tool, or no tool, has migrated so far: recording which schema it has."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import assert_never

from dbsync.backups import catalog
from dbsync.database.live import LiveEffects
from dbsync.errors import Damaged, TillkeeperError, Untracked
from dbsync.migrations.history import HistoryKind
from dbsync.migrations.migration_file import DOUBLE_QUOTED
from dbsync.migrations.sandbox import Sandbox
from dbsync.model import Backup, BackupKind, Facts, Migration, SchemaNumber, State
from dbsync.storage.connections import Connection, open_scratch
from dbsync.storage.introspection import tables_of
from dbsync.upgrade import adoption_decision, decisions, preparation


def baseline(
    effects: LiveEffects, found: tuple[Migration, ...], *, at: SchemaNumber | None, dry_run: bool
) -> SchemaNumber:
    """Record which schema a database has, where the evidence leaves no doubt, and return its number.

    The app's own tables are not touched. A copy of the database as it was is kept beside it first.

    Raises:
        Untracked: the schema cannot be determined, or the database is tracked already; nothing was changed.
    """
    facts = effects.look()
    if facts.state is not State.UNTRACKED:
        cause = f"it is tracked already, at schema {facts.version}" if facts.state is State.OK else _state_of(facts)
        raise Untracked(operation="adopt", path=effects.database, cause=cause, hint="There is nothing to adopt.")
    step = adoption_decision.decide_adoption(effects.recognise(found), found, at)
    match step:
        case decisions.Refuse():
            raise Untracked(operation="adopt", path=effects.database, cause=step.cause, hint=step.hint)
        case adoption_decision.Adopt():
            if not dry_run:
                _write(effects, found[: step.version], kind=HistoryKind.ADOPTED)
            return step.version
        case _:
            assert_never(step)


def stamp(effects: LiveEffects, found: tuple[Migration, ...], *, at: SchemaNumber) -> Backup | None:
    """Record that a database has schema `at` because a person states it, and return the database as it was.

    This resolves a history that differs (a migration that was edited after its release), and a structure that no
    release made. Conservation and the drift of the structure are judged from here on.

    Raises:
        Untracked: there is no such schema, or no database.
    """
    facts = effects.look()
    if facts.state not in (State.UNTRACKED, State.OK):
        raise Untracked(operation="stamp", path=effects.database, cause=_state_of(facts))
    if not 0 <= at <= len(found):
        raise Untracked(operation="stamp", path=effects.database, cause=f"there is no schema {at} of {len(found)}")
    return _write(effects, found[:at], kind=HistoryKind.STAMPED)


def written_schema(connection: Connection) -> str:
    """Return the structure of a database as the text of a first migration.

    Tables come first, then the objects that depend on them. The tables of SQLite, of other tools and of dbsync are left
    out. Where the schema has strings in double quotes, the text says so, and is run as it was made.
    """
    tables = {table.lower() for table in tables_of(connection)}
    rows = connection.execute(
        "SELECT type, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
        " ORDER BY CASE type WHEN 'table' THEN 1 WHEN 'index' THEN 2 WHEN 'view' THEN 3 ELSE 4 END, rowid"
    )
    kept = [str(sql) for kind, table, sql in rows if kind in ("view", "trigger") or str(table).lower() in tables]
    text = "".join(f"{sql};\n\n" for sql in kept)
    strings = f"-- strings: {DOUBLE_QUOTED}\n" if '"' in text and _has_strings_in_double_quotes(text) else ""
    return f"-- description: The schema as it was adopted\n{strings}\n{text}"


def _has_strings_in_double_quotes(text: str) -> bool:
    """Return whether the rule for the SQL of migrations refuses a schema: there a "name" never is a string."""
    with closing(open_scratch()) as connection:
        connection.execute("BEGIN")
        with Sandbox(connection, lambda _: None, Path()) as sandbox:
            try:
                sandbox.script(text)
            except TillkeeperError:
                return True
    return False


def _state_of(facts: Facts) -> str:
    return f"it is {facts.state}" + (f": {facts.detail}" if facts.detail else "")


def _write(effects: LiveEffects, found: tuple[Migration, ...], *, kind: HistoryKind) -> Backup | None:
    effects.preflight(())
    adopted = kind is HistoryKind.ADOPTED
    aside = preparation.put_aside(effects, BackupKind.BEFORE_BASELINE if adopted else BackupKind.BEFORE_STAMP)
    effects.begin()
    try:
        effects.adopt(found, kind=kind)
        # A crash before this line leaves the database as it was, and a copy that is not needed.
        effects.commit()
    except TillkeeperError as error:
        effects.rollback()
        if isinstance(error, Damaged) and aside is not None:
            # Nothing was written, and a copy of a damaged database is of no use for a restore.
            catalog.remove(aside.path)
        raise
    return aside
