"""The updater's use of dbsync: the terminal's database, the migrations inside a release, the backup of a trial."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from updater.bundles.version_folders import Versions
from updater.model import Release, Trial
from updater.settings import Settings

if TYPE_CHECKING:
    from dbsync.commands.scheduled_backup import Done
    from dbsync.database.live import LiveEffects
    from dbsync.model import Backup, Facts, Migration
    from dbsync.progress import Progress


def open_effects(settings: Settings, progress: Progress | None, *, reads_only: bool = False) -> LiveEffects:
    """Return the coordinator's effects on this terminal's database; nothing is opened yet."""
    from dbsync.database.live import LiveEffects
    from dbsync.progress import quiet

    return LiveEffects(
        settings.database,
        backups=settings.backups,
        prefix=settings.backup_prefix,
        progress=progress or quiet,
        reports=settings.reports,
        backups_kept_count=settings.limits.backups_kept_count,
        least_free_bytes=settings.limits.least_free_bytes,
        reads_only=reads_only,
    )


def look_at(settings: Settings, *, reads_only: bool = False) -> Facts:
    """Return the facts of the database from one cheap look; `reads_only` changes no file beside it either."""
    from dbsync.storage import connections

    if not reads_only and _has_log(settings):
        from dbsync.database import evidence

        evidence.keep_log(
            database=settings.database,
            backups=settings.backups,
            prefix=settings.backup_prefix or settings.database.stem,
            least_free_bytes=settings.limits.least_free_bytes,
            told=lambda _: None,
        )
    opened = connections.open_undisturbed if reads_only else connections.open_reading
    return connections.look(
        settings.database,
        had_data=lambda: _traces(settings),
        opened=opened,
    )


def why_not_writable(settings: Settings) -> str:
    """Return why nobody can write the database now; empty if somebody can, or if there is none.

    Only for a process that has it not open: closing a file ends the locks of its process on it
    (sqlite.org/howtocorrupt.html, 2.2).
    """
    from dbsync.storage.platform import this_platform

    try:
        os.close(this_platform().open_binary(settings.database, os.O_RDWR, mode=0o600))
    except FileNotFoundError:
        return ""
    except OSError as cause:
        return f"{settings.database.name} cannot be written now: {cause.strerror or cause}"
    return ""


def _has_log(settings: Settings) -> bool:
    try:
        return Path(f"{settings.database}-wal").stat().st_size > 0
    except OSError:
        return False


def _traces(settings: Settings) -> str:
    # Here, because a start that finds its database needs none of it.
    from dbsync.database import evidence

    return evidence.traces(database=settings.database, backups=settings.backups)


def migrations_of(versions: Versions, release: Release) -> tuple[Migration, ...]:
    """Return the migrations inside an installed release; empty if there are none or its folder is gone."""
    from dbsync.migrations import folder as migration_folder

    if release.folder not in versions.names():
        return ()
    start = versions.start(release.folder)
    if start.migrations_folder is None:
        return ()
    return migration_folder.load(versions.folder(release.folder) / start.migrations_folder)


def backup_of(settings: Settings, trial: Trial) -> Backup | None:
    """Return the backup of a trial: the one its file records, or the one whose facts name the trial."""
    from dbsync.backups.catalog import list_backups

    found = list_backups(backups=settings.backups, database=settings.database)
    recorded = [backup for backup in found if str(backup.path) == trial.backup]
    named = [backup for backup in found if backup.trial_id == trial.trial_id]
    return next(iter([*recorded, *named]), None)


def back_up(settings: Settings) -> Done:
    """Make the scheduled backup that is due, as `dbsync backup --keep … --if-due` does; the caller holds its lock.

    Raises:
        TillkeeperError: none could be made; the older ones are untouched.
    """
    from dbsync.backups import retention
    from dbsync.commands import scheduled_backup

    policy = retention.parse(settings.backup_keep)
    return scheduled_backup.run(open_effects(settings, None), policy, second=settings.backup_second, if_due=True)


def clear_leftovers(settings: Settings) -> None:
    """Remove what runs on the database that were cut have left, as far as possible; the caller holds its lock.

    Beside the database, among its backups, and among the reports.
    """
    from dbsync.database import leftovers

    leftovers.clear(
        database=settings.database,
        backups=settings.backups,
        prefix=settings.backup_prefix,
        reports=settings.reports,
    )


def restore_is_done(settings: Settings, intent_id: str) -> bool:
    """Return whether the restore that a person's rollback requested is done; not, if that cannot be read now."""
    from dbsync.backups import restore_intents
    from dbsync.errors import DiskProblem

    try:
        intent = restore_intents.read(settings.backups, intent_id)
    except DiskProblem:
        return False
    return intent is not None and intent.done
