"""The part that Linux and macOS share: fork with an inherited lock, sessions, signals."""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from dbsync.errors import Refused, described, shown
from dbsync.storage.locks import Lock
from dbsync.storage.platform import this_platform
from updater.errors import AppAlreadyRunning
from updater.host.base import Account, App, Entry, Rights, RunningApp
from updater.host.shared import START_SECONDS, SharedHost

POLL_SECONDS: Final = 0.02
END_LIMIT_SECONDS: Final = 5.0
"""How long to wait after the last signal until the kernel has removed the processes."""


FOLDER_FLAGS: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""Named, because every host can be imported on every system."""


class ChildApp(App):
    """An app that this process started."""

    def __init__(self, pid: int, lock_path: Path) -> None:
        self.pid: int | None = pid
        self.lock_path = lock_path
        self._child: Final = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code; a signal that ended the app counts negative."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Wait for the end; forward SIGTERM and SIGINT that reach the launcher meanwhile to the app."""
        before = {number: signal.signal(number, self._forward) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            code = self._reap(0)
            assert code is not None
            return code
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _forward(self, number: int, _: object) -> None:
        if self._code is None:
            os.kill(self._child, number)

    def _reap(self, options: int) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self._child, options)
            except ChildProcessError:
                # Somebody else has taken its status: all that is known is that it has ended.
                self._code = -1
                return self._code
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


class PosixHost(SharedHost):
    """Host with fork, sessions and signals."""

    keeps_executable_bit = True

    @abstractmethod
    def members(self, leader: int) -> set[int]:
        """Return the leader, its descendants, and all processes in its session."""

    @abstractmethod
    def is_alive(self, pid: int) -> bool:
        """Return whether a process runs; a zombie does not."""

    has_accounts = True

    def own_account(self) -> Account:
        user, group = os.geteuid(), os.getegid()
        return Account(self.account_name(user), user, group, frozenset({group, *os.getgroups()}))

    @property
    def is_privileged(self) -> bool:
        return os.geteuid() == 0

    def account(self, name: str) -> Account | None:
        import pwd

        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return None
        return Account(name, found.pw_uid, found.pw_gid, frozenset(os.getgrouplist(name, found.pw_gid)))

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
            os.fsync(descriptor)
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
        return command if self.is_privileged else f"sudo {command}"

    def start_app(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        lock_path: Path,
        note: Mapping[str, str | None],
    ) -> App:
        lock = Lock(lock_path, like=lock_path.parent)
        if not lock.take(timeout_seconds=START_SECONDS):
            raise AppAlreadyRunning(operation="start", path=lock_path, cause="the app is running already")
        try:
            if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
                # Inherited from the process that started this one: the system would drop the app's exit status.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            told, tell = os.pipe()
            pid = os.fork()
            if pid == 0:
                self._become(command, env, cwd, lock, note, tell)
            os.close(tell)
            with os.fdopen(told, "rb") as pipe:
                # exec closes the pipe: an empty read means that the app is running.
                problem = pipe.read().decode(errors="replace")
            if problem:
                os.waitpid(pid, 0)
                raise Refused(
                    operation="start", path=Path(command[0]), cause=problem, hint="Is the version folder complete?"
                )
        finally:
            # The child has its own descriptor of the same lock; from here on the lock is the app's.
            lock.release()
        return ChildApp(pid, lock_path)

    def _become(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        lock: Lock,
        note: Mapping[str, str | None],
        tell: int,
    ) -> NoReturn:
        try:
            os.setsid()
            # The holder writes the note before it becomes the app, so the note always describes the holder.
            self.write_note(lock, os.getpid(), note)
            os.set_inheritable(lock.fileno(), True)
            empty = os.open(os.devnull, os.O_RDONLY)
            os.dup2(empty, 0)
            os.chdir(cwd)
            os.execve(command[0], list(command), dict(env))
        except OSError as cause:
            os.write(tell, shown(cause.strerror or cause).encode())
        except BaseException as cause:  # noqa: BLE001
            # No code of the launcher may continue to run in this child, whatever failed.
            os.write(tell, described(cause).encode())
        finally:
            os._exit(127)

    def end_tree(self, app: App, *, grace_seconds: float) -> bool:
        running = self.running_app(app.lock_path)
        leader = app.pid if isinstance(app, ChildApp) else self._leader(running)
        if leader is None:
            return self.running_app(app.lock_path) is None
        # Listed before the first signal: a child whose parent is gone can no longer be found by its parent.
        members = self.members(leader)
        for number, limit_seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, END_LIMIT_SECONDS)):
            members |= self.members(leader)
            _signal(members, number)
            if self._gone(app, leader, members, limit_seconds):
                return True
        return False

    def _gone(self, app: App, leader: int, members: set[int], limit_seconds: float) -> bool:
        deadline = time.monotonic() + limit_seconds
        while True:
            if isinstance(app, ChildApp):
                app.poll()
            left = {pid for pid in members | self.members(leader) if self.is_alive(pid)}
            if not left and self.running_app(app.lock_path) is None:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)

    def _leader(self, running: RunningApp | None) -> int | None:
        if running is None:
            return None
        if running.pid is not None and self.start_time(running.pid) == running.start_time:
            return running.pid
        return this_platform().holder_of(running.lock_path)


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
    os.fsync(parent)


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
