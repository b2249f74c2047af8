"""Which scheduled backups are still needed: the newest of each of the last hours, days and weeks that have one.

Pure functions of the backups' facts. The order is that of their sequence numbers, never of a clock; a clock that was
wrong only puts a backup into another hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.errors import Refused
from dbsync.model import Backup

_COUNT_LIMIT: Final = 1000
_HINT: Final = "Write it as hourly=24,daily=14,weekly=8."


class Policy(NamedTuple):
    """How many backups of each kind are kept."""

    hourly: int
    daily: int
    weekly: int

    def __str__(self) -> str:
        return ",".join(f"{name}={count}" for name, count in self._asdict().items() if count)


def parse(text: str) -> Policy:
    """Return the policy of a string such as `hourly=24,daily=14,weekly=8`; what is not named is 0.

    Raises:
        Refused: it is none, or keeps nothing.
    """
    counts = dict.fromkeys(Policy._fields, 0)
    for part in filter(None, (word.strip() for word in text.split(","))):
        name, _, count = (word.strip() for word in part.partition("="))
        if name not in counts or not count.isdecimal() or int(count) > _COUNT_LIMIT:
            raise Refused(operation="read the policy", cause=f"{part!r} is not understood", hint=_HINT)
        counts[name] = int(count)
    if not any(counts.values()):
        raise Refused(operation="read the policy", cause="it keeps nothing", hint=_HINT)
    return Policy(**counts)


def needed(backups: Iterable[Backup], policy: Policy) -> set[Path]:
    """Return the paths of the verified backups that a policy keeps.

    The newest one is always among them. An hour, a day or a week without a backup is not counted.
    """
    newest_first = sorted(
        (backup for backup in backups if backup.verified), key=lambda backup: backup.sequence, reverse=True
    )
    kept = {backup.path for backup in newest_first[:1]}
    for count, slot in ((policy.hourly, _hour), (policy.daily, _day), (policy.weekly, _week)):
        kept |= _newest_of_slots(newest_first, count, slot)
    return kept


def is_due(backups: Sequence[Backup], policy: Policy, now: datetime) -> bool:
    """Return whether no verified backup is of this hour; of this day or week, where that is the finest that is kept."""
    slot = _hour if policy.hourly else _day if policy.daily else _week
    this = slot(now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return all(slot(backup.made_at) != this for backup in backups if backup.verified)


def _newest_of_slots(newest_first: Sequence[Backup], count: int, slot: Callable[[str], str]) -> set[Path]:
    found: dict[str, Path] = {}
    for backup in newest_first:
        found.setdefault(slot(backup.made_at), backup.path)
    return set(list(found.values())[:count])


def _hour(made_at: str) -> str:
    return made_at[:13]


def _day(made_at: str) -> str:
    return made_at[:10]


def _week(made_at: str) -> str:
    try:
        year, week, _ = date.fromisoformat(made_at[:10]).isocalendar()
    except ValueError:
        return made_at
    return f"{year}-W{week:02d}"
