"""Our own format: `NNNN_name.sql`, `.py` or `.toml`, by number, without gaps.

A `.toml` names a program of the app's own, which cannot run inside the transaction: `own_command` runs it on a copy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, assert_never

from dbsync.errors import BadMigrations, TillkeeperError
from dbsync.migrations.engines.engine import Engine, Recorded
from dbsync.migrations.engines.settings import COUNTERS, SETTINGS
from dbsync.migrations.migration_file import KINDS, METADATA, built, checked_text, listed, metadata, text_of
from dbsync.migrations.python_code import failed, namespace_of, refuse_unrun
from dbsync.model import EngineName, Migration, MigrationKind, SchemaNumber
from dbsync.storage.connections import HISTORY, READABLE, Connection
from dbsync.storage.introspection import has_table

if TYPE_CHECKING:
    from dbsync.migrations.operations import Database

_NAME: Final = re.compile(r"^(\d{4})_([a-z][a-z0-9_]*)\.(sql|py|toml)$")
_NUMBERED: Final = re.compile(r"^\d{4}_")
_NO_MIGRATIONS: Final = ("__init__.py", "__pycache__", COUNTERS)
"""Entries beside our migrations: those that Python adds to a folder, and the declaration of counters."""


class Own(Engine):
    """A folder of no other engine. The runner writes our history, for all engines alike."""

    name = EngineName.OWN
    marks = ()
    weak_marks = ()
    tables = (HISTORY, READABLE)
    kept_files = ("*.sql", "*.py", "*.toml")

    def folder_of(self, migration: Migration) -> Path:
        return migration.path.parent

    def file_label(self, migration: Migration) -> str:
        return migration.path.name

    def load(self, folder: Path) -> tuple[Migration, ...]:
        inside = listed(folder)
        paths = [
            path for path in inside if path.suffix.lower() in KINDS and path.name not in (*_NO_MIGRATIONS, SETTINGS)
        ]
        found = tuple(_load(path) for path in paths)
        if not found and any(path.name[0].isdigit() for path in inside):
            # A release may have no migrations, but a folder of files that are not read here must not pass for one.
            cause = f"it has no migration that is read here, and {inside[0].name}: is it another tool's?"
            raise BadMigrations(operation="read", path=folder, cause=cause)
        numbers = [migration.number for migration in found]
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        if twice:
            cause = f"the number {twice[0]:04d} is there more than once"
            raise BadMigrations(operation="read", path=folder, cause=cause)
        missing = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
        if missing:
            raise BadMigrations(operation="read", path=folder, cause=f"the number {missing[0]:04d} is missing")
        return found

    def run(self, db: Database, migration: Migration) -> None:
        """Run SQL statement by statement, or Python's `up(db)`; `own_command` runs programs."""
        match migration.kind:
            case MigrationKind.SQL:
                db.script(checked_text(migration))
            case MigrationKind.PYTHON:
                _run_python(db, migration)
            case MigrationKind.COMMAND:
                raise RuntimeError("a program runs on a copy, not in the sandbox")
            case _:
                assert_never(migration.kind)

    def recorded(self, connection: Connection, migrations: tuple[Migration, ...]) -> Recorded | None:
        """Return the names in the readable table: an older tool may have written only that table."""
        if not has_table(connection, READABLE):
            return None
        names = {str(row[0]) for row in connection.execute(f"SELECT migration_name FROM {READABLE}")}
        known = {migration.name for migration in migrations}
        return Recorded(frozenset(names & known), tuple(sorted(names - known)))

    def note(self, connection: Connection, migration: Migration) -> None:
        """Write nothing: `history` writes our rows."""


ENGINE: Final = Own()


def _run_python(db: Database, migration: Migration) -> None:
    up = namespace_of(migration, db.log)["up"]
    assert callable(up)
    try:
        refuse_unrun(migration, up(db))
    except TillkeeperError:
        raise
    except BaseException as error:
        raise failed(migration, error) from error


def is_all_ours(folder: Path) -> bool:
    """Return whether all names in a folder are those of our migrations: then it cannot be another tool's.

    Raises:
        BadMigrations: there is no such folder.
        DiskProblem: it cannot be read now.
    """
    return all(path.name in _NO_MIGRATIONS or _NAME.match(path.name) for path in listed(folder))


def passed_over(folder: Path) -> list[Path]:
    """Return files that look like migrations but are not read, as editors leave them: `0007_add_barcode.sql.txt`."""
    return [path for path in listed(folder) if _NUMBERED.match(path.name) and path.suffix.lower() not in KINDS]


def _load(path: Path) -> Migration:
    match = _NAME.match(path.name)
    if match is None:
        cause = "a migration's file is named like 0007_add_barcode.sql or 0007_add_barcode.py"
        cause += f'; another tool\'s folder says so in {SETTINGS} (engine = "numbered")'
        raise BadMigrations(operation="read", path=path, cause=cause)
    text = text_of(path)
    values = _command_metadata(path, text) if path.suffix == ".toml" else metadata(path, text, entry="up(db)")
    return built(path, text, values, number=SchemaNumber(int(match[1])), name=match[2])


def _command_metadata(path: Path, text: str) -> Mapping[str, Any]:
    """Return the metadata of a program: the words that start it, and the queries that prove its work."""
    import tomllib

    try:
        values = tomllib.loads(text)
    except ValueError as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
    words = values.get("command")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise BadMigrations(operation="read", path=path, cause="command must be a list of strings")
    if not any("{database}" in word for word in words):
        raise BadMigrations(operation="read", path=path, cause="no word of the command is or holds {database}")
    proofs = values.get("proves", [])
    if not isinstance(proofs, list) or not all(isinstance(sql, str) for sql in proofs):
        raise BadMigrations(operation="read", path=path, cause="proves must be a list of queries")
    timeout_seconds = values.get("timeout_seconds", 1)
    if not isinstance(timeout_seconds, int | float) or timeout_seconds <= 0:
        raise BadMigrations(operation="read", path=path, cause="timeout_seconds must be a number above 0")
    unknown = sorted(values.keys() - {*METADATA, "command", "timeout_seconds", "proves"})
    if unknown:
        raise BadMigrations(operation="read", path=path, cause=f"{', '.join(unknown)}: not known")
    return values
