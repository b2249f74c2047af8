"""Recovering what can be read of a damaged database into a new file; the damaged one stays as it is, to the byte."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups import catalog
from dbsync.errors import DiskFull, Locked, Refused
from dbsync.progress import Event
from dbsync.recovery.pages import LEAF, Pages
from dbsync.recovery.repair import Repaired, repair
from dbsync.recovery.table_recovery import TableRepaired
from dbsync.storage import files as disk_files
from dbsync.storage import temporary_files
from dbsync.storage.locks import locked
from tests.helpers import forks
from tests.helpers.shop import ask, dump, effects, files, make_shop, released

ITEMS_COUNT = 4000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop that no test changes."""
    return make_shop(tmp_path_factory.mktemp("shop"), items_count=ITEMS_COUNT)


@pytest.fixture
def database(shop: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    copied = tmp_path / "data" / shop.name
    copied.parent.mkdir()
    shutil.copyfile(shop, copied)
    return copied


def leaf_pages(database: Path, name: str) -> list[int]:
    """The leaves of a table's or an index's tree, in its order."""
    root = ask(database, f"SELECT rootpage FROM sqlite_schema WHERE name = '{name}'")
    assert isinstance(root, int)
    pages = Pages(database)

    def below(number: int) -> list[int]:
        page = pages.page(number)
        if page[0] in (10, LEAF):
            return [number]
        count, head = int.from_bytes(page[3:5]), 12
        places = [int.from_bytes(page[head + 2 * one : head + 2 * one + 2]) for one in range(count)]
        children = [int.from_bytes(page[one : one + 4]) for one in places]
        return [leaf for child in [*children, int.from_bytes(page[8:12])] for leaf in below(child)]

    return below(root)


def overwrite(database: Path, number: int, data: bytes) -> None:
    size = Pages(database).header.page_bytes
    with database.open("r+b") as file:
        file.seek((number - 1) * size)
        file.write((data * size)[:size])


def rows_on(database: Path, number: int) -> set[int]:
    """The rowids on one leaf of a table: one page is there that another one's bytes are put over."""
    from dbsync.recovery.pages import records

    return {rowid for rowid, _ in records(Pages(database).page(number))}


def ids(database: Path, table: str) -> set[int]:
    with closing(sqlite3.connect(database)) as connection:
        return {row[0] for row in connection.execute(f"SELECT rowid FROM {table} NOT INDEXED")}


def content(database: Path) -> dict[str, list[object]]:
    """Every row of every table, with its rowid."""
    with closing(sqlite3.connect(database)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        # Which of SQLite's own marks comes first is of no meaning.
        return {
            one: connection.execute(
                f'SELECT {"0" if one == "sqlite_sequence" else "rowid"}, * FROM "{one}" NOT INDEXED ORDER BY 1, 2'
            ).fetchall()
            for one in names
        }


def recovered(database: Path, **values: object) -> Repaired:
    """Recovers beside it, and sees that nothing of the damaged one changed and that the new one is sound."""
    before = {one: disk_files.sha256_of(database.parent / one) for one in files(database.parent)}
    into = database.parent / "recovered.db"
    backups = catalog.list_backups(backups=database.parent / "backups", database=database)
    found = repair(database=database, into=into, backups=backups, **values)  # type: ignore[arg-type]
    assert ask(into, "PRAGMA integrity_check") == "ok"
    after = {one: disk_files.sha256_of(database.parent / one) for one in files(database.parent)}
    new = {"recovered.db"} | ({"recovered.db.aside.jsonl"} if found.aside else set())
    assert set(after) - set(before) == new
    assert {one: after[one] for one in before} == before
    return found


def of(found: Repaired, table: str) -> TableRepaired:
    return next(one for one in found.tables if one.table == table)


def refused(database: Path, cause: str) -> None:
    before = {one: disk_files.sha256_of(database.parent / one) for one in files(database.parent)}
    with pytest.raises(Refused, match=cause):
        repair(
            database=database,
            into=database.parent / "recovered.db",
            backups=catalog.list_backups(backups=database.parent / "backups", database=database),
        )
    assert {one: disk_files.sha256_of(database.parent / one) for one in files(database.parent)} == before


def make_backup(database: Path) -> Path:
    return effects(database).make_backup(None).path


def test_a_sound_database_is_read_whole_and_equal(database: Path) -> None:
    before = (sorted(dump(database)), content(database))
    found = recovered(database)
    assert found.whole
    assert (found.aside, found.not_made, found.references) == (None, (), ())
    assert (sorted(dump(found.into)), content(found.into)) == before
    assert ask(found.into, "PRAGMA application_id") == ask(database, "PRAGMA application_id")


@pytest.mark.parametrize("data", [b"\0", b"\xff", b"\x0d\x07"], ids=["zeros", "ones", "garbage that begins well"])
def test_a_lost_page_in_the_middle_of_a_table_costs_its_rows_and_no_other(database: Path, data: bytes) -> None:
    kept = make_backup(database)
    pages = leaf_pages(database, "transaction_items")
    lost_page = pages[len(pages) // 2]
    lost, before = rows_on(database, lost_page), content(database)
    overwrite(database, lost_page, data)
    found = recovered(database)
    assert not found.whole
    one = of(found, "transaction_items")
    assert one.read_count == ITEMS_COUNT - len(lost)
    assert one.unread == ((min(lost), max(lost)),)
    assert ids(found.into, "transaction_items") == set(range(1, ITEMS_COUNT + 1)) - lost
    after = content(found.into)
    assert set(after.pop("transaction_items")) == {
        row for row in before.pop("transaction_items") if isinstance(row, tuple) and row[0] not in lost
    }
    assert after == before
    assert found.compared_with == kept
    assert [tuple(one) for one in found.losses] == [("transaction_items", 0, 0, len(lost))]


def test_two_lost_pages_apart_cost_two_ranges(database: Path) -> None:
    pages = leaf_pages(database, "transaction_items")
    lost = [rows_on(database, pages[one]) for one in (3, 6)]
    for one in (3, 6):
        overwrite(database, pages[one], b"\0")
    found = recovered(database)
    assert of(found, "transaction_items").unread == tuple((min(one), max(one)) for one in lost)
    assert ids(found.into, "transaction_items") == set(range(1, ITEMS_COUNT + 1)) - lost[0] - lost[1]


def test_rowids_far_apart_are_found_again_on_both_sides_of_a_lost_page(database: Path) -> None:
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE far (id INTEGER PRIMARY KEY, text TEXT)")
        live.executemany("INSERT INTO far VALUES (?, ?)", [(one * 10**14, "x" * 300) for one in range(-500, 500)])
    pages = leaf_pages(database, "far")
    lost = set.union(*(rows_on(database, pages[one]) for one in (10, 40, len(pages) - 1)))
    for one in (10, 40, len(pages) - 1):
        overwrite(database, pages[one], b"\0")
    found = recovered(database)
    assert ids(found.into, "far") == {one * 10**14 for one in range(-500, 500)} - lost
    assert of(found, "far").read_count == 1000 - len(lost)
    assert len(of(found, "far").unread) == 3


def test_of_a_file_without_its_tail_all_that_is_on_its_pages_is_there(database: Path) -> None:
    size = Pages(database).header.page_bytes
    cut = database.stat().st_size - 12 * size - 100
    there = cut // size
    before = {one: ids(database, one) for one in ("transaction_items", "transactions", "products", "categories")}
    lost = {one: set[int]() for one in before}
    for table in before:
        for number in leaf_pages(database, table):
            if number > there:
                lost[table] |= rows_on(database, number)
    assert lost["transaction_items"]
    with database.open("r+b") as file:
        file.truncate(cut)
    found = recovered(database)
    assert not found.whole
    for table, every in before.items():
        assert ids(found.into, table) == every - lost[table], table


def test_garbage_in_an_index_costs_no_row(database: Path) -> None:
    before = content(database)
    with closing(sqlite3.connect(database)) as live:
        names = [row[0] for row in live.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")]
    for name in names:
        for number in leaf_pages(database, name):
            overwrite(database, number, b"\xab\xcd")
    assert names
    with pytest.raises(sqlite3.DatabaseError):
        ask(database, "SELECT count(*) FROM products WHERE id = 'p1'")
    found = recovered(database)
    assert found.whole
    assert content(found.into) == before


@pytest.mark.parametrize("first", [0, 100], ids=["with its header", "behind its header"])
def test_without_its_schema_a_database_is_read_by_that_of_its_backup(database: Path, first: int) -> None:
    make_backup(database)
    before, sql = content(database), sorted(dump(database))
    with database.open("r+b") as file:
        file.seek(first)
        file.write(b"\0" * (4096 - first))
    found = recovered(database)
    assert found.schema_from == str(found.compared_with)
    assert found.losses == ()
    assert content(found.into) == before
    assert sorted(dump(found.into)) == sql


def test_without_its_schema_and_a_backup_a_database_is_read_by_the_migrations(database: Path, tmp_path: Path) -> None:
    before, sql = content(database), sorted(dump(database))
    with database.open("r+b") as file:
        file.seek(100)
        file.write(b"\0" * 3996)
    refused(database, "nothing tells its schema")
    found = recovered(database, migrations=released(tmp_path, 6))
    assert found.schema_from == "the migrations"
    assert content(found.into) == before
    assert sorted(dump(found.into)) == sql


HOLDER = """
import os, sqlite3, sys
live = sqlite3.connect(sys.argv[1], isolation_level=None)
live.execute("PRAGMA journal_mode=WAL").fetchall()
live.execute("PRAGMA wal_autocheckpoint=0").fetchall()
live.execute("UPDATE products SET stock = 77")
live.execute("INSERT INTO categories (id, name, businessId) VALUES ('new', 'New', 'b1')")
os._exit(0)
"""


def test_what_is_only_in_a_hot_wal_is_taken_along(database: Path) -> None:
    pages = leaf_pages(database, "transaction_items")
    lost = rows_on(database, pages[4])
    subprocess.run([sys.executable, "-c", HOLDER, database], check=True)
    overwrite(database, pages[4], b"\0")
    assert Path(f"{database}-wal").stat().st_size
    found = recovered(database)
    assert ask(found.into, "SELECT count(*) FROM products WHERE stock = 77") == 500
    assert ask(found.into, "SELECT count(*) FROM categories WHERE id = 'new'") == 1
    assert of(found, "transaction_items").read_count == ITEMS_COUNT - len(lost)


@pytest.mark.parametrize("with_backup", [False, True])
def test_what_is_no_database_is_refused(database: Path, with_backup: bool) -> None:
    if with_backup:
        make_backup(database)
    database.write_bytes(b"this is a text\n" * 5000)
    refused(database, "it is no SQLite database")


def test_a_file_that_is_there_is_never_written_over(database: Path) -> None:
    (database.parent / "recovered.db").write_bytes(b"mine")
    refused(database, "it is there already")
    refused(database, "it is there already")


@pytest.mark.parametrize("unique", ["", "UNIQUE ON CONFLICT REPLACE", "UNIQUE ON CONFLICT IGNORE"])
def test_rows_that_the_new_file_refuses_are_beside_it(database: Path, unique: str) -> None:
    """Whatever the table itself does with such a row."""
    with closing(sqlite3.connect(database)) as live, live:
        live.execute(f"CREATE TABLE rules (id INTEGER PRIMARY KEY, code TEXT NOT NULL {unique}, size INTEGER)")
        if not unique:
            live.execute("CREATE UNIQUE INDEX rules_code ON rules (code)")
        live.execute("INSERT INTO rules VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)")
    page = Pages(database).page(leaf_pages(database, "rules")[0])
    # The text of one row becomes another row's, as a flipped bit does it: the index does not know of it.
    overwrite(database, leaf_pages(database, "rules")[0], page.replace(b"b\x02", b"a\x02"))
    found = recovered(database)
    assert not found.whole
    assert (of(found, "rules").read_count, of(found, "rules").aside_count) == (3, 1)
    assert found.aside is not None
    (line,) = [json.loads(one) for one in found.aside.read_text().splitlines()]
    assert (line["table"], line["rowid"], line["row"]) == ("rules", 2, {"id": 2, "code": "a", "size": 2})
    assert ids(found.into, "rules") == {1, 3}


def test_searches_odd_texts_and_marks_come_along(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as live:
        for sql in (
            "CREATE VIRTUAL TABLE own USING fts5(a, b)",
            "INSERT INTO own (rowid, a, b) VALUES (7, 'red apple', 'x'), (9, 'green pear', 'y')",
            "CREATE VIRTUAL TABLE shown USING fts5(name, content='products', content_rowid='rowid')",
            "INSERT INTO shown (shown) VALUES ('rebuild')",
            "CREATE TABLE odd (a TEXT, b)",
            "INSERT INTO odd VALUES (CAST(x'41ff42' AS TEXT), x'41ff42'), ('a', 1), (NULL, 1.5)",
            "CREATE TABLE plain (k TEXT PRIMARY KEY, v) WITHOUT ROWID",
            "INSERT INTO plain VALUES ('one', 1), ('two', 2)",
            "CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT)",
            "INSERT INTO numbered VALUES (41)",
            "DELETE FROM numbered",
            "PRAGMA application_id=99",
        ):
            live.execute(sql)
    found = recovered(database)
    assert found.whole
    assert ask(found.into, "SELECT rowid FROM own WHERE own MATCH 'pear'") == 9
    assert ask(found.into, "SELECT count(*) FROM shown WHERE shown MATCH 'Product'") == 500
    assert ask(
        found.into, "SELECT group_concat(typeof(a) || hex(coalesce(a, '')) || typeof(b) || hex(b)) FROM odd"
    ) == ("text41FF42blob41FF42,text61integer31,nullreal312E35")
    assert ask(found.into, "SELECT group_concat(k || v) FROM plain") == "one1,two2"
    assert ask(found.into, "SELECT seq FROM sqlite_sequence WHERE name = 'numbered'") == 41
    assert ask(found.into, "PRAGMA application_id") == 99


def test_the_content_of_a_search_comes_along_and_a_search_without_any_is_named(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as live:
        for sql in (
            "CREATE TABLE page_content (id INTEGER PRIMARY KEY, body TEXT)",
            "CREATE VIRTUAL TABLE page USING fts5(body, content='page_content', content_rowid='id')",
            "INSERT INTO page_content VALUES (3, 'red apple')",
            "INSERT INTO page (page) VALUES ('rebuild')",
            "CREATE VIRTUAL TABLE found USING fts5(body, content='')",
            "INSERT INTO found (rowid, body) VALUES (1, 'green pear')",
        ):
            live.execute(sql)
    found = recovered(database)
    assert ask(found.into, "SELECT body FROM page_content") == "red apple"
    assert ask(found.into, "SELECT rowid FROM page WHERE page MATCH 'apple'") == 3
    assert found.not_made == ("table found: it keeps no content to make its index of, and is empty",)
    assert not found.whole


def test_a_table_without_rowids_is_read_from_both_ends(database: Path) -> None:
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE plain (k INTEGER PRIMARY KEY, v TEXT) WITHOUT ROWID")
        live.executemany("INSERT INTO plain VALUES (?, ?)", [(one, f"{one:0200d}") for one in range(1000)])
    pages = leaf_pages(database, "plain")
    overwrite(database, pages[len(pages) // 2], b"\0")
    found = recovered(database)
    assert not found.whole
    with closing(sqlite3.connect(found.into)) as connection:
        kept = {row[0] for row in connection.execute("SELECT k FROM plain")}
    lost = set(range(1000)) - kept
    assert 10 < len(lost) < 25
    assert lost == set(range(min(lost), max(lost) + 1))
    assert of(found, "plain").read_count == 1000 - len(lost)


@pytest.mark.parametrize("damage", ["none", "page"])
def test_the_command_says_what_was_read_and_what_to_do_next(
    database: Path, damage: str, tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    released(tmp_path, 2)
    make_backup(database)
    if damage == "page":
        overwrite(database, leaf_pages(database, "transaction_items")[4], b"\0")
    into = tmp_path / "new.db"
    words = ("repair", "--database", str(database), "--into", str(into), "--migrations", str(tmp_path / "migrations-2"))
    done = run(*words, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["whole"]) == ((0, True) if damage == "none" else (1, False))
    again = run(*words)
    assert (again.returncode, "it is there already" in again.stderr) == (4, True)
    into.unlink()
    shown = run(*words).stdout
    assert ("NOT EVERYTHING WAS READ" in shown) == (damage == "page")
    assert ("transaction_items: 4000 rows read\n" in shown) == (damage == "none")
    imported = run(*told["next_step"].split()[1:], "--yes")
    assert imported.returncode == 0, imported.stdout + imported.stderr
    assert ids(database, "transaction_items") == ids(into, "transaction_items")
    assert files(tmp_path) >= {"new.db", "data/pos_system.db"}


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line, as a program of its own."""
    return lambda *words: forks.run(["-m", "dbsync", *words])


def test_a_recovery_that_cannot_end_leaves_nothing_and_one_that_was_killed_is_cleared(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(database.parent)
    with monkeypatch.context() as patched:
        patched.setattr(disk_files, "free_bytes", lambda _: 1000)
        with pytest.raises(DiskFull):
            repair(database=database, into=database.parent / "recovered.db", backups=[])
    with monkeypatch.context() as patched:

        def full(_: Path) -> None:
            raise DiskFull(operation="sync", cause="no space left")

        patched.setattr(disk_files, "sync_file", full)
        with pytest.raises(DiskFull):
            repair(database=database, into=database.parent / "recovered.db", backups=[])
    assert files(database.parent) == before
    left = temporary_files.scratch_of(database.parent, database.name, "recovered.db.work")
    left.mkdir()
    (left / "pos_system.db").write_bytes(b"half a copy")
    temporary_files.part_of(database.parent / "recovered.db", database.name).write_bytes(b"half a database")
    told: list[Event] = []
    found = repair(database=database, into=database.parent / "recovered.db", backups=[], progress=told.append)
    assert found.whole
    assert ask(found.into, "SELECT count(*) FROM transaction_items") == ITEMS_COUNT
    assert list(dict.fromkeys(one.name for one in told)) == ["copy", "read", "indexes", "check", "compare", "sync"]
    assert files(database.parent) == before | {"recovered.db"}


def test_a_database_that_somebody_works_with_is_left_for_later(database: Path) -> None:
    with locked(database), pytest.raises(Locked):
        repair(database=database, into=database.parent / "recovered.db", backups=[])
    assert files(database.parent) == {"pos_system.db"}
