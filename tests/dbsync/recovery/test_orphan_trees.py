"""Rows below a page that is lost: they are found again, each once, and none that was deleted or is another table's."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.recovery.pages import INDEX_INTERIOR, INTERIOR, Pages
from dbsync.recovery.table_reader import LEAST, MOST
from tests.dbsync.recovery.test_repair import leaf_pages, of, overwrite, recovered
from tests.helpers.shop import ask, files

COUNT = 3000


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two tables that look alike, one with long rows, one without rowids, and one of which much was deleted."""
    path = tmp_path / "data" / "shop.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as live, live:
        live.execute("PRAGMA page_size=512")
        # What is deleted stays on its page, as it does by default where SQLite is built without it.
        live.execute("PRAGMA secure_delete=OFF")
        for name in ("sales", "returns"):
            live.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, receipt TEXT NOT NULL, cents INTEGER)")
        live.execute("CREATE TABLE scans (id INTEGER PRIMARY KEY, picture BLOB NOT NULL, text TEXT, more TEXT)")
        live.execute("CREATE TABLE codes (code TEXT PRIMARY KEY, product TEXT NOT NULL, at INTEGER) WITHOUT ROWID")
        live.execute("CREATE TABLE gone (id INTEGER PRIMARY KEY, receipt TEXT NOT NULL, cents INTEGER)")
        live.execute("CREATE INDEX by_receipt ON sales (receipt, cents)")
        live.executemany("INSERT INTO gone VALUES (?, ?, 0)", [(one, f"DELETED-{one:06d}") for one in range(COUNT)])
        for name in ("sales", "returns"):
            rows = [(one, f"{name}-{one:020d}", one) for one in range(1, COUNT)]
            live.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", rows)
        live.executemany(
            "INSERT INTO scans VALUES (?, ?, 'x', NULL)", [(one, bytes([one % 251]) * 3000) for one in range(1, 60)]
        )
        live.executemany(
            "INSERT INTO codes VALUES (?, ?, ?)", [(f"{one:08d}", "p" * 40, one) for one in range(1, COUNT)]
        )
        live.commit()
        live.execute("DELETE FROM gone")
    return path


def root_of(database: Path, name: str) -> int:
    root = ask(database, f"SELECT rootpage FROM sqlite_schema WHERE name = '{name}'")
    assert isinstance(root, int)
    return root


def inner_pages(database: Path, root: int, kind: int) -> list[int]:
    """The pages below a root that are inner ones themselves."""
    pages = Pages(database)
    page = pages.page(root)
    places = [int.from_bytes(page[12 + 2 * one : 14 + 2 * one]) for one in range(int.from_bytes(page[3:5]))]
    children = [*(int.from_bytes(page[one : one + 4]) for one in places), int.from_bytes(page[8:12])]
    return [one for one in children if pages.page(one)[0] == kind]


def rows(database: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as live:
        return live.execute(f"SELECT * FROM {table} NOT INDEXED ORDER BY 1").fetchall()


def zeroed(data: bytes) -> Callable[[Path, int], None]:
    return lambda database, number: overwrite(database, number, data)


@pytest.mark.parametrize("data", [b"\0", b"\xa5\x5a\x0d"], ids=["zeroed", "garbled"])
@pytest.mark.parametrize("table", ["sales", "returns", "scans"])
def test_all_rows_below_a_lost_root_are_found_again(database: Path, table: str, data: bytes) -> None:
    before = rows(database, table)
    overwrite(database, root_of(database, table), data)
    found = recovered(database)
    assert rows(found.into, table) == before
    one = of(found, table)
    # Whether there were rows before and behind them nobody can know.
    assert one.unread == ((LEAST, 0), (len(before) + 1, MOST))
    assert (one.read_count, one.aside_count, found.whole) == (len(before), 0, False)
    assert all(each.whole for each in found.tables if each.table != table)
    assert rows(found.into, "gone") == []
    assert files(database.parent) == {"shop.db", "recovered.db"}


def test_all_rows_below_a_lost_inner_page_are_found_again_and_nothing_is_missing(database: Path) -> None:
    inner = inner_pages(database, root_of(database, "sales"), INTERIOR)
    assert len(inner) > 1
    before = rows(database, "sales")
    overwrite(database, inner[0], b"\0")
    found = recovered(database)
    assert rows(found.into, "sales") == before
    one = of(found, "sales")
    assert one.unread == ((LEAST, 0),)
    assert one.read_count == len(before)


def test_below_a_lost_inner_page_a_lost_leaf_costs_its_own_rows(database: Path) -> None:
    leaves = leaf_pages(database, "sales")
    overwrite(database, root_of(database, "sales"), b"\0")
    inner = [one for one in leaves if one != leaves[3]]
    overwrite(database, leaves[3], b"\0")
    found = recovered(database)
    one = of(found, "sales")
    kept = {row[0] for row in rows(found.into, "sales")}
    lost = set(range(1, COUNT)) - kept
    assert 5 < len(lost) < 60
    assert (min(lost), max(lost)) in one.unread
    assert one.read_count == COUNT - 1 - len(lost)
    assert len(inner) == len(leaves) - 1


def test_what_can_be_of_two_tables_is_kept_beside_and_in_neither(database: Path) -> None:
    for table in ("sales", "returns"):
        overwrite(database, root_of(database, table), b"\0")
    found = recovered(database)
    assert (rows(found.into, "sales"), rows(found.into, "returns")) == ([], [])
    assert found.aside is not None
    lines = [json.loads(one) for one in found.aside.read_text().splitlines()]
    receipts = {one["row"]["receipt"] for one in lines}
    assert receipts == {f"{name}-{one:020d}" for name in ("sales", "returns") for one in range(1, COUNT)}
    assert {one["cause"] for one in lines} == {"found on a lost page, of returns or of sales"}
    assert of(found, "returns").aside_count == len(lines)


def test_where_the_list_of_free_pages_is_damaged_too_nothing_deleted_comes_back(database: Path) -> None:
    with database.open("rb") as file:
        trunk = int.from_bytes(file.read(36)[32:])
    overwrite(database, root_of(database, "sales"), b"\0")
    overwrite(database, trunk, b"\0")
    found = recovered(database)
    assert rows(found.into, "sales") == []
    assert found.aside is not None
    lines = [json.loads(one) for one in found.aside.read_text().splitlines()]
    assert {one["cause"] for one in lines} == {"found on a lost page; it may have been deleted"}
    assert {one["row"]["receipt"] for one in lines} >= {f"sales-{one:020d}" for one in range(1, COUNT)}


def test_without_rowids_two_lost_leaves_cost_their_own_rows(database: Path) -> None:
    leaves = leaf_pages(database, "codes")
    lost_rows = 0
    for number in (leaves[5], leaves[-5]):
        lost_rows += int.from_bytes(Pages(database).page(number)[3:5])
        overwrite(database, number, b"\0")
    found = recovered(database)
    kept = rows(found.into, "codes")
    assert len(kept) == COUNT - 1 - lost_rows
    assert of(found, "codes").read_count == len(kept)
    assert of(found, "codes").cause
    assert found.aside is None


def test_without_rowids_a_lost_inner_page_costs_the_rows_on_it(database: Path) -> None:
    (first, *_) = inner_pages(database, root_of(database, "codes"), INDEX_INTERIOR)
    on_it = int.from_bytes(Pages(database).page(first)[3:5])
    overwrite(database, first, b"\0")
    found = recovered(database)
    assert len(rows(found.into, "codes")) == COUNT - 1 - on_it
    assert found.aside is None


def test_what_may_be_an_indexs_is_not_taken_for_a_tables(database: Path) -> None:
    (first, *_) = inner_pages(database, root_of(database, "codes"), INDEX_INTERIOR)
    overwrite(database, first, b"\0")
    overwrite(database, leaf_pages(database, "by_receipt")[2], b"\0")
    found = recovered(database)
    assert found.aside is not None
    causes = {json.loads(one)["cause"] for one in found.aside.read_text().splitlines()}
    assert causes == {"found on a lost page, of codes or of the index by_receipt"}
    assert {row[0] for row in rows(found.into, "codes")} <= {f"{one:08d}" for one in range(1, COUNT)}
    assert rows(found.into, "sales") == rows(database, "sales")


def test_where_a_page_was_written_over_another_one_no_table_is_given_rows_that_may_be_anothers(database: Path) -> None:
    copied = Pages(database).page(leaf_pages(database, "returns")[0])
    overwrite(database, root_of(database, "returns"), copied)
    overwrite(database, root_of(database, "sales"), b"\0")
    found = recovered(database)
    assert rows(found.into, "sales") == []
    assert of(found, "returns").whole, "as far as can be seen"
    assert found.aside is not None
    lines = [json.loads(one) for one in found.aside.read_text().splitlines()]
    assert {one["cause"] for one in lines} == {
        "found on a lost page; it may be of another table, a page of which is written over"
    }
    assert {one["row"]["receipt"][:5] for one in lines} == {"sales", "retur"}
