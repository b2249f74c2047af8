"""The values dbsync thinks in: what a database shows, migrations, backups, outcomes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self

from dbsync.facts import (
    NO_SCHEMA,
    NO_SHA256,
    Back,
    Facts,
    ReleaseId,
    SchemaNumber,
    Sha256,
    State,
    TrialId,
    known,
)
from dbsync.outcomes import OutcomeName

__all__ = [
    "NO_SCHEMA",
    "NO_SHA256",
    "TABLES_WITHOUT_ENGINE",
    "Applied",
    "Back",
    "Backup",
    "BackupKind",
    "Carried",
    "Change",
    "EngineName",
    "Facts",
    "Intent",
    "Loss",
    "Migration",
    "MigrationKind",
    "Outcome",
    "Recognised",
    "ReleaseId",
    "Returned",
    "RunPhase",
    "SchemaNumber",
    "Sha256",
    "State",
    "TrialId",
    "Tried",
    "known",
]


class EngineName(StrEnum):
    """The formats of migrations: each is a module of `dbsync.migrations.engines` of the same name.

    Behind the name stand the tables in which the format's tools keep what they ran: known before an engine is loaded,
    because they are no part of an app's schema.
    """

    tables: tuple[str, ...]

    OWN = "own"
    DRIZZLE = "drizzle", "__drizzle_migrations"
    ALEMBIC = "alembic", "alembic_version"
    NUMBERED = "numbered", "schema_migrations", "goose_db_version"

    def __new__(cls, name: str, *tables: str) -> Self:
        """Make a member of one line of the table."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.tables = tables
        return member


TABLES_WITHOUT_ENGINE = ("django_migrations",)
"""The same of tools that have no engine: Django runs as a program, on a copy."""


class MigrationKind(StrEnum):
    """How a migration is written."""

    SQL = "sql"
    PYTHON = "python"
    COMMAND = "command"
    """A program of the app's own, which works on a copy."""


class Migration(NamedTuple):
    """One step from a schema to the next."""

    number: SchemaNumber
    name: str
    description: str
    sha256: Sha256
    """Over the normalised text; with the name, this is its identity."""
    replaces: tuple[Sha256, ...]
    readable_from: SchemaNumber | None
    changes: tuple[str, ...]
    kind: MigrationKind
    path: Path
    engine: EngineName = EngineName.OWN


class BackupKind(StrEnum):
    """Why a backup was made."""

    MIGRATION = "migration"
    """The exact state before a migration: the only kind that rotation removes."""
    MANUAL = "manual"
    """Made by a person, or by a tool that left no facts."""
    DAMAGED = "damaged"
    """A damaged database as it was found; not verified."""
    CARRIED = "carried"
    """An older schema with the changes since, as it was carried back."""
    BEFORE_RESTORE = "before-restore"
    BEFORE_EMPTY = "before-empty"
    BEFORE_IMPORT = "before-import"
    BEFORE_BASELINE = "before-baseline"
    BEFORE_STAMP = "before-stamp"
    REHEARSAL = "rehearsal"
    """A copy that a rehearsal works on; it is never kept."""


class Backup(NamedTuple):
    """A copy of the database and the facts beside it."""

    path: Path
    kind: BackupKind | str
    """A string: one that this version does not know, as its facts have it."""
    version: SchemaNumber
    sha256: Sha256
    size_bytes: int
    sequence: int
    made_at: str
    trial_id: TrialId | None = None
    verified: bool = True
    content_sha256: Sha256 = NO_SHA256
    """Of the database in a compressed file; `sha256` and `size_bytes` are the file's own."""
    content_size_bytes: int = 0
    database: str = ""
    """The name of the database that it is of; empty where that is not known."""


class Applied(NamedTuple):
    """One row of the database's own history of migrations."""

    number: SchemaNumber
    name: str
    sha256: Sha256
    """Empty where a migration was adopted from a readable history that kept no hash."""
    trial_id: TrialId | None = None


class Recognised(NamedTuple):
    """What shows how far a database without our history has come."""

    user_version: int
    recorded: frozenset[str] | None
    """Names of migrations that its own table of them says it had; None: it has no such table."""
    unknown: tuple[str, ...]
    """What that table names and the release has not."""
    fits: tuple[SchemaNumber, ...]
    """The schema numbers whose structure it has exactly; 0 is nothing at all."""
    nearest: str
    """How it differs from the schema that it is most like; empty where one fits."""
    problem: str = ""
    """Why nothing can be told from its own table."""


class Tried(NamedTuple):
    """How earlier runs of the same migrations on the same schema ended."""

    failed_count: int = 0
    """How often in a row they failed, all in the same way."""
    cause: str = ""
    cut_count: int = 0
    """How often in a row they did not end at all."""


class Loss(NamedTuple):
    """What people did in one table since the backup."""

    table: str
    added: int
    changed: int
    removed: int


class RunPhase(StrEnum):
    """Where a run on a database ended."""

    NONE = ""
    PREFLIGHT = "preflight"
    BACKUP = "backup"
    MIGRATE = "migrate"
    VERIFY = "verify"
    COMMIT = "commit"
    GOING_BACK = "going back"


class Outcome(NamedTuple):
    """How a run ended, with what a report needs (requirement S183)."""

    name: OutcomeName
    version_before: SchemaNumber | None = None
    version_after: SchemaNumber | None = None
    phase: RunPhase = RunPhase.NONE
    migration: str | None = None
    cause: str = ""
    hint: str = ""
    backup: Backup | None = None
    content_sha256: Sha256 | None = None
    duration_seconds: float = 0.0

    @property
    def ready(self) -> bool:
        """The app may start."""
        return self.name.ready

    @property
    def failed(self) -> bool:
        """Tried and undone, or wrong for good: on trial, this is the give-up."""
        return self.name.failed

    @property
    def refused(self) -> bool:
        """Nothing was tried, or nothing could be done now: later, perhaps."""
        return self.name.refused


class Returned(NamedTuple):
    """How going back ended."""

    back: Back | None
    """None: nothing was owed, or nothing could be done (see the outcome)."""
    outcome: Outcome
    set_aside: Backup | None = None
    losses: tuple[Loss, ...] = ()
    export: Path | None = None
    parked: Path | None = None


class Carried(NamedTuple):
    """The older database with everything that people did since the migration."""

    path: Path
    losses: tuple[Loss, ...] = ()
    """What it does not hold; empty: proven to hold everything."""
    parked: Path | None = None
    """Values for which the older schema has no place, one JSON line each."""
    export: Path | None = None
    """Folder with what it does not hold, as CSV and SQL."""


class Change(NamedTuple):
    """What people did since a state of the database."""

    known: bool
    """False: it could not be found out, which counts as changed."""
    losses: tuple[Loss, ...] = ()
    cause: str = ""
    """Why it could not be found out."""

    @property
    def unchanged(self) -> bool:
        """Proven: nobody wrote."""
        return self.known and not self.losses


class Intent(NamedTuple):
    """A person's restore under way: written before the act, so that a repeat knows what it finds."""

    intent_id: str
    backup: str
    set_aside: str | None = None
    done: bool = False
