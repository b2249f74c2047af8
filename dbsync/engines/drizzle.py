"""Drizzle's folders, as drizzle-kit 0.31 writes them: `meta/_journal.json` and one SQL file for each of its entries.

Drizzle itself runs what is newer than the newest time stamp in its table and never looks at hashes, so a migration that
came in between by a merge is skipped for ever (drizzle-orm 0.45, `sqlite-core/dialect`). Here order and hash decide.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from dbsync.engines import Recorded, foreign
from dbsync.errors import BadMigrations
from dbsync.migrations import checked_text, text_of
from dbsync.model import Migration
from dbsync.sandbox import Sandbox
from dbsync.sqlite import Connection, has_table

TABLE: Final = "__drizzle_migrations"


def load(folder: Path) -> tuple[Migration, ...]:
    """The journal's entries in its order."""
    tags = [str(one["tag"]) for one in _entries(folder)]
    declared = foreign.declarations(folder)
    foreign.check_known(folder, declared, set(tags))
    found = []
    for number, tag in enumerate(tags, 1):
        path = folder / f"{tag}.sql"
        text = text_of(path)
        found.append(foreign.migration(path, text, number=number, name=tag, engine="drizzle", declared=declared))
    return tuple(found)


def run(sandbox: Sandbox, migration: Migration) -> None:
    """Its breakpoints are comments to SQLite, and its PRAGMA foreign_keys would do nothing inside a transaction."""
    foreign.run(sandbox, checked_text(migration))


def recorded(connection: Connection, migrations: tuple[Migration, ...]) -> Recorded | None:
    """By the hash of a file's bytes; a checkout with other line ends is the same file."""
    if not has_table(connection, TABLE):
        return None
    names = {digest: one.name for one in migrations for digest in _hashes(one.path)}
    rows = [str(row[0]) for row in connection.execute(f"SELECT hash FROM {TABLE} ORDER BY created_at")]
    return Recorded(
        frozenset(names[one] for one in rows if one in names),
        tuple(f"a migration with hash {one[:12]}" for one in rows if one not in names),
    )


def note(connection: Connection, migration: Migration) -> None:
    """The row that Drizzle writes, so that its own migrator finds nothing to do."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {TABLE} (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at numeric)"
    )
    when = next(one["when"] for one in _entries(migration.path.parent) if one["tag"] == migration.name)
    digest = hashlib.sha256(_bytes(migration.path)).hexdigest()
    connection.execute(f"INSERT INTO {TABLE} (hash, created_at) VALUES (?, ?)", (digest, when))


def _entries(folder: Path) -> list[dict[str, Any]]:
    path = folder / "meta" / "_journal.json"
    try:
        journal = json.loads(path.read_bytes())
        entries = journal["entries"]
        if journal["dialect"] not in ("sqlite", "turso"):
            raise BadMigrations(operation="read", path=path, cause=f"it is for {journal['dialect']}, not for SQLite")
        if not all(isinstance(one["tag"], str) and isinstance(one["when"], int) for one in entries):
            raise BadMigrations(operation="read", path=path, cause="an entry has no tag and time")
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise BadMigrations(operation="read", path=path, cause=f"it is no journal of Drizzle's: {cause!r}") from cause
    return list(entries)


def _hashes(path: Path) -> set[str]:
    data = _bytes(path)
    lines = data.replace(b"\r\n", b"\n")
    return {hashlib.sha256(one).hexdigest() for one in (data, lines, lines.replace(b"\n", b"\r\n"))}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
