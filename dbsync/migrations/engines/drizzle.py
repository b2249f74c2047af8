"""Drizzle's folders and its table: one SQL file for each migration, in either of drizzle-kit's layouts.

Drizzle itself runs all migrations newer than the newest time stamp in its table (drizzle-orm 0.45), or all that its
table does not name, in any order (1.0). It never looks at hashes (`sqlite-core/dialect`, `migrator.utils`). Here they
decide.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dbsync.migrations.engines import drizzle_folders, foreign
from dbsync.migrations.engines.drizzle_folders import Entry
from dbsync.migrations.engines.engine import Engine, Recorded
from dbsync.migrations.engines.settings import SETTINGS
from dbsync.migrations.migration_file import checked_text, text_of
from dbsync.migrations.operations import Database
from dbsync.model import EngineName, Migration, SchemaNumber
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import columns_of, has_table, ordinary_tables, quoted

TABLE: Final = "__drizzle_migrations"
BREAKPOINT: Final = re.compile("--> statement-breakpoint")
_COLUMNS: Final = {"id", "hash", "created_at"}
_NEWER: Final = {"name", "applied_at"}


class Drizzle(Engine):
    """A folder in either of drizzle-kit's layouts; the table is drizzle-orm's."""

    name = EngineName.DRIZZLE
    marks = (drizzle_folders.JOURNAL,)
    # Prisma's folders look alike; a folder that has such ones beside another format needs an engine in its settings.
    weak_marks = (f"*/{drizzle_folders.FILE}",)
    tables = (TABLE,)
    kept_files = (
        "*.sql", SETTINGS, drizzle_folders.JOURNAL, f"*/{drizzle_folders.FILE}", f"*/{drizzle_folders.SNAPSHOT}",
    )  # fmt: skip

    def folder_of(self, migration: Migration) -> Path:
        return migration.path.parent.parent if _has_folder(migration) else migration.path.parent

    def file_label(self, migration: Migration) -> str:
        """Return the name of the migration's own folder if it has one: all files have the same name then."""
        return migration.path.parent.name if _has_folder(migration) else migration.path.name

    def load(self, folder: Path) -> tuple[Migration, ...]:
        entries = drizzle_folders.entries(folder)
        declared = foreign.declarations(folder)
        foreign.check_known(folder, declared, {entry.name for entry in entries})
        return tuple(
            foreign.migration(
                entry.path, text_of(entry.path), number=SchemaNumber(number), name=entry.name, engine=self.name,
                declared=declared,
            )
            for number, entry in enumerate(entries, 1)
        )  # fmt: skip

    def run(self, db: Database, migration: Migration) -> None:
        """Run the statements between breakpoints: a breakpoint ends a statement, with or without a semicolon.

        To SQLite a breakpoint would be a comment in the middle of a statement.
        """
        foreign.run(db, checked_text(migration), cut=BREAKPOINT)

    def recorded(self, connection: Connection, migrations: tuple[Migration, ...]) -> Recorded | None:
        """Return the recorded migrations, by name if the table has names, and by the hash of the file; both must match.

        A checkout with other line ends is the same file; of two files with the same text the earlier one ran first.
        """
        if not has_table(connection, TABLE):
            return _under_another_name(connection)
        name = "name" if _has_names(connection) else "NULL"
        left = {migration.name: drizzle_folders.hashes_of(migration.path) for migration in migrations}
        known, unknown = set[str](), []
        for digest, said in connection.execute(f"SELECT hash, {name} FROM {TABLE} ORDER BY created_at, rowid"):
            fits = said if said in left else next((tag for tag, hashes in left.items() if digest in hashes), None)
            if fits is None:
                unknown.append(f"a migration with hash {str(digest)[:12]}")
            elif digest not in left.pop(fits):
                unknown.append(f"{fits} with another text")
            else:
                known.add(fits)
        return Recorded(frozenset(known), tuple(unknown))

    def note(self, connection: Connection, migration: Migration) -> None:
        """Write the row that Drizzle writes, so that its own migrator finds nothing to do."""
        entries = drizzle_folders.entries(self.folder_of(migration))
        entry = next(entry for entry in entries if entry.name == migration.name)
        if not has_table(connection, TABLE):
            connection.execute(_table(entry))
        values: dict[str, object] = {"hash": drizzle_folders.hash_of(entry.path), "created_at": entry.when}
        if entry.has_folder and _has_names(connection):
            now = connection.execute("SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')").fetchone()[0]
            values |= {"name": entry.name, "applied_at": now}
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO {TABLE} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))


ENGINE: Final = Drizzle()


def _has_folder(migration: Migration) -> bool:
    return migration.path.name == drizzle_folders.FILE


def _table(entry: Entry) -> str:
    """Return the statement by which drizzle-orm creates the table, 0.45 or 1.0."""
    if entry.has_folder:
        columns = "id INTEGER PRIMARY KEY, hash text NOT NULL, created_at numeric, name text, applied_at TEXT"
    else:
        columns = "id SERIAL PRIMARY KEY, hash text NOT NULL, created_at numeric"
    return f"CREATE TABLE {TABLE} ({columns})"


def _has_names(connection: Connection) -> bool:
    """Return whether drizzle-orm 1.0 created or upgraded the table."""
    return any(column.name == "name" for column in columns_of(connection, TABLE))


def _under_another_name(connection: Connection) -> Recorded | None:
    """Return a problem if `migrationsTable` seems to have another name: a table with these columns; else None."""
    for table in ordinary_tables(connection):
        columns = {column.name for column in columns_of(connection, table)}
        if columns in (_COLUMNS, _COLUMNS | _NEWER):
            rename = f"ALTER TABLE {quoted(table)} RENAME TO {TABLE}"
            problem = f"Drizzle's history seems to be in {table} (migrationsTable), where it is not read: {rename}"
            return Recorded(frozenset(), problem=f"{problem}, and leave the option out")
    return None
