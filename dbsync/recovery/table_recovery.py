"""Recovery of tables: writes every readable row of a damaged database into the new file and reports the rest."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dbsync.progress import Told
from dbsync.recovery.btree import Forest
from dbsync.recovery.new_database import Rebuilt, is_virtual
from dbsync.recovery.pages import Pages
from dbsync.recovery.schema_recovery import Object
from dbsync.recovery.table_reader import LEAST, MOST, Range, Salvage, Shelf
from dbsync.storage.connections import Connection, Row, open_copy
from dbsync.storage.introspection import columns_of, facts_of, has_table

SEQUENCE = "sqlite_sequence"


class TableRepaired(NamedTuple):
    """The result of reading a table."""

    table: str
    read_count: int
    aside_count: int
    """The number of the read rows that the new file refused."""
    unread: tuple[Range, ...] = ()
    """Ranges of rowids, ends included, that could not be read; not each rowid need have had a row."""
    cause: str = ""
    """Why something could not be read; empty if everything was."""

    @property
    def whole(self) -> bool:
        """Whether everything was read and fitted."""
        return not self.cause and not self.aside_count


Tables = dict[str, TableRepaired]


class Source(NamedTuple):
    """The places from which a table's rows are read and to which they are written."""

    object: Object
    read: Shelf
    write: Shelf


def sources(rebuilt: Rebuilt, objects: list[Object]) -> dict[str, Source]:
    """Return the sources of rows by the names of the tables to fill, without tables that SQLite fills by itself.

    A search with content of its own is filled from the table in which it keeps that content; its index is made anew.
    """
    found = {}
    for entry in sorted(objects, key=lambda item: item.name):
        if entry.kind != "table" or entry.name.startswith("sqlite_") or rebuilt.is_inner(entry.name):
            continue
        if not rebuilt.exists(entry):
            found[entry.name] = Source(entry._replace(root=0), *[Shelf(entry.name, (), None)] * 2)
            continue
        write = rebuilt.shelf_of(entry.name)
        if not is_virtual(entry):
            found[entry.name] = Source(entry, write, write)
        elif (facts := facts_of(rebuilt.connection, entry.name)) is not None and facts.has_own_rows:
            inner = next((other for other in objects if other.name == f"{entry.name}_content"), None)
            columns = columns_of(rebuilt.connection, inner.name) if inner is not None else []
            names = tuple(column.name for column in columns[1:])
            found[entry.name] = Source(inner or entry, Shelf(inner.name, names, "rowid") if inner else write, write)
    return found


def read_all(damaged: Connection, work: Path, rebuilt: Rebuilt, found: dict[str, Source], told: Told) -> Tables:
    """Read every table and return the results; a damaged table without rowids is left to `orphan_trees`.

    Args:
        damaged: the connection to the scratch copy.
        work: that copy.
        rebuilt: the new file, with its tables.
        found: the sources of the rows.
        told: receives the tables as they are read.
    """
    tables = {}
    for name, source in found.items():
        told(0, 0, name)
        if not rebuilt.exists(source.object):
            tables[name] = TableRepaired(name, 0, 0, cause="it could not be made in the new file")
        elif not source.object.root and not is_virtual(source.object):
            unread = ((LEAST, MOST),) if source.read.rowid else ()
            tables[name] = TableRepaired(name, 0, 0, unread, "its pages could not be found")
        else:
            tables[name] = _table(damaged, work, rebuilt, source)
    return tables


def _table(damaged: Connection, work: Path, rebuilt: Rebuilt, source: Source) -> TableRepaired:
    name, root = source.write.name, source.object.root
    if source.read.rowid is None and root and not Forest(Pages(work), set()).is_whole(root):
        return TableRepaired(name, 0, 0, cause="pages of it are damaged")
    salvage = Salvage(damaged, source.read, rebuilt.taker(source.write))
    unread: list[Range] = []
    if source.read.rowid is None:
        salvage.whole()
    else:
        unread = salvage.by_rowid(partial(separators, work, root))
    # Where the last rows of a page were deleted, SQLite reports an error although nothing is missing.
    cause = salvage.cause if unread or source.read.rowid is None else ""
    return TableRepaired(name, salvage.read_count, rebuilt.aside_count.get(name, 0), tuple(unread), cause)


def separators(work: Path, root: int) -> list[int]:
    """Return rowids at which leaves of a table in the scratch copy end."""
    # Closing this file drops this process's locks on the copy; that is safe, as no other process knows of the copy.
    return Pages(work).separators(root)


def read_marks(damaged: Connection, rebuilt: Rebuilt, newest: Path | None) -> tuple[TableRepaired, ...]:
    """Write the AUTOINCREMENT counters into the new file, and return the result if not all could be read.

    Each is the highest of the counter that was read, of the rows and, where counters are lost, of the backup.
    """
    if not has_table(rebuilt.connection, SEQUENCE):
        return ()
    rows: list[Row] = []
    salvage = Salvage(damaged, Shelf(SEQUENCE, ("name", "seq"), "rowid"), lambda _, row: rows.append(row))
    salvage.by_rowid(list)
    if salvage.cause and newest is not None:
        with closing(open_copy(newest)) as connection:
            if has_table(connection, SEQUENCE):
                rows += connection.execute(f"SELECT name, seq FROM {SEQUENCE}").fetchall()
    execute = rebuilt.connection.execute
    for name, mark in rows:
        if not isinstance(mark, int) or not isinstance(name, str) or not has_table(rebuilt.connection, name):
            continue
        if not execute(f"UPDATE {SEQUENCE} SET seq = max(seq, ?) WHERE name = ?", (mark, name)).rowcount:
            execute(f"INSERT INTO {SEQUENCE} (name, seq) VALUES (?, ?)", (name, mark))
    return (TableRepaired(SEQUENCE, len(rows), 0, cause=salvage.cause),) if salvage.cause else ()
