"""Recovers what can be read of a damaged database into a new file, for support. Never in place, never by itself.

The damaged files are only read: all the work is on a byte copy of them, journals included, so that SQLite's own
recovery happens there. What cannot be read is said per table, and what the new file does not take lies beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from dbsync import backup, compare, copies, disk
from dbsync.errors import Damaged, DbsyncError, DiskProblem, Refused
from dbsync.model import Backup, Loss
from dbsync.progress import Meter
from dbsync.sqlite import (
    Connection,
    attach_copy,
    open_copy,
    open_writing,
    page_size_of,
    translated,
)
from dbsync.taking import Table, Taking

MAGIC: Final = b"SQLite format 3\0"
MOST_CUT_OFF: Final = 1000
"""A header that asks for more than so many times the file is damaged itself."""


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
            told = Taking(old, new, into.with_name(f"{into.name}.refused.jsonl"), meter)
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
