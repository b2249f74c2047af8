"""The part that Linux and macOS share: advisory locks, synced folders, process groups."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dbsync.storage.platform.base import Account, Barrier, Platform, Value

if TYPE_CHECKING:
    import pwd
    import subprocess
    from typing import IO, NoReturn

NICER_BY: Final = 10
ZEROS_BYTES: Final = 1 << 20
PARTS_LIMIT: Final = 1000
"""Parts of a path, with those of the links in it; more are a circle of links."""
FILE_OF_ONE: Final = 0o600
FOLDER_OF_ONE: Final = 0o700
FOLDER_OF_GROUP: Final = 0o2030
"""New entries get the group of the folder, whose members may make some."""
NEW_FILE: Final = 0o644
"""As SQLite makes a database, before the umask."""
NEW_FOLDER: Final = 0o755


class PosixPlatform(Platform):
    """A system with flock, sessions and signals."""

    def try_lock(self, descriptor: int, *, shared: bool) -> bool:
        import fcntl

        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def renames_open_files(self) -> bool:
        return True

    @property
    def writes_beside_locks(self) -> bool:
        return True

    def open_binary(self, path: Path, flags: int, *, mode: int) -> int:
        return os.open(path, flags, mode)

    def create(self, path: Path, *, like: Path) -> int:
        model = _rights_of(like)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(path, flags, NEW_FILE if model.mode is None else FILE_OF_ONE)
        try:
            _give(descriptor, model, model.mode)
        except BaseException:
            os.close(descriptor)
            path.unlink()
            raise
        return descriptor

    def create_folder(self, folder: Path, *, like: Path) -> None:
        model = _rights_of(like)
        folder.mkdir(NEW_FOLDER if model.mode is None else FOLDER_OF_ONE)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # Entering needs x: an account that reads the database may read its backups.
            passed_on = os.fstat(descriptor).st_mode & stat.S_ISGID
            enter = None if model.mode is None else model.mode | (model.mode & 0o444) >> 2 | passed_on
            _give(descriptor, model, enter)
        finally:
            os.close(descriptor)

    def open_own(self, path: Path, flags: int, *, like: Path) -> int:
        descriptor = os.open(path, flags | os.O_NOFOLLOW)
        try:
            _correct(descriptor, _rights_of(like))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def open_log(self, path: Path, *, like: Path) -> int:
        with suppress(FileExistsError):
            os.close(self.create(path, like=like))
        return self.open_own(path, os.O_WRONLY | os.O_APPEND, like=like)

    def open_claim(self, path: Path, *, through_links: bool = False) -> int:
        # Without O_NONBLOCK a FIFO waits for a writer; without O_NOCTTY a terminal may become this process's own.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
        if through_links:
            return os.open(path, flags)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            return os.open(path.name, flags | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)

    def claimed_names(self, folder: Path) -> Iterator[str]:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    yield entry.name
        finally:
            os.close(descriptor)

    def replace(self, *, source: Path, target: Path) -> None:
        # An open file never blocks a rename here.
        source.replace(target)

    def free_bytes(self, folder: Path) -> int:
        # shutil.disk_usage does the same, and loads the libraries of four compressions.
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize

    def sqlite_temporary_folder(self) -> Path | None:
        # The order of SQLite's `unixTempFileDir`, which asks for the same rights.
        named = (os.environ.get(name) for name in ("SQLITE_TMPDIR", "TMPDIR"))
        for folder in (*named, "/var/tmp", "/usr/tmp", "/tmp", "."):  # noqa: S108 - SQLite's own list
            if folder and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
                return Path(folder)
        return None

    def patiently(self, call: Callable[[], Value], *, briefly: bool = False) -> Value:
        # An open file blocks nothing here.
        return call()

    def sync_file(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self.sync_open(descriptor)
        finally:
            os.close(descriptor)

    def sync_open(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_seen(self, descriptor: int, path: Path) -> None:
        self.sync_open(descriptor)

    def sync_folder(self, folder: Path) -> None:
        self.sync_file(folder)

    def barrier(self, folder: Path) -> Barrier | None:
        # sync(2) waits for nothing on some systems and tells of no failure on any.
        return None

    def allocate(self, descriptor: int, size_bytes: int) -> None:
        # Written, because an extended file has no blocks here.
        zeros = memoryview(bytes(ZEROS_BYTES))
        while size_bytes > 0:
            size_bytes -= os.write(descriptor, zeros[: min(size_bytes, ZEROS_BYTES)])

    def lower_priority(self) -> None:
        # Linux takes the I/O priority from the nice value (man7.org, ioprio_set(2)).
        try:
            os.nice(NICER_BY)
        except OSError:
            return

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
        import subprocess

        return subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL if source is None else source,
            stdout=output,
            stderr=subprocess.STDOUT if errors is None else errors,
            start_new_session=True,
            umask=umask,
            user=account.user if account is not None else None,
            group=account.group if account is not None else None,
            extra_groups=account.groups if account is not None else None,
        )

    def end_tree(self, process: subprocess.Popen[bytes]) -> None:
        import signal

        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def reread_time_zone(self) -> None:
        time.tzset()

    def account(self, name: str) -> Account | None:
        import pwd

        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return None
        return _account(found)

    def own_account(self) -> Account:
        import pwd

        user, group = os.geteuid(), os.getegid()
        groups = tuple({group, *os.getgroups()})
        try:
            found = pwd.getpwuid(user)
        except KeyError:
            return Account(str(user), user, group, groups, Path("/"))
        return Account(found.pw_name, user, group, groups, Path(found.pw_dir))

    def is_this_account(self, name: str) -> bool:
        found = self.account(name)
        return found is not None and found.user == os.geteuid()

    @property
    def is_privileged(self) -> bool:
        return os.geteuid() == 0

    def owner_of(self, path: Path) -> Account | None:
        found = _owner_of(path)
        if found.st_uid == 0:
            return None
        import pwd

        try:
            return _account(pwd.getpwuid(found.st_uid))
        except KeyError:
            # On no list: it has no groups, and must not keep the group of root.
            return Account(
                str(found.st_uid), found.st_uid, found.st_gid if found.st_gid != 0 else found.st_uid, (), Path("/")
            )

    def become(self, account: Account) -> None:
        # In this order: without the rights of root, no group can be left.
        os.setgroups(account.groups)
        os.setgid(account.group)
        os.setuid(account.user)
        if 0 in (os.getuid(), os.geteuid()):
            raise PermissionError(errno.EPERM, "the rights of root could not be given up")
        os.environ.update(HOME=str(account.home), USER=account.name, LOGNAME=account.name)

    def command_line(self, words: Sequence[str]) -> str:
        import shlex

        return shlex.join(words)

    def termination_handled(self, handler: Callable[[int], NoReturn]) -> AbstractContextManager[None]:
        import signal

        from dbsync.storage.platform.signals import handled

        return handled((signal.SIGTERM,), handler)


def _account(found: pwd.struct_passwd) -> Account:
    groups = tuple(os.getgrouplist(found.pw_name, found.pw_gid))
    return Account(found.pw_name, found.pw_uid, found.pw_gid, groups, Path(found.pw_dir))


def _owner_of(path: Path) -> os.stat_result:
    """Return the status of a link of another account on the way to a file, else of the file or the folder above it."""
    absolute = path.absolute()
    here, waiting = Path(absolute.anchor), list(absolute.parts[1:])
    folder = found = here.lstat()
    for _ in range(PARTS_LIMIT):
        if not waiting:
            break
        name = waiting.pop(0)
        if name == "..":
            here = here.parent
            folder = found = here.lstat()
            continue
        try:
            entry = (here / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            break
        if stat.S_ISLNK(entry.st_mode):
            if entry.st_uid != 0:
                return entry
            target = (here / name).readlink()
            here = Path(target.anchor) if target.is_absolute() else here
            waiting[:0] = target.parts[1:] if target.is_absolute() else target.parts
            continue
        here, folder, found = here / name, found, entry
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    # A second name of a file of root's may have been given to it by the owner of the folder.
    is_second_name = stat.S_ISREG(found.st_mode) and found.st_nlink > 1 and found.st_uid == 0
    return folder if is_second_name else found


class _Rights(NamedTuple):
    """The rights on a file; without a mode there is no such file, and the owner is that of the folder."""

    mode: int | None
    user: int
    group: int


def _rights_of(like: Path) -> _Rights:
    path = like
    while True:
        try:
            # Through links, as SQLite opens a database.
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            if path == path.parent:
                raise
            path = path.parent
            continue
        # A folder that was named as the model gives its rights. One that is only above a missing file does if it is
        # made for a group: then the first member that makes a database must not close it to the others.
        is_model = path == like or found.st_mode & FOLDER_OF_GROUP == FOLDER_OF_GROUP
        known = stat.S_ISREG(found.st_mode) or (stat.S_ISDIR(found.st_mode) and is_model)
        most = 0o666 if stat.S_ISREG(found.st_mode) else 0o664
        # Its owner can give himself the right to write, and SQLite must write what it has made.
        return _Rights((found.st_mode & most) | FILE_OF_ONE if known else None, found.st_uid, found.st_gid)


def _give(descriptor: int, model: _Rights, mode: int | None) -> None:
    _give_owner(descriptor, model)
    found = os.fstat(descriptor)
    if mode is None:
        # The umask has decided; one that takes the owner's own rights away helps nobody.
        _set_mode(
            descriptor, stat.S_IMODE(found.st_mode) | (FOLDER_OF_ONE if stat.S_ISDIR(found.st_mode) else FILE_OF_ONE)
        )
        return
    if found.st_gid != model.group:
        # Another group gets no more than everybody does.
        mode &= ~0o070 | (mode & 0o007) << 3
    _set_mode(descriptor, mode)


def _give_owner(descriptor: int, model: _Rights) -> None:
    # Some file systems, like FAT, have no owners: the mount decides there.
    if os.geteuid() == 0:
        with suppress(PermissionError):
            os.fchown(descriptor, model.user, model.group)
    elif os.fstat(descriptor).st_gid != model.group:
        # Allowed to a member of that group.
        with suppress(PermissionError):
            os.fchown(descriptor, -1, model.group)


def _set_mode(descriptor: int, mode: int) -> None:
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
        with suppress(PermissionError):
            os.fchmod(descriptor, mode)


def _correct(descriptor: int, model: _Rights) -> None:
    found = os.fstat(descriptor)
    # Never a file that has another name: that may be anybody's.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or model.mode is None:
        return
    if found.st_uid == 0 != model.user:
        _give_owner(descriptor, model)
    if stat.S_IMODE(found.st_mode) & ~model.mode and os.geteuid() in (0, found.st_uid):
        _set_mode(descriptor, stat.S_IMODE(found.st_mode) & model.mode)
