"""What becomes of releases on a terminal, with real processes: good ones, bad ones, a person who goes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.helpers.places import ROOT
from tests.helpers.shop import ask, dump, files, sales, version
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor


def test_a_good_release_is_found_staged_swapped_migrated_confirmed_and_folded(vendor: Vendor, till: Till) -> None:
    assert till.launch().returncode == 0
    vendor.release("1.1", schema=4)
    found = till.check()
    assert (found.outcome, len(found.done)) == ("SWAPPED", 2)
    done = till.launch()
    assert done.returncode == 0, done.stderr
    assert "till 1.1 is open" in done.stdout
    assert "✅ Database initialized successfully (v4/4)" in done.stdout
    assert till.check().outcome == "NOTHING_NEW"
    status = till.status()
    assert (status["phase"], status["starts"]["version"], status["database"]["schema"]) == ("IDLE", "1.1", 4)
    assert (version(till.database), sales(till.database), till.lost_receipts()) == (4, 104, [])
    folders = {one.name.split("-")[0] for one in (till.folder / "program" / "versions").iterdir()}
    assert folders == {"1.0", "1.1"}
    assert not files(till.folder / "state" / "private" / "downloads")
    assert (till.folder / "program" / "current").read_text().startswith("1.1-")


def test_a_migration_that_this_shop_does_not_allow_changes_nothing_and_is_not_tried_again(
    vendor: Vendor, till: Till
) -> None:
    vendor.release("1.1", schema=6)
    before = dump(till.database)
    till.check()
    done = till.launch(sell=0 + 1)
    assert "till 1.0 is open" in done.stdout
    assert "notice: The update was undone. You can sell. Code U-2001." in done.stdout
    report = till.report("MIGRATION_FAILED")
    assert report["migration"] == "v6 add_products_sku_unique"
    assert "UNIQUE constraint failed" in report["cause"]
    assert Path(report["backup"]).exists()
    assert report["next"].startswith("Send the report to the vendor.")
    (outbox,) = (till.folder / "state" / "private" / "outbox").iterdir()
    assert json.loads(outbox.read_text())["code"] == "U-2001"
    assert till.check().outcome == "REJECTED_HERE"
    assert till.check().outcome == "REJECTED_HERE"
    assert till.launch().returncode == 0
    assert till.outcomes().count("MIGRATION_FAILED") == 1
    assert [line for line in dump(till.database) if "products" in line and "CREATE" in line] == [
        line for line in before if "products" in line and "CREATE" in line
    ]
    assert (version(till.database), till.lost_receipts()) == (2, [])


def test_an_app_that_crashes_is_gone_back_from_in_the_same_command(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4, behaviour="crash")
    before = dump(till.database)
    till.check()
    done = till.launch(sell=1)
    assert done.returncode == 0
    assert "till 1.0 is open" in done.stdout
    assert till.outcomes()[-3:] == ["SWAPPED", "APP_FAILED", "RESTORED"]
    assert dump(till.database)[0] == before[0] == "version 2"
    assert sales(till.database) == 101
    till.check()
    rejections = till.state().read_rejections(lambda _: True)
    assert [(one.release.version, one.outcome) for one in rejections] == [("1.1", "APP_FAILED")]


def test_an_app_that_hangs_is_ended_after_its_running_time_and_gone_back_from(vendor: Vendor, till: Till) -> None:
    till.limits(confirm_seconds=1.0, end_grace_seconds=0.5)
    vendor.release("1.1", schema=4, behaviour="hang")
    till.check()
    done = till.launch(sell=1)
    assert "till 1.0 is open" in done.stdout, done.stderr
    assert "CONFIRM_OVERDUE" in till.outcomes()
    assert version(till.database) == 2


def test_an_app_that_sold_before_it_confirmed_and_hung_is_gone_back_from_with_its_sales(
    vendor: Vendor, till: Till
) -> None:
    till.limits(confirm_seconds=1.0, end_grace_seconds=0.5)
    vendor.release("1.1", schema=4, behaviour="sells_then_hangs")
    till.check()
    done = till.launch(sell=3)
    assert "till 1.0 is open" in done.stdout, done.stderr
    report = till.report("CARRIED_BACK")
    assert (report["losses"], sales(Path(report["kept"]))) == ([], 103)
    held = till.held_receipts()
    assert (version(till.database), sales(till.database), len(held)) == (2, 106, 6)
    assert {
        ask(till.database, f"SELECT count(*) FROM transactions WHERE receiptNumber = '{one.split()[0]}'")
        for one in held
    } == {1}


def test_an_app_that_ends_without_a_word_gets_a_limit_of_its_own(vendor: Vendor, till: Till) -> None:
    till.limits(clean_exits_count=2)
    vendor.release("1.1", schema=2, behaviour="exit0")
    till.check()
    assert not any("is open" in till.launch(sell=1).stdout for _ in range(2))
    assert "till 1.0 is open" in till.launch(sell=1).stdout
    assert "NEVER_CONFIRMED" in till.outcomes()
    assert till.lost_receipts() == []


def test_a_release_without_a_new_schema_goes_on_trial_as_well(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=2, behaviour="crash")
    till.check()
    assert "till 1.0 is open" in till.launch(sell=1).stdout
    assert till.outcomes()[-2:] == ["APP_FAILED", "KEPT"]
    assert not list((till.folder / "data" / "backups").glob("*.db"))


def test_a_person_goes_back_with_a_bare_python_and_every_sale_is_kept(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    till.check()
    till.launch(sell=3)
    till.check()
    script = [sys.executable, "-I", "-S", str(ROOT / "scripts" / "rollback.py"), "--settings", str(till.settings_path)]
    listed = json.loads(subprocess.run([*script, "--list", "--json"], capture_output=True, check=True).stdout)
    assert (listed["starts"]["version"], [one["version"] for one in listed["can_go_back_to"]]) == ("1.1", ["1.0"])
    before = dump(till.database)
    dry = json.loads(subprocess.run([*script, "--dry-run", "--json"], capture_output=True, check=True).stdout)
    assert {one["table"]: one["added"] for one in dry["recorded_since"]}["transactions"] == 3
    assert (dry["carries"], dry["losses"]) == (True, [])
    assert dump(till.database) == before
    refused = subprocess.run(script, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (refused.returncode, "it was not agreed to" in refused.stdout) == (4, True)
    done = json.loads(subprocess.run([*script, "--yes", "--json"], capture_output=True, check=True).stdout)
    assert (sales(Path(done["kept"])), done["carried"]) == (103, True)
    assert (version(till.database), sales(till.database)) == (2, 103)
    assert "till 1.0 is open" in till.launch(sell=1).stdout
    assert till.check().outcome == "REJECTED_HERE"
    assert till.lost_receipts() == []
    assert till.run("allow", "1.1").stdout.endswith("may be tried again.\n")
    assert till.check().outcome == "SWAPPED"


def test_the_script_runs_from_a_copy_of_the_tree_and_refuses_while_the_app_runs(vendor: Vendor, till: Till) -> None:
    import shutil

    vendor.release("1.1", schema=4)
    till.check()
    till.launch(sell=1)
    till.check()
    copy = till.folder / "copy"
    for name in ("updater", "dbsync", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    words = ["-m", "updater", "launch", "--", "--pause", "0.01"]
    with subprocess.Popen(
        [sys.executable, *words], env=till.environment(), stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        assert "till 1.1 is open" in launcher.stdout.readline()
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(copy / "scripts" / "rollback.py"), "--yes"],
            capture_output=True, text=True, check=False, cwd=till.folder, env=till.environment(),
        )  # fmt: skip
        launcher.terminate()
        launcher.communicate()
    assert done.returncode == 75
    assert "the app is running. Close the app first." in done.stdout
    assert (version(till.database), till.lost_receipts()) == (4, [])


def test_a_newer_database_is_not_started_on_and_both_versions_are_named(vendor: Vendor, till: Till) -> None:
    from tests.helpers.shop import released, upgrade

    assert upgrade(till.database, released(till.folder / "made-of", 5)).ready
    done = till.launch()
    assert done.returncode == 4
    assert "The till cannot open. Please call support. Code U-3001." in done.stderr
    assert "the database has schema 5, release 1.0 knows 2" in done.stderr
    assert ask(till.database, "PRAGMA user_version") == 5


def test_a_full_disk_costs_no_attempt_and_the_update_comes_when_there_is_space(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    till.check()
    text = till.settings_path.read_text()
    till.limits(least_free_bytes=10**16)
    for _ in range(4):
        done = till.launch(sell=1)
        assert "till 1.0 is open" in done.stdout
        assert "notice: The disk is full." in done.stdout
    assert ": Database " in till.report("NO_SPACE")["cause"]
    assert len(list((till.settings.outbox).iterdir())) == 1, "one report, not one at every start"
    till.settings_path.write_text(text)
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert (version(till.database), sales(till.database), till.lost_receipts()) == (4, 105, [])


def test_a_self_test_that_fails_is_not_staged_and_not_tried_again(vendor: Vendor, till: Till) -> None:
    bundle = vendor.bundle("1.1", schema=4)
    (bundle / "till.py").write_text("import sys\nprint('no such library')\nsys.exit(4)\n")
    vendor.publish(bundle, "1.1")
    found = till.check()
    assert (found.outcome, "it ended with code 4: no such library" in found.reason) == ("STAGING_REFUSED", True)
    assert till.check().outcome == "REJECTED_HERE"
    assert [one.name.split("-")[0] for one in (till.folder / "program" / "versions").iterdir()] == ["1.0"]
    assert till.run("allow", "1.1").returncode == 0
    assert till.check().outcome == "STAGING_REFUSED"


def test_the_agent_as_a_service_stages_and_swaps_by_itself(vendor: Vendor, till: Till) -> None:
    import time

    vendor.release("1.1", schema=4)
    with subprocess.Popen(
        [sys.executable, "-m", "updater", "run"],
        env=till.environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True,
    ) as agent:  # fmt: skip
        assert agent.stdout is not None
        assert agent.stdout.readline().startswith("SWAPPED: 1.1 starts at the next launch")
        deadline = time.monotonic() + 30
        while till.status()["phase"] != "SWAPPED" and time.monotonic() < deadline:
            continue
        agent.terminate()
        agent.communicate()
    assert till.status()["phase"] == "SWAPPED"
    assert "till 1.1 is open" in till.launch(sell=1).stdout


def test_a_rollback_to_a_named_version_and_backup(vendor: Vendor, till: Till) -> None:
    for new, schema in (("1.1", 4), ("1.2", 5)):
        vendor.release(new, schema=schema)
        till.check()
        till.launch(sell=1)
        till.check()
    unknown = till.run("rollback", "--to", "9.9", "--yes")
    assert (unknown.returncode, "9.9 names 0 releases that worked here" in unknown.stderr) == (4, True)
    newest = max((till.folder / "data" / "backups").glob("*-v4-*.db"))
    too_new = till.run("rollback", "--to", "1.1", "--backup", str(till.folder / "nothing.db"), "--yes")
    assert "this is no backup of this terminal" in too_new.stderr
    as_it_is = ["rollback", "--to", "1.1", "--backup", str(newest), "--yes"]
    refused = till.run(*as_it_is)
    assert (refused.returncode, "--accept-loss" in refused.stderr) == (5, True)
    assert (version(till.database), till.status()["rejected"]) == (5, [])
    done = till.run(*as_it_is, "--accept-loss", "--json")
    assert done.returncode == 6, done.stderr
    told = json.loads(done.stdout)
    assert (told["to"]["version"], told["outcome"]) == ("1.1", "ROLLED_BACK_WITH_LOSS")
    assert {"table": "transactions", "added": 1, "changed": 0, "removed": 0} in told["lost"]
    assert sales(Path(told["kept"])) == 102
    assert (version(till.database), sales(till.database)) == (4, 101)
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert till.lost_receipts() == []


def test_a_rollback_opens_a_compressed_backup_and_a_bare_python_says_what_it_lacks(vendor: Vendor, till: Till) -> None:
    for new, schema in (("1.1", 4), ("1.2", 5)):
        vendor.release(new, schema=schema)
        till.check()
        till.launch(sell=1)
        till.check()
    from dbsync.backups import catalog, compaction, compression

    newest = max((till.folder / "data" / "backups").glob("*-v4-*.db"))
    small = compaction.pack(catalog.read(newest)).path
    would = till.run("rollback", "--dry-run", "--json")
    assert (would.returncode, json.loads(would.stdout)["losses"]) == (0, []), would.stderr
    script = [sys.executable, "-I", "-S", str(ROOT / "scripts" / "rollback.py"), "--settings"]
    words = [*script, str(till.settings_path), "--yes"]
    # A Python with a ._pth file has its libraries with -S too.
    if sys.version_info < (3, 14) and sys.platform != "win32":
        bare = subprocess.run(words, check=False, capture_output=True, text=True)
        assert bare.returncode != 0
        assert f"`zstd -d {small.name}`" in bare.stdout
        assert (version(till.database), sales(till.database)) == (5, 102)
        compression.expand(source=small, target=newest)
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (version(till.database), sales(till.database)) == (4, 102)
    assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert till.lost_receipts() == []
