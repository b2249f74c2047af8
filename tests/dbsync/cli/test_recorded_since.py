"""The numbers of `dbsync diff`, of a dry run and of going back are those of people; and every text passes through."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbsync.model import Loss
from dbsync.storage.raw_text import lines_of
from dbsync.upgrade import restore_decision
from dbsync.verification import exports
from tests.helpers.accounts import Done, run
from tests.helpers.shop import effects

FIRST = "CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER, cur TEXT);"
SECOND = """-- changes: update sale.cents
UPDATE sale SET cents = cents * 10;
CREATE TABLE tax (id INTEGER PRIMARY KEY, rate INTEGER);
INSERT INTO tax VALUES (1, 19), (2, 7);
ALTER TABLE sale ADD COLUMN note TEXT;"""
ODD = "".join(map(chr, [*range(1, 32), 0x7F, *range(0x80, 0xA0), 0x2028, 0x2029, 0xFEFF])) + "\r\n'\"\\,;é😀"
"""Every control character, and every character at which `str.splitlines` splits."""


def write(database: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database)) as live, live:
        live.execute(statement, values)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A database whose migration has changed every row, and on which nothing was recorded since."""
    database, folder = tmp_path / "data" / "shop.db", tmp_path / "release"
    database.parent.mkdir()
    folder.mkdir()
    (folder / "0001_first.sql").write_text(FIRST)
    assert run("upgrade", "--migrations", folder, "--database", database).status == 0
    for number in range(20):
        write(database, "INSERT INTO sale (cents, cur) VALUES (?, 'EUR')", number)
    (folder / "0002_second.sql").write_text(SECOND)
    assert run("upgrade", "--migrations", folder, "--database", database).status == 0
    return database


def told(database: Path, *words: object) -> tuple[int, dict[str, Any]]:
    done = run(*words, "--json", "--database", database)
    return done.status, json.loads(done.said)


def backup_of(database: Path) -> Path:
    return next((database.parent / "backups").glob("*-v1-*.db"))


def restored(database: Path) -> Done:
    return run("restore", backup_of(database).name, "--dry-run", "--database", database)


def test_the_edits_of_the_migration_are_not_counted_as_recorded(shop: Path) -> None:
    assert told(shop, "diff") == (0, told(shop, "diff")[1])
    assert told(shop, "diff")[1]["done"] == []
    assert "nothing was added, changed or removed" in restored(shop).said
    write(shop, "INSERT INTO sale (cents, cur) VALUES (990, 'EUR')")
    write(shop, "UPDATE tax SET rate = 20 WHERE id = 1")
    wanted = [Loss("sale", 1, 0, 0), Loss("tax", 0, 1, 0)]
    assert told(shop, "diff")[1]["done"] == [loss._asdict() for loss in wanted]
    said = restored(shop).said
    assert ("since then, sale: 1 added, 0 changed" in said, "since then, tax: 0 added, 1 changed" in said) == (
        True,
        True,
    )
    # What `updater rollback --dry-run` shows.
    change = restore_decision.what_would_be_lost(effects(shop), backup=backup_of(shop))
    assert (change.known, list(change.losses)) == (True, wanted)
    assert not list((shop.parent / "backups").glob(".part-*"))


def test_without_the_migrations_the_difference_from_the_backup_itself_is_told(shop: Path) -> None:
    """More than was recorded, never less."""
    for path in (shop.parent / "backups").glob("*.migrations/*"):
        path.unlink()
    write(shop, "INSERT INTO sale (cents, cur) VALUES (990, 'EUR')")
    change = restore_decision.what_would_be_lost(effects(shop), backup=backup_of(shop))
    assert (change.known, Loss("sale", 1, 19, 0) in change.losses) == (True, True)


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["people", "programs"])
def test_diff_ends_with_5_where_a_person_must_decide(shop: Path, tmp_path: Path, as_json: tuple[str, ...]) -> None:
    lossless = run("diff", *as_json, "--database", shop)
    write(shop, "UPDATE sale SET note = 'new' WHERE id = 1")
    loses = run("diff", *as_json, "--database", shop)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "0001_other.sql").write_text("CREATE TABLE other (id);")
    cannot = run("diff", *as_json, "--migrations", tmp_path / "other", "--database", shop)
    assert (lossless.status, loses.status, cannot.status) == (0, 5, 5)
    assert ("cannot be carried back" in cannot.said) is (as_json == ())
    again = run("downgrade", "--yes", "--database", shop)
    assert again.status == 5


def test_every_character_goes_through_diff_downgrade_and_history(shop: Path, tmp_path: Path) -> None:
    write(shop, "INSERT INTO sale (cents, cur, note) VALUES (1, ?, ?)", ODD, ODD)
    write(shop, "UPDATE sale SET note = ? WHERE id = 3", ODD)
    status, shown = told(shop, "diff", "--export", tmp_path / "export")
    assert (status, shown["lost"]) == (5, [Loss("sale", 0, 2, 0)._asdict()])
    assert {row[3] for row in exports.read_csv(tmp_path / "export" / "sale.csv")[1]} == {ODD}
    done = run("downgrade", "--yes", "--accept-loss", "--database", shop)
    assert done.status == 6, done.said
    assert "comes back with the newer schema" in done.said
    (parked,) = (shop.parent / "backups" / "reports").rglob("parked.jsonl")
    rows = [exports.from_json(json.loads(line)["row"]) for line in lines_of(parked.read_text(encoding="utf-8"))]
    assert [row["note"] for row in rows] == [ODD, ODD]
    assert len(parked.read_text(encoding="utf-8").splitlines()) == 2
    with closing(sqlite3.connect(shop)) as live:
        assert live.execute("SELECT cur FROM sale WHERE cents = 1 AND id > 20").fetchone() == (ODD,)
    folder = tmp_path / "fails"
    folder.mkdir()
    (folder / "0001_first.sql").write_text(FIRST)
    (folder / "0002_fails.py").write_text(f'"""Fails."""\n\n\ndef up(db):\n    raise ValueError({ODD!r})\n')
    assert run("upgrade", "--migrations", folder, "--database", shop).status == 1
    status, past = told(shop, "history")
    assert status == 0
    failed = [line for line in past["runs"] if line.get("outcome") == "MIGRATION_FAILED"]
    assert [ODD[:31] in line["cause"] for line in failed] == [True]
    assert run("history", "--html", tmp_path / "history.html", "--database", shop).status == 0


def test_a_header_ends_where_its_comment_ends(tmp_path: Path) -> None:
    """SQLite ends a comment at a newline alone; what follows another separator is still the comment."""
    database, folder = tmp_path / "shop.db", tmp_path / "release"
    folder.mkdir()
    (folder / "0001_first.sql").write_text(FIRST)
    assert run("upgrade", "--migrations", folder, "--database", database).status == 0
    write(database, "INSERT INTO sale (cents) VALUES (1)")
    text = (
        "-- A note\u2028of two lines\x0cand a page\r\n-- changes: update sale.cents\r\nUPDATE sale SET cents = 2;\r\n"
    )
    (folder / "0002_second.sql").write_bytes(text.encode())
    done = run("upgrade", "--migrations", folder, "--database", database)
    assert done.status == 0, done.said
