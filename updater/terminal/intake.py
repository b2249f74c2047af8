"""Intake of the till's alarm reports into the agent's outbox, from which they are delivered.

A report of the till's account is a claim. It is checked field by field, is bounded in number and size, cannot push out
a report of the agent's, and says which account it is from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.storage import file_calls, files
from dbsync.storage.claims import plain
from updater.model import ProcessKind
from updater.outcomes import TerminalOutcome, named
from updater.terminal.till_side import TillSide

TEXTS: Final = (
    "release", "release_id", "trial", "phase", "migration", "cause", "done", "backup", "kept", "export", "gaps",
)  # fmt: skip
"""Fields of a report that are strings, or nothing (`events.describe`)."""
TELLERS: Final = frozenset({ProcessKind.LAUNCHER, ProcessKind.CONFIRM, ProcessKind.ROLLBACK})
"""The kinds of processes that run as the till's account."""
TEXT_LIMIT: Final = 2000
LOSSES_LIMIT: Final = 100
SHARE: Final = 5
"""The till's reports are at most this part of all that are kept."""
TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")


class Intake(NamedTuple):
    """Result of an intake."""

    taken: tuple[Path, ...] = ()
    refused: tuple[str, ...] = ()
    """A sentence for each entry that is no report, of which only the first few are listed."""


def take_in(side: TillSide, *, outbox: Path, account: str, terminal_id: str, now: str, kept_count: int) -> Intake:
    """Copy the till's alarm reports into the agent's outbox; then they are removed from the till's.

    A crash in between leaves both: the next intake finds the copy by its content, and removes the till's.
    """
    found = side.read_reports()
    refused = dict(found.refused)
    taken = []
    for name, document in sorted(found.documents.items()):
        try:
            report = checked(document, account=account, terminal_id=terminal_id)
        except ValueError as cause:
            refused[name] = f"could not take over the report {plain(name)}: {cause}"
            continue
        path = _kept(report, outbox=outbox, now=now)
        if path is not None:
            taken.append(path)
    _forget(outbox, max(1, kept_count // SHARE))
    names = [*found.documents, *(name for name in refused if name)]
    if names:
        side.remove_reports(names)
    sentences = [plain(cause) for cause in refused.values()]
    more = [f"and {len(sentences) - 5} more"] if len(sentences) > 5 else []
    return Intake(tuple(taken), (*sentences[:5], *more))


def checked(document: Mapping[str, Any], *, account: str, terminal_id: str) -> dict[str, Any]:
    """Return a report of the till's as one of ours, with nothing in it that was not checked.

    Raises:
        ValueError: it is none.
    """
    outcome = named(_text(document.get("outcome")))
    if outcome is TerminalOutcome.UNKNOWN or not outcome.alarm:
        raise ValueError("it is no alarm that this release knows")
    at = _text(document.get("at"))
    if not TIME.fullmatch(at):
        raise ValueError("it has no time")
    if _text(document.get("told_by")) not in TELLERS:
        raise ValueError("it is from no process of the till")
    values = {name: document.get(name) for name in TEXTS}
    return {
        **{name: None if value is None else plain(_text(value)) for name, value in values.items()},
        "format": 1,
        "at": at,
        "terminal": terminal_id,
        "told_by": document["told_by"],
        "claimed_by": account,
        "outcome": str(outcome),
        "code": outcome.code,
        "alarm": True,
        "losses": _losses(document.get("losses", [])),
        "clerk": plain("" if document.get("clerk") is None else _text(document["clerk"])),
        "next": outcome.hint,
    }


def _kept(report: dict[str, Any], *, outbox: Path, now: str) -> Path | None:
    """Write a report under a name by its content; return None if it is there already."""
    text = json.dumps(report, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    if any(outbox.glob(f"*-till-{digest}.json")):
        return None
    # The agent's time: a time that the till claims must not decide which report is the newest.
    stamp = now.replace(":", "-").replace(".", "-")
    path = outbox / f"{stamp}-{report['code']}-till-{digest}.json"
    files.make_folder(outbox)
    files.write_json(path, report)
    return path


def _forget(outbox: Path, kept_count: int) -> None:
    for old in sorted(files.listed(outbox, "*-till-*.json"))[:-kept_count]:
        # What another program holds stays until the next time.
        file_calls.remove_if_possible(old)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a field is no string")  # noqa: TRY004 - it is the value of a file
    return value[:TEXT_LIMIT]


def _losses(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > LOSSES_LIMIT:
        raise ValueError("its losses are no short list")
    found = []
    for loss in value:
        if not isinstance(loss, dict) or not all(isinstance(part, str | int) for part in loss.values()):
            raise ValueError("a loss is none")
        found.append({plain(str(name))[:100]: plain(p)[:200] if isinstance(p, str) else p for name, p in loss.items()})
    return found
