"""Flows that prove the drill itself: a file is replaced rightly, or with a mistake that the drill must find.

They are not part of a drill unless they are named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.drills.faults.engine import Engine
from tests.drills.faults.flow import Command, Course, Flow
from tests.drills.faults.promises import Promise, Violation
from tests.drills.faults.stage import Stage, clear

BEFORE: Final = b"before " * 100
AFTER: Final = b"after " * 100
Writer = Callable[[Path], None]


def rightly(path: Path) -> None:
    """Write a new file, sync it, give it its name, and sync the name."""
    temporary = path.with_name(f".new-{path.name}")
    _write(temporary)
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def without_sync(path: Path) -> None:
    """Forget to sync the content."""
    temporary = path.with_name(f".new-{path.name}")
    _write(temporary)
    temporary.replace(path)
    _sync(path.parent)


def without_folder_sync(path: Path) -> None:
    """Forget to sync the name."""
    temporary = path.with_name(f".new-{path.name}")
    _write(temporary)
    _sync(temporary)
    temporary.replace(path)


def in_place(path: Path) -> None:
    """Write over the old content."""
    with path.open("r+b", buffering=0) as file:
        file.truncate(0)
        file.write(AFTER)
        os.fsync(file.fileno())


def without_looking(path: Path) -> None:
    """Ignore how much was written."""
    temporary = path.with_name(f".new-{path.name}")
    with temporary.open("wb", buffering=0) as file:
        file.write(AFTER)
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


WRITERS: Final[dict[str, Writer]] = {
    "own-right": rightly,
    "own-no-sync": without_sync,
    "own-no-folder-sync": without_folder_sync,
    "own-in-place": in_place,
    "own-short": without_looking,
}


class OwnFlow(Flow):
    """One way to replace a file."""

    def __init__(self, stage: Stage, name: str, writer: Writer) -> None:
        self.engine: Engine = stage.engine
        self.name = name
        self.folder = stage.folder / "own"
        self._path: Final = self.folder / "file"
        self._writer: Final = writer

    def reset(self) -> None:
        clear(self.folder)
        self._path.write_bytes(BEFORE)

    def command(self) -> Command:
        return self._run

    def _run(self) -> None:
        try:
            self._writer(self._path)
        except OSError as error:
            raise SystemExit(f"Error: {error}") from error

    def environment(self, boot: int) -> Mapping[str, str]:
        return {}

    def recovery(self) -> Command:
        return self.command()

    def judge(self, course: Course) -> list[Violation]:
        violations = self.command_violations(course.ran, "the command")
        found = self._path.read_bytes()
        if found not in (BEFORE, AFTER):
            violations.append(Violation(Promise.WHOLE, f"the file has {len(found)} bytes"))
        if course.ran.exit_code == 0 and found != AFTER:
            violations.append(Violation(Promise.TRUTH, "exit status 0, and it is not done"))
        return violations


def flows(stage: Stage) -> list[Flow]:
    """Return the flows."""
    return [OwnFlow(stage, name, writer) for name, writer in WRITERS.items()]


def _write(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        view = memoryview(AFTER)
        while view:
            view = view[file.write(view) :]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
