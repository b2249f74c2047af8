"""Locks of the operating system, and the lock of a database: a file beside it, locked while it is changed or run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dbsync.errors import DiskProblem, Locked, disk_problem
from dbsync.storage.files import make_folder
from dbsync.storage.platform import this_platform

POLL_SECONDS: Final = 0.02
IN_USE: Final = "another process is migrating or restoring it, or runs it"
QUESTIONS_SECONDS: Final = 2.0
"""How long a lock that only questions hold is tried for: each of them takes a moment."""
QUESTION_POLL_SECONDS: Final = 0.002


class Lock:
    """A lock of the operating system on one file: the kernel releases it when its holder ends, however it ends.

    The file is never removed: two processes could then lock two files of one name. Not for use by two threads at once.

    Args:
        path: the file, which has no content.
        like: the database whose owner and rights a new file gets; then a link of that name is not followed.
    """

    def __init__(self, path: Path, *, like: Path | None = None) -> None:
        self.path: Final = path
        self._like: Final = like
        self._descriptor: int | None = None
        self._reads = False
        """Whether this account may not write the file: each refusal takes a while on Windows."""

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def fileno(self) -> int:
        """Return the locked descriptor, to be inherited by a child process that must keep holding the lock."""
        if self._descriptor is None:
            raise RuntimeError(f"{self.path} is not locked by this object")
        return self._descriptor

    def try_take(self) -> bool:
        """Take the lock if it is free and return whether this object holds it now.

        Raises:
            DiskProblem: the lock file cannot be made or opened, or its file system has no locks.
        """
        if self._descriptor is not None:
            raise RuntimeError(f"{self.path} is locked by this object already")
        deadline = time.monotonic() + QUESTIONS_SECONDS
        try:
            while not self._try_once() and time.monotonic() < deadline:
                if not self.is_free():
                    return False
                # Somebody asked whether it is free, in that moment: nobody holds it.
                time.sleep(QUESTION_POLL_SECONDS)
        except OSError as cause:
            raise disk_problem("lock", self.path, cause) from cause
        return self.held

    def _try_once(self) -> bool:
        descriptor = self._opened()
        try:
            self._descriptor = descriptor if this_platform().try_lock(descriptor, shared=False) else None
        finally:
            if self._descriptor is None:
                os.close(descriptor)
        return self.held

    def _opened(self) -> int:
        platform, like = this_platform(), self._like
        if like is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self._reads:
                try:
                    return platform.open_binary(self.path, os.O_RDWR | os.O_CREAT, mode=0o666)
                except PermissionError:
                    # Locking needs no right to write, and a clerk has none to what an administrator has installed.
                    self._reads = True
            return platform.open_binary(self.path, os.O_RDONLY, mode=0)
        make_folder(self.path.parent, like=like)
        with suppress(FileExistsError):
            return platform.create(self.path, like=like)
        try:
            return platform.open_own(self.path, os.O_RDWR, like=like)
        except PermissionError:
            # Another account made it, for example root with an earlier version. Locking needs no right to write.
            return platform.open_own(self.path, os.O_RDONLY, like=like)

    def is_free(self) -> bool:
        """Return whether the lock is free now.

        A question never refuses another one, nor a process that takes the lock. It needs only the right to read the
        file: support looks at a till whose agent runs as another user.

        Raises:
            DiskProblem: the lock file cannot be read, or its file system has no locks.
        """
        platform = this_platform()
        try:
            # At once, also if another account has put a FIFO in its place.
            descriptor = platform.open_claim(self.path, through_links=True)
            try:
                return platform.try_lock(descriptor, shared=True)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return True
        except OSError as cause:
            raise disk_problem("ask for the lock", self.path, cause) from cause

    def take(self, *, timeout_seconds: float) -> bool:
        """Wait for the lock, at most `timeout_seconds`, and return whether this object holds it now."""
        deadline = time.monotonic() + timeout_seconds
        while not self.try_take():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""
        if self._descriptor is not None:
            # Closing is the release, also if it reports an error: a child that inherited the descriptor keeps the lock
            # on POSIX.
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def __enter__(self) -> Self:
        if self._descriptor is None and not self.try_take():
            raise DiskProblem(operation="lock", path=self.path, cause="another process holds it")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock_of(database: Path) -> Lock:
    """Return the lock of a database, not taken yet; one for all its names, because SQLite follows links as well."""
    real = Path(os.path.realpath(database))
    return Lock(real.with_name(f"{real.name}.lock"), like=real)


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the lock of a database inside the block.

    Raises:
        Locked: another process holds it; this does not wait.
    """
    lock = lock_of(database)
    if not lock.try_take():
        raise Locked(operation="use", path=database, cause=IN_USE)
    with lock:
        yield
