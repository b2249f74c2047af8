"""Durable writes, hashes, free space: the access of dbsync to the file system.

Every durable write is: temporary file beside it, flush, fsync, rename, fsync of the folder. A final name means
finished. A process that dies in between leaves the old content under the final name, and perhaps a `.new-…` file
that the next write of the same name replaces.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from dbsync.errors import DiskFull, UnreadableFile, disk_problem, place_of
from dbsync.facts import Sha256
from dbsync.storage import file_calls
from dbsync.storage.platform import this_platform

if TYPE_CHECKING:
    from datetime import datetime
    from io import BufferedReader

NEW_FILE: Final = 0o644
"""Before the umask."""
READ_SIZE_BYTES: Final = 1 << 18
"""Fits into the cache of one core: four times as much took twice as long to copy."""

NEW: Final = ".new-"
"""Prefix of a file's name until it is written. A crash leaves such a file; the next write of that name replaces it."""


@contextmanager
def disk_errors(operation: str, path: Path) -> Iterator[None]:
    """A block of file calls whose failure is this operation's on this path: no OSError leaves it.

    Raises:
        DiskFull: there is no space.
        DiskProblem: anything else.
    """
    try:
        yield
    except OSError as cause:
        raise disk_problem(operation, path, cause) from cause


def new_file(path: Path, *, like: Path) -> int:
    """Make an empty file in place of any of that name and return it open; a link there is removed, never followed.

    A device of that name is opened.

    Args:
        path: the file.
        like: the file whose owner and rights it gets (`Platform.create`), mostly the database.

    Raises:
        OSError: it cannot be made.
    """
    try:
        return this_platform().create(path, like=like)
    except FileExistsError:
        kind = path.lstat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
            # A device, for example: it is written to, and stays what it is.
            return this_platform().open_binary(path, os.O_WRONLY, mode=0o600)
        file_calls.remove(path, missing_ok=False)
        return this_platform().create(path, like=like)


def make_empty(path: Path, *, like: Path) -> None:
    """Make an empty file, for SQLite to write, unless there is one; SQLite gives the files beside it the same rights.

    Raises:
        DiskProblem: it cannot be made.
    """
    with disk_errors("make", path), suppress(FileExistsError):
        os.close(this_platform().create(path, like=like))


def write_durably(path: Path, data: bytes, *, mode: int | None = None, like: Path | None = None) -> None:
    """Write `data` under `path` so that a power cut leaves the old content or the new, never a part.

    Args:
        path: the file.
        data: its whole content.
        mode: its mode, whatever the umask is, for a file that belongs to no database; without it the umask counts.
        like: the file whose owner and rights it gets instead.

    Raises:
        DiskFull: there is no space; the old content is unchanged.
        DiskProblem: the file cannot be written for another reason; the old content is unchanged.
    """
    temporary = path.with_name(f"{NEW}{path.name}")
    try:
        if like is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            descriptor = this_platform().open_binary(temporary, flags, mode=NEW_FILE if mode is None else mode)
        else:
            descriptor = new_file(temporary, like=like)
        try:
            _write_all(descriptor, data)
            if mode is not None:
                set_mode(temporary, mode)
            this_platform().sync_open(descriptor)
        finally:
            os.close(descriptor)
        replace(source=temporary, target=path)
    except OSError as cause:
        # The old content is still there. The temporary file takes space, and a lack of space may be the cause.
        file_calls.remove_if_possible(temporary)
        raise disk_problem("write", path, cause) from cause
    sync_folder(path.parent)


def set_mode(path: Path, mode: int) -> None:
    """Give a file or folder a mode, where the file system has modes; FAT has none, the mount decides there."""
    if stat.S_IMODE(path.stat().st_mode) != mode:
        with suppress(PermissionError):
            path.chmod(mode)


def write_json(path: Path, value: Any, *, like: Path | None = None) -> None:
    """Write a JSON document durably, keys sorted, one space of indent, so that people can read and compare it."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_durably(path, text.encode(), like=like)


def read_json(path: Path) -> Any:
    """Read a JSON document.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFile: the file is not JSON.
        DiskProblem: the file cannot be read now, which says nothing about its content.
    """
    try:
        return json.loads(file_calls.read_bytes(path))
    except FileNotFoundError:
        raise
    except OSError as cause:
        raise disk_problem("read", path, cause) from cause
    except (ValueError, RecursionError) as cause:
        raise UnreadableFile(operation="read", path=path, cause=str(cause)) from cause


def copy_bytes(
    *, source: Path, target: Path, told: Callable[[int, int], None] | None = None, like: Path | None = None
) -> None:
    """Copy a file to a new file as bytes; nothing is made durable, and a part of it may be left.

    Args:
        source: a file that no process writes.
        target: the new file; one that exists is replaced.
        told: receives the bytes done and in total.
        like: the file whose owner and rights it gets; without it, those of `source`.

    Raises:
        DiskFull: there is no space for `target`.
        DiskProblem: its `path` is the file that failed: `source` could not be read, or `target` not be written.
    """
    with disk_errors("read", source), file_calls.open_to_read(source) as kept:
        total_bytes, done_bytes = os.fstat(kept.fileno()).st_size, 0
        with disk_errors("write", target), os.fdopen(new_file(target, like=like or source), "wb") as copied:
            while chunk := _read_chunk(kept, source):
                copied.write(chunk)
                done_bytes += len(chunk)
                if told is not None:
                    told(done_bytes, total_bytes)


def _read_chunk(file: BinaryIO, path: Path) -> bytes:
    with disk_errors("read", path):
        return file.read(READ_SIZE_BYTES)


def replace(*, source: Path, target: Path) -> None:
    """Rename `source` over `target`; if a program that reads one of them blocks this, wait a few seconds for it."""
    this_platform().replace(source=source, target=target)


def rename_durably(*, source: Path, target: Path) -> None:
    """Rename a finished, synced file or folder to its final name and make the names durable.

    Raises:
        DiskProblem: the rename failed, and `source` is still there under its own name; or a folder could not be
            synced, and a power cut may undo the rename.
    """
    with disk_errors("rename", target):
        replace(source=source, target=target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def sync_file(path: Path) -> None:
    """Make a file's content durable. Only for files that this process does not have open through SQLite."""
    try:
        this_platform().sync_file(path)
    except OSError as cause:
        raise disk_problem("sync", path, cause) from cause


def sync_open(file: BinaryIO) -> None:
    """Make durable what was written to an open file, what it holds in memory included."""
    file.flush()
    this_platform().sync_open(file.fileno())


def sync_seen(path: Path) -> None:
    """Make a file's content durable that another process may have written; reading it is all that it takes.

    Raises:
        FileNotFoundError: there is no such file.
        DiskProblem: it may not be durable.
    """
    try:
        with file_calls.open_to_read(path) as file:
            this_platform().sync_seen(file.fileno(), path)
    except FileNotFoundError:
        raise
    except OSError as cause:
        raise disk_problem("sync", path, cause) from cause


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        DiskProblem: they may not be durable; a step that relies on it must end.
    """
    with disk_errors("sync", folder):
        this_platform().sync_folder(folder)


def sync_tree(folder: Path) -> None:
    """Make a whole folder durable: every file, then every folder from the innermost outwards.

    Raises:
        DiskProblem: a part of it may not be durable, or cannot be read.
    """

    def unreadable(cause: OSError) -> None:
        raise disk_problem("sync", place_of(cause, folder), cause) from cause

    for parent, _, names in os.walk(folder, topdown=False, onerror=unreadable):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                sync_file(path)
        sync_folder(Path(parent))


def append_line(path: Path, line: str, *, like: Path | None = None) -> None:
    """Append one line in one write and make it durable; a crash leaves a torn last line, which readers skip.

    `like` is the file whose owner and rights a new file gets; then a link of that name is not followed.
    """
    try:
        descriptor = _opened_to_append(path, like)
        try:
            is_new = os.lseek(descriptor, 0, os.SEEK_END) == 0
            start = b"" if is_new or _ends_with_newline(descriptor) else b"\n"
            _write_all(descriptor, start + line.encode() + b"\n")
            this_platform().sync_open(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(path.parent)
    except OSError as cause:
        raise disk_problem("append", path, cause) from cause


def _opened_to_append(path: Path, like: Path | None) -> int:
    flags = os.O_RDWR | os.O_APPEND
    if like is None:
        return this_platform().open_binary(path, flags | os.O_CREAT, mode=0o644)
    with suppress(FileExistsError):
        os.close(this_platform().create(path, like=like))
    return this_platform().open_own(path, flags, like=like)


def is_there(path: Path) -> bool:
    """Return whether a file or folder of that name exists.

    Raises:
        DiskProblem: this user cannot determine it. `Path.exists` raises or returns false then, by Python's version.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as cause:
        raise disk_problem("look at", path, cause) from cause
    return True


def nearest_folder(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    while not is_there(path):
        path = path.parent
    return path


def make_folder(folder: Path, *, like: Path | None = None) -> None:
    """Make a folder and those above it, durably; do nothing if it exists.

    `like` is the file whose owner and rights they get (`Platform.create_folder`).

    Raises:
        DiskProblem: the folder cannot be made.
    """
    try:
        if folder.is_dir():
            return
        missing = [folder]
        while not missing[-1].parent.is_dir():
            missing.append(missing[-1].parent)
        for made in reversed(missing):
            _make_one_folder(made, like)
            sync_folder(made.parent)
    except OSError as cause:
        raise disk_problem("make", folder, cause) from cause


def _make_one_folder(folder: Path, like: Path | None) -> None:
    try:
        if like is None:
            folder.mkdir()
        else:
            this_platform().create_folder(folder, like=like)
    except FileExistsError:
        if not folder.is_dir():
            raise


def listed(folder: Path, pattern: str) -> list[Path]:
    """Return the entries of a folder whose names match a pattern; empty if there is no such folder.

    Raises:
        DiskProblem: the folder cannot be read, which `Path.glob` ignores.
    """
    import fnmatch

    try:
        found = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as cause:
        raise disk_problem("read", folder, cause) from cause
    return [path for path in found if fnmatch.fnmatchcase(path.name, pattern)]


def free_bytes(path: Path) -> int:
    """Return the free space for this user, in bytes, on the file system of the nearest folder that exists."""
    folder = nearest_folder(path)
    try:
        return this_platform().free_bytes(folder)
    except OSError as cause:
        raise disk_problem("measure free space", folder, cause) from cause


def keep_free(folder: Path, *, operation: str, ahead_bytes: int, reserve_bytes: int) -> None:
    """Refuse to write on a disk that would have less than its reserve free afterwards.

    Args:
        folder: the folder that is written.
        operation: what writes, for the message.
        ahead_bytes: what is written until this is asked again.
        reserve_bytes: what stays free for everything else on the disk.

    Raises:
        DiskFull: there is too little; nothing was written.
    """
    free = free_bytes(folder)
    if free < ahead_bytes + reserve_bytes:
        cause = f"{free / 1e6:.1f} MB are free, and {reserve_bytes / 1e6:.1f} MB stay free for the till"
        raise DiskFull(operation=operation, path=folder, cause=cause)


def size_of(*paths: Path) -> int:
    """Return the size of these files together, in bytes; a missing file, or one removed meanwhile, counts as 0."""
    size_bytes = 0
    for path in paths:
        try:
            size_bytes += path.stat().st_size
        except FileNotFoundError:
            continue
        except OSError as cause:
            raise disk_problem("measure", path, cause) from cause
    return size_bytes


def sha256_of(path: Path) -> Sha256:
    """Return the SHA-256 of a file, in hex.

    Never for a database that this process has open: opening and closing the file drops the process's POSIX locks
    (sqlite.org/howtocorrupt.html, 2.2).
    """
    with disk_errors("read", path), file_calls.open_to_read(path) as file:
        return sha256_of_open(file, path)


def sha256_of_open(file: BufferedReader, path: Path) -> Sha256:
    """Return the SHA-256 of a file of that path that the caller has open, and closes, from its beginning."""
    import hashlib

    with disk_errors("read", path):
        file.seek(0)
        return Sha256(hashlib.file_digest(file, "sha256").hexdigest())


def state_of(path: Path) -> tuple[int, int]:
    """Return size and time of the last write: if they are the same later, nobody has written the file since.

    Raises:
        DiskProblem: this user cannot determine them.
    """
    with disk_errors("look at", path):
        found = path.stat()
    return found.st_size, found.st_mtime_ns


def random_name() -> str:
    """Return sixteen hex digits, random enough never to have been used before."""
    return os.urandom(8).hex()


def utc_stamp(now: datetime) -> str:
    """Return a time for a file name: `2024-01-15T10-30-00-444Z` (UTC, milliseconds, no colons; requirement S100)."""
    from datetime import UTC

    moment = now.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H-%M-%S}-{moment.microsecond // 1000:03d}Z"


def utc_text(now: datetime) -> str:
    """Return a time in the form of records: `2024-01-15T10:30:00.444Z`."""
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write_all(descriptor: int, data: bytes) -> None:
    # os.write may write less than it was given, for instance on a full disk; the rest would be lost silently.
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _ends_with_newline(descriptor: int) -> bool:
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1) == b"\n"
