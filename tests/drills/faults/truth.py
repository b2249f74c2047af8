"""Rules over what a person was shown and what is the case: each returns the false sentence, or an empty string.

Pure functions: the judges collect the facts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

NOTHING_SINCE: Final = "nothing has been recorded since"
CANNOT_OPEN: Final = "The till cannot open"
LOSSES: Final = (
    "not in the live database",
    "are missing from the live database",
    "is not in the restored database",
    "none of it is in",
    "but for:",
)
"""Parts of sentences that admit a loss."""
_OPEN: Final = re.compile(r"^till (\S+) is open$", re.MULTILINE)
_STARTS_NEXT: Final = re.compile(r"^(?:done: )?(\S+) starts (?:next|at the next launch)", re.MULTILINE)
_KEPT: Final = re.compile(
    r"(?:\bkept: |Numbers that are skipped are explained: |What the older schema has no place for: )(/\S+)"
)
_PUT_BACK: Final = re.compile(r"^put back (\d+) rows", re.MULTILINE)


class Told(NamedTuple):
    """What one command showed, and the facts that its sentences are about."""

    output: str
    exit_code: int | None
    """None if it did not end by itself."""
    next_opened: str
    """The version that the next undisturbed start opened; empty if none opened."""
    sold_since_backup: int = 0
    """How many sales were made since the backup, before the command began."""
    lost_count: int = 0
    """How many sales left the live database by this command."""
    changed: bool = False
    """Whether the content of the live database changed by this command."""
    missing_files: tuple[str, ...] = ()
    """Files that the output says are kept, and that are not there."""
    put_back_count: int | None = None
    """How many kept rows came back to the live database; None if that is not known."""
    losing_status: int = 6
    """The exit status that says that records were removed."""


Rule = Callable[[Told], str]


def opened(output: str) -> str:
    """Return the version that an output says is open; the last one, or an empty string."""
    found = _OPEN.findall(output)
    return str(found[-1]) if found else ""


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def kept_files(output: str) -> list[str]:
    """Return the files that an output says are kept."""
    return [path.rstrip(".,;") for path in _KEPT.findall(output)]


def nothing_recorded(told: Told) -> str:
    """Return the claim that nothing was recorded, where something was."""
    if NOTHING_SINCE in told.output and told.sold_since_backup:
        return f"it says {NOTHING_SINCE!r}, and {told.sold_since_backup} sales were"
    return ""


def starts_next(told: Told) -> str:
    """Return the promise of what starts next, where another version opened."""
    promised = _STARTS_NEXT.findall(told.output)
    if promised and told.next_opened and promised[-1] != told.next_opened and not opened(told.output):
        return f"it says that {promised[-1]} starts next, and {told.next_opened} opens"
    return ""


def stays_open(told: Told) -> str:
    """Return the version that was open and confirmed, where an older one opens after it.

    A newer one may: the older version opened because the attempt to update failed for now.
    """
    was = opened(told.output)
    if was and told.next_opened and _numbers(told.next_opened) < _numbers(was):
        return f"{was} was open, and {told.next_opened} opens next"
    return ""


def cannot_open(told: Told) -> str:
    """Return the claim that the till cannot open, in an output in which it opens."""
    was = opened(told.output)
    return f"it says {CANNOT_OPEN!r}, and {was} opens" if was and CANNOT_OPEN in told.output else ""


def silent_loss(told: Told) -> str:
    """Return that sales left the live database with the exit status of success, or without a word."""
    if not told.lost_count:
        return ""
    if told.exit_code == 0:
        return f"exit status 0, and {told.lost_count} sales left the live database"
    if told.exit_code == told.losing_status and not any(part in told.output for part in LOSSES):
        return f"{told.lost_count} sales left the live database, and no sentence says so"
    return ""


def nothing_changed(told: Told) -> str:
    """Return the claim that nothing was changed, or the status that means it, where the database changed."""
    if told.changed and re.search(r"[Nn]othing was changed", told.output):
        return "it says that nothing was changed, and the database was"
    return ""


def kept(told: Told) -> str:
    """Return the files that are said to be kept and are not there."""
    return f"it says that {', '.join(told.missing_files)} is kept, and it is not there" if told.missing_files else ""


def put_back(told: Told) -> str:
    """Return the number of rows that are said to be put back by a run that succeeded, where it is another one."""
    said = [int(number) for number in _PUT_BACK.findall(told.output)]
    if told.exit_code == 0 and said and told.put_back_count is not None and said[-1] != told.put_back_count:
        return f"it says that {said[-1]} rows were put back, and {told.put_back_count} were"
    return ""


RULES: Final[tuple[Rule, ...]] = (
    nothing_recorded, starts_next, stays_open, cannot_open, silent_loss, nothing_changed, kept, put_back,
)  # fmt: skip


def false_sentences(told: Told) -> list[str]:
    """Return every false sentence."""
    return [found for rule in RULES if (found := rule(told))]
