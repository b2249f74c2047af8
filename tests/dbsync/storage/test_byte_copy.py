"""Copies of the file of a database that stands still: whole, under the lock, and never a part."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from dbsync.backups import snapshot
from dbsync.progress import Unit, nobody
from dbsync.storage import byte_copy
from dbsync.storage.connections import Connection, open_writing
from dbsync.storage.platform import linux
from dbsync.upgrade import preparation
from tests.dbsync.storage.test_block_clone import migrates_with_a_whole_backup
from tests.helpers.shop import dump, effects, make_shop, sell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it here")

WRITE: Final = (
    "import sqlite3, sys; live = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None);"
    "live.execute('UPDATE products SET stock = 0')"
)


def begun(database: Path) -> Connection:
    live = open_writing(database)
    live.execute("BEGIN IMMEDIATE")
    return live


def refused(database: Path) -> bool:
    """Whether another process that writes now is told that the database is locked."""
    done = subprocess.run([sys.executable, "-c", WRITE, database], capture_output=True, text=True, check=False)
    return "database is locked" in done.stderr


@pytest.mark.parametrize("wal", [False, True])
def test_the_copy_is_the_file_and_the_lock_is_still_held(tmp_path: Path, wal: bool) -> None:
    database, target = make_shop(tmp_path, schema=2, items_count=4000, wal=wal), tmp_path / "copy.db"
    told: list[tuple[int, int, Unit]] = []
    with closing(begun(database)) as live:
        before = dump(database)
        assert byte_copy.copied(
            live, target, told=lambda done, total, text="", unit=Unit.NONE: told.append((done, total, unit))
        )
        assert target.read_bytes() == database.read_bytes()
        size_bytes = target.stat().st_size
        assert told[-1] == (size_bytes, size_bytes, Unit.BYTES)
        live.execute("ROLLBACK")
    # Reading the file in this process, as the line above does, would have dropped the lock: asked without it.
    with closing(begun(database)) as live:
        assert byte_copy.copied(live, target, told=nobody)
        assert refused(database)
    assert dump(target) == before


def test_without_a_transaction_nothing_is_copied(tmp_path: Path) -> None:
    database, target = make_shop(tmp_path, schema=2), tmp_path / "copy.db"
    with closing(open_writing(database)) as live:
        assert not byte_copy.copied(live, target, told=nobody)
    assert not target.exists()


@pytest.mark.parametrize("wal", [False, True])
def test_a_database_that_does_not_stand_still_is_copied_page_by_page(tmp_path: Path, wal: bool) -> None:
    database, target = make_shop(tmp_path, schema=2, wal=wal), tmp_path / "copy.db"
    with closing(sqlite3.connect(database)) as other:
        if wal:
            other.execute("PRAGMA wal_autocheckpoint=0").fetchall()
            with other:
                other.execute("UPDATE products SET stock = 77")
        with closing(begun(database)) as live:
            if not wal:
                live.execute("PRAGMA cache_size=1").fetchall()
                live.execute("UPDATE products SET stock = 77")
            assert not byte_copy.copied(live, target, told=nobody)
    assert not target.exists()


@pytest.mark.parametrize(
    "program",
    [
        '#!/bin/sh\n[ "$1" = --reflink=never ] || exit 1\nhead -c 5000 "$3" > "$4"\nexit 1\n',
        '#!/bin/sh\n[ "$1" = --reflink=never ] || exit 1\nhead -c 5000 "$3" > "$4"\n',
        '#!/bin/sh\n[ "$1" = --reflink=never ] || exit 1\nrm "$4"\n',
        '#!/bin/sh\n[ "$1" = --reflink=never ] || exit 1\nkill -9 $$\n',
        "no program at all",
    ],
    ids=["half of it", "half of it as the whole", "nothing", "killed", "not a program"],
)
def test_where_the_copy_fails_the_backup_is_made_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    copier = tmp_path / "cp"
    copier.write_text(program)
    copier.chmod(0o755)
    monkeypatch.setattr(linux, "COPY_PROGRAM", copier)
    migrates_with_a_whole_backup(tmp_path)


def test_a_copy_that_does_not_grow_is_ended_with_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copier, pid = tmp_path / "cp", tmp_path / "pid"
    copier.write_text(f'#!/bin/sh\necho $$ > {pid}\nhead -c 5000 "$3" > "$4"\nexec sleep 600\n')
    copier.chmod(0o755)
    monkeypatch.setattr(linux, "COPY_PROGRAM", copier)
    monkeypatch.setattr(linux, "COPY_STALL_SECONDS", 0.5)
    database, target = make_shop(tmp_path, schema=2), tmp_path / "copy.db"
    with closing(begun(database)) as live:
        assert not byte_copy.copied(live, target, told=nobody)
    assert not target.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_an_interrupted_copy_ends_its_program_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copier, pid = tmp_path / "cp", tmp_path / "pid"
    copier.write_text(f'#!/bin/sh\necho $$ > {pid}\nhead -c 5000 "$3" > "$4"\nexec sleep 600\n')
    copier.chmod(0o755)
    monkeypatch.setattr(linux, "COPY_PROGRAM", copier)
    database, target = make_shop(tmp_path, schema=2), tmp_path / "copy.db"

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with closing(begun(database)) as live, pytest.raises(KeyboardInterrupt):
        byte_copy.copied(live, target, told=interrupted)
    assert not target.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize("wal", [False, True])
def test_what_is_put_aside_is_a_copy_of_the_file_and_nobody_writes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wal: bool
) -> None:
    from dbsync.model import BackupKind

    database = make_shop(tmp_path, schema=2, wal=wal)
    before, seen, whole = dump(database), [], byte_copy.copied

    def watched(*arguments: object, **more: object) -> bool:
        seen.append(whole(*arguments, **more))  # type: ignore[arg-type]
        seen.append(refused(database))
        return seen[0]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("page by page")

    monkeypatch.setattr(byte_copy, "copied", watched)
    monkeypatch.setattr(snapshot, "copy", never)
    aside = preparation.put_aside(effects(database), BackupKind.BEFORE_RESTORE)
    assert aside is not None
    assert seen == [True, True]
    assert dump(aside.path) == before
    # The lock is given back.
    sell(database)
