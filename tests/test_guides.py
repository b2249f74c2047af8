"""The guides, followed: every command and every Python text in them runs as it stands."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbsync import Database
from dbsync.progress import Unit
from tests.helpers.shop import make_shop, released, sell, upgrade

DOCS = Path(__file__).parent.parent / "docs"


def blocks(guide: str, language: str = "") -> list[str]:
    """What stands between fences of a language."""
    text = (DOCS / guide).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for named, block in found if named == language]


def follow(folder: Path, script: str) -> str:
    """Runs commands as a person would, one after another, in a folder."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    (place / "dbsync").write_text(f'#!/bin/sh\nexec {sys.executable} -m dbsync "$@"\n')
    (place / "dbsync").chmod(0o755)
    env = {**os.environ, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(DOCS.parent)}
    script = "\n".join(line for line in script.splitlines() if not line.startswith("pip install"))
    done = subprocess.run(["sh", "-e", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="the guides' commands are for a POSIX shell")


def shop_in(folder: Path, schema: int) -> Path:
    """A shop as the guides have it: shop.db and migrations in one folder."""
    made = make_shop(folder / "made", schema=schema)
    shutil.copytree(released(folder / "made", 5)[0].path.parent, folder / "migrations")
    return Path(shutil.copyfile(made, folder / "shop.db"))


def test_the_quick_start_makes_a_shop_in_both_ways(tmp_path: Path) -> None:
    assert "Database initialized successfully (v1/1)" in follow(tmp_path, blocks("dbsync.md")[0])
    for text in (*blocks("dbsync.md", "python"), *blocks("api.md", "python")):
        env = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
        subprocess.run([sys.executable, "-c", text], cwd=tmp_path, env=env, check=True, capture_output=True)
    assert len(list((tmp_path / "backups").glob("*-backup-manual-v1-*.db"))) == 1


def test_going_back_after_days_of_trade_is_as_the_guide_says(tmp_path: Path) -> None:
    database = shop_in(tmp_path, 4)
    follow(tmp_path, "dbsync upgrade --database shop.db --migrations migrations")
    sell(database, 3)
    text = blocks("recovery.md")[0].replace("dbsync downgrade", "yes | dbsync downgrade")
    told = follow(tmp_path, text)
    assert "Downgrading loses nothing (verified by migrating the result forward again)" in told
    assert "CARRIED_BACK" in told


def test_a_damaged_database_is_repaired_and_imported_as_the_guide_says(tmp_path: Path) -> None:
    database = shop_in(tmp_path, 5)
    (script,) = [block for block in blocks("recovery.md") if "dbsync import" in block]
    script = script.replace("dbsync import", "yes | dbsync import")
    follow(tmp_path, script)
    assert upgrade(database, released(tmp_path / "made", 5)).name == "UP_TO_DATE"
    assert len(list(tmp_path.glob("shop-backup-before-import-*.db"))) == 1


def test_a_database_without_migrations_is_adopted_as_the_guide_says(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as live, live:
        live.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, cents INTEGER)")
    (written,) = [one for one in blocks("adopting.md") if "write-schema" in one]
    assert "schema" in follow(tmp_path, written)
    assert "up to date" in follow(tmp_path, "dbsync upgrade --database shop.db --migrations migrations")


def test_the_examples_of_migrations_are_migrations(tmp_path: Path) -> None:
    (sql,) = [block for block in blocks("migrations.md", "sql") if "barcode TEXT" in block]
    python, down, *_ = blocks("migrations.md", "python")
    shop_in(tmp_path, 5)
    # The sample till has no carts; everything else stands as it is.
    text = python.replace('["delete cart_items where o.closed = 1"]', "[]")
    (tmp_path / "migrations" / "0006_barcode.py").write_text(f"{text}\n\n{down}")
    (tmp_path / "migrations" / "0007_again.sql").write_text(sql.replace("barcode TEXT", "barcode2 TEXT"))
    told = follow(tmp_path, "dbsync upgrade --database shop.db --migrations migrations")
    assert "Database updated from v5 to v7" in told


def test_every_page_that_a_page_points_to_is_there() -> None:
    for page in (*DOCS.glob("*.md"), *DOCS.glob("decisions/*.md"), DOCS.parent / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_reference_of_helpers_has_every_call_with_every_argument() -> None:
    calls = dict(
        re.findall(r"^\| `db\.(\w+)\((.*?)\)` \|", (DOCS / "helpers.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    found = {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(Database, inspect.isfunction)
        if not name.startswith("_")
    }
    assert calls.keys() == found.keys()
    for name, signature in found.items():
        told = ast.parse(f"def f({calls[name].replace('Unit.ROWS', 'ROWS')}): pass").body[0]
        assert isinstance(told, ast.FunctionDef)
        defaults = [ast.unparse(default) for default in told.args.defaults]
        parameters = [one for one in signature.parameters.values() if one.name != "self"]
        assert [argument.arg for argument in told.args.args] == [one.name for one in parameters], name
        real = [one.default for one in parameters if one.default is not inspect.Parameter.empty]
        assert defaults == ["ROWS" if isinstance(value, Unit) else repr(value) for value in real], name
