"""Small disks: a flow on a real file system in memory with little free space, counted in sizes of the database."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.drills.faults.calls import Call
from tests.drills.faults.engine import DEADLINE_SECONDS, Fault, Ran
from tests.drills.faults.flow import Course, Flow
from tests.drills.faults.modes import Mode
from tests.drills.faults.promises import Violation

FACTORS: Final = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
SIZE_MEGABYTES: Final = 8.0
NO_MOUNT: Final = "small disks need root: the drill mounts a file system of its own"
AMPLE_BYTES: Final = 1 << 34
LEAST_BYTES_PER_SECOND: Final = 1_000_000


class OnDisk(NamedTuple):
    """One run on a small disk."""

    free_bytes: int
    ran: Ran
    violations: list[Violation]
    state: str
    """What is live and what is kept, in words."""


def can_mount() -> bool:
    """Return whether this process may mount file systems."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def run(flow: Flow, database: Path, factor: float) -> OnDisk:
    """Run a flow with free space of so many sizes of its database, and judge it there."""
    flow.engine.watch(flow.folder)
    with _mounted(flow.folder):
        flow.reset()
        size_bytes = database.stat().st_size
        flow.engine.deadline_seconds = max(DEADLINE_SECONDS, size_bytes / LEAST_BYTES_PER_SECOND)
        found = os.statvfs(flow.folder)
        used_bytes = (found.f_blocks - found.f_bfree) * found.f_frsize
        _mount("-o", f"remount,size={used_bytes + int(factor * size_bytes)}", str(flow.folder))
        found = os.statvfs(flow.folder)
        free_bytes = found.f_bavail * found.f_frsize
        ran = flow.engine.run(flow.command(), flow.environment(0))
        flow.engine.end_all()
        state = flow.state()
        nothing = Call(0, 0, "", 0, "nothing", "")
        course = Course(Fault(Mode.KILL, 0), nothing, ran, lasting=True)
        violations = flow.judge(course)
        flow.engine.end_all()
    return OnDisk(free_bytes, ran, violations, state)


@contextmanager
def _mounted(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={AMPLE_BYTES}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)
