"""Real migrations for a database that is not known beforehand: chosen by its schema and rows, tried in plain SQLite.

Six of them, as an app would get them over the years: columns added, the biggest table rebuilt with the helper, a column
renamed, a unique index, a column that changes its meaning with the way back declared, and a new column backfilled.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.drills.content import columns, name, opened, tables

NOTE, STATE, LENGTH = "drill_note", "drill_state", "drill_length"
FACTORS = {"integer": 10, "real": 1024.0}
"""What a number is multiplied by when it changes its meaning; both are undone without any rounding."""
TRACKERS = ("alembic_version",)


class Course(NamedTuple):
    """What the migrations do to a database; None where its schema gives no opportunity."""

    steps: dict[str, str]
    """Files of the folder, after the first: name and text."""
    biggest: str
    """Gets the column NOTE, and is rebuilt."""
    renamed: tuple[str, str, str] | None
    """Table, column before, column after."""
    scaled: tuple[str, str, int | float] | None
    """Table, column, and what its numbers are multiplied by."""
    measured: tuple[str, str] | None
    """Table and text column whose length the column LENGTH holds."""

    def column(self, table: str, before: str) -> str:
        """A column's name after the migrations."""
        return self.renamed[2] if self.renamed and self.renamed[:2] == (table, before) else before

    def value(self, table: str, before: str, value: Any) -> Any:
        """What an app of the newer schema writes where one of the older writes `value`."""
        if self.scaled and self.scaled[:2] == (table, before) and value is not None:
            return value * self.scaled[2]
        return value


def course(database: Path, *, gentle: bool = False) -> Course:
    """Chooses; the database is only read.

    Args:
        database: any SQLite database.
        gentle: nothing that an app of the older schema would notice: it goes on working on the newer one.
    """
    with opened(database) as live, closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        live.backup(scratch)
        return _chosen(scratch, gentle=gentle)


def people_have(connection: sqlite3.Connection) -> list[str]:
    """Tables that people write: those of the tools that migrate are not."""
    return [one for one in tables(connection) if one not in TRACKERS and not one.startswith("dbsync_")]


def definition(connection: sqlite3.Connection, table: str) -> str:
    """What follows the name in a table's CREATE TABLE."""
    sql = connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)).fetchone()[0]
    return str(sql[sql.index("(") :])


def _chosen(scratch: sqlite3.Connection, *, gentle: bool) -> Course:
    sizes = {one: scratch.execute(f"SELECT count(*) FROM {name(one)}").fetchone()[0] for one in people_have(scratch)}
    by_size = sorted(sizes, key=lambda one: -sizes[one])
    biggest, second = by_size[0], by_size[min(1, len(by_size) - 1)]
    steps = {}
    added = [f"ALTER TABLE {name(biggest)} ADD COLUMN {NOTE} TEXT"]
    added.append(f"ALTER TABLE {name(second)} ADD COLUMN {STATE} TEXT NOT NULL DEFAULT 'new'")
    steps["0002_columns.sql"] = ";\n".join(added) + ";\n"
    for one in added:
        scratch.execute(one)
    body = definition(scratch, biggest)
    if not gentle:
        # First of all columns: whoever copies by position puts every value into the wrong one.
        body = f"(drill_seen INTEGER NOT NULL DEFAULT 0 CHECK (drill_seen >= 0), {body[1:]}"
    steps["0003_rebuild.py"] = _python("", f"db.rebuild_table({biggest!r}, {body!r})")
    renamed = None if gentle else _to_rename(scratch, by_size)
    if renamed:
        table, before, after = renamed
        steps["0004_rename.sql"] = (
            f"-- changes: rename {name(table)}.{name(before)} -> {name(table)}.{name(after)}\n"
            f"ALTER TABLE {name(table)} RENAME COLUMN {name(before)} TO {name(after)};\n"
        )
    unique = _unique_already(scratch, by_size) if gentle else _to_make_unique(scratch, by_size)
    if unique:
        table, together = unique
        steps["0005_unique.py"] = _python("", f"db.add_unique({table!r}, {together!r}, name='drill_unique')")
    scaled = None if gentle else _to_scale(scratch, by_size[1:] or by_size)
    if scaled:
        steps["0006_meaning.py"] = _meaning(*scaled)
    measured = None if gentle else _to_measure(scratch, by_size, renamed)
    if measured:
        table, text = measured
        up = f"db.add_column({table!r}, {LENGTH!r}, 'INTEGER')\n    "
        steps["0007_length.py"] = _python("", f"{up}db.backfill({table!r}, {LENGTH!r}, {f'length({name(text)})'!r})")
    numbered = {f"{number:04d}{file[4:]}": steps[file] for number, file in enumerate(sorted(steps), 2)}
    return Course(numbered, biggest, renamed, scaled, measured)


def _python(changes: str, up: str, more: str = "") -> str:
    return f'"""A step."""\n\nchanges = [{changes}]\n\n\ndef up(db):\n    {up}\n{more}'


def _meaning(table: str, column: str, factor: float) -> str:
    changes = f"update {name(table)}.{name(column)} = o.{name(column)} * {factor}"
    up = f"db.execute({f'UPDATE {name(table)} SET {name(column)} = {name(column)} * {factor}'!r})"
    over = "//" if isinstance(factor, int) else "/"
    down = f"""

def down_row(table, row):
    if table == {table!r} and row[{column!r}] is not None:
        row[{column!r}] = row[{column!r}] {over} {factor}
    return row
"""
    return _python(repr(changes), up, down)


# ----------------------------------------------------------------------------------------------------------- choosing


def _to_rename(scratch: sqlite3.Connection, by_size: list[str]) -> tuple[str, str, str] | None:
    """The column that the most indexes, triggers, views and references name: it is the hardest to rename."""
    texts = [
        set(re.findall(r"\w+", row[0]))
        for row in scratch.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    ]
    counted = []
    for rank, table in enumerate(by_size):
        for row in columns(scratch, table):
            known = sum(1 for words in texts if table in words and row[1] in words)
            counted.append((-known, rank, table, str(row[1])))
    for _, _, table, column in sorted(counted):
        after = f"{column}_since"
        if not column.startswith("drill_") and _takes(
            scratch, f"ALTER TABLE {name(table)} RENAME COLUMN {name(column)} TO {name(after)}"
        ):
            return table, column, after
    return None


def _to_make_unique(scratch: sqlite3.Connection, by_size: list[str]) -> tuple[str, list[str]] | None:
    """Columns that are unique together by chance so far, outside of keys; rather one than two."""
    for count in (1, 2):
        for table in by_size:
            free = [str(row[1]) for row in columns(scratch, table) if not row[5] and not row[1].startswith("drill_")]
            pairs: Iterator[list[str]] = (
                [one] if count == 1 else [one, other] for one in free for other in (free if count == 2 else [""])
            )
            for together in pairs:
                if len(set(together)) == count and _are_unique(scratch, table, together):
                    return table, together
    return None


def _unique_already(scratch: sqlite3.Connection, by_size: list[str]) -> tuple[str, list[str]] | None:
    """A key and a column more: no app can ever break that."""
    for table in by_size:
        keys = [str(row[1]) for row in columns(scratch, table) if row[5]]
        others = [str(row[1]) for row in columns(scratch, table) if not row[5]]
        if keys and others:
            return table, [*keys, others[0]]
    return None


def _are_unique(scratch: sqlite3.Connection, table: str, together: list[str]) -> bool:
    listed = ", ".join(name(one) for one in together)
    for row in scratch.execute(f"PRAGMA index_list({name(table)})").fetchall():
        indexed = {one[2] for one in scratch.execute(f"PRAGMA index_info({name(row[1])})")}
        if row[2] and indexed <= set(together):
            return False
    if scratch.execute(f"SELECT count(*) FROM {name(table)}").fetchone()[0] < 2:
        return False
    filled = " AND ".join(f"{name(one)} IS NOT NULL" for one in together)
    if not scratch.execute(f"SELECT 1 FROM {name(table)} WHERE {filled} LIMIT 1").fetchone():
        return False
    return _takes(scratch, f"CREATE UNIQUE INDEX drill_unique ON {name(table)} ({listed})", keep=False)


def _to_scale(scratch: sqlite3.Connection, by_size: list[str]) -> tuple[str, str, int | float] | None:
    """A column of numbers of one kind that no key, index or reference has; whole numbers rather than others."""
    for kind, factor in FACTORS.items():
        for table in by_size:
            for column in _free(scratch, table):
                kinds = {
                    row[0] for row in scratch.execute(f"SELECT DISTINCT typeof({name(column)}) FROM {name(table)}")
                }
                update = f"UPDATE {name(table)} SET {name(column)} = {name(column)} * {factor}"
                if kind in kinds and kinds <= {kind, "null"} and _takes(scratch, update, keep=False):
                    return table, column, factor
    return None


def _to_measure(
    scratch: sqlite3.Connection, by_size: list[str], renamed: tuple[str, str, str] | None
) -> tuple[str, str] | None:
    """A text column to keep the length of; rather in a table without rowids, which is the harder one."""
    without = [one for one in by_size if _without_rowid(scratch, one)]
    for table in [*without, *by_size]:
        for column in _free(scratch, table):
            kinds = {row[0] for row in scratch.execute(f"SELECT DISTINCT typeof({name(column)}) FROM {name(table)}")}
            if "text" in kinds and renamed != (table, column, f"{column}_since"):
                return table, column
    return None


def _free(scratch: sqlite3.Connection, table: str) -> list[str]:
    taken = {row[3] for row in scratch.execute(f"PRAGMA foreign_key_list({name(table)})")}
    for row in scratch.execute(f"PRAGMA index_list({name(table)})").fetchall():
        taken |= {one[2] for one in scratch.execute(f"PRAGMA index_info({name(row[1])})")}
    found = [row for row in columns(scratch, table) if not row[5] and not row[6]]
    return [
        str(row[1]) for row in found if row[1] not in taken and not row[1].endswith("_since") and row[1][:6] != "drill_"
    ]


def _without_rowid(scratch: sqlite3.Connection, table: str) -> bool:
    return bool(scratch.execute(f"PRAGMA table_list({name(table)})").fetchone()[4])


def _takes(scratch: sqlite3.Connection, sql: str, *, keep: bool = True) -> bool:
    scratch.execute("SAVEPOINT trial")
    try:
        scratch.execute(sql)
    except sqlite3.Error:
        scratch.execute("ROLLBACK TO trial")
        return False
    else:
        if not keep:
            scratch.execute("ROLLBACK TO trial")
        return True
    finally:
        scratch.execute("RELEASE trial")
