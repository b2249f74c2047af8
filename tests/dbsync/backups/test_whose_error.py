"""An error belongs to its object: a target that cannot be written says nothing about the source, and the reverse."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dbsync.backups import snapshot
from dbsync.errors import Damaged, DiskFull, DiskProblem, TillkeeperError
from dbsync.model import Intent
from dbsync.progress import nobody
from dbsync.recovery.repair import repair
from dbsync.storage import files, temporary_files
from dbsync.storage.page_copy import is_of_new_target
from tests.dbsync.backups.test_quarantine import text
from tests.helpers.places import ROOT
from tests.helpers.shop import effects, make_shop

LIMITED = """
import json, resource, sys
from pathlib import Path
from dbsync.backups import snapshot
from dbsync.errors import TillkeeperError
from dbsync.progress import nobody
from dbsync.recovery.repair import repair
source, target, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    match what:
        case "pages":
            snapshot.copy_database(source=source, target=target, told=nobody)
        case "bytes":
            snapshot.scratch_copy(source=source, target=target, told=nobody)
        case "repair":
            repair(database=source, into=target, backups=[])
    print("done")
except TillkeeperError as error:
    print(json.dumps([type(error).__name__, error.operation, str(error.path)]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limit on the size of a file is of POSIX")
@pytest.mark.parametrize("what", ["pages", "bytes", "repair"])
@pytest.mark.parametrize("wal", [False, True], ids=["journal", "wal"])
def test_a_target_that_cannot_be_written_is_never_the_sources_damage(tmp_path: Path, what: str, wal: bool) -> None:
    database = make_shop(tmp_path, schema=2, items_count=4000, wal=wal)
    before = database.read_bytes()
    assert len(before) > 100_000
    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, database, target, what], capture_output=True, text=True, check=True, cwd=ROOT
    )
    name, _operation, path = json.loads(done.stdout)
    assert name in ("DiskProblem", "DiskFull"), done.stdout
    assert Path(path).is_relative_to(target.parent), done.stdout
    assert database.read_bytes() == before
    if what != "bytes":
        assert list(target.parent.iterdir()) == []


def test_a_source_that_cannot_be_read_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    text(database)
    target = tmp_path / "copy.db"
    with pytest.raises(Damaged) as told:
        snapshot.copy_database(source=database, target=target, told=nobody)
    assert told.value.path == database
    assert not target.exists()


def test_a_copy_of_bytes_names_the_file_that_failed(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.write_bytes(b"x" * 1_000_000)
    folder.mkdir()
    told = []
    for pair in ((folder, tmp_path / "a"), (tmp_path / "missing", tmp_path / "b"), (source, folder)):
        with pytest.raises(DiskProblem) as raised:
            files.copy_bytes(source=pair[0], target=pair[1])
        told.append((raised.value.operation, raised.value.path))
    assert told == [("read", folder), ("read", tmp_path / "missing"), ("write", folder)]
    seen: list[tuple[int, int]] = []
    files.copy_bytes(source=source, target=tmp_path / "c", told=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "c").read_bytes() == source.read_bytes()
    assert seen[-1] == (1_000_000, 1_000_000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is of Linux")
def test_a_full_disk_is_the_targets(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1_000_000)
    with pytest.raises(DiskFull) as raised:
        files.copy_bytes(source=source, target=Path("/dev/full"))
    assert raised.value.path == Path("/dev/full")


@pytest.mark.parametrize(
    ("code", "of_target"),
    [
        (sqlite3.SQLITE_FULL, True), (sqlite3.SQLITE_READONLY, True), (sqlite3.SQLITE_CANTOPEN, True),
        (sqlite3.SQLITE_IOERR, True), (sqlite3.SQLITE_IOERR_WRITE, True), (sqlite3.SQLITE_IOERR_FSYNC, True),
        (sqlite3.SQLITE_IOERR_TRUNCATE, True), (sqlite3.SQLITE_IOERR_READ, False),
        (sqlite3.SQLITE_IOERR_SHORT_READ, False), (sqlite3.SQLITE_CORRUPT, False), (sqlite3.SQLITE_NOTADB, False),
        (sqlite3.SQLITE_BUSY, False), (None, False),
    ],
)  # fmt: skip
def test_sqlites_error_of_a_copy_tells_which_file_it_is_of(code: int | None, of_target: bool) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    if code is not None:
        error.sqlite_errorcode = code
    assert is_of_new_target(error) == of_target


def test_a_sync_that_fails_is_an_error_of_ours(tmp_path: Path) -> None:
    # There is no call that syncs a folder on Windows.
    folders = () if sys.platform == "win32" else (files.sync_folder,)
    for failing in (*folders, files.sync_file, files.sync_tree):
        with pytest.raises(DiskProblem) as raised:
            failing(tmp_path / "missing")
        assert raised.value.operation == "sync"
        assert raised.value.path == tmp_path / "missing"


def test_what_a_cut_run_left_goes_at_the_next_one_and_a_neighbours_stays(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    backups, owner = database.parent / "backups", temporary_files.owner_of(database)
    left = [
        temporary_files.part_of(backups / "pos_system-backup-v2-x.db", owner),
        temporary_files.part_of(database.parent / "pos_system-backup-before-restore-x.db", owner),
        temporary_files.part_of(backups / "restore-1.json", owner),
        temporary_files.scratch_of(backups, owner, "carried"),
        files_new(temporary_files.part_of(backups / "restore-2.json", owner)),
        backups / ".write-probe-4711",
    ]
    neighbours = [
        temporary_files.part_of(backups / "restore-1.json", "other.db"),
        temporary_files.part_of(backups / "other-backup-v2-x.db", "other.db"),
    ]
    for path in (*left, *neighbours):
        path.write_bytes(b"left")
    effects(database).make_backup()
    assert [path.name for path in left if path.exists()] == []
    assert all(path.exists() for path in neighbours)


def files_new(path: Path) -> Path:
    """The name under which a file is written before it gets its name."""
    return path.with_name(f"{files.NEW}{path.name}")


def test_an_intent_that_is_cut_while_it_is_written_carries_the_name_of_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=2)
    found = effects(database)
    intent = Intent("one", "backup.db", None)
    # A folder in the place of the file: it cannot get its name.
    (found.backups / "restore-one.json").mkdir()
    (found.backups / "restore-one.json" / "in the way").touch()
    with pytest.raises(DiskProblem):
        found.write_intent(intent)
    assert not [path for path in found.backups.iterdir() if "restore-one" in path.name and path.is_file()]

    def cut(**_: Path) -> None:
        raise SystemExit("the process ends here")

    monkeypatch.setattr(files, "rename_durably", cut)
    with pytest.raises(SystemExit):
        found.write_intent(intent)
    monkeypatch.undo()
    (part,) = [path for path in found.backups.iterdir() if "restore-one" in path.name and path.is_file()]
    assert temporary_files.is_part(part)
    effects(database).make_backup()
    assert not part.exists()
    (found.backups / "restore-one.json" / "in the way").unlink()
    (found.backups / "restore-one.json").rmdir()
    found.write_intent(intent)
    assert found.read_intent("one") == intent


@pytest.mark.parametrize("at", [*range(16, 24), *range(28, 64, 4), 100, 103, 105, 108])
def test_a_recovery_of_whatever_damage_ends_with_a_result_or_an_error_of_ours(tmp_path: Path, at: int) -> None:
    database = make_shop(tmp_path, schema=2, items_count=40)
    data = bytearray(database.read_bytes())
    data[at] ^= 0xFF
    database.write_bytes(data)
    with suppress(TillkeeperError):
        found = repair(database=database, into=tmp_path / "new.db", backups=[])
        assert found.into.exists()
    assert not list(tmp_path.glob(".part-*"))
