"""Windows: calls of the system whose results are checked, and Jobs, which hold a process with all that it starts.

Every failure is an OSError with the name of the call. Handles are those of this process. Sources: learn.microsoft.com,
under the names of the calls.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path
    from typing import IO

CREATE_SUSPENDED: Final = 0x4
DETACHED_PROCESS: Final = 0x8
CREATE_NEW_PROCESS_GROUP: Final = 0x200
CREATE_BREAKAWAY_FROM_JOB: Final = 0x0100_0000
CREATE_NO_WINDOW: Final = 0x0800_0000
ACCESS_DENIED, INVALID_PARAMETER, LOCK_VIOLATION, IO_PENDING, MORE_DATA, FILE_NOT_FOUND = 5, 87, 33, 997, 234, 2
"""Errors of the system."""
LOCK_FAIL_AT_ONCE, LOCK_EXCLUSIVE = 1, 2
QUERY_LIMITED, SYNCHRONIZE, TERMINATE = 0x1000, 0x0010_0000, 0x1
JOB_ALL_ACCESS: Final = 0x1F_001F
JOB_PIDS, JOB_LIMITS = 3, 9
KILL_ON_JOB_CLOSE: Final = 0x2000
EVENT_MODIFY_STATE: Final = 0x2
SNAPSHOT_PROCESSES: Final = 0x2
WM_CLOSE: Final = 0x10
CTRL_BREAK: Final = 1
TIME_OF_DAY: Final = 3
"""SystemTimeOfDayInformation of NtQuerySystemInformation: the time of the boot, and how far the clock was set since."""
WAIT_FAILED, WAIT_TIMEOUT = 0xFFFF_FFFF, 258
PIDS_LIMIT: Final = 4096
NAME_UNITS: Final = 1024
"""Room for a name, in units of UTF-16."""
TERMINATED_CODE: Final = 1
PROCESS_INFO: Final = "<3I512s128s4I"
"""RM_PROCESS_INFO for `struct`: pid, start, names of program and service, kind, state, session, flag."""
USERS_LIMIT: Final = 64
SESSION_KEY_LENGTH: Final = 33
"""CCH_RM_SESSION_KEY, and the end of the string."""
POLL_SECONDS: Final = 0.02


@cache
def kernel() -> Any:
    """Return kernel32, with the types of what is called here."""
    import ctypes
    from ctypes import c_int, c_ulong, c_ulonglong, c_void_p, c_wchar_p

    library = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    for name, result, arguments in (
        ("CreateJobObjectW", c_void_p, (c_void_p, c_wchar_p)),
        ("OpenJobObjectW", c_void_p, (c_ulong, c_int, c_wchar_p)),
        ("SetInformationJobObject", c_int, (c_void_p, c_int, c_void_p, c_ulong)),
        ("QueryInformationJobObject", c_int, (c_void_p, c_int, c_void_p, c_ulong, c_void_p)),
        ("AssignProcessToJobObject", c_int, (c_void_p, c_void_p)),
        ("TerminateJobObject", c_int, (c_void_p, c_ulong)),
        ("OpenProcess", c_void_p, (c_ulong, c_int, c_ulong)),
        ("TerminateProcess", c_int, (c_void_p, c_ulong)),
        ("GetProcessTimes", c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
        ("CreateEventW", c_void_p, (c_void_p, c_int, c_int, c_wchar_p)),
        ("OpenEventW", c_void_p, (c_ulong, c_int, c_wchar_p)),
        ("SetEvent", c_int, (c_void_p,)),
        ("ResetEvent", c_int, (c_void_p,)),
        ("WaitForMultipleObjects", c_ulong, (c_ulong, c_void_p, c_int, c_ulong)),
        ("CloseHandle", c_int, (c_void_p,)),
        ("GetCurrentProcess", c_void_p, ()),
        ("GetTickCount64", c_ulonglong, ()),
        ("LockFileEx", c_int, (c_void_p, c_ulong, c_ulong, c_ulong, c_ulong, c_void_p)),
        ("SetPriorityClass", c_int, (c_void_p, c_ulong)),
        ("CreateToolhelp32Snapshot", c_void_p, (c_ulong, c_ulong)),
        ("Process32FirstW", c_int, (c_void_p, c_void_p)),
        ("Process32NextW", c_int, (c_void_p, c_void_p)),
        ("AttachConsole", c_int, (c_ulong,)),
        ("FreeConsole", c_int, ()),
        ("GenerateConsoleCtrlEvent", c_int, (c_ulong, c_ulong)),
        ("GetDriveTypeW", c_ulong, (c_wchar_p,)),
        ("GetVolumePathNameW", c_int, (c_wchar_p, c_wchar_p, c_ulong)),
        (
            "GetVolumeInformationW",
            c_int,
            (c_wchar_p, c_wchar_p, c_ulong, c_void_p, c_void_p, c_void_p, c_wchar_p, c_ulong),
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def failed(name: str, code: int | None = None) -> OSError:
    """Return the error of the call of that name that has just failed."""
    import ctypes

    code = ctypes.get_last_error() if code is None else code  # type: ignore[attr-defined,unused-ignore]
    text = ctypes.FormatError(code).strip()  # type: ignore[attr-defined,unused-ignore]
    return OSError(None, f"{name}: {text}", None, code)


def checked(name: str, result: Any) -> int:
    """Return the result of a call that gives 0 or no handle when it fails.

    Raises:
        OSError: it failed.
    """
    if not result:
        raise failed(name)
    return int(result)


def close(handle: int) -> None:
    """Close a handle of this process."""
    checked("CloseHandle", kernel().CloseHandle(handle))


def lock_byte(handle: int, offset: int, *, shared: bool) -> bool:
    """Lock one byte of an open file without waiting; return whether it is locked now.

    Raises:
        OSError: it cannot be determined; only a lock of another handle is no error.
    """
    import ctypes

    class Overlapped(ctypes.Structure):
        _fields_ = (
            ("internal", ctypes.c_size_t), ("internal_high", ctypes.c_size_t), ("offset", ctypes.c_ulong),
            ("offset_high", ctypes.c_ulong), ("event", ctypes.c_void_p),
        )  # fmt: skip

    place = Overlapped(0, 0, offset, 0, None)
    flags = LOCK_FAIL_AT_ONCE | (0 if shared else LOCK_EXCLUSIVE)
    if kernel().LockFileEx(handle, flags, 0, 1, 0, ctypes.byref(place)):
        return True
    error = failed("LockFileEx")
    if getattr(error, "winerror", None) in (LOCK_VIOLATION, IO_PENDING):
        return False
    raise error


# ------------------------------------------------------------------------------------------------------ open files


class User(NamedTuple):
    """A program that has a file open."""

    pid: int
    name: str


def users_of(path: Path) -> list[User]:
    """Return the programs that have a file open, as far as the Restart Manager knows them: drivers are none.

    Raises:
        OSError: it cannot be asked.
    """
    import ctypes

    manager = ctypes.WinDLL("rstrtmgr")  # type: ignore[attr-defined,unused-ignore]
    session, key = ctypes.c_ulong(), ctypes.create_unicode_buffer(SESSION_KEY_LENGTH)
    _managed("RmStartSession", manager.RmStartSession(ctypes.byref(session), 0, key))
    try:
        names = (ctypes.c_wchar_p * 1)(str(path.absolute()))
        _managed("RmRegisterResources", manager.RmRegisterResources(session, 1, names, 0, None, 0, None))
        needed, count, reasons = ctypes.c_uint(), ctypes.c_uint(USERS_LIMIT), ctypes.c_ulong()
        entries = ctypes.create_string_buffer(USERS_LIMIT * _size_of_user())
        _managed(
            "RmGetList",
            manager.RmGetList(session, ctypes.byref(needed), ctypes.byref(count), entries, ctypes.byref(reasons)),
        )
        return users_in(entries.raw[: count.value * _size_of_user()])
    finally:
        manager.RmEndSession(session)


def users_in(entries: bytes) -> list[User]:
    """Return the programs in a list of RM_PROCESS_INFO (learn.microsoft.com, RM_PROCESS_INFO)."""
    import struct

    found = []
    for pid, _, _, name, *_ in struct.iter_unpack(PROCESS_INFO, entries):
        if pid:
            found.append(User(pid, name.decode("utf-16-le", errors="replace").partition("\0")[0]))
    return found


def _size_of_user() -> int:
    import struct

    return struct.calcsize(PROCESS_INFO)


def _managed(name: str, code: int) -> None:
    if code:
        raise failed(name, code)


# ------------------------------------------------------------------------------------------------------------- disks


def volume_of(path: str) -> str:
    """Return the root of the volume of a path that exists: that of its drive, or the folder that it is mounted on.

    Raises:
        OSError: it cannot be determined.
    """
    import ctypes

    place = ctypes.create_unicode_buffer(NAME_UNITS)
    checked("GetVolumePathNameW", kernel().GetVolumePathNameW(path, place, NAME_UNITS))
    return place.value


def file_system_of(volume: str) -> str:
    """Return the name of the file system of a volume, such as `NTFS`; empty if there is no disk in it."""
    import ctypes

    name = ctypes.create_unicode_buffer(NAME_UNITS)
    found = kernel().GetVolumeInformationW(volume, None, 0, None, None, None, name, NAME_UNITS)
    return name.value if found else ""


# -------------------------------------------------------------------------------------------------------------- jobs


class Job:
    """A Job: processes, with all that they start.

    Args:
        name: by which another process can open it.
        kills_on_close: whether its processes end with its last handle, that is with this process at the latest.
    """

    def __init__(self, *, name: str | None = None, kills_on_close: bool = False) -> None:
        self._handle = checked("CreateJobObjectW", kernel().CreateJobObjectW(None, name))
        if kills_on_close:
            try:
                self._limit(KILL_ON_JOB_CLOSE)
            except OSError:
                self.close()
                raise

    def _limit(self, flags: int) -> None:
        import ctypes

        class Limits(ctypes.Structure):
            _fields_ = (
                ("process_time", ctypes.c_longlong), ("job_time", ctypes.c_longlong), ("flags", ctypes.c_ulong),
                ("least_set", ctypes.c_size_t), ("most_set", ctypes.c_size_t), ("processes", ctypes.c_ulong),
                ("affinity", ctypes.c_size_t), ("priority", ctypes.c_ulong), ("scheduling", ctypes.c_ulong),
                ("counters", ctypes.c_ulonglong * 6), ("memory", ctypes.c_size_t * 4),
            )  # fmt: skip

        limits = Limits(flags=flags)
        done = kernel().SetInformationJobObject(self._handle, JOB_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits))
        checked("SetInformationJobObject", done)

    def add(self, process: int) -> None:
        """Take in a process, by its handle."""
        checked("AssignProcessToJobObject", kernel().AssignProcessToJobObject(self._handle, process))

    def pids(self) -> list[int]:
        """Return the processes in it that run."""
        return _pids_of_job(self._handle)

    def terminate(self) -> None:
        """End all processes in it."""
        checked("TerminateJobObject", kernel().TerminateJobObject(self._handle, TERMINATED_CODE))

    def close(self) -> None:
        """Give up the handle."""
        if self._handle:
            handle, self._handle = self._handle, 0
            close(handle)


def end_job(name: str) -> bool:
    """End all processes in a Job of that name; return whether there is one."""
    found = kernel().OpenJobObjectW(JOB_ALL_ACCESS, False, name)
    if not found:
        return False
    try:
        checked("TerminateJobObject", kernel().TerminateJobObject(found, TERMINATED_CODE))
    finally:
        close(found)
    return True


def _pids_of_job(handle: int) -> list[int]:
    import ctypes

    class Pids(ctypes.Structure):
        _fields_ = (
            ("assigned", ctypes.c_ulong), ("listed", ctypes.c_ulong), ("pids", ctypes.c_size_t * PIDS_LIMIT)
        )  # fmt: skip

    found = Pids()
    done = kernel().QueryInformationJobObject(handle, JOB_PIDS, ctypes.byref(found), ctypes.sizeof(found), None)
    if not done and getattr(error := failed("QueryInformationJobObject"), "winerror", None) != MORE_DATA:
        raise error
    return [int(pid) for pid in found.pids[: found.listed]]


def start_suspended(
    command: Sequence[str],
    *,
    job: Job,
    cwd: Path,
    env: Mapping[str, str],
    source: int,
    output: IO[bytes] | int,
    errors: IO[bytes] | int,
    flags: int = 0,
) -> subprocess.Popen[bytes]:
    """Start a program in a Job, without a window; it waits for `resume` before its first instruction.

    Raises:
        OSError: it cannot be run, or not in the Job; then it has not begun.
    """
    import subprocess

    try:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=source, stdout=output, stderr=errors,
            creationflags=CREATE_SUSPENDED | CREATE_NO_WINDOW | flags,
        )  # fmt: skip
    except OSError as error:
        # Other systems say which program it is.
        error.filename = error.filename or command[0]
        raise
    try:
        job.add(int(process._handle))  # type: ignore[attr-defined]  # noqa: SLF001
    except OSError:
        process.kill()
        process.wait()
        raise
    return process


def resume(process: subprocess.Popen[bytes]) -> None:
    """Let a program of `start_suspended` begin."""
    import ctypes

    # `Popen` keeps no handle of the first thread, which ResumeThread would need.
    native = ctypes.WinDLL("ntdll")  # type: ignore[attr-defined,unused-ignore]
    native.NtResumeProcess.argtypes = (ctypes.c_void_p,)
    native.NtResumeProcess.restype = ctypes.c_long
    status = native.NtResumeProcess(int(process._handle))  # type: ignore[attr-defined]  # noqa: SLF001
    if status < 0:
        raise OSError(f"NtResumeProcess: status {status & 0xFFFF_FFFF:#x}")


# --------------------------------------------------------------------------------------------------------- processes


@contextmanager
def opened(pid: int, access: int) -> Iterator[int]:
    """Open a process inside the block.

    Raises:
        OSError: there is none of that pid (INVALID_PARAMETER), or this account may not (ACCESS_DENIED).
    """
    handle = checked("OpenProcess", kernel().OpenProcess(access, False, pid))
    try:
        yield handle
    finally:
        close(handle)


def began_at(pid: int) -> int | None:
    """Return when a process that runs began, in units of the system; None if it has ended.

    Raises:
        OSError: as `opened`.
    """
    import ctypes

    with opened(pid, QUERY_LIMITED | SYNCHRONIZE) as handle:
        if wait([handle], limit_seconds=0.0) == 0:
            return None
        times = (ctypes.c_ulonglong * 4)()
        places = [ctypes.byref(times, 8 * number) for number in range(4)]
        checked("GetProcessTimes", kernel().GetProcessTimes(handle, *places))
        return int(times[0])


def wait(handles: Sequence[int], *, limit_seconds: float) -> int | None:
    """Wait for the first of these handles to be signalled, at most that long; return its place, or None.

    Raises:
        OSError: they cannot be waited for.
    """
    import ctypes

    array = (ctypes.c_void_p * len(handles))(*handles)
    milliseconds = max(0, round(limit_seconds * 1000))
    found = int(kernel().WaitForMultipleObjects(len(handles), array, False, milliseconds))
    if found == WAIT_FAILED:
        raise failed("WaitForMultipleObjects")
    return None if found == WAIT_TIMEOUT else found


def terminate(pid: int) -> None:
    """End a process at once; one that has ended, or that this account may not end, is passed over."""
    try:
        with opened(pid, TERMINATE) as handle:
            checked("TerminateProcess", kernel().TerminateProcess(handle, TERMINATED_CODE))
    except OSError as error:
        if getattr(error, "winerror", None) not in (ACCESS_DENIED, INVALID_PARAMETER):
            raise


def parents() -> Mapping[int, int]:
    """Return all processes, each with the pid of its parent, which may have ended."""
    import ctypes

    class Entry(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_ulong), ("usage", ctypes.c_ulong), ("pid", ctypes.c_ulong), ("heap", ctypes.c_size_t),
            ("module", ctypes.c_ulong), ("threads", ctypes.c_ulong), ("parent", ctypes.c_ulong),
            ("priority", ctypes.c_long), ("flags", ctypes.c_ulong), ("name", ctypes.c_wchar * 260),
        )  # fmt: skip

    snapshot = kernel().CreateToolhelp32Snapshot(SNAPSHOT_PROCESSES, 0)
    if snapshot in (None, ctypes.c_void_p(-1).value):
        raise failed("CreateToolhelp32Snapshot")
    try:
        entry, found = Entry(size=ctypes.sizeof(Entry)), {}
        more = kernel().Process32FirstW(snapshot, ctypes.byref(entry))
        while more:
            found[int(entry.pid)] = int(entry.parent)
            more = kernel().Process32NextW(snapshot, ctypes.byref(entry))
    finally:
        close(snapshot)
    return found


def descendants(pid: int, *, since: int, until: int | None = None) -> set[int]:
    """Return the processes that a process started, and what these started; the process itself may have ended.

    A pid is used again: a child that began before `since`, or before its parent, is another one's, and so is one that
    began after `until`, when the pid became another process's.
    """
    known, found, waiting = parents(), set(), [(pid, since, until)]
    while waiting:
        parent, began, ended = waiting.pop()
        for child in (child for child, its_parent in known.items() if its_parent == parent and child not in found):
            try:
                child_began = began_at(child)
            except OSError:
                continue
            if child_began is not None and child_began >= began and (ended is None or child_began < ended):
                found.add(child)
                waiting.append((child, child_began, None))
    return found


def close_windows(pids: set[int]) -> None:
    """Ask programs to close: WM_CLOSE to each of their windows."""
    import ctypes

    user = ctypes.WinDLL("user32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]

    def close_it(window: int, _: int) -> bool:
        owner = ctypes.c_ulong()
        user.GetWindowThreadProcessId(ctypes.c_void_p(window), ctypes.byref(owner))
        if owner.value in pids:
            user.PostMessageW(ctypes.c_void_p(window), WM_CLOSE, None, None)
        return True

    kind = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)  # type: ignore[attr-defined,unused-ignore]
    user.EnumWindows(kind(close_it), None)


def is_console(descriptor: int) -> bool:
    """Return whether an open file of this process is a console."""
    import ctypes
    import msvcrt

    mode = ctypes.c_ulong()
    handle = msvcrt.get_osfhandle(descriptor)  # type: ignore[attr-defined,unused-ignore]
    return bool(kernel().GetConsoleMode(ctypes.c_void_p(handle), ctypes.byref(mode)))


def break_console(pid: int) -> None:
    """Send Ctrl-Break to the group of a program in its own console, if it has one.

    For a process without a console: it takes that of the program for a moment.

    Raises:
        OSError: the program has no console, or the system refuses.
    """
    checked("AttachConsole", kernel().AttachConsole(pid))
    try:
        checked("GenerateConsoleCtrlEvent", kernel().GenerateConsoleCtrlEvent(CTRL_BREAK, pid))
    finally:
        checked("FreeConsole", kernel().FreeConsole())


def boot_time() -> int:
    """Return when the machine was started, whatever its clock was set to since."""
    import ctypes

    class TimeOfDay(ctypes.Structure):
        _fields_ = (
            ("booted", ctypes.c_longlong), ("now", ctypes.c_longlong), ("zone_bias", ctypes.c_longlong),
            ("zone", ctypes.c_ulong), ("reserved", ctypes.c_ulong), ("set_by", ctypes.c_longlong),
            ("slept", ctypes.c_longlong),
        )  # fmt: skip

    found = TimeOfDay()
    native = ctypes.WinDLL("ntdll")  # type: ignore[attr-defined,unused-ignore]
    size = ctypes.c_ulong()
    status = native.NtQuerySystemInformation(
        TIME_OF_DAY, ctypes.byref(found), ctypes.sizeof(found), ctypes.byref(size)
    )  # fmt: skip
    if status != 0:
        raise OSError(f"NtQuerySystemInformation: status {status & 0xFFFF_FFFF:#x}")
    return int(found.booted) - int(found.set_by)


def wait_until_gone(pids: Sequence[int], *, limit_seconds: float) -> bool:
    """Wait until none of these processes runs, at most that long; return whether they are gone."""
    deadline = time.monotonic() + limit_seconds
    while any(_runs(pid) for pid in pids):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _runs(pid: int) -> bool:
    try:
        return began_at(pid) is not None
    except OSError as error:
        return getattr(error, "winerror", None) != INVALID_PARAMETER
