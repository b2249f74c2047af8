"""The kits of a terminal for people: which one runs, which is on trial, what is wrong with the home. Only reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbsync.errors import TillkeeperError
from dbsync.storage import files
from updater.host import stub, this_host
from updater.settings import Settings
from updater.terminal import kit_pointer, kit_use
from updater.terminal.rights import Finding, Severity


def status(settings: Settings) -> dict[str, Any] | None:
    """Return the kits beside the one that this process runs from; None if it runs from none."""
    folder = kit_use.own_folder()
    if folder is None:
        return None
    home = folder.parent
    found, trial = stub.pointer(home), stub.trial(home)
    return {
        "home": str(home),
        "id": found.get("id"),
        "version": _version(home, found.get("id")),
        "before": _version(home, found.get("before")),
        "trial": None if trial is None else _trial(home, trial),
        "updates_itself": found.get("stub") == kit_pointer.STUB,
        "failures": _failures(settings),
    }


def _trial(home: Path, trial: dict[str, Any]) -> dict[str, Any]:
    count, late = stub.attempts(home, trial["token"])
    return {"id": trial["id"], "version": _version(home, trial["id"]), "attempts_count": count, "late": late}


def _version(home: Path, kit_id: object) -> str | None:
    if not stub.is_identity(kit_id):
        return None
    try:
        return str(files.read_json(home / kit_use.FOLDER.format(kit_id) / kit_use.NAME)["version"])
    except (FileNotFoundError, TillkeeperError, KeyError, TypeError):
        return None


def _failures(settings: Settings) -> list[dict[str, Any]]:
    """Return the releases of the agent that failed here, as far as this account may read them."""
    try:
        found = files.read_json(settings.private / "agent" / "releases.json")["failures"]
        return [value for value in found if isinstance(value, dict) and {"version", "reason", "at"} <= value.keys()]
    except (FileNotFoundError, TillkeeperError, KeyError, TypeError):
        return []


def in_words(found: dict[str, Any] | None) -> list[str]:
    """Return the status as lines for a support engineer."""
    if found is None:
        return []
    own = "" if found["updates_itself"] else "; it does not update itself: its programs are of an earlier kit"
    before = f", before it {found['before']}" if found["before"] else ""
    lines = [f"agent     {found['version'] or found['id']}{before}{own}"]
    if found["trial"]:
        trial = found["trial"]
        how = ", ended because it did not confirm in time" if trial["late"] else ""
        lines.append(f"          {trial['version']} on trial, started {trial['attempts_count']} times{how}")
    return lines + [
        f"          {value['version']} failed at {value['at']}: {value['reason']}" for value in found["failures"]
    ]


def check(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the home of the kit that this command runs from."""
    folder = kit_use.own_folder()
    if folder is None:
        return
    home, named = folder.parent, stub.pointer(folder.parent)
    setup = this_host().look_command(home)
    if not stub.is_whole(home, named.get("id")):
        cause = (
            f"the pointer {home / stub.POINTER} names no whole kit: {folder.name} was started instead; run the setup"
        )
        yield Finding(Severity.ERROR, str(home), cause, setup)
    if named.get("before") is not None and not stub.is_whole(home, named.get("before")):
        yield Finding(Severity.WARNING, str(home), f"the kit before, {named['before']}, is not whole", setup)
    if named.get("stub") != kit_pointer.STUB:
        cause = "its programs are of an earlier kit: the agent does not update itself until a newer setup was run"
        yield Finding(Severity.NOTE, str(home), cause)
    if not files.is_there(home / kit_use.RESCUE) and files.is_there(folder / stub.PYTHON):
        yield Finding(Severity.ERROR, str(home), "the rescue folder is gone, whose Python starts every kit", setup)
    for value in _failures(settings):
        command = this_host().elevated(f"updater status --settings {settings.path}")
        cause = f"agent {value['version']} failed here at {value['at']}: {value['reason']}"
        yield Finding(Severity.WARNING, str(home), cause, command)
