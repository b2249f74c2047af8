"""The agent updates itself: real kits in a real home, releases from a real server, processes of the program of the home."""

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
    code, said = home.run("status")
    assert (code, "agent     1" in said) == (0, True), said
    two = home.publish("2")
    code, said = home.run("check")
    assert "AGENT_SWAPPED" in said, said
    assert home.pointer()["trial"]["id"] == two
    code, said = home.run("run")
    assert home.pointer()["id"] == two, said
