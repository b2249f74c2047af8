"""systemd: a hardened unit in /etc/systemd/system, and systemctl."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from dbsync.errors import Refused
from dbsync.storage import file_calls, files
from updater.host.services.base import RESTART_SECONDS, STOP_SECONDS, TOOL_SECONDS, Service, ServiceOrder, ServiceStatus
from updater.host.services.base import ServiceState as State

UNITS: Final = Path("/etc/systemd/system")
PACKAGED_UNITS: Final = Path("/usr/lib/systemd/system")
"""Those that a package brings; it takes them away itself."""
RUNNING: Final = Path("/run/systemd/system")
"""Exists where systemd has started the machine (sd_booted(3))."""
SYSTEMCTL: Final = "/usr/bin/systemctl"
HOMES: Final = tuple(PurePosixPath(home) for home in ("/home", "/root", "/run/user"))
"""The places that ProtectHome= hides."""
ROOTS_WORK: Final = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID"
"""Files and processes of the till's account are given to it, and taken back."""
Run = Callable[[Sequence[str], float], tuple[int | None, str]]
"""Runs a command with a limit in seconds; its exit code, and the end of its output."""

ALWAYS: Final = """\
NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
"""Not here: MemoryDenyWriteExecute, because the self-test of a release may be a program with a JIT compiler; and
ProtectProc, because the agent asks whether the app of another account runs."""


def unit(order: ServiceOrder) -> str:
    """Return the unit file of a service."""
    return "".join(f"{line}\n" for line in _lines(order)).replace("\n\n\n", "\n\n")


def _lines(order: ServiceOrder) -> Iterator[str]:
    yield from (
        "[Unit]", f"Description={_word(order.title)}", "Wants=network-online.target", "After=network-online.target",
        "# Tried again for ever: a till without an agent gets no update.", "StartLimitIntervalSec=0", "",
        "[Service]", "Type=exec", f"ExecStart={' '.join(map(_quoted, order.command))}",
    )  # fmt: skip
    if order.account:
        yield f"User={order.account}"
    # To the agent alone: it ends between two of its records. What it has started ends with the rest of the group.
    yield from (
        "Restart=always", f"RestartSec={RESTART_SECONDS}", "KillMode=mixed", f"TimeoutStopSec={STOP_SECONDS:.0f}",
    )  # fmt: skip
    yield from ALWAYS.splitlines()
    yield f"CapabilityBoundingSet={ROOTS_WORK if order.two_accounts else ''}"
    if not order.sets_group_bit:
        yield "RestrictSUIDSGID=yes"
    places = (*order.writes, *order.reads, Path(order.command[0]))
    yield f"ProtectHome={'read-only' if any(map(_is_in_home, places)) else 'yes'}"
    # With a dash: a folder that is not there yet, or a disk that is away, stops no agent.
    yield f"ReadWritePaths={' '.join(_quoted(f'-{path}') for path in order.writes)}"
    yield from ("", "[Install]", "WantedBy=multi-user.target")


def _is_in_home(path: Path) -> bool:
    return any(home in PurePosixPath(path).parents for home in HOMES)


def _word(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return one word of a line of a unit file: % names things there, and $ a variable."""
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$"), ("\n", "\\n")):
        text = text.replace(character, written)
    return f'"{text}"' if not text or set(text) & set(" \t'\";#") else text


class Systemd(Service):
    """A unit of systemd, for the whole machine."""

    def __init__(self, order: ServiceOrder, run: Run, *, elevated: Callable[[str], str], may: bool) -> None:
        super().__init__(order)
        self._run: Final = run
        self._elevated: Final = elevated
        self._may: Final = may
        self.path: Final = UNITS / f"{order.name}.service"

    def install(self) -> tuple[Path, ...]:
        self._check("install")
        files.write_durably(self.path, unit(self.order).encode(), mode=0o644)
        if RUNNING.is_dir():
            self._do("daemon-reload")
        # Works on a root folder that has not been started yet, too.
        self._do("enable", self._unit)
        return (self.path,)

    def start(self) -> None:
        self._check("start", installed=True, running=True)
        self._do("start", self._unit)

    def stop(self) -> None:
        self._check("stop", installed=True, running=True)
        self._do("stop", self._unit, seconds=STOP_SECONDS)

    def status(self) -> ServiceStatus:
        if not self._is_installed():
            return ServiceStatus(State.NOT_INSTALLED, f"there is no {self.path}")
        starts = self._run([SYSTEMCTL, "is-enabled", self._unit], TOOL_SECONDS)[0] == 0
        if not RUNNING.is_dir():
            return ServiceStatus(State.STOPPED, "this machine was not started by systemd", starts)
        names = ("ActiveState", "SubState", "MainPID", "NRestarts")
        _, text = self._run([SYSTEMCTL, "show", "--property", ",".join(names), self._unit], TOOL_SECONDS)
        found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        active = found.get("ActiveState", "")
        states = {"active": State.RUNNING, "inactive": State.STOPPED, "failed": State.FAILED}
        # Waiting for its next start is not running: it has ended by itself.
        restarts = found.get("SubState") == "auto-restart"
        state = State.FAILED if restarts else states.get(active, State.CHANGING)
        detail = (
            f"{active} ({found.get('SubState', '')}), pid {found.get('MainPID')}, {found.get('NRestarts')} restarts"
        )
        return ServiceStatus(state, detail, starts)

    def uninstall(self) -> bool:
        self._check("uninstall")
        if not files.is_there(self.path):
            return False
        if RUNNING.is_dir():
            self._do("stop", self._unit, seconds=STOP_SECONDS)
        self._do("disable", self._unit)
        with files.disk_errors("remove", self.path):
            file_calls.remove(self.path)
        files.sync_folder(self.path.parent)
        if RUNNING.is_dir():
            self._do("daemon-reload")
        return True

    def _is_installed(self) -> bool:
        return files.is_there(self.path) or files.is_there(PACKAGED_UNITS / self.path.name)

    @property
    def _unit(self) -> str:
        return self.path.name

    def _check(self, verb: str, *, installed: bool = False, running: bool = False) -> None:
        if not files.is_there(Path(SYSTEMCTL)):
            raise Refused(
                operation=f"{verb} the service", cause=f"this machine has no systemd ({SYSTEMCTL})",
                hint=f"Let its service manager run: {' '.join(self.order.command)}",
            )  # fmt: skip
        if not self._may:
            command = self._elevated(f"updater service {verb}")
            raise Refused(
                operation=f"{verb} the service", cause="this account may not", hint=f"Run `{command}` with its options."
            )
        if installed and not self._is_installed():
            command = self._elevated("updater service install")
            raise Refused(operation=f"{verb} the service", path=self.path, cause="it is not installed",
                          hint=f"Run `{command}` first.")  # fmt: skip
        if running and not RUNNING.is_dir():
            raise Refused(
                operation=f"{verb} the service", cause="this machine was not started by systemd",
                hint="The service starts with the machine.",
            )  # fmt: skip

    def _do(self, *words: str, seconds: float = 0.0) -> None:
        code, output = self._run([SYSTEMCTL, *words], TOOL_SECONDS + seconds)
        if code != 0:
            lines = output.strip().splitlines()
            raise Refused(
                operation=f"run systemctl {' '.join(words)}",
                cause=lines[-1] if lines else f"exit status {code}",
                hint=f"`journalctl -u {self._unit}` has the words of the agent.",
            )  # fmt: skip
