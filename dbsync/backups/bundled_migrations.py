"""The migrations kept beside the backup that was made for them, because the older release does not have them.

`<backup>.migrations/` holds what the loader reads of the newer release's folder, whatever its engine: loading it gives
the same migrations with the same hashes. A program that a command runs is not in it, nor are files that only the code
of a Python migration opens: going back then needs the newer release itself (`--migrations`).
"""

from __future__ import annotations

from pathlib import Path

from dbsync.backups import catalog, snapshot
from dbsync.errors import BackupUnusable
from dbsync.migrations import folder as migration_folder
from dbsync.migrations.engines import registry
from dbsync.migrations.engines.settings import COUNTERS
from dbsync.model import Migration
from dbsync.storage import files, temporary_files


def keep(kept: Path, pending: tuple[Migration, ...], *, owner: str) -> None:
    """Copy the folder of these migrations to a place beside their backup, durably, before the backup gets its name.

    A crash leaves a part, or a folder without a backup: neither counts, and the next run clears both.

    Args:
        kept: the backup's final name.
        pending: the migrations that are to run.
        owner: the database's name, as the backup has it.

    Raises:
        TillkeeperError: the folder could not be kept; nothing is left of it.
    """
    engine = registry.named(pending[0].engine)
    source, final = engine.folder_of(pending[0]), catalog.migrations_path(kept)
    part = temporary_files.part_of(final, owner)
    try:
        snapshot.drop_folder(part)
        for path in sorted(
            file for mark in (*engine.kept_files, COUNTERS) for file in source.glob(mark) if file.is_file()
        ):
            target = part / path.relative_to(source)
            files.make_folder(target.parent)
            files.copy_bytes(source=path, target=target)
        files.sync_tree(part)
        snapshot.drop_folder(final)
        files.rename_durably(source=part, target=final)
    except BaseException:
        snapshot.drop_folder(part)
        raise


def beside(kept: Path) -> tuple[Migration, ...]:
    """Return the migrations beside a backup; none if none were kept.

    Raises:
        BadMigrations: they exist and cannot be loaded.
    """
    folder = catalog.migrations_path(kept)
    return migration_folder.load(folder) if folder.is_dir() else ()


def chosen(*, folder: Path | None, kept: Path) -> tuple[Migration, ...]:
    """Return the migrations of a given folder; without one, those beside the backup.

    Raises:
        BackupUnusable: no folder was given, and no migrations are beside the backup.
        BadMigrations: they cannot be loaded.
    """
    if folder is not None:
        return migration_folder.load(folder)
    found = beside(kept)
    if not found:
        hint = "Pass --migrations with the folder of the newer release."
        raise BackupUnusable(operation="go back to", path=kept, cause="no migrations are kept beside it", hint=hint)
    return found
