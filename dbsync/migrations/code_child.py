"""The process that runs the code of migrations: no database is open in it, each call of `db` goes to the other process.

It reads requests from standard input until that closes. What the code prints past `print` goes to standard error.
"""

from __future__ import annotations

import locale
import os
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Final, assert_never

from dbsync.errors import TillkeeperError, interrupts
from dbsync.migrations import code_messages as messages
from dbsync.migrations.engines import registry
from dbsync.migrations.environment import OTHER, Environment
from dbsync.migrations.operations import Database, Rows
from dbsync.migrations.python_code import failed, namespace_of
from dbsync.model import Migration
from dbsync.progress import Unit
from dbsync.schema.sql_text import Statement
from dbsync.storage import children
from dbsync.storage.platform import this_platform
from dbsync.storage.raw_text import BadText

LOCALES: Final = (OTHER.locale, "fr_FR.UTF-8", "German_Germany.1252", "tr_TR.UTF-8")
"""Locales that are not English, of which a machine may have one."""
Received = SimpleQueue[Any]
Request = messages.Up | messages.HasDown | messages.Down
Passed = deque[tuple[int, TillkeeperError]]
_PLAIN: Final = (type(None), int, float, str, bytes, BadText)


def main() -> None:
    """Answer requests until standard input closes."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Programs that the code starts, and libraries that print, must not get into the messages.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    with _with_parent():
        hello = messages.receive(source)
    assert isinstance(hello, messages.Hello)
    sys.path += [folder for folder in hello.folders if folder not in sys.path]
    _pin_locale(_locale_of(hello.environment))
    if hello.environment.day:
        from dbsync.migrations import other_clock

        other_clock.stand_at(hello.environment.day)
    with _with_parent():
        messages.send(messages.Ready(_is_pinned(hello.environment)), sink)
    received: Received = SimpleQueue()
    threading.Thread(target=_receive, args=(source, received), daemon=True).start()
    server = _Server(received, sink, hello.environment)
    while True:
        answer = server.answer(received.get())
        # This process may be ended, not asked to end.
        sys.stderr.flush()
        with _with_parent():
            messages.send(answer, sink)


def _receive(source: IO[bytes], received: Received) -> None:
    """Pass messages on; when the other process is gone, end this one, whatever the code is doing."""
    while True:
        with _with_parent():
            received.put(messages.receive(source))


@contextmanager
def _with_parent() -> Iterator[None]:
    """End this process without a word if the other one is gone: it may be killed before its first message."""
    try:
        yield
    except (EOFError, OSError):
        sys.stderr.flush()
        os._exit(0)


def _is_pinned(environment: Environment) -> bool:
    """Return whether the seed counts here: a frozen program takes it only from how it was built."""
    return environment.hash_seed != 0 or not sys.flags.hash_randomization


def _locale_of(environment: Environment) -> str:
    """Return the first of the environment's locales that this machine has; only C is everywhere."""
    others = LOCALES if environment.locale == OTHER.locale else (environment.locale,)
    for name in others:
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
        return name
    locale.setlocale(locale.LC_ALL, "C")
    return "C"


def _pin_locale(name: str) -> None:
    """Let code that asks for the machine's locale have this one: Windows does not ask the environment."""
    set_locale = locale.setlocale

    def pinned(category: int, locale: str | Iterable[str | None] | None = None) -> str:
        return set_locale(category, name if locale == "" else locale)

    locale.setlocale = pinned


def _settle(environment: Environment) -> None:
    """Set what an earlier migration may have changed."""
    os.umask(environment.umask)
    os.environ.update(environment.variables)
    this_platform().reread_time_zone()
    os.environ["LC_ALL"] = locale.setlocale(locale.LC_ALL, "")
    os.chdir(children.FOLDER)


class _Server:
    def __init__(self, received: Received, sink: IO[bytes], environment: Environment) -> None:
        self._received, self._sink = received, sink
        self._environment = environment
        self._downs: dict[tuple[Path, str], Callable[..., Any] | None] = {}

    def answer(self, request: Request) -> Any:
        """Return the answer to a request; everything that the code raises is one."""
        passed: Passed = deque(maxlen=messages.ERRORS_KEPT)
        try:
            return self._answer(request, passed)
        except BaseException as error:  # noqa: BLE001 - the vendor's code may raise anything
            if interrupts(error):
                return messages.Interrupted()
            ours = error if isinstance(error, TillkeeperError) else failed(request.migration, error)
            return messages.Raised.of(ours, next((number for number, known in passed if known is error), 0))

    def _answer(self, request: Request, passed: Passed) -> messages.Value | messages.RowFailed:
        match request:
            case messages.Up():
                _settle(self._environment)
                database = CodeDatabase(self._received, self._sink, request.migration.path, passed)
                registry.named(request.migration.engine).run(database, request.migration)
                return messages.Value(None)
            case messages.HasDown():
                return messages.Value(self._down_of(request.migration) is not None)
            case messages.Down():
                return self._translated(request)
            case _:
                assert_never(request)

    def _down_of(self, migration: Migration) -> Callable[..., Any] | None:
        key = migration.path, migration.sha256
        if key not in self._downs:
            _settle(self._environment)
            found = namespace_of(migration).get("down_row")
            self._downs[key] = found if callable(found) else None
        return self._downs[key]

    def _translated(self, request: messages.Down) -> messages.Value | messages.RowFailed:
        down = self._down_of(request.migration)
        assert down is not None
        try:
            row = down(request.table, request.row)
            return messages.Value(None if row is None else {str(name): plain(value) for name, value in row.items()})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the vendor's code may raise anything
            return messages.RowFailed(type(error).__name__)


class CodeDatabase(Database):
    """The object that the code of a migration gets in place of a connection.

    Args:
        received: has the answers.
        sink: gets the calls.
        path: the migration's file, for naming the line that calls.
        passed: gets the errors of calls, with their numbers.
    """

    def __init__(self, received: Received, sink: IO[bytes], path: Path, passed: Passed) -> None:
        self._received, self._sink = received, sink
        self._path = str(path)
        self._passed = passed

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement and return the number of rows that it changed (-1 where that has no meaning)."""
        return int(self._call("execute", sql, _bound(parameters)))

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one query and return all rows."""
        rows: list[tuple[Any, ...]] = self._call("query", sql, _bound(parameters))
        return rows

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns, in order; empty if there is no such table."""
        names: list[str] = self._call("columns", table)
        return names

    def script(self, text: str) -> None:
        """Run the statements of an SQL text one by one."""
        self._call("script", text)

    def existing(self, sql: str) -> None:
        """Run a statement of the database's own schema, which may have strings in double quotes."""
        self._call("existing", sql)

    def is_local(self, kind: str, name: str) -> bool:
        """Return whether no schema of the vendor has an index or trigger; it is made again after the migration."""
        return bool(self._call("is_local", kind, name))

    def log(self, text: str) -> None:
        """Write one line to the run's log."""
        self._call("log", str(text))

    def progress(self, done: int, total: int, unit: Unit = Unit.ROWS) -> None:
        """Report the progress of a long step, for a bar and the remaining time."""
        self._call("progress", done, total, unit)

    def _rowid(self, table: str) -> str | None:
        name: str | None = self._call("_rowid", table)
        return name

    def _statements(self, statements: Sequence[Statement]) -> None:
        self._call("_statements", list(statements))

    def _rows(self, sql: str, parameters: Sequence[Any]) -> Rows:
        rows: Rows = self._call("_rows", sql, _bound(parameters))
        return rows

    def _call(self, name: str, *arguments: Any) -> Any:
        messages.send(messages.Call(name, arguments, self._line()), self._sink)
        answer = self._received.get()
        match answer:
            case messages.Value():
                return answer.value
            case messages.Raised():
                error = answer.error()
                self._passed.append((answer.number, error))
                raise error
            case BaseException():
                raise answer
            case _:
                raise RuntimeError(f"not an answer: {answer!r}")

    def _line(self) -> int:
        frame = sys._getframe(1)  # noqa: SLF001 - `traceback` does the same, at a higher cost
        while frame.f_back is not None:
            if frame.f_code.co_filename == self._path:
                return frame.f_lineno
            frame = frame.f_back
        return 0


def _bound(parameters: Any) -> Any:
    """Return the values of a statement as SQLite would get them."""
    if isinstance(parameters, Mapping):
        return {str(name): plain(value) for name, value in parameters.items()}
    return [plain(value) for value in parameters]


def plain(value: Any) -> Any:
    """Return a value as sqlite3 binds it: adapted, without a type of the code's own.

    Raises:
        sqlite3.ProgrammingError: it cannot be bound.
    """
    if type(value) in _PLAIN:
        return value
    try:
        adapted: Any = sqlite3.adapt(value, sqlite3.PrepareProtocol)
    except sqlite3.ProgrammingError:
        adapted = value
    if isinstance(adapted, BadText):
        return BadText(adapted)
    # By the type's own method: the code's type may override the conversion.
    if isinstance(adapted, int):
        return int.__pos__(adapted)
    if isinstance(adapted, float):
        return float.__pos__(adapted)
    if isinstance(adapted, str):
        return str.__str__(adapted)
    if adapted is None:
        return None
    try:
        return bytes(memoryview(adapted))
    except TypeError:
        raise sqlite3.ProgrammingError(f"a value of type '{type(value).__name__}' is not supported") from None
