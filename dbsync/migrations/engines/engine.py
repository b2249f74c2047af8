"""The interface of an engine: all that dbsync knows about one format of migrations and the tool behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dbsync.model import EngineName, Migration

if TYPE_CHECKING:
    from dbsync.migrations.operations import Database
    from dbsync.storage.connections import Connection


class Recorded(NamedTuple):
    """The contents of a tool's own table."""

    names: frozenset[str]
    """Names of the migrations that the tool ran."""
    unknown: tuple[str, ...] = ()
    """Entries of the table that the folder does not have."""
    problem: str = ""
    """Why the table cannot be used."""


class Engine(ABC):
    """One format of migrations.

    Each engine is a module of this package with the engine's name, which has it as `ENGINE`; its further modules begin
    with that name. `registry` finds it. It keeps no state: one value serves all folders and databases.
    """

    @property
    @abstractmethod
    def name(self) -> EngineName:
        """The engine's name, as settings and messages have it."""

    @property
    @abstractmethod
    def marks(self) -> tuple[str, ...]:
        """Patterns of files that no other format has: one of them decides, whatever the folder's settings say."""

    @property
    @abstractmethod
    def weak_marks(self) -> tuple[str, ...]:
        """Patterns of files that decide where the folder's settings name no engine."""

    @property
    @abstractmethod
    def tables(self) -> tuple[str, ...]:
        """The tables in which the tool records its migrations: not part of an app's schema."""

    @property
    @abstractmethod
    def kept_files(self) -> tuple[str, ...]:
        """Patterns of the files of a folder without which it cannot be loaded and run again from a copy."""

    @abstractmethod
    def folder_of(self, migration: Migration) -> Path:
        """Return the folder that a migration was loaded from."""

    @abstractmethod
    def file_label(self, migration: Migration) -> str:
        """Return the name by which people know a migration's file among those of its folder."""

    @abstractmethod
    def load(self, folder: Path) -> tuple[Migration, ...]:
        """Return all migrations of a folder, in the order in which they run, numbered from 1.

        Raises:
            BadMigrations: a file in it cannot be parsed.
        """

    @abstractmethod
    def run(self, db: Database, migration: Migration) -> None:
        """Run a migration in the open transaction; one in Python in the process for code, with `db` at its other end.

        Raises:
            MigrationFailed: the migration failed; the caller undoes its savepoint.
        """

    @abstractmethod
    def recorded(self, connection: Connection, migrations: tuple[Migration, ...]) -> Recorded | None:
        """Return the contents of the tool's own table in the database; None without such a table."""

    @abstractmethod
    def note(self, connection: Connection, migration: Migration) -> None:
        """Write into the tool's table, in the same transaction, the row that the tool itself would have written."""
