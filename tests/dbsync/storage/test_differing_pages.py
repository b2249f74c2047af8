"""A copy is put over a database: only pages that differ are written, and a crash leaves one of both, whole."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import pytest

from dbsync.backups import restore
from dbsync.backups.catalog import list_backups
from dbsync.backups.concurrent_writes import Watch
from dbsync.commands import downgrade
from dbsync.errors import DiskProblem, TillkeeperError
from dbsync.progress import Told, nobody
from dbsync.storage import differing_pages
from dbsync.storage.files import READ_SIZE_BYTES
from dbsync.storage.same_pages import same_pages
from tests.helpers.shop import dump, effects, make_shop, released, sales, sell, upgrade

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks are mandatory there")

READ: Final = (
    "import sqlite3, sys; live = sqlite3.connect(sys.argv[1], timeout=0);"
    "print(live.execute('SELECT count(*) FROM t').fetchone()[0])"
)
CUT: Final = """
import os, signal, sys
from contextlib import closing
from pathlib import Path

from dbsync.backups.concurrent_writes import Watch
from dbsync.progress import nobody
from dbsync.storage import differing_pages, file_calls, files

source, database, left = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def counted(call):
    def then(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)
    return then

for owner, name in (
    (os, "fsync"), (differing_pages, "_write"), (file_calls, "remove"), (files, "sync_folder"), (files, "new_file"),
):
    setattr(owner, name, counted(getattr(owner, name)))
watch = Watch(database)
watch.begin()
with differing_pages.opened(database) as file, closing(watch.taken()) as live:
    assert differing_pages.replaced(source=source, live=live, file=file, told=nobody)
"""
"""Puts a copy over a database, and ends by SIGKILL before the n-th call that changes a file."""


def made(path: Path, rows_count: int, *, page_bytes: int = 4096, text: str = "x", mode: str = "delete") -> Path:
    """A database with a table and an index."""
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute(f"PRAGMA page_size={page_bytes}")
        live.execute(f"PRAGMA journal_mode={mode}")
        live.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c INTEGER)")
        live.execute("CREATE INDEX by_c ON t (c)")
        live.execute("BEGIN")
        rows = [(text * 100 + str(number), number * 7 % 1000) for number in range(rows_count)]
        live.executemany("INSERT INTO t (b, c) VALUES (?, ?)", rows)
        live.execute("COMMIT")
    return path


def copy_of(database: Path, sql: str) -> Path:
    """A copy in which this was done since."""
    copied = database.with_name("copy.db")
    shutil.copyfile(database, copied)
    with closing(sqlite3.connect(copied, isolation_level=None)) as other:
        other.execute(sql)
    return copied


def put_over(source: Path, database: Path, told: Told = nobody) -> bool:
    """Put a copy over a database that is watched, as a restore does."""
    watch = Watch(database)
    watch.begin()
    file = differing_pages.opened(database)
    assert file is not None
    with file, closing(watch.taken()) as live:
        return differing_pages.replaced(source=source, live=live, file=file, told=told)


def content(path: Path) -> list[str]:
    """Everything in a database, which is sound."""
    with closing(sqlite3.connect(path)) as live:
        assert live.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return list(live.iterdump())


CHANGES: Final = {
    "the same size": "UPDATE t SET c = c + 1 WHERE a % 900 = 0",
    "more pages": "INSERT INTO t (b, c) SELECT b || 'more', c FROM t",
    "other objects": "CREATE TABLE u (x)",
}


@pytest.mark.parametrize("page_bytes", [512, 4096, 65536])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("back", [False, True])
def test_the_database_is_the_copy(tmp_path: Path, page_bytes: int, change: str, back: bool) -> None:
    database = made(tmp_path / "live.db", 5000, page_bytes=page_bytes)
    copied = copy_of(database, CHANGES[change])
    if back:
        database, copied = copied, database
    with closing(sqlite3.connect(database)) as other:
        before = other.execute("SELECT * FROM sqlite_schema").fetchall(), other.total_changes
        (cookie,) = other.execute("PRAGMA schema_version").fetchone()
        assert put_over(copied, database)
        assert same_pages(copied=copied, database=database)
        assert other.execute("PRAGMA schema_version").fetchall() == [(cookie + 1,)], "prepared statements are made anew"
        # A connection that was open all the time sees the other database.
        assert other.execute("SELECT count(*), sum(c) FROM t").fetchall() == ask(copied)
        assert other.execute("SELECT * FROM sqlite_schema").fetchall() == before[0] or change == "other objects"
    assert content(database) == content(copied)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "live.db"]


def ask(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as live:
        return live.execute("SELECT count(*), sum(c) FROM t").fetchall()


def test_only_pages_that_differ_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = made(tmp_path / "live.db", 20_000)
    copied = copy_of(database, "UPDATE t SET b = 'y' WHERE a IN (1, 10000)")
    sizes: list[int] = []
    write = differing_pages._write

    def noted(file: BinaryIO, at: int, data: bytes) -> None:
        sizes.append(len(data))
        write(file, at, data)

    monkeypatch.setattr(differing_pages, "_write", noted)
    assert put_over(copied, database)
    assert sizes == [4096] * 3, "the header, and the leaves of two rows"
    assert content(database) == content(copied)


@pytest.mark.parametrize("sql", [CHANGES["the same size"], "INSERT INTO t (b) SELECT b FROM t"])
def test_a_process_that_is_killed_anywhere_leaves_one_of_both(tmp_path: Path, sql: str) -> None:
    origin = made(tmp_path / "origin.db", 3000)
    copied = copy_of(origin, sql)
    wanted, seen, number = (content(origin), content(copied)), [], 0
    while True:
        number += 1
        database = tmp_path / "live.db"
        shutil.copyfile(origin, database)
        words = [sys.executable, "-c", CUT, str(copied), str(database), str(number)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        assert content(database) in wanted
        seen.append(wanted.index(content(database)))
        assert not Path(f"{database}-journal").exists(), "SQLite has played it back"
        if done.returncode == 0:
            break
    # The journal's removal is the commit: all of before, then all of after.
    assert seen == sorted(seen)
    assert seen.count(1) == 3, "before the folder is opened, before it is synced, and at the end"
    assert seen.count(0) >= 9


def test_a_disk_that_fails_in_between_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = made(tmp_path / "live.db", 5000)
    copied, before = copy_of(database, "UPDATE t SET b = 'y' WHERE a % 100 = 0"), content(database)
    write, left = differing_pages._write, [5]

    def fails(*given: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(5, "Input/output error")
        write(*given)

    monkeypatch.setattr(differing_pages, "_write", fails)
    watch = Watch(database)
    watch.begin()
    with pytest.raises(DiskProblem, match=r"write .*live\.db: Input/output error"):
        restore.restore_over(source=copied, database=database, told=nobody, watch=watch)
    assert content(database) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "live.db"]


def test_a_journal_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = made(tmp_path / "live.db", 100)
    copied, before = copy_of(database, "DELETE FROM t"), content(database)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TillkeeperError, match="No space left"):
        put_over(copied, database)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "live.db"]
    assert content(database) == before


def test_nobody_reads_it_meanwhile(tmp_path: Path) -> None:
    database = made(tmp_path / "live.db", 5000)
    copied, said = copy_of(database, "DELETE FROM t"), []

    def told(*_: object, **__: object) -> None:
        done = subprocess.run([sys.executable, "-c", READ, database], capture_output=True, text=True, check=False)
        said.append(done.stderr.rpartition(": ")[2].strip())

    assert put_over(copied, database, told)
    assert set(said) == {"database is locked"}
    assert ask(database) == [(0, None)]


def wal(database: Path) -> None:
    with closing(sqlite3.connect(database)) as live:
        live.execute("PRAGMA journal_mode=WAL")


def longer(database: Path) -> None:
    with database.open("ab") as file:
        file.write(bytes(4096))


def stale_counter(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(92)
        file.write(b"\0\0\0\0")


def kept_journal(database: Path) -> None:
    Path(f"{database}-journal").write_bytes(bytes(512))


@pytest.mark.parametrize("odd", [wal, longer, stale_counter, kept_journal])
def test_what_is_not_a_whole_database_in_rollback_mode_is_left_to_sqlite(
    tmp_path: Path, odd: Callable[[Path], None]
) -> None:
    database = made(tmp_path / "live.db", 500)
    copied = copy_of(database, "DELETE FROM t")
    odd(database)
    before = database.read_bytes()
    with suppress(sqlite3.OperationalError):
        assert not put_over(copied, database)
    assert database.read_bytes() == before
    watch = Watch(database)
    watch.begin()
    restore.restore_over(source=copied, database=database, told=nobody, watch=watch)
    assert content(database) == content(copied)


@pytest.mark.parametrize("page_bytes", [1024, 8192])
def test_another_page_size_is_left_to_sqlite(tmp_path: Path, page_bytes: int) -> None:
    database = made(tmp_path / "live.db", 500)
    copied = made(tmp_path / "copy.db", 300, page_bytes=page_bytes)
    assert not put_over(copied, database)
    assert ask(database)[0][0] == 500


def test_the_page_of_the_locks_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = made(tmp_path / "live.db", 5000)
    copied = copy_of(database, "UPDATE t SET b = 'y'")
    before = database.read_bytes()
    monkeypatch.setattr(differing_pages, "LOCK_PAGE_AT", READ_SIZE_BYTES)
    assert put_over(copied, database)
    after = database.read_bytes()
    place = slice(READ_SIZE_BYTES, READ_SIZE_BYTES + 4096)
    assert after[place] == before[place] != copied.read_bytes()[place]
    assert after[place.stop : place.stop + 4096] == copied.read_bytes()[place.stop : place.stop + 4096]


@pytest.mark.parametrize("wal", [False, True])
def test_a_downgrade_writes_what_differs(tmp_path: Path, wal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, wal=wal)
    assert upgrade(database, released(tmp_path, 4)).ready
    sell(database)
    count, done = sales(database), []
    replaced = differing_pages.replaced

    def noted(**given: Any) -> bool:
        done.append(replaced(**given))
        return done[-1]

    monkeypatch.setattr(differing_pages, "replaced", noted)
    (base,) = (
        kept
        for kept in list_backups(backups=database.parent / "backups", database=database)
        if kept.kind == "migration"
    )
    returned = downgrade.downgrade(effects(database), base, released(tmp_path, 4), accept_loss=False)
    assert returned.outcome.name == "CARRIED_BACK"
    assert done == ([] if wal else [True])
    assert sales(database) == count
    assert dump(database)
    assert not list(tmp_path.glob("data/*-journal"))
