"""The part that all systems share: the note in the app lock, an app that is not our child, short commands."""

from __future__ import annotations

import json
import os
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dbsync.errors import TillkeeperError
from dbsync.facts import ReleaseId, TrialId
from dbsync.storage import claims
from dbsync.storage.locks import Lock
from dbsync.storage.platform import base as platform_base
from dbsync.storage.platform import this_platform
from updater.host.base import NOT_STARTED, App, Host, RunningApp

BOOT_ID_VARIABLE: Final = "TILLKEEPER_BOOT_ID"
"""Overrides the boot id: drills simulate a restart of the machine with it."""
TAIL_SIZE_BYTES: Final = 65536
"""The end of a command's output that is read."""
READER_SECONDS: Final = 2.0
"""How long the rest of a command's output is waited for after its end."""
NOTE_LIMIT_BYTES: Final = 4096
START_SECONDS: Final = 2.0
"""How long a start waits for the app lock: another process may be checking whether it is free."""


class SharedHost(Host):
    """Host without the parts that differ: processes, clocks and places."""

    @abstractmethod
    def read_boot_id(self) -> str:
        """Return the system's own id of this boot."""

    @abstractmethod
    def start_time(self, pid: int) -> str | None:
        """Return the time at which a process began, as the system reports it; None if it cannot be determined."""

    def boot_id(self) -> str:
        return os.environ.get(BOOT_ID_VARIABLE) or self.read_boot_id()

    def platform_tag(self) -> str:
        import platform

        return f"{sys.platform}-{platform.machine().lower()}"

    def attach(self, running: RunningApp) -> App:
        return LockedApp(running.lock_path, running.pid)

    def running_app(self, lock_path: Path) -> RunningApp | None:
        if Lock(lock_path).is_free():
            return None
        note = _read_note(lock_path)
        began = note.get("monotonic_seconds")
        known = isinstance(began, int | float) and note.get("boot_id") == self.boot_id()
        trial_id, release_id = _text(note.get("trial_id")), _text(note.get("release_id"))
        return RunningApp(
            lock_path=lock_path,
            pid=note["pid"] if isinstance(note.get("pid"), int) else None,
            start_time=_text(note.get("start_time")),
            trial_id=TrialId(trial_id) if trial_id is not None else None,
            release_id=ReleaseId(release_id) if release_id is not None else None,
            seconds=max(0.0, self.monotonic_seconds() - float(began)) if known and began is not None else 0.0,
        )

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

    def write_note(self, lock: Lock, pid: int, note: Mapping[str, str | None]) -> None:
        """Write a note about the process that runs the app into the held lock's file, for `running_app`."""
        facts = {
            **note, "pid": pid, "start_time": self.start_time(pid), "boot_id": self.boot_id(),
            "monotonic_seconds": self.monotonic_seconds(),
        }  # fmt: skip
        os.ftruncate(lock.fileno(), 0)
        os.lseek(lock.fileno(), 0, os.SEEK_SET)
        os.write(lock.fileno(), json.dumps(facts).encode())
        os.fsync(lock.fileno())


def _keep_tail(reading: int, tail: bytearray) -> None:
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while chunk := pipe.read(TAIL_SIZE_BYTES):
            tail += chunk
            del tail[:-TAIL_SIZE_BYTES]


class LockedApp(App):
    """App that is not our child: it runs while its lock is held, and its exit code is unknown."""

    def __init__(self, lock_path: Path, pid: int | None) -> None:
        self.lock_path = lock_path
        self.pid = pid

    def poll(self) -> int | None:
        """Return -1 once the lock is free."""
        return -1 if Lock(self.lock_path).is_free() else None

    def wait(self) -> int:
        """Wait until the lock is free."""
        import time

        while self.poll() is None:
            time.sleep(0.2)
        return -1


def _read_note(lock_path: Path) -> dict[str, Any]:
    try:
        return claims.parse(claims.read(lock_path, limit_bytes=NOTE_LIMIT_BYTES, through_links=True))
    except (FileNotFoundError, TillkeeperError, ValueError):
        return {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
