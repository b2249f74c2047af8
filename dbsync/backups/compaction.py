"""Compresses old migration backups: each is read back before it takes the place of the plain one."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from dbsync.backups import catalog, compression, snapshot
from dbsync.errors import BackupUnusable
from dbsync.model import Backup, BackupKind
from dbsync.storage import files, temporary_files

PLAIN_COUNT: Final = 3
"""Number of newest backups that stay plain: they are the likeliest to be restored, and that needs no zstd."""


class Packed(NamedTuple):
    """The result for one old backup."""

    path: Path
    before_bytes: int
    after_bytes: int
    cause: str = ""
    """The reason why it was left as it is; empty: it was compressed."""


def old_ones(*, backups: Path, database: Path, plain_count: int) -> list[Backup]:
    """Return the migration backups to compress: verified, plain, and not among the newest."""
    listed = [
        backup
        for backup in catalog.list_backups(backups=backups, database=database)
        if backup.kind == BackupKind.MIGRATION
    ]
    return [backup for backup in listed[plain_count:] if backup.verified and backup.path.suffix != catalog.COMPRESSED]


def pack(one: Backup) -> Packed:
    """Compress one backup. A backup that differs from its checksum is left alone, and reported.

    Raises:
        BackupUnusable: there is no zstd, or the result does not read back the same; nothing was changed.
        DiskFull: or another disk problem; the plain backup is still there.
    """
    try:
        catalog.check_file(one.path)
    except BackupUnusable as error:
        return Packed(one.path, one.size_bytes, one.size_bytes, error.cause)
    final = catalog.compressed_path(one.path)
    part = temporary_files.part_of(final, one.database)
    try:
        compression.squeeze(source=one.path, target=part)
        files.sync_file(part)
        if compression.expand(source=part) != one.sha256:
            raise BackupUnusable(operation="compress", path=one.path, cause="it does not come out as it went in")
        facts = one._replace(
            path=part, sha256=files.sha256_of(part), size_bytes=part.stat().st_size,
            content_sha256=one.sha256, content_size_bytes=one.size_bytes,
        )  # fmt: skip
        # A crash after this leaves both: the plain one counts, and the next call compresses it again.
        kept = snapshot.keep_part(facts)
    finally:
        snapshot.drop_part(part)
    catalog.remove_plain(one.path)
    return Packed(kept.path, one.size_bytes, kept.size_bytes)
