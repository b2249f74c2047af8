"""The record on disk of a person's restore under way, for a repeat of it (format 1)."""

from __future__ import annotations

from pathlib import Path

from dbsync.errors import TillkeeperError
from dbsync.model import Intent
from dbsync.storage import files, temporary_files


def read(backups: Path, intent_id: str) -> Intent | None:
    """Return the intent of that name; None if none can be read: its restore starts anew and sets aside again."""
    try:
        found = files.read_json(_path(backups, intent_id))
        return Intent(intent_id, str(found["backup"]), found["set_aside"], bool(found["done"]))
    except (FileNotFoundError, TillkeeperError, KeyError, TypeError):
        return None


def write(backups: Path, intent: Intent, *, owner: str) -> None:
    """Write an intent durably; until it is finished its name has the database's, whose next run removes what is left.

    Args:
        backups: the folder.
        intent: the intent.
        owner: the database's name, by `temporary_files.owner_of`.
    """
    path = _path(backups, intent.intent_id)
    part = temporary_files.part_of(path, owner)
    files.write_json(part, {"format": 1, **intent._asdict()})
    files.rename_durably(source=part, target=path)


def _path(backups: Path, intent_id: str) -> Path:
    return backups / f"restore-{intent_id}.json"
