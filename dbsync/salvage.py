"""Reads the rows of a damaged table: what stands before a damaged page, and everything after it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from dbsync.sqlite import Connection, Row, columns_of, is_rowid, key_of, quoted, rowid_of

FIRST_ROWID: Final = -(2**63)
LAST_ROWID: Final = 2**63 - 1


class Salvage:
    """The rows of one table, each once; which were not found is known after they were read.

    A damaged page fails when it is read, and SQLite stops there. The rows of a table lie in the order of their rowids,
    so the first one that can be read again is found by looking ahead, further each time, and halving the way back.
    """

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection: Final = connection
        self._table: Final = quoted(table)
        self._rowid: Final = rowid_of(connection, table)
        written = [str(row[1]) for row in columns_of(connection, table) if row[6] == 0]
        self._has_rowid: Final = self._rowid is not None and not is_rowid(connection, table)
        self._key: Final = [quoted(one) for one in key_of(connection, table)]
        self.columns: Final = [*(["rowid"] if self._has_rowid and self._rowid else []), *written]
        """Names of what each row holds; `rowid` first where rows are known by it alone."""
        self.gaps: list[tuple[int, int]] = []
        """Rowids from and to which nothing could be read; there need not have been a row for each."""
        self.cut = ""
        """For a table without rowids: what stopped the reading; empty if nothing did."""

    def rows(self) -> Iterator[Row]:
        """All that can be read; one that is met twice at two ends may come twice."""
        yield from self._by_rowid() if self._rowid is not None else self._by_key()

    def _by_rowid(self) -> Iterator[Row]:
        start = FIRST_ROWID
        while True:
            last = start - 1
            try:
                for row in self._connection.execute(self._select(start)):
                    last = int(str(row[0]))
                    yield row[1:]
                return
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    raise
            # Python's cursor steps ahead: a row before the damaged place is dropped with the error behind it.
            while (row_before := self._one(last + 1)) is not None:
                last = int(str(row_before[0]))
                yield row_before[1:]
            found = self._next_readable(last)
            self.gaps.append((last + 1, LAST_ROWID if found is None else found - 1))
            if found is None:
                return
            start = found

    def _one(self, start: int) -> Row | None:
        """The next row by itself; None where it cannot be read."""
        try:
            row: Row | None = self._connection.execute(f"{self._select(start)} LIMIT 1").fetchone()
        except sqlite3.DatabaseError:
            return None
        return row

    def _select(self, start: int) -> str:
        names = [
            self._rowid,
            *(self._rowid if one == "rowid" and self._has_rowid else quoted(one) for one in self.columns),
        ]
        # NOT INDEXED: a damaged index hides nothing (sqlite.org/lang_indexedby.html).
        # At or above, never above the row before: looking for that one would lead to the damaged page.
        where = f" WHERE {self._rowid} >= {start}" if start > FIRST_ROWID else ""
        return f"SELECT {', '.join(map(str, names))} FROM {self._table} NOT INDEXED{where} ORDER BY {self._rowid}"

    def _next_readable(self, last: int) -> int | None:
        """The lowest rowid after a damaged place from which reading goes on; None: there is none."""
        bad, step = last, 1
        good: int | None = None
        while good is None:
            ahead = bad + step
            if ahead > LAST_ROWID:
                return None
            if self._try(ahead)[0]:
                good = ahead
            else:
                bad, step = ahead, step * 2
        while good - bad > 1:
            middle = (bad + good) // 2
            if self._try(middle)[0]:
                good = middle
            else:
                bad = middle
        return self._try(good)[1]

    def _try(self, rowid: int) -> tuple[bool, int | None]:
        """Whether reading can begin at a rowid, and the first row's."""
        try:
            row = self._connection.execute(
                f"SELECT {self._rowid} FROM {self._table} NOT INDEXED WHERE {self._rowid} >= ?"
                f" ORDER BY {self._rowid} LIMIT 1",
                (rowid,),
            ).fetchone()
        except sqlite3.DatabaseError:
            return False, None
        return True, int(row[0]) if row else None

    def _by_key(self) -> Iterator[Row]:
        """WITHOUT ROWID: from the front until it stops, then from the back."""
        names = ", ".join(quoted(one) for one in self.columns)
        for direction in ("ASC", "DESC"):
            order = ", ".join(f"{one} {direction}" for one in self._key)
            try:
                yield from self._connection.execute(f"SELECT {names} FROM {self._table} ORDER BY {order}")
                return
            except sqlite3.DatabaseError as error:
                self.cut = str(error)
