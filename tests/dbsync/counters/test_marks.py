"""The file of the marks: written durably, never lowered, and three answers where it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbsync.counters import marks
from dbsync.counters.declaration import Rename, mark_of
from dbsync.counters.marks import Mark, Marks
from dbsync.errors import DiskProblem, UnreadableFile
from dbsync.model import SchemaNumber
from tests.helpers.shop import files, written

AT = "2026-11-29T06:00:00.000Z"


def test_what_is_written_is_read_and_no_number_is_ever_lowered(tmp_path: Path) -> None:
    path = marks.path_of(backups=tmp_path / "backups", database=tmp_path / "till.db")
    known = Marks().with_numbers({"Receipt": 7, "none": None}, AT).with_numbers({"receipt": 3}, "later")
    assert known.marks == {"receipt": Mark(7, AT)}
    known = known._replace(renames=(Rename(SchemaNumber(2), "sale", "ticket"),))
    assert marks.read(path) is None
    marks.write(known, path=path, database=path.with_name("till.db"))
    assert marks.read(path) == known
    assert files(tmp_path) == {"backups/till.db.counters.json"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"format": 2, "marks": {}, "declared": {}, "renames": []}',
        '{"format": 1, "marks": {"a": {"number": -1, "at": ""}}, "declared": {}, "renames": []}',
        '{"format": 1, "marks": {"a": {"number": true, "at": ""}}, "declared": {}, "renames": []}',
        '{"format": 1, "marks": {"a": {"number": 99999999999999999999, "at": ""}}, "declared": {}, "renames": []}',
        '{"format": 1, "marks": {}, "declared": {"1": [{"name": "x"}]}, "renames": []}',
        '{"format": 1, "marks": {}, "declared": {}}',
        '{"format": 1, "marks": [], "declared": {}, "renames": []}',
    ],
)
def test_a_damaged_file_is_not_no_marks(tmp_path: Path, text: str) -> None:
    path = tmp_path / "till.db.counters.json"
    path.write_text(text)
    with pytest.raises(UnreadableFile):
        marks.read(path)
    kept = marks.set_aside(path, "now")
    assert kept.read_text() == text
    assert files(tmp_path) == {kept.name}


def test_a_file_that_cannot_be_read_now_is_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "till.db.counters.json"
    path.mkdir()
    with pytest.raises(DiskProblem):
        marks.read(path)


def test_the_counter_of_a_table_is_known_by_all_names_that_the_table_had() -> None:
    renames = (Rename(SchemaNumber(2), "sale", "ticket"), Rename(SchemaNumber(4), "ticket", "receipt"))
    known = Marks(renames=renames)
    for table, version in (("Sale", 1), ("ticket", 3), ("receipt", 4)):
        names = known.names_of(mark_of(table), version)
        assert set(names) == {"sqlite_sequence:sale", "sqlite_sequence:ticket", "sqlite_sequence:receipt"}
    # Another table of that name, at another time.
    assert known.names_of(mark_of("sale"), 2) == ("sqlite_sequence:sale", "sqlite_sequence:sale")


def test_an_older_release_takes_no_declaration_away_and_a_newer_one_does(tmp_path: Path) -> None:
    text = '[[counter]]\nname = "n"\ndescription = "x"\ntable = "t"\ncolumn = "v"\nwhere = "1"\n'
    found = written(tmp_path / "two", "CREATE TABLE t (v);", "ALTER TABLE t ADD COLUMN w;")
    (tmp_path / "two" / "counters.toml").write_text(text)
    known = Marks().with_release(found)
    assert [counter.name for counter in known.at(2)] == ["n"]
    older = written(tmp_path / "one", "CREATE TABLE t (v);")
    assert known.with_release(older) == known
    (tmp_path / "one" / "counters.toml").write_text(text.replace('"n"', '"m"'))
    assert [counter.name for counter in known.with_release(older).at(1)] == ["m", "n"]
    newer = written(tmp_path / "three", "CREATE TABLE t (v);", "ALTER TABLE t ADD COLUMN w;", "CREATE TABLE u (x);")
    assert known.with_release(newer).at(2) == ()
    assert known.with_release(()) == known
