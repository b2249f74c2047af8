"""Quarantine: a damaged database that was to be migrated is copied aside once, before anybody tries to repair it.

A recovery starts from such a copy. It counts as not verified. It has a kind of its own, so it displaces no good backup.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from glob import escape
from pathlib import Path
from typing import Final

from dbsync.backups import catalog, snapshot
from dbsync.errors import Damaged, TillkeeperError
from dbsync.model import Backup, BackupKind
from dbsync.progress import Told
from dbsync.storage import file_calls, files, side_files, temporary_files, wal
from dbsync.storage.connections import check_soundness, open_copy, translated

LOG_COPY: Final = "-damaged-log-"
KEPT_COUNT: Final = 3
"""Number of copies of different content: a damaged database that is still written must not fill the disk."""


def keep(database: Path, facts: Backup, *, prefix: str, least_free_bytes: int, told: Told) -> Path | None:
    """Copy a damaged database aside, durably, unless the same content is there already.

    Args:
        database: the file; nobody in this process has it open.
        facts: of the copy; its path names the folder.
        prefix: first part of the copy's name.
        least_free_bytes: free space that must be left.
        told: receives the progress of the copy.

    Returns:
        The copy; None if it is sound after all, if there is no space, or if the database cannot be read as a file.
    """
    folder = facts.path.parent
    try:
        final = folder / f"{prefix}-backup-{BackupKind.DAMAGED}-{_digest(database)[:16]}.db"
        if final.exists():
            return final
        size_bytes = files.size_of(*snapshot.files_of(database))
        if files.free_bytes(folder) < size_bytes + least_free_bytes:
            return None
        part = _copied(database, facts._replace(path=final, kind=BackupKind.DAMAGED, verified=False), told)
        if part is None:
            return None
        # A crash from here on leaves journals without a database: they are not listed, and the next run replaces them.
        for journal in snapshot.sidecars(part.path):
            if journal.exists():
                files.rename_durably(source=journal, target=temporary_files.final_of(journal))
        kept = snapshot.keep_part(snapshot.measure_part(part)).path
        _forget_the_oldest(folder, database)
        return kept
    except (TillkeeperError, OSError):
        # The run is refused in any case, and the database is unchanged.
        return None


def keep_log(
    summary: wal.Summary, *, database: Path, folder: Path, prefix: str, least_free_bytes: int
) -> tuple[str, Path | None] | None:
    """Copy a damaged write-ahead log aside before SQLite drops what it cannot read of it, once for each content.

    Args:
        summary: of the log.
        database: the file; nobody in this process has it open.
        folder: of the copy.
        prefix: first part of the copy's name.
        least_free_bytes: free space that must be left.

    Returns:
        What may be lost, and the copy, None if there was no space or it could not be made; None if the copy is there
        already.
    """
    log = side_files.side_file(database, side_files.WAL)
    try:
        final = folder / f"{prefix}{LOG_COPY}{files.sha256_of(log)[:16]}.wal"
        if files.is_there(final):
            return None
        if files.free_bytes(folder) < files.size_of(log) + least_free_bytes:
            return summary.in_words, None
    except TillkeeperError:
        # The look that follows reports what cannot be read.
        return None
    part = temporary_files.part_of(final, temporary_files.owner_of(database))
    try:
        files.make_folder(folder, like=database)
        files.copy_bytes(source=log, target=part, like=database)
        files.sync_file(part)
        files.rename_durably(source=part, target=final)
        for old in sorted(files.listed(folder, f"{escape(prefix)}{LOG_COPY}*.wal"), key=_made)[:-KEPT_COUNT]:
            snapshot.drop_part(old)
    except (TillkeeperError, OSError):
        snapshot.drop_part(part)
        return summary.in_words, None
    return summary.in_words, final


def _made(path: Path) -> float:
    return path.stat().st_mtime


def _copied(database: Path, facts: Backup, told: Told) -> Backup | None:
    """Copy through SQLite if it can read the database to the end, else the files; return None if the copy is sound."""
    try:
        part = snapshot.copy_to_part(facts, source=database, final=facts.path, told=told)
    except Damaged:
        return _files_copied(database, facts)
    try:
        with translated("check the copy", part.path), closing(open_copy(part.path)) as connection:
            sound = check_soundness(connection) is None
    except Damaged:
        sound = False
    if sound:
        snapshot.drop_part(part.path)
        return None
    return part


def _files_copied(database: Path, facts: Backup) -> Backup:
    part = temporary_files.part_of(facts.path, facts.database)
    try:
        for source in snapshot.files_of(database):
            target = part.with_name(source.name.replace(database.name, part.name, 1))
            files.copy_bytes(source=source, target=target, like=database)
            files.sync_file(target)
    except BaseException:
        snapshot.drop_part(part)
        raise
    return facts._replace(path=part)


def _digest(database: Path) -> str:
    digests = "".join(
        files.sha256_of(file) for file in snapshot.files_of(database) if file == database or files.size_of(file)
    )
    return hashlib.sha256(digests.encode()).hexdigest()


def _forget_the_oldest(backups: Path, database: Path) -> None:
    kept = [
        backup
        for backup in catalog.list_backups(backups=backups, database=database)
        if backup.kind == BackupKind.DAMAGED
    ]
    for backup in kept[KEPT_COUNT:]:
        snapshot.drop_part(backup.path)
        file_calls.remove(catalog.facts_path(backup.path))
