"""The part that Linux and macOS share: a forked keeper, sessions, signals."""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import stat
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from dbsync.errors import Refused, described, shown
from dbsync.storage.platform import this_platform
from updater.host.base import App, Entry, Life, MainProcess, Order, Rights
from updater.host.shared import FAILED, KeptApp, SharedHost, read_note

if TYPE_CHECKING:
    from updater.decisions.places import Zone
    from updater.host.services.base import Service, ServiceOrder

NAME_LIMIT_BYTES: Final = 255
POLL_SECONDS: Final = 0.02
END_LIMIT_SECONDS: Final = 5.0
"""How long to wait after the last signal until the kernel has removed the processes."""


FOLDER_FLAGS: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""Named, because every host can be imported on every system."""


class ForkedKeeperApp(KeptApp):
    """An app whose keeper was forked from this process."""

    def __init__(self, host: SharedHost, order: Order, told: int, keeper: int) -> None:
        self._keeper: Final = keeper
        super().__init__(host, order, told)

    def keeper_ended(self, limit_seconds: float) -> bool:
        # It tells how the app ended and closes the pipe by its end: both can be read.
        return bool(select.select([self._told], [], [], limit_seconds)[0])

    def end_keeper(self) -> None:
        # Somebody else may have taken its status: nothing is read from it.
        with suppress(ChildProcessError):
            os.waitpid(self._keeper, 0)


class ForkedMain(MainProcess):
    """The main process of an app, a child of its keeper."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._woken, wakes = os.pipe()
        for descriptor in (self._woken, wakes):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._forward)
        self._code: int | None = None

    def wait(self, *, limit_seconds: float) -> int | None:
        """Wait for its end, at most that long; a signal that ended it counts negative."""
        deadline = time.monotonic() + limit_seconds
        while self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                break
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0:
                break
            if select.select([self._woken], [], [], left_seconds)[0]:
                os.read(self._woken, 4096)
        return self._code

    def left(self) -> list[tuple[int, str | None]]:
        """Return nothing: its session tells."""
        return []

    def close(self) -> None:
        """Do nothing: the kernel holds nothing for it."""

    def _forward(self, number: int, _: object) -> None:
        if self._code is None:
            os.kill(self.pid, number)


class PosixHost(SharedHost):
    """Host with fork, sessions and signals."""

    keeps_executable_bit = True
    path_limit_bytes = 4095
    """PATH_MAX without the NUL at the end."""

    def machine(self) -> str:
        return os.uname().machine

    def zones(self) -> tuple[Zone, ...]:
        return ()

    def path_problem(self, path: Path, *, below_units: int = 0) -> str:
        for part in path.parts:
            if len(os.fsencode(part)) > NAME_LIMIT_BYTES:
                return f"the name {part[:40]}… has {len(os.fsencode(part))} bytes; a name may have {NAME_LIMIT_BYTES}"
        size_bytes = len(os.fsencode(path))
        if size_bytes + below_units > self.path_limit_bytes:
            need = f" and {below_units} for what lies below it" if below_units else ""
            return f"it has {size_bytes} bytes{need}; a path may have {self.path_limit_bytes}"
        return ""

    def link_target(self, link: Path) -> Path | None:
        try:
            return link.parent / link.readlink()
        except FileNotFoundError:
            return None

    def point_link(self, *, link: Path, target: Path) -> None:
        # Raises if it is something else: a rename would replace a file.
        self.link_target(link)
        new = link.with_name(f"{link.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(link)

    def remove_link(self, link: Path) -> None:
        link.unlink()

    @abstractmethod
    def members(self, leader: int) -> set[int]:
        """Return the leader, its descendants, and all processes in its session."""

    @abstractmethod
    def is_alive(self, pid: int) -> bool:
        """Return whether a process runs; a zombie does not."""

    def service(self, order: ServiceOrder) -> Service:
        raise Refused(
            operation="use a service", cause="no service manager of this system is known",
            hint=f"Let it run: {' '.join(order.command)}",
        )  # fmt: skip

    def serve(self, work: Callable[[Callable[[], None]], None], *, service: str = "") -> None:
        asked, asks = os.pipe()
        os.set_blocking(asks, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: _write_one(asks))

        def wait() -> None:
            os.read(asked, 1)

        work(wait)
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        # Not by the end of the main program, which waits for every thread: a download takes as long as it likes.
        os._exit(0)

    def end_self(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    has_accounts = True

    def group(self, name: str) -> int | None:
        import grp

        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None

    def account_name(self, user: int) -> str:
        import pwd

        try:
            return pwd.getpwuid(user).pw_name
        except KeyError:
            return str(user)

    def group_name(self, group: int) -> str:
        import grp

        try:
            return grp.getgrgid(group).gr_name
        except KeyError:
            return str(group)

    def rights_of(self, path: Path) -> Rights | None:
        try:
            return _rights(path.lstat())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def set_rights(self, *, path: Path, anchor: Path, rights: Rights, make: bool = False) -> None:
        *folders, name = path.relative_to(anchor).parts
        parent = os.open(anchor, FOLDER_FLAGS & ~os.O_NOFOLLOW)
        try:
            for folder in folders:
                inner = os.open(folder, FOLDER_FLAGS, dir_fd=parent)
                os.close(parent)
                parent = inner
            if make:
                _make(name, parent, rights.entry)
            flags = FOLDER_FLAGS if rights.entry is Entry.FOLDER else os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(name, flags, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            found = _rights(os.fstat(descriptor))
            if found.entry is not rights.entry:
                raise OSError(errno.EINVAL, f"it is a {found.entry}, not a {rights.entry}", str(path))
            if found.entry is Entry.FILE and found.names_count != 1:
                # A second name may be anybody's file: giving it away would give that file away.
                raise OSError(errno.EMLINK, "the file has a second name", str(path))
            if (found.user, found.group) != (rights.user, rights.group):
                os.fchown(descriptor, rights.user, rights.group)
            # After the owner: a change of owner clears set-id bits.
            if _rights(os.fstat(descriptor)).mode != rights.mode:
                os.fchmod(descriptor, rights.mode)
            this_platform().sync_open(descriptor)
        finally:
            os.close(descriptor)

    def rights_command(self, path: Path, rights: Rights, *, found: Rights | None) -> str:
        import shlex

        owner, group = self.account_name(rights.user), self.group_name(rights.group)
        place, mode = shlex.quote(str(path)), f"{rights.mode:04o}"
        if found is not None and (
            found.entry is not rights.entry or (found.names_count > 1 and found.entry is Entry.FILE)
        ):
            return self.elevated(f"mv -- {place} {shlex.quote(f'{path}.aside')}")
        if found is not None:
            words = [f"chown -h -- {owner}:{group} {place}", f"chmod -- {mode} {place}"]
            changed = ((found.user, found.group) != (rights.user, rights.group), True)
            return " && ".join(self.elevated(word) for word, needed in zip(words, changed, strict=True) if needed)
        source = "-d" if rights.entry is Entry.FOLDER else os.devnull
        return self.elevated(f"install -o {owner} -g {group} -m {mode} {source} {place}")

    def elevated(self, command: str) -> str:
        return command if this_platform().is_privileged else f"sudo {command}"

    def look_command(self, path: Path) -> str:
        import shlex

        return f"ls -ld {shlex.quote(str(path))}"

    def space_command(self, folder: Path) -> str:
        import shlex

        return f"df -h {shlex.quote(str(folder))}"

    def start_app(self, order: Order, *, keeper: str) -> App:
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_keeper(order, keeper, tell)
        os.close(tell)
        return ForkedKeeperApp(self, order, told, pid)

    def run_main(self, order: Order, *, output: int, noted: Callable[[int], None]) -> MainProcess:
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(order, output, noted, tell)
        os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            # exec closes the pipe: an empty read means that the app is running.
            problem = pipe.read().decode(errors="replace")
        if problem:
            os.waitpid(pid, 0)
            raise Refused(operation="start", path=Path(order.command[0]), cause=problem)
        return ForkedMain(pid)

    def takes_output(self, descriptor: int, *, limit_seconds: float) -> bool:
        return bool(select.select([], [descriptor], [], limit_seconds)[1])

    def ask_to_end(self, app: App, number: int) -> None:
        if app.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(app.pid, number)

    @contextmanager
    def forwarded(self, forward: Callable[[int], None]) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, lambda came, _: forward(came)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def life(self, pid: int, start_time: str | None) -> Life:
        if not self.is_alive(pid):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return Life.DEAD
            except PermissionError:
                # It exists, and is hidden from this account.
                return Life.UNKNOWN
            return Life.DEAD
        if start_time is None:
            return Life.UNKNOWN
        return Life.ALIVE if self.start_time(pid) == start_time else Life.DEAD

    def end_tree(self, app: App, *, grace_seconds: float) -> bool:
        running = self.running_app(app.lock_path)
        if running is None:
            return True
        judged = running.pid is not None and self.life(running.pid, running.start_time) is Life.ALIVE
        # Without a note that names it, the holder of the lock is the app: it inherited the lock.
        leader = running.pid if judged else this_platform().holder_of(running.lock_path)
        return leader is not None and self._ended(app.lock_path, leader, grace_seconds)

    def end_left(self, lock_path: Path, *, grace_seconds: float) -> bool:
        note = read_note(lock_path)
        leader = note.get("pid")
        if not isinstance(leader, int) or self.noted_life(note) is not Life.DEAD or self.is_alive(leader):
            # Nothing is known of it; or its pid is another process's by now, whose session is not that of the app.
            return True
        # A session keeps its number, the pid of the app, while one process of it lives: nobody else can get it.
        left = [pid for pid in self.members(leader) if self.is_alive(pid)]
        return not left or self._ended(lock_path, leader, grace_seconds)

    def _ended(self, lock_path: Path, leader: int, grace_seconds: float) -> bool:
        # Listed before the first signal: a child whose parent is gone can no longer be found by its parent.
        members = self.members(leader)
        for number, limit_seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, END_LIMIT_SECONDS)):
            members |= self.members(leader)
            _signal(members, number)
            if self._gone(lock_path, leader, members, limit_seconds):
                return True
        return False

    def _gone(self, lock_path: Path, leader: int, members: set[int], limit_seconds: float) -> bool:
        deadline = time.monotonic() + limit_seconds
        while True:
            left = {pid for pid in members | self.members(leader) if self.is_alive(pid)}
            if not left and self.running_app(lock_path) is None:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)


def _be_keeper(order: Order, keeper: str, tell: int) -> NoReturn:
    """Turn this forked process into a keeper: it shares no session, file or object with the launcher any more."""
    try:
        # What the launcher had open must neither be closed by a finalizer, nor stay locked while the app runs.
        gc.disable()
        os.setsid()
        _leave_descriptors(tell)
        # Ignored, as a launcher may be started, the system would drop how the app ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda *_: None)
        # It keeps no folder busy, and finds our modules from anywhere.
        sys.path[:] = map(os.path.abspath, sys.path)
        os.chdir("/")
        __import__(keeper, fromlist=["keep"]).keep(order, tell)
    except BaseException as cause:  # noqa: BLE001
        # No code of the launcher may continue to run in this child, whatever failed.
        with suppress(OSError):
            os.write(tell, f"{FAILED} {shown(described(cause))}\n".encode())
    finally:
        os._exit(0)


def _leave_descriptors(kept: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - the names alone
        if int(name) > 2 and int(name) != kept:
            with suppress(OSError):
                os.close(int(name))


def _become(order: Order, output: int, noted: Callable[[int], None], tell: int) -> NoReturn:
    """Turn this forked process into the app."""
    try:
        os.setsid()
        # Before it becomes the app, so the note always describes the app.
        noted(os.getpid())
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(order.folder)
        os.execve(order.command[0], list(order.command), dict(order.environment))
    except OSError as cause:
        os.write(tell, shown(cause.strerror or cause).encode())
    except BaseException as cause:  # noqa: BLE001
        os.write(tell, described(cause).encode())
    finally:
        os._exit(127)


def _write_one(descriptor: int) -> None:
    # Full: it was asked to end many times.
    with suppress(OSError):
        os.write(descriptor, b"\0")


def _rights(found: os.stat_result) -> Rights:
    kinds = ((stat.S_ISDIR, Entry.FOLDER), (stat.S_ISREG, Entry.FILE), (stat.S_ISLNK, Entry.LINK))
    entry = next((entry for is_it, entry in kinds if is_it(found.st_mode)), Entry.OTHER)
    return Rights(entry, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_nlink)


def _make(name: str, parent: int, entry: Entry) -> None:
    """Make an entry for its owner alone, unless there is one of that name; its rights follow."""
    try:
        if entry is Entry.FOLDER:
            os.mkdir(name, 0o700, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent))
    except FileExistsError:
        return
    this_platform().sync_open(parent)


def tree_of(leader: int, processes: Mapping[int, tuple[int, int]]) -> set[int]:
    """Return the leader, its descendants, and its session. `processes`: pid → (parent, session)."""
    found = {pid for pid, (_, session) in processes.items() if session == leader}
    found.add(leader)
    while True:
        more = {pid for pid, (parent, _) in processes.items() if parent in found and pid not in found}
        if not more:
            return found & processes.keys()
        found |= more


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
