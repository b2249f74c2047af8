"""An app that sells while its database is being replaced: no sale goes with what is replaced."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.commands import downgrade, empty_and_import
from dbsync.database.live import LiveEffects
from dbsync.errors import Locked
from dbsync.upgrade import restore_decision
from tests.helpers.shop import ask, dump_but_marks, effects, make_shop, released, sales, sell, upgrade


class Busy(LiveEffects):
    """A till in which somebody sells after the database was put aside, before another one goes over it."""

    def restore(self, path: Path) -> None:
        sell(self.database)
        super().restore(path)


def busy(database: Path) -> Busy:
    return Busy(database, backups=database.parent / "backups", prefix="auraswift", least_free_bytes=0)


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("page_bytes", [4096, 8192])
def test_a_sale_between_the_copy_and_the_restore_is_not_lost(tmp_path: Path, wal: bool, page_bytes: int) -> None:
    database = make_shop(tmp_path, wal=wal)
    kept = effects(database).make_backup(tmp_path / "kept.db").path
    with closing(sqlite3.connect(kept)) as other:
        other.execute(f"PRAGMA page_size={page_bytes}")
        other.execute("VACUUM")
    kept.with_name("kept.db.json").unlink()
    sell(database)
    count = sales(database)
    returned = restore_decision.restore(busy(database), backup=kept, intent_id="i1", accept_loss=True)
    assert (returned.back, returned.outcome.name) == (None, "RESTORE_PENDING")
    assert returned.outcome.cause == f"{database}: somebody wrote into it since it was put aside"
    assert sales(database) == count + 1
    # Once nobody sells, it goes through under the same name, and the sale is in what is kept.
    assert restore_decision.restore(effects(database), backup=kept, intent_id="i1", accept_loss=True).back == "done"
    assert sales(database) == count - 1
    aside = [
        one.path
        for one in list_backups(backups=database.parent / "backups", database=database)
        if one.kind == "before-restore"
    ]
    # The database was not replaced after the first copy, so the second has all of it, and the first is removed.
    assert sorted(map(sales, aside)) == [count + 1]


@pytest.mark.parametrize("wal", [False, True])
def test_emptying_importing_and_going_back_are_put_off_while_somebody_sells(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, wal=wal)
    other = effects(database).make_backup(tmp_path / "other.db").path
    assert upgrade(database, released(tmp_path, 4)).ready
    with pytest.raises(Locked, match="somebody wrote"):
        empty_and_import.empty(busy(database), released(tmp_path, 4))
    with pytest.raises(Locked, match="somebody wrote"):
        empty_and_import.import_file(busy(database), other, released(tmp_path, 4))
    base = next(
        one for one in list_backups(backups=database.parent / "backups", database=database) if one.kind == "migration"
    )
    before = sales(database)
    returned = downgrade.downgrade(busy(database), base, released(tmp_path, 4), accept_loss=False)
    assert (returned.back, returned.outcome.name) == (None, "RESTORE_PENDING")
    assert (sales(database), ask(database, "PRAGMA user_version")) == (before + 1, 4)


@pytest.mark.parametrize("wal", [False, True])
def test_a_till_that_only_has_the_database_open_is_restored_under_it(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, wal=wal)
    kept = effects(database).make_backup(tmp_path / "kept.db").path
    sell(database)
    with closing(sqlite3.connect(database)) as idle:
        assert idle.execute("SELECT count(*) FROM transactions").fetchone()[0] == sales(database)
        assert restore_decision.restore(effects(database), backup=kept, intent_id="i1", accept_loss=True).back == "done"
        assert idle.execute("SELECT count(*) FROM transactions").fetchone()[0] == sales(kept)
    assert dump_but_marks(database) == dump_but_marks(kept)


def test_what_cannot_be_committed_into_is_restored_over_all_the_same(tmp_path: Path) -> None:
    """A free list that is none, found out when a database that gives pages back commits: nobody sells into that."""
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database, isolation_level=None)) as live:
        live.execute("PRAGMA auto_vacuum=FULL")
        live.execute("CREATE TABLE first (x)")
        live.execute("DROP TABLE first")
    assert upgrade(database, released(tmp_path, 4)).ready
    kept = effects(database).make_backup(tmp_path / "kept.db").path
    with database.open("r+b") as file:
        # Where the free list begins, and how long it is (sqlite.org/fileformat.html, 1.3).
        file.seek(32)
        file.write(bytes((0, 0, 0, 3, 0, 0, 0, 9)))
    with closing(sqlite3.connect(database, isolation_level=None)) as live:
        live.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.DatabaseError, match="malformed"):
            live.execute("COMMIT")
    returned = restore_decision.restore(effects(database), backup=kept, intent_id="i1", accept_loss=True)
    assert (returned.back, returned.outcome.name) == ("done", "RESTORED"), returned.outcome.cause
    assert dump_but_marks(database) == dump_but_marks(kept)
