"""Runs the code of migrations in a process of its own, which begins with a pinned environment.

A process's hash seed is fixed when it starts, and this one may be the vendor's app. The database stays open here: each
call of `db` comes back over a pipe. The process is kept while there may be more to run, because a start of Python takes
longer than most migrations, and each request begins with the environment set anew.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import MigrationFailed, TillkeeperError, TryLater, interrupts, wrapped
from dbsync.migrations import code_messages as messages
from dbsync.migrations.environment import PINNED, Environment
from dbsync.migrations.migration_file import checked_text
from dbsync.migrations.sandbox import Sandbox, perform
from dbsync.model import Migration, MigrationKind
from dbsync.storage import children
from dbsync.storage.causes import of_this_machine
from dbsync.storage.platform import this_platform

if TYPE_CHECKING:
    import subprocess

MODULE: Final = "dbsync.migrations.code_child"
END_SECONDS: Final = 5.0
"""The time that the process has to end when there is nothing left to do, before it is ended."""
FROM_OUTSIDE: Final = (-1, -2, -9, -15)
"""The ends by a signal that no code sends itself: by a person, a session's end, or a lack of memory."""

_processes: Final[dict[Environment, _Process]] = {}
_guard: Final = threading.RLock()
_wanted = 0


class RowFailed(Exception):
    """The failure of a migration's `down_row` for one row; the text is the type of its error alone."""


def run(sandbox: Sandbox, migration: Migration, environment: Environment) -> None:
    """Run a migration in Python; its calls of `db` are performed by the sandbox.

    Raises:
        TillkeeperError: the code, or a statement of it, failed; the caller undoes its savepoint.
    """
    _of(environment).ask(messages.Up(_absolute(migration)), sandbox)


def check_available() -> None:
    """Start the process, so that what prevents it is found before anything has changed.

    Raises:
        Refused: there is no Python to start it with, or it cannot be given the environment.
        TryLater: this machine cannot start it now.
    """
    _of(PINNED)


class Down:
    """The `down_row` of a migration: receives table and row after it; returns the row before it, None: no place."""

    def __init__(self, migration: Migration) -> None:
        self._migration: Final = _absolute(migration)

    def __call__(self, table: str, row: dict[str, Any]) -> dict[str, Any] | None:
        """Translate a row.

        Raises:
            RowFailed: the code failed on it.
        """
        answer = _of(PINNED).ask(messages.Down(self._migration, table, row))
        if isinstance(answer, messages.RowFailed):
            raise RowFailed(answer.kind)
        translated: dict[str, Any] | None = answer.value
        return translated


def down_of(migration: Migration) -> Down | None:
    """Return the `down_row` of a migration; None if it has none.

    Raises:
        MigrationFailed: the file changed, or its top level fails.
    """
    if migration.kind is not MigrationKind.PYTHON or "down_row" not in checked_text(migration):
        return None
    return Down(migration) if _of(PINNED).ask(messages.HasDown(_absolute(migration))).value else None


@contextmanager
def kept() -> Iterator[None]:
    """A block at the end of which the processes end, unless another one is open; outside, they end with this one."""
    global _wanted  # noqa: PLW0603 - how many blocks are open
    with _guard:
        _wanted += 1
    try:
        yield
    finally:
        with _guard:
            _wanted -= 1
        release()


def release() -> None:
    """End the processes that run, unless a block of `kept` is open."""
    with _guard:
        if not _wanted:
            end()


def end() -> None:
    """End the processes that run."""
    with _guard:
        while _processes:
            _, process = _processes.popitem()
            process.end()


def _of(environment: Environment) -> _Process:
    """Return a process with that environment, started now if none runs."""
    with _guard:
        process = _processes.get(environment)
        if process is None or not process.is_running:
            process = _processes[environment] = _Process(environment)
        return process


class _Process:
    def __init__(self, environment: Environment) -> None:
        self._lock: Final = threading.RLock()
        self._errors: deque[tuple[int, TillkeeperError]] = deque(maxlen=messages.ERRORS_KEPT)
        self._errors_count = 0
        self._process = _start(environment)
        hello = messages.Hello(environment, _folders())
        ready = self._turn(hello, None)
        if not ready.is_pinned:
            self.end()
            cause = f"{sys.executable} is a frozen program whose hash seed differs from start to start"
            hint = "Freeze the product with `--python-option hash_seed=0`, as docs/migrations.md says."
            raise children.NoPython(operation="run code of migrations", cause=cause, hint=hint)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: messages.Up | messages.HasDown | messages.Down, sandbox: Sandbox | None = None) -> Any:
        """Return the answer to a request.

        Raises:
            TillkeeperError: it failed; an error that a call raised is the very same.
            KeyboardInterrupt: the code raised it.
        """
        with self._lock:
            self._errors.clear()
            self._errors_count = 0
            answer = self._turn(request, sandbox)
            if isinstance(answer, messages.Raised):
                raise dict(self._errors).get(answer.number) or answer.error()
            if isinstance(answer, messages.Interrupted):
                raise KeyboardInterrupt
            return answer

    def _turn(self, message: Any, sandbox: Sandbox | None) -> Any:
        """Send a message, perform the calls that come back, and return the message that is none."""
        try:
            self._send(message)
            while True:
                answer = self._receive()
                if not isinstance(answer, messages.Call):
                    return answer
                assert sandbox is not None
                self._send(self._performed(sandbox, answer))
        except BaseException:
            # The other end is in the middle of something.
            self._kill()
            raise

    def _performed(self, sandbox: Sandbox, call: messages.Call) -> Any:
        try:
            return messages.Value(perform(sandbox, call.name, call.arguments, line=call.line))
        except BaseException as error:
            if interrupts(error):
                raise
            if isinstance(error, TillkeeperError):
                self._errors_count += 1
                self._errors.append((self._errors_count, error))
                return messages.Raised.of(error, self._errors_count)
            # An error of the module sqlite3 or of Python itself, such as a number that is too large to bind.
            return error

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            # It has ended: reading says how.
            messages.send(message, self._process.stdin)

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        try:
            return messages.receive(self._process.stdout)
        except (EOFError, OSError) as error:
            status = self._process.wait()
            cause = f"the process that runs its code ended with status {status}"
            if status in FROM_OUTSIDE:
                raise TryLater(operation="migrate", cause=f"{cause}, by another one") from error
            raise MigrationFailed(operation="migrate", cause=cause) from error

    def _kill(self) -> None:
        this_platform().end_tree(self._process)
        self._close()

    def end(self) -> None:
        """End the process: it ends by itself when nothing more can come."""
        import subprocess

        with self._lock:
            if self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=END_SECONDS)
            # What the code has started, and left running, ends too.
            self._kill()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _absolute(migration: Migration) -> Migration:
    """Return the migration for a process that has another current folder."""
    return migration._replace(path=migration.path.absolute())


def _start(environment: Environment) -> subprocess.Popen[bytes]:
    import subprocess

    atexit.register(end)
    try:
        return this_platform().start_tree(
            children.pinned_command(MODULE),
            cwd=children.FOLDER,
            env=children.isolated(**environment.variables),
            source=subprocess.PIPE,
            output=subprocess.PIPE,
            errors=_standard_error(),
        )
    except OSError as error:
        kind = of_this_machine(error)
        if kind is None:
            raise wrapped(error) from error
        cause = f"no process for its code could be started: {error.strerror or error}"
        raise kind(operation="migrate", path=Path(sys.executable), cause=cause) from error


def _standard_error() -> int:
    """Return where this process's errors go, for what the code prints; nowhere if it has no such place."""
    import subprocess

    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return subprocess.DEVNULL


def _folders() -> tuple[str, ...]:
    """Return where this process imports from, for code that imports the app's modules: all but the current folder."""
    here = Path.cwd()
    return tuple(folder for folder in sys.path if Path(folder).is_absolute() and Path(folder) != here)
