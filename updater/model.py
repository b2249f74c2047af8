"""Values of the updater: releases, the journal, trials, proofs, rejections, and one view of all of them."""

# Annotations are evaluated here: as texts, NamedTuple compiles each again at every start (`scripts/bench launch`).
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from dbsync.facts import Back, Facts, ReleaseId, SchemaNumber, Sha256, State, TrialId
from dbsync.outcomes import NamedOutcome

if TYPE_CHECKING:
    # Kept off the start-up path: a launch does not need it.
    from dbsync.model import Loss, RunPhase

__all__ = [
    "STABLE",
    "Act",
    "Back",
    "By",
    "Choice",
    "Claims",
    "Facts",
    "Issued",
    "Journal",
    "Limits",
    "Moment",
    "Phase",
    "ProcessKind",
    "Proof",
    "ProvenBy",
    "Rejection",
    "Release",
    "ReleaseId",
    "Report",
    "ReportPhase",
    "Ruling",
    "Running",
    "SchemaNumber",
    "Seen",
    "Sha256",
    "State",
    "Trial",
    "TrialId",
    "Verdict",
    "View",
]  # fmt: skip


STABLE: Final = "stable"
"""The channel of terminals whose settings name none. It never leads to a pre-release."""


class Release(NamedTuple):
    """One signed version of the app. Releases with the same version number are told apart by `release_id`."""

    release_id: ReleaseId
    version: str
    schema: SchemaNumber
    """Number of its newest migration; 0 for an app without a database that Tillkeeper migrates."""

    @property
    def folder(self) -> str:
        """Name of its version folder."""
        return f"{self.version}-{self.release_id[:12]}"


class Phase(StrEnum):
    """State of the journal."""

    IDLE = "IDLE"
    STAGED = "STAGED"
    SWAPPED = "SWAPPED"


class Verdict(StrEnum):
    """Result of a trial, or OPEN while it has none."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    GIVEN_UP = "given_up"
    TAKEN_BACK = "taken_back"
    """By the agent alone: the vendor or a person withdrew the candidate, which failed in nothing."""


class By(StrEnum):
    """Author of a decision: the terminal by its rules, or a person."""

    MACHINE = "machine"
    PERSON = "person"


class Act(StrEnum):
    """Step of a trial that has begun and has no end on record."""

    NONE = ""
    ATTEMPT = "attempt"
    """The database is being prepared for the candidate."""
    LAUNCH = "launch"
    """The candidate's app is running."""


class ProvenBy(StrEnum):
    """Reason why a release counts as working on this terminal."""

    CONFIRMED = "confirmed"
    INSTALLED = "installed"
    CHOSEN = "chosen"
    """A person rolled back to it."""


class ReportPhase(StrEnum):
    """Part of the updater's work that a report is about; a report about the database has a `RunPhase` instead."""

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
    BACKUP = "backup"
    ALLOW = "allow"
    AGENT = "agent"


class ProcessKind(StrEnum):
    """Kind of process that records events; each has its own file, such as `events-agent.jsonl`."""

    AGENT = "agent"
    LAUNCHER = "launcher"
    CONFIRM = "confirm"
    INSTALL = "install"
    ROLLBACK = "rollback"
    ALLOW = "allow"
    STATUS = "status"


class Journal(NamedTuple):
    """The journal: which release starts.

    Agent, install and rollback write it under the terminal lock; the rename is the swap.
    """

    phase: Phase
    good: Release
    candidate: Release | None = None
    """STAGED: complete on disk. SWAPPED: starts next."""
    trial_id: TrialId | None = None
    """SWAPPED only: the name of the trial that the first attempt will begin."""
    previous: Release | None = None
    """The good release before this one: its folder is kept until the next confirm."""
    last: int = 0
    """The highest number of a trial that was issued when this was written: one that knows less is older."""
    last_choice: int = 0
    """The highest number of a choice that is settled, carried out or refused."""
    permitted_choice: int = 0
    """The number of the choice that somebody with the agent's rights has allowed; 0 for none."""


class Trial(NamedTuple):
    """Trial of a candidate, from the launcher's first attempt to confirm or give-up."""

    trial_id: TrialId
    candidate: Release
    good: Release
    attempts_count: int = 0
    """Coordinator runs, counted before they begin."""
    launches_count: int = 0
    """App starts without a confirm, counted before they happen; clean exits and interruptions are subtracted."""
    refusals_count: int = 0
    """Attempts that were refused before anything was touched: a full disk, a foreign lock."""
    clean_exits_count: int = 0
    interruptions_count: int = 0
    """Attempts and launches that a reboot cut off."""
    act: Act | str = Act.NONE
    """A string is an act of another version of the agent; it counts as an interruption."""
    boot_id: str = ""
    """The boot in which `act` began."""
    running_seconds: float = 0.0
    """How long the app has run on trial, summed over launches, by the monotonic clock."""
    backup: str | None = None
    """Path of the backup that was taken before the migration."""
    content_sha256: Sha256 | None = None
    """SHA-256 of the database file as of COMMIT; None if it could not be recorded."""
    verdict: Verdict = Verdict.OPEN
    by: By = By.MACHINE
    outcome: str = ""
    """Name of the outcome that ended the trial (`outcomes`)."""
    reason: str = ""
    back: Back | None = None
    """Result for the database after a give-up; None while the return is owed."""
    closed: bool = False
    """True when folded into proofs, rejections and journal; nothing is owed any more."""

    @property
    def ends_back(self) -> bool:
        """Whether the database has to leave this trial: it was given up or taken back."""
        return self.verdict in (Verdict.GIVEN_UP, Verdict.TAKEN_BACK)

    @property
    def begun(self) -> bool:
        """Whether the launcher has counted anything of it, or it has a verdict."""
        counts = self.attempts_count + self.launches_count + self.refusals_count + self.clean_exits_count
        return bool(counts or self.interruptions_count or self.act or self.verdict is not Verdict.OPEN)

    @property
    def back_stays(self) -> bool:
        """Whether a given-up trial's database could not go back: the candidate keeps running until a person decides."""
        return self.back is Back.STAYS


class Proof(NamedTuple):
    """Evidence that a release worked here: a confirmation, the first install, or a person's choice. Never rewritten."""

    sequence: int
    release: Release
    why: ProvenBy | str
    """A string is a reason of another version of the agent; it is as valid as the known ones."""
    trial_id: TrialId | None
    at: str


class Rejection(NamedTuple):
    """A release that is not tried on this terminal again until `updater allow` lifts the rejection."""

    release: Release
    by: By
    outcome: str
    reason: str
    at: str
    trial_id: TrialId | None = None
    to: Release | None = None
    """For a person's rollback: the release to roll back to. The rejection is the commit point of that rollback."""
    backup: str | None = None
    """For a person's rollback: the backup to restore; None if the database stays as it is."""
    intent_id: str = ""
    done: bool = True
    """False while a person's rollback still owes the restore."""
    claimed: bool = False
    """Whether nothing but the till's account is behind it, which may be forged."""


class Issued(NamedTuple):
    """A trial that the agent allows: durable before the journal names it, and the only source of its releases."""

    number: int
    trial_id: TrialId
    candidate: Release
    good: Release
    at: str


class Ruling(NamedTuple):
    """The agent's verdict on a trial: it counts more than what the shared folder says."""

    trial_id: TrialId
    verdict: Verdict
    by: By
    outcome: str
    reason: str
    at: str
    folded: bool = False
    """True when proof or rejection and the journal follow it: nothing is owed any more."""


class Choice(NamedTuple):
    """A return that the till's account decided without the rights of the agent's. Its file is the commit point."""

    number: int
    of: Release
    """The release that is left."""
    to: Release
    at: str
    backup: str | None = None
    """The backup to restore; None if the database stays as it is."""
    intent_id: str = ""
    done: bool = True
    """False while the restore is owed; not in the file."""


class Claims(NamedTuple):
    """Files of the shared folder as they were read: claims of the till's account."""

    trials: tuple[Trial, ...] = ()
    lost: frozenset[TrialId] = frozenset()
    """Trials whose file is there and cannot be read as one."""
    choices: tuple[Choice, ...] = ()


class Moment(NamedTuple):
    """When an update may begin, written by the agent for the launcher, which compares UTC alone."""

    always: bool
    windows: tuple[tuple[str, str], ...] = ()
    """Intervals of UTC times, from and until."""
    recalled: tuple[ReleaseId, ...] = ()
    """Releases that the vendor withdrew: no choice goes to one."""
    till_may_roll_back: bool = True
    """Whether the till's account may go back without the agent's rights."""


class Running(NamedTuple):
    """An app whose main process lives. Fields are None where its note could not be read."""

    pid: int | None
    trial_id: TrialId | None
    release_id: ReleaseId | None
    seconds: float = 0.0
    """How long it has been running, as far as known."""


class Seen(NamedTuple):
    """State files as they were read, before the agent's and the till's are put together (`decisions.claims`)."""

    journal: Journal | None
    issued: tuple[Issued, ...]
    rulings: tuple[Ruling, ...]
    proofs: tuple[Proof, ...]
    rejections: tuple[Rejection, ...]
    moment: Moment | None
    claims: Claims
    database: Facts
    running: Running | None
    boot_id: str
    installed: frozenset[str]
    journal_broken: bool = False
    journal_unavailable: str = ""


class View(NamedTuple):
    """Everything that a decision on a terminal may depend on, read at one moment."""

    journal: Journal | None
    """None if there is none that can be read. One older than a trial that has begun counts as that swap."""
    trials: tuple[Trial, ...]
    """Trials that the agent issued and that have begun; releases and closing as the agent has them."""
    proofs: tuple[Proof, ...]
    """In order of their sequence."""
    rejections: tuple[Rejection, ...]
    database: Facts
    running: Running | None
    boot_id: str
    installed: frozenset[str]
    """Names of the version folders; a folder that exists is complete."""
    journal_broken: bool = False
    """True if the journal exists but its content is damaged; False if it is absent."""
    journal_unavailable: str = ""
    """Why the journal, which exists, cannot be read now, so that it must not be written anew; empty if it can."""
    issued: tuple[Issued, ...] = ()
    choice: Choice | None = None
    """The open choice of the till's account; it is among the rejections too."""
    dead_choices: tuple[tuple[Choice, str], ...] = ()
    """Choices that do not hold, each with the reason."""
    settled_choice: int = 0
    """The highest number of a choice that is known to be settled."""
    moment: Moment | None = None
    unfolded: frozenset[TrialId] = frozenset()
    """Issued trials without a folded ruling."""

    def trial(self, trial_id: TrialId | None) -> Trial | None:
        """Return the trial of that name; None if it has not begun."""
        return next((trial for trial in self.trials if trial.trial_id == trial_id), None)

    def rejection(self, release_id: ReleaseId) -> Rejection | None:
        """Return the rejection of that release; None if there is none."""
        return next((rejection for rejection in self.rejections if rejection.release.release_id == release_id), None)


class Report(NamedTuple):
    """One event for support; if a person should know about it, also a file in the outbox."""

    outcome: NamedOutcome
    release: Release | None = None
    phase: "ReportPhase | RunPhase" = ReportPhase.NONE
    migration: str | None = None
    cause: str = ""
    done: str = ""
    """The action that was taken."""
    backup: str | None = None
    kept: str | None = None
    """Path at which a replaced database is kept."""
    losses: "tuple[Loss, ...]" = ()
    """Changes that people made since the backup and that a restore removed from the live database."""
    export: str | None = None
    gaps: str | None = None
    """Folder that explains the numbers which are skipped because counters were raised."""
    trial_id: TrialId | None = None
    opens: bool | None = None
    """Whether an app opens all the same, which decides the clerk's sentence; None if it does not depend on this."""


class Limits(NamedTuple):
    """All limits of the updater, each with its unit (promise: everything is bounded)."""

    attempts_count: int = 3
    refusals_count: int = 10
    launches_count: int = 2
    clean_exits_count: int = 5
    interruptions_count: int = 10
    agent_trial_seconds: float = 900.0
    """Time in which an agent on trial must confirm, each time that it is started."""
    confirm_seconds: float = 180.0
    """App running time, summed over launches, until a trial that has not confirmed is given up."""
    busy_seconds: float = 30.0
    """How long a command waits for another command that holds the database."""
    lock_seconds: float = 20.0
    end_grace_seconds: float = 5.0
    look_seconds: float = 60.0
    fetch_seconds: float = 6 * 3600.0
    answer_seconds: float = 30.0
    """From the name of a server to the last of its headers."""
    silence_seconds: float = 20.0
    """Longest silence of a server in the middle of an answer."""
    retries_count: int = 3
    """Tries of a download in a row that bring nothing, until an address is given up."""
    retry_seconds: float = 1.0
    give_up_seconds: float = 4 * 3600.0
    """The longest time that an address which failed is left alone."""
    minimum_bytes_per_second: int = 1024
    maximum_bytes_per_second: int = 0
    """What a download may take of the shop's line; 0 for no limit."""
    failed_starts_count: int = 3
    """Consecutive failed starts of a confirmed release until a person is called."""
    trials_kept_count: int = 20
    events_size_bytes: int = 1_000_000
    app_log_size_bytes: int = 5_000_000
    """Size of the log of what the app prints, above which its end is moved aside and it goes on empty."""
    reports_kept_count: int = 100
    backups_kept_count: int = 10
    least_free_bytes: int = 50_000_000
    """Free space below which no migration starts, and that the agent leaves on each disk that it writes."""
