"""What drizzle-kit keeps in its folder: up to 0.31 a journal and SQL files, since 1.0 a folder for each migration.

0.31: `meta/_journal.json` and `0000_name.sql`. 1.0: `20240131120000_name/migration.sql` and `snapshot.json`, which
names the snapshots that it grew out of. `drizzle-kit up` turns the first into the second, text for text.
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
from dbsync.migrations.migration_file import listed
from dbsync.model import Sha256

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
    """What Drizzle writes as `created_at`: milliseconds."""
    has_folder: bool
    """Of the layout of 1.0."""


def entries(folder: Path) -> list[Entry]:
    """Return all migrations, in the order in which they were made.

    Raises:
        BadMigrations: it is in both layouts, not for SQLite, Prisma's, or cannot be understood.
    """
    places = [one for one in listed(folder) if (one / FILE).is_file()]
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
    bare = [one.name for one in listed(folder) if one.name[:_TIME_LENGTH].isdecimal() and one not in places]
    if bare:
        raise BadMigrations(operation="read", path=folder, cause=f"{bare[0]} has no {FILE}: it was lost on the way")
    return [Entry(one.name, one / FILE, _milliseconds(one), has_folder=True) for one in _ordered(places)]


def hash_of(path: Path) -> Sha256:
    """Return what Drizzle writes as `hash`."""
    return Sha256(hashlib.sha256(_bytes(path)).hexdigest())


def hashes_of(path: Path) -> set[str]:
    """Return the same with either kind of line ends."""
    data = _bytes(path)
    lines = data.replace(b"\r\n", b"\n")
    return {hashlib.sha256(one).hexdigest() for one in (data, lines, lines.replace(b"\n", b"\r\n"))}


def _journal(folder: Path) -> list[Entry]:
    path = folder / JOURNAL
    try:
        journal = json.loads(path.read_bytes())
        found = journal["entries"]
        if journal["dialect"] not in _DIALECTS:
            raise BadMigrations(operation="read", path=path, cause=f"it is for {journal['dialect']}, not for SQLite")
        if not all(isinstance(one["tag"], str) and isinstance(one["when"], int) for one in found):
            raise BadMigrations(operation="read", path=path, cause="an entry has no tag and time")
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise BadMigrations(operation="read", path=path, cause=f"it is no journal of Drizzle's: {cause!r}") from cause
    tags = [one["tag"] for one in found]
    twice = sorted({one for one in tags if tags.count(one) > 1})
    if twice:
        raise BadMigrations(operation="read", path=path, cause=f"{twice[0]} is in it more than once")
    lost = [one.name for one in listed(folder) if one.suffix == ".sql" and one.name[0].isdecimal()]
    lost = [one for one in lost if one.removesuffix(".sql") not in tags]
    if lost:
        # Two branches that each added an entry, merged by hand: Drizzle would never run it, and never say so.
        raise BadMigrations(operation="read", path=path, cause=f"it does not name {lost[0]}: a merge may have lost it")
    return [Entry(one["tag"], folder / f"{one['tag']}.sql", one["when"], has_folder=False) for one in found]


def _ordered(places: list[Path]) -> Iterator[Path]:
    """By the time in front. Of what was made in one second the snapshots say what grew out of what.

    Drizzle itself goes by the whole name, so that after `drizzle-kit up` a table may be altered before it is made.
    """
    for second, same in groupby(sorted(places, key=lambda one: one.name), lambda one: one.name[:_TIME_LENGTH]):
        left = list(same)
        if len(left) == 1:
            yield left[0]
            continue
        said = {one: _snapshot(one) for one in left}
        if not all(one.get("id") for one in said.values()):
            names = " or ".join(one.name for one in left)
            cause = f"without {SNAPSHOT} nobody can tell which of {second} comes first: {names}"
            raise BadMigrations(operation="read", path=left[0].parent, cause=cause)
        while left:
            waiting = {said[one]["id"] for one in left}
            # Two that grow out of each other: the name has the last word.
            first = next((one for one in left if not waiting.intersection(said[one].get("prevIds", ()))), left[0])
            left.remove(first)
            yield first


def _snapshot(place: Path) -> dict[str, Any]:
    """Empty where there is none: Drizzle's migrator needs none."""
    path = place / SNAPSHOT
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as cause:
        raise BadMigrations(operation="read", path=path, cause=f"it is no snapshot of Drizzle's: {cause}") from cause
    if not isinstance(found, dict):
        raise BadMigrations(operation="read", path=path, cause="it is no snapshot of Drizzle's")
    return found


def _check_dialect(places: list[Path]) -> None:
    """One folder is for one kind of database: any snapshot tells."""
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


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
