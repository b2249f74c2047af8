"""File copies that share their blocks, where the file system can (btrfs, XFS): instant, and only where it is safe.

A database file may be copied as a file only while it is the whole database and no process can write it
(sqlite.org/howtocorrupt.html, 1.2). Why both hold here: docs/decisions/0014.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from dbsync.errors import TillkeeperError
from dbsync.storage.connections import Connection, is_wal, open_writing
from dbsync.storage.files import make_empty
from dbsync.storage.platform import this_platform


def copied(live: Connection, target: Path) -> bool:
    """Copy the database of `live`, which has begun a write transaction and has written nothing yet.

    The platform never opens the file in this process: opening and closing it here would drop the locks that the process
    has on it (sqlite.org/howtocorrupt.html, 2.2). The copy is complete or absent; it is not durable yet.

    Returns:
        Whether there is a copy. False: the file system cannot do it, or it is not safe now; nothing is left.
    """
    source = standing_still(live)
    if source is None:
        return False
    # `cp` would make it with this process's owner and umask; it writes over what is there.
    make_empty(target, like=source)
    return this_platform().clone_file(source=source, target=target)


def copied_in_use(*, source: Path, target: Path) -> bool:
    """Copy a database that others may use, and hold its write lock for that time alone: milliseconds, of any size.

    The conditions, and the copy, are those of `copied`. A crash here leaves the lock to the system, and a part that the
    next run clears.

    Returns:
        Whether there is a copy. False also if another process writes all the time; then nothing is left.
    """
    try:
        with closing(open_writing(source, tolerant=True)) as live:
            live.execute("BEGIN IMMEDIATE")
            try:
                return copied(live, target)
            finally:
                live.execute("ROLLBACK")
    except (sqlite3.Error, TillkeeperError):
        # Whatever it is, the copy of pages meets it too, and says it.
        return False


def standing_still(live: Connection) -> Path | None:
    """Return the path of the database if its file is all of it, and stays unchanged until `live` writes; else None.

    While `live` has a write transaction, no other connection can begin one. In WAL mode only checkpoints change the
    file, and an empty WAL has nothing to checkpoint. In the other modes only the holder of the lock writes, after its
    journal.
    """
    source = _path_of(live)
    if source is None or not live.in_transaction:
        return None
    return source if _is_empty(Path(f"{source}-wal" if is_wal(live) else f"{source}-journal")) else None


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def _path_of(live: Connection) -> Path | None:
    file = str(live.execute("PRAGMA database_list").fetchone()[2] or "")
    return Path(file) if file else None
