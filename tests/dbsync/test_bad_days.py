"""Databases and disks as they are on bad days: each has a name, and the database is as it was."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.storage.locks import Lock
from tests.helpers.places import ROOT
from tests.helpers.shop import dump, files, make_shop, released, sales, upgrade, version


def command(database: Path, folder: Path) -> list[str]:
    """`dbsync upgrade`."""
    return [sys.executable, "-m", "dbsync", "upgrade", "--database", str(database), "--migrations", str(folder)]


def test_a_newer_database_is_refused_byte_for_byte(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=5)
    before = database.read_bytes()
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, outcome.cause) == ("TOO_NEW", "the database has schema 5, this release knows 4")
    assert database.read_bytes() == before
    assert not list((database.parent / "backups").glob("*.db"))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    database.write_bytes(b"this is a text" * 1000)
    assert upgrade(database, released(tmp_path, 4)).name == "DAMAGED"
    assert database.read_bytes() == b"this is a text" * 1000


@pytest.mark.parametrize("how", ["missing", "no bytes", "no tables"])
def test_a_shop_that_had_data_is_never_started_empty(tmp_path: Path, how: str) -> None:
    database = make_shop(tmp_path, schema=2)
    assert upgrade(database, released(tmp_path, 4)).ready
    database.unlink()
    if how != "missing":
        database.touch()
    if how == "no tables":
        with closing(sqlite3.connect(database)) as live:
            live.execute("VACUUM")
    size_bytes = database.stat().st_size if database.exists() else None
    outcome = upgrade(database, released(tmp_path, 4))
    assert outcome.name == "MISSING"
    assert "backup of schema 2" in outcome.cause
    assert (database.stat().st_size if database.exists() else None) == size_bytes


def test_an_empty_file_without_a_past_is_a_first_start(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    database.touch()
    assert upgrade(database, released(tmp_path, 4)).name == "CREATED"
    assert version(database) == 4


def test_tables_without_a_history_are_not_guessed(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE products (id)")
    before = database.read_bytes()
    assert upgrade(database, released(tmp_path, 4)).name == "UNTRACKED"
    assert database.read_bytes() == before


def test_a_readable_history_alone_is_adopted_by_name(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("DROP TABLE dbsync_history")
    assert upgrade(database, released(tmp_path, 4)).name == "MIGRATED"
    assert any("'adopted',1,'initial_schema'" in line for line in dump(database))


@pytest.mark.parametrize("wal", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_database_that_another_process_writes_is_left_alone(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, wal=wal)
    before = dump(database)
    text = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE');"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().split() == [b"held"]
        done = subprocess.run(
            command(database, Path(released(tmp_path, 4)[0].path).parent),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 75
        assert "LOCKED" in done.stdout
        holder.communicate(b"")
    assert dump(database) == before
    assert upgrade(database, released(tmp_path, 4)).name == "MIGRATED"


def test_in_wal_mode_an_idle_program_is_enough_to_wait_for(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2, wal=True)
    with closing(sqlite3.connect(database)) as other:
        other.execute("SELECT count(*) FROM products").fetchone()
        done = subprocess.run(
            command(database, Path(released(tmp_path, 4)[0].path).parent),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
    assert (done.returncode, "LOCKED" in done.stdout) == (75, True)
    assert version(database) == 2


def test_of_two_upgrades_at_once_one_runs_and_the_other_leaves(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    lock = Lock(Path(f"{database}.lock"))
    assert lock.try_take()
    folder = Path(released(tmp_path, 4)[0].path).parent
    done = subprocess.run(command(database, folder), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 75
    assert "another process" in done.stderr
    lock.release()
    assert version(database) == 2


@pytest.mark.parametrize("what", ["data", "data/backups"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, what: str) -> None:
    database = make_shop(tmp_path, schema=2)
    folder = Path(released(tmp_path, 4)[0].path).parent
    before = dump(database)
    place = tmp_path / what
    lock = Path(f"{database}.lock")
    lock.touch()
    done = mounted(f'mount --bind "{place}" "{place}" && mount -o remount,ro,bind "{place}"', command(database, folder))
    assert done.returncode == 75, done.stderr
    assert "READ_ONLY" in done.stdout or "Read-only file system" in done.stderr
    assert dump(database) == before


def mounted(mount: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command with something mounted that only it sees."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this system does not let a test mount anything")
    script = f'{mount} && exec "$0" "$@"'
    return subprocess.run(
        [unshare, "-rm", "sh", "-c", script, *words], capture_output=True, text=True, check=False, cwd=ROOT
    )


FULL = """
import sys
from pathlib import Path
from tests.helpers import shop
from dbsync.upgrade import coordinator
folder, small = Path(sys.argv[1]), Path(sys.argv[2])
database = shop.make_shop(small, schema=2, items_count=20000, wal=sys.argv[3] == "wal")
before = shop.dump(database)
big = '''\"\"\"Grows.\"\"\"

def up(db):
    db.execute("CREATE TABLE big (a BLOB)")
    for _ in range(4000):
        db.execute("INSERT INTO big VALUES (randomblob(10000))")
'''
found = shop.written(folder / "m", big, after=2)
outcome = shop.upgrade(database, found)
assert outcome.name == "NO_SPACE", outcome
assert shop.dump(database) == before
journal = Path(f"{database}-wal")
assert not journal.exists() or not journal.stat().st_size, "it does not go on holding the disk"
shop.sell(database)
assert shop.sales(database) == 5001
print("as it was, and it sells;", sorted(p.name for p in database.parent.iterdir()))
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_disk_that_fills_in_the_middle_of_the_migration_leaves_a_till_that_sells(tmp_path: Path, mode: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    done = mounted(
        f'mount -t tmpfs -o size=12m till "{small}"', [sys.executable, "-c", FULL, str(tmp_path), str(small), mode]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("as it was, and it sells;")
    assert ".part-" not in done.stdout


def test_too_little_space_is_refused_with_numbers_before_anything_is_touched(tmp_path: Path) -> None:
    from dbsync.upgrade import coordinator
    from tests.helpers.shop import effects

    database = make_shop(tmp_path, schema=2)
    before = (database.read_bytes(), sales(database))
    outcome = coordinator.upgrade(effects(database, least_free_bytes=10**16), migrations=released(tmp_path, 4))
    assert (outcome.name, outcome.phase) == ("NO_SPACE", "preflight")
    assert outcome.cause.startswith(f"{database.parent}: Database 0.1 MB, required 10000000000.0, available ")
    assert (database.read_bytes(), sales(database)) == before


@pytest.mark.skipif(sys.platform == "win32", reason="mounts, and how others read them, are of POSIX")
@pytest.mark.parametrize("name", ["a shop", "a\u2028shop", "a\rshop", "a\nshop", "a\\040shop"])
def test_a_database_on_a_network_file_system_is_not_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from dbsync.storage.platform import linux

    database = make_shop(tmp_path / name, schema=2)
    before = (database.read_bytes(), files(database.parent))
    mounts = tmp_path / "mounts"
    place = str(tmp_path / name).replace("\\", "\\134").replace(" ", "\\040").replace("\n", "\\012")
    mounts.write_bytes(f"/dev/vda / ext4 rw 0 0\nserver:/tills {place} nfs4 rw 0 0\n".encode())
    monkeypatch.setattr(linux, "MOUNTS", mounts)
    outcome = upgrade(database, released(tmp_path, 4))
    cause = f"{database}: it lies on a network file system (nfs4)"
    assert (outcome.name, outcome.cause) == ("NETWORK_DRIVE", cause)
    assert (database.read_bytes(), files(database.parent)) == before
    lines = mounts.read_bytes().decode().split("\n")
    assert linux.file_system_of(Path("/elsewhere/x.db"), lines) == "ext4"
    assert linux.file_system_of(tmp_path / f"{name} too" / "x.db", lines) == "ext4"
