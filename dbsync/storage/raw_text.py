"""Text as SQLite holds it, which need not be UTF-8, and the lines of our own files, which end at a newline only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


class BadText(bytes):
    """Text that is not UTF-8, unchanged."""


def decoded(data: bytes) -> str | BadText:
    """Return text as a string; its bytes where it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return BadText(data)


@contextmanager
def every_text(connection: sqlite3.Connection) -> Iterator[None]:
    """A block in which a connection reads every text; one that is not UTF-8 comes as `BadText`."""
    before = connection.text_factory
    connection.text_factory = decoded
    try:
        yield
    finally:
        connection.text_factory = before


def lines_of(text: str) -> list[str]:
    r"""Return the lines of a file of ours, without their ends; only `\n` ends a line.

    `str.splitlines` also splits at `\r`, `\v`, `\f`, U+001C to U+001E, U+0085, U+2028 and U+2029, which may be part of
    a value.
    """
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines
