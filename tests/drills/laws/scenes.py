"""Cases written by hand: what chance makes too rarely, one scene for each mistake that the laws must see."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

from tests.drills.laws import steps
from tests.drills.laws.course import Case
from tests.drills.laws.schemas import Column, Schema, Table, Thing
from tests.drills.laws.steps import Step

FILLED: Final = (
    "INSERT INTO item (code, n, a) VALUES ('p', 1, 1), ('q', 2, 'x'), ('r', 3, 9007199254740993), ('s', 4, NULL)",
    "INSERT INTO tag (w) VALUES ('one'), ('two'), ('three')",
)


def older(*, conflict: str = "") -> Schema:
    """Return the first version: items, tags that are known by their rowids, an index of words without content."""
    item = Table(
        1, "item", "auto",
        [
            Column(2, "k", "INTEGER"), Column(3, "code", "TEXT", unique=True, conflict=conflict),
            Column(4, "n", "INTEGER", check="coalesce({0}, 0) < 10"), Column(5, "a"),
        ],
        (2,),
    )  # fmt: skip
    tag = Table(6, "tag", "rowid", [Column(7, "w", "TEXT")])
    words = Thing(
        "virtual", "words", 1, (),
        (
            "CREATE VIRTUAL TABLE words USING fts5(w, content='')",
            "INSERT INTO words (rowid, w) VALUES (1, 'old words')",
        ),
    )  # fmt: skip
    return Schema([item, tag], [words], 20)


def added(before: Schema) -> Step:
    """A column and a table are added."""
    after = copy.deepcopy(before)
    after.tables[0].columns.append(Column(8, "note"))
    after.tables.append(Table(9, "color", "text", [Column(10, "name", "TEXT", not_null=True), Column(11, "v")], (10,)))
    statements = ["ALTER TABLE item ADD COLUMN note", after.tables[-1].sql(after)]
    return Step("add a column and a table", after, statements=statements)


def loosened(before: Schema, column: str) -> Step:
    """A column loses its constraints."""
    after = copy.deepcopy(before)
    item = after.tables[0]
    found = next(each for each in item.columns if each.name == column)
    found.check, found.unique, found.conflict = "", False, ""
    changes = ["redefine item", f"redefine item.{column}"]
    return Step(f"any {column}", after, changes, rebuilds=[("item", item.body(after))])


def converted(before: Schema) -> Step:
    """Cents become euros."""
    after = copy.deepcopy(before)
    item = after.tables[0]
    old, new = item.columns.pop(), Column(12, "euro")
    item.columns.append(new)
    statements = [
        "ALTER TABLE item ADD COLUMN euro",
        "UPDATE item SET euro = CASE typeof(a) WHEN 'integer' THEN a / 100.0 ELSE a END",
        "ALTER TABLE item DROP COLUMN a",
    ]
    body, down = steps.cents_again(item, old=old, new=new, fails=False)
    return Step("euros", after, ["drop column item.a"], statements, down_row=body, down=down)


def dropped(before: Schema) -> Step:
    """A column is dropped."""
    after = copy.deepcopy(before)
    after.tables[0].columns.pop()
    return Step("drop a column", after, ["drop column item.a"], ["ALTER TABLE item DROP COLUMN a"])


def scene(
    before: Schema,
    step: Step,
    *traded: str,
    filled: Sequence[str] = FILLED,
    older_trade: Sequence[str] = (),
    people: Sequence[str] = (),
) -> Case:
    """Return a case with one migration and one round."""
    trades = [list(traded)]
    return Case(0, [before, step.after], [step], [False], 1, list(filled), [], trades, list(people), list(older_trade))


REFUSED: Final = "UPDATE item SET code = 'new', n = 99, a = 'y' WHERE k = 2"
SCENES: Final = {
    "two rows meet in a column that replaces": scene(
        older(conflict="REPLACE"), loosened(older(conflict="REPLACE"), "code"), "UPDATE item SET code = 'p' WHERE k = 3"
    ),
    "two rows meet in a column that ignores": scene(
        older(conflict="IGNORE"), loosened(older(conflict="IGNORE"), "code"), "UPDATE item SET code = 'p' WHERE k = 3"
    ),
    "values change places": scene(
        older(), added(older()),
        "UPDATE item SET code = 'aside' WHERE k = 1", "UPDATE item SET code = 'p' WHERE k = 2",
        "UPDATE item SET code = 'q' WHERE k = 1",
    ),
    "one cell is refused": scene(older(), loosened(older(), "n"), REFUSED),
    "a refused row stands beside one that needs its value": scene(
        older(), loosened(older(), "n"), REFUSED, "UPDATE item SET code = 'q' WHERE k = 3",
        "INSERT INTO item (code, n) VALUES ('t', 50), ('u', 5)",
    ),
    "a refused cell is changed on the older version": scene(
        older(), loosened(older(), "n"), REFUSED, older_trade=["UPDATE item SET n = 5 WHERE k = 2"]
    ),
    "a refused row's number is given anew": scene(
        older(), loosened(older(), "n"), "INSERT INTO item (code, n) VALUES ('t', 50)",
        older_trade=["INSERT INTO item (code, n) VALUES ('t', 6)", "DELETE FROM item WHERE k = 1"],
    ),
    "the same number in another storage class": scene(
        older(), added(older()), "UPDATE item SET a = 1.0 WHERE k = 1", "UPDATE item SET a = '1' WHERE k = 2",
        "UPDATE item SET a = -0.0 WHERE k = 4",
    ),
    "a rowid that others may know": scene(
        older(), added(older()), "INSERT INTO tag (rowid, w) VALUES (70, 'far')", "DELETE FROM tag WHERE rowid = 2"
    ),
    "the highest number is gone": scene(
        older(), added(older()), "INSERT INTO item (k, code) VALUES (90, 't')", "DELETE FROM item WHERE k >= 4"
    ),
    "a column of people": scene(
        older(), added(older()), people=["ALTER TABLE tag ADD COLUMN late_own", "UPDATE tag SET late_own = 'mine'"]
    ),
    "objects of people": scene(
        older(), added(older()),
        people=[
            "CREATE INDEX late_index ON item (note)", "CREATE VIEW late_view AS SELECT note FROM item",
            "CREATE TABLE late_table (k INTEGER PRIMARY KEY, own)", "INSERT INTO late_table (own) VALUES (1), ('1')",
        ],
    ),
    "rows and cells that only the newer version has": scene(
        older(), added(older()), "INSERT INTO color VALUES ('red', x'00ff'), ('blue', NULL)",
        "UPDATE item SET note = 'mine' WHERE k = 3", "UPDATE item SET note = 'yours', n = 7 WHERE k = 1",
        older_trade=["DELETE FROM item WHERE k = 3", "UPDATE item SET n = 8 WHERE k = 1"],
    ),
    "a conversion, in a row of which another cell changes": scene(
        older(), converted(older()), "UPDATE item SET n = 6 WHERE k = 3", "UPDATE item SET euro = 0.25 WHERE k = 1"
    ),
    "a column that only the older version has": scene(
        older(), dropped(older()), "UPDATE item SET n = 6 WHERE k = 3", "DELETE FROM item WHERE k = 1"
    ),
    "a search index without content": scene(
        older(), added(older()), "INSERT INTO words (rowid, w) VALUES (4, 'new words')"
    ),
}  # fmt: skip
"""By what happens in it."""
