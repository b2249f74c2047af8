"""Goes through the tables of a damaged database and puts what can be read into the new file, and says what cannot."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dbsync.derived import shows_another
from dbsync.lost_schema import Object
from dbsync.pages import Pages
from dbsync.progress import Told
from dbsync.rebuild import Rebuilt, is_virtual
from dbsync.salvage import Range, Salvage, Shelf
from dbsync.sqlite import Connection, Row, columns_of, has_table, open_copy

SEQUENCE = "sqlite_sequence"


class TableRepaired(NamedTuple):
    """What was read of a table."""

    table: str
    read_count: int
    aside_count: int
    """Of the rows that were read, those that the new file refuses."""
    unread: tuple[Range, ...] = ()
    """Rowids, ends included, of which none could be read; there need not be a row for each."""
    cause: str = ""
    """Why something could not be read; empty: everything was."""

    @property
    def whole(self) -> bool:
        """Everything was read, and has a place."""
        return not self.cause and not self.aside_count


def read_all(
    damaged: Connection, work: Path, rebuilt: Rebuilt, objects: list[Object], newest: Path | None, told: Told
) -> tuple[TableRepaired, ...]:
    """Reads every table, then the marks of AUTOINCREMENT.

    Args:
        damaged: to the scratch copy.
        work: that copy.
        rebuilt: the new file; its tables are there.
        objects: the schema.
        newest: a good backup that knows the marks, if they cannot be read.
        told: the tables, as they are read.
    """
    found = []
    for one in sorted(objects, key=lambda each: each.name):
        if one.kind != "table" or one.name.startswith("sqlite_") or rebuilt.is_inner(one.name):
            continue
        told(0, 0, one.name)
        if not rebuilt.exists(one):
            found.append(TableRepaired(one.name, 0, 0, cause="it could not be made in the new file"))
        elif is_virtual(one):
            if not shows_another(rebuilt.connection, one.name):
                found.append(_search(damaged, work, rebuilt, one, objects))
        elif not one.root:
            found.append(TableRepaired(one.name, 0, 0, cause="its pages could not be found"))
        else:
            shelf = rebuilt.shelf_of(one.name)
            found.append(_table(damaged, work, rebuilt, shelf, shelf, one.root))
    return (*found, *_marks(damaged, rebuilt, newest))


def _table(
    damaged: Connection, work: Path, rebuilt: Rebuilt, read: Shelf, write: Shelf, root: int
) -> TableRepaired:  # fmt: skip
    salvage = Salvage(damaged, read, rebuilt.taker(write))
    unread: list[Range] = []
    if read.rowid is None:
        salvage.whole()
    else:
        unread = salvage.by_rowid(partial(_separators, work, root))
    aside = rebuilt.aside_count.get(write.name, 0)
    # Where the last rows of a page were deleted, SQLite stumbles and nothing is missing after all.
    cause = salvage.cause if unread or read.rowid is None else ""
    return TableRepaired(write.name, salvage.read_count, aside, tuple(unread), cause)


def _separators(work: Path, root: int) -> list[int]:
    # Closing this file drops this process's locks on the copy, of which nobody else knows.
    return Pages(work).separators(root)


def _search(damaged: Connection, work: Path, rebuilt: Rebuilt, one: Object, objects: list[Object]) -> TableRepaired:
    """A search with content of its own is filled from the table that it keeps it in; its index is made anew."""
    write = rebuilt.shelf_of(one.name)
    inner = next((each for each in objects if each.name == f"{one.name}_content"), None)
    if inner is None:
        return _table(damaged, work, rebuilt, write, write, one.root)
    columns = tuple(str(row[1]) for row in columns_of(rebuilt.connection, inner.name))
    return _table(damaged, work, rebuilt, Shelf(inner.name, columns[1:], "rowid"), write, inner.root)


def _marks(damaged: Connection, rebuilt: Rebuilt, newest: Path | None) -> list[TableRepaired]:
    """The marks of AUTOINCREMENT: the highest of what was read, the rows', where some are lost the backup's."""
    if not has_table(rebuilt.connection, SEQUENCE):
        return []
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
    return [TableRepaired(SEQUENCE, len(rows), 0, cause=salvage.cause)] if salvage.cause else []
