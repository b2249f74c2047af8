"""The agent updates itself: real kits in a home, releases from a real server, real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.kits import Home
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, copy_of, served, serving

pytestmark = pytest.mark.slow


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
    with home.start("launch", "--", "--sell", "1", "--pause", "600") as till:
        assert till.stdout is not None
        assert "is open" in till.stdout.readline()
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
        assert till.poll() is None, "the till was open all the while"
        till.terminate()
        till.communicate()
    assert home.till.lost_receipts() == []
