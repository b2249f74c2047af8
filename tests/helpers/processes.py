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

KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)
"""On Windows every signal but those of a console is TerminateProcess."""
COMMAND_LINE: Final = 60
"""ProcessCommandLineInformation of NtQueryInformationProcess."""
SUSPEND_RESUME: Final = 0x800
"""PROCESS_SUSPEND_RESUME."""
ENDED: Final = "Z"
"""The state of a process on Linux that has ended and was not waited for."""


class Family:
    """A process and all that it started, also those whose parents have ended; each keeps its first command line."""

    def __init__(self, pid: int) -> None:
        self.commands: dict[int, str] = {pid: command_line(pid)}

    def look(self) -> Mapping[int, str]:
        """Return those that run now, each with its command line."""
        parents = dict(_parents())
        more = True
        while more:
            found = [pid for pid, parent in parents.items() if parent in self.commands and pid not in self.commands]
            self.commands.update((pid, command_line(pid)) for pid in found)
            more = bool(found)
        return {pid: command for pid, command in self.commands.items() if pid in parents}


def kill(pid: int) -> bool:
    """End a process at once: SIGKILL, or TerminateProcess; return whether there was one."""
    with suppress(OSError):
        os.kill(pid, KILL)
        return True
    return False


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
    import ctypes

    native = ctypes.WinDLL("ntdll")  # type: ignore[attr-defined,unused-ignore]
    place = ctypes.create_string_buffer(65_536)
    size = ctypes.c_ulong()
    with suppress(OSError), win32.opened(pid, win32.QUERY_LIMITED) as handle:
        status = native.NtQueryInformationProcess(
            ctypes.c_void_p(handle), COMMAND_LINE, place, len(place), ctypes.byref(size)
        )
        if status == 0:
            # A UNICODE_STRING: its length in bytes, and where the text begins.
            length, start = ctypes.c_ushort.from_buffer(place).value, ctypes.c_void_p.from_buffer(place, 8).value
            return ctypes.string_at(start or 0, length).decode("utf-16-le", "replace")
    return ""
