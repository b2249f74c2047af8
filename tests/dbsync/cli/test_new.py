"""`dbsync new`, run as a process: the file that it writes is a migration, and passes the check as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.migrations.folder import load
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.places import ROOT
from tests.sample_till.bundles import copy_migrations


@pytest.mark.parametrize(("option", "ending"), [([], "sql"), (["--python"], "py")])
def test_the_file_has_the_next_number_and_is_a_migration(tmp_path: Path, option: list[str], ending: str) -> None:
    folder = tmp_path / "m"
    copy_migrations(folder, schema=5)
    done = dbsync("new", "Prices in", "Cents!", "--migrations", folder, *option)
    path = folder / f"0006_prices_in_cents.{ending}"
    assert (done.returncode, str(path) in done.stdout) == (0, True), done.stderr
    found = load(folder)[-1]
    assert (found.name, found.description, found.changes) == ("prices_in_cents", "Prices in Cents!", ())
    assert dbsync("check", "--migrations", folder).returncode == 0
    assert len(list(folder.iterdir())) == 6, "nothing else is left"


def test_the_first_migration_makes_the_folder(tmp_path: Path) -> None:
    done = dbsync("new", "first", "tables", "--migrations", tmp_path / "a" / "m", "--json")
    path = tmp_path / "a" / "m" / "0001_first_tables.sql"
    assert json.loads(done.stdout)["written"] == str(path)
    assert f"dbsync write-schema {path.parent}/0001_initial_schema.sql" in path.read_text(), "for what is there already"
    assert dbsync("check", "--migrations", path.parent).returncode == 0


@pytest.mark.parametrize(
    ("words", "made", "cause"),
    [
        ("42", None, "no name can be made of '42'"),
        ("Größe ändern", "0006_gr_e_ndern.sql", ""),
        ('quotes " and \\ too', "0006_quotes_and_too.sql", ""),
        ("x" * 300, f"0006_{'x' * 80}.sql", ""),
    ],
)
def test_a_name_is_made_of_any_words_or_refused(tmp_path: Path, words: str, made: str | None, cause: str) -> None:
    folder = tmp_path / "m"
    copy_migrations(folder, schema=5)
    before = set(folder.iterdir())
    done = dbsync("new", words, "--migrations", folder)
    assert (done.returncode, cause in done.stderr) == (0 if made else 4, True), done.stderr
    assert {path.name for path in set(folder.iterdir()) - before} == ({made} if made else set())
    load(folder)


@pytest.mark.parametrize(
    ("mark", "command"), [("env.py", "alembic revision"), ("meta/_journal.json", "drizzle-kit generate")]
)
def test_another_tools_folder_is_left_to_its_tool(tmp_path: Path, mark: str, command: str) -> None:
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).write_text('{"entries": []}')
    done = dbsync("new", "more", "--migrations", tmp_path)
    assert (done.returncode, command in done.stderr) == (4, True), done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / mark]


def test_an_editor_knows_db(tmp_path: Path) -> None:
    """The template is checked by mypy: a misspelt helper and a wrong argument are found."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    folder = tmp_path / "m"
    assert dbsync("new", "typed", "--python", "--migrations", folder).returncode == 0
    path = folder / "0001_typed.py"
    good = path.read_text() + '    db.add_column("t", "c", "TEXT")\n    db.log(str(db.query("SELECT 1")[0][0]))\n'
    wrong = {good: "", good + "    db.add_colum()\n": "add_colum", good + "    db.log(3)\n": "arg-type"}
    wrong[good + '    db.add_unique("t", ["c"], settle="sufix")\n'] = "arg-type"
    wrong[good + '    db.add_foreign_key("t", "c", "p(id)", on_delete="CASCADES")\n'] = "arg-type"
    for body, found in wrong.items():
        path.write_text(body)
        words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, found in done.stdout) == (1 if found else 0, True), done.stdout
