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
from dbsync.recovery.repair import ITSELF, Repaired, repair
from dbsync.recovery.table_reader import LEAST, MOST
from dbsync.recovery.table_recovery import TableRepaired

_SHOWN = 5


@click.command("repair")
@click.option("--into", type=FILE, required=True, help="The new file.")
@folder_option("The folder of migrations: tells the schema where nothing else does.")
@as_json
@on_database
def command(place: Place, *, into: Path, folder: Path | None, as_json: bool) -> None:
    """Read what can be read of a damaged database into a NEW file.

    It is compared with the newest good backup. The damaged database and the files beside it are not written. Exit
    statuses: 0 everything was read; 1 something was not; 4 refused.
    """
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
    lines.append(f"Nothing was put in place. If this is to be the shop's database: {next_step}")
    for line in lines:
        tell(line)


def _line(table: TableRepaired) -> str:
    line = f"{table.table}: {table.read_count} rows read"
    line += f", {table.aside_count} of them do not fit" if table.aside_count else ""
    if not table.cause:
        return line
    shown = ", ".join(_range(*unread) for unread in table.unread[:_SHOWN])
    more = f" and {len(table.unread) - _SHOWN} more" if len(table.unread) > _SHOWN else ""
    return f"{line}, not readable: {f'rowids {shown}{more} ' if shown else ''}({table.cause})"


def _range(first: int, last: int) -> str:
    begin, end = "the first" if first == LEAST else str(first), "the last" if last == MOST else str(last)
    return begin if first == last else f"{begin} to {end}"
