"""`updater doctor`: each problem is found, named with a command, and what can be set is set."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbsync.errors import Refused
from dbsync.storage.platform import this_platform
from tests.helpers import accounts
from tests.helpers.accounts import CLERK, CLERKS, as_root, on_disk
from tests.helpers.places import link, quoted
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.host import this_host
from updater.reporting import doctor
from updater.settings import Settings
from updater.terminal.installation import Wish, install
from updater.terminal.rights import Severity


def asked(till: Till, *words: str) -> tuple[int, list[dict[str, str]]]:
    done = till.run("doctor", "--json", *words)
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)["findings"]


def test_a_terminal_without_a_problem_ends_with_0_and_says_what_one_account_does_not_protect(till: Till) -> None:
    status, found = asked(till)
    # A disk that tests may use, and a till may not, is a note too.
    notes = [finding["cause"] for finding in found if "is accepted" not in finding["cause"]]
    assert (status, {finding["severity"] for finding in found}) == (0, {"note"})
    assert len(notes) == (1 if this_host().keeps_executable_bit else 2), "Windows: modes are not examined"
    assert "one account runs the agent and the app" in notes[0]
    said = till.run("doctor").stdout
    assert "no problem was found" in said


def rewritten(till: Till, old: str, new: str) -> None:
    """Another settings file."""
    text = till.settings_path.read_text()
    assert old in text
    till.settings_path.write_text(text.replace(old, new, 1))


def lost_journal(till: Till) -> None:
    (till.settings.state / "journal.json").unlink()


def cut_short(till: Till) -> None:
    lost_journal(till)
    for path in (till.settings.state / "proofs").iterdir():
        path.unlink()


DAMAGES: dict[str, Callable[[Till], object]] = {
    "settings": lambda till: rewritten(till, "format = 1", "format = 2"),
    "unknown key": lambda till: rewritten(till, "format = 1", 'format = 1\ncolour = "blue"'),
    "journal": lost_journal,
    "cut": cut_short,
    "versions": lambda till: (till.settings.program / "versions").rename(till.folder / "elsewhere"),
    "layout": lambda till: (till.settings.state / "events-agent.jsonl").touch(),
    "link": lambda till: link(till.settings.state / "another", to="/etc"),
    "interpreter": lambda till: rewritten(
        till, f'= "{quoted(till.settings.interpreters["python"])}"\n\n', '= "/no/python"\n\n'
    ),
    "space": lambda till: till.limits(least_free_bytes=10**15),
    "password": lambda till: rewritten(till, "http://127", "http://me:secret@127"),
    **({} if sys.platform == "win32" else {"open": lambda till: till.settings.state.chmod(0o777)}),
}
PROBLEMS = {
    "settings": ("error", "format: must be 1"),
    "unknown key": ("error", "colour: not known"),
    "journal": ("error", "the journal is missing"),
    "cut": ("error", "the installation did not end"),
    "versions": ("error", "there are no version folders"),
    "layout": ("warning", "not moved yet: events-agent.jsonl"),
    "link": ("error", "it is a link"),
    "interpreter": ("error", "interpreter python: /no/python is missing"),
    "space": ("warning", "MB are free"),
    "password": ("warning", "url has a password"),
    "open": ("warning", "its mode is 0777, not 0755"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_each_problem_is_found_with_its_object_and_a_command(till: Till, what: str) -> None:
    severity, words = PROBLEMS[what]
    DAMAGES[what](till)
    status, found = asked(till)
    problems = [finding for finding in found if finding["severity"] != "note"]
    assert status == 1
    assert any(finding["severity"] == severity and words in finding["cause"] for finding in problems), found
    assert all(finding["object"] and finding["command"] for finding in problems), problems
    assert all("secret" not in finding["command"] for finding in problems)


def test_a_missing_settings_file_is_a_finding(till: Till) -> None:
    till.settings_path.unlink()
    status, found = asked(till)
    assert (status, "there is no such file" in found[0]["cause"]) == (1, True)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
def test_a_repair_closes_what_is_open_and_changes_nothing_twice(till: Till) -> None:
    till.settings.state.chmod(0o777)
    till.settings.private.chmod(0o755)
    first = till.run("doctor", "--repair")
    assert (first.returncode, first.stdout.count("set  ")) == (0, 2), first.stdout + first.stderr
    assert "set  " not in till.run("doctor", "--repair").stdout
    disk = on_disk(till.settings.state)
    assert (disk["."][2], disk["private"][2]) == ("0755", "0700")


# --------------------------------------------------------------------------------------------------------- two accounts


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, vendor: Vendor, url: str) -> Iterator[Settings]:
    """A terminal of root and two clerks."""
    accounts.made_known(monkeypatch)
    python = accounts.python_for_all()
    with accounts.open_folder() as folder:
        wish = Wish(
            app=None, url=url, root=vendor.root, settings=folder / "etc" / "settings.toml", program=folder / "program",
            state=folder / "state", data=folder / "data", till_user="clerk-a", till_group="clerks",
            interpreters=(("python", python),),
        )  # fmt: skip
        yield install(wish)[0]


def problems(settings: Settings) -> list[tuple[str, str]]:
    found = doctor.examine(settings.path)
    return [(finding.object, finding.cause) for finding in found if finding.severity is not Severity.NOTE]


@as_root
def test_a_terminal_of_two_accounts_has_no_problem(two: Settings) -> None:
    assert problems(two) == []
    assert not any("one account" in finding.cause for finding in doctor.examine(two.path))


@as_root
def test_what_two_accounts_must_not_share_is_found_and_set(two: Settings) -> None:
    (folder,) = (two.program / "versions").iterdir()
    os.chown(folder / "till.py", CLERK, CLERK)
    (folder / "release.json").chmod(0o666)
    (two.private / "secrets.toml").touch()
    (two.private / "secrets.toml").chmod(0o644)
    (two.shared / "trial").mkdir()
    (two.shared / "trial" / "1.json").touch(0o600)
    (two.state / "terminal.lock").chmod(0o644)
    os.chown(two.data, 0, 0)
    found = dict(problems(two))
    assert {Path(path).name for path in found} >= {
        "till.py", "release.json", "secrets.toml", "trial", "1.json", "terminal.lock", "data",
    }, found  # fmt: skip
    assert any(path.endswith("terminal.lock") and "cannot write" in cause for path, cause in problems(two))
    changed = doctor.repair(two.path)
    assert len(changed) == 7, changed
    assert problems(two) == []
    disk = on_disk(two.path.parent.parent)
    version = f"program/versions/{folder.name}"
    assert (disk[f"{version}/till.py"], disk[f"{version}/release.json"]) == ((0, 0, "0644"), (0, 0, "0644"))
    assert (disk["state/private/secrets.toml"], disk["state/terminal.lock"]) == ((0, 0, "0600"), (0, 0, "0666"))
    assert (disk["data"], disk["state/shared/trial"]) == ((CLERK, CLERKS, "2770"), (CLERK, CLERKS, "2770"))
    assert disk["state/shared/trial/1.json"] == (CLERK, CLERKS, "0660")


@as_root
def test_a_folder_above_that_the_clerk_may_write_is_an_error_and_stops_the_agent(two: Settings) -> None:
    os.chown(two.path.parent.parent, CLERK, CLERK)
    assert any("another account can replace it" in cause for _, cause in problems(two))
    done = accounts.run_updater("check", "--settings", two.path)
    assert (done.status, "UNSAFE" in done.said or "another account can replace it" in done.said) == (4, True), done.said
    (report,) = two.outbox.glob("*U-1020*.json")
    assert "another account can replace it" in report.read_text()


@as_root
def test_a_repair_by_the_clerk_is_refused_with_the_command(two: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(this_platform()), "is_privileged", property(lambda _: False))
    with pytest.raises(Refused) as caught:
        doctor.repair(two.path)
    assert f"sudo updater doctor --repair --settings {two.path}" in caught.value.hint


@as_root
def test_an_account_that_is_gone_is_a_finding(two: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(this_platform()), "account", lambda *_: None)
    assert any("no account clerk-a" in cause for _, cause in problems(two))
