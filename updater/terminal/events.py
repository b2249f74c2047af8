"""Events of a terminal: one line per event, and a file in the outbox for events that a person should know."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from dbsync import losses
from dbsync.errors import TillkeeperError, interrupts
from dbsync.storage import claims, file_calls, files
from updater.model import ProcessKind, Report

TAIL_SIZE_BYTES: Final = 200_000


class Events:
    """The event file of one kind of process (agent, launcher, …), and the outbox of its account."""

    def __init__(
        self, folder: Path, *, outbox: Path, kind: ProcessKind, size_limit_bytes: int, reports_kept_count: int
    ) -> None:
        self._path: Final = folder / f"events-{kind}.jsonl"
        self._outbox: Final = outbox
        self._kind: Final = kind
        self._size_limit_bytes: Final = size_limit_bytes
        self._reports_kept_count: Final = reports_kept_count

    def tell(self, report: Report, *, now: str, terminal_id: str) -> Path | None:
        """Write an event and, for an alarm, a report; return the path of the report.

        A failure here never stops a till: a disk that is too full for a line of history is not too full to sell.
        """
        try:
            document = describe(report, now=now, terminal_id=terminal_id, kind=self._kind)
            files.make_folder(self._path.parent, like=self._path.parent.parent)
            self._rotate()
            files.append_line(
                self._path, json.dumps(document, ensure_ascii=False, sort_keys=True), like=self._path.parent
            )
            return self._report(document) if document["alarm"] else None
        except BaseException as error:
            # Of any type: a report must not end what it reports on.
            if interrupts(error):
                raise
            return None

    def _report(self, document: dict[str, Any]) -> Path | None:
        files.make_folder(self._outbox, like=self._outbox.parent)
        if self._is_told(document):
            return None
        stamp = document["at"].replace(":", "-").replace(".", "-")
        path = self._outbox / f"{stamp}-{document['code']}-{os.getpid()}.json"
        files.write_json(path, document, like=self._outbox)
        for old in sorted(self._outbox.glob("*.json"))[: -self._reports_kept_count]:
            # As in `intake`: one that another program holds stays, and the report that was just written counts.
            file_calls.remove_if_possible(old)
        return path

    def _is_told(self, document: dict[str, Any]) -> bool:
        """Return whether the newest report says the same: a lasting problem gives one report, not one every cycle."""
        newest = max(self._outbox.glob("*.json"), default=None)
        known = _event(file_calls.read_bytes(newest)) if newest is not None else None
        return known is not None and _trouble_of(known) == _trouble_of(document)

    def _rotate(self) -> None:
        # A crash around this rename loses the older half at worst, never the next line.
        if files.size_of(self._path) > self._size_limit_bytes:
            files.replace(source=self._path, target=self._path.with_suffix(".jsonl.1"))


def describe(report: Report, *, now: str, terminal_id: str, kind: ProcessKind) -> dict[str, Any]:
    """Return a report as JSON for support (requirement S183): phase, cause, action taken, backup, next step."""
    outcome = report.outcome
    sentences = {True: outcome.when_open, False: outcome.when_shut, None: outcome.clerk_sentence}
    return {
        "format": 1,
        "at": now,
        "terminal": terminal_id,
        "told_by": kind,
        "outcome": report.outcome,
        "code": outcome.code,
        "alarm": outcome.alarm,
        "release": report.release.version if report.release else None,
        "release_id": report.release.release_id if report.release else None,
        "trial": report.trial_id,
        "phase": report.phase,
        "migration": report.migration,
        "cause": report.cause,
        "done": report.done,
        "backup": report.backup,
        "kept": report.kept,
        "losses": losses.as_json(report.losses),
        "export": report.export,
        "gaps": report.gaps,
        "clerk": sentences[report.opens],
        "next": outcome.hint,
    }


def read(*folders: Path) -> list[dict[str, Any]]:
    """Return the latest events of all kinds of process, oldest first; torn lines are skipped.

    A folder that this account may not read adds none.
    """
    found: list[dict[str, Any]] = []
    for folder in folders:
        for path in folder.glob("events-*.jsonl"):
            found.extend(_tail(path))
    return sorted(found, key=lambda event: str(event.get("at", "")))


def _tail(path: Path) -> list[dict[str, Any]]:
    try:
        lines = claims.read_tail(path, size_bytes=TAIL_SIZE_BYTES).split(b"\n")
    except (FileNotFoundError, TillkeeperError):
        return []
    return [event for line in lines if (event := _event(line)) is not None]


def _trouble_of(event: dict[str, Any]) -> tuple[object, object, str]:
    """Return the key by which two reports are the same problem, without numbers, which change all the time."""
    cause = "".join(character for character in str(event.get("cause")) if not character.isdigit())
    return event.get("outcome"), event.get("release_id"), cause


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        return claims.parse(line)
    except ValueError:
        return None
