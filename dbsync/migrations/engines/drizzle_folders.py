"""The layouts of drizzle-kit's folder: up to 0.31 a journal and SQL files, since 1.0 a folder for each migration.

0.31: `meta/_journal.json` and `0000_name.sql`. 1.0: `20240131120000_name/migration.sql` and `snapshot.json`, which
names the snapshots that it depends on. `drizzle-kit up` turns the first into the second, text for text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.errors import BadMigrations
from dbsync.migrations.migration_file import bytes_of, listed
from dbsync.model import Sha256
from dbsync.storage import files

JOURNAL: Final = "meta/_journal.json"
FILE: Final = "migration.sql"
SNAPSHOT: Final = "snapshot.json"
_PRISMAS: Final = "migration_lock.toml"
_DIALECTS: Final = ("sqlite", "turso")
_TIME: Final = "%Y%m%d%H%M%S"
_TIME_LENGTH: Final = 14


class Entry(NamedTuple):
    """One migration."""

    name: str
    """The journal's tag, or the folder's name."""
    path: Path
    when: int
    """The value of `created_at` in Drizzle's table: milliseconds."""
    has_folder: bool
    """Whether it is in the layout of 1.0."""


def entries(folder: Path) -> list[Entry]:
    """Return all migrations, in the order in which they were made.

    Raises:
        BadMigrations: the folder is in both layouts, not for SQLite, Prisma's, or cannot be parsed.
    """
    places = [path for path in listed(folder) if (path / FILE).is_file()]
    if not places or (folder / JOURNAL).is_file():
        if places:
            cause = (
                f"it is in both of Drizzle's layouts ({JOURNAL} and {places[0].name}): `drizzle-kit up` makes it one"
            )
            raise BadMigrations(operation="read", path=folder, cause=cause)
        return _journal(folder)
    if (folder / _PRISMAS).is_file():
        cause = "it is a folder of Prisma's, which is not read; a program of the app's own can run Prisma on a copy"
        raise BadMigrations(operation="read", path=folder, cause=cause)
    _check_dialect(places)
    bare = [path.name for path in listed(folder) if path.name[:_TIME_LENGTH].isdecimal() and path not in places]
    if bare:
        raise BadMigrations(operation="read", path=folder, cause=f"{bare[0]} has no {FILE}: it was lost on the way")
    return [Entry(place.name, place / FILE, _milliseconds(place), has_folder=True) for place in _ordered(places)]


def hash_of(path: Path) -> Sha256:
    """Return the value that Drizzle writes as `hash`."""
    return Sha256(hashlib.sha256(bytes_of(path)).hexdigest())


def hashes_of(path: Path) -> set[str]:
    """Return the hashes of a file as it is, and with either kind of line ends."""
    data = bytes_of(path)
    lines = data.replace(b"\r\n", b"\n")
    return {hashlib.sha256(text).hexdigest() for text in (data, lines, lines.replace(b"\n", b"\r\n"))}


def _journal(folder: Path) -> list[Entry]:
    path = folder / JOURNAL
    try:
        journal = json.loads(bytes_of(path))
        found = journal["entries"]
        if journal["dialect"] not in _DIALECTS:
            raise BadMigrations(operation="read", path=path, cause=f"it is for {journal['dialect']}, not for SQLite")
        if not all(isinstance(entry["tag"], str) and isinstance(entry["when"], int) for entry in found):
            raise BadMigrations(operation="read", path=path, cause="an entry has no tag and time")
    except (ValueError, KeyError, TypeError) as cause:
        raise BadMigrations(operation="read", path=path, cause=f"it is no journal of Drizzle's: {cause!r}") from cause
    tags = [entry["tag"] for entry in found]
    twice = sorted({tag for tag in tags if tags.count(tag) > 1})
    if twice:
        raise BadMigrations(operation="read", path=path, cause=f"{twice[0]} is in it more than once")
    lost = [file.name for file in listed(folder) if file.suffix == ".sql" and file.name[0].isdecimal()]
    lost = [name for name in lost if name.removesuffix(".sql") not in tags]
    if lost:
        # Two branches that each added an entry, merged by hand: Drizzle would never run it, and not report it.
        raise BadMigrations(operation="read", path=path, cause=f"it does not name {lost[0]}: a merge may have lost it")
    return [Entry(entry["tag"], folder / f"{entry['tag']}.sql", entry["when"], has_folder=False) for entry in found]


def _ordered(places: list[Path]) -> Iterator[Path]:
    """Yield folders by the time in their names; folders of the same second by the dependencies of their snapshots.

    Drizzle itself sorts by the whole name, so that after `drizzle-kit up` a table may be altered before it is created.
    """
    for second, same in groupby(sorted(places, key=lambda place: place.name), lambda place: place.name[:_TIME_LENGTH]):
        left = list(same)
        if len(left) == 1:
            yield left[0]
            continue
        snapshots = {place: _snapshot(place) for place in left}
        if not all(snapshot.get("id") for snapshot in snapshots.values()):
            names = " or ".join(place.name for place in left)
            cause = f"without {SNAPSHOT} nobody can tell which of {second} comes first: {names}"
            raise BadMigrations(operation="read", path=left[0].parent, cause=cause)
        while left:
            waiting = {snapshots[place]["id"] for place in left}
            # If two depend on each other, the lower name is first.
            free = (place for place in left if not waiting.intersection(snapshots[place].get("prevIds", ())))
            first = next(free, left[0])
            left.remove(first)
            yield first


def _snapshot(place: Path) -> dict[str, Any]:
    """Return a folder's snapshot; empty if there is none, because Drizzle's migrator needs none."""
    path = place / SNAPSHOT
    if not files.is_there(path):
        return {}
    try:
        found = json.loads(bytes_of(path))
    except ValueError as cause:
        raise BadMigrations(operation="read", path=path, cause=f"it is no snapshot of Drizzle's: {cause}") from cause
    if not isinstance(found, dict):
        raise BadMigrations(operation="read", path=path, cause="it is no snapshot of Drizzle's")
    return found


def _check_dialect(places: list[Path]) -> None:
    """Refuse a folder for another kind of database; any one snapshot names the kind for all."""
    dialect = _snapshot(places[-1]).get("dialect", _DIALECTS[0])
    if dialect not in _DIALECTS:
        raise BadMigrations(operation="read", path=places[-1], cause=f"it is for {dialect}, not for SQLite")


def _milliseconds(place: Path) -> int:
    try:
        when = datetime.strptime(place.name[:_TIME_LENGTH], _TIME).replace(tzinfo=UTC)
    except ValueError as cause:
        reason = "its name does not begin with a time, as in 20240131120000_name"
        raise BadMigrations(operation="read", path=place, cause=reason) from cause
    return int(when.timestamp()) * 1000
