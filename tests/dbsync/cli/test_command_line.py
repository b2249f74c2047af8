"""The command line in the hands of people and programs: mistakes, pipes, signals, folders that are closed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.dbsync.cli.test_check import dbsync
from tests.helpers import forks
from tests.helpers.places import ROOT
from tests.helpers.shop import dump, files, make_shop, released, sales, sell, upgrade, version

NOBODY = 65534
SLOW = '''"""Slow."""

import os

description = "Slow"


def up(db):
    db.execute("ALTER TABLE products ADD COLUMN shelf TEXT")
    open(os.environ["BEGAN"], "w").close()
    while True:
        db.query("SELECT 1")
'''
"""Never ends by itself; makes the file that `BEGAN` names when it has begun."""
EVERY = [
    ["status"], ["upgrade"], ["upgrade", "--dry-run"], ["verify"], ["rehearse"], ["empty", "--yes"], ["baseline"],
    ["import", "other.db", "--yes"], ["stamp", "--at", "1", "--yes"], ["repair", "--into", "new.db"], ["backup"],
    ["restore", "no.db", "--yes"], ["restore", "no.db", "--dry-run"], ["diff"], ["downgrade", "--yes"],
    ["write-schema", "out.sql"], ["restore", "n" * 300, "--yes"],
]  # fmt: skip
WITHOUT_FOLDER = ("backup", "restore", "diff", "downgrade", "repair", "write-schema")


def words(command: list[str], database: Path, folder: Path) -> list[str]:
    of = [] if command[0] in WITHOUT_FOLDER else ["--migrations", str(folder)]
    return [sys.executable, "-m", "dbsync", *command, "--database", str(database), *of]


def run(command: list[str], cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if not options and command[0] == sys.executable:
        return forks.run(command[1:], cwd=cwd, env=env)
    return subprocess.run(command, cwd=cwd, env=env, text=True, check=False, **{"capture_output": True, **options})  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("command", EVERY, ids=lambda one: " ".join(one)[:30])
def test_every_error_is_a_sentence_and_with_json_one_document_and_leaves_nothing(
    tmp_path: Path, command: list[str]
) -> None:
    """A mistyped path: there is neither a database nor a folder."""
    database, folder = tmp_path / "typo" / "shop.db", tmp_path / "nowhere"
    done = run([*words(command, database, folder), "--json"], tmp_path)
    told = json.loads(done.stdout)
    assert (told["kind"], told["exit_code"]) == ("error", done.returncode)
    # A name that POSIX cannot look for is one that is not there on Windows.
    too_long = os.name == "posix" and len(command[1:2] and command[1]) > 255
    assert done.returncode == (75 if too_long else 4)
    assert told["cause"] in done.stderr
    assert "Traceback" not in done.stderr
    assert files(tmp_path) == set()


def test_a_database_that_is_not_there_is_said_and_nothing_is_made_in_its_place(tmp_path: Path) -> None:
    folder = Path(released(tmp_path, 4)[0].path).parent
    before = files(tmp_path)
    for command in (["backup"], ["rehearse"], ["write-schema", "out.sql"], ["restore", "no.db", "--dry-run"]):
        done = run(words(command, tmp_path / "shop.db", folder), tmp_path)
        assert (done.returncode, "there is no such file" in done.stderr) == (4, True), command
    (tmp_path / "shop.db").touch()
    done = run(words(["write-schema", "out.sql"], tmp_path / "shop.db", folder), tmp_path)
    assert (done.returncode, "it has no tables" in done.stderr) == (4, True)
    assert files(tmp_path) == {*before, "shop.db"}


def test_an_emptied_file_is_neither_backed_up_as_good_nor_rehearsed_as_new(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    folder = Path(released(tmp_path, 4)[0].path).parent
    database.write_bytes(b"")
    before = files(tmp_path)
    for command in (["backup"], ["rehearse"]):
        done = run(words(command, database, folder), tmp_path)
        assert (done.returncode, "there was something before" in done.stderr) == (4, True), command
    assert files(tmp_path) == before


PRINTS = '"""Prints."""\nimport sys\n\n\ndef up(db):\n    print("hello")\n    sys.stdout.write("past it")\n'


@pytest.mark.parametrize("command", [["upgrade"], ["upgrade", "--dry-run"], ["rehearse"], ["check"]])
def test_what_a_migration_prints_does_not_get_between_the_json(tmp_path: Path, command: list[str]) -> None:
    database = make_shop(tmp_path, schema=4)
    folder = Path(released(tmp_path, 4)[0].path).parent
    (folder / "0005_prints.py").write_text(PRINTS)
    done = run([*words(command, database, folder), "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "past it" in done.stderr
    told = (
        [json.loads(line) for line in done.stdout.splitlines()] if command == ["upgrade"] else json.loads(done.stdout)
    )
    assert told
    assert version(database) == (5 if command == ["upgrade"] else 4)


@pytest.mark.skipif(sys.platform == "win32", reason="/dev/full and closed streams are POSIX's")
@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
def test_what_was_done_keeps_its_exit_code_when_nobody_can_read_of_it(tmp_path: Path, as_json: list[str]) -> None:
    database = make_shop(tmp_path, schema=2)
    folder = Path(released(tmp_path, 4)[0].path).parent
    asks = [*words(["history"], database, folder)[:-2], *as_json]
    upgrades = [*words(["upgrade"], database, folder), *as_json]
    with Path("/dev/full").open("w") as full:
        done = run(upgrades, tmp_path, capture_output=False, stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, version(database)) == (0, 4), done.stderr
        asked = run(asks, tmp_path, capture_output=False, stdout=full, stderr=subprocess.PIPE)
        assert asked.returncode == 1
        assert "could not be printed: No space left on device" in asked.stderr
    for command in (asks, upgrades):
        reader, writer = os.pipe()
        os.close(reader)
        piped = run(command, tmp_path, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        closed = run(["sh", "-c", '"$@" >&-', "sh", *command], tmp_path)
        for one in (piped, closed):
            assert (one.returncode, "Traceback" in one.stderr, "Exception" in one.stderr) == (0, False, False)
    assert version(database) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
def test_ctrl_c_is_a_sentence_of_its_own_and_the_database_is_as_it_was(tmp_path: Path, as_json: list[str]) -> None:
    database = make_shop(tmp_path, schema=4)
    folder = Path(released(tmp_path, 4)[0].path).parent
    (folder / "0005_slow.py").write_text(SLOW)
    before = dump(database)
    out, err, code = interrupted([*words(["upgrade"], database, folder), *as_json], tmp_path, signal.SIGINT)
    assert code == 130
    assert "never in between" in err
    assert not as_json or json.loads(out.splitlines()[-1])["error"] == "Stopped"
    assert dump(database) == before
    (folder / "0005_slow.py").unlink()
    assert run(words(["upgrade"], database, folder), tmp_path).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(
    "command", [["check"], ["rehearse"], ["upgrade", "--dry-run", "--on-copy"]], ids=["check", "rehearse", "dry run"]
)
def test_a_trial_that_is_ended_leaves_no_copy_of_the_shop_behind(tmp_path: Path, command: list[str]) -> None:
    database = make_shop(tmp_path, schema=4)
    folder = Path(released(tmp_path, 4)[0].path).parent
    (folder / "0005_slow.py").write_text(SLOW)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = files(tmp_path)
    given = words(command, database, folder)
    if command == ["check"]:
        given[given.index("--database") :] = given[given.index("--migrations") :]
    _, err, code = interrupted(given, tmp_path, signal.SIGTERM)
    assert (code, "Traceback" in err) == (143, False)
    assert files(tmp_path) == before
    assert list(scratch.iterdir()) == []


HEARING = """
import signal
from dbsync.__main__ import main

# As at a console: what a shell starts in the background ignores Ctrl-C, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def interrupted(command: list[str], folder: Path, number: int) -> tuple[str, str, int]:
    """Runs a command until its migration has begun, then sends a signal."""
    began = folder / "began"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "scratch"), "BEGAN": str(began)}
    assert command[1:3] == ["-m", "dbsync"]
    heard = [command[0], "-c", HEARING, *command[3:]]
    process = subprocess.Popen(heard, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while process.poll() is None and not began.exists():
            os.sched_yield()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        return out, err, process.returncode
    finally:
        # A migration that never ends must not outlive a test that fails.
        process.kill()
        began.unlink(missing_ok=True)


AS_NOBODY = """
import ast, fcntl, fnmatch, hashlib, os, shutil, subprocess, sys, tomllib
import click
from dbsync.__main__ import main
from dbsync.storage.platform import this_platform

# All that is needed is loaded first: where Python lies may be closed as well.
this_platform()
b"x".decode("utf-8-sig")
for name in main.list_commands(click.Context(main)):
    main.get_command(click.Context(main), name)
os.setuid(65534)
main()
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can enter: pytest's own are closed again whenever another session begins."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can make what another may not read")
@pytest.mark.parametrize("mode", [0o700, 0o555], ids=["may not be read", "may not be written"])
def test_backups_that_are_closed_to_this_user_are_said_and_nothing_is_left(open_folder: Path, mode: int) -> None:
    database = make_shop(open_folder, schema=2)
    assert upgrade(database, released(open_folder, 4)).ready
    folder, place = open_folder / "migrations-4", database.parent / "backups"
    kept = next(place.glob("*.db"))
    Path(f"{database}.lock").touch()
    for one in (database.parent, database, Path(f"{database}.lock")):
        os.chown(one, NOBODY, NOBODY)
    place.chmod(mode)
    asks = [["status"], ["backups"], ["history"]]
    does = [["restore", kept.name, "--yes"], ["import", str(kept), "--yes"], ["empty", "--yes"], ["backup"]]
    does += [["rehearse"], ["diff"], ["downgrade", "--yes"], ["stamp", "--at", "4", "--yes"]]
    before = files(open_folder)
    for command in [*does, *(asks if mode == 0o700 else [])]:
        of = [] if command[0] in (*WITHOUT_FOLDER, "backups", "history") else ["--migrations", str(folder)]
        script = [sys.executable, "-c", AS_NOBODY, *command, "--database", str(database), "--prefix", "auraswift", *of]
        done = run(script, open_folder)
        assert (done.returncode, "Traceback" in done.stderr) == (75, False), f"{command} {done.stdout}{done.stderr}"
        assert files(open_folder) == before, command
    assert version(database) == 4


def test_a_downgrade_that_is_refused_says_that_nothing_happened_and_what_to_do(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    assert upgrade(database, released(tmp_path, 5)).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("UPDATE products SET barcode = '1' WHERE id = 'p1'")
    folder = tmp_path / "migrations-5"
    before = dump(database)
    done = dbsync("downgrade", "--yes", "--database", database, "--prefix", "auraswift", "--migrations", folder)
    assert done.returncode == 5
    assert "--accept-loss goes back all the same" in done.stdout
    assert not list(database.parent.glob("*before-restore*.db")), "the database is where it was"
    assert "nothing was lost" not in done.stdout
    assert dump(database) == before


def test_a_backup_is_neither_the_database_itself_nor_named_out_of_its_folder(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    folder = Path(released(tmp_path, 4)[0].path).parent
    before, content = files(tmp_path), database.read_bytes()
    for command in (["restore", str(database), "--yes"], ["import", str(database), "--yes"]):
        done = run(words(command, database, folder), tmp_path)
        assert (done.returncode, "it is the database itself" in done.stdout + done.stderr) == (4, True), command
    for prefix in ("../shop", "", "a/b"):
        done = run(words(["backup", "--prefix", prefix], database, folder), tmp_path)
        assert (done.returncode, "not a path" in done.stderr) == (2, True), prefix
    done = run(words(["repair", "--into", "none/new.db"], database, folder), tmp_path)
    assert (done.returncode, "there is no such folder" in done.stderr) == (4, True)
    assert (files(tmp_path), database.read_bytes()) == (before, content)


def test_what_a_restore_would_take_back_is_said_also_where_it_is_nothing(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    folder = Path(released(tmp_path, 4)[0].path).parent
    assert run(words(["backup", "--to", "kept.db"], database, folder), tmp_path).returncode == 0
    before = files(tmp_path)
    done = run(words(["restore", "kept.db", "--dry-run"], database, folder), tmp_path)
    assert (done.returncode, "nothing was added, changed or removed" in done.stdout) == (0, True)
    sell(database, 2)
    done = run(words(["restore", "kept.db", "--dry-run"], database, folder), tmp_path)
    assert (done.returncode, "transactions: 2 added" in done.stdout) == (5, True)
    done = run(words(["restore", "kept.db", "--dry-run", "--json"], database, folder), tmp_path)
    assert done.returncode == 5
    assert files(tmp_path) == before


def test_a_difference_that_nobody_can_tell_is_not_called_none(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    assert upgrade(database, released(tmp_path, 5)).ready
    sell(database, 2)
    other = tmp_path / "other"
    other.mkdir()
    (other / "0001_other.sql").write_text("CREATE TABLE other (id);")
    given = [*words(["diff"], database, other), "--prefix", "auraswift", "--migrations", str(other)]
    done = run(given, tmp_path)
    assert "it cannot be carried back" in done.stdout
    assert "nothing was changed" not in done.stdout
    assert sales(database) == 102
