"""The agent updates itself: real kits in a home, releases from a real server, real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.kits import Home
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, copy_of, served, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform == "win32",
        reason="these homes have the program of Linux: see tests/drills/kit_agents.py",
    ),
]


@pytest.fixture
def home(first_release: Vendor, tmp_path: Path) -> Iterator[Home]:
    """A terminal with an app, and agent 1 in its home."""
    vendor = copy_of(first_release, tmp_path / "vendor")
    till = Till(tmp_path / "till")
    with served(serving(vendor.public)) as url:
        till.install(vendor.root, url)
        till.fill(items_count=50)
        till.limits(agent_trial_seconds=20)
        found = Home(tmp_path / "home", till, vendor)
        found.place("1")
        yield found


def test_agents_follow_each_other_and_come_back(home: Home) -> None:
    """1 → 2 → 3, which lives and cannot look → 2 → 4, which crashes → 2, with the till open all the while."""
    one = home.ids["1"]
    with home.open_till():
        two = home.publish("2")
        code, said = home.run("check")
        assert (code, home.pointer()["id"], home.pointer()["trial"]["id"]) == (0, one, two), said
        assert "agent 2 starts on trial" in said
        code, said = home.run("run")
        assert (code, home.pointer()["id"], home.pointer()["before"]) == (0, two, one), said
        assert "AGENT_CONFIRMED" in said
        home.publish("3", behaviour="blind")
        code, said = home.run("check")
        assert "AGENT_SWAPPED" in said, said
        said = home.run_until("AGENT_WENT_BACK")
        assert (home.pointer()["id"], home.pointer()["before"], "trial" in home.pointer()) == (two, one, False), said
        assert "this agent cannot look" in home.till.report("AGENT_WENT_BACK")["cause"]
        code, said = home.run("check")
        assert "NOTHING_NEW" in said, "3 is not tried again before a day has passed"
        home.publish("4", behaviour="crash")
        assert "AGENT_SWAPPED" in home.run("check")[1]
        for _ in range(3):
            assert home.run("run")[0] == 9
        said = home.run_until("AGENT_WENT_BACK")
        assert (home.pointer()["id"], home.pointer()["before"], "trial" in home.pointer()) == (two, one, False), said
        assert "started 3 times" in home.till.report("AGENT_WENT_BACK")["cause"]
        code, said = home.run("status")
        assert [line.split()[:2] for line in said.splitlines() if "failed at" in line] == [
            ["3", "failed"],
            ["4", "failed"],
        ]
        assert home.run("check")[1].startswith("NOTHING_NEW")
        assert home.kits() == {"1", "2"}
    assert home.till.lost_receipts() == []


def test_an_apps_trial_comes_first_and_is_untouched(home: Home) -> None:
    home.vendor.release("1.1", schema=4, behaviour="sells_then_hangs")
    assert "SWAPPED" in home.run("check")[1]
    with home.start("launch", "--", "--sell", "1") as till:
        try:
            while not home.till.held_receipts():
                time.sleep(0.05)
            before = home.till.status()["trial"]
            assert before["verdict"] == "open"
            home.publish("2")
            for _ in range(2):
                said = home.run("check")[1]
                assert "ON_TRIAL" in said, said
                assert "agent 2" not in said, said
            assert home.till.status()["trial"] == before
            assert home.kits() == {"1"}
            assert "trial" not in home.pointer()
        finally:
            till.terminate()
            till.communicate()


def test_an_app_release_that_needs_it_waits_and_one_that_cannot_run_stops_no_other(home: Home) -> None:
    bundle = home.vendor.bundle("1.1", schema=4)
    with (bundle / "tillkeeper.toml").open("a", encoding="utf-8") as file:
        file.write('least_agent = "99"\n')
    home.vendor.publish(bundle, "1.1")
    home.publish("2", behaviour="syntax")
    said = home.run("check")[1]
    assert "AGENT_SWAPPED" not in said, said
    assert "SyntaxError" in home.till.report("AGENT_REFUSED")["cause"]
    assert home.till.status()["unusable"][0]["outcome"] == "WAITS_FOR_AGENT"
    assert "needs Tillkeeper 99" in home.till.status()["unusable"][0]["cause"]
    home.run("check")
    assert home.till.status()["unusable"][0]["outcome"] == "NEEDS_NEWER_AGENT", "the newer agent was rejected"
    assert home.till.outcomes().count("AGENT_REFUSED") == 1
    home.vendor.release("1.2", schema=4)
    assert "SWAPPED" in home.run("check")[1], "an app release that needs no newer agent comes"
    assert home.pointer()["id"] == home.ids["1"]
    assert home.kits() == {"1"}


@pytest.mark.long
def test_a_person_allows_an_agent_that_was_rejected(home: Home) -> None:
    home.publish("2", behaviour="syntax")
    for _ in range(2):
        home.run("check")
    assert home.till.outcomes().count("AGENT_REFUSED") == 1, "it is not tried again by itself"
    # No beginning of an id, which is hexadecimal.
    code, said = home.run("allow", "7.7")
    assert (code, "7.7 names 0 rejected releases; there are: agent 2 (" in said) == (4, True), said
    code, said = home.run("allow", "2")
    assert (code, said.startswith("2 ("), "may be tried again" in said) == (0, True, True), said
    assert home.till.outcomes()[-1] == "ALLOWED"
    assert "failed at" not in home.run("status")[1]
    home.run("check")
    assert home.till.outcomes().count("AGENT_REFUSED") == 2
    assert home.pointer()["id"] == home.ids["1"]


def test_launchers_that_do_not_reach_the_app_end_the_trial(home: Home) -> None:
    home.publish("2", behaviour="no app")
    assert "AGENT_SWAPPED" in home.run("check")[1]
    for _ in range(3):
        assert home.run("launch", "--", "--sell", "1")[0] != 0
    code, said = home.run("launch", "--", "--sell", "1")
    assert (code, "is open" in said) == (0, True), "the till opens with the launcher before"
    assert home.service()
    said = home.run_until("AGENT_WENT_BACK")
    assert "did not reach the app" in home.till.report("AGENT_WENT_BACK")["cause"], said
    assert home.pointer()["id"] == home.ids["1"]


@pytest.mark.long
def test_a_confirmed_agent_whose_launcher_fails_leaves_the_till_to_the_one_before(home: Home) -> None:
    home.publish("2", behaviour="no app")
    home.run("check")
    assert "AGENT_CONFIRMED" in home.service()
    for _ in range(3):
        assert home.run("launch", "--", "--sell", "1")[0] != 0
    assert "is open" in home.run("launch", "--", "--sell", "1")[1]
    for _ in range(2):
        home.run("check")
    assert home.till.outcomes().count("AGENT_LAUNCHER") == 1
    assert home.pointer()["id"] == home.ids["2"], "a claim of the till's account changes no agent"


def test_a_setup_wins_over_a_trial_and_a_kit_in_use_stays(home: Home) -> None:
    one = home.ids["1"]
    with home.open_till():
        two = home.publish("2")
        home.run("check")
        three = home.place("3")
        assert (home.pointer()["id"], home.pointer()["before"], "trial" in home.pointer()) == (three, one, False)
        home.place("4")
        assert home.kits() == {"1", "3", "4"}, "the till was opened by 1, and 2 was on trial"
        assert not (home.folder / f"agent-{two}").exists()
    home.run("check")
    assert home.kits() == {"3", "4"}
    assert not list(home.folder.glob(".gone-*"))


# ------------------------------------------------------------------------------------------------------------- the cuts


class Stage:
    """A home whose whole state can be had again."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.home = home
        self.folder = folder

    @property
    def places(self) -> tuple[Path, ...]:
        return self.home.folder, self.home.till.folder

    def keep(self) -> None:
        for path in self.places:
            shutil.copytree(path, self.folder / path.name, symlinks=True)

    def set_up(self) -> None:
        for path in self.places:
            shutil.rmtree(path)
            shutil.copytree(self.folder / path.name, path, symlinks=True)
        for name in ("count", "cut"):
            (self.folder / name).unlink(missing_ok=True)

    def cut(self, number: int, *words: str) -> bool:
        """Runs the program of the home and kills all of it before that rename; False if there are fewer."""
        self.home.values = {"CUT_AT": str(number), "CUT_FOLDER": str(self.folder)}
        try:
            with self.home.start(*words) as process:
                while process.poll() is None and not (self.folder / "cut").exists():
                    time.sleep(0.02)
                kill_all(f"CUT_FOLDER={self.folder}")
                process.communicate(timeout=60)
        finally:
            self.home.values = {}
        return (self.folder / "cut").exists()


def kill_all(mark: str) -> None:
    """As a power cut: every process with that in its environment."""
    left = True
    while left:
        left = False
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                    os.kill(int(folder.name), signal.SIGKILL)
                    left = "State:\tZ" not in (folder / "status").read_text() or left
            except OSError:
                continue


TRIAL_SECONDS = {"crash": 60, "blind": 6}
"""One that lives is left at the end of its trial."""


@pytest.fixture
def stage(request: pytest.FixtureRequest, first_release: Vendor, tmp_path: Path) -> Iterator[Stage]:
    vendor = copy_of(first_release, tmp_path / "vendor")
    till = Till(tmp_path / "till")
    with served(serving(vendor.public)) as url:
        till.install(vendor.root, url)
        till.fill(items_count=20)
        till.limits(agent_trial_seconds=TRIAL_SECONDS[getattr(request, "param", "crash")])
        home = Home(tmp_path / "home", till, vendor, cuts=True)
        home.place("1")
        yield Stage(home, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_cut_at_every_step_of_an_update_leaves_a_whole_agent_and_the_same_end(stage: Stage, tmp_path: Path) -> None:
    home, one = stage.home, stage.home.ids["1"]
    two = home.publish("2")
    stage.folder = tmp_path / "kept"
    stage.folder.mkdir()
    stage.keep()
    for words in ("check", "run"):
        stage.set_up()
        if words == "run":
            assert "AGENT_SWAPPED" in home.run("check")[1]
            shutil.rmtree(stage.folder)
            stage.folder.mkdir()
            stage.keep()
        assert not stage.cut(10_000, words)
        count = (stage.folder / "count").stat().st_size
        assert count > 3
        print(f"{words}: {count} renames")
        for number in range(1, count + 1):
            stage.set_up()
            assert stage.cut(number, words), number
            assert home.run("status")[0] == 0, number
            # As its service manager does: again and again; and a person's command as well.
            for _ in range(4):
                if home.pointer().get("id") != two:
                    home.run("check")
                    home.run("run") if "trial" in home.pointer() else None
            assert (home.pointer()["id"], home.pointer()["before"]) == (two, one), number
            assert "trial" not in home.pointer()
            assert home.run("check")[1].startswith("NOTHING_NEW"), number
            left = {path.name for path in home.folder.iterdir()} - {"attempts.json.new", ".new-current.json"}
            assert left <= {f"agent-{one}", f"agent-{two}", "rescue", "start", "current.json", "attempts.json"}, number


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("stage", "behaviour"), [(how, how) for how in TRIAL_SECONDS], indirect=["stage"])
def test_a_cut_at_every_step_of_the_way_back_ends_the_same(stage: Stage, behaviour: str, tmp_path: Path) -> None:
    home, one = stage.home, stage.home.ids["1"]
    home.publish("2", behaviour=behaviour)
    home.run("check")
    if behaviour == "crash":
        for _ in range(3):
            home.run("run")
    stage.folder = tmp_path / "kept"
    stage.folder.mkdir()
    stage.keep()
    number = 0
    while True:
        number += 1
        stage.set_up()
        home.values = {"CUT_AT": str(number), "CUT_FOLDER": str(stage.folder)}
        try:
            with home.start("run") as process:
                while not (stage.folder / "cut").exists() and "AGENT_WENT_BACK" not in home.till.outcomes():
                    time.sleep(0.02)
                kill_all(f"CUT_FOLDER={stage.folder}")
                process.communicate(timeout=60)
        finally:
            home.values = {}
        if not (stage.folder / "cut").exists():
            break
        if "trial" in home.pointer():
            # It was told perhaps, and cut before the trial was over: then it is told twice.
            home.run_until("AGENT_WENT_BACK")
        assert "AGENT_WENT_BACK" in home.till.outcomes(), f"{number}: it is over and was not told"
        assert (home.pointer()["id"], "trial" in home.pointer()) == (one, False), number
        (failed,) = json.loads((home.till.settings.private / "agent/releases.json").read_text())["failures"]
        assert failed["trials_count"] == 1, number
        assert home.run("check")[1].startswith("NOTHING_NEW"), number
        assert home.kits() == {"1"}
    assert number > 2
