"""What is found out before anything is touched: space, folders that cannot be written, another program on the file."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Final

from dbsync import disk
from dbsync.errors import DiskFull, NetworkDrive, ReadOnly
from dbsync.sqlite import is_wal, open_writing, translated, version_of

LEAST_FREE_BYTES: Final = 50_000_000
"""Free space below which no migration starts, however small the database (spec A4)."""
BACKUP_FACTOR: Final = 1.0
JOURNAL_FACTOR: Final = 1.5
"""Journal or WAL of a rebuild (measured up to 1.1 of the database) and what the database grows by."""


NETWORK_KINDS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "davfs", "fuse.davfs2", "fuse.sshfs"})
MOUNTS: Final = Path("/proc/self/mounts")


def check_space(database: Path, backups: Path, *, least_free_bytes: int = LEAST_FREE_BYTES) -> None:
    """Refuses with numbers what would fill the disk: 2.5 times the database, or the least.

    Raises:
        DiskFull: database size, required and available space are in its cause.
    """
    size_bytes = sum(one.stat().st_size for one in (database, Path(f"{database}-wal")) if one.exists())
    wanted = {database.parent: JOURNAL_FACTOR, backups: BACKUP_FACTOR}
    if _device(database.parent) == _device(backups):
        wanted = {database.parent: JOURNAL_FACTOR + BACKUP_FACTOR}
    for folder, factor in wanted.items():
        required_bytes = max(least_free_bytes, int(factor * size_bytes))
        available_bytes = disk.free_bytes(folder)
        if available_bytes < required_bytes:
            cause = (
                f"Database {size_bytes / 1e6:.1f} MB, required {required_bytes / 1e6:.1f}, "
                f"available {available_bytes / 1e6:.1f}"
            )
            raise DiskFull(operation="start the migration", path=folder, cause=cause)


def check_local(database: Path, mounts: Path = MOUNTS) -> None:
    """Refuses a database on a network file system, where two machines could write it at once (spec A5).

    Only where the system lists its mounts as Linux does; elsewhere nothing is known and nothing is refused.

    Raises:
        NetworkDrive: with the kind of file system.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    kind = file_system_of(Path(os.path.realpath(database)), lines)
    if kind in NETWORK_KINDS:
        raise NetworkDrive(operation="migrate", path=database, cause=f"it lies on a network file system ({kind})")


def file_system_of(path: Path, lines: list[str]) -> str:
    """The kind of file system of a path, by lines like those of /proc/self/mounts: the longest mount point wins."""
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = Path(fields[1].replace("\\040", " ").replace("\\011", "\t"))
        if path.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), fields[2]
    return kind


def check_writable(folder: Path) -> None:
    """Refuses a folder in which no file can be made: SQLite needs that for its journal, backups for themselves.

    Raises:
        ReadOnly: it cannot be made, or not be written.
    """
    probe = folder / f".write-probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as cause:
        problem = disk.problem("write", folder, cause)
        raise (problem if isinstance(problem, DiskFull) else _read_only(folder, problem.cause)) from cause


def check_alone(database: Path) -> None:
    """Refuses a database that another program has open: that would go on with the old schema beside us.

    In WAL mode the exclusive locking mode fails if anybody merely has it open; in the other modes only a transaction
    of the other program shows, and then the one that begins next finds it.

    Raises:
        Locked: somebody has it.
        ReadOnly: it may not be written.
    """
    with translated("open alone", database), closing(open_writing(database)) as connection:
        if is_wal(connection):
            connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        # On a file that may only be read, this is a reader's transaction without a word: only a write tells.
        connection.execute(f"PRAGMA user_version={version_of(connection)}")
        connection.execute("ROLLBACK")


def _read_only(folder: Path, cause: str) -> ReadOnly:
    return ReadOnly(operation="write", path=folder, cause=cause)


def _device(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_dev
