"""The changes between two states of a database, row by row, and their replay on an older schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.downgrade.row_translation import Placed, Record, Translator
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import app_tables, columns_of, key_of, quoted, tables_of
from dbsync.verification.keyed_matching import Twins, null_keys

NOW: Final = "now"
BASE: Final = "base"


class Change(NamedTuple):
    """One row that was added, changed or removed."""

    table: str
    before: Record | None
    after: Record | None


def changes(connection: Connection) -> Iterator[Change]:
    """Yield the rows in which NOW differs from BASE, both attached, in the tables and columns that both have.

    Tables by name, parents before children in no particular order: foreign keys are off during the replay.
    """
    known = {name.lower() for name in tables_of(connection, BASE)}
    for table, facts in sorted(app_tables(connection, NOW).items()):
        # A search index over another table follows from that table; a contentless one cannot be read.
        if table.lower() not in known or not facts.has_own_rows:
            continue
        columns, key = _columns(connection, table)
        if columns:
            yield from _of_table(connection, table, columns, key)


def _of_table(connection: Connection, table: str, columns: list[str], key: list[str]) -> Iterator[Change]:
    names = [*columns, *(column for column in key or ["rowid"] if column not in columns)]
    twins = Twins(connection, table, tuple(columns), tuple(key), now=NOW, base=BASE)

    def listed(side: str) -> str:
        return ", ".join(f"{side}.{_name(name)}" for name in names)

    for row in connection.execute(f"SELECT {listed('b')} {twins.removed}"):
        yield Change(table, dict(zip(names, row, strict=True)), None)
    for row in connection.execute(f"SELECT {listed('b')}, {listed('n')} {twins.changed}"):
        before, after = row[: len(names)], row[len(names) :]
        yield Change(table, dict(zip(names, before, strict=True)), dict(zip(names, after, strict=True)))
    for row in connection.execute(f"SELECT {listed('n')} {twins.added}"):
        yield Change(table, None, dict(zip(names, row, strict=True)))


def _columns(connection: Connection, table: str) -> tuple[list[str], list[str]]:
    """Return the writable columns, and the primary key that both sides have; else an empty one, for the rowid."""
    before = {column.name.lower() for column in columns_of(connection, table, BASE)}
    columns = [
        column.name
        for column in columns_of(connection, table, NOW)
        if column.is_written and column.name.lower() in before
    ]
    key = key_of(connection, table, NOW)
    same_key = [column.lower() for column in key] == [column.lower() for column in key_of(connection, table, BASE)]
    if not same_key or (key and any(null_keys(connection, table, tuple(key), side) for side in (NOW, BASE))):
        return columns, []
    return columns, key


def _name(column: str) -> str:
    return "rowid" if column == "rowid" else quoted(column)


class Replay:
    """A replay of changes on a copy of the older database; a row that has no place there goes to a side file."""

    def __init__(self, connection: Connection, translate: Translator, parked: Path) -> None:
        self._connection: Final = connection
        self._translate: Final = translate
        self._parked: Final = parked
        self._known: Final = {name.lower(): facts for name, facts in app_tables(connection).items()}
        self._names: Final[dict[str, dict[str, str]]] = {}

    def do(self, change: Change) -> None:
        """Add, change or remove one row. A row that is not in its place is left alone: the proof reports it."""
        before = self._down(change.table, change.before)
        after = self._down(change.table, change.after)
        if change.after is not None and after is None:
            self._park(change.table, change.after)
            return
        if before is not None and after is not None:
            self._update(before, after)
        elif after is not None:
            self._insert(after)
        elif before is not None:
            self._delete(before)
        if after is not None and change.after is not None:
            self._park_rest(change, after)

    def _down(self, table: str, row: Record | None) -> Placed | None:
        placed = self._translate(table, row) if row is not None else None
        if placed is None or placed.table.lower() not in self._known:
            return None
        known = self._known[placed.table.lower()].name
        names = self._written(known)
        kept = {names[name.lower()]: value for name, value in placed.row.items() if name.lower() in names}
        if "rowid" in placed.row:
            kept["rowid"] = placed.row["rowid"]
        return Placed(known, kept, placed.later)

    def _written(self, table: str) -> dict[str, str]:
        """Return the writable columns, by their names in lower case."""
        if table not in self._names:
            columns = columns_of(self._connection, table)
            self._names[table] = {column.name.lower(): column.name for column in columns if column.is_written}
        return self._names[table]

    def _insert(self, row: Placed) -> None:
        table, values, _ = row
        # A row without a key of its own gets any free rowid.
        values = {name: value for name, value in values.items() if name != "rowid" or self._is_virtual(table)}
        names = ", ".join(_name(name) for name in values)
        marks = ", ".join("?" for _ in values)
        self._connection.execute(f"INSERT INTO main.{quoted(table)} ({names}) VALUES ({marks})", tuple(values.values()))

    def _update(self, before: Placed, after: Placed) -> None:
        table, old, _ = before
        new = {name: value for name, value in after.row.items() if name != "rowid" and not _equal(value, old.get(name))}
        if not new:
            return
        where, values = self._where(table, old)
        sets = ", ".join(f"{quoted(name)} = ?" for name in new)
        self._connection.execute(f"UPDATE main.{quoted(table)} SET {sets} WHERE {where}", (*new.values(), *values))

    def _delete(self, row: Placed) -> None:
        where, values = self._where(row.table, row.row)
        self._connection.execute(f"DELETE FROM main.{quoted(row.table)} WHERE {where}", values)

    def _where(self, table: str, row: Record) -> tuple[str, tuple[Any, ...]]:
        key = key_of(self._connection, table)
        if key and all(row.get(column) is not None for column in key):
            return " AND ".join(f"{quoted(column)} = ?" for column in key), tuple(row[column] for column in key)
        if self._is_virtual(table):
            return "rowid = ?", (row["rowid"],)
        columns = [name for name in row if name != "rowid"]
        equal = " AND ".join(f"{quoted(column)} IS ?" for column in columns)
        # Among rows that are equal in everything any will do, but only one of them.
        inner = f"SELECT rowid FROM main.{quoted(table)} WHERE {equal} ORDER BY rowid = ? DESC LIMIT 1"
        return f"rowid = ({inner})", (*(row[column] for column in columns), row.get("rowid"))

    def _is_virtual(self, table: str) -> bool:
        return self._known[table.lower()].is_virtual

    def _park_rest(self, change: Change, after: Placed) -> None:
        """Park the values of columns that the older schema does not have, as far as somebody set them."""
        assert change.after is not None
        taken = {name.lower() for name in after.row} - {name.lower() for name in after.later}
        before = change.before or {}
        rest = {
            name: value
            for name, value in change.after.items()
            if name.lower() not in taken and name != "rowid" and value is not None and value != before.get(name)
        }
        if rest:
            self._park(change.table, {**_key_of(change.after, after.row), **rest})

    def _park(self, table: str, row: Mapping[str, Any]) -> None:
        self._parked.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
        with self._parked.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"table": table, "row": plain}, ensure_ascii=False) + "\n")


def keep_parked(path: Path, tables: frozenset[str]) -> int:
    """Keep only the rows of some tables in a side file and return their count.

    If there are none, the file is removed, and its folder if nothing else is in it.
    """
    try:
        # Not `splitlines`: it also ends lines at characters of texts, such as U+2028.
        lines = [f"{line}\n" for line in path.read_text(encoding="utf-8").split("\n") if line]
    except FileNotFoundError:
        return 0
    kept = [line for line in lines if json.loads(line)["table"] in tables]
    if kept:
        path.write_text("".join(kept), encoding="utf-8")
        return len(kept)
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
    return 0


def _key_of(row: Record, kept: Record) -> Record:
    return {name: value for name, value in row.items() if name in kept}


def _equal(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other
