"""`dbsync backups`: list backups, remove old ones, and compress them."""

from __future__ import annotations

from contextlib import nullcontext

import click

from dbsync.backups import catalog, compaction
from dbsync.backups.description import backup_json
from dbsync.cli.output import tell
from dbsync.cli.shared import Place, as_json, on_database, plain, tell_json
from dbsync.model import Backup
from dbsync.storage.locks import locked


@click.command("backups")
@click.option("--prune", is_flag=True, help="Remove old migration backups, as rotation does.")
@click.option("--keep", "keep_count", type=click.IntRange(3), help="With --prune: how many stay (default: 10).")
@click.option("--compress", is_flag=True, help="Make old migration backups small (needs zstd).")
@click.option(
    "--keep-plain", "plain_count", type=click.IntRange(1), help="With --compress: how many stay (default: 3)."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")
@as_json
@on_database
def command(
    place: Place, *, prune: bool, keep_count: int | None, compress: bool, plain_count: int | None, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """List all backups of this database, newest first.

    --prune never removes the newest good one of a schema, nor what a person made. --compress leaves the newest alone,
    and reads each one back before the plain one goes.
    """
    if prune == compress and (dry_run or prune):
        raise click.UsageError("Pass either --prune or --compress; --dry-run goes with one of them.")
    if (keep_count is not None and not prune) or (plain_count is not None and not compress):
        raise click.UsageError("--keep goes with --prune, --keep-plain with --compress.")
    if compress:
        _compress(place, plain_count or compaction.PLAIN_COUNT, dry_run=dry_run, as_json=as_json)
        return
    if prune:
        _prune(place, keep_count or catalog.KEPT_COUNT, dry_run=dry_run, as_json=as_json)
        return
    listed = place.listed()
    if as_json:
        tell_json({"backups": [backup_json(backup) for backup in listed]})
        return
    if not listed:
        others = len(catalog.list_all(backups=place.backups, database=place.database))
        tell(f"no backups of this database in {place.backups}" + (f"; {others} of others" if others else ""))
    rows = [_row(backup) for backup in listed]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for backup, (version, size, *rest) in zip(listed, rows, strict=True):
        cells = [version.ljust(widths[0]), size.rjust(widths[1])]
        cells += [cell.ljust(width) for cell, width in zip(rest, widths[2:], strict=True)]
        tell("  ".join([backup.made_at, *cells]), tail=str(backup.path))


def _row(backup: Backup) -> list[str]:
    good = "good" if backup.verified else "NOT VERIFIED"
    good += f" ({backup.checked})" if backup.verified and backup.checked else ""
    return [f"v{backup.version}", f"{backup.size_bytes / 1e6:.1f} MB", str(backup.kind), good]


def _prune(place: Place, keep_count: int, *, dry_run: bool, as_json: bool) -> None:
    # A dry run takes no lock: that would make its file.
    with nullcontext() if dry_run else locked(place.database):
        place.effects(reads_only=dry_run).clear()
        gone = catalog.rotate(
            backups=place.backups, database=place.database, keep_count=keep_count, pinned=(), dry_run=dry_run
        )
    if as_json:
        tell_json({"removed": [str(path) for path in gone], "dry_run": dry_run})
        return
    for path in gone:
        tell(f"{'would remove' if dry_run else 'removed'} {path}")
    if not gone:
        tell("nothing to remove")


def _compress(place: Place, plain_count: int, *, dry_run: bool, as_json: bool) -> None:
    with nullcontext() if dry_run else locked(place.database):
        place.effects(reads_only=dry_run).clear()
        old = compaction.old_ones(backups=place.backups, database=place.database, plain_count=plain_count)
        if dry_run:
            done = [compaction.Packed(backup.path, backup.size_bytes, backup.size_bytes) for backup in old]
        else:
            done = [compaction.pack(backup) for backup in old]
    if as_json:
        tell_json({"compressed": [plain(packed) for packed in done], "dry_run": dry_run})
        return
    for packed in done:
        sizes = f"{packed.before_bytes / 1e6:.1f} MB" + ("" if dry_run else f" to {packed.after_bytes / 1e6:.1f} MB")
        what = f"left as it is ({packed.cause})" if packed.cause else "would compress" if dry_run else "compressed"
        tell(f"{what} {packed.path} ({sizes})")
    if not done:
        tell("nothing to compress")
