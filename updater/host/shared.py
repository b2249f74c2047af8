"""The part that all systems share: the note in the app lock, an app and its keeper, short commands."""

from __future__ import annotations

import json
import os
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, assert_never

from dbsync.errors import Refused, TillkeeperError, disk_problem
from dbsync.facts import ReleaseId, TrialId
from dbsync.storage import claims
from dbsync.storage.locks import Lock
from dbsync.storage.platform import base as platform_base
from dbsync.storage.platform import this_platform
from updater.errors import AppAlreadyRunning
from updater.host.base import NOT_STARTED, App, Host, Life, Order, RunningApp

BOOT_ID_VARIABLE: Final = "TILLKEEPER_BOOT_ID"
"""Overrides the boot id: drills simulate a restart of the machine with it."""
TAIL_SIZE_BYTES: Final = 65536
"""The end of a command's output that is read."""
READER_SECONDS: Final = 2.0
"""How long the rest of a command's output is waited for after its end."""
NOTE_LIMIT_BYTES: Final = 4096
NOTE_SIZE_BYTES: Final = 1024
"""A note is filled up with spaces, so that one write replaces another and no reader finds a part of it."""
START_SECONDS: Final = 2.0
"""How long a start waits for the app lock: another process may be checking whether it is free."""
LIVES_POLL_SECONDS: Final = 0.1
"""How often an app whose end nothing tells is looked at."""
KEPT: Final = ("SYSTEMROOT",)
"""Variables that a tool of the system gets."""
STARTED, RUNS, FAILED, ENDED = "started", "runs", "failed", "ended"
"""The first words of the lines that a keeper tells the launcher that started it."""


class SharedHost(Host):
    """Host without the parts that differ: processes, clocks and places."""

    @abstractmethod
    def read_boot_id(self) -> str:
        """Return the system's own id of this boot."""

    _boot_id = ""

    def boot_id(self) -> str:
        given = os.environ.get(BOOT_ID_VARIABLE)
        if not given:
            # No process outlives its boot, so it is read once.
            self._boot_id = self._boot_id or self.read_boot_id()
        return given or self._boot_id

    @abstractmethod
    def machine(self) -> str:
        """Return the kind of processor."""

    def platform_tag(self) -> str:
        return f"{sys.platform}-{self.machine().lower()}"

    def can_ask(self) -> bool:
        return os.isatty(0)

    @abstractmethod
    def ask_to_end(self, app: App, number: int) -> None:
        """Ask an app to end, as a signal of that number asked this process; an app that cannot be asked goes on."""

    @abstractmethod
    def forwarded(self, forward: Callable[[int], None]) -> AbstractContextManager[None]:
        """Inside the block, call `forward` with the number of a signal that asks this process to end."""

    def attach(self, running: RunningApp) -> App:
        return NotedApp(self, running.lock_path, running.pid, running.start_time)

    def running_app(self, lock_path: Path) -> RunningApp | None:
        note = read_note(lock_path)
        life = self.noted_life(note)
        match life:
            case Life.DEAD:
                # A process that holds the lock now inherited it from the app, and is not the app.
                return None
            case Life.UNKNOWN:
                if Lock(lock_path).is_free():
                    return None
            case Life.ALIVE:
                pass
            case _:
                assert_never(life)
        began = note.get("monotonic_seconds")
        known = isinstance(began, int | float) and note.get("boot_id") == self.boot_id()
        trial_id, release_id = _text(note.get("trial_id")), _text(note.get("release_id"))
        return RunningApp(
            lock_path=lock_path,
            pid=_number(note.get("pid")),
            start_time=_text(note.get("start_time")),
            trial_id=TrialId(trial_id) if trial_id is not None else None,
            release_id=ReleaseId(release_id) if release_id is not None else None,
            seconds=max(0.0, self.monotonic_seconds() - float(began)) if known and began is not None else 0.0,
        )

    def noted_life(self, note: Mapping[str, Any], *, of: str = "") -> Life:
        """Return whether the process that a note names lives: the app, or with `of` another one, such as `keeper_`."""
        pid, start_time = _number(note.get(f"{of}pid")), _text(note.get(f"{of}start_time"))
        if pid is None:
            return Life.UNKNOWN
        if note.get("boot_id") not in (None, self.boot_id()):
            return Life.DEAD
        return self.life(pid, start_time)

    @contextmanager
    def take_app(self, order: Order) -> Iterator[Callable[..., None]]:
        path = order.lock_path
        lock = Lock(path, like=path.parent)
        # Not to be had: a process that an app has left may have inherited it; then the note alone decides.
        lock.take(timeout_seconds=START_SECONDS)
        alive = self.noted_life(read_note(path)) is Life.ALIVE
        if alive or (not lock.held and self.running_app(path) is not None):
            lock.release()
            raise AppAlreadyRunning(operation="start", path=path, cause="the app is running already")
        try:
            descriptor = this_platform().open_binary(path, os.O_RDWR, mode=0o600)
        except OSError as cause:
            lock.release()
            raise disk_problem("write the note on the app into", path, cause) from cause
        keeper = {"keeper_pid": os.getpid(), "keeper_start_time": self.start_time(os.getpid())}

        def write(pid: int, **more: Any) -> None:
            # What is known more is known at its end: its times cannot be asked any more then.
            facts = read_note(path) if more else {
                "trial_id": order.trial_id, "release_id": order.release_id, "pid": pid,
                "start_time": self.start_time(pid), "boot_id": self.boot_id(),
                "monotonic_seconds": self.monotonic_seconds(), **keeper,
            }  # fmt: skip
            data = json.dumps({**facts, **more}).encode().ljust(NOTE_SIZE_BYTES)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, data)
            os.ftruncate(descriptor, len(data))

        try:
            # Until the app runs, this process counts as the app: no other start comes in between.
            write(os.getpid())
            yield write
        finally:
            os.close(descriptor)
            lock.release()

    def run_and_wait(
        self,
        command: Sequence[str],
        *,
        timeout_seconds: float,
        env: Mapping[str, str] | None,
        cwd: Path,
        account: platform_base.Account | None = None,
    ) -> tuple[int | None, str]:
        import subprocess
        import threading

        from dbsync.storage import children

        environment = children.isolated() if env is None else env
        # A pipe that is read as it fills, of which only the end is kept: output fills neither memory nor disk.
        reading, writing = os.pipe()
        tail = bytearray()
        try:
            process = this_platform().start_tree(command, cwd=cwd, env=environment, output=writing, account=account)
        except OSError as cause:
            os.close(reading)
            return NOT_STARTED, cause.strerror or str(cause)
        finally:
            os.close(writing)
        reader = threading.Thread(target=_keep_tail, args=(reading, tail), daemon=True)
        reader.start()
        try:
            code = process.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            this_platform().end_tree(process)
        # Not for its end: a process that the command started may have left the tree and keep the pipe open.
        reader.join(READER_SECONDS)
        return code, bytes(tail).decode(errors="replace")

    def tool(self, words: Sequence[str], limit_seconds: float) -> tuple[int | None, str]:
        """Run a tool of the system by its absolute path; return its exit code and the end of its output."""
        from dbsync.storage import children

        # A tool of Windows does not start without the folder of the system.
        environment = {**children.SYSTEM_ENVIRONMENT, **{name: os.environ[name] for name in KEPT if name in os.environ}}
        return self.run_and_wait(words, timeout_seconds=limit_seconds, env=environment, cwd=children.FOLDER)


def _keep_tail(reading: int, tail: bytearray) -> None:
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while chunk := pipe.read(TAIL_SIZE_BYTES):
            tail += chunk
            del tail[:-TAIL_SIZE_BYTES]


class NotedApp(App):
    """App that another process keeps, or nobody any more: known by its note, and by its lock if that says nothing."""

    def __init__(self, host: SharedHost, lock_path: Path, pid: int | None, start_time: str | None) -> None:
        self.lock_path = lock_path
        self.pid = pid
        self._start_time: Final = start_time
        self._host: Final = host

    def poll(self) -> int | None:
        """Return its exit code once it has ended and its keeper has noted it; -1 if nobody has."""
        running = self._host.running_app(self.lock_path)
        if running is not None and (running.pid, running.start_time) == (self.pid, self._start_time):
            return None
        if self.is_kept():
            # It notes how the app ended, and ends.
            return None
        note = read_note(self.lock_path)
        same = (note.get("pid"), note.get("start_time")) == (self.pid, self._start_time)
        code = _number(note.get("exit_code")) if same else None
        return -1 if code is None else code

    def wait(self, *, limit_seconds: float) -> int | None:
        deadline = time.monotonic() + limit_seconds
        while True:
            code, left_seconds = self.poll(), deadline - time.monotonic()
            if code is not None or left_seconds <= 0:
                return code
            time.sleep(min(left_seconds, LIVES_POLL_SECONDS))

    def is_kept(self) -> bool:
        note = read_note(self.lock_path)
        return note.get("pid") == self.pid and self._host.noted_life(note, of="keeper_") is Life.ALIVE

    def ended_with_us(self) -> AbstractContextManager[None]:
        return self._host.forwarded(self._forward)

    def _forward(self, number: int) -> None:
        if self.poll() is None:
            self._host.ask_to_end(self, number)


class KeptApp(App):
    """App whose keeper is a child of this process, which tells through a pipe how the app ended.

    A keeper that is killed leaves the app alone: it runs on, and is known by its note.
    """

    def __init__(self, host: SharedHost, order: Order, told: int) -> None:
        self._host: Final = host
        self._told: Final = os.fdopen(told, "rb", buffering=0)
        self._code: int | None = None
        self.lock_path = order.lock_path
        word, _, rest = self._line().partition(" ")
        if word != STARTED:
            self._told.close()
            self.end_keeper()
            self._raise(order, word, rest)
        self.pid: int | None = int(rest)
        self._alone: NotedApp | None = None

    def _raise(self, order: Order, word: str, cause: str) -> None:
        if word == RUNS:
            raise AppAlreadyRunning(operation="start", path=order.lock_path, cause=cause)
        raise Refused(
            operation="start", path=Path(order.command[0]), cause=cause or "its keeper ended",
            hint="Is the version folder complete?",
        )  # fmt: skip

    @abstractmethod
    def keeper_ended(self, limit_seconds: float) -> bool:
        """Wait for the end of the keeper, at most that long, or for what it tells; return whether it came."""

    @abstractmethod
    def end_keeper(self) -> None:
        """Take note of the end of a keeper that has told everything."""

    def poll(self) -> int | None:
        return self.wait(limit_seconds=0.0)

    def wait(self, *, limit_seconds: float) -> int | None:
        if self._code is not None:
            return self._code
        if self._alone is None and self.keeper_ended(limit_seconds):
            word, _, rest = self._line().partition(" ")
            self._told.close()
            self.end_keeper()
            if word == ENDED:
                self._code = int(rest)
                return self._code
            start_time = _text(read_note(self.lock_path).get("start_time"))
            self._alone = NotedApp(self._host, self.lock_path, self.pid, start_time)
        if self._alone is not None:
            self._code = self._alone.wait(limit_seconds=limit_seconds)
        return self._code

    def is_kept(self) -> bool:
        return self._alone is None and self._code is None

    def ended_with_us(self) -> AbstractContextManager[None]:
        return self._host.forwarded(self._forward)

    def _forward(self, number: int) -> None:
        if self._code is None:
            self._host.ask_to_end(self, number)

    def _line(self) -> str:
        line = bytearray()
        while (byte := self._told.read(1)) not in (b"", b"\n"):
            line += byte or b""
        return line.decode(errors="replace")


def read_note(lock_path: Path) -> dict[str, Any]:
    """Return the note in the app lock; empty if there is none that can be read."""
    try:
        return claims.parse(claims.read(lock_path, limit_bytes=NOTE_LIMIT_BYTES, through_links=True))
    except (FileNotFoundError, TillkeeperError, ValueError):
        return {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
