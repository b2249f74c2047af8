"""Puts the complement back when a database comes to the schema that can hold it.

A cell is put back if it still is as the migrations make it. Where people changed it since, the later value stays and
the kept one is reported. Nothing leaves the complement before it is live.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, assert_never

from dbsync.complement import kept, references
from dbsync.complement.exact_values import Value, bound, same
from dbsync.complement.final_rows import FinalRows
from dbsync.complement.kept import KeptCell, KeptKind, KeptRow, Sides
from dbsync.complement.quiet_triggers import without_triggers
from dbsync.storage.connections import Connection, attempted, kind_of
from dbsync.storage.introspection import app_tables, numbered_tables, quoted, sql_of, tables
from dbsync.storage.raw_text import every_text
from dbsync.storage.sql_tokens import words_of

_STAGE: Final = "temp.dbsync_put_back_"
_KEY_LIMIT: Final = 40


class Conflict(NamedTuple):
    """A kept row that could not be put back; it stays in the complement."""

    table: str
    key: str
    """Its key in words; values of no other column."""
    reason: str


class Moved(NamedTuple):
    """The rows of a table that came back under another rowid, because theirs was taken: other rows may refer to it."""

    table: str
    rows_count: int


class PutBack(NamedTuple):
    """The result of putting a complement back."""

    rows_count: int = 0
    conflicts: tuple[Conflict, ...] = ()
    moved: tuple[Moved, ...] = ()

    def __add__(self, other: object) -> PutBack:
        """Return both results as one."""
        assert isinstance(other, PutBack)
        return PutBack(self.rows_count + other.rows_count, self.conflicts + other.conflicts, self.moved + other.moved)


def put_back(connection: Connection, number: int) -> PutBack:
    """Put back everything that waits for schema `number`, which the database has just reached, in the transaction."""
    done = PutBack()
    for generation in kept.generations(connection, number):
        with every_text(connection), without_triggers(connection):
            done += _Generation(connection, number, generation).run()
    if kept.exists(connection):
        kept.drop_if_empty(connection)
    return done


class _Generation:
    def __init__(self, connection: Connection, number: int, generation: int) -> None:
        self._connection: Final = connection
        self._rows: Final = list(kept.rows(connection, number, generation))
        self._staged: Final[dict[str, FinalRows]] = {}
        self._done: Final[set[int]] = set()
        self._reasons: Final[dict[int, str]] = {}
        self._uniques: Final[dict[str, list[set[str]]]] = {}
        self._made: Final[set[tuple[str, str]]] = set()
        """Tables and columns, in lower case, of columns that were made just now: nobody can have written there."""
        self._numbered: dict[str, str] = {}

    def run(self) -> PutBack:
        for row in self._rows:
            if row.kind is KeptKind.OBJECT:
                self._make(row)
        self._numbered = numbered_tables(self._connection)
        known = {name.lower(): name for name in app_tables(self._connection)}
        for row in self._rows:
            if row.kind is KeptKind.OBJECT:
                continue
            table = known.get(row.table.lower())
            if table is None:
                self._reasons[row.id] = f"there is no table {row.table}"
                continue
            try:
                self._stage(row, table)
            except sqlite3.Error as error:
                if kind_of(error) is not None:
                    raise
                self._reasons[row.id] = str(error)
        self._apply()
        return self._result()

    def _make(self, row: KeptRow) -> None:
        cells = {cell.column: cell.value for cell in row.cells}
        try:
            if _has_object(self._connection, cells):
                self._done.add(row.id)
                return
            self._connection.execute(str(cells["sql"]))
            self._done.add(row.id)
            if cells["type"] == "column":
                self._made.add((str(cells["table"]).lower(), str(cells["name"]).lower()))
        except sqlite3.Error as error:
            if kind_of(error) is not None:
                raise
            self._reasons[row.id] = str(error)

    def _stage(self, row: KeptRow, table: str) -> None:
        lower = table.lower()
        if lower not in self._staged:
            self._staged[lower] = FinalRows(self._connection, table, stage=f"{_STAGE}{len(self._staged)}")
        rows = self._staged[lower]
        spelled = {name.lower(): name for name in rows.columns}
        lacking = [cell.column for cell in row.cells if cell.column.lower() not in spelled and not _unchanged(cell)]
        if lacking:
            self._reasons[row.id] = f"there is no column {', '.join(lacking)}"
        cells = {spelled[cell.column.lower()]: cell for cell in row.cells if cell.column.lower() in spelled}
        place, now = self._found(rows, row, cells)
        match row.kind:
            case KeptKind.ADDED:
                self._stage_added(rows, row, cells, now)
            case KeptKind.REMOVED:
                self._stage_removed(rows, row, cells, place=place, now=now)
            case KeptKind.CHANGED:
                self._stage_changed(rows, row, cells, place=place, now=now)
            case KeptKind.OBJECT:
                raise AssertionError("an object is no row")
            case _:
                assert_never(row.kind)

    def _stage_added(
        self, rows: FinalRows, row: KeptRow, cells: Mapping[str, KeptCell], now: Mapping[str, Value] | None
    ) -> None:
        if now is not None and all(same(now[name], cell.value) for name, cell in cells.items()):
            # The migrations of this release make it by themselves.
            self._done.add(row.id)
        elif now is not None:
            self._reasons[row.id] = "its key belongs to another row now"
        elif row.id not in self._reasons:
            final = {name: cells[name].value if name in cells else None for name in rows.columns}
            rows.add(row.id, place=row.place, old=None, final=final)

    def _stage_removed(
        self, rows: FinalRows, row: KeptRow, cells: Mapping[str, KeptCell], *, place: int | None,
        now: Mapping[str, Value] | None,
    ) -> None:  # fmt: skip
        if now is None:
            self._done.add(row.id)
        elif any(not same(now[name], cell.predicted) for name, cell in cells.items()):
            self._reasons[row.id] = "it was removed there, and changed here since"
        else:
            rows.add(row.id, place=place, old=now, final=None)

    def _stage_changed(
        self, rows: FinalRows, row: KeptRow, cells: Mapping[str, KeptCell], *, place: int | None,
        now: Mapping[str, Value] | None,
    ) -> None:  # fmt: skip
        if now is None:
            self._reasons.setdefault(row.id, "the row is not there any more")
            return
        if not self._same_row(rows, cells, now):
            self._reasons[row.id] = "the row of this number may be another one"
            return
        final = dict(now)
        for name, cell in cells.items():
            if cell.sides is Sides.PREDICTED or same(now[name], cell.value):
                continue
            if _unchanged(cell):
                continue
            is_new = cell.sides is Sides.VALUE and (rows.table.lower(), name.lower()) in self._made
            if is_new or same(now[name], cell.predicted):
                final[name] = cell.value
            else:
                self._reasons.setdefault(row.id, f"{name} was changed since")
        if all(same(final[name], now[name]) for name in final):
            if row.id not in self._reasons:
                self._done.add(row.id)
            return
        rows.add(row.id, place=place, old=now, final=final)

    def _found(
        self, rows: FinalRows, row: KeptRow, cells: Mapping[str, KeptCell]
    ) -> tuple[int | None, Mapping[str, Value] | None]:
        """Return rowid and cells of the row in the database; by key, and without one by its content or its rowid."""
        side = "value" if row.kind is KeptKind.ADDED else "predicted"
        keys = {name: cell for name, cell in cells.items() if cell.is_key}
        by_key = bool(keys) and {name.lower() for name in rows.key} == {name.lower() for name in keys}
        if not by_key and row.kind is KeptKind.ADDED:
            # Equal rows without a key are as many as they are: this one is added to them.
            return None, None
        both = {name: cell for name, cell in cells.items() if cell.sides is not Sides.VALUE}
        wanted = keys if by_key else both
        marks, values = bound(getattr(cell, side) for cell in wanted.values())
        equal = "=" if by_key else "IS"
        where = " AND ".join(f"{quoted(name)} {equal} {mark}" for name, mark in zip(wanted, marks, strict=True))
        if not by_key and rows.rowid and row.place is not None:
            # There were rows equal to it: of those only its own is meant, even if that was changed since.
            where, values = f"{rows.rowid} = ?", [row.place]
            by_key = True
        names = [rows.rowid or "NULL", *(quoted(name) for name in rows.columns)]
        taken = f" AND {rows.rowid} NOT IN (SELECT place FROM {rows.stage} WHERE old)" if rows.rowid else ""
        select = f"SELECT {', '.join(names)} FROM main.{quoted(rows.table)} WHERE {where or '1'}"
        for place, *found in self._connection.execute(select if by_key else select + taken, values):
            now = dict(zip(rows.columns, found, strict=True))
            if by_key or all(same(now[name], cell.predicted) for name, cell in both.items()):
                return place, now
        return None, None

    def _same_row(self, rows: FinalRows, cells: Mapping[str, KeptCell], now: Mapping[str, Value]) -> bool:
        """Return whether the row of this key still is the one that is kept, and not a new one of the same number."""
        has_key = any(cell.is_key for cell in cells.values())
        if has_key and (not rows.own_rowid or rows.table.lower() in self._numbered):
            return True
        here = [name for name, cell in cells.items() if _unchanged(cell)]
        if all(same(now[name], cells[name].value) for name in here):
            return True
        if rows.table not in self._uniques:
            self._uniques[rows.table] = list(_uniques(self._connection, rows.table))
        for unique in self._uniques[rows.table]:
            both = [name for name in here if name.lower() in unique]
            if len(both) == len(unique) and all(
                now[name] is not None and same(now[name], cells[name].value) for name in both
            ):
                return True
        return False

    def _apply(self) -> None:
        for rows in self._staged.values():
            if (refused := attempted(self._connection, rows.apply)) is not None:
                self._connection.execute(f"UPDATE {rows.stage} SET live = 0, cause = ?", (str(refused),))
        references.undo_orphans(self._connection, self._staged)

    def _result(self) -> PutBack:
        moved = []
        for rows in self._staged.values():
            refusals = {refusal.tag: refusal.cause for refusal in rows.refusals()}
            for (tag,) in self._connection.execute(f"SELECT tag FROM {rows.stage}").fetchall():
                if tag in refusals:
                    self._reasons[tag] = refusals[tag]
                elif tag not in self._reasons:
                    self._done.add(tag)
            if count := rows.moved_rowids_count():
                moved.append(Moved(rows.table, count))
            self._rebuild_searches_of(rows.table)
            self._connection.execute(f"DROP TABLE {rows.stage}")
        conflicts = []
        for row in self._rows:
            if row.id in self._reasons:
                kept.refuse(self._connection, row.id, self._reasons[row.id])
                conflicts.append(Conflict(row.table, _key_in_words(row), self._reasons[row.id]))
            elif row.id in self._done:
                kept.remove(self._connection, row.id)
        return PutBack(len(self._done), tuple(conflicts), tuple(moved))

    def _rebuild_searches_of(self, table: str) -> None:
        for name, facts in tables(self._connection).items():
            if facts.is_external_search and facts.content_table.lower() == table.lower():
                self._connection.execute(f"INSERT INTO main.{quoted(name)} ({quoted(name)}) VALUES ('rebuild')")


def _unchanged(cell: KeptCell) -> bool:
    return cell.sides is Sides.BOTH and same(cell.predicted, cell.value)


def _key_in_words(row: KeptRow) -> str:
    keys = (cell for cell in row.cells if cell.is_key)
    values = ((cell.column, cell.predicted if cell.sides is Sides.PREDICTED else cell.value) for cell in keys)
    return ", ".join(f"{column}={value!r}"[:_KEY_LIMIT] for column, value in values)


def _has_object(connection: Connection, cells: Mapping[str, Any]) -> bool:
    name, table = str(cells["name"]), str(cells["table"])
    if cells["type"] == "column":
        rows = connection.execute(f"PRAGMA main.table_xinfo({quoted(table)})").fetchall()
        return any(str(row[1]).lower() == name.lower() for row in rows)
    return words_of(sql_of(connection, str(cells["type"]), name)) == words_of(str(cells["sql"]))


def _uniques(connection: Connection, table: str) -> Iterator[set[str]]:
    """Yield the columns of each UNIQUE constraint or index, in lower case, without those on expressions or a part."""
    for _, index, unique, _, partial in connection.execute(f"PRAGMA main.index_list({quoted(table)})").fetchall():
        if unique and not partial:
            columns = [row[2] for row in connection.execute(f"PRAGMA main.index_info({quoted(index)})").fetchall()]
            if all(column is not None for column in columns):
                yield {str(column).lower() for column in columns}
