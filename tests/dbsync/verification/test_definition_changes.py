"""Definitions before and after, token by token: names with spaces and quotes, strings with spaces."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.model import Outcome
from tests.helpers.shop import upgrade, version, written

TABLE = """CREATE TABLE box (
    id INTEGER PRIMARY KEY, "net ""kg"" of it" INTEGER CHECK ("net ""kg"" of it" >= 0),
    kind TEXT CHECK (kind <> 'a  b'), double AS ("net ""kg"" of it" * 2), UNIQUE (kind, "net ""kg"" of it")
);
CREATE INDEX heavy ON box("net ""kg"" of it") WHERE "net ""kg"" of it" > 10;
"""


def after(tmp_path: Path, step: str) -> Outcome:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", TABLE, step)
    assert upgrade(database, found[:1]).ready
    return upgrade(database, found)


@pytest.mark.parametrize("name", ['"gross weight"', "weight", '"it\'s ""so"" now"'])
def test_a_renamed_column_is_the_same_wherever_it_is_named(tmp_path: Path, name: str) -> None:
    step = f'ALTER TABLE box RENAME COLUMN "net ""kg"" of it" TO {name};'
    outcome = after(tmp_path, f'-- changes: rename box."net ""kg"" of it" -> box.{name}\n{step}')
    assert outcome.name == "MIGRATED", outcome.cause


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("'a  b'", "'a b'", "box has lost CHECK (kind <> 'a  b')"),
        ('"net ""kg"" of it" >= 0', '"net ""kg"" of it" > 0', 'box has lost CHECK (net "kg" of it >= 0)'),
        ("* 2", "* 3", "box.double: definition changed (expression)"),
        ("UNIQUE (kind, ", "UNIQUE (kind, id, ", 'box has lost UNIQUE (kind, net "kg" of it)'),
    ],
)
def test_another_token_is_another_definition(tmp_path: Path, old: str, new: str, words: str) -> None:
    table, index = TABLE.replace(old, new).split(";\n")[:2]
    step = f"""{table.replace("TABLE box", "TABLE new_box")};
INSERT INTO new_box (id, "net ""kg"" of it", kind) SELECT id, "net ""kg"" of it", kind FROM box;
DROP TABLE box; ALTER TABLE new_box RENAME TO box; {index};"""
    outcome = after(tmp_path, step)
    assert outcome.name == "VERIFICATION_FAILED", outcome.cause
    assert words in outcome.cause


SWAPPED = """CREATE TABLE new_t (b TEXT, a TEXT, id INTEGER PRIMARY KEY);
INSERT INTO new_t (id, a, b) SELECT id, a, b FROM t; DROP TABLE t; ALTER TABLE new_t RENAME TO t;"""


IN_ORDER = "id INTEGER PRIMARY KEY, c, a TEXT, b TEXT"


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (SWAPPED, "VERIFICATION_FAILED"),
        (f"-- changes: redefine t\n{SWAPPED}", "MIGRATED"),
        (SWAPPED.replace("b TEXT, a TEXT, id INTEGER PRIMARY KEY", IN_ORDER), "MIGRATED"),
        ("-- changes: rename t.a -> t.z\nALTER TABLE t RENAME a TO z;", "MIGRATED"),
    ],
)  # fmt: skip
def test_columns_that_change_places_are_declared_or_refused(tmp_path: Path, step: str, name: str) -> None:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT);", step)
    assert upgrade(database, found[:1]).ready
    outcome = upgrade(database, found)
    assert outcome.name == name, outcome.cause
    if name == "VERIFICATION_FAILED":
        assert "the columns of t changed their order (b, a, id)" in outcome.cause
        assert "redefine t" in outcome.cause


def test_an_order_that_was_there_before_stops_no_update(tmp_path: Path) -> None:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    found = written(
        tmp_path / "m", "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT);", "ALTER TABLE t ADD COLUMN c;",
        "-- changes: rename t -> goods\nALTER TABLE t RENAME TO goods;",
    )  # fmt: skip
    with closing(sqlite3.connect(database)) as live:
        live.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, b TEXT, a TEXT)")
    for count in (1, 2, 3):
        outcome = upgrade(database, found[:count])
        assert outcome.ready, outcome.cause
    assert version(database) == 3


def test_exists_is_not_passed_over(tmp_path: Path) -> None:
    view = "CREATE VIEW v AS SELECT id FROM t WHERE {} (SELECT 1 FROM t WHERE id = 0)"
    found = written(tmp_path / "m", f"CREATE TABLE t (id);{view.format('EXISTS')};", f"DROP VIEW v;{view.format('')};")
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, found[:1]).ready
    assert "redefine view v" in upgrade(database, found).cause
    assert version(database) == 1
