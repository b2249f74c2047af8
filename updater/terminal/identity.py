"""The id of a terminal, bound to its machine: a copy of its disk on another machine gets an id of its own."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.errors import TillkeeperError, UnreadableFile
from dbsync.storage import file_calls, files
from dbsync.storage.locks import Lock
from updater.host import this_host
from updater.settings import Settings

FORMAT: Final = 1
_LINE: Final = re.compile(rb"""^([ \t]*terminal_id[ \t]*=[ \t]*)("[^"\n]*"|'[^'\n]*')""", re.MULTILINE)


class Copied(NamedTuple):
    """A terminal that turned out to be a copy of another one."""

    before: str
    """The id that it had, which is the other terminal's."""
    after: str
    """Its id from now on; the same as before if the settings could not be written."""
    problem: str = ""
    """Why the settings could not be written."""

    @property
    def cause(self) -> str:
        """The reason in words, for a report."""
        words = f"this is another machine than the one that was {self.before}"
        return words + (f"; the settings could not be changed: {self.problem}" if self.problem else "")


def new_id() -> str:
    """Return a new terminal id."""
    return f"till-{os.urandom(6).hex()}"


def is_copy(*, noted: Mapping[str, str], seen: Mapping[str, str]) -> bool:
    """Decide whether this is another machine than the one that was noted.

    Only what is known of both counts: an account may see less than another one, and a system may tell nothing.
    """
    return any(noted[name] != seen[name] for name in noted.keys() & seen.keys())


def is_copied(settings: Settings) -> bool:
    """Return whether this terminal is a copy that has no id of its own yet.

    Raises:
        DiskProblem: this account may not read the note.
    """
    noted = _noted(settings)
    return noted is not None and is_copy(noted=noted, seen=_seen(settings))


def record(settings: Settings) -> None:
    """Note which machine this terminal is on, unless that is noted.

    Raises:
        DiskProblem: the note cannot be written.
    """
    if _noted(settings) is None:
        _note(settings, _seen(settings))


def settle(settings: Settings) -> Copied | None:
    """Give a copied terminal an id of its own; return None if it is no copy, or another agent is at work.

    The agent calls this at every start, before it tells anything. The new id is durable in the settings before the
    machine is noted: a crash in between leads to another new id, never to two terminals of one id.

    Raises:
        DiskProblem: the note cannot be written.
    """
    files.make_folder(settings.private, like=settings.state)
    lock = Lock(settings.private / "agent.lock", like=settings.private)
    if not lock.try_take():
        return None
    with lock:
        return _settle(settings)


def _settle(settings: Settings) -> Copied | None:
    noted, seen = _noted(settings), _seen(settings)
    if noted is None:
        _note(settings, seen)
        return None
    if not is_copy(noted=noted, seen=seen):
        if seen.keys() - noted.keys():
            _note(settings, {**noted, **seen})
        return None
    after = new_id()
    try:
        _rename(settings, after)
    except TillkeeperError as error:
        return Copied(settings.terminal_id, settings.terminal_id, error.in_words)
    _note(settings, seen)
    return Copied(settings.terminal_id, after)


def _path(settings: Settings) -> Path:
    return settings.private / "machine.json"


def _noted(settings: Settings) -> Mapping[str, str] | None:
    try:
        document = files.read_json(_path(settings))
        ids = document["ids"]
        return {str(name): str(value) for name, value in ids.items()}
    except (FileNotFoundError, UnreadableFile, KeyError, TypeError, AttributeError):
        return None


def _seen(settings: Settings) -> dict[str, str]:
    """Return the ids of this machine as hashes: the ids themselves are nobody's business (machine-id(5))."""
    salted = f"tillkeeper {settings.app} ".encode()
    return {
        name: hashlib.sha256(salted + value.encode()).hexdigest() for name, value in this_host().machine_ids().items()
    }


def _note(settings: Settings, ids: Mapping[str, str]) -> None:
    files.make_folder(settings.private, like=settings.state)
    files.write_json(_path(settings), {"format": FORMAT, "ids": dict(ids)}, like=settings.private)


def _rename(settings: Settings, terminal_id: str) -> None:
    """Replace the id in the settings file, and nothing else of it."""
    path = settings.path
    with files.disk_errors("read", path):
        text = file_calls.read_bytes(path)
    changed, count = _LINE.subn(rb'\g<1>"' + terminal_id.encode() + rb'"', text, count=1)
    if count != 1:
        raise UnreadableFile(operation="change", path=path, cause="it has no line for terminal_id")
    files.write_durably(path, changed, like=path)
