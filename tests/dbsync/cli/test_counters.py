"""`dbsync counters`: the numbers and gaps of a real database, and what a person does about a mark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbsync.counters import marks
from tests.dbsync.cli.test_check import dbsync
from tests.dbsync.database.test_counting import made_shop, marks_of, migration_backup, numbers
from tests.helpers.shop import effects, files

MARK_TOO_HIGH = 50_000_000


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shop of schema 2 whose counters are on record."""
    database = made_shop(tmp_path)
    effects(database).note_counters(())
    return database


def with_mark(database: Path, name: str, number: int) -> None:
    """Let the file of the marks say that a counter was seen so high."""
    path = effects(database).marks_path
    known = marks.read(path)
    assert known is not None
    marks.write(
        known.with_numbers({name: number}, "2026-11-28T10:00:00.000Z"), path=path, database=path.with_name("till.db")
    )


def test_every_counter_is_shown_with_its_number_and_its_mark_and_nothing_changes(shop: Path) -> None:
    before = files(shop.parent)
    done = dbsync("counters", "--database", shop)
    assert (done.returncode, done.stderr) == (0, "")
    receipt, ids = done.stdout.splitlines()
    assert receipt.split()[:5] == ["receipt", "10", "highest", "seen", "10"]
    assert receipt.endswith("Printed on paper")
    assert ids.split()[:5] == ["sqlite_sequence:ticket", "9", "highest", "seen", "9"]
    assert files(shop.parent) == before


def test_a_gap_is_shown_in_words_and_for_programs(shop: Path) -> None:
    done = dbsync("restore", "--database", shop, "--accept-loss", "--yes", migration_backup(shop).path)
    assert done.returncode == 6, done.stdout + done.stderr
    assert numbers(shop) == (10, 9)
    shown = dbsync("counters", "--database", shop).stdout
    told = json.loads(dbsync("counters", "--database", shop, "--json").stdout)
    assert {counter["name"]: counter["number"] for counter in told["counters"]} == {
        "receipt": 10,
        "sqlite_sequence:sale": 9,
    }
    (explained,) = told["gaps"]
    assert (explained["done"], told["explanation"]) == (True, None)
    assert [(gap["counter"], gap["first"], gap["last"]) for gap in explained["gaps"]] == [
        ("receipt", 6, 9),
        ("sqlite_sequence:sale", 6, 9),
    ]
    assert explained["folder"] in shown


def test_a_mark_that_is_right_is_used_and_explained(shop: Path) -> None:
    with_mark(shop, "receipt", MARK_TOO_HIGH)
    done = dbsync("counters", "--database", shop, "--raise", "receipt", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert numbers(shop) == (MARK_TOO_HIGH, 9)
    (explained,) = told["gaps"]
    assert (explained["folder"], explained["done"]) == (told["explanation"], True)
    assert [(gap["first"], gap["last"]) for gap in explained["gaps"]] == [(10, MARK_TOO_HIGH - 1)]


def test_a_mark_that_is_wrong_is_given_up(shop: Path) -> None:
    with_mark(shop, "receipt", MARK_TOO_HIGH)
    done = dbsync("counters", "--database", shop, "--forget", "receipt", "--yes")
    assert done.returncode == 0, done.stderr
    assert numbers(shop) == (10, 9)
    assert marks_of(shop)["receipt"] == 10
    assert not (shop.parent / "backups" / "reports").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--raise", "receipt", "--forget", "receipt", "--yes"), 2, "exclude each other"),
        (("--raise", "receipt"), 4, "nobody answered. Nothing was changed. Pass --yes"),
        (("--raise", "nothing", "--yes"), 4, "there is no nothing; there are: receipt, sqlite_sequence:ticket"),
    ],
    ids=["both", "nobody agrees", "no counter"],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    shop: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    with_mark(shop, "receipt", MARK_TOO_HIGH)
    marked = marks_of(shop)
    done = dbsync("counters", "--database", shop, *words)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert (numbers(shop), marks_of(shop)) == ((10, 9), marked)
