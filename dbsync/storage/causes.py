"""Which errors lie in this machine, and which in a release and its data: one table for SQLite's codes, one for files.

A cause of the machine (its disk, memory, locks, temporary folder) is retried. Only a cause that lies in the release and
the data that it meets is held against the release: it comes again however often the release is tried.
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

from dbsync.errors import (
    Damaged,
    DiskFull,
    DiskProblem,
    Failed,
    Locked,
    NoMemory,
    ReadOnly,
    TillkeeperError,
    TryLater,
    Unparsed,
    disk_problem_kind,
)
from dbsync.storage.missing_parts import unparsed_of

PRIMARY: Final[dict[int, type[TillkeeperError] | None]] = {
    sqlite3.SQLITE_ERROR: None,
    sqlite3.SQLITE_INTERNAL: None,
    sqlite3.SQLITE_PERM: ReadOnly,
    sqlite3.SQLITE_ABORT: None,
    sqlite3.SQLITE_BUSY: Locked,
    sqlite3.SQLITE_LOCKED: Locked,
    sqlite3.SQLITE_NOMEM: NoMemory,
    sqlite3.SQLITE_READONLY: ReadOnly,
    sqlite3.SQLITE_INTERRUPT: None,
    sqlite3.SQLITE_IOERR: DiskProblem,
    sqlite3.SQLITE_CORRUPT: Damaged,
    sqlite3.SQLITE_NOTFOUND: None,
    sqlite3.SQLITE_FULL: DiskFull,
    sqlite3.SQLITE_CANTOPEN: ReadOnly,
    sqlite3.SQLITE_PROTOCOL: Locked,
    sqlite3.SQLITE_EMPTY: None,
    sqlite3.SQLITE_SCHEMA: None,
    sqlite3.SQLITE_TOOBIG: None,
    sqlite3.SQLITE_CONSTRAINT: None,
    sqlite3.SQLITE_MISMATCH: None,
    sqlite3.SQLITE_MISUSE: None,
    sqlite3.SQLITE_NOLFS: DiskProblem,
    sqlite3.SQLITE_AUTH: None,
    sqlite3.SQLITE_FORMAT: None,
    sqlite3.SQLITE_RANGE: None,
    sqlite3.SQLITE_NOTADB: Damaged,
    sqlite3.SQLITE_NOTICE: None,
    sqlite3.SQLITE_WARNING: None,
}
"""Our class for each primary code of SQLite (sqlite.org/rescode.html); None: it lies in the statement and its data."""
EXTENDED: Final[dict[int, type[TillkeeperError]]] = {
    # On a full disk the shared memory file of a WAL database cannot grow, and SQLite does not report "full".
    sqlite3.SQLITE_IOERR_SHMSIZE: DiskFull,
    sqlite3.SQLITE_IOERR_NOMEM: NoMemory,
    # The folder of SQLite's temporary files, not that of the database.
    sqlite3.SQLITE_CANTOPEN_NOTEMPDIR: DiskProblem,
}
"""The extended codes that mean something else than their primary code."""
OF_THE_STATEMENT: Final = frozenset(
    (
        # Two statements of one connection are in each other's way: without a shared cache no other process is involved.
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_LOCKED_VTAB,
        # A virtual table does not fit its content, as after a wrong 'delete' into a search index; its pages are sound.
        sqlite3.SQLITE_CORRUPT_VTAB,
    )
)
"""Codes that lie in the statement where one of a release has raised them, and in the machine or the file elsewhere."""

OF_THE_RELEASE: Final = frozenset(
    getattr(errno, name)
    for name in (
        "E2BIG", "EADDRNOTAVAIL", "EAFNOSUPPORT", "EALREADY", "EBADF", "EBADMSG", "EBADR", "EBADRQC", "EBADSLT",
        "ECHILD", "EDESTADDRREQ", "EDOM", "EEXIST", "EFAULT", "EILSEQ", "EINVAL", "EISCONN", "EISDIR", "ELOOP",
        "EMSGSIZE", "ENAMETOOLONG", "ENOENT", "ENOEXEC", "ENOPROTOOPT", "ENOSYS", "ENOTCONN", "ENOTDIR", "ENOTEMPTY",
        "ENOTSOCK", "ENOTSUP", "ENOTTY", "EOPNOTSUPP", "EOVERFLOW", "EPIPE", "EPROTONOSUPPORT", "EPROTOTYPE", "ERANGE",
        "ESOCKTNOSUPPORT", "ESPIPE", "ESRCH", "EXDEV",
    )
    if hasattr(errno, name)
)  # fmt: skip
"""Errors of files that code raises by what it asks for. Every other one is a device, a right, a limit or a network."""


def kind_of(error: BaseException) -> type[TillkeeperError] | None:
    """Return our class for an error of SQLite; None if it lies in the statement and its data."""
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(code, int):
        return None
    if code == sqlite3.SQLITE_CORRUPT and unparsed_of(error) is not None:
        return Unparsed
    return EXTENDED.get(code) or PRIMARY.get(code & 0xFF)


def raised_as(error: BaseException, otherwise: type[TillkeeperError]) -> type[TillkeeperError]:
    """Return the class to raise for an error of SQLite in a step; `otherwise`: for one that lies in the statement.

    Where `otherwise` is the failure of a release's own statements, a few codes lie in them too.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code in OF_THE_STATEMENT and issubclass(otherwise, Failed):
        return otherwise
    return kind_of(error) or otherwise


def of_this_machine(error: BaseException) -> type[TillkeeperError] | None:
    """Return our class for an exception of a release's code that lies in this machine; None if it lies in the code."""
    if isinstance(error, MemoryError):
        return NoMemory
    if isinstance(error, OSError):
        known = error.errno is not None and error.errno not in OF_THE_RELEASE
        return disk_problem_kind(error) if known else None
    if isinstance(error, sqlite3.Error):
        kind = raised_as(error, Failed)
        return kind if issubclass(kind, TryLater) else None
    return None
