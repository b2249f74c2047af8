"""`dbsync repair`: for support, read what can be read of a damaged database into a new file."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from dbsync import losses
from dbsync.cli.console import command_line
from dbsync.cli.output import tell
from dbsync.cli.shared import FILE, Place, as_json, folder_option, on_database, plain, tell_json
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.migrations import folder as migration_folder
from dbsync.model import Intent
from dbsync.outcomes import ExitStatus
from dbsync.recovery import reviewed_rows
from dbsync.recovery.repair import ITSELF, Repaired, repair
from dbsync.recovery.table_reader import LEAST, MOST
from dbsync.recovery.table_recovery import TableRepaired
from dbsync.storage.locks import locked

_SHOWN = 5


@click.command("repair")
@click.option("--into", type=FILE, help="The new file.")
@click.option("--put-back", type=FILE, help="Instead: put the reviewed rows of this file into the database.")
@click.option("--dry-run", is_flag=True, help="With --put-back: find out which rows fit; change nothing.")
@folder_option("The folder of migrations: tells the schema where nothing else does.")
@as_json
@on_database
def command(
    place: Place, *, into: Path | None, put_back: Path | None, dry_run: bool, folder: Path | None, as_json: bool
) -> None:
    """Read what can be read of a damaged database into a NEW file.

    It is compared with the newest good backup. The damaged database and the files beside it are not written. Rows that
    do not fit are put aside, one JSON line each. Once a person has reviewed them, --put-back inserts them into the
    shop's database, after a backup.

    Exit statuses: 0 everything was read, or put back; 1 something was not; 4 refused.
    """
    if (into is None) == (put_back is None) or (dry_run and put_back is None):
        raise click.UsageError("Pass either --into or --put-back; --dry-run goes with --put-back.")
    if put_back is not None:
        _put_back(place, put_back.absolute(), dry_run=dry_run, as_json=as_json)
        return
    assert into is not None
    known = migration_folder.load(folder) if folder is not None else ()
    last_schema = FlightRecorder(place.backups, place.database).last_schema()
    effects = place.effects()
    found = repair(
        database=place.database,
        into=into.absolute(),
        backups=place.listed(),
        migrations=known,
        last_version=last_schema,
        progress=place.bars,
        raise_counters=partial(effects.raise_in_new, into=into.absolute()),
    )
    if found.gaps is not None:
        effects.counters_raised(Intent("repair", str(found.into), gaps=str(found.gaps)))
    words = ["dbsync", "import", found.into, "--database", place.database, "--migrations", folder or "FOLDER"]
    next_step = command_line(words)
    if as_json:
        tables = [{**table._asdict(), "whole": table.whole} for table in found.tables]
        told = {**plain(found), "tables": tables, "losses": losses.as_json(found.losses)}
        tell_json({**told, "whole": found.whole, "next_step": next_step})
    else:
        _tell(found, next_step)
    sys.exit(0 if found.whole else ExitStatus.FAILED)


def _put_back(place: Place, path: Path, *, dry_run: bool, as_json: bool) -> None:
    entries = reviewed_rows.read(path)
    kept = left = None
    with locked(place.database):
        effects = place.effects(reads_only=dry_run)
        if not dry_run:
            kept = effects.make_backup()
        done = reviewed_rows.put_back(place.database, entries, keep=not dry_run)
        if done.refused and not dry_run:
            left = reviewed_rows.write_left(path, done.refused, like=place.database)
    if as_json:
        refused = [{"line": entry.number, "table": entry.table, "cause": cause} for entry, cause in done.refused]
        told = {"put_count": done.put_count, "there_count": done.there_count, "refused": refused, "dry_run": dry_run}
        tell_json({**told, "backup": str(kept.path) if kept else None, "left": str(left) if left else None})
    else:
        tell(f"{'would be put back' if dry_run else 'put back'}: {_rows(done.put_count)}")
        tell(f"there already: {_rows(done.there_count)}")
        for entry, cause in done.refused:
            tell(f"refused: line {entry.number}, {entry.table}: {cause}")
        if left is not None:
            tell(f"The refused rows: {left}. Fix them there, or leave them out.")
        if kept is not None:
            tell(f"The database as it was: {kept.path}")
    sys.exit(ExitStatus.FAILED if done.refused else 0)


def _tell(found: Repaired, next_step: str) -> None:
    lines = [f"{'everything was read' if found.whole else 'NOT EVERYTHING WAS READ'}: {found.into}"]
    if found.schema_from != ITSELF:
        lines.append(f"  its schema could not be read whole; what was missing is from {found.schema_from}")
    if found.bad_blocks_count:
        lines.append(f"  the disk did not give {found.bad_blocks_count} blocks of 4096 bytes")
    if found.log is not None and found.log.may_lose:
        lines.append(f"  its -wal is damaged: {found.log.in_words}")
    lines += [f"  {_line(table)}" for table in found.tables]
    lines += [f"  not made: {reason}" for reason in found.not_made]
    lines += [f"  {reference}" for reference in found.references]
    if found.aside is not None:
        lines.append(f"  rows that do not fit, one JSON line each: {found.aside}")
    if found.gaps is not None:
        lines.append(f"  numbers that are skipped are explained: {found.gaps}")
    if found.compared_with is None:
        lines.append("there is no good backup to compare with")
    else:
        lines.append(f"compared with {found.compared_with}:")
        lines += [f"  {losses.compared(loss, before='the backup', after='the new file')}" for loss in found.losses]
        lines += [f"  could not be compared: {found.not_compared}"] if found.not_compared else []
        lines += ["  no difference"] if not found.losses and not found.not_compared else []
    lines.append(f"Nothing was put in place. If this is to be the shop's database: `{next_step}`")
    for line in lines:
        tell(line)


def _line(table: TableRepaired) -> str:
    line = f"{table.table}: {_rows(table.read_count)} read"
    line += f", {table.aside_count} of them do not fit" if table.aside_count else ""
    if not table.cause:
        return line
    shown = ", ".join(_range(*unread) for unread in table.unread[:_SHOWN])
    more = f" and {len(table.unread) - _SHOWN} more" if len(table.unread) > _SHOWN else ""
    return f"{line}, not readable: {f'rowids {shown}{more} ' if shown else ''}({table.cause})"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _range(first: int, last: int) -> str:
    begin, end = "the first" if first == LEAST else str(first), "the last" if last == MOST else str(last)
    return begin if first == last else f"{begin} to {end}"
