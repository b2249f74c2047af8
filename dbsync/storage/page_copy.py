"""Copies of a whole database in steps, in one transaction of the target, with an end if the copy is blocked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dbsync.errors import Locked
from dbsync.progress import Told, Unit
from dbsync.storage.connections import Connection, page_size_of, pages_of

COPY_PAGES: Final = 4096
"""Pages per step of a copy; steps cost nothing measurable and allow progress, a deadline and an end."""
OVER_CACHE_KILOBYTES: Final = 16_000
"""Cache for a copy over a live database. Each time it is full its journal is synced: 2 MB, the default, took a quarter
longer, and 64 MB were no faster."""
COPY_STALL_SECONDS: Final = 60.0
"""A copy without a step for so long is ended: SQLite itself would retry a locked source forever."""
COPY_AGAIN_COUNT: Final = 20
"""How often a copy begins again because another process wrote, before it is given up as locked."""


_READING: Final = frozenset(
    (
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
        sqlite3.SQLITE_IOERR_DATA,
    )
)
_WRITING: Final = frozenset((sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN))


def is_of_new_target(error: sqlite3.Error) -> bool:
    """Return whether a copy into a new file failed because of that file, and not because of its source.

    SQLite reports one error for both. A new file has nothing to read; of the source nothing is written.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(code, int):
        return False
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        return code not in _READING
    return code & 0xFF in _WRITING


def copy_over(
    source: Connection,
    live: Connection,
    *,
    told: Told,
    seconds: Callable[[], float],
    held: Callable[[], None] | None = None,
) -> None:
    """Copy a whole database over a live one, as `copy` does; the live database gets the page size of the source."""
    live.execute(f"PRAGMA cache_size=-{OVER_CACHE_KILOBYTES}").fetchall()
    if page_size_of(source) != page_size_of(live):
        # The page size of a WAL database cannot change (sqlite.org/pragma.html#pragma_page_size).
        live.execute("PRAGMA journal_mode=DELETE").fetchall()
    copy(source, live, told=told, seconds=seconds, held=held)


def copy(
    source: Connection,
    target: Connection,
    *,
    told: Told,
    seconds: Callable[[], float],
    held: Callable[[], None] | None = None,
) -> None:
    """Copy a whole database in steps, in one transaction of the target; `told` gets the bytes done and in total.

    `held` is called once when the target is locked and nothing is committed, and may end the copy by an error. For a
    source of one page it is called too late.

    `Connection.backup` retries a locked step forever, and begins again after each write of another process to a
    database in rollback mode; only its callback can end it.
    """
    page_bytes = page_size_of(source)
    # The last step commits: a database smaller than one step is copied in two.
    pages = COPY_PAGES if held is None else min(COPY_PAGES, max(1, pages_of(source) // 2))
    last: list[float | int] = [seconds(), -1]
    again, is_held = 0, False

    def step(status: int, remaining: int, total: int) -> None:
        nonlocal again, is_held
        if held is not None and not is_held and status == sqlite3.SQLITE_OK:
            is_held = True
            held()
        again += remaining > last[1] >= 0
        if again > COPY_AGAIN_COUNT:
            cause = f"it was written {again} times while it was copied"
            raise Locked(
                operation="copy",
                path=_path_of(source),
                cause=cause,
                hint="Try again in a quieter hour; in WAL mode nobody waits.",
            )
        if remaining != last[1]:
            last[0], last[1] = seconds(), remaining
            told((total - remaining) * page_bytes, total * page_bytes, unit=Unit.BYTES)
        elif seconds() - last[0] > COPY_STALL_SECONDS:
            cause = f"no page could be copied for {COPY_STALL_SECONDS:.0f} seconds"
            raise Locked(operation="copy", path=_path_of(source), cause=cause)

    source.backup(target, pages=pages, progress=step, sleep=0.05)


def _path_of(connection: Connection) -> Path | None:
    name = str(connection.execute("PRAGMA database_list").fetchone()[2])
    return Path(name) if name else None
