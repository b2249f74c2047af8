"""Definitions before and after, token by token: names with spaces and quotes, strings with spaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbsync.model import Outcome
from tests.helpers.shop import upgrade, written

TABLE = """CREATE TABLE box (
    id INTEGER PRIMARY KEY, "net ""kg"" of it" INTEGER CHECK ("net ""kg"" of it" >= 0),
    kind TEXT CHECK (kind <> 'a  b'), double AS ("net ""kg"" of it" * 2), UNIQUE (kind, "net ""kg"" of it")
);
CREATE INDEX heavy ON box("net ""kg"" of it") WHERE "net ""kg"" of it" > 10;
"""


def after(tmp_path: Path, step: str) -> Outcome:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    found = written(tmp_path / "m", TABLE, step)
    assert upgrade(database, found[:1]).ready
    return upgrade(database, found)


@pytest.mark.parametrize("name", ['"gross weight"', "weight", '"it\'s ""so"" now"'])
def test_a_renamed_column_is_the_same_wherever_it_is_named(tmp_path: Path, name: str) -> None:
    step = f'ALTER TABLE box RENAME COLUMN "net ""kg"" of it" TO {name};'
    outcome = after(tmp_path, f'-- changes: rename box."net ""kg"" of it" -> box.{name}\n{step}')
    assert outcome.name == "MIGRATED", outcome.cause


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("'a  b'", "'a b'", "box has lost CHECK (kind <> 'a  b')"),
        ('"net ""kg"" of it" >= 0', '"net ""kg"" of it" > 0', 'box has lost CHECK (net "kg" of it >= 0)'),
        ("* 2", "* 3", "box.double: definition changed (expression)"),
        ("UNIQUE (kind, ", "UNIQUE (kind, id, ", 'box has lost UNIQUE (kind binary, net "kg" of it binary)'),
    ],
)
def test_another_token_is_another_definition(tmp_path: Path, old: str, new: str, words: str) -> None:
    table, index = TABLE.replace(old, new).split(";\n")[:2]
    step = f"""{table.replace("TABLE box", "TABLE new_box")};
INSERT INTO new_box (id, "net ""kg"" of it", kind) SELECT id, "net ""kg"" of it", kind FROM box;
DROP TABLE box; ALTER TABLE new_box RENAME TO box; {index};"""
    outcome = after(tmp_path, step)
    assert outcome.name == "VERIFICATION_FAILED", outcome.cause
    assert words in outcome.cause
