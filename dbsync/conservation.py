"""Whatever is different and not declared fails the migration: every row and definition against the backup, in SQL.

Every old row has to find a new row that is equal in its key and in every common column that no migration declared, in
value and storage class, and the counts have to agree.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from dbsync.changes import KINDS, Cell, Declared
from dbsync.definitions import Table, objects, table_of
from dbsync.progress import ROWS, Told, nobody
from dbsync.rows import Keyed, Pair, Rows, keyed_by
from dbsync.sqlite import OUR_TABLES, Connection, columns_of, has_table, quoted

OLD: Final = "dbsync_before"
"""The name under which the backup is attached."""
STEPS: Final = 100_000
"""Steps of SQLite's machine between two looks at the clock."""


class Finding(NamedTuple):
    """One thing that is different and not declared. Keys are named, values never: they may be personal."""

    what: str
    declare: str
    """The line that would allow it; empty where nothing can."""

    @property
    def sentence(self) -> str:
        """For people."""
        return f"{self.what} (allow it with `changes: {self.declare}`)" if self.declare else self.what


def findings(
    connection: Connection,
    allowed: Declared,
    *,
    touched: frozenset[str] | None,
    limit_seconds: float,
    told: Told = nobody,
) -> list[Finding]:
    """Compares the open transaction with the attached backup.

    Args:
        connection: the database as it would be, with the one before attached as OLD.
        allowed: what the migrations declare.
        touched: lower-case names of the tables that were written, as the authorizer saw; None: unknown, so all.
        limit_seconds: how long it may take.
        told: learns after each table how many of the old rows have been compared.
    """
    deadline = time.monotonic() + limit_seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        return [
            *_objects(connection, allowed),
            *_tables(connection, allowed, touched, told),
            *_marks(connection, allowed),
        ]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return [Finding(f"that nothing else changed could not be proven within {limit_seconds:.0f} seconds", "")]
        raise
    finally:
        connection.set_progress_handler(None, 0)


# ------------------------------------------------------------------------------------------------------------- tables


class _Kind(NamedTuple):
    name: str
    virtual: bool


def _kinds(connection: Connection, schema: str) -> dict[str, _Kind]:
    found = {}
    for _, name, kind, *_ in connection.execute(f"PRAGMA {schema}.table_list").fetchall():
        if kind in ("table", "virtual") and not name.startswith("sqlite_") and name not in OUR_TABLES:
            found[name.lower()] = _Kind(name, kind == "virtual")
    schemas = {str(row[0]).lower() for row in connection.execute(f"SELECT name FROM {schema}.sqlite_schema")}
    return {name: one for name, one in found.items() if name in schemas}


def _tables(connection: Connection, allowed: Declared, touched: frozenset[str] | None, told: Told) -> Iterator[Finding]:
    before, now = _kinds(connection, OLD), _kinds(connection, "main")
    counts = {lower: _count_if_readable(connection, old) for lower, old in before.items()}
    done, total = 0, sum(count or 0 for count in counts.values())
    for lower, old in before.items():
        told(done, total, old.name, ROWS)
        done += counts[lower] or 0
        after = allowed.tables.get(lower, old.name)
        new = now.get(after.lower())
        if new is None:
            if ("table", lower) not in allowed.drops:
                count = _count(connection, OLD, old.name)
                yield Finding(f"table {old.name} with {count} rows is gone", f"drop table {_written(old.name)}")
            continue
        try:
            if not old.virtual and not new.virtual:
                yield from _definition(connection, allowed, old.name, new.name)
            yield from _content(connection, allowed, old, new, touched, counts[lower])
            if new.virtual:
                yield from _search_index(connection, new.name)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise
            yield Finding(f"{old.name} cannot be read: {error}", "")
    told(total, total, unit=ROWS)


def _content(
    connection: Connection,
    allowed: Declared,
    old: _Kind,
    new: _Kind,
    touched: frozenset[str] | None,
    old_count: int | None,
) -> Iterator[Finding]:
    lower = old.name.lower()
    rows = _rows_of(connection, allowed, old, new, old_count)
    yield from (
        Finding(f"column {old.name}.{one} is gone", f"drop column {_written(old.name)}.{_written(one)}")
        for one in rows.gone
        if ("column", f"{lower}.{one.lower()}") not in allowed.drops
    )
    if not old.virtual and touched is not None and lower not in touched and not rows.special:
        count = _count(connection, OLD, old.name) if old_count is None else old_count
        after = _count(connection, "main", new.name)
        if count != after:
            yield Finding(f"{old.name} had {count} rows and has {after}", "")
        return
    table = _written(old.name)
    for column, count, keys in rows.differing():
        verb = "retype" if (lower, column.lower()) not in allowed.updates and rows.only_retyped(column) else "update"
        yield Finding(_told(f"{old.name}.{column}: {count} rows differ", keys), f"{verb} {table}.{_written(column)}")
    missing, keys = rows.missing(allowed.deletes.get(lower), declared=lower in allowed.deletes)
    if missing:
        yield Finding(_told(f"{old.name}: {missing} rows are gone", keys), f"delete {table}")
    extra, keys = rows.added(allowed.inserts.get(lower), declared=lower in allowed.inserts)
    if extra:
        yield Finding(_told(f"{old.name}: {extra} rows are new", keys), f"insert {table}")


def _rows_of(connection: Connection, allowed: Declared, old: _Kind, new: _Kind, old_count: int | None) -> Rows:
    lower = old.name.lower()
    now = {str(row[1]).lower(): row for row in columns_of(connection, new.name)}
    pairs: list[Pair] = []
    gone = []
    for row in columns_of(connection, old.name, OLD):
        column, hidden = str(row[1]), row[6]
        after = allowed.columns.get((lower, column.lower()), column)
        target = now.get(after.lower())
        if hidden or (target is not None and target[6]):
            # Generated ones follow from the others; hidden ones of virtual tables are arguments, not content.
            continue
        if target is None:
            gone.append(column)
            continue
        cell = allowed.updates.get((lower, column.lower()), allowed.updates.get((lower, "*")))
        loose = (lower, column.lower()) in allowed.retypes
        if cell != Cell():
            pairs.append(Pair(column, str(target[1]), cell, loose))
    both = Keyed(old.name, new.name, keyed_by(connection, old.name, new.name, OLD, allowed.columns), old.virtual)
    return Rows(connection, OLD, both, tuple(pairs), tuple(gone), old_count)


def _search_index(connection: Connection, name: str) -> Iterator[Finding]:
    """FTS5 can tell whether its index still speaks of its content; renumbered rows find the wrong product."""
    sql = connection.execute("SELECT sql FROM main.sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
    if "fts5" not in sql.lower():
        return
    try:
        connection.execute(f"INSERT INTO main.{quoted(name)} ({quoted(name)}, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError:
        yield Finding(f"the search index {name} does not fit its content: rebuild it in the migration", "")


# -------------------------------------------------------------------------------------------------------- definitions


def _definition(connection: Connection, allowed: Declared, old: str, new: str) -> Iterator[Finding]:
    lower = old.lower()
    if ("table", lower) in allowed.redefines:
        return
    before, now = table_of(connection, old, OLD), table_of(connection, new, "main")
    table = _written(old)
    for column, was in before.columns.items():
        after = allowed.columns.get((lower, column), column).lower()
        has = now.columns.get(after)
        free = ("column", f"{lower}.{column}") in allowed.redefines
        if has is None or free:
            continue
        # Tighter is no loss: NOT NULL may be added without a word.
        loosened = was.not_null and not has.not_null
        if was._replace(not_null=has.not_null) != has or loosened:
            parts = [name for name in was._fields if getattr(was, name) != getattr(has, name)]
            words = ", ".join(parts).replace("kind", "type").replace("_", " ")
            yield Finding(f"{old}.{column} is defined otherwise ({words})", f"redefine {table}.{_written(column)}")
    if before.columns.keys() & now.columns.keys() or before.columns.keys() == now.columns.keys():
        for what in _forgotten(before, now, allowed, lower):
            yield Finding(f"{old} has lost {what}", f"redefine {table}")


def _forgotten(before: Table, now: Table, allowed: Declared, lower: str) -> Iterator[str]:
    renamed = {key[1]: name.lower() for key, name in allowed.columns.items() if key[0] == lower}
    dropped = {
        name.partition(".")[2] for kind, name in allowed.drops if kind == "column" and name.startswith(f"{lower}.")
    }

    def lost(was: frozenset[str], has: frozenset[str]) -> list[str]:
        found = []
        for one in sorted(was - has):
            words = one.replace(">", " ").replace(",", " ").split()
            translated = " ".join(renamed.get(word, word) for word in one.split())
            if translated not in has and not dropped & set(words):
                found.append(one)
        return found

    yield from (f"CHECK ({one})" for one in lost(before.checks, now.checks))
    yield from (f"the foreign key {one}" for one in _keys_lost(before, now, allowed, renamed, dropped))
    yield from (f"UNIQUE ({one})" for one in lost(before.uniques, now.uniques))
    yield from (one.upper() for one in sorted(before.options - now.options))


def _keys_lost(
    before: Table, now: Table, allowed: Declared, renamed: dict[str, str], dropped: set[str]
) -> Iterator[str]:
    tables = {old: new.lower() for old, new in allowed.tables.items()}
    for one in sorted(before.foreign_keys - now.foreign_keys):
        head, *pairs = one.split()
        columns = [pair.partition(">")[0] for pair in pairs if ">" in pair]
        words = [tables.get(head, head), *pairs]
        moved = " ".join(
            ">".join((renamed.get(word.partition(">")[0], word.partition(">")[0]), word.partition(">")[2]))
            if ">" in word
            else word
            for word in words
        )
        if moved not in now.foreign_keys and not dropped & set(columns) and ("table", head) not in allowed.drops:
            yield one


def _objects(connection: Connection, allowed: Declared) -> Iterator[Finding]:
    for kind in KINDS:
        before, now = objects(connection, OLD, kind), objects(connection, "main", kind)
        texts = set(now.values())
        for name, was in before.items():
            if name in now and (now[name] == was or (kind, name) in allowed.redefines):
                continue
            if name not in now and (was in texts or (kind, name) in allowed.drops or _went_with(allowed, was)):
                continue
            verb = "redefine" if name in now else "drop"
            what = "is defined otherwise" if name in now else "is gone"
            if name in now and _only_renamed(allowed, was, now[name]):
                continue
            yield Finding(f"{kind} {name} {what}", f"{verb} {kind} {_written(name)}")


def _went_with(allowed: Declared, words: str) -> bool:
    """An index or trigger of a table whose drop is declared goes with it."""
    dropped = {name for kind, name in allowed.drops if kind == "table"}
    parts = words.split()
    return any(parts[index] == "on" and parts[index + 1] in dropped for index in range(len(parts) - 1))


def _only_renamed(allowed: Declared, was: str, has: str) -> bool:
    names = {old: new.lower() for old, new in allowed.tables.items()}
    names |= {key[1]: name.lower() for key, name in allowed.columns.items()}
    return " ".join(names.get(one, one) for one in was.split()) == has


def _marks(connection: Connection, allowed: Declared) -> Iterator[Finding]:
    """AUTOINCREMENT marks never fall: a number on a receipt must not be given out twice."""
    before, now = _sequence(connection, OLD), _sequence(connection, "main")
    kinds = _kinds(connection, "main")
    for table, mark in before.items():
        after = allowed.tables.get(table, table).lower()
        if after in kinds and now.get(after, 0) < mark and table not in allowed.resets:
            told = f"the mark of {table} fell from {mark} to {now.get(after, 0)}: numbers would be given out again"
            yield Finding(told, f"reset {_written(table)}")


def _sequence(connection: Connection, schema: str) -> dict[str, int]:
    if not has_table(connection, "sqlite_sequence", schema):
        return {}
    rows = connection.execute(f"SELECT lower(name), max(seq) FROM {schema}.sqlite_sequence GROUP BY 1")
    return {str(name): int(mark or 0) for name, mark in rows}


# -------------------------------------------------------------------------------------------------------------- words


def _count(connection: Connection, schema: str, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {schema}.{quoted(table)}").fetchone()[0])


def _count_if_readable(connection: Connection, old: _Kind) -> int | None:
    """How many rows to compare; None where comparing will say what is wrong with it."""
    try:
        return None if old.virtual else _count(connection, OLD, old.name)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise
        return None


def _told(what: str, keys: list[str]) -> str:
    return f"{what}, keys {', '.join(keys)}" if keys else what


def _written(name: str) -> str:
    """A name as a declaration would write it."""
    plain = name.isidentifier()
    return name if plain else quoted(name)
