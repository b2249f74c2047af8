"""Root's agent and the clerk's till on one terminal, with real ids and processes: one story, whatever the umask is."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest

from tests.helpers.accounts import as_root
from tests.helpers.second_account import TwoTill, clerk, code, open_folder, python
from tests.helpers.shop import version
from tests.helpers.vendor import Vendor

pytestmark = as_root


@pytest.fixture
def two(vendor: Vendor, url: str, request: pytest.FixtureRequest) -> Iterator[TwoTill]:
    """A terminal of two accounts with 1.0, schema 2, and a shop, installed under the umask of the test."""
    python()
    with open_folder() as folder:
        made = TwoTill(folder / "till")
        made.umask = request.node.callspec.params.get("umask", 0o022) if hasattr(request.node, "callspec") else 0o022
        made.install(vendor.root, url)
        made.fill(items_count=20)
        yield made


def check(two: TwoTill) -> str:
    """One cycle of root's agent; what it says."""
    done = two.agent("check")
    assert "Traceback" not in done.stderr, done.stderr
    assert two.strangers() == []
    return done.stdout + done.stderr


def launch(two: TwoTill, opened: str, *, sell: int = 2) -> str:
    """The clerk opens the till; what it says."""
    done = two.launch(sell=sell)
    assert f"till {opened} is open" in done.stdout, done.stdout + done.stderr
    assert two.strangers() == []
    return done.stdout + done.stderr


@pytest.mark.parametrize("umask", [pytest.param(0o022, marks=pytest.mark.long), 0o077], ids=oct)
def test_updates_a_crash_and_the_clerks_rollback(vendor: Vendor, two: TwoTill, umask: int) -> None:
    assert two.umask == umask
    launch(two, "1.0")
    # An update: the clerk's launch migrates and confirms, root's agent folds.
    vendor.release("1.1", schema=4)
    assert "SWAPPED" in check(two)
    assert two.database.lstat().st_uid != 0
    launch(two, "1.1")
    assert version(two.database) == 4
    assert "NOTHING_NEW" in check(two)
    assert (two.journal().phase, two.journal().good.version) == ("IDLE", "1.1")
    # A release that crashes: the way back is the clerk's, the rejection root's.
    vendor.release("1.2", schema=5, behaviour="crash")
    assert "SWAPPED" in check(two)
    for _ in range(4):
        done = two.launch(sell=1)
        if "till 1.1 is open" in done.stdout:
            break
    assert "till 1.1 is open" in done.stdout, done.stdout + done.stderr
    assert version(two.database) == 4
    assert "REJECTED_HERE" in check(two)
    assert [rejection.release.version for rejection in two.state().read_rejections(lambda _: True)] == ["1.2"]
    assert "APP_FAILED" in {report["outcome"] for report in two.alarms()}, "the clerk's alarm is taken over"
    assert {report.get("claimed_by") for report in two.alarms() if report["outcome"] == "APP_FAILED"} == {"nobody"}
    # The clerk goes back from a release that was confirmed.
    vendor.release("1.3", schema=5)
    assert "SWAPPED" in check(two)
    launch(two, "1.3")
    assert "NOTHING_NEW" in check(two)
    done = two.run("rollback", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert two.strangers() == []
    assert two.journal().good.version == "1.3", "only root's agent writes the journal"
    launch(two, "1.1")
    assert version(two.database) == 4
    assert "REJECTED_HERE" in check(two)
    assert two.journal().good.version == "1.1"
    launch(two, "1.1")
    assert two.lost_receipts() == []
    assert stat.S_IMODE(two.settings.private.stat().st_mode) == 0o700


def test_the_clerk_goes_back_with_a_bare_python_while_the_agent_is_dead(vendor: Vendor, two: TwoTill) -> None:
    confirmed(vendor, two)
    launch(two, "1.1")
    before = two.of_the_agent()
    # Nothing but an interpreter and the source: no installed package, no agent, no network.
    script = code() / "scripts" / "rollback.py"
    done = clerk().run(python(), "-I", "-S", script, "--yes", env=two.environment(), umask=0o077)
    assert done.returncode == 0, done.stdout + done.stderr
    assert two.of_the_agent() == before
    assert two.strangers() == []
    # The next starts, days without an agent.
    for _ in range(2):
        launch(two, "1.0")
    assert (version(two.database), two.journal().good.version) == (2, "1.1")
    assert two.of_the_agent() == before
    # The agent is back: it takes the choice over, and does not install again what the clerk went back from.
    assert "REJECTED_HERE" in check(two)
    (rejection,) = two.state().read_rejections(lambda _: True)
    assert (rejection.release.version, rejection.by) == ("1.1", "person")
    assert (two.journal().phase, two.journal().good.version) == ("IDLE", "1.0")
    launch(two, "1.0")
    vendor.release("1.2", schema=5)
    assert "SWAPPED" in check(two)
    launch(two, "1.2")
    assert (version(two.database), two.lost_receipts()) == (5, [])


@pytest.mark.parametrize("command", [["check"], ["allow", "1.1"]], ids=lambda words: words[0])
def test_the_agents_commands_are_refused_to_the_clerk(two: TwoTill, command: list[str]) -> None:
    before = two.of_the_agent()
    done = two.run(*command)
    assert done.returncode not in (0, 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert two.of_the_agent() == before


def test_status_shows_root_and_the_clerk_the_same(two: TwoTill) -> None:
    launch(two, "1.0")
    check(two)
    before = two.of_the_agent()
    by_root, by_clerk = two.agent("status"), two.run("status")
    assert by_clerk.returncode == by_root.returncode == 0, by_clerk.stderr + by_root.stderr
    assert "1.0" in by_clerk.stdout
    assert two.of_the_agent() == before
    assert two.strangers() == []


def confirmed(vendor: Vendor, two: TwoTill) -> None:
    """An update to 1.1 that the clerk's launch has confirmed and root's agent has folded."""
    launch(two, "1.0")
    vendor.release("1.1", schema=4)
    check(two)
    launch(two, "1.1")
    check(two)
    assert two.journal().good.version == "1.1"


def forbid(two: TwoTill) -> None:
    """The clerk may not go back on this terminal."""
    text = two.settings_path.read_text()
    assert 'till = "nobody"' in text, text
    two.settings_path.write_text(text.replace('till = "nobody"', 'till = "nobody"\ntill_may_roll_back = false'))
    check(two)


def test_root_goes_back_with_the_tills_rights_where_the_clerk_may_not(vendor: Vendor, two: TwoTill) -> None:
    confirmed(vendor, two)
    forbid(two)
    refused = two.run("rollback", "--yes")
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "may not go back" in refused.stderr
    assert "sudo updater rollback" in refused.stderr
    assert version(two.database) == 4
    assert two.run("rollback", "--dry-run").returncode == 0, "looking is allowed"
    done = two.agent("rollback", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert two.strangers() == []
    assert (version(two.database), two.database.lstat().st_uid != 0) == (2, True)
    launch(two, "1.0")
    assert "REJECTED_HERE" in check(two)
    (rejection,) = two.state().read_rejections(lambda _: True)
    assert (rejection.release.version, rejection.by, rejection.claimed) == ("1.1", "person", False)
    assert two.journal().good.version == "1.0"
    assert two.lost_receipts() == []


def test_a_choice_that_the_clerk_forges_where_he_may_not_go_back_is_refused(vendor: Vendor, two: TwoTill) -> None:
    confirmed(vendor, two)
    # Made while it was allowed, as a forged one would be.
    assert two.run("rollback", "--yes").returncode == 0
    forbid(two)
    assert "CHOICE_REFUSED" in {report["outcome"] for report in two.alarms()}
    assert two.journal().good.version == "1.1"
    launch(two, "1.1")
    assert (version(two.database), two.lost_receipts()) == (4, [])
