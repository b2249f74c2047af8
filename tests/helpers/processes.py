"""Processes of this machine with their command lines: what a command has started, on Linux and on Windows."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dbsync.storage.platform import win32
from updater.host import this_host

KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)
"""On Windows every signal but those of a console is TerminateProcess."""
QUERY_AND_READ: Final = 0x410
"""PROCESS_QUERY_INFORMATION and PROCESS_VM_READ."""
PARAMETERS_AT, COMMAND_LINE_AT = 0x20, 0x70
"""Offsets in the process environment block and in RTL_USER_PROCESS_PARAMETERS of 64 bit (winternl.h)."""
SUSPEND_RESUME: Final = 0x800
"""PROCESS_SUSPEND_RESUME."""
ENDED: Final = "Z"
"""The state of a process on Linux that has ended and was not waited for."""


class Family:
    """A process and all that it started, also those whose parents have ended; each keeps its first command line.

    A pid is used again, on Windows at once: a process is known by its pid and the time at which it began.
    """

    def __init__(self, pid: int) -> None:
        self.commands: dict[int, str] = {}
        self._began: dict[int, int] = {}
        self._take(pid, _began_at(pid) or 0)

    def look(self) -> Mapping[int, str]:
        """Return those that run now, each with its command line."""
        parents = dict(_parents())
        times = {pid: _began_at(pid) for pid, parent in parents.items() if parent in self._began or pid in self._began}
        more = True
        while more:
            found = [
                (pid, began) for pid, began in times.items()
                if began and self._began.get(pid) != began and began >= self._began.get(parents[pid], sys.maxsize)
            ]  # fmt: skip
            for pid, began in found:
                self._take(pid, began)
            more = bool(found)
            times |= {
                pid: _began_at(pid) for pid, parent in parents.items() if parent in self._began and pid not in times
            }
        return {pid: command for pid, command in self.commands.items() if times.get(pid) == self._began[pid]}

    def _take(self, pid: int, began: int) -> None:
        self._began[pid], self.commands[pid] = began, command_line(pid)


def kill(pid: int) -> bool:
    """End a process at once: SIGKILL, or TerminateProcess; return whether there was one."""
    with suppress(OSError):
        os.kill(pid, KILL)
        return True
    return False


def _began_at(pid: int) -> int | None:
    """Return when a process that runs began, in units of the system; None if there is none."""
    found = this_host().start_time(pid)
    return None if found is None else int(found)


def suspend(pid: int) -> None:
    """Stop a process until `resume`."""
    if sys.platform == "win32":
        _native_call("NtSuspendProcess", pid)
    else:
        os.kill(pid, signal.SIGSTOP)


def resume(pid: int) -> None:
    """Let a process go on."""
    if sys.platform == "win32":
        _native_call("NtResumeProcess", pid)
    else:
        os.kill(pid, signal.SIGCONT)


def _native_call(name: str, pid: int) -> None:
    import ctypes

    with win32.opened(pid, SUSPEND_RESUME) as handle:
        status = getattr(ctypes.WinDLL("ntdll"), name)(ctypes.c_void_p(handle))  # type: ignore[attr-defined,unused-ignore]
    assert status == 0, f"{name}: status {status & 0xFFFF_FFFF:#x}"


def _parents() -> Iterator[tuple[int, int]]:
    """Yield every process that runs, with its parent's pid."""
    if sys.platform == "win32":
        yield from win32.parents().items()
        return
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != ENDED:
                    yield int(folder.name), int(parent)


def command_line(pid: int) -> str:
    """Return the command line of a process; empty if it has ended."""
    if sys.platform == "win32":
        return _command_line_of_windows(pid)
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _command_line_of_windows(pid: int) -> str:
    """Read it out of the process's own memory: wine 8 answers no question for it."""
    import ctypes

    kernel, native = win32.kernel(), ctypes.WinDLL("ntdll")  # type: ignore[attr-defined,unused-ignore]

    def read(address: int, length: int) -> bytes:
        data = ctypes.create_string_buffer(length)
        place = ctypes.c_void_p(address)
        win32.checked("ReadProcessMemory", kernel.ReadProcessMemory(ctypes.c_void_p(handle), place, data, length, None))
        return data.raw

    with suppress(OSError), win32.opened(pid, QUERY_AND_READ) as handle:
        basic = (ctypes.c_size_t * 6)()
        if native.NtQueryInformationProcess(ctypes.c_void_p(handle), 0, basic, ctypes.sizeof(basic), None) == 0:
            parameters = int.from_bytes(read(basic[1] + PARAMETERS_AT, 8), "little")
            text = read(parameters + COMMAND_LINE_AT, 16)
            length, start = int.from_bytes(text[:2], "little"), int.from_bytes(text[8:], "little")
            return read(start, length).decode("utf-16-le", "replace")
    return ""
