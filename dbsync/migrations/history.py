"""The database's own history: one table for machines, one for people, both written in the migration's transaction."""

from __future__ import annotations

from enum import StrEnum

from dbsync.model import Applied, Migration, ReleaseId, TrialId
from dbsync.storage.connections import HISTORY, READABLE, Connection
from dbsync.storage.introspection import columns_of, has_table

_TABLES = (
    f"""CREATE TABLE IF NOT EXISTS {HISTORY} (
        sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, number INTEGER, name TEXT, sha256 TEXT, trial_id TEXT,
        release_id TEXT, release_version TEXT, readable_from INTEGER, applied_at TEXT NOT NULL, duration_ms INTEGER,
        environment TEXT)""",
    f"""CREATE TABLE IF NOT EXISTS {READABLE} (
        version INTEGER PRIMARY KEY, migration_name TEXT NOT NULL, applied_at TEXT NOT NULL)""",
)
Release = tuple[ReleaseId | None, str | None]


class HistoryKind(StrEnum):
    """The kinds of rows in the history."""

    MIGRATION = "migration"
    """The migration ran."""
    ADOPTED = "adopted"
    """The database had the migration before dbsync knew it."""
    BLESSED = "blessed"
    """The database had an older text of the migration, which the newer one replaces."""
    STAMPED = "stamped"
    """A person stated that the database has the migration."""
    TRIAL = "trial"
    """The database belongs to this trial; `storage.connections` reads the newest of these rows."""
    READABLE = "readable"
    """A row of the readable table, where it is the only one; never written into the machine's table."""


def make_tables(connection: Connection) -> None:
    """Make both tables if they do not exist."""
    for statement in _TABLES:
        connection.execute(statement)


def is_whole(connection: Connection) -> bool:
    """Return whether SQLite knows both tables, and nothing else is attached to them.

    Only then a row can be written beside an object that SQLite cannot parse: an index or a trigger of these tables
    would be passed over.
    """
    tables = (HISTORY, READABLE)
    attached = "SELECT 1 FROM sqlite_master WHERE type <> 'table' AND tbl_name COLLATE NOCASE IN (?, ?)"
    known = all(columns_of(connection, table) for table in tables)
    return known and connection.execute(attached, tables).fetchone() is None


def add_migration(
    connection: Connection, migration: Migration, *, kind: HistoryKind, trial_id: TrialId | None, release: Release,
    at: str, duration_ms: int, environment: str | None = None,
) -> None:  # fmt: skip
    """Write a migration's row; `environment` is the one in which it ran, None if it did not run."""
    known = {column.name for column in columns_of(connection, HISTORY)}
    if environment is not None and "environment" not in known:
        # The table of an older product.
        connection.execute(f"ALTER TABLE {HISTORY} ADD COLUMN environment TEXT")
    readable_from = migration.readable_from if migration.readable_from is not None else migration.number
    values = {
        "kind": kind, "number": migration.number, "name": migration.name, "sha256": migration.sha256,
        "trial_id": trial_id, "release_id": release[0], "release_version": release[1], "readable_from": readable_from,
        "applied_at": at, "duration_ms": duration_ms, **({} if environment is None else {"environment": environment}),
    }  # fmt: skip
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {HISTORY} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
    connection.execute(
        f"INSERT OR IGNORE INTO {READABLE} (version, migration_name, applied_at) VALUES (?, ?, ?)",
        (migration.number, migration.name, at),
    )


def add_trial(connection: Connection, *, trial_id: TrialId, release: Release, at: str) -> None:
    """Write a trial's row, which shows whose database this is, also if no schema changed."""
    make_tables(connection)
    connection.execute(
        f"INSERT INTO {HISTORY} (kind, trial_id, release_id, release_version, applied_at) VALUES (?, ?, ?, ?, ?)",
        (HistoryKind.TRIAL, trial_id, *release, at),
    )


def applied(connection: Connection) -> tuple[Applied, ...]:
    """Return the migrations in the database's history, by number; the newest row of a number counts.

    If there is only the readable table (an older tool wrote it), they have names and no hashes: adopted by name.
    """
    if has_table(connection, HISTORY):
        rows = connection.execute(
            f"SELECT number, name, sha256, trial_id FROM {HISTORY} WHERE number IS NOT NULL ORDER BY sequence"
        )
        return tuple({row[0]: Applied(*row) for row in rows}.values())
    if has_table(connection, READABLE):
        rows = connection.execute(f"SELECT version, migration_name, '' FROM {READABLE} ORDER BY version")
        return tuple(Applied(*row) for row in rows)
    return ()


def rows(connection: Connection) -> list[dict[str, object]]:
    """Return the rows of the machine's table, oldest first; those of the readable table if there is no other."""
    sql = f"SELECT * FROM {HISTORY} ORDER BY sequence"
    if not has_table(connection, HISTORY):
        sql = (
            f"SELECT version AS sequence, '{HistoryKind.READABLE}' AS kind, version AS number, migration_name AS name,"
            " NULL AS sha256, NULL AS trial_id, NULL AS release_id, NULL AS release_version, NULL AS readable_from,"
            f" applied_at, NULL AS duration_ms, NULL AS environment FROM {READABLE} ORDER BY version"
        )
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
