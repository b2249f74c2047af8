"""Migrations that a program of the app's own does: on a copy, so the live database is the old one or the new one."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.commands import downgrade, rehearse
from dbsync.errors import BadMigrations
from dbsync.lint import check
from dbsync.migrations import folder as migration_folder
from dbsync.model import Migration
from dbsync.progress import Event
from dbsync.upgrade import coordinator
from tests.helpers.shop import ask, dump, effects, files, make_shop, sales, sell, upgrade, version

TOOL = """
import os, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("ALTER TABLE products ADD COLUMN shelf TEXT")
print("shelves are there")
what = sys.argv[2] if len(sys.argv) > 2 else ""
if what == "fail":
    sys.exit("the shelves do not fit")
if what == "lose":
    connection.execute("DELETE FROM transactions WHERE id % 2")
if what == "wait":
    open(sys.argv[3], "w").close()
    # For as long as this file is there, so that no test leaves a process.
    while os.path.exists(sys.argv[3]):
        time.sleep(0.05)
if what == "wal":
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute("UPDATE products SET shelf = 'A'")
    os._exit(0)
"""


def with_tool(folder: Path, *words: str, text: str = "", more: str | None = None) -> tuple[Migration, ...]:
    """The sample till's migrations to 4, then a program, then (if wanted) plain SQL after it."""
    from tests.sample_till.bundles import copy_migrations

    place = folder / f"tool{len(list(folder.iterdir()))}"
    copy_migrations(place, schema=4)
    (place / "tool.txt").write_text(TOOL)
    listed = ", ".join(f'"{one}"' for one in ("{python}", "tool.txt", "{database}", *words))
    (place / "0005_shelves.toml").write_text(f"command = [{listed}]\n{text}")
    if more is not None:
        (place / "0006_more.sql").write_text(more)
    return migration_folder.load(place)


@pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])
@pytest.mark.parametrize("words", [(), ("wal",)], ids=["plain", "the program leaves a WAL"])
def test_what_the_program_made_goes_over_the_database_in_one_step(
    tmp_path: Path, wal: bool, words: tuple[str, ...]
) -> None:
    database = make_shop(tmp_path, schema=4, wal=wal)
    count = sales(database)
    more = "ALTER TABLE products ADD COLUMN row TEXT;"
    outcome = upgrade(database, with_tool(tmp_path, *words, more=more), trial_id="t1")
    assert (outcome.name, outcome.version_after) == ("MIGRATED", 6), outcome.cause
    assert ask(database, "SELECT group_concat(name) FROM pragma_table_info('products') WHERE name IN ('shelf', 'row')")
    placed = "SELECT count(*) FROM products WHERE shelf = 'A'"
    assert ask(database, placed) == (ask(database, "SELECT count(*) FROM products") if words else 0)
    assert sales(database) == count
    assert ask(database, "PRAGMA journal_mode") == ("wal" if wal or words else "delete"), "as the program left it"
    assert ask(database, "SELECT trial_id FROM dbsync_history ORDER BY sequence DESC LIMIT 1") == "t1"
    assert ask(database, "SELECT trial_id FROM dbsync_history WHERE number = 5 AND kind = 'migration'") == "t1"
    took_ms = ask(database, "SELECT duration_ms FROM dbsync_history WHERE number = 5 AND kind = 'migration'")
    assert isinstance(took_ms, int)
    assert 0 < took_ms < 600_000
    assert not [one for one in files(database.parent) if ".part-" in one], "the copy is gone"


@pytest.mark.parametrize(
    ("words", "text", "cause"),
    [
        (("fail",), "", "it ended with status 1: the shelves do not fit"),
        (("lose",), "", "rows are gone"),
        (("wait", "started"), "timeout_seconds = 0.7", "it did not end within 1 seconds"),
    ],
    ids=["fails", "loses sales", "does not end"],
)
def test_a_program_that_fails_or_loses_something_leaves_the_database_as_it_was(
    tmp_path: Path, words: tuple[str, ...], text: str, cause: str
) -> None:
    database = make_shop(tmp_path, schema=4)
    found = with_tool(tmp_path, *words, text=text)
    before, content = dump(database), database.read_bytes()
    outcome = upgrade(database, found)
    assert outcome.failed
    assert cause in outcome.cause
    assert (dump(database), database.read_bytes()) == (before, content)
    assert version(database) == 4
    assert not [one for one in files(database.parent) if ".part-" in one]


LOCKING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
REPLACES = """
connection.execute("VACUUM INTO '" + sys.argv[1] + ".new'")
os.replace(sys.argv[1] + ".new", sys.argv[1])
"""
LEAVES_A_CHILD = """
import subprocess
connection.close()
words = [sys.executable, "-c", open("locking.txt").read(), sys.argv[1]]
# Its standard input ends when the test does.
child = subprocess.Popen(words, stdin=os.open(os.environ["HELD"], os.O_RDONLY), stdout=subprocess.PIPE, {more})
child.stdout.readline()
"""


REMOVED = "PermissionError" if sys.platform == "win32" else "it removed or replaced the file of its copy"
"""Windows refuses it to the program, as dbsync has the file open."""
KILLED = "it ended with status 9" if sys.platform == "win32" else "it was ended by signal 9"


def doing(folder: Path, body: str, *, text: str = "", add: bool = True) -> tuple[Migration, ...]:
    """The sample till's migrations to 4, then a program that adds a column (or not) and does something else."""
    found = with_tool(folder, text=text)
    place = found[-1].path.parent
    head = TOOL[: TOOL.index("print(")]
    (place / "tool.txt").write_text((head if add else head.replace("connection.execute(", "str(")) + body)
    (place / "locking.txt").write_text(LOCKING)
    return found


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("os.kill(os.getpid(), 9)", KILLED),
        ("os.unlink(sys.argv[1])", REMOVED),
        (REPLACES, REMOVED),
        ("open(sys.argv[1], 'r+b').write(b'no database' * 900)", "file is not a database"),
        ("open(sys.argv[1], 'r+b').truncate(4096)", "it left its copy"),
        ("connection.execute('DROP TABLE dbsync_history')", "dbsync_kept_rows or schema_version, which dbsync keeps"),
        ("connection.execute('DELETE FROM schema_version')", "dbsync_kept_rows or schema_version, which dbsync keeps"),
        ("connection.execute('PRAGMA user_version = 99')", "it wrote 99 into user_version, where dbsync keeps 5"),
    ],
    ids=["killed", "removes", "replaces", "overwrites", "truncates", "drops our history", "empties it", "numbers"],
)  # fmt: skip
def test_what_a_program_must_not_leave_is_said_and_nothing_of_it_is_taken(
    tmp_path: Path, body: str, cause: str
) -> None:
    database = make_shop(tmp_path, schema=4)
    content = database.read_bytes()
    outcome = upgrade(database, doing(tmp_path, body))
    assert (outcome.name, cause in outcome.cause) == ("MIGRATION_FAILED", True), outcome.cause
    assert database.read_bytes() == content
    assert not [one for one in files(database.parent) if ".part-" in one and not one.endswith(".new")]


@pytest.mark.skipif(sys.platform == "win32", reason="groups and sessions of processes are POSIX's")
@pytest.mark.parametrize("own_session", [False, True])
def test_what_a_program_started_is_ended_with_it_or_the_copy_is_not_taken(
    tmp_path: Path, own_session: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=4)
    os.mkfifo(tmp_path / "held")
    monkeypatch.setenv("HELD", str(tmp_path / "held"))
    monkeypatch.setattr("dbsync.storage.connections.WRITE_TIMEOUT_SECONDS", 0.2)
    content = database.read_bytes()
    found = doing(tmp_path, LEAVES_A_CHILD.format(more=f"start_new_session={own_session}"))
    with os.fdopen(os.open(tmp_path / "held", os.O_RDWR), "wb"):
        outcome = upgrade(database, found)
    if own_session:
        assert "the program left the copy locked; one of its child processes is still running" in outcome.cause
        assert (outcome.name, database.read_bytes()) == ("MIGRATION_FAILED", content)
    else:
        assert (outcome.name, version(database)) == ("MIGRATED", 5), outcome.cause


def test_a_program_that_says_it_did_is_asked_for_proof(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    proof = "SELECT 1 FROM pragma_table_info('products') WHERE name = 'shelf'"
    before = dump(database)
    for body, add in (("", False), ("connection.execute('BEGIN')", False)):
        outcome = upgrade(database, doing(tmp_path, body, text=f'proves = ["{proof}"]', add=add), again=True)
        assert "it ended well, and what it was to do is not there: SELECT 1 FROM" in outcome.cause
    outcome = upgrade(database, doing(tmp_path, "", text='proves = ["DELETE FROM products RETURNING 1"]'), again=True)
    assert "cannot be looked at: attempt to write a readonly database" in outcome.cause
    assert dump(database) == before
    heard: list[str] = []

    def hear(event: Event) -> None:
        heard.append(event.text)

    # Without one its word is taken, and whoever watches is told.
    idle = doing(tmp_path, "sys.stdout.buffer.write(b'\\x1b[31mred\\xff\\n')", add=False)
    assert coordinator.upgrade(effects(database, hear), migrations=idle).name == "MIGRATED"
    assert "   it wrote nothing" in heard
    assert "    [31mred\ufffd" in heard
    proven = upgrade(make_shop(tmp_path / "b", schema=4), doing(tmp_path, "", text=f'proves = ["{proof}"]'))
    assert proven.name == "MIGRATED", proven.cause


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    found = with_tool(tmp_path)
    path = found[-1].path
    path.write_text('command = ["../bin/no-such-tool", "{database}"]\n')
    outcome = upgrade(database, migration_folder.load(path.parent))
    assert outcome.name == "MIGRATION_FAILED"
    assert "could not be started" in outcome.cause


@pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])
def test_nobody_sells_into_a_database_while_its_copy_is_being_migrated(tmp_path: Path, wal: bool) -> None:
    database = make_shop(tmp_path, schema=4, wal=wal)
    refused = []

    def try_to_sell(event: object) -> None:
        if getattr(event, "kind", "") == "log":
            try:
                with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other:
                    other.execute("INSERT INTO transactions (receiptNumber, totalCents) VALUES ('X', 1)")
            except sqlite3.OperationalError as error:
                refused.append(str(error))

    count = sales(database)
    outcome = coordinator.upgrade(effects(database, try_to_sell), migrations=with_tool(tmp_path))
    assert outcome.ready, outcome.cause
    assert refused
    assert all("locked" in one for one in refused)
    assert sales(database) == count


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
@pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])
def test_kill_9_in_the_middle_of_the_program_leaves_the_old_database_and_the_next_run_goes_through(
    tmp_path: Path, wal: bool
) -> None:
    database = make_shop(tmp_path, schema=4, wal=wal)
    before, mark = dump(database), tmp_path / "started"
    slow = with_tool(tmp_path, "wait", str(mark))
    process = subprocess.Popen(
        [sys.executable, "-m", "dbsync", "upgrade", "--database", database, "--migrations", slow[-1].path.parent],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < deadline:
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()
    mark.unlink()
    assert dump(database) == before
    sell(database)
    assert upgrade(database, with_tool(tmp_path)).name == "MIGRATED"
    assert ask(database, "SELECT count(*) FROM transactions WHERE receiptNumber LIKE 'N%'") == 1
    assert not [one for one in files(database.parent) if ".part-" in one]


GOES_ON = """
connection.close()
open({mark!r} + ".pid", "w").write(str(os.getpid()))
open({mark!r}, "w").close()
while os.path.exists({mark!r}):
    time.sleep(0.01)
late = sqlite3.connect(sys.argv[1], isolation_level=None)
try:
    late.execute("CREATE TABLE late (x)")
finally:
    os.rename({mark!r} + ".pid", {mark!r} + ".done")
"""
MEANWHILE = """
os.unlink({mark!r})
while not os.path.exists({mark!r} + ".done"):
    time.sleep(0.01)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_a_program_that_outlives_a_killed_run_does_not_write_into_the_next_runs_copy(tmp_path: Path) -> None:
    database, mark = make_shop(tmp_path, schema=4), str(tmp_path / "mark")
    slow = doing(tmp_path, GOES_ON.format(mark=mark), add=False)
    process = subprocess.Popen(
        [sys.executable, "-m", "dbsync", "upgrade", "--database", database, "--migrations", slow[-1].path.parent],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not Path(mark).exists() and time.monotonic() < deadline:
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()
    outcome = upgrade(database, doing(tmp_path, MEANWHILE.format(mark=mark)))
    assert (outcome.name, version(database)) == ("MIGRATED", 5), outcome.cause
    assert ask(database, "SELECT count(*) FROM sqlite_schema WHERE name = 'late'") == 0
    assert ask(database, "SELECT count(*) FROM pragma_table_info('products') WHERE name = 'shelf'") == 1


def test_rehearsal_and_the_way_back_run_the_program_too(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    found = with_tool(tmp_path)
    before = dump(database)
    rehearsed = rehearse.rehearse(found, database=database, backups=database.parent / "backups")
    assert (rehearsed.good, rehearsed.cause) == (True, "")
    assert dump(database) == before
    assert upgrade(database, found).ready
    sell(database, 3)
    count = sales(database)
    (base, *_) = list_backups(backups=database.parent / "backups", database=database)
    returned = downgrade.downgrade(effects(database), base, found, accept_loss=False)
    assert returned.outcome.name == "CARRIED_BACK", returned.outcome.cause
    assert (version(database), sales(database)) == (4, count)


def test_a_new_shop_is_made_by_the_program_as_well(tmp_path: Path) -> None:
    database = tmp_path / "data" / "new.db"
    database.parent.mkdir()
    outcome = upgrade(database, with_tool(tmp_path))
    assert (outcome.name, version(database)) == ("CREATED", 5), outcome.cause
    assert ask(database, "SELECT count(*) FROM pragma_table_info('products') WHERE name = 'shelf'") == 1


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("command = 'pos-tool'", "command must be a list of strings"),
        ("command = ['pos-tool']", "no word of the command is or holds {database}"),
        ("command = ['pos-tool', '{database}']\nretries = 3", "retries: not known"),
        ("command = ['pos-tool', '{database}']\nproves = 'SELECT 1'", "proves must be a list of queries"),
        ("command = ['pos-tool', '{database}']\ntimeout_seconds = 'long'", "timeout_seconds must be a number"),
        ("command = ['pos-tool', '{database}']\ntimeout_seconds = 0", "timeout_seconds must be a number"),
        ("command = [", "Unclosed array|Invalid value|Expected"),
    ],
)
def test_a_file_that_does_not_name_a_program_is_refused_before_anything(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "0001_tool.toml").write_text(text)
    with pytest.raises(BadMigrations, match=cause):
        migration_folder.load(tmp_path)


def test_check_tries_the_program_on_a_copy_of_a_database(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    good, bad = with_tool(tmp_path), with_tool(tmp_path, "lose")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert check.check(folder=good[-1].path.parent, database=database, scratch=scratch) == []
    (problem, *_) = check.check(folder=bad[-1].path.parent, database=database, scratch=scratch)
    assert "transactions" in problem.what
    assert list(scratch.iterdir()) == []
