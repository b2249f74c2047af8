"""Windows: a Job object holds the app's process tree. Implemented from the documentation, but untested.

The app lock cannot be inherited here, because a byte-range lock belongs to one handle of one process. So the launcher
holds it while the app runs, and the Job is closed with the launcher: an app never outlives its launcher.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dbsync.errors import Refused
from dbsync.storage.locks import Lock
from updater.errors import AppAlreadyRunning
from updater.host.base import Account, App, Entry, Folders, Rights
from updater.host.shared import START_SECONDS, SharedHost

JOB_EXTENDED_LIMIT_INFORMATION: Final = 9
JOB_LIMIT_KILL_ON_CLOSE: Final = 0x2000
JOB_LIMITS_SIZE_BYTES: Final = 144
JOB_LIMIT_FLAGS_OFFSET: Final = 16
ROUNDED_SECONDS: Final = 10
"""The boot time is computed from two clocks; rounding makes two computations agree."""


class WindowsApp(App):
    """An app that this process started."""

    def __init__(self, process: Any, job: int, lock: Lock) -> None:
        self.pid: int | None = process.pid
        self.lock_path = lock.path
        self.job: Final = job
        self._process: Final = process
        self._lock: Final = lock

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._ended(self._process.poll())

    def wait(self) -> int:
        """Wait for its end."""
        code = self._process.wait()
        self._ended(code)
        return int(code)

    def _ended(self, code: int | None) -> int | None:
        if code is not None:
            self._lock.release()
        return code


class WindowsHost(SharedHost):
    """A terminal that runs Windows."""

    keeps_executable_bit = False
    has_accounts = False

    def start_app(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        lock_path: Path,
        note: Mapping[str, str | None],
    ) -> App:
        import subprocess

        lock = Lock(lock_path)
        if not lock.take(timeout_seconds=START_SECONDS):
            raise AppAlreadyRunning(operation="start", path=lock_path, cause="the app is running already")
        job = self._make_job()
        try:
            process = subprocess.Popen(command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL)
        except OSError as cause:
            lock.release()
            raise Refused(operation="start", path=Path(command[0]), cause=cause.strerror or str(cause)) from cause
        self._kernel().AssignProcessToJobObject(job, int(process._handle))  # type: ignore[attr-defined]  # noqa: SLF001
        self.write_note(lock, process.pid, note)
        return WindowsApp(process, job, lock)

    def end_tree(self, app: App, *, grace_seconds: float) -> bool:
        if not isinstance(app, WindowsApp):
            return self.running_app(app.lock_path) is None
        self._kernel().TerminateJobObject(app.job, 1)
        deadline = time.monotonic() + max(grace_seconds, 1.0)
        while app.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return app.poll() is not None

    def start_time(self, pid: int) -> str | None:
        """Return None: the creation time of a process is not read."""
        return None

    def read_boot_id(self) -> str:
        up_seconds = self._kernel().GetTickCount64() / 1000
        return f"boot-{round((time.time() - up_seconds) / ROUNDED_SECONDS)}"

    def monotonic_seconds(self) -> float:
        return float(self._kernel().GetTickCount64()) / 1000

    def default_folders(self, app: str) -> Folders:
        local = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
        roaming = Path(os.environ.get("APPDATA") or Path.home() / "AppData/Roaming")
        ours = local / "Tillkeeper" / app
        return Folders(
            program=ours / "program", state=ours / "state", data=roaming / app, settings_file=ours / "settings.toml"
        )

    def machine_folders(self, app: str) -> Folders:
        programs = Path(os.environ.get("PROGRAMFILES") or "C:\\Program Files") / "Tillkeeper" / app
        ours = Path(os.environ.get("PROGRAMDATA") or "C:\\ProgramData") / "Tillkeeper" / app
        return Folders(program=programs, state=ours / "state", data=ours / "data", settings_file=ours / "settings.toml")

    def machine_ids(self) -> Mapping[str, str]:
        import winreg

        place = r"SOFTWARE\Microsoft\Cryptography"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:  # type: ignore[attr-defined,unused-ignore]
                return {"system": str(winreg.QueryValueEx(key, "MachineGuid")[0])}  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return {}

    # Access lists are not read or written: a terminal has one account here.

    def own_account(self) -> Account:
        return Account(os.environ.get("USERNAME", ""), 0, 0, frozenset())

    @property
    def is_privileged(self) -> bool:
        return False

    def account(self, name: str) -> Account | None:
        """Return None: accounts are not looked up."""
        return None

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

    def _make_job(self) -> int:
        import ctypes

        kernel = self._kernel()
        job = kernel.CreateJobObjectW(None, None)
        limits = bytearray(JOB_LIMITS_SIZE_BYTES)
        limits[JOB_LIMIT_FLAGS_OFFSET : JOB_LIMIT_FLAGS_OFFSET + 4] = JOB_LIMIT_KILL_ON_CLOSE.to_bytes(4, "little")
        buffer = (ctypes.c_char * len(limits)).from_buffer(limits)
        kernel.SetInformationJobObject(job, JOB_EXTENDED_LIMIT_INFORMATION, buffer, len(limits))
        return int(job)

    def _kernel(self) -> Any:
        import ctypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
        kernel.CreateJobObjectW.restype = ctypes.c_void_p
        kernel.GetTickCount64.restype = ctypes.c_ulonglong
        kernel.AssignProcessToJobObject.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        kernel.TerminateJobObject.argtypes = (ctypes.c_void_p, ctypes.c_uint)
        kernel.SetInformationJobObject.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong)
        return kernel
