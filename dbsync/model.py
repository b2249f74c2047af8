"""The values of dbsync: facts of a database, migrations, backups, outcomes."""

from __future__ import annotations

from collections.abc import Iterable
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
    "Disk",
    "DiskKind",
    "EngineName",
    "Facts",
    "Gap",
    "Intent",
    "Loss",
    "Migration",
    "MigrationKind",
    "Need",
    "NeedKind",
    "Outcome",
    "Raised",
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


class DiskKind(StrEnum):
    """Kind of a disk: what can be relied on."""

    FIXED = "fixed"
    REMOVABLE = "removable"
    """It can be taken out of a running machine, which starts without it."""
    NETWORK = "network"
    """Another machine can write it."""
    FORGETS = "forgets"
    """A restart undoes everything that is written."""
    UNKNOWN = "unknown"


class Disk(NamedTuple):
    """The disk of a path, as its system describes it."""

    kind: DiskKind
    file_system: str = ""
    """Its name in small letters, such as `ext4`; empty if it is not known."""
    detail: str = ""
    """Why it is of this kind; empty where the kind says it."""


class EngineName(StrEnum):
    """The formats of migrations: each is a module of `dbsync.migrations.engines` of the same name.

    Each name is followed by the tables in which the format's tools record their runs. They are listed here, so that
    they are known before an engine is loaded: they are not part of an app's schema.
    """

    tables: tuple[str, ...]

    OWN = "own"
    DRIZZLE = "drizzle", "__drizzle_migrations"
    ALEMBIC = "alembic", "alembic_version"
    NUMBERED = "numbered", "schema_migrations", "goose_db_version"

    def __new__(cls, name: str, *tables: str) -> Self:
        """Make a member from one line of this table."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.tables = tables
        return member


TABLES_WITHOUT_ENGINE = ("django_migrations",)
"""Such tables of tools that have no engine: Django runs as a program, on a copy."""


class MigrationKind(StrEnum):
    """The forms in which a migration is written."""

    SQL = "sql"
    PYTHON = "python"
    COMMAND = "command"
    """A program of the app's own, which works on a copy."""


class NeedKind(StrEnum):
    """The parts of SQLite that an app may add to its own connection, and that dbsync does not have."""

    FUNCTION = "function"
    COLLATION = "collation"
    MODULE = "module"
    """Of virtual tables and table-valued functions."""
    TOKENIZER = "tokenizer"
    """Of a search index."""


class Need(NamedTuple):
    """A function, collation, module or tokenizer of the app's that objects of its schema use."""

    kind: NeedKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def is_in(self, declared: Iterable[Need]) -> bool:
        """Return whether it is declared; SQLite compares these names without case."""
        return any(need.kind is self.kind and need.name.lower() == self.name.lower() for need in declared)


class Migration(NamedTuple):
    """One step from a schema to the next."""

    number: SchemaNumber
    name: str
    description: str
    sha256: Sha256
    """Of the normalised text; with the name, this is the migration's identity."""
    replaces: tuple[Sha256, ...]
    readable_from: SchemaNumber | None
    changes: tuple[str, ...]
    kind: MigrationKind
    path: Path
    engine: EngineName = EngineName.OWN
    needs: tuple[Need, ...] = ()
    """The functions, collations, modules and tokenizers of the app that objects of this schema use."""
    has_strings_in_double_quotes: bool = False
    """Whether it is the text of an existing schema, in which SQLite takes some "text" for a string."""


class BackupKind(StrEnum):
    """The reasons for which a backup is made."""

    MIGRATION = "migration"
    """The exact state before a migration: the only kind that rotation removes."""
    SCHEDULED = "scheduled"
    """Made on a schedule; removed by the policy of scheduled backups alone."""
    MANUAL = "manual"
    """Made by a person, or by a tool that left no facts."""
    DAMAGED = "damaged"
    """A damaged database, unchanged; not verified."""
    CARRIED = "carried"
    """The older database that a carry-back made: the older schema, with the changes since the migration."""
    BEFORE_RESTORE = "before-restore"
    BEFORE_EMPTY = "before-empty"
    BEFORE_IMPORT = "before-import"
    BEFORE_BASELINE = "before-baseline"
    BEFORE_STAMP = "before-stamp"
    RAISED = "raised"
    """A copy of a backup with its counters raised, which is restored in the place of it; not kept after that."""
    REHEARSAL = "rehearsal"
    """A copy that a rehearsal works on; it is never kept."""


class Backup(NamedTuple):
    """A copy of the database, and the facts beside it."""

    path: Path
    kind: BackupKind | str
    """A string: a kind that this version does not know, as the backup's facts have it."""
    version: SchemaNumber
    sha256: Sha256
    size_bytes: int
    sequence: int
    made_at: str
    trial_id: TrialId | None = None
    verified: bool = True
    content_sha256: Sha256 = NO_SHA256
    """The hash of the database within a compressed file; `sha256` and `size_bytes` are those of the file."""
    content_size_bytes: int = 0
    database: str = ""
    """The name of the database that was backed up; empty if it is not known."""
    checked: str = ""
    """The check of SQLite that it passed when it was made; empty if it is not known, or if it passed none."""
    read_back_at: str = ""
    """When it was last read back whole, in UTC; empty if it never was."""


class Applied(NamedTuple):
    """One row of the database's own history of migrations."""

    number: SchemaNumber
    name: str
    sha256: Sha256
    """Empty if the migration was adopted from a readable history that kept no hash."""
    trial_id: TrialId | None = None


class Recognised(NamedTuple):
    """Evidence of the schema number of a database without our history."""

    user_version: int
    recorded: frozenset[str] | None
    """Names of the migrations that its own table lists; None: it has no such table."""
    unknown: tuple[str, ...]
    """Entries of that table that the release does not have."""
    fits: tuple[SchemaNumber, ...]
    """The schema numbers whose structure it has exactly; 0 is the empty structure."""
    nearest: str
    """Differences from the schema that is most similar; empty if one fits."""
    problem: str = ""
    """Why its own table cannot be used."""


class Tried(NamedTuple):
    """The results of earlier runs of the same migrations on the same schema."""

    failed_count: int = 0
    """How often in a row they failed, all with the same error."""
    cause: str = ""
    cut_count: int = 0
    """How often in a row they were cut off before an end."""


class Loss(NamedTuple):
    """The changes in one table since the backup: numbers of rows."""

    table: str
    added: int
    changed: int
    removed: int


class RunPhase(StrEnum):
    """The phases in which a run on a database can end."""

    NONE = ""
    PREFLIGHT = "preflight"
    BACKUP = "backup"
    MIGRATE = "migrate"
    VERIFY = "verify"
    COMMIT = "commit"
    GOING_BACK = "going back"


class Outcome(NamedTuple):
    """The end of a run, with the facts that a report needs (requirement S183)."""

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
        """Whether the app may start."""
        return self.name.ready

    @property
    def failed(self) -> bool:
        """Whether the run was undone, or the release does not fit: on trial, this is the give-up."""
        return self.name.failed

    @property
    def refused(self) -> bool:
        """Whether nothing was changed, and a later run may succeed."""
        return self.name.refused


class Returned(NamedTuple):
    """The end of a return to an older database."""

    back: Back | None
    """None: nothing was owed, or nothing could be done; the outcome says which."""
    outcome: Outcome
    set_aside: Backup | None = None
    losses: tuple[Loss, ...] = ()
    export: Path | None = None
    parked: Path | None = None
    not_known: str = ""
    """Why the changes that are not in the database any more cannot be determined; empty if they can."""
    gaps: Path | None = None
    """The folder that explains the numbers which are skipped because counters were raised."""

    @property
    def pending(self) -> bool:
        """Whether a return is owed and could not be done."""
        return self.back is None and self.outcome.name is not OutcomeName.NOTHING_TO_RESTORE


class Carried(NamedTuple):
    """The older database, with everything that people recorded since the migration."""

    path: Path
    losses: tuple[Loss, ...] = ()
    """The changes that it does not hold; empty: proven to hold everything."""
    parked: Path | None = None
    """Values for which the older schema has no place, one JSON line each."""
    export: Path | None = None
    """The folder with the changes that it does not hold, as CSV and SQL."""
    unproven: str = ""
    """Why it is not known whether it holds everything; empty: it is known."""

    @property
    def lossless(self) -> bool:
        """Whether it is proven to hold everything."""
        return not self.losses and not self.unproven


class Change(NamedTuple):
    """The changes that people made since a state of the database."""

    known: bool
    """False: the changes cannot be determined, which counts as changed."""
    losses: tuple[Loss, ...] = ()
    cause: str = ""
    """Why the changes cannot be determined."""

    @property
    def unchanged(self) -> bool:
        """Whether it is proven that nothing was changed."""
        return self.known and not self.losses


class Intent(NamedTuple):
    """A restore in progress, recorded before it begins, so that a repeated call resumes it with the same promise."""

    intent_id: str
    backup: str
    """The file that is put in the database's place: a backup, or the carried-back database."""
    set_aside: str | None = None
    """The path at which the replaced database is kept. It may be named before it is there: a ruined one is moved."""
    done: bool = False
    base: str | None = None
    """The backup from which changes are carried back; None if `backup` is restored as it is."""
    accepts_loss: bool = False
    """Whether a person has agreed to `losses`, or to a loss that cannot be determined."""
    losses: tuple[Loss, ...] = ()
    """The changes that the restored database does not hold."""
    not_known: str = ""
    """Why these changes cannot be determined; empty if they can."""
    moves: bool = False
    """Whether the database is ruined, and is moved to `set_aside` once the restore is decided."""
    raised_from: str | None = None
    """The backup of which `backup` is a copy with raised counters; None if no counter had to be raised."""
    gaps: str | None = None
    """The folder that explains the numbers which are skipped; None if there are none that need it."""

    @property
    def made(self) -> Path | None:
        """The copy that was made for this restore, carried back or with raised counters; never a backup.

        It is of no use once the restore is done or given up.
        """
        is_carried = self.base is not None and self.backup != self.base
        return Path(self.backup) if is_carried or self.raised_from is not None else None


class Gap(NamedTuple):
    """A counter that was raised, and the numbers that are skipped by that."""

    counter: str
    description: str
    number: int | None
    """The number that it would have had; None: none yet."""
    raised_to: int
    first: int
    """The first number that is not given out again."""
    last: int
    not_believed: int | None = None
    """A mark outside the database that is too high to be true, and was not used; None if there is none."""

    @property
    def in_words(self) -> str:
        """The gap on one line."""
        words = f"{self.counter}: raised from {'nothing' if self.number is None else self.number} to {self.raised_to}"
        if self.first == self.last:
            return f"{words}; {self.first} is not given out again"
        return f"{words}; {self.first} to {self.last} are not given out again"


class Raised(NamedTuple):
    """A database with raised counters, on disk."""

    path: Path
    """The source itself if it was a scratch file, else a copy of it."""
    gaps: tuple[Gap, ...]
    report: Path | None
    """The folder that explains the gaps; None if none of them needs it."""
