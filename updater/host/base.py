"""Interface between the updater and the operating system; each system implements all of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.facts import ReleaseId, TrialId
from dbsync.storage.platform import base as platform

NOT_STARTED: Final = 127
"""As a shell says it."""


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


class Account(NamedTuple):
    """An account of this machine."""

    name: str
    user: int
    group: int
    """Its own group."""
    groups: frozenset[int]
    """All groups that it is a member of."""


class Entry(StrEnum):
    """Kind of an entry in a folder."""

    FOLDER = "folder"
    FILE = "file"
    LINK = "link"
    OTHER = "special file"


class Rights(NamedTuple):
    """Kind, owner, group and mode of an entry; a link is not followed."""

    entry: Entry
    user: int
    group: int
    mode: int
    names_count: int = 1
    """Number of hard links to a file."""


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
    def machine_folders(self, app: str) -> Folders:
        """Return the places of one app that serves all accounts of this machine; its data belongs to the till's."""

    @abstractmethod
    def machine_ids(self) -> Mapping[str, str]:
        """Return what tells this machine from a copy of its disk, by name; those that this account can read."""

    @abstractmethod
    def boot_id(self) -> str:
        """Return an id of this boot of the machine."""

    @abstractmethod
    def monotonic_seconds(self) -> float:
        """Return the time of a clock that all processes of one boot share and that cannot be set."""

    @abstractmethod
    def run_and_wait(
        self,
        command: Sequence[str],
        *,
        timeout_seconds: float,
        env: Mapping[str, str] | None,
        cwd: Path,
        account: platform.Account | None = None,
    ) -> tuple[int | None, str]:
        """Run a short command, end all that it started, and return its exit code and the end of its output.

        The code is None if it did not end in time and was killed, and NOT_STARTED with the cause if it could not be
        started. Without `env` it gets that of a child of ours; with an account it has its rights.
        """

    # accounts ------------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def has_accounts(self) -> bool:
        """Whether owner, group and mode of a file are known here, and two accounts can be kept apart by them."""

    @abstractmethod
    def own_account(self) -> Account:
        """Return the account of this process."""

    @property
    @abstractmethod
    def is_privileged(self) -> bool:
        """Whether this process may give files to other accounts."""

    @abstractmethod
    def account(self, name: str) -> Account | None:
        """Return an account by its name; None if there is none."""

    @abstractmethod
    def group(self, name: str) -> int | None:
        """Return the number of a group by its name; None if there is none."""

    @abstractmethod
    def account_name(self, user: int) -> str:
        """Return the name of an account, or its number in digits."""

    @abstractmethod
    def group_name(self, group: int) -> str:
        """Return the name of a group, or its number in digits."""

    @abstractmethod
    def rights_of(self, path: Path) -> Rights | None:
        """Return the rights of an entry; None if there is none. Raises OSError as the system does."""

    @abstractmethod
    def set_rights(self, *, path: Path, anchor: Path, rights: Rights, make: bool = False) -> None:
        """Give a file or folder its owner, group and mode, through a descriptor; the umask does not count.

        Args:
            path: the entry; below `anchor` no link is followed, and a file that has a second name is refused.
            anchor: a folder above it, or the folder of it, that only trusted accounts can replace.
            rights: what it gets; another kind of entry under that name is refused.
            make: make it if it is missing; a file is empty.

        Raises:
            OSError: as the system does; also for a link, another kind of entry, or a second name.
        """

    @abstractmethod
    def rights_command(self, path: Path, rights: Rights, *, found: Rights | None) -> str:
        """Return a command to paste that gives an entry these rights, makes it if it is missing, or removes a link."""

    @abstractmethod
    def elevated(self, command: str) -> str:
        """Return a command as a person runs it with the rights of the administrator."""

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
