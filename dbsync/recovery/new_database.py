"""The new file of a recovery: tables first, then rows, then all other objects; rows that do not fit go beside it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Final

from dbsync.backups import snapshot
from dbsync.errors import DiskProblem, disk_problem
from dbsync.recovery.pages import Header
from dbsync.recovery.schema_recovery import Object
from dbsync.recovery.table_reader import Shelf
from dbsync.storage import files, temporary_files
from dbsync.storage.connections import Connection, Row, kind_of, open_scratch, translated
from dbsync.storage.introspection import (
    TableKind,
    columns_of,
    facts_of,
    has_table,
    is_rowid,
    quoted,
    rowid_of,
    virtual_table,
)
from dbsync.storage.raw_text import BadText
from dbsync.storage.sql_tokens import words_of
from dbsync.verification import exports

_ENCODINGS: Final = {1: "UTF-8", 2: "UTF-16le", 3: "UTF-16be"}


def aside_of(into: Path) -> Path:
    """Return the path of the side file for rows that do not fit into the new file: one JSON line each."""
    return into.with_name(f"{into.name}.aside.jsonl")


class Rebuilt:
    """A database under construction, under a temporary name. A crash leaves only that file, never the final name.

    Its files get the owner and the rights of `like`, the damaged database.
    """

    def __init__(self, into: Path, owner: str, header: Header, objects: list[Object], *, like: Path) -> None:
        self.path: Final = temporary_files.part_of(into, owner)
        self.aside_path: Final = aside_of(into)
        self.not_made: list[str] = []
        """Objects that could not be made, and why."""
        self.aside_count: dict[str, int] = {}
        self._into: Final = into
        self._objects: Final = objects
        self._like: Final = like
        self._aside: IO[str] | None = None
        self._aside_part: Final = self.path.with_name(f"{self.path.name}.aside")
        snapshot.drop_part(self.path)
        self.connection: Final[Connection] = open_scratch(self.path, like=like)
        execute = self.connection.execute
        execute(f"PRAGMA page_size={header.page_bytes}")
        execute(f"PRAGMA encoding='{_ENCODINGS.get(header.encoding, 'UTF-8')}'")
        execute(f"PRAGMA auto_vacuum={header.auto_vacuum}")
        # Undoing a single row that does not fit needs a journal.
        execute("PRAGMA journal_mode=MEMORY").fetchall()
        execute("PRAGMA foreign_keys=OFF")
        execute("BEGIN")

    def make_tables(self) -> None:
        """Make virtual tables first, as they bring their shadow tables; then tables, then unique indexes."""
        tables = [entry for entry in self._objects if entry.kind == "table" and not entry.name.startswith("sqlite_")]
        for entry in sorted(tables, key=lambda table: not is_virtual(table)):
            if not has_table(self.connection, entry.name):
                self._make(entry)
        for entry in self._objects:
            if is_unique(entry) and has_table(self.connection, entry.table):
                self._make(entry)

    def make_rest(self, version: int, application_id: int) -> None:
        """Rebuild searches from their content; make indexes, views and triggers; set the header's numbers; commit."""
        for entry in self._objects:
            facts = facts_of(self.connection, entry.name) if is_virtual(entry) else None
            if facts is not None and facts.is_external_search:
                self._do(f"INSERT INTO {quoted(entry.name)} ({quoted(entry.name)}) VALUES ('rebuild')", entry)
            elif facts is not None and facts.is_contentless:
                self.not_made.append(f"table {entry.name}: it keeps no content to make its index of, and is empty")
        for kind in ("index", "view", "trigger"):
            for entry in self._objects:
                if entry.kind == kind and entry.sql and not is_unique(entry):
                    self._make(entry)
        self.connection.execute(f"PRAGMA user_version={version}")
        self.connection.execute(f"PRAGMA application_id={application_id}")
        self.connection.execute("COMMIT")

    def exists(self, one: Object) -> bool:
        """Return whether a table could be made."""
        return has_table(self.connection, one.name)

    def is_inner(self, name: str) -> bool:
        """Return whether a table is a shadow table, in which a virtual table keeps its rows."""
        facts = facts_of(self.connection, name)
        return facts is not None and facts.kind is TableKind.SHADOW

    def shelf_of(self, name: str) -> Shelf:
        """Return a table's columns and its rowid."""
        names = tuple(column.name for column in columns_of(self.connection, name) if column.is_written)
        return Shelf(name, names, rowid_of(self.connection, name))

    def taker(self, shelf: Shelf) -> Callable[[int | None, Row], None]:
        """Return the function that writes rows into a table; rows that do not fit go into the side file."""
        with_rowid = shelf.rowid is not None and not is_rowid(self.connection, shelf.name)
        names = ", ".join([str(shelf.rowid)] * with_rowid + [quoted(column) for column in shelf.columns])
        many = len(shelf.columns) + with_rowid
        # ABORT, whatever the table's own action on a conflict is: REPLACE would drop a row that was recovered before.
        into = f"INSERT OR ABORT INTO main.{quoted(shelf.name)} ({names}) VALUES "
        usual = f"{into}({', '.join('?' * many)})"

        def take(rowid: int | None, row: Row) -> None:
            values = (rowid, *row) if with_rowid else row
            sql = usual
            if any(isinstance(value, BadText) for value in values):
                marks = ("CAST(? AS TEXT)" if isinstance(value, BadText) else "?" for value in values)
                sql = f"{into}({', '.join(marks)})"
            try:
                self.connection.execute(sql, values)
            except (sqlite3.Error, OverflowError) as error:
                self._stop_if_disk(error)
                self._put_aside(shelf, rowid, row, cause=str(error))

        return take

    def aside_taker(self, shelf: Shelf, cause: str) -> Callable[[int | None, Row], None]:
        """Return the function that writes rows into the side file, because their table is not certain."""
        return partial(self._put_aside, shelf, cause=cause)

    def close(self) -> None:
        """End the work; the file stays under its temporary name."""
        self.connection.close()
        if self._aside is not None:
            self._aside.close()

    def publish(self) -> Path | None:
        """Give the files their final names, durably, the side file first, and return its path; None if all rows fitted.

        A crash in between leaves the side file without the database, which cannot be taken for a whole recovery.
        """
        files.sync_file(self.path)
        if self._aside is not None:
            files.sync_file(self._aside_part)
            files.rename_durably(source=self._aside_part, target=self.aside_path)
        files.rename_durably(source=self.path, target=self._into)
        return self.aside_path if self._aside is not None else None

    def drop(self) -> None:
        """Remove the files that have no final name."""
        self.close()
        # Quietly: the cause of the end is known already, and the next run removes what is left.
        for path in (self.path, self._aside_part):
            snapshot.drop_part(path)

    def _make(self, entry: Object) -> None:
        if entry.sql:
            self._do(entry.sql, entry)

    def _do(self, sql: str, entry: Object) -> None:
        try:
            self.connection.execute(sql)
        except sqlite3.Error as error:
            self._stop_if_disk(error)
            self.not_made.append(f"{entry.kind} {entry.name}: {error}")

    def _stop_if_disk(self, error: Exception) -> None:
        found = kind_of(error)
        if found is not None and issubclass(found, DiskProblem):
            with translated("write", self.path):
                raise error

    def _put_aside(self, shelf: Shelf, rowid: int | None, row: Row, *, cause: str) -> None:
        values = exports.as_json(dict(zip(shelf.columns, row, strict=True)))
        line = exports.json_line({"table": shelf.name, "rowid": rowid, "cause": cause, "row": values})
        try:
            if self._aside is None:
                self._aside = os.fdopen(files.new_file(self._aside_part, like=self._like), "w", encoding="utf-8")
            self._aside.write(line)
        except OSError as problem:
            raise disk_problem("write", self.aside_path, problem) from problem
        self.aside_count[shelf.name] = self.aside_count.get(shelf.name, 0) + 1


def is_virtual(one: Object) -> bool:
    """Return whether a table is virtual; known before it is made."""
    return one.kind == "table" and virtual_table(one.sql or "") is not None


def is_unique(one: Object) -> bool:
    """Return whether an index is unique; such an index is made before the rows are written."""
    return one.kind == "index" and words_of(one.sql or "")[1:2] == ["unique"]
