"""Rows that a repair put aside, put back after a person has reviewed them: one JSON line each, as it wrote them.

A row goes in as it stands, without the triggers of its table: what they do was done when it was recorded first. A row
that the schema refuses stays in a file of the same form, with the cause.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.complement.exact_values import bound
from dbsync.complement.quiet_triggers import renew_searches, without_triggers
from dbsync.errors import DiskProblem, UnreadableFile
from dbsync.storage import file_calls, files
from dbsync.storage.connections import Connection, kind_of, open_writing, translated
from dbsync.storage.files import disk_errors
from dbsync.storage.introspection import app_tables, columns_of, is_rowid, quoted, rowid_of
from dbsync.storage.raw_text import every_text, lines_of
from dbsync.verification import exports

LEFT: Final = ".left.jsonl"
"""The end of the name of the file for rows that were refused."""
_FORM: Final = (
    'Nothing was changed. A line is like {"table": "sale", "row": {"id": 7, "note": null}}; a value is a number, a'
    ' string, null, or {"bytes": "00ff"}.'
)
_STORED: Final = (int, float, str, bytes, type(None))
"""The types of values that SQLite stores."""
_SHOWN_CELLS: Final = 40


class Entry(NamedTuple):
    """A line of the file."""

    number: int
    table: str
    rowid: int | None
    row: Mapping[str, Any]


class Refusal(NamedTuple):
    """A row that the database does not take."""

    entry: Entry
    cause: str


class PutBack(NamedTuple):
    """The result."""

    put_count: int
    there_count: int
    """Rows that were there already, as they are."""
    refused: tuple[Refusal, ...] = ()


def read(path: Path) -> list[Entry]:
    """Return the rows of a reviewed file.

    Raises:
        UnreadableFile: a line is not of the form that `dbsync repair` writes; its number is named.
        DiskProblem: the file cannot be read.
    """
    try:
        with disk_errors("read", path):
            data = file_calls.read_bytes(path)
    except DiskProblem as error:
        if files.is_there(path):
            raise
        hint = "Name a file of rows that `dbsync repair` wrote."
        raise UnreadableFile(operation="read", path=path, cause="there is no such file", hint=hint) from error
    try:
        lines = lines_of(data.decode("utf-8"))
    except UnicodeDecodeError as cause:
        raise UnreadableFile(operation="read", path=path, cause=str(cause)) from cause
    return [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _entry(path: Path, number: int, line: str) -> Entry:
    def unreadable(cause: str) -> UnreadableFile:
        return UnreadableFile(operation="read", path=path, cause=f"line {number}: {cause}", hint=_FORM)

    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as cause:
        raise unreadable(f"it is not JSON: {cause}") from cause
    row = found.get("row") if isinstance(found, dict) else None
    if not isinstance(row, dict) or not row or not isinstance(found.get("table"), str):
        raise unreadable("it is not an object with a table and a row")
    rowid = found.get("rowid")
    if not (rowid is None or (isinstance(rowid, int) and not isinstance(rowid, bool))):
        raise unreadable("rowid is not a whole number")
    values: dict[str, object] = {}
    for column, value in row.items():
        try:
            values |= exports.from_json({column: value})
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as cause:
            raise unreadable(f"{column} is not a value: {json.dumps(value)[:_SHOWN_CELLS]}") from cause
        if not isinstance(values[column], _STORED):
            raise unreadable(f"{column} is not a value: {json.dumps(value)[:_SHOWN_CELLS]}")
    return Entry(number, found["table"], rowid, values)


def put_back(database: Path, entries: Iterable[Entry], *, keep: bool) -> PutBack:
    """Insert rows in one transaction, parents before children whatever their order is.

    Args:
        database: the live database; the caller holds its lock.
        entries: the rows.
        keep: whether to commit; without it the same is found out, and nothing is changed.

    Raises:
        TillkeeperError: by meaning (Locked, DiskFull …); nothing was changed.
    """
    with translated("put rows back into", database), closing(open_writing(database)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("BEGIN IMMEDIATE")
        with every_text(connection), without_triggers(connection):
            done = _put(connection, list(entries))
        connection.execute("COMMIT" if keep else "ROLLBACK")
    return done


def write_left(path: Path, refused: Iterable[Refusal], *, like: Path) -> Path:
    """Write the rows that were refused beside the reviewed file, in its form, and return the path."""
    left = path.with_name(path.name.removesuffix(LEFT).removesuffix(".jsonl") + LEFT)
    lines = "".join(
        exports.json_line(
            {"table": entry.table, "rowid": entry.rowid, "cause": cause, "row": exports.as_json(entry.row)}
        )
        for entry, cause in refused
    )
    files.write_durably(left, lines.encode(), like=like)
    return left


def _put(connection: Connection, waiting: list[Entry]) -> PutBack:
    names = {name.lower(): name for name, facts in app_tables(connection).items() if facts.has_own_rows}
    put_count = there_count = 0
    causes: dict[int, str] = {}
    touched = frozenset(entry.table.lower() for entry in waiting)
    while True:
        left = []
        for entry in waiting:
            cause = _why_not(connection, names, entry)
            if cause is None:
                put_count += 1
            elif not cause:
                there_count += 1
            else:
                causes[entry.number] = cause
                left.append(entry)
        # A row whose parent came after it is taken in the next turn.
        if not left or len(left) == len(waiting):
            # One that only the app can evaluate is left as it is.
            renew_searches(connection, touched)
            return PutBack(put_count, there_count, tuple(Refusal(entry, causes[entry.number]) for entry in left))
        waiting = left


def _why_not(connection: Connection, names: Mapping[str, str], entry: Entry) -> str | None:
    """Insert a row; return why it cannot be, None if it was inserted, and nothing if it is there already."""
    table = names.get(entry.table.lower())
    if table is None:
        return f"there is no table {entry.table}"
    written = {column.name for column in columns_of(connection, table) if column.is_written}
    unknown = sorted(set(entry.row) - written)
    if unknown:
        return f"{table} has no column {', '.join(unknown)}"
    values = dict(entry.row)
    try:
        if _is_there(connection, table, values):
            return ""
        _insert(connection, table, values, entry.rowid)
    except (sqlite3.Error, OverflowError) as error:
        if kind_of(error) is not None:
            # The disk, or another process: for the whole run.
            raise
        return str(error)
    return None


def _insert(connection: Connection, table: str, values: dict[str, Any], wanted: int | None) -> None:
    """Insert a row, under the rowid that it had if that is free."""
    rowid = rowid_of(connection, table)
    if wanted is not None and rowid is not None and not is_rowid(connection, table):
        taken = connection.execute(f"SELECT 1 FROM {quoted(table)} WHERE {rowid} = ?", (wanted,)).fetchone()
        values |= {} if taken else {rowid: wanted}
    listed = ", ".join(name if name == rowid else quoted(name) for name in values)
    marks, parameters = bound(values.values())
    # ABORT, whatever the table's own action on a conflict is: REPLACE would remove what is there.
    connection.execute(f"INSERT OR ABORT INTO {quoted(table)} ({listed}) VALUES ({', '.join(marks)})", parameters)


def _is_there(connection: Connection, table: str, row: Mapping[str, Any]) -> bool:
    marks, parameters = bound(row.values())
    cells = list(zip(map(quoted, row), marks, strict=True))
    same = " AND ".join(f"{name} IS {mark}" for name, mark in cells)
    types = " AND ".join(f"typeof({name}) = typeof({mark})" for name, mark in cells)
    found = connection.execute(f"SELECT 1 FROM {quoted(table)} WHERE {same} AND {types}", [*parameters, *parameters])
    return found.fetchone() is not None
