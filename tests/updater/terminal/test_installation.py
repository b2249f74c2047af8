"""Installation: examined before the first write, finished by a repeat, for one account and for two; and its removal."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from dbsync.errors import DiskProblem, Refused, TryLater
from dbsync.storage import files
from dbsync.storage.locks import Lock
from dbsync.storage.platform import this_platform
from tests.helpers import accounts
from tests.helpers.accounts import CLERK, CLERK_B, CLERKS, as_root, on_disk
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater import settings as settings_file
from updater.bundles.version_folders import Versions
from updater.errors import SettingsError
from updater.flows.agent import cycle
from updater.host import this_host
from updater.host.base import Folders
from updater.model import ProcessKind
from updater.reporting import doctor
from updater.terminal import identity, installation, rights
from updater.terminal.installation import Wish, install
from updater.terminal.live import Terminal
from updater.terminal.state_files import StateFolder
from updater.terminal.uninstalling import uninstall


@pytest.fixture
def new(tmp_path: Path) -> Till:
    return Till(tmp_path / "new" / "till")


def wrong_wishes(till: Till, vendor: Vendor, url: str) -> dict[str, tuple[Wish, str]]:
    wish = till.wish(vendor.root, url)
    file = till.folder.parent.parent / "file"
    file.touch()
    return {
        "url": (wish._replace(url="updates.example.com"), "not an address"),
        "mirror": (wish._replace(mirrors=("ftp://x",)), "not an address"),
        "server": (wish._replace(url="http://127.0.0.1:9"), "OFFLINE"),
        "app": (wish._replace(app="shop"), "and none of shop"),
        "root": (wish._replace(root=file), "install"),
        "folder": (wish._replace(state=file / "state"), "not a folder"),
        "overlap": (wish._replace(data=till.folder / "program" / "data"), "inside"),
        "interpreter": (wish._replace(interpreters=(("python", "/no/python"),)), "no such program"),
        "account": (
            wish._replace(till_user="nobody-here"),
            "no account nobody-here|administrator|not implemented",
        ),
    }


WRONG = ("url", "mirror", "server", "app", "root", "folder", "overlap", "interpreter", "account")


@pytest.mark.parametrize("what", WRONG)
def test_nothing_is_written_if_it_cannot_succeed(new: Till, vendor: Vendor, url: str, what: str) -> None:
    wish, words = wrong_wishes(new, vendor, url)[what]
    with pytest.raises((Refused, TryLater), match=words):
        install(wish)
    assert not new.folder.parent.exists()


def test_a_corrected_command_uses_its_own_options(new: Till, vendor: Vendor, url: str) -> None:
    typo = new.wish(vendor.root, url)._replace(data=new.folder / "dat", backup_prefix="shpo", bundle=new.folder.parent)
    with pytest.raises(Refused, match="it is not release"):
        install(typo)
    assert not new.settings_path.exists(), "an installation that did not succeed has no settings"
    new.install(vendor.root, url)
    assert (new.settings.data, new.settings.backup_prefix) == (new.folder / "data", "auraswift")
    assert new.status()["starts"]["version"] == "1.0"


def test_a_root_of_an_installation_that_did_not_succeed_is_replaced(new: Till, vendor: Vendor, url: str) -> None:
    trust = new.folder / "state" / "private" / "trust"
    trust.mkdir(parents=True)
    (trust / "root.json").write_text("{}")
    (trust / "timestamp.json").write_text("{}")
    new.install(vendor.root, url)
    assert new.status()["starts"]["version"] == "1.0"
    assert not (trust / "timestamp.json").exists()
    assert (trust / "root.json").read_bytes() == vendor.root.read_bytes()


OTHER_PROGRAM: Final = shutil.which("sh") or shutil.which("cmd") or ""
"""A program of the system that is not this Python."""


def changed_wish(till: Till, vendor: Vendor, url: str) -> Wish:
    return till.wish(vendor.root, url)._replace(
        backup_prefix="shop", mirrors=(url,), data=till.folder / "other",
        interpreters=(("python", OTHER_PROGRAM), ("node", OTHER_PROGRAM)),
    )  # fmt: skip


def test_a_repeat_with_other_options_names_each_and_changes_nothing(till: Till, vendor: Vendor, url: str) -> None:
    before = till.settings_path.read_bytes()
    with pytest.raises(SettingsError) as caught:
        install(changed_wish(till, vendor, url))
    for words in (
        f"--data is {till.folder / 'data'}, asked {till.folder / 'other'}",
        "--backup-prefix is auraswift, asked shop", f"--mirror is none, asked {url}",
        f"asked python={OTHER_PROGRAM}", f"--interpreter is node=none, asked node={OTHER_PROGRAM}",
    ):  # fmt: skip
        assert words in caught.value.cause
    assert "--change" in caught.value.hint
    assert till.settings_path.read_bytes() == before
    assert not (till.folder / "other").exists()


def test_a_repeat_with_change_replaces_the_settings_and_keeps_the_rest(till: Till, vendor: Vendor, url: str) -> None:
    till.limits(attempts_count=7)
    before = till.settings
    install(changed_wish(till, vendor, url)._replace(change=True))
    after = till.settings
    assert (after.backup_prefix, after.mirrors, after.data) == ("shop", (url,), till.folder / "other")
    assert (after.database, after.backups) == (till.folder / "other/pos_system.db", till.folder / "other/backups")
    assert after.interpreters == {"python": OTHER_PROGRAM, "node": OTHER_PROGRAM}
    assert (after.terminal_id, after.limits.attempts_count) == (before.terminal_id, 7)
    install(changed_wish(till, vendor, url))


@pytest.mark.parametrize("option", ["program", "state", "app"])
def test_what_an_installed_terminal_cannot_change_is_refused_also_with_change(
    till: Till, vendor: Vendor, url: str, option: str
) -> None:
    asked: dict[str, Any] = {"program": till.folder / "p2", "state": till.folder / "s2", "app": "shop"}
    wish = till.wish(vendor.root, url)._replace(change=True, **{option: asked[option]})
    with pytest.raises(SettingsError, match=f"--{option} is") as caught:
        install(wish)
    assert f"updater uninstall --settings {till.settings_path}" in caught.value.hint


def test_an_option_that_was_left_out_is_no_difference(till: Till, vendor: Vendor, url: str) -> None:
    install(Wish(app=None, url=url, root=vendor.root, settings=till.settings_path))
    assert till.status()["starts"]["version"] == "1.0"


CUTS = ("set_rights", "write_durably", "record", "set_all", "first_version")


@pytest.mark.parametrize("name", CUTS)
def test_an_installation_that_is_cut_anywhere_is_finished_by_the_same_command(
    new: Till, vendor: Vendor, url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = {
        "set_rights": type(this_host()),
        "write_durably": files,
        "record": identity,
        "set_all": rights,
    }
    owner: Any = place.get(name, installation)
    real = getattr(owner, name)
    for count in range(8 if name != "set_rights" else 20):
        calls = [0]

        def cut(*values: Any, _calls: list[int] = calls, _count: int = count, **named: Any) -> Any:
            _calls[0] += 1
            if _calls[0] > _count:
                raise DiskProblem(operation="cut", cause="the plug")
            return real(*values, **named)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, cut)
            try:
                new.install(vendor.root, url)
                break
            except DiskProblem:
                continue
    assert count, "it was cut at least once"
    new.install(vendor.root, url)
    assert new.status()["starts"]["version"] == "1.0"
    assert sorted(path.name for path in (new.folder / "program" / "versions").iterdir()) == new.status()["installed"]


# --------------------------------------------------------------------------------------------------------- two accounts


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The places of the machine in a folder of root's that everybody reaches, and the clerks by their names."""
    accounts.made_known(monkeypatch)
    with accounts.open_folder() as folder:

        def folders(_: object, app: str) -> Folders:
            return Folders(
                folder / "opt" / app,
                folder / "lib" / app,
                folder / "data" / app,
                folder / "etc" / app / "settings.toml",
            )

        monkeypatch.setattr(type(this_host()), "machine_folders", folders)
        yield folder


def machine_wish(vendor: Vendor, url: str, **values: Any) -> Wish:
    python = accounts.python_for_all()
    return Wish(
        app=None, url=url, root=vendor.root, machine=True, till_user="clerk-a", interpreters=(("python", python),)
    )._replace(**values)


def under(umask: int, wish: Wish) -> settings_file.Settings:
    before = os.umask(umask)
    try:
        return install(wish)[0]
    finally:
        os.umask(before)


@as_root
@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("group", [None, "clerks"])
def test_a_terminal_of_two_accounts_has_every_owner_and_mode_whatever_the_umask_is(
    machine: Path, vendor: Vendor, url: str, umask: int, group: str | None
) -> None:
    settings = under(umask, machine_wish(vendor, url, till_group=group))
    assert (settings.till_user, settings.till_group) == ("clerk-a", group or "")
    assert rights.check_at_start(settings) == ()
    app, disk = settings.app, on_disk(machine)
    folders = ("opt", "lib", "data", "etc", f"opt/{app}", f"opt/{app}/versions", f"lib/{app}", f"etc/{app}")
    assert {disk[name] for name in folders} == {(0, 0, "0755")}
    till_group, mode = (CLERKS, "2770") if group else (CLERK, "0700")
    for name in (f"lib/{app}/shared", f"data/{app}", f"data/{app}/backups"):
        assert disk[name][:2] == (CLERK, till_group), name
    assert disk[f"lib/{app}/shared"][2] == mode
    assert (disk[f"lib/{app}/private"], disk[f"lib/{app}/terminal.lock"]) == ((0, 0, "0700"), (0, 0, "0666"))
    for name, (owner, _, bits) in disk.items():
        if name.startswith((f"opt/{app}", f"lib/{app}/proofs", f"etc/{app}")) or name == f"lib/{app}/journal.json":
            assert (owner, bits) in ((0, "0755"), (0, "0644")), name
    read = accounts.updater("status", "--settings", settings.path, user=CLERK, umask=0o077)
    assert "1.0 starts" in read.said or read.status != 4, read.said


@as_root
@pytest.mark.parametrize("umask", [pytest.param(0o022, marks=pytest.mark.long), 0o077])
def test_what_one_clerk_made_another_one_works_with_through_a_whole_update(
    machine: Path, vendor: Vendor, url: str, umask: int
) -> None:
    settings = under(umask, machine_wish(vendor, url, till_group="clerks", backup_prefix="auraswift"))
    shop = Till(machine / "shop")
    shop.database = settings.database
    shop.folder.mkdir()
    shop.fill(duplicate_sku=False)
    rights.set_all(settings)
    receipts = settings.data / "receipts.txt"

    def launch(user: int) -> accounts.Done:
        words = ("launch", "--settings", settings.path, "--", "--sell", 1)
        return accounts.updater(*words, user=user, umask=umask, groups=(CLERKS,), SAMPLE_TILL_RECEIPTS=str(receipts))

    def check() -> None:
        before = os.umask(umask)
        try:
            cycle(Terminal(settings, kind=ProcessKind.AGENT))
        finally:
            os.umask(before)

    assert (sold := launch(CLERK)).status == 0, sold.said
    receipts.chmod(0o660)
    assert (sold := launch(CLERK_B)).status == 0, sold.said
    vendor.release("1.1", schema=4)
    check()
    for user in (CLERK, CLERK_B):
        assert (sold := launch(user)).status == 0, sold.said
    check()
    vendor.release("1.2", schema=4, behaviour="crash")
    check()
    for user in (CLERK_B, CLERK):
        assert (sold := launch(user)).status == 0, sold.said
    check()
    assert len(receipts.read_text().splitlines()) == 6
    assert StateFolder(settings.state, shared=settings.shared).read_journal()[0] is not None
    found = [finding for finding in rights.check_at_start(settings) if finding.severity is rights.Severity.ERROR]
    assert found == []
    assert [one for one in doctor.examine(settings.path) if one.severity is not rights.Severity.NOTE] == []
    places = (f"lib/{settings.app}", f"opt/{settings.app}")
    ours = {name: rest for name, rest in on_disk(machine).items() if name.startswith(places)}
    shared = {name: ours.pop(name) for name in list(ours) if "/shared" in name}
    assert {owner for owner, _, _ in ours.values()} == {0}
    assert ours[f"lib/{settings.app}/private"] == (0, 0, "0700")
    assert not [name for name, (_, _, mode) in ours.items() if int(mode, 8) & 0o022 and "terminal.lock" not in name]
    assert {group for _, group, _ in shared.values()} == {CLERKS}
    assert {mode for _, _, mode in shared.values()} <= {"2770", "0660"}, shared


@as_root
def test_an_app_that_one_clerk_left_open_is_the_only_one(machine: Path, vendor: Vendor, url: str) -> None:
    settings = under(0o022, machine_wish(vendor, url, till_group="clerks", backup_prefix="auraswift"))
    shop = Till(machine / "shop")
    shop.database = settings.database
    shop.folder.mkdir()
    shop.fill(duplicate_sku=False)
    rights.set_all(settings)
    words = ("launch", "--settings", settings.path, "--", "--pause", 0.2, "--sell")
    receipts = str(settings.data / "receipts.txt")

    def launch_as_b() -> accounts.Done:
        return accounts.updater(*words, 1, user=CLERK_B, umask=0o007, groups=(CLERKS,), SAMPLE_TILL_RECEIPTS=receipts)

    def app() -> int:
        running = this_host().running_app(settings.shared / "app.lock")
        assert running is not None
        assert running.pid is not None
        return running.pid

    as_a = {"SAMPLE_TILL_RECEIPTS": receipts}
    with accounts.started(*words, 0, user=CLERK, umask=0o007, groups=(CLERKS,), **as_a) as launcher:
        assert launcher.stdout is not None
        assert "till 1.0 is open\n" in iter(launcher.stdout.readline, "")
        pid = app()
        try:
            # A's session is disconnected and B's begins: A's app goes on, and B is told.
            assert "The till is open already." in (told := launch_as_b()).said, told.said
            # A's session is ended: its launcher gets a hang-up, the sale that is open goes on.
            os.killpg(launcher.pid, signal.SIGHUP)
            launcher.wait(timeout=60)
            assert app() == pid
            assert "The till is open already." in (told := launch_as_b()).said, told.said
            assert app() == pid
        finally:
            os.kill(pid, signal.SIGKILL)
    assert (sold := launch_as_b()).status == 0, sold.said
    assert "till 1.0 is open" in sold.said
    assert this_host().running_app(settings.shared / "app.lock") is None


@as_root
def test_a_terminal_becomes_one_of_two_accounts_with_change(machine: Path, vendor: Vendor, url: str) -> None:
    settings = under(0o077, machine_wish(vendor, url, till_user=None))
    assert on_disk(machine)[f"lib/{settings.app}/shared"][0] == 0
    with pytest.raises(SettingsError, match="--till-user is none, asked clerk-a"):
        install(machine_wish(vendor, url))
    settings = under(0o077, machine_wish(vendor, url, change=True))
    assert rights.check_at_start(settings) == ()
    disk = on_disk(machine)
    assert disk[f"lib/{settings.app}/shared"] == (CLERK, CLERK, "0700")
    assert disk[f"data/{settings.app}"][0] == CLERK


@as_root
def test_two_accounts_begin_with_what_the_vendor_signed(machine: Path, vendor: Vendor, url: str) -> None:
    settings = under(0o022, machine_wish(vendor, url, till_user=None))
    (good,) = (settings.program / "versions").iterdir()
    # Until now the till's account could write all of it: a release that nobody signed, and a stranger's file.
    strange = good.with_name("0.9-0123456789ab")
    shutil.copytree(good, strange, symlinks=True)
    (good / "sqlite3.py").write_text("print('a stranger')")
    before = on_disk(machine)
    with pytest.raises(Refused, match="not what the vendor signed"):
        install(machine_wish(vendor, url, change=True))
    assert on_disk(machine) == before, "nothing is changed by a refusal"
    (good / "sqlite3.py").unlink()
    settings = under(0o022, machine_wish(vendor, url, change=True))
    assert Versions(settings.program).names() == {good.name}
    assert rights.check_at_start(settings) == ()


@as_root
def test_places_that_the_till_cannot_reach_are_refused_before_anything_is_made(
    machine: Path, vendor: Vendor, url: str, tmp_path: Path
) -> None:
    closed = machine / "closed"
    closed.mkdir(0o700)
    for wish in (
        machine_wish(vendor, url, program=closed / "program"), machine_wish(vendor, url, state=closed / "state"),
        machine_wish(vendor, url, settings=closed / "settings.toml"), machine_wish(vendor, url, data=closed / "data"),
        machine_wish(vendor, url, machine=False, settings=closed / "s.toml"),
    ):  # fmt: skip
        with pytest.raises(Refused, match="clerk-a cannot enter"):
            install(wish)
    with pytest.raises(SettingsError, match="no group nowhere"):
        install(machine_wish(vendor, url, till_group="nowhere"))
    assert sorted(on_disk(machine)) == [".", "closed"]


@as_root
def test_an_app_that_is_installed_for_the_machine_is_not_installed_again_for_one_account(
    machine: Path, vendor: Vendor, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = under(0o022, machine_wish(vendor, url))
    monkeypatch.setenv("HOME", str(machine / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    with pytest.raises(SettingsError, match="installed here already, for this machine"):
        install(Wish(app=settings.app, url=url, root=vendor.root))
    assert settings_file.find(None, {}) == settings.path
    assert not (machine / "home").exists()


@as_root
def test_the_clerk_is_refused_what_is_the_agents_with_the_command_of_the_administrator(
    machine: Path, vendor: Vendor, url: str
) -> None:
    settings = under(0o022, machine_wish(vendor, url))

    clerk = this_platform().account("clerk-a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(this_platform()), "is_privileged", property(lambda _: False))
        patch.setattr(type(this_platform()), "own_account", lambda _: clerk)
        for command in ("check", "run", "allow 1.0", "uninstall", "install"):
            with pytest.raises(Refused, match="clerk-a is not the agent's account") as caught:
                rights.refuse_clerk(settings, command)
            assert f"sudo updater {command} --settings {settings.path}" in caught.value.hint


# -------------------------------------------------------------------------------------------------------------- removal


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_removal_keeps_the_data_and_says_where_it_is(till: Till) -> None:
    settings = till.settings
    settings.reports.mkdir(parents=True)
    (settings.reports / "loss.csv").write_text("a sale")
    (settings.state / "notes.txt").write_text("somebody's")
    (settings.program / "versions" / "mine.txt").touch()
    data = names(settings.data)
    kept = "\n".join(uninstall(settings))
    assert [name for name in names(till.folder) if not name.startswith(("data/", "made-of/"))] == [
        "state/notes.txt", "state/shared/reports/loss.csv",
    ]  # fmt: skip
    assert names(settings.data) == data
    for words in (str(settings.database), str(settings.backups), str(settings.reports), "notes.txt"):
        assert words in kept


def test_a_removal_is_refused_while_the_app_or_an_agent_runs(till: Till) -> None:
    settings = till.settings
    before = names(till.folder)
    for name, words in (("shared/app.lock", "app is running"), ("private/agent.lock", "agent is at work")):
        path = settings.state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with Lock(path), pytest.raises(TryLater, match=words):
            uninstall(settings)
    assert [name for name in names(till.folder) if not name.endswith(".lock")] == [
        name for name in before if not name.endswith(".lock")
    ]


def test_a_removal_that_is_cut_anywhere_is_finished_by_the_same_command(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    from updater.terminal import uninstalling

    settings, real, cuts = till.settings, uninstalling._remove, 0
    for limit in range(1, 60):
        removed: list[Path] = []

        def cut(path: Path, _removed: list[Path] = removed, _limit: int = limit) -> None:
            if len(_removed) == _limit:
                raise DiskProblem(operation="cut", cause="the plug")
            _removed.append(path)
            real(path)

        with monkeypatch.context() as patch:
            patch.setattr(uninstalling, "_remove", cut)
            try:
                uninstall(till.settings)
                break
            except DiskProblem:
                cuts += 1
                assert till.settings_path.exists(), "the settings go last: they name what is to be removed"
    assert cuts > 3
    assert not settings.state.exists()
    assert not settings.program.exists()
    assert settings.database.exists()


def test_the_command_asks_and_removes(till: Till) -> None:
    asked = till.run("uninstall")
    assert (asked.returncode, till.settings_path.exists()) == (4, True), asked.stderr
    done = till.run("uninstall", "--yes")
    assert (done.returncode, f"kept: database: {till.database}" in done.stdout) == (0, True), done.stderr
    assert not till.settings_path.exists()
    assert till.database.exists()


@as_root
def test_of_two_apps_only_the_named_one_goes(machine: Path, vendor: Vendor, url: str) -> None:
    first = under(0o022, machine_wish(vendor, url))
    named = ("path", "program", "state", "data")
    places: dict[str, Any] = {name: Path(str(getattr(first, name)).replace(first.app, "other")) for name in named}
    other = first._replace(**places)
    for folder in (other.program / "versions", other.state, other.data, other.path.parent):
        folder.mkdir(parents=True)
    (other.state / "journal.json").write_text("{}")
    other.path.write_text("format = 1")
    before = {name: rest for name, rest in on_disk(machine).items() if "other" in name}
    uninstall(first)
    after = on_disk(machine)
    assert {name: rest for name, rest in after.items() if "other" in name} == before
    assert [name for name in after if first.app in name] == [
        f"data/{first.app}", f"data/{first.app}/backups",
    ]  # fmt: skip
