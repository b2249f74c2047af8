"""The explanation of skipped numbers for an auditor: a folder with a letter, a table and JSON, made before the act.

`done.txt` is added when the database was replaced. Without it the operation was prepared, perhaps never done.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.errors import TillkeeperError, UnreadableFile
from dbsync.model import Gap
from dbsync.storage import file_calls, files, temporary_files

FORMAT: Final = 1
PREFIX: Final = "counters-"
TEXT: Final = "gaps.txt"
TABLE: Final = "gaps.csv"
JSON: Final = "gaps.json"
DONE: Final = "done.txt"
_HEAD: Final = ("counter", "description", "number_without", "raised_to", "first_skipped", "last_skipped")


class Why(NamedTuple):
    """The operation that skipped numbers."""

    operation: str
    """In words: restore, carry back, import …"""
    database: str
    at: str
    """When it was prepared, UTC."""
    source: str
    """The backup or file that took the place of the database."""
    kept: str
    """The path at which the replaced database is kept, with its numbers; empty if there was none to keep."""


class Explained(NamedTuple):
    """An explanation on disk."""

    folder: Path
    why: Why
    gaps: tuple[Gap, ...]
    done: bool


def write(why: Why, gaps: tuple[Gap, ...], *, reports: Path, database: Path, stamp: str) -> Path:
    """Write an explanation durably and return its folder. A crash leaves a part, which the next run clears.

    Its owner and rights are those of the database.

    Raises:
        DiskProblem: it cannot be written; nothing is left of it.
    """
    number, folder = 1, reports / f"{PREFIX}{stamp}"
    while files.is_there(folder):
        number += 1
        folder = reports / f"{PREFIX}{stamp}-{number}"
    part = temporary_files.part_of(folder, temporary_files.owner_of(database))
    try:
        files.make_folder(part, like=database)
        files.write_durably(part / TEXT, _text(why, gaps).encode(), like=database)
        files.write_durably(part / TABLE, _table(gaps).encode(), like=database)
        told = {"format": FORMAT, **why._asdict(), "gaps": [gap._asdict() for gap in gaps]}
        files.write_json(part / JSON, told, like=database)
        files.rename_durably(source=part, target=folder)
    except TillkeeperError:
        remove(part)
        raise
    return folder


def finish(*, folder: Path, at: str, database: Path) -> None:
    """Add to an explanation that the database was replaced; repeatable."""
    done = folder / DONE
    if files.is_there(done) or not files.is_there(folder):
        return
    part = temporary_files.part_of(folder.with_name(f"{folder.name}-{DONE}"), temporary_files.owner_of(database))
    line = f"{at}  The database was replaced; the numbers in {TEXT} are skipped.\n"
    files.write_durably(part, line.encode(), like=database)
    files.rename_durably(source=part, target=done)


def remove(folder: Path) -> None:
    """Remove an explanation of something that was not done, as far as possible."""
    file_calls.remove_tree_if_possible(folder)


def listed(reports: Path, *, owner: str) -> list[Explained]:
    """Return the explanations for a database, oldest first; a file that cannot be read as one is left out."""
    found = [read(folder) for folder in sorted(files.listed(reports, f"{PREFIX}*"))]
    return [explained for explained in found if explained is not None and explained.why.database == owner]


def read(folder: Path) -> Explained | None:
    """Return the explanation in a folder; None if there is none that can be read."""
    try:
        return _explained(folder, files.read_json(folder / JSON))
    except (FileNotFoundError, UnreadableFile, AttributeError, KeyError, TypeError, ValueError):
        return None


def _explained(folder: Path, told: dict[str, Any]) -> Explained:
    why = Why(*(str(told[name]) for name in Why._fields))
    gaps = tuple(Gap(**{name: row[name] for name in Gap._fields}) for row in told["gaps"])
    return Explained(folder, why, gaps, files.is_there(folder / DONE))


def _text(why: Why, gaps: tuple[Gap, ...]) -> str:
    lines = [
        f"Numbers that are skipped in {why.database}",
        "",
        f"Prepared       {why.at} (UTC)",
        f"Operation      {why.operation}",
        f"Restored from  {why.source}",
        f"Replaced       {why.kept or 'there was no database to keep'}",
        "",
        "A database that takes the place of another one may be older. Its counters were raised to the highest number",
        "that was ever seen, so that no number is given out twice. The numbers between are not given out again.",
        "Records under these numbers, as far as there were any, are in the database that was replaced.",
        "",
    ]
    for gap in gaps:
        lines += [
            f"Counter        {gap.counter}: {gap.description}",
            f"  it would have been  {'none yet' if gap.number is None else gap.number}",
            f"  raised to           {gap.raised_to}",
            f"  skipped             {gap.first} to {gap.last} ({gap.last - gap.first + 1} numbers)",
        ]
        if gap.not_believed is not None:
            lines.append(f"  not used            a mark of {gap.not_believed}, which is too high to be true")
    lines += ["", f"{DONE} beside this file says when the database was replaced. Without it, it perhaps never was.", ""]
    return "\n".join(lines)


def _table(gaps: tuple[Gap, ...]) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow(_HEAD)
    rows.writerows(
        (gap.counter, gap.description, "" if gap.number is None else gap.number, gap.raised_to, gap.first, gap.last)
        for gap in gaps
    )
    return text.getvalue()


def as_json(explained: Explained) -> dict[str, Any]:
    """Return an explanation for programs."""
    told = {"folder": str(explained.folder), "done": explained.done, **explained.why._asdict()}
    return {**told, "gaps": [gap._asdict() for gap in explained.gaps]}


def in_words(explained: Explained) -> list[str]:
    """Return an explanation as lines for people."""
    state = "" if explained.done else " (no end on record: perhaps never carried out)"
    head = f"{explained.why.at}  {explained.why.operation}{state}: {explained.folder}"
    return [head, *(f"  {gap.in_words}" for gap in explained.gaps)]
