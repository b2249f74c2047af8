"""The checks before COMMIT: soundness, foreign keys, structure, conservation. Each check is a function."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.errors import VerificationFailed
from dbsync.migrations.runner import fresh_structure
from dbsync.migrations.write_log import Written, tables_in
from dbsync.model import NO_SCHEMA, Migration, MigrationKind
from dbsync.progress import Told, nobody
from dbsync.schema.declarations import Declared, declared
from dbsync.schema.fingerprint import differences, structure_of
from dbsync.storage.connections import (
    Connection,
    Thoroughness,
    check_soundness,
    findings_of,
    open_reading,
    refused_rows,
)
from dbsync.storage.introspection import key_of, quoted, tables_of, version_of
from dbsync.storage.sql_tokens import words_of
from dbsync.verification.broken_causes import needs_sentence
from dbsync.verification.conservation import OLD, SameColumns, findings
from dbsync.verification.definition_changes import only_renamed
from dbsync.verification.schema_copy import schema_of
from dbsync.verification.working import Judgement, judge

LIMIT_SECONDS: Final = 900.0
"""Time limit for the proof that nothing else changed."""
SHOWN_COUNT: Final = 5
MISMATCH: Final = ""
"""Stands for the parent where a foreign key refers to columns that are no key; no table has this name."""


class Case(NamedTuple):
    """Input of a verification check."""

    connection: Connection
    """In the open transaction: the database as it would be committed."""
    migrations: tuple[Migration, ...]
    """All migrations of the release."""
    has_old: bool
    """Whether the database before the migration is attached as OLD; False for a fresh database."""
    touched: Written | None = None
    """The writes, as the authorizer saw them; None: unknown."""
    told: Told = nobody
    """Receives the name of the running check, and how many of how many rows are compared."""
    thoroughness: Thoroughness = Thoroughness.QUICK
    has_run: bool = True
    """Whether migrations ran; False: the database is examined as it is."""
    same: SameColumns | None = None
    """Filled by `conserved`, for `foreign_keys`; None: every foreign key that may be broken is looked up."""


Check = Callable[[Case], list[str]]


def verify(case: Case, checks: tuple[Check, ...]) -> None:
    """Run every check.

    Raises:
        VerificationFailed: with the findings, as sentences.
    """
    found = []
    for check in checks:
        # Checks that SQLite runs by itself report no progress.
        case.told(0, 0, check.__name__.replace("_", " "))
        found += check(case)
    if found:
        more = f" and {len(found) - SHOWN_COUNT} more" if len(found) > SHOWN_COUNT else ""
        raise VerificationFailed(operation="verify", cause="; ".join(found[:SHOWN_COUNT]) + more)


def soundness(case: Case) -> list[str]:
    """Return the problems that SQLite finds: it works inside the transaction and sees what would be committed."""
    if not findings_of(case.connection, case.thoroughness):
        return []
    problem = check_soundness(case.connection, case.thoroughness)
    return [f"the database would not be sound: {problem}"] if problem is not None else _newly_refused(case)


def _newly_refused(case: Case) -> list[str]:
    """Return the tables with more rows that their CHECK constraints refuse; one from before must stop no update."""
    before: dict[str, int] = {}
    if case.has_old:
        (path,) = (row[2] for row in case.connection.execute("PRAGMA database_list") if row[1] == OLD)
        renamed = {old: new.lower() for old, new in _allowed(case).tables.items()}
        # Not through the attached copy: SQLite loads no CHECK constraints of a database that it may only read.
        with closing(open_reading(Path(path))) as old:
            before = {renamed.get(name.lower(), name.lower()): count for name, count in refused_rows(old).items()}
    found = []
    for table, count in sorted(refused_rows(case.connection).items()):
        if (more := count - before.get(table.lower(), 0)) > 0:
            found.append(f"CHECK constraint failed in {table}: {more} rows")
    return found


def foreign_keys(case: Case) -> list[str]:
    """Return the new violations; one that existed before must not stop updates for ever.

    Only tables that are new, were written, refer to a written table, or have other foreign keys than before are
    checked: no other can have changed. Nor can those whose cells on both sides are proven to be the same as before
    (decision 51). ADD COLUMN writes no row, and its default may refer to nothing. A table whose renaming is declared is
    compared with itself under its old name, and so is a renamed parent.
    """
    tables = _to_look_at(case)
    now = _violations(case.connection, "main", tables)
    # Counting the earlier violations costs as much again: only if there are any now.
    before = _violations_before(case, tables) if case.has_old and now else {}
    found = []
    for (table, parent), count in now.items():
        more = count - before.get((table.lower(), parent.lower()), 0)
        if more > 0 and parent == MISMATCH:
            found.append(f"{table} refers to columns that are not unique (foreign key mismatch)")
        elif more > 0:
            found.append(f"{more} rows of {table} refer to rows of {parent} that are not there")
    return found


def _violations_before(case: Case, tables: list[str]) -> dict[tuple[str, str], int]:
    """Return the violations before the migration, by the names in lower case that the tables have after it."""
    allowed = _allowed(case)
    renamed = {old: new.lower() for old, new in allowed.tables.items() if not allowed.gone_in_between("table", old)}
    former = {new: old for old, new in renamed.items()}
    wanted = {former.get(table.lower(), table.lower()) for table in tables}
    old_tables = [table for table in tables_of(case.connection, OLD) if table.lower() in wanted]
    found: dict[tuple[str, str], int] = {}
    for (table, parent), count in _violations(case.connection, OLD, old_tables).items():
        key = renamed.get(table.lower(), table.lower()), renamed.get(parent.lower(), parent.lower())
        found[key] = found.get(key, 0) + count
    return found


def _to_look_at(case: Case) -> list[str]:
    tables = tables_of(case.connection)
    if case.touched is None or not case.has_old:
        return tables
    before, touched = {name.lower() for name in tables_of(case.connection, OLD)}, tables_in(case.touched)
    found = []
    for table in tables:
        rows = _foreign_keys(case.connection, "main", table)
        names = {table.lower(), *(str(row[2]).lower() for row in rows)}
        if (
            table.lower() not in before
            or rows != _foreign_keys(case.connection, OLD, table)
            or (names & touched and not _has_same_references(case, table, rows, touched))
        ):
            found.append(table)
    return found


def _has_same_references(case: Case, table: str, rows: list[tuple[object, ...]], touched: frozenset[str]) -> bool:
    """Return whether the foreign keys of a table provably have the same cells on both sides as before.

    The keys are those of before. The parent's definition decides what a cell refers to, so that must be the same too,
    with its indexes.
    """
    if case.same is None:
        return False
    needed = {table.lower(): {str(row[3]).lower() for row in rows}}
    for row in rows:
        parent, column = str(row[2]), row[4]
        columns = [str(column)] if column is not None else key_of(case.connection, parent)
        needed.setdefault(parent.lower(), set()).update(name.lower() for name in columns)
    return all(
        columns <= case.same.get(name, frozenset()) for name, columns in needed.items() if name in touched
    ) and all(
        _definition(case.connection, "main", parent) == _definition(case.connection, OLD, parent)
        for parent in {str(row[2]) for row in rows}
    )


def _definition(connection: Connection, schema: str, table: str) -> list[tuple[object, ...]]:
    return connection.execute(
        f"SELECT type, name, sql FROM {schema}.sqlite_schema"
        " WHERE tbl_name = ? COLLATE NOCASE AND type IN ('table', 'index') ORDER BY type, name",
        (table,),
    ).fetchall()


def _foreign_keys(connection: Connection, schema: str, table: str) -> list[tuple[object, ...]]:
    return connection.execute(f"PRAGMA {schema}.foreign_key_list({quoted(table)})").fetchall()


def _violations(connection: Connection, name: str, tables: list[str]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    known = {name.lower() for name in tables_of(connection, name)}
    for table in tables:
        if table.lower() in known:
            try:
                for row in connection.execute(f"PRAGMA {name}.foreign_key_check({quoted(table)})"):
                    found[row[0], row[2]] = found.get((row[0], row[2]), 0) + 1
            except sqlite3.OperationalError as error:
                if "mismatch" not in str(error):
                    raise
                # The referenced columns have no unique index: nothing can be checked, which counts as one violation.
                found[table, MISMATCH] = 1
    return found


def structure(case: Case) -> list[str]:
    """Return how the structure differs from that of a fresh database; earlier differences are no failure.

    The structure that a program of the app would make from nothing is unknown: there conservation alone judges.
    """
    if any(migration.kind is MigrationKind.COMMAND for migration in case.migrations):
        return []
    drift = _drift(case.connection, "main", case.migrations)
    if case.has_old:
        version = version_of(case.connection, OLD)
        earlier = tuple(migration for migration in case.migrations if migration.number <= version)
        before = _drift(case.connection, OLD, earlier) if drift else set()
        allowed = declared(case.migrations[len(earlier) :])
        known = [tuple(words_of(difference)) for difference in before]
        drift = {
            difference for difference in drift - before
            if not any(only_renamed(allowed, was, tuple(words_of(difference))) for was in known)
        }  # fmt: skip
    return [f"the structure differs from a fresh database: {difference}" for difference in sorted(drift)]


def _drift(connection: Connection, name: str, migrations: tuple[Migration, ...]) -> set[str]:
    return differences(structure_of(connection, name), fresh_structure(migrations))


def conserved(case: Case) -> list[str]:
    """Return the differences that no migration of this run declares."""
    if not case.has_old:
        return []
    allowed = _allowed(case)
    found = findings(
        case.connection,
        allowed,
        written=case.touched,
        limit_seconds=LIMIT_SECONDS,
        heard=case.told,
        same=case.same,
    )
    if any(finding.is_about_structure for finding in found) and _judged(case).failing:
        # With the declaration alone the migration would pass this check, and what it breaks would stay broken.
        found = [finding.without_structural_advice for finding in found]
    return [finding.sentence for finding in found]


def objects_work(case: Case) -> list[str]:
    """Return what the migration breaks: statements on tables and views that worked before, or on new ones."""
    return _judged(case).failing


def needs_declared(case: Case) -> list[str]:
    """Return the functions and other parts of the app that the migration makes the schema need, undeclared."""
    return [needs_sentence(need) for need in _judged(case).undeclared] if case.has_run else []


def _judged(case: Case) -> Judgement:
    before = schema_of(case.connection, OLD) if case.has_old else None
    needs = [need for migration in case.migrations for need in migration.needs]
    return judge(before, schema_of(case.connection), _allowed(case), needs)


def _allowed(case: Case) -> Declared:
    """Return what the migrations of this run declare."""
    version = version_of(case.connection, OLD) if case.has_old else NO_SCHEMA
    return declared(migration for migration in case.migrations if migration.number > version)


CHECKS: Final[tuple[Check, ...]] = (soundness, structure, objects_work, needs_declared, conserved, foreign_keys)
