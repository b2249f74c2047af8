"""Puts a backup over a live database, sets the live one aside before, and checks a backup before it is used."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from dbsync.backups import catalog, compression, snapshot
from dbsync.backups.check_beside import ReadBeside
from dbsync.backups.concurrent_writes import Watch
from dbsync.backups.snapshot import sidecars
from dbsync.errors import BackupUnusable, Damaged, DiskProblem, TillkeeperError, TryLater, VerificationFailed
from dbsync.model import NO_SHA256, Backup
from dbsync.progress import Told
from dbsync.storage import differing_pages, file_calls, files
from dbsync.storage.background import Beside
from dbsync.storage.connections import (
    Connection,
    Thoroughness,
    check_soundness,
    kind_of,
    open_copy,
    open_reading,
    open_writing,
    page_size_of,
    pages_of,
    tolerate,
    translated,
)
from dbsync.storage.files import disk_errors
from dbsync.storage.introspection import version_of
from dbsync.storage.page_copy import copy_over
from dbsync.storage.same_pages import same_pages

WRITE_VERSION_AT: Final = 18
NEWEST_WRITE_VERSION: Final = 2
PAGE_OVERHEAD: Final = 20
"""A frame of a WAL has 24 bytes beside its page, which has 512 bytes or more."""
JOURNAL_SLACK_BYTES: Final = 250_000
"""Headers of journals, and the small records that are written around a restore."""


def restore_over(
    *,
    source: Path,
    database: Path,
    told: Told,
    watch: Watch | None = None,
    thoroughness: Thoroughness = Thoroughness.QUICK,
) -> None:
    """Put a copy over a live database: one transaction on the live file, of the pages that differ or of all of them.

    Never by replacing files: a left-over `-wal` would be replayed over the restored file. The source is checked while
    it is copied. The result is read from the disk: if it is the source, byte for byte, it is as sound. Else it is
    checked itself, for instance where somebody writes into it already.

    Raises:
        BackupUnusable: the copy cannot be opened.
        Locked: another process wrote into the database since `watch` began; the database is unchanged.
        DiskProblem: the restored database is not sound when it is read back; the copy is still there.
    """
    with closing(watch or Watch(database)) as watch, compression.plain(source) as plain:
        checking = ReadBeside(lambda opened: _is_sound(plain, thoroughness, opened))
        try:
            with translated("restore", database), closing(open_copy(plain)) as kept:
                _copy_over(database, kept, told, watch)
            # From here on this process does not have the database open.
            watch.close()
            files.sync_folder(database.parent)
            if checking.result() and _is_copy_of(plain, database):
                return
        except BaseException:
            checking.cancel()
            raise
    with translated("check what was restored", database), closing(open_reading(database)) as live:
        problem = check_soundness(live, thoroughness)
    if problem is not None:
        raise DiskProblem(operation="check what was restored", path=database, cause=problem)


def _is_sound(copy: Path, thoroughness: Thoroughness, opened: Callable[[Connection], None]) -> bool:
    """Return whether a check that ran found nothing; where it cannot run, the restored database is checked."""
    try:
        with translated("check", copy), closing(open_copy(copy)) as connection:
            opened(connection)
            return check_soundness(connection, thoroughness) is None
    except TillkeeperError:
        return False


def _is_copy_of(copy: Path, database: Path) -> bool:
    try:
        return same_pages(copied=copy, database=database)
    except TillkeeperError:
        # SQLite says what cannot be read.
        return False


def _copy_over(database: Path, kept: Connection, told: Told, watch: Watch) -> None:
    tolerate(kept)
    try:
        if watch.wants_it_alone(page_bytes=page_size_of(kept), pages_count=pages_of(kept)):
            _copy_alone(database, kept, told, watch)
            return
        watch.check()
    except sqlite3.DatabaseError as error:
        if kind_of(error) is not Damaged:
            raise
        watch.close()  # no app sells into a database that SQLite calls damaged
    with closing(open_writing(database, create=True, like=_path_of(kept), tolerant=True)) as live:
        copy_over(kept, live, told=told, seconds=time.monotonic, held=watch.check)


def _copy_alone(database: Path, kept: Connection, told: Told, watch: Watch) -> None:
    try:
        with ExitStack() as after_sqlite, closing(watch.taken()) as live:
            file = differing_pages.opened(database)
            if file is not None:
                # Closing it drops the locks of this process.
                after_sqlite.callback(file.close)
            if file is None or not differing_pages.replaced(source=_path_of(kept), live=live, file=file, told=told):
                copy_over(kept, live, told=told, seconds=time.monotonic)
    except BaseException:
        differing_pages.roll_back(database)
        raise


def _path_of(kept: Connection) -> Path:
    return Path(str(kept.execute("PRAGMA database_list").fetchone()[2]))


def check_backup_file(path: Path, thoroughness: Thoroughness = Thoroughness.QUICK) -> Backup:
    """Return the facts of a backup that can be restored.

    A backup that passed this check when it was made, and has not changed by a byte since, is as sound as it was: it is
    read once, for its checksum. Any other is checked as a database.

    Raises:
        BackupUnusable: it is gone, changed, or not sound; or a part of it is in a file beside it.
    """
    _check_whole(catalog.find(path))
    facts = catalog.check_file(path)
    passed = thoroughness is Thoroughness.QUICK or facts.checked == thoroughness
    if facts.sha256 and facts.verified and passed and facts.path.suffix != catalog.COMPRESSED:
        return facts
    try:
        with (
            compression.plain(path) as plain,
            translated("check the backup", path, otherwise=VerificationFailed),
            closing(open_copy(plain)) as connection,
        ):
            problem, version = check_soundness(connection, thoroughness), version_of(connection)
    except (BackupUnusable, TryLater):
        # What cannot be read now may be sound.
        raise
    except TillkeeperError as error:
        raise BackupUnusable(operation="use the backup", path=path, cause=error.cause) from error
    if problem is not None:
        hint = (
            "Choose another backup (`dbsync backups` lists them), or read it into a new file:"
            f" `dbsync repair --database {path} --into FILE`."
        )
        raise BackupUnusable(operation="use the backup", path=path, cause=problem, hint=hint)
    return facts._replace(version=version)


def _check_whole(path: Path) -> None:
    """Refuse a backup of which a part is in a file beside it: a finished copy is one file.

    Changes that another program has not yet merged into it, or rolled back in it, would be lost.
    """
    beside = [file for file in sidecars(path) if not file.name.endswith("-shm") and files.size_of(file)]
    if beside:
        hint, name = f"`dbsync backup --database {path} --to FILE` makes one file of both: use that.", beside[0].name
        raise BackupUnusable(operation="use the backup", path=path, cause=f"a part of it is still in {name}", hint=hint)


def copy_aside(facts: Backup, *, database: Path, final: Path, told: Told, watch: Watch) -> Backup:
    """Copy the live database to the temporary name of another file, whether its content is sound or not.

    Only when the copy is durable (`inspected`) may the live database be replaced.

    Args:
        database: the file.
        final: the path to keep it under.
        facts: of the result.
        told: receives the progress of the copy.
        watch: begins before the copy does.

    Raises:
        Damaged: SQLite cannot read it as a database; `move_aside` keeps such a file.
        Locked: another process writes it.
        DiskProblem: it cannot be read now, or the copy cannot be written: the error names the file. Nothing is left.
    """
    check_format(database)
    # Only after the header was read: closing that file drops the locks that this process has on it.
    watch.begin()
    try:
        # Nobody should sell into what is about to be replaced, so nobody is kept waiting who could go on.
        with watch.nobody_writes() as writer:
            return snapshot.copy_to_part(facts, source=database, final=final, told=told, writer=writer, shares=False)
    except DiskProblem as error:
        watch.close()
        raise _of_its_object(error, source=database, target=final) from error
    except BaseException:
        watch.close()
        raise


def _of_its_object(error: DiskProblem, *, source: Path, target: Path) -> TillkeeperError:
    """Return the error of a failed copy, naming the source if it cannot be read by itself, else the target.

    Nothing here has the source open.
    """
    try:
        with translated("read", source), closing(open_reading(source)) as reading:
            reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        with disk_errors("read", source), file_calls.open_to_read(source) as file:
            while file.read(files.READ_SIZE_BYTES):
                pass
    except TillkeeperError as problem:
        return problem
    return type(error)(operation="copy the database to", path=target, cause=error.cause)


def check_format(database: Path) -> None:
    """Refuse a file that SQLite would not write over. Only for a database that this process does not have open.

    Its header names a later file format, which SQLite reads and never writes; a damaged byte of the header is enough
    (sqlite.org/fileformat2.html#file_format_version_numbers).

    Raises:
        Damaged: it is such a file.
        DiskProblem: it cannot be read now.
    """
    with disk_errors("read", database), file_calls.open_to_read(database) as file:
        header = file.read(WRITE_VERSION_AT + 1)
    if header.startswith(b"SQLite format 3\0") and header[-1] > NEWEST_WRITE_VERSION:
        cause = "its header names a file format that SQLite does not write"
        raise Damaged(operation="replace", path=database, cause=cause)


def inspected(part: Backup, opened: Callable[[Connection], None]) -> Backup:
    """Make a copy durable, and return its facts, marked as verified or not; `opened` gets the connection of the check.

    A copy has every page, sound or not. If it cannot be checked, for example because a collation of the app is
    missing, it is kept as not verified.

    Raises:
        DiskProblem: the copy cannot be made durable, or not be read back: it proves nothing.
    """
    try:
        with (
            Beside(lambda: snapshot.measure_part(part)) as measured,
            translated("check the copy", part.path, otherwise=VerificationFailed),
            closing(open_copy(part.path)) as connection,
        ):
            opened(connection)
            problem = check_soundness(connection)
    except (Damaged, VerificationFailed) as error:
        problem = error.cause
    return measured.result()._replace(verified=problem is None)


def is_sound(copy: Path) -> bool:
    """Return whether SQLite finds no damage in a finished copy.

    Raises:
        DiskProblem: it cannot be read now.
    """
    try:
        with translated("check", copy), closing(open_copy(copy)) as connection:
            return check_soundness(connection) is None
    except Damaged:
        return False


def move_aside(facts: Backup, *, database: Path) -> Backup:
    """Move a ruined database, its journals first, to the path in `facts`; a repeat completes it.

    A crash in between leaves a database without its hot journal, which is no worse than ruined. A journal left behind
    alone would be replayed over the next database of that name.

    Raises:
        DiskProblem: it cannot be moved.
    """
    final = facts.path
    for journal in sidecars(database):
        if files.is_there(journal):
            files.rename_durably(
                source=journal, target=journal.with_name(journal.name.replace(database.name, final.name, 1))
            )
    kept = facts._replace(size_bytes=files.size_of(database), verified=False, sha256=NO_SHA256)
    catalog.write_facts(kept, like=database)
    files.rename_durably(source=database, target=final)
    return kept


def journal_bytes(*, live: Path, source: Path) -> int:
    """Return the most space that SQLite takes while `source` is copied over `live`.

    In rollback mode the journal has every page of the live database, in WAL mode the log has every page of the source
    (sqlite.org/fileformat2.html, 3 and 4); and the database may grow.
    """
    live_bytes, source_bytes = files.size_of(live, Path(f"{live}-wal")), files.size_of(source)
    largest = max(live_bytes, source_bytes)
    return largest + largest // PAGE_OVERHEAD + max(0, source_bytes - live_bytes) + JOURNAL_SLACK_BYTES
