"""What the commands say to people and to programs where something is missing, mistaken, or not agreed to."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dbsync.__main__ import main
from dbsync.backups import catalog
from dbsync.cli.lines import weighted, wrapped_at_words
from dbsync.storage import temporary_files
from tests.helpers import forks
from tests.helpers.places import ROOT
from tests.helpers.shop import ask, dump, files, make_shop, released, upgrade, version
from tests.helpers.systems import missing


def dbsync(*words: object, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    return forks.run(["-m", "dbsync", *map(str, words)], cwd=ROOT, typed=typed)


def on_terminal(words: list[str], environment: dict[str, str]) -> list[str]:
    """The lines that a terminal gets of a command."""
    import pty

    ours, theirs = pty.openpty()
    subprocess.run(words, env=environment, stdout=theirs, stderr=theirs, check=False)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    return shown.decode().replace("\r", "").splitlines()


def shown_on(columns: int, *words: object) -> list[str]:
    """The lines that a terminal without colours gets of a command of ours."""
    command = [sys.executable, "-m", "dbsync", *map(str, words)]
    return on_terminal(command, {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "NO_COLOR": "1"})


@pytest.mark.parametrize("command", ["restore", "empty", "import", "stamp", "downgrade"])
@pytest.mark.parametrize(
    ("how", "cause"), [("n\n", "it was not agreed to"), (None, "nobody answered"), ("--json", "it was not agreed to")]
)
def test_what_was_not_agreed_to_is_not_done_and_says_how_to_agree(
    tmp_path: Path, command: str, how: str | None, cause: str
) -> None:
    database = make_shop(tmp_path, schema=2)
    folder = released(tmp_path, 4)[0].path.parent
    kept = upgrade(database, released(tmp_path, 4)).backup
    assert kept is not None
    words: dict[str, tuple[object, ...]] = {
        "restore": (kept.path,), "empty": ("--migrations", folder), "import": (kept.path, "--migrations", folder),
        "stamp": ("--at", 2, "--migrations", folder), "downgrade": (),
    }  # fmt: skip
    before, there = dump(database), files(database.parent)
    as_json = ["--json"] if how == "--json" else []
    done = dbsync(command, *words[command], "--database", database, *as_json, typed=None if as_json else how)
    assert done.returncode == 4
    assert f"{cause}. Nothing was changed. Pass --yes" in done.stderr
    if as_json:
        assert json.loads(done.stdout)["error"] == "NotAgreed"
    assert (dump(database), files(database.parent)) == (before, there)


def test_an_error_is_one_document_for_programs_and_a_sentence_for_people(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    done = dbsync("upgrade", "--database", tmp_path / "a.db", "--migrations", nowhere, "--json")
    told = json.loads(done.stdout)
    assert (told["error"], told["operation"], told["path"]) == ("BadMigrations", "read", str(nowhere))
    sentence = f"could not read {nowhere}: {missing(nowhere)}. Name the folder that holds the migrations."
    assert (done.returncode, sentence in done.stderr) == (4, True)
    assert dbsync("import", nowhere, "--database", tmp_path / "a.db", "--migrations", nowhere, typed="y\n").stdout == ""
    assert files(tmp_path) == set()


def test_a_file_error_that_nobody_has_put_in_words_is_a_sentence_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(**_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(catalog, "list_backups", denied)
    done = CliRunner().invoke(main, ["backups", "--database", str(tmp_path / "a.db"), "--json"])
    assert (done.exit_code, f"could not use {tmp_path}: Permission denied" in done.stderr) == (75, True)
    assert json.loads(done.stdout)["path"] == str(tmp_path)


def test_a_folder_without_migrations_is_no_release(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = dbsync("check", "--migrations", tmp_path / "empty")
    assert (done.returncode, "there is no migration in the folder" in done.stdout) == (1, True)


def test_status_is_for_people_and_needs_no_migrations(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    words = dbsync("status", "--database", database).stdout
    assert "{" not in words
    assert "latest" not in words
    last = next(line for line in words.splitlines() if line.startswith("last run"))
    assert last.split()[2] == "CREATED"
    told = json.loads(dbsync("status", "--database", database, "--json").stdout)
    assert (told["version"], told["latest"], told["pending"], told["last_run"]["outcome"]) == (2, None, [], "CREATED")
    with_folder = dbsync("status", "--database", database, "--migrations", released(tmp_path, 4)[0].path.parent).stdout
    assert "pending        0003_add_categories_parent_id, 0004_add_categories_unique_constraint" in with_folder


def test_a_sound_database_has_no_problems_in_words_too(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    done = dbsync("verify", "--database", database, "--migrations", released(tmp_path, 2)[0].path.parent)
    assert (done.returncode, done.stdout.splitlines()[-1].split()) == (0, ["problems", "none"])


def test_the_command_that_repair_names_can_be_pasted(tmp_path: Path) -> None:
    database = make_shop(tmp_path / "my shop's", schema=2)
    folder = released(tmp_path / "my shop's", 2)[0].path.parent
    into = database.with_name("read again.db")
    said = dbsync("repair", "--into", into, "--database", database, "--migrations", folder).stdout.splitlines()[-1]
    said = said.partition("if this is to be the shop's database: ".capitalize())[2]
    command = shlex.split(said.strip("`"))
    assert command[:3] == ["dbsync", "import", str(into)]
    assert dbsync(*command[1:], "--yes").returncode == 0
    assert (version(database), ask(database, "SELECT count(*) FROM transactions")) == (2, 100)


def test_each_commands_purpose_fits_the_list_of_commands() -> None:
    listed = dbsync("--help").stdout.partition("Commands:")[2].strip().splitlines()
    assert len(listed) == 20
    assert not [line for line in listed if line.endswith("...")]


@pytest.mark.parametrize("command", ["upgrade", "backup", "restore", "empty", "import", "downgrade", "prune", "stamp"])
def test_whatever_runs_next_clears_what_a_cut_run_left(tmp_path: Path, command: str) -> None:
    """A till has little space, and its next release may be months away."""
    database = make_shop(tmp_path, schema=2)
    folder = released(tmp_path, 4)[0].path.parent
    kept = upgrade(database, released(tmp_path, 4)).backup
    assert kept is not None
    backups = database.parent / "backups"
    left = [
        temporary_files.scratch_of(backups, database.name, "carried"),
        temporary_files.part_of(database.with_name("pos_system-backup-before-restore-x.db"), database.name),
        backups / ".new-pos_system-backup-v2-x.db.json",
    ]
    for path in left:
        path.write_bytes(b"half")
    (temporary_files.scratch_of(backups, database.name, "work") / "backups").mkdir(parents=True)
    words: dict[str, list[object]] = {
        "upgrade": ["upgrade", "--migrations", folder], "backup": ["backup"],
        "restore": ["restore", kept.path, "--yes"],
        "empty": ["empty", "--yes", "--migrations", folder], "downgrade": ["downgrade", "--yes"],
        "import": ["import", kept.path, "--yes", "--migrations", folder], "prune": ["backups", "--prune"],
        "stamp": ["stamp", "--at", "4", "--yes", "--migrations", folder],
    }  # fmt: skip
    done = dbsync(*words[command], "--database", database)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [name for name in files(database.parent) if ".part-" in name or ".new-" in name]
    assert not [path for path in backups.iterdir() if temporary_files.is_part(path)]


@pytest.mark.parametrize("cells", [20, 40, 80, 200])
def test_a_line_is_wrapped_at_words_and_a_command_stays_whole(cells: int) -> None:
    command = "`dbsync restore /a/long/path/to/a/backup.db --database shop.db`"
    line = f"   sale: 3 rows are gone, keys 1, 2, 3. {command} restores the backup from before; nothing was changed."
    parts = wrapped_at_words(line, cells)
    assert " ".join(part.strip() for part in parts) == line.strip()
    assert all(len(part) <= cells or command in part or " " not in part.strip() for part in parts)
    assert wrapped_at_words("1   2", cells) == ["1   2"], "columns stay under each other"
    assert parts[0].startswith("   sale:")
    assert all(part.startswith("     ") for part in parts[1:])
    assert wrapped_at_words("", cells) == [""]


def test_a_number_keeps_its_unit_and_a_value_its_column() -> None:
    assert wrapped_at_words("upgrade  MIGRATED in 120 ms, all", 26) == ["upgrade  MIGRATED in", "  120 ms, all"]
    line = "last run  FAILED at noon: no such table"
    assert wrapped_at_words(line, 26, hang=10) == ["last run  FAILED at noon:", "          no such table"]
    path = "backup    of /a/very/long/path/to/a/file.db"
    assert wrapped_at_words(path, 26, hang=10) == ["backup    of", "  /a/very/long/path/to/a/file.db"]
    assert wrapped_at_words("売上 12 rows", 11) == ["売上", "  12 rows"], "wide letters take two cells"


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals are POSIX's")
@pytest.mark.parametrize("columns", [60, 80, 400])
def test_a_wide_terminal_has_lines_that_can_be_read_and_a_narrow_one_whole_words(tmp_path: Path, columns: int) -> None:
    database = make_shop(tmp_path, schema=2)
    for _ in range(2):
        assert dbsync("backup", "--database", database).returncode == 0
    error = shown_on(columns, "restore", "no such backup.db", "--database", database)
    assert all(len(line) <= min(columns, 100) or "/" in line for line in error), error
    assert " ".join(error[0].split()[:4]) == "Error: could not restore"
    assert error[-1].endswith("lists them.")
    backups = shown_on(columns, "backups", "--database", database)
    paths = [line for line in backups if line.endswith(".db")]
    assert len(paths) == 2
    assert all((line.startswith("  /") if columns <= 80 else "good" in line) for line in paths), backups
    assert len({line.index("good") for line in backups if "good" in line}) == 1, "columns stay under each other"


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals are POSIX's")
def test_status_says_nothing_twice_and_aligns_its_values(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "0001_other.sql").write_text("CREATE TABLE other (a);")
    dbsync("upgrade", "--database", database, "--migrations", tmp_path / "m")
    done = dbsync("status", "--database", database)
    assert done.stdout.count("TOO_NEW") == 1, done.stdout
    assert dbsync("backup", "--database", database).returncode == 0
    lines = dbsync("status", "--database", database).stdout.splitlines()
    assert not [line for line in lines if line.startswith("newest backup")], "it is the last good one"
    values = {line.split("  ", 1)[0]: len(line) - len(line.split("  ", 1)[1].lstrip()) for line in lines}
    assert len(set(values.values())) == 1, values


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
)
def test_a_terminal_shows_weight_only_where_it_can_and_may(environment: dict[str, str], coloured: bool) -> None:
    assert (weighted("LOST: 3 changes", environment) != "LOST: 3 changes") is coloured
    assert weighted("3 changes", environment) == "3 changes"


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals are POSIX's")
def test_only_a_terminal_gets_weight_and_wrapping(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "0001_a.sql").write_text("CREATE TABLE a (x, y);")
    (tmp_path / "m" / "0002_b.sql").write_text("ALTER TABLE a DROP COLUMN y;")
    words = [sys.executable, "-m", "dbsync", "check", "--migrations", str(tmp_path / "m")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "60"}
    environment.pop("NO_COLOR", None)
    piped = subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout
    assert "\x1b" not in piped
    assert max(map(len, piped.splitlines())) > 60
    lines = on_terminal(words, environment)
    assert max(map(len, lines)) <= 60, lines
    assert " ".join(" ".join(lines).split()) == " ".join(piped.split())
