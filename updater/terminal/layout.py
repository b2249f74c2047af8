"""The folders of a terminal, and the move of one whose files all lie in the state folder into them.

Versions before two accounts kept everything in one folder, which agent and till wrote. The move is made in place,
under the terminal lock, by the first process that may. Every step is a rename or a write that can be repeated: one that
was cut is finished by the next process, before it looks at anything.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.errors import DiskProblem
from dbsync.storage import file_calls, files
from dbsync.storage.files import disk_errors
from dbsync.storage.locks import Lock
from updater.host import this_host
from updater.settings import Settings

if TYPE_CHECKING:
    from updater.terminal.state_files import StateFolder

FORMAT: Final = 2
_SHARED: Final = ("trial", "choices", "starts.json")
"""The trials first: this rename is the one from which the shared folder is looked into."""
_SHARED_PATTERNS: Final = ("confirm-*", "events-launcher.jsonl*", "events-confirm.jsonl*", "events-rollback.jsonl*")
_PRIVATE: Final = ("trust", "downloads", "outbox")
_PRIVATE_PATTERNS: Final = ("events-*.jsonl*",)
_LOCKS: Final = ("app.lock", "agent.lock")
_STAYING: Final = ("journal.json", "proofs", "rejected")


def marker(settings: Settings) -> Path:
    """Return the file that exists once the folders are those of this version."""
    return settings.state / "layout.json"


def is_first(settings: Settings) -> bool:
    """Return whether this terminal's files still lie as versions before two accounts left them."""
    if files.is_there(marker(settings)):
        return False
    return any(files.is_there(settings.state / name) for name in (*_STAYING, *_SHARED, *_PRIVATE))


def write_marker(settings: Settings) -> None:
    """Record durably that the folders are those of this version."""
    files.write_json(marker(settings), {"format": FORMAT}, like=settings.state)


def settled(settings: Settings, *, reads_only: bool, insists: bool = False) -> Settings:
    """Return the settings with the folders as they are, after moving the files of a terminal of before if that may be.

    It may not while a process of the version before is at work, or where this account has no right to. Such a terminal
    goes on where its files lie.

    Args:
        settings: the settings as they were read.
        reads_only: whether nothing may be moved.
        insists: whether a move that fails is an error. A till goes on where the files lie: it must start.

    Raises:
        DiskProblem: the move failed, and `insists`.
    """
    if not is_first(settings):
        return settings
    if reads_only:
        return _lying(settings)
    lock = Lock(settings.state / "terminal.lock")
    try:
        if not lock.take(timeout_seconds=settings.limits.lock_seconds):
            return _lying(settings)
    except DiskProblem:
        if insists:
            raise
        return _lying(settings)
    try:
        if not is_first(settings):
            return settings
        if _is_busy(settings) or not os.access(settings.state, os.W_OK):
            return _lying(settings)
        move(settings, now=files.utc_text(datetime.now(UTC)))
    except DiskProblem:
        if insists:
            raise
        return _lying(settings)
    finally:
        lock.release()
    return settings


def _lying(settings: Settings) -> Settings:
    """Return the settings with the folders in which the files lie; each has moved if its first file has."""
    shared = settings.shared if files.listed(settings.shared, "*") else settings.state
    private = settings.private if files.is_there(settings.trust) else settings.state
    return settings._replace(shared_folder=shared, private_folder=private)


def _is_busy(settings: Settings) -> bool:
    """Return whether a process of the version before is at work: nothing is moved under it."""
    app_lock, agent_lock = (settings.state / name for name in _LOCKS)
    return this_host().running_app(app_lock) is not None or not Lock(agent_lock).is_free()


def move(settings: Settings, *, now: str) -> None:
    """Move the files into the folders of this version; the caller holds the terminal lock, and nobody is at work.

    Raises:
        DiskProblem: a step failed; the next process goes on from there.
    """
    from updater.terminal.state_files import StateFolder

    old, new = StateFolder(settings.state, shared=settings.state), StateFolder(settings.state, shared=settings.shared)
    # With the owner of the state folder: root may be the first who comes, and the till writes into one of them.
    for folder in (settings.private, settings.shared):
        files.make_folder(folder, like=settings.state)
        with disk_errors("set the mode of", folder):
            files.set_mode(folder, 0o700)
    if (settings.state / "trial").is_dir() or (settings.state / "journal.json").exists():
        _issue(settings, old, new, now=now)
    for folder, names, patterns in (
        (settings.shared, _SHARED, _SHARED_PATTERNS), (settings.private, _PRIVATE, _PRIVATE_PATTERNS),
    ):  # fmt: skip
        for path in (settings.state / name for name in names):
            _move(path, folder)
        for path in (path for pattern in patterns for path in files.listed(settings.state, pattern)):
            _move(path, folder)
    for path in files.listed(settings.state, f"{files.NEW}*"):
        with disk_errors("remove", path):
            file_calls.remove(path, missing_ok=False)
    for name in _LOCKS:
        # The same files: a process that comes from before and opens one late holds the lock that others look at.
        _move(settings.state / name, settings.shared if name == "app.lock" else settings.private)
    # Last: before it, the next process begins again and finds what is left to do.
    write_marker(settings)


def _issue(settings: Settings, old: StateFolder, new: StateFolder, *, now: str) -> None:
    """Write the agent's records of the trials that are there, the journal first.

    A journal that knows their numbers is newer than all of them; after a crash in between, the same is written again.
    """
    if (settings.shared / "trial").exists():
        return
    from updater.decisions.adoption import adopted

    journal, _ = old.read_journal()
    records = adopted(journal, old.read_first_trials(), now=now)
    if records.journal is not None and records.journal != journal:
        new.write_journal(records.journal)
    for issued in records.issued:
        new.write_issued(issued)
    for ruling in records.rulings:
        new.write_ruling(ruling)


def _move(path: Path, folder: Path) -> None:
    """Move a file or folder into a folder.

    If one of that name is there already, the one that has not moved is the newer: a process that could not move wrote
    it since. Or a power cut left both names of one file.
    """
    target = folder / path.name
    if not files.is_there(path):
        return
    if not files.is_there(target):
        files.rename_durably(source=path, target=target)
        return
    if path.is_dir():
        for entry in files.listed(path, "*"):
            _move(entry, target)
        with disk_errors("remove", path):
            file_calls.remove_folder(path)
        files.sync_folder(path.parent)
        return
    if path.name.startswith("events-"):
        _join(path, target)
    if path.name in _LOCKS:
        with disk_errors("remove", path):
            file_calls.remove(path, missing_ok=False)
        files.sync_folder(path.parent)
        return
    files.rename_durably(source=path, target=target)


def _join(later: Path, earlier: Path) -> None:
    """Put the lines of the earlier file in front of those of the later, unless a cut join did so."""
    with disk_errors("read", later):
        before, after = file_calls.read_bytes(earlier), file_calls.read_bytes(later)
    if not after.startswith(before):
        files.write_durably(later, before + after, like=later)
