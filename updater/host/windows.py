"""Windows: a keeper in a process of its own, and a Job that holds the app with all that it starts.

The Job ends nothing by itself: it is there to end the app's whole tree on purpose. The keeper has no console, and
leaves the Job around the launcher where that Job allows it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.errors import Refused
from dbsync.storage.platform import win32
from updater.host.base import App, Entry, Folders, Life, MainProcess, Order, Rights
from updater.host.shared import KeptApp, SharedHost, read_note

if TYPE_CHECKING:
    import subprocess

    from updater.decisions.places import Zone
    from updater.host.services.base import Service, ServiceOrder

END_LIMIT_SECONDS: Final = 5.0
"""How long to wait until the system has removed processes that were ended."""
CONSOLE_POLL_SECONDS: Final = 0.5
"""How often an agent in a console looks whether it was asked to end."""
_ASKED: Final[list[int]] = []
"""Filled when an agent in a console, or below another process, is asked to end."""
BOOT_PLACE: Final = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
"""Its BootId counts the boots."""


class SpawnedKeeperApp(KeptApp):
    """An app whose keeper is a child of this process."""

    def __init__(self, host: SharedHost, order: Order, told: int, keeper: subprocess.Popen[bytes]) -> None:
        self._keeper: Final = keeper
        super().__init__(host, order, told)

    def keeper_ended(self, limit_seconds: float) -> bool:
        # With its end the pipe is closed: nothing is waited for by reading the rest.
        from subprocess import TimeoutExpired

        try:
            self._keeper.wait(timeout=limit_seconds)
        except TimeoutExpired:
            return False
        return True

    def end_keeper(self) -> None:
        self._keeper.wait()


class WindowsMain(MainProcess):
    """The main process of an app, a child of its keeper, in a Job."""

    def __init__(self, process: subprocess.Popen[bytes], job: win32.Job, asked: int) -> None:
        self.pid = process.pid
        self._process: Final = process
        self._job: Final = job
        self._began: Final = _began_at(process.pid)
        self._asked: Final = asked
        """An event by which others ask the app to end, through this process: it has no console to lose."""

    def wait(self, *, limit_seconds: float) -> int | None:
        """Wait for its end, at most that long; what asks it to end meanwhile is passed on."""
        handles = [int(self._process._handle), self._asked]  # type: ignore[attr-defined]  # noqa: SLF001
        if win32.wait(handles, limit_seconds=limit_seconds) == 1:
            win32.checked("ResetEvent", win32.kernel().ResetEvent(self._asked))
            win32.close_windows(set(self._job.pids()))
            # A program without a console is asked by its windows alone; one that goes on is ended after a while.
            with suppress(OSError):
                win32.break_console(self.pid)
        code = self._process.poll()
        return None if code is None else int(code)

    def left(self) -> list[tuple[int, str | None]]:
        """Return what is still in its Job, which is gone with the keeper's handle, and what has left that.

        While the keeper has the main process open, nobody else gets its pid; somebody else may have had it before.
        """
        found: list[tuple[int, str | None]] = []
        pids = set(self._job.pids())
        if self._began is not None:
            pids |= win32.descendants(self.pid, since=self._began)
        for pid in sorted(pids):
            with suppress(OSError):
                if pid != self.pid and (began := win32.began_at(pid)) is not None:
                    found.append((pid, str(began)))
        return found

    def close(self) -> None:
        """Close the handles: the Job is gone once its last process is."""
        self._job.close()
        win32.close(self._asked)


class WindowsHost(SharedHost):
    """A terminal that runs Windows."""

    keeps_executable_bit = False
    has_proxy_settings = True
    has_accounts = False

    def machine(self) -> str:
        # Not platform.machine(): it asks WMI since Python 3.12, which is slow, and may be broken.
        return os.environ.get("PROCESSOR_ARCHITEW6432") or os.environ.get("PROCESSOR_ARCHITECTURE", "")

    def start_app(self, order: Order, *, keeper: str) -> App:
        import subprocess

        from dbsync.storage import children

        document = __import__(keeper, fromlist=["document"]).document(order)
        flags = win32.DETACHED_PROCESS | win32.CREATE_NEW_PROCESS_GROUP
        process: subprocess.Popen[bytes] | None = None
        # A Job around this process may forbid that anything leaves it: then the keeper ends with it.
        for breakaway in (win32.CREATE_BREAKAWAY_FROM_JOB, 0):
            try:
                process = subprocess.Popen(
                    children.command(keeper), cwd=children.FOLDER, env=children.isolated(), stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, creationflags=flags | breakaway,
                )  # fmt: skip
                break
            except OSError as cause:
                if getattr(cause, "winerror", None) != win32.ACCESS_DENIED or not breakaway:
                    raise Refused(operation="start", path=Path(order.command[0]), cause=str(cause)) from cause
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError), process.stdin as order_pipe:
            order_pipe.write(document)
        told = os.dup(process.stdout.fileno())
        process.stdout.close()
        return SpawnedKeeperApp(self, order, told, process)

    def run_main(self, order: Order, *, output: int, noted: Callable[[int], None]) -> MainProcess:
        import subprocess

        name = _job_name(os.getpid(), self.start_time(os.getpid()))
        job = win32.Job(name=name)
        process: subprocess.Popen[bytes] | None = None
        try:
            asked = win32.checked("CreateEventW", win32.kernel().CreateEventW(None, True, False, f"{name}-end"))
            process = win32.start_suspended(
                order.command, job=job, flags=win32.CREATE_NEW_PROCESS_GROUP, cwd=order.folder,
                env=order.environment, source=subprocess.DEVNULL, output=output, errors=subprocess.STDOUT,
            )  # fmt: skip
            noted(process.pid)
            win32.resume(process)
        except OSError as cause:
            if process is not None:
                process.kill()
            job.close()
            raise Refused(
                operation="start", path=Path(order.command[0]), cause=cause.strerror or str(cause)
            ) from cause  # fmt: skip
        return WindowsMain(process, job, asked)

    def takes_output(self, descriptor: int, *, limit_seconds: float) -> bool:
        """Return true: a pipe cannot be asked. A stream that takes nothing holds up this process, never the app."""
        return True

    def ask_to_end(self, app: App, number: int) -> None:
        # Only a process without a console can ask in that of the app: its keeper is one.
        with suppress(OSError):
            if not _set_event(f"{self._job_of(app.lock_path)}-end") and app.pid is not None:
                win32.close_windows({app.pid})

    @contextmanager
    def forwarded(self, forward: Callable[[int], None]) -> Iterator[None]:
        import signal

        numbers = (signal.SIGINT, signal.SIGBREAK)  # type: ignore[attr-defined,unused-ignore]
        before = {number: signal.signal(number, lambda came, _: forward(came)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def life(self, pid: int, start_time: str | None) -> Life:
        try:
            began = win32.began_at(pid)
        except OSError as error:
            gone = getattr(error, "winerror", None) == win32.INVALID_PARAMETER
            return Life.DEAD if gone else Life.UNKNOWN
        if began is None:
            return Life.DEAD
        if start_time is None:
            return Life.UNKNOWN
        return Life.ALIVE if str(began) == start_time else Life.DEAD

    def end_tree(self, app: App, *, grace_seconds: float) -> bool:
        running = self.running_app(app.lock_path)
        if running is None:
            return True
        if running.pid is None or running.start_time is None:
            return False
        name, tree = self._job_of(app.lock_path), self._tree(running.pid, running.start_time)
        self.ask_to_end(app, 0)
        win32.wait_until_gone([running.pid], limit_seconds=grace_seconds)
        tree |= self._tree(running.pid, running.start_time)
        win32.end_job(name)
        return self._terminated(tree) and self.running_app(app.lock_path) is None

    def end_left(self, lock_path: Path, *, grace_seconds: float) -> bool:
        note = read_note(lock_path)
        pid, began = note.get("pid"), note.get("start_time")
        if not isinstance(pid, int) or not isinstance(began, str) or self.noted_life(note) is not Life.DEAD:
            return True
        noted, left = note.get("left"), set()
        if isinstance(noted, list):
            for entry in noted:
                if isinstance(entry, list) and len(entry) == 2 and self.life(*entry) is Life.ALIVE:
                    left |= self._tree(*entry)
        elif note.get("boot_id") == self.boot_id():
            # Its keeper ended before it did: the pid may be another process's by now, whose children are none of ours.
            left = win32.descendants(pid, since=int(began), until=_began_at(pid))
        if left:
            win32.close_windows(left)
            win32.wait_until_gone(sorted(left), limit_seconds=grace_seconds)
        return self._terminated(left)

    def _tree(self, pid: int, start_time: str) -> set[int]:
        return {pid} | win32.descendants(pid, since=int(start_time))

    def _terminated(self, pids: set[int]) -> bool:
        for pid in pids:
            with suppress(OSError):
                win32.terminate(pid)
        return win32.wait_until_gone(sorted(pids), limit_seconds=END_LIMIT_SECONDS)

    def _job_of(self, lock_path: Path) -> str:
        note = read_note(lock_path)
        return _job_name(note.get("keeper_pid"), note.get("keeper_start_time"))

    def start_time(self, pid: int) -> str | None:
        try:
            began = win32.began_at(pid)
        except OSError:
            return None
        return None if began is None else str(began)

    def read_boot_id(self) -> str:
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, BOOT_PLACE) as key:  # type: ignore[attr-defined,unused-ignore]
                return f"boot-{winreg.QueryValueEx(key, 'BootId')[0]}"  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return f"booted-{win32.boot_time()}"

    def monotonic_seconds(self) -> float:
        return float(win32.kernel().GetTickCount64()) / 1000

    def default_folders(self, app: str) -> Folders:
        local = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
        roaming = Path(os.environ.get("APPDATA") or Path.home() / "AppData/Roaming")
        ours = local / "Tillkeeper" / app
        return Folders(
            program=ours / "program", state=ours / "state", data=roaming / app, settings_file=ours / "settings.toml"
        )

    def can_ask(self) -> bool:
        # NUL is a terminal for isatty, and what asks there reads the keys of a console that nobody sees.
        return super().can_ask() and win32.is_console(0)

    def machine_folders(self, app: str) -> Folders:
        programs = Path(os.environ.get("PROGRAMFILES") or "C:\\Program Files") / "Tillkeeper" / app
        ours = Path(os.environ.get("PROGRAMDATA") or "C:\\ProgramData") / "Tillkeeper" / app
        return Folders(program=programs, state=ours / "state", data=ours / "data", settings_file=ours / "settings.toml")

    def zones(self) -> tuple[Zone, ...]:
        from updater.host.places import windows

        return windows.zones(self.tool)

    def path_problem(self, path: Path, *, below_units: int = 0) -> str:
        from updater.host.places import windows

        return windows.path_problem(str(path), below_units=below_units, limit=windows.path_limit())

    def link_target(self, link: Path) -> Path | None:
        try:
            text = os.readlink(link)  # noqa: PTH115 - that of pathlib hides what cannot be read as a path
        except FileNotFoundError:
            return None
        return Path(text.removeprefix("\\\\?\\"))

    def point_link(self, *, link: Path, target: Path) -> None:
        """Make a junction, which takes no right, beside the link, then give it the name."""
        from _winapi import CreateJunction  # type: ignore[attr-defined,unused-ignore]

        new = link.with_name(f"{link.name}.new")
        with suppress(FileNotFoundError):
            # Only the junction: what it leads to is not touched.
            new.rmdir()
        is_there = self.link_target(link) is not None
        CreateJunction(str(target), str(new))
        if is_there:
            link.rmdir()
        new.rename(link)

    def remove_link(self, link: Path) -> None:
        link.rmdir()

    def machine_ids(self) -> Mapping[str, str]:
        import winreg

        place = r"SOFTWARE\Microsoft\Cryptography"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:  # type: ignore[attr-defined,unused-ignore]
                return {"system": str(winreg.QueryValueEx(key, "MachineGuid")[0])}  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return {}

    def service(self, order: ServiceOrder) -> Service:
        from updater.host.services.windows import WindowsService

        return WindowsService(order, self.tool)

    def serve(self, work: Callable[[Callable[[], None]], None], *, service: str = "") -> None:
        import time

        if service:
            from updater.host.services.windows import dispatch

            raised = dispatch(service, work)
            os._exit(0 if raised is None else 1)

        def wait() -> None:
            # A wait that Python can end here ends with Ctrl-C alone, not with Ctrl-Break.
            while not _ASKED:
                time.sleep(CONSOLE_POLL_SECONDS)

        with self.forwarded(_ASKED.append):
            work(wait)
        os._exit(0)

    def end_self(self) -> None:
        _ASKED.append(0)

    # Access lists are not read or written: a terminal has one account here.

    def group(self, name: str) -> int | None:
        """Return None: groups are not looked up."""
        return None

    def account_name(self, user: int) -> str:
        return str(user)

    def group_name(self, group: int) -> str:
        return str(group)

    def rights_of(self, path: Path) -> Rights | None:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return None
        kinds = ((stat.S_ISDIR, Entry.FOLDER), (stat.S_ISREG, Entry.FILE), (stat.S_ISLNK, Entry.LINK))
        return Rights(next((entry for is_it, entry in kinds if is_it(mode)), Entry.OTHER), 0, 0, stat.S_IMODE(mode))

    def set_rights(self, *, path: Path, anchor: Path, rights: Rights, make: bool = False) -> None:
        """Make it if it is missing: it inherits the access list of its folder."""
        if make and rights.entry is Entry.FOLDER:
            path.mkdir(exist_ok=True)
        elif make:
            path.touch()

    def rights_command(self, path: Path, rights: Rights, *, found: Rights | None) -> str:
        return f'icacls "{path}"'

    def elevated(self, command: str) -> str:
        return f"{command} (as administrator)"

    def look_command(self, path: Path) -> str:
        return f'icacls "{path}"'

    def space_command(self, folder: Path) -> str:
        return f'dir "{folder}"'


def _began_at(pid: int) -> int | None:
    """Return when a process began; None if there is none of that pid, or it cannot be asked."""
    try:
        return win32.began_at(pid)
    except OSError:
        return None


def _job_name(keeper: object, began: object) -> str:
    """Return the name of the Job of an app, by the process that keeps it."""
    return f"Tillkeeper-{keeper}-{began}"


def _set_event(name: str) -> bool:
    found = win32.kernel().OpenEventW(win32.EVENT_MODIFY_STATE, False, name)
    if not found:
        return False
    try:
        win32.checked("SetEvent", win32.kernel().SetEvent(found))
    finally:
        win32.close(found)
    return True
