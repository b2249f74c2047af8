"""Migrates a SQLite database forward with an application, and back, without losing what people recorded in it.

`from dbsync import run_migrations`: what stands in `__all__` is the public interface of this package. A name is loaded
when it is asked for, because a launch imports this package and needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbsync.api import (
        adopt_database,
        create_backup,
        empty_database,
        get_current_version,
        get_latest_version,
        get_migration_by_version,
        get_migration_history,
        get_pending_migrations,
        import_database,
        initialize_versioning,
        run_migrations,
        verify_integrity,
    )  # fmt: skip
    from dbsync.commands.empty_and_import import Imported
    from dbsync.errors import (
        BackupUnusable,
        BadMigrations,
        CommitFailed,
        Damaged,
        DiskFull,
        DiskProblem,
        Failed,
        Locked,
        MigrationFailed,
        Missing,
        MissingTool,
        NetworkDrive,
        NoMemory,
        NotAgreed,
        ReadOnly,
        Refused,
        RehearsalSkipped,
        TillkeeperError,
        TryLater,
        Unexpected,
        Unparsed,
        UnreadableFile,
        UnsupportedSystem,
        Untracked,
        VerificationFailed,
    )  # fmt: skip
    from dbsync.facts import SchemaNumber, Sha256
    from dbsync.migrations.operations import Database
    from dbsync.model import Backup, BackupKind, Loss, Migration, MigrationKind, Outcome
    from dbsync.outcomes import OutcomeName
    from dbsync.progress import Event, EventKind, Progress

__all__ = [
    "Backup", "BackupKind", "BackupUnusable", "BadMigrations", "CommitFailed", "Damaged", "Database", "DiskFull",
    "DiskProblem", "Event", "EventKind", "Failed", "Imported", "Locked", "Loss", "Migration", "MigrationFailed",
    "MigrationKind", "Missing", "MissingTool", "NetworkDrive", "NoMemory", "NotAgreed", "Outcome", "OutcomeName",
    "Progress", "ReadOnly", "Refused", "RehearsalSkipped", "SchemaNumber", "Sha256", "TillkeeperError", "TryLater",
    "Unexpected", "Unparsed", "UnreadableFile", "UnsupportedSystem", "Untracked", "VerificationFailed",
    "adopt_database", "create_backup", "empty_database", "get_current_version", "get_latest_version",
    "get_migration_by_version", "get_migration_history", "get_pending_migrations", "import_database",
    "initialize_versioning", "run_migrations", "verify_integrity",
]  # fmt: skip

_MODULES = (
    "errors",
    "facts",
    "outcomes",
    "model",
    "progress",
    "migrations.operations",
    "commands.empty_and_import",
    "api",
)
"""The modules that have the public names, in the order of search: each needs those before it anyway."""


if not TYPE_CHECKING:
    # A type checker has the names from above, and finds one that is misspelt.

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first asked for."""
        if name in __all__:
            from importlib import import_module

            for module in (import_module(f"{__name__}.{place}") for place in _MODULES):
                if name in vars(module):
                    globals()[name] = vars(module)[name]
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names too, whether they have been loaded or not."""
    return sorted({*globals(), *__all__})
