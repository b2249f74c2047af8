"""Rows that a repair put aside are put back after a review, once, in any order, and without side effects."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.errors import UnreadableFile
from dbsync.recovery import reviewed_rows
from dbsync.storage.raw_text import BadText
from dbsync.verification import exports
from tests.dbsync.cli.test_check import dbsync

SCHEMA = """
CREATE TABLE product (id INTEGER PRIMARY KEY, sku TEXT UNIQUE, stock INTEGER CHECK (stock >= 0));
CREATE TABLE sale (id INTEGER PRIMARY KEY, product INTEGER REFERENCES product (id), note);
CREATE TABLE loose (a, b);
CREATE TABLE keyed (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
CREATE TRIGGER sold AFTER INSERT ON sale BEGIN UPDATE product SET stock = stock - 1 WHERE id = new.product; END;
CREATE VIRTUAL TABLE search USING fts5 (sku, content = 'product', content_rowid = 'id');
INSERT INTO product VALUES (1, 'A', 5);
INSERT INTO sale VALUES (1, 1, 'first');
INSERT INTO search (search) VALUES ('rebuild');
"""


def shop(folder: Path) -> Path:
    database = folder / "shop.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(SCHEMA)
    return database


def aside(folder: Path, *rows: tuple[str, int | None, dict[str, object]]) -> Path:
    path = folder / "recovered.db.aside.jsonl"
    lines = [
        exports.json_line({"table": table, "rowid": rowid, "cause": "x", "row": exports.as_json(row)})
        for table, rowid, row in rows
    ]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def ask(database: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


ROWS: tuple[tuple[str, int | None, dict[str, object]], ...] = (
    ("sale", 2, {"id": 2, "product": 7, "note": BadText(b"\xff")}),
    ("SALE", 3, {"id": 3, "product": 99, "note": None}),
    ("product", 7, {"id": 7, "sku": "B", "stock": 3}),
    ("product", 8, {"id": 8, "sku": "A", "stock": 3}),
    ("product", 9, {"id": 9, "sku": "C", "stock": -1}),
    ("sale", 1, {"id": 1, "product": 1, "note": "first"}),
    ("loose", 40, {"a": b"\x00", "b": -0.0}),
    ("keyed", None, {"k": "x", "v": float("inf")}),
    ("gone", 1, {"id": 1}),
    ("loose", 41, {"c": 1}),
)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('{"table": "sale", "row": {"id": 5, "note": ["a"]}}', 'line 1: note is not a value: ["a"]'),
        ('{"table": "sale", "row": {"id": 5, "note": {"a": 1}}}', 'line 1: note is not a value: {"a": 1}'),
        ('{"table": "sale", "row": {"id": 5, "note": {"bytes": "xx"}}}', "line 1: note is not a value: "),
        ('{"table": "sale", "row": [1, 2]}', "line 1: it is not an object with a table and a row"),
        ('{"row": {"id": 5}}', "line 1: it is not an object with a table and a row"),
        ("[]", "line 1: it is not an object with a table and a row"),
        ('{"table": "sale", "rowid": "x", "row": {"id": 5}}', "line 1: rowid is not a whole number"),
        ("id;note", "line 1: it is not JSON: "),
        (None, "there is no such file"),
    ],
)
def test_a_line_that_is_no_row_is_refused_and_not_a_matter_of_the_disk(
    tmp_path: Path, line: str | None, cause: str
) -> None:
    database, path = shop(tmp_path), tmp_path / "reviewed.jsonl"
    if line is not None:
        path.write_text(line, encoding="utf-8")
    before = database.read_bytes()
    done = dbsync("repair", "--put-back", path, "--database", database)
    assert (done.returncode, f"could not read {path}: {cause}" in done.stderr) == (4, True), done.stderr
    assert database.read_bytes() == before
    assert not (tmp_path / "backups").exists()


def test_a_number_that_sqlite_cannot_hold_stays_with_its_cause(tmp_path: Path) -> None:
    database, path = shop(tmp_path), aside(tmp_path, ("loose", None, {"a": 2**70}))
    told = json.loads(dbsync("repair", "--put-back", path, "--database", database, "--dry-run", "--json").stdout)
    assert [one["cause"] for one in told["refused"]] == ["Python int too large to convert to SQLite INTEGER"]


def test_what_fits_goes_in_and_what_does_not_stays_with_its_cause(tmp_path: Path) -> None:
    database, path = shop(tmp_path), aside(tmp_path, *ROWS)
    before = database.read_bytes()
    words = ("repair", "--put-back", path, "--database", database, "--json")
    shown = json.loads(dbsync(*words, "--dry-run").stdout)
    assert (shown["put_count"], shown["there_count"], len(shown["refused"])) == (4, 1, 5)
    assert database.read_bytes() == before
    assert not (tmp_path / "backups").exists()
    done = dbsync(*words)
    told = json.loads(done.stdout)
    assert (done.returncode, told["put_count"], told["there_count"]) == (1, 4, 1), done.stderr
    assert {one["line"]: one["cause"] for one in told["refused"]} == {
        2: "FOREIGN KEY constraint failed", 4: "UNIQUE constraint failed: product.sku",
        5: "CHECK constraint failed: stock >= 0", 9: "there is no table gone", 10: "loose has no column c",
    }  # fmt: skip
    assert Path(told["backup"]).read_bytes() != b""
    assert ask(database, "SELECT id, stock FROM product") == [(1, 4), (7, 3)], "no trigger counted the sale again"
    assert ask(database, "SELECT typeof(note), hex(note) FROM sale WHERE id = 2") == [("text", "FF")]
    assert repr(ask(database, "SELECT rowid, quote(a), b FROM loose")) == repr([(40, "X'00'", -0.0)])
    assert ask(database, "SELECT v FROM keyed") == [(float("inf"),)]
    assert ask(database, "SELECT rowid FROM search WHERE search MATCH 'B'") == [(7,)]
    assert ask(database, "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'") == [(1,)]
    assert ask(database, "PRAGMA integrity_check") == [("ok",)]
    left = Path(told["left"])
    assert [entry.table for entry in reviewed_rows.read(left)] == ["SALE", "product", "product", "gone", "loose"]
    # Repeated, the same rows are there; nothing is twice.
    again = json.loads(dbsync(*words).stdout)
    assert (again["put_count"], again["there_count"]) == (0, 5)


def test_refused_rows_are_mended_in_the_file_that_is_left(tmp_path: Path) -> None:
    database, path = shop(tmp_path), aside(tmp_path, ("product", 8, {"id": 8, "sku": "A", "stock": 3}))
    words = ("--database", database)
    refused = dbsync("repair", "--put-back", path, *words)
    assert (refused.returncode, "refused: line 1, product: UNIQUE" in refused.stdout) == (1, True)
    left = tmp_path / "recovered.db.aside.left.jsonl"
    left.write_text(left.read_text().replace('"A"', '"A2"'))
    done = dbsync("repair", "--put-back", left, *words)
    assert (done.returncode, "put back: 1 row\n" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"table": "product"}', '{"table": 3, "row": {"a": 1}}', '{"table": "t", "row": {}}',
     '{"table": "t", "rowid": "x", "row": {"a": 1}}', '{"table": "t", "row": {"a": {"bytes": "zz"}}}'],
)  # fmt: skip
def test_a_file_of_another_form_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    database, path = shop(tmp_path), aside(tmp_path, ROWS[2])
    path.write_text(path.read_text() + line + "\n")
    before = database.read_bytes()
    with pytest.raises(UnreadableFile, match="line 2"):
        reviewed_rows.read(path)
    done = dbsync("repair", "--put-back", path, "--database", database)
    assert (done.returncode, "Traceback" in done.stderr, database.read_bytes()) == (4, False, before)


def test_one_of_both_ways_is_asked_for(tmp_path: Path) -> None:
    database = shop(tmp_path)
    for words in ((), ("--into", "x.db", "--put-back", "y"), ("--into", "x.db", "--dry-run")):
        assert dbsync("repair", *words, "--database", database).returncode == 2
