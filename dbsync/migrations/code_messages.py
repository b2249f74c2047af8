"""The messages between this process and the process that runs the code of migrations, as pickles on two pipes.

Both ends are our own code, of one version, on pipes without a name; the vendor's code in the other process is signed.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from dbsync.errors import MigrationFailed, TillkeeperError
from dbsync.migrations.environment import Environment
from dbsync.model import Migration

ERRORS_KEPT: Final = 100
"""Errors of calls that a migration may catch, and let pass later, as the same ones."""


class Hello(NamedTuple):
    """The first message to the other process."""

    environment: Environment
    folders: tuple[str, ...]
    """The folders and archives that this process imports from."""


class Ready(NamedTuple):
    """Its answer."""

    is_pinned: bool
    """Whether hashes of texts are those of the seed that was asked for."""


class Up(NamedTuple):
    """The request to run a migration; calls come back until it ends."""

    migration: Migration


class HasDown(NamedTuple):
    """The question whether a migration defines `down_row`; the answer is a `Value`."""

    migration: Migration


class Down(NamedTuple):
    """The request to translate a row to the older schema; the answer is a `Value`, a `RowFailed` or a `Raised`."""

    migration: Migration
    table: str
    row: dict[str, Any]


class Call(NamedTuple):
    """A call of the object that the migration has in place of a connection."""

    name: str
    arguments: tuple[Any, ...]
    line: int
    """The line of the migration that calls; 0: none of its own."""


class Value(NamedTuple):
    """A result."""

    value: Any


class RowFailed(NamedTuple):
    """The failure of `down_row`: only the type of the error, whose text may hold a value."""

    kind: str


class Raised(NamedTuple):
    """An error of ours, in parts."""

    kind: str
    operation: str
    path: Path | None
    cause: str
    hint: str
    number: int = 0
    """Of a call's error, from 1: code that lets it pass ends with the very same error."""

    @classmethod
    def of(cls, error: TillkeeperError, number: int = 0) -> Raised:
        """Return the parts of an error."""
        return cls(type(error).__name__, error.operation, error.path, error.cause, error.hint, number)

    def error(self) -> TillkeeperError:
        """Return an equal error."""
        kind = _classes().get(self.kind, MigrationFailed)
        return kind(operation=self.operation, path=self.path, cause=self.cause, hint=self.hint)


class Interrupted(NamedTuple):
    """The end of the code by KeyboardInterrupt, which is never a failure."""


def send(message: NamedTuple, to: IO[bytes]) -> None:
    """Write a message."""
    pickle.dump(message, to, protocol=5)
    to.flush()


def receive(source: IO[bytes]) -> Any:
    """Read a message.

    Raises:
        EOFError: the other process has ended, in the middle of a message perhaps.
    """
    try:
        return pickle.load(source)  # noqa: S301 - both ends are our own code
    except pickle.UnpicklingError as cause:
        raise EOFError(str(cause)) from cause


def _classes() -> dict[str, type[TillkeeperError]]:
    found: dict[str, type[TillkeeperError]] = {}
    waiting: list[type[TillkeeperError]] = [TillkeeperError]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found
