"""The agent's backups on a schedule: made when they are due, and every trouble with them is a report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.model import BackupKind
from dbsync.storage import files
from dbsync.storage.locks import locked
from tests.helpers.places import quoted
from tests.helpers.shop import sales
from tests.helpers.terminal import Till
from updater.errors import SettingsError
from updater.flows import agent
from updater.model import ProcessKind
from updater.settings import load, to_toml
from updater.terminal.live import Terminal


@pytest.fixture
def backing_up(till: Till) -> Till:
    """A terminal that is asked for backups."""
    (till.folder / "second").mkdir()
    said = f'[backup]\nkeep = "hourly=3,daily=2"\nsecond = "{quoted(till.folder / "second")}"\n'
    till.settings_path.write_text(till.settings_path.read_text().replace("[agent]", f"{said}\n[agent]"))
    return till


def back_up(till: Till) -> str:
    return agent.back_up(Terminal(till.settings, kind=ProcessKind.AGENT))


def scheduled(till: Till) -> list[dict[str, object]]:
    return [one for one in till.status()["backups"] if one["kind"] == BackupKind.SCHEDULED]


def test_a_terminal_that_is_not_asked_makes_none(till: Till) -> None:
    assert back_up(till) == ""
    assert scheduled(till) == []


def test_what_is_due_is_made_once_and_status_names_the_last_good_one(backing_up: Till) -> None:
    assert back_up(backing_up).startswith("backed up: ")
    (made,) = scheduled(backing_up)
    assert (made["verified"], made["checked"]) == (True, "integrity_check")
    assert list((backing_up.folder / "second").glob("*scheduled*.db*"))
    assert backing_up.status()["last_good_backup"]["path"] == made["path"]
    assert f"last good one of {made['made_at']}: {made['path']}" in backing_up.run("status").stdout
    assert len(scheduled(backing_up)) == 1
    assert sales(backing_up.database) == 100


def test_a_second_place_that_is_away_is_a_report_and_no_reason_to_make_none(backing_up: Till) -> None:
    shutil.rmtree(backing_up.folder / "second")
    assert back_up(backing_up).startswith("backed up: ")
    assert "there is no such folder" in backing_up.report("SECOND_PLACE_AWAY")["cause"]


def test_a_backup_that_rotted_is_a_report(backing_up: Till) -> None:
    back_up(backing_up)
    (made,) = scheduled(backing_up)
    path = Path(str(made["path"]))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    back_up(backing_up)
    told = backing_up.report("BACKUP_ROTTEN")
    assert (told["cause"], told["done"]) == (str(path), "it was replaced by its copy")


def test_what_cannot_be_made_is_a_report(backing_up: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(files, "free_bytes", lambda _: 1000)
        assert back_up(backing_up).startswith("BACKUP_NOT_MADE: ")
    assert "required" in backing_up.report("BACKUP_NOT_MADE")["cause"]
    backing_up.settings_path.write_text(backing_up.settings_path.read_text().replace("hourly=3", "often"))
    assert "is not understood" in back_up(backing_up)
    assert scheduled(backing_up) == []


def test_a_launch_at_work_comes_first(backing_up: Till) -> None:
    with locked(backing_up.database):
        assert back_up(backing_up) == ""
    assert back_up(backing_up) != ""


def test_the_service_makes_them_by_itself(backing_up: Till) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "updater", "run"], env=backing_up.environment(), stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        line = next(line for line in service.stdout if line.startswith("backed up: "))
        service.terminate()
    assert Path(line.removeprefix("backed up: ").strip()).is_file()
    assert len(scheduled(backing_up)) == 1


def test_the_settings_are_written_and_read_back(backing_up: Till) -> None:
    settings = backing_up.settings
    assert settings.backup_keep == "hourly=3,daily=2"
    backing_up.settings_path.write_text(to_toml(settings))
    assert load(backing_up.settings_path, {}) == settings
    backing_up.settings_path.write_text(to_toml(settings).replace("keep =", "kept ="))
    with pytest.raises(SettingsError, match="kept: not known"):
        load(backing_up.settings_path, dict(os.environ))
