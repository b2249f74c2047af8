"""What the product asks of an operating system."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from dbsync.storage.locks import Lock

BOOT_ID_VARIABLE = "TILLKEEPER_BOOT_ID"
"""Overrides the boot's name: drills pretend a restart of the machine with it."""


class RunningApp(NamedTuple):
    """What the holder of the app lock has written into it; None where that could not be read."""

    lock_path: Path
    pid: int | None
    start_time: str | None
    """As the system tells it: with it, another process under a reused number is not taken for this one."""
    trial_id: str | None
    release_id: str | None
    seconds: float


class Folders(NamedTuple):
    """The usual places of one app on this system."""

    program: Path
    state: Path
    data: Path
    settings_file: Path


class App(Protocol):
    """An app that was started, or that another launcher started."""

    lock_path: Path
    pid: int | None

    def poll(self) -> int | None:
        """Its exit code; None while it runs. -1 where it is not our child and the code is not known."""

    def wait(self) -> int:
        """Waits for its end and returns the exit code."""


START_SECONDS: Final = 2.0
"""How long a start waits for the app lock: somebody may just be asking whether it is free."""


class Host:
    """What all systems share; each class of a system adds the rest."""

    keeps_executable_bit: bool = True
    """Whether a file's mode says that it can be run."""

    def start_app(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        lock_path: Path,
        note: Mapping[str, str | None],
    ) -> App:
        """Starts the app with the app lock in its hands, from its first moment to its last.

        Raises:
            AppAlreadyRunning: the lock is held.
            Refused: the command cannot be run.
        """
        raise RuntimeError("each system has its own")

    def attach(self, running: RunningApp) -> App:
        """An app that another launcher started."""
        return LockedApp(running.lock_path, running.pid)

    def end_tree(self, app: App, *, grace_seconds: float) -> bool:
        """Ends an app and all it started, kindly first; True when everything is seen gone."""
        raise RuntimeError("each system has its own")

    def write_note(self, lock: Lock, pid: int, note: Mapping[str, str | None]) -> None:
        """Says in the held lock's own file who runs the app: `running_app` reads it."""
        facts = {
            **note, "pid": pid, "start_time": self.start_time(pid), "boot_id": self.boot_id(),
            "monotonic_seconds": self.monotonic_seconds(),
        }  # fmt: skip
        os.ftruncate(lock.fileno(), 0)
        os.lseek(lock.fileno(), 0, os.SEEK_SET)
        os.write(lock.fileno(), json.dumps(facts).encode())
        os.fsync(lock.fileno())

    def start_time(self, pid: int) -> str | None:
        """When a process began, as the system tells it; None where it cannot be told."""
        return None

    def boot_id(self) -> str:
        """A name of this boot of the machine."""
        return os.environ.get(BOOT_ID_VARIABLE) or self.read_boot_id()

    def read_boot_id(self) -> str:
        """The system's own name of this boot."""
        raise RuntimeError("each system has its own")

    def monotonic_seconds(self) -> float:
        """A clock that all processes of one boot share and that nobody can set."""
        raise RuntimeError("each system has its own")

    def default_folders(self, app: str) -> Folders:
        """The usual places, as platformdirs names them (a test compares)."""
        raise RuntimeError("each system has its own")

    def platform_tag(self) -> str:
        """What a manifest's platform is compared with, such as linux-x86_64."""
        import platform

        return f"{sys.platform}-{platform.machine().lower()}"

    def running_app(self, lock_path: Path) -> RunningApp | None:
        """Who holds the app lock; None if nobody does."""
        if Lock(lock_path).is_free():
            return None
        note = _read_note(lock_path)
        began = note.get("monotonic_seconds")
        known = isinstance(began, int | float) and note.get("boot_id") == self.boot_id()
        return RunningApp(
            lock_path=lock_path,
            pid=note["pid"] if isinstance(note.get("pid"), int) else None,
            start_time=_text(note.get("start_time")),
            trial_id=_text(note.get("trial_id")),
            release_id=_text(note.get("release_id")),
            seconds=max(0.0, self.monotonic_seconds() - float(began)) if known and began is not None else 0.0,
        )

    def run_and_wait(
        self, command: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None, cwd: Path
    ) -> tuple[int | None, str]:
        """Runs a short command; exit code (None: it did not end in time and was killed) and the end of its output."""
        import subprocess

        try:
            done = subprocess.run(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=timeout_seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            return None, _tail(late.output)
        except OSError as cause:
            return 127, cause.strerror or str(cause)
        return done.returncode, _tail(done.stdout)


class LockedApp:
    """An app that is not our child: it runs while its lock is held, and its exit code is not known."""

    def __init__(self, lock_path: Path, pid: int | None) -> None:
        self.lock_path = lock_path
        self.pid = pid

    def poll(self) -> int | None:
        """-1 once the lock is free."""
        return -1 if Lock(self.lock_path).is_free() else None

    def wait(self) -> int:
        """Waits until the lock is free."""
        import time

        while self.poll() is None:
            time.sleep(0.2)
        return -1


def _read_note(lock_path: Path) -> dict[str, Any]:
    try:
        note = json.loads(lock_path.read_bytes())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _tail(output: bytes | None) -> str:
    return (output or b"")[-65536:].decode(errors="replace")
