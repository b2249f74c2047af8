"""launchd: a property list in /Library/LaunchDaemons, and launchctl. Written from the manual pages; untested."""

from __future__ import annotations

import plistlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dbsync.errors import Refused
from dbsync.storage import file_calls, files
from updater.host.services.base import RESTART_SECONDS, STOP_SECONDS, TOOL_SECONDS, Service, ServiceOrder, ServiceStatus
from updater.host.services.base import ServiceState as State
from updater.host.services.systemd import Run

DAEMONS: Final = Path("/Library/LaunchDaemons")
LAUNCHCTL: Final = "/bin/launchctl"


def property_list(order: ServiceOrder) -> bytes:
    """Return the property list of a service (launchd.plist(5))."""
    document: dict[str, Any] = {
        "Label": order.name,
        "ProgramArguments": list(order.command),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": RESTART_SECONDS,
        "ExitTimeOut": int(STOP_SECONDS),
        "ProcessType": "Background",
        "WorkingDirectory": "/",
        "Umask": 0o022,
    }
    if order.account:
        document["UserName"] = order.account
    return plistlib.dumps(document)


class Launchd(Service):
    """A daemon of launchd, for the whole machine. It runs while it is loaded."""

    def __init__(self, order: ServiceOrder, run: Run, *, elevated: Callable[[str], str], may: bool) -> None:
        super().__init__(order)
        self._run: Final = run
        self._elevated: Final = elevated
        self._may: Final = may
        self.path: Final = DAEMONS / f"{order.name}.plist"

    def install(self) -> tuple[Path, ...]:
        self._check("install")
        # Another definition is taken only by a job that is loaded anew.
        self._unload()
        files.write_durably(self.path, property_list(self.order), mode=0o644)
        return (self.path,)

    def start(self) -> None:
        self._check("start", installed=True)
        if self.status().state is not State.RUNNING:
            self._unload()
            self._do("bootstrap", "system", str(self.path))

    def stop(self) -> None:
        self._check("stop", installed=True)
        self._unload()

    def status(self) -> ServiceStatus:
        if not files.is_there(self.path):
            return ServiceStatus(State.NOT_INSTALLED, f"there is no {self.path}")
        code, text = self._run([LAUNCHCTL, "print", self._target], TOOL_SECONDS)
        if code != 0:
            return ServiceStatus(State.STOPPED, "it is not loaded", starts_at_boot=True)
        lines = [line.strip() for line in text.splitlines()]
        pid = next((line for line in lines if line.startswith("pid = ")), "")
        last = next((line for line in lines if line.startswith("last exit code")), "")
        return ServiceStatus(State.RUNNING if pid else State.FAILED, pid or last, starts_at_boot=True)

    def uninstall(self) -> bool:
        self._check("uninstall")
        if not files.is_there(self.path):
            return False
        self._unload()
        with files.disk_errors("remove", self.path):
            file_calls.remove(self.path)
        return True

    @property
    def _target(self) -> str:
        return f"system/{self.order.name}"

    def _unload(self) -> None:
        if self._run([LAUNCHCTL, "print", self._target], TOOL_SECONDS)[0] == 0:
            self._do("bootout", self._target, seconds=STOP_SECONDS)

    def _check(self, verb: str, *, installed: bool = False) -> None:
        command = self._elevated(f"updater service {'install' if installed and self._may else verb}")
        if not self._may:
            raise Refused(
                operation=f"{verb} the service", cause="this account may not", hint=f"Run `{command}` with its options."
            )
        if installed and not files.is_there(self.path):
            raise Refused(
                operation=f"{verb} the service", path=self.path, cause="it is not installed",
                hint=f"Run `{command}` first.",
            )  # fmt: skip

    def _do(self, *words: str, seconds: float = 0.0) -> None:
        code, output = self._run([LAUNCHCTL, *words], TOOL_SECONDS + seconds)
        if code != 0:
            lines = output.strip().splitlines()
            raise Refused(
                operation=f"run launchctl {' '.join(words)}", cause=lines[-1] if lines else f"exit status {code}"
            )
