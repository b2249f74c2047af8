"""Removal of a terminal: program, state and settings go, the settings last; data, backups and reports stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from dbsync.errors import TryLater
from dbsync.storage import file_calls, files
from dbsync.storage.locks import Lock
from updater.bundles import foreign_files
from updater.host import this_host
from updater.settings import Settings, usual_folders
from updater.terminal import layout, stable_path

STATE_NAMES: Final = (
    "journal.json*", "moment.json", "proofs", "rejected", "issued", "verdicts", "current",
    # those of earlier releases, whose state was one folder
    "trial", "trust", "downloads", "outbox", "starts.json", "confirm-*", "events-*", "app.lock", "agent.lock",
    ".new-*", "layout.json", "terminal.lock",
)  # fmt: skip
"""Everything of ours in the state folder but the two folders in it. What is not ours stays.

`layout.json` near the end: without it, a folder with a journal counts as one of an earlier release.
"""
SHARED_NAMES: Final = (
    "trial", "choices", "outbox", "starts.json", "confirm-*", "events-*", "app.lock", "app.log*", ".new-*",
)  # fmt: skip
PRIVATE_NAMES: Final = (
    "trust", "downloads", "outbox", "events-*", "machine.json", "secrets.toml", ".new-*", "agent.lock",
)  # fmt: skip


def uninstall(settings: Settings) -> tuple[str, ...]:
    """Remove a terminal; return lines that say what stays and where.

    The order is the program, the till's state, the agent's state, the settings. After a cut the settings are still
    there, and the repeated command removes the rest.

    Raises:
        TryLater: the app or an agent is running; nothing was removed.
        DiskProblem: something cannot be removed; the command can be repeated.
    """
    settings = layout.settled(settings, reads_only=True)
    with ExitStack() as held:
        locks = _refuse_running(settings, held)
        _put_aside_foreign(settings)
        stable_path.remove(settings)
        for path in (*files.listed(settings.program, "versions"), *files.listed(settings.program, "current")):
            _remove(path)
        for folder, names in (
            (settings.shared, SHARED_NAMES), (settings.private, PRIVATE_NAMES), (settings.state, STATE_NAMES),
        ):  # fmt: skip
            for name in names:
                for path in files.listed(folder, name):
                    if path not in locks:
                        _remove(path)
    for path in locks:
        # Released before: Windows removes no file that is open. No program is left that could take them.
        _remove(path)
    for folder in (
        settings.reports,
        settings.kept_files,
        settings.shared,
        settings.private,
        settings.state,
        settings.program,
    ):
        _remove_if_empty(folder)
    kept = tuple(_kept(settings))
    with files.disk_errors("remove", settings.path):
        file_calls.remove(settings.path)
    _remove_usual_folders(settings)
    return kept


def _refuse_running(settings: Settings, held: ExitStack) -> list[Path]:
    """Take the locks of the app, the agent and the state, so that none begins meanwhile; return their files."""
    taken: list[Path] = []
    for path, who, hint in (
        (settings.shared / "app.lock", "the app is running", "Close the app first."),
        (settings.private / "agent.lock", "an agent is at work", "Run `updater service uninstall` first."),
        (settings.state / "terminal.lock", "another command of updater is at work", "Wait until it has ended."),
    ):
        if not files.is_there(path.parent):
            continue
        is_app = path.name == "app.lock"
        lock = Lock(path, like=path.parent)
        # What an app has left may have inherited its lock, and is not the app.
        if (is_app and this_host().running_app(path) is not None) or (not lock.try_take() and not is_app):
            raise TryLater(operation="uninstall", path=path, cause=who, hint=hint)
        held.callback(lock.release)
        taken.append(path)
    return taken


def _put_aside_foreign(settings: Settings) -> None:
    for folder in files.listed(settings.program / "versions", "*"):
        if folder.is_dir() and not folder.is_symlink() and not folder.name.startswith((".staging-", ".gone-")):
            found = foreign_files.put_aside(
                folder=folder,
                into=settings.kept_files / folder.name.removeprefix(".old-"),
                reserve_bytes=settings.limits.least_free_bytes,
            )
            if found.problem:
                again = f"updater uninstall --settings {settings.path}"
                raise TryLater(
                    operation="keep files of the app", path=folder, cause=found.problem,
                    hint=f"Move {found.in_words} elsewhere, and run `{again}` again.",
                )  # fmt: skip


def _remove(path: Path) -> None:
    with files.disk_errors("remove", path):
        if path.is_dir() and not path.is_symlink():
            # It refuses to follow a link that takes a folder's place meanwhile.
            file_calls.remove_tree(path)
        else:
            file_calls.remove(path)


def _remove_if_empty(folder: Path) -> None:
    with files.disk_errors("remove", folder):
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            file_calls.remove_folder(folder)


def _remove_usual_folders(settings: Settings) -> None:
    """Remove the folders that only this app had in the usual places; those of another app stay."""
    for folders in usual_folders(settings.app):
        for path in (folders.program, folders.state, folders.settings_file):
            if path in (settings.program, settings.state, settings.path):
                for folder in (path.parent, path.parent.parent):
                    if settings.app in folder.parts or folder.name.casefold() == "tillkeeper":
                        _remove_if_empty(folder)


def _kept(settings: Settings) -> Iterator[str]:
    """Yield what stays, one line each."""
    for what, path in (
        ("data", settings.data), ("database", settings.database), ("backups", settings.backups),
        ("reports of losses", settings.reports), ("files that the app kept beside its program", settings.kept_files),
    ):  # fmt: skip
        if files.is_there(path):
            yield f"kept: {what}: {path}"
    for folder in (settings.state, settings.program):
        names = sorted(
            path.name for path in files.listed(folder, "*") if path not in (settings.shared, settings.private)
        )
        if names:
            yield f"kept, not ours: {folder}: {', '.join(names)}"
