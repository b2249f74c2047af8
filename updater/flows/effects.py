"""All effects of agent, launcher, confirm, rollback and install on a terminal: one named method each.

`terminal.live` implements them on the real machine. The tests' simulator implements them in memory and cuts the power
between any two of them. So whichever method ran last leaves a state from which the next look can continue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from updater.model import (
    Choice,
    Issued,
    Journal,
    Proof,
    Rejection,
    Release,
    ReleaseId,
    Report,
    Ruling,
    Trial,
    TrialId,
    View,
)

if TYPE_CHECKING:
    from dbsync.commands.scheduled_backup import Done
    from dbsync.model import Backup, Migration
    from dbsync.upgrade.effects import Effects
    from updater.answers import Catalog, Offer, Unusable
    from updater.decisions.self_update import FailedRelease, KitTrial, KitView, Note
    from updater.flows.confirm import ConfirmAnswer


class AppEventKind(StrEnum):
    """Kind of event that ends a wait for the app."""

    EXITED = "exited"
    ASKS = "asks"
    """The app wrote its confirm file."""
    CONFIRMED = "confirmed"
    """The trial file says so: the app confirmed by the command."""
    OVERDUE = "overdue"


class AppEvent(NamedTuple):
    """Event that ended a wait for the app."""

    kind: AppEventKind
    exit_code: int = 0
    seconds: float = 0.0
    """Running time of the app on this trial since it was last counted."""
    words: str = ""
    """The end of what an app that failed has printed."""


class OwnKit(ABC):
    """The kit that this process runs from, and those beside it: what the agent's own update reads and changes."""

    @abstractmethod
    def look(self) -> KitView:
        """Read pointer, counts and records; change nothing."""

    @abstractmethod
    def stage(self, offer: Offer) -> str:
        """Bring a release of the agent here, verified and durable, and return the id of its kit.

        Raises:
            TryLater: it cannot be had now.
            Refused: it is not what was signed, or no kit of this app.
        """

    @abstractmethod
    def test(self, kit_id: str) -> None:
        """Let a kit test itself in a child, with a time limit.

        Raises:
            TryLater: it failed, or did not answer.
            Refused: it says that it can never run here.
        """

    @abstractmethod
    def begin_trial(self, release: Release, kit_id: str, token: str) -> None:
        """Let the pointer name a trial: the next start of the service is its first attempt."""

    @abstractmethod
    def prove(self, trial: KitTrial) -> Note | None:
        """Look at the repository and activate a dummy, without a change that the agent before could not read.

        Returns:
            What failed; None if nothing did.
        """

    @abstractmethod
    def write_note(self, note: Note) -> None:
        """Write why the trial is not confirmed yet, for the agent before."""

    @abstractmethod
    def give_up(self, trial: KitTrial) -> None:
        """Let no further attempt be made."""

    @abstractmethod
    def confirm(self, trial: KitTrial) -> bool:
        """Let the pointer name this kit as the one that starts; return false if the trial is over."""

    @abstractmethod
    def write_failure(self, failure: FailedRelease) -> None:
        """Record how a release of the agent fared here."""

    @abstractmethod
    def forget_failure(self, release_id: ReleaseId) -> None:
        """Remove the record of how a release of the agent fared here: it may be tried again."""

    @abstractmethod
    def end_trial(self, trial: KitTrial) -> None:
        """Take a trial off the pointer."""

    @abstractmethod
    def tell_launches(self) -> bool:
        """Return whether it was not told yet that launchers of this kit do not reach the app, and remember it."""

    @abstractmethod
    def tidy(self) -> tuple[str, ...]:
        """Remove the kits that the pointer does not name and no process uses; return their names."""


class Records(ABC):
    """The small state files. Every write is durable when it returns; every change happens under the terminal lock."""

    @abstractmethod
    def take_terminal_lock(self) -> None:
        """Take the terminal lock; wait for it, bounded.

        Raises:
            TryLater: another process still holds the lock.
        """

    @abstractmethod
    def release_terminal_lock(self) -> None:
        """Release the terminal lock."""

    @abstractmethod
    def look(self) -> View:
        """Read everything that a decision may depend on; change nothing."""

    @abstractmethod
    def sync(self) -> None:
        """Make the files that a look reads durable: a rename whose writer died before syncing can still be lost."""

    @abstractmethod
    def read_trial(self, trial_id: TrialId) -> Trial | None:
        """Return one trial, as `look` composes it; None if it was not issued or has not begun."""

    @abstractmethod
    def write_trial(self, trial: Trial) -> None:
        """Write one trial file in the shared folder: the till's claim."""

    @abstractmethod
    def write_choice(self, choice: Choice) -> None:
        """Write one choice in the shared folder: the commit point of a person's rollback."""

    @abstractmethod
    def write_issued(self, issued: Issued) -> None:
        """Write one issued trial, before the journal names it."""

    @abstractmethod
    def write_ruling(self, ruling: Ruling) -> None:
        """Write the agent's verdict on one trial."""

    @abstractmethod
    def write_moment(self, recalled: tuple[ReleaseId, ...] | None) -> None:
        """Write when an update may begin, if that changed; None keeps the releases that are recalled."""

    @abstractmethod
    def read_unusable(self) -> tuple[Unusable, ...]:
        """Return the releases that the last look found unusable here; none if the record is missing or damaged."""

    @abstractmethod
    def write_unusable(self, unusable: tuple[Unusable, ...]) -> None:
        """Write the releases that a look found unusable here."""

    @abstractmethod
    def may_write_records(self) -> bool:
        """Return whether this process may write the agent's files."""

    @abstractmethod
    def write_journal(self, journal: Journal) -> None:
        """Write the journal: with phase SWAPPED, this rename is the swap."""

    @abstractmethod
    def put_aside_journal(self) -> None:
        """Rename an unreadable journal and keep it for later inspection."""

    @abstractmethod
    def write_proof(self, proof: Proof) -> None:
        """Write one proof."""

    @abstractmethod
    def write_rejection(self, rejection: Rejection) -> None:
        """Write one rejection."""

    @abstractmethod
    def remove_rejection(self, release_id: ReleaseId) -> None:
        """Lift a rejection."""

    @abstractmethod
    def tell(self, report: Report) -> None:
        """Record an outcome: an event line, and a file in the outbox if a person should know."""

    @abstractmethod
    def now(self) -> str:
        """Return the time, UTC, for records only; no decision depends on it."""

    @abstractmethod
    def new_id(self) -> str:
        """Return a new unique id, which nobody can guess."""

    @abstractmethod
    def boot_id(self) -> str:
        """Return the id of this boot of the machine."""


class Till(Records):
    """All effects of a terminal."""

    # the database ------------------------------------------------------------------------------------------------
    @abstractmethod
    def try_database_lock(self) -> bool:
        """Take dbsync's lock if it is free. No process waits for it while holding the terminal lock."""

    @abstractmethod
    def release_database_lock(self) -> None:
        """Release dbsync's lock."""

    @abstractmethod
    def database(self) -> Effects:
        """Return the effects of the coordinator on this terminal's database."""

    @abstractmethod
    def migrations(self, release: Release) -> tuple[Migration, ...]:
        """Return the migrations inside an installed release; empty if there are none or the folder is gone."""

    @abstractmethod
    def backup_of(self, trial: Trial) -> Backup | None:
        """Return the backup that was made for a trial."""

    # the app -----------------------------------------------------------------------------------------------------
    @abstractmethod
    def start_app(self, release: Release, *, trial_id: TrialId | None, notice: str) -> None:
        """Start the app, and a keeper that stays with it whatever happens to this process."""

    @abstractmethod
    def attach_app(self) -> None:
        """Begin to watch an app that another launcher started."""

    @abstractmethod
    def await_app(self, *, trial_id: TrialId | None, limit_seconds: float | None) -> AppEvent:
        """Wait for the app; without a trial, for its end only."""

    @abstractmethod
    def asks_confirm(self, trial_id: TrialId) -> bool:
        """Return whether the app has written its confirm file and has no answer yet."""

    @abstractmethod
    def answer_confirm(self, trial_id: TrialId, answer: ConfirmAnswer) -> None:
        """Write `<confirm file>.ack`."""

    @abstractmethod
    def end_app(self) -> bool:
        """End the app and all processes it started; return whether all of them are gone."""

    @abstractmethod
    def end_left(self) -> bool:
        """End what an app that has ended left running; return whether all of it is gone."""

    @abstractmethod
    def held_database(self) -> str:
        """Return why the app cannot write its database now, such as another program that holds it; empty if it can."""

    @abstractmethod
    def note_start(self, release: Release, *, failed: bool) -> int:
        """Count consecutive failed starts of a release that is not on trial, and return the count."""

    @abstractmethod
    def pause(self, seconds: float) -> None:
        """Wait for another process."""

    # the agent ---------------------------------------------------------------------------------------------------
    @abstractmethod
    def try_agent_lock(self) -> bool:
        """Take the lock of cycles if it is free. It is held during network access, so no process waits for it."""

    @abstractmethod
    def release_agent_lock(self) -> None:
        """Release the lock of cycles."""

    @abstractmethod
    def own_kit(self) -> OwnKit | None:
        """Return the kit that this process runs from; None if its agent does not update itself."""

    @abstractmethod
    def find_releases(self) -> Catalog:
        """Ask the repository, in a child with a hard deadline."""

    @abstractmethod
    def reuse(self, offer: Offer) -> bool:
        """Return whether its version folder is there and exactly what was signed; one that differs loses its name.

        An earlier run may have been cut after the folder got its name, or another account may have written it.
        Raises TryLater if it cannot be read now.
        """

    @abstractmethod
    def download(self, offer: Offer) -> Path:
        """Download and verify the archive; resume an interrupted download. Raises TryLater or Refused."""

    @abstractmethod
    def unpack(self, offer: Offer, archive: Path) -> Path:
        """Unpack the archive beside the version folders."""

    @abstractmethod
    def copy_bundle(self, offer: Offer, folder: Path) -> Path:
        """Copy the bundle from a local folder instead of an archive."""

    @abstractmethod
    def check_unpacked(self, offer: Offer, staging: Path) -> None:
        """Check every file against the manifest and run the self-test, if there is one."""

    @abstractmethod
    def shelve(self, offer: Offer, staging: Path) -> None:
        """Make the files durable, then give the folder its final name."""

    @abstractmethod
    def tidy(self, keep: frozenset[ReleaseId], *, downloads: frozenset[str] | None) -> None:
        """Remove folders, downloads, trial files and unfinished copies that nothing refers to.

        Args:
            keep: releases that something refers to.
            downloads: names of the version folders whose archives are still wanted; None if that is not known.
        """

    @abstractmethod
    def back_up(self) -> Done | None:
        """Make the scheduled backup that is due; None if the settings ask for none. The caller holds dbsync's lock."""

    @abstractmethod
    def in_moment(self) -> bool:
        """Return whether an update may begin now."""

    @abstractmethod
    def two_accounts(self) -> bool:
        """Return whether the app runs as another account than the agent."""

    @abstractmethod
    def take_in(self) -> None:
        """Take over what the till's account has reported, into the agent's own outbox."""


@contextmanager
def terminal_locked(till: Records) -> Iterator[None]:
    """Terminal lock, held for one step: observe, decide, record, act."""
    till.take_terminal_lock()
    with locked_already(till):
        yield


@contextmanager
def locked_already(till: Records) -> Iterator[None]:
    """The same for a caller that has just taken the lock."""
    try:
        yield
    finally:
        till.release_terminal_lock()
