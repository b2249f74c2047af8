"""The public names of the package: each is there, typed, and loaded when it is asked for, not before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import assert_type

import pytest

import dbsync
from dbsync import BadMigrations, MigrationFailed, TillkeeperError, run_migrations
from tests.helpers.places import ROOT
from tests.helpers.shop import make_shop, released

LOADED = """
import sys
import dbsync
assert "run_migrations" in dir(dbsync)
print([name for name in sys.modules if name.startswith("dbsync.")], "sqlite3" in sys.modules)
dbsync.Refused
print(sorted(name for name in sys.modules if name.startswith("dbsync.")), "sqlite3" in sys.modules)
"""


def test_importing_the_package_loads_none_of_them() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=ROOT)
    at_first, after_an_error = done.stdout.splitlines()
    assert at_first == "[] False"
    assert after_an_error == "['dbsync.errors', 'dbsync.outcomes'] False"


@pytest.mark.parametrize("name", dbsync.__all__)
def test_each_name_is_there(name: str) -> None:
    found = vars(dbsync)["__getattr__"](name)
    assert found is getattr(dbsync, name)
    assert found is vars(dbsync)[name], "it is looked for once"
    assert found.__module__.startswith("dbsync.") or name == "Progress"


def test_the_names_are_sorted_and_cover_every_call_and_every_error() -> None:
    from dbsync import api, errors

    assert dbsync.__all__ == sorted(dbsync.__all__)
    calls = {name for name, value in vars(api).items() if callable(value) and value.__module__ == api.__name__}
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    raised = {name for name, value in classes.items() if value.__module__ == errors.__name__}
    assert {name for name in calls if not name.startswith("_")} | raised <= set(dbsync.__all__)


def test_another_name_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'dbsync' has no attribute 'upgrade_everything'"):
        _ = dbsync.upgrade_everything  # type: ignore[attr-defined]  # mypy says so, too
    with pytest.raises(ImportError):
        exec("from dbsync import downgrade_everything")


def test_they_work_and_type_checkers_know_them(tmp_path: Path) -> None:
    database, folder = make_shop(tmp_path, schema=2), released(tmp_path, 4)[0].path.parent
    outcome = run_migrations(database=database, folder=folder)
    # mypy compares both types when it checks this file: a name without a type would be Any.
    assert_type(outcome, dbsync.Outcome)
    assert_type(dbsync.get_current_version(database), dbsync.SchemaNumber)
    assert outcome.name is dbsync.OutcomeName.MIGRATED
    assert outcome.backup is not None
    assert outcome.backup.kind is dbsync.BackupKind.MIGRATION
    assert issubclass(MigrationFailed, TillkeeperError)
    with pytest.raises(BadMigrations):
        run_migrations(database=database, folder=tmp_path / "nowhere")
