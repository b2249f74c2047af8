"""The log of what the app prints: the app appends to it, its keeper keeps it small, and a launcher shows it.

It is a file and no pipe: a pipe ends the app when its reader ends, or stops it when its reader stops.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from dbsync.storage import file_calls
from dbsync.storage.platform import this_platform
from updater.host import this_host

CHUNK_BYTES: Final = 64 * 1024
PART_BYTES: Final = 512
"""At most so much is printed at once: what every pipe that takes anything takes without waiting (POSIX, PIPE_BUF)."""
TAIL_BYTES: Final = 2000
"""How much of the end of the log goes into the report of a crash."""


class AppLog:
    """The log as the keeper has it open for the app."""

    def __init__(self, path: Path, *, size_limit_bytes: int) -> None:
        self._path: Final = path
        self._size_limit_bytes: Final = size_limit_bytes
        try:
            self.descriptor = this_platform().open_log(path, like=path.parent)
        except OSError:
            # A log that cannot be written stops no till.
            self.descriptor = os.open(os.devnull, os.O_WRONLY)

    def keep_small(self) -> None:
        """Keep it small, in the same way as `keep_small`."""
        keep_small(self._path, size_limit_bytes=self._size_limit_bytes)


def keep_small(path: Path, *, size_limit_bytes: int) -> None:
    """Once a log is too large, move its end to `<name>.1` and empty it; lines that come meanwhile may be lost."""
    with suppress(OSError):
        if path.stat().st_size > size_limit_bytes:
            _turn(path, size_limit_bytes=size_limit_bytes)


def _turn(path: Path, *, size_limit_bytes: int) -> None:
    platform, older = this_platform(), path.with_name(f"{path.name}.1")
    file_calls.remove(older)
    source = platform.open_binary(path, os.O_RDWR, mode=0o600)
    try:
        target = platform.create(older, like=path.parent)
        try:
            os.lseek(source, max(0, os.fstat(source).st_size - size_limit_bytes), os.SEEK_SET)
            while chunk := os.read(source, CHUNK_BYTES):
                os.write(target, chunk)
        finally:
            os.close(target)
            # Also without a copy, as on a full disk: the log would fill it up.
            os.ftruncate(source, 0)
    finally:
        os.close(source)


class LogView:
    """The log as a launcher reads it, from the end that it has now."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._start = self._shown = self.size_bytes()

    def tail(self) -> str:
        """Return the end of what the app has printed since."""
        size_bytes = self.size_bytes()
        start = self._start if size_bytes >= self._start else 0
        text = self._read(max(start, size_bytes - TAIL_BYTES), TAIL_BYTES).decode("utf-8", errors="replace")
        return text.strip()

    def show(self, *, stalled_seconds: float = 0.0) -> None:
        """Print what is new on the standard output, as far as that takes it now: nobody waits for a view.

        Args:
            stalled_seconds: how long a reader that takes nothing is waited for, once the app has ended.
        """
        size_bytes = self.size_bytes()
        if size_bytes < self._shown:
            self._shown = 0
        with suppress(OSError, ValueError):
            if self._shown < size_bytes and sys.stdout is not None:
                sys.stdout.flush()
            while self._shown < size_bytes and this_host().takes_output(1, limit_seconds=stalled_seconds):
                part = self._read(self._shown, PART_BYTES)
                if not part:
                    return
                self._shown += os.write(1, part)

    @staticmethod
    def is_seen() -> bool:
        """Return whether this process has a standard output that anybody can read."""
        try:
            return sys.stdout is not None and not os.path.samestat(os.fstat(1), os.stat(os.devnull))  # noqa: PTH116
        except OSError:
            return False

    def size_bytes(self) -> int:
        """Return the size of the log; 0 where there is none."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def _read(self, start: int, limit_bytes: int) -> bytes:
        try:
            with file_calls.open_to_read(self._path) as log:
                log.seek(start)
                return log.read(limit_bytes)
        except OSError:
            return b""
