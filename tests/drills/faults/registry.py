"""All flows by family: which module has them, and whether they need the vendor's side of the product."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tests.drills.faults.flow import Flow
    from tests.drills.faults.stage import Stage


class Family(NamedTuple):
    """Flows that share their scenes."""

    names: tuple[str, ...]
    build: Callable[[Stage], list[Flow]]
    publish: bool = False
    hidden: bool = False
    """Whether its flows run only where they are named."""


def _terminal(stage: Stage) -> list[Flow]:
    from tests.drills.faults.terminal_flows import flows

    return flows(stage)


def _database(stage: Stage) -> list[Flow]:
    from tests.drills.faults.database_flows import flows

    return flows(stage)


def _return(stage: Stage) -> list[Flow]:
    from tests.drills.faults.return_flows import flows

    return flows(stage)


def _publish(stage: Stage) -> list[Flow]:
    from tests.drills.faults.publish_flows import flows

    return flows(stage)


def _own(stage: Stage) -> list[Flow]:
    from tests.drills.faults.own_flows import flows

    return flows(stage)


FAMILIES: Final = {
    "terminal": Family(
        (
            "install", "check", "launch", "launch-wal", "launch-fail", "launch-crash", "launch-crash-wal",
            "launch-exit", "launch-down", "fold", "fold-back", "move", "move-begin", "rollback", "rollback-wal",
            "rollback-script", "rollback-repeat", "rollback-header", "rollback-pages", "rollback-counter",
        ),
        _terminal,
    ),
    "database": Family(
        (
            "db-create", "db-upgrade", "db-upgrade-wal", "db-downgrade", "db-downgrade-wal", "db-restore",
            "db-restore-wal", "db-backup", "db-backup-keep", "db-repair", "db-empty", "db-import",
        ),
        _database,
    ),
    "return": Family(
        (
            "db-downgrade-kept", "db-up-again", "db-up-again-through", "db-restore-counter", "db-downgrade-counter",
        ),
        _return,
    ),
    "vendor": Family(("publish", "refresh"), _publish, publish=True),
    "own": Family(
        ("own-right", "own-no-sync", "own-no-folder-sync", "own-in-place", "own-short"), _own, hidden=True
    ),
}  # fmt: skip
NAMES: Final = tuple(name for family in FAMILIES.values() for name in family.names)
SHOWN: Final = tuple(name for family in FAMILIES.values() for name in family.names if not family.hidden)


def wanted(words: Iterable[str]) -> list[str]:
    """Return the names of flows that words name: a flow, a family, or a beginning with `*`; all for no word.

    Raises:
        ValueError: a word names no flow.
    """
    found: list[str] = []
    for word in words:
        names = FAMILIES[word].names if word in FAMILIES else [name for name in NAMES if _is_named(name, word)]
        if not names:
            raise ValueError(f"{word} is no flow; there are: {', '.join([*FAMILIES, *SHOWN])}")
        found += names
    return [name for name in NAMES if name in found] if found else list(SHOWN)


def _is_named(name: str, word: str) -> bool:
    return name == word or (word.endswith("*") and name.startswith(word[:-1]))
