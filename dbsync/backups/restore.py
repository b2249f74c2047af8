"""Puts a backup over a live database, sets the live one aside before, and checks a backup before it is used."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from dbsync.backups import catalog, compression, snapshot
from dbsync.backups.concurrent_writes import Watch
from dbsync.backups.snapshot import sidecars
from dbsync.errors import BackupUnusable, Damaged, DiskProblem, TillkeeperError
from dbsync.model import NO_SHA256, Backup
from dbsync.outcomes import OutcomeName
from dbsync.progress import Told
from dbsync.storage import files
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
    translated,
)
from dbsync.storage.files import disk_errors
from dbsync.storage.introspection import version_of
from dbsync.storage.page_copy import copy_over

WRITE_VERSION_AT: Final = 18
NEWEST_WRITE_VERSION: Final = 2


def restore_over(*, source: Path, database: Path, told: Told, watch: Watch | None = None) -> None:
    """Put a copy over a live database through the backup API: one transaction on the live file.

    Never by replacing files: a left-over `-wal` would be replayed over the restored file.

    Raises:
        BackupUnusable: the copy cannot be opened.
        Locked: another process wrote into the database since `watch` began; the database is unchanged.
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
                copy_over(kept, live, told=told, seconds=time.monotonic)
            return
        watch.check()
    except sqlite3.DatabaseError as error:
        if kind_of(error) is not Damaged:
            raise
        watch.close()  # no app sells into a database that SQLite calls damaged
    with closing(open_writing(database, create=True)) as live:
        copy_over(kept, live, told=told, seconds=time.monotonic, held=watch.check)


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
            translated("check the backup", path),
            closing(open_copy(plain)) as connection,
        ):
            problem, version = check_soundness(connection, thoroughness), version_of(connection)
    except BackupUnusable:
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


def put_aside(facts: Backup, *, database: Path, final: Path, told: Told, watch: Watch, moves: bool = True) -> Backup:
    """Keep the live database under another name: copied if it can still be read, moved if it is ruined.

    Returns when the result is durable: only then may the live database be replaced.

    Args:
        database: the file.
        final: the path to keep it under.
        facts: of the result.
        told: receives the progress of the copy.
        watch: begins before the copy does; a database that is moved is not watched.
        moves: whether a ruined database is moved: only if another one takes its place in any case.

    Raises:
        Damaged: it is ruined and may not be moved; nothing was changed.
        DiskProblem: it could not be kept; nothing was changed.
    """
    if moves and _is_only_read(database):
        # SQLite would not write over it.
        return _move_aside(database, final, facts)
    # Only after the header was read: closing that file drops the locks that this process has on it.
    watch.begin()
    try:
        part = snapshot.copy_to_part(facts, source=database, final=final, told=told)
    except (Damaged, DiskProblem) as error:
        watch.close()
        if not moves or error.outcome in (OutcomeName.NO_SPACE, OutcomeName.READ_ONLY):
            raise
        return _move_aside(database, final, facts)
    return snapshot.keep_part(_inspected(part))


def _is_only_read(database: Path) -> bool:
    """Return whether the header names a later file format, which SQLite reads and never writes.

    A damaged byte of the header is enough (sqlite.org/fileformat2.html#file_format_version_numbers).
    """
    with disk_errors("read", database), database.open("rb") as file:
        header = file.read(WRITE_VERSION_AT + 1)
    return header.startswith(b"SQLite format 3\0") and header[-1] > NEWEST_WRITE_VERSION


def _inspected(part: Backup) -> Backup:
    """Return the facts of a copy, marked as verified or not.

    A copy has every page, sound or not. If it cannot be checked, for example because a collation of the app is
    missing, it is kept as not verified.
    """
    try:
        problem, _, seen = snapshot.inspect_part("check the copy", part)
    except (Damaged, DiskProblem) as error:
        if error.outcome in (OutcomeName.NO_SPACE, OutcomeName.READ_ONLY):
            raise
        return part._replace(sha256=files.sha256_of(part.path), size_bytes=part.path.stat().st_size, verified=False)
    return seen._replace(verified=problem is None)


def _move_aside(database: Path, final: Path, facts: Backup) -> Backup:
    """Move a ruined database, its journals first.

    A crash in between leaves a database without its hot journal, which is no worse than ruined. A journal left behind
    alone would be replayed over the next database of that name.
    """
    for journal in sidecars(database):
        if journal.exists():
            files.rename_durably(
                source=journal, target=journal.with_name(journal.name.replace(database.name, final.name, 1))
            )
    files.sync_file(database)
    kept = facts._replace(path=final, size_bytes=database.stat().st_size, verified=False, sha256=NO_SHA256)
    catalog.write_facts(kept)
    files.rename_durably(source=database, target=final)
    return kept
