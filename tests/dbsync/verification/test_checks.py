"""The checks before COMMIT, each by itself: what it finds, in which words, and what it lets be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.errors import VerificationFailed
from dbsync.migrations import runner
from dbsync.migrations.write_log import Write
from dbsync.model import Migration, SchemaNumber
from dbsync.storage.connections import Connection, attach_copy, open_writing
from dbsync.verification import checks
from dbsync.verification.checks import Case
from dbsync.verification.conservation import OLD
from tests.helpers.shop import files, written


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, Connection, tuple[Migration, ...]]]:
    """A parent and a child table at schema 1 with the copy of before attached, in an open transaction."""
    found = written(
        tmp_path / "m",
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        " CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent(id));",
    )
    before, now = tmp_path / "before.db", tmp_path / "now.db"
    with closing(open_writing(before, create=True)) as connection:
        runner.run_all(connection, found)
        connection.execute("INSERT INTO parent VALUES (1), (2)")
        connection.execute("INSERT INTO child VALUES (1, 1), (2, 9)")
    now.write_bytes(before.read_bytes())
    with closing(open_writing(now)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        attach_copy(connection, before, OLD)
        yield now, connection, found


def touched(*tables: str) -> frozenset[Write]:
    return frozenset(Write(1, one, "", "a statement", "a file") for one in tables)


def test_everything_that_is_found_is_told_up_to_five_sentences(
    place: tuple[Path, Connection, tuple[Migration, ...]],
) -> None:
    _, connection, found = place
    case = Case(connection, found, has_old=True)
    checks.verify(case, (lambda _: [],))
    with pytest.raises(VerificationFailed) as caught:
        checks.verify(case, (lambda _: ["a", "b"], lambda _: ["c"]))
    assert (caught.value.operation, caught.value.cause) == ("verify", "a; b; c")
    with pytest.raises(VerificationFailed) as caught:
        checks.verify(case, (lambda _: list("abcdefg"),))
    assert caught.value.cause == "a; b; c; d; e and 2 more"
    with pytest.raises(VerificationFailed) as caught:
        checks.verify(case, (lambda _: list("abcde"),))
    assert caught.value.cause == "a; b; c; d; e"


def test_each_check_is_told_by_its_name_and_has_no_measure(
    place: tuple[Path, Connection, tuple[Migration, ...]],
) -> None:
    _, connection, found = place
    told: list[tuple[int, int, str]] = []

    def hear(done: int, total: int, text: str = "", unit: str = "") -> None:
        told.append((done, total, text))

    checks.verify(Case(connection, found, has_old=True, told=hear), (checks.soundness, checks.foreign_keys))
    assert told == [(0, 0, "soundness"), (0, 0, "foreign keys")]


def test_a_sound_database_is_sound_and_another_is_told(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "bad.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a NOT NULL)")
        assert checks.soundness(Case(connection, (), has_old=False)) == []
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a NOT NULL CHECK (a > 5))'")
        connection.execute("PRAGMA writable_schema=RESET")
        (told,) = checks.soundness(Case(connection, (), has_old=False))
    assert told == "CHECK constraint failed in t: 1 rows"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("", []),
        ("ALTER TABLE t RENAME TO u", []),
        ("INSERT INTO t VALUES (-7); INSERT INTO t VALUES (-8)", ["CHECK constraint failed in t: 2 rows"]),
        (
            "ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (-7); CREATE TABLE v (b CHECK(b)); INSERT INTO v SELECT 0",
            ["CHECK constraint failed in u: 1 rows", "CHECK constraint failed in v: 1 rows"],
        ),
    ],
)
def test_a_row_that_a_check_constraint_refused_before_stops_nothing_and_a_new_one_does(
    tmp_path: Path, statements: str, expected: list[str]
) -> None:
    declares = "-- changes: rename t -> u\n" if "RENAME" in statements else ""
    found = written(tmp_path / "m", "SELECT 1;", f"{declares}SELECT 1;")
    before, now = tmp_path / "before.db", tmp_path / "now.db"
    with closing(sqlite3.connect(before, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a CHECK (a > 0))")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        # More than the five findings that are listed.
        connection.executemany("INSERT INTO t VALUES (?)", ((-number,) for number in range(9)))
        connection.execute("PRAGMA user_version=1")
    now.write_bytes(before.read_bytes())
    with closing(open_writing(now)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.executescript(statements)
        connection.execute("PRAGMA ignore_check_constraints=OFF")
        connection.execute("BEGIN IMMEDIATE")
        attach_copy(connection, before, OLD)
        assert checks.soundness(Case(connection, found, has_old=True)) == expected


@pytest.mark.parametrize(
    ("statement", "seen", "expected"),
    [
        ("SELECT 1", None, []),
        ("INSERT INTO child VALUES (3, 8)", None, ["1 rows of child refer to rows of parent that are not there"]),
        ("DELETE FROM parent", None, ["1 rows of child refer to rows of parent that are not there"]),
        ("DELETE FROM parent", ("parent",), ["1 rows of child refer to rows of parent that are not there"]),
        ("DELETE FROM parent", ("child",), ["1 rows of child refer to rows of parent that are not there"]),
        ("DELETE FROM parent", ("elsewhere",), []),
        ("INSERT INTO child VALUES (3, 2)", ("child",), []),
        (
            "CREATE TABLE later (parent REFERENCES parent(id)); INSERT INTO later VALUES (7)", (),
            ["1 rows of later refer to rows of parent that are not there"],
        ),
        # ADD COLUMN writes no row, so the authorizer sees no write.
        (
            "ALTER TABLE parent ADD COLUMN above DEFAULT 77 REFERENCES parent(id)", (),
            ["2 rows of parent refer to rows of parent that are not there"],
        ),
        ("ALTER TABLE parent ADD COLUMN above REFERENCES parent(id)", (), []),
    ],
)  # fmt: skip
def test_only_foreign_keys_that_are_newly_broken_count(
    place: tuple[Path, Connection, tuple[Migration, ...]],
    statement: str,
    seen: tuple[str, ...] | None,
    expected: list[str],
) -> None:
    _, connection, found = place
    for one in statement.split(";"):
        connection.execute(one)
    case = Case(connection, found, has_old=True, touched=None if seen is None else touched(*seen))
    assert checks.foreign_keys(case) == expected


def test_without_a_before_every_broken_foreign_key_counts(
    place: tuple[Path, Connection, tuple[Migration, ...]],
) -> None:
    _, connection, found = place
    case = Case(connection, found, has_old=False, touched=frozenset())
    assert checks.foreign_keys(case) == ["1 rows of child refer to rows of parent that are not there"]


REBUILT = (
    "CREATE TABLE next (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent, note UNIQUE);"
    "INSERT INTO next (id, parent) SELECT id, parent FROM child; DROP TABLE child; ALTER TABLE next RENAME TO child"
)
PARENT_REBUILT = (
    "CREATE TABLE next (id INTEGER{}, note); INSERT INTO next SELECT * FROM parent; DROP TABLE parent;"
    "ALTER TABLE next RENAME TO parent"
)
BROKEN = ["1 rows of child refer to rows of parent that are not there"]
OTHER_ROW = "UPDATE child SET parent = 8 WHERE id = 1"
SAME = {
    "a rebuild": (REBUILT, ("child",), ("child",), []),
    "an update of no reference": (
        "UPDATE parent SET note = 'x'; UPDATE child SET id = id", ("parent", "child"), ("parent", "child"), [],
    ),
    "a rebuild with another row": (f"{REBUILT}; {OTHER_ROW}", ("child",), (), BROKEN),
    "the parent is another row": ("UPDATE parent SET id = 5 WHERE id = 1", ("parent",), (), BROKEN),
    "the parent is rebuilt, and a row of the child is changed": (
        f"{PARENT_REBUILT.format(' PRIMARY KEY')}; {OTHER_ROW}", ("parent", "child"), ("parent",), BROKEN,
    ),
    "the parent is rebuilt, and its key is none any more": (
        PARENT_REBUILT.format(""), ("parent",), ("parent",),
        ["child refers to columns that are not unique (foreign key mismatch)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_reference_is_not_looked_up_only_where_both_its_sides_are_proven_to_be_the_same(
    tmp_path: Path, name: str
) -> None:
    statements, tables, proven, expected = SAME[name]
    base = (
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, note);"
        " CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent);"
    )
    declared = "update parent.note, child.id, parent.id, child.parent" if "another" in name else "update parent.note"
    found = written(tmp_path / "m", base, f"-- changes: {declared}\nSELECT 1;")
    before, now = tmp_path / "before.db", tmp_path / "now.db"
    with closing(open_writing(before, create=True)) as connection:
        runner.run_all(connection, found[:1])
        connection.execute("INSERT INTO parent VALUES (1, 'a'), (2, 'b')")
        connection.execute("INSERT INTO child VALUES (1, 1), (2, 9)")
    now.write_bytes(before.read_bytes())
    with closing(open_writing(now)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        attach_copy(connection, before, OLD)
        for statement in statements.split(";"):
            connection.execute(statement)
        same: dict[str, frozenset[str]] = {}
        case = Case(connection, found, has_old=True, touched=touched(*tables), same=same)
        checks.conserved(case)
        assert {table for table, columns in same.items() if columns} == set(proven)
        looked_up: list[str] = []
        connection.set_trace_callback(looked_up.append)
        assert checks.foreign_keys(case) == expected
        was_looked_up = any("foreign_key_check" in sql for sql in looked_up)
        assert was_looked_up == bool(expected)
        # Where no till waits, every reference is looked up.
        assert checks.foreign_keys(case._replace(same=None)) == expected
        assert any("foreign_key_check" in sql for sql in looked_up)


def test_drift_counts_only_where_it_is_new(place: tuple[Path, Connection, tuple[Migration, ...]]) -> None:
    now, connection, found = place
    assert checks.structure(Case(connection, found, has_old=True)) == []
    connection.execute("CREATE INDEX by_parent ON child (parent)")
    (told,) = checks.structure(Case(connection, found, has_old=True))
    assert told.startswith("the structure differs from a fresh database: with index by_parent: create index on child")
    connection.execute("DROP TABLE child")
    told_of_loss = checks.structure(Case(connection, found, has_old=True))
    assert "the structure differs from a fresh database: without table child" in told_of_loss
    connection.execute("ROLLBACK")
    connection.execute(f"DETACH {OLD}")
    # What was there before, an engineer's index for instance, is no failure.
    connection.execute("CREATE INDEX by_parent ON child (parent)")
    before = now.with_name("before2.db")
    before.write_bytes(now.read_bytes())
    attach_copy(connection, before, OLD)
    assert checks.structure(Case(connection, found, has_old=True)) == []
    assert len(checks.structure(Case(connection, found, has_old=False))) == 1


def test_conservation_needs_a_before_and_tells_what_would_allow_it(
    place: tuple[Path, Connection, tuple[Migration, ...]],
) -> None:
    _, connection, found = place
    connection.execute("DELETE FROM parent WHERE id = 2")
    assert checks.conserved(Case(connection, found, has_old=False)) == []
    (told,) = checks.conserved(Case(connection, found, has_old=True, touched=touched("parent")))
    assert told.startswith("parent: 1 rows are gone, keys 2")
    assert "(allow it with `changes: delete parent`)" in told
    names = ["soundness", "structure", "objects_work", "needs_declared", "conserved", "foreign_keys"]
    assert [check.__name__ for check in checks.CHECKS] == names


RENAMES = {
    "the child": (
        "ALTER TABLE child RENAME TO Leaf", ["rename child -> Leaf"], "Leaf", "parent"
    ),
    "the parent": (
        "ALTER TABLE parent RENAME TO Stem", ["rename parent -> Stem"], "child", "Stem"
    ),
    "both": (
        "ALTER TABLE parent RENAME TO Stem; ALTER TABLE child RENAME TO Leaf",
        ["rename parent -> Stem", "rename child -> Leaf"], "Leaf", "Stem",
    ),
    "columns": (
        "ALTER TABLE parent RENAME id TO number; ALTER TABLE child RENAME parent TO stem",
        ["rename parent.id -> parent.number", "rename child.parent -> child.stem"], "child", "parent",
    ),
    "both, exchanged": (
        "ALTER TABLE parent RENAME TO x; ALTER TABLE child RENAME TO parent; ALTER TABLE x RENAME TO child",
        ["rename parent -> x", "rename child -> parent", "rename x -> child"], "parent", "child",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RENAMES)
def test_an_orphan_that_was_there_before_is_not_new_under_another_name(
    place: tuple[Path, Connection, tuple[Migration, ...]], name: str
) -> None:
    now, connection, found = place
    statements, lines, child, parent = RENAMES[name]
    for statement in statements.split(";"):
        connection.execute(statement)
    renaming = found[0]._replace(number=SchemaNumber(2), changes=tuple(lines))
    written_to = touched(*{each.lower() for each in ("parent", "child", child, parent)})
    case = Case(connection, (*found, renaming), has_old=True, touched=written_to)
    assert checks.foreign_keys(case) == []
    columns = connection.execute(f"PRAGMA table_info({child})").fetchall()
    connection.execute(f"INSERT INTO {child} ({columns[0][1]}, {columns[1][1]}) VALUES (7, 8)")
    assert checks.foreign_keys(case) == [f"1 rows of {child} refer to rows of {parent} that are not there"]
    assert files(now.parent) >= {"now.db", "before.db"}


def test_a_problem_with_a_foreign_key_check_that_is_no_mismatch_is_not_hidden(
    place: tuple[Path, Connection, tuple[Migration, ...]],
) -> None:
    _, connection, found = place
    connection.create_collation("german", lambda one, other: (one > other) - (one < other))
    connection.execute("CREATE TABLE named (k TEXT COLLATE german PRIMARY KEY)")
    connection.execute("CREATE TABLE called (k TEXT REFERENCES named(k))")
    connection.execute("INSERT INTO called VALUES ('x')")
    connection.create_collation("german", None)
    with pytest.raises(sqlite3.OperationalError, match="no such collation sequence: german"):
        checks.foreign_keys(Case(connection, found, has_old=False))


def test_a_reference_to_what_is_not_unique_counts_where_it_is_new(
    place: tuple[Path, Connection, tuple[Migration, ...]],
) -> None:
    now, connection, found = place
    connection.execute("CREATE TABLE loose (k TEXT)")
    connection.execute("CREATE TABLE refers (k TEXT REFERENCES loose(k))")
    connection.execute("INSERT INTO refers VALUES ('x')")
    sentence = "refers refers to columns that are not unique (foreign key mismatch)"
    assert checks.foreign_keys(Case(connection, found, has_old=True)) == [sentence]
    connection.execute("COMMIT")
    before = now.with_name("older.db")
    before.write_bytes(now.read_bytes())
    with closing(open_writing(now)) as again:
        attach_copy(again, before, OLD)
        assert checks.foreign_keys(Case(again, found, has_old=True)) == []
    assert files(now.parent) >= {"now.db", "older.db", "before.db"}
    connection.execute("BEGIN")


def test_what_an_older_migration_declared_does_not_excuse_a_newer_one_and_drift_is_judged_by_its_own_version(
    tmp_path: Path,
) -> None:
    found = written(
        tmp_path / "m", "CREATE TABLE a (x);", "-- changes: delete a\nDELETE FROM a;", "CREATE TABLE b (x);"
    )
    before, now = tmp_path / "before.db", tmp_path / "now.db"
    with closing(open_writing(before, create=True)) as connection:
        runner.run_all(connection, found[:2])
        connection.execute("INSERT INTO a VALUES (1)")
    now.write_bytes(before.read_bytes())
    heard: list[str] = []

    def hear(done: int, total: int, text: str = "", unit: str = "") -> None:
        heard.append(text)

    with closing(open_writing(now)) as connection:
        attach_copy(connection, before, OLD)
        runner.run_all(connection, found[2:])
        case = Case(connection, found, has_old=True, told=hear)
        assert checks.structure(case) == []
        assert checks.conserved(case) == []
        assert heard, "the rows that are compared are told"
        connection.execute("DELETE FROM a")
        (finding,) = checks.conserved(case)
        connection.execute("DROP TABLE b")
        assert checks.structure(case) == [
            "the structure differs from a fresh database: without column b.x: any type",
            "the structure differs from a fresh database: without table b",
        ]
    assert "1 row" in finding
    assert files(tmp_path) >= {"before.db", "now.db"}
