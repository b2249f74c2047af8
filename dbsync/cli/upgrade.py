"""`dbsync upgrade`: bring a database to the newest schema, or show the plan for that."""

from __future__ import annotations

import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

from dbsync.cli.console import JsonLines, Transcript, about
from dbsync.cli.output import stdout, tell, tidy_when_ended
from dbsync.cli.shared import Place, as_json, from_folder, on_database, plain, tell_json
from dbsync.commands import dry_run as dry_run_upgrade
from dbsync.migrations import folder as migration_folder
from dbsync.outcomes import ExitStatus, OutcomeName
from dbsync.storage.connections import Thoroughness
from dbsync.storage.locks import locked
from dbsync.storage.raw_text import lines_of
from dbsync.upgrade import coordinator

_WOULD = {
    "nothing": "change nothing: the database is up to date",
    "mark": "write rows of the history only",
    "create": "make a new database of schema {latest} by {count} migration(s)",
    "migrate": "go from schema {version} to {latest} by {count} migration(s), after a backup",
}


@click.command("upgrade")
@from_folder
@click.option("--dry-run", is_flag=True, help="Show the plan and the SQL; change nothing at all.")
@click.option("--on-copy", is_flag=True, help="With --dry-run: try it on a copy of the data, in the temporary folder.")
@click.option(
    "--again", is_flag=True, help="Retry a migration that was blocked after failing twice with the same error."
)
@click.option("--quick", is_flag=True, help="A till waits: check by SQLite's quick_check instead of integrity_check.")
@as_json
@on_database
def command(
    place: Place, *, folder: Path, dry_run: bool, on_copy: bool, again: bool, quick: bool, as_json: bool
) -> None:
    """Bring the database to the newest schema, or change nothing.

    Backup, migration and verification; all of it, or nothing.
    """
    if on_copy and not dry_run:
        raise click.UsageError("--on-copy goes with --dry-run")
    known = migration_folder.load(folder)
    if dry_run:
        with tidy_when_ended():
            found = dry_run_upgrade.dry_run(place.effects(reads_only=True), known, on_copy=on_copy, progress=place.bars)
        _show(place, found, as_json=as_json)
        sys.exit(_exit_status(found))
    with locked(place.database):
        view = JsonLines(stdout()) if as_json else Transcript()
        thoroughness = Thoroughness.QUICK if quick else Thoroughness.FULL
        effects = place.effects(view, thoroughness=thoroughness)
        outcome = coordinator.upgrade(effects, migrations=known, again=again)
    if as_json:
        tell_json({"kind": "outcome", **plain(outcome)}, on_one_line=True)
    elif outcome.hint and not outcome.ready:
        tell(f"   {outcome.hint}")
    sys.exit(outcome.name.exit_status)


def _exit_status(found: dry_run_upgrade.DryRun) -> int:
    """Return the exit status that the upgrade itself would have, as far as is known."""
    if isinstance(found.would, OutcomeName):
        return found.would.exit_status
    if found.problem:
        return ExitStatus.FAILED
    return 0 if all(volume.enough for volume in found.space) else ExitStatus.TRY_LATER


def _show(place: Place, found: dry_run_upgrade.DryRun, *, as_json: bool) -> None:
    if as_json:
        tell_json({"dry_run": True, "database": str(place.database), **_told(found)})
        return
    for line in _lines(place, found):
        tell(line)


def _told(found: dry_run_upgrade.DryRun) -> dict[str, Any]:
    steps = [
        {**step._asdict(), "statements": [statement._asdict() for statement in step.statements]} for step in found.steps
    ]
    space = [{**volume._asdict(), "folder": str(volume.folder), "enough": volume.enough} for volume in found.space]
    return {**found._asdict(), "steps": steps, "space": space}


def _lines(place: Place, found: dry_run_upgrade.DryRun) -> list[str]:
    words = _WOULD.get(found.would, "refuse: {would}: {cause}").format(**found._asdict(), count=len(found.steps))
    lines = ["dry run: nothing is changed", f"database   {place.database}, {found.size_bytes / 1e6:.1f} MB"]
    lines.append(f"would      {words}")
    lines += [f"           {found.hint}"] if found.hint else []
    if found.steps:
        known = found.expected_seconds is not None
        takes = f"{about(found.expected_seconds or 0)}, by {found.measured_by}" if known else "not known"
        lines.append(f"takes      {takes}" if known else f"takes      {takes}: `dbsync rehearse` measures it")
    for volume in found.space:
        enough = "" if volume.enough else ": NOT ENOUGH"
        sizes = f"{volume.required_bytes / 1e6:.1f} MB needed, {volume.available_bytes / 1e6:.1f} MB free{enough}"
        lines.append(f"space      {volume.folder}: {sizes}")
    on_data = found.tried_on is dry_run_upgrade.TriedOn.DATA
    where = "a copy of the data, verified" if on_data else "an empty copy of the schema"
    if found.steps:
        lines.append(f"tried on   {where}: {found.problem or 'it goes well'}")
    for step in found.steps:
        lines += _of_step(step)
    return lines


def _of_step(step: dry_run_upgrade.Step) -> list[str]:
    lines = ["", f"📝 Migration v{step.number}: {step.name}", f"   {step.description}"]
    lines += [f"   declares: {change}" for change in step.changes] or ["   declares: nothing, so nothing may differ"]
    for statement in step.statements:
        first, *more = lines_of(cleandoc(statement.sql).rstrip(" \n;")) or [""]
        lines += [f"     {first}", *(f"     {line}" for line in more)]
        lines[-1] += ";" + (f"  -- {statement.times} times" if statement.times > 1 else "")
    return lines
