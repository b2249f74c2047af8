"""The stable path: it leads to the version that runs, is switched while the app is down, and nothing depends on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbsync.errors import Refused
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.errors import SettingsError
from updater.host import this_host
from updater.model import ProcessKind
from updater.outcomes import TerminalOutcome
from updater.reporting import doctor
from updater.settings import load
from updater.terminal import stable_path
from updater.terminal.installation import install
from updater.terminal.live import Terminal


@pytest.fixture
def linked(till: Till, vendor: Vendor, url: str) -> Path:
    """The stable path of a terminal that runs 1.0."""
    link = till.folder / "links" / "till"
    install(till.wish(vendor.root, url)._replace(change=True, stable_path=str(link)))
    return link


def told(till: Till) -> list[str]:
    return [finding.cause for finding in doctor.examine(till.settings_path) if "stable path" in finding.cause]


def version_of(link: Path) -> str:
    return link.resolve().name.partition("-")[0]


def test_the_link_follows_the_version_that_starts(till: Till, vendor: Vendor, linked: Path) -> None:
    assert (version_of(linked), told(till)) == ("1.0", [])
    assert (linked / "till.py").is_file()
    vendor.release("1.1")
    assert till.check().outcome is TerminalOutcome.SWAPPED
    # The app is down: the agent leads it to the version that starts next.
    assert (version_of(linked), told(till)) == ("1.1", [])
    till.launch()
    assert version_of(linked) == "1.1"
    vendor.release("1.2", behaviour="crash")
    till.check()
    for _ in range(3):
        till.launch()
    assert till.settings.stable_path == linked
    assert (version_of(linked), told(till)) == ("1.1", []), "the way back leads it back"
    assert sorted(path.name for path in linked.parent.iterdir()) == ["till"]


def test_a_launcher_leads_back_a_link_that_was_lost_or_leads_elsewhere(till: Till, linked: Path) -> None:
    linked.unlink()
    wanted = stable_path.wanted(Terminal(till.settings, kind=ProcessKind.STATUS))
    assert told(till) == [f"the stable path leads to nothing instead of {wanted}"]
    till.launch()
    assert (version_of(linked), told(till)) == ("1.0", [])
    linked.unlink()
    linked.symlink_to("/etc")
    assert "leads to /etc instead of" in told(till)[0]
    till.launch()
    assert (version_of(linked), told(till)) == ("1.0", [])


def test_a_link_that_cannot_be_led_stops_no_till_and_the_doctor_names_it(till: Till, linked: Path) -> None:
    linked.unlink()
    linked.mkdir()
    (linked / "mine.txt").write_text("a person's own")
    done = till.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    assert till.receipts.read_text().count("\n") >= 2
    assert told(till) == ["something that is no link is in the place of the stable path"]
    assert [path.name for path in linked.iterdir()] == ["mine.txt"]


def test_where_the_link_leads_decides_nothing(till: Till, vendor: Vendor, linked: Path) -> None:
    vendor.release("1.1")
    till.check()
    older = next((till.settings.program / "versions").glob("1.0-*"))
    linked.unlink()
    linked.symlink_to(older)
    till.launch()
    assert till.status()["starts"]["version"] == "1.1"
    assert version_of(linked) == "1.1"


@pytest.mark.parametrize("cut", ["symlink", "replace"])
def test_a_cut_at_each_step_leaves_a_whole_link_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    host, link = this_host(), tmp_path / "link"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    host.point_link(link=link, target=tmp_path / "a")

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, cut, crash)
        with pytest.raises(KeyboardInterrupt):
            host.point_link(link=link, target=tmp_path / "b")
    assert host.link_target(link) == tmp_path / "a"
    host.point_link(link=link, target=tmp_path / "b")
    assert host.link_target(link) == tmp_path / "b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "link"]


def test_what_is_no_link_is_not_replaced(tmp_path: Path, vendor: Vendor, url: str) -> None:
    till = Till(tmp_path / "till")
    till.folder.mkdir()
    taken = till.folder / "taken"
    taken.write_text("a person's own")
    with pytest.raises(Refused, match="something that is no link has this name"):
        install(till.wish(vendor.root, url)._replace(stable_path=str(taken)))
    assert [path.name for path in till.folder.iterdir()] == ["taken"]
    with pytest.raises(SettingsError, match="inside the folder of the versions"):
        install(till.wish(vendor.root, url)._replace(stable_path=str(till.folder / "program/versions/till")))
    assert [path.name for path in till.folder.iterdir()] == ["taken"]


def test_another_path_or_none_removes_the_link_and_uninstalling_too(
    till: Till, vendor: Vendor, url: str, linked: Path
) -> None:
    wish = till.wish(vendor.root, url)
    with pytest.raises(SettingsError, match=r"--stable-path is .*links/till, asked .*other"):
        install(wish._replace(stable_path=str(till.folder / "other")))
    install(wish._replace(change=True, stable_path=str(till.folder / "other")))
    assert (os.path.lexists(linked), version_of(till.folder / "other")) == (False, "1.0")
    install(wish)
    assert load(till.settings_path, {}).stable_path == till.folder / "other", "a repeat keeps it"
    install(wish._replace(change=True, stable_path="none"))
    assert not os.path.lexists(till.folder / "other")
    assert "stable_path" not in till.settings_path.read_text(encoding="utf-8")
    install(wish._replace(change=True, stable_path=str(linked)))
    assert till.run("uninstall", "--yes").returncode == 0
    assert not os.path.lexists(linked)
    assert till.database.exists()


def test_a_folder_that_everybody_may_write_is_named(till: Till, linked: Path) -> None:
    linked.parent.chmod(0o777)
    assert ["can lead the stable path elsewhere" in cause for cause in told(till)] == [True]
    linked.parent.chmod(0o755)
    assert told(till) == []
