"""Backups as files: names, the facts beside them, listing, rotation. `snapshot` makes the copies."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from glob import escape
from itertools import chain
from pathlib import Path
from typing import Any, Final

from dbsync.errors import BackupUnusable, TillkeeperError, UnreadableFile
from dbsync.model import NO_SCHEMA, NO_SHA256, Backup, BackupKind, SchemaNumber, Sha256, known
from dbsync.storage import file_calls, files, temporary_files
from dbsync.storage.files import disk_errors

FORMAT: Final = 1
FACTS: Final = ".json"
MIGRATIONS: Final = ".migrations"
COMPRESSED: Final = ".zst"
KEPT_COUNT: Final = 10
"""Number of migration backups that rotation leaves (requirement S94); pinned ones are kept in addition."""
_VERSION: Final = re.compile(r"-v(\d+)-")
_STAMP: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})[T-](\d{2})-?(\d{2})-?(\d{2})(?:-(\d{3})Z?)?\.db(?:\.zst)?$")


def migration_name(prefix: str, version: SchemaNumber, now: datetime) -> str:
    """Return `auraswift-backup-v2-2024-01-15T10-35-00-444Z.db`, with the version before (requirements S46, S90)."""
    return f"{prefix}-backup-v{version}-{files.utc_stamp(now)}.db"


def beside_name(database: Path, operation: str, now: datetime) -> str:
    """Return `pos_system-backup-before-restore-2024-01-15T10-35-00-444Z.db`, beside the database (requirement S93)."""
    return f"{database.stem}-backup-{operation}-{files.utc_stamp(now)}.db"


def free_name(folder: Path, name: str) -> Path:
    """Return a path that is not taken: two backups of one millisecond, or a clock set back, must not collide."""
    path, number = folder / name, 1
    while files.is_there(find(path)):
        number += 1
        path = folder / f"{name.removesuffix('.db')}-{number}.db"
    return path


def list_backups(*, backups: Path, database: Path) -> list[Backup]:
    """Return all backups of a database, newest first by sequence; those without facts come last, as not verified.

    A backup that is known to be of another database is left out: restoring it here would lose all sales at once.
    """
    owner = temporary_files.owner_of(database)
    return [backup for backup in list_all(backups=backups, database=database) if backup.database in ("", owner)]


def list_all(*, backups: Path, database: Path) -> list[Backup]:
    """Return the backups as `list_backups` does, with those of other databases that share the folder."""
    paths = [*files.listed(backups, "*.db"), *files.listed(database.parent, f"{escape(database.stem)}-backup-*.db")]
    # If a crash has left both, the plain backup counts.
    paths += [path for path in files.listed(backups, f"*.db{COMPRESSED}") if not path.with_suffix("").exists()]
    found = {path: read(path) for path in paths if _may_be_one(path) and path != database}
    return sorted(found.values(), key=lambda backup: (backup.sequence, backup.made_at, backup.path.name), reverse=True)


def _may_be_one(path: Path) -> bool:
    """Return whether a path may be a backup; a folder or a link to a missing disk among them must stop no command."""
    return path.is_file() and not temporary_files.is_part(path)


def next_sequence(*, backups: Path, database: Path) -> int:
    """Return the next sequence number: backups are ordered by it, never by a clock."""
    return 1 + max((backup.sequence for backup in list_backups(backups=backups, database=database)), default=0)


def write_facts(backup: Backup, *, like: Path | None = None) -> None:
    """Write the facts beside a backup, durably, before the backup gets its name: it is never without them.

    They get the owner and the rights of `like`; without that, of the backup.
    """
    facts = {"format": FORMAT, **backup._asdict()}
    del facts["path"]
    files.write_json(facts_path(backup.path), facts, like=like or backup.path)


def facts_path(path: Path) -> Path:
    """Return the path of the facts of a backup."""
    return path.with_name(path.name + FACTS)


def migrations_path(path: Path) -> Path:
    """Return the path of the migrations kept for a backup: going back needs them, and the older release has none."""
    return path.with_name(path.name.removesuffix(COMPRESSED) + MIGRATIONS)


def compressed_path(path: Path) -> Path:
    """Return the path of a backup once it is compressed."""
    return path.with_name(path.name + COMPRESSED)


def find(path: Path) -> Path:
    """Return the path of a backup by the name that it was given, compressed since or not."""
    small = compressed_path(path)
    return path if files.is_there(path) or not files.is_there(small) else small


def check_file(path: Path) -> Backup:
    """Return the facts of a backup whose file still matches them.

    Raises:
        BackupUnusable: it is gone, or differs from its checksum.
    """
    path = find(path)
    if not files.is_there(path) or not path.is_file():
        raise BackupUnusable(operation="use the backup", path=path, cause="there is no such file")
    backup = read(path)
    if not backup.sha256 and files.is_there(facts_path(path)):
        # Raises if they cannot be read now: without them the checksum would not be compared.
        with suppress(UnreadableFile):
            files.read_json(facts_path(path))
    if backup.sha256 and files.sha256_of(path) != backup.sha256:
        raise BackupUnusable(
            operation="use the backup", path=path, cause="it is not what was written: its checksum differs"
        )
    return backup


def rotate(
    *, backups: Path, database: Path, keep_count: int, pinned: tuple[Path, ...], dry_run: bool = False
) -> list[Path]:
    """Remove the oldest migration backups over the limit and return their paths.

    Only migration backups count. Never removed are the pinned ones, the newest verified one, and the newest verified
    one of each older schema (requirements S172, S173). Ten restarts of a failing update therefore cannot push out the
    backup that matters.
    """
    migration = [
        backup for backup in list_backups(backups=backups, database=database) if backup.kind == BackupKind.MIGRATION
    ]
    newest_of_each = {backup.version: backup.path for backup in reversed(migration) if backup.verified}
    keep = {*pinned, *newest_of_each.values()}
    removed = []
    for backup in migration[keep_count:]:
        if backup.path not in keep:
            if not dry_run:
                remove(backup.path)
            removed.append(backup.path)
    return removed


def clear_parts(*, backups: Path, database: Path, prefix: str) -> None:
    """Remove the remains of an interrupted run for this database; a backup under its final name is complete."""
    for folder in {backups, database.parent}:
        with disk_errors("clear", folder):
            temporary_files.clear(folder, temporary_files.owner_of(database))
            for probe in files.listed(folder, f"{temporary_files.PROBE}*"):
                file_calls.remove(probe)
            for stem in {prefix, database.stem}:
                # Facts whose write was interrupted: no later write has the same name and would replace them.
                for path in files.listed(folder, f"{files.NEW}{escape(stem)}-backup-*{FACTS}"):
                    file_calls.remove(path)
    # Kept before their backup gets its name: those of another prefix may belong to a run on another database.
    left = [files.listed(backups, f"{escape(stem)}-backup-v*.db{MIGRATIONS}") for stem in {prefix, database.stem}]
    for path in chain(*left):
        if not find(path.with_name(path.name.removesuffix(MIGRATIONS))).exists():
            file_calls.remove_tree_if_possible(path)


def remove(path: Path) -> None:
    """Remove a backup with its facts and the migrations beside it."""
    with disk_errors("remove", path):
        plain = path.with_suffix("") if path.suffix == COMPRESSED else path
        for file in (plain, compressed_path(plain)):
            # The backup first: facts without a backup are ignored, a backup without facts would look hand-made.
            file_calls.remove(file)
            file_calls.remove(facts_path(file))
        file_calls.remove_tree_if_possible(migrations_path(path))


def remove_plain(path: Path) -> None:
    """Remove a backup that now has a compressed copy; the migrations beside it stay."""
    with disk_errors("remove", path):
        file_calls.remove(path)
        file_calls.remove(facts_path(path))


def read(path: Path) -> Backup:
    """Return the facts beside a file; without readable facts what its name says, as not verified."""
    try:
        small = facts_path(compressed_path(path))
        if files.is_there(small) and not files.is_there(facts_path(path)):
            # Decompressed by hand, on a machine without zstd: the facts of the compressed backup still apply.
            backup = _from_facts(path, files.read_json(small))
            return backup._replace(
                sha256=backup.content_sha256,
                size_bytes=backup.content_size_bytes,
                content_sha256=NO_SHA256,
                content_size_bytes=0,
            )
        return _from_facts(path, files.read_json(facts_path(path)))
    except (FileNotFoundError, TillkeeperError, KeyError, TypeError, ValueError, OverflowError):
        return _from_name(path)


def _from_facts(path: Path, facts: dict[str, Any]) -> Backup:
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']} is not known")
    return Backup(
        path=path,
        kind=known(BackupKind, str(facts["kind"])),
        version=SchemaNumber(int(facts["version"])),
        sha256=Sha256(str(facts["sha256"])),
        size_bytes=int(facts["size_bytes"]),
        sequence=int(facts["sequence"]),
        made_at=str(facts["made_at"]),
        trial_id=facts["trial_id"],
        verified=bool(facts["verified"]),
        content_sha256=Sha256(str(facts.get("content_sha256", ""))),
        content_size_bytes=int(facts.get("content_size_bytes", 0)),
        database=str(facts.get("database", "")),
        checked=str(facts.get("checked", "")),
        read_back_at=str(facts.get("read_back_at", "")),
    )


def _from_name(path: Path) -> Backup:
    """Return the facts that the name of a file from a person or an older tool gives, with nothing taken for certain."""
    version, stamp = _VERSION.search(path.name), _STAMP.search(path.name)
    by_hand = version is None or f"-backup-{BackupKind.MANUAL}-" in path.name
    kind: BackupKind | str = BackupKind.MANUAL if by_hand else BackupKind.MIGRATION
    for named in (BackupKind.DAMAGED, BackupKind.SCHEDULED):
        if f"-backup-{named}-" in path.name:
            kind = named
    if "-backup-before-" in path.name:
        kind = known(BackupKind, "-".join(path.name.rpartition("-backup-")[2].split("-")[:2]))
    made_at = ""
    if stamp is not None:
        year, month, day, hour, minute, second, milliseconds = stamp.groups()
        made_at = f"{year}-{month}-{day}T{hour}:{minute}:{second}.{milliseconds or '000'}Z"
    schema = SchemaNumber(int(version[1])) if version else NO_SCHEMA
    return Backup(path, kind, schema, NO_SHA256, path.stat().st_size, 0, made_at, verified=False)
