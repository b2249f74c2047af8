"""The conservation check: every row and definition must equal the backup's, in SQL, unless a change is declared.

Every old row must match a new row that is equal in its key and in every common column that no migration declared, in
value and storage class, and the counts must agree.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

from dbsync.migrations.write_log import Written, tables_in, told
from dbsync.progress import Told, Unit, nobody
from dbsync.schema.declarations import Cell, Declared, written_name
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import TableFacts, app_tables, columns_of, has_table, quoted, unusable_tables
from dbsync.verification.declaration_checks import usable
from dbsync.verification.definition_changes import in_objects, in_table, in_virtual
from dbsync.verification.finding import Finding, with_keys
from dbsync.verification.row_matching import Keyed, Pair, Rows, keyed_by
from dbsync.verification.search_indexes import does_not_fit

OLD: Final = "dbsync_before"
"""The name under which the backup is attached."""
STEPS: Final = 100_000
"""Steps of SQLite's virtual machine between two checks of the time limit."""
SameColumns = dict[str, frozenset[str]]
"""By table, both in lower case: the columns of which every cell is proven to be the same in the same row as before."""


def findings(
    connection: Connection,
    allowed: Declared,
    *,
    written: Written | None,
    limit_seconds: float,
    skip: bool = True,
    heard: Told = nobody,
    same: SameColumns | None = None,
) -> list[Finding]:
    """Compare the open transaction with the attached backup and return the undeclared differences.

    Args:
        connection: the database as it would be committed, with the database before attached as OLD.
        allowed: what the migrations declare.
        written: the writes, as the authorizer saw them; None: unknown, so every table is compared.
        limit_seconds: time limit of the comparison.
        skip: whether the rows of a table that was not written count as unchanged if their number is the same.
        heard: receives, table by table, how many of the old rows have been compared.
        same: gets the columns that are proven to be the same, of the tables that were compared row by row.
    """
    deadline = time.monotonic() + limit_seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        allowed, wrong = usable(connection, allowed, OLD)
        if wrong:
            return wrong
        skipped = tables_in(written) if skip and written is not None else None
        return [
            *in_objects(connection, allowed, OLD),
            *_unusable(connection, allowed),
            *_tables(connection, allowed, _Seen(written, skipped, same if same is not None else {}), heard),
            *_marks(connection, allowed),
        ]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return [Finding(f"that nothing else changed could not be proven within {limit_seconds:.0f} seconds", "")]
        raise
    finally:
        connection.set_progress_handler(None, 0)


# ------------------------------------------------------------------------------------------------------------- tables


class _Seen(NamedTuple):
    written: Written | None
    skipping: frozenset[str] | None
    """The tables that were written, if the rows of others need not be compared; else None."""
    same: SameColumns

    def no_write_to(self, name: str) -> bool:
        return self.skipping is not None and name not in self.skipping


def _kinds(connection: Connection, schema: str) -> dict[str, TableFacts]:
    """Return the app's tables by name in lower case."""
    return {name.lower(): facts for name, facts in app_tables(connection, schema).items()}


def _tables(connection: Connection, allowed: Declared, seen: _Seen, heard: Told) -> Iterator[Finding]:
    before, now = _kinds(connection, OLD), _kinds(connection, "main")
    counts = {lower: _count_if_readable(connection, old) for lower, old in before.items()}
    done, total = 0, sum(count or 0 for count in counts.values())
    for lower, old in before.items():
        heard(done, total, old.name, Unit.ROWS)
        done += counts[lower] or 0
        if allowed.gone_in_between("table", lower):
            continue
        after = allowed.tables.get(lower, old.name)
        new = now.get(after.lower())
        if new is None:
            if ("table", lower) not in allowed.drops:
                rows = "" if old.is_contentless else f" with {_count(connection, OLD, old.name)} rows"
                by = told(seen.written, (old.name,))
                yield Finding(f"table {old.name}{rows} is gone", f"drop table {written_name(old.name)}", by)
            continue
        try:
            if old.is_virtual and new.is_virtual:
                yield from in_virtual(connection, allowed, old.name, new.name, OLD)
            elif not old.is_virtual and not new.is_virtual:
                yield from in_table(connection, allowed, old.name, new.name, OLD)
            if new.has_own_rows and not old.is_contentless:
                yield from _content(connection, allowed, old, new, seen, counts[lower])
            if new.is_virtual and does_not_fit(connection, new, old.name, OLD):
                yield Finding(f"the index {new.name} does not fit its content: rebuild it in the migration", "")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise
            if _can_be_read(connection, old.name):
                yield Finding(f"{old.name} cannot be read: {error}", "")
    heard(total, total, unit=Unit.ROWS)


def _unusable(connection: Connection, allowed: Declared) -> Iterator[Finding]:
    """Yield the virtual tables that cannot be used here and whose SQL changed; their shadow tables are compared."""
    now = {name.lower(): sql for name, (_, sql) in unusable_tables(connection).items()}
    for name, (why, sql) in unusable_tables(connection, OLD).items():
        if now.get(name.lower()) == sql or ("table", name.lower()) in allowed.drops:
            continue
        what = "is gone" if name.lower() not in now else "has another definition"
        yield Finding(f"table {name}, which cannot be read here ({why}), {what}", f"drop table {written_name(name)}")


def _can_be_read(connection: Connection, name: str) -> bool:
    """Return whether a table could be read before; an unreadable one is no worse now, and must not stop updates."""
    try:
        _count(connection, OLD, name)
    except sqlite3.DatabaseError:
        return False
    return True


def _content(
    connection: Connection, allowed: Declared, old: TableFacts, new: TableFacts, seen: _Seen, old_count: int | None
) -> Iterator[Finding]:
    lower = old.name.lower()
    by = partial(told, seen.written, (old.name, new.name))
    rows = _rows_of(connection, allowed, old, new, old_count)
    yield from (
        Finding(
            f"column {old.name}.{column} is gone",
            f"drop column {written_name(old.name)}.{written_name(column)}",
            by(column),
        )
        for column in rows.gone
        if ("column", f"{lower}.{column.lower()}") not in allowed.drops
    )
    if not old.is_virtual and not rows.special and seen.no_write_to(lower):
        count = _count(connection, OLD, old.name) if old_count is None else old_count
        after = _count(connection, "main", new.name)
        if count != after:
            yield Finding(f"{old.name} had {count} rows and has {after}", "", by())
        return
    table = written_name(old.name)
    for column, count, keys in rows.differing():
        verb = "retype" if (lower, column.lower()) not in allowed.updates and rows.only_retyped(column) else "update"
        what = with_keys(f"{old.name}.{column}: {count} rows differ", keys)
        yield Finding(what, f"{verb} {table}.{written_name(column)}", by(column))
    missing, keys = rows.missing(allowed.deletes.get(lower), declared=lower in allowed.deletes)
    if missing:
        yield Finding(with_keys(f"{old.name}: {missing} rows are gone", keys), f"delete {table}", by())
    seen.same[lower] = rows.same_columns
    extra, keys = rows.added(allowed.inserts.get(lower), declared=lower in allowed.inserts)
    if extra:
        yield Finding(with_keys(f"{old.name}: {extra} rows are new", keys), f"insert {table}", by())


def _rows_of(
    connection: Connection, allowed: Declared, old: TableFacts, new: TableFacts, old_count: int | None
) -> Rows:
    lower = old.name.lower()
    now = {column.name.lower(): column for column in columns_of(connection, new.name)}
    pairs: list[Pair] = []
    gone = []
    for source in columns_of(connection, old.name, OLD):
        column = source.name
        after = allowed.columns.get((lower, column.lower()), column)
        target = now.get(after.lower())
        if not source.is_written or (target is not None and not target.is_written):
            # Generated columns follow from the others; hidden columns of virtual tables are arguments, not content.
            continue
        if allowed.gone_in_between("column", f"{lower}.{column.lower()}"):
            continue
        if target is None:
            gone.append(column)
            continue
        cell = allowed.updates.get((lower, column.lower()), allowed.updates.get((lower, "*")))
        loose = (lower, column.lower()) in allowed.retypes
        if cell != Cell():
            pairs.append(Pair(column, target.name, cell, loose))
    both = Keyed(old.name, new.name, keyed_by(connection, old.name, new.name, OLD, allowed.columns), old.is_virtual)
    return Rows(connection, OLD, both, tuple(pairs), tuple(gone), old_count)


def _marks(connection: Connection, allowed: Declared) -> Iterator[Finding]:
    """Yield the AUTOINCREMENT counters that dropped: a number on a receipt must not be reused."""
    before, now = _sequence(connection, OLD), _sequence(connection, "main")
    kinds = _kinds(connection, "main")
    for table, mark in before.items():
        after = allowed.tables.get(table, table).lower()
        if after in kinds and now.get(after, 0) < mark and table not in allowed.resets:
            if allowed.gone_in_between("table", table):
                continue
            count = now.get(after, 0)
            what = f"AUTOINCREMENT counter of {table} dropped from {mark} to {count}; ids would be reused"
            yield Finding(what, f"reset {written_name(table)}")


def _sequence(connection: Connection, schema: str) -> dict[str, int]:
    if not has_table(connection, "sqlite_sequence", schema):
        return {}
    rows = connection.execute(f"SELECT lower(name), max(seq) FROM {schema}.sqlite_sequence GROUP BY 1")
    return {str(name): int(mark or 0) for name, mark in rows}


# -------------------------------------------------------------------------------------------------------------- words


def _count(connection: Connection, schema: str, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {schema}.{quoted(table)}").fetchone()[0])


def _count_if_readable(connection: Connection, old: TableFacts) -> int | None:
    """Return how many rows to compare; None for a virtual table, or if the comparison will report why not."""
    try:
        return None if old.is_virtual else _count(connection, OLD, old.name)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise
        return None
