"""Damaged databases read into new ones: what is outside of the damage is all there, and the damage is told."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pages import leaves, overwrite
from tests.helpers.shop import ask, dump, effects, files, make_shop, released, sales, sell, upgrade, version

ITEMS = "SELECT count(*) FROM transaction_items"


def digest(folder: Path) -> dict[str, str]:
    """Every file of a shop but its lock."""
    return {one: hashlib.sha256((folder / one).read_bytes()).hexdigest() for one in files(folder)}


def repair(database: Path, into: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    words = [
        sys.executable,
        "-m",
        "dbsync",
        "repair",
        "--database",
        str(database),
        "--into",
        str(into),
        "--json",
        *more,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else {}, done.stderr


def tables(told: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in told["tables"]}


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def sound(database: Path) -> bool:
    return ask(database, "PRAGMA integrity_check") == "ok"


def test_a_sound_database_comes_out_as_it_is(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=4), tmp_path / "new.db"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE notes (a TEXT)")
        live.execute("INSERT INTO notes (rowid, a) VALUES (9, 'x'), (11, NULL)")
        live.execute("CREATE TABLE kinds (a TEXT PRIMARY KEY, b BLOB) WITHOUT ROWID")
        live.execute("INSERT INTO kinds VALUES ('k', x'00ff')")
        live.execute("CREATE VIRTUAL TABLE search USING fts5(name, content='products', content_rowid='rowid')")
        live.execute("INSERT INTO search (search) VALUES ('rebuild')")
        live.execute("CREATE VIRTUAL TABLE words USING fts5(name)")
        live.execute("INSERT INTO words VALUES ('green tea')")
        live.execute("CREATE VIEW cheap AS SELECT * FROM products WHERE priceCents < 100")
        live.execute("DELETE FROM transactions WHERE id = (SELECT max(id) FROM transactions)")
    before = digest(database.parent)
    status, told, _ = repair(database, into)
    assert (status, told["whole"], told["kept_apart"]) == (0, True, None), told
    assert version(into) == 4
    assert sound(into)
    for table in ("products", "transactions", "transaction_items", "dbsync_history", "sqlite_sequence", "kinds"):
        assert rows(into, f"SELECT * FROM {table} ORDER BY 1") == rows(database, f"SELECT * FROM {table} ORDER BY 1")
    assert rows(into, "SELECT rowid, a FROM notes") == [(9, "x"), (11, None)]
    assert rows(into, "SELECT name FROM words WHERE words MATCH 'tea'") == [("green tea",)]
    names = "SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema ORDER BY name)"
    assert ask(into, names) == ask(database, names)
    assert upgrade(into, released(tmp_path, 5)).name == "MIGRATED", "its history came along"
    assert digest(database.parent) == before


@pytest.mark.parametrize("content", [b"", b"\x0d\xff\x07garbage"], ids=["zeros", "garbage"])
def test_a_page_in_the_middle_of_a_table_costs_its_rows_and_no_other(tmp_path: Path, content: bytes) -> None:
    database, into = make_shop(tmp_path, schema=4, items_count=8000), tmp_path / "new.db"
    kept = effects(database).make_backup()
    everything = dict(rows(database, "SELECT id, lineCents FROM transaction_items"))
    pages = leaves(database, "transaction_items")
    broken = [pages[len(pages) // 2], pages[len(pages) // 2 + 3]]
    for page in broken:
        overwrite(database, page, content)
    before = digest(database.parent)
    status, told, _ = repair(database, into)
    assert status == 1
    assert sound(into)
    found = dict(rows(into, "SELECT id, lineCents FROM transaction_items"))
    gaps = tables(told)["transaction_items"]["gaps"]
    assert len(gaps) == 2
    missing = {key for key in everything if any(first <= key <= last for first, last in gaps)}
    assert found == {key: cents for key, cents in everything.items() if key not in missing}
    per_page = len(everything) / len(pages)
    assert 0 < len(missing) < 2 * 2 * per_page, "about two pages of rows"
    assert tables(told)["transactions"]["rows_count"] == 2000
    # What is missing is named, and it is in the backup.
    (lost,) = [one for one in told["differences"] if one["table"] == "transaction_items"]
    assert (lost["added"], lost["changed"], lost["removed"]) == (0, 0, len(missing))
    assert told["compared_with"] == str(kept.path)
    assert digest(database.parent) == before


def test_a_file_that_was_cut_off_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=4, items_count=8000), tmp_path / "new.db"
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 4096 * 4096 * 3 // 4 // 4096 * 4096)
    before = digest(database.parent)
    status, told, _ = repair(database, into)
    assert status == 1
    assert sound(into)
    assert 2000 < int(str(ask(into, ITEMS))) < 8000
    assert sum(len(one["gaps"]) for one in told["tables"]) > 0
    assert digest(database.parent) == before


def test_a_damaged_index_costs_nothing_and_is_made_again(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=4, items_count=8000), tmp_path / "new.db"
    content = dump(database)
    pages = leaves(database, "idx_items_transaction")
    overwrite(database, pages[len(pages) // 2], b"not an index")
    status, told, _ = repair(database, into)
    assert (status, told["whole"]) == (0, True)
    assert sound(into)
    assert sorted(dump(into)) == sorted(content)


def test_a_damaged_first_page_is_taken_from_a_backup_or_the_repair_is_refused(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=4, items_count=8000), tmp_path / "new.db"
    effects(database).make_backup()
    sell(database, 7)
    count = sales(database)
    items = rows(database, "SELECT * FROM transaction_items")
    overwrite(database, 1)
    before = digest(database.parent)
    status, told, _ = repair(database, into)
    assert (status, told["schema_from"].endswith(".db")) == (0, True), told
    assert sound(into)
    assert (sales(into), rows(into, "SELECT * FROM transaction_items")) == (count, items), "the newer sales too"
    assert (version(into), digest(database.parent)) == (4, before)
    for path in (database.parent / "backups").iterdir():
        path.unlink()
    status, _, words = repair(database, tmp_path / "other.db")
    assert status == 3
    assert "its schema cannot be read" in words
    assert "there is no good backup to take it from" in words
    assert not list(tmp_path.glob("*other.db*"))


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_sales_that_are_in_the_wal_only_come_along(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=4, wal=True, items_count=8000), tmp_path / "new.db"
    pages = leaves(database, "transaction_items")
    text = (
        "import os, sqlite3, sys\n"
        "live = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "live.execute('PRAGMA wal_autocheckpoint=0')\n"
        "for n in range(5):\n"
        '    live.execute("INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt)"\n'
        "                 \" VALUES ('W' || ?, 1, 'cash', '')\", (n,))\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", text, str(database)], check=False).returncode == 9
    with database.open("r+b") as file:
        file.seek((pages[3] - 1) * 4096)
        file.write(os.urandom(4096))
    before = digest(database.parent)
    assert f"{database.name}-wal" in before
    status, told, _ = repair(database, into)
    assert status == 1
    assert len(tables(told)["transaction_items"]["gaps"]) == 1
    assert ask(into, "SELECT count(*) FROM transactions WHERE receiptNumber LIKE 'W%'") == 5
    assert digest(database.parent) == before


def test_a_table_without_rowids_is_read_from_both_ends(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=4), tmp_path / "new.db"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE keyed (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID")
        live.executemany("INSERT INTO keyed VALUES (?, ?)", [(f"k{n:05d}", "v" * 60) for n in range(3000)])
    pages = leaves(database, "keyed")
    overwrite(database, pages[len(pages) // 2])
    status, told, _ = repair(database, into)
    assert status == 1
    assert "malformed" in tables(told)["keyed"]["problem"]
    found = [key for (key,) in rows(into, "SELECT k FROM keyed ORDER BY k")]
    assert (found[0], found[-1]) == ("k00000", "k02999")
    assert 2800 < len(found) < 3000
    assert told["kept_apart_count"] == 0


def test_what_the_schema_refuses_is_kept_apart_and_a_bad_letter_stops_nothing(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=4), tmp_path / "new.db"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE strict_one (a INTEGER PRIMARY KEY, b TEXT CHECK (length(b) < 4))")
        live.execute("PRAGMA ignore_check_constraints=ON")
        live.execute("INSERT INTO strict_one VALUES (1, 'ok'), (2, 'far too long'), (3, CAST(x'ff41' AS TEXT))")
    status, told, _ = repair(database, into)
    assert status == 1
    assert told["kept_apart_count"] == 1
    (line,) = Path(told["kept_apart"]).read_text().splitlines()
    assert json.loads(line)["row"] == {"a": 2, "b": "far too long"}
    assert rows(into, "SELECT a, hex(b) FROM strict_one") == [(1, "6F6B"), (3, "FF41")]


@pytest.mark.parametrize("what", ["text", "missing", "there already"])
def test_what_cannot_be_repaired_is_refused_with_a_sentence(tmp_path: Path, what: str) -> None:
    database, into = tmp_path / "data" / "shop.db", tmp_path / "new.db"
    database.parent.mkdir()
    if what != "missing":
        database.write_text("This is a letter to the manager. " * 50)
    if what == "there already":
        into.write_text("mine")
    status, told, words = repair(database, into)
    assert (status, told) == (3, {})
    assert {"text": "cannot be read", "missing": "no such file", "there already": "already"}[what] in words
    assert into.exists() == (what == "there already")
    assert not [one for one in files(tmp_path) if ".part-" in one]


def test_people_read_what_is_missing_and_what_to_do_next(tmp_path: Path) -> None:
    database, into = make_shop(tmp_path, schema=4, items_count=4000), tmp_path / "new.db"
    overwrite(database, leaves(database, "transaction_items")[1])
    words = [sys.executable, "-m", "dbsync", "repair", "--database", str(database), "--into", str(into)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "SOMETHING IS MISSING" in done.stdout
    assert "nothing could be read of the rows" in done.stdout
    assert f"`dbsync import {into}`" in done.stdout
