"""macOS: boots and processes as ps and sysctl report them. Implemented from the manual pages, but untested."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dbsync.storage.platform import this_platform
from updater.host.base import Folders
from updater.host.posix import PosixHost, tree_of

if TYPE_CHECKING:
    from updater.decisions.places import Zone
    from updater.host.services.base import Service, ServiceOrder


class MacHost(PosixHost):
    """A terminal that runs macOS."""

    path_limit_bytes = 1023
    has_proxy_settings = True

    def zones(self) -> tuple[Zone, ...]:
        from updater.host.places import macos

        return tuple(macos.zones(Path.home()))

    def read_boot_id(self) -> str:
        return self._ask(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]).strip()

    def monotonic_seconds(self) -> float:
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    def default_folders(self, app: str) -> Folders:
        support = Path.home() / "Library/Application Support"
        ours = support / "Tillkeeper" / app
        return Folders(
            program=ours / "program", state=ours / "state", data=support / app, settings_file=ours / "settings.toml"
        )

    def machine_folders(self, app: str) -> Folders:
        ours = Path("/Library/Application Support/Tillkeeper") / app
        return Folders(
            program=ours / "program", state=ours / "state", data=ours / "data", settings_file=ours / "settings.toml"
        )

    def machine_ids(self) -> Mapping[str, str]:
        words = ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"]
        lines = [line for line in self._ask(words).splitlines() if "IOPlatformUUID" in line]
        return {"board": lines[0].rpartition("=")[2].strip().strip('"')} if lines else {}

    def service(self, order: ServiceOrder) -> Service:
        from updater.host.services.launchd import Launchd

        return Launchd(order, self.tool, elevated=self.elevated, may=this_platform().is_privileged)

    def members(self, leader: int) -> set[int]:
        processes: dict[int, tuple[int, int]] = {}
        for line in self._ask(["/bin/ps", "-axo", "pid=,ppid=,sess=,pgid="]).splitlines():
            pid, parent, _, group = line.split()
            # ps on macOS prints sessions as addresses; the process group of a session leader has the same number.
            processes[int(pid)] = (int(parent), int(group))
        return tree_of(leader, processes)

    def start_time(self, pid: int) -> str | None:
        return self._ask(["/bin/ps", "-o", "lstart=", "-p", str(pid)]).strip() or None

    def is_alive(self, pid: int) -> bool:
        state = self._ask(["/bin/ps", "-o", "state=", "-p", str(pid)]).strip()
        return bool(state) and not state.startswith("Z")

    def _ask(self, command: list[str]) -> str:
        # By no locale of the caller: a clerk's session and launchd read the same time of a start.
        _, output = self.tool(command, 10.0)
        return output
