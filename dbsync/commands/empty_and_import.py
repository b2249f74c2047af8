"""Emptying and importing: the current database is kept beside the new one first; rotation never removes that copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.backups import snapshot
from dbsync.database.live import LiveEffects
from dbsync.errors import BackupUnusable, BadMigrations, TillkeeperError, TryLater
from dbsync.migrations.folder import NONE, NONE_HINT
from dbsync.model import Backup, BackupKind, Migration, Outcome, State
from dbsync.progress import nobody
from dbsync.storage import files, temporary_files
from dbsync.storage.connections import Thoroughness, open_reading, open_writing, translated
from dbsync.upgrade import coordinator, preparation
from dbsync.upgrade.preparation import Replaced

_KIND: Final = ("page_size", "encoding", "auto_vacuum", "application_id")


class Imported(NamedTuple):
    """The result of an import."""

    kept: Backup | None
    """The database that was replaced."""
    outcome: Outcome
    """The outcome of upgrading the imported file, which takes the database's place only if that succeeded."""
    gaps: Path | None = None
    """The folder that explains the numbers which are skipped because counters were raised."""


def empty(effects: LiveEffects, migrations: tuple[Migration, ...]) -> Replaced:
    """Keep the database as before-empty (requirement S91), then put an empty one of the newest schema in its place.

    The empty database has the page size, encoding, auto_vacuum and application_id of the old one, if that is sound.

    Raises:
        TillkeeperError: the empty database could not be made; the database is as it was.
    """
    if not migrations:
        raise BadMigrations(operation="empty", path=effects.database, cause=NONE, hint=NONE_HINT)
    effects.preflight(())
    with _work_folder(effects) as work:
        _begin_like(effects, work)
        outcome = _bring_up(work, migrations, effects.thoroughness)
        if not outcome.ready:
            raise BackupUnusable(operation="empty", path=effects.database, cause=outcome.cause)
        return preparation.replace(
            effects, BackupKind.BEFORE_EMPTY, source=work, origin=effects.database, migrations=migrations
        )


def import_file(effects: LiveEffects, path: Path, migrations: tuple[Migration, ...]) -> Imported:
    """Bring a copy of a checked file up to date, keep the database as before-import (requirement S92) and replace it.

    Raises:
        BackupUnusable: the file is not a sound database of this app; nothing was changed.
        TryLater: there is no space, or another process uses the database; nothing was changed.
    """
    effects.check_usable(path)
    effects.preflight(())
    try:
        with _work_folder(effects) as work:
            snapshot.scratch_copy(source=path, target=work, told=nobody)
            outcome = _bring_up(work, migrations, effects.thoroughness)
            if not outcome.ready:
                return Imported(None, outcome)
            replaced = preparation.replace(
                effects, BackupKind.BEFORE_IMPORT, source=work, origin=path, migrations=migrations
            )
            return Imported(replaced.kept, outcome, replaced.gaps)
    except TryLater:
        # The file is not the cause.
        raise
    except TillkeeperError as error:
        raise BackupUnusable(operation="import", path=path, cause=error.cause, hint=error.hint) from error


@contextmanager
def _work_folder(effects: LiveEffects) -> Iterator[Path]:
    """A place for a database under construction; a crash leaves a part, which the next run clears."""
    effects.clear()
    folder = temporary_files.scratch_of(effects.backups, temporary_files.owner_of(effects.database), "work")
    snapshot.drop_folder(folder)
    files.make_folder(folder)
    try:
        yield folder / effects.database.name
    finally:
        snapshot.drop_folder(folder)


def _begin_like(effects: LiveEffects, work: Path) -> None:
    """Set in a new file the values of `_KIND` as the database has them; most can be set only while a file is new."""
    if effects.look().state is not State.OK:
        return
    with translated("look at", effects.database), closing(open_reading(effects.database)) as live:
        values = {name: live.execute(f"PRAGMA {name}").fetchone()[0] for name in _KIND}
    with translated("make", work), closing(open_writing(work, create=True)) as made:
        for name, value in values.items():
            made.execute(f"PRAGMA {name}='{value}'").fetchall()
        # The first table fixes the encoding of a database; its page is used for the next table.
        made.execute("CREATE TABLE first (x)")
        made.execute("DROP TABLE first")


def _bring_up(path: Path, migrations: tuple[Migration, ...], thoroughness: Thoroughness) -> Outcome:
    backups = path.parent / "backups"
    made = LiveEffects(path, backups=backups, least_free_bytes=0, thoroughness=thoroughness)
    return coordinator.upgrade(made, migrations=migrations)
