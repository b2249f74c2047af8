"""The check of `counters.toml` against the migrations beside it: what is found, and at which place."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbsync.lint import counters
from tests.helpers.shop import written

ONE = """CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT);
INSERT INTO settings VALUES ('next', '1'), ('shop', 'Corner');
CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, receipt INTEGER);
"""
RENAMED = """-- changes: rename settings -> conf
ALTER TABLE settings RENAME TO conf;
"""
LATER = "CREATE TABLE cursors (key, at); INSERT INTO cursors VALUES ('sync', 0);"
HEAD = '[[counter]]\nname = "receipt"\ndescription = "On paper"\n'
ROW = HEAD + 'table = "{}"\ncolumn = "{}"\nwhere = "key = \'{}\'"\n'


def found(folder: Path, declared: str, *texts: str) -> list[str]:
    """The sentences about a folder with this declaration; all name its file."""
    migrations = written(folder / "m", *texts)
    path = folder / "m" / "counters.toml"
    if declared:
        path.write_text(declared)
    problems = list(counters.problems(folder / "m", migrations))
    assert {where for where, _ in problems} <= {str(path)}
    assert sorted(entry.name for entry in (folder / "m").iterdir() if entry.name != "__pycache__") == [
        *(f"{number:04d}_step.sql" for number in range(1, len(texts) + 1)), *(["counters.toml"] if declared else []),
    ]  # fmt: skip
    return [what for _, what in problems]


@pytest.mark.parametrize(
    ("declared", "texts"),
    [
        ("", (ONE,)),
        (ROW.format("settings", "value", "next"), (ONE,)),
        (ROW.format("conf", "value", "next"), (ONE, RENAMED)),
        (HEAD + 'table = "sale"\ncolumn = "id"\n', (ONE, RENAMED)),
        # It begins with a later schema.
        (ROW.format("cursors", "at", "sync"), (ONE, LATER)),
    ],
    ids=["none", "row", "renamed", "autoincrement", "later"],
)  # fmt: skip
def test_a_counter_that_can_be_read_and_raised_in_every_schema_passes(
    tmp_path: Path, declared: str, texts: tuple[str, ...]
) -> None:
    assert found(tmp_path, declared, *texts) == []


@pytest.mark.parametrize(
    ("declared", "texts", "words"),
    [
        (ROW.format("conf", "value", "next"), (ONE,), "cannot be read in the newest schema: no such table: conf"),
        (ROW.format("settings", "amount", "next"), (ONE,), "newest schema: no such column: settings.amount"),
        (ROW.format("settings", "value", "shop"), (ONE,), "it holds str, not an integer"),
        (ROW.format("settings", "value", "last"), (ONE,), "it must be raised to 1000, and is None after"),
        (HEAD + 'table = "sale"\ncolumn = "receipt"\n', (ONE,), "sale.receipt is no AUTOINCREMENT key"),
        (
            HEAD + 'query = "SELECT max(receipt) FROM sale"\nupdate = "UPDATE sale SET receipt = ?"\n', (ONE,),
            "it must be raised to 1000, and is None after",
        ),
        (
            ROW.format("settings", "value", "next"), (ONE, "DROP TABLE settings;", ONE.replace("sale", "ticket")),
            "it is in schema 1, and cannot be followed to schema 2",
        ),
    ],
    ids=["no table", "no column", "no number", "no row", "no key", "update of nothing", "gone in between"],
)  # fmt: skip
def test_a_counter_that_cannot_be_read_or_raised_is_named(
    tmp_path: Path, declared: str, texts: tuple[str, ...], words: str
) -> None:
    (what,) = found(tmp_path, declared, *texts)
    assert what.startswith("counter 'receipt': ")
    assert words in what


def test_a_declaration_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (what,) = found(tmp_path, HEAD, ONE)
    assert "counter 'receipt': table is missing" in what


def test_every_counter_is_tried_and_each_that_fails_is_named(tmp_path: Path) -> None:
    bad = ROW.format("conf", "value", "next").replace("receipt", "other")
    told = found(tmp_path, ROW.format("settings", "value", "next") + bad, ONE)
    assert [what.partition(":")[0] for what in told] == ["counter 'other'"]
