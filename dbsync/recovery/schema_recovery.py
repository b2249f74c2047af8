"""The schema of a damaged database: its own, or that of a sound database of the same schema, with trees found again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.recovery.btree import KEYED, TABLE, Forest
from dbsync.recovery.pages import HEADER_BYTES, INDEX_LEAF, LEAF, Pages, Shape, cells, empty_first_page, header_of
from dbsync.recovery.table_reader import Salvage, Shelf
from dbsync.storage import file_calls
from dbsync.storage.connections import Connection, Row, open_reading
from dbsync.storage.introspection import ColumnKind, columns_of, facts_of, is_rowid, key_of
from dbsync.storage.raw_text import decoded
from dbsync.verification.row_matching import affinity

VERSION_AT: Final = 60
"""Offset of user_version in the header (sqlite.org/fileformat2.html, 1.3)."""
KINDS: Final = frozenset({"table", "index", "trigger", "view"})
_IN_RECORDS: Final = (ColumnKind.STORED, ColumnKind.GENERATED_STORED)


class Object(NamedTuple):
    """A row of the schema."""

    kind: str
    name: str
    table: str
    root: int
    sql: str | None


def open_damaged(path: Path, *, writing: bool = False) -> Connection:
    """Return a connection to a scratch copy of a damaged database that reads all it can, also invalid UTF-8."""
    connection = open_reading(path)
    if writing:
        connection.execute("PRAGMA query_only=OFF")
    # The readable part of the schema is used although the rest is not (sqlite.org/pragma.html#pragma_writable_schema).
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.text_factory = decoded
    return connection


def read_schema(connection: Connection) -> tuple[list[Object], bool]:
    """Return the rows of the schema that can be read, and whether these are all and SQLite accepts them."""
    rows: list[Row] = []
    shelf = Shelf("sqlite_schema", ("type", "name", "tbl_name", "rootpage", "sql"), "rowid")
    salvage = Salvage(connection, shelf, lambda _, row: rows.append(row))
    salvage.by_rowid(list)
    kept = [row for row in rows if _is_object(row)]
    good = [Object(str(a), str(b), str(c), int(str(d or 0)), None if e is None else str(e)) for a, b, c, d, e in kept]
    whole = len(good) == len(rows) and not salvage.cause
    try:
        connection.execute("PRAGMA writable_schema=OFF")
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        connection.execute("PRAGMA writable_schema=ON")
    except sqlite3.Error:
        whole = False
    return good, whole and bool(good)


def _is_object(row: Row) -> bool:
    kind, name, table, root, sql = row
    texts = isinstance(name, str) and isinstance(table, str) and (sql is None or isinstance(sql, str))
    return kind in KINDS and texts and (root is None or isinstance(root, int))


def put_header(*, source: Path, work: Path) -> None:
    """Write the header of a sound database of the same kind into a file whose header is damaged."""
    with file_calls.open_to_read(source) as file:
        head = file.read(HEADER_BYTES)
    with file_calls.open_to_write(work, "r+b") as file:
        if header_of(file.read(HEADER_BYTES)) is None:
            file.seek(0)
            file.write(head)


def put_version(*, source: Path, work: Path) -> None:
    """Write the schema number of a sound database into a file whose own is damaged."""
    with file_calls.open_to_read(source) as file:
        head = file.read(HEADER_BYTES)
    with file_calls.open_to_write(work, "r+b") as file:
        file.seek(VERSION_AT)
        file.write(head[VERSION_AT : VERSION_AT + 4])


def is_database(work: Path) -> bool:
    """Return whether a file begins with the header of a database."""
    with file_calls.open_to_read(work) as file:
        return header_of(file.read(HEADER_BYTES)) is not None


def find_again(own: list[Object], *, source: Path, work: Path) -> list[Object]:
    """Join the readable part of a schema with that of a sound database, and find the tree of each table.

    Args:
        work: the scratch copy; no process has it open.
        own: the readable part of its schema.
        source: a finished database of the same schema.

    Returns:
        The objects; tables for which no tree was found have root 0.
    """
    pages, found = Pages(work), {entry.name: entry for entry in own}
    taken = {entry.root for entry in own if entry.root}
    # `taken` is first read when lost trees are asked for; by then it has all known roots.
    forest = Forest(pages, taken)
    with closing(open_reading(source)) as connection:
        theirs, _ = read_schema(connection)
        missing = {entry.name: entry for entry in theirs if entry.name not in found}
        tables = [entry.name for entry in missing.values() if entry.kind == "table" and entry.root]
        shapes = {table: shape_of(connection, table) for table in tables}
        indexes = [
            index_shape_of(connection, index.name) for index in missing.values() if index.kind == "index" and index.root
        ]
    for name, entry in missing.items():
        if name in shapes:
            where = entry.root if entry.root not in taken and _can_be(forest, entry.root, shapes[name]) else 0
            found[name] = entry._replace(root=where)
            taken.add(where)
        else:
            found[name] = entry._replace(root=0)
    rootless = {name: shape for name, shape in shapes.items() if not found[name].root}
    for name, shape in rootless.items():
        alike = [root for root in forest.lost(KEYED if shape.without_rowid else TABLE) if _can_be(forest, root, shape)]
        others = [*(rootless[other] for other in rootless if other != name), *(indexes if shape.without_rowid else ())]
        if len(alike) == 1 and not any(_can_be(forest, alike[0], other) for other in others):
            # The only tree that fits this table, and it fits no other table or index.
            found[name] = found[name]._replace(root=alike[0])
        elif not alike and missing[name].root not in taken and _is_empty(pages, missing[name].root, shape):
            # No tree of the file fits it, and at its root in the sound database is a tree without rows.
            found[name] = found[name]._replace(root=missing[name].root)
    return list(found.values())


def _can_be(forest: Forest, root: int, shape: Shape) -> bool:
    """Return whether a tree has rows that fit the shape of a table or an index."""
    if shape.without_rowid:
        return forest.fits_keyed(root, shape)
    return forest.pages.fits(root, shape) is True


def _is_empty(pages: Pages, root: int, shape: Shape) -> bool:
    return (pages.page(root) or b"\0")[0] == (INDEX_LEAF if shape.without_rowid else LEAF) and not cells(
        pages.page(root), 0, 8
    )


def shape_of(connection: Connection, table: str) -> Shape:
    """Return the shape of the records of a table of a sound database."""
    stored = [column for column in columns_of(connection, table) if column.kind in _IN_RECORDS]
    facts = facts_of(connection, table)
    without = facts is not None and facts.without_rowid and bool(key_of(connection, table))
    if without:
        # The key's columns come first in each record, and are never NULL.
        stored.sort(key=lambda column: column.key or len(stored) + 1)
    alias = next((at for at, column in enumerate(stored) if column.key), None) if is_rowid(connection, table) else None
    needed = frozenset(at for at, column in enumerate(stored) if column.not_null or (without and column.key))
    texts = frozenset(at for at, column in enumerate(stored) if affinity(column.type) == "text")
    return Shape(len(stored), needed, alias, without, texts)


def index_shape_of(connection: Connection, index: str) -> Shape:
    """Return the shape of the records of an index of a sound database: its columns, and the key of the row."""
    rows = connection.execute("SELECT count(*) FROM pragma_index_xinfo(?)", (index,)).fetchone()
    return Shape(int(rows[0]), frozenset(), without_rowid=True, exact=True)


def graft(work: Path, objects: list[Object]) -> None:
    """Write the schema of the tables anew into the scratch copy; reading needs no indexes."""
    pages = Pages(work)
    first = empty_first_page(pages.page(1), pages.header, pages.count)
    with file_calls.open_to_write(work, "r+b") as file:
        file.write(first)
    with closing(open_damaged(work, writing=True)) as connection:
        connection.execute("PRAGMA journal_mode=MEMORY").fetchall()
        connection.executemany(
            "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES (?, ?, ?, ?, ?)",
            [entry for entry in objects if entry.kind == "table" and entry.root],
        )


def with_pages_that_are_there(work: Path) -> None:
    """Write the real number of pages into the header of a truncated file, which SQLite would refuse to read."""
    with file_calls.open_to_write(work, "r+b") as file:
        head = file.read(HEADER_BYTES)
        header = header_of(head)
        if header is None:
            return
        there = file.seek(0, 2) // header.page_bytes
        if header.pages_count > there:
            file.seek(28)
            file.write(there.to_bytes(4))
