"""Rows of one table, brought to their final states in any order.

All rows that change are deleted first and inserted as they are to be, so no row stands in another's way: values swapped
between two rows of a UNIQUE column, moved keys, references of a table to itself. A refused row keeps as many of its
new cells as the table accepts: all but one, all but two, none; only then it is absent. The caller learns every refusal.

The caller has a transaction open, with foreign keys off and without triggers. The rows wait in a table of their own,
beside the database or in `temp`: a change may have as many rows as the table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Final, NamedTuple

from dbsync.complement.exact_values import Value, bound, same
from dbsync.storage.connections import Connection, attempted, kind_of
from dbsync.storage.introspection import columns_of, facts_of, is_rowid, key_of, quoted, rowid_of

Cells = Mapping[str, Value]
"""Cells of a row by the names of its columns, spelled as the table has them."""
_MOST_CELLS: Final = 24
"""A refused row with more changed cells than these goes from one cell back to its old state at once."""
ABSENT, FINAL, PARTLY = 0, 1, 2


class Refusal(NamedTuple):
    """A row that could not be brought to its final state."""

    tag: int
    """The number that the caller gave to the row."""
    cause: str


class FinalRows:
    """The rows of one table on their way to their final states."""

    def __init__(self, connection: Connection, table: str, *, stage: str) -> None:
        """Prepare an empty set of rows; `stage` names a free table in an attached database, as `work.stage_1`."""
        facts = facts_of(connection, table)
        self.table: Final = facts.name if facts is not None else table
        self.stage: Final = stage
        self.columns: Final = tuple(column.name for column in columns_of(connection, table) if column.is_written)
        self.key: Final = tuple(key_of(connection, table))
        self.rowid: Final = rowid_of(connection, table)
        """The name of its rowid; None: the primary key alone identifies rows."""
        self.own_rowid: Final = is_rowid(connection, table)
        """Whether a column is the rowid."""
        self._connection: Final = connection
        self._name: Final = f"main.{quoted(self.table)}"
        self._explicit: Final = self.rowid is not None and not self.own_rowid
        self._o: Final = [f"o{number}" for number in range(len(self.columns))]
        self._f: Final = [f"f{number}" for number in range(len(self.columns))]
        names = ", ".join(["tag", "place", "target", "old", "final", "live", *self._o, *self._f])
        self._staging: Final = f"INSERT INTO {stage} ({names})"
        self._last: int | None = None
        cells = ", ".join([*self._o, *self._f])
        connection.execute(
            f"CREATE TABLE {stage} (seq INTEGER PRIMARY KEY, tag, place, target, moved, old, final, live, cause"
            f"{', ' if cells else ''}{cells})"
        )

    def add(
        self, tag: int, *, place: int | None, old: Cells | None, final: Cells | None, target: int | None = None
    ) -> None:
        """Add a row.

        Args:
            tag: names the row in refusals.
            place: its rowid in the table, for an old row; for a new one the rowid that it should have, if any.
            old: all its cells as they are; None: it is new.
            final: all its cells as they are to be; None: it goes.
            target: the rowid that an old row should have then, if another one.
        """
        befores = [None if old is None else old[name] for name in self.columns]
        afters = [None if final is None else final[name] for name in self.columns]
        target = place if target is None else target
        marks, values = bound(
            [tag, place, target, int(old is not None), int(final is not None), ABSENT, *befores, *afters]
        )
        self._connection.execute(f"{self._staging} VALUES ({', '.join(marks)})", values)

    def apply(self) -> None:
        """Bring all rows to their final states, as far as the table accepts them.

        Where no row can be inserted at all, as a function of the app is missing, rows that change stay as they are.

        Raises:
            sqlite3.Error: no row of the table can be deleted, or the machine failed.
        """
        cause = self._why_closed()
        if cause is not None:
            sql = f"UPDATE {self.stage} SET live = CASE WHEN old THEN {PARTLY} ELSE {ABSENT} END, cause = ? WHERE final"
            self._connection.execute(sql, (cause,))
            self._delete_old(only="AND NOT final")
            return
        self._delete_old()
        if not self._insert_at_once():
            self._insert_one_by_one()

    def refusals(self) -> list[Refusal]:
        """Return the rows that are not in their final states, in their order."""
        rows = self._connection.execute(f"SELECT tag, cause FROM {self.stage} WHERE cause IS NOT NULL ORDER BY seq")
        return [Refusal(int(tag), str(cause)) for tag, cause in rows.fetchall()]

    def moved_rowids_count(self) -> int:
        """Return how many rows have another rowid than they should have: other rows may refer to it."""
        sql = f"SELECT count(*) FROM {self.stage} WHERE moved AND live <> {ABSENT}"
        return int(self._connection.execute(sql).fetchone()[0])

    # ------------------------------------------------------------------------------------------------------- passes

    def _why_closed(self) -> str | None:
        """Return why SQLite cannot compile an INSERT into the table; None if it can. Nothing is inserted."""
        if not self.columns:
            return None
        insert = f"INSERT OR ABORT INTO {self._name} ({', '.join(map(quoted, self.columns))})"
        try:
            self._connection.execute(f"{insert} SELECT {', '.join(self._f)} FROM {self.stage} WHERE 0")
        except sqlite3.OperationalError as error:
            if kind_of(error) is not None:
                raise
            return str(error)
        return None

    def _delete_old(self, only: str = "") -> None:
        if self.rowid is not None:
            self._connection.execute(
                f"DELETE FROM {self._name} WHERE {self.rowid} IN (SELECT place FROM {self.stage} WHERE old {only})"
            )
            return
        old = f"SELECT {', '.join(self._o)} FROM {self.stage} WHERE old {only}"
        for row in self._connection.execute(old).fetchall():
            self._delete(dict(zip(self.columns, row, strict=True)), None)

    def _insert_at_once(self) -> bool:
        names = [quoted(name) for name in self.columns]
        cells = list(self._f)
        if self._explicit:
            assert self.rowid is not None
            names, cells = [self.rowid, *names], ["target", *cells]
            placeless = f"SELECT 1 FROM {self.stage} WHERE final AND target IS NULL LIMIT 1"
            if self._connection.execute(placeless).fetchone():
                return False
        # OR ABORT: the table's own ON CONFLICT clauses would replace or drop rows silently.
        insert = (
            f"INSERT OR ABORT INTO {self._name} ({', '.join(names)})"
            f" SELECT {', '.join(cells)} FROM {self.stage} WHERE final ORDER BY seq"
        )
        if attempted(self._connection, partial(self._connection.execute, insert)) is not None:
            return False
        self._connection.execute(f"UPDATE {self.stage} SET live = {FINAL}, place = target WHERE final")
        return True

    def _insert_one_by_one(self) -> None:
        waiting = self._connection.execute(f"SELECT seq FROM {self.stage} WHERE final ORDER BY seq").fetchall()
        refused: list[tuple[int, str]] = []
        elsewhere: list[int] = []
        for (seq,) in waiting:
            place, target, old, final = self._row(seq)
            cause = "" if self._explicit and target is None else self._insert(final, target)
            if (
                cause is not None
                and self._explicit
                and old is not None
                and None not in (place, target)
                and place != target
            ):
                cause = self._insert(final, place)
            if cause is None:
                self._arrived(seq)
            elif self._explicit and (old is None or place is None):
                elsewhere.append(seq)
            else:
                refused.append((seq, cause))
        # Only now: a new row whose rowid may be taken must not take that of another one.
        for seq in elsewhere:
            _, target, _, final = self._row(seq)
            cause = self._insert(final, None)
            if cause is None:
                self._connection.execute(f"UPDATE {self.stage} SET moved = ? WHERE seq = ?", (target is not None, seq))
                self._arrived(seq)
            else:
                refused.append((seq, cause))
        # Only now: a row that falls back must not take a value that another row's final state needs.
        for seq, cause in sorted(refused):
            self._fall_back(seq, cause)

    def _arrived(self, seq: int) -> None:
        """Note that the row which was inserted last is in its final state."""
        if self._explicit:
            self._connection.execute(f"UPDATE {self.stage} SET place = ? WHERE seq = ?", (self._last, seq))
        self._note(seq, FINAL, None)

    def _fall_back(self, seq: int, cause: str) -> None:
        place, _, old, final = self._row(seq)
        if old is not None:
            place = self._free(place)
            changed = [name for name in self.columns if not same(old[name], final[name])]
            counts = (1, 2) if len(changed) <= _MOST_CELLS else (1,)
            for count in counts:
                for names in combinations(changed, count):
                    if self._insert({**final, **{name: old[name] for name in names}}, place) is None:
                        self._note_place(seq, is_moved=place is None)
                        self._note(seq, PARTLY, cause)
                        return
            if self._put_old(seq, old, place):
                self._note(seq, PARTLY, cause)
                return
        self._note(seq, ABSENT, cause)

    def undo(self, seq: int, cause: str) -> None:
        """Put the row's old state back; a new row goes. For a caller that finds the final state impossible."""
        place, _, old, final = self._row(seq)
        (is_live,) = self._connection.execute(f"SELECT live FROM {self.stage} WHERE seq = ?", (seq,)).fetchone()
        if is_live:
            # Else another row may have taken its key or its rowid.
            self._delete(final, place)
            if old is not None:
                self._delete(old, place)
        restored = old is not None and self._put_old(seq, old, place)
        self._note(seq, PARTLY if restored else ABSENT, cause)

    def restore(self, seq: int, cause: str) -> None:
        """Put a row back that was to go."""
        place, _, old, _ = self._row(seq)
        if old is not None and self._put_old(seq, old, place):
            self._note(seq, PARTLY, cause)

    def _put_old(self, seq: int, old: Cells, place: int | None) -> bool:
        """Insert a row as it was; at another rowid, if a new row has taken its own and no column shows it."""
        if self._insert(old, place) is None:
            return True
        if not self._explicit or self._insert(old, None) is not None:
            return False
        self._note_place(seq, is_moved=True)
        return True

    def _free(self, place: int | None) -> int | None:
        """Return a rowid if no row has it: the row that had it goes elsewhere, and another one may have taken it."""
        if not self._explicit or place is None:
            return place
        taken = self._connection.execute(f"SELECT 1 FROM {self._name} WHERE {self.rowid} = ?", (place,)).fetchone()
        return None if taken else place

    def _note_place(self, seq: int, *, is_moved: bool) -> None:
        if self._explicit:
            sql = f"UPDATE {self.stage} SET place = ?, moved = ? WHERE seq = ?"
            self._connection.execute(sql, (self._last, is_moved, seq))

    # --------------------------------------------------------------------------------------------------------- rows

    def _row(self, seq: int) -> tuple[int | None, int | None, dict[str, Value] | None, dict[str, Value]]:
        names = ", ".join(["place", "target", "old", *self._o, *self._f])
        place, target, has_old, *cells = self._connection.execute(
            f"SELECT {names} FROM {self.stage} WHERE seq = ?", (seq,)
        ).fetchone()
        half = len(self.columns)
        old = dict(zip(self.columns, cells[:half], strict=True)) if has_old else None
        return place, target, old, dict(zip(self.columns, cells[half:], strict=True))

    def _insert(self, cells: Cells, place: int | None) -> str | None:
        """Insert one row and return why the table refuses it; None: it is in."""
        names, (marks, values) = [quoted(name) for name in cells], bound(cells.values())
        if self._explicit and place is not None:
            assert self.rowid is not None
            names, marks, values = [self.rowid, *names], ["?", *marks], [place, *values]
        sql = f"INSERT OR ABORT INTO {self._name} ({', '.join(names)}) VALUES ({', '.join(marks)})"
        try:
            self._last = self._connection.execute(sql, values).lastrowid
        except sqlite3.Error as error:
            if kind_of(error) is not None:
                raise
            return str(error)
        return None

    def _delete(self, cells: Cells, place: int | None) -> None:
        if self._explicit:
            if place is not None:
                self._connection.execute(f"DELETE FROM {self._name} WHERE {self.rowid} = ?", (place,))
            return
        if not self.key:
            raise sqlite3.NotSupportedError(f"the rows of {self.table} have neither a key nor a name for their rowid")
        marks, values = bound(cells[name] for name in self.key)
        where = " AND ".join(f"{quoted(name)} = {mark}" for name, mark in zip(self.key, marks, strict=True))
        self._connection.execute(f"DELETE FROM {self._name} WHERE {where}", values)

    def _note(self, seq: int, live: int, cause: str | None) -> None:
        self._connection.execute(f"UPDATE {self.stage} SET live = ?, cause = ? WHERE seq = ?", (live, cause, seq))
