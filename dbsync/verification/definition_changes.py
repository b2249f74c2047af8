"""Undeclared changes and losses in the definitions of tables, indexes, triggers and views."""

from __future__ import annotations

from collections.abc import Iterator

from dbsync.schema.declarations import KINDS, Declared, written_name
from dbsync.schema.table_definition import ForeignKey, Table, objects, table_of, virtual_of
from dbsync.storage.connections import Connection
from dbsync.verification.finding import Finding


def in_table(connection: Connection, allowed: Declared, old: str, new: str, schema: str) -> Iterator[Finding]:
    """Yield the losses and changes in an ordinary table's definition; `schema` is the name of the database before."""
    lower = old.lower()
    if ("table", lower) in allowed.redefines:
        return
    before, now = table_of(connection, old, schema), table_of(connection, new, "main")
    renamed = {key[1]: name.lower() for key, name in allowed.columns.items() if key[0] == lower}
    table = written_name(old)
    for column, was in before.columns.items():
        after = allowed.columns.get((lower, column), column).lower()
        has = now.columns.get(after)
        name = ("column", f"{lower}.{column}")
        free = name in allowed.redefines or allowed.gone_in_between(*name)
        if has is None or free:
            continue
        was = was._replace(expression=tuple(renamed.get(word, word) for word in was.expression))  # noqa: PLW2901
        # Tighter is no loss: NOT NULL may be added undeclared.
        loosened = was.not_null and not has.not_null
        if was._replace(not_null=has.not_null) != has or loosened:
            parts = [name for name in was._fields if getattr(was, name) != getattr(has, name)]
            words = ", ".join(parts).replace("kind", "type").replace("not_null", "NOT NULL").replace("_", " ")
            what = f"column {old}.{column}: definition changed ({words})"
            yield Finding(what, f"redefine {table}.{written_name(column)}")
    order = [after for column in before.columns if (after := renamed.get(column, column)) in now.columns
             and not allowed.gone_in_between("column", f"{lower}.{column}")]  # fmt: skip
    if order != [column for column in now.columns if column in order]:
        what = f"the columns of {old} changed their order ({', '.join(now.columns)}): SELECT * and INSERT without names"
        yield Finding(f"{what} would take one for another", f"redefine {table}")
    if before.columns.keys() & now.columns.keys() or before.columns.keys() == now.columns.keys():
        for what in _forgotten(before, now, allowed, lower):
            yield Finding(f"{old} has lost {what}", f"redefine {table}")


def in_virtual(connection: Connection, allowed: Declared, old: str, new: str, schema: str) -> Iterator[Finding]:
    """Yield a finding if the definition of a virtual table changed: other columns, or other options."""
    was, has = virtual_of(connection, old, schema), virtual_of(connection, new, "main")
    if was != has and not only_renamed(allowed, was, has) and ("table", old.lower()) not in allowed.redefines:
        yield Finding(f"table {old}: definition changed", f"redefine {written_name(old)}")


def _forgotten(before: Table, now: Table, allowed: Declared, lower: str) -> Iterator[str]:
    renamed = {key[1]: name.lower() for key, name in allowed.columns.items() if key[0] == lower}
    dropped = {
        name.partition(".")[2] for kind, name in allowed.drops if kind == "column" and name.startswith(f"{lower}.")
    }

    for words in sorted(before.checks - now.checks):
        if tuple(renamed.get(word, word) for word in words) not in now.checks and not dropped & set(words):
            yield f"CHECK ({' '.join(words)})"
    yield from (f"the foreign key {key}" for key in _keys_lost(before, now, allowed, lower, dropped))
    for unique in sorted(before.uniques - now.uniques):
        moved = tuple((renamed.get(column, column), collation) for column, collation in unique.columns)
        if unique._replace(columns=moved) not in now.uniques and not dropped & {column for column, _ in unique.columns}:
            yield str(unique)
    yield from (option.upper() for option in sorted(before.options - now.options))


def _keys_lost(before: Table, now: Table, allowed: Declared, lower: str, dropped: set[str]) -> Iterator[ForeignKey]:
    for key in sorted(before.foreign_keys - now.foreign_keys):
        # Its own columns may have been renamed, and those that it refers to as well.
        pairs = [
            (_renamed(allowed, lower, column), _renamed(allowed, key.parent, target)) for column, target in key.pairs
        ]
        parent = allowed.tables.get(key.parent, key.parent).lower()
        moved = key._replace(parent=parent, pairs=tuple(pairs))
        gone = {column for column, _ in key.pairs} & dropped
        if moved not in now.foreign_keys and not gone and ("table", key.parent) not in allowed.drops:
            yield key


def _renamed(allowed: Declared, table: str, column: str) -> str:
    return allowed.columns.get((table, column), column).lower()


def in_objects(connection: Connection, allowed: Declared, old: str) -> Iterator[Finding]:
    """Yield the indexes, triggers and views that are gone or changed; `old` is the name of the database before."""
    for kind in KINDS:
        before, now = objects(connection, old, kind), objects(connection, "main", kind)
        texts = set(now.values())
        for name, was in before.items():
            if name in now and (now[name] == was or (kind, name) in allowed.redefines):
                continue
            if allowed.gone_in_between(kind, name) or (allowed.migrations_count > 1 and _went_with(allowed, was)):
                continue
            if name not in now and (was in texts or (kind, name) in allowed.drops or _went_with(allowed, was)):
                continue
            verb = "redefine" if name in now else "drop"
            what = ": definition changed" if name in now else " is gone"
            if name in now and only_renamed(allowed, was, now[name]):
                continue
            yield Finding(f"{kind} {name}{what}", f"{verb} {kind} {written_name(name)}")


def _went_with(allowed: Declared, words: tuple[str, ...]) -> bool:
    """Return whether an index or trigger belongs to a table whose drop is declared."""
    dropped = {name for kind, name in allowed.drops if kind == "table"}
    return any(words[index] == "on" and words[index + 1] in dropped for index in range(len(words) - 1))


def only_renamed(allowed: Declared, was: tuple[str, ...], has: tuple[str, ...]) -> bool:
    """Return whether every word is unchanged, or a declared new name in the place of its old one.

    Not every occurrence of an old name must be replaced: other tables may have a column of that name.
    """
    names = {(old, new.lower()) for old, new in allowed.tables.items()}
    names |= {(key[1], new.lower()) for key, new in allowed.columns.items()}
    return len(was) == len(has) and all(
        before == after or (before, after) in names for before, after in zip(was, has, strict=True)
    )
