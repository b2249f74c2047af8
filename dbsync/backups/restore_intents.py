"""The record on disk of a restore in progress, for a repeat of it (format 1)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from dbsync.errors import TillkeeperError, UnreadableFile
from dbsync.model import Intent, Loss
from dbsync.storage import file_calls, files, temporary_files


def read(backups: Path, intent_id: str) -> Intent | None:
    """Return the intent of that name; None if there is none, or its content is damaged.

    Raises:
        TryLater: it cannot be read now.
    """
    try:
        return _intent(intent_id, files.read_json(_path(backups, intent_id)))
    except (FileNotFoundError, UnreadableFile, KeyError, TypeError, ValueError):
        return None


def write(backups: Path, intent: Intent, *, owner: str, like: Path) -> None:
    """Write an intent durably; until it is finished its name has the database's, whose next run removes what is left.

    Args:
        backups: the folder.
        intent: the intent.
        owner: the database's name, by `temporary_files.owner_of`.
        like: the database, whose owner and rights it gets.
    """
    path = _path(backups, intent.intent_id)
    part = temporary_files.part_of(path, owner)
    losses = [list(loss) for loss in intent.losses]
    try:
        files.write_json(part, {"format": 1, **intent._asdict(), "losses": losses}, like=like)
        files.rename_durably(source=part, target=path)
        # An earlier version that was cut has left this name, which no later write replaces.
        with files.disk_errors("remove", path):
            file_calls.remove(path.with_name(f"{files.NEW}{path.name}"))
    except TillkeeperError:
        with suppress(OSError):
            file_calls.remove(part)
        raise


def remove(backups: Path, intent_id: str) -> None:
    """Remove an intent, durably as far as possible: without its rejection or trial nobody reads it."""
    path = _path(backups, intent_id)
    try:
        with files.disk_errors("remove", path):
            file_calls.remove(path)
            files.sync_folder(path.parent)
    except TillkeeperError:
        return


def _intent(intent_id: str, found: dict[str, Any]) -> Intent:
    # Intents of earlier versions name neither base nor losses, and know no counters.
    return Intent(
        intent_id,
        str(found["backup"]),
        found["set_aside"],
        bool(found["done"]),
        found.get("base"),
        bool(found.get("accepts_loss", False)),
        tuple(Loss(str(table), *map(int, counts)) for table, *counts in found.get("losses", [])),
        str(found.get("not_known", "")),
        bool(found.get("moves", False)),
        found.get("raised_from"),
        found.get("gaps"),
    )


def _path(backups: Path, intent_id: str) -> Path:
    return backups / f"restore-{intent_id}.json"
