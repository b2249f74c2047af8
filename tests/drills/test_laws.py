"""The drill of the laws: faults in a few random cases; the drill itself, whose oracle must see what is planted.

All of it: python -m tests.drills.laws random | lineages | faults
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.drills.faults import native_code
from tests.drills.laws import faults
from tests.drills.laws.course import Case, Course
from tests.drills.laws.judge import Law, Violation
from tests.drills.laws.schemas import Column, Schema, Table
from tests.drills.laws.steps import Step

pytestmark = [pytest.mark.slow]


def reason_not_to() -> str:
    """Return why this machine cannot disturb calls; empty if it can."""
    try:
        native_code.compiler()
    except native_code.CannotDrill as cause:
        return str(cause)
    return ""


@pytest.mark.skipif(bool(reason_not_to()), reason=reason_not_to())
def test_nothing_is_in_no_place_after_a_fault_on_the_way_back_or_up() -> None:
    found = list(faults.started(faults.Job(seed=1, runs=2, points=3, shim=str(native_code.shim()))))
    assert len(found) > 6
    assert [case for case in found if case.found] == []


# ---------------------------------------------------------------------------------------------------- the drill itself


def till() -> Case:
    """A table with a number, one with a key of its own, and a migration that adds a column to each."""
    sale = Table(1, "sale", "auto", [Column(2, "k", "INTEGER"), Column(3, "cents", "INTEGER")], (2,))
    product = Table(4, "product", "text", [Column(5, "sku", "TEXT", not_null=True), Column(6, "name", "TEXT")], (5,))
    before = Schema([sale, product], [], 10)
    added = [Column(7, "note"), Column(8, "color")]
    after = Schema(
        [
            Table(1, "sale", "auto", [*sale.columns, added[0]], (2,)),
            Table(4, "product", "text", [*product.columns, added[1]], (5,)),
        ],
        [],
        10,
    )
    statements = ["ALTER TABLE sale ADD COLUMN note", "ALTER TABLE product ADD COLUMN color"]
    step = Step("add columns", after, statements=statements)
    filled = ["INSERT INTO sale (cents) VALUES (1), (2), (3)", "INSERT INTO product VALUES ('a', 'A'), ('b', 'B')"]
    trade = [
        "INSERT INTO sale (cents) VALUES (4)",
        "INSERT INTO sale (cents) VALUES (5)",
        "DELETE FROM sale WHERE k = 5",
        "UPDATE sale SET cents = 20, note = 'twenty' WHERE k = 2",
        "UPDATE product SET name = 'AA' WHERE sku = 'a'",
    ]
    return Case(0, [before, after], [step], [False], 1, filled, trades=[trade], older_trade=[])


PLANTED = {
    "UPDATE sale SET cents = 1.5 WHERE k = 1": Law.UNTOUCHED,
    "UPDATE sale SET cents = '1' || char(0) WHERE k = 3": Law.UNTOUCHED,
    "DELETE FROM product WHERE sku = 'b'": Law.UNTOUCHED,
    "UPDATE sale SET cents = 2 WHERE k = 2": Law.LIVE,
    "DELETE FROM sale WHERE k = 4": Law.LIVE,
    "INSERT INTO sale VALUES (9, 9)": Law.STRANGE,
    "INSERT INTO product VALUES ('c', 'C')": Law.STRANGE,
    "UPDATE sqlite_sequence SET seq = 4": Law.MARKS,
    "CREATE INDEX i ON sale (cents); DROP TABLE product": Law.STRUCTURE,
    "DELETE FROM dbsync_kept_cells": Law.PARKED,
    "UPDATE dbsync_kept_cells SET value = 'twelve' WHERE value = 'twenty'": Law.PARKED,
}
"""The damage to the older database behind the product's back, and the law that must see it."""


@pytest.mark.parametrize("damage", PLANTED)
def test_the_oracle_sees_what_is_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    ended = run(tmp_path, monkeypatch, "down", lambda made: made[0], damage)
    assert PLANTED[damage] in {found.law for found in ended}


PLANTED_UP = {
    "UPDATE sale SET note = NULL": Law.UP_AGAIN,
    "UPDATE sale SET note = 'other' WHERE k = 3": Law.UP_AGAIN,
    "DELETE FROM product WHERE sku = 'a'": Law.UP_AGAIN,
    "DROP TABLE product": Law.UP_AGAIN,
}


@pytest.mark.parametrize("damage", PLANTED_UP)
def test_the_judge_of_going_up_sees_what_is_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    ended = run(tmp_path, monkeypatch, "up", lambda made: made, damage, after=1)
    assert PLANTED_UP[damage] in {found.law for found in ended}


def run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path_of: Callable[..., Path],
    damage: str,
    *,
    after: int = 1,
) -> list[Violation]:
    """Run the case of `till`, and damage what a step of the course made, but for its first results."""
    real, calls = getattr(Course, method), 0

    def damaged(*words: object) -> object:
        nonlocal calls
        made = real(*words)
        calls += 1
        if calls > after and made is not None:
            with closing(sqlite3.connect(path_of(made))) as connection, connection:
                connection.executescript(damage)
        return made

    clean = folder / "clean"
    clean.mkdir()
    assert Course(till(), clean).run().violations == []
    monkeypatch.setattr(Course, method, damaged)
    place = folder / "damaged"
    place.mkdir()
    return Course(till(), place).run().violations
