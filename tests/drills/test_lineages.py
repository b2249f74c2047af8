"""A small history taken there, back and up again, as `python -m tests.drills.lineages` does with public apps' own.

docs/real-databases.md has what was seen with them.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.drills import lineage_oracle as oracle
from tests.drills.lineage_sources import Histories
from tests.drills.lineage_story import story
from tests.helpers.shop import files

FIRST = """
CREATE TABLE product (sku TEXT PRIMARY KEY, name TEXT NOT NULL, cents INTEGER NOT NULL DEFAULT 0);
CREATE TABLE receipt (id INTEGER PRIMARY KEY AUTOINCREMENT, sku TEXT REFERENCES product (sku), pieces INTEGER);
CREATE TABLE drawer (opened_by TEXT, float_cents INTEGER);
"""
STEPS = (
    ("002_barcode.sql", "PRAGMA foreign_keys = off;\nALTER TABLE product ADD COLUMN barcode TEXT;\n"),
    ("003_pieces.sql", "ALTER TABLE receipt RENAME COLUMN pieces TO quantity;\nDROP TABLE drawer;\n"),
    ("004_shifts.sql", "CREATE TABLE shift (id INTEGER PRIMARY KEY, opened TEXT DEFAULT 'never');\n"),
)


@pytest.mark.slow
def test_a_history_goes_there_and_back_and_up_again_with_trade_at_both_ends(tmp_path: Path) -> None:
    seen = story(Histories((FIRST,), STEPS, "004"), tmp_path, fill_count=4, rounds_count=1)
    assert (seen.tables_count, seen.migrations_count) == (3, 3)
    where = seen.where
    assert min(seen.rows_count, seen.edits_count, where.untouched, where.live, where.kept, seen.again.put_back) > 10
    assert (where.lost, seen.again.lost) == ([], [])
    assert not [one for one in files(tmp_path) if ".part-" in one or one.endswith(("-wal", "-journal"))]


NO_NAMES = oracle.Names({}, {})
DAMAGES: dict[str, tuple[str, str, str]] = {
    "an untouched row is changed": ("down", "UPDATE product SET cents = 1 WHERE sku = 'tea'", "was not touched"),
    "an untouched row is gone": ("down", "DELETE FROM product WHERE sku = 'tea'", "was not touched"),
    "a traded cell is gone": ("down", "UPDATE product SET name = 'old' WHERE sku = 'bun'", "product.name of 'bun'"),
    "an added row is gone": ("down", "DELETE FROM product WHERE sku = 'jam'", "product.sku of 'jam'"),
    "a kept cell is gone": ("down", "DELETE FROM dbsync_kept_cells WHERE column_name = 'barcode'", "product.barcode"),
    "a removed row is there": ("down", "INSERT INTO product VALUES ('gum', 'gum', 1)", "was removed"),
    "a kept cell is not put back": ("up", "UPDATE product SET barcode = NULL WHERE sku = 'bun'", "neither live nor a"),
    "a conflict is dropped": ("up", "DELETE FROM dbsync_kept_rows", "neither live nor a conflict"),
    "trade since is gone": ("up", "DELETE FROM product WHERE sku = 'nut'", "is not there after the way up"),
    "a value of nobody": ("up", "UPDATE product SET cents = 77 WHERE sku = 'tea'", "which nobody wrote"),
}
"""Which database, what is done to it, and what is said of it."""

OLD = "CREATE TABLE product (sku TEXT PRIMARY KEY, name TEXT, cents INTEGER);"
ROWS = "INSERT INTO product VALUES ('tea', 'tea', 250), ('bun', '{bun}', 90);"
KEPT = """
CREATE TABLE dbsync_kept_rows (id INTEGER PRIMARY KEY, schema, generation, kind, table_name, place, state, reason);
CREATE TABLE dbsync_kept_cells (row_id, position, column_name, is_key, sides, predicted, value);
"""
WAITING = """
INSERT INTO dbsync_kept_rows VALUES (1, 2, 1, 'changed', 'product', NULL, 'waiting', NULL),
                                    (2, 2, 1, 'changed', 'product', NULL, 'waiting', NULL);
INSERT INTO dbsync_kept_cells VALUES (1, 0, 'sku', 1, 'both', 'bun', 'bun'), (1, 1, 'barcode', 0, 'both', NULL, '4001'),
                                     (2, 0, 'sku', 1, 'both', 'jam', 'jam'), (2, 1, 'barcode', 0, 'both', NULL, '4002');
"""
JAM = "INSERT INTO product VALUES ('jam', 'jam', 300);"
BARCODES = "ALTER TABLE product ADD COLUMN barcode TEXT;"
CONFLICT = "INSERT INTO dbsync_kept_rows VALUES (2, 2, 1, 'changed', 'product', NULL, 'conflict', 'it is not there');"


def texts() -> dict[str, str]:
    """The statements of each database: `bun` and `jam` get a barcode, `jam` is removed in the older schema."""
    gum = "INSERT INTO product VALUES ('gum', 'gum', 1);"
    bun, roll = ROWS.format(bun="bun"), ROWS.format(bun="roll")
    written = BARCODES + "UPDATE product SET barcode = '4001' WHERE sku = 'bun';"
    return {
        "old": OLD + bun + gum,
        "base": OLD + bun + gum + BARCODES,
        "traded": OLD + roll + JAM + written + "UPDATE product SET barcode = '4002' WHERE sku = 'jam';",
        "down": OLD + roll + JAM + KEPT + WAITING,
        "up": OLD + roll + "INSERT INTO product VALUES ('nut', 'nut', 5);" + written + KEPT + CONFLICT,
        "since": OLD + roll + "INSERT INTO product VALUES ('nut', 'nut', 5);",
    }


def judged(folder: Path, spoil: Callable[[str, sqlite3.Connection], object]) -> list[str]:
    """The findings of the oracle after something was done to one of the databases."""
    for name, text in texts().items():
        with closing(sqlite3.connect(folder / name, isolation_level=None)) as made:
            made.executescript(text)
            spoil(name, made)
    waiting = oracle.kept_in(folder / "down")
    step = (("002.sql", BARCODES),)
    where = oracle.where_it_is(
        old=oracle.read(folder / "old"), base=oracle.read(folder / "base"), traded=oracle.read(folder / "traded"),
        down=oracle.read(folder / "down"), kept=waiting, names=NO_NAMES,
        again=oracle.by_the_apps_own_texts(step, folder / "down", folder / "down-again"),
    )  # fmt: skip
    again = oracle.put_back(
        waiting=waiting, still=oracle.kept_in(folder / "up"), up=oracle.read(folder / "up"),
        plain=oracle.by_the_apps_own_texts(step, folder / "since", folder / "since-again"),
    )  # fmt: skip
    shutil.rmtree(folder)
    return where.lost + again.lost


def test_the_oracle_has_nothing_to_say_of_what_is_right(tmp_path: Path) -> None:
    (tmp_path / "right").mkdir()
    assert judged(tmp_path / "right", lambda *_: None) == []
    assert files(tmp_path) == set()


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_oracle_names_what_is_wrong(tmp_path: Path, damage: str) -> None:
    where, sql, said = DAMAGES[damage]
    (tmp_path / "wrong").mkdir()
    found = judged(tmp_path / "wrong", lambda name, made: made.execute(sql) if name == where else None)
    assert any(said in one for one in found), found
    assert files(tmp_path) == set()
