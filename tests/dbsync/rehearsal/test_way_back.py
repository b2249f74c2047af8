"""The way back is tried before it is needed: what a release loses on it, and what cannot be undone, is found."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.commands.rehearse import rehearse
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.downgrade import carry_back
from dbsync.lint.check import Checked, examine
from dbsync.migrations import folder as migration_folder
from dbsync.model import Migration
from dbsync.rehearsal import way_back
from dbsync.rehearsal.way_back import WayBack, WayBackResult, findings, summary
from dbsync.storage import files as disk_files
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.shop import files, upgrade, version, written

FIRST = """
CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL NOT NULL, note TEXT,
    state TEXT NOT NULL CHECK (state IN ('on', 'off')));
CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, total REAL CHECK (total >= 0));
CREATE TABLE item (sale_id INTEGER NOT NULL REFERENCES sale(id) ON DELETE CASCADE, line INTEGER NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity > 0), PRIMARY KEY (sale_id, line)) WITHOUT ROWID;
CREATE TABLE customer (id TEXT PRIMARY KEY, first TEXT, last TEXT);
CREATE TABLE supplier (id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE log (at TEXT, what TEXT);
"""
ROWS_COUNT = 40
CENTS = """changes = ["update product.price"]


def up(db):
    db.execute("UPDATE product SET price = price * 100")
"""


def shop(folder: Path) -> Path:
    """A database of the first schema with rows in every table."""
    database = folder / "shop.db"
    assert upgrade(database, written(folder / "m", FIRST)).ready
    with closing(sqlite3.connect(database)) as live, live:
        for number in range(1, ROWS_COUNT + 1):
            live.execute("INSERT INTO product VALUES (?, ?, ?, ?, 'on')",
                         (number, f"product {number}", number * 1.25, f"note {number}"))  # fmt: skip
            live.execute("INSERT INTO sale (at, total) VALUES ('2026-01-02', ?)", (number * 2.5,))
            live.execute("INSERT INTO item VALUES (?, 1, 1), (?, 2, 3)", (number, number))
            live.execute("INSERT INTO customer VALUES (?, ?, ?)", (f"c{number}", f"First{number}", f"Last{number}"))
            live.execute("INSERT INTO supplier VALUES (?, ?)", (f"s{number}", f"Supplier {number}"))
            live.execute("INSERT INTO log VALUES ('2026', ?)", (f"sold {number}",))
    return database


def step(folder: Path, text: str) -> None:
    """Writes the second migration."""
    kind = "py" if "def up" in text else "sql"
    (folder / "m" / f"0002_step.{kind}").write_text(f'"""Step."""\n{text}' if kind == "py" else text)


def checked(folder: Path, text: str) -> tuple[Checked, WayBack]:
    """The findings of `check` with a database."""
    database = shop(folder)
    before = database.read_bytes()
    step(folder, text)
    (folder / "scratch").mkdir()
    found = examine(folder=folder / "m", database=database, scratch=folder / "scratch", least_free_bytes=0)
    assert found.way_back is not None, found.problems
    assert list((folder / "scratch").iterdir()) == []
    assert database.read_bytes() == before
    return found, found.way_back


def down_row(*lines: str) -> str:
    """A migration that turns prices into cents, with a way back for the table."""
    body = "".join(f"        {line}\n" for line in lines)
    return f'{CENTS}\n\ndef down_row(table, row):\n    if table == "product":\n{body}    return row\n'


# ----------------------------------------------------------------------------------------------- what can be undone


@pytest.mark.parametrize(
    "text",
    [
        "CREATE INDEX by_name ON product (name);",
        (
            "-- changes: rename product -> article\n-- changes: rename product.note -> remark\n"
            "ALTER TABLE product RENAME TO article; ALTER TABLE article RENAME COLUMN note TO remark;"
        ),
        "CREATE VIEW names AS SELECT name FROM product;",
    ],
    ids=["index", "renames", "view"],
)
def test_a_release_that_can_be_undone_says_so_after_trade_in_every_table(tmp_path: Path, text: str) -> None:
    found, back = checked(tmp_path, text)
    assert (found.problems, back.result, findings(back)) == ([], WayBackResult.LOSSLESS, [])
    assert {one.table for one in back.trade} >= {"sale", "item", "customer", "supplier", "log"}
    assert all(one.inserted >= 20 and one.deleted > 0 for one in back.trade), back.trade
    assert summary(back) == "going back would lose nothing of made-up trade"


# --------------------------------------------------------------------------------------------- what it would lose


@pytest.mark.parametrize(
    ("text", "table", "words", "safe"),
    [
        ("ALTER TABLE product ADD COLUMN origin TEXT;", "product", "(in origin): the older schema has no place", ""),
        ("CREATE TABLE loyalty (customer_id TEXT PRIMARY KEY, points INTEGER NOT NULL);", "loyalty",
         "rows added, 0 changed, 0 removed: the older schema has no place for it, for example customer_id", ""),
        (("-- changes: drop table customer\n-- changes: drop table supplier\n"
         "CREATE TABLE party (id TEXT PRIMARY KEY, name TEXT);"
         "INSERT INTO party SELECT id, first || ' ' || last FROM customer UNION ALL SELECT id, name FROM supplier;"
         "DROP TABLE customer; DROP TABLE supplier;"), "party", "the older schema has no place for it", "down_row"),
        (("-- changes: drop column customer.last\n"
         "CREATE TABLE person (customer_id TEXT PRIMARY KEY, last TEXT);"
         "INSERT INTO person SELECT id, last FROM customer; ALTER TABLE customer DROP COLUMN last;"),
         "person", "the older schema has no place for it", "down_row"),
        (down_row('row["price"] = round(row["price"] / 125) * 1.25 if isinstance(row["price"], float) else 1.25'),
         "product", "come back with another value", "down_row"),
        ("-- changes: drop column product.note\nALTER TABLE product DROP COLUMN note;", "product.note",
         "rows added since have only its default in it", ""),
    ],
    ids=["new column", "new table", "merged tables", "split table", "rounded", "dropped column"],
)  # fmt: skip
def test_a_loss_that_lies_in_the_release_is_stated_and_does_not_fail_the_check(
    tmp_path: Path, text: str, table: str, words: str, safe: str
) -> None:
    found, back = checked(tmp_path, text)
    assert found.problems == []
    said = [one for one in findings(back) if one.where == table]
    assert len(said) == 1, findings(back)
    assert (words in said[0].what, said[0].wrong) == (True, False), said
    assert safe in said[0].safe
    assert "secret" not in json.dumps(back.as_json(), default=str)


def test_entries_of_a_search_index_without_content_are_a_stated_loss_and_stop_nothing_else(tmp_path: Path) -> None:
    database = shop(tmp_path)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE VIRTUAL TABLE finder USING fts5(body, content='')")
        live.execute("INSERT INTO finder (rowid, body) VALUES (1, 'white bread')")
    step(tmp_path, "CREATE INDEX by_name ON product (name);")
    (tmp_path / "scratch").mkdir()
    found = examine(folder=tmp_path / "m", database=database, scratch=tmp_path / "scratch", least_free_bytes=0)
    assert found.way_back is not None, found.problems
    made = {one.table: one for one in found.way_back.trade}
    assert (made["finder"].inserted >= 20, made["product"].inserted >= 20) == (True, True)
    said = [one.what for one in findings(found.way_back) if one.where == "finder"]
    lost = f"going back would lose: {made['finder'].inserted} rows added, 0 changed, 0 removed: the entries of a search"
    assert said in ([], [f"{lost} index without content cannot be read"])
    assert (found.problems, [one.table for one in found.way_back.not_held if one.table != "finder"]) == ([], [])


def test_rows_of_a_search_index_with_its_own_content_are_compared_as_those_of_a_table(tmp_path: Path) -> None:
    database = shop(tmp_path)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE VIRTUAL TABLE page USING fts5(title, body)")
        live.executemany("INSERT INTO page VALUES (?, ?)", [(f"page {n}", f"words {n}") for n in range(ROWS_COUNT)])
        live.execute("CREATE VIRTUAL TABLE place USING rtree(id, west, east)")
        live.executemany("INSERT INTO place VALUES (?, ?, ?)", [(n, n, n + 1) for n in range(ROWS_COUNT)])
    step(tmp_path, "CREATE INDEX by_name ON product (name);")
    (tmp_path / "scratch").mkdir()
    found = examine(folder=tmp_path / "m", database=database, scratch=tmp_path / "scratch", least_free_bytes=0)
    assert found.way_back is not None, found.problems
    made = {one.table: one for one in found.way_back.trade}
    assert (made["page"].inserted >= 20, made["page"].newer_only) == (True, 0)
    assert (found.problems, found.way_back.result, findings(found.way_back)) == ([], WayBackResult.LOSSLESS, [])


# ------------------------------------------------------------------------------------------ what cannot be undone so


@pytest.mark.parametrize(
    ("text", "where", "words", "safe"),
    [
        (("-- changes: update customer\n-- changes: insert customer\n-- changes: delete customer\n"
         "UPDATE customer SET id = 'k' || id;"), "customer", "would get another key, for example id '", "primary keys"),
        ("-- changes: update product.price = o.price * 100\nUPDATE product SET price = price * 100;",
         "product", "would get another value than theirs (in price), for example id ", "down_row"),
        ("-- changes: update customer\nUPDATE customer SET first = last, last = first;",
         "customer", "would get another value than theirs (in first, last), for example id '", "down_row"),
        (down_row('row["price"] = row["price"] / 10 if isinstance(row["price"], float) else 0.0'),
         "product", "would get another value than theirs (in price)", "down_row"),
        (down_row('row["price"] = 1.25'), "product", "would get another value than theirs (in price)", "down_row"),
    ],
    ids=["renumbered", "conversion without a way back", "names swapped", "wrong factor", "not injective"],
)  # fmt: skip
def test_wrong_rows_on_the_way_back_fail_the_check_with_table_count_and_key(
    tmp_path: Path, text: str, where: str, words: str, safe: str
) -> None:
    found, back = checked(tmp_path, text)
    assert back.result is WayBackResult.WRONG, findings(back)
    problems = [problem for problem in found.problems if problem.where == where]
    assert len(problems) == 1, found.problems
    assert words in problems[0].what
    assert problems[0].what.split()[2].isdigit(), problems[0].what
    assert safe in problems[0].safe
    assert "First1" not in problems[0].what, "no values"


def test_a_down_row_that_fails_on_rows_that_are_there_is_found_whatever_going_back_makes_of_it(tmp_path: Path) -> None:
    found, back = checked(tmp_path, down_row('row["price"] = row["cost"] / 100'))
    assert back.result in (WayBackResult.IMPOSSIBLE, WayBackResult.WRONG)
    (problem,) = [problem for problem in found.problems if problem.where == "product"]
    assert problem.what == "going back: 40 rows for which down_row fails with KeyError, for example id 1"
    assert "down_row" in problem.safe
    assert all(made.inserted >= 20 for made in back.trade), "the trade was made"


def test_a_way_back_that_raises_fails_the_check_with_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(migrations: tuple[Migration, ...], **given: Path) -> object:
        raise RecursionError("in the middle of it")

    monkeypatch.setattr(carry_back, "carry_back", breaks)
    found, back = checked(tmp_path, "ALTER TABLE product ADD COLUMN origin TEXT;")
    assert back.result is WayBackResult.IMPOSSIBLE
    (problem,) = found.problems
    assert (problem.where, "RecursionError: in the middle of it" in problem.what) == ("the way back", True), problem


def test_older_rows_that_change_although_nobody_touched_them_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = carry_back.carry_back

    def careless(migrations: tuple[Migration, ...], **given: Path) -> object:
        carried = whole(migrations, **given)  # type: ignore[arg-type]
        with closing(sqlite3.connect(given["into"])) as returned, returned:
            returned.execute("UPDATE item SET quantity = quantity + 1 WHERE sale_id = 39")
            returned.execute("UPDATE customer SET first = CAST(first AS BLOB) WHERE id = 'c40'")
            returned.execute("DELETE FROM supplier WHERE id = 's38'")
        return carried

    monkeypatch.setattr(carry_back, "carry_back", careless)
    found, back = checked(tmp_path, "CREATE INDEX by_name ON product (name);")
    assert back.result is WayBackResult.WRONG
    said = {problem.where: problem.what for problem in found.problems}
    assert said == {
        "item": "going back: 2 rows that nobody touched would come back different (in quantity), for example"
        " sale_id 39, line 1",
        "customer": "going back: 1 row that nobody touched would come back different (in first), for example id 'c40'",
        "supplier": "going back: 1 row that nobody touched would come back different, for example id 's38'",
    }


# --------------------------------------------------------------------------------------------- rehearsals, and limits


def test_a_rehearsal_goes_back_records_the_result_and_does_not_fail_for_it(tmp_path: Path) -> None:
    database = shop(tmp_path)
    step(tmp_path, down_row('row["price"] = row["cost"] / 100'))
    done = dbsync("rehearse", "--database", database, "--migrations", tmp_path / "m")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "product: going back: 40 rows for which down_row fails with KeyError" in done.stdout
    assert "made-up trade in customer: 2" in done.stdout
    line = FlightRecorder(database.parent / "backups", database).lines()[-1]
    assert (line["event"], line["good"], line["way_back"]["result"] in ("impossible", "wrong")) == (
        "rehearsed", True, True,
    )  # fmt: skip
    totals = line["way_back"]["trade"]
    assert (totals["tables"], totals["inserted"] >= 120, totals["swapped_keys"] > 0) == (6, True, True)
    status = json.loads(dbsync("status", "--database", database, "--json").stdout)
    assert status["notes"] == [f"the way back of v2 step was rehearsed at {line['at']}: {line['way_back']['summary']}"]
    assert version(database) == 1
    assert {path for path in files(database.parent) if "rehearsal" in path} == set()


def test_check_says_in_words_and_in_json_what_going_back_would_lose(tmp_path: Path) -> None:
    database = shop(tmp_path)
    step(tmp_path, "ALTER TABLE product ADD COLUMN origin TEXT;")
    place = ("check", "--database", database, "--migrations", tmp_path / "m")
    done = dbsync(*place)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "going back would lose values of made-up trade in product"
    assert lines[1].startswith("  product: going back would lose: 0 rows added, ")
    assert lines[-1] == "nothing to say against it"
    told = json.loads(dbsync(*place, "--json").stdout)
    assert (told["problems"], told["way_back"]["result"]) == ([], "loses")
    assert [one["table"] for one in told["way_back"]["trade"]] == sorted(
        ["product", "sale", "item", "customer", "supplier", "log"]
    )


@pytest.mark.parametrize("why", ["space", "time"])
def test_too_little_space_or_time_for_it_is_said_and_blocks_nothing(
    tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = shop(tmp_path)
    step(tmp_path, "ALTER TABLE product ADD COLUMN origin TEXT;")
    found = written_in(tmp_path)
    if why == "space":
        # Enough for the rehearsal, not for the copies of the way back.
        monkeypatch.setattr(disk_files, "free_bytes", lambda _: int(3.6 * database.stat().st_size))
    else:
        monkeypatch.setattr(way_back._Deadline, "is_over", True)
    done = rehearse(found, database=database, backups=tmp_path / "backups", least_free_bytes=0)
    monkeypatch.undo()
    assert (done.good, done.cause) == (True, "")
    assert done.way_back is not None
    assert done.way_back.result is WayBackResult.SKIPPED
    assert ("required" if why == "space" else "900 seconds") in done.way_back.cause
    line = FlightRecorder(tmp_path / "backups", database).lines()[-1]
    assert line["way_back"]["result"] == "REHEARSAL_SKIPPED"
    assert not [path for path in files(tmp_path) if "way-back" in path]
    again = rehearse(found, database=database, backups=tmp_path / "backups", least_free_bytes=0)
    assert again.way_back is not None
    assert again.way_back.result is WayBackResult.LOSES, "the next one tries it again"


def test_a_kept_complement_does_not_hide_what_the_older_tables_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = carry_back.carry_back

    def keeps(migrations: tuple[Migration, ...], **given: Path) -> object:
        carried = whole(migrations, **given)  # type: ignore[arg-type]
        with closing(sqlite3.connect(given["into"])) as returned, returned:
            returned.execute("CREATE TABLE IF NOT EXISTS dbsync_kept_rows (tbl, seq, row)")
        return carried

    monkeypatch.setattr(carry_back, "carry_back", keeps)
    _, back = checked(tmp_path, "ALTER TABLE product ADD COLUMN origin TEXT;")
    assert back.result is WayBackResult.LOSES


def written_in(folder: Path) -> tuple[Migration, ...]:
    """The migrations as they are."""
    return migration_folder.load(folder / "m")
