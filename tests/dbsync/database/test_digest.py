"""The digest of what was committed: made beside the check, without a lock or an outcome that depends on it."""

from __future__ import annotations

import subprocess
import sys
import threading
from io import BufferedReader
from pathlib import Path
from typing import Final

import pytest

from dbsync.errors import DiskProblem
from dbsync.model import Sha256
from dbsync.storage import connections, files
from dbsync.upgrade import coordinator
from tests.helpers.shop import effects, make_shop, released, sell, upgrade, version

WRITE: Final = (
    "import sqlite3, sys; live = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None);"
    "live.execute('UPDATE products SET stock = 0')"
)
DEADLINE_SECONDS: Final = 30


@pytest.mark.parametrize("wal", [False, True])
def test_the_digest_is_that_of_the_file(tmp_path: Path, wal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    read, whole = [], files.sha256_of

    def counted(path: Path) -> Sha256:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(files, "sha256_of", counted)
    outcome = upgrade(database, released(tmp_path, 4))
    assert database not in read
    assert outcome.content_sha256 == whole(database)


@pytest.mark.skipif(sys.platform == "win32", reason="locks are dropped on POSIX only")
def test_the_check_keeps_its_lock_when_the_digest_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, schema=2)
    live = effects(database)
    ready, whole, check, seen = threading.Event(), files.sha256_of_open, connections.check_soundness, []

    def digested(file: BufferedReader, path: Path) -> Sha256:
        try:
            return whole(file, path)
        finally:
            ready.set()

    def checked(connection: connections.Connection, *more: connections.Thoroughness) -> str | None:
        if live._begun is None and live._digests:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM products").fetchone()
            assert ready.wait(DEADLINE_SECONDS)
            done = subprocess.run([sys.executable, "-c", WRITE, database], capture_output=True, text=True, check=False)
            seen.append("database is locked" in done.stderr)
        return check(connection, *more)

    monkeypatch.setattr(files, "sha256_of_open", digested)
    monkeypatch.setattr(connections, "check_soundness", checked)
    assert coordinator.upgrade(live, migrations=released(tmp_path, 4)).name == "MIGRATED"
    assert seen == [True]


def test_a_file_that_was_written_since_the_check_is_read_again(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    live = effects(database)
    assert coordinator.upgrade(live, migrations=released(tmp_path, 4)).ready
    before = live.content_digest()
    sell(database)
    assert live.content_digest() == files.sha256_of(database) != before


def test_a_digest_that_cannot_be_made_leaves_the_migration_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=2)
    whole = files.sha256_of_open

    def unreadable(file: BufferedReader, path: Path) -> Sha256:
        if path == database:
            raise DiskProblem(operation="read", path=path, cause="Input/output error")
        return whole(file, path)

    monkeypatch.setattr(files, "sha256_of_open", unreadable)
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, outcome.content_sha256, version(database)) == ("MIGRATED", None, 4)
