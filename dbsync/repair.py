"""Recovers what can be read of a damaged database into a new file, for support. Never in place, never by itself.

The damaged files are only read: all the work is on a byte copy of them, journals included, so that SQLite's own
recovery happens there. What cannot be read is said per table, and what the new file does not take lies beside it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync import backup, compare, copies, disk
from dbsync.errors import Damaged, DbsyncError, DiskProblem, Refused
from dbsync.model import Backup, Loss
from dbsync.progress import ROWS, Meter
from dbsync.replay import is_external_search
from dbsync.salvage import Salvage
from dbsync.sqlite import (
    Connection,
    attach_copy,
    has_table,
    open_copy,
    open_writing,
    page_size_of,
    quoted,
    translated,
    version_of,
)

MAGIC: Final = b"SQLite format 3\0"
TOLD_ROWS: Final = 1000
MOST_CUT_OFF: Final = 1000
"""A header that asks for more than so many times the file is damaged itself."""


class Table(NamedTuple):
    """What became of one table."""

    name: str
    rows_count: int
    gaps: tuple[tuple[int, int], ...]
    """Rowids between which nothing could be read."""
    problem: str


class Repaired(NamedTuple):
    """What became of a database."""

    into: Path
    schema_from: str
    """Where its definitions were read: "the database", or a backup's path."""
    tables: tuple[Table, ...]
    objects: tuple[str, ...]
    """Indexes, triggers and views that could not be made again, and why."""
    kept_apart: Path | None
    """Rows that the new file's constraints refuse, as JSON lines."""
    kept_apart_count: int
    compared_with: Path | None
    differences: tuple[Loss, ...]
    """Against that backup: added are rows that only the result has, removed those that only the backup has."""

    @property
    def whole(self) -> bool:
        """Whether everything was read and taken."""
        bad = any(one.gaps or one.problem for one in self.tables)
        return not (bad or self.objects or self.kept_apart_count)


def repair(database: Path, into: Path, *, backups: Sequence[Backup], meter: Meter) -> Repaired:
    """Reads a damaged database into a new file that passes SQLite's full check.

    Args:
        database: the damaged one; not changed, nor is anything beside it.
        into: the new file; there must be none.
        backups: newest first; for a schema that cannot be read, and to compare with.
        meter: told of the phases.

    Raises:
        Refused: there is no database, it is none of SQLite's, or its schema cannot be read anywhere.
        DiskFull: and the like; nothing is left of the new file.
    """
    if into.exists():
        raise Refused(operation="repair into", path=into, cause="there is a file of that name already")
    if not database.is_file():
        raise Refused(operation="repair", path=database, cause="there is no such file")
    good = next((one for one in backups if one.verified and one.path.suffix == ".db"), None)
    folder = into.with_name(f"{backup.PART}repair-{into.name}")
    copies.drop_folder(folder)
    try:
        folder.mkdir(parents=True)
        work, part = folder / "damaged.db", folder / "new.db"
        _copy(database, work)
        schema_from = _make_readable(work, good)
        with closing(_reader(work)) as old, closing(_writer(part, old)) as new:
            told = _Taking(old, new, into.with_name(f"{into.name}.refused.jsonl"), meter)
            tables, objects = told.all()
        _check(part)
        differences = _differences(part, good)
        disk.sync_file(part)
        told.keep_apart()
        # A crash before this leaves a folder that the next repair of that name clears.
        disk.rename_durably(part, into)
    except OSError as cause:
        raise disk.problem("repair into", into, cause) from cause
    finally:
        copies.drop_folder(folder)
    return Repaired(
        into, schema_from, tables, objects, told.side if told.refused else None, len(told.refused),
        good.path if good is not None else None, differences,
    )  # fmt: skip


def _copy(database: Path, work: Path) -> None:
    """Bytes, with the journals that belong to them; the `-shm` is made anew."""
    for one in (database, *copies.sidecars(database)):
        if one.exists() and not one.name.endswith("-shm"):
            shutil.copyfile(one, work.with_name(one.name.replace(database.name, work.name, 1)))
    _fill_up(work)


def _fill_up(work: Path) -> None:
    """A file that was cut off is made as long as its header says: SQLite reads nothing at all of a shorter one."""
    with work.open("r+b") as file:
        header = file.read(100)
        if len(header) < 100 or not header.startswith(MAGIC):
            return
        page_bytes, pages_count = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
        wanted_bytes = (65536 if page_bytes == 1 else page_bytes) * pages_count
        if work.stat().st_size < wanted_bytes <= work.stat().st_size * MOST_CUT_OFF:
            file.truncate(wanted_bytes)


def _make_readable(work: Path, good: Backup | None) -> str:
    """Tries the schema; where it cannot be read, the first page of a backup of the same schema takes its place.

    Raises:
        Damaged: that does not help either.
    """
    problem = _schema_problem(work)
    if problem is None:
        return "the database"
    if good is None or work.stat().st_size < 512:
        hint = "`dbsync backups` lists what can be restored."
        cause = f"its schema cannot be read ({problem}), and there is no good backup to take it from"
        raise Damaged(operation="repair", path=work, cause=cause, hint=hint)
    with translated("look at", good.path), closing(open_copy(good.path)) as kept:
        size = page_size_of(kept)
    # Where the tables begin stands on the first page, and stays for as long as the schema does.
    page = bytearray(good.path.read_bytes()[:size])
    # Sizes and free pages are the backup's: without them SQLite goes by the file (sqlite.org/fileformat.html, 1.3).
    page[28:40] = bytes(12)
    page[18:20] = b"\1\1"
    with work.open("r+b") as file:
        file.write(page)
    for one in copies.sidecars(work):
        # It would be played back over the page that was just put there.
        one.unlink(missing_ok=True)
    problem = _schema_problem(work)
    if problem is not None:
        cause = f"its schema cannot be read ({problem}), not with a backup's either"
        raise Damaged(operation="repair", path=work, cause=cause)
    return str(good.path)


def _schema_problem(work: Path) -> str | None:
    try:
        with translated("look at", work), closing(_reader(work)) as connection:
            connection.execute("SELECT name, sql FROM sqlite_schema").fetchall()
            connection.execute("PRAGMA table_list").fetchall()
    except DbsyncError as error:
        return error.cause
    return None


def _reader(path: Path) -> Connection:
    """Text that is not UTF-8 comes as bytes: one bad letter must not stop the rest."""
    connection = open_writing(path)
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _writer(part: Path, old: Connection) -> Connection:
    new = open_writing(part, create=True)
    new.execute(f"PRAGMA page_size={page_size_of(old)}")
    return new


def _check(part: Path) -> None:
    with translated("check", part), closing(open_copy(part)) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
    if found != ["ok"]:
        raise DiskProblem(operation="check", path=part, cause="; ".join(found))


def _differences(part: Path, good: Backup | None) -> tuple[Loss, ...]:
    if good is None:
        return ()
    with translated("compare with", good.path), closing(open_copy(part)) as connection:
        attach_copy(connection, good.path, "kept")
        return compare.differences(connection, "kept")


class _Taking:
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
