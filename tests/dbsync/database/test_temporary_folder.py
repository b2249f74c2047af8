"""SQLite's temporary files: their folder is found as SQLite finds it, and checked before a backup is made."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from dbsync.commands import downgrade as go_back
from dbsync.database import preflight
from dbsync.errors import DiskFull
from dbsync.migrations import folder as migration_folder
from dbsync.storage import files as disk_files
from dbsync.storage.platform import this_platform
from dbsync.upgrade import coordinator
from tests.helpers.places import ROOT
from tests.helpers.shop import dump, effects, files, make_shop, released, upgrade, version

NAMES: Final = ("TMP", "TEMP") if sys.platform == "win32" else ("SQLITE_TMPDIR", "TMPDIR")
"""The variables that name the folder; the first one goes before."""
RUN: Final = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.helpers.shop import files, upgrade
from dbsync.migrations import folder
database, text = Path(sys.argv[2]), sys.argv[4]
found = folder.load(Path(sys.argv[3]))
filler = Path(os.environ["SQLITE_TMPDIR"]) / "filler"
for step in text:
    if step == "f":
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(65536))
                    file.flush()
            except OSError:
                pass
    if step == "e":
        filler.unlink()
    if step == "u":
        outcome = upgrade(database, found)
        made = sorted(name for name in files(database.parent) if name.endswith(".db") and "backup" in name)
        print(json.dumps([str(outcome.name), str(outcome.phase), outcome.cause, len(made)]))
"""


def mounted(place: Path, megabytes: int, words: list[str]) -> list[list[object]]:
    """Run a program whose SQLITE_TMPDIR is a file system of its own, and return the lines of JSON that it prints."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this system does not let a test mount anything")
    place.mkdir()
    script = f'mount -t tmpfs -o size={megabytes}m till "{place}" && SQLITE_TMPDIR="{place}" exec "$@"'
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", script, "sh", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_sqlite_takes_the_folder_that_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = NAMES
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    usual = this_platform().sqlite_temporary_folder()
    if sys.platform == "win32":
        assert usual == Path(os.environ["USERPROFILE"])
    else:
        assert usual in (Path("/var/tmp"), Path("/usr/tmp"), Path("/tmp"))
    monkeypatch.setenv(second, str(tmp_path))
    assert this_platform().sqlite_temporary_folder() == tmp_path
    monkeypatch.setenv(first, str(tmp_path / "gone"))
    # On Windows SQLite does not look whether the folder is there.
    assert this_platform().sqlite_temporary_folder() == (None if sys.platform == "win32" else tmp_path)
    (tmp_path / "gone").mkdir()
    assert this_platform().sqlite_temporary_folder() == tmp_path / "gone"


def test_no_folder_at_all_is_named_before_a_backup_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database), files(database.parent)
    monkeypatch.setattr(type(this_platform()), "sqlite_temporary_folder", lambda _: None)
    for _ in range(3):
        outcome = upgrade(database, released(tmp_path, 4))
        assert (outcome.name, outcome.phase) == ("READ_ONLY", "preflight")
        assert "temporary files" in outcome.cause
        assert "SQLITE_TMPDIR" in outcome.hint
    assert (dump(database), files(database.parent)) == before
    monkeypatch.undo()
    assert upgrade(database, released(tmp_path, 4)).name == "MIGRATED"


def test_without_a_folder_nothing_goes_back_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=2)
    found = released(tmp_path, 4)
    backup = upgrade(database, found).backup
    assert backup is not None
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("UPDATE products SET name = name || '!' WHERE rowid = 1")
    before = dump(database), files(database.parent)
    with monkeypatch.context() as patch:
        patch.setattr(type(this_platform()), "sqlite_temporary_folder", lambda _: None)
        returned = go_back.downgrade(effects(database), backup, found, accept_loss=False)
    assert (returned.back, returned.outcome.name) == (None, "RESTORE_PENDING"), returned
    assert "SQLite finds no folder for its temporary files" in returned.outcome.cause
    assert (dump(database), files(database.parent)) == before
    assert go_back.downgrade(effects(database), backup, found, accept_loss=False).back is not None


def test_a_full_folder_is_refused_with_numbers_before_a_backup_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=2)
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv(NAMES[0], str(place))
    really = disk_files.free_bytes
    monkeypatch.setattr(disk_files, "free_bytes", lambda path: 1000 if path == place else really(path))
    outcome = coordinator.upgrade(effects(database, least_free_bytes=10**6), migrations=released(tmp_path, 4))
    assert (outcome.name, outcome.phase) == ("NO_SPACE", "preflight")
    assert outcome.cause.endswith("required 0.1, available 0.0")
    assert not list((database.parent / "backups").glob("*.db"))
    with pytest.raises(DiskFull, match=re.escape(str(place))):
        preflight.check_temporary(database=database, backups=tmp_path, least_free_bytes=10**6)
    monkeypatch.setattr(preflight, "keeps_temporary_files", lambda: False)
    preflight.check_temporary(database=database, backups=tmp_path, least_free_bytes=10**6)


def test_what_ran_out_of_space_is_known_beforehand_the_next_time(tmp_path: Path) -> None:
    """An index whose sorting does not fit: one backup in vain, none at the next starts, and it works with space."""
    database, folder = tmp_path / "data" / "s.db", tmp_path / "m"
    folder.mkdir()
    database.parent.mkdir()
    (folder / "0001_a.sql").write_text("CREATE TABLE sale (id INTEGER PRIMARY KEY, t TEXT);")
    assert upgrade(database, migration_folder.load(folder)).name == "CREATED"
    with closing(sqlite3.connect(database)) as live, live:
        live.executemany("INSERT INTO sale (t) VALUES (?)", ((f"{n * 7919 % 60013:09d}" * 20,) for n in range(60_000)))
    (folder / "0002_b.sql").write_text("CREATE INDEX st ON sale (t);")
    words = [sys.executable, "-c", RUN, str(ROOT), str(database), str(folder), "fuuueu"]
    ends = mounted(tmp_path / "temporary", 20, words)
    assert [(name, phase, backups) for name, phase, _, backups in ends[:3]] == [
        ("NO_SPACE", "migrate", 1),
        ("NO_SPACE", "preflight", 1),
        ("NO_SPACE", "preflight", 1),
    ], ends
    assert "available 0.0" in str(ends[1][2])
    assert ends[3][0] == "MIGRATED", ends
    assert version(database) == 2
    assert not {name for name in files(database.parent) if ".part-" in name or "-journal" in name}
