"""Takes what can be read of a damaged database into a new one: tables, marks, searches, and what stands on them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync import disk
from dbsync.progress import ROWS, Meter
from dbsync.replay import is_external_search
from dbsync.salvage import Salvage
from dbsync.sqlite import Connection, has_table, quoted, version_of

TOLD_ROWS: Final = 1000


class Table(NamedTuple):
    """What became of one table."""

    name: str
    rows_count: int
    gaps: tuple[tuple[int, int], ...]
    """Rowids between which nothing could be read."""
    problem: str


class Taking:
    """Makes the new database out of the old one, object by object."""

    def __init__(self, old: Connection, new: Connection, side: Path, meter: Meter) -> None:
        self._old: Final = old
        self._new: Final = new
        self._meter: Final = meter
        self.side: Final = side
        self.refused: list[dict[str, Any]] = []

    def all(self) -> tuple[tuple[Table, ...], tuple[str, ...]]:
        """Tables first, then what is searched in them, then what stands on them."""
        kinds = {str(row[1]): str(row[2]) for row in self._old.execute("PRAGMA main.table_list").fetchall()}
        rows = self._old.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY rowid").fetchall()
        made = [(str(name), str(sql)) for kind, name, sql in rows if kind == "table" and sql]
        plain = [one for one in made if kinds.get(one[0]) == "table" and not one[0].startswith("sqlite_")]
        virtual = [one for one in made if kinds.get(one[0]) == "virtual"]
        rest = [(str(kind), str(name), str(sql)) for kind, name, sql in rows if kind != "table" and sql]
        self._new.execute("BEGIN")
        tables = [self._table(*one) for one in plain]
        self._marks()
        tables += [self._virtual(*one) for one in virtual]
        order = ("index", "view", "trigger")
        problems = [self._object(*one) for one in sorted(rest, key=lambda one: order.index(one[0]))]
        self._new.execute(f"PRAGMA user_version={version_of(self._old)}")
        self._new.execute(f"PRAGMA application_id={self._old.execute('PRAGMA application_id').fetchone()[0]}")
        self._new.execute("COMMIT")
        return tuple(tables), tuple(one for one in problems if one)

    def keep_apart(self) -> None:
        """Writes what the constraints refused, durably."""
        if self.refused:
            lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in self.refused)
            disk.write_durably(self.side, lines.encode())

    def _table(self, name: str, sql: str) -> Table:
        self._new.execute(sql)
        salvage = Salvage(self._old, name)
        count = self._take(name, salvage)
        return Table(name, count, tuple(salvage.gaps), salvage.cut)

    def _take(self, name: str, salvage: Salvage) -> int:
        listed = ", ".join("rowid" if one == "rowid" else quoted(one) for one in salvage.columns)
        sql = f"INSERT INTO {quoted(name)} ({listed}) VALUES ({', '.join('?' for _ in salvage.columns)})"
        told = self._meter.phase("read")
        count = 0
        for row in salvage.rows():
            try:
                self._new.execute(sql, row)
            except sqlite3.IntegrityError as error:
                if not salvage.cut:
                    self._refuse(name, dict(zip(salvage.columns, row, strict=True)), str(error))
                continue
            count += 1
            if count % TOLD_ROWS == 0:
                told(count, 0, name, ROWS)
        return count

    def _refuse(self, table: str, row: dict[str, Any], why: str) -> None:
        plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
        self.refused.append({"table": table, "why": why, "row": plain})

    def _marks(self) -> None:
        """AUTOINCREMENT goes on where it was: a number on a receipt is not given out twice."""
        if not has_table(self._new, "sqlite_sequence"):
            return
        try:
            rows = self._old.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
        except sqlite3.DatabaseError:
            # What the rows themselves say is there by their being written.
            return
        for name, mark in rows:
            self._new.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (mark, name))
            self._new.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, ?2"
                " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1)",
                (name, mark),
            )

    def _virtual(self, name: str, sql: str) -> Table:
        try:
            self._new.execute(sql)
            if is_external_search(self._old, name, "main"):
                self._new.execute(f"INSERT INTO {quoted(name)} ({quoted(name)}) VALUES ('rebuild')")
                count = self._new.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]
                return Table(name, int(count), (), "")
            salvage = Salvage(self._old, name)
            count = self._take(name, salvage)
        except sqlite3.Error as error:
            return Table(name, 0, (), str(error))
        return Table(name, count, tuple(salvage.gaps), salvage.cut)

    def _object(self, kind: str, name: str, sql: str) -> str:
        try:
            self._new.execute(sql)
        except sqlite3.Error as error:
            return f"{kind} {name}: {error}"
        return ""
