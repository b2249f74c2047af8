"""`sudo dbsync …`: every command has the rights of the database's owner before it opens anything of his."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.cli.main import COMMANDS
from dbsync.storage.platform import this_platform
from tests.dbsync.test_two_accounts import Shop
from tests.helpers.accounts import CLERK, OPENED_AS_ROOT, Done, as_root, folder_of, run

pytestmark = as_root
WORDS = {
    "backup": [], "backups": [], "baseline": ["--migrations", "NEW"], "check": ["--migrations", "NEW"],
    "counters": [], "diff": [], "downgrade": ["--yes"], "empty": ["--migrations", "NEW", "--yes"],
    "history": [], "import": ["KEPT", "--migrations", "NEW", "--yes"], "kept": [],
    "rehearse": ["--migrations", "NEW"], "repair": ["--into", "DATA/new.db"], "restore": ["KEPT", "--yes"],
    "stamp": ["--at", "1", "--migrations", "NEW", "--yes"], "status": [], "upgrade": ["--migrations", "NEW"],
    "verify": ["--migrations", "NEW"], "write-schema": ["DATA/schema.db"],
}  # fmt: skip
WITHOUT_A_DATABASE = {"new"}


@pytest.fixture
def shop() -> Iterator[Shop]:
    with folder_of(CLERK) as folder:
        made = Shop(folder)
        made.run("upgrade", "--migrations", made.old)
        made.sell(100)
        shutil.copyfile(made.database, folder / "kept.db")
        (folder / "kept.db").chmod(0o644)
        yield made


def sudo(shop: Shop, command: str, *words: object, database: Path | None = None) -> Done:
    meant = {"NEW": shop.new, "KEPT": shop.data.parent / "kept.db", "DATA/new.db": shop.data / "new.db"}
    meant["DATA/schema.db"] = shop.data / "schema.sql"
    given = [meant.get(str(word), word) for word in words]
    return run(command, *given, "--database", database or shop.database, watched=shop.data)


def test_every_command_on_a_database_is_tried() -> None:
    assert WORDS.keys() | WITHOUT_A_DATABASE == COMMANDS.keys()


@pytest.mark.parametrize("command", WORDS)
def test_a_command_of_root_opens_nothing_of_the_clerk_with_the_rights_of_root(shop: Shop, command: str) -> None:
    done = sudo(shop, command, *WORDS[command])
    assert OPENED_AS_ROOT not in done.said
    assert "Traceback" not in done.said
    assert done.status in (0, 1, 4, 5), done.said
    assert [path for path in shop.data.rglob("*") if path.lstat().st_uid != CLERK] == []


def test_the_watch_notices_root(shop: Shop) -> None:
    os.chown(shop.database, 0, 0)
    assert OPENED_AS_ROOT in sudo(shop, "status").said


@pytest.mark.parametrize("where", ["database", "folder", "second name"])
def test_a_link_to_a_database_of_root_gives_its_maker_nothing(shop: Shop, where: str) -> None:
    """The clerk decides to which file his own names lead; so a command of root has no more rights than he has."""
    with folder_of(0) as folder:
        folder.chmod(0o700)
        (folder / "data").mkdir()
        foreign = folder / "data" / "shop.db"
        shutil.copyfile(shop.database, foreign)
        before = foreign.read_bytes()
        if where == "second name":
            # As a system without protected_hardlinks lets him.
            planted = shop.data / "planted.db"
            planted.hardlink_to(foreign)
        elif where == "database":
            planted = shop.data / "planted.db"
            planted.symlink_to(foreign)
            os.chown(planted, CLERK, CLERK, follow_symlinks=False)
        else:
            (shop.data / "planted").symlink_to(folder / "data")
            os.chown(shop.data / "planted", CLERK, CLERK, follow_symlinks=False)
            planted = shop.data / "planted" / "shop.db"
        done = run("upgrade", "--migrations", shop.new, "--database", planted)
        assert done.status == 75, done.said
        assert "ermission denied" in done.said or "cannot be written" in done.said or "READ_ONLY" in done.said
        assert foreign.read_bytes() == before
        assert [path.name for path in (folder / "data").iterdir()] == ["shop.db"]


def test_a_circle_of_links_is_an_error_with_the_path(shop: Shop) -> None:
    for name, target in (("a.db", "b.db"), ("b.db", "a.db")):
        (shop.data / name).symlink_to(target)
    done = run("status", "--database", shop.data / "a.db")
    assert done.status == 75
    assert "a.db" in done.said


def test_without_a_database_the_folder_names_the_owner(shop: Shop) -> None:
    shop.database.unlink()
    shutil.rmtree(shop.data / "backups", ignore_errors=True)
    done = sudo(shop, "upgrade", "--migrations", "NEW")
    assert (done.status, OPENED_AS_ROOT in done.said) == (0, False), done.said
    assert {path.lstat().st_uid for path in shop.data.rglob("*")} == {CLERK}


def test_a_database_of_root_stays_one_of_root(shop: Shop) -> None:
    with folder_of(0) as folder:
        shutil.copyfile(shop.database, folder / "shop.db")
        done = run("upgrade", "--migrations", shop.new, "--database", folder / "shop.db")
        assert done.status == 0, done.said
        assert {path.lstat().st_uid for path in folder.rglob("*")} == {0}


# ------------------------------------------------------------------------------- places that only root may write


def test_an_export_to_a_place_of_root_is_refused_with_the_account(shop: Shop) -> None:
    with folder_of(0) as folder:
        folder.chmod(0o755)
        sudo(shop, "upgrade", "--migrations", "NEW")
        child = os.fork()
        if child == 0:
            os.setuid(CLERK)
            with closing(sqlite3.connect(shop.database)) as live, live:
                live.execute("UPDATE sale SET note = 'x'")
            os._exit(0)
        os.waitpid(child, 0)
        for command in (["diff", "--export"], ["repair", "--into"]):
            place = folder / "new.db" if command[0] == "repair" else folder / "rows"
            done = sudo(shop, *command, place)
            assert done.status == 75, done.said
            assert f"rights of {CLERK}, who owns {shop.database}" in done.said
            assert str(folder) in done.said
        assert list(folder.iterdir()) == []
        assert sudo(shop, "diff", "--export", shop.data / "rows").status == 5
        assert {path.lstat().st_uid for path in (shop.data / "rows").rglob("*")} == {CLERK}


def test_a_second_place_of_root_is_away_and_the_backup_is_made(shop: Shop) -> None:
    with folder_of(0) as folder:
        folder.chmod(0o755)
        done = sudo(shop, "backup", "--keep", "daily=7", "--second", folder, "--json")
        told = json.loads(done.said[done.said.index("{") :])
        assert told["made"], told
        assert str(folder) in told["away"]
        assert list(folder.iterdir()) == []


def test_programs_read_the_account_in_the_hint(shop: Shop) -> None:
    with folder_of(0) as folder:
        done = sudo(shop, "repair", "--into", folder / "new.db", "--json")
        assert f"rights of {CLERK}" in json.loads(done.said.splitlines()[0])["hint"]


# ----------------------------------------------------------------------------------------------- the rights it has


def rights_after_becoming(path: Path) -> dict[str, object]:
    """The rights of a process that became the owner of a path."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            platform = this_platform()
            owner = platform.owner_of(path)
            assert owner is not None
            platform.become(owner)
            again = "refused"
            try:
                os.setuid(0)
                again = "root again"
            except PermissionError:
                pass
            told = {
                "user": os.getresuid(), "group": os.getresgid(), "groups": sorted(os.getgroups()), "again": again,
                "home": os.environ["HOME"], "name": os.environ["USER"], "privileged": platform.is_privileged,
            }  # fmt: skip
            os.write(writing, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as told_by:
        found: dict[str, object] = json.loads(told_by.read())
    return found


def test_it_has_the_groups_of_the_account_and_none_of_root(tmp_path: Path) -> None:
    import pwd

    account = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, entry.pw_gid) or entry.pw_uid > 0)
    (tmp_path / "shop.db").touch()
    os.chown(tmp_path / "shop.db", account.pw_uid, 0)
    found = rights_after_becoming(tmp_path / "shop.db")
    groups = sorted(set(os.getgrouplist(account.pw_name, account.pw_gid)))
    assert found["user"] == [account.pw_uid] * 3
    assert found["group"] == [account.pw_gid] * 3
    assert (found["groups"], found["again"], found["privileged"]) == (groups, "refused", False)
    assert (found["home"], found["name"]) == (account.pw_dir, account.pw_name)


def test_an_account_on_no_list_keeps_no_group_of_root(tmp_path: Path) -> None:
    (tmp_path / "shop.db").touch()
    os.chown(tmp_path / "shop.db", CLERK, 0)
    found = rights_after_becoming(tmp_path / "shop.db")
    assert (found["user"], found["group"], found["groups"]) == ([CLERK] * 3, [CLERK] * 3, [])


def test_root_does_not_lose_its_own_files_to_their_rights(tmp_path: Path) -> None:
    (tmp_path / "shop.db").touch()
    (tmp_path / "link.db").symlink_to("shop.db")
    for path in (tmp_path / "shop.db", tmp_path / "link.db", tmp_path / "none" / "new.db"):
        assert this_platform().owner_of(path) is None
    assert stat.S_ISREG((tmp_path / "shop.db").stat().st_mode)
