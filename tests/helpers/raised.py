"""What code of others raises: exceptions of every type, and those that are hard to print. For each last boundary."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dbsync.errors import Locked, Refused


class Mute(Exception):
    """Its text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __repr__(self) -> str:
        raise ValueError("no text")


class Quits(Exception):
    """Whoever asks for its text ends the process."""

    def __str__(self) -> str:
        raise SystemExit(0)


class Strange(Exception):
    """Its text is no text."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307


class Sly(str):
    """A string that does nothing that a string can."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise ValueError("not encoded")

    def __format__(self, _: str) -> str:
        raise ValueError("not formatted")


class Slyly(Exception):
    """Its text is such a string."""

    def __str__(self) -> str:
        return Sly("sly")


class Own(BaseException):
    """A type that nobody knows, outside of Exception."""


class Hollow(Refused):
    """One of ours by its class, without anything that ours have."""

    def __init__(self) -> None:
        Exception.__init__(self)


def nested() -> BaseException:
    """A group in a group, deeper than a recursion goes."""
    found: Exception = ValueError("inmost")
    for _ in range(5000):
        found = ExceptionGroup("deep", [found])
    return found


HARD: Final[dict[str, Callable[[], BaseException]]] = {
    "without a text": Exception,
    "a text that cannot be made": Mute,
    "a text that ends the process": Quits,
    "a text that is a number": Strange,
    "a text that is no plain string": Slyly,
    "a text that cannot be encoded": lambda: RuntimeError("caf\udce9"),
    "a text with a NUL and a new line": lambda: ValueError("a\0b\nc"),
    "a text of a million letters": lambda: ValueError("x" * 1_000_000),
    "of Python's sqlite3, without a code": lambda: sqlite3.OperationalError("unable to open"),
    "of ours, with a text that cannot be encoded": lambda: Locked(operation="open", cause="\udcff", path=Path("x")),
    "of ours, and hollow": Hollow,
    "of the system, on a number": lambda: OSError(9, "Bad file descriptor", 3),
    "of the system, on a name that is no text": lambda: OSError(2, "No such file", b"caf\xe9\0"),
    "of the system, without anything": OSError,
    "of the system, with a number as its text": lambda: OSError(5, 7),
    "memory": MemoryError,
    "recursion": RecursionError,
    "a key": lambda: KeyError("missing"),
    "the end of an iteration": StopIteration,
    "the end of a generator": GeneratorExit,
    "the end of the process": lambda: SystemExit(0),
    "the end of the process, with a text": lambda: SystemExit("caf\udce9"),
    "a task that was cancelled": asyncio.CancelledError,
    "outside of Exception": Own,
    "many": lambda: ExceptionGroup("two", [OSError(5, "I/O error"), Mute()]),
    "many, outside of Exception": lambda: BaseExceptionGroup("two", [SystemExit(1), Mute()]),
    "many, deep": nested,
}
"""Every one is a failure like any other: it has a name, and words that can be written."""

INTERRUPTIONS: Final[dict[str, Callable[[], BaseException]]] = {
    "ctrl-c": KeyboardInterrupt,
    "ctrl-c, among others": lambda: BaseExceptionGroup("two", [ValueError(), KeyboardInterrupt()]),
}
"""A person's, and no failure: the status is 130."""
