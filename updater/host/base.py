"""Interface between the updater and the operating system; each system implements all of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dbsync.facts import ReleaseId, TrialId
from dbsync.storage.platform import base as platform

if TYPE_CHECKING:
    from updater.decisions.places import Zone
    from updater.host.services.base import Service, ServiceOrder

NOT_STARTED: Final = 127
"""As a shell says it."""


class Life(StrEnum):
    """Answer to the question whether a process lives."""

    ALIVE = "alive"
    DEAD = "dead"
    """Also if its pid now belongs to another process."""
    UNKNOWN = "unknown"
    """This account may not ask, or too little was noted about it."""


class RunningApp(NamedTuple):
    """An app whose main process lives, as the note in the app lock names it; fields are None where it says nothing."""

    lock_path: Path
    pid: int | None
    start_time: str | None
    """As the system reports it; distinguishes this process from another one with a reused pid."""
    trial_id: TrialId | None
    release_id: ReleaseId | None
    seconds: float


class Order(NamedTuple):
    """Everything that a keeper has to know about the app that it starts."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    lock_path: Path
    log_path: Path
    log_size_bytes: int
    settings_path: Path
    trial_id: TrialId | None
    release_id: ReleaseId


class Folders(NamedTuple):
    """The usual places of one app on this system."""

    program: Path
    state: Path
    data: Path
    settings_file: Path


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
    """An app that was started, or that another launcher started. It runs while its main process lives."""

    lock_path: Path
    pid: int | None

    @abstractmethod
    def poll(self) -> int | None:
        """Return its exit code; None while it runs; -1 if the code is not known."""

    @abstractmethod
    def wait(self, *, limit_seconds: float) -> int | None:
        """Wait for its end, at most that long, and return as `poll` does."""

    @abstractmethod
    def is_kept(self) -> bool:
        """Return whether its keeper lives, which answers its confirm and notes how it ends."""

    @abstractmethod
    def ended_with_us(self) -> AbstractContextManager[None]:
        """Inside the block, a request to end this process is passed on to the app instead."""


class MainProcess(ABC):
    """The main process of an app, in the hands of the keeper that started it."""

    pid: int

    @abstractmethod
    def wait(self, *, limit_seconds: float) -> int | None:
        """Wait for its end, at most that long; return its exit code, or None if it runs on."""

    @abstractmethod
    def left(self) -> list[tuple[int, str | None]]:
        """Return pid and time of start of what it left running, where its end makes that unknown to everybody else."""

    @abstractmethod
    def close(self) -> None:
        """Give up what the keeper holds of it; processes that it left run on."""


class Host(ABC):
    """One operating system."""

    # the machine ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def keeps_executable_bit(self) -> bool:
        """Whether file modes on this system keep the executable bit."""

    @property
    @abstractmethod
    def has_proxy_settings(self) -> bool:
        """Whether this system has proxies beside those of the environment."""

    @abstractmethod
    def platform_tag(self) -> str:
        """Return the name that a manifest's platform is compared with, such as `linux-x86_64`."""

    @abstractmethod
    def can_ask(self) -> bool:
        """Return whether a person can answer at this process's input."""

    @abstractmethod
    def default_folders(self, app: str) -> Folders:
        """Return the usual places, the same as those of platformdirs (a test compares them)."""

    @abstractmethod
    def machine_folders(self, app: str) -> Folders:
        """Return the places of one app that serves all accounts of this machine; its data belongs to the till's."""

    @abstractmethod
    def zones(self) -> tuple[Zone, ...]:
        """Return the parts of this machine's disks in which files do not stay as they were written, as far as known.

        What the kind of a disk says is told by `Platform.disk_of`. It may take seconds: for people's commands only.
        """

    @abstractmethod
    def path_problem(self, path: Path, *, below_units: int = 0) -> str:
        """Return why this system cannot hold an absolute path; empty if it can.

        Args:
            path: the path.
            below_units: the length of what is appended to it, in the units in which the system counts.
        """

    @abstractmethod
    def link_target(self, link: Path) -> Path | None:
        """Return where a link to a folder leads; None if there is no entry of that name.

        Raises:
            OSError: there is an entry, and it is no such link; or it cannot be determined.
        """

    @abstractmethod
    def point_link(self, *, link: Path, target: Path) -> None:
        """Make a link to a folder, or lead the one that is there to another folder.

        A crash leaves the link as it was or as it will be; on Windows, where a junction cannot be replaced in one step,
        perhaps no link.

        Raises:
            OSError: as the system does; also if there is an entry of that name that is no link.
        """

    @abstractmethod
    def remove_link(self, link: Path) -> None:
        """Remove a link to a folder; what it leads to stays. Raises OSError as the system does."""

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

    @abstractmethod
    def takes_output(self, descriptor: int, *, limit_seconds: float) -> bool:
        """Return whether a stream takes a small write without waiting for its reader, or does so within a time.

        True where nobody can tell.
        """

    # the service ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def service(self, order: ServiceOrder) -> Service:
        """Return the service of an agent, at the service manager of this system; nothing is asked or changed yet."""

    @abstractmethod
    def serve(self, work: Callable[[Callable[[], None]], None], *, service: str = "") -> None:
        """Do the work of a service until this process is asked to end, then end it, with whatever it still does.

        Args:
            work: is given a function that returns when this process is asked to end. What must not be cut is finished
                when it returns.
            service: the name under which the service manager started this process; empty for a person's start.

        Raises:
            Refused: the service manager did not start this process.
        """

    @abstractmethod
    def end_self(self) -> None:
        """Ask this process to end, as its service manager would; inside `serve` alone, from any thread."""

    # accounts ------------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def has_accounts(self) -> bool:
        """Whether owner, group and mode of a file are known here, and two accounts can be kept apart by them."""

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

    @abstractmethod
    def look_command(self, path: Path) -> str:
        """Return the command that shows who may do what with a file or folder."""

    @abstractmethod
    def space_command(self, folder: Path) -> str:
        """Return the command that shows how much is free on the disk of a folder."""

    # the app -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def start_app(self, order: Order, *, keeper: str) -> App:
        """Start a keeper, which starts the app, and return once the app runs.

        Args:
            order: the app.
            keeper: the module whose `keep` the keeper runs.

        Raises:
            AppAlreadyRunning: an app runs, or another keeper starts one.
            Refused: the command cannot be run, or no keeper can.
        """

    @abstractmethod
    def run_main(self, order: Order, *, output: int, noted: Callable[[int], None]) -> MainProcess:
        """Start the main process of an app, for its keeper, with its output going to a descriptor.

        Args:
            order: the app.
            output: gets what it prints; it has no other stream, and no console.
            noted: called with the pid before the app's first instruction.

        Raises:
            OSError: it cannot be run.
        """

    @abstractmethod
    def take_app(self, order: Order) -> AbstractContextManager[Callable[..., None]]:
        """Hold the app lock inside the block; its value replaces the note about the process that runs the app.

        Raises:
            AppAlreadyRunning: an app runs, or another process starts one.
        """

    @abstractmethod
    def running_app(self, lock_path: Path) -> RunningApp | None:
        """Return the app whose main process lives; None if there is none.

        The note in the app lock names the process. Only if it cannot be judged by that, a held lock counts as an app.
        """

    @abstractmethod
    def start_time(self, pid: int) -> str | None:
        """Return the time at which a process began, as the system reports it; None if it cannot be determined."""

    @abstractmethod
    def life(self, pid: int, start_time: str | None) -> Life:
        """Return whether the process that had that pid and began at that time lives."""

    @abstractmethod
    def attach(self, running: RunningApp) -> App:
        """Return an app that another launcher started."""

    @abstractmethod
    def end_tree(self, app: App, *, grace_seconds: float) -> bool:
        """End an app and all processes it started, gracefully first; return whether all of them are gone."""

    @abstractmethod
    def end_left(self, lock_path: Path, *, grace_seconds: float) -> bool:
        """End what an app that has ended left running; return whether all of it is gone."""
