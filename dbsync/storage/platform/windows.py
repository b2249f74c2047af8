"""Windows: locks are on byte ranges, an open file blocks a rename, a Job holds a process with its children.

Tested under wine.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.storage.platform import win32
from dbsync.storage.platform.base import Account, Barrier, Platform, Value

if TYPE_CHECKING:
    import subprocess
    from typing import IO, NoReturn

    from dbsync.model import Disk
    from dbsync.progress import Told

LOCKED_BYTE: Final = 1 << 30
"""Byte ranges are locked against reading too, so the locked byte lies far behind the file's content."""
HELD_WAITS_SECONDS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Virus scanners and indexers hold files for seconds: bounded, growing waits."""
DENIED_WAITS_SECONDS: Final = HELD_WAITS_SECONDS[:4]
"""For an error that is also a lack of rights, which no waiting changes."""
ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION = 5, 32, 33
"""Errors of a file that another program holds; the first also while a removed one is still open (learn.microsoft.com,
System Error Codes)."""
BELOW_NORMAL: Final = 0x4000
"""BELOW_NORMAL_PRIORITY_CLASS (learn.microsoft.com, SetPriorityClass). The background mode below it can starve."""
APPEND_ONLY: Final = 0x0010_0084
"""FILE_APPEND_DATA, FILE_READ_ATTRIBUTES and SYNCHRONIZE (learn.microsoft.com, File Access Rights Constants)."""
SHARED_FULLY, OPEN_EXISTING = 0x7, 3
DRIVE_REMOVABLE, DRIVE_FIXED, DRIVE_REMOTE, DRIVE_CDROM, DRIVE_RAM = 2, 3, 4, 5, 6
"""Answers of GetDriveTypeW."""
FILE_OBJECT: Final = 1
"""SE_FILE_OBJECT (learn.microsoft.com, SE_OBJECT_TYPE)."""
DACL: Final = 0x4
PROTECTED_DACL, UNPROTECTED_DACL = 0x8000_0000, 0x2000_0000
"""Parts of SECURITY_INFORMATION: the list of rights, and whether it also inherits those of the folder."""
DACL_PROTECTED: Final = 0x1000
"""SE_DACL_PROTECTED, in the control bits of a security descriptor."""


class WindowsPlatform(Platform):
    """Windows."""

    def __init__(self) -> None:
        self._jobs: Final[dict[int, win32.Job]] = {}
        """The Job of each program of `start_tree`, by pid."""

    def try_lock(self, descriptor: int, *, shared: bool) -> bool:
        import msvcrt

        handle = msvcrt.get_osfhandle(descriptor)  # type: ignore[attr-defined,unused-ignore]
        return win32.lock_byte(handle, LOCKED_BYTE, shared=shared)

    @property
    def renames_open_files(self) -> bool:
        return False

    @property
    def writes_beside_locks(self) -> bool:
        return False

    def open_binary(self, path: Path, flags: int, *, mode: int) -> int:
        flags |= os.O_BINARY  # type: ignore[attr-defined,unused-ignore]
        return self.patiently(lambda: os.open(path, flags, mode))

    def create(self, path: Path, *, like: Path) -> int:
        descriptor = self.open_binary(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o777)
        _copy_rights(source=like, target=path)
        return descriptor

    def create_folder(self, folder: Path, *, like: Path) -> None:
        folder.mkdir()
        _copy_rights(source=like, target=folder)

    def open_own(self, path: Path, flags: int, *, like: Path) -> int:
        """Open it; a link is followed: only administrators may make links here."""
        return self.open_binary(path, flags, mode=0o666)

    def open_log(self, path: Path, *, like: Path) -> int:
        import msvcrt
        from _winapi import CreateFile  # type: ignore[attr-defined,unused-ignore]

        with suppress(FileExistsError):
            os.close(self.create(path, like=like))
        # The right to append and none to write: the system itself puts every write at the end.
        handle = self.patiently(
            lambda: CreateFile(str(path), APPEND_ONLY, SHARED_FULLY, 0, OPEN_EXISTING, 0, 0), briefly=True
        )
        return int(msvcrt.open_osfhandle(handle, os.O_APPEND | os.O_WRONLY))  # type: ignore[attr-defined,unused-ignore]

    def open_claim(self, path: Path, *, through_links: bool = False) -> int:
        flags = os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT  # type: ignore[attr-defined,unused-ignore]
        if through_links:
            return self.patiently(lambda: os.open(path, flags))
        _check_no_link(path.parent)
        before = _check_no_link(path)
        descriptor = self.patiently(lambda: os.open(path, flags))
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != (before.st_dev, before.st_ino):
            # It was replaced in between, perhaps by a link.
            os.close(descriptor)
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        return descriptor

    def claimed_names(self, folder: Path) -> Iterator[str]:
        _check_no_link(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name

    def replace(self, *, source: Path, target: Path) -> None:
        self.patiently(lambda: source.replace(target))

    def patiently(self, call: Callable[[], Value], *, briefly: bool = False) -> Value:
        waited_count = 0
        while True:
            try:
                return call()
            except OSError as cause:
                waits = waits_seconds(_code_of(cause), briefly=briefly)
                if waited_count >= len(waits):
                    if waits and not briefly:
                        _name_users(cause)
                    raise
                time.sleep(waits[waited_count])
                waited_count += 1

    def sqlite_temporary_folder(self) -> Path | None:
        # The order of GetTempPath, which SQLite asks. It takes the first that has a value, whether or not the folder
        # is there (learn.microsoft.com, GetTempPathW).
        named = (os.environ.get(name) for name in ("TMP", "TEMP", "USERPROFILE", "SYSTEMROOT"))
        folder = next((Path(folder) for folder in named if folder), None)
        return folder if folder is not None and folder.is_dir() else None

    def sync_file(self, path: Path) -> None:
        descriptor = self.open_binary(path, os.O_RDWR, mode=0)
        try:
            self.sync_open(descriptor)
        finally:
            os.close(descriptor)

    def sync_open(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_seen(self, descriptor: int, path: Path) -> None:
        """Flush it if it can be opened for writing, which flushing takes here.

        Another program that has it open, or a lack of rights, is no failure: who wrote it flushed it before it got its
        name.
        """
        try:
            own = os.open(path, os.O_RDWR | os.O_BINARY)  # type: ignore[attr-defined,unused-ignore]
        except PermissionError:
            return
        try:
            self.sync_open(own)
        finally:
            os.close(own)

    def sync_folder(self, folder: Path) -> None:
        """Do nothing: there is no such call, and NTFS journals its names."""

    def barrier(self, folder: Path) -> Barrier | None:
        # To flush a volume takes an administrator.
        return None

    def clone_file(self, *, source: Path, target: Path) -> bool:
        """Return false: NTFS cannot share blocks, and ReFS is not asked to."""
        return False

    def share_blocks(self, *, source: int, target: int) -> bool:
        """Return false: NTFS cannot, and ReFS is not asked to."""
        return False

    def copy_file(self, *, source: Path, target: Path, told: Told) -> bool:
        """Return false: SQLite's locks keep other programs from reading a part of a large file."""
        return False

    def free_bytes(self, folder: Path) -> int:
        import shutil

        return shutil.disk_usage(folder).free

    def disk_of(self, path: Path) -> Disk:
        nearest = path.absolute()
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        # A mapped drive becomes \\SERVER\SHARE, a SUBST the folder that it stands for, and links are followed.
        real = os.path.realpath(nearest)
        for known in (real, str(nearest)):
            if is_share(known):
                return disk(DRIVE_REMOTE, "", place=known)
        try:
            volume = win32.volume_of(real)
        except OSError:
            # The disk is not there now: its letter may still tell of a share.
            volume = path.absolute().anchor
        return disk(win32.kernel().GetDriveTypeW(volume), win32.file_system_of(volume), place=volume)

    def holder_of(self, path: Path) -> int | None:
        return next((user.pid for user in _others_that_use(path)), None)

    def allocate(self, descriptor: int, size_bytes: int) -> None:
        # NTFS allocates the clusters of a file as it is extended, unless it is sparse.
        os.ftruncate(descriptor, size_bytes)

    def lower_priority(self) -> None:
        kernel = win32.kernel()
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), BELOW_NORMAL)

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

        if account is not None:
            raise PermissionError(errno.EPERM, "a program cannot be started as another account on this system")

        # It ends with this process too, whatever ends that.
        job = win32.Job(kills_on_close=True)
        try:
            process = win32.start_suspended(
                command,
                job=job,
                cwd=cwd,
                env=env,
                source=subprocess.DEVNULL if source is None else source,
                output=output,
                errors=subprocess.STDOUT if errors is None else errors,
            )
            win32.resume(process)
        except BaseException:
            # What is in it ends with it.
            job.close()
            raise
        self._jobs[process.pid] = job
        return process

    def end_tree(self, process: subprocess.Popen[bytes]) -> None:
        job = self._jobs.pop(process.pid, None)
        if job is not None:
            try:
                job.terminate()
            finally:
                job.close()
        process.wait()

    def reread_time_zone(self) -> None:
        import ctypes

        # The runtime that Python and SQLite share reads the variable only once (learn.microsoft.com, _tzset).
        ctypes.CDLL("ucrtbase")._tzset()  # noqa: SLF001 - its name

    def account(self, name: str) -> Account | None:
        """Return None: accounts are not told apart on this system yet."""
        return None

    def own_account(self) -> Account:
        """Return its name: numbers of accounts are of POSIX."""
        return Account(os.environ.get("USERNAME", ""), 0, 0, (), Path.home())

    def is_this_account(self, name: str) -> bool:
        """Return true: accounts are not told apart on this system yet, and one does everything."""
        return True

    @property
    def is_privileged(self) -> bool:
        return False

    def owner_of(self, path: Path) -> Account | None:
        """Return None: no process becomes another account here."""
        return None

    def become(self, account: Account) -> None:
        raise PermissionError(errno.EPERM, "a process cannot become another account on this system")

    def command_line(self, words: Sequence[str]) -> str:
        from subprocess import list2cmdline

        return list2cmdline(words)

    def termination_handled(self, handler: Callable[[int], NoReturn]) -> AbstractContextManager[None]:
        import signal

        from dbsync.storage.platform.signals import handled

        # Nothing outside sends SIGTERM here; closing the console, or a parent, sends SIGBREAK.
        return handled((signal.SIGTERM, signal.SIGBREAK), handler)  # type: ignore[attr-defined,unused-ignore]


def is_share(path: str) -> bool:
    """Return whether a path names another machine, as a UNC path does; its long form is one too."""
    text = path.replace("/", "\\")
    if text[:8].upper() == "\\\\?\\UNC\\":
        return True
    return text.startswith("\\\\") and not text.startswith(("\\\\?\\", "\\\\.\\"))


def disk(drive_type: int, file_system: str, *, place: str) -> Disk:
    """Return the disk that GetDriveTypeW and GetVolumeInformationW describe (learn.microsoft.com)."""
    from dbsync.model import Disk, DiskKind

    name = file_system.lower()
    if drive_type == DRIVE_REMOTE:
        return Disk(DiskKind.NETWORK, name or "a share")
    if drive_type in (DRIVE_REMOVABLE, DRIVE_CDROM):
        return Disk(DiskKind.REMOVABLE, name, f"{place} can be taken out")
    if drive_type == DRIVE_RAM:
        return Disk(DiskKind.FORGETS, name, f"the files of {place} are in memory")
    return Disk(DiskKind.FIXED if drive_type == DRIVE_FIXED else DiskKind.UNKNOWN, name)


def waits_seconds(code: int | None, *, briefly: bool) -> tuple[float, ...]:
    """Return how long to wait before each repetition of a call that failed with that error of Windows."""
    if code in (SHARING_VIOLATION, LOCK_VIOLATION):
        return DENIED_WAITS_SECONDS if briefly else HELD_WAITS_SECONDS
    return DENIED_WAITS_SECONDS if code == ACCESS_DENIED else ()


def _others_that_use(path: Path) -> list[win32.User]:
    """Return the other programs that have a file open; none if that cannot be determined."""
    with suppress(OSError):
        return [user for user in win32.users_of(path) if user.pid != os.getpid()]
    return []


def _name_users(cause: OSError) -> None:
    """Put the programs that have a file open into the words of an error that says only that there are some."""
    names = (name for name in (cause.filename, cause.filename2) if isinstance(name, str | os.PathLike))
    paths = [path for path in map(Path, names) if path.is_file()]
    cause.strerror = named_with_users(str(cause.strerror), [user for path in paths for user in _others_that_use(path)])


def named_with_users(words: str, users: Sequence[win32.User]) -> str:
    """Return the words of the system on a file in use, and the programs that use it."""
    named = dict.fromkeys(f"{user.name or 'a program'}, process {user.pid}" for user in users)
    return f"{words} (open in {'; '.join(named)})" if named else words


def _code_of(cause: OSError) -> int | None:
    """Return the error of Windows behind an error of Python, whose `open` passes on that of the C library alone."""
    code = getattr(cause, "winerror", None)
    if code is not None or cause.errno != errno.EACCES:
        return code
    import ctypes

    found = ctypes.c_ulong()
    # A value of the thread in the runtime that Python shares, set by the call (learn.microsoft.com, _doserrno).
    ctypes.CDLL("ucrtbase")._get_doserrno(ctypes.byref(found))  # noqa: SLF001 - its name
    return found.value or ACCESS_DENIED


def parts_to_set(control: int) -> int:
    """Return the SECURITY_INFORMATION that gives a file the same list of rights, for the control bits of the model.

    A list that is protected from the rights of its folder stays so; any other also inherits those of the new folder.
    """
    return DACL | (PROTECTED_DACL if control & DACL_PROTECTED else UNPROTECTED_DACL)


def _check_no_link(path: Path) -> os.stat_result:
    """Return the status of an entry that is no reparse point: no link, junction or mount (learn.microsoft.com)."""
    found = path.lstat()
    if getattr(found, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_REPARSE_POINT:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return found


def _copy_rights(*, source: Path, target: Path) -> None:
    """Give a file the list of rights of another one; if Windows refuses, it keeps those that it has from its folder."""
    import ctypes

    library = ctypes.windll.advapi32  # type: ignore[attr-defined,unused-ignore]
    rights, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
    control, revision = ctypes.c_ushort(), ctypes.c_ulong()
    if library.GetNamedSecurityInfoW(
        ctypes.c_wchar_p(str(source)), FILE_OBJECT, DACL, None, None, ctypes.byref(rights), None,
        ctypes.byref(descriptor),
    ):  # fmt: skip
        return
    try:
        if library.GetSecurityDescriptorControl(descriptor, ctypes.byref(control), ctypes.byref(revision)):
            parts = ctypes.c_ulong(parts_to_set(control.value))
            library.SetNamedSecurityInfoW(ctypes.c_wchar_p(str(target)), FILE_OBJECT, parts, None, None, rights, None)
    finally:
        ctypes.windll.kernel32.LocalFree(descriptor)  # type: ignore[attr-defined,unused-ignore]
