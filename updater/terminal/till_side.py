"""The agent's access to what the till's account owns: one interface, for one account and for two.

With one account it is this process's own access (`own_side`). With two, nothing of the agent opens a path in the data
or the shared folder: a child with the rights of the till's account does (`other_side`, `worker`), and what it answers
is a claim of that account.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from updater.model import Running, TrialId

if TYPE_CHECKING:
    from dbsync.commands.scheduled_backup import Done
    from dbsync.facts import Facts


class RawClaims(NamedTuple):
    """The till's trial files and choices as JSON objects; None for a file that is none of ours."""

    trials: Mapping[TrialId, dict[str, Any] | None]
    choices: Mapping[int, dict[str, Any] | None]
    refused: tuple[str, ...] = ()
    """A sentence for each entry that is none of ours."""


class RawReports(NamedTuple):
    """The till's alarm reports by the names of their files, and a sentence for each entry that is none."""

    documents: Mapping[str, dict[str, Any]]
    refused: Mapping[str, str] = {}


class TillSide(ABC):
    """Everything that the agent does in the data folder and the shared folder.

    Every method raises TryLater if the till's account cannot be asked now.
    """

    @abstractmethod
    def claims(self, trial_ids: Collection[TrialId], *, lost_if_unavailable: bool = False) -> RawClaims:
        """Return the trial files of these ids, as far as there are any, and all choices.

        Raises:
            DiskProblem: one cannot be read now; not if that counts as lost.
        """

    @abstractmethod
    def sync_claims(self, trial_ids: Collection[TrialId]) -> None:
        """Make the trial files of these ids and all choices durable."""

    @abstractmethod
    def look_at_database(self) -> Facts:
        """Return the facts of the database from one look."""

    @abstractmethod
    def running(self) -> Running | None:
        """Return the app whose main process lives; its pid is a claim, which nobody may signal."""

    @abstractmethod
    def restore_is_done(self, intent_id: str) -> bool:
        """Return whether a restore is done; not, if that cannot be read now."""

    @abstractmethod
    def try_database_lock(self) -> bool:
        """Take dbsync's lock if it is free; it is freed when this process ends, however it ends."""

    @abstractmethod
    def release_database_lock(self) -> None:
        """Release dbsync's lock; do nothing if it is not held."""

    @abstractmethod
    def back_up(self) -> Done | None:
        """Make the scheduled backup that is due; None if the settings ask for none. The caller holds dbsync's lock."""

    @abstractmethod
    def tidy(self, *, issued: Collection[TrialId], last_choice: int) -> None:
        """Remove trial files of no issued id, settled choices, and, if dbsync's lock is free, what cut runs left."""

    @abstractmethod
    def self_test(self, command: Sequence[str], *, folder: Path, timeout_seconds: float) -> tuple[int | None, str]:
        """Run a self-test with the till's rights; return its exit code, None if it did not end, and its output."""

    @abstractmethod
    def read_reports(self) -> RawReports:
        """Return the reports in the till's outbox, a bounded number."""

    @abstractmethod
    def remove_reports(self, names: Collection[str]) -> None:
        """Remove entries of the till's outbox, as far as possible."""

    @abstractmethod
    def close(self) -> None:
        """End what this has started; the next call starts it again."""
