"""Two database files are the same, or not: what a check found of one must not be claimed of a different other."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.errors import DiskProblem
from dbsync.storage import same_pages as pages
from dbsync.storage.files import READ_SIZE_BYTES
from dbsync.storage.same_pages import same_pages

ROWS_COUNT = 3000


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A finished copy of some pages."""
    path = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        made.executemany("INSERT INTO t (b) VALUES (?)", [("x" * 200,)] * ROWS_COUNT)
    return path


def over(copied: Path, database: Path, *, mode: str) -> Path:
    """A database of another content over which the copy was put, through SQLite."""
    with closing(sqlite3.connect(database, isolation_level=None)) as live, closing(sqlite3.connect(copied)) as source:
        live.execute(f"PRAGMA journal_mode={mode}")
        live.execute("CREATE TABLE other (x)")
        source.backup(live)
    return database


def changed(path: Path, at: int) -> None:
    """Another byte at this place."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_that_was_put_over_another_one_is_the_same(tmp_path: Path, copied: Path, mode: str) -> None:
    database = over(copied, tmp_path / "live.db", mode=mode)
    assert copied.read_bytes() != database.read_bytes(), "the counters in the header are its own"
    assert same_pages(copied=copied, database=database)


@pytest.mark.parametrize("at", [0, 16, 18, 20, 28, 36, 44, 60, 100, 4096 * 3 + 17, -1])
def test_one_other_byte_is_seen(tmp_path: Path, copied: Path, at: int) -> None:
    database = over(copied, tmp_path / "live.db", mode="delete")
    changed(database, at if at >= 0 else database.stat().st_size + at)
    assert not same_pages(copied=copied, database=database)


def test_a_file_that_is_longer_or_has_a_part_beside_it_is_not_the_same(tmp_path: Path, copied: Path) -> None:
    database = over(copied, tmp_path / "live.db", mode="delete")
    beside = Path(f"{database}-wal")
    beside.write_bytes(b"some frames")
    assert not same_pages(copied=copied, database=database)
    beside.unlink()
    assert same_pages(copied=copied, database=database)
    with database.open("ab") as file:
        file.write(bytes(4096))
    assert not same_pages(copied=copied, database=database)


def test_the_page_of_the_locks_is_not_content_and_the_one_after_it_is(
    tmp_path: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "live.db"
    shutil.copyfile(copied, database)
    monkeypatch.setattr(pages, "LOCK_PAGE_AT", READ_SIZE_BYTES)
    changed(database, READ_SIZE_BYTES + 100)
    assert same_pages(copied=copied, database=database)
    changed(database, READ_SIZE_BYTES + 4096)
    assert not same_pages(copied=copied, database=database)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, copied: Path) -> None:
    database = tmp_path / "live.db"
    database.mkdir()
    with pytest.raises(DiskProblem):
        same_pages(copied=database, database=database)
