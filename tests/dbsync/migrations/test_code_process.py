"""Code of migrations in its own process: the same data in every environment, the same errors as in this process."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dbsync.migrations import code_messages as messages
from dbsync.migrations import code_process, runner
from dbsync.migrations.code_child import plain
from dbsync.migrations.environment import OTHER, PINNED
from dbsync.storage import children
from dbsync.storage.connections import open_scratch
from dbsync.storage.raw_text import BadText
from tests.helpers.places import ROOT
from tests.helpers.shop import ask, dump, upgrade, version, written

CREATE = "CREATE TABLE found (name TEXT, value);"
ASKS = '''"""Asks for all that a machine has of its own."""
import datetime, locale, os, sys, time


def up(db):
    db.execute("INSERT INTO found VALUES ('set', ?)", (" ".join({"bread", "milk", "salt", "rice", "wine"}),))
    db.execute("INSERT INTO found VALUES ('zone', ?)", (time.strftime("%H:%M", time.localtime(0)),))
    locale.setlocale(locale.LC_ALL, "")
    db.execute("INSERT INTO found VALUES ('locale', ?)", (locale.setlocale(locale.LC_ALL),))
    mask = os.umask(0)
    os.umask(mask)
    db.execute("INSERT INTO found VALUES ('umask', ?)", (mask,))
    db.execute("INSERT INTO found VALUES ('folder', ?)", (os.getcwd(),))
    db.execute("INSERT INTO found VALUES ('encoding', ?)", (open(__file__).encoding.lower(),))
    db.execute("INSERT INTO found VALUES ('by SQLite', datetime(0, 'unixepoch', 'localtime'))")
'''
SQL_ASKS = "INSERT INTO found VALUES ('by SQLite', datetime(0, 'unixepoch', 'localtime'));"
OUTSIDE = (
    "import sys; from pathlib import Path; from tests.helpers.shop import ask, upgrade;"
    " from dbsync.migrations import folder; base = Path(sys.argv[1]);"
    " assert upgrade(base / 'shop.db', folder.load(base / 'm')).ready; print(ask(base / 'shop.db', sys.argv[2]))"
)


def run_in(folder: Path, variables: dict[str, str], query: str) -> str:
    """The answer after an upgrade in a process that has these variables, and a umask of its own."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, str(folder), query],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False, umask=0o027,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_of_the_machine_gets_into_the_data(tmp_path: Path) -> None:
    query = "SELECT json_group_array(name || '=' || value) FROM found"
    answers = set()
    for number, variables in enumerate((
        {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "3", "LANG": "C", "LC_ALL": "C"},
        {"TZ": "AHE-13:45", "PYTHONHASHSEED": "random", "LC_ALL": "C.UTF-8", "LANGUAGE": "de"},
        {"TZ": "", "PYTHONHASHSEED": "4", "LC_ALL": "POSIX"},
    )):  # fmt: skip
        folder = tmp_path / str(number)
        written(folder / "m", CREATE, ASKS, SQL_ASKS)
        answers.add(run_in(folder, variables, query))
    (answer,) = answers
    folder_in_json = json.dumps(f"folder={children.FOLDER}")[1:-1]
    for part in ("zone=00:00", "umask=63", folder_in_json, "encoding=utf-8", "by SQLite=1970-01-01 00:00"):
        assert part in answer, part


@pytest.mark.skipif(sys.platform == "win32", reason="the variable counts there for the runtime alone")
def test_the_time_zone_of_this_process_is_what_it_was_after_a_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", "AHE-13:45")
    time.tzset()
    try:
        assert upgrade(tmp_path / "shop.db", written(tmp_path / "m", CREATE, SQL_ASKS)).ready
        assert ask(tmp_path / "shop.db", "SELECT value FROM found") == "1970-01-01 00:00:00"
        assert (os.environ["TZ"], time.localtime(0).tm_hour) == ("AHE-13:45", 13)
        failing = written(tmp_path / "n", CREATE, SQL_ASKS, "SELECT * FROM nowhere;")
        assert upgrade(tmp_path / "shop.db", failing).name == "MIGRATION_FAILED"
        assert (os.environ["TZ"], time.localtime(0).tm_hour) == ("AHE-13:45", 13)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


def test_the_environment_is_on_record_also_in_a_history_that_an_older_product_began(tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    found = written(tmp_path / "m", CREATE, "CREATE TABLE b (x);")
    assert upgrade(database, found[:1]).ready
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ALTER TABLE dbsync_history DROP COLUMN environment")
    assert upgrade(database, found).ready
    assert ask(database, "SELECT environment FROM dbsync_history WHERE number = 1") is None
    assert ask(database, "SELECT environment FROM dbsync_history WHERE number = 2") == PINNED.in_words
    assert "hash seed 0, TZ UTC0" in PINNED.in_words


def test_the_modules_that_this_process_imports_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "vendors_words.py").write_text("WORD = 'theirs'\n")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "vendors_words.py").write_text("WORD = 'a trap'\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "here"), "", *sys.path, str(tmp_path / "lib")])
    code = '"""Imports."""\nimport vendors_words\n\n\ndef up(db):\n'
    code += "    db.execute('INSERT INTO found VALUES (?, 1)', (vendors_words.WORD,))\n"
    code_process.end()
    try:
        assert upgrade(tmp_path / "shop.db", written(tmp_path / "m", CREATE, code)).ready
    finally:
        code_process.end()
    assert ask(tmp_path / "shop.db", "SELECT name FROM found") == "theirs"


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("dbsync.migrations.code_child", ""), ("updater.terminal.worker", ""),
        ("updater.terminal.worker", '{"settings": "/etc'),
    ],
)  # fmt: skip
def test_a_child_whose_parent_was_killed_before_its_first_message_was_whole_says_nothing(
    module: str, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()"], cwd=ROOT, input=said,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("part", [1.0, 0.5], ids=["after its first message", "in the middle of it"])
def test_a_parent_that_is_killed_leaves_a_child_that_says_nothing(part: float) -> None:
    hello = io.BytesIO()
    messages.send(messages.Hello(PINNED, ()), hello)
    said = hello.getvalue()
    command = [sys.executable, "-c", "from dbsync.migrations.code_child import main; main()"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        child.stdin.write(said[: int(len(said) * part)])
        child.stdin.close()
        assert (child.stderr.read(), child.wait()) == (b"", 0)


# -------------------------------------------------------------------------------------------------------------- errors


def failing(tmp_path: Path, body: str) -> Any:
    """The outcome of an upgrade whose second migration has this body; the database stays as it was."""
    database = tmp_path / "shop.db"
    found = written(
        tmp_path / "m", CREATE + "INSERT INTO found VALUES ('a', 1);", f'"""Fails."""\n\n\ndef up(db):\n{body}'
    )
    assert upgrade(database, found[:1]).ready
    before = dump(database)
    outcome = upgrade(database, found)
    assert (version(database), dump(database)) == (1, before)
    return outcome


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("    raise ValueError('no')\n", "ValueError: no (line 5)"),
        ("    db.execute('SELECT 1')\n    raise SystemExit(3)\n", "SystemExit: 3 (line 6)"),
        ("    db.execute('SELECT * FROM nowhere')\n", "no such table: nowhere (line 5: SELECT * FROM nowhere)"),
        ("    try:\n        db.execute('SELECT * FROM a')\n    except Exception as error:\n        raise error\n",
         "no such table: a (line 6: SELECT * FROM a)"),
        ("    db.execute('SELECT ?', (object(),))\n",
         "ProgrammingError: a value of type 'object' is not supported (line 5)"),
        ("    db.execute('SELECT ?', (2**70,))\n",
         "OverflowError: Python int too large to convert to SQLite INTEGER (line 5)"),
        ("    db.nothing()\n", "AttributeError: 'CodeDatabase' object has no attribute 'nothing' (line 5)"),
        ("    db._call('commit')\n", "db has no commit"),
        ("    db.execute('COMMIT')\n", "not allowed in a migration: BEGIN, COMMIT"),
        ("    import os\n    os._exit(3)\n", "the process that runs its code ended with status 3"),
        ("    return (row for row in db.query('SELECT 1'))\n", "it returned generator instead of running"),
    ],
)  # fmt: skip
def test_a_failure_is_told_as_ever_and_undone(tmp_path: Path, body: str, cause: str) -> None:
    outcome = failing(tmp_path, body)
    assert (outcome.name, outcome.cause[: len(cause)]) == ("MIGRATION_FAILED", cause)


def test_a_caught_failure_is_none(tmp_path: Path) -> None:
    body = '"""Goes on."""\nfrom dbsync.errors import MigrationFailed\n\n\ndef up(db):\n    for _ in range(250):\n'
    body += "        try:\n            db.execute('SELECT * FROM nowhere')\n        except MigrationFailed as error:\n"
    body += "            said = error.cause\n    db.execute('INSERT INTO found VALUES (?, 1)', (said,))\n"
    assert upgrade(tmp_path / "shop.db", written(tmp_path / "m", CREATE, body)).ready
    assert str(ask(tmp_path / "shop.db", "SELECT name FROM found")).startswith("no such table: nowhere")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_process_that_is_ended_from_outside_is_not_held_against_the_release(tmp_path: Path) -> None:
    """As Linux does when memory runs out; the next run starts another process."""
    outcome = failing(tmp_path, f"    import os\n    os.kill(os.getpid(), {int(signal.SIGKILL)})\n")
    assert outcome.name == "MACHINE_PROBLEM"
    assert "ended with status -9, by another one" in outcome.cause
    assert upgrade(tmp_path / "shop.db", written(tmp_path / "n", CREATE + "INSERT INTO found VALUES ('a', 1);")).ready


def test_ctrl_c_in_the_code_is_ctrl_c(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        failing(tmp_path, "    raise KeyboardInterrupt\n")
    assert version(tmp_path / "shop.db") == 1


@pytest.mark.parametrize("lack", ["no Python", "a seed of its own", "no process"])
def test_what_prevents_the_process_is_found_before_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    code = '"""A step."""\n\n\ndef up(db):\n    pass\n'
    database, found = tmp_path / "shop.db", written(tmp_path / "m", CREATE, code)
    assert upgrade(database, found[:1]).ready
    before, files = database.read_bytes(), set(tmp_path.rglob("*"))

    def refuse(module: str) -> NoReturn:
        raise children.NoPython(operation="start a Python", cause="there is none")

    code_process.end()
    if lack == "no Python":
        monkeypatch.setattr(children, "pinned_command", refuse)
    elif lack == "no process":
        monkeypatch.setattr(children, "pinned_command", lambda _: [str(tmp_path / "nowhere")])
    else:
        # As in a frozen program, which takes no seed from its environment.
        monkeypatch.setattr(children, "isolated", lambda **_: {"PATH": os.environ["PATH"]})
    outcome = upgrade(database, found)
    assert not outcome.ready
    assert {"no Python": "there is none", "no process": "nowhere", "a seed of its own": "hash seed"}[
        lack
    ] in outcome.cause
    assert outcome.backup is None
    assert (database.read_bytes(), {path for path in tmp_path.rglob("*") if path.is_file()}) == (
        before, {path for path in files | set((tmp_path / "backups").glob("*runs*")) if path.is_file()},
    )  # fmt: skip


@pytest.mark.parametrize("pending", ["with code", "SQL alone"])
def test_no_process_is_left_where_nobody_keeps_it(tmp_path: Path, pending: str) -> None:
    text = (
        "import sys; from pathlib import Path; from dbsync.migrations import code_process, folder;"
        " from tests.helpers.shop import upgrade; base = Path(sys.argv[1]);"
        " print(upgrade(base / 'shop.db', folder.load(base / 'm')).name, len(code_process._processes))"
    )
    import subprocess

    found = written(tmp_path / "m", CREATE, ASKS)
    if pending == "SQL alone":
        # The code of earlier migrations runs as well, for the names of the vendor's schema.
        assert upgrade(tmp_path / "shop.db", found).ready
        (tmp_path / "m" / "0003_more.sql").write_text("CREATE TABLE more (x);")
    done = subprocess.run(
        [sys.executable, "-c", text, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["MIGRATED" if pending == "SQL alone" else "CREATED", "0"], done.stderr


# -------------------------------------------------------------------------------------------------------------- values


class Word(str):  # noqa: SLOT000 - as code writes it
    """Text of a type of the code's own."""

    def __str__(self) -> str:
        return "another"


class Count(int):
    """A number of a type of the code's own."""


@pytest.mark.parametrize(
    ("value", "bound"),
    [(True, 1), (Count(3), 3), (Word("x"), "x"), (bytearray(b"x"), b"x"), (memoryview(b"y"), b"y"), (None, None),
     (-0.0, -0.0), (BadText(b"\xff"), BadText(b"\xff")), (2**63, 2**63)],
)  # fmt: skip
def test_a_value_is_bound_as_sqlite3_binds_it(value: object, bound: object) -> None:
    assert (plain(value), type(plain(value)), repr(plain(value))) == (bound, type(bound), repr(bound))


def test_values_go_there_and_back_as_they_are(tmp_path: Path) -> None:
    code = '"""Moves."""\n\n\ndef up(db):\n    for row in db.query("SELECT name, value FROM found"):\n'
    code += "        db.execute('INSERT INTO kept VALUES (:n, :v)', {'n': row[0], 'v': row[1]})\n"
    first = (
        CREATE
        + "CREATE TABLE kept (name TEXT, value); INSERT INTO found VALUES ('a', NULL), ('b', -0.0), ('c', x'00ff'),"
    )
    first += "('d', 9223372036854775807), ('e', 1e999), ('f', 'it''s' || char(0) || 'x'), ('g', ''), ('h', x'');"
    assert upgrade(tmp_path / "shop.db", written(tmp_path / "m", first, code)).ready
    differing = "SELECT count(*) FROM (SELECT name, typeof(value), quote(value) FROM found EXCEPT"
    differing += " SELECT name, typeof(value), quote(value) FROM kept)"
    assert ask(tmp_path / "shop.db", differing) == 0
    assert ask(tmp_path / "shop.db", "SELECT count(*) FROM kept") == 8


def test_down_row_gets_and_returns_text_that_is_not_utf_8(tmp_path: Path) -> None:
    code = '"""Goes back."""\n\n\ndef up(db):\n    pass\n\n\ndef down_row(table, row):\n'
    code += "    if row['n'] == 2:\n        raise KeyError('secret')\n    return row if row['n'] == 1 else None\n"
    (migration,) = written(tmp_path / "m", code)
    down = code_process.down_of(migration)
    assert down is not None
    found = down("t", {"n": 1, "bad": BadText(b"\xff"), "blob": b"\xff"})
    assert found is not None
    assert {name: type(value) for name, value in found.items()} == {"n": int, "bad": BadText, "blob": bytes}
    assert down("t", {"n": 3}) is None
    with pytest.raises(code_process.RowFailed, match=r"^KeyError$"):
        down("t", {"n": 2})
    assert code_process.down_of(written(tmp_path / "n", ASKS)[0]) is None


@pytest.mark.skipif(sys.platform == "win32", reason="tzset is POSIX's")
def test_the_process_that_a_migration_spoiled_is_as_new_for_the_next(tmp_path: Path) -> None:
    spoils = '"""Spoils."""\nimport os, time\n\n\ndef up(db):\n    os.umask(0)\n    os.chdir("/")\n'
    spoils += '    os.environ["TZ"] = "SPOILT+3"\n    time.tzset()\n'
    with closing(open_scratch()) as connection:
        runner.run_all(connection, written(tmp_path / "m", CREATE, spoils, ASKS))
        found = dict(connection.execute("SELECT name, value FROM found").fetchall())
    assert (found["umask"], found["folder"]) == (PINNED.umask, str(children.FOLDER))
    assert found["zone"] == "00:00"


def test_the_other_environment_is_another_one_in_everything(tmp_path: Path) -> None:
    found = []
    for number, environment in enumerate((PINNED, OTHER)):
        with closing(open_scratch()) as connection:
            code = (
                ASKS + "    db.execute(\"INSERT INTO found VALUES ('day', ?)\", (str(datetime.datetime.now())[:10],))\n"
            )
            code += "    db.execute(\"INSERT INTO found VALUES ('date', ?)\", (str(datetime.date.today()),))\n"
            code += '    db.execute("INSERT INTO found VALUES (\'time\', ?)", (time.strftime("%Y"),))\n'
            migrations = written(tmp_path / str(number), CREATE, code)
            runner.run_all(connection, migrations, environment=environment)
            found.append(dict(connection.execute("SELECT name, value FROM found").fetchall()))
    first, other = found
    same = {name for name in first if first[name] == other[name]}
    # A machine may have no locale but C.
    assert same - {"locale"} == {"folder", "encoding"}
    assert (other["day"], other["date"], other["time"]) == ("2031-03-04", "2031-03-04", "2031")
