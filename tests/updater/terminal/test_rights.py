"""Owners, groups and modes of a terminal: compared as values, and set on real files by root for real accounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbsync.errors import Refused
from dbsync.storage.platform.base import Account
from tests.helpers import accounts
from tests.helpers.accounts import CLERK, CLERK_B, CLERKS, as_root, on_disk
from updater import settings as settings_file
from updater.errors import UnsafeRights
from updater.host.base import Entry, Rights
from updater.settings import Settings
from updater.terminal import rights
from updater.terminal.rights import Accounts, Finding, Seen, Severity

BOTH = Accounts(agent=0, agent_group=0, till=CLERK, till_group=CLERK)
GROUP = BOTH._replace(till_group=CLERKS, shared_by_group=True)
SETTINGS = """\
format = 1
app = "shop"
terminal_id = "till-1"
url = "http://x"
program = "{0}/program"
state = "{0}/state"
data = "{0}/data"
database = "{0}/data/shop.db"
backups = "{0}/data/backups"
backup_prefix = "shop"
"""


def settings_in(folder: Path, accounts_lines: str = "") -> Settings:
    path = folder / "settings.toml"
    if not path.exists():
        path.write_text(SETTINGS.format(folder) + accounts_lines)
    return settings_file.load(path, {})


def as_wanted(settings: Settings, accounts: Accounts) -> dict[Path, Seen]:
    return {item.path: item.rights for item in rights.wanted(settings, accounts)}


def found(settings: Settings, accounts: Accounts, seen: dict[Path, Seen]) -> tuple[Finding, ...]:
    return rights.findings(rights.wanted(settings, accounts), seen)


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("accounts", [BOTH, GROUP, BOTH._replace(till=None)])
def test_a_terminal_that_is_as_it_must_be_has_no_finding(tmp_path: Path, accounts: Accounts) -> None:
    settings = settings_in(tmp_path)
    assert found(settings, accounts, as_wanted(settings, accounts)) == ()


def test_each_difference_is_one_finding_with_what_is_and_what_must_be(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    right = as_wanted(settings, BOTH)
    wrong: dict[Path, tuple[Seen, Severity, str]] = {
        settings.state: (Rights(Entry.FOLDER, CLERK, 0, 0o755), Severity.ERROR, f"its owner is {CLERK}, not root"),
        settings.program: (Rights(Entry.FOLDER, 0, 0, 0o775), Severity.ERROR, "its mode is 0775, not 0755"),
        settings.private: (Rights(Entry.FOLDER, 0, 0, 0o755), Severity.ERROR, "its mode is 0755, not 0700"),
        settings.trust: (Rights(Entry.LINK, 0, 0, 0o777), Severity.ERROR, "it is a link; it must be a folder"),
        settings.shared: (None, Severity.ERROR, f"it is missing; it must be a folder of {CLERK}:{CLERK} with mode"),
        settings.data: (Rights(Entry.FOLDER, 0, 0, 0o755), Severity.WARNING, f"its owner is root, not {CLERK}"),
        settings.state / "journal.json": (Rights(Entry.FILE, 0, 0, 0o600), Severity.ERROR, "its mode is 0600, not 06"),
        settings.state / "terminal.lock": (
            Rights(Entry.FILE, 0, 0, 0o666, 2), Severity.ERROR, "the file has 2 names; it must have one",
        ),
        settings.path: (rights.Unreadable("Permission denied"), Severity.ERROR, "its rights cannot be read"),
    }  # fmt: skip
    for path, (seen, severity, cause) in wrong.items():
        (finding,) = found(settings, BOTH, {**right, path: seen})
        assert (finding.severity, finding.object) == (severity, str(path))
        assert finding.cause.startswith(cause), finding
        assert finding.command, finding


def test_with_a_group_its_members_write_and_others_do_not(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    right = as_wanted(settings, GROUP)
    assert right[settings.shared] == Rights(Entry.FOLDER, CLERK, CLERKS, 0o2770)
    assert right[settings.database] == Rights(Entry.FILE, CLERK, CLERKS, 0o660)
    (finding,) = found(settings, GROUP, {**right, settings.shared: Rights(Entry.FOLDER, CLERK, CLERK, 0o2770)})
    assert finding.cause == f"its group is {CLERK}, not {CLERKS}"
    (finding,) = found(settings, GROUP, {**right, settings.data: Rights(Entry.FOLDER, CLERK, CLERKS, 0o2777)})
    assert finding.cause == "its mode is 2777, not 2770"


def test_a_closed_till_keeps_the_modes_that_it_chose(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    right = as_wanted(settings, BOTH)
    for mode in (0o700, 0o750, 0o755):
        assert found(settings, BOTH, {**right, settings.data: Rights(Entry.FOLDER, CLERK, CLERK, mode)}) == ()


def test_one_account_is_told_of_folders_that_others_may_write_and_is_not_stopped(tmp_path: Path) -> None:
    settings, alone = settings_in(tmp_path), BOTH._replace(till=None)
    right = as_wanted(settings, alone)
    (finding,) = found(settings, alone, {**right, settings.state: Rights(Entry.FOLDER, 0, 0, 0o777)})
    assert (finding.severity, finding.cause) == (Severity.WARNING, "its mode is 0777, not 0755")
    assert found(settings, alone, {**right, settings.state: Rights(Entry.FOLDER, 0, 0, 0o775)}) == ()


def test_a_folder_above_that_another_account_may_write_is_named() -> None:
    path = Path("/srv/till/state")
    above: dict[Path, Seen] = {
        Path("/"): Rights(Entry.FOLDER, 0, 0, 0o755), Path("/srv"): Rights(Entry.FOLDER, 0, 0, 0o1777),
        Path("/srv/till"): Rights(Entry.FOLDER, 0, 0, 0o755),
    }  # fmt: skip
    assert rights.replaceable(path, above, trusted=frozenset({0})) == ""
    of_clerk = {**above, Path("/srv/till"): Rights(Entry.FOLDER, CLERK, CLERK, 0o700)}
    assert "/srv/till above it belongs to another" in rights.replaceable(path, of_clerk, trusted=frozenset({0}))
    writable = {**above, Path("/srv"): Rights(Entry.FOLDER, 0, 0, 0o777)}
    assert "/srv above it can be written by others" in rights.replaceable(path, writable, trusted=frozenset({0}))


# --------------------------------------------------------------------------------------------------------- real files


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of root's, and the clerks by their names."""
    accounts.made_known(monkeypatch)
    with accounts.open_folder() as folder:
        yield folder


TWO = '\n[accounts]\ntill = "clerk-a"\n'


@as_root
@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("lines", [TWO, TWO + 'group = "clerks"\n'])
def test_all_owners_and_modes_are_set_whatever_the_umask_is(place: Path, umask: int, lines: str) -> None:
    settings = settings_in(place, lines)
    before = os.umask(umask)
    try:
        for folder in (
            settings.program / "versions" / "1.0",
            settings.private,
            settings.shared / "trial",
            settings.backups,
        ):
            folder.mkdir(parents=True)
        (settings.program / "versions" / "1.0" / "run").touch(0o700)
        (settings.private / "secrets.toml").touch(0o666)
        (settings.state / "journal.json").touch()
        (settings.shared / "trial" / "1.json").touch()
        settings.database.touch()
        changed = rights.set_all(settings)
    finally:
        os.umask(before)
    assert rights.check_at_start(settings) == ()
    assert rights.set_all(settings) == (), [item.path for item in changed]
    group, folder_mode, file_mode = (CLERKS, "2770", "0660") if "group" in lines else (CLERK, "0700", "0600")
    of_till, of_file = (CLERK, group, folder_mode), (CLERK, group, file_mode)
    disk = on_disk(place)
    # A mode that the till's account may choose is left as it was made.
    data = {name: disk.pop(name) for name in ("data", "data/backups", "data/shop.db", "state/shared/trial/1.json")}
    if "group" in lines:
        assert data == {
            "data": of_till, "data/backups": of_till, "data/shop.db": of_file, "state/shared/trial/1.json": of_file,
        }  # fmt: skip
    assert {owner for owner, _, _ in data.values()} == {CLERK}
    shared = {name: disk.pop(name) for name in ("state/shared", "state/shared/trial")}
    assert shared["state/shared"][:2] == of_till[:2]
    assert shared["state/shared"] == of_till or umask == 0o022
    assert disk == {
        ".": (0, 0, "0755"),
        "settings.toml": (0, 0, "0644"),
        "program": (0, 0, "0755"),
        "program/versions": (0, 0, "0755"),
        "program/versions/1.0": (0, 0, "0755"),
        "program/versions/1.0/run": (0, 0, "0755"),
        "state": (0, 0, "0755"),
        "state/journal.json": (0, 0, "0644"),
        "state/private": (0, 0, "0700"),
        "state/private/secrets.toml": (0, 0, "0600"),
        "state/terminal.lock": (0, 0, "0666"),
    }


@as_root
def test_a_link_or_a_second_name_in_the_shared_folder_gives_nothing_away(place: Path) -> None:
    settings = settings_in(place, TWO)
    rights.set_all(settings)
    treasure, other = place / "treasure", place / "other"
    treasure.write_text("root's")
    treasure.chmod(0o600)
    other.mkdir(0o700)
    (other / "inner").write_text("root's")
    trial = settings.shared / "trial"
    trial.symlink_to(other)
    (settings.shared / "starts.json").symlink_to(treasure)
    rights.set_all(settings)
    (settings.shared / "copy").hardlink_to(treasure)
    with pytest.raises(Refused, match="second name"):
        rights.set_all(settings)
    (settings.shared / "copy").unlink()
    trial.unlink()
    os.mkfifo(settings.shared / "pipe")
    rights.set_all(settings)
    disk = on_disk(place)
    assert disk["treasure"] == (0, 0, "0600")
    assert (disk["other"][:2], disk["other/inner"][:2]) == ((0, 0), (0, 0))


@as_root
def test_a_folder_of_the_agent_that_became_a_link_is_refused(place: Path) -> None:
    settings = settings_in(place, TWO)
    rights.set_all(settings)
    other = place / "other"
    other.mkdir(0o711)
    settings.shared.rmdir()
    settings.shared.symlink_to(other)
    with pytest.raises(Refused) as caught:
        rights.set_all(settings)
    assert f"mv -- {settings.shared}" in caught.value.hint
    assert on_disk(place)["other"] == (0, 0, "0711")


@as_root
def test_the_agent_does_not_act_where_the_till_could_have_replaced_what_it_trusts(place: Path) -> None:
    settings = settings_in(place, TWO)
    rights.set_all(settings)
    rights.refuse_unsafe(settings)
    os.chown(settings.trust.parent, CLERK, CLERK)
    with pytest.raises(UnsafeRights, match="its owner is") as caught:
        rights.refuse_unsafe(settings)
    assert "updater doctor --repair" in caught.value.hint
    rights.set_all(settings)
    rights.refuse_unsafe(settings)
    # The till may do with its own folder what it likes: that stops no agent.
    settings.shared.chmod(0o755)
    rights.refuse_unsafe(settings)
    os.chown(place, CLERK, CLERK)
    with pytest.raises(UnsafeRights, match="above it belongs to another account"):
        rights.refuse_unsafe(settings)
    os.chown(place, 0, 0)
    assert on_disk(place)["state/private"] == (0, 0, "0700")


@as_root
def test_the_command_of_a_finding_repairs_it(place: Path) -> None:
    import subprocess

    settings = settings_in(place, TWO)
    rights.set_all(settings)
    settings.state.chmod(0o777)
    os.chown(settings.private, CLERK, CLERK)
    (settings.state / "terminal.lock").unlink()
    settings.shared.rmdir()
    (settings.state / "issued").symlink_to("/")
    problems = rights.check_at_start(settings)
    assert len(problems) == 5, problems
    for finding in problems:
        subprocess.run(["sh", "-e", "-c", finding.command], check=True)
    assert rights.check_at_start(settings) == ()
    disk = on_disk(place)
    assert (disk["state"], disk["state/private"]) == ((0, 0, "0755"), (0, 0, "0700"))
    assert (disk["state/terminal.lock"], disk["state/shared"]) == ((0, 0, "0666"), (CLERK, CLERK, "0700"))


def test_the_bits_of_an_account_are_those_of_owner_group_and_others(tmp_path: Path) -> None:
    clerk = Account("clerk-a", CLERK, CLERK, (CLERK,), Path("/"))
    file = tmp_path / "file"
    file.touch(0o600)
    assert "cannot" in rights.barred(clerk, file, need=4)
    assert rights.barred(Account("root", 0, 0, (), Path("/")), file, need=6) == ""
    assert rights.barred(clerk, Path("/no/such"), need=4) == "/no/such is missing"


@as_root
def test_two_clerks_write_one_shared_folder_and_one_database_by_turns(place: Path) -> None:
    settings = settings_in(place, TWO + 'group = "clerks"\n')
    rights.set_all(settings)
    for number, user in enumerate((CLERK, CLERK_B, CLERK)):
        _as(user, lambda number=number: _write_as_a_till(settings, number))
    assert settings.shared.joinpath("starts.json").read_text().strip() == '{\n "count": 2\n}'
    disk = on_disk(place)
    assert {name: disk[name][1:] for name in disk if name.startswith(("state/shared", "data"))} == {
        "state/shared": (CLERKS, "2770"),
        "state/shared/app.lock": (CLERKS, "0660"),
        "state/shared/events-launcher.jsonl": (CLERKS, "0660"),
        "state/shared/starts.json": (CLERKS, "0660"),
        "state/shared/trial": (CLERKS, "2770"),
        "state/shared/trial/1.json": (CLERKS, "0660"),
        "data": (CLERKS, "2770"),
        "data/shop.db": (CLERKS, "0660"),
        "data/shop.db.lock": (CLERKS, "0660"),
    }


def _write_as_a_till(settings: Settings, number: int) -> None:
    """What a launch writes: a lock, a counted file, an event line, a trial's file in a folder of its own, a sale."""
    import sqlite3
    from contextlib import closing

    from dbsync.storage import files
    from dbsync.storage.locks import Lock, lock_of

    shared = settings.shared
    with Lock(shared / "app.lock", like=shared):
        files.write_json(shared / "starts.json", {"count": number}, like=shared)
        files.append_line(shared / "events-launcher.jsonl", f'{{"number": {number}}}', like=shared)
        files.make_folder(shared / "trial", like=shared)
        files.write_json(shared / "trial" / "1.json", {"number": number}, like=shared / "trial")
    with lock_of(settings.database):
        if not settings.database.exists():
            files.make_empty(settings.database, like=settings.database)
        with closing(sqlite3.connect(settings.database)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE IF NOT EXISTS sale (number INTEGER)")
            connection.execute("INSERT INTO sale VALUES (?)", (number,))
            connection.commit()


def _as(user: int, act: object) -> None:
    """Run a function in a child that is another account, with the strictest umask."""
    import traceback

    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.umask(0o077)
            os.setgroups([CLERKS])
            os.setgid(user)
            os.setuid(user)
            assert callable(act)
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
