"""Linux: boots and processes as /proc reports them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.storage.platform import this_platform
from updater.host.base import Folders
from updater.host.posix import PosixHost, tree_of

if TYPE_CHECKING:
    from updater.host.services.base import Service, ServiceOrder

PROC = Path("/proc")
MACHINE_IDS: Final = {"system": Path("/etc/machine-id"), "board": Path("/sys/class/dmi/id/product_uuid")}
"""The first is made anew on a copy that was prepared as one; the second, for root only, is the machine's own."""


class LinuxHost(PosixHost):
    """A terminal that runs Linux."""

    has_proxy_settings = False

    def read_boot_id(self) -> str:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()

    def monotonic_seconds(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def default_folders(self, app: str) -> Folders:
        data = _home("XDG_DATA_HOME", ".local/share")
        ours = data / "Tillkeeper" / app
        settings = _home("XDG_CONFIG_HOME", ".config") / "Tillkeeper" / app / "settings.toml"
        return Folders(program=ours / "program", state=ours / "state", data=data / app, settings_file=settings)

    def machine_folders(self, app: str) -> Folders:
        # The Filesystem Hierarchy Standard: a package of its own in /opt, its settings in /etc, its state in /var/lib.
        return Folders(
            program=Path("/opt/tillkeeper") / app,
            state=Path("/var/lib/tillkeeper") / app,
            data=Path("/var/opt/tillkeeper") / app,
            settings_file=Path("/etc/tillkeeper") / app / "settings.toml",
        )

    def machine_ids(self) -> Mapping[str, str]:
        return {name: text for name, path in MACHINE_IDS.items() if (text := _text(path))}

    def service(self, order: ServiceOrder) -> Service:
        from updater.host.services.systemd import Systemd

        return Systemd(order, self.tool, elevated=self.elevated, may=this_platform().is_privileged)

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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


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
