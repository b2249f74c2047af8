"""The command for support that reads a damaged database into a new file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dbsync.cli import FAILED, Place, as_json, main, on_database
from dbsync.console import say
from dbsync.locking import locked
from dbsync.progress import Meter, safe
from dbsync.repair import Repaired
from dbsync.repair import repair as recover

_FILE = click.Path(path_type=Path, dir_okay=False)


@main.command()
@click.option("--into", type=_FILE, required=True, help="The new file.")
@as_json
@on_database
def repair(place: Place, *, into: Path, as_json: bool) -> None:
    """Recover what can be read of a damaged database into a new file, and say what could not be.

    The damaged files are not changed. Exit code 1: something is missing, which is told per table.
    """
    with locked(place.database):
        meter = Meter(safe(place.bars))
        found = recover(place.database, into.absolute(), backups=place.listed(), meter=meter)
    if as_json:
        click.echo(json.dumps({"format": 1, "whole": found.whole, **_plain(found)}, indent=1))
    else:
        for line in _lines(found):
            say(line, sys.stdout)
    sys.exit(0 if found.whole else FAILED)


def _plain(found: Repaired) -> dict[str, object]:
    return {
        **found._asdict(),
        "into": str(found.into),
        "tables": [one._asdict() for one in found.tables],
        "kept_apart": str(found.kept_apart) if found.kept_apart else None,
        "compared_with": str(found.compared_with) if found.compared_with else None,
        "differences": [one._asdict() for one in found.differences],
    }


def _lines(found: Repaired) -> list[str]:
    lines = [f"{found.into}: {'everything was read' if found.whole else 'SOMETHING IS MISSING'}"]
    lines.append(f"definitions from {found.schema_from}")
    for one in found.tables:
        gaps = ", ".join(f"{first} to {last}" for first, last in one.gaps)
        missing = f"; nothing could be read of the rows {gaps}" if gaps else ""
        lines.append(f"  {one.name}: {one.rows_count} rows{missing}{f'; {one.problem}' if one.problem else ''}")
    lines += [f"  not made again: {one}" for one in found.objects]
    if found.kept_apart is not None:
        lines.append(f"  {found.kept_apart_count} rows that the schema refuses: {found.kept_apart}")
    if found.compared_with is not None:
        lines.append(f"against the backup {found.compared_with}:")
        lines += [
            f"  {one.table}: {one.added} only here, {one.changed} different, {one.removed} only in the backup"
            for one in found.differences
        ] or ["  the same rows"]
    lines.append(f"Look at it; then `dbsync import {found.into}` puts it in place and keeps the damaged one.")
    return lines
