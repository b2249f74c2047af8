"""Interface of the updater to the operating system; each system implements all of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dbsync.facts import ReleaseId, TrialId


class RunningApp(NamedTuple):
    """The note that the holder of the app lock wrote into it; None where it could not be read."""

    lock_path: Path
    pid: int | None
    start_time: str | None
    """As the system reports it: it tells this process from another one with a reused pid."""
    trial_id: TrialId | None
    release_id: ReleaseId | None
    seconds: float


class Folders(NamedTuple):
    """The usual places of one app on this system."""

    program: Path
    state: Path
    data: Path
    settings_file: Path


class App(ABC):
    """An app that was started, or that another launcher started."""

    lock_path: Path
    pid: int | None

    @abstractmethod
    def poll(self) -> int | None:
        """Return its exit code; None while it runs. -1 if it is not our child, whose code is unknown."""

    @abstractmethod
    def wait(self) -> int:
        """Wait for its end and return the exit code."""


class Host(ABC):
    """One operating system."""

    # the machine ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def keeps_executable_bit(self) -> bool:
        """Whether a file's mode says that it can be run."""

    @abstractmethod
    def platform_tag(self) -> str:
        """Return the name that a manifest's platform is compared with, such as linux-x86_64."""

    @abstractmethod
    def default_folders(self, app: str) -> Folders:
        """Return the usual places, as platformdirs names them (a test compares)."""

    @abstractmethod
    def boot_id(self) -> str:
        """Return a name of this boot of the machine."""

    @abstractmethod
    def monotonic_seconds(self) -> float:
        """Return a clock that all processes of one boot share and that nobody can set."""

    @abstractmethod
    def run_and_wait(
        self, command: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None, cwd: Path
    ) -> tuple[int | None, str]:
        """Run a short command; return its exit code and the end of its output.

        The code is None if it did not end in time and was killed.
        """

    # the app -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def start_app(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        lock_path: Path,
        note: Mapping[str, str | None],
    ) -> App:
        """Start the app with the app lock in its hands, from its first moment to its last.

        Raises:
            AppAlreadyRunning: the lock is held.
            Refused: the command cannot be run.
        """

    @abstractmethod
    def running_app(self, lock_path: Path) -> RunningApp | None:
        """Return who holds the app lock; None if nobody does."""

    @abstractmethod
    def attach(self, running: RunningApp) -> App:
        """Return an app that another launcher started."""

    @abstractmethod
    def end_tree(self, app: App, *, grace_seconds: float) -> bool:
        """End an app and all it started, kindly first; return whether everything is seen gone."""
