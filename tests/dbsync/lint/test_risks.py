"""What `dbsync check` says of a folder before its release: risks with the safe way, released texts, two runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.lint.check import check
from dbsync.migrations.folder import load
from dbsync.upgrade.released_history import Kind, departures, same_name
from tests.helpers.shop import files, upgrade, written
from tests.sample_till.bundles import copy_migrations

BASE = """
CREATE TABLE users (id INTEGER PRIMARY KEY, role TEXT, born TEXT);
CREATE TABLE shifts (id INTEGER PRIMARY KEY, at TEXT);
CREATE INDEX users_role ON users(role);
CREATE VIEW admins AS SELECT id FROM users WHERE role = 'admin';
CREATE TRIGGER began AFTER INSERT ON shifts BEGIN UPDATE shifts SET at = datetime('now') WHERE id = new.id; END;
INSERT INTO users VALUES (1, 'admin', '1990-01-02');
INSERT INTO shifts (id, at) VALUES (1, CURRENT_TIMESTAMP);
"""
PYTHON = (
    '"""A step."""\n\nimport random\nimport time\nimport uuid\nfrom datetime import datetime\n\n\ndef up(db):\n    '
)


def told(folder: Path, *texts: str) -> list[str]:
    """What is said of a base and further steps."""
    folder.mkdir(exist_ok=True)
    for number, text in enumerate((BASE, *texts), 1):
        ending = "py" if text.startswith('"""') else "sql"
        (folder / f"{number:04d}_step.{ending}").write_text(text)
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    found = check(folder=folder, scratch=scratch)
    assert files(scratch) == set()
    return [f"{one.where}: {one.what} | {one.safe}" for one in found]


@pytest.mark.parametrize(
    ("text", "what", "safe"),
    [
        (
            "UPDATE users SET born = 1;\n-- changes: update users.born\n",
            "`-- changes: update users.born` is not",
            "first",
        ),
        (
            "-- Change: update users.born\nUPDATE users SET born = 1;",
            "`-- Change: update users.born` is not read",
            "`--",
        ),
        (" -- changes: update users.born\nUPDATE users SET born = 1;", "`-- changes: update users.born` is not", "`--"),
        ("/* changes: update users.born */\nUPDATE users SET born = 1;", "is not read", "beginning of a line"),
        ("-- readable-from: 1\nSELECT 1;", "`-- readable-from: 1` is not read", "`-- readable_from: …`"),
        ("ALTER TABLE users DROP COLUMN born;", "drops a column", "`changes: drop column users.born`"),
        ('ALTER TABLE main."users" DROP born;', "drops a column", "`changes: drop column users.born`"),
        ("ALTER TABLE users ADD COLUMN age INTEGER NOT NULL;", "adds a NOT NULL column without a default", "DEFAULT"),
        ("ALTER TABLE users ADD age INTEGER NOT NULL;", "adds a NOT NULL column without a default", "db.not_null"),
        (
            "ALTER TABLE users RENAME COLUMN born TO birth;",
            "renames a column",
            "`changes: rename users.born -> users.birth`",
        ),
        ("ALTER TABLE users RENAME TO people;", "renames a table", "`changes: rename users -> people`"),
        ("DROP TABLE IF EXISTS shifts;", "drops a table", "`changes: drop table shifts`"),
        ("DROP VIEW admins;", "drops a view", "make it again in the same migration"),
        ("DROP TRIGGER began;", "drops a trigger", "`changes: drop trigger began`"),
        ("DROP INDEX users_role;", "drops an index", "`changes: drop index users_role`"),
        ("PRAGMA foreign_keys=OFF;", "does nothing inside a transaction", "cascades nowhere"),
        ("BEGIN; UPDATE users SET role = 'a'; COMMIT;", "COMMIT would break the one transaction", "Leave it out."),
        ("VACUUM;", "VACUUM would break", "Leave it out."),
        ("INSERT INTO shifts (at) VALUES (current_timestamp);", "asks the clock: current_timestamp", "constant"),
        ("UPDATE shifts SET at = strftime('%Y', 'now');", "asks the clock: strftime", "running the migration again"),
        ("UPDATE shifts SET at = date();", "asks the clock: date", "constant"),
        ("CREATE TABLE x AS SELECT randomblob(4) AS r;", "asks for chance: randomblob()", "constant"),
        (
            PYTHON + "db.execute('UPDATE users SET role = ?', (uuid.uuid4().hex,))\n",
            "for chance: uuid.uuid4()",
            "constant",
        ),
        (
            PYTHON + "db.execute('UPDATE users SET role = ?', (random.random(),))\n",
            "for chance: random.random()",
            "row",
        ),
        (PYTHON + "db.execute('UPDATE users SET role = ?', (str(datetime.now()),))\n", "clock: datetime.now()", "row"),
        (
            PYTHON + "a = datetime.now().isoformat()\n    b = random.random()\n",
            "the clock: datetime.now() (line 10)",
            "row",
        ),
        (PYTHON + "pass\n\n\ndef down(db):\n    pass\n", "down() is never called (line 13)", "down_row(table, row)"),
        (PYTHON + "db.execute('UPDATE users SET role = ?', (time.time(),))\n", "clock: time.time()", "row"),
        (PYTHON + "db.execute('ALTER TABLE users DROP COLUMN born')\n", "drops a column", "users.born"),
        (PYTHON + "for t in ['users']:\n        db.execute(f'DROP TABLE {t}')\n", "drops a table", "declaration"),
        (PYTHON + "db.execute('BEGIN')\n", "BEGIN would break", "Leave it out."),
    ],
)
def test_a_risk_is_named_with_the_safe_way(tmp_path: Path, text: str, what: str, safe: str) -> None:
    found = told(tmp_path / "m", text)
    assert any(what in one and (safe in one or safe == "declaration") for one in found), found


@pytest.mark.parametrize(
    "text",
    [
        "-- changes: drop column users.born\nALTER TABLE users DROP COLUMN born;",
        "-- changes: rename users.born -> users.birth\nALTER TABLE users RENAME COLUMN born TO birth;",
        "-- changes: rename users -> people\nALTER TABLE users RENAME TO people;",
        "-- changes: drop table shifts\nDROP TABLE shifts;",
        "ALTER TABLE users ADD COLUMN age INTEGER NOT NULL DEFAULT 0;",
        "ALTER TABLE users ADD COLUMN not_null TEXT; -- NOT NULL",
        """CREATE TABLE n (id INTEGER PRIMARY KEY, at TEXT); INSERT INTO n SELECT * FROM shifts; DROP TABLE shifts;
        ALTER TABLE n RENAME TO shifts; CREATE TRIGGER began AFTER INSERT ON shifts
        BEGIN UPDATE shifts SET at = datetime('now') WHERE id = new.id; END;""",
        "DROP VIEW admins; CREATE VIEW admins AS SELECT id FROM users WHERE role = 'admin';",
        "CREATE TABLE log (a, at TEXT DEFAULT CURRENT_TIMESTAMP); CREATE TABLE day (at CHECK (at <> 'now'));",
        "UPDATE users SET born = date(born, 'start of month');",
        PYTHON + "'''DROP TABLE users, or BEGIN'''\n    db.log('Drop table users; COMMIT')\n    db.query('SELECT 1')\n",
        PYTHON + "datetime.fromisoformat('2020-01-01')\n",
    ],
)
def test_what_is_said_or_safe_raises_no_alarm(tmp_path: Path, text: str) -> None:
    assert told(tmp_path / "m", text) == []


def test_a_clock_that_no_text_shows_is_found_by_running_on_another_day(tmp_path: Path) -> None:
    by_default = "CREATE TABLE log (a, at TEXT DEFAULT CURRENT_TIMESTAMP); INSERT INTO log (a) VALUES (1);"
    found = told(tmp_path / "a", by_default)
    assert [one.partition(" | ")[0] for one in found] == [
        "log: two runs come to different rows: they depend on the clock"
    ]
    by_trigger = "INSERT INTO shifts (id) VALUES (2);"
    assert "shifts: two runs come to different rows: they depend on the clock" in told(tmp_path / "b", by_trigger)[0]
    assert "shifts: two runs" in told(tmp_path / "c", "SELECT 1;", by_trigger)[0]


@pytest.mark.parametrize(
    ("now", "kind", "what"),
    [
        ({"0003_c.sql": None}, Kind.MISSING, "is missing"),
        ({"0003_c.sql": None, "0003_other.sql": "CREATE TABLE c (x);"}, Kind.RENAMED, "is now called other"),
        (
            {"0003_c.sql": None, "0003_new.sql": "SELECT 1;", "0004_c.sql": "CREATE TABLE c (x);"},
            Kind.RENUMBERED, "now has the number 0004",
        ),
        ({"0003_c.sql": "CREATE TABLE c (x, y);"}, Kind.EDITED, "was changed"),
    ],
)  # fmt: skip
def test_released_migrations_stay_in_number_name_and_text(
    tmp_path: Path, now: dict[str, str | None], kind: Kind, what: str
) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        for number, name in enumerate("abc", 1):
            (tmp_path / folder / f"{number:04d}_{name}.sql").write_text(f"CREATE TABLE {name} (x);")
    for name, text in now.items():
        path = tmp_path / "new" / name
        path.write_text(text) if text is not None else path.unlink()
    (one,) = departures(earlier=load(tmp_path / "old"), now=load(tmp_path / "new"))
    assert (one.number, one.name, one.kind, one.what) == (3, "c", kind, what)
    (problem,) = check(folder=tmp_path / "new", released=(tmp_path / "old",), scratch=tmp_path)
    assert (problem.where, problem.what) == ("0003_c", f"released in {tmp_path / 'old'}, {what}")
    assert problem.safe


@pytest.mark.parametrize(
    ("one", "other", "same_text", "same"),
    [
        ("0001_barcode", "20240131120000_barcode", True, True),
        ("barcode", "20240131120000_barcode", True, True),
        ("0001_barcode", "20240131120000_barcode", False, False),
        ("0001_barcode", "20240131120000_bar_code", True, False),
        ("add_barcode", "add_barcodes", True, False),
        ("add_barcode", "add_barcode", False, True),
    ],
)
def test_digits_in_front_are_no_part_of_a_name_where_the_text_is_the_same(
    one: str, other: str, same_text: bool, same: bool
) -> None:
    assert same_name(one, other, same_text=same_text) is same
    assert same_name(other, one, same_text=same_text) is same


def test_a_database_that_a_release_made_by_its_own_text_comes_to_the_same_end(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001_a.sql").write_text("CREATE TABLE a (x TEXT);")
    (tmp_path / "old" / "0002_b.sql").write_text("CREATE TABLE b (x TEXT);")
    old = load(tmp_path / "old")[1].sha256
    mended = f"-- replaces: {old}\nCREATE TABLE IF NOT EXISTS b (x TEXT);\n"
    (tmp_path / "new" / "0002_b.sql").write_text(mended)
    last = tmp_path / "new" / "0003_c.sql"
    last.write_text("ALTER TABLE b ADD COLUMN y TEXT;")
    both = {"released": (tmp_path / "old",), "scratch": tmp_path}
    assert check(folder=tmp_path / "new", **both) == []  # type: ignore[arg-type]
    # It goes by what only the mended text leaves behind, which the structure of 0002 does not show.
    (tmp_path / "new" / "0002_b.sql").write_text(f"{mended}INSERT INTO b VALUES ('mended');\n")
    last.write_text(
        '"""A step."""\n\n\ndef up(db):\n    if db.query("SELECT 1 FROM b"):\n        db.add_column("b", "y", "TEXT")\n'
    )
    last.rename(last.with_suffix(".py"))
    (problem,) = check(folder=tmp_path / "new", **both)  # type: ignore[arg-type]
    assert (problem.where, problem.what) == (
        f"from what was released in {tmp_path / 'old'}",
        "it does not end in the structure of a fresh database",
    )


def test_the_sample_tills_migrations_raise_no_alarm(tmp_path: Path) -> None:
    copy_migrations(tmp_path / "m", schema=6, mended=True)
    assert check(folder=tmp_path / "m", scratch=tmp_path) == []
    assert files(tmp_path / "m") == {
        path.relative_to(tmp_path / "m").as_posix() for path in (tmp_path / "m").glob("0*")
    }


def test_what_a_typed_python_migration_says_is_read(tmp_path: Path) -> None:
    """`changes: Final = [...]` is an assignment too."""
    text = """'A step.'
from typing import Final

changes: Final = ["update users.born"]
readable_from: int = 1
replaces: list[str]

def up(db):
    pass
"""
    (tmp_path / "0001_step.py").write_text(text)
    (one,) = load(tmp_path)
    assert (one.changes, one.readable_from, one.replaces) == (("update users.born",), 1, ())


def test_a_rebuild_that_takes_the_mark_from_the_rows_is_found_where_the_newest_row_is_still_there(
    tmp_path: Path,
) -> None:
    folder, database = tmp_path / "m", tmp_path / "shop.db"
    found = written(folder, "CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER);")
    assert upgrade(database, found).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO sale (cents) VALUES (250), (90)")
    made = "CREATE TABLE made (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER);\n"
    rebuild = f"{made}INSERT INTO made SELECT * FROM sale;\nDROP TABLE sale;\nALTER TABLE made RENAME TO sale;\n"
    (folder / "0002_rebuild.sql").write_text(rebuild)
    (tmp_path / "scratch").mkdir()
    before = database.read_bytes()
    (problem,) = check(folder=folder, database=database, scratch=tmp_path / "scratch")
    assert database.read_bytes() == before
    assert (problem.what, problem.safe) == (
        "AUTOINCREMENT counter of sale dropped from 3 to 2; ids would be reused", "-- changes: reset sale",
    )  # fmt: skip
    # A till that removed its newest sale refuses it: what was found is not only of the copy.
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("DELETE FROM sale WHERE id = 2")
    assert upgrade(database, load(folder)).name == "VERIFICATION_FAILED"
    assert files(tmp_path / "scratch") == set()
