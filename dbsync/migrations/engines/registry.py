"""Whose migrations a folder holds: our own, Drizzle's, Alembic's, or plain numbered SQL of some other tool.

An engine reads its folder into migrations, runs one in the open transaction, and knows the table in which its tool
keeps what it ran: read to adopt a database, and written beside our own history, so that the tool agrees with us after.
All of them run inside the one transaction; what cannot, a program of the app's own, is a migration of kind "command".
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from dbsync.errors import BadMigrations
from dbsync.model import Migration

if TYPE_CHECKING:
    from dbsync.migrations.sandbox import Sandbox
    from dbsync.storage.connections import Connection

OWN: Final = "own"
SETTINGS: Final = "engine.toml"
"""In the folder of migrations: `engine = "numbered"`, and what is declared of files that must not be edited."""
NAMES: Final = ("drizzle", "alembic", "numbered")


class Recorded(NamedTuple):
    """What a tool's own table says."""

    names: frozenset[str]
    """Names of migrations that it ran."""
    unknown: tuple[str, ...] = ()
    """What it names and the folder has not."""
    problem: str = ""
    """Why nothing can be told from it."""


class Engine(Protocol):
    """One tool's format."""

    def load(self, folder: Path) -> tuple[Migration, ...]:
        """All migrations of a folder, in the order in which they run, numbered from 1."""

    def run(self, sandbox: Sandbox, migration: Migration) -> None:
        """Runs one in the open transaction."""

    def recorded(self, connection: Connection, migrations: tuple[Migration, ...]) -> Recorded | None:
        """What the tool's own table in the database says; None without such a table."""

    def note(self, connection: Connection, migration: Migration) -> None:
        """Writes into that table, in the same transaction, what the tool itself would have written."""


_NO_FOLDER: Final = (FileNotFoundError, NotADirectoryError)


def engine_of(folder: Path) -> str:
    """The engine of a folder, by marks that cannot be mistaken or by its settings; own where there are none.

    Raises:
        BadMigrations: it cannot be looked into.
    """
    try:
        if (folder / "meta" / "_journal.json").is_file():
            return "drizzle"
        if (folder / "env.py").is_file() or any(folder.glob("versions/*.py")):
            return "alembic"
        if (folder / "alembic.ini").is_file():
            cause = "it has alembic.ini: the folder of migrations is its script_location (env.py and versions)"
            raise BadMigrations(operation="read", path=folder, cause=cause)
        name = settings(folder).get("engine") if (folder / SETTINGS).is_file() else None
        if name is None:
            return "drizzle" if any(folder.glob("*/migration.sql")) else OWN
    except OSError as cause:
        # `is_file` raises what is neither yes nor no, a folder above that may not be entered for instance.
        raise unreadable(folder, cause) from cause
    if name not in (OWN, *NAMES):
        raise BadMigrations(
            operation="read", path=folder / SETTINGS, cause=f"{name!r} is no engine: {', '.join((OWN, *NAMES))}"
        )
    return str(name)


def unreadable(path: Path, cause: OSError) -> BadMigrations:
    """The error for a folder of migrations, or a file in it, that cannot be read."""
    hint = "Make it readable for this user." if isinstance(cause, PermissionError) else ""
    hint = "Name the folder that holds the migrations." if isinstance(cause, _NO_FOLDER) else hint
    return BadMigrations(operation="read", path=path, cause=cause.strerror or str(cause), hint=hint)


def named(name: str) -> Engine:
    """An engine by its name; nothing of it is loaded before."""
    return cast("Engine", import_module(f"dbsync.migrations.engines.{name}"))


def settings(folder: Path) -> dict[str, object]:
    """What the folder's settings say; empty without any."""
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
