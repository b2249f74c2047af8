"""Interface of dbsync to the operating system; each system implements all of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import subprocess
    from typing import IO, NoReturn

    from dbsync.model import Disk
    from dbsync.progress import Told


Value = TypeVar("Value")


class Account(NamedTuple):
    """An account of this machine, with the rights that a process gets by becoming it."""

    name: str
    user: int
    group: int
    groups: tuple[int, ...]
    """All its groups, as at its own login."""
    home: Path


class Barrier(ABC):
    """One call that makes durable what was written on a file system since this was opened."""

    @abstractmethod
    def sync(self) -> None:
        """Make it durable.

        Raises:
            OSError: a part of it may not be durable.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up what is held open."""


class Platform(ABC):
    """One operating system. Methods raise OSError as the system does; callers turn it into an error of ours."""

    # locks ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def try_lock(self, descriptor: int, *, shared: bool) -> bool:
        """Lock an open file if no other process holds a lock on it; return whether it is locked now.

        Several processes can hold a shared lock. Closing the descriptor is the only release: a child process that
        inherited it keeps the lock.

        Raises:
            OSError: it cannot be determined.
        """

    # files ---------------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def renames_open_files(self) -> bool:
        """Whether a file can be renamed while a process has it open."""

    @property
    @abstractmethod
    def writes_beside_locks(self) -> bool:
        """Whether a file can be written through one descriptor where this process has locked it through another."""

    @abstractmethod
    def open_binary(self, path: Path, flags: int, *, mode: int) -> int:
        """Open a file as `os.open` does, never with line ends translated; return the descriptor."""

    @abstractmethod
    def create(self, path: Path, *, like: Path) -> int:
        """Make an empty file for reading and writing that gives nobody a right which `like` does not; return it open.

        It has its rights before it has content, whatever the umask is. A privileged process gives it the owner and the
        group of `like`. If `like` is missing, the nearest folder above it gives the owner, and the umask counts. A
        folder as `like` gives its own rights to read and write, except to write for everybody; so does the folder above
        a missing `like` that gives its group to what is made in it.

        Raises:
            FileExistsError: there is an entry of that name; a link is not followed.
        """

    @abstractmethod
    def create_folder(self, folder: Path, *, like: Path) -> None:
        """Make a folder as `create` makes a file; an account that may read `like` may enter it.

        Raises:
            FileExistsError: there is an entry of that name; a link is not followed.
        """

    @abstractmethod
    def open_own(self, path: Path, flags: int, *, like: Path) -> int:
        """Open a file of ours that exists, as `open_binary` does; a link is not followed.

        If it gives more rights than `like`, or a privileged process left it as its own, that is corrected where this
        process may.
        """

    @abstractmethod
    def open_log(self, path: Path, *, like: Path) -> int:
        """Open a log for a program that appends to it, made as by `create` if it is missing.

        Every write goes to the end that the file has then, also after another process has cut it.
        """

    @abstractmethod
    def open_claim(self, path: Path, *, through_links: bool = False) -> int:
        """Open, for reading, a file that another account may have made; return the descriptor at once, whatever it is.

        Neither the file nor its folder may be a link, unless links are to be followed. Opening a device or a FIFO
        neither waits nor makes it the terminal of this process; the caller looks at what was opened.

        Raises:
            FileNotFoundError: there is no entry of that name.
            OSError: a link is in the place of the file or its folder, or it cannot be opened.
        """

    @abstractmethod
    def claimed_names(self, folder: Path) -> Iterator[str]:
        """Yield the names of a folder's entries, as they are read; a link in its place is not followed.

        Raises:
            FileNotFoundError: there is no such folder.
            OSError: a link or a file is in its place, or it cannot be read.
        """

    @abstractmethod
    def replace(self, *, source: Path, target: Path) -> None:
        """Rename over `target`; wait, within bounds, for a program that has one of the two open for reading."""

    @abstractmethod
    def patiently(self, call: Callable[[], Value], *, briefly: bool = False) -> Value:
        """Return what a call on files returns; while another program holds the file, repeat it, within bounds.

        Only for calls that may be made again after they failed. `briefly` is for what stops nothing.

        Raises:
            OSError: as the call raised it last.
        """

    @abstractmethod
    def sync_file(self, path: Path) -> None:
        """Make the content of a file durable that this process has written."""

    @abstractmethod
    def sync_open(self, descriptor: int) -> None:
        """Make durable what this process has written to an open file, in the disk's own cache too."""

    @abstractmethod
    def sync_seen(self, descriptor: int, path: Path) -> None:
        """Make the content of a file durable that another process may have written, and that this one reads.

        No right to write is needed.
        """

    @abstractmethod
    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable, where the system does not do so by itself."""

    @abstractmethod
    def barrier(self, folder: Path) -> Barrier | None:
        """Return the barrier of the file system of a folder, for what is written from now on.

        None where there is none that tells of every write that failed: then each file is synced by itself.
        """

    @abstractmethod
    def clone_file(self, *, source: Path, target: Path) -> bool:
        """Copy a file by sharing its blocks, without opening it in this process; return whether there is a copy.

        Never a part: false where the file system cannot do it, and then nothing is left under `target`. The copy is not
        durable yet.
        """

    @abstractmethod
    def share_blocks(self, *, source: int, target: int) -> bool:
        """Let an open file that is new have the content of another one by sharing its blocks; return whether it has.

        False where the file system cannot do it, or the system is not asked to.
        """

    @abstractmethod
    def copy_file(self, *, source: Path, target: Path, told: Told) -> bool:
        """Copy every byte of a file, without opening it in this process; return whether there is a copy.

        Never a part: false where it fails or the system has no program for it, and then nothing is left under
        `target`. No block is shared. The copy is not durable yet. `told` receives the bytes done and in total.
        """

    @abstractmethod
    def free_bytes(self, folder: Path) -> int:
        """Return the free space for this user, in bytes, on the file system of a folder."""

    @abstractmethod
    def disk_of(self, path: Path) -> Disk:
        """Return what is known of the disk of a path, which need not exist yet; links on the way are followed.

        Nothing is written. Its kind is UNKNOWN where it cannot be determined.
        """

    @abstractmethod
    def sqlite_temporary_folder(self) -> Path | None:
        """Return the folder in which SQLite makes its temporary files; None if it finds none that it may write.

        Where it sorts for an index, and keeps what it must be able to undo (sqlite.org/tempfiles.html, 5).
        """

    @abstractmethod
    def holder_of(self, path: Path) -> int | None:
        """Return the pid of another process that has a file open; None if there is none, or it cannot be determined."""

    # processes -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def allocate(self, descriptor: int, size_bytes: int) -> None:
        """Give an empty file that many bytes for which the disk has blocks, so that no other file can get them.

        Raises:
            OSError: there is not so much space.
        """

    @abstractmethod
    def lower_priority(self) -> None:
        """Lower the priority of this process, and that of its reading and writing where the system ties them.

        There may be no way back without privileges, so only a process that does nothing else may call this. A system
        that refuses is no failure.
        """

    @abstractmethod
    def start_tree(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        output: IO[bytes] | int,
        source: int | None = None,
        errors: int | None = None,
        umask: int = -1,
        account: Account | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program apart from this process's terminal, so that `end_tree` can end it.

        Without `source` it has no input; without `errors` they go to its output. A umask counts where there is one.
        With an account it has the rights of that account and no others; only a privileged process may ask for that.

        Raises:
            OSError: it cannot be run, or not by that account.
        """

    @abstractmethod
    def end_tree(self, process: subprocess.Popen[bytes]) -> None:
        """End a program of `start_tree` and, as far as the system knows them, all that it started; wait for it."""

    @abstractmethod
    def reread_time_zone(self) -> None:
        """Compute local times in this process with the variable TZ as it is now; without it, as the machine does."""

    # accounts ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def account(self, name: str) -> Account | None:
        """Return the account of that name; None if there is none, or this system does not tell accounts apart."""

    @abstractmethod
    def own_account(self) -> Account:
        """Return the account of this process, with the groups that the process has."""

    @abstractmethod
    def is_this_account(self, name: str) -> bool:
        """Return whether this process runs as the account of that name."""

    @property
    @abstractmethod
    def is_privileged(self) -> bool:
        """Whether this process may become any account, and give files to others."""

    @abstractmethod
    def owner_of(self, path: Path) -> Account | None:
        """Return the owner of a file, or of the nearest folder above it that exists; None for a privileged one.

        The owner of a link on the way to the file goes first, if it is not privileged: it chose the file. Nothing is
        opened.

        Raises:
            OSError: it cannot be determined.
        """

    @abstractmethod
    def become(self, account: Account) -> None:
        """Give this process the rights of an account, and no others, for good; only a privileged process may.

        Raises:
            OSError: it cannot; the process must end.
        """

    # the console ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def command_line(self, words: Sequence[str]) -> str:
        """Return a command to paste into the usual shell: a name with spaces stays one word."""

    @abstractmethod
    def termination_handled(self, handler: Callable[[int], NoReturn]) -> AbstractContextManager[None]:
        """Inside the block, call `handler` with the number of a signal by which the system asks this process to end.

        A signal that has another handler, or is ignored, is left alone. For the main thread only.
        """
