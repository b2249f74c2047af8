"""Random schemas, rows and migrations, a failure at a random statement: before or after, never between; an oracle of
its own, in Python, agrees about what was conserved."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsync.backups.catalog import list_backups
from dbsync.model import SchemaNumber, TrialId
from dbsync.upgrade import restore_decision
from tests.helpers.shop import dump, effects, upgrade, version, written

# Bytes as texts: a migration may make a text that is no UTF-8 of a blob, and Python would not read it.
VALUES = st.one_of(
    st.none(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, width=32), st.text("ab'\"é \n", max_size=5),
    st.binary(max_size=4), st.booleans().map(int),
)  # fmt: skip
KINDS = st.sampled_from(["", "TEXT", "INTEGER", "REAL", "BLOB", "NUMERIC", "TEXT COLLATE NOCASE"])
KEYS = st.sampled_from(["INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT PRIMARY KEY", "INTEGER"])


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[tuple[Any, ...]]]:
    """One table `t (k, a, b)` with rows."""
    key, a, b = draw(KEYS), draw(KINDS), draw(KINDS)
    rows = draw(st.lists(st.tuples(VALUES, VALUES), max_size=6))
    numbered = [(f"k{n}" if key.startswith("TEXT") else n + 1, *row) for n, row in enumerate(rows)]
    return f"CREATE TABLE t (k {key}, a {a}, b {b});\nCREATE INDEX i ON t(a);", numbered


STEPS = {
    "ALTER TABLE t ADD COLUMN c TEXT DEFAULT 'x'": True,
    "CREATE TABLE u (x); INSERT INTO u SELECT a FROM t": True,
    "CREATE INDEX j ON t(b)": True,
    "UPDATE t SET a = a": True,
    "DROP INDEX i": False,
    "UPDATE t SET a = 'changed' WHERE k = (SELECT min(k) FROM t)": None,
    "DELETE FROM t WHERE k = (SELECT max(k) FROM t)": None,
    "UPDATE t SET b = CAST(b AS TEXT)": None,
    "INSERT INTO t (k, a) SELECT max(k) || '1', 1 FROM t": None,
    "UPDATE t SET a = lower(a)": None,
}
"""Statements; True: harmless, False: a finding, None: depends on the rows, which the oracle looks at."""


def picture(database: Path) -> list[tuple[Any, ...]]:
    """Every cell of the table's first three columns, with its storage class."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        found = connection.execute("SELECT k, a, b, typeof(a), typeof(b), typeof(k) FROM t").fetchall()
    return sorted(tuple(map(repr, row)) for row in found)


def expected(database: Path, statements: list[str]) -> list[tuple[Any, ...]] | None:
    """What the statements alone make of the table; None if SQLite refuses one."""
    with closing(sqlite3.connect(":memory:")) as scratch:
        with closing(sqlite3.connect(database)) as live:
            live.backup(scratch)
        try:
            for statement in statements:
                scratch.executescript(statement)
        except sqlite3.Error:
            return None
        scratch.text_factory = bytes
        found = scratch.execute("SELECT k, a, b, typeof(a), typeof(b), typeof(k) FROM t").fetchall()
    return sorted(tuple(map(repr, row)) for row in found)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(table=tables(), steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=3, unique=True), fails=st.integers(0, 6))
def test_before_or_after_and_only_what_is_conserved(
    table: tuple[str, list[tuple[Any, ...]]], steps: list[str], fails: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "data").mkdir()
        database = folder / "data" / "t.db"
        assert upgrade(database, written(folder / "one", table[0])).ready
        with closing(sqlite3.connect(database)) as live, live:
            live.executemany("INSERT INTO t VALUES (?, ?, ?)", table[1])
        before, cells = dump(database), picture(database)
        statements = [*steps[:fails], "this fails", *steps[fails:]] if fails < len(steps) else steps
        outcome = upgrade(database, written(folder / "two", table[0], ";\n".join([*statements, "SELECT 1"])))
        after = expected(database, steps) if version(database) == 1 else picture(database)
        harmless = after == cells and all(STEPS[one] is not False for one in steps)
        if fails < len(steps) or after is None:
            assert outcome.name == "MIGRATION_FAILED", outcome
        else:
            assert outcome.ready is harmless, (outcome, cells, after)
        if not outcome.ready:
            assert dump(database) == before
        assert outcome.backup is not None
        assert dump(outcome.backup.path) == before


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    table=tables(),
    edits=st.lists(st.tuples(st.sampled_from(["add", "change", "remove"]), st.integers(0, 7), VALUES), max_size=5),
)
def test_down_after_up_is_the_identity_on_what_people_did(
    table: tuple[str, list[tuple[Any, ...]]], edits: list[tuple[str, int, Any]]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "data").mkdir()
        database, twin = folder / "data" / "t.db", folder / "twin.db"
        found = written(folder / "m", table[0], "ALTER TABLE t ADD COLUMN c TEXT DEFAULT 'x';\nCREATE INDEX j ON t(b);")
        assert upgrade(database, found[:1]).ready
        with closing(sqlite3.connect(database)) as live, live:
            live.executemany("INSERT INTO t VALUES (?, ?, ?)", table[1])
        twin.write_bytes(database.read_bytes())
        assert upgrade(database, found, trial_id="t1").ready
        for path in (database, twin):
            with closing(sqlite3.connect(path)) as live, live:
                for verb, number, value in edits:
                    edit(live, verb, number, value)
        kept = next(
            one for one in list_backups(backups=database.parent / "backups", database=database) if one.trial_id == "t1"
        )
        returned = restore_decision.go_back(
            effects(database), trial_id=TrialId("t1"), backup=kept, content_sha256=None, older_schema=SchemaNumber(1),
            ever_confirmed=False, migrations=found,
        )  # fmt: skip
        assert returned.losses == ()
        assert picture(database) == picture(twin)
        assert version(database) == 1


def edit(live: sqlite3.Connection, verb: str, number: int, value: Any) -> None:
    """What somebody does with one row."""
    if verb == "add":
        live.execute("INSERT OR IGNORE INTO t (k, a, b) SELECT coalesce(max(k), 0) + 1, ?, ? FROM t", (value, number))
    elif verb == "change":
        live.execute("UPDATE t SET b = ? WHERE k = (SELECT k FROM t ORDER BY k LIMIT 1 OFFSET ?)", (value, number))
    else:
        live.execute("DELETE FROM t WHERE k = (SELECT k FROM t ORDER BY k LIMIT 1 OFFSET ?)", (number,))
