"""The keeper: a small process between launcher and app. It starts the app and stays until the app has ended.

It holds the app lock, answers the app's confirm, keeps the app's log small and notes how the app ended. It has no
console, and a session of its own where there are sessions: neither the end of the launcher, nor of its console, nor of
anything that reads what the app prints is the end of the app. Without its keeper the app runs on all the same.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import Refused, TillkeeperError, described
from updater.errors import AppAlreadyRunning
from updater.host import this_host
from updater.host.base import Order
from updater.host.shared import ENDED, FAILED, RUNS, STARTED
from updater.model import ReleaseId, TrialId
from updater.terminal import kit_use
from updater.terminal.app_log import AppLog
from updater.terminal.confirm_file import ConfirmFile

if TYPE_CHECKING:
    from updater.terminal.live import Terminal

ANSWER_POLL_SECONDS: Final = 0.05
REST_POLL_SECONDS: Final = 2.0
LEFT_LIMIT: Final = 50
"""Processes that are noted as left running: a note has one size."""


def keep(order: Order, tell: int) -> None:
    """Start the app and keep it; tell the launcher through a descriptor that the app runs, and how it ended."""
    try:
        told = f"{ENDED} {_kept(order, tell)}"
    except AppAlreadyRunning as error:
        told = f"{RUNS} {error.cause}"
    except Refused as error:
        told = f"{FAILED} {error.cause}"
    except TillkeeperError as error:
        told = f"{FAILED} {error}"
    except BaseException as error:  # noqa: BLE001 - of any type: the launcher waits for a word
        told = f"{FAILED} {described(error)}"
    _tell(tell, told)


def main() -> None:
    """Be the keeper of an order that comes by the standard input, on systems that cannot fork."""
    given: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    keep(read(given), os.dup(sys.stdout.fileno()))


def document(order: Order) -> bytes:
    """Return an order as the child reads it."""
    paths = {name: str(value) for name, value in order._asdict().items() if isinstance(value, Path)}
    return json.dumps({**order._asdict(), **paths, "environment": dict(order.environment)}).encode()


def read(given: dict[str, Any]) -> Order:
    """Return the order of a document."""
    trial_id = given["trial_id"]
    return Order(
        command=tuple(given["command"]),
        environment=given["environment"],
        folder=Path(given["folder"]),
        lock_path=Path(given["lock_path"]),
        log_path=Path(given["log_path"]),
        log_size_bytes=given["log_size_bytes"],
        settings_path=Path(given["settings_path"]),
        trial_id=TrialId(trial_id) if trial_id is not None else None,
        release_id=ReleaseId(given["release_id"]),
    )


def _kept(order: Order, tell: int) -> int:
    host = this_host()
    kit_use.hold()
    with host.take_app(order) as note:
        log = AppLog(order.log_path, size_limit_bytes=order.log_size_bytes)
        log.keep_small()
        app = host.run_main(order, output=log.descriptor, noted=note)
        _tell(tell, f"{STARTED} {app.pid}")
        confirm = _Confirm(order, order.trial_id) if order.trial_id is not None else None
        code: int | None = None
        while code is None:
            open_yet = confirm is not None and not confirm.is_answered
            code = app.wait(limit_seconds=ANSWER_POLL_SECONDS if open_yet else REST_POLL_SECONDS)
            if confirm is not None:
                confirm.look()
            if code is None:
                # Not after its end: its last words are read from here.
                log.keep_small()
        with suppress(OSError):
            note(app.pid, exit_code=code, left=app.left()[:LEFT_LIMIT])
        app.close()
    return code


class _Confirm:
    """The answer to the confirm of one trial: the same as of `updater confirm`, given on behalf of the app."""

    def __init__(self, order: Order, trial_id: TrialId) -> None:
        self._file: Final = ConfirmFile(order.lock_path.parent, trial_id)
        self._trial_id: Final = trial_id
        self._settings_path: Final = order.settings_path
        self._terminal: Terminal | None = None
        self._told: set[str] = set()
        self.is_answered = False

    def look(self) -> None:
        """Answer the app if it asks; an error is told once, and the next look tries again."""
        if not self._file.asks():
            return
        try:
            self._answer()
        except BaseException as error:  # noqa: BLE001 - of any type: the app waits for an answer
            self._tell_error(error)

    def _answer(self) -> None:
        from updater.flows.confirm import confirm

        self._file.answer(confirm(self._opened(), self._trial_id))
        self.is_answered = True

    def _opened(self) -> Terminal:
        if self._terminal is None:
            from updater import settings
            from updater.model import ProcessKind
            from updater.terminal.live import Terminal

            self._terminal = Terminal(settings.load(self._settings_path), kind=ProcessKind.CONFIRM)
        return self._terminal

    def _tell_error(self, error: BaseException) -> None:
        from dbsync.errors import wrapped
        from updater.errors import outcome_of
        from updater.model import Report, ReportPhase

        told = wrapped(error)
        if str(told) in self._told:
            return
        self._told.add(str(told))
        report = Report(
            outcome_of(told), phase=ReportPhase.CONFIRM, cause=str(told), done="the app runs on", opens=True
        )
        with suppress(Exception):
            self._opened().tell(report._replace(trial_id=self._trial_id))


def _tell(descriptor: int, line: str) -> None:
    # The launcher may have ended.
    with suppress(OSError):
        os.write(descriptor, line.replace("\n", " ").encode() + b"\n")


if __name__ == "__main__":
    main()
