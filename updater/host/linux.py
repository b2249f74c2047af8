"""Linux: boots and processes as /proc reports them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from updater.host.base import Folders
from updater.host.posix import PosixHost, tree_of

PROC = Path("/proc")


class LinuxHost(PosixHost):
    """A terminal that runs Linux."""

    def read_boot_id(self) -> str:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()

    def monotonic_seconds(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def default_folders(self, app: str) -> Folders:
        data = _home("XDG_DATA_HOME", ".local/share")
        ours = data / "Tillkeeper" / app
        settings = _home("XDG_CONFIG_HOME", ".config") / "Tillkeeper" / app / "settings.toml"
        return Folders(program=ours / "program", state=ours / "state", data=data / app, settings_file=settings)

    def members(self, leader: int) -> set[int]:
        processes: dict[int, tuple[int, int]] = {}
        for entry in PROC.iterdir():
            fields = _stat(entry.name) if entry.name.isdigit() else None
            if fields is not None:
                processes[int(entry.name)] = (int(fields[1]), int(fields[3]))
        return tree_of(leader, processes)

    def start_time(self, pid: int) -> str | None:
        fields = _stat(str(pid))
        return fields[19] if fields is not None else None

    def is_alive(self, pid: int) -> bool:
        fields = _stat(str(pid))
        return fields is not None and fields[0] not in ("Z", "X")


def _stat(pid: str) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on (proc(5), field 3).

    The name before it may contain any character, but is in parentheses.
    """
    try:
        text = (PROC / pid / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _home(variable: str, below: str) -> Path:
    named = os.environ.get(variable, "")
    return Path(named) if named.strip() else Path.home() / below
