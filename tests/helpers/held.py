"""Another program that holds files open, as Windows lets it: in memory on every system, and in a process on Windows.

Python announces each call on a file before it makes it (`sys.addaudithook`). Here it fails as Windows lets it fail
while another handle is open that does not share enough. A folder with an open file in it cannot be renamed either.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from unittest import mock

from dbsync.storage.platform import this_platform
from dbsync.storage.platform.base import Platform
from dbsync.storage.platform.windows import ACCESS_DENIED, SHARING_VIOLATION, waits_seconds

BRIEFLY: Final = 3
"""So many calls on a file fail while a scanner reads it."""
Value = TypeVar("Value")
_WRITES: Final = os.O_WRONLY | os.O_RDWR


class Share(IntEnum):
    """The share mode of the handle that the other program has: what it lets others do."""

    NOTHING = 0
    READ = 1
    READ_WRITE = 3
    ALL = 7


NEVER: Final = Share.ALL + 1


class Seen(NamedTuple):
    """A call on a file that was about to be made."""

    effect: str
    event: str
    path: str
    needs: int
    """The least share mode of other handles that lets it succeed; NEVER: there is none."""


class Holder:
    """A program that holds files; every call on one that its share mode excludes fails, so often or always."""

    def __init__(self) -> None:
        self.share = Share.NOTHING
        self.paths: set[str] = set()
        self.failures_left: int | None = None
        """None: for good."""
        self.refused: list[tuple[str, str]] = []
        self.calls: list[Seen] = []
        """All calls while it watches."""
        self.effect = ""
        """The effect of a flow that is under way."""
        self.watches = False
        self._thread = threading.get_ident()

    def see(self, event: str, given: tuple[Any, ...]) -> None:
        """Take note of a call that is about to be made, and let it fail."""
        for path, needs in _asked(event, given):
            self.calls.append(Seen(self.effect, event, path, needs))
            refusal = None
            if self._is_held(path) and needs > self.share:
                # Not even a handle that shares everything lets its file be renamed over.
                refusal = ACCESS_DENIED if needs == NEVER else SHARING_VIOLATION
            if event == "os.rename" and self._is_above(path):
                refusal = ACCESS_DENIED
            if refusal is not None and self.failures_left != 0:
                if self.failures_left is not None:
                    self.failures_left -= 1
                # Both names of a rename: an error names one of them.
                self.refused += [(event, os.fsdecode(name)) for name in given[: 2 if event == "os.rename" else 1]]
                error = PermissionError(errno.EACCES, "the file is used by another process", path)
                error.winerror = refusal  # type: ignore[attr-defined,unused-ignore]
                raise error

    def _is_held(self, path: str) -> bool:
        # A name alone is relative to an open folder. Nobody holds what is about to be made.
        return (path in self.paths and os.path.lexists(path)) or (
            os.sep not in path and any(Path(held).name == path and os.path.lexists(held) for held in self.paths)
        )

    def _is_above(self, folder: str) -> bool:
        return any(held.startswith(folder + os.sep) and os.path.lexists(held) for held in self.paths)


def _asked(event: str, given: tuple[Any, ...]) -> Iterator[tuple[str, int]]:
    """Yield the paths of a call, each with the share mode that it needs of a program that has it open."""
    if event == "open" and isinstance(given[0], str | bytes | os.PathLike):
        mode, flags = given[1], given[2]
        writes = any(letter in mode for letter in "wxa+") if isinstance(mode, str) else bool(flags & _WRITES)
        yield os.fsdecode(given[0]), Share.READ_WRITE if writes else Share.READ
    elif event in ("os.remove", "os.rmdir", "os.rename"):
        yield os.fsdecode(given[0]), Share.ALL
        if event == "os.rename":
            yield os.fsdecode(given[1]), NEVER


_HOLDERS: list[Holder] = []
_HOOKED: list[bool] = []


def _hook(event: str, given: tuple[Any, ...]) -> None:
    for holder in _HOLDERS:
        if holder.watches and threading.get_ident() == holder._thread:
            holder.see(event, given)


_PATIENT: Final = ("replace", "open_binary", "create", "open_claim")
"""Calls of a platform that are patient on Windows."""


def _patiently(platform: Platform, call: Callable[[], Value], *, briefly: bool = False) -> Value:
    """The patience of Windows, without its waits."""
    waited_count = 0
    while True:
        try:
            return call()
        except OSError as cause:
            waits = waits_seconds(getattr(cause, "winerror", None), briefly=briefly)
            if waited_count >= len(waits):
                raise
            waited_count += 1


def _made_patient(original: Callable[..., Value]) -> Callable[..., Value]:
    def call(self: Platform, *given: object, **named: object) -> Value:
        return _patiently(self, lambda: original(self, *given, **named))

    return call


@contextmanager
def watcher() -> Iterator[Holder]:
    """A holder that sees this thread's calls on files inside the block; the system stays as it is."""
    if not _HOOKED:
        sys.addaudithook(_hook)
        _HOOKED.append(True)
    found = Holder()
    _HOLDERS.append(found)
    try:
        yield found
    finally:
        _HOLDERS.remove(found)


@contextmanager
def holder() -> Iterator[Holder]:
    """A holder that can watch this thread's calls on files inside the block, on a system that is patient."""
    own = type(this_platform())
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(own, "patiently", _patiently))
        for name in _PATIENT:
            patches.enter_context(mock.patch.object(own, name, _made_patient(getattr(own, name))))
        yield patches.enter_context(watcher())


_OPEN: Final = """
import ctypes, json, sys, threading
kernel = ctypes.WinDLL("kernel32", use_last_error=True)
number, pointer = ctypes.c_ulong, ctypes.c_void_p
kernel.CreateFileW.restype = pointer
kernel.CreateFileW.argtypes = (ctypes.c_wchar_p, number, number, pointer, number, number, pointer)
kernel.CloseHandle.argtypes = (pointer,)
def held(path, share):
    handle = kernel.CreateFileW(path, 0x80000000, share, None, 3, 0x80, None)
    return None if handle in (None, 2**64 - 1) else handle
"""
HOLD: Final = f"""{_OPEN}
print("held" if held(sys.argv[1], int(sys.argv[2])) else f"not held: {{ctypes.get_last_error()}}", flush=True)
sys.stdin.readline()
"""
HOLD_ON_COMMAND: Final = f"""{_OPEN}
kept = []
for line in sys.stdin:
    path, share, seconds = json.loads(line)
    if path is None:
        while kept:
            kernel.CloseHandle(kept.pop())
        print("let go", flush=True)
        continue
    handle = held(path, share)
    if handle and seconds:
        threading.Timer(seconds, kernel.CloseHandle, (handle,)).start()
    elif handle:
        kept.append(handle)
    print("held" if handle else f"not held: {{ctypes.get_last_error()}}", flush=True)
"""


@contextmanager
def held_by_a_process(path: Path, share: Share) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a file open on Windows; it lets go at the end of the block, or of its input."""
    words = [sys.executable, "-c", HOLD, str(path), str(int(share))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"held"
        try:
            yield process
        finally:
            process.stdin.close()


class Grip:
    """A process that opens files on command, on Windows, and lets go on command or by itself."""

    def __init__(self) -> None:
        words = [sys.executable, "-c", HOLD_ON_COMMAND]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def hold(self, path: str, share: Share, *, seconds: float | None) -> bool:
        """Open a file; return whether it is open now: not if it is gone, or its user shares too little itself."""
        return self._asked([path, int(share), seconds]) == "held"

    def let_go(self) -> None:
        """Close every file that is not held for some seconds only."""
        self._asked([None, 0, None])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _asked(self, words: list[object]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words).encode("ascii") + b"\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().decode("ascii").strip()
