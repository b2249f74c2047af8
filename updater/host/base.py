"""Interface between the updater and the operating system; each system implements all of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dbsync.facts import ReleaseId, TrialId


class RunningApp(NamedTuple):
    """Note that the holder of the app lock wrote into it; fields are None where it could not be read."""

    lock_path: Path
    pid: int | None
    start_time: str | None
    """As the system reports it; distinguishes this process from another one with a reused pid."""
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
        """Return its exit code; None while it runs; -1 if it is not our child, because its code is unknown."""

    @abstractmethod
    def wait(self) -> int:
        """Wait for its end and return the exit code."""


class Host(ABC):
    """One operating system."""

    # the machine ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def keeps_executable_bit(self) -> bool:
        """Whether file modes on this system keep the executable bit."""

    @abstractmethod
    def platform_tag(self) -> str:
        """Return the name that a manifest's platform is compared with, such as `linux-x86_64`."""

    @abstractmethod
    def default_folders(self, app: str) -> Folders:
        """Return the usual places, the same as those of platformdirs (a test compares them)."""

    @abstractmethod
    def boot_id(self) -> str:
        """Return an id of this boot of the machine."""

    @abstractmethod
    def monotonic_seconds(self) -> float:
        """Return the time of a clock that all processes of one boot share and that cannot be set."""

    @abstractmethod
    def run_and_wait(
        self, command: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None, cwd: Path
    ) -> tuple[int | None, str]:
        """Run a short command, end all that it started, and return its exit code and the end of its output.

        The code is None if it did not end in time and was killed. Without `env` it gets that of a child of ours.
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
        """Start the app; it holds the app lock from its first moment to its last.

        Raises:
            AppAlreadyRunning: the lock is held.
            Refused: the command cannot be run.
        """

    @abstractmethod
    def running_app(self, lock_path: Path) -> RunningApp | None:
        """Return the app that holds the app lock; None if the lock is free."""

    @abstractmethod
    def attach(self, running: RunningApp) -> App:
        """Return an app that another launcher started."""

    @abstractmethod
    def end_tree(self, app: App, *, grace_seconds: float) -> bool:
        """End an app and all processes it started, gracefully first; return whether all of them are gone."""
