"""A context without triggers: rows that were made elsewhere have the effects of the triggers among them already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from dbsync.storage.connections import Connection, attempted
from dbsync.storage.introspection import TableKind, quoted, tables


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


def renew_searches(connection: Connection, touched: frozenset[str]) -> list[str]:
    """Rebuild the search indexes over tables that got rows, whose triggers would have done it for each row.

    Args:
        connection: the open transaction.
        touched: the names of these tables in lower case; an index over a view is always rebuilt.

    Returns:
        The indexes that cannot be rebuilt, such as those that only the app can evaluate.
    """
    kinds = tables(connection)
    views = {facts.name.lower() for facts in kinds.values() if facts.kind is TableKind.VIEW}
    left = []
    for name, facts in kinds.items():
        if facts.is_external_search and facts.content_table.lower() in touched | views:
            rebuild = f"INSERT INTO main.{quoted(name)} ({quoted(name)}) VALUES ('rebuild')"
            if attempted(connection, partial(connection.execute, rebuild)) is not None:
                left.append(name)
    return left
