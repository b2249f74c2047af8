"""The pointer of a kit's home, `current.json`: which kit starts, which one before, and the trial of a third.

Its writer keeps every kit that it names. One rename is one change: a crash leaves the pointer before or after.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from dbsync.storage import files
from updater.host import stub
from updater.model import Release

FORMAT: Final = 2
STUB: Final = 1
"""The kind of program in the home. Without it, as kits of before left it, the agent does not update itself."""
MODE: Final = 0o644


def settle(home: Path, *, kit_id: str, before: str | None, shared: str = "") -> None:
    """Let a kit start from now on; a trial that was open is over.

    Raises:
        DiskProblem: the pointer is as it was.
    """
    mark(home, kit_id)
    _write(home, {"id": kit_id, "before": before, "shared": shared})


def mark(home: Path, kit_id: str) -> None:
    """Mark a kit as one that may start when the pointer is lost."""
    files.write_durably(home / f"agent-{kit_id}" / stub.MARK, b"", mode=MODE)


def begin_trial(home: Path, *, kit_id: str, token: str, release: Release, limit_seconds: float, shared: str) -> None:
    """Let a kit start on trial.

    Raises:
        DiskProblem: the pointer is as it was.
    """
    found = stub.pointer(home)
    trial = {"id": kit_id, "token": token, "limit_seconds": limit_seconds, "release": release._asdict()}
    _write(home, {"id": found.get("id"), "before": found.get("before"), "shared": shared, "trial": trial})


def confirm(home: Path, *, token: str) -> bool:
    """Let the kit on trial start from now on; return false if the pointer does not name this trial any more.

    Raises:
        DiskProblem: the trial is still open.
    """
    found = stub.pointer(home)
    trial = stub.trial(home)
    if trial is None or trial["token"] != token:
        return False
    settle(home, kit_id=trial["id"], before=found.get("id"), shared=str(found.get("shared") or ""))
    return True


def end_trial(home: Path, *, token: str) -> None:
    """Take a trial off the pointer, if it is this one: the kit before starts, as it did."""
    found = stub.pointer(home)
    named = found.get("trial")
    if isinstance(named, dict) and named.get("token") == token:
        _write(home, {name: found.get(name) for name in ("id", "before", "shared")})


def _write(home: Path, values: dict[str, Any]) -> None:
    import json

    document = {"format": FORMAT, "stub": STUB, **values}
    files.write_durably(home / stub.POINTER, json.dumps(document, indent=1).encode(), mode=MODE)


def has_stub(home: Path) -> bool:
    """Return whether the program in the home follows the pointer, so that the agent can update itself."""
    return stub.pointer(home).get("stub") == STUB and os.access(home, os.W_OK)
