"""Old migration backups made small: compressed, read back, and only then taken in the place of the plain ones."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from dbsync.backups import catalog, compression, snapshot
from dbsync.errors import BackupUnusable
from dbsync.model import Backup, BackupKind
from dbsync.storage import files, temporary_files

PLAIN_COUNT: Final = 3
"""The newest stay plain: they are the likely ones, and restoring them needs no zstd."""


class Packed(NamedTuple):
    """What became of one old backup."""

    path: Path
    before_bytes: int
    after_bytes: int
    cause: str = ""
    """Why it was left as it is; empty: it was compressed."""


def old_ones(*, backups: Path, database: Path, plain_count: int) -> list[Backup]:
    """Return the migration backups to compress: good, plain, and not among the newest."""
    listed = [
        one for one in catalog.list_backups(backups=backups, database=database) if one.kind == BackupKind.MIGRATION
    ]
    return [one for one in listed[plain_count:] if one.verified and one.path.suffix != catalog.COMPRESSED]


def pack(one: Backup) -> Packed:
    """Compress one backup. One that is not what was written is left alone, and named.

    Raises:
        BackupUnusable: there is no zstd here; nothing was changed.
        DiskFull: and the like; the plain one is still there.
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
        # A crash after this: both are there, and the plain one counts; the next time does it again.
        kept = snapshot.keep_part(facts)
    finally:
        snapshot.drop_part(part)
    catalog.remove_plain(one.path)
    return Packed(kept.path, one.size_bytes, kept.size_bytes)
