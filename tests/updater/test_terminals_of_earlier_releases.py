"""What is on disk stays readable: terminals that earlier commits left go on in place with the code of today.

Each recording (`tests/recorder/make.py`) is unpacked and used by real commands as processes. Persisted names, outcome
names and U-codes never change: `names.json` of each recording is compared with the code.

A failure here means that a terminal in a store would not go on. The code changes then, never the recording.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.helpers.recorded import (
    COMMITS,
    RECORDINGS,
    RecordedTerminal,
    commits_with,
    differing_files,
    read_json,
    scenes,
    unpack,
)
from tests.recorder import BOOT, names

Opened = Callable[..., RecordedTerminal]
EVERY_SCENE = [(commit, scene) for commit in COMMITS for scene in scenes(commit)]
OFFLINE = 75
REBOOTED = "a later boot"
SETTLED_CONFIRM = ["the trial of 2.0 is settled: confirmed"]
SETTLED_GIVE_UP = ["the trial of 2.0 is settled: given_up"]
UPDATED = ("IDLE", "2.0", None, "1.0")
"""The journal after a whole update: phase, good, candidate, previous."""
FIRST = ("IDLE", "1.0", None, None)
BOTH_PROOFS = [("1.0", "installed"), ("2.0", "confirmed")]
CHOSEN_PROOFS = [*BOTH_PROOFS, ("1.0", "chosen")]
BY_A_PERSON = [("2.0", "person", "ROLLED_BACK")]
MIGRATED = {"versions": ["1.0", "2.0"], "backups": {"v1": 1}, "unfinished": []}
WENT_BACK = {"before-restore": 1, "v1": 1}
BEGAN_TO = {**WENT_BACK, "carried-v1": 1}
"""After a rollback that an earlier version began: what it carried back stays among the backups."""


@pytest.fixture(scope="module")
def nowhere() -> Iterator[str]:
    """Reserve an address at which nobody answers: every connection is refused at once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def opened(tmp_path: Path, nowhere: str) -> Opened:
    """Return a function that unpacks a scene of a commit."""
    return lambda commit, scene: unpack(commit, scene, tmp_path / "terminal", url=nowhere)


def of(scene: str) -> pytest.MarkDecorator:
    """Run a test with each commit of which that scene is recorded."""
    return pytest.mark.parametrize("commit", commits_with(scene))


# --------------------------------------------------------------------------------------------------------- recordings


@pytest.mark.parametrize(("commit", "scene"), EVERY_SCENE)
def test_a_recording_is_unpacked_to_the_byte(opened: Opened, commit: str, scene: str) -> None:
    till = opened(commit, scene)
    versions = till.folder / "program" / "versions"
    for folder in versions.iterdir() if versions.exists() else ():
        assert differing_files(folder) == []
    texts = [path for path in till.folder.rglob("*") if path.suffix in (".json", ".jsonl", ".toml")]
    assert not [
        path for path in texts if any(f"@{word}@" in path.read_text() for word in ("TERMINAL", "PYTHON", "URL"))
    ]
    assert all((till.folder / name).is_dir() for name in scenes(commit)[scene]["empty_folders"])


def test_git_keeps_every_file_of_the_recordings_as_it_is() -> None:
    for path in RECORDINGS.rglob("*"):
        name = path.relative_to(RECORDINGS).as_posix()
        assert not set(name) & set('<>:"|?*\\ '), name
        assert name.isascii(), name
        assert len(name) < 150, name
    git = shutil.which("git")
    if git is None:
        pytest.skip("this machine has no git")
    command = [git, "ls-files", "--others", "--ignored", "--exclude-standard", "--", str(RECORDINGS)]
    ignored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert ignored == ""


@pytest.mark.parametrize("commit", COMMITS)
def test_every_outcome_has_the_code_that_it_had(commit: str) -> None:
    recorded, now = read_json(RECORDINGS / commit / "names.json")["outcomes"], names.outcomes()
    assert {name: now.get(name) for name in recorded} == recorded


@pytest.mark.parametrize("commit", COMMITS)
def test_every_name_that_is_on_disks_is_known(commit: str) -> None:
    recorded = read_json(RECORDINGS / commit / "names.json")
    now, strings = list(names.enumerations().values()), names.strings()
    for what, values in recorded["enumerations"].items():
        assert any(set(values) <= set(known) for known in now), what
    for what, values in recorded["plain"].items():
        unknown = {value for value in values if value not in strings}
        # `before-restore` and the like are put together.
        assert not {value for value in unknown if not {"before-", value.removeprefix("before-")} <= strings}, what


@pytest.mark.parametrize("commit", COMMITS)
def test_every_name_that_was_a_plain_string_is_the_member_of_one_enumeration(commit: str) -> None:
    now = list(names.enumerations().values())
    for what, values in read_json(RECORDINGS / commit / "names.json")["plain"].items():
        assert any(set(values) <= set(known) for known in now), what
    assert names.persisted()["plain"] == {}


# --------------------------------------------------------------------------------------------- nothing is under way


@of("idle")
def test_an_idle_terminal_starts_and_sells(opened: Opened, commit: str) -> None:
    till = opened(commit, "idle")
    assert till.says() == ("IDLE", "1.0", 1, True)
    assert till.launch() == (0, "1.0")
    assert till.check() == (OFFLINE, "OFFLINE", [])
    assert till.launch() == (0, "1.0")
    assert (till.journal(), till.trials(), till.proofs(), till.rejections()) == (FIRST, [], [("1.0", "installed")], [])
    assert (till.schema(), len(till.receipts())) == (1, 5)
    assert till.sales() == till.receipts()
    assert till.events() == ["INSTALLED", "OFFLINE"]
    assert till.left() == {"versions": ["1.0"], "backups": {}, "unfinished": []}


@of("failing")
def test_failed_starts_of_before_are_counted_on(opened: Opened, commit: str) -> None:
    till = opened(commit, "failing")
    assert till.launch(mood="crashes") == (1, "")
    assert (till.events(), till.reports()) == (["INSTALLED", "RELEASE_FAILS"], ["U-3019"])
    assert read_json(till.state / "shared" / "starts.json")["failed_count"] == 3
    assert till.launch() == (0, "1.0")
    assert not (till.state / "shared" / "starts.json").exists(), "a good start ends the count"
    assert (till.journal(), len(till.receipts())) == (FIRST, 4)
    assert till.sales() == till.receipts()
    assert till.left() == {"versions": ["1.0"], "backups": {}, "unfinished": []}


@of("updated")
def test_an_updated_terminal_starts_and_knows_its_history(opened: Opened, commit: str) -> None:
    till = opened(commit, "updated")
    assert till.says() == ("IDLE", "2.0", 3, True)
    assert till.status()["can_go_back_to"] == ["1.0"]
    assert till.launch() == (0, "2.0")
    assert till.check() == (OFFLINE, "OFFLINE", [])
    told = till.dbsync("history", name="pos_system.db")
    assert [(row["kind"], row["number"], row["release_version"]) for row in told["applied"]] == [
        ("migration", 1, "1.0"), ("migration", 2, "2.0"), ("migration", 3, "2.0"), ("trial", None, "2.0"),
    ]  # fmt: skip
    assert [(run["outcome"], run["before"], run["after"]) for run in told["attempts"]] == [
        ("CREATED", 0, 1), ("MIGRATED", 1, 3),
    ]  # fmt: skip
    assert [(backup["kind"], backup["version"], backup["verified"]) for backup in told["backups"]] == [
        ("migration", 1, True)
    ]
    assert (till.journal(), till.proofs(), till.rejections()) == (UPDATED, BOTH_PROOFS, [])
    assert (till.schema(), len(till.receipts())) == (3, 7)
    assert till.sales() == till.receipts()
    assert till.left() == MIGRATED


@of("write_ahead")
def test_sales_in_a_hot_write_ahead_log_are_there(opened: Opened, commit: str) -> None:
    till = opened(commit, "write_ahead")
    assert (till.data / "pos_system.db-wal").stat().st_size > 0
    assert till.says() == ("IDLE", "2.0", 3, True)
    assert till.launch() == (0, "2.0")
    assert (till.schema(), len(till.receipts())) == (3, 9)
    assert till.sales() == till.receipts()
    assert (till.journal(), till.left()) == (UPDATED, MIGRATED)


@of("write_ahead")
def test_sales_in_a_hot_write_ahead_log_are_carried_back(opened: Opened, commit: str) -> None:
    till = opened(commit, "write_ahead")
    status, told = till.roll_back("--yes")
    assert (status, told["done"], told["carried"], told["losses"]) == (0, True, True, [])
    assert till.launch() == (0, "1.0")
    assert (till.schema(), len(till.receipts())) == (1, 9)
    assert till.sales() == till.receipts()
    assert (till.journal(), till.rejections()) == (FIRST, BY_A_PERSON)
    assert till.left() == MIGRATED | {"backups": WENT_BACK}


# ------------------------------------------------------------------------------------------------------- an update


@of("staged")
def test_a_staged_release_is_swapped_offline_and_goes_on_trial(opened: Opened, commit: str) -> None:
    till = opened(commit, "staged")
    assert till.says() == ("STAGED", "1.0", 1, True)
    assert till.launch() == (0, "1.0")
    assert till.check() == (OFFLINE, "OFFLINE", ["2.0 starts at the next launch"])
    assert (till.journal(), till.says()) == (("SWAPPED", "1.0", "2.0", None), ("SWAPPED", "2.0", 1, False))
    assert_update_ends_well(till, sales_count=6, attempts_count=1)


@of("swapped")
def test_a_swapped_release_goes_on_trial(opened: Opened, commit: str) -> None:
    till = opened(commit, "swapped")
    assert till.says() == ("SWAPPED", "2.0", 1, False)
    assert till.check() == (OFFLINE, "OFFLINE", [])
    assert_update_ends_well(till, sales_count=5, attempts_count=1)


@of("attempt")
@pytest.mark.parametrize(("boot", "attempts_count", "interruptions_count"), [(BOOT, 2, 0), (REBOOTED, 1, 1)])
def test_an_attempt_that_was_killed_is_tried_again(
    opened: Opened, commit: str, boot: str, attempts_count: int, interruptions_count: int
) -> None:
    till = opened(commit, "attempt")
    assert till.left()["unfinished"] == ["data/pos_system.db-journal"]
    assert till.check() == (0, "ON_TRIAL", [])
    assert_update_ends_well(
        till, sales_count=5, attempts_count=attempts_count, interruptions_count=interruptions_count, boot=boot
    )


@of("trial")
@pytest.mark.parametrize(("boot", "launches_count", "interruptions_count"), [(BOOT, 2, 0), (REBOOTED, 1, 1)])
def test_a_trial_goes_on_after_a_kill_and_after_a_power_cut(
    opened: Opened, commit: str, boot: str, launches_count: int, interruptions_count: int
) -> None:
    till = opened(commit, "trial")
    assert till.says() == ("SWAPPED", "2.0", 3, True)
    assert till.check() == (0, "ON_TRIAL", [])
    assert_update_ends_well(
        till, sales_count=5, attempts_count=1, launches_count=launches_count, interruptions_count=interruptions_count,
        boot=boot,
    )  # fmt: skip


def assert_update_ends_well(
    till: RecordedTerminal, *, sales_count: int, attempts_count: int, launches_count: int = 1,
    interruptions_count: int = 0, boot: str = BOOT,
) -> None:  # fmt: skip
    """Launch 2.0, which confirms and sells once, and fold it."""
    assert till.launch(boot=boot) == (0, "2.0")
    assert till.trials() == [("confirmed", "CONFIRMED", None, False)]
    assert till.counts() == (attempts_count, launches_count, interruptions_count)
    assert till.check() == (OFFLINE, "OFFLINE", SETTLED_CONFIRM)
    assert (till.journal(), till.proofs(), till.rejections()) == (UPDATED, BOTH_PROOFS, [])
    assert till.trials() == [("confirmed", "CONFIRMED", None, True)]
    assert (till.schema(), len(till.receipts())) == (3, sales_count)
    assert till.sales() == till.receipts()
    assert till.says() == ("IDLE", "2.0", 3, True)
    assert (till.reports(), till.left()) == ([], MIGRATED)


@of("trial")
def test_a_trial_that_fails_once_more_is_given_up_and_restored(opened: Opened, commit: str) -> None:
    till = opened(commit, "trial")
    assert till.launch(mood="crashes") == (1, ""), "2.0 crashes, and 1.0 too, which is not on trial"
    assert till.trials() == [("given_up", "APP_FAILED", "done", False)]
    assert_rejected(till, sales_count=5, backups={"v1": 1}, reports=["U-2004"])


@of("confirmed")
@pytest.mark.parametrize("launched_first", [False, True])
def test_a_confirm_is_folded(opened: Opened, commit: str, *, launched_first: bool) -> None:
    till = opened(commit, "confirmed")
    assert till.says() == ("SWAPPED", "2.0", 3, True)
    if launched_first:
        assert till.launch() == (0, "2.0")
    assert till.check() == (OFFLINE, "OFFLINE", SETTLED_CONFIRM)
    assert till.check() == (OFFLINE, "OFFLINE", [])
    assert till.launch() == (0, "2.0")
    assert (till.journal(), till.proofs(), till.rejections()) == (UPDATED, BOTH_PROOFS, [])
    assert till.trials() == [("confirmed", "CONFIRMED", None, True)]
    assert (till.schema(), len(till.receipts())) == (3, 7 + launched_first)
    assert till.sales() == till.receipts()
    assert (till.reports(), till.left()) == ([], MIGRATED)


# -------------------------------------------------------------------------------------------------- going back alone


@of("owing")
def test_a_restore_that_is_owed_is_done_before_anything_starts(opened: Opened, commit: str) -> None:
    till = opened(commit, "owing")
    assert till.schema() == 3
    assert till.check()[2] == [], "the database belongs to the trial: nothing is folded"
    assert till.launch() == (0, "1.0")
    assert till.trials() == [("given_up", "APP_FAILED", "done", False)]
    assert till.events()[-1] == "RESTORED"
    assert_rejected(till, sales_count=6, backups={"v1": 1}, reports=["U-2004"])


@of("owing_sales")
def test_sales_of_a_trial_that_was_given_up_are_carried_back(opened: Opened, commit: str) -> None:
    till = opened(commit, "owing_sales")
    assert till.launch() == (0, "1.0")
    assert till.events()[-1] == "CARRIED_BACK"
    (kept,) = till.data.glob("*-backup-before-restore-*.db")
    assert till.sales(kept) == till.receipts()[:6]
    assert_rejected(till, sales_count=8, backups={"before-restore": 1, "v1": 1}, reports=["U-2004", "U-2108"])


@of("owing_sales")
def test_a_person_may_go_back_where_a_restore_is_owed(opened: Opened, commit: str) -> None:
    till = opened(commit, "owing_sales")
    status, told = till.roll_back("--yes")
    assert (status, told["to"]["version"], told["carried"], told["losses"]) == (0, "1.0", True, [])
    assert till.launch() == (0, "1.0")
    assert till.check() == (OFFLINE, "OFFLINE", [])
    assert (till.journal(), till.rejections()) == (FIRST, BY_A_PERSON)
    assert till.proofs() == [("1.0", "installed"), ("1.0", "chosen")]
    assert (till.schema(), len(till.receipts())) == (1, 7)
    assert till.sales() == till.receipts()
    assert till.left() == {"versions": ["1.0"], "backups": WENT_BACK, "unfinished": []}


def assert_rejected(till: RecordedTerminal, *, sales_count: int, backups: dict[str, int], reports: list[str]) -> None:
    """Fold a give-up whose database went back, and launch 1.0, which sells once more."""
    assert till.check() == (OFFLINE, "OFFLINE", SETTLED_GIVE_UP)
    assert till.launch() == (0, "1.0")
    assert till.says() == ("IDLE", "1.0", 1, True)
    assert (till.journal(), till.proofs()) == (FIRST, [("1.0", "installed")])
    assert till.trials() == [("given_up", "APP_FAILED", "done", True)]
    assert till.rejections() == [("2.0", "machine", "APP_FAILED")]
    assert (till.schema(), len(till.receipts())) == (1, sales_count)
    assert till.sales() == till.receipts()
    assert till.reports() == reports
    assert till.left() == {"versions": ["1.0"], "backups": backups, "unfinished": []}


@of("rejected")
def test_a_rejection_holds_until_it_is_lifted(opened: Opened, commit: str) -> None:
    till = opened(commit, "rejected")
    assert [(entry["version"], entry["by"], entry["outcome"]) for entry in till.status()["rejected"]] == [
        ("2.0", "machine", "APP_FAILED")
    ]
    assert till.check() == (OFFLINE, "OFFLINE", [])
    assert till.launch() == (0, "1.0")
    assert till.run("-m", "updater", "allow", "2.0").returncode == 0
    assert till.check() == (OFFLINE, "OFFLINE", [])
    assert till.launch() == (0, "1.0")
    assert (till.journal(), till.rejections()) == (FIRST, []), "the closed trial does not reject it anew"
    assert till.trials() == [("taken_back", "APP_FAILED", "done", True)]
    assert (till.schema(), len(till.receipts())) == (1, 7)
    assert till.sales() == till.receipts()
    assert till.left() == {"versions": ["1.0"], "backups": {"v1": 1}, "unfinished": []}


# ------------------------------------------------------------------------------------------------ a person goes back


@of("updated")
def test_a_person_goes_back_to_a_version_of_before(opened: Opened, commit: str) -> None:
    till = opened(commit, "updated")
    assert till.launch() == (0, "2.0")
    status, told = till.roll_back("--list")
    assert (status, [release["version"] for release in told["can_go_back_to"]]) == (0, ["1.0"])
    status, told = till.roll_back("--dry-run")
    assert (status, told["done"], told["carries"], told["losses"]) == (0, False, True, [])
    assert_went_back(till, *till.roll_back("--yes"), sales_count=8)


@of("undecided_person")
def test_a_rollback_that_was_killed_before_its_rejection_has_not_happened(opened: Opened, commit: str) -> None:
    till = opened(commit, "undecided_person")
    assert till.says() == ("IDLE", "2.0", 3, True)
    assert till.launch() == (0, "2.0")
    assert (till.journal(), till.rejections()) == (UPDATED, [])
    answer = till.roll_back("--yes")
    assert_went_back(till, *answer, sales_count=8, backups={"before-restore": 2, "carried-v1": 1, "v1": 1})


@of("owing_person")
def test_a_rollback_that_was_killed_after_its_rejection_is_finished_by_a_repeat(opened: Opened, commit: str) -> None:
    till = opened(commit, "owing_person")
    answer = till.roll_back("--yes")
    assert_went_back(till, *answer, sales_count=7, backups={"before-restore": 2, "carried-v1": 1, "v1": 1})


def assert_went_back(
    till: RecordedTerminal,
    status: int,
    told: dict[str, object],
    *,
    sales_count: int,
    backups: dict[str, int] = WENT_BACK,
) -> None:
    """Take the answer of a rollback, launch 1.0, which sells once, and let the agent look."""
    assert (status, told["done"], told["carried"], told["losses"]) == (0, True, True, [])
    assert till.sales(Path(str(told["kept"]))) == till.receipts(), "the newer database is kept whole"
    assert till.launch() == (0, "1.0")
    assert till.check() == (OFFLINE, "OFFLINE", [])
    assert (till.journal(), till.proofs(), till.rejections()) == (FIRST, CHOSEN_PROOFS, BY_A_PERSON)
    assert (till.schema(), len(till.receipts())) == (1, sales_count)
    assert till.sales() == till.receipts()
    assert till.reports() == ["U-0014"]
    assert till.left() == MIGRATED | {"backups": backups}


@of("owing_person")
def test_a_rollback_that_was_killed_after_its_rejection_is_finished_by_a_launch(opened: Opened, commit: str) -> None:
    assert_rollback_is_finished(opened(commit, "owing_person"), schema=3)


@of("restored_person")
def test_a_rollback_that_was_killed_after_its_restore_is_finished_by_a_launch(opened: Opened, commit: str) -> None:
    assert_rollback_is_finished(opened(commit, "restored_person"), schema=1)


def assert_rollback_is_finished(till: RecordedTerminal, *, schema: int) -> None:
    """Launch 1.0 after a rollback that was killed, and fold it."""
    assert till.schema() == schema
    assert till.check() == (OFFLINE, "OFFLINE", []), "the restore is owed: nothing is folded"
    (kept,) = till.data.glob("*-backup-before-restore-*.db")
    assert till.sales(kept) == till.receipts()
    assert till.launch() == (0, "1.0")
    assert till.check() == (OFFLINE, "OFFLINE", ["a person's rollback is settled"])
    assert till.says() == ("IDLE", "1.0", 1, True)
    assert (till.journal(), till.proofs(), till.rejections()) == (FIRST, CHOSEN_PROOFS, BY_A_PERSON)
    assert (till.schema(), len(till.receipts())) == (1, 7)
    assert till.sales() == till.receipts()
    assert till.reports() == ["U-0014"]
    assert till.left() == MIGRATED | {"backups": BEGAN_TO}


@of("rolled_back")
def test_a_rollback_of_before_stays(opened: Opened, commit: str) -> None:
    till = opened(commit, "rolled_back")
    assert till.says() == ("IDLE", "1.0", 1, True)
    assert till.check() == (OFFLINE, "OFFLINE", [])
    assert till.launch() == (0, "1.0")
    assert till.roll_back("--list")[1]["can_go_back_to"] == []
    assert (till.journal(), till.proofs(), till.rejections()) == (FIRST, CHOSEN_PROOFS, BY_A_PERSON)
    assert (till.schema(), len(till.receipts())) == (1, 7)
    assert till.sales() == till.receipts()
    assert till.left() == MIGRATED | {"backups": BEGAN_TO}


# ---------------------------------------------------------------------------------------------------- a lost journal


@of("confirmed")
def test_a_lost_journal_is_made_again_of_a_confirm(opened: Opened, commit: str) -> None:
    till = opened(commit, "confirmed")
    (till.state / "journal.json").unlink()
    assert till.launch() == (0, "2.0")
    assert till.check() == (OFFLINE, "OFFLINE", ["the journal was made again", *SETTLED_CONFIRM])
    assert (till.journal(), till.proofs(), till.rejections()) == (("IDLE", "2.0", None, None), BOTH_PROOFS, [])
    assert (till.schema(), len(till.receipts())) == (3, 7)
    assert till.sales() == till.receipts()
    assert (till.reports(), till.left()) == (["U-1009"], MIGRATED)


@of("trial")
def test_a_lost_journal_ends_a_trial(opened: Opened, commit: str) -> None:
    till = opened(commit, "trial")
    (till.state / "journal.json").unlink()
    assert till.check() == (OFFLINE, "OFFLINE", ["the journal was made again"])
    assert till.launch() == (0, "1.0")
    assert till.check() == (OFFLINE, "OFFLINE", SETTLED_GIVE_UP)
    assert (till.journal(), till.proofs()) == (FIRST, [("1.0", "installed")])
    assert till.trials() == [("given_up", "TRIAL_LOST", "done", True)]
    assert till.rejections() == [("2.0", "machine", "TRIAL_LOST")]
    assert (till.schema(), len(till.receipts())) == (1, 5)
    assert till.sales() == till.receipts()
    assert till.left() == {"versions": ["1.0"], "backups": {"v1": 1}, "unfinished": []}


# ------------------------------------------------------------------------------------------------------ dbsync alone


@of("dbsync_shop")
def test_a_database_of_before_tells_its_past(opened: Opened, commit: str) -> None:
    shop = opened(commit, "dbsync_shop")
    told = shop.dbsync("status", "--migrations", str(shop.folder / "migrations"))
    assert (told["state"], told["version"], told["pending"], told["backups_count"]) == ("ok", 3, [], 3)
    assert told["last_run"]["outcome"] == "MIGRATED"
    past = shop.dbsync("history")
    assert [(row["kind"], row["number"], row["name"]) for row in past["applied"]] == [
        ("migration", 1, "first"), ("migration", 2, "add_sales_note"), ("migration", 3, "add_rates"),
    ]  # fmt: skip
    assert [run["outcome"] for run in past["attempts"] if run["kind"] == "upgrade"] == [
        "CREATED",
        "MIGRATED",
        "MIGRATED",
    ]
    assert [(backup["kind"], backup["version"], backup["verified"]) for backup in past["backups"]] == [
        ("manual", 3, True), ("migration", 2, True), ("migration", 1, True),
    ]  # fmt: skip
    done = shop.run(
        "-m",
        "dbsync",
        "upgrade",
        "--database",
        str(shop.data / "shop.db"),
        "--migrations",
        str(shop.folder / "migrations"),
    )
    assert done.returncode == 0, done.stderr
    assert (shop.schema("shop.db"), shop.sales(shop.data / "shop.db")) == (3, ["S1", "S2", "S3"])
    assert shop.left() == {"versions": [], "backups": {"manual-v3": 1, "v1": 1, "v2": 1}, "unfinished": []}


@of("dbsync_shop")
def test_a_database_of_before_goes_back_with_its_sales_by_the_migrations_beside_its_backup(
    opened: Opened, commit: str
) -> None:
    shop = opened(commit, "dbsync_shop")
    told = shop.dbsync("downgrade", "--yes")
    assert (told["back"], told["outcome"]["name"], told["losses"]) == ("done", "CARRIED_BACK", [])
    assert (shop.schema("shop.db"), shop.sales(shop.data / "shop.db")) == (2, ["S1", "S2", "S3"])
    assert shop.left()["backups"] == {"before-restore": 1, "manual-v3": 1, "v1": 1, "v2": 1}
    assert shop.left()["unfinished"] == []


@of("dbsync_shop")
def test_a_compressed_backup_of_before_is_restored(opened: Opened, commit: str) -> None:
    shop = opened(commit, "dbsync_shop")
    (small,) = shop.backups.glob("*-v1-*.db.zst")
    told = shop.dbsync("restore", "--yes", "--accept-loss", str(small), status=6)
    assert (told["done"], told["outcome"], told["version"]) == (True, "RESTORED_WITH_LOSS", 1)
    assert shop.sales(Path(told["kept"])) == ["S1", "S2", "S3"]
    assert (shop.schema("shop.db"), shop.sales(shop.data / "shop.db")) == (1, ["S1"])
    assert shop.left()["backups"] == {"before-restore": 1, "manual-v3": 1, "v1": 1, "v2": 1}
    assert shop.left()["unfinished"] == []


@of("dbsync_restore")
def test_a_restore_that_was_killed_has_changed_nothing_and_is_repeated(opened: Opened, commit: str) -> None:
    shop = opened(commit, "dbsync_restore")
    assert shop.dbsync("status")["version"] == 3
    assert (shop.schema("shop.db"), shop.sales(shop.data / "shop.db")) == (3, ["S1", "S2", "S3"])
    (backup,) = shop.backups.glob("*-v2-*.db")
    told = shop.dbsync("restore", "--yes", "--accept-loss", str(backup), status=6)
    assert (told["done"], told["outcome"], told["version"]) == (True, "RESTORED_WITH_LOSS", 2)
    assert (shop.schema("shop.db"), shop.sales(shop.data / "shop.db")) == (2, ["S1", "S2"])
    aside = sorted(shop.data.glob("*-backup-before-restore-*.db"))
    assert [shop.sales(path) for path in aside] == [["S1", "S2", "S3"]] * 2
    assert shop.left()["backups"] == {"before-restore": 2, "manual-v3": 1, "v1": 1, "v2": 1}
    assert shop.left()["unfinished"] == []
