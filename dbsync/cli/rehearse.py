"""`dbsync rehearse`: migrate and verify a copy."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dbsync import losses
from dbsync.cli.console import about
from dbsync.cli.output import tell, tidy_when_ended
from dbsync.cli.shared import Place, as_json, from_folder, on_database, tell_json
from dbsync.commands.rehearse import rehearse
from dbsync.errors import Missing
from dbsync.migrations import folder as migration_folder
from dbsync.model import State
from dbsync.outcomes import ExitStatus
from dbsync.rehearsal.way_back import in_words, summary
from dbsync.storage.platform import this_platform


@click.command("rehearse")
@from_folder
@as_json
@on_database
def command(place: Place, *, folder: Path, as_json: bool) -> None:
    """Migrate and verify a copy, and go back once on it.

    The app may run meanwhile. Tells how it would go, how long it would take, what would change, and what going back
    would lose, after made-up trade on the copy; leaves nothing behind.
    """
    known = migration_folder.load(folder)
    facts = place.effects().look()
    if facts.had_data or facts.state is State.MISSING:
        raise Missing(operation="rehearse", path=place.database, cause=facts.gone)
    this_platform().lower_priority()
    with tidy_when_ended():
        found = rehearse(known, database=place.database, backups=place.backups, progress=place.bars)
    if as_json:
        tell_json(found.as_json())
    else:
        names = ", ".join(found.migrations) or "nothing to run"
        tell(f"{'it would go well' if found.good else 'IT WOULD FAIL'}: {names}")
        if found.cause:
            tell(f"  {found.cause}")
        for line in losses.listed(found.changes, unit="rows"):
            tell(line)
        for what in found.objects:
            tell(f"  {what}")
        tell(f"  {found.seconds:.1f} s here; the till would be closed for {about(found.expected_seconds)}")
        sizes = f"{found.size_bytes / 1e6:.1f} MB now, {found.after_bytes / 1e6:.1f} MB after"
        tell(f"  {sizes}; it would need {found.needed_bytes / 1e6:.1f} MB of disk")
        if found.way_back is not None:
            tell("")
            tell(summary(found.way_back))
            for line in in_words(found.way_back):
                tell(f"  {line}")
    sys.exit(0 if found.good else ExitStatus.FAILED)
