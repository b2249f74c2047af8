"""Connections to SQLite: the only module that opens them and translates SQLite's errors into ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from stat import S_ISDIR
from typing import Final

from dbsync.errors import (
    Damaged,
    DiskProblem,
    Locked,
    Missing,
    NoMemory,
    ReadOnly,
    TillkeeperError,
    TryLater,
    encodable,
)
from dbsync.facts import Facts, SchemaNumber, State
from dbsync.storage import file_calls
from dbsync.storage.files import is_there, make_empty

Connection = sqlite3.Connection
Cursor = sqlite3.Cursor
Row = tuple[object, ...]

LIBRARY_VERSION: Final = sqlite3.sqlite_version
"""The version of SQLite itself, which may explain a problem."""
LOOK_TIMEOUT_SECONDS: Final = 2.0
WRITE_TIMEOUT_SECONDS: Final = 10.0
HISTORY: Final = "dbsync_history"
READABLE: Final = "schema_version"
_REFUSED: Final = "CHECK constraint failed in "
"""The beginning of SQLite's finding on a row, before the name of the table."""
_EVERY_FINDING: Final = 2**31 - 1


class Thoroughness(StrEnum):
    """The checks of SQLite for a sound database; the value is the name of its pragma.

    The quick one does not compare indexes with their tables, nor the order of an index: pages of an index that were
    exchanged pass it. The full one takes about ten times as long (sqlite.org/pragma.html#pragma_integrity_check).
    """

    QUICK = "quick_check"
    """While a till waits."""
    FULL = "integrity_check"
    """Wherever no till waits."""
    PAGES = "pages"
    """For a schema that this SQLite cannot parse as a whole: the pages of objects that it can, and the free ones."""


def kind_of(error: BaseException) -> type[TillkeeperError] | None:
    """Return our class for an error of SQLite; None if it lies in the statement and its data (`storage.causes`)."""
    # Not loaded at a start at which nothing fails.
    from dbsync.storage import causes

    return causes.kind_of(error)


def attempted(connection: Connection, work: Callable[[], object]) -> sqlite3.Error | None:
    """Do work in the open transaction, all or nothing; return the error if SQLite refuses its statements or data.

    Raises:
        sqlite3.Error: the machine failed.
    """
    connection.execute("SAVEPOINT attempt")
    refused = None
    try:
        work()
    except sqlite3.Error as error:
        if kind_of(error) is not None:
            raise
        connection.execute("ROLLBACK TO attempt")
        refused = error
    connection.execute("RELEASE attempt")
    return refused


@contextmanager
def translated(operation: str, path: Path, *, otherwise: type[TillkeeperError] = DiskProblem) -> Iterator[None]:
    """Translate errors of SQLite into ours; text that is not UTF-8, in a damaged file, raises UnicodeDecodeError."""
    try:
        yield
    except sqlite3.Error as error:
        cause = str(error)
        if cause.startswith("malformed database schema"):
            from dbsync.storage import missing_parts

            unparsed = missing_parts.unparsed_of(error)
            cause = unparsed.in_words if unparsed is not None else cause
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            cause += ": it is something else, its beginning is damaged, or it is encrypted"
        from dbsync.storage import causes

        raise causes.raised_as(error, otherwise)(operation=operation, path=path, cause=cause) from error
    except MemoryError as error:
        # Python's module raises it in place of SQLITE_NOMEM.
        raise NoMemory(operation=operation, path=path, cause="there is not enough memory") from error
    except UnicodeDecodeError as error:
        raise Damaged(operation=operation, path=path, cause="its schema is not readable text") from error


# ---------------------------------------------------------------------------------------------------------- opening


def open_writing(path: Path, *, create: bool = False, like: Path | None = None, tolerant: bool = False) -> Connection:
    """Return a connection for a migration or a restore.

    With `create`, a missing file is made first, with the owner and the rights of `like`; without that, the folder's.
    With `tolerant`, it changes no schema, and works beside what this SQLite cannot parse (`tolerate`).

    Foreign keys are off before any transaction: inside one the pragma does nothing, and a table's rebuild would delete
    its children (sqlite.org/lang_altertable.html, 7). EXTRA, because FULL can lose an acknowledged commit in rollback
    journal mode (sqlite.org/pragma.html#pragma_synchronous).
    """
    if create:
        make_empty(path, like=like or path)
    connection = _connect(path, "rwc" if create else "rw", timeout_seconds=WRITE_TIMEOUT_SECONDS)
    try:
        connection.execute("PRAGMA foreign_keys=OFF")
        if tolerant:
            tolerate(connection)
        connection.execute("PRAGMA synchronous=EXTRA")
        # macOS alone leaves what it syncs in the disk's cache without them (sqlite.org/pragma.html#pragma_fullfsync).
        connection.execute("PRAGMA fullfsync=1")
        connection.execute("PRAGMA checkpoint_fullfsync=1")
        connection.execute("PRAGMA secure_delete=FAST").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def open_reading(path: Path) -> Connection:
    """Return a connection to a live database that writes nothing; it reads the WAL and recovers a hot journal."""
    connection = _connect(path, "rw", timeout_seconds=LOOK_TIMEOUT_SECONDS)
    connection.execute("PRAGMA query_only=ON")
    return connection


def open_untouched(path: Path) -> Connection:
    """Return a connection that changes no byte on the disk, not even by SQLite's own recovery.

    This reads the file's first bytes itself: never for a database that this process has open (`files.sha256_of`).

    Raises:
        sqlite3.OperationalError: it cannot be read without recovery; no process has it open then, and its files can
            be copied.
    """
    beside = [path.with_name(path.name + ending).exists() for ending in ("-wal", "-shm")]
    writes_ahead = is_wal_file(path)
    if writes_ahead and not beside[0]:
        # No process has it open: opening it would make both files.
        return _readable(_connect(path, "ro&immutable=1", timeout_seconds=0))
    if writes_ahead:
        try:
            return _readable(_connect(path, "ro&readonly_shm=1", timeout_seconds=LOOK_TIMEOUT_SECONDS))
        except sqlite3.OperationalError:
            if not beside[1]:
                raise
            # Another process has it open, and the `-shm` has no free read mark: this reader must not write one.
    return _readable(_connect(path, "ro", timeout_seconds=LOOK_TIMEOUT_SECONDS))


class _Recovered(sqlite3.Connection):
    """A connection to a copy in a temporary folder, which is removed as it is closed."""

    folder: Path | None = None

    def close(self) -> None:
        """Close the connection and remove the copy."""
        super().close()
        if self.folder is not None:
            file_calls.remove_tree_if_possible(self.folder)


def open_undisturbed(path: Path) -> Connection:
    """Return a connection to a live database that changes nothing on the disk: neither it nor a file beside it.

    A database that only SQLite's recovery can read, after a crash, is copied into the temporary folder, with the files
    beside it, and recovered there; no process has it open then. See `open_untouched` for what must not be open.

    Raises:
        Missing: there is no such database.
        DiskFull: there is no space for the copy.
        Locked: the database was opened while it was copied.
    """
    if not is_there(path):
        raise _missing(path)
    try:
        return open_untouched(path)
    except sqlite3.OperationalError as error:
        if kind_of(error) is not ReadOnly:
            raise
    import tempfile

    from dbsync.storage.copied_files import copy_files

    folder = Path(tempfile.mkdtemp())
    try:
        copied = copy_files(database=path, folder=folder)
        address = f"{copied.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=0, factory=_Recovered)
        connection.folder = folder
        try:
            _readable(connection)
            connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
    except BaseException:
        file_calls.remove_tree_if_possible(folder)
        raise
    return connection


def _readable(connection: Connection) -> Connection:
    try:
        # It reads the header, for which the schema need not be parsed.
        connection.execute("PRAGMA schema_version").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def tolerate(connection: Connection) -> str:
    """Let a connection that changes no schema work with a schema that this SQLite can parse in part only.

    Returns:
        A sentence on what it cannot parse, with the version of SQLite; empty if it can parse all of it.

    Raises:
        sqlite3.Error: the database cannot be read for another reason.
    """
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.DatabaseError as error:
        from dbsync.storage import missing_parts

        return missing_parts.tolerate(connection, error)
    return ""


def is_tolerant(connection: Connection) -> bool:
    """Return whether a connection passes over a part of its schema (`tolerate`)."""
    return bool(connection.execute("PRAGMA writable_schema").fetchone()[0])


def open_copy(path: Path) -> Connection:
    """Return a connection to a finished copy that no process writes: no locks, and no files beside it."""
    return _connect(path, "ro&immutable=1", timeout_seconds=0)


def open_scratch(path: Path | None = None, *, like: Path | None = None) -> Connection:
    """Return a connection to a throw-away database: in memory, or in a file if it may be large.

    A missing file gets the owner and the rights of `like`; without that, the folder's owner.
    """
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None, uri=True)
    make_empty(path, like=like or path)
    connection = _connect(path, "rwc", timeout_seconds=0)
    connection.execute("PRAGMA synchronous=OFF")
    # With a journal, in a file: without one a failed statement leaves half of its rows, and ROLLBACK TO does nothing,
    # silently (sqlite.org/pragma.html#pragma_journal_mode); in memory it may be as large as the database.
    connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    connection.execute("PRAGMA secure_delete=FAST").fetchall()
    return connection


def open_temporary() -> Connection:
    """Return a connection to a database in an unnamed file, removed when it is closed (sqlite.org/inmemorydb.html)."""
    return sqlite3.connect("", isolation_level=None)


def _connect(path: Path, mode: str, *, timeout_seconds: float) -> Connection:
    if mode == "rw" and not is_there(path):
        raise _missing(path)
    address = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=timeout_seconds)


def _missing(path: Path) -> Missing:
    return Missing(operation="open", path=path, cause="there is no such file")


def attach_copy(connection: Connection, path: Path, name: str) -> None:
    """Attach a finished copy for a comparison; this works inside a transaction, detaching only after it."""
    connection.execute(f"ATTACH ? AS {name}", (f"{path.absolute().as_uri()}?mode=ro&immutable=1",))


def attach_scratch(connection: Connection, path: Path, name: str) -> None:
    """Attach a new throw-away file, for rows on their way; it may become as large as the database."""
    connection.execute(f"ATTACH ? AS {name}", (f"{path.absolute().as_uri()}?mode=rwc",))
    connection.execute(f"PRAGMA {name}.synchronous=OFF")
    # Its pages are new, so there is little to keep of them; with a file, COMMIT would need a journal over both.
    connection.execute(f"PRAGMA {name}.journal_mode=MEMORY").fetchall()


# ---------------------------------------------------------------------------------------------------------- looking


def look(
    path: Path, *, had_data: Callable[[], str] = str, opened: Callable[[Path], Connection] = open_reading
) -> Facts:
    """Return the facts of one cheap look at a database, which creates nothing; only SQLite's recovery may write.

    Args:
        path: the database.
        had_data: called only if the database is missing or empty; returns the traces of an earlier one, in words.
        opened: opens the database.
    """
    try:
        found = path.stat()
        if S_ISDIR(found.st_mode):
            return Facts(State.UNREADABLE, detail="it is a folder")
        if found.st_size == 0 and (left := _left_beside(path)):
            # Not opened: SQLite removes the log of an empty database.
            return Facts(State.EMPTY, detail=left, had_data=True)
    except FileNotFoundError:
        traces = _left_beside(path) or had_data()
        return Facts(State.MISSING, detail=traces, had_data=bool(traces))
    except OSError as cause:
        return Facts(State.UNAVAILABLE, detail=encodable(f"{path}: {cause.strerror or cause}"))
    except TillkeeperError as error:
        return Facts(State.UNAVAILABLE, detail=error.located)
    facts = _looked(path, had_data, opened)
    # SQLite also calls a file damaged of which one page could not be read once: what is damaged is so the next time.
    return _looked(path, had_data, opened) if facts.state is State.UNREADABLE else facts


def _looked(path: Path, had_data: Callable[[], str], opened: Callable[[Path], Connection]) -> Facts:
    try:
        with translated("look at", path), closing(opened(path)) as connection:
            return _facts(connection, had_data)
    except Locked as error:
        return Facts(State.LOCKED, detail=error.located)
    except TryLater as error:
        return Facts(State.UNAVAILABLE, detail=error.located)
    except TillkeeperError as error:
        return Facts(State.UNREADABLE, detail=error.cause)


def _left_beside(path: Path) -> str:
    from dbsync.storage import side_files

    return side_files.data_in_words(path)


def _facts(connection: Connection, had_data: Callable[[], str]) -> Facts:
    unparsed = tolerate(connection)
    version = SchemaNumber(int(connection.execute("PRAGMA user_version").fetchone()[0]))
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables and version == 0:
        traces = had_data()
        return Facts(State.EMPTY, detail=traces, had_data=bool(traces))
    if HISTORY not in tables:
        if READABLE not in tables or version == 0:
            what = f"it has {len(tables)} tables, user_version {version} and no history that says how it came to it"
            return Facts(State.UNTRACKED, version, detail=what, unparsed=unparsed)
        return Facts(State.OK, version, unparsed=unparsed)
    trial = connection.execute(
        f"SELECT trial_id, release_id FROM {HISTORY} WHERE kind = 'trial' ORDER BY sequence DESC LIMIT 1"
    ).fetchone() or (None, None)
    readable = connection.execute(
        f"SELECT readable_from FROM {HISTORY} WHERE number = ? AND readable_from IS NOT NULL ORDER BY sequence DESC",
        (version,),
    ).fetchone()
    return Facts(State.OK, version, readable[0] if readable else None, trial[0], trial[1], unparsed=unparsed)


def keeps_temporary_files() -> bool:
    """Return whether SQLite makes temporary files at all, and does not keep them in memory (`SQLITE_TEMP_STORE`)."""
    with closing(sqlite3.connect(":memory:")) as connection:
        options = {str(row[0]) for row in connection.execute("PRAGMA compile_options")}
    return not options & {"TEMP_STORE=2", "TEMP_STORE=3"}


def is_wal(connection: Connection) -> bool:
    """Return whether a database is in WAL mode, without changing anything."""
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0]).lower() == "wal"


def is_wal_file(path: Path) -> bool:
    """Return whether a file that this process does not have open is in WAL mode, by its header.

    See sqlite.org/fileformat.html, 1.3.3.

    Raises:
        DiskProblem: the file cannot be read.
    """
    try:
        with file_calls.open_to_read(path) as file:
            return file.read(20)[18:] == b"\2\2"
    except OSError as cause:
        raise DiskProblem(operation="read", path=path, cause=cause.strerror or str(cause)) from cause


def page_size_of(connection: Connection) -> int:
    """Return the size of a database's pages, in bytes."""
    return int(connection.execute("PRAGMA page_size").fetchone()[0])


def pages_of(connection: Connection) -> int:
    """Return the number of pages of a database."""
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


def possible_check(connection: Connection, wanted: Thoroughness) -> Thoroughness:
    """Return the check that runs when this one is wanted: the full one needs every collation and function of the app.

    It compares the values of every index, so it cannot be compiled without them.
    """
    if tolerate(connection):
        return Thoroughness.PAGES
    if wanted is not Thoroughness.FULL:
        return Thoroughness.QUICK
    try:
        connection.execute("EXPLAIN PRAGMA main.integrity_check(5)").fetchall()
    except sqlite3.OperationalError as error:
        if kind_of(error) is None:
            return Thoroughness.QUICK
        raise
    return wanted


def check_soundness(connection: Connection, thoroughness: Thoroughness = Thoroughness.QUICK) -> str | None:
    """Return the findings of a check in one sentence; None if there are none. See `possible_check`.

    The quick check compares no values, so it also runs where a function or collation of the app is missing. A row that
    a CHECK constraint refuses is no damage, and a connection that may only read does not see it: see `refused_rows`.
    """
    found = findings_of(connection, thoroughness)
    if any(finding.startswith(_REFUSED) for finding in found):
        # Only so many findings are listed: damage may come after these.
        connection.execute("PRAGMA ignore_check_constraints=ON")
        try:
            found = findings_of(connection, thoroughness)
        finally:
            connection.execute("PRAGMA ignore_check_constraints=OFF")
    return "; ".join(found) if found else None


def findings_of(connection: Connection, thoroughness: Thoroughness) -> list[str]:
    """Return the findings of a check, rows that a CHECK constraint refuses included; the first five."""
    check = possible_check(connection, thoroughness)
    if check is Thoroughness.FULL:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA main.{check}(5)")]
        return [] if found == ["ok"] else found
    from dbsync.storage import missing_parts

    # The pages of objects that are not known count as unused: all findings, and not the first five.
    quick = "PRAGMA main.quick_check" + ("(5)" if check is Thoroughness.QUICK else f"({pages_of(connection) + 1})")
    with missing_parts.stand_ins(connection, quick):
        found = [str(row[0]) for row in connection.execute(quick)]
    if check is Thoroughness.PAGES:
        return missing_parts.without_unused(found)
    return [] if found == ["ok"] else found


def refused_rows(connection: Connection) -> dict[str, int]:
    """Return how many rows of each table its own CHECK constraints refuse; only for a connection that may write."""
    from dbsync.storage import missing_parts

    counts: dict[str, int] = {}
    quick = f"PRAGMA main.quick_check({_EVERY_FINDING})"
    with missing_parts.stand_ins(connection, quick):
        for (finding,) in connection.execute(quick):
            if finding.startswith(_REFUSED):
                table = finding.removeprefix(_REFUSED)
                counts[table] = counts.get(table, 0) + 1
    return counts
