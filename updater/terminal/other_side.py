"""The till's side of a privileged agent: a child that has the till's rights is asked, with limits of time and size."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dbsync.errors import Refused, TryLater, shown
from dbsync.storage import children
from dbsync.storage.claims import plain
from dbsync.storage.platform import this_platform
from updater.host import this_host
from updater.model import Running, TrialId
from updater.settings import PREFIX, Settings
from updater.terminal import worker_messages as messages
from updater.terminal.till_side import RawClaims, RawReports, TillSide

if TYPE_CHECKING:
    from dbsync.commands.scheduled_backup import Done
    from dbsync.facts import Facts
    from dbsync.storage.platform.base import Account

Value = TypeVar("Value")
ASK_SECONDS: Final = 60.0
"""For an answer that takes milliseconds."""
TIDY_SECONDS: Final = 600.0
BACK_UP_SECONDS: Final = 3600.0
PLACES: Final = ("program", "state", "data", "database", "backups")


class OtherSide(TillSide):
    """The till's side through a child with its rights. One request at a time; a child that ended is started anew."""

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings
        self._turn: Final = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._left = bytearray()
        self._asked_count = 0

    def claims(self, trial_ids: Collection[TrialId], *, lost_if_unavailable: bool = False) -> RawClaims:
        asked = frozenset(trial_ids)
        return self._ask(
            "claims",
            lambda found: messages.read_claims(found, asked),
            trial_ids=sorted(asked),
            lost_if_unavailable=lost_if_unavailable,
        )

    def sync_claims(self, trial_ids: Collection[TrialId]) -> None:
        self._ask("sync_claims", _nothing, trial_ids=sorted(trial_ids))

    def look_at_database(self) -> Facts:
        return self._ask("look_at_database", messages.read_facts)

    def running(self) -> Running | None:
        return self._ask("running", messages.read_running)

    def restore_is_done(self, intent_id: str) -> bool:
        return self._ask("restore_is_done", messages.read_flag, intent_id=intent_id)

    def try_database_lock(self) -> bool:
        return self._ask("try_database_lock", messages.read_flag)

    def release_database_lock(self) -> None:
        # Without the child there is no lock either, and to start one for this would be in vain.
        if self._process is not None:
            self._ask("release_database_lock", _nothing)

    def back_up(self) -> Done | None:
        if not self._settings.backup_keep:
            return None
        return self._ask("back_up", messages.read_done, limit_seconds=BACK_UP_SECONDS)

    def tidy(self, *, issued: Collection[TrialId], last_choice: int) -> None:
        self._ask("tidy", _nothing, limit_seconds=TIDY_SECONDS, issued=sorted(issued), last_choice=last_choice)

    def self_test(self, command: Sequence[str], *, folder: Path, timeout_seconds: float) -> tuple[int | None, str]:
        # The agent starts it itself, so that it can end it: the child could be stopped by the till's account.
        account = self._account()
        return this_host().run_and_wait(
            command, timeout_seconds=timeout_seconds, env=children.of_account(account), cwd=folder, account=account
        )

    def read_reports(self) -> RawReports:
        return self._ask("read_reports", messages.read_reports)

    def remove_reports(self, names: Collection[str]) -> None:
        self._ask("remove_reports", _nothing, names=sorted(names))

    def close(self) -> None:
        with self._turn:
            line, process = self._line, self._process
            self._line, self._process, self._left = None, None, bytearray()
            if line is not None:
                line.close()
            if process is not None:
                this_platform().end_tree(process)

    def __del__(self) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------- the child

    def _ask(
        self, operation: str, read: Callable[[Any], Value], *, limit_seconds: float = ASK_SECONDS, **given: Any
    ) -> Value:
        """Ask the child for something and return the value of its answer; after trouble with the child it is ended."""
        deadline = time.monotonic() + limit_seconds
        with self._turn:
            try:
                line = self._line or self._start()
                self._asked_count += 1
                line.settimeout(limit_seconds)
                line.sendall(messages.line({"id": self._asked_count, "do": operation, **given}))
                answer = self._answer(line, deadline)
                found = messages.read_error(answer["error"]) if "error" in answer else read(answer["answer"])
            except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as cause:
                # Its locks end with it: no later step may take them for held.
                self.close()
                raise self._trouble(operation, cause) from cause
        if isinstance(found, Exception):
            raise found
        return found

    def _start(self) -> socket.socket:
        account = self._account()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = this_platform().start_tree(
                    children.command("updater.terminal.worker"),
                    cwd=Path(children.FOLDER.anchor),
                    env=children.of_account(account),
                    source=theirs.fileno(),
                    output=theirs.fileno(),
                    umask=0o077,
                    account=account,
                )
            except OSError as cause:
                ours.close()
                raise TryLater(
                    operation="start a process as", path=Path(account.name), cause=shown(cause.strerror or cause),
                    hint=f"That account must be able to run {children.python()} and to read {children.CODE}.",
                ) from cause  # fmt: skip
        self._line = ours
        places = {PREFIX + name.upper(): str(getattr(self._settings, name)) for name in PLACES}
        ours.settimeout(ASK_SECONDS)
        ours.sendall(messages.line({"settings": str(self._settings.path), "environment": places}))
        return ours

    def _answer(self, line: socket.socket, deadline: float) -> dict[str, Any]:
        """Return the answer to the last request; other lines are noise, the last of which is the cause if it ends."""
        noise, size_bytes, searched_bytes = b"", 0, 0
        while True:
            end = self._left.find(b"\n", searched_bytes)
            if end >= 0:
                message, searched_bytes = bytes(self._left[:end]), 0
                del self._left[: end + 1]
                found = _parsed(message)
                if found.get("id") == self._asked_count:
                    return found
                noise = message or noise
                continue
            searched_bytes = len(self._left)
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0:
                raise TimeoutError("it did not answer in time")
            line.settimeout(left_seconds)
            chunk = line.recv(1 << 16)
            size_bytes += len(chunk)
            if not chunk:
                words = plain(bytes(self._left or noise).decode("utf-8", "replace"))[-500:]
                raise ConnectionError(f"it ended: {words}" if words else "it ended")
            if size_bytes > messages.ANSWER_LIMIT_BYTES:
                raise ValueError("its answer is too long")
            self._left += chunk

    def _account(self) -> Account:
        name = self._settings.till_user
        found = this_platform().account(name)
        if found is None or found.user == 0:
            raise Refused(
                operation="use the till's account", path=self._settings.path,
                cause=f"this machine has no account {name!r}" if found is None else f"{name!r} has the rights of root",
                hint=f"Correct `till` under [accounts] in {self._settings.path}.",
            )  # fmt: skip
        return found

    def _trouble(self, operation: str, cause: Exception) -> TryLater:
        words = shown(cause) if not isinstance(cause, TimeoutError) else "it did not answer in time"
        return TryLater(
            operation=f"ask the account {self._settings.till_user} ({operation})", cause=words,
            hint="It is tried again by itself. The account must be able to run the Python of the agent.",
        )  # fmt: skip


def _parsed(message: bytes) -> dict[str, Any]:
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _nothing(_: Any) -> None:
    return None
