"""The memory of a terminal beside the metadata of the repository: versions, keys and the time floor.

It is written when the terminal is installed, so its absence means that it was lost. Then nothing is accepted: an old
copy of the repository could not be told from the newest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.errors import Refused, UnreadableFile
from dbsync.storage import file_calls, files

ROLES: Final = ("root", "timestamp", "snapshot", "targets")
CLOCK_DOUBT: Final = timedelta(days=1)
"""A difference between two clocks above this makes one of them suspect."""
SEEN_NAME: Final = "seen.json"
ROOT_NAME: Final = "root.json"
LISTING_NAME: Final = "listing.json"


class TrustLost(Refused):
    """A terminal that does not know any more which metadata it has seen."""

    hint_by_default = "Get the vendor's root.json on a way you trust, then run `updater trust reset --root FILE`."


class Seen(NamedTuple):
    """The highest versions that were verified, the keys that signed them, and the time floor."""

    versions: Mapping[str, int]
    keys: Mapping[str, str]
    """A digest of each role's keys; empty for a terminal of before, whose next look records them."""
    floor: str
    """A time in UTC below which no clock is believed; empty for none."""
    sequences: Mapping[str, int] = {}
    """The highest sequence of each app's steering document; an app without one has never had a document here."""


NOTHING_SEEN: Final = Seen({}, {}, "")


def begin(folder: Path, root: bytes) -> None:
    """Trust a root and nothing else yet. A crash in between leaves a folder that is refused or begun again."""
    files.write_json(folder / SEEN_NAME, NOTHING_SEEN._asdict())
    files.write_durably(folder / ROOT_NAME, root, mode=0o600)


def forget(folder: Path) -> None:
    """Remove all metadata, listings and manifests. The root and what was seen stay until `begin` replaces them.

    A crash in between leaves less to compare with, and `seen.json` still refuses every older version.
    """
    file_calls.remove(folder / LISTING_NAME)
    for name in ("metadata", "manifests"):
        with files.disk_errors("remove", folder / name):
            if (folder / name).exists():
                file_calls.remove_tree(folder / name)


def read(folder: Path) -> Seen:
    """Return what this terminal has seen.

    Raises:
        TrustLost: the file is missing or damaged.
        DiskProblem: it cannot be read now.
    """
    path = folder / SEEN_NAME
    try:
        found = files.read_json(path)
        return Seen(
            {str(role): int(version) for role, version in found["versions"].items()},
            {str(role): str(digest) for role, digest in found.get("keys", {}).items()},
            str(found["floor"]),
            {str(app): int(sequence) for app, sequence in found.get("sequences", {}).items()},
        )
    except FileNotFoundError:
        raise TrustLost(operation="read", path=path, cause="the file is missing") from None
    except (UnreadableFile, KeyError, TypeError, ValueError, AttributeError) as cause:
        raise TrustLost(operation="read", path=path, cause="the file is damaged") from cause


def write(folder: Path, seen: Seen) -> None:
    """Write what was seen, durably."""
    files.write_json(folder / SEEN_NAME, seen._asdict())


def changed_roles(seen: Seen, keys: Mapping[str, str]) -> frozenset[str]:
    """Return the roles whose keys a newer root has replaced; root's own version never goes back.

    Args:
        seen: as it was recorded.
        keys: digests of the keys in the verified root.
    """
    return frozenset(role for role in ROLES[1:] if seen.keys.get(role, keys.get(role)) != keys.get(role))


def forgotten(seen: Seen, changed: frozenset[str]) -> Seen:
    """Return what was seen without the versions that replaced keys may have signed.

    Timestamp and snapshot go together (TUF 5.3.11): each names the other's version. Snapshot names that of targets, so
    a vendor who replaces its keys may begin the versions of targets again.
    """
    roles = set(changed)
    if "snapshot" in changed:
        roles.add("targets")
    if roles & {"timestamp", "snapshot"}:
        roles |= {"timestamp", "snapshot"}
    versions = {role: version for role, version in seen.versions.items() if role not in roles}
    # That there was a document stays known: a missing one is not the same as none yet.
    sequences = dict.fromkeys(seen.sequences, 0) if "targets" in changed else seen.sequences
    return seen._replace(versions=versions, sequences=sequences)


def files_of(changed: frozenset[str]) -> tuple[str, ...]:
    """Return the metadata files that must not be compared with any more: they may hold a version that was forged."""
    found = set(changed)
    if found & {"timestamp", "snapshot"}:
        found |= {"timestamp", "snapshot"}
    elif found:
        # It names the version of targets; its own version stays in timestamp and in what was seen.
        found.add("snapshot")
    return tuple(f"{role}.json" for role in sorted(found))


def floor_after(
    floor: str, signed_at: str, *, is_newer: bool, now: datetime, date: datetime | None, expires: datetime
) -> tuple[str, datetime | None]:
    """Return the time floor after a verified timestamp, as text and as a time.

    The vendor's time of signing raises the floor, but not above what this terminal's clock or the server's says, nor
    above the end of that signature: a publisher's clock that was ahead would refuse its own metadata. And a newer
    statement of the vendor lowers a floor that an earlier one had set too high; versions never go back, so nobody else
    can repeat an older statement.

    Args:
        floor: the floor before; empty for none.
        signed_at: time of signing in the verified timestamp; empty if its publisher writes none.
        is_newer: whether this timestamp has a higher version than the one before, or its keys were replaced.
        now: this terminal's clock.
        date: the server's clock; None if it did not say.
        expires: end of the timestamp.
    """
    before, said = moment(floor), moment(signed_at)
    if said is None:
        return floor, before
    bound = expires if date is None else min(expires, max(now, date) + CLOCK_DOUBT)
    raised = min(said, bound)
    kept = min(before, said) if before is not None and is_newer else before
    found = raised if kept is None else max(kept, raised)
    return f"{found:%Y-%m-%dT%H:%M:%SZ}", found


def moment(text: str) -> datetime | None:
    """Return a time in a file as a value; None for an empty or damaged one."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def shown(folder: Path) -> dict[str, Any]:
    """Return what this terminal trusts, for people and as JSON: files are read, nothing is verified or changed.

    Raises:
        TrustLost: what was seen is missing or damaged.
        Refused: the trusted root is missing or is none.
    """
    seen = read(folder)
    roles: dict[str, Any] = {}
    for role in ROLES:
        try:
            signed = files.read_json(folder / "metadata" / f"{role}.json")["signed"]
            roles[role] = {"version": signed["version"], "expires": signed["expires"]}
        except (FileNotFoundError, UnreadableFile, KeyError, TypeError):
            roles[role] = {"version": None, "expires": None}
        roles[role]["seen"] = seen.versions.get(role)
    try:
        root = files.read_json(folder / ROOT_NAME)["signed"]
        newest = _newest_root(folder) or root
        keys = {role: sorted(newest["roles"][role]["keyids"]) for role in ROLES}
        trusted = {"version": root["version"], "keys": keys}
    except (FileNotFoundError, UnreadableFile, KeyError, TypeError) as cause:
        raise TrustLost(operation="read", path=folder / ROOT_NAME, cause="it is missing or no root") from cause
    return {"format": 1, "folder": str(folder), "root": trusted, "roles": roles, "floor": seen.floor or None}


def _newest_root(folder: Path) -> dict[str, Any] | None:
    """Return the newest root that a look has verified, whose keys count now; None before the first look."""
    try:
        found: dict[str, Any] = files.read_json(folder / "metadata" / f"{ROLES[0]}.json")["signed"]
    except (FileNotFoundError, UnreadableFile, KeyError, TypeError):
        return None
    return found
