"""The lock of one database: a file beside it that whoever migrates, restores or runs it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbsync import disk
from dbsync.errors import Locked


def lock_of(database: Path) -> disk.Lock:
    """The lock, not taken yet."""
    return disk.Lock(Path(f"{database.absolute()}.lock"))


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Holds it.

    Raises:
        Locked: another process has it; nobody waits here.
    """
    lock = lock_of(database)
    if not lock.try_take():
        raise Locked(operation="use", path=database, cause="another process is migrating or restoring it, or runs it")
    with lock:
        yield
