"""A context without triggers: rows that were made elsewhere have the effects of the triggers among them already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dbsync.storage.connections import Connection
from dbsync.storage.introspection import quoted


@contextmanager
def without_triggers(connection: Connection) -> Iterator[None]:
    """Drop the triggers of `main` in the open transaction, and make them again in their order, which is that of firing.

    After an exception they are not made again: the caller undoes the transaction.
    """
    rows = connection.execute("SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' ORDER BY rowid")
    triggers = [(str(name), str(sql)) for name, sql in rows.fetchall()]
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER main.{quoted(name)}")
    yield
    for _, sql in triggers:
        connection.execute(sql)
