"""The values the updater thinks in: releases, the journal, trials, proofs, rejections, and one look at all of them."""

# Annotations are evaluated here: as texts, NamedTuple compiles each again at every start (`scripts/bench launch`).
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from dbsync.facts import Back, Facts, ReleaseId, SchemaNumber, Sha256, State, TrialId
from dbsync.outcomes import NamedOutcome

if TYPE_CHECKING:
    # Not on the way of a launch.
    from dbsync.model import Loss, RunPhase

__all__ = [
    "Act", "Back", "By", "Facts", "Journal", "Limits", "Phase", "ProcessKind", "Proof", "ProvenBy",
    "Rejection", "Release", "ReleaseId", "Report", "ReportPhase", "Running", "SchemaNumber", "Sha256",
    "State", "Trial", "TrialId", "Verdict", "View",
]  # fmt: skip


class Release(NamedTuple):
    """One signed version of the app. Two releases with one version number are different; `release_id` tells."""

    release_id: ReleaseId
    version: str
    schema: SchemaNumber
    """The number of its newest migration; 0 for an app without a database of ours."""

    @property
    def folder(self) -> str:
        """The name of its version folder."""
        return f"{self.version}-{self.release_id[:12]}"


class Phase(StrEnum):
    """Where the journal stands."""

    IDLE = "IDLE"
    STAGED = "STAGED"
    SWAPPED = "SWAPPED"


class Verdict(StrEnum):
    """How a trial ended, or that it has not."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    GIVEN_UP = "given_up"


class By(StrEnum):
    """Who decided: the terminal by its rules, or a person."""

    MACHINE = "machine"
    PERSON = "person"


class Act(StrEnum):
    """What a trial has under way, with no end on record."""

    NONE = ""
    ATTEMPT = "attempt"
    """The database is prepared for the candidate."""
    LAUNCH = "launch"
    """The candidate's app runs."""


class ProvenBy(StrEnum):
    """Why a release counts as one that works on this terminal."""

    CONFIRMED = "confirmed"
    INSTALLED = "installed"
    CHOSEN = "chosen"
    """A person went back to it."""


class ReportPhase(StrEnum):
    """The part of the updater's work that a report is about; about the database it is a `RunPhase`."""

    NONE = ""
    CYCLE = "cycle"
    LOOK = "look"
    STAGE = "stage"
    SWAP = "swap"
    JOURNAL = "journal"
    LAUNCH = "launch"
    START = "start"
    TRIAL = "trial"
    CONFIRM = "confirm"
    INSTALL = "install"
    ROLLBACK = "rollback"
    ALLOW = "allow"


class ProcessKind(StrEnum):
    """The processes of a terminal that record events, each in a file of its own: `events-agent.jsonl`."""

    AGENT = "agent"
    LAUNCHER = "launcher"
    CONFIRM = "confirm"
    INSTALL = "install"
    ROLLBACK = "rollback"
    ALLOW = "allow"
    STATUS = "status"


class Journal(NamedTuple):
    """Which release starts. Written by agent, install and rollback under the terminal lock; the rename is the swap."""

    phase: Phase
    good: Release
    candidate: Release | None = None
    """STAGED: complete on disk. SWAPPED: starts next."""
    trial_id: TrialId | None = None
    """SWAPPED only: the name of the trial that the first attempt will begin."""
    previous: Release | None = None
    """The good release before this one: its folder is kept until the next confirm."""


class Trial(NamedTuple):
    """A candidate's trial, from the launcher's first attempt to confirm or give-up."""

    trial_id: TrialId
    candidate: Release
    good: Release
    attempts_count: int = 0
    """Coordinator runs, counted before they begin."""
    launches_count: int = 0
    """App starts without a confirm, counted before they happen; clean exits and interruptions are taken out."""
    refusals_count: int = 0
    """Attempts that were refused before anything was touched: a full disk, a foreign lock."""
    clean_exits_count: int = 0
    interruptions_count: int = 0
    """Attempts and launches that a reboot cut off."""
    act: Act | str = Act.NONE
    """A string: an act of another version, which counts as an interruption."""
    boot_id: str = ""
    """The boot in which `act` began."""
    running_seconds: float = 0.0
    """How long the app has run on trial, summed over launches, by the monotonic clock."""
    backup: str | None = None
    """Path of the backup that was taken before the migration."""
    content_sha256: Sha256 | None = None
    """The database file as of COMMIT; None when that could not be noted."""
    verdict: Verdict = Verdict.OPEN
    by: By = By.MACHINE
    outcome: str = ""
    """Name of the outcome that ended it (`outcomes`)."""
    reason: str = ""
    back: Back | None = None
    """What became of the database after a give-up; None while that is owed."""
    closed: bool = False
    """Folded into proofs, rejections and journal; nothing is owed any more."""

    @property
    def back_stays(self) -> bool:
        """Given up, but its database could not go back: the candidate goes on until a person decides."""
        return self.back is Back.STAYS


class Proof(NamedTuple):
    """Evidence that a release worked here: a confirmation, the first install, or a person's choice. Never rewritten."""

    sequence: int
    release: Release
    why: ProvenBy | str
    """A string: a reason of another version, which proves as well as any."""
    trial_id: TrialId | None
    at: str


class Rejection(NamedTuple):
    """A release that is not to be tried on this terminal again, until `updater allow` lifts it."""

    release: Release
    by: By
    outcome: str
    reason: str
    at: str
    trial_id: TrialId | None = None
    to: Release | None = None
    """A person's rollback: the release to go to. The rejection is that rollback's commit point."""
    backup: str | None = None
    """A person's rollback: the backup to restore; None when the database stays."""
    intent_id: str = ""
    done: bool = True
    """False while a person's rollback still owes the restore."""


class Running(NamedTuple):
    """An app that holds the app lock. Fields are None where its note could not be read."""

    pid: int | None
    trial_id: TrialId | None
    release_id: ReleaseId | None
    seconds: float = 0.0
    """How long it has been running, as far as known."""


class View(NamedTuple):
    """One look at everything that a decision may depend on."""

    journal: Journal | None
    """None: there is none, or it cannot be read."""
    trials: tuple[Trial, ...]
    proofs: tuple[Proof, ...]
    """In order of their sequence."""
    rejections: tuple[Rejection, ...]
    database: Facts
    running: Running | None
    boot_id: str
    installed: frozenset[str]
    """Names of the version folders; a folder that exists is complete."""
    journal_broken: bool = False
    """The journal is there but unreadable, as opposed to absent."""

    def trial(self, trial_id: TrialId | None) -> Trial | None:
        """Return the trial of that name, if it has begun."""
        return next((trial for trial in self.trials if trial.trial_id == trial_id), None)

    def rejection(self, release_id: ReleaseId) -> Rejection | None:
        """Return the rejection of that release, if there is one."""
        return next((rejection for rejection in self.rejections if rejection.release.release_id == release_id), None)


class Report(NamedTuple):
    """One thing that happened, for support: an event, and a file in the outbox when a person should know."""

    outcome: NamedOutcome
    release: Release | None = None
    phase: "ReportPhase | RunPhase" = ReportPhase.NONE
    migration: str | None = None
    cause: str = ""
    done: str = ""
    """What was done about it."""
    backup: str | None = None
    kept: str | None = None
    """Where a database that was replaced is kept."""
    losses: "tuple[Loss, ...]" = ()
    """What people did since the backup, where a restore took it out of the live database."""
    export: str | None = None
    trial_id: TrialId | None = None


class Limits(NamedTuple):
    """Every bound the updater keeps, each with its unit (promise: everything is bounded)."""

    attempts_count: int = 3
    refusals_count: int = 10
    launches_count: int = 2
    clean_exits_count: int = 5
    interruptions_count: int = 10
    confirm_seconds: float = 180.0
    """App running time, summed over launches, until a trial that has not confirmed is given up."""
    busy_seconds: float = 30.0
    """How long a command waits for another one that has the database."""
    lock_seconds: float = 20.0
    end_grace_seconds: float = 5.0
    look_seconds: float = 60.0
    fetch_seconds: float = 6 * 3600.0
    minimum_bytes_per_second: int = 1024
    failed_starts_count: int = 3
    """Starts of a confirmed release that end in failure, one after another, until a person is called."""
    trials_kept_count: int = 20
    events_size_bytes: int = 1_000_000
    reports_kept_count: int = 100
    backups_kept_count: int = 10
    least_free_bytes: int = 50_000_000
    """Free space below which no migration starts."""
