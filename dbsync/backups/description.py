"""The description of a backup, for people and as JSON: the same in every command of `dbsync` and `updater`."""

from __future__ import annotations

from typing import Any, Final

from dbsync.model import Backup, BackupKind

_PURPOSES: Final[dict[str, str]] = {
    BackupKind.MIGRATION: "the exact state before a migration from schema {version}",
    BackupKind.SCHEDULED: "made on a schedule; removed by its policy",
    BackupKind.MANUAL: "made by a person; never removed by rotation",
    BackupKind.BEFORE_EMPTY: "what was there before the database was emptied",
    BackupKind.BEFORE_IMPORT: "what was there before an import",
    BackupKind.BEFORE_RESTORE: "what was there before a backup was restored",
    BackupKind.CARRIED: "schema {version} with what people did since, as it was carried back",
}


def purpose_of(backup: Backup) -> str:
    """Return the purpose of a backup."""
    return _PURPOSES[backup.kind].format(version=backup.version) if backup.kind in _PURPOSES else backup.kind


def backup_json(backup: Backup) -> dict[str, Any]:
    """Return a backup as every command prints it with --json; docs/backups.md explains the keys."""
    # `version` and `schema` are one number: `dbsync` has always printed the first, `updater` the second.
    same = {"schema": backup.version, "purpose": purpose_of(backup)}
    return {**backup._asdict(), "path": str(backup.path), **same}
