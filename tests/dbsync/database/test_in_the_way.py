"""Everything that can be in the way: each has a name, a sentence and a next step, and the bytes are as they were."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.model import Outcome
from dbsync.progress import Event
from dbsync.storage import connections
from dbsync.storage.platform import linux
from dbsync.upgrade import coordinator, restore_decision
from tests.dbsync.test_bad_days import command, mounted
from tests.helpers.places import ROOT
from tests.helpers.shop import dump, dump_but_marks, effects, files, make_shop, released, sales, sell, upgrade, version


def cut(keep: Callable[[int], int]) -> Callable[[Path], None]:
    """Leaves so many bytes of a file."""
    return lambda path: os.truncate(path, keep(path.stat().st_size))


def patched(at: int, data: bytes) -> Callable[[Path], None]:
    """Writes bytes into the middle of a file."""

    def patch(path: Path) -> None:
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + data + whole[at + len(data) :])

    return patch


def untracked(path: Path) -> None:
    with closing(sqlite3.connect(path)) as live:
        live.executescript("DROP TABLE dbsync_history; DROP TABLE schema_version; DROP INDEX idx_items_transaction;")


def differing(path: Path) -> None:
    with closing(sqlite3.connect(path)) as live, live:
        live.execute("UPDATE dbsync_history SET name = 'other' WHERE number = 2")


def newer(path: Path) -> None:
    assert upgrade(path, released(path.parent.parent, 5)).ready


WAYS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "half of it": (cut(lambda size: size // 2), "DAMAGED", "malformed"),
    "a page too few": (cut(lambda size: size - 4096), "DAMAGED", "malformed"),
    "a part of a page too few": (cut(lambda size: size - 100), "DAMAGED", ""),
    "the first hundred bytes": (cut(lambda _: 100), "DAMAGED", "malformed"),
    "encrypted": (lambda path: path.write_bytes(os.urandom(path.stat().st_size)), "DAMAGED", "or it is encrypted"),
    "all zeros, as after a power cut": (lambda path: path.write_bytes(bytes(90_000)), "DAMAGED", "not a database"),
    "a text": (lambda path: path.write_bytes(b"dear diary\n" * 999), "DAMAGED", "not a database"),
    "a page size that is not its own": (patched(16, b"\x02\x00"), "DAMAGED", "malformed"),
    "a format of the future": (patched(18, b"\x09\x09"), "DAMAGED", "not a database"),
    "a format that may only be read": (patched(18, b"\x03\x01"), "READ_ONLY", "readonly"),
    "newer than the app": (newer, "TOO_NEW", "schema 5, this release knows 4"),
    "no history": (untracked, "UNTRACKED", "nearest is schema 2"),
    "another history": (differing, "HISTORY_DIFFERS", "0002_other"),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_what_cannot_be_migrated_is_named_and_left_byte_for_byte(tmp_path: Path, name: str) -> None:
    change, outcome_name, words = WAYS[name]
    database = make_shop(tmp_path, schema=2)
    change(database)
    before = (database.read_bytes(), {one for one in files(database.parent) if not one.startswith("backups/")})
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, words in outcome.cause) == (outcome_name, True), outcome
    assert outcome.cause.strip()
    assert outcome.hint.endswith((".", ")."))
    after = {one for one in files(database.parent) if not one.startswith("backups/")}
    assert (database.read_bytes(), after) == before
    kept = [one.kind for one in list_backups(backups=database.parent / "backups", database=database)]
    expected = {"DAMAGED": ["damaged"], "TOO_NEW": ["migration"]}.get(outcome_name, [])
    assert kept == expected, "no start leaves another backup, but a damaged database is kept as it is, once"


# ------------------------------------------------------------------------------------------------- journals of a crash

CRASH = """
import sqlite3, sys
live = sqlite3.connect(sys.argv[1], isolation_level=None)
live.execute("PRAGMA cache_size=5")
live.execute("PRAGMA wal_autocheckpoint=0")
live.execute("UPDATE products SET name = 'committed'")
live.execute("BEGIN IMMEDIATE")
live.execute("UPDATE products SET name = 'half way', stock = -1")
live.execute("UPDATE transaction_items SET quantity = 99")
live.execute("DELETE FROM transactions")
print("spilled", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("wal", [False, True])
def test_a_till_killed_in_the_middle_of_a_large_transaction_is_migrated_as_it_was_before_it(
    tmp_path: Path, wal: bool
) -> None:
    database = make_shop(tmp_path, schema=2, items_count=4000, wal=wal)
    journal = Path(f"{database}-wal" if wal else f"{database}-journal")
    committed = [line for line in dump(database) if 'INSERT INTO "products"' not in line]
    before = database.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", CRASH, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as till:
        assert till.stdout is not None
        assert till.stdout.readline().split() == [b"spilled"]
        till.kill()
        till.wait()
    assert journal.stat().st_size > 50_000
    assert wal or database.read_bytes() != before, "the half transaction is in the file"
    outcome = upgrade(database, released(tmp_path, 4))
    assert outcome.name == "MIGRATED", outcome.cause
    assert outcome.backup is not None
    kept = dump(outcome.backup.path)
    assert [line for line in kept if 'INSERT INTO "products"' not in line] == committed
    assert not any("half way" in line for line in kept)
    assert (version(database), sales(database)) == (4, sales(outcome.backup.path))
    assert not journal.exists()


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_a_stale_file_beside_the_database_is_not_believed(tmp_path: Path, ending: str, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    before = dump(database)
    Path(f"{database}{ending}").write_bytes(os.urandom(100_000))
    outcome = upgrade(database, released(tmp_path, 4))
    assert outcome.name == "MIGRATED", outcome.cause
    assert outcome.backup is not None
    assert dump(outcome.backup.path) == before
    assert version(database) == 4


# --------------------------------------------------------------------------------------------------------------- locks

HOLD = """
import sqlite3, sys
live = sqlite3.connect(sys.argv[1], isolation_level=None)
live.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
live.execute("COMMIT")
"""


@pytest.mark.parametrize("wal", [False, True])
def test_a_lock_is_waited_for_until_it_is_free(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2)
    if wal:
        with closing(sqlite3.connect(database)) as live:
            live.execute("PRAGMA journal_mode=WAL")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline().split() == [b"held"]

        def let_go(event: Event) -> None:
            assert holder.stdin is not None
            if event.kind == "looked":
                holder.stdin.write(b"now\n")
                holder.stdin.flush()

        outcome = coordinator.upgrade(effects(database, let_go), migrations=released(tmp_path, 4))
    assert outcome.name == "MIGRATED", outcome.cause
    assert version(database) == 4


def test_a_lock_that_stays_is_given_up_at_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_SECONDS", 0.1)
    database = make_shop(tmp_path, schema=2)
    before = (database.read_bytes(), files(database.parent))
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        outcome = upgrade(database, released(tmp_path, 4))
        assert (outcome.name, outcome.cause) == ("LOCKED", f"{database}: database is locked")
        assert outcome.hint.startswith("Close the app and every tool")
        other.execute("ROLLBACK")
    assert (database.read_bytes(), files(database.parent)) == before
    assert upgrade(database, released(tmp_path, 4)).name == "MIGRATED"


def test_in_delete_mode_an_idle_program_is_not_in_the_way(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as other:
        other.execute("SELECT count(*) FROM products").fetchone()
        assert upgrade(database, released(tmp_path, 4)).name == "MIGRATED"
        assert other.execute("PRAGMA user_version").fetchone() == (4,)


def test_of_four_upgrades_at_once_one_migrates_and_none_is_in_between(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    folder = Path(released(tmp_path, 4)[0].path).parent
    running = [
        subprocess.Popen(command(database, folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(4)
    ]
    ended = [(one.communicate(), one.returncode) for one in running]
    assert {code for _, code in ended} <= {0, 75}
    assert sum("migration(s) completed successfully" in out for (out, _), _ in ended) == 1
    assert len(list((database.parent / "backups").glob("*.db"))) == 1
    assert (version(database), sales(database)) == (4, 100)


# ------------------------------------------------------------------------------------------------ places and full disks


def test_a_file_that_may_only_be_read_is_named(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    folder = Path(released(tmp_path, 4)[0].path).parent
    before = (database.read_bytes(), files(database.parent))
    place = f'"{database}"'
    done = mounted(f"mount --bind {place} {place} && mount -o remount,ro,bind {place}", command(database, folder))
    assert (done.returncode, "READ_ONLY" in done.stdout) == (75, True), done.stdout + done.stderr
    assert "Make the data folder and the database writable for this user." in done.stdout
    assert (database.read_bytes(), files(database.parent)) == before


@pytest.mark.parametrize("kind", sorted(linux.NETWORK_KINDS))
def test_every_network_file_system_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    database = make_shop(tmp_path, schema=2)
    before = database.read_bytes()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/tills {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr(linux, "MOUNTS", mounts)
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, kind in outcome.cause) == ("NETWORK_DRIVE", True)
    assert outcome.hint == "Move the database to a disk of this machine."
    assert database.read_bytes() == before


FULL = """
import os, sys
from pathlib import Path
from dbsync.upgrade import coordinator, restore_decision
from dbsync.backups.catalog import list_backups
from dbsync.database.live import LiveEffects
from tests.helpers import shop
folder, small, mode, when = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
filler = small / "filler"

def fill():
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return

class Filled(LiveEffects):
    def copy_backup(self, *given):
        if when == "backup":
            fill()
        return super().copy_backup(*given)
    def copy_aside(self, *given):
        if when == "put aside":
            fill()
        return super().copy_aside(*given)
    def restore(self, *given):
        if when == "restore":
            fill()
        return super().restore(*given)

database = shop.make_shop(small, schema=2, items_count=8000, wal=mode == "wal")
live = Filled(database, backups=database.parent / "backups", prefix="auraswift", least_free_bytes=0)
if when == "backup":
    before = shop.dump(database)
    again = lambda: coordinator.upgrade(live, migrations=shop.released(folder, 4))
else:
    first = shop.upgrade(database, shop.released(folder, 5))
    assert first.ready and first.backup, first
    shop.sell(database, 3)
    before = shop.dump(database)
    again = lambda: restore_decision.restore(live, backup=first.backup.path, intent_id="i1", accept_loss=True).outcome
outcome = again()
assert not list(database.parent.rglob(".part-*")), "nothing is left of what was begun"
if when == "restore":
    # The space was reserved before: a disk that fills afterwards is no obstacle any more.
    assert outcome.name == "RESTORED_WITH_LOSS", outcome
else:
    assert outcome.name == ("NO_SPACE" if when == "backup" else "RESTORE_PENDING"), outcome
    assert outcome.cause and outcome.hint.startswith("Free some disk space"), outcome
    filler.unlink()
    assert shop.dump(database) == before
    shop.sell(database)
    when = "never"
    assert again().name in ("MIGRATED", "RESTORED_WITH_LOSS"), outcome
print("as it was, it sold, and then it went; schema", shop.version(database))
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("when", ["backup", "put aside", "restore"])
def test_a_disk_that_fills_while_copying_leaves_the_till_as_it_was(tmp_path: Path, when: str, mode: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    done = mounted(
        f'mount -t tmpfs -o size=16m till "{small}"',
        [sys.executable, "-c", FULL, str(tmp_path), str(small), mode, when],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"as it was, it sold, and then it went; schema {4 if when == 'backup' else 2}\n"


@pytest.mark.parametrize("wal", [False, True])
def test_a_backup_with_another_page_size_is_restored_over_a_live_database(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    other = make_shop(tmp_path / "other", schema=2)
    with closing(sqlite3.connect(other, isolation_level=None)) as live:
        live.execute("PRAGMA page_size=1024")
        live.execute("VACUUM")
    kept = effects(other).make_backup()
    assert kept.path.read_bytes()[16:18] == b"\x04\x00"
    sell(database, 2)
    outcome: Outcome = restore_decision.restore(
        effects(database), backup=kept.path, intent_id="i1", accept_loss=True
    ).outcome
    assert outcome.name == "RESTORED_WITH_LOSS", outcome
    assert (dump_but_marks(database), database.read_bytes()[16:18]) == (dump_but_marks(other), b"\x04\x00")
    (aside,) = database.parent.glob("*before-restore*.db")
    assert sales(aside) == 102
    sell(database)
    assert upgrade(database, released(tmp_path, 4)).name == "MIGRATED"
