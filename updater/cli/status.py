"""`updater status`: show the state of this terminal."""

from __future__ import annotations

import json

import click

from dbsync.cli.output import tell
from updater.cli.cycle import terminal_of
from updater.cli.shared import as_json, with_settings
from updater.model import ProcessKind
from updater.settings import Settings


@click.command("status")
@as_json
@with_settings
def command(settings: Settings, *, as_json: bool) -> None:
    """Show this terminal's versions, schema, phase, trial, last outcome, backups and disk, and what to do."""
    from updater.reporting.status import in_words as lines_of
    from updater.reporting.status import status as look

    found = look(terminal_of(settings, ProcessKind.STATUS))
    if as_json:
        tell(json.dumps(found, indent=1, ensure_ascii=False), exactly=True)
        return
    for line in lines_of(found):
        tell(line)
