"""Alembic's script directories: `env.py` and `versions/`, read without Alembic, run by the real one in our transaction.

`env.py` is not run: it would open a connection of its own, on which Alembic commits after each revision or half of one
(sqlalchemy/alembic#1553). A revision's `upgrade()` is called in the context that `env.py` would have made, on a
connection that has no COMMIT. Reading a folder needs no Alembic, so a start with nothing to do costs no import of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import BadMigrations, MigrationFailed, TillkeeperError
from dbsync.migrations.engines import foreign
from dbsync.migrations.engines.alembic_connection import SandboxConnection
from dbsync.migrations.engines.alembic_folder import ordered, revision_of, revisions_of
from dbsync.migrations.engines.registry import SETTINGS, Recorded, settings
from dbsync.migrations.folder import folder_of, text_of
from dbsync.migrations.runner import STOPPED, failed, namespace_of
from dbsync.migrations.sandbox import Sandbox
from dbsync.model import Migration
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import columns_of, has_table, ordinary_tables, quoted

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection as EngineConnection

TABLE: Final = "alembic_version"
_COLUMN: Final = "version_num"


def load(folder: Path) -> tuple[Migration, ...]:
    """The revisions from the base to the one head, parents first; of two that may come first, the lower id does."""
    revisions = ordered(folder, revisions_of(folder))
    _naming(folder)
    declared = foreign.declarations(folder)
    foreign.check_known(folder, declared, {one.path.stem for one in revisions})
    return tuple(
        foreign.migration(
            one.path, one.text, number=number, name=one.path.stem, engine="alembic", declared=declared
        )
        for number, one in enumerate(revisions, 1)
    )  # fmt: skip


def run(sandbox: Sandbox, migration: Migration) -> None:
    """Calls the revision's `upgrade()` with Alembic's operations on the open transaction.

    Raises:
        MigrationFailed: Alembic is not installed, or the revision failed.
    """
    try:
        import alembic as _  # noqa: F401 - whether it is there
        from sqlalchemy import create_engine
        from sqlalchemy.pool import StaticPool
    except ImportError as error:
        hint = "Install it on the terminals: pip install 'tillkeeper[alembic]'"
        raise MigrationFailed(
            operation="migrate", path=migration.path, cause=f"Alembic is not there: {error}", hint=hint
        ) from error
    engine = create_engine("sqlite://", creator=lambda: SandboxConnection(sandbox), poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            _upgrade(migration, connection, sandbox.log)
    except TillkeeperError:
        raise
    except STOPPED as error:
        raise failed(migration, error) from error
    finally:
        engine.dispose()


def recorded(connection: Connection, migrations: tuple[Migration, ...]) -> Recorded | None:
    """The rows name the newest revisions; whatever these grew out of was run too."""
    if not has_table(connection, TABLE):
        return _under_another_name(connection)
    rows = [str(row[0]) for row in connection.execute(f"SELECT {_COLUMN} FROM {TABLE}")]
    if not migrations:
        return Recorded(frozenset(), tuple(f"revision {one}" for one in rows))
    revisions = revisions_of(folder_of(migrations[0]))
    names: set[str] = set()
    waiting = [one for one in rows if one in revisions]
    while waiting:
        one = revisions[waiting.pop()]
        names.add(one.path.stem)
        waiting += one.parents
    return Recorded(frozenset(names), tuple(f"revision {one}" for one in rows if one not in revisions))


def note(connection: Connection, migration: Migration) -> None:
    """Alembic's own row: the newest revision in the place of its parents."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {TABLE} (version_num VARCHAR(32) NOT NULL,"
        f" CONSTRAINT {TABLE}_pkc PRIMARY KEY (version_num))"
    )
    one = revision_of(migration.path, text_of(migration.path))
    for parent in one.parents:
        connection.execute(f"DELETE FROM {TABLE} WHERE version_num = ?", (parent,))
    connection.execute(f"INSERT OR IGNORE INTO {TABLE} (version_num) VALUES (?)", (one.revision,))


def _upgrade(migration: Migration, connection: EngineConnection, log: Callable[[str], None]) -> None:
    """In the context that `env.py` would have made; a block for autocommit is part of the one transaction, like all."""
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import MetaData

    folder = folder_of(migration)
    upgrade = namespace_of(migration, log)["upgrade"]
    assert callable(upgrade)
    with EnvironmentContext(Config(), ScriptDirectory(str(folder))) as environment:
        environment.configure(connection=connection, target_metadata=MetaData(naming_convention=_naming(folder)))
        context = environment.get_context()
        context.autocommit_block = nullcontext  # type: ignore[method-assign, assignment]
        with Operations.context(context), connection.begin():
            upgrade()


def _naming(folder: Path) -> dict[str, Any] | None:
    """The naming convention of the app's metadata, which `env.py` would have told: `[alembic.naming_convention]`.

    Raises:
        BadMigrations: it is none.
    """
    said = settings(folder).get("alembic", {})
    names = said.get("naming_convention") if isinstance(said, dict) else said
    if names is None:
        return None
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        cause = 'alembic.naming_convention has to be a table of texts, as `uq = "uq_%(table_name)s_%(column_0_name)s"`'
        raise BadMigrations(operation="read", path=folder / SETTINGS, cause=cause)
    return names


def _under_another_name(connection: Connection) -> Recorded | None:
    """`version_table` can be any name; the table is known by its one column."""
    for table in ordinary_tables(connection):
        if [column.name for column in columns_of(connection, table)] == [_COLUMN]:
            rename = f"ALTER TABLE {quoted(table)} RENAME TO {TABLE}"
            problem = f"Alembic's history seems to be in {table} (version_table), where it is not read: {rename}"
            return Recorded(frozenset(), problem=f"{problem}, and leave the option out")
    return None
