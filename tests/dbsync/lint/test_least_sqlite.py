"""The least SQLite that migrations need, found by their words."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbsync.lint.least_sqlite import least_sqlite
from tests.helpers.shop import written


@pytest.mark.parametrize(
    ("sql", "version"),
    [
        ("CREATE TABLE a (x INT) STRICT;", "3.37"),
        ("CREATE TABLE a (x INT, strict INT);", ""),
        ("CREATE TABLE a (x INT) WITHOUT ROWID, STRICT;", "3.37"),
        ("ALTER TABLE a DROP COLUMN x;", "3.35"),
        ("ALTER TABLE a DROP x;", "3.35"),
        ("ALTER TABLE a RENAME COLUMN x TO y;", ""),
        ("INSERT INTO a VALUES (1) RETURNING x;", "3.35"),
        ("INSERT INTO a VALUES ('returning');", ""),
        ("UPDATE a SET x = y ->> '$.b';", "3.38"),
        ("UPDATE a SET x = '->>';", ""),
        ("CREATE VIEW v AS SELECT * FROM a RIGHT OUTER JOIN b USING (x);", "3.39"),
        ("DELETE FROM a WHERE x IS NOT DISTINCT FROM y;", "3.39"),
        ("UPDATE a SET x = jsonb_set(y, '$.a', 1);", "3.45"),
        ("UPDATE a SET x = concat(y, z);", "3.44"),
        ("UPDATE a SET concat = 1;", ""),
        ('"""A step."""\n\n\ndef up(db):\n    db.execute("UPDATE a SET x = unhex(y)")\n', "3.41"),
    ],
)
def test_a_feature_asks_for_its_version_and_a_name_does_not(tmp_path: Path, sql: str, version: str) -> None:
    needed = least_sqlite(written(tmp_path / "m", "CREATE TABLE a (x);", sql))
    assert (needed.version if needed else "") == version
    if needed:
        assert needed.where == "0002_step"


def test_the_newest_of_all_counts(tmp_path: Path) -> None:
    found = written(tmp_path / "m", "CREATE TABLE a (x) STRICT;", "UPDATE a SET x = y -> 1;", "ALTER TABLE a DROP x;")
    assert least_sqlite(found) == ("3.38", "->", "0002_step")
