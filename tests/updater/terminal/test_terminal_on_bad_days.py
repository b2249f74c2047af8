"""A terminal whose files, folders or timing are wrong: what the user sees, and what is left."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dbsync.database.live import LiveEffects
from dbsync.errors import Refused, TryLater
from dbsync.storage.locks import Lock
from tests.helpers.places import ROOT, quoted
from tests.helpers.processes import kill
from tests.helpers.shop import files, sales, version
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.errors import SettingsError
from updater.host.shared import read_note
from updater.model import ProcessKind
from updater.settings import load
from updater.terminal.installation import Wish, install


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: "", "format: must be 1"),
        (lambda text: "not = toml = at all", "Invalid value"),
        (lambda text: text.replace("format = 1", "format = 7"), "format: must be 1"),
        (
            lambda text: text.replace("[limits]", "[limits]\nattempts_count = 'many'"),
            "attempts_count: must be a number",
        ),
        (lambda text: text.replace("[limits]", "[limits]\nattemps_count = 1"), "attemps_count: not known"),
        (lambda text: re.sub(r'database = ".*[/\\]', 'database = "', text), "is not an absolute path"),
        (lambda text: text.replace("00:00", "25:00"), "is not a time of day"),
    ],
)
def test_a_broken_settings_file_names_the_key_and_starts_nothing(
    till: Till, spoil: Callable[[str], str], words: str
) -> None:
    text = till.settings_path.read_text()
    till.settings_path.write_text(spoil(text))
    for command in (("launch",), ("check",), ("status",), ("rollback", "--list")):
        done = till.run(*command)
        assert (done.returncode, words in done.stderr) == (4, True), done.stderr
        assert "Traceback" not in done.stderr
    assert "The till cannot open. Please call support. Code U-3020." in till.run("launch").stderr
    till.settings_path.write_text(text)
    assert till.launch(sell=1).returncode == 0


def test_missing_settings_are_said_so(tmp_path: Path) -> None:
    done = Till(tmp_path).run("status")
    assert (done.returncode, "there is no such file" in done.stderr) == (4, True)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("broken", ["", "{", '{"format": 1}', '{"format": 9, "phase": "IDLE"}', "\x00" * 500])
def test_a_broken_journal_is_put_aside_and_made_again(vendor: Vendor, till: Till, broken: str) -> None:
    vendor.release("1.1", schema=4)
    till.check()
    till.launch(sell=1)
    path = till.settings.state / "journal.json"
    path.write_text(broken)
    done = till.launch(sell=1)
    assert "till 1.1 is open" in done.stdout, done.stderr
    assert path.read_text() == broken, "the launcher never writes the journal"
    till.check()
    assert till.report("JOURNAL_REBUILT")["cause"] == "the journal could not be read"
    assert (till.settings.state / "journal.json.broken").read_text() == broken
    assert (till.status()["phase"], till.status()["starts"]["version"]) == ("IDLE", "1.1")
    assert till.lost_receipts() == []


def test_a_broken_trial_file_counts_as_given_up(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4, behaviour="exit0")
    till.check()
    till.launch(sell=1)
    (trial,) = (till.settings.shared / "trial").glob("*.json")
    trial.write_text("{")
    done = till.launch(sell=1)
    assert "till 1.0 is open" in done.stdout, done.stderr
    assert (version(till.database), till.lost_receipts()) == (2, [])


def test_two_clicks_at_once_start_one_app(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    till.check()
    words = [sys.executable, "-m", "updater", "launch", "--", "--sell", "20", "--pause", "0.15"]
    both = [
        subprocess.Popen(words, env=till.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(one.communicate(), one.returncode) for one in both]
    assert [code for _, code in ended] == [0, 0], ended
    # The one that comes second shows what the app prints from then on, which may be its first line.
    assert sorted("The till is open already." in errors for (_, errors), _ in ended) == [False, True], ended
    assert (version(till.database), sales(till.database), till.lost_receipts()) == (4, 120, [])


def test_two_agents_at_once_stage_once(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    words = [sys.executable, "-m", "updater", "check", "--json"]
    both = [
        subprocess.Popen(words, env=till.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(one.communicate(), one.returncode) for one in both]
    assert all("Traceback" not in errors for (_, errors), _ in ended), ended
    assert till.status()["phase"] == "SWAPPED"
    assert till.outcomes().count("SWAPPED") == 1
    assert till.launch(sell=1).returncode == 0
    till.check()
    assert (till.status()["phase"], version(till.database)) == ("IDLE", 4)


def test_a_swap_leaves_an_app_that_runs_alone_and_the_next_launch_is_the_trial(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    words = [sys.executable, "-m", "updater", "launch", "--", "--pause", "0.02"]
    with subprocess.Popen(words, env=till.environment(), stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert "is open" in launcher.stdout.readline()
        found = till.check()
        assert found.outcome == "SWAPPED"
        status = till.status()
        assert (status["app_running"], status["trial"], version(till.database)) == (True, None, 2)
        launcher.terminate()
        if sys.platform == "win32":
            # Windows has no request to end: a launcher that is killed leaves its app to the next one.
            kill(int(read_note(till.settings.state / "shared" / "app.lock")["pid"]))
        assert "1.0 is open" not in launcher.communicate()[0], "it is the same app"
    assert till.check().outcome == "SWAPPED"
    assert till.launch(sell=1).returncode == 0
    assert till.check().outcome == "NOTHING_NEW"
    assert (till.status()["starts"]["version"], version(till.database)) == ("1.1", 4)


def test_a_closed_window_is_waited_for(vendor: Vendor, till: Till) -> None:
    from datetime import datetime, timedelta

    vendor.release("1.1", schema=4)
    later = datetime.now().astimezone() + timedelta(hours=2)
    text = till.settings_path.read_text().replace('from = "00:00"', f'from = "{later:%H:%M}"')
    till.settings_path.write_text(text.replace('until = "00:00"', f'until = "{later + timedelta(hours=1):%H:%M}"'))
    found = till.check()
    assert (found.outcome, "in the update window" in found.reason) == ("SWAPPED", True)
    launched = till.launch(sell=1)
    assert (launched.returncode, "1.0 is open" in launched.stdout) == (0, True), launched.stderr
    assert (till.status()["phase"], till.status()["trial"], version(till.database)) == ("SWAPPED", None, 2)


def test_an_app_confirms_by_command_too_and_a_stale_trial_is_never_a_confirm(vendor: Vendor, till: Till) -> None:
    assert till.run("confirm").returncode == 0
    assert till.run("confirm", TILLKEEPER_TRIAL_ID="of long ago").returncode == 0
    vendor.release("1.1", schema=4, behaviour="exit0")
    till.check()
    till.launch(sell=1)
    (trial,) = till.terminal().look().trials
    assert till.run("confirm", TILLKEEPER_TRIAL_ID=trial.trial_id).returncode == 0
    till.check()
    assert (till.status()["starts"]["version"], till.outcomes().count("CONFIRMED")) == ("1.1", 1)


def test_a_confirm_after_the_give_up_is_told_to_close_without_selling(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4, behaviour="crash")
    till.check()
    till.launch(sell=1)
    (trial,) = till.terminal().look().trials
    assert till.run("confirm", TILLKEEPER_TRIAL_ID=trial.trial_id).returncode == 3


def test_a_withdrawn_journal_folder_that_cannot_be_written_ends_with_a_name(till: Till) -> None:
    import shutil

    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this system does not let a test mount anything")
    state = till.settings.state
    script = f'mount --bind "{state}" "{state}" && mount -o remount,ro,bind "{state}" && exec "$0" -m updater launch'
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", script, sys.executable],
        env=till.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr
    assert "Code U-3021" in done.stderr
    assert "Traceback" not in done.stderr
    assert sales(till.database) == 100


# ------------------------------------------------------------------------------------------------------ installation


def test_installing_twice_changes_nothing_and_another_root_is_refused(vendor: Vendor, till: Till, url: str) -> None:
    before = {path: path.read_bytes() for path in till.folder.rglob("*.json")}
    terminal_id = till.settings.terminal_id
    till.install(vendor.root, url)
    assert till.settings.terminal_id == terminal_id
    assert {path: path.read_bytes() for path in till.folder.rglob("*.json")} == before
    other = till.folder / "other-root.json"
    other.write_text("{}")
    with pytest.raises(Refused, match="trusts another root already"):
        till.install(other, url)


def test_an_installation_that_was_cut_before_its_journal_is_finished_by_a_repeat(
    vendor: Vendor, till: Till, url: str
) -> None:
    journal = till.settings.state / "journal.json"
    before = journal.read_bytes()
    journal.unlink()
    till.install(vendor.root, url)
    assert journal.read_bytes() == before
    assert till.launch().returncode == 0


def test_a_terminal_that_was_updated_and_lost_its_journal_is_not_installed_again(
    vendor: Vendor, till: Till, url: str
) -> None:
    vendor.release("1.1", schema=4)
    till.check()
    till.launch()
    till.check()
    (till.settings.state / "journal.json").unlink()
    with pytest.raises(TryLater, match="had a journal and lost it"):
        till.install(vendor.root, url)


def test_a_missing_root_file_is_said_so_before_anything_is_made(till: Till, url: str, tmp_path: Path) -> None:
    new = Till(tmp_path / "new")
    with pytest.raises(Refused, match="read the trusted root"):
        new.install(tmp_path / "nowhere.json", url)
    assert not new.folder.exists()


def test_a_bundle_from_a_folder_saves_the_download_and_is_checked_all_the_same(
    vendor: Vendor, url: str, tmp_path: Path
) -> None:
    good = Till(tmp_path / "good")
    good.install(vendor.root, url, bundle=vendor.bundles / "1.0")
    assert good.status()["starts"]["version"] == "1.0"
    assert not good.settings.downloads.exists()
    (vendor.bundles / "1.0" / "till.py").write_text("print('not what was signed')")
    bad = Till(tmp_path / "bad")
    with pytest.raises(Refused, match="it is not what the signed manifest says"):
        bad.install(vendor.root, url, bundle=vendor.bundles / "1.0")
    assert bad.run("launch").returncode == 4
    bad.install(vendor.root, url)
    assert bad.status()["starts"]["version"] == "1.0"


def test_a_bundle_that_is_not_the_newest_release_is_refused_with_the_newest_named(
    vendor: Vendor, url: str, tmp_path: Path
) -> None:
    vendor.publish(vendor.bundle("1.1", schema=4), "1.1")
    till = Till(tmp_path / "till")
    with pytest.raises(Refused, match=r"it is not release 1\.1, the newest that is signed") as caught:
        till.install(vendor.root, url, bundle=vendor.bundles / "1.0")
    assert caught.value.hint == "Give the bundle of 1.1, or leave --bundle out: then 1.1 is downloaded."
    assert not till.settings_path.exists()
    assert not (till.folder / "state" / "journal.json").exists()
    assert not [path for path in (till.folder / "program" / "versions").iterdir() if path.is_dir()]
    till.install(vendor.root, url, bundle=vendor.bundles / "1.1")
    assert till.status()["starts"]["version"] == "1.1"


def test_status_counts_all_backups_and_lists_the_newest(till: Till) -> None:
    effects = LiveEffects(till.database, backups=till.settings.backups)
    for _ in range(12):
        effects.make_backup()
    found = till.status()
    assert (found["backups_count"], len(found["backups"])) == (12, 10), "the list is short, the number is not"
    assert "\nbackups   12, last good one of " in till.run("status").stdout


@pytest.mark.parametrize("inside", ["data", "state", "program"])
def test_data_inside_the_program_folder_is_refused(vendor: Vendor, url: str, tmp_path: Path, inside: str) -> None:
    wish = Till(tmp_path / "till").wish(vendor.root, url)
    program, data = tmp_path / "till" / "program", tmp_path / "till" / "data"
    wrong = {
        "data": wish._replace(data=program / "data"),
        "state": wish._replace(state=program / "state"),
        "program": wish._replace(program=data / "program"),
    }
    with pytest.raises(SettingsError, match="inside"):
        install(wrong[inside])
    assert not (tmp_path / "till").exists()


def test_settings_that_were_changed_to_overlap_are_refused_at_start(till: Till) -> None:
    text = till.settings_path.read_text()
    program, data = till.folder / "program", till.folder / "data"
    till.settings_path.write_text(text.replace(quoted(data), quoted(program / "data")))
    assert till.run("launch").returncode == 4
    if sys.platform == "win32":
        return  # a link takes a privilege there
    link = till.folder / "link"
    link.symlink_to(program)
    till.settings_path.write_text(text.replace(quoted(data), quoted(link / "data")))
    assert "lies inside the program folder" in till.run("launch").stderr


def test_defaults_are_the_usual_places_of_this_system(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    from updater.host import this_host

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = this_host().default_folders("shop")
    assert found.data == Path(platformdirs.user_data_dir("shop", appauthor=False, roaming=True))
    assert found.state.is_relative_to(platformdirs.user_data_dir("Tillkeeper", appauthor=False))
    assert not found.program.is_relative_to(found.data)
    assert Wish("shop", "http://x", vendor.root).database is None


def test_the_environment_may_override_paths(till: Till, tmp_path: Path) -> None:
    found = load(till.settings_path, {"TILLKEEPER_DATABASE": str(tmp_path / "other.db")})
    assert found.database == tmp_path / "other.db"
    assert load(till.settings_path, {}).database == till.database


def test_status_says_in_words_what_json_says(till: Till) -> None:
    words = till.run("status").stdout
    told = json.loads(till.run("status", "--json").stdout)
    assert told["starts"]["version"] in words
    assert told["terminal"] in words
    assert "schema 2, ok, fits" in words


def test_the_lock_is_let_go_when_its_holder_dies_and_is_never_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    text = "import sys; from pathlib import Path; from dbsync.storage.locks import Lock; l = Lock(Path(sys.argv[1]));"
    holder = subprocess.Popen(
        [sys.executable, "-c", text + "print(l.try_take(), flush=True); sys.stdin.read()", str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    lock = Lock(path)
    assert not lock.try_take()
    assert not lock.is_free()
    holder.kill()
    holder.communicate()
    assert lock.try_take()
    assert not Lock(path).try_take()
    lock.release()
    assert lock.is_free()


def test_a_terminal_lock_that_somebody_keeps_stops_the_agent_and_not_the_till(till: Till) -> None:
    from updater.terminal.live import Terminal

    till.limits(lock_seconds=0.2)
    lock = Lock(till.settings.state / "terminal.lock")
    assert lock.try_take()
    with pytest.raises(TryLater, match="keeps it"):
        Terminal(till.settings, kind=ProcessKind.AGENT).take_terminal_lock()
    launched = till.launch(sell=1)
    assert (launched.returncode, "1.0 is open" in launched.stdout) == (0, True), launched.stderr
    assert till.outcomes()[-1] == "LOCK_HELD"
    lock.release()
    assert (till.settings.state / "journal.json").stat().st_size > 0


def test_a_cycle_removes_what_cut_runs_left_beside_the_backups_and_among_the_reports(till: Till) -> None:
    left = [folder / f".part-{till.database.name}~left" for folder in (till.settings.backups, till.settings.reports)]
    others = till.settings.reports / ".part-other.db~theirs"
    for path in (*left, others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    till.check()
    assert [path.exists() for path in (*left, others)] == [False, False, True]
