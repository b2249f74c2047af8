"""SQLite's traps around the file: locks, copies, restores, broken things that were there before."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dbsync.backups import snapshot
from dbsync.backups.catalog import list_backups
from dbsync.commands import adopt, downgrade
from dbsync.database.live import LiveEffects
from dbsync.errors import Damaged, Locked
from dbsync.model import Backup, SchemaNumber
from dbsync.progress import Event, nobody
from dbsync.storage import connections, page_copy
from dbsync.storage import files as disk_files
from dbsync.upgrade import coordinator, restore_decision
from tests.helpers.places import ROOT
from tests.helpers.shop import (
    ask,
    dump,
    dump_but_marks,
    effects,
    files,
    make_shop,
    released,
    sales,
    sell,
    upgrade,
    version,
    written,
)

INTRUDER = """
import sqlite3, sys
live = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
for line in sys.stdin:
    try:
        live.execute("BEGIN IMMEDIATE")
        sale = "INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt) VALUES (?, 1, 'cash', '')"
        live.execute(sale, (line,))
        live.execute("COMMIT")
        print("sold", flush=True)
    except sqlite3.OperationalError as error:
        print(error, flush=True)
"""


@contextmanager
def intruder(database: Path) -> Iterator[Callable[[], str]]:
    """Another program that tries to sell whenever it is asked to."""
    with subprocess.Popen(
        [sys.executable, "-c", INTRUDER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        count = iter(range(100))

        def sells() -> str:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write(f"X{next(count)}\n")
            other.stdin.flush()
            return other.stdout.readline().strip()

        yield sells
        assert other.stdin is not None
        other.stdin.close()


@pytest.mark.parametrize("wal", [False, True])
def test_from_the_backup_to_commit_nobody_else_writes_although_files_are_hashed_and_copied(
    tmp_path: Path, wal: bool
) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    before = dump(database)
    answers: dict[str, str] = {}
    with intruder(database) as sells:

        def watched(event: Event) -> None:
            # In WAL mode the other program may not even have it open; it opens it once the backup is under way.
            if event.kind in ("backup", "integrity", "migration", "migrated", "version"):
                answers.setdefault(f"{event.kind} {event.number}", sells())

        outcome = coordinator.upgrade(effects(database, watched), migrations=released(tmp_path, 4))
        assert outcome.name == "MIGRATED", outcome.cause
        assert set(answers.values()) == {"database is locked"}
        assert {one.split()[0] for one in answers} == {"backup", "integrity", "migration", "migrated", "version"}
        assert sells() == "sold"
    assert outcome.backup is not None
    assert dump(outcome.backup.path) == before
    assert (version(database), sales(database)) == (4, sales(outcome.backup.path) + 1)


def test_a_copy_of_a_source_that_stays_locked_ends_at_a_limit(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    clock = iter(float(second) for second in range(0, 10_000, 30))
    with (
        closing(sqlite3.connect(database, isolation_level=None)) as other,
        closing(connections.open_reading(database)) as source,
        closing(connections.open_writing(tmp_path / "copy.db", create=True)) as target,
    ):
        source.execute("PRAGMA busy_timeout=0")
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Locked, match="no page could be copied for 60 seconds"):
            page_copy.copy(source, target, told=nobody, seconds=lambda: next(clock))
        other.execute("ROLLBACK")
    assert (tmp_path / "copy.db").stat().st_size == 0
    assert sales(database) == 100


@pytest.mark.parametrize("wal", [False, True])
def test_a_reader_keeps_its_picture_while_a_backup_is_restored_under_it(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    kept = effects(database).make_backup()
    sell(database, 3)
    if not wal:
        # In rollback mode a reader in the middle of a transaction keeps every writer out: nothing is done at all.
        with closing(sqlite3.connect(database, isolation_level=None)) as reader, pytest.MonkeyPatch.context() as patch:
            patch.setattr(connections, "WRITE_TIMEOUT_SECONDS", 0.1)
            patch.setattr(page_copy, "COPY_STALL_SECONDS", 0.0)
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM transactions").fetchone()
            with pytest.raises(Locked):
                effects(database).restore(kept.path)
        assert sales(database) == 103
        return
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM transactions").fetchone() == (103,)
        effects(database).restore(kept.path)
        assert reader.execute("SELECT count(*) FROM transactions").fetchone() == (103,)
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM transactions").fetchone() == (100,)
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert sales(database) == 100


KILLED = """
import os, sys
from pathlib import Path
from dbsync.backups import restore
from dbsync.storage import page_copy, connections
page_copy.COPY_PAGES = 3
steps = 0
def told(done, total, *_, **__):
    global steps
    steps += 1
    if steps == 5:
        os.kill(os.getpid(), 9)
restore.restore_over(database=Path(sys.argv[1]), source=Path(sys.argv[2]), told=told)
"""


@pytest.mark.parametrize("wal", [False, True])
def test_a_restore_that_is_killed_half_way_leaves_the_database_as_it_was(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    kept = effects(database).make_backup()
    sell(database, 3)
    before = dump(database)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(database), str(kept.path)],
        check=False, cwd=ROOT,
    )  # fmt: skip
    assert abs(done.returncode) == 9, "Windows has no sign for a signal"
    assert dump(database) == before
    assert (
        restore_decision.restore(effects(database), backup=kept.path, intent_id="i", accept_loss=True).outcome.name
        == "RESTORED_WITH_LOSS"
    )
    assert sales(database) == 100


def test_a_damaged_page_is_copied_without_a_word_so_the_copy_is_opened_and_dropped(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with database.open("r+b") as file:
        file.seek(4096 * 9)
        file.write(b"\xff" * 4096)
    snapshot.copy_database(source=database, target=tmp_path / "copy.db", told=nobody)
    assert (tmp_path / "copy.db").stat().st_size == database.stat().st_size, "the copying itself said nothing"
    live = effects(database)
    with pytest.raises(Damaged):
        live.check_backup(live.copy_backup(SchemaNumber(2), None))
    assert files(database.parent) == {"pos_system.db", "backups/dbsync-flight.jsonl"}


def test_a_backup_is_on_the_disk_before_it_has_its_name_and_the_name_before_anything_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=2)
    log: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        log.append(f"sync {name}")
        real_sync(descriptor)

    def replace(source: str | Path, target: str | Path) -> None:
        log.append(f"rename {Path(target).name}")
        real_replace(source, target)

    if sys.platform == "win32" or not Path("/proc/self/fd").exists():
        pytest.skip("the names of open files are read from /proc")
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    outcome = upgrade(database, released(tmp_path, 4))
    assert outcome.backup is not None
    name = outcome.backup.path.name
    named = log.index(f"rename {name}")
    assert f"sync .part-{database.name}~{name}" in log[:named]
    assert f"rename {name}.json" in log[:named]
    assert log[named + 1] == "sync backups"
    assert version(outcome.backup.path) == 2


@pytest.mark.parametrize("wal", [False, True])
def test_a_backup_is_one_file_that_can_be_read_without_leaving_others_beside_it(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    outcome = upgrade(database, released(tmp_path, 4))
    assert outcome.backup is not None
    assert outcome.backup.path.read_bytes()[18:20] == b"\x01\x01", "rollback journal, not WAL"
    assert sales(outcome.backup.path) == 100
    kept = {one.removeprefix("backups/") for one in files(database.parent) if one.startswith("backups/")}
    kept = {one for one in kept if ".db.migrations/" not in one} - {"pos_system.db.counters.json"}
    assert kept == {outcome.backup.path.name, f"{outcome.backup.path.name}.json", "dbsync-flight.jsonl"}


@pytest.mark.parametrize("wal", [False, True])
def test_a_left_over_journal_of_a_newer_database_does_not_come_back_over_what_was_restored(
    tmp_path: Path, wal: bool
) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    kept = effects(database).make_backup()
    upgraded = upgrade(database, released(tmp_path, 5))
    assert upgraded.ready
    with closing(sqlite3.connect(database, isolation_level=None)) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("PRAGMA wal_autocheckpoint=0")
        app.execute("DELETE FROM transaction_items")
        for one in (database, Path(f"{database}-wal")):
            shutil.copy(one, tmp_path / one.name)
    for one in (database, Path(f"{database}-wal")):
        shutil.copy(tmp_path / one.name, one)
    assert (
        restore_decision.restore(effects(database), backup=kept.path, intent_id="i", accept_loss=True).outcome.name
        == "RESTORED_WITH_LOSS"
    )
    assert dump_but_marks(database) == dump_but_marks(kept.path)
    sell(database)
    assert (version(database), sales(database)) == (2, 101)


def test_the_failed_attempt_is_remembered_although_the_restore_rewinds_the_database(tmp_path: Path) -> None:
    from dbsync.database.flight_recorder import FlightRecorder

    database = make_shop(tmp_path, schema=2)
    assert upgrade(database, written(tmp_path / "m", "SELECT * FROM nowhere;", after=2)).failed
    assert upgrade(database, released(tmp_path, 4)).ready
    (newest, *_) = [
        one for one in list_backups(backups=database.parent / "backups", database=database) if one.version == 2
    ]
    assert (
        restore_decision.restore(effects(database), backup=newest.path, intent_id="i", accept_loss=True).outcome.name
        == "RESTORED"
    )
    ended = [
        line["outcome"]
        for line in FlightRecorder(database.parent / "backups", database).lines()
        if line["event"] == "ended"
    ]
    assert ended[-3:] == ["MIGRATION_FAILED", "MIGRATED", "RESTORED"]
    assert ask(database, "SELECT count(*) FROM dbsync_history WHERE number > 2") == 0


# ------------------------------------------------------------------------------------- what was broken before stays so

BASE = "CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT, body TEXT);"
BROKEN = {
    "a view of nothing": "CREATE VIEW bad AS SELECT * FROM nowhere; CREATE VIEW worse AS SELECT missing FROM goods;",
    "a search whose content is gone": "CREATE TABLE art (id INTEGER PRIMARY KEY, t); CREATE VIRTUAL TABLE s USING"
    " fts5(t, content='art', content_rowid='id'); INSERT INTO art VALUES (1, 'x'); DROP TABLE art;",
    "a search that does not fit": "CREATE VIRTUAL TABLE s USING fts5(name, content='goods', content_rowid='id');"
    "INSERT INTO s (rowid, name) VALUES (1, 'other');",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_shop_had_broken_before_stops_no_update(tmp_path: Path, name: str) -> None:
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, written(tmp_path / "one", BASE)).ready
    with closing(sqlite3.connect(database)) as live:
        live.executescript(f"INSERT INTO goods VALUES (1, 'Bread', 'x'); {BROKEN[name]}")
    step = "-- changes: update goods.name\nALTER TABLE goods ADD COLUMN more; UPDATE goods SET name = 'Brot';"
    outcome = upgrade(database, written(tmp_path / "two", BASE, step))
    assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT name FROM goods") == "Brot"


@pytest.mark.parametrize("how", ["copied with rowids", "renumbered"])
def test_a_rebuild_under_a_search_is_right_by_the_helper_and_found_by_hand(tmp_path: Path, how: str) -> None:
    base = (
        "CREATE TABLE memo (code TEXT PRIMARY KEY, body TEXT); CREATE VIRTUAL TABLE s USING fts5(body, content='memo');"
    )
    database = tmp_path / "data" / "shop.db"
    database.parent.mkdir()
    assert upgrade(database, written(tmp_path / "one", base)).ready
    with closing(sqlite3.connect(database)) as live:
        live.executescript(
            "INSERT INTO memo VALUES ('z', 'one'), ('y', 'gone'), ('x', 'two'); DELETE FROM memo WHERE code = 'y';"
            "INSERT INTO s (rowid, body) SELECT rowid, body FROM memo;"
        )
    helper = (
        '"""A step."""\n\n\ndef up(db):\n    db.rebuild_table("memo", "code TEXT PRIMARY KEY, body TEXT, more TEXT")\n'
    )
    by_hand = """CREATE TABLE n (code TEXT PRIMARY KEY, body TEXT); INSERT INTO n SELECT * FROM memo ORDER BY code;
        DROP TABLE memo; ALTER TABLE n RENAME TO memo;"""
    outcome = upgrade(database, written(tmp_path / "two", base, helper if how != "renumbered" else by_hand))
    if how == "renumbered":
        assert "the index s does not fit its content" in outcome.cause
    else:
        assert outcome.name == "MIGRATED", outcome.cause
    assert ask(database, "SELECT group_concat(code) FROM memo WHERE rowid IN (SELECT rowid FROM s('two'))") == "x"


@pytest.mark.parametrize("writes", [False, True], ids=["elsewhere", "there"])
def test_a_collation_of_the_apps_own_stops_only_what_needs_it_by_its_name(tmp_path: Path, writes: bool) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live:
        live.create_collation("german", lambda one, other: (one > other) - (one < other))
        live.execute("CREATE INDEX by_german ON products(name COLLATE german)")
    before = database.read_bytes()
    sql = "UPDATE products SET name = 'Tee';" if writes else "CREATE TABLE notes (id INTEGER PRIMARY KEY);"
    outcome = upgrade(database, written(tmp_path / "m", sql, after=2))
    if writes:
        assert (outcome.name, "no such collation sequence: german" in outcome.cause) == ("MIGRATION_FAILED", True)
        assert database.read_bytes() == before
    else:
        assert outcome.name == "MIGRATED"
        assert (version(database), sales(database)) == (3, 100)
    (kept,) = (database.parent / "backups").glob("*.db")
    assert dump(kept)[0] == "version 2"


def test_a_database_with_a_collation_of_the_apps_own_is_never_moved_away(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live:
        live.create_collation("german", lambda one, other: (one > other) - (one < other))
        live.execute("CREATE INDEX by_german ON products(name COLLATE german)")
    before = dump(database)
    kept = adopt.stamp(effects(database), released(tmp_path, 2), at=SchemaNumber(2))
    assert kept is not None
    # The check of its pages does not need the collation.
    assert (kept.verified, kept.sha256, dump(kept.path)) == (True, disk_files.sha256_of(kept.path), before)
    assert (version(database), sales(database)) == (2, 100)


@pytest.mark.parametrize("what", ["downgrade", "stamp"])
def test_a_ruined_database_stays_where_it_is_unless_another_takes_its_place(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=2)
    found = released(tmp_path, 4)
    assert upgrade(database, found).ready
    base = next(
        one for one in list_backups(backups=database.parent / "backups", database=database) if one.kind == "migration"
    )
    if what == "downgrade":
        database.write_bytes(database.read_bytes()[:40_000])
    else:

        def ruined(*_: object, **__: object) -> Backup:
            # Found while it is copied: the first look was good.
            database.write_bytes(damaged)
            raise Damaged(operation="copy", cause="it is ruined after all")

        monkeypatch.setattr(snapshot, "copy_to_part", ruined)
    damaged = database.read_bytes()[:40_000] + bytes(len(database.read_bytes()) - 40_000)
    before = database.read_bytes() if what == "downgrade" else damaged
    if what == "downgrade":
        returned = downgrade.downgrade(effects(database), base, found, accept_loss=False)
        assert (returned.back, returned.outcome.name) == (None, "STAYS")
    else:
        with pytest.raises(Damaged):
            adopt.stamp(effects(database), found, at=SchemaNumber(4))
    assert database.read_bytes() == before
    assert not list(database.parent.glob("*before*"))


def test_the_backup_that_is_compared_with_is_let_go_of_whatever_happens(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    live: LiveEffects = effects(database)
    outcome = coordinator.upgrade(live, migrations=written(tmp_path / "m", "DELETE FROM shifts;", after=2))
    assert outcome.name == "VERIFICATION_FAILED"
    assert outcome.backup is not None
    outcome.backup.path.rename(tmp_path / "moved.db")
    again = coordinator.upgrade(live, migrations=released(tmp_path, 4))
    assert again.name == "MIGRATED", again.cause
    assert sales(tmp_path / "moved.db") == 100
