"""zstd, where it is installed: compressing a file, and opening a compressed backup. Only this file imports the library.

Python has it from 3.14 on (`compression.zstd`); before, `backports.zstd` is the same code. Only compressed backups need
it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.backups import catalog
from dbsync.errors import BackupUnusable
from dbsync.storage import file_calls, files, temporary_files
from dbsync.storage.files import disk_errors

if TYPE_CHECKING:
    from types import ModuleType

LEVEL: Final = 3
"""Measured on a shop's database: to 0.29 of its size; higher levels save little more and take much longer."""
CHUNK_BYTES: Final = 1 << 20


def is_there() -> bool:
    """Return whether this Python has zstd."""
    try:
        library("compress", Path())
    except BackupUnusable:
        return False
    return True


def squeeze(*, source: Path, target: Path) -> None:
    """Compress a file into a new one, with zstd's own checksum in it.

    Raises:
        BackupUnusable: there is no zstd in this Python.
        DiskFull: or another disk problem; nothing is left of the new file.
    """
    zstd = library("compress", source)
    options = {zstd.CompressionParameter.compression_level: LEVEL, zstd.CompressionParameter.checksum_flag: 1}
    try:
        with (
            disk_errors("read", source),
            file_calls.open_to_read(source) as file,
            disk_errors("write", target),
            os.fdopen(files.new_file(target, like=source), "wb") as made,
            zstd.open(made, "wb", options=options) as squeezed,
        ):
            while chunk := _chunk(file, source):
                squeezed.write(chunk)
    except BaseException:
        with suppress(OSError):
            file_calls.remove(target)
        raise


def expand(*, source: Path, target: Path | None = None) -> str:
    """Decompress a file, discarding the content without a target, and return the SHA-256 of the content.

    Raises:
        BackupUnusable: the file is not sound, or there is no zstd in this Python.
        DiskFull: or another disk problem.
    """
    zstd, digest = library("open", source), hashlib.sha256()
    into = target or Path(os.devnull)
    try:
        with (
            disk_errors("read", source),
            file_calls.open_to_read(source) as kept,
            zstd.open(kept, "rb") as squeezed,
            disk_errors("write", into),
            file_calls.open_to_write(into, "wb")
            if target is None
            else os.fdopen(files.new_file(target, like=source), "wb") as file,
        ):
            while chunk := _chunk(squeezed, source):
                digest.update(chunk)
                file.write(chunk)
    except (zstd.ZstdError, EOFError) as cause:
        raise BackupUnusable(operation="decompress", path=source, cause=str(cause)) from cause
    return digest.hexdigest()


@contextmanager
def plain(path: Path) -> Iterator[Path]:
    """A backup as a database that SQLite can open: itself, or a scratch file, removed afterwards; a crash leaves it.

    Raises:
        BackupUnusable: it is compressed, and cannot be decompressed here or differs from what was compressed.
    """
    found = catalog.find(path)
    if found.suffix != catalog.COMPRESSED:
        yield found
        return
    known = catalog.read(found)
    scratch = temporary_files.scratch_of(found.parent, known.database, f"plain-{files.random_name()}.db")
    try:
        sha256 = expand(source=found, target=scratch)
        if sha256 != (known.content_sha256 or sha256):
            raise BackupUnusable(operation="decompress", path=found, cause="it is not what was compressed")
        yield scratch
    finally:
        with suppress(OSError):
            file_calls.remove(scratch)


def _chunk(file: Any, path: Path) -> bytes:
    with disk_errors("read", path):
        found: bytes = file.read(CHUNK_BYTES)
        return found


def library(operation: str, path: Path) -> ModuleType | Any:
    """Return the library, for this operation on that file.

    Raises:
        BackupUnusable: there is no zstd in this Python.
    """
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as cause:
        hint = "Install it (pip install backports.zstd)"
        if path.suffix == catalog.COMPRESSED:
            hint += f", or decompress it by hand (`zstd -d {path.name}`) and use the file that comes out"
        raise BackupUnusable(
            operation=operation, path=path, cause="there is no zstd in this Python", hint=f"{hint}."
        ) from cause
    return zstd
