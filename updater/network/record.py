"""The record of addresses that failed, on disk: small, without secrets, and of no weight when it is lost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dbsync.errors import TillkeeperError
from dbsync.storage import files
from updater.decisions.transfer import Health

FORMAT: Final = 1


def read(record: Path) -> dict[str, Health]:
    """Return the record; one that cannot be read says that all addresses are well."""
    try:
        found = files.read_json(record)
        return {
            str(address): Health(
                int(health["failures_count"]), float(health["until"]), health["asked"] is True, str(health["answer"]),
                str(health["detail"]),
            )
            for address, health in found["addresses"].items()
        }  # fmt: skip
    except (FileNotFoundError, TillkeeperError, AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return {}


def write(record: Path, health: Mapping[str, Health]) -> None:
    """Write the record durably.

    Raises:
        DiskProblem: it cannot be written; the old one is unchanged.
    """
    files.make_folder(record.parent)
    document = {address: found._asdict() for address, found in health.items()}
    files.write_json(record, {"format": FORMAT, "addresses": document})


def next_time(record: Path, *, now: datetime) -> datetime | None:
    """Return when the first of the addresses that failed is asked again; None if none is left alone now."""
    times = [health.until for health in read(record).values() if health.until > now.timestamp()]
    return datetime.fromtimestamp(min(times), UTC) if times else None


def in_words(moment: float) -> str:
    """Return a time for people."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
