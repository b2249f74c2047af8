"""Alembic's script directories: `env.py` and `versions/`, read without Alembic, run by the real one in our transaction.

`env.py` is not run: it would open a connection of its own, on which Alembic commits after each revision or half of one
(sqlalchemy/alembic#1553). A revision's `upgrade()` is called in the context that `env.py` would have made, on a
connection that has no COMMIT. Reading a folder needs no Alembic, so a start with nothing to do costs no import of it.
"""

from __future__ import annotations

import ast
import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dbsync.engines import Recorded, foreign
from dbsync.errors import BadMigrations, DbsyncError, MigrationFailed
from dbsync.migrate import failed, namespace_of
from dbsync.migrations import listed, text_of
from dbsync.model import Migration
from dbsync.sandbox import Sandbox, cursor_of
from dbsync.sqlite import Connection, Cursor, has_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection as EngineConnection

TABLE: Final = "alembic_version"


class Revision(NamedTuple):
    """What a revision's file says of itself."""

    path: Path
    text: str
    revision: str
    parents: tuple[str, ...]


def load(folder: Path) -> tuple[Migration, ...]:
    """The revisions from the base to the one head, parents first; of two that may come first, the lower id does."""
    revisions = {one.revision: one for one in _revisions(folder / "versions")}
    heads = revisions.keys() - {parent for one in revisions.values() for parent in one.parents}
    if len(heads) > 1:
        cause = f"it has {len(heads)} heads ({', '.join(sorted(heads))}): merge them (`alembic merge`)"
        raise BadMigrations(operation="read", path=folder, cause=cause)
    declared = foreign.declarations(folder)
    foreign.check_known(folder, declared, {one.path.stem for one in revisions.values()})
    return tuple(
        foreign.migration(
            one.path, one.text, number=number, name=one.path.stem, engine="alembic", declared=declared
        )
        for number, one in enumerate(_ordered(folder, revisions), 1)
    )  # fmt: skip


def run(sandbox: Sandbox, migration: Migration) -> None:
    """Calls the revision's `upgrade()` with Alembic's operations on the open transaction.

    Raises:
        MigrationFailed: Alembic is not installed, or the revision failed.
    """
    try:
        from alembic.operations import Operations
        from alembic.runtime.migration import MigrationContext
        from sqlalchemy import create_engine
        from sqlalchemy.pool import StaticPool
    except ImportError as error:
        hint = "Install it on the terminals: pip install 'tillkeeper[alembic]'"
        raise MigrationFailed(
            operation="migrate", path=migration.path, cause=f"Alembic is not there: {error}", hint=hint
        ) from error
    engine = create_engine("sqlite://", creator=lambda: _Connection(sandbox), poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection)
            with Operations.context(context):
                _upgrade(migration, connection)
    except DbsyncError:
        raise
    except Exception as error:
        raise failed(migration, error) from error
    finally:
        engine.dispose()


def recorded(connection: Connection, migrations: tuple[Migration, ...]) -> Recorded | None:
    """The rows name the newest revisions; whatever these grew out of was run too."""
    if not has_table(connection, TABLE):
        return None
    rows = [str(row[0]) for row in connection.execute(f"SELECT version_num FROM {TABLE}")]
    if not migrations:
        return Recorded(frozenset(), tuple(f"revision {one}" for one in rows))
    revisions = {one.revision: one for one in _revisions(migrations[0].path.parent)}
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
    one = _revision(migration.path, text_of(migration.path))
    for parent in one.parents:
        connection.execute(f"DELETE FROM {TABLE} WHERE version_num = ?", (parent,))
    connection.execute(f"INSERT OR IGNORE INTO {TABLE} (version_num) VALUES (?)", (one.revision,))


def _upgrade(migration: Migration, connection: EngineConnection) -> None:
    upgrade = namespace_of(migration)["upgrade"]
    assert callable(upgrade)
    with connection.begin():
        upgrade()


def _revisions(folder: Path) -> Iterator[Revision]:
    for path in listed(folder):
        if path.suffix == ".py" and path.name != "__init__.py":
            yield _revision(path, text_of(path))


def _revision(path: Path, text: str) -> Revision:
    try:
        said = {name: ast.literal_eval(value) for name, value in _assigned(ast.parse(text, str(path)))}
        parents = said.get("down_revision") or ()
        found = Revision(path, text, str(said["revision"]), (parents,) if isinstance(parents, str) else tuple(parents))
    except (SyntaxError, ValueError, KeyError, TypeError) as cause:
        raise BadMigrations(operation="read", path=path, cause=f"it is no revision of Alembic's: {cause!r}") from cause
    if said.get("depends_on"):
        raise BadMigrations(operation="read", path=path, cause="depends_on is not supported: make it the down_revision")
    return found


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        targets: Sequence[ast.expr] = ()
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision", "depends_on") and node.value:  # type: ignore[attr-defined]
                yield target.id, node.value  # type: ignore[attr-defined]


def _ordered(folder: Path, revisions: dict[str, Revision]) -> Iterator[Revision]:
    waiting = {one.revision: len(one.parents) for one in revisions.values()}
    ready = [revision for revision, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    done = 0
    while ready:
        current = heapq.heappop(ready)
        done += 1
        yield revisions[current]
        for one in revisions.values():
            if current in one.parents:
                waiting[one.revision] -= 1
                if waiting[one.revision] == 0:
                    heapq.heappush(ready, one.revision)
    if done < len(revisions):
        left = sorted(revision for revision, count in waiting.items() if count > 0)
        cause = f"revision {left[0]} grows out of one that is not there, or out of itself"
        raise BadMigrations(operation="read", path=folder, cause=cause)


class _Connection:
    """What SQLAlchemy takes for a connection of sqlite3's. Every statement goes through the sandbox; COMMIT, ROLLBACK
    and closing are dbsync's alone."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox: Final = sandbox
        self.isolation_level: str | None = None
        self.in_transaction: Final = True
        self.row_factory: Any = None
        self.text_factory: Any = str

    def cursor(self) -> _Cursor:
        return _Cursor(self._sandbox)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> _Cursor:
        return self.cursor().execute(sql, parameters)

    def create_function(self, *arguments: Any, **values: Any) -> None:
        """SQLAlchemy offers `regexp`; a schema that needed it could not be opened by the app's own SQLite."""

    def commit(self) -> None:
        """The whole run commits once."""

    def rollback(self) -> None:
        """An error undoes the migration's savepoint."""

    def close(self) -> None:
        """It stays open."""


class _Cursor:
    arraysize = 1
    lastrowid: int | None = None

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox: Final = sandbox
        self._cursor: Cursor | None = None

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> _Cursor:
        self._cursor = cursor_of(self._sandbox, sql, parameters)
        self.lastrowid = self._cursor.lastrowid
        return self

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> _Cursor:
        for row in rows:
            self.execute(sql, row)
        return self

    @property
    def description(self) -> Any:
        return self._cursor.description if self._cursor is not None else None

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount if self._cursor is not None else -1

    def fetchone(self) -> Any:
        return self._cursor.fetchone() if self._cursor is not None else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return self._cursor.fetchmany(size or self.arraysize) if self._cursor is not None else []

    def fetchall(self) -> list[Any]:
        return self._cursor.fetchall() if self._cursor is not None else []

    def close(self) -> None:
        self._cursor = None
