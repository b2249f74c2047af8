"""Changes of the newer schema as rows of the older one, applied to a copy of the backup.

Only cells that people changed are changed: all others stay as the backup has them, bit for bit. A change that has no
place in the older schema, or that the older schema refuses, is left out; the proof that follows finds and keeps it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from dbsync.complement import references
from dbsync.complement.exact_values import Value, bound, same
from dbsync.complement.final_rows import FinalRows
from dbsync.downgrade.changed_rows import ADDED, CHANGED, REMOVED, Collected, Sides, collect
from dbsync.downgrade.row_translation import Placed, Record, Translator
from dbsync.errors import MigrationFailed
from dbsync.storage.connections import Connection, attempted, kind_of
from dbsync.storage.introspection import app_tables, columns_of, key_of, quoted, rowid_of, tables_of
from dbsync.storage.raw_text import every_text

NOW: Final = "now"
BASE: Final = "base"
WORK: Final = "work"
_CHANGES: Final = f"{WORK}.changes"
_AT_ONCE: Final = 1000


class _Change(NamedTuple):
    kind: str
    base_place: int | None
    now_place: int | None
    before: Record
    after: Record


class OlderRows:
    """The rows of the older database, on the way to what they are to be. Attached: NOW, BASE, and WORK."""

    def __init__(self, connection: Connection, translate: Translator, local: frozenset[tuple[str, str]]) -> None:
        """Prepare it; `local` are columns (table, column; in lower case) that no migration knows."""
        self._connection: Final = connection
        self._translate: Final = translate
        self._local: Final = local
        self._known: Final = {name.lower(): facts for name, facts in app_tables(connection).items()}
        self._staged: Final[dict[str, FinalRows]] = {}
        self._taken: Final[dict[str, set[int]]] = {}
        self._defaults: Final[dict[str, dict[str, Value]]] = {}
        self._answers: Final[dict[tuple[str, str], bool]] = {}
        self._names: Final[dict[str, dict[str, str]]] = {}
        """The columns of older tables, by their names in lower case."""

    def carry(self, told: Callable[[int], None]) -> int:
        """Bring every row that people changed to its state in the older schema, as far as that can be done.

        Returns:
            How many rows people changed.

        Raises:
            sqlite3.Error: the machine failed.
        """
        done = 0
        with every_text(self._connection):
            for table, facts in sorted(app_tables(self._connection, NOW).items()):
                # A search index over another table follows from that table; a contentless one cannot be read.
                if facts.has_own_rows:
                    done += self._table(table)
                    told(done)
            for rows in self._staged.values():
                self._savepoint(rows.apply)
            references.follow_refused(self._connection, self._staged)
            references.keep_parents(self._connection, self._staged, self._older_only())
        return done

    @property
    def touched(self) -> frozenset[str]:
        """The older tables, in lower case, of which rows were carried."""
        return frozenset(self._staged)

    def moved_rowids(self) -> list[tuple[str, int]]:
        """Return the tables in which new rows have another rowid than they had, with their numbers."""
        counts = ((rows.table, rows.moved_rowids_count()) for rows in self._staged.values())
        return [(table, count) for table, count in counts if count]

    def _older_only(self) -> list[str]:
        newer = {(self._translate.table_of(table) or "").lower() for table in tables_of(self._connection, NOW)}
        return [facts.name for lower, facts in self._known.items() if lower not in newer and not facts.is_virtual]

    def _table(self, table: str) -> int:
        if table.lower() not in {name.lower() for name in tables_of(self._connection, BASE)}:
            return 0
        count = 0

        def stage() -> None:
            nonlocal count
            found = collect(self._connection, table, Sides(NOW, BASE, _CHANGES))
            count = found.rows_count
            loose = self._translate.loose_columns(table)
            # Removed rows first, so that a row that is found by content is not taken for another one.
            for is_removed in (True, False):
                for seq in self._numbers(is_removed=is_removed):
                    self._stage(found, self._change(found, seq), loose)

        self._savepoint(stage)
        self._connection.execute(f"DROP TABLE IF EXISTS {_CHANGES}")
        return count

    def _numbers(self, *, is_removed: bool) -> Iterator[int]:
        """Yield the numbers of the collected rows, some at a time: there may be as many as the table has rows."""
        same, last = "=" if is_removed else "<>", 0
        sql = f"SELECT seq FROM {_CHANGES} WHERE kind {same} '{REMOVED}' AND seq > ? ORDER BY seq LIMIT {_AT_ONCE}"
        while found := self._connection.execute(sql, (last,)).fetchall():
            yield from (seq for (seq,) in found)
            last = found[-1][0]

    def _savepoint(self, work: Callable[[], None]) -> None:
        """Do the work on one table; if SQLite cannot evaluate it, the table stays as it is."""
        before = set(self._staged)
        if attempted(self._connection, work) is not None:
            for lower in self._staged.keys() - before:
                del self._staged[lower]

    def _change(self, found: Collected, seq: int) -> _Change:
        both = "".join(f", b{number}, n{number}" for number in range(len(found.columns)))
        row = self._connection.execute(
            f"SELECT kind, b_place, n_place{both} FROM {_CHANGES} WHERE seq = ?", (seq,)
        ).fetchone()
        before = {
            name: value for name, value in zip(found.columns, row[3::2], strict=True) if name not in found.only_now
        }
        after = {
            name: value for name, value in zip(found.columns, row[4::2], strict=True) if name not in found.only_base
        }
        return _Change(row[0], row[1], row[2], before, after)

    def _stage(self, found: Collected, change: _Change, loose: frozenset[str]) -> None:
        before = self._down(found.table, change.before) if change.kind != ADDED else None
        after = self._down(found.table, change.after) if change.kind in (ADDED, CHANGED) else None
        if change.kind == ADDED:
            if after is not None:
                self._add(after, change.now_place)
            return
        if before is None:
            if after is not None:
                self._correct(found.table, change, after)
            return
        by_names = self._translate.by_names(found.table, change.before)
        known = {name.lower() for name in by_names.row} if by_names is not None else set()
        # What `down_row` makes of a value need not be what the backup has; `_found` looks at the rest then.
        made = frozenset(name.lower() for name in before.row) - known
        place, old = self._found(before, change.base_place, loose | made)
        if old is None:
            # A row that the migrations made, or renumbered: the older schema does not have it.
            return
        rows = self._rows(before.table)
        if change.kind == CHANGED:
            if after is None or after.table != before.table:
                return
            final = self._changed(loose, before, after, old)
            if final is None:
                return
            # Where the migrations left the rowid as it was, the row goes where people have it: others may have its own.
            is_same = place is not None and place == change.base_place
            rows.add(0, place=place, old=old, final=final, target=change.now_place if is_same else None)
        else:
            rows.add(0, place=place, old=old, final=None)
        if place is not None:
            self._taken.setdefault(before.table, set()).add(place)

    def _correct(self, table: str, change: _Change, after: Placed) -> None:
        """Stage a row that had no place in the older schema, and has one as people left it, if its key stayed."""
        rows = self._rows(after.table)
        by_names = self._translate.by_names(table, change.before)
        cells = {name.lower(): value for name, value in by_names.row.items()} if by_names is not None else {}
        keys = [(after.row.get(name), cells.get(name.lower())) for name in rows.key]
        if not keys or any(value is None or not same(value, before) for value, before in keys):
            return
        place, old = self._found(after, change.base_place, frozenset())
        if old is None:
            return
        rows.add(0, place=place, old=old, final={**old, **after.row})
        if place is not None:
            self._taken.setdefault(after.table, set()).add(place)

    def _add(self, after: Placed, place: int | None) -> None:
        rows = self._rows(after.table)
        defaults = self._defaults_of(after.table)
        final = {name: after.row[name] if name in after.row else defaults[name] for name in rows.columns}
        rows.add(0, place=place if not rows.own_rowid else None, old=None, final=final)

    def _changed(self, loose: frozenset[str], before: Placed, after: Placed, old: Record) -> Record | None:
        """Return the older row with the cells that people changed; None if it is not the row that they changed."""
        has_down = self._translate.has_down
        aligned = {name: same(before.row[name], old[name]) for name in before.row if name in old}
        if not has_down and any(not fits and name.lower() not in loose for name, fits in aligned.items()):
            return None
        final = dict(old)
        for name, value in after.row.items():
            if name not in old or (name in before.row and same(value, before.row[name])):
                continue
            # A value that a migration converted, and cannot convert back, would be of another kind here. One that it
            # only filled in is of the same kind.
            if has_down or aligned.get(name, True) or (old[name] is None and self._only_filled(before.table, name)):
                final[name] = value
        return final

    # --------------------------------------------------------------------------------------------------------- rows

    def _rows(self, table: str) -> FinalRows:
        lower = table.lower()
        if lower not in self._staged:
            self._staged[lower] = FinalRows(self._connection, table, stage=f"{WORK}.stage_{len(self._staged)}")
        return self._staged[lower]

    def _down(self, table: str, row: Record) -> Placed | None:
        """Return the row in terms of the older database; None if it has no place there."""
        try:
            placed = self._translate(table, row)
        except MigrationFailed:
            # Its `down_row` fails on this row: the others go on.
            return None
        if placed is None or placed.table.lower() not in self._known:
            return None
        known = self._known[placed.table.lower()].name
        if known not in self._names:
            self._names[known] = {name.lower(): name for name in self._rows(known).columns}
        names = self._names[known]
        kept = {names[name.lower()]: value for name, value in placed.row.items() if name.lower() in names}
        for name, value in row.items():
            # `down_row` does not know columns that people added.
            if (table.lower(), name.lower()) in self._local and name.lower() in names:
                kept[names[name.lower()]] = value
        return Placed(known, kept)

    def _found(self, row: Placed, place: int | None, loose: frozenset[str]) -> tuple[int | None, Record | None]:
        """Return rowid and cells of a row of the older database; a row without a key is found by its content.

        The migrations may have changed the `loose` columns: then the row is found by its rowid and the others.
        """
        rows = self._rows(row.table)
        key = rows.key
        if key and all(row.row.get(column) is not None for column in key):
            marks, values = bound(row.row[column] for column in key)
            where = " AND ".join(f"{quoted(column)} = {mark}" for column, mark in zip(key, marks, strict=True))
            return self._first(rows, where, values)
        marks, values = bound(row.row.values())
        where = " AND ".join(f"{quoted(name)} IS {mark}" for name, mark in zip(row.row, marks, strict=True)) or "1"
        if rows.rowid is not None and place is not None:
            # Mostly the row still has its rowid, and the table need not be searched.
            found = self._first(rows, f"{rows.rowid} = ? AND {where}", [place, *values])
            if found[1] is not None:
                return found
            firm = {name: value for name, value in row.row.items() if name.lower() not in loose}
            if len(firm) < len(row.row) and self._same_rowids(rows):
                marks, fixed = bound(firm.values())
                equal = [f"{quoted(name)} IS {mark}" for name, mark in zip(firm, marks, strict=True)]
                return self._first(rows, " AND ".join([f"{rows.rowid} = ?", *equal]), [place, *fixed])
        return self._first(rows, where, values)

    def _same_rowids(self, rows: FinalRows) -> bool:
        """Return whether the migrations left every rowid of an older table as it was."""
        return self._once(("rowids", rows.table), lambda: self._have_same_rowids(rows))

    def _have_same_rowids(self, rows: FinalRows) -> bool:
        newer = next((name for name in tables_of(self._connection, BASE) if self._is_before(name, rows.table)), None)
        rowid = rowid_of(self._connection, newer, BASE) if newer is not None else None
        if newer is None or rowid is None:
            return False
        mine, theirs = (
            f"SELECT {rows.rowid} FROM main.{quoted(rows.table)}",
            f"SELECT {rowid} FROM {BASE}.{quoted(newer)}",
        )
        counts = [self._connection.execute(f"SELECT count(*) FROM ({sql})").fetchone() for sql in (mine, theirs)]
        other = self._connection.execute(f"SELECT 1 FROM ({mine} EXCEPT {theirs}) LIMIT 1").fetchone()
        return counts[0] == counts[1] and other is None

    def _only_filled(self, table: str, column: str) -> bool:
        """Return whether the migrations changed no value of a column but NULL, so that values mean what they meant."""
        return self._once(("filled", f"{table}.{column}"), lambda: self._is_only_filled(table, column))

    def _is_only_filled(self, table: str, column: str) -> bool:
        rows = self._rows(table)
        newer = next((name for name in tables_of(self._connection, BASE) if self._is_before(name, table)), None)
        if newer is None:
            return False
        key = [quoted(name) for name in rows.key]
        if not key or self._translate.renames(newer):
            rowid = rowid_of(self._connection, newer, BASE)
            if rows.rowid is None or rowid is None or not self._same_rowids(rows):
                return False
            same_row = f"b.{rowid} = o.{rows.rowid}"
        else:
            same_row = " AND ".join(f"b.{name} = o.{name}" for name in key)
        sql = (
            f"SELECT 1 FROM main.{quoted(table)} o JOIN {BASE}.{quoted(newer)} b ON {same_row}"
            f" WHERE o.{quoted(column)} IS NOT NULL AND b.{quoted(column)} IS NOT o.{quoted(column)} LIMIT 1"
        )
        try:
            return self._connection.execute(sql).fetchone() is None
        except sqlite3.OperationalError as error:
            if kind_of(error) is not None:
                raise
            return False

    def _is_before(self, newer: str, older: str) -> bool:
        return (self._translate.table_of(newer) or "").lower() == older.lower()

    def _once(self, question: tuple[str, str], answer: Callable[[], bool]) -> bool:
        if question not in self._answers:
            self._answers[question] = answer()
        return self._answers[question]

    def _first(self, rows: FinalRows, where: str, values: list[Value]) -> tuple[int | None, Record | None]:
        names = [rows.rowid or "NULL", *(quoted(name) for name in rows.columns)]
        taken = self._taken.get(rows.table, set())
        sql = f"SELECT {', '.join(names)} FROM main.{quoted(rows.table)} WHERE {where}"
        for place, *cells in self._connection.execute(sql, values):
            if place is None or place not in taken:
                return place, dict(zip(rows.columns, cells, strict=True))
        return None, None

    def _defaults_of(self, table: str) -> dict[str, Value]:
        """Return what SQLite would put into columns that an INSERT does not name."""
        if table not in self._defaults:
            found: dict[str, Value] = {}
            for column in columns_of(self._connection, table):
                try:
                    sql = f"SELECT ({column.default})"
                    found[column.name] = self._connection.execute(sql).fetchone()[0] if column.default else None
                except sqlite3.OperationalError:
                    found[column.name] = None
            self._defaults[table] = found
        return self._defaults[table]


def copy_entries(connection: Connection, shadows: list[str]) -> None:
    """Copy the tables in which a search index without content keeps its entries, if people changed them."""
    for name in shadows:
        rowid = rowid_of(connection, name)
        columns = [quoted(column.name) for column in columns_of(connection, name) if column.is_written]
        names = ", ".join([rowid, *columns] if rowid and not key_of(connection, name) else columns)
        sides = [f"SELECT {names} FROM {side}.{quoted(name)}" for side in (NOW, BASE)]
        both = [f"SELECT 1 FROM ({side} EXCEPT {other}) LIMIT 1" for side, other in (sides, sides[::-1])]
        if any(connection.execute(sql).fetchone() for sql in both):
            connection.execute(f"DELETE FROM main.{quoted(name)}")
            connection.execute(f"INSERT INTO main.{quoted(name)} ({names}) SELECT {names} FROM {NOW}.{quoted(name)}")
