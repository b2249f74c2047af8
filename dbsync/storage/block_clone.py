"""A file copy that shares its blocks, where the file system can (btrfs, XFS): at once, and only where it is safe.

A database file may be copied as a file only while it is the whole database and nothing can write it
(sqlite.org/howtocorrupt.html, 1.2). Why both hold here: docs/decisions/0014.
"""

from __future__ import annotations

from pathlib import Path

from dbsync.storage.connections import Connection, is_wal
from dbsync.storage.platform import this_platform


def copied(live: Connection, target: Path) -> bool:
    """Copy the database of `live`, which has begun to write and has written nothing yet.

    The platform never opens the file in this process: opening and closing it here would drop the locks that the process
    has on it (sqlite.org/howtocorrupt.html, 2.2). Always to the end or not at all; the copy is not durable yet.

    Returns:
        Whether there is a copy. False: not this file system, or something about it does not hold; nothing is left.
    """
    source = _path_of(live)
    if source is None or not _stands_still(live, source):
        return False
    return this_platform().clone_file(source=source, target=target)


def _stands_still(live: Connection, source: Path) -> bool:
    """Return the file is all of the database, and stays as it is until `live` writes.

    With a write transaction nobody else can begin one. In WAL mode the file changes by checkpoints alone, and of an
    empty WAL there is nothing to take over; in the other modes only the holder of the lock writes, after its journal.
    """
    if not live.in_transaction:
        return False
    return _is_empty(Path(f"{source}-wal" if is_wal(live) else f"{source}-journal"))


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def _path_of(live: Connection) -> Path | None:
    file = str(live.execute("PRAGMA database_list").fetchone()[2] or "")
    return Path(file) if file else None
