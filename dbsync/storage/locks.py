"""Locks of the operating system; and the lock of a database, a file beside it that whoever changes or runs it holds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dbsync.errors import DiskProblem, Locked, disk_problem
from dbsync.storage.platform import this_platform

POLL_SECONDS: Final = 0.02
PROBES_COUNT: Final = 5


class Lock:
    """A lock of the operating system on one file: the kernel lets it go when its holder ends, however it ends.

    The file is never removed: a lock on a removed name would be two locks. Not for use by two threads at once.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def fileno(self) -> int:
        """Return the locked descriptor, to be inherited by a child that is to go on holding the lock."""
        if self._descriptor is None:
            raise RuntimeError(f"{self.path} is not locked by this object")
        return self._descriptor

    def try_take(self) -> bool:
        """Take the lock if nobody holds it; tells whether it is held now.

        Raises:
            DiskProblem: the file cannot be made or opened, or its file system has no locks.
        """
        if self._descriptor is not None:
            raise RuntimeError(f"{self.path} is locked by this object already")
        platform = this_platform()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._descriptor = descriptor if platform.try_lock(descriptor, shared=False) else None
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
        except OSError as cause:
            raise disk_problem("lock", self.path, cause) from cause
        return self.held

    def is_free(self) -> bool:
        """Whether nobody holds the lock now. A question is never in the way of another one, nor of `take` for long.

        Whoever may read the file may ask: support looks at a till whose agent is another user.

        Raises:
            DiskProblem: the file cannot be read, or its file system has no locks.
        """
        platform = this_platform()
        try:
            for _ in range(PROBES_COUNT):
                descriptor = os.open(self.path, os.O_RDONLY)
                try:
                    if platform.try_lock(descriptor, shared=True):
                        return True
                finally:
                    os.close(descriptor)
                if platform.shares_locks:
                    return False
                # Without shared locks, another question may have been in the way, and is over at once.
                time.sleep(POLL_SECONDS)
        except FileNotFoundError:
            return True
        except OSError as cause:
            raise disk_problem("ask for the lock", self.path, cause) from cause
        return False

    def take(self, *, timeout_seconds: float) -> bool:
        """Wait for the lock, at most `timeout_seconds`; tells whether it is held now."""
        deadline = time.monotonic() + timeout_seconds
        while not self.try_take():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def release(self) -> None:
        """Let the lock go; nothing happens if it is not held."""
        if self._descriptor is not None:
            # Closing is the release: a child that inherited the descriptor keeps the lock on POSIX.
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        if self._descriptor is None and not self.try_take():
            raise DiskProblem(operation="lock", path=self.path, cause="another process holds it")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock_of(database: Path) -> Lock:
    """The lock, not taken yet. Under whatever name a database is opened, it is one: SQLite follows links as well."""
    return Lock(Path(f"{os.path.realpath(database)}.lock"))


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold it.

    Raises:
        Locked: another process has it; nobody waits here.
    """
    lock = lock_of(database)
    if not lock.try_take():
        raise Locked(operation="use", path=database, cause="another process is migrating or restoring it, or runs it")
    with lock:
        yield
