"""Plain numbered SQL of other tools: `001_init.sql`, `V2__more.sql`, `20240101_x.up.sql`, with or without an "up" mark.

The order is that of the numbers, which may have gaps or be times; our own number is the position in that order. These
tables are read, and updated if they exist: `schema_migrations` (golang-migrate, dbmate) and `goose_db_version`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dbsync.errors import BadMigrations
from dbsync.migrations.engines import foreign
from dbsync.migrations.engines.engine import Engine, Recorded
from dbsync.migrations.engines.settings import SETTINGS
from dbsync.migrations.migration_file import checked_text, listed, text_of
from dbsync.migrations.operations import Database
from dbsync.model import EngineName, Migration, SchemaNumber
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import columns_of, has_table, version_of

_NAME: Final = re.compile(r"^[Vv]?(\d+)(?:[-_. ]+.*?)?(?:\.up)?\.sql$")
_DOWN_FILE: Final = re.compile(r"\.down\.sql$", re.IGNORECASE)
_UP: Final = re.compile(r"^[ \t]*--\s*(?:migrate:up|\+goose\s+up)\b.*$", re.IGNORECASE | re.MULTILINE)
_DOWN: Final = re.compile(r"^[ \t]*--\s*(?:migrate:down|\+goose\s+down)\b.*$", re.IGNORECASE | re.MULTILINE)
_BLOCK: Final = re.compile(r"^[ \t]*--\s*\+goose\s+statement(?:begin|end)\b.*$", re.IGNORECASE | re.MULTILINE)
_FROM_OUTSIDE: Final = re.compile(r"^[ \t]*--\s*\+goose\s+envsub\s+on\b", re.IGNORECASE | re.MULTILINE)
_CODE: Final = re.compile(r"^[Vv]?\d+.*\.(?:go|js|mjs|cjs|ts|mts|py|rb|php|java|kt|cs|sh)$", re.IGNORECASE)
VERSIONS: Final = "schema_migrations"
GOOSE: Final = "goose_db_version"


class Numbered(Engine):
    """A folder whose settings name this engine: such files have no mark that no other format has."""

    name = EngineName.NUMBERED
    marks = ()
    weak_marks = ()
    tables = (VERSIONS, GOOSE)
    kept_files = ("*.sql", SETTINGS)

    def folder_of(self, migration: Migration) -> Path:
        return migration.path.parent

    def file_label(self, migration: Migration) -> str:
        return migration.path.name

    def load(self, folder: Path) -> tuple[Migration, ...]:
        """Return the SQL files by the number in front of their names, without the down migrations of some tools."""
        files = [path for path in listed(folder) if _is_read(path)]
        by_number: dict[int, Path] = {}
        for path in files:
            number = _number(path)
            if number in by_number:
                cause = f"the number {number} is there more than once: {by_number[number].name} and {path.name}"
                raise BadMigrations(operation="read", path=folder, cause=cause)
            by_number[number] = path
        declared = foreign.declarations(folder)
        foreign.check_known(folder, declared, {path.stem for path in files})
        return tuple(
            foreign.migration(
                path, _text_of(path), number=SchemaNumber(place), name=path.stem, engine=self.name, declared=declared
            )
            for place, (_, path) in enumerate(sorted(by_number.items()), 1)
        )  # fmt: skip

    def run(self, db: Database, migration: Migration) -> None:
        """Run the text between the marks for up and down, or all of it if there are none."""
        text = checked_text(migration)
        up, down = _UP.search(text), _DOWN.search(text)
        begin = up.end() if up else 0
        way_up = "\n" * text.count("\n", 0, begin) + text[begin : down.start() if down else None]
        # A block of goose is one statement, with or without a semicolon.
        foreign.run(db, way_up, cut=_BLOCK)

    def recorded(self, connection: Connection, migrations: tuple[Migration, ...]) -> Recorded | None:
        """Return the migrations in the tool's table, else by user_version, often the number of the newest file."""
        known = {_number(migration.path): migration.name for migration in migrations}
        if has_table(connection, VERSIONS):
            rows = connection.execute(f"SELECT * FROM {VERSIONS}").fetchall()
            if not _keeps_newest_only(connection):
                return _named(known, [str(row[0]) for row in rows])
            if any(row[1] for row in rows):
                cause = f"its tool was cut in the middle of version {rows[0][0]} and left it marked as dirty"
                return Recorded(frozenset(), problem=f"{cause}: fix that with the tool (`migrate force`) first")
            return _up_to(known, int(rows[0][0]) if rows else 0)
        if has_table(connection, GOOSE):
            ways = connection.execute(f"SELECT version_id, is_applied FROM {GOOSE} WHERE version_id > 0 ORDER BY id")
            # A down migration adds a row that says so: the newest row of each version counts.
            return _named(known, [str(version) for version, is_applied in dict(ways.fetchall()).items() if is_applied])
        version = version_of(connection)
        return _up_to(known, version) if version else None

    def note(self, connection: Connection, migration: Migration) -> None:
        """Write into the tool's table if there is one; user_version is ours."""
        number = _number(migration.path)
        if has_table(connection, VERSIONS):
            if _keeps_newest_only(connection):
                connection.execute(f"DELETE FROM {VERSIONS}")
                connection.execute(f"INSERT INTO {VERSIONS} (version, dirty) VALUES (?, 0)", (number,))
            else:
                text = re.sub(r"\D.*", "", migration.path.name.lstrip("Vv"))
                connection.execute(f"INSERT OR IGNORE INTO {VERSIONS} (version) VALUES (?)", (text,))
        elif has_table(connection, GOOSE):
            connection.execute(f"INSERT INTO {GOOSE} (version_id, is_applied) VALUES (?, 1)", (number,))


ENGINE: Final = Numbered()


def _keeps_newest_only(connection: Connection) -> bool:
    """Return whether the table is golang-migrate's, with one row: the newest version, and whether it is dirty."""
    return any(column.name.lower() == "dirty" for column in columns_of(connection, VERSIONS))


def _named(known: dict[int, str], rows: list[str]) -> Recorded:
    numbers = {int(row) for row in rows if row.isdigit()}
    unknown = [row for row in rows if not row.isdigit() or int(row) not in known]
    return Recorded(
        frozenset(known[number] for number in numbers if number in known), tuple(f"version {row}" for row in unknown)
    )


def _up_to(known: dict[int, str], version: int) -> Recorded:
    names = frozenset(name for number, name in known.items() if number <= version)
    return Recorded(names, () if version in known or not version else (f"version {version}",))


def _is_read(path: Path) -> bool:
    """Return whether a file is a migration; one that cannot be read here is an error, not a silent gap.

    Raises:
        BadMigrations: it is a migration in code, in a folder of its own, or with its extension in capitals.
    """
    cause = ""
    if path.is_dir() and any(path.glob("*.sql")):
        cause = "SQL files in folders of their own are not read"
    elif path.suffix != ".sql" and path.suffix.lower() == ".sql":
        cause = "the ending is .sql, in small letters"
    elif _CODE.match(path.name):
        cause = "it is a migration in code, which its tool alone can run; a program can run the tool on a copy"
    if cause:
        raise BadMigrations(operation="read", path=path, cause=cause)
    return path.suffix == ".sql" and not _DOWN_FILE.search(path.name)


def _text_of(path: Path) -> str:
    """Return a file's text, if its marks are unambiguous."""
    text = text_of(path)
    up, down = _UP.search(text), _DOWN.search(text)
    cause = ""
    if down is not None and (up is None or down.start() < up.start()):
        cause = "it marks the way down before the way up, or no way up at all"
    elif _FROM_OUTSIDE.search(text):
        cause = "it wants words from the environment (ENVSUB): a terminal's is not the vendor's"
    if cause:
        raise BadMigrations(operation="read", path=path, cause=cause)
    return text


def _number(path: Path) -> int:
    match = _NAME.match(path.name)
    if match is None:
        raise BadMigrations(operation="read", path=path, cause="its name does not begin with a number")
    return int(match[1])
