"""Alembic's script directories: `env.py` and `versions/`, read without Alembic, run by Alembic in our transaction.

`env.py` is not run: it would open its own connection, on which Alembic commits after a revision or within one
(sqlalchemy/alembic#1553). A revision's `upgrade()` is called in the context that `env.py` would have made, on a
connection that has no COMMIT. Reading a folder needs no Alembic, so a start with nothing to do does not import it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import BadMigrations, MissingTool, TillkeeperError
from dbsync.migrations.engines import foreign
from dbsync.migrations.engines.alembic_connection import LentConnection
from dbsync.migrations.engines.alembic_folder import ENV, VERSIONS, ordered, revision_of, revisions_of
from dbsync.migrations.engines.engine import Engine, Recorded
from dbsync.migrations.engines.settings import SETTINGS, settings
from dbsync.migrations.migration_file import text_of
from dbsync.migrations.operations import Database
from dbsync.migrations.python_code import failed, namespace_of, refuse_unrun
from dbsync.model import EngineName, Migration, SchemaNumber
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import columns_of, has_table, ordinary_tables, quoted

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection as EngineConnection

TABLE: Final = "alembic_version"
_COLUMN: Final = "version_num"
_INI: Final = "alembic.ini"


class Alembic(Engine):
    """A script directory. The table has one row for each newest revision; the revisions that it depends on ran too."""

    name = EngineName.ALEMBIC
    # alembic.ini is not in the folder of migrations: a folder with it gets a clear error from `load`.
    marks = (ENV, f"{VERSIONS}/*.py", _INI)
    weak_marks = ()
    tables = (TABLE,)
    kept_files = ("*.py", "*.sql", "*.toml", f"{VERSIONS}/*.py")

    def folder_of(self, migration: Migration) -> Path:
        return migration.path.parent.parent

    def file_label(self, migration: Migration) -> str:
        return migration.path.name

    def load(self, folder: Path) -> tuple[Migration, ...]:
        """Return the revisions from the base to the head, parents first; of two that may be next, the lower id first.

        Raises:
            BadMigrations: the folder is not a script directory, or a file in it cannot be parsed.
        """
        if (folder / _INI).is_file() and not _is_script_directory(folder):
            cause = f"it has {_INI}: the folder of migrations is its script_location ({ENV} and {VERSIONS})"
            raise BadMigrations(operation="read", path=folder, cause=cause)
        revisions = ordered(folder, revisions_of(folder))
        _naming(folder)
        declared = foreign.declarations(folder)
        foreign.check_known(folder, declared, {revision.path.stem for revision in revisions})
        return tuple(
            foreign.migration(
                revision.path, revision.text, number=SchemaNumber(number), name=revision.path.stem, engine=self.name,
                declared=declared, entry="upgrade()",
            )
            for number, revision in enumerate(revisions, 1)
        )  # fmt: skip

    def run(self, db: Database, migration: Migration) -> None:
        """Call the revision's `upgrade()` with Alembic's operations on the open transaction.

        Raises:
            MigrationFailed: Alembic is not installed (`MissingTool`), or the revision failed.
        """
        try:
            import alembic as _  # noqa: F401 - checks that it is installed
            from sqlalchemy import create_engine
            from sqlalchemy.pool import StaticPool
        except ImportError as error:
            hint = "Install it on the terminals: pip install 'tillkeeper[alembic]'"
            raise MissingTool(
                operation="migrate", path=migration.path, cause=f"Alembic is not there: {error}", hint=hint
            ) from error
        engine = create_engine("sqlite://", creator=lambda: LentConnection(db), poolclass=StaticPool)
        try:
            with engine.connect() as connection:
                _upgrade(self.folder_of(migration), migration, connection, db.log)
        except TillkeeperError:
            raise
        except BaseException as error:
            raise failed(migration, error) from error
        finally:
            engine.dispose()

    def recorded(self, connection: Connection, migrations: tuple[Migration, ...]) -> Recorded | None:
        """Return the newest revisions, which the rows name, and all that these depend on."""
        if not has_table(connection, TABLE):
            return _under_another_name(connection)
        rows = [str(row[0]) for row in connection.execute(f"SELECT {_COLUMN} FROM {TABLE}")]
        if not migrations:
            return Recorded(frozenset(), tuple(f"revision {row}" for row in rows))
        revisions = revisions_of(self.folder_of(migrations[0]))
        names: set[str] = set()
        waiting = [row for row in rows if row in revisions]
        while waiting:
            revision = revisions[waiting.pop()]
            names.add(revision.path.stem)
            waiting += revision.parents
        return Recorded(frozenset(names), tuple(f"revision {row}" for row in rows if row not in revisions))

    def note(self, connection: Connection, migration: Migration) -> None:
        """Write Alembic's own row: the newest revision replaces its parents."""
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE} (version_num VARCHAR(32) NOT NULL,"
            f" CONSTRAINT {TABLE}_pkc PRIMARY KEY (version_num))"
        )
        revision = revision_of(migration.path, text_of(migration.path))
        for parent in revision.parents:
            connection.execute(f"DELETE FROM {TABLE} WHERE version_num = ?", (parent,))
        connection.execute(f"INSERT OR IGNORE INTO {TABLE} (version_num) VALUES (?)", (revision.revision,))


ENGINE: Final = Alembic()


def _is_script_directory(folder: Path) -> bool:
    return (folder / ENV).is_file() or any(folder.glob(f"{VERSIONS}/*.py"))


def _upgrade(folder: Path, migration: Migration, connection: EngineConnection, log: Callable[[str], None]) -> None:
    """Run `upgrade()` in the context that `env.py` would have made.

    An autocommit block is part of the one transaction too.
    """
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import MetaData

    upgrade = namespace_of(migration, log)["upgrade"]
    assert callable(upgrade)
    with EnvironmentContext(Config(), ScriptDirectory(str(folder))) as environment:
        environment.configure(connection=connection, target_metadata=MetaData(naming_convention=_naming(folder)))
        context = environment.get_context()
        context.autocommit_block = nullcontext  # type: ignore[method-assign, assignment]
        with Operations.context(context), connection.begin():
            refuse_unrun(migration, upgrade())


def _naming(folder: Path) -> dict[str, Any] | None:
    """Return the naming convention of the app's metadata, which `env.py` would have set: `[alembic.naming_convention]`.

    Raises:
        BadMigrations: the setting is not a table of strings.
    """
    said = settings(folder).get("alembic", {})
    names = said.get("naming_convention") if isinstance(said, dict) else said
    if names is None:
        return None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        cause = 'alembic.naming_convention must be a table of strings, as `uq = "uq_%(table_name)s_%(column_0_name)s"`'
        raise BadMigrations(operation="read", path=folder / SETTINGS, cause=cause)
    return names


def _under_another_name(connection: Connection) -> Recorded | None:
    """Return a problem if `version_table` seems to have another name: a table with only that column; else None."""
    for table in ordinary_tables(connection):
        if [column.name for column in columns_of(connection, table)] == [_COLUMN]:
            rename = f"ALTER TABLE {quoted(table)} RENAME TO {TABLE}"
            problem = f"Alembic's history seems to be in {table} (version_table), where it is not read: {rename}"
            return Recorded(frozenset(), problem=f"{problem}, and leave the option out")
    return None
