"""The migrations kept beside a backup: going back works when the newer release is gone, whoever's format it has."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.backups import bundled_migrations, catalog
from dbsync.migrations import folder as migration_folder
from dbsync.model import Backup, Migration, SchemaNumber, TrialId
from dbsync.upgrade import restore_decision
from tests.dbsync.cli.test_check import dbsync
from tests.dbsync.migrations.engines.test_engines import Alembic
from tests.helpers.places import ROOT
from tests.helpers.shop import dump, effects, files, make_shop, released, sales, sell, upgrade, version

NO_DRIZZLE = {"version": "7", "dialect": "sqlite", "entries": [{"idx": 0, "when": 1, "tag": "0000_a"}]}


def numbered(folder: Path) -> Path:
    folder.mkdir()
    (folder / "engine.toml").write_text('engine = "numbered"\n[declared.2_more]\nchanges = ["update a.b"]\n')
    (folder / "1_init.up.sql").write_text("CREATE TABLE a (b);")
    (folder / "2_more.sql").write_text("ALTER TABLE a ADD COLUMN c;\r\n")
    return folder


def drizzle(folder: Path) -> Path:
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "_journal.json").write_text(json.dumps(NO_DRIZZLE))
    (folder / "0000_a.sql").write_text("CREATE TABLE a (b);")
    return folder


def own(folder: Path) -> Path:
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "0001_first.sql").write_text("-- changes: update a.b\nCREATE TABLE a (b);")
    (folder / "0002_second.py").write_text('"""Two."""\n\ndef up(db):\n    pass\n')
    (folder / "0003_third.toml").write_text('command = ["../pos-tool", "{database}"]\n')
    return folder


def alembic(folder: Path) -> Path:
    folder.mkdir()
    return Alembic(folder).scripts


def told(found: tuple[Migration, ...]) -> list[Migration]:
    return [one._replace(path=Path(one.path.name)) for one in found]


def migrated(tmp_path: Path) -> tuple[Path, Backup]:
    """A shop brought from v2 to v4; the release that did it is gone, and people sold since."""
    database = make_shop(tmp_path, schema=2)
    outcome = upgrade(database, released(tmp_path, 4), trial_id="t1")
    assert outcome.backup is not None
    shutil.rmtree(tmp_path / "migrations-4")
    sell(database, 3)
    return database, outcome.backup


@pytest.mark.parametrize("made", [own, numbered, drizzle, alembic])
def test_what_is_kept_loads_as_the_same_migrations(tmp_path: Path, made: object) -> None:
    assert callable(made)
    folder = made(tmp_path / "migrations")
    (folder / "a note of ours.txt").write_text("not read by a loader")
    found = migration_folder.load(folder)
    kept = tmp_path / "backups" / "x.db"
    kept.parent.mkdir()
    bundled_migrations.keep(kept, found[-1:], owner="shop.db")
    shutil.rmtree(folder)
    assert told(bundled_migrations.beside(kept)) == told(found)
    assert [one.name for one in kept.parent.iterdir()] == ["x.db.migrations"]
    assert not list(kept.parent.rglob("*.txt"))


def test_a_migrations_backup_has_them_and_one_by_hand_has_not(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    outcome = upgrade(database, released(tmp_path, 4))
    assert outcome.backup is not None
    assert told(bundled_migrations.beside(outcome.backup.path)) == told(released(tmp_path, 4))
    by_hand = effects(database).make_backup()
    assert bundled_migrations.beside(by_hand.path) == ()
    assert not [one for one in files(database.parent) if ".part-" in one]


def test_downgrade_and_diff_need_nothing_of_the_release_that_is_gone(tmp_path: Path) -> None:
    database, kept = migrated(tmp_path)
    place = ("--database", database, "--backup", kept.path)
    found = dbsync("diff", *place, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["lossless"] is True
    done = dbsync("downgrade", *place, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (version(database), sales(database)) == (2, 103)
    shutil.rmtree(catalog.migrations_path(kept.path))
    before = dump(database)
    refused = dbsync("downgrade", *place, "--yes")
    assert refused.returncode == 4
    assert "no migrations are kept beside it. Pass --migrations with the folder" in refused.stderr
    assert dump(database) == before


def test_a_trial_whose_release_is_gone_goes_back_without_losing_a_sale(tmp_path: Path) -> None:
    database, kept = migrated(tmp_path)
    returned = restore_decision.go_back(
        effects(database), trial_id=TrialId("t1"), backup=kept, content_sha256=None, older_schema=SchemaNumber(2),
        ever_confirmed=True, migrations=(),
    )  # fmt: skip
    assert (returned.outcome.name, returned.losses) == ("CARRIED_BACK", ())
    assert (version(database), sales(database)) == (2, 103)


def test_rotation_removes_them_with_their_backup(tmp_path: Path) -> None:
    database, kept = migrated(tmp_path)
    live = effects(database)
    for _ in range(2):
        made = live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(4), None)))
        bundled_migrations.keep(made.path, bundled_migrations.beside(kept.path), owner=made.database)
    listed = [one.path for one in catalog.list_backups(backups=database.parent / "backups", database=database)]
    removed = catalog.rotate(backups=database.parent / "backups", database=database, keep_count=1, pinned=())
    assert removed == listed[1:2]
    beside = [catalog.migrations_path(one).is_dir() for one in listed]
    assert beside == [True, False, True]


CUT = """
import os, sys
from pathlib import Path
from dbsync import api
from dbsync.backups import snapshot
from dbsync.storage import files
module, name = {"the copy": (files, "sync_tree"), "the name": (snapshot, "keep_part")}[sys.argv[3]]
setattr(module, name, lambda *_: os._exit(9))
api.run_migrations(database=sys.argv[1], folder=sys.argv[2])
"""


@pytest.mark.parametrize("cut_at", ["the copy", "the name"])
def test_a_cut_leaves_nothing_that_counts_and_the_next_run_clears_it(tmp_path: Path, cut_at: str) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    folder = released(tmp_path, 4)[0].path.parent
    cut = subprocess.run([sys.executable, "-c", CUT, database, folder, cut_at], check=False, cwd=ROOT)
    assert cut.returncode == 9
    assert [one for one in files(database.parent) if ".migrations" in one], "the cut left something"
    assert catalog.list_backups(backups=database.parent / "backups", database=database) == []
    assert dump(database) == before
    outcome = upgrade(database, released(tmp_path, 4))
    assert outcome.name == "MIGRATED", outcome.cause
    assert outcome.backup is not None
    assert list((database.parent / "backups").glob("*.migrations")) == [catalog.migrations_path(outcome.backup.path)]
    assert not [one for one in files(database.parent) if ".part-" in one]
