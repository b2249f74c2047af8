"""Differences between two databases, table by table, in SQL: counts, rows, whether they are the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.model import Loss
from dbsync.schema.fingerprint import fingerprint
from dbsync.storage import missing_parts
from dbsync.storage.connections import HISTORY, Connection, Row, kind_of
from dbsync.storage.introspection import (
    ColumnKind,
    TableFacts,
    app_tables,
    columns_of,
    facts_of,
    has_table,
    key_of,
    quoted,
    rowid_of,
    shadows_of,
    tables_of,
    version_of,
)
from dbsync.verification import exports
from dbsync.verification.keyed_matching import Twins, null_keys, own_value
from dbsync.verification.row_matching import Keyed, Pair, Rows
from dbsync.verification.structure_diff import structure_differences

_ENTRIES: Final = "_docsize"
"""The end of the name of the table in which FTS4 and FTS5 keep one row for each entry."""


class Shared(NamedTuple):
    """A table that both databases have, with the columns that both have."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """Its primary key, if that is the same on both sides; else empty."""
    virtual: bool = False


def differences(
    connection: Connection, base: str, *, only: frozenset[str] | None = None, whole: bool = False
) -> tuple[Loss, ...]:
    """Return how `main` differs from `base` (an attached database), per table; only tables that differ.

    A table on one side only counts as a whole: all its rows are added, or removed. `only` names, in lower case, the
    tables that can differ; None: any. `whole` is for two databases of one schema: then values in columns that only one
    side has count too, and differences in structure follow as entries of their own.
    """
    found = []
    now, before = app_tables(connection), app_tables(connection, base)
    for table in sorted(now.keys() | before.keys()):
        if table in now and table in before:
            if only is not None and table.lower() not in only:
                continue
            loss = _difference(connection, base, now[table], before[table], whole)
        elif table in now:
            loss = Loss(table, _count(connection, "main", now[table]), 0, 0)
        else:
            loss = Loss(table, 0, 0, _count(connection, base, before[table]))
        if loss.added or loss.changed or loss.removed:
            found.append(loss)
    return (*found, *(structure_differences(connection, base) if whole else ()))


def first_written(connection: Connection, base: str) -> Loss | None:
    """Return the first table whose rows differ, in the columns that both sides have; None if there is none."""
    now, before = app_tables(connection), app_tables(connection, base)
    losses = (_difference(connection, base, now[name], before[name], False) for name in sorted(now) if name in before)
    return next((loss for loss in losses if loss.added or loss.changed or loss.removed), None)


def shared(connection: Connection, base: str, table: str) -> Shared:
    """Return the columns that a table has on both sides, and its key."""
    sides = (facts_of(connection, table, side) for side in ("main", base))
    now = columns_of(connection, table)
    before = {column.name for column in columns_of(connection, table, base) if column.kind is not ColumnKind.HIDDEN}
    columns = tuple(column.name for column in now if column.is_written and column.name in before)
    key = tuple(key_of(connection, table))
    known = set(key) <= set(columns) and tuple(key_of(connection, table, base)) == key
    return Shared(table, columns, key if known else (), any(facts is not None and facts.is_virtual for facts in sides))


def same(connection: Connection, base: str) -> bool:
    """Return whether two databases have the same version, structure and content, history and trial rows included."""
    if version_of(connection) != version_of(connection, base):
        return False
    if fingerprint(connection) != fingerprint(connection, base) or differences(connection, base):
        return False
    return _history(connection, "main") == _history(connection, base)


def _history(connection: Connection, schema: str) -> list[Row]:
    known = has_table(connection, HISTORY, schema)
    return connection.execute(f"SELECT * FROM {schema}.{HISTORY}").fetchall() if known else []


def _difference(connection: Connection, base: str, now: TableFacts, before: TableFacts, whole: bool) -> Loss:
    if now.is_contentless or before.is_contentless:
        return _loss_of_entries(connection, base, now.name)
    table = shared(connection, base, now.name)
    try:
        return _loss(connection, base, table, _only_now(connection, base, now.name) if whole else ())
    except sqlite3.OperationalError as error:
        if kind_of(error) is not None:
            raise
        return _loss_without_key(connection, base, table, whole=whole)


def _loss_without_key(connection: Connection, base: str, table: Shared, *, whole: bool) -> Loss:
    """Return how a table differs whose key SQLite cannot compare here, such as one with a collation of the app's.

    One that cannot be read at all counts as one changed row where everything must be accounted for.

    Raises:
        sqlite3.OperationalError: it cannot be read at all.
    """
    try:
        if rowid_of(connection, table.table) is None:
            with readable(connection, base, table.table):
                added, removed = _by_content(connection, base, table).counted_by_content()
            return Loss(table.table, added, 0, removed)
        twins = Twins(connection, table.table, table.columns, (), now="main", base=base)
        counts = twins.counts()
    except sqlite3.OperationalError as other:
        if kind_of(other) is not None or not whole:
            raise
        return Loss(table.table, 0, 1, 0)
    return Loss(table.table, *counts)


@contextmanager
def readable(connection: Connection, base: str, table: str) -> Iterator[None]:
    """A block in which a table can be read that is stored in the order of a collation of the app's.

    Only from one end to the other, with every cell compared by its bytes: a row cannot be found by its key.
    """
    # A SELECT from such a table has "no query solution"; a check of it names the collation.
    checks = (f"PRAGMA {side}.quick_check({quoted(table)})" for side in ("main", base))
    with missing_parts.stand_ins(connection, *checks) as stubs:
        if stubs:
            # The key of a table stays out of use, once a statement has missed its collation, until it is read anew.
            connection.execute("PRAGMA writable_schema=RESET")
        yield


def _only_now(connection: Connection, base: str, table: str) -> tuple[str, ...]:
    before = {column.name.lower() for column in columns_of(connection, table, base)}
    now = columns_of(connection, table)
    return tuple(column.name for column in now if column.is_written and column.name.lower() not in before)


def _loss_of_entries(connection: Connection, base: str, search: str) -> Loss:
    """Return how a contentless search index differs, by its shadow tables: its own columns are all NULL.

    If only the index itself differs, one changed entry is reported: the number cannot be determined.
    """
    now, before = shadows_of(connection, search), shadows_of(connection, search, base)
    losses = {name: _loss(connection, base, shared(connection, base, name)) for name in now if name in before}
    sizes = losses.get(f"{search}{_ENTRIES}", Loss(search, 0, 0, 0))
    if sizes.added or sizes.changed or sizes.removed:
        return sizes._replace(table=search)
    differs = now != before or any(loss.added or loss.changed or loss.removed for loss in losses.values())
    return Loss(search, 0, int(differs), 0)


def _count(connection: Connection, schema: str, table: TableFacts) -> int:
    """Return how many rows a table has; for a contentless search index how many entries, 1 if that is unknown."""
    if not table.is_contentless:
        return _one(connection, f"SELECT count(*) FROM {schema}.{quoted(table.name)}")
    entries = f"{table.name}{_ENTRIES}"
    known = has_table(connection, entries, schema)
    return _one(connection, f"SELECT count(*) FROM {schema}.{quoted(entries)}") if known else 1


def _loss(connection: Connection, base: str, table: Shared, only_now: tuple[str, ...] = ()) -> Loss:
    rows = _by_content(connection, base, table)
    # A row with a value in a column that the other side lacks differs.
    values = own_value(connection, table.table, only_now, schema="main", row="n")
    more = _one(connection, f"SELECT count(*) FROM main.{quoted(table.table)} n WHERE {values}") if values else 0
    # Looking for a rowid in a virtual table may mean reading all of it: there the quick way is not quick.
    if not table.columns or (not table.virtual and rows.proven):
        return Loss(table.table, 0, more, 0)
    if table.key and not any(null_keys(connection, table.table, table.key, side) for side in ("main", base)):
        twins = Twins(
            connection, table.table, table.columns, table.key, now="main", base=base, now_only=only_now
        )  # fmt: skip
        return Loss(table.table, *twins.counts())
    added, removed = rows.counted_by_content()
    return Loss(table.table, added, more, removed)


def _by_content(connection: Connection, base: str, table: Shared) -> Rows:
    pairs = tuple(Pair(column, column) for column in table.columns)
    return Rows(connection, base, Keyed(table.table, table.table, (), table.virtual), pairs, ())


def export(connection: Connection, base: str, losses: tuple[Loss, ...], folder: Path) -> list[Path]:
    """Write the rows that `main` has and `base` lacks, for each differing table, as CSV and as SQL (`exports`)."""
    written: list[Path] = []
    before = set(tables_of(connection, base))
    for loss in losses:
        facts = facts_of(connection, loss.table)
        if facts is None:
            # A part of the structure, or a table that is gone: there are no rows.
            continue
        if (not loss.added and not loss.changed) or facts.is_contentless:
            continue
        if loss.table in before:
            table = shared(connection, base, loss.table)
        else:
            table = Shared(
                loss.table, tuple(column.name for column in columns_of(connection, loss.table) if column.is_written), ()
            )
        more = _only_now(connection, base, loss.table) if loss.table in before else ()
        with readable(connection, base if loss.table in before else "main", loss.table):
            if more:
                table, rows = (
                    table._replace(columns=(*table.columns, *more)),
                    _with_all_columns(connection, base, table, more),
                )
            else:
                rows = _rows(connection, base, table, known=loss.table in before)()
            written += exports.write(connection, table.table, table.columns, rows, folder)
    return written


def _with_all_columns(connection: Connection, base: str, table: Shared, more: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows that differ, with columns that `base` lacks."""
    key = table.key
    if key and any(null_keys(connection, table.table, key, side) for side in ("main", base)):
        key = ()
    twins = Twins(connection, table.table, table.columns, key, now="main", base=base, now_only=more)
    cells = ", ".join(f"n.{quoted(column)}" for column in (*table.columns, *more))
    for source in (twins.changed, twins.added):
        yield from connection.execute(f"SELECT {cells} {source}")


def _rows(connection: Connection, base: str, table: Shared, *, known: bool) -> Callable[[], Iterator[Row]]:
    if known:
        return _by_content(connection, base, table).new_by_content
    columns = ", ".join(quoted(column) for column in table.columns)
    return lambda: connection.execute(f"SELECT {columns} FROM main.{quoted(table.table)}")


def _one(connection: Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchone()[0])
