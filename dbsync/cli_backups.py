"""The command about backups that are there: which, and throwing old ones away."""

from __future__ import annotations

import json
import sys

import click

from dbsync import backup as backup_files
from dbsync.cli import Place, as_json, main, on_database, plain
from dbsync.console import say
from dbsync.locking import locked


@main.command()
@click.option("--prune", is_flag=True, help="Remove old migration backups, as rotation does.")
@click.option("--keep", "keep_count", type=click.IntRange(3), help="With --prune: how many stay (default: 10).")
@click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")
@as_json
@on_database
def backups(place: Place, *, prune: bool, keep_count: int | None, dry_run: bool, as_json: bool) -> None:
    """All backups of this database, newest first.

    --prune never removes the newest good one of a schema, nor what a person made.
    """
    if not prune and (dry_run or keep_count is not None):
        raise click.UsageError("--keep and --dry-run go with --prune.")
    if prune:
        _prune(place, keep_count or backup_files.KEPT_COUNT, dry_run=dry_run, as_json=as_json)
        return
    listed = place.listed()
    if as_json:
        click.echo(json.dumps({"format": 1, "backups": [plain(one) for one in listed]}, indent=1))
        return
    for one in listed:
        good = "good" if one.verified else "NOT VERIFIED"
        size = f"{one.size_bytes / 1e6:9.1f} MB"
        say(f"{one.made_at}  v{one.version}  {size}  {one.kind:<14} {good:<12} {one.path}", sys.stdout)


def _prune(place: Place, keep_count: int, *, dry_run: bool, as_json: bool) -> None:
    with locked(place.database):
        gone = backup_files.rotate(place.backups, place.database, keep_count=keep_count, pinned=(), dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"format": 1, "removed": [str(one) for one in gone], "dry_run": dry_run}, indent=1))
        return
    for path in gone:
        say(f"{'would remove' if dry_run else 'removed'} {path}", sys.stdout)
    if not gone:
        say("nothing to remove", sys.stdout)
