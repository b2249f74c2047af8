"""The code of a migration in Python: its namespace, and the line at which it failed."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from dbsync.errors import MigrationFailed, MissingTool, TillkeeperError, described, interrupts
from dbsync.migrations.migration_file import checked_text
from dbsync.model import Migration
from dbsync.storage.causes import of_this_machine

_UNRUN: Final = (Iterator, AsyncIterator, Awaitable, AbstractContextManager)


def _unheard(line: str) -> None:
    """Ignore a line that a migration prints."""


def namespace_of(migration: Migration, log: Callable[[str], None] = _unheard) -> dict[str, object]:
    """Return the namespace that a Python migration defines, after checking its text against its identity.

    Its `print` writes to `log`: standard output belongs to the calling program, and may be lines of JSON.

    Raises:
        MigrationFailed: the file changed, or its top level fails.
    """
    text = checked_text(migration)
    namespace: dict[str, object] = {"__name__": f"migration_{migration.number:04d}", "__file__": str(migration.path)}
    namespace["print"] = partial(_printed, log)
    try:
        exec(compile(text, str(migration.path), "exec"), namespace)  # noqa: S102 - signed code of the vendor
    except BaseException as error:
        raise failed(migration, error) from error
    return namespace


def _printed(log: Callable[[str], None], *words: object, sep: str | None = " ", **_: object) -> None:
    for line in (" " if sep is None else sep).join(map(str, words)).splitlines():
        log(line)


def refuse_unrun(migration: Migration, result: object) -> None:
    """Refuse the result of a function that has only prepared its statements, such as a generator or a coroutine.

    Raises:
        MigrationFailed: the result is something that the caller would still have to run.
    """
    if isinstance(result, _UNRUN) or callable(result):
        if isinstance(result, Coroutine | Generator):
            # It will not run: without this, Python warns on standard error.
            result.close()
        cause = f"it returned {type(result).__name__} instead of running, so its statements were not run"
        raise MigrationFailed(operation="migrate", path=migration.path, cause=cause)


def failed(migration: Migration, error: BaseException) -> TillkeeperError:
    """Return the error for an exception of a Python migration, with the line of its code that led to it.

    Any exception is a failure, SystemExit too: it must not end the app. A person's Ctrl-C is raised again. A disk that
    is full or fails, and a lack of memory, lie in this machine and not in the migration (`storage.causes`).
    """
    if interrupts(error):
        raise error
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(migration.path)]
    cause = described(error) + (f" (line {lines[-1]})" if lines else "")
    kind = of_this_machine(error) or (MissingTool if isinstance(error, ImportError) else MigrationFailed)
    return kind(operation="migrate", path=migration.path, cause=cause)
