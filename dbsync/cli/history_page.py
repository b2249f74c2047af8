"""A database's past as one HTML file: no network, no script, readable in light and dark, on paper and on a phone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.backups.description import purpose_of
from dbsync.cli.console import lasted
from dbsync.cli.history_style import STYLE
from dbsync.cli.lines import printable
from dbsync.database.timeline import Past, Run, RunKind, RunVerdict
from dbsync.model import State

TRIAL_LETTERS: Final = 8
_TIME: Final = re.compile(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z$")


class _Cell(NamedTuple):
    """One cell of a table: finished HTML."""

    html: str
    kind: str = "text"


def page(past: Past) -> str:
    """Return the whole page. Values from the database and from file names are escaped, so that they are never HTML."""
    name = _text(past.database.name)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name}: history</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="soft">Database history</p>
<h1>{name}</h1>
<p class="path">{_path(past.database)}</p>
</header>
{_facts(past)}
{_applied(past)}
{_runs(past)}
{_backups(past)}
<footer><p>As of {_when(past.at)}. All times are UTC.</p></footer>
</main>
</body>
</html>
"""


def _facts(past: Past) -> str:
    facts = past.facts
    good = facts.state is State.OK
    state = f'<span class="badge {"good" if good else "bad"}">{_text(facts.state)}</span>'
    last = past.last_run.run
    bad = sum(run.verdict is RunVerdict.BAD for run in past.runs if run.kind is not RunKind.REHEARSAL)
    verified = sum(backup.verified for backup in past.backups)
    tiles = [
        ("State", state + (f"<small>{_text(facts.detail)}</small>" if facts.detail else "")),
        ("Schema", f"{facts.version}" if good else "&ndash;"),
        ("Size", _size(past.size_bytes) if past.size_bytes else "&ndash;"),
        ("Last run", _last(last, good=good) if last else "&ndash;"),
        ("Failed attempts", f'<span class="badge bad">{bad}</span>' if bad else "0"),
        ("Backups", f"{len(past.backups)}" + (f"<small>{verified} verified</small>" if past.backups else "")),
    ]
    return "<dl>\n" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>\n" for name, value in tiles) + "</dl>"


def _last(run: Run, *, good: bool) -> str:
    """Return the tile of the last run; one that found the database otherwise than it is now says so."""
    since = "<small>the database is ok</small>" if good and run.verdict is RunVerdict.BAD else ""
    return f"{_badge(run)}<small>{_when(run.until or run.at)} UTC</small>{since}"


def _applied(past: Past) -> str:
    heads = ("Applied (UTC)", "Schema", "Migration", "Kind", "Took", "Release", "Trial")
    migrated = {row["trial_id"] for row in past.applied if row["number"] is not None}
    rows = []
    for row in reversed(past.applied):
        if row["number"] is None and row["trial_id"] in migrated:
            # The trial's row repeats what its migrations say.
            continue
        took = row["duration_ms"]
        rows.append(
            (
                _Cell(_when(str(row["applied_at"])), "when"),
                _Cell(_text(row["number"]), "number"),
                _Cell(_text(row["name"] or "no migration: the schema stayed")),
                _Cell(_text(row["kind"]), "word"),
                _Cell(lasted(took / 1000) if isinstance(took, int) else "", "number"),
                _Cell(_text(row["release_version"] or row["release_id"])),
                _Cell(_trial(row["trial_id"])),
            )
        )
    note = "What the database itself says has been applied to it. A restored database has its older history."
    return _section("Applied migrations", note, heads, rows, "No migration is on record in the database.")


def _runs(past: Past) -> str:
    heads = ("Began (UTC)", "What", "Outcome", "Schema", "Took", "Where and why")
    rows = []
    for run in reversed(past.runs):
        where = ", ".join(part for part in (run.phase, run.migration) if part)
        why = _text(run.cause or ("" if run.until else "No end is on record: it was cut, or is under way."))
        spent = ", ".join(f"{name} {lasted(seconds)}" for name, seconds in run.phases.items())
        shown = where if run.verdict is not RunVerdict.GOOD or run.kind is RunKind.REHEARSAL else ""
        parts = [
            f"<strong>{_text(shown)}</strong>" if shown else "",
            why,
            f"<small>{_text(spent)}</small>" if spent else "",
        ]
        times = f"<small>{run.times} times, last {_when(run.until)}</small>" if run.times > 1 else ""
        rows.append(
            (
                _Cell(_when(run.at), "when"),
                _Cell(_text(run.kind), "word"),
                _Cell(f"<div>{_badge(run)}{times}</div>"),
                _Cell(_schemas(run), "number"),
                _Cell(lasted(run.seconds) if run.seconds is not None and run.times == 1 else "", "number"),
                _Cell(f"<div>{'<br>'.join(part for part in parts[:2] if part)}{parts[2]}</div>" if any(parts) else ""),
            )
        )
    note = "Every run that was tried, from the record beside the database: a restore does not take it back."
    return _section("Runs", note, heads, rows, "No run is on record.")


def _backups(past: Past) -> str:
    heads = ("Made (UTC)", "Kind", "Schema", "Size", "Checked", "What it is for")
    rows = [
        (
            _Cell(_when(backup.made_at), "when"),
            _Cell(_text(backup.kind), "word"),
            _Cell(_text(backup.version), "number"),
            _Cell(_size(backup.size_bytes), "number"),
            _Cell(f'<div><span class="badge {"good" if backup.verified else "bad"}">'
                  f"{'verified' if backup.verified else 'not verified'}</span></div>"),
            _Cell(f"<div>{_text(purpose_of(backup))}<small>{_path(backup.path)}</small>"
                  + (f"<small>trial {_trial(backup.trial_id)}</small>" if backup.trial_id else "")
                  + "</div>"),
        )
        for backup in past.backups
    ]  # fmt: skip
    return _section("Backups", "What can be restored, newest first.", heads, rows, "There is no backup.")


def _section(title: str, note: str, heads: Sequence[str], rows: Iterable[Sequence[_Cell]], nothing: str) -> str:
    body = []
    for row in rows:
        cells = "".join(
            f'<td class="{cell.kind}" data-label="{head}">{cell.html}</td>'
            for head, cell in zip(heads, row, strict=True)
        )
        body.append(f"<tr>{cells}</tr>\n")
    head = f'<section>\n<h2>{title}<span class="count">{len(body)}</span></h2>\n'
    if not body:
        return f'{head}<p class="none soft">{nothing}</p>\n</section>'
    named = "".join(f'<th scope="col"{_right(name)}>{name}</th>' for name in heads)
    return (
        f'{head}<p class="soft">{note}</p>\n<table>\n<thead><tr>{named}</tr></thead>\n'
        f"<tbody>\n{''.join(body)}</tbody>\n</table>\n</section>"
    )


def _right(name: str) -> str:
    return ' class="number"' if name in ("Schema", "Took", "Size") else ""


def _badge(run: Run) -> str:
    words = run.outcome.replace("_", " ").lower() if run.outcome else "cut"
    return f'<span class="badge {run.verdict}">{_text(words)}</span>'


def _schemas(run: Run) -> str:
    known = [str(number) for number in dict.fromkeys((run.before, run.after)) if number is not None]
    return " &rarr; ".join(known)


def _when(text: str) -> str:
    match = _TIME.match(text)
    if match is None:
        return _text(text)
    return f'<time datetime="{_text(text)}">{match[1]} {match[2]}</time>'


def _trial(shown: object) -> str:
    """Return the beginning of a trial's id, which tells trials apart; the whole of it shows where a pointer rests."""
    text = _text(shown)
    return f'<code title="{text}">{text[:TRIAL_LETTERS]}</code>' if text else ""


def _path(path: Path) -> str:
    """Return a path without `..`."""
    return _text(os.path.normpath(path))


def _size(size_bytes: int) -> str:
    if size_bytes < 1e6:
        return f"{size_bytes / 1e3:.0f} kB"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:,.2f} GB"


def _text(value: object) -> str:
    """Return a value as text of the page; characters that no page may hold become U+FFFD."""
    return escape(printable("" if value is None else str(value)))
