"""`dbsync backup`: make a backup by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from dbsync.backups import retention
from dbsync.backups.description import backup_json
from dbsync.cli.console import Transcript
from dbsync.cli.output import tell
from dbsync.cli.shared import FILE, FOLDER, Place, as_json, on_database, tell_json
from dbsync.commands import scheduled_backup
from dbsync.outcomes import ExitStatus
from dbsync.progress import quiet
from dbsync.storage.locks import locked

_AWAY: Final = "What is missing there is copied when it is back. For a new second place, make its folder first."


@click.command("backup")
@click.option("--to", type=FILE, help="Where to (default: the folder of backups).")
@click.option("--keep", metavar="POLICY", help="Make one on a schedule and keep so many: hourly=24,daily=14,weekly=8.")
@click.option("--second", type=FOLDER, help="With --keep: copy them there too, for the day this disk fails.")
@click.option("--if-due", is_flag=True, help="With --keep: only if there is none of this hour (or day) yet.")
@as_json
@on_database
def command(
    place: Place, *, to: Path | None, keep: str | None, second: Path | None, if_due: bool, as_json: bool
) -> None:
    """Make a backup by hand, and check it; or on a schedule.

    Rotation never removes one that was made by hand. With --keep it is one of a schedule: what the policy does not keep
    is removed, an older one is read back, and the second place gets what it lacks.

    Exit status 75: the second place is away, or no backup could be made now. 1: an older backup had rotted, and there
    was no good copy of it.
    """
    if keep is None and (second is not None or if_due):
        raise click.UsageError("--second and --if-due go with --keep.")
    if keep is not None and to is not None:
        raise click.UsageError("Pass either --to or --keep.")
    if keep is not None:
        _scheduled(place, keep, second, if_due=if_due, as_json=as_json)
        return
    with locked(place.database):
        kept = place.effects(quiet if as_json else Transcript()).make_backup(to)
    if as_json:
        tell_json(backup_json(kept), on_one_line=True)


def _scheduled(place: Place, keep: str, second: Path | None, *, if_due: bool, as_json: bool) -> None:
    policy = retention.parse(keep)
    with locked(place.database):
        effects = place.effects(quiet if as_json else Transcript())
        done = scheduled_backup.run(
            effects, policy, second=second.absolute() if second is not None else None, if_due=if_due
        )
    if as_json:
        tell_json(done.as_json(), on_one_line=True)
    else:
        for line in _in_words(done):
            tell(line)
    if done.rotten:
        sys.exit(ExitStatus.FAILED)
    if done.away:
        sys.exit(ExitStatus.TRY_LATER)


def _in_words(done: scheduled_backup.Done) -> list[str]:
    lines = [] if done.made is not None else ["no backup is due"]
    lines += [f"rotten, and replaced by its copy: {path}" for path in done.replaced]
    lines += [f"ROTTEN: {path}; a new backup was made" for path in done.rotten]
    lines += [f"copied to the second place: {path}" for path in done.copied]
    lines += [f"removed: {path}" for path in done.removed]
    # Why the second place is away is a line of the transcript.
    return [*lines, f"   {_AWAY}"] if done.away else lines
