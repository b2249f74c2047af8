"""Every command, under every umask: nothing on the disk opens more than the database does."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.accounts import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
FIRST = "CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER);"
SECOND = "ALTER TABLE sale ADD COLUMN note TEXT;"
THIRD = "CREATE TABLE pay (id INTEGER PRIMARY KEY, blob BLOB);"


def write(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as live, live:
        for statement in statements:
            live.execute(statement)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
@pytest.mark.parametrize("rights", [0o600, 0o640], ids=oct)
def test_what_the_commands_leave_opens_no_more_than_the_database(tmp_path: Path, umask: int, rights: int) -> None:
    data, database = tmp_path / "data", tmp_path / "data" / "shop.db"
    data.mkdir()
    folders = {}
    for schema, texts in ((1, [FIRST]), (2, [FIRST, SECOND]), (3, [FIRST, SECOND, THIRD])):
        folders[schema] = tmp_path / f"release-{schema}"
        folders[schema].mkdir()
        for number, text in enumerate(texts, 1):
            (folders[schema] / f"{number:04d}_step.sql").write_text(text)
    database.touch()
    database.chmod(rights)
    seen: set[str] = set()

    def do(*words: object, wanted: tuple[int, ...] = (0,)) -> str:
        done = run(*words, "--database", database, umask=umask)
        assert done.status in wanted, f"{words}: {done.said}"
        for path, mode in modes(data).items():
            is_folder = (data / path).is_dir()
            allowed = rights | ((rights & 0o444) >> 2 if is_folder else 0)
            assert mode == (allowed | 0o600), f"{words}: {path} has {mode:o}"
            seen.add(Path(path).name)
        return done.said

    def up(schema: int) -> None:
        do("upgrade", "--migrations", folders[schema])

    up(1)
    write(database, "INSERT INTO sale (cents) VALUES (1), (2)")
    do("rehearse", "--migrations", folders[2])
    do("backup")
    up(2)
    write(database, "INSERT INTO sale (cents, note) VALUES (3, 'x')")
    do("diff", "--export", data / "rows", wanted=(0, 5))
    do("history", "--html", data / "history.html")
    do("write-schema", data / "schema.sql")
    do("downgrade", "--yes", "--accept-loss", wanted=(6,))
    up(3)
    do("restore", newest(data / "backups", "-v1-"), "--yes", "--accept-loss", wanted=(0, 6))
    up(3)
    shutil.copyfile(database, tmp_path / "other.db")
    do("import", tmp_path / "other.db", "--migrations", folders[3], "--yes")
    do("empty", "--migrations", folders[3], "--yes")
    up(3)
    do("verify", "--migrations", folders[3])
    do("backups", "--compress", "--keep-plain", 1)
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 512)
    do("repair", "--into", data / "repaired.db", wanted=(0, 1))
    do("upgrade", "--migrations", folders[3], wanted=(0, 4))
    kinds = {
        "dbsync-flight.jsonl", "shop.db.lock", "backups", "reports", "rows", "history.html", "schema.sql",
        "repaired.db", "0001_step.sql", "parked.jsonl", "sale.csv", "sale.sql",
    }  # fmt: skip
    assert kinds <= seen
    for part in (
        "-before-restore-",
        "-before-empty-",
        "-before-import-",
        "-manual-",
        "-v1-",
        ".zst",
        ".migrations",
    ):
        assert [name for name in seen if part in name], part


def newest(backups: Path, part: str) -> Path:
    return max(
        path for path in backups.glob(f"*{part}*.db") if "manual" not in path.name and "carried" not in path.name
    )


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_what_a_cut_run_leaves_is_as_closed_as_the_database(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends where its copies have temporary names: nothing is removed, as if the power had been cut."""
    data, database = tmp_path / "data", tmp_path / "data" / "shop.db"
    data.mkdir()
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "0001_step.sql").write_text(FIRST)
    assert run("upgrade", "--migrations", tmp_path / "release", "--database", database).status == 0
    write(database, "INSERT INTO sale (cents) VALUES (1)")
    (tmp_path / "release" / "0002_step.sql").write_text(SECOND)
    database.chmod(0o600)
    shutil.rmtree(data / "backups")
    kept: list[Path] = []
    monkeypatch.setattr("dbsync.backups.snapshot.keep_part", stop)
    monkeypatch.setattr("dbsync.backups.snapshot.drop_part", kept.append)
    assert run("upgrade", "--migrations", tmp_path / "release", "--database", database, umask=umask).status != 0
    monkeypatch.undo()
    left = modes(data)
    assert [name for name in left if Path(name).name.startswith(".part-")]
    assert {name: mode for name, mode in left.items() if mode & 0o077} == {}


def stop(part: object) -> None:
    raise OSError(5, "the power is gone")
