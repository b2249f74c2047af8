"""A restored database is read back: it is the copy that was checked, or it is checked itself."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dbsync.backups import restore
from dbsync.errors import DiskProblem, Locked
from dbsync.progress import nobody
from dbsync.storage import connections
from dbsync.storage.connections import Connection
from tests.helpers.shop import dump, make_shop


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sound backup."""
    (tmp_path / "older").mkdir()
    return make_shop(tmp_path / "older", schema=2)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The database that is replaced."""
    (tmp_path / "newer").mkdir()
    return make_shop(tmp_path / "newer", schema=4)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that SQLite checks."""
    found: list[str] = []
    check = connections.check_soundness

    def noted(connection: Connection, *given: Any) -> str | None:
        found.append(Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent.parent.name)
        return check(connection, *given)

    monkeypatch.setattr(restore, "check_soundness", noted)
    return found


def after_the_copy(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Something happens to the file when the copy has ended, before it is read back."""
    copy_over = restore._copy_over

    def then(*given: Any) -> None:
        copy_over(*given)
        act()

    monkeypatch.setattr(restore, "_copy_over", then)


def test_the_restored_database_is_the_copy_that_was_checked(source: Path, database: Path, checked: list[str]) -> None:
    restore.restore_over(source=source, database=database, told=nobody)
    assert dump(database) == dump(source)
    assert checked == ["older"]


def test_damage_that_comes_with_the_disk_is_found(
    source: Path, database: Path, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage() -> None:
        with database.open("r+b") as file:
            file.seek(4096 * 4)
            file.write(b"\xff" * 4096)

    after_the_copy(monkeypatch, damage)
    with pytest.raises(DiskProblem, match="check what was restored"):
        restore.restore_over(source=source, database=database, told=nobody)
    assert "newer" in checked


def test_a_database_that_somebody_writes_already_is_checked_itself(
    source: Path, database: Path, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sell() -> None:
        with closing(sqlite3.connect(database)) as app, app:
            app.execute("CREATE TABLE sold (x)")

    after_the_copy(monkeypatch, sell)
    restore.restore_over(source=source, database=database, told=nobody)
    assert sorted(checked) == ["newer", "older"]


def test_a_source_that_is_not_sound_is_found_in_the_restored_database(source: Path, database: Path) -> None:
    with source.open("r+b") as file:
        file.seek(4096 * 4)
        file.write(b"\xff" * 4096)
    with pytest.raises(DiskProblem, match="check what was restored"):
        restore.restore_over(source=source, database=database, told=nobody)


def test_a_copy_that_fails_ends_the_check_of_its_source(
    source: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked() -> None:
        raise Locked(operation="replace", path=database, cause="somebody wrote")

    before = threading.active_count()
    after_the_copy(monkeypatch, locked)
    with pytest.raises(Locked):
        restore.restore_over(source=source, database=database, told=nobody)
    assert threading.active_count() == before
