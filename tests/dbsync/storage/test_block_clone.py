"""Backups that share their blocks with the database: on real file systems, and everything that makes it fall back."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups import compression, snapshot
from dbsync.backups.retention import Policy
from dbsync.commands import scheduled_backup
from dbsync.progress import nobody
from dbsync.storage import block_clone, connections
from dbsync.storage.connections import Connection, open_writing
from dbsync.storage.platform import linux
from tests.helpers.places import ROOT
from tests.helpers.shop import dump, effects, files, make_shop, released, sales, upgrade

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it here")

STORY = """
import subprocess, sys
from pathlib import Path
from dbsync.backups import snapshot
from dbsync.storage import block_clone
from tests.helpers import shop

place, wal = Path(sys.argv[1]), sys.argv[2] == "wal"
database = shop.make_shop(place, schema=2, items_count=4000, wal=wal)
before = shop.dump(database)
copied, seen = block_clone.copied, []
WRITE = (
    "import sqlite3, sys; live = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None);"
    "live.execute('UPDATE products SET stock = 0')"
)

def watched(live, target):
    seen.append(copied(live, target))
    # The lock is still held: somebody else who writes now is told so.
    other = subprocess.run([sys.executable, "-c", WRITE, database], capture_output=True, text=True)
    seen.append("database is locked" in other.stderr)
    return seen[0]

def never(*_, **__):
    raise AssertionError("page by page")

block_clone.copied, whole, snapshot.copy = watched, snapshot.copy, never
outcome = shop.upgrade(database, shop.released(place, 4))
snapshot.copy = whole
assert outcome.ready, outcome
assert seen == [True, True], seen
assert shop.dump(outcome.backup.path) == before
assert shop.version(database) == 4
shop.sell(database, 2)
assert shop.dump(outcome.backup.path) == before, "what is written now is not in the backup"
assert not [one for one in shop.files(database.parent) if ".part-" in one]
print("shared and as it was")
"""


SCHEDULE = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from dbsync.backups import catalog, compression, snapshot
from dbsync.backups.retention import Policy
from dbsync.commands import scheduled_backup
from tests.helpers import shop

place, is_packed = Path(sys.argv[1]), sys.argv[2] == "packed"
database, second, was = shop.make_shop(place, schema=2, items_count=4000), None, {}
whole = snapshot.copy

def never(*_, **__):
    raise AssertionError("page by page")

snapshot.copy = never
if not is_packed:
    compression.is_there = lambda: False
    second = place / "second"
    second.mkdir()
for hour in range(6):
    shop.sell(database, 1)
    now = datetime(2026, 1, 5, 8 + hour, tzinfo=UTC)
    done = scheduled_backup.run(shop.effects(database), Policy(4, 0, 0), second=second, if_due=False, now=now)
    assert (done.made.checked, done.away, done.rotten) == ("integrity_check", "", ()), done
    was[done.made.path.name] = shop.dump(database)
kept = scheduled_backup.scheduled(shop.effects(database))
assert [one.path.suffix for one in kept] == [".zst" if is_packed else ".db"] * 4
for one in kept:
    assert catalog.check_file(one.path).read_back_at
    with compression.plain(one.path) as plain:
        assert shop.dump(plain) == was[one.path.name], "what is written later is not in it"
    assert second is None or shop.dump(second / one.path.name) == was[one.path.name]
if second is not None:
    data = bytearray(kept[-1].path.read_bytes())
    data[len(data) // 2] ^= 1
    kept[-1].path.write_bytes(data)
    catalog.write_facts(kept[-1]._replace(read_back_at=""))
    done = scheduled_backup.run(shop.effects(database), Policy(9, 0, 0), second=second, if_due=True, now=now)
    assert done.replaced == (kept[-1].path,), done
    assert shop.dump(kept[-1].path) == was[kept[-1].path.name]
assert not [one for one in shop.files(place) if ".part-" in one]
print("shared and as it was")
"""


def told_on(kind: str, size: str, folder: Path, story: str, word: str) -> None:
    """Runs a story on a file system of its own, which must end well."""
    make = shutil.which(f"mkfs.{kind}", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if make is None or os.geteuid() != 0:
        pytest.skip(f"needs mkfs.{kind} and a user who may mount")
    image, place = folder / "image", folder / "place"
    place.mkdir()
    subprocess.run(["truncate", "-s", size, image], check=True)
    subprocess.run([make, "-q", image], check=True, capture_output=True)
    script = 'mount -o loop "$0" "$1" || exit 77; shift; exec "$@"'
    words: list[str | Path] = ["sh", "-c", script, image, place, sys.executable, "-c", story, place, word]
    done = subprocess.run(["unshare", "-m", *words], check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode == 77:
        pytest.skip(f"this system does not let a test mount {kind}: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (0, "shared and as it was\n"), done.stderr


FILE_SYSTEMS = [("btrfs", "120M"), ("xfs", "320M")]


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize(("kind", "size"), FILE_SYSTEMS)
def test_on_a_file_system_that_can_the_backup_shares_its_blocks(
    tmp_path: Path, kind: str, size: str, mode: str
) -> None:
    told_on(kind, size, tmp_path, STORY, mode)


@pytest.mark.parametrize("word", ["packed", "second"])
@pytest.mark.parametrize(("kind", "size"), FILE_SYSTEMS)
def test_on_a_file_system_that_can_a_scheduled_backup_begins_by_sharing(
    tmp_path: Path, kind: str, size: str, word: str
) -> None:
    told_on(kind, size, tmp_path, SCHEDULE, word)


@pytest.fixture
def copier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of cp that copies on any file system."""
    program = tmp_path / "cp"
    program.write_text('#!/bin/sh\n[ "$1" = --reflink=always ] || exit 1\nshift\nexec cp "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(linux, "COPY_PROGRAM", program)
    return program


def begun(database: Path) -> Connection:
    live = open_writing(database)
    live.execute("BEGIN IMMEDIATE")
    return live


@pytest.mark.parametrize("wal", [False, True])
def test_under_the_write_lock_a_file_copy_is_the_whole_database(tmp_path: Path, wal: bool, copier: Path) -> None:
    database, target = make_shop(tmp_path, schema=2, wal=wal), tmp_path / "copy.db"
    before = dump(database)
    with closing(begun(database)) as live:
        assert block_clone.copied(live, target)
    assert dump(target) == before


def test_without_a_transaction_nothing_is_copied(tmp_path: Path, copier: Path) -> None:
    database, target = make_shop(tmp_path, schema=2), tmp_path / "copy.db"
    with closing(open_writing(database)) as live:
        assert not block_clone.copied(live, target)
    assert not target.exists()


def test_what_is_still_in_the_wal_is_not_left_out(tmp_path: Path, copier: Path) -> None:
    database, target = make_shop(tmp_path, schema=2, wal=True), tmp_path / "copy.db"
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        with other:
            other.execute("UPDATE products SET stock = 77")
        with closing(begun(database)) as live:
            assert not block_clone.copied(live, target)
            snapshot.copy_database(source=database, target=target, told=nobody, writer=live)
    with closing(sqlite3.connect(target)) as kept:
        assert kept.execute("SELECT DISTINCT stock FROM products").fetchall() == [(77,)]


def test_what_this_transaction_has_written_already_is_not_taken_for_the_database(tmp_path: Path, copier: Path) -> None:
    database, target = make_shop(tmp_path, schema=2), tmp_path / "copy.db"
    with closing(begun(database)) as live:
        live.execute("PRAGMA cache_size=1").fetchall()
        live.execute("UPDATE products SET stock = 77")
        assert not block_clone.copied(live, target)
    assert not target.exists()


def test_a_database_behind_a_link_is_copied_with_its_own_wal_in_mind(tmp_path: Path, copier: Path) -> None:
    database, target = make_shop(tmp_path, schema=2, wal=True), tmp_path / "copy.db"
    link = tmp_path / "link.db"
    link.symlink_to(database)
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        with other:
            other.execute("UPDATE products SET stock = 77")
        with closing(begun(link)) as live:
            assert not block_clone.copied(live, target)
    with closing(begun(link)) as live:
        assert block_clone.copied(live, target)
    assert dump(target) == dump(database)


def migrates_with_a_whole_backup(folder: Path) -> None:
    """A shop is migrated, and its backup has every row."""
    database = make_shop(folder, schema=2)
    before = dump(database)
    outcome = upgrade(database, released(folder, 4))
    assert (outcome.name, outcome.cause) == ("MIGRATED", "")
    assert outcome.backup is not None
    assert dump(outcome.backup.path) == before
    assert sales(database) == 100
    assert not [one for one in files(database.parent) if ".part-" in one]


@pytest.mark.parametrize(
    "program",
    [
        '#!/bin/sh\nshift 2\nhead -c 5000 "$1" > "$2"\nexit 1\n',
        "no program at all",
        "#!/bin/sh\necho 'cp: unrecognized option' >&2\nexit 1\n",
    ],
    ids=["half of it", "not a program", "an older cp"],
)
def test_where_it_does_not_work_the_backup_is_made_page_by_page(tmp_path: Path, copier: Path, program: str) -> None:
    copier.write_text(program)
    migrates_with_a_whole_backup(tmp_path)


def test_while_others_use_a_database_it_is_locked_for_the_time_of_the_clone_alone(tmp_path: Path, copier: Path) -> None:
    database, target = make_shop(tmp_path, schema=2), tmp_path / "copy.db"
    busy = tmp_path / "busy"
    copier.write_text(
        "#!/bin/sh\nshift\n"
        f'"{sys.executable}" -c "import sqlite3, sys;'
        " sqlite3.connect(sys.argv[1], timeout=0).execute('UPDATE products SET stock = 0')\""
        f' "{database}" 2> "{busy}"\nexec cp "$@"\n'
    )
    before = dump(database)
    assert block_clone.copied_in_use(source=database, target=target)
    assert "database is locked" in busy.read_text(encoding="utf-8")
    assert dump(target) == dump(database) == before
    with closing(sqlite3.connect(database, timeout=0)) as other, other:
        other.execute("UPDATE products SET stock = 77")
    assert dump(target) == before


def test_a_database_that_others_have_locked_or_in_their_wal_is_copied_page_by_page(
    tmp_path: Path, copier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_SECONDS", 0.0)
    database, target = make_shop(tmp_path, schema=2), tmp_path / "copy.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not block_clone.copied_in_use(source=database, target=target)
        assert not target.exists()
        snapshot.copy_database(source=database, target=target, told=nobody, in_use=True)
        other.execute("ROLLBACK")
    assert dump(target) == dump(database)
    ahead = make_shop(tmp_path / "ahead", schema=2, wal=True)
    with closing(sqlite3.connect(ahead)) as other, other:
        other.execute("UPDATE products SET stock = 77")
        other.commit()
        snapshot.copy_database(source=ahead, target=target, told=nobody, in_use=True)
        assert dump(target) == dump(ahead)


@pytest.mark.parametrize(("has_zstd", "has_second", "shares"), [(True, False, True), (False, True, True),
                                                               (False, False, False)])  # fmt: skip
def test_a_scheduled_backup_shares_blocks_only_if_there_will_be_a_copy_of_its_own(
    tmp_path: Path, copier: Path, monkeypatch: pytest.MonkeyPatch, has_zstd: bool, has_second: bool, shares: bool
) -> None:
    database, second = make_shop(tmp_path, schema=2), tmp_path / "second"
    second.mkdir()
    seen: list[bool] = []
    copied = block_clone.copied

    def noted(live: Connection, target: Path) -> bool:
        seen.append(copied(live, target))
        return seen[-1]

    monkeypatch.setattr(block_clone, "copied", noted)
    if not has_zstd:
        monkeypatch.setattr(compression, "is_there", lambda: False)
    policy = Policy(hourly=2, daily=0, weekly=0)
    done = scheduled_backup.run(effects(database), policy, second=second if has_second else None, if_due=False)
    assert done.made is not None
    assert seen == [True] * shares
    with compression.plain(done.made.path) as plain:
        assert dump(plain) == dump(database)
