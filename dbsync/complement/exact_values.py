"""Values exactly as SQLite stores them: text that is not UTF-8, the sign of zero, integer against real."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dbsync.storage.connections import Connection

Value = None | int | float | str | bytes
"""One cell. Bytes of a text that are not UTF-8 are surrogates, as PEP 383 maps them."""


@contextmanager
def exact(connection: Connection) -> Iterator[None]:
    """A context in which a connection returns every text, also one that is not UTF-8."""
    before = connection.text_factory
    connection.text_factory = _decoded
    try:
        yield
    finally:
        connection.text_factory = before


def bound(values: Iterable[Value]) -> tuple[list[str], list[Value]]:
    """Return the SQL that stands for each value in a statement, and its parameters."""
    marks, parameters = [], list[Value]()
    for value in values:
        mark, parameter = "?", value
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                mark, parameter = "CAST(? AS TEXT)", value.encode("utf-8", "surrogateescape")
        marks.append(mark)
        parameters.append(parameter)
    return marks, parameters


def same(one: Value, other: Value) -> bool:
    """Return whether two cells are equal in value and storage class; 0.0 and -0.0 differ."""
    if type(one) is not type(other) or one != other:
        return False
    return not isinstance(one, float) or math.copysign(1.0, one) == math.copysign(1.0, float(str(other)))


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
