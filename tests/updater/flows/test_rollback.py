"""A person's rollback when something fails on the way: nothing is written without its means, and nothing is lost."""

from __future__ import annotations

import errno
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups import restore, snapshot
from dbsync.backups.catalog import list_backups
from dbsync.errors import DiskProblem, TryLater
from dbsync.storage import file_calls, temporary_files
from tests.helpers.places import ROOT
from tests.helpers.recorded import RecordedTerminal, unpack
from updater import settings
from updater.answers import Answer, Catalog
from updater.decisions import agent, launcher
from updater.errors import Owed
from updater.flows.rollback import make_plan, perform
from updater.model import (
    By,
    Facts,
    Journal,
    Limits,
    Phase,
    ProcessKind,
    Rejection,
    Release,
    ReleaseId,
    SchemaNumber,
    State,
    TrialId,
    View,
)
from updater.outcomes import TerminalOutcome
from updater.terminal.live import Terminal

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def till(tmp_path: Path) -> RecordedTerminal:
    """A terminal that was updated from 1.0 (schema 1) to 2.0 (schema 3), and has sold since."""
    found = unpack("c0885e1", "updated", tmp_path / "till", url=NOWHERE)
    # It moves the files into the folders of today, which a rollback does not change.
    Terminal(settings.load(found.folder / "settings.toml", {}), kind=ProcessKind.ROLLBACK)
    return found


def database_of(till: RecordedTerminal) -> Path:
    return till.data / "pos_system.db"


def files_of(till: RecordedTerminal) -> dict[str, bytes]:
    """Everything that a decided rollback would change, by path; not what a look may add to the records of events."""
    found = [path for folder in (till.data, till.state) for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(till.folder).as_posix(): path.read_bytes()
        for path in found
        if not path.name.startswith(("events-", "dbsync-flight")) and not path.name.endswith(".lock")
    }


def rollback_here(till: RecordedTerminal) -> None:
    """Roll back in this process, where a test can make a step fail."""
    terminal = Terminal(settings.load(till.folder / "settings.toml", {}), kind=ProcessKind.ROLLBACK)
    backups = list_backups(backups=till.backups, database=database_of(till))
    plan = make_plan(terminal, to=None, backup=None, backups=backups, beside=till.data)
    perform(terminal, plan, accept_loss=False)


@pytest.mark.parametrize(
    "command",
    [["-m", "updater", "rollback"], pytest.param([str(ROOT / "scripts" / "rollback.py")], marks=pytest.mark.long)],
)
def test_a_database_that_somebody_holds_leaves_nothing_decided(till: RecordedTerminal, command: list[str]) -> None:
    before = files_of(till)
    with closing(sqlite3.connect(database_of(till), isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        done = till.run(*command, "--yes")
        holder.execute("ROLLBACK")
    assert done.returncode == 75, done.stdout + done.stderr
    assert files_of(till) == before
    status = till.status()
    assert (status["owed"], status["rejected"], status["starts"]["version"]) == ("", [], "2.0")
    assert till.launch() == (0, "2.0")
    assert till.sales() == till.receipts()
    again = till.run(*command, "--yes")
    assert again.returncode == 0, again.stdout + again.stderr
    assert (till.schema(), till.sales()) == (1, till.receipts())


BARE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from dbsync.storage import children
IMPORTS = '''
import sys
sys.path.insert(0, sys.argv.pop(1))
from dbsync.migrations import python_code
real = python_code.checked_text
python_code.checked_text = lambda migration: 'import alembic; ' + real(migration)
from dbsync.migrations.code_child import main
main()
'''
real = children.pinned_command
def bare(module):
    words = real(module)
    at = words.index("-c")
    return [*words[:at], "-S", "-c", IMPORTS, *words[at + 2:]]
children.pinned_command = bare
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script in a Python without installed packages, on a release whose migrations import one."""


@pytest.mark.skipif(sys.platform == "win32", reason="a Python with a ._pth file has its libraries with -S too")
def test_a_module_that_a_bare_python_lacks_is_no_loss(till: RecordedTerminal) -> None:
    path = till.folder / "settings.toml"
    path.write_text(f"python = {json.dumps(sys.executable)}\n" + path.read_text())
    before, sold = files_of(till), till.receipts()
    script = [str(ROOT / "scripts" / "rollback.py"), "--settings", str(path), "--yes"]
    done = till.run("-I", "-S", "-c", BARE, str(ROOT), *script)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "No module named 'alembic'" in done.stdout
    hint = f"Use this Python: `{sys.executable} -m updater rollback --settings {path}`"
    assert hint in done.stdout
    assert files_of(till) == before
    full = till.run(*hint.split("`")[1].split()[1:], "--yes")
    assert full.returncode == 0, full.stderr
    assert (till.schema(), till.sales()) == (1, sold)


def lossy(till: RecordedTerminal) -> Path:
    """Return a backup of an older content of the same database, for a restore that loses what was sold since."""
    (backup,) = till.backups.glob("*-v1-*.db")
    return backup


def test_yes_never_loses_and_accept_loss_says_how_much_and_where_it_is(till: RecordedTerminal) -> None:
    sold, backup = till.receipts(), lossy(till)
    before = files_of(till)
    refused = till.run("-m", "updater", "rollback", "--backup", str(backup), "--yes")
    assert refused.returncode == 5, refused.stdout + refused.stderr
    assert "would not be in the live database (sales)" in refused.stderr
    assert files_of(till) == before
    done = till.run("-m", "updater", "rollback", "--backup", str(backup), "--yes", "--accept-loss")
    assert done.returncode == 6, done.stdout + done.stderr
    (aside,) = till.data.glob("*-backup-before-restore-*.db")
    last = done.stdout.splitlines()[-1]
    assert last.startswith("LOST: 2 changes since the backup are not in the live database (sales); kept in ")
    assert str(aside) in last
    assert till.sales(aside) == sold
    assert (till.schema(), len(till.sales())) == (1, len(sold) - 2)
    (report,) = (till.state / "private" / "outbox").glob("*.json")
    told = json.loads(report.read_text())
    assert (told["outcome"], told["code"], told["kept"]) == ("ROLLED_BACK_WITH_LOSS", "U-2109", str(aside))
    assert sum(loss["added"] for loss in told["losses"]) == 2
    shown = till.run("-m", "updater", "status").stdout
    assert "not in the live database: sales: 2 added" in shown
    assert str(aside) in shown


def test_a_migration_that_cannot_be_read_now_is_no_loss(
    till: RecordedTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (held,) = (till.folder / "program" / "versions").glob("2.0-*/migrations/0002_*")
    before, read, seen = files_of(till), file_calls.read_bytes, []

    def refused(path: Path) -> bytes:
        seen.append(path)
        # Read once, the vendor's migrations are known; then a scanner has the file.
        if path == held and seen.count(held) > 1:
            raise PermissionError(errno.EACCES, "the file is used by another process", str(path))
        return read(path)

    monkeypatch.setattr(file_calls, "read_bytes", refused)
    with pytest.raises(TryLater, match="the file is used by another process") as raised:
        rollback_here(till)
    assert raised.value.path == held
    assert files_of(till) == before
    monkeypatch.undo()
    rollback_here(till)
    assert till.schema() == 1


@pytest.mark.parametrize("what", ["the copy", "its sync"])
def test_a_copy_that_cannot_be_written_is_not_the_databases_fault(
    till: RecordedTerminal, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    before, place = files_of(till), database_of(till).stat().st_ino

    def fails(*_: object, **__: object) -> None:
        raise DiskProblem(operation="write", path=till.data / "copy", cause="Input/output error")

    monkeypatch.setattr(snapshot, "copy_to_part" if what == "the copy" else "measure_part", fails)
    with pytest.raises(DiskProblem) as caught:
        rollback_here(till)
    assert "Input/output error" in str(caught.value)
    assert files_of(till) == before
    assert database_of(till).stat().st_ino == place
    monkeypatch.undo()
    rollback_here(till)
    assert (till.schema(), till.sales()) == (1, till.receipts())


def test_a_rollback_that_is_owed_is_finished_with_what_was_sold_meanwhile(
    till: RecordedTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise DiskProblem(operation="restore", path=database_of(till), cause="Input/output error")

    monkeypatch.setattr(restore, "restore_over", fails)
    with pytest.raises(Owed):
        rollback_here(till)
    assert (till.schema(), till.sales()) == (3, till.receipts())
    first = till.run("-m", "updater", "status").stdout.splitlines()[0]
    assert first.startswith("UNFINISHED rollback from 2.0 to 1.0 is decided and not finished: the next start")
    # As long as no space can be reserved, the till opens on what fits the database: the rejected release.
    in_the_way = temporary_files.scratch_of(till.data, "pos_system.db", "reserve")
    in_the_way.mkdir()
    done = till.run("-m", "updater", "launch", "--", "--sell", "1")
    assert (done.returncode, "2.0 is open" in done.stdout) == (0, True), done.stdout + done.stderr
    assert "cannot open" not in done.stdout + done.stderr
    assert (till.schema(), till.sales()) == (3, till.receipts())
    assert till.status()["owed"]
    in_the_way.rmdir()
    assert till.launch() == (0, "1.0")
    assert (till.schema(), till.sales()) == (1, till.receipts())
    assert till.status()["owed"] == ""
    assert till.reports()[-1] == "U-0014"


RUINED = """
import os, sys
from dbsync.backups import restore
real = restore.copy_over
def cut(*given, **named):
    os._exit(9)
restore.copy_over = cut
from updater.__main__ import main
sys.argv = ["updater", "rollback", "--yes", "--accept-loss"]
main()
"""


def test_a_rollback_of_a_ruined_database_that_is_cut_is_finished_by_the_next_start(till: RecordedTerminal) -> None:
    database = database_of(till)
    ruined = b"\x00" * 100 + database.read_bytes()[100:]
    database.write_bytes(ruined)
    refused = till.run("-m", "updater", "rollback", "--yes")
    assert (refused.returncode, database.read_bytes()) == (5, ruined), refused.stdout + refused.stderr
    assert "nothing has been recorded" not in refused.stdout + refused.stderr
    assert till.run("-c", RUINED).returncode == 9
    (aside,) = till.data.glob("*-backup-before-restore-*.db")
    assert aside.read_bytes() == ruined
    assert not database.exists() or database.stat().st_size == 0
    assert till.run("-m", "updater", "status").stdout.startswith("UNFINISHED")
    assert till.launch() == (0, "1.0")
    assert (till.schema(), aside.read_bytes() == ruined) == (1, True)
    assert set(till.sales()) <= set(till.receipts())
    assert till.reports()[-1] == "U-2109"


def test_a_repeated_rollback_that_is_done_does_not_go_back_once_more(till: RecordedTerminal) -> None:
    assert till.run("-m", "updater", "rollback", "--yes").returncode == 0
    after = files_of(till)
    again = till.run("-m", "updater", "rollback", "--yes")
    assert again.returncode == 0
    assert again.stdout == "Nothing to do: 1.0 starts next; the rollback from 2.0 is done.\n"
    assert files_of(till) == after


def test_a_trial_that_cannot_be_read_now_is_not_given_up(tmp_path: Path) -> None:
    till = unpack("c0885e1", "trial", tmp_path / "till", url=NOWHERE)
    before = (till.journal(), till.schema())
    done = till.run("-c", UNREADABLE)
    assert done.returncode == 75, done.stdout + done.stderr
    assert (till.journal(), till.rejections()) == (before[0], [])
    assert till.launch() == (0, "2.0")
    assert (till.schema(), till.sales()) == (before[1], till.receipts())


UNREADABLE = """
import sys
from dbsync.errors import DiskProblem, TryLater
from dbsync.storage import claims
def fails(path, **_):
    raise DiskProblem(operation="read", path=path, cause="Input/output error")
claims.read = claims.read_json = fails
from updater.__main__ import main
sys.argv = ["updater", "check"]
main()
"""
"""A disk on which no file of the shared folder can be read now."""
OWED = """
from dbsync.backups import restore
from dbsync.errors import DiskProblem, TryLater
def fails(*given, **named):
    raise DiskProblem(operation="restore", cause="Input/output error")
restore.restore_over = fails
"""
"""A disk on which no restore can be finished."""
NOT_NOTED = """
from dbsync.backups import restore_intents
from dbsync.errors import DiskFull
real = restore_intents.write
def write(backups, intent, **named):
    if intent.done:
        raise DiskFull(operation="write", path=backups, cause="No space left on device")
    return real(backups, intent, **named)
restore_intents.write = write
"""
"""A disk that is full when a restore that is done is to be noted."""
CUT_BEFORE_IT_IS_REFUSED = """
import os
from dbsync.upgrade import preparation
def cut(*given, **named):
    os._exit(9)
preparation.abandon = cut
"""


def disturbed(till: RecordedTerminal, what: str, *words: str) -> int:
    """Run `updater` with a part of it replaced; return its exit status."""
    start = f"{what}\nimport sys\nsys.argv = ['updater', *{list(words)!r}]\nfrom updater.__main__ import main\nmain()\n"
    return till.run("-c", start).returncode


def test_a_restore_that_is_done_and_not_noted_is_not_done_again_over_later_sales(till: RecordedTerminal) -> None:
    as_it_is = ["rollback", "--backup", str(lossy(till)), "--yes", "--accept-loss"]
    assert disturbed(till, NOT_NOTED, *as_it_is) == 75
    assert till.schema() == 1
    assert disturbed(till, NOT_NOTED, "launch", "--", "--sell", "1") == 0
    live = till.sales()
    assert live[-1] == till.receipts()[-1]
    assert till.launch() == (0, "1.0")
    assert till.sales()[: len(live)] == live
    assert till.status()["owed"] == ""


def test_a_database_that_is_ruined_while_a_rollback_is_owed_is_a_loss_that_is_said(till: RecordedTerminal) -> None:
    assert disturbed(till, OWED, "rollback", "--yes") == 75
    assert disturbed(till, OWED, "launch", "--", "--sell", "1") == 0
    database_of(till).write_bytes(b"\x00" * 100 + database_of(till).read_bytes()[100:])
    assert till.launch() == (0, "1.0")
    assert till.reports()[-1] == "U-2109"
    assert len(list(till.data.glob("*-backup-before-restore-*.db"))) == 2
    assert (
        "cannot be counted: the database was ruined after it was set aside"
        in till.run("-m", "updater", "status").stdout
    )


def test_a_loss_that_nobody_was_asked_about_is_refused_also_after_a_cut(till: RecordedTerminal) -> None:
    assert disturbed(till, OWED, "rollback", "--yes") == 75
    with closing(sqlite3.connect(database_of(till))) as live, live:
        live.execute("INSERT INTO rates (name, percent) VALUES ('the older schema has no place for it', 3)")
    assert disturbed(till, CUT_BEFORE_IT_IS_REFUSED, "launch", "--", "--sell", "1") == 9
    assert till.launch() == (0, "2.0")
    assert till.schema() == 3
    assert till.launch() == (0, "2.0")
    assert (till.schema(), till.sales()) == (3, till.receipts())
    first = till.run("-m", "updater", "status").stdout.splitlines()[0]
    assert first.startswith("UNFINISHED rollback from 2.0 to 1.0")
    assert len(list(till.data.glob("*-backup-before-restore-*.db"))) <= 1, "each attempt removes what it made"
    assert len(list(till.backups.glob("*-v1-*.db"))) == 1, "the backup of the migration stays"
    assert till.run("-m", "updater", "rollback", "--yes").returncode == 5
    assert till.run("-m", "updater", "rollback", "--yes", "--accept-loss").returncode == 6
    assert (till.schema(), till.sales()) == (1, till.receipts())


def test_no_trial_begins_and_nothing_is_swapped_in_while_a_rollback_is_owed() -> None:
    old, new, newer = (
        Release(ReleaseId(version * 8), version, SchemaNumber(schema))
        for version, schema in (("1.0", 1), ("2.0", 3), ("3.0", 3))
    )
    rejection = Rejection(
        release=new, by=By.PERSON, outcome=TerminalOutcome.ROLLED_BACK, reason="", at="", to=old, backup="b",
        intent_id="i", done=False,
    )  # fmt: skip
    swapped = Journal(Phase.SWAPPED, good=new, candidate=newer, trial_id=TrialId("t3"), previous=old)
    facts = Facts(State.OK, SchemaNumber(3), None, TrialId("t2"))
    view = View(
        journal=swapped, trials=(), proofs=(), rejections=(rejection,), database=facts, running=None, boot_id="b",
        installed=frozenset(release.folder for release in (old, new, newer)),
    )  # fmt: skip
    assert launcher.decide_launch(view, swapped, Limits(), owed=True) == launcher.Start(new, None)
    staged = swapped._replace(phase=Phase.STAGED, trial_id=None)
    catalog = Catalog(Answer.OK, "", (), frozenset({new.release_id, newer.release_id}))
    step = agent.decide_agent(view._replace(journal=staged), catalog, now="")
    assert isinstance(step, agent.Wait)
    assert "until the rollback is finished" in step.reason
