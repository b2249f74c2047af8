"""Ends of the roles that are public, for a warning before terminals refuse them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from tuf.api.metadata import Metadata

from updater.publish import clock
from updater.publish.errors import PublishError
from updater.publish.keys import ROLES
from updater.publish.repository import load
from updater.publish.signing import ends_at
from updater.publish.storage import TIMESTAMP, Storage, storage_of

WARNED: Final = ("root", "targets", "snapshot")
"""The roles that a daily refresh may be unable to sign; timestamp it always signs."""
WITHIN_DAYS: Final = 21


class End(NamedTuple):
    """A public role and when it ends."""

    role: str
    version: int
    expires: datetime
    days_left: float


def public_ends(folder: Path) -> list[End]:
    """Return the ends of the roles that are public now, as terminals meet them.

    Raises:
        PublishError: nothing is public, or a file is damaged.
        StorageProblem: the store cannot be reached now.
    """
    storage = storage_of(load(folder).public)
    now = clock.now()
    found = []
    for role, metadata in public_roles(storage).items():
        expires = ends_at(metadata)
        found.append(End(role, metadata.signed.version, expires, (expires - now) / timedelta(days=1)))
    return found


def soon(ends: list[End], *, within_days: float, roles: tuple[str, ...] = ROLES) -> list[End]:
    """Return the roles that end within some days, or have ended."""
    return [end for end in ends if end.role in roles and end.days_left < within_days]


def public_roles(storage: Storage) -> dict[str, Metadata[Any]]:
    """Return the four public roles as they stand there: claims, whose signatures nobody has checked here.

    Raises:
        PublishError: one is missing or damaged.
    """
    roots = [name for name in storage.sizes("metadata") if name.endswith(".root.json")]
    numbers = [int(name.partition(".")[0]) for name in roots if name.partition(".")[0].isdecimal()]
    root = _read(storage, f"metadata/{max(numbers, default=0)}.root.json")
    timestamp = _read(storage, TIMESTAMP)
    snapshot = _read(storage, f"metadata/{timestamp.signed.snapshot_meta.version}.snapshot.json")
    version = snapshot.signed.meta["targets.json"].version
    targets = _read(storage, f"metadata/{version}.targets.json")
    return {"root": root, "targets": targets, "snapshot": snapshot, "timestamp": timestamp}


def _read(storage: Storage, name: str) -> Metadata[Any]:
    data = storage.read(name)
    if data is None:
        raise PublishError(
            operation="read", cause=f"{storage.place} has no {name}",
            hint="Is anything public yet? `updater publish status` says what waits.",
        )  # fmt: skip
    try:
        return Metadata.from_bytes(data)
    except Exception as cause:
        raise PublishError(operation="read", cause=f"{storage.place}/{name} is damaged: {cause}") from cause
