"""`updater doctor`: find what is wrong with this terminal's settings, folders, owners and modes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dbsync.cli.output import tell
from dbsync.outcomes import ExitStatus
from updater.cli.shared import FILE, as_json, in_words


@click.command("doctor")
@click.option("--settings", "settings_path", type=FILE, help="The terminal's settings file.")
@click.option("--repair", is_flag=True, help="Set owners and modes first; needs the administrator with two accounts.")
@as_json
def command(settings_path: Path | None, *, repair: bool, as_json: bool) -> None:
    """Name each problem of this terminal with a command that repairs it. Status 1 if there are any."""
    from updater.reporting import doctor

    changed: tuple[str, ...] = ()
    with in_words():
        if repair:
            changed = doctor.repair(settings_path)
        found = doctor.examine(settings_path)
    if as_json:
        tell(json.dumps(doctor.as_json(found, changed), indent=1, ensure_ascii=False), exactly=True)
    else:
        for line in doctor.in_words(found, changed):
            tell(line)
    if doctor.counts(found):
        sys.exit(ExitStatus.FAILED)
