"""The service manager of Windows through ctypes: a service of its own process, with an account that it alone has.

Sources: learn.microsoft.com, under the names of the calls. Every failure of a call is an OSError with its name.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import Refused, TryLater
from dbsync.storage.platform import win32
from updater.host.services.base import RESTART_SECONDS, STOP_SECONDS, TOOL_SECONDS, Service, ServiceOrder, ServiceStatus
from updater.host.services.base import ServiceState as State

if TYPE_CHECKING:
    from updater.host.services.systemd import Run

NO_SUCH, RUNS_ALREADY, NOT_RUNNING, EXISTS, NOT_BY_MANAGER, NOT_IMPLEMENTED, SPECIFIC = (
    1060,
    1056,
    1062,
    1073,
    1063,
    120,
    1066,
)
"""Errors of the system; the last one says that the service has an exit code of its own."""
INVALID_LEVEL: Final = 124
MANAGER_ALL, SERVICE_ALL, MANAGER_LOOKS, SERVICE_LOOKS = 0xF003F, 0xF01FF, 0x1, 0x5
OWN_PROCESS, AUTO_START, ERROR_NORMAL = 0x10, 2, 1
STOPPED, START_PENDING, STOP_PENDING, RUNNING = 1, 2, 3, 4
CONTROL_STOP, CONTROL_INTERROGATE, CONTROL_SHUTDOWN, CONTROL_PRESHUTDOWN = 1, 4, 5, 15
ACCEPTS: Final = 0x1 | 0x4 | 0x100
"""To stop, and to hear that the machine shuts down, early and late."""
DESCRIPTION, FAILURE_ACTIONS, DELAYED_START, FAILURE_FLAG = 1, 2, 3, 4
RESTART: Final = 1
FORGET_SECONDS: Final = 86_400
"""Failures older than that do not count; every one leads to a restart anyway."""
CLERKS: Final = "*S-1-5-32-545"
"""All people with an account on this machine (BUILTIN\\Users), by its number: its name is translated."""
CHANGES: Final = "(WD,AD,WEA,WA,DE,DC,WDAC,WO)"
"""All rights of icacls that change a file or folder. Not W, which holds rights that a reader needs too."""
PROGRAM: Final = ".exe"
POLL_SECONDS: Final = 0.1


@cache
def library() -> Any:
    """Return advapi32, with the types of what is called here."""
    import ctypes
    from ctypes import c_int, c_ulong, c_void_p, c_wchar_p

    found = ctypes.WinDLL("advapi32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    for name, result, arguments in (
        ("OpenSCManagerW", c_void_p, (c_wchar_p, c_wchar_p, c_ulong)),
        ("OpenServiceW", c_void_p, (c_void_p, c_wchar_p, c_ulong)),
        ("CreateServiceW", c_void_p, (c_void_p, c_wchar_p, c_wchar_p, *[c_ulong] * 4, c_wchar_p, c_wchar_p, c_void_p,
                                      c_wchar_p, c_wchar_p, c_wchar_p)),
        ("ChangeServiceConfigW", c_int, (c_void_p, *[c_ulong] * 3, c_wchar_p, c_wchar_p, c_void_p, *[c_wchar_p] * 4)),
        ("ChangeServiceConfig2W", c_int, (c_void_p, c_ulong, c_void_p)),
        ("StartServiceW", c_int, (c_void_p, c_ulong, c_void_p)),
        ("ControlService", c_int, (c_void_p, c_ulong, c_void_p)),
        ("QueryServiceStatusEx", c_int, (c_void_p, c_int, c_void_p, c_ulong, c_void_p)),
        ("DeleteService", c_int, (c_void_p,)),
        ("CloseServiceHandle", c_int, (c_void_p,)),
        ("RegisterServiceCtrlHandlerExW", c_void_p, (c_wchar_p, c_void_p, c_void_p)),
        ("SetServiceStatus", c_int, (c_void_p, c_void_p)),
        ("StartServiceCtrlDispatcherW", c_int, (c_void_p,)),
    ):  # fmt: skip
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


def checked(name: str, result: Any) -> int:
    """Return the result of a call that gives 0 when it fails.

    Raises:
        OSError: it failed.
    """
    return win32.checked(name, result)


class WindowsService(Service):
    """A service of its own process. It runs as a virtual account, which exists with it and has no password."""

    def __init__(self, order: ServiceOrder, run: Run) -> None:
        super().__init__(order)
        self._run: Final = run
        self.account: Final = f"NT SERVICE\\{order.name}"

    def command_line(self) -> str:
        """Return the command line that the service manager starts."""
        import subprocess

        return subprocess.list2cmdline([*self.order.command, "--service", self.order.name])

    def install(self) -> tuple[Path, ...]:
        with self._refused("install"), _manager(MANAGER_ALL) as manager:
            values = (OWN_PROCESS, AUTO_START, ERROR_NORMAL, self.command_line(), None, None, None, self.account, None)
            made = library().CreateServiceW(manager, self.order.name, self.order.title, SERVICE_ALL, *values)
            error = win32.failed("CreateServiceW") if not made else None
            if error is not None and _code(error) != EXISTS:
                raise error
            if made:
                library().CloseServiceHandle(made)
            with _of_manager(manager, self.order.name, SERVICE_ALL) as service:
                if not made:
                    changed = library().ChangeServiceConfigW(service, *values, self.order.title)
                    checked("ChangeServiceConfigW", changed)
                self._configure(service)
        for words in self.grants():
            code, output = self._run(words, TOOL_SECONDS)
            if code != 0:
                raise Refused(
                    operation="give the service its rights", path=Path(words[1]),
                    cause=(output.strip().splitlines() or [f"exit status {code}"])[-1],
                )  # fmt: skip
        return ()

    def _configure(self, service: int) -> None:
        """Set what happens when it fails: it is started again each time, also when it ends with an error of its own."""
        import ctypes

        class Description(ctypes.Structure):
            _fields_ = (("text", ctypes.c_wchar_p),)

        class Actions(ctypes.Structure):
            _fields_ = (
                ("reset_seconds", ctypes.c_ulong), ("message", ctypes.c_wchar_p), ("command", ctypes.c_wchar_p),
                ("count", ctypes.c_ulong), ("actions", ctypes.c_void_p),
            )  # fmt: skip

        wanted = [RESTART, RESTART_SECONDS * 1000] * 3
        array = (ctypes.c_ulong * len(wanted))(*wanted)
        actions = Actions(FORGET_SECONDS, None, None, len(wanted) // 2, ctypes.cast(array, ctypes.c_void_p))
        text = f"{self.order.title}: checks for updates, and stages them."
        for number, value in (
            (DESCRIPTION, Description(text)),
            (FAILURE_ACTIONS, actions),
            (FAILURE_FLAG, ctypes.c_int(1)),
            (DELAYED_START, ctypes.c_int(1)),
        ):
            done = library().ChangeServiceConfig2W(service, number, ctypes.byref(value))  # type: ignore[arg-type,unused-ignore]
            # An error level that is not known: wine 8 has not all of them, every Windows since Vista has.
            if not done and _code(error := win32.failed("ChangeServiceConfig2W")) != INVALID_LEVEL:
                raise error

    def grants(self) -> Iterator[list[str]]:
        """Yield the commands that give the service, and the clerks, their rights to the folders of the terminal."""
        tool = str(Path(os.environ.get("SYSTEMROOT") or "C:\\Windows") / "System32" / "icacls.exe")
        for path in self.order.writes:
            yield [tool, str(path), "/grant", f"{self.account}:(OI)(CI)M", "/Q"]
        for path in self.order.only_read:
            # It comes before what is inherited from the folder above, in this place and in all below it.
            below = "" if path.suffix == PROGRAM else "(OI)(CI)"
            yield [tool, str(path), "/deny", f"{self.account}:{below}{CHANGES}", "/Q"]
        if not self.order.only_read:
            # Without a kit it is a Python that anybody may have installed, also for himself alone.
            for path in {Path(self.order.command[0]).parent: None, Path(sys.base_prefix): None}:
                yield [tool, str(path), "/grant", f"{self.account}:(OI)(CI)RX", "/Q"]
        if not self.order.for_machine:
            for path in self.order.reads:
                yield [tool, str(path), "/grant", f"{self.account}:(OI)(CI)RX", "/Q"]
            return
        for path in self.order.clerks_write:
            yield [tool, str(path), "/grant", f"{CLERKS}:(OI)(CI)M", "/Q"]

    def start(self) -> None:
        with self._refused("start"), self._opened(SERVICE_ALL) as service:
            started = library().StartServiceW(service, 0, None)
            if not started and _code(error := win32.failed("StartServiceW")) != RUNS_ALREADY:
                raise error
            if _wait(service, RUNNING) != RUNNING:
                raise Refused(
                    operation="start the service", cause="it ended at once, or did not answer",
                    hint="`updater doctor` says what is wrong with this terminal.",
                )  # fmt: skip

    def stop(self) -> None:
        import ctypes

        with self._refused("stop"), self._opened(SERVICE_ALL) as service:
            status = (ctypes.c_ulong * 7)()
            asked = library().ControlService(service, CONTROL_STOP, ctypes.byref(status))
            if not asked and _code(error := win32.failed("ControlService")) != NOT_RUNNING:
                raise error
            if _wait(service, STOPPED) != STOPPED:
                raise TryLater(
                    operation="stop the service", cause=f"it still runs after {STOP_SECONDS:.0f} seconds",
                    hint="Run `updater service stop` again.",
                )  # fmt: skip

    def status(self) -> ServiceStatus:
        with self._refused("status", doing="ask"):
            try:
                with self._opened(SERVICE_LOOKS) as service:
                    state, pid, exit_code = _query(service)
            except OSError as error:
                if _code(error) == NO_SUCH:
                    return ServiceStatus(State.NOT_INSTALLED, f"there is no service {self.order.name}")
                raise
        detail = f"pid {pid}" if pid else f"last exit code {exit_code}"
        if state == STOPPED:
            return ServiceStatus(State.FAILED if exit_code not in (0, 1077) else State.STOPPED, detail, True)
        return ServiceStatus(State.RUNNING if state == RUNNING else State.CHANGING, detail, True)

    def uninstall(self) -> bool:
        if self.status().state is State.NOT_INSTALLED:
            return False
        self.stop()
        with self._refused("uninstall"), self._opened(SERVICE_ALL) as service:
            checked("DeleteService", library().DeleteService(service))
        return True

    @contextmanager
    def _opened(self, access: int) -> Iterator[int]:
        with _manager(MANAGER_LOOKS) as manager, _of_manager(manager, self.order.name, access) as service:
            yield service

    @contextmanager
    def _refused(self, command: str, *, doing: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = ""
            if _code(error) == win32.ACCESS_DENIED:
                hint = f"Run `updater service {command}` in a console that was started as administrator."
            elif _code(error) == NO_SUCH:
                hint = "Run `updater service install` as administrator first."
            raise Refused(
                operation=f"{doing or command} the service", cause=error.strerror or str(error), hint=hint
            ) from error


def _code(error: OSError) -> int:
    return int(getattr(error, "winerror", 0) or 0)


@contextmanager
def _manager(access: int) -> Iterator[int]:
    handle = checked("OpenSCManagerW", library().OpenSCManagerW(None, None, access))
    try:
        yield handle
    finally:
        library().CloseServiceHandle(handle)


@contextmanager
def _of_manager(manager: int, name: str, access: int) -> Iterator[int]:
    handle = checked("OpenServiceW", library().OpenServiceW(manager, name, access))
    try:
        yield handle
    finally:
        library().CloseServiceHandle(handle)


def _query(service: int) -> tuple[int, int, int]:
    """Return the state, the pid and the last exit code (SERVICE_STATUS_PROCESS)."""
    import ctypes

    status, needed = (ctypes.c_ulong * 9)(), ctypes.c_ulong()
    size_bytes = ctypes.sizeof(status)
    answer = library().QueryServiceStatusEx(service, 0, ctypes.byref(status), size_bytes, ctypes.byref(needed))
    checked("QueryServiceStatusEx", answer)
    return status[1], status[7], status[4] if status[3] == SPECIFIC else status[3]


def _wait(service: int, wanted: int) -> int:
    """Wait until a service is in a state, or has stopped; return its state."""
    deadline = time.monotonic() + STOP_SECONDS
    while (state := _query(service)[0]) not in (wanted, STOPPED) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return state


def dispatch(name: str, work: Callable[[Callable[[], None]], None]) -> BaseException | None:
    """Do the work of a service whose process the service manager started; return what it raised.

    The manager is told that the service runs before the work begins, and that it has stopped after it has ended.

    Raises:
        Refused: the service manager did not start this process.
    """
    import ctypes

    asked = threading.Event()
    raised: list[BaseException] = []
    handles: list[int] = []

    def tell(state: int, *, specific: int = 0) -> None:
        waits = int(STOP_SECONDS * 1000) if state in (START_PENDING, STOP_PENDING) else 0
        accepts = ACCEPTS if state == RUNNING else 0
        values = (OWN_PROCESS, state, accepts, SPECIFIC if specific else 0, specific, 0, waits)
        status = (ctypes.c_ulong * 7)(*values)
        library().SetServiceStatus(handles[0], ctypes.byref(status))

    def control(number: int, *_: object) -> int:
        if number in (CONTROL_STOP, CONTROL_SHUTDOWN, CONTROL_PRESHUTDOWN):
            tell(STOP_PENDING)
            asked.set()
            return 0
        return 0 if number == CONTROL_INTERROGATE else NOT_IMPLEMENTED

    def main(*_: object) -> None:
        handles.append(checked("RegisterServiceCtrlHandlerExW", register(name, handler, None)))
        tell(RUNNING)
        try:
            work(lambda: (asked.wait(), None)[1])
        except BaseException as error:  # noqa: BLE001 - of any type: the last boundary of this thread
            raised.append(error)
        tell(STOPPED, specific=1 if raised else 0)

    functions = ctypes.WINFUNCTYPE  # type: ignore[attr-defined,unused-ignore]
    handler = functions(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p)(control)
    service_main = functions(None, ctypes.c_ulong, ctypes.c_void_p)(main)
    register = library().RegisterServiceCtrlHandlerExW
    # Pairs of a name and a function; the last one is empty.
    named = ctypes.c_wchar_p(name)
    table = (ctypes.c_void_p * 4)(
        ctypes.cast(named, ctypes.c_void_p), ctypes.cast(service_main, ctypes.c_void_p), None, None
    )
    if not library().StartServiceCtrlDispatcherW(ctypes.byref(table)):
        error = win32.failed("StartServiceCtrlDispatcherW")
        cause = error.strerror or str(error)
        if _code(error) == NOT_BY_MANAGER:
            cause = "this process was not started by the service manager"
        raise Refused(operation="run as a service", cause=cause, hint="Run `updater service start`.")
    return raised[0] if raised else None
