"""Root and the clerk's account on one database, for real: nothing that root made is in the clerk's way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.accounts import CLERK, as_root, folder_of, run

FIRST = "CREATE TABLE sale (id INTEGER PRIMARY KEY AUTOINCREMENT, cents INTEGER);"
SECOND = "ALTER TABLE sale ADD COLUMN note TEXT;"
pytestmark = as_root


class Shop:
    """A database of the clerk, with the folders of two releases, which belong to root."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        os.chown(self.data, CLERK, CLERK)
        self.database = self.data / "shop.db"
        for name, texts in (("old", [FIRST]), ("new", [FIRST, SECOND])):
            (folder / name).mkdir()
            for number, text in enumerate(texts, 1):
                (folder / name / f"{number:04d}_step.sql").write_text(text)
        self.old, self.new = folder / "old", folder / "new"

    def run(self, command: str, *words: object, user: int = CLERK) -> str:
        done = run(command, *words, "--database", self.database, user=user)
        assert done.status == 0, done.said
        return done.said

    def sell(self, cents: int) -> None:
        """A sale, as the app makes it."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgid(CLERK)
                os.setuid(CLERK)
                with closing(sqlite3.connect(self.database)) as live, live:
                    live.execute("INSERT INTO sale (cents) VALUES (?)", (cents,))
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0

    def sales(self) -> list[int]:
        with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)) as live:
            return [row[0] for row in live.execute("SELECT cents FROM sale ORDER BY id")]

    def of_root(self) -> list[str]:
        """The files in the folder of the data that are not the clerk's, or open more than the database does."""
        allowed = stat.S_IMODE(self.database.stat().st_mode)
        return [
            str(path.relative_to(self.data))
            for path in self.data.rglob("*")
            if path.lstat().st_uid != CLERK
            or path.lstat().st_gid != CLERK
            or (path.is_file() and stat.S_IMODE(path.stat().st_mode) & ~allowed)
        ]


@pytest.fixture
def shop() -> Iterator[Shop]:
    with folder_of(CLERK) as folder:
        made = Shop(folder)
        made.run("upgrade", "--migrations", made.old)
        made.database.chmod(0o640)
        made.sell(100)
        # The first command that makes the lock, the folder of backups and the record is root's.
        shutil.rmtree(made.data / "backups")
        made.database.with_name("shop.db.lock").unlink()
        yield made


@pytest.mark.parametrize(
    "command", ["backup", "rehearse", "upgrade", "diff", "downgrade", "restore", "export", "repair", "backups"]
)
def test_the_next_start_after_a_command_of_root_works(shop: Shop, command: str) -> None:
    going_back = ("--yes", "--accept-loss")
    if command == "backup":
        shop.run("backup", user=0)
    elif command == "rehearse":
        shop.run("rehearse", "--migrations", shop.new, user=0)
    elif command == "repair":
        shop.run("repair", "--into", shop.data / "repaired.db", user=0)
    else:
        shop.run("upgrade", "--migrations", shop.new, user=0)
        shop.sell(200)
    if command == "diff":
        shop.run("diff", "--export", shop.data / "rows", user=0)
    elif command == "export":
        with closing(sqlite3.connect(shop.database)) as live, live:
            live.execute("UPDATE sale SET note = 'x'")
        assert run("diff", "--export", shop.data / "rows", "--database", shop.database).status == 5
        assert list((shop.data / "rows").iterdir())
    elif command == "downgrade":
        shop.run("downgrade", *going_back, user=0)
    elif command == "restore":
        newest = max((shop.data / "backups").glob("*-v1-*.db"))
        assert run("restore", newest, *going_back, "--database", shop.database).status in (0, 6)
    elif command == "backups":
        shop.run("backups", "--prune", user=0)
    assert shop.of_root() == []
    before = shop.sales()
    assert "MIGRATED" not in shop.run("upgrade", "--migrations", shop.new, user=CLERK) or shop.sales() == before
    shop.sell(300)
    shop.run("backup")
    # 6: the older schema has no place for the notes, which are exported.
    assert run("downgrade", *going_back, "--database", shop.database, user=CLERK).status == 6 * (command == "export")
    assert [*before, 300] == shop.sales()
    assert shop.of_root() == []


def test_a_database_that_root_creates_is_the_clerks(shop: Shop) -> None:
    shop.database.unlink()
    shop.run("upgrade", "--migrations", shop.new, user=0)
    assert shop.of_root() == []
    shop.sell(5)
    assert shop.sales() == [5]


def test_a_lock_that_root_left_with_an_earlier_version_stops_nobody(shop: Shop) -> None:
    lock = shop.database.with_name("shop.db.lock")
    lock.touch(0o644)
    os.chown(lock, 0, 0)
    shop.run("upgrade", "--migrations", shop.new)
    assert shop.sales() == [100]
    assert lock.stat().st_uid == 0


def test_root_writes_through_no_link_that_the_clerk_planted(shop: Shop) -> None:
    with folder_of(0) as folder:
        foreign = folder / "foreign"
        foreign.write_text("of root")
        foreign.chmod(0o600)
        (shop.data / "backups").mkdir()
        os.chown(shop.data / "backups", CLERK, CLERK)
        for name in ("shop.db.lock", "backups/dbsync-flight.jsonl"):
            (shop.data / name).symlink_to(foreign)
            os.chown(shop.data / name, CLERK, CLERK, follow_symlinks=False)
        done = run("upgrade", "--migrations", shop.new, "--database", shop.database)
        assert done.status == 75
        assert str(shop.database.with_name("shop.db.lock")) in done.said
        shop.database.with_name("shop.db.lock").unlink()
        done = run("upgrade", "--migrations", shop.new, "--database", shop.database)
        assert done.status == 0, done.said
        assert (foreign.read_text(), stat.S_IMODE(foreign.stat().st_mode), foreign.stat().st_uid) == (
            "of root",
            0o600,
            0,
        )


# ------------------------------------------------------------------------------------------- a cause names its path


def foreign_folder(shop: Shop) -> Path:
    (shop.data / "backups").mkdir(mode=0o755)
    return shop.data / "backups"


def closed_folder(shop: Shop) -> Path:
    (shop.data / "backups").mkdir()
    os.chown(shop.data / "backups", CLERK, CLERK)
    (shop.data / "backups").chmod(0o500)
    return shop.data / "backups"


def unreadable_folder(shop: Shop) -> Path:
    (shop.data / "backups").mkdir(mode=0o700)
    return shop.data / "backups"


def closed_data(shop: Shop) -> Path:
    shop.database.with_name("shop.db.lock").touch()
    os.chown(shop.database.with_name("shop.db.lock"), CLERK, CLERK)
    shop.data.chmod(0o500)
    return shop.data


def foreign_lock(shop: Shop) -> Path:
    lock = shop.database.with_name("shop.db.lock")
    lock.touch()
    lock.chmod(0o600)
    return lock


def foreign_database(shop: Shop) -> Path:
    os.chown(shop.database, 0, 0)
    shop.database.chmod(0o644)
    return shop.database


def unreadable_database(shop: Shop) -> Path:
    os.chown(shop.database, 0, 0)
    shop.database.chmod(0o600)
    return shop.database


COMMANDS = {
    "upgrade": ["upgrade", "--migrations", "NEW"],
    "dry run": ["upgrade", "--dry-run", "--migrations", "NEW"],
    "backup": ["backup"],
    "rehearse": ["rehearse", "--migrations", "NEW"],
    "import": ["import", "KEPT", "--migrations", "NEW", "--yes"],
    "empty": ["empty", "--migrations", "NEW", "--yes"],
    "restore": ["restore", "KEPT", "--yes"],
    "stamp": ["stamp", "1", "--migrations", "NEW", "--yes"],
    "repair": ["repair", "--into", "DATA/new.db"],
    "history": ["history"],
}


@pytest.mark.parametrize(
    "trouble",
    [
        foreign_folder,
        closed_folder,
        unreadable_folder,
        closed_data,
        foreign_lock,
        foreign_database,
        unreadable_database,
    ],
    ids=lambda trouble: trouble.__name__,
)
def test_a_command_that_cannot_work_names_the_path(shop: Shop, trouble: object) -> None:
    kept = shop.data.parent / "kept.db"
    shutil.copyfile(shop.database, kept)
    kept.chmod(0o644)
    assert callable(trouble)
    path = trouble(shop)
    words = {"NEW": str(shop.new), "KEPT": str(kept), "DATA/new.db": str(shop.data / "new.db")}
    met = 0
    for name, command in COMMANDS.items():
        done = run(*[words.get(word, word) for word in command], "--database", shop.database, user=CLERK)
        said = done.said
        assert "Traceback" not in said, name
        if done.status == 75 or "READ_ONLY" in said or "CANNOT_READ" in said:
            met += 1
            assert str(path) in said, f"{name}: {said}"
    assert met >= 2, met
    assert shop.sales() == [100]
