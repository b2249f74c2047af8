"""`dbsync restore`: put a backup in the place of the database."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import click

from dbsync import losses
from dbsync.backups import catalog
from dbsync.cli.output import tell
from dbsync.cli.shared import FILE, Place, as_json, ask, on_database, tell_json, yes_without_loss
from dbsync.database import preflight
from dbsync.errors import BackupUnusable, Locked
from dbsync.model import Returned, State
from dbsync.outcomes import ExitStatus
from dbsync.storage import files
from dbsync.storage.locks import IN_USE, lock_of, locked
from dbsync.storage.temporary_files import owner_of
from dbsync.upgrade import restore_decision

_LOSES: Final = "the restore needs --accept-loss, and keeps the current database"


@click.command("restore")
@click.argument("backup", type=FILE)
@click.option("--dry-run", is_flag=True, help="Show what would be lost; change nothing.")
@click.option("--accept-loss", is_flag=True, help="Restore even if something is lost. It is kept.")
@yes_without_loss
@as_json
@on_database
def command(place: Place, *, backup: Path, dry_run: bool, accept_loss: bool, yes: bool, as_json: bool) -> None:
    """Put BACKUP in the database's place.

    The database as it is now is kept beside it first.

    Exit status 5: something would be lost, and nothing was changed; pass --accept-loss. 6: something was lost; the last
    line names how much and where it is kept.
    """
    path = backup if files.is_there(catalog.find(backup)) else place.backups / backup.name
    if not files.is_there(catalog.find(path)):
        raise BackupUnusable(operation="restore", path=path, cause="there is no such file")
    _check_own(place, path)
    if not dry_run:
        place.check_writable()
    elif not lock_of(place.database).is_free():
        # A dry run takes no lock: that would make its file.
        raise Locked(operation="use", path=place.database, cause=IN_USE)
    with nullcontext() if dry_run else locked(place.database):
        effects = place.effects(reads_only=dry_run)
        change = restore_decision.what_would_be_lost(effects, backup=path)
        for line in () if as_json else losses.since(change):
            tell(line)
        if dry_run:
            known = {"losses": losses.as_json(change.losses), "not_known": change.cause}
            if as_json:
                tell_json({"done": False, **known})
            else:
                # The losses are printed above.
                tell("dry run: nothing was changed" + ("" if change.unchanged else f"; {_LOSES}"))
            sys.exit(ExitStatus.DONE if change.unchanged else ExitStatus.NEEDS_PERSON)
        # Before anything is copied: a database that another process writes cannot be replaced now.
        if effects.look().state is State.OK:
            preflight.check_not_in_use(place.database)
        if accept_loss or change.unchanged:
            ask("Restore now? What is replaced is kept.", operation="restore", path=path, yes=yes, as_json=as_json)
        intent_id = f"dbsync-{files.random_name()}"
        returned = restore_decision.restore(
            effects, backup=path.absolute(), intent_id=intent_id, accept_loss=accept_loss
        )
        if returned.back is not None:
            # Nobody repeats this restore by its name.
            effects.remove_intent(intent_id)
    _tell(returned, as_json=as_json)
    sys.exit(returned.outcome.name.exit_status)


def _tell(returned: Returned, *, as_json: bool) -> None:
    outcome, kept = returned.outcome, returned.set_aside.path if returned.set_aside else None
    if as_json:
        told = {
            "done": returned.back is not None,
            "outcome": str(outcome.name),
            "cause": outcome.cause,
            "hint": outcome.hint,
            "version": outcome.version_after,
            "kept": str(kept) if kept else None,
            "gaps": str(returned.gaps) if returned.gaps else None,
            "lost": losses.as_json(returned.losses),
        }
        tell_json(told)
        return
    tell(f"{outcome.name}: {outcome.cause}".rstrip(": "))
    if outcome.hint:
        tell(f"  {outcome.hint}")
    if kept is not None:
        tell(f"The database that it replaced: {kept}")
    if returned.gaps is not None:
        tell(f"Numbers that are skipped are explained: {returned.gaps}")
    if returned.back is not None and (returned.losses or returned.not_known):
        tell(f"LOST: {losses.lost(returned.losses, not_known=returned.not_known, kept=kept)}.")


def _check_own(place: Place, path: Path) -> None:
    found = catalog.find(path)
    if not found.is_file():
        return
    if found.samefile(place.database) if place.database.exists() else False:
        raise BackupUnusable(operation="restore", path=path, cause="it is the database itself")
    owner = catalog.read(found).database
    if owner not in ("", owner_of(place.database)):
        hint = "`dbsync import` puts any database in its place, and keeps what is there."
        raise BackupUnusable(operation="restore", path=path, cause=f"it is a backup of {owner}", hint=hint)
