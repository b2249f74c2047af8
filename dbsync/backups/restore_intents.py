"""A person's restore under way, on disk: what a repeat of it has to know (format 1)."""

from __future__ import annotations

from pathlib import Path

from dbsync.errors import TillkeeperError
from dbsync.model import Intent
from dbsync.storage import files


def read(backups: Path, intent_id: str) -> Intent | None:
    """The intent of that name. One that cannot be read was not begun: its restore starts anew and puts aside again."""
    try:
        found = files.read_json(_path(backups, intent_id))
        return Intent(intent_id, str(found["backup"]), found["set_aside"], bool(found["done"]))
    except (FileNotFoundError, TillkeeperError, KeyError, TypeError):
        return None


def write(backups: Path, intent: Intent) -> None:
    """Write it durably."""
    files.write_json(_path(backups, intent.intent_id), {"format": 1, **intent._asdict()})


def _path(backups: Path, intent_id: str) -> Path:
    return backups / f"restore-{intent_id}.json"
