"""Copying a whole database to a checked file under a final name, and back over a live one."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Final

from dbsync.backups import catalog, compression
from dbsync.backups.concurrent_writes import Watch
from dbsync.errors import BackupUnusable, Damaged, DiskProblem, TillkeeperError
from dbsync.model import Backup
from dbsync.outcomes import OutcomeName
from dbsync.progress import Told
from dbsync.storage import files, temporary_files
from dbsync.storage.background import Beside
from dbsync.storage.connections import (
    Connection,
    check_soundness,
    is_wal,
    kind_of,
    open_copy,
    open_reading,
    open_writing,
    page_size_of,
    pages_of,
    translated,
    version_of,
)
from dbsync.storage.page_copy import copy
from dbsync.storage.platform import block_clone

WRITE_VERSION_AT: Final = 18
NEWEST_WRITE_VERSION: Final = 2


def copy_to_part(
    source: Path,
    final: Path,
    facts: Backup,
    *,
    told: Told,
    live: Connection | None = None,
    writer: Connection | None = None,
) -> Backup:
    """Copies a live database, as it stands, to the temporary name of `final`. A crash leaves a part, which is cleared.

    Raises:
        TillkeeperError: by meaning (DiskFull, Locked, Damaged …); the part is removed.
    """
    part = temporary_files.part_of(final, facts.database)
    snapshot(source, part, told=told, live=live, writer=writer)
    return facts._replace(path=part)


def snapshot(
    source: Path,
    target: Path,
    *,
    told: Told,
    live: Connection | None = None,
    writer: Connection | None = None,
    opened: Callable[[Path], Connection] = open_reading,
) -> None:
    """Copies a live database, as it stands, to a file of its own that nobody else has.

    Args:
        source: the database.
        target: the file.
        told: of pages that were copied.
        live: the connection that has the source for itself alone; without one, one is opened.
        writer: one that has begun to write the source, and has written nothing yet: the copy may then share its blocks.
        opened: how.

    Raises:
        TillkeeperError: by meaning; nothing is left of it.
    """
    try:
        target.unlink(missing_ok=True)
        with translated("back up", source):
            shared = writer is not None and block_clone.copied(writer, target)
        with translated("back up", source), closing(open_writing(target, create=True)) as copied:
            if not shared:
                with nullcontext(live) if live is not None else closing(opened(source)) as reading:
                    if live is None and is_wal(reading):
                        # One picture while others go on writing; in the other modes that would keep them from it.
                        reading.execute("BEGIN")
                        reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                    copy(reading, copied, told=told, seconds=time.monotonic)
            # A copy of a WAL database says WAL in its header and would want files beside it.
            copied.execute("PRAGMA journal_mode=DELETE").fetchall()
    except TillkeeperError:
        drop_part(target)
        raise
    except OSError as cause:
        raise files.problem("back up", target, cause) from cause


def check_part(part: Backup) -> Backup:
    """Opens a copy anew, checks it, and takes size and checksum.

    Raises:
        Damaged: it is not sound, or not of the version that it was taken for: so is what it was copied from.
    """
    try:
        problem, version, seen = _inspected("check the backup", part)
    except TillkeeperError:
        drop_part(part.path)
        raise
    if problem is not None or version != part.version:
        drop_part(part.path)
        raise Damaged(operation="check the backup", path=part.path, cause=problem or f"it holds schema {version}")
    return seen


def measured(part: Backup) -> Backup:
    """The facts with size and checksum, of a file that is durable now."""
    files.sync_file(part.path)
    return part._replace(sha256=files.sha256_of(part.path), size_bytes=part.path.stat().st_size)


def _inspected(operation: str, part: Backup) -> tuple[str | None, int, Backup]:
    """What a copy that is durable now has wrong, its schema, and its facts with size and checksum."""
    files.sync_file(part.path)
    with (
        Beside(lambda: files.sha256_of(part.path)) as digest,
        translated(operation, part.path),
        closing(open_copy(part.path)) as connection,
    ):
        problem, version = check_soundness(connection), version_of(connection)
    return problem, version, part._replace(sha256=digest.result(), size_bytes=part.path.stat().st_size)


def keep_part(part: Backup) -> Backup:
    """Gives a copy its final name, durably. A crash before the rename leaves facts without a backup: passed over."""
    final = part._replace(path=temporary_files.final_of(part.path))
    catalog.write_facts(final)
    files.rename_durably(part.path, final.path)
    return final


def drop_part(path: Path) -> None:
    """Removes a part and what SQLite keeps beside it while it writes."""
    for one in (path, *sidecars(path)):
        try:
            one.unlink(missing_ok=True)
        except OSError:
            # It is in nobody's way but its space; the next run clears it.
            continue


def drop_folder(folder: Path) -> None:
    """Removes a folder of scratch files; nothing happens if there is none."""
    shutil.rmtree(folder, ignore_errors=True)


def sidecars(path: Path) -> list[Path]:
    """What belongs to a database file and must never be parted from it."""
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")]


def restore_over(database: Path, source: Path, *, told: Told, watch: Watch | None = None) -> None:
    """Puts a copy over a live database through the backup API: one transaction on the live file.

    Never by files: a left-over `-wal` would be replayed over the restored file (spec part 3, 5).

    Raises:
        BackupUnusable: the copy cannot be opened.
        Locked: somebody wrote into the database since `watch` began; it is as it was.
        DiskProblem: the restored database is not sound when it is read back; the copy is still there.
    """
    with (
        closing(watch or Watch(database)) as watch,
        compression.plain(source) as plain,
        translated("restore", database),
        closing(open_copy(plain)) as kept,
    ):
        _copy_over(database, kept, told, watch)
    files.sync_folder(database.parent)
    with translated("check what was restored", database), closing(open_reading(database)) as live:
        problem = check_soundness(live)
    if problem is not None:
        raise DiskProblem(operation="check what was restored", path=database, cause=problem)


def _copy_over(database: Path, kept: Connection, told: Told, watch: Watch) -> None:
    try:
        if watch.wants_it_alone(page_bytes=page_size_of(kept), pages_count=pages_of(kept)):
            with closing(watch.taken()) as live:
                _make_alike(live, kept)
                copy(kept, live, told=told, seconds=time.monotonic)
            return
        watch.check()
    except sqlite3.DatabaseError as error:
        if kind_of(error) is not Damaged:
            raise
        watch.close()  # nobody sells into what SQLite calls damaged
    with closing(open_writing(database, create=True)) as live:
        _make_alike(live, kept)
        copy(kept, live, told=told, seconds=time.monotonic, held=watch.check)


def _make_alike(live: Connection, kept: Connection) -> None:
    if page_size_of(kept) != page_size_of(live):
        # The page size of a WAL database cannot change (sqlite.org/pragma.html#pragma_page_size).
        live.execute("PRAGMA journal_mode=DELETE").fetchall()


def check_backup_file(path: Path) -> Backup:
    """The facts of a backup that can be restored.

    One that was verified when it was made, and has not changed by a byte since, is as sound as it was: it is read once,
    for its checksum. Any other is looked at as a database.

    Raises:
        BackupUnusable: it is gone, changed, or not sound; or a part of it lies in a file beside it.
    """
    _check_whole(catalog.find(path))
    facts = catalog.check_file(path)
    if facts.sha256 and facts.verified and facts.path.suffix != catalog.COMPRESSED:
        return facts
    try:
        with (
            compression.plain(path) as plain,
            translated("check the backup", path),
            closing(open_copy(plain)) as connection,
        ):
            problem, version = check_soundness(connection), version_of(connection)
    except BackupUnusable:
        raise
    except TillkeeperError as error:
        raise BackupUnusable(operation="use the backup", path=path, cause=error.cause) from error
    if problem is not None:
        raise BackupUnusable(operation="use the backup", path=path, cause=problem)
    return facts._replace(version=version)


def _check_whole(path: Path) -> None:
    """A finished copy is one file. What another program has not yet taken into it, or undone in it, would be lost."""
    beside = [one for one in sidecars(path) if not one.name.endswith("-shm") and files.size_of(one)]
    if beside:
        hint, name = f"`dbsync backup --database {path} --to FILE` makes one file of both: use that.", beside[0].name
        raise BackupUnusable(operation="use the backup", path=path, cause=f"a part of it is still in {name}", hint=hint)


def put_aside(database: Path, final: Path, facts: Backup, *, told: Told, watch: Watch, moves: bool = True) -> Backup:
    """Keeps the live database under another name; one that can still be read is copied, a ruined one is moved.

    Returns when it is durable: only then may anything be put over the live one.

    Args:
        database: the file.
        final: what to keep it as.
        facts: of what is kept.
        told: of bytes that were copied.
        watch: begins before the copy does; a database that is moved is not watched.
        moves: whether a ruined one is moved: only where another one takes its place whatever happens.

    Raises:
        Damaged: it is ruined and may not be moved; nothing was changed.
        DiskProblem: it could not be kept; nothing was changed.
    """
    if moves and _is_only_read(database):
        # SQLite would not put anything over it.
        return _move_aside(database, final, facts)
    # After the look at the header: opening and closing the file drops the locks that this process has on it.
    watch.begin()
    try:
        part = copy_to_part(database, final, facts, told=told)
    except (Damaged, DiskProblem) as error:
        watch.close()
        if not moves or error.outcome in (OutcomeName.NO_SPACE, OutcomeName.READ_ONLY):
            raise
        return _move_aside(database, final, facts)
    return keep_part(_measured_as_it_is(part))


def _is_only_read(database: Path) -> bool:
    """Whether SQLite takes a file for one of a later format, which it reads and never writes, because a byte of its
    header is damaged (sqlite.org/fileformat2.html#file_format_version_numbers)."""
    try:
        with database.open("rb") as file:
            header = file.read(WRITE_VERSION_AT + 1)
    except OSError as cause:
        raise files.problem("read", database, cause) from cause
    return header.startswith(b"SQLite format 3\0") and header[-1] > NEWEST_WRITE_VERSION


def _measured_as_it_is(part: Backup) -> Backup:
    """A copy has every page, sound or not: one that cannot be checked, for want of a collation of the app's own for
    instance, is kept as not verified."""
    try:
        problem, _, seen = _inspected("check the copy", part)
    except (Damaged, DiskProblem) as error:
        if error.outcome in (OutcomeName.NO_SPACE, OutcomeName.READ_ONLY):
            raise
        return part._replace(sha256=files.sha256_of(part.path), size_bytes=part.path.stat().st_size, verified=False)
    return seen._replace(verified=problem is None)


def _move_aside(database: Path, final: Path, facts: Backup) -> Backup:
    """Its journals first: a database without its hot journal is no worse than ruined; a journal left behind alone
    would be replayed over the next database of that name."""
    for one in sidecars(database):
        if one.exists():
            files.rename_durably(one, one.with_name(one.name.replace(database.name, final.name, 1)))
    files.sync_file(database)
    kept = facts._replace(path=final, size_bytes=database.stat().st_size, verified=False, sha256="")
    catalog.write_facts(kept)
    files.rename_durably(database, final)
    return kept


def scratch_copy(source: Path, target: Path, *, told: Told) -> None:
    """Copies a finished file, which nobody has open with locks, to a throw-away one that may be changed.

    As bytes: a copy through SQLite takes four times as long, and what a live database needs of it, a finished file
    does not. Nothing is made durable.
    """
    drop_part(target)
    try:
        with compression.plain(source) as plain, plain.open("rb") as kept, target.open("wb") as scratch:
            total_bytes, done_bytes = plain.stat().st_size, 0
            while chunk := kept.read(files.READ_SIZE_BYTES):
                scratch.write(chunk)
                done_bytes += len(chunk)
                told(done_bytes, total_bytes)
    except OSError as cause:
        raise files.problem("copy", target, cause) from cause
