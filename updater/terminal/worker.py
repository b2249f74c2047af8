"""A child with the rights of the till's account: it does for the agent what concerns the data and the shared folder.

JSON lines: the first says where the settings are; then one request and one answer after the other. It ends when the
agent does, in the middle of what it does; every step of ours stands that.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from dbsync.errors import wrapped
from updater.model import TrialId
from updater.settings import load
from updater.terminal import worker_messages as messages
from updater.terminal.own_side import OwnSide
from updater.terminal.till_side import TillSide

Given = Mapping[str, Any]


def _ids(given: Given, name: str) -> list[TrialId]:
    return [TrialId(str(text)) for text in given[name]]


def _claims(side: TillSide, given: Given) -> Any:
    found = side.claims(_ids(given, "trial_ids"), lost_if_unavailable=given["lost_if_unavailable"] is True)
    return messages.claims_json(found)


def _sync(side: TillSide, given: Given) -> None:
    side.sync_claims(_ids(given, "trial_ids"))


def _tidy(side: TillSide, given: Given) -> None:
    side.tidy(issued=_ids(given, "issued"), last_choice=int(given["last_choice"]))


OPERATIONS: Final[Mapping[str, Callable[[TillSide, Given], Any]]] = {
    "claims": _claims,
    "sync_claims": _sync,
    "look_at_database": lambda side, _: messages.facts_json(side.look_at_database()),
    "running": lambda side, _: messages.running_json(side.running()),
    "restore_is_done": lambda side, given: side.restore_is_done(str(given["intent_id"])),
    "try_database_lock": lambda side, _: side.try_database_lock(),
    "release_database_lock": lambda side, _: side.release_database_lock(),
    "back_up": lambda side, _: messages.done_json(side.back_up()),
    "tidy": _tidy,
    "read_reports": lambda side, _: messages.reports_json(side.read_reports()),
    "remove_reports": lambda side, given: side.remove_reports([str(name) for name in given["names"]]),
}


def main() -> None:
    """Answer requests until there are no more."""
    source, answers = sys.stdin.buffer, os.dup(sys.stdout.fileno())
    if not (first := _read(source)):
        # The agent was ended before it said anything.
        return
    hello = json.loads(first)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, lines), daemon=True).start()
    side: OwnSide | None = None
    while True:
        request = json.loads(lines.get())
        try:
            side = side or OwnSide(load(Path(hello["settings"]), hello["environment"]), is_worker=True)
            answer = {"answer": OPERATIONS[request["do"]](side, request)}
        except BaseException as raised:  # noqa: BLE001 - of any type: the agent waits for an answer
            answer = {"error": messages.error_json(wrapped(raised))}
        _write(answers, messages.line({"id": request["id"], **answer}))


def _listen(source: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    while found := _read(source):
        lines.put(found)
    # The agent has ended, however it did: no step goes on without it, and every lock is released.
    os._exit(1)


def _read(source: BinaryIO) -> bytes:
    """Return the next line; nothing at the end, or if the agent ended in the middle of one."""
    found = source.readline(messages.REQUEST_LIMIT_BYTES)
    return found if found.endswith(b"\n") else b""


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except OSError:
            # As in `_listen`, which may notice it later.
            os._exit(1)


if __name__ == "__main__":
    main()
