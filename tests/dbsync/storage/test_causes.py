"""Which errors are held against a release: every code of SQLite and every error of files of this system is decided."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from dbsync.errors import (
    Damaged,
    DiskFull,
    DiskProblem,
    Failed,
    Locked,
    MigrationFailed,
    NoMemory,
    ReadOnly,
    TillkeeperError,
    TryLater,
    wrapped,
)
from dbsync.storage import causes
from dbsync.storage.connections import translated
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.places import ROOT
from tests.helpers.shop import dump, effects, files, make_shop, released, upgrade, version, written


def extended() -> dict[str, int]:
    """Return the extended result codes that this Python knows, by name."""
    names = [name for name in dir(sqlite3) if name.startswith("SQLITE_") and "_DBCONFIG_" not in name]
    found = {name: getattr(sqlite3, name) for name in names}
    return {name: code for name, code in found.items() if isinstance(code, int) and code > 0xFF and code & 0xFF}


def failing(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


def test_every_primary_code_of_sqlite_is_decided() -> None:
    """By sqlite.org/rescode.html: 1 to 28; SQLITE_ROW and SQLITE_DONE are no errors."""
    assert set(causes.PRIMARY) == set(range(1, 29))


def test_every_extended_code_goes_with_its_primary_one_but_for_those_that_are_named() -> None:
    found = extended()
    assert len(found) > 50, "Python 3.11 names the extended codes"
    for name, code in found.items():
        kind = causes.kind_of(failing(code))
        assert kind is causes.EXTENDED.get(code, causes.PRIMARY[code & 0xFF]), name


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_IOERR_READ, DiskProblem),
        (sqlite3.SQLITE_IOERR_GETTEMPPATH, DiskProblem),
        (sqlite3.SQLITE_IOERR_NOMEM, NoMemory),
        (sqlite3.SQLITE_IOERR_SHMSIZE, DiskFull),
        (sqlite3.SQLITE_FULL, DiskFull),
        (sqlite3.SQLITE_NOMEM, NoMemory),
        (sqlite3.SQLITE_NOLFS, DiskProblem),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Locked),
        (sqlite3.SQLITE_LOCKED_SHAREDCACHE, Locked),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, ReadOnly),
        (sqlite3.SQLITE_READONLY_DBMOVED, ReadOnly),
        (sqlite3.SQLITE_CORRUPT_INDEX, Damaged),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, MigrationFailed),
        (sqlite3.SQLITE_ERROR_MISSING_COLLSEQ, MigrationFailed),
        (sqlite3.SQLITE_TOOBIG, MigrationFailed),
        # Two statements of the migration, or its own write to a search index: no other process, and no damaged page.
        (sqlite3.SQLITE_LOCKED, MigrationFailed),
        (sqlite3.SQLITE_LOCKED_VTAB, MigrationFailed),
        (sqlite3.SQLITE_CORRUPT_VTAB, MigrationFailed),
    ],
)
def test_in_a_migration_an_error_is_the_releases_or_the_machines(
    tmp_path: Path, code: int, kind: type[TillkeeperError]
) -> None:
    with pytest.raises(kind) as raised, translated("migrate", tmp_path / "x.db", otherwise=MigrationFailed):
        raise failing(code)
    assert type(raised.value) is kind
    assert issubclass(kind, TryLater) == (raised.value.exit_status == 75)


@pytest.mark.parametrize("code", sorted(causes.OF_THE_STATEMENT))
def test_outside_of_a_release_the_same_codes_keep_their_own_meaning(tmp_path: Path, code: int) -> None:
    with pytest.raises((Locked, Damaged)), translated("compare", tmp_path / "x.db"):
        raise failing(code)


def test_every_error_of_files_that_this_system_knows_is_decided() -> None:
    of_the_release = {name for code, name in errno.errorcode.items() if code in causes.OF_THE_RELEASE}
    assert {"ENOENT", "ENOTDIR", "EEXIST", "EINVAL", "EBADF"} <= of_the_release
    for code, name in errno.errorcode.items():
        kind = causes.of_this_machine(OSError(code, name))
        if code in causes.OF_THE_RELEASE:
            assert kind is None, name
        else:
            assert kind is not None, name
            assert issubclass(kind, DiskProblem), name
    machine = {"EIO", "ENOSPC", "EDQUOT", "EROFS", "ENOMEM", "EMFILE", "ENFILE", "EACCES", "EPERM", "ESTALE", "EBUSY"}
    assert not machine & of_the_release
    assert causes.of_this_machine(OSError(errno.ENOSPC, "")) is DiskFull
    assert causes.of_this_machine(OSError(errno.EROFS, "")) is ReadOnly
    assert causes.of_this_machine(OSError("of a library, without a number")) is None


def test_a_lack_of_memory_is_the_machines_wherever_python_raises_it(tmp_path: Path) -> None:
    assert isinstance(wrapped(MemoryError()), NoMemory)
    assert causes.of_this_machine(MemoryError()) is NoMemory
    with pytest.raises(NoMemory), translated("migrate", tmp_path / "x.db", otherwise=MigrationFailed):
        raise MemoryError


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        ("OSError(5, 'Input/output error')", "MACHINE_PROBLEM"),
        ("OSError(24, 'Too many open files')", "MACHINE_PROBLEM"),
        ("PermissionError(13, 'Permission denied')", "MACHINE_PROBLEM"),
        ("MemoryError()", "MACHINE_PROBLEM"),
        ("OSError(28, 'No space left on device')", "NO_SPACE"),
        ("FileNotFoundError(2, 'No such file')", "MIGRATION_FAILED"),
        ("ValueError('a code that no product has')", "MIGRATION_FAILED"),
    ],
)
def test_only_what_lies_in_the_release_is_counted_against_it(tmp_path: Path, raised: str, outcome: str) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    text = f'"""A step."""\nimport os\n\n\ndef up(db):\n    if not os.path.exists({str(tmp_path / "well")!r}):\n'
    found = written(tmp_path / "m", f"{text}        raise {raised}\n", after=2)
    assert [upgrade(database, found).name for _ in range(3)] == [outcome] * 2 + (
        ["FAILED_BEFORE"] if outcome == "MIGRATION_FAILED" else [outcome]
    )
    assert dump(database) == before
    (tmp_path / "well").touch()
    assert upgrade(database, found, again=outcome == "MIGRATION_FAILED").name == "MIGRATED"
    assert version(database) == 3


def test_two_failures_of_the_release_with_one_of_the_machine_between_them_are_two(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    text = (
        '"""A step."""\nimport os\n\n\ndef up(db):\n'
        f"    if os.path.exists({str(tmp_path / 'ill')!r}):\n        raise OSError(5, 'Input/output error')\n"
        "    raise ValueError('a code that no product has')\n"
    )
    found = written(tmp_path / "m", text, after=2)
    assert upgrade(database, found).name == "MIGRATION_FAILED"
    (tmp_path / "ill").touch()
    assert upgrade(database, found).name == "MACHINE_PROBLEM"
    (tmp_path / "ill").unlink()
    assert upgrade(database, found).name == "MIGRATION_FAILED"
    assert upgrade(database, found).name == "FAILED_BEFORE"


LIMITED: Final = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from dbsync.__main__ import main
sys.argv = ["dbsync", *sys.argv[2:]]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are of POSIX")
def test_a_limit_of_this_machine_that_sqlite_calls_an_io_error_goes_away_with_the_limit(tmp_path: Path) -> None:
    """An index over a large table: the file grows past what this process may write, three times."""
    database, folder = tmp_path / "data" / "s.db", tmp_path / "m"
    folder.mkdir()
    database.parent.mkdir()
    (folder / "0001_a.sql").write_text("CREATE TABLE sale (id INTEGER PRIMARY KEY, t TEXT);")
    assert dbsync("upgrade", "--database", database, "--migrations", folder).returncode == 0
    with closing(sqlite3.connect(database)) as live, live:
        live.executemany("INSERT INTO sale (t) VALUES (?)", (("x" * 60,) for _ in range(20_000)))
    (folder / "0002_b.sql").write_text("CREATE INDEX st ON sale (t);")
    before, limit = dump(database), database.stat().st_size + 100_000
    words = ["upgrade", "--database", str(database), "--migrations", str(folder), "--json"]
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(limit), *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        last = json.loads(done.stdout.splitlines()[-1])
        assert (done.returncode, last["name"]) in ((75, "MACHINE_PROBLEM"), (75, "NO_SPACE")), done.stdout
        assert "I/O error" in last["cause"] or "full" in last["cause"]
        assert dump(database) == before
    assert dbsync(*words).returncode == 0
    assert version(database) == 2
    assert not {name for name in files(database.parent) if ".part-" in name or "-journal" in name}


def test_an_io_error_of_commit_is_the_machines_if_the_database_is_the_old_one(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)

    def torn() -> None:
        with translated("commit", database, otherwise=Failed):
            raise failing(sqlite3.SQLITE_IOERR_FSYNC)

    from dbsync.upgrade import coordinator

    live = effects(database)
    live.commit = torn  # type: ignore[method-assign]
    outcome = coordinator.upgrade(live, migrations=released(tmp_path, 4))
    assert (outcome.name, dump(database) == before) == ("MACHINE_PROBLEM", True)

    live = effects(database)
    really = live.commit

    def late() -> None:
        really()
        torn()

    live.commit = late  # type: ignore[method-assign]
    outcome = coordinator.upgrade(live, migrations=released(tmp_path, 4))
    assert (outcome.name, version(database)) == ("COMMIT_FAILED", 4)
