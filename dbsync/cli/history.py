"""`dbsync history`: a database's past as text, as JSON, or as a page to open in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.backups.description import backup_json
from dbsync.cli import history_page
from dbsync.cli.console import lasted
from dbsync.cli.output import tell
from dbsync.cli.shared import FILE, Place, as_json, on_database, plain, tell_json
from dbsync.counters import explanation
from dbsync.database.timeline import Past, Run, RunVerdict, past_of
from dbsync.model import State
from dbsync.storage import files


@click.command("history")
@click.option("--html", "page", type=FILE, help="Write it as one HTML file, which needs no network.")
@as_json
@on_database
def command(place: Place, *, page: Path | None, as_json: bool) -> None:
    """Show the applied migrations, and every run that was tried.

    The first list is from the database, the second from the record beside it, which a restore keeps.
    """
    past = past_of(place.effects(reads_only=True))
    if page is not None:
        files.write_durably(page.absolute(), history_page.page(past).encode("utf-8", "replace"), like=place.database)
    if as_json:
        tell_json(_told(past))
    elif page is not None:
        tell(f"written: {page.absolute()}")
    else:
        for line in _lines(past):
            tell(line)
        for number, run in enumerate(past.runs):
            for heading in () if number else ("", "tried"):
                tell(heading)
            tell(_line(run), tail=_spent(run))
        for line in _skipped(past):
            tell(line)


def _told(past: Past) -> dict[str, object]:
    return {
        "database": str(past.database),
        "state": str(past.facts.state),
        "detail": past.facts.detail,
        "version": past.facts.version,
        "size_bytes": past.size_bytes,
        "applied": past.applied,
        "attempts": [plain(run) for run in past.runs],
        "runs": past.lines,
        "backups": [backup_json(backup) for backup in past.backups],
        "gaps": [explanation.as_json(explained) for explained in past.gaps],
    }


def _lines(past: Past) -> list[str]:
    state = "" if past.facts.state is State.OK else f", {past.facts.state}: {past.facts.detail}"
    lines = [f"{past.database}, schema {past.facts.version}, {past.size_bytes / 1e6:.1f} MB{state}"]
    lines += ["", "applied"] if past.applied else []
    for row in past.applied:
        what = f"v{row['number']} {row['name']}" if row["number"] else f"trial {row['trial_id']}"
        milliseconds = row["duration_ms"]
        took = lasted(milliseconds / 1000) if isinstance(milliseconds, int) else ""
        of = f"  release {row['release_version']}" if row["release_version"] else ""
        lines.append(f"{row['applied_at']}  {row['kind']:<10} {took:>9}  {what}{of}")
    return lines


def _skipped(past: Past) -> list[str]:
    lines = ["", "skipped numbers"] if past.gaps else []
    return lines + [line for explained in past.gaps for line in explanation.in_words(explained)]


def _line(run: Run) -> str:
    took = lasted(run.seconds) if run.seconds is not None else ""
    words = run.outcome or "no end on record: cut, or under way"
    if run.times > 1:
        words += f", {run.times} times until {run.until}"
    if run.verdict is RunVerdict.GOOD and run.after is not None and run.before not in (None, run.after):
        words += f", schema {run.before} to {run.after}"
    where = " ".join(part for part in (run.phase, run.migration) if part) if run.verdict is RunVerdict.BAD else ""
    words += f" ({where})" if where else ""
    words += f": {run.cause}" if run.cause else ""
    return f"{run.at}  {run.kind:<10} {took:>9}  {words}"


def _spent(run: Run) -> str:
    """Return the time of each phase, or an empty string."""
    spent = ", ".join(f"{name} {lasted(seconds)}" for name, seconds in run.phases.items()) if run.times == 1 else ""
    return f"[{spent}]" if spent else ""
