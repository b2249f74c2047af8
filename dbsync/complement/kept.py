"""The two tables in which a database keeps its complement, and how they are read and written.

A row of `dbsync_kept_rows` is one row, or one object of the schema, that the database at schema `schema` had and that
this older database cannot hold. Its cells are in `dbsync_kept_cells`, in columns without a type: values stay exact.
`predicted` is the cell as the migrations make it from this database, `value` is the cell as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from dbsync.complement.exact_values import Value, bound
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import KEPT_CELLS, KEPT_ROWS, has_table

_TABLES: Final = (
    f"""CREATE TABLE IF NOT EXISTS main.{KEPT_ROWS} (
        id INTEGER PRIMARY KEY, schema INTEGER NOT NULL, generation INTEGER NOT NULL, kind TEXT NOT NULL,
        table_name TEXT NOT NULL, place INTEGER, state TEXT NOT NULL, reason TEXT)""",
    f"""CREATE TABLE IF NOT EXISTS main.{KEPT_CELLS} (
        row_id INTEGER NOT NULL, position INTEGER NOT NULL, column_name TEXT NOT NULL, is_key INTEGER NOT NULL,
        sides TEXT NOT NULL, predicted, value, PRIMARY KEY (row_id, position)) WITHOUT ROWID""",
)


class KeptKind(StrEnum):
    """The kinds of rows that are kept."""

    ADDED = "added"
    """A row that the migrations do not make."""
    CHANGED = "changed"
    """A row that they make otherwise."""
    REMOVED = "removed"
    """A row that they make, and that was not there."""
    OBJECT = "object"
    """A table, column, index, trigger or view that they do not make; its cells are `type`, `table` and `sql`."""


class KeptState(StrEnum):
    """The states of a row that is kept."""

    WAITING = "waiting"
    CONFLICT = "conflict"
    """It could not be put back when the database came to its schema; its `reason` says why."""


class Sides(StrEnum):
    """The sides on which a cell has a value."""

    BOTH = "both"
    PREDICTED = "predicted"
    VALUE = "value"


class KeptCell(NamedTuple):
    """One cell of a row that is kept."""

    column: str
    is_key: bool
    sides: Sides
    predicted: Value
    value: Value


class KeptRow(NamedTuple):
    """One row that is kept."""

    id: int
    schema: int
    generation: int
    kind: KeptKind
    table: str
    place: int | None
    """The rowid that an added row had, which other rows may refer to.

    Of another row without a key: the one that it has after the migrations, if rows equal to it are there.
    """
    state: KeptState
    reason: str | None
    cells: tuple[KeptCell, ...]


class Counted(NamedTuple):
    """How many rows of a table are kept for a schema."""

    schema: int
    table: str
    state: KeptState
    rows_count: int


def make_tables(connection: Connection) -> None:
    """Make both tables, if they do not exist."""
    for statement in _TABLES:
        connection.execute(statement)


def drop_if_empty(connection: Connection) -> None:
    """Drop both tables if nothing is kept: the database is then as if there had never been anything."""
    if connection.execute(f"SELECT 1 FROM main.{KEPT_ROWS} LIMIT 1").fetchone() is None:
        connection.execute(f"DROP TABLE main.{KEPT_CELLS}")
        connection.execute(f"DROP TABLE main.{KEPT_ROWS}")


def drop(connection: Connection) -> None:
    """Drop both tables with all that they hold, if they exist."""
    for table in (KEPT_CELLS, KEPT_ROWS):
        connection.execute(f"DROP TABLE IF EXISTS main.{table}")


def exists(connection: Connection, schema: str = "main") -> bool:
    """Return whether a database has the tables."""
    return has_table(connection, KEPT_ROWS, schema) and has_table(connection, KEPT_CELLS, schema)


def counted(connection: Connection, schema: str = "main") -> list[Counted]:
    """Return how much is kept, by schema, table and state."""
    if not exists(connection, schema):
        return []
    rows = connection.execute(
        f"SELECT schema, table_name, state, count(*) FROM {schema}.{KEPT_ROWS}"
        " GROUP BY schema, table_name, state ORDER BY schema, table_name, state"
    )
    return [Counted(int(number), str(table), KeptState(state), int(count)) for number, table, state, count in rows]


def generations(connection: Connection, number: int) -> list[int]:
    """Return the generations that wait for a schema, oldest first: each was made on top of the earlier ones."""
    if not exists(connection):
        return []
    rows = connection.execute(
        f"SELECT DISTINCT generation FROM main.{KEPT_ROWS} WHERE schema = ? AND state = ? ORDER BY generation",
        (number, KeptState.WAITING),
    )
    return [int(generation) for (generation,) in rows.fetchall()]


def waiting_schemas(connection: Connection, schema: str = "main") -> set[int]:
    """Return the schemas for which something waits."""
    return {entry.schema for entry in counted(connection, schema) if entry.state is KeptState.WAITING}


def next_generation(connection: Connection) -> int:
    """Return the number of a new generation."""
    row = connection.execute(f"SELECT coalesce(max(generation), 0) + 1 FROM main.{KEPT_ROWS}").fetchone()
    return int(row[0])


def rows(connection: Connection, number: int, generation: int) -> Iterator[KeptRow]:
    """Yield the rows of one generation that wait for a schema, in their order."""
    found = connection.execute(
        f"SELECT id, schema, generation, kind, table_name, place, state, reason FROM main.{KEPT_ROWS}"
        " WHERE schema = ? AND generation = ? AND state = ? ORDER BY id",
        (number, generation, KeptState.WAITING),
    ).fetchall()
    for row in found:
        yield _kept_row(connection, "main", row)


def all_rows(connection: Connection, schema: str = "main") -> Iterator[KeptRow]:
    """Yield everything that is kept, oldest first."""
    if not exists(connection, schema):
        return
    sql = f"SELECT id, schema, generation, kind, table_name, place, state, reason FROM {schema}.{KEPT_ROWS} ORDER BY id"
    for row in connection.execute(sql).fetchall():
        yield _kept_row(connection, schema, row)


def _kept_row(connection: Connection, schema: str, row: tuple[object, ...]) -> KeptRow:
    row_id, number, generation, kind, table, place, state, reason = row
    cells = connection.execute(
        f"SELECT column_name, is_key, sides, predicted, value FROM {schema}.{KEPT_CELLS}"
        " WHERE row_id = ? ORDER BY position",
        (row_id,),
    ).fetchall()
    return KeptRow(
        int(str(row_id)), int(str(number)), int(str(generation)), KeptKind(str(kind)), str(table),
        None if place is None else int(str(place)),
        KeptState(str(state)), None if reason is None else str(reason),
        tuple(KeptCell(str(name), bool(key), Sides(sides), predicted, value)
              for name, key, sides, predicted, value in cells),
    )  # fmt: skip


def add(connection: Connection, row: KeptRow) -> None:
    """Write one row; its `id` is chosen anew."""
    cursor = connection.execute(
        f"INSERT INTO main.{KEPT_ROWS} (schema, generation, kind, table_name, place, state, reason)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (row.schema, row.generation, row.kind, row.table, row.place, row.state, row.reason),
    )
    for position, cell in enumerate(row.cells):
        marks, values = bound([cell.predicted, cell.value])
        connection.execute(
            f"INSERT INTO main.{KEPT_CELLS} (row_id, position, column_name, is_key, sides, predicted, value)"
            f" VALUES (?, ?, ?, ?, ?, {', '.join(marks)})",
            (cursor.lastrowid, position, cell.column, int(cell.is_key), cell.sides, *values),
        )


def remove(connection: Connection, row_id: int) -> None:
    """Remove one row: it is live."""
    connection.execute(f"DELETE FROM main.{KEPT_CELLS} WHERE row_id = ?", (row_id,))
    connection.execute(f"DELETE FROM main.{KEPT_ROWS} WHERE id = ?", (row_id,))


def refuse(connection: Connection, row_id: int, reason: str) -> None:
    """Record why a row could not be put back; it stays."""
    connection.execute(
        f"UPDATE main.{KEPT_ROWS} SET state = ?, reason = ? WHERE id = ?", (KeptState.CONFLICT, reason, row_id)
    )
