"""The fork server: the product is imported once, each run is a fork, and the shim disturbs one call of it.

Every process of a case is a descendant of this process, also after its parent has died (PR_SET_CHILD_SUBREAPER), so
"the power is cut" means: kill all descendants. The web server is the only one that stays.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from tests.drills.faults import forked_child
from tests.drills.faults.calls import Call, parsed
from tests.drills.faults.modes import Mode

PR_SET_CHILD_SUBREAPER: Final = 36
STATE_BYTES: Final = 4096
_LONGS: Final = 6
"""armed, reading, at, mode, count, hits: the beginning of the shim's state."""
_TEXT_BYTES: Final = 1024
DEADLINE_SECONDS: Final = 90.0
TRACEBACK: Final = "Traceback (most recent call last)"
_REAP_SECONDS: Final = 0.0005


class Fault(NamedTuple):
    """One disturbance: which point, and what happens there. Point 0 disturbs nothing and only counts."""

    mode: Mode
    point: int


class Ran(NamedTuple):
    """One run of a command."""

    exit_code: int | None
    """None if it did not end by itself."""
    output: str
    was_hit: bool = False
    """Whether the fault happened."""
    rang: bool = False
    """Whether the power was cut, by the fault or by the app."""
    hung: bool = False
    seconds: float = 0.0
    points_count: int = 0


class Engine:
    """The shim's orders and the processes of one worker.

    Args:
        folder: a folder of this worker's own, outside of what is disturbed.
        shim: the preloaded library.
    """

    def __init__(self, folder: Path, shim: Path) -> None:
        self.output: Final = folder / "output.txt"
        self._log: Final = folder / "calls.log"
        self._bell: Final = folder / "bell"
        self._state_path: Final = folder / "state"
        self._state_path.write_bytes(bytes(STATE_BYTES))
        os.mkfifo(self._bell)
        # Opened for both: a reader is always there, and the end of one writer is no end of file.
        self._bell_descriptor: Final = os.open(self._bell, os.O_RDWR | os.O_NONBLOCK)
        with self._state_path.open("r+b") as file:
            self._state: Final = mmap.mmap(file.fileno(), STATE_BYTES)
        self._library: Final = ctypes.CDLL(str(shim))
        if self._library.fault_open(str(self._state_path).encode()) != 0:
            raise RuntimeError("the shim cannot map its state")
        self._libc: Final = ctypes.CDLL(None)
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._kept: Final[set[int]] = set()
        self.deadline_seconds = DEADLINE_SECONDS
        """How long a command may take. A large database needs more."""
        self._text(1, str(self._log))
        self._text(2, str(self._bell))

    # ---------------------------------------------------------------------------------------------------- the shim

    def watch(self, folder: Path) -> None:
        """Make the calls below a folder the points."""
        self._text(0, os.path.realpath(folder))
        self._folder = Path(os.path.realpath(folder))

    def _text(self, place: int, text: str) -> None:
        start = _LONGS * 8 + place * _TEXT_BYTES
        self._state[start : start + _TEXT_BYTES] = text.encode().ljust(_TEXT_BYTES, b"\0")

    def _order(self, *, armed: bool, fault: Fault | None) -> None:
        values = [int(armed), int(fault.mode.reading), fault.point, fault.mode.number] if fault else [0, 0, 0, 0]
        for index, value in enumerate([*values, 0, 0]):
            self._state[index * 8 : index * 8 + 8] = value.to_bytes(8, sys.byteorder)

    def _long(self, index: int) -> int:
        return int.from_bytes(self._state[index * 8 : index * 8 + 8], sys.byteorder)

    # ------------------------------------------------------------------------------------------------------- runs

    def run(
        self,
        command: Callable[[], object],
        environment: Mapping[str, str],
        *,
        fault: Fault | None = None,
    ) -> Ran:
        """Run a command in a forked process; with a fault, one of its calls is disturbed.

        A cut of the power ends every process of the case. After any other end, processes that the command left behind
        (an app without its launcher) go on; `end_all` ends them.
        """
        self._drain()
        self._log.write_bytes(b"")
        self._order(armed=fault is not None, fault=fault)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self._become(command, environment)
        code, rang, hung = self._await(pid, began + self.deadline_seconds)
        if rang or hung:
            self.end_all()
        hits, count = self._long(5), self._long(4)
        self._state[0:8] = bytes(8)
        output = self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""
        return Ran(code, output, hits > 0, rang, hung, time.monotonic() - began, count)

    def trace(
        self, command: Callable[[], object], environment: Mapping[str, str], *, mode: Mode = Mode.PLUG
    ) -> tuple[Ran, list[Call]]:
        """Run a command undisturbed, and return its calls as well."""
        ran = self.run(command, environment, fault=Fault(mode, 0))
        return ran, self.calls()

    def calls(self) -> list[Call]:
        """Return the calls of the last run that counted, up to its end or its fault."""
        return parsed(self._log.read_text(encoding="utf-8", errors="replace"), self._folder)

    def _become(self, command: Callable[[], object], environment: Mapping[str, str]) -> NoReturn:
        """Be the command: its own output, its own environment, and an exit status as Python gives it."""
        code = 70
        try:
            output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            empty = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((empty, 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            sys.stdin, sys.stdout, sys.stderr = _streams()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.environ.update(environment)
            os.environ.update(FAULT_STATE=str(self._state_path), DRILL_BELL=str(self._bell))
            forked_child.use()
            self._library.fault_join(1)
            code = _status_of(command)
            self._library.fault_join(0)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code & 255)

    def _await(self, pid: int, deadline: float) -> tuple[int | None, bool, bool]:
        """Wait for the end of a run, for the bell, or for the deadline."""
        process = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(self._bell_descriptor, select.POLLIN)
        try:
            while True:
                events = poll.poll(max(1.0, (deadline - time.monotonic()) * 1000))
                if not events:
                    return None, False, True
                if any(descriptor == self._bell_descriptor for descriptor, _ in events):
                    return None, True, False
                status = os.waitpid(pid, 0)[1]
                code = os.waitstatus_to_exitcode(status)
                return (code if code >= 0 else None), self._drain(), False
        finally:
            os.close(process)

    def _drain(self) -> bool:
        try:
            return bool(os.read(self._bell_descriptor, 64))
        except BlockingIOError:
            return False

    # -------------------------------------------------------------------------------------------------- processes

    def keep(self, serve: Callable[[], object]) -> int:
        """Run something that stays through all cases in a forked process, and return its process id."""
        pid = os.fork()
        if pid == 0:
            try:
                serve()
            finally:
                os._exit(0)
        self._kept.add(pid)
        return pid

    def end_all(self) -> None:
        """Kill every process of the case at once; again, until none is left."""
        while found := self._descendants():
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._reap()
            time.sleep(_REAP_SECONDS)

    def close(self) -> None:
        """End everything, also what was kept."""
        self._kept.clear()
        self.end_all()
        os.close(self._bell_descriptor)

    def _reap(self) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return

    def _descendants(self) -> list[int]:
        found: list[int] = []
        todo = [os.getpid()]
        while todo:
            children = [pid for pid in _children(todo.pop()) if pid not in self._kept]
            found += children
            todo += children
        return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text(encoding="ascii").split())
    except OSError:
        return found
    return found


def _streams() -> tuple[io.TextIOWrapper, io.TextIOWrapper, io.TextIOWrapper]:
    reading, *writing = (
        io.TextIOWrapper(io.FileIO(number, mode, closefd=False), encoding="utf-8", line_buffering=True)
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    return reading, writing[0], writing[1]


def _status_of(command: Callable[[], object]) -> int:
    """Return the exit status that Python gives to a program that runs this."""
    try:
        command()
    except SystemExit as ending:
        if ending.code is None or isinstance(ending.code, int):
            return ending.code or 0
        print(ending.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
