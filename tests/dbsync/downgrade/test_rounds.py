"""Going back and up again more than once: the backup keeps what an earlier return could not hold.

Each case is a small form of one that the laws found on random databases (tests/drills/laws).
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from dbsync.downgrade import carry_back
from dbsync.migrations import runner
from dbsync.progress import nobody
from tests.drills.laws.cells import picture
from tests.drills.laws.judge import Law, same_content
from tests.drills.laws.kept import kept_in
from tests.helpers.shop import written


class Rounds(NamedTuple):
    """A database of the first version, its migration, and what people do on the newer one in each round."""

    first: str
    step: str
    filled: str
    rounds: tuple[str, ...]
    older: str
    """A query on the older database at the end, and its rows."""
    rows: list[tuple[object, ...]]


CASES: Final = {
    "a value that only the newer schema has, then its row changes": Rounds(
        "CREATE TABLE sale (k INTEGER PRIMARY KEY, a TEXT);",
        "ALTER TABLE sale ADD COLUMN d TEXT DEFAULT 'z';",
        "INSERT INTO sale VALUES (1, 'one');",
        ("INSERT INTO sale VALUES (2, 'two', 'mine');", "UPDATE sale SET a = 'deux' WHERE k = 2;"),
        "SELECT k, a FROM sale ORDER BY k",
        [(1, "one"), (2, "deux")],
    ),
    "the same in a table without a key": Rounds(
        "CREATE TABLE sale (a TEXT);",
        "ALTER TABLE sale ADD COLUMN d TEXT DEFAULT 'z';",
        "INSERT INTO sale VALUES ('one');",
        ("INSERT INTO sale VALUES ('two', 'mine');", "UPDATE sale SET a = 'deux' WHERE rowid = 2;"),
        "SELECT a FROM sale ORDER BY rowid",
        [("one",), ("deux",)],
    ),
    "a value that only the newer schema has, then its row is removed": Rounds(
        "CREATE TABLE sale (k INTEGER PRIMARY KEY, a TEXT);",
        "ALTER TABLE sale ADD COLUMN d TEXT DEFAULT 'z';",
        "INSERT INTO sale VALUES (1, 'one');",
        ("UPDATE sale SET d = 'mine' WHERE k = 1;", "DELETE FROM sale WHERE k = 1;"),
        "SELECT count(*) FROM sale",
        [(0,)],
    ),
    "a row of a table without a key, which the migration filled": Rounds(
        "CREATE TABLE item (price);",
        '"""Prices are never NULL."""\n\nchanges = ["redefine item", "redefine item.price", "update item.price"]\n\n\n'
        "def up(db):\n    db.execute(\"UPDATE item SET price = 'none' WHERE price IS NULL\")\n"
        "    db.rebuild_table('item', '(price NOT NULL)')\n",
        "INSERT INTO item VALUES ('a'), (NULL), ('b');",
        ("SELECT 1;", "UPDATE item SET price = 7 WHERE rowid = 2;"),
        "SELECT rowid, price FROM item ORDER BY rowid",
        [(1, "a"), (2, 7), (3, "b")],
    ),
    "a text that is no UTF-8 in a new column of a table without a key": Rounds(
        "CREATE TABLE sale (a TEXT);",
        "ALTER TABLE sale ADD COLUMN b;",
        "INSERT INTO sale VALUES ('one');",
        ("SELECT 1;", "INSERT INTO sale VALUES ('two', CAST(x'ff41' AS TEXT));"),
        "SELECT a FROM sale ORDER BY rowid",
        [("one",), ("two",)],
    ),
    "values that the older schema refuses, corrected later": Rounds(
        "CREATE TABLE item (k INTEGER PRIMARY KEY, code TEXT UNIQUE, n INTEGER CHECK (n < 10));",
        '"""Any number."""\n\nchanges = ["redefine item", "redefine item.n"]\n\n\n'
        "def up(db):\n    db.rebuild_table('item', 'k INTEGER PRIMARY KEY, code TEXT UNIQUE, n INTEGER')\n",
        "INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2);",
        (
            "UPDATE item SET n = 99, code = 'x' WHERE k = 1; INSERT INTO item VALUES (3, 'c', 50);",
            "UPDATE item SET n = 9 WHERE k = 1; UPDATE item SET n = 3 WHERE k = 3;",
        ),
        "SELECT * FROM item ORDER BY k",
        [(1, "x", 9), (2, "b", 2), (3, "c", 3)],
    ),
    "a value in a new column of a table without a key is stated as lost once": Rounds(
        "CREATE TABLE sale (a TEXT);",
        "ALTER TABLE sale ADD COLUMN d TEXT;",
        "INSERT INTO sale VALUES ('one');",
        ("INSERT INTO sale VALUES ('two', 'mine');", "SELECT 1;"),
        "SELECT a FROM sale ORDER BY rowid",
        [("one",), ("two",)],
    ),
    "a value of the same number in another storage class is a loss of its own": Rounds(
        "CREATE TABLE sale (k INTEGER PRIMARY KEY);",
        "ALTER TABLE sale ADD COLUMN d;",
        "INSERT INTO sale VALUES (1);",
        ("UPDATE sale SET d = 1;", "UPDATE sale SET d = 1.0;"),
        "SELECT * FROM sale",
        [(1,)],
    ),
    "a column that people made stands elsewhere in the second round": Rounds(
        "CREATE TABLE sale (a TEXT);",
        "ALTER TABLE sale ADD COLUMN d;",
        "INSERT INTO sale VALUES ('one');",
        ("INSERT INTO sale VALUES ('two', 1.23); ALTER TABLE sale ADD COLUMN late_own;", "SELECT 1;"),
        "SELECT a, late_own FROM sale ORDER BY rowid",
        [("one", None), ("two", None)],
    ),
    "a row that the older schema refuses, in a search index as well, is stated as lost once": Rounds(
        "CREATE TABLE note (k INTEGER PRIMARY KEY, a TEXT NOT NULL);"
        " CREATE VIRTUAL TABLE words USING fts5(a, content='note', content_rowid='k');"
        " CREATE TRIGGER added AFTER INSERT ON note BEGIN INSERT INTO words (rowid, a) VALUES (new.k, new.a); END;",
        '"""Without a text too."""\n\nchanges = ["redefine note", "redefine note.a"]\n\n\n'
        "def up(db):\n    db.rebuild_table('note', '(k INTEGER PRIMARY KEY, a TEXT)')\n",
        "INSERT INTO note VALUES (1, 'one');",
        ("INSERT INTO note VALUES (2, NULL);", "SELECT 1;"),
        "SELECT * FROM note",
        [(1, "one")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_round_gives_everything_again_and_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    migrations = written(tmp_path / "migrations", case.first, case.step)
    backup = tmp_path / "backup-0.db"
    runner.migrate_up(backup, migrations[:1])
    perform(backup, case.filled)
    newer = Path(shutil.copy(backup, tmp_path / "newer.db"))
    runner.migrate_up(newer, migrations)
    for number, statements in enumerate(case.rounds, 1):
        perform(newer, statements)
        wanted = picture(newer)
        made = tmp_path / f"backup-{number}.db"
        reports = tmp_path / f"reports-{number}"
        carried = carry_back.carry_back(migrations, now=newer, backup=backup, into=made, reports=reports, told=nobody)
        # A loss is stated once: what the backup keeps already is none.
        earlier = [row.content for row in kept_in(backup)]
        assert bool(carried.losses) == any(row.content not in earlier for row in kept_in(made)), carried.losses
        newer = Path(shutil.copy(made, tmp_path / f"newer-{number}.db"))
        runner.migrate_up(newer, migrations)
        assert [str(found) for found in same_content(Law.UP_AGAIN, wanted, picture(newer))] == []
        # Nothing was done on the older one: nothing can be in conflict.
        assert kept_in(newer) == []
        backup = made
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute(case.older).fetchall() == case.rows
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(("-base", "-again"))] == []


def perform(path: Path, statements: str) -> None:
    """Run statements of people."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(statements)
