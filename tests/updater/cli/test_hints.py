"""Hints are followed: the commands that they name are run in the situation in which they are given."""

from __future__ import annotations

import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.cli.console import lines_of
from dbsync.outcomes import OutcomeName
from dbsync.progress import Event, EventKind
from tests.helpers.recorded import RecordedTerminal, unpack

OWED = """
import sys
from dbsync.backups import restore
from dbsync.errors import DiskProblem
def fails(*_, **__): raise DiskProblem(operation="restore", cause="Input/output error")
restore.restore_over = fails
from updater.__main__ import main
sys.argv = ["updater", "rollback", "--yes"]
main()
"""


@pytest.fixture
def till(tmp_path: Path) -> RecordedTerminal:
    """A terminal that was updated from 1.0 (schema 1) to 2.0 (schema 3), and has sold since."""
    return unpack("c0885e1", "updated", tmp_path / "till", url="http://127.0.0.1:9")


def commands_in(hint: str, *, database: Path, backup: Path) -> dict[str, list[str]]:
    """Return the commands that a hint names, by program and name, with the places of this terminal."""
    found = [shlex.split(command) for command in re.findall(r"`([^`]+)`", hint)]
    places = {"FILE": str(database), "BACKUP": str(backup), "NEW": f"{database}.new"}
    return {" ".join(words[:2]): [places.get(word, word) for word in words] for words in found}


@pytest.mark.parametrize("what", ["damaged", "missing"])
def test_the_hint_for_a_database_that_is_damaged_or_gone_opens_the_till_again(
    till: RecordedTerminal, what: str
) -> None:
    assert till.run("-m", "updater", "rollback", "--yes").returncode == 0
    database = till.data / "pos_system.db"
    if what == "damaged":
        database.write_bytes(b"\x00" * 100 + database.read_bytes()[100:])
    else:
        database.unlink()
    assert till.launch() == (4, "")
    (backup,) = till.backups.glob("*-v1-*.db")
    named = commands_in(till.status()["next"], database=database, backup=backup)
    listed = till.run("-m", *named["dbsync backups"])
    assert (listed.returncode, str(backup) in listed.stdout) == (0, True), listed.stderr
    restored = till.run("-m", *named["dbsync restore"], "--yes")
    if what == "missing":
        # A later copy is kept: the hint says that this needs a word, and so does the command.
        assert restored.returncode == 5, restored.stdout + restored.stderr
        restored = till.run("-m", *named["dbsync restore"], "--yes", "--accept-loss")
    assert restored.returncode == 6, restored.stdout + restored.stderr
    assert restored.stdout.splitlines()[-1].startswith("LOST: ")
    assert till.launch() == (0, "1.0")


def test_losses_that_were_refused_are_not_called_missing_and_the_hint_goes_back(till: RecordedTerminal) -> None:
    assert till.run("-c", OWED).returncode == 75
    database = till.data / "pos_system.db"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO rates (name, percent) VALUES ('later', 3)")
    assert till.launch() == (0, "2.0")
    shown = till.run("-m", "updater", "status").stdout
    assert "would be lost by going back: rates: 1 added" in shown
    assert "not in the live database" not in shown
    alarm = till.status()["last_alarm"]
    assert alarm["outcome"] == "STAYS"
    named = re.findall(r"`([^`]+)`", alarm["next"])
    assert named == ["updater rollback --dry-run", "updater rollback --accept-loss"]
    assert [till.run("-m", *command.split(), "--yes").returncode for command in named] == [0, 6]
    assert till.launch() == (0, "1.0")


def test_a_database_that_went_back_is_not_said_to_be_as_it_was_before() -> None:
    said = {name: lines_of(Event(EventKind.ENDED, name=name, text="why")) for name in OutcomeName}
    unchanged = {name for name, lines in said.items() if any("as it was before" in line for line in lines)}
    changed = {
        OutcomeName.RESTORED,
        OutcomeName.RESTORED_WITH_LOSS,
        OutcomeName.CARRIED_BACK,
        OutcomeName.RESTORE_PENDING,
    }
    assert not unchanged & changed
    assert OutcomeName.MIGRATION_FAILED in unchanged
