"""Two databases in one folder, with one folder of backups: neither takes, clears or counts what is the other's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.backups import catalog
from dbsync.database.live import LiveEffects
from dbsync.model import Migration
from dbsync.outcomes import OutcomeName
from dbsync.storage import temporary_files
from tests.helpers import forks
from tests.helpers.places import ROOT, link
from tests.helpers.shop import ask, effects, files, upgrade, version, written

FIRST = "CREATE TABLE sales (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL);"
SECOND = "ALTER TABLE sales ADD COLUMN paid_with TEXT;"
BROKEN = "INSERT INTO sales (id, cents) VALUES (1, NULL);"


def two(tmp_path: Path, found: tuple[Migration, ...]) -> tuple[Path, Path]:
    """Two shops of one app: the same schema, one folder."""
    one, other = tmp_path / "data" / "north.db", tmp_path / "data" / "south.db"
    one.parent.mkdir()
    for database in (one, other):
        assert upgrade(database, found).ready
    return one, other


def dbsync(*words: object, database: Path) -> subprocess.CompletedProcess[str]:
    return forks.run(["-m", "dbsync", *map(str, words), "--database", str(database)], cwd=ROOT)


def test_each_has_its_own_backups_and_rotation_counts_only_those(tmp_path: Path) -> None:
    found = written(tmp_path / "m", FIRST, SECOND)
    one, other = two(tmp_path, found[:1])
    folder = one.parent / "backups"
    assert upgrade(one, found).name == OutcomeName.MIGRATED
    (kept,) = catalog.list_backups(backups=folder, database=one)
    assert (kept.database, catalog.list_backups(backups=folder, database=other)) == ("north.db", [])
    for _ in range(12):
        made = effects(other).make_backup()
        catalog.write_facts(made._replace(kind="migration"))
    assert len(catalog.rotate(backups=folder, database=other, keep_count=3, pinned=())) == 9
    assert catalog.list_backups(backups=folder, database=one) == [kept]
    assert len(catalog.list_backups(backups=folder, database=other)) == 3


def test_a_link_has_the_backups_of_the_database_that_it_leads_to(tmp_path: Path) -> None:
    found = written(tmp_path / "m", FIRST, SECOND)
    one, _ = two(tmp_path, found[:1])
    assert upgrade(one, found).name == OutcomeName.MIGRATED
    backups = one.parent / "backups"
    kept = catalog.list_backups(backups=backups, database=one)
    assert len(kept) == 1
    link(tmp_path / "a link.db", to=one)
    assert catalog.list_backups(backups=backups, database=tmp_path / "a link.db") == kept


def test_going_back_takes_no_backup_of_the_neighbour(tmp_path: Path) -> None:
    found = written(tmp_path / "m", FIRST, SECOND)
    one, other = two(tmp_path, found[:1])
    for database in (one, other):
        assert upgrade(database, found).name == OutcomeName.MIGRATED
    (mine,) = catalog.list_backups(backups=one.parent / "backups", database=one)
    catalog.remove(mine.path)
    refused = dbsync("downgrade", "--yes", database=one)
    assert refused.returncode == 4
    assert "there is no good migration backup" in refused.stderr
    assert (version(one), version(other)) == (2, 2)
    named = catalog.list_backups(backups=one.parent / "backups", database=other)[0].path
    refused = dbsync("downgrade", "--yes", "--backup", named, database=one)
    assert (refused.returncode, version(one)) == (4, 2)


def test_a_database_that_is_not_there_yet_is_not_missed_because_of_its_neighbour(tmp_path: Path) -> None:
    found = written(tmp_path / "m", FIRST, SECOND)
    one, _ = two(tmp_path, found[:1])
    assert upgrade(one, found).name == OutcomeName.MIGRATED
    third = one.with_name("west.db")
    assert upgrade(third, found).name == OutcomeName.CREATED
    one.unlink()
    assert upgrade(one, found).name == OutcomeName.MISSING
    assert "one.db" not in files(one.parent)


def test_what_failed_twice_for_one_is_tried_for_the_other_and_their_pasts_are_apart(tmp_path: Path) -> None:
    found = written(tmp_path / "m", FIRST, BROKEN)
    one, other = two(tmp_path, found[:1])
    names = [upgrade(one, found).name for _ in range(3)]
    assert names == [OutcomeName.MIGRATION_FAILED, OutcomeName.MIGRATION_FAILED, OutcomeName.FAILED_BEFORE]
    assert upgrade(other, found).name == OutcomeName.MIGRATION_FAILED
    for database, expected in ((one, names), (other, names[:1])):
        told = json.loads(dbsync("history", "--json", database=database).stdout)
        assert [run["outcome"] for run in told["attempts"]] == ["CREATED", *map(str, expected)]


def test_a_run_clears_nothing_of_a_neighbour_that_is_at_work(tmp_path: Path) -> None:
    found = written(tmp_path / "m", FIRST, SECOND)
    one, other = two(tmp_path, found[:1])
    folder = one.parent / "backups"
    under_way = {
        temporary_files.part_of(folder / "north-backup-v1-x.db", "north.db"),
        temporary_files.scratch_of(folder, "north.db", "carried"),
        temporary_files.part_of(one.with_name("north-backup-before-restore-x.db"), "north.db"),
    }
    for path in under_way:
        path.write_bytes(b"half")
    kept = folder / f"north-backup-v1-x.db{catalog.MIGRATIONS}"
    kept.mkdir()
    own = LiveEffects(other, backups=folder)
    own.preflight(found[1:])
    assert {path for path in under_way if path.exists()} == under_way
    assert kept.exists()
    LiveEffects(one, backups=folder).preflight(found[1:])
    assert not [path for path in under_way if path.exists()]
    assert not kept.exists()


LOOP = """
import sqlite3, sys
from contextlib import closing
from pathlib import Path
from dbsync.commands import downgrade
from dbsync.upgrade import coordinator
from dbsync.database.live import LiveEffects
from dbsync.storage.locks import locked
from dbsync.migrations.folder import load

database, found = Path(sys.argv[1]), load(Path(sys.argv[2]))
for number in range(int(sys.argv[3])):
    with locked(database):
        effects = LiveEffects(database, backups=database.parent / "backups", least_free_bytes=0)
        outcome = coordinator.upgrade(effects, migrations=found)
        assert outcome.name == "MIGRATED", outcome
        with closing(sqlite3.connect(database)) as live, live:
            live.execute("INSERT INTO sales (cents) VALUES (?)", (number,))
        returned = downgrade.downgrade(effects, outcome.backup, found, accept_loss=False)
        assert returned.outcome.name == "CARRIED_BACK", returned
"""


@pytest.mark.slow
def test_two_at_work_at_once_go_up_and_back_and_each_keeps_its_own_sales(tmp_path: Path) -> None:
    found = written(tmp_path / "m", FIRST, SECOND)
    one, other = two(tmp_path, found[:1])
    command = [sys.executable, "-c", LOOP]
    running = [
        subprocess.Popen([*command, str(path), str(tmp_path / "m"), "8"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for path in (one, other)
    ]
    assert [process.communicate()[1] for process in running] == ["", ""]
    for database in (one, other):
        assert (version(database), ask(database, "SELECT count(*) FROM sales")) == (1, 8)
    assert not [name for name in files(one.parent) if ".part-" in name]


def test_a_neighbours_backup_is_not_restored_but_may_be_imported(tmp_path: Path) -> None:
    found = written(tmp_path / "m", FIRST, SECOND)
    one, other = two(tmp_path, found[:1])
    assert upgrade(one, found).name == OutcomeName.MIGRATED
    (kept,) = catalog.list_backups(backups=one.parent / "backups", database=one)
    refused = dbsync("restore", kept.path, "--yes", database=other)
    assert (refused.returncode, "it is a backup of north.db" in refused.stderr) == (4, True)
    assert dbsync("restore", other, "--yes", database=other).returncode == 4
    listed = dbsync("backups", database=other).stdout
    assert listed == f"no backups of this database in {one.parent / 'backups'}; 1 of others\n"
    done = dbsync("import", kept.path, "--yes", "--migrations", tmp_path / "m", database=other)
    assert (done.returncode, version(other)) == (0, 2), done.stdout + done.stderr
    assert [each.kind for each in catalog.list_backups(backups=one.parent / "backups", database=other)] == [
        "before-import"
    ]
