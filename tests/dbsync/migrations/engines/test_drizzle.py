"""Drizzle's newer layout, a folder for each migration (1.0), and what both can hold; made by the real tools."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups.catalog import list_backups
from dbsync.commands import downgrade
from dbsync.errors import BadMigrations
from dbsync.lint import check
from dbsync.migrations import folder as migration_folder
from dbsync.migrations import runner
from dbsync.schema.fingerprint import fingerprint
from dbsync.storage import connections
from tests.helpers import drizzle
from tests.helpers.drizzle import NEW, Project
from tests.helpers.shop import ask, dump, effects, upgrade, version

SHOP = (
    "INSERT INTO businesses VALUES ('b', 'Corner shop')",
    "INSERT INTO products (id, name, price, businessId) VALUES ('p1', 'tea', 250, 'b'), ('p2', 'bun', 90, 'b')",
    "INSERT INTO sales (productId, cents) VALUES ('p1', 250), ('p2', 90), ('p1', 250)",
)
NAMED = "SELECT group_concat(name) FROM __drizzle_migrations"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drizzle.history(tmp_path_factory.mktemp("drizzle") / "new", NEW)


@pytest.fixture
def history(tmp_path: Path, made: Path) -> Path:
    return declaring(shutil.copytree(made, tmp_path / "drizzle"))


def declaring(folder: Path) -> Path:
    name = next(one.name for one in folder.iterdir() if one.stem.endswith("price_default"))
    (folder / "engine.toml").write_text(
        f'[declared.{name}]\nchanges = ["redefine products", "redefine products.price"]\n'
    )
    return folder


def filled(database: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(database)) as live, live:
        for statement in statements:
            live.execute(statement)
    return database


def test_the_migrator_of_1_0_and_dbsync_hand_a_database_to_and_fro(tmp_path: Path, history: Path) -> None:
    database = tmp_path / "pos.db"
    drizzle.migrate(database, drizzle.first_folders(history, 2), NEW)
    filled(database, *SHOP)
    found = migration_folder.load(history)
    outcome = upgrade(database, found)
    assert (outcome.name, outcome.version_before, outcome.version_after) == ("MIGRATED", 2, 4), outcome.cause
    assert ask(database, "SELECT count(*) FROM sales JOIN products ON products.id = productId") == 3
    assert ask(database, NAMED) == ",".join(one.name for one in found)
    before = dump(database)
    drizzle.migrate(database, history, NEW)
    assert dump(database) == before, "the tool found nothing to do"
    # What the older release goes back with is kept beside the backup, snapshots and all.
    filled(database, "INSERT INTO sales (productId, cents) VALUES ('p2', 90)")
    (base, *_) = list_backups(backups=tmp_path / "backups", database=database)
    kept = base.path.with_name(f"{base.path.name}.migrations")
    returned = downgrade.downgrade(effects(database), base, migration_folder.load(kept), accept_loss=False)
    assert returned.outcome.name == "CARRIED_BACK", returned.outcome.cause
    assert (version(database), ask(database, "SELECT sum(cents) FROM sales")) == (2, 680)


def test_a_fresh_database_is_the_one_that_1_0_makes(tmp_path: Path, history: Path) -> None:
    theirs, ours = tmp_path / "theirs.db", tmp_path / "ours" / "ours.db"
    ours.parent.mkdir()
    drizzle.migrate(theirs, history, NEW)
    assert upgrade(ours, migration_folder.load(history)).name == "CREATED"
    with closing(connections.open_reading(ours)) as one, closing(connections.open_reading(theirs)) as other:
        assert (
            fingerprint(one) == fingerprint(other) == runner.fresh_structure(migration_folder.load(history)).sentences
        )
    rows = "SELECT group_concat(id || hash || created_at || name || (applied_at LIKE '20__-__-__T%.___Z')) {}"
    rows = rows.format("FROM __drizzle_migrations")
    assert ask(ours, rows) == ask(theirs, rows)
    before = dump(ours)
    drizzle.migrate(ours, history, NEW)
    assert dump(ours) == before
    assert check.check(folder=history, released=(drizzle.first_folders(history, 2),), scratch=tmp_path) == []


def in_one_second(journal: Path) -> None:
    """As if a script had generated them all at once."""
    said = json.loads(journal.read_text())
    for number, entry in enumerate(said["entries"]):
        entry["when"] = 1_700_000_000_000 + number
    journal.write_text(json.dumps(said))


@pytest.mark.long
def test_databases_of_the_older_layout_go_on_with_the_folder_that_drizzle_kit_up_makes_of_it(tmp_path: Path) -> None:
    old = drizzle.history(tmp_path / "old")
    in_one_second(old / "meta" / "_journal.json")
    project = Project(f"{tmp_path.name}-up", NEW)
    shutil.copytree(old, project.out)
    project.up()
    new = declaring(project.moved_to(tmp_path / "new"))
    found = migration_folder.load(new)
    assert [one.name.partition("_")[2] for one in found] == list(drizzle.STEPS)
    # Drizzle sorts by the whole name: it alters the table of products before there is one.
    with pytest.raises(subprocess.CalledProcessError, match="exit status"):
        drizzle.migrate(tmp_path / "theirs.db", new, NEW)
    tracked, untracked = tmp_path / "tracked" / "pos.db", tmp_path / "untracked" / "pos.db"
    for database in (tracked, untracked):
        database.parent.mkdir()
        drizzle.migrate(database, drizzle.first(old, 2))
        filled(database, *SHOP)
    assert upgrade(tracked, migration_folder.load(drizzle.first(old, 2))).name == "UP_TO_DATE"
    assert check.check(folder=new, released=(drizzle.first(old, 2),), scratch=tmp_path) == []
    for database in (tracked, untracked):
        outcome = upgrade(database, found)
        assert (outcome.name, outcome.version_before, outcome.version_after) == ("MIGRATED", 2, 4), outcome.cause
        assert ask(database, "SELECT count(*) FROM sales JOIN products ON products.id = productId") == 3
        drizzle.migrate(database, new, NEW)
        assert ask(database, NAMED) == ",".join(one.name for one in found), "1.0 knows each row for its migration"
        assert upgrade(database, found).name == "UP_TO_DATE"


@pytest.mark.parametrize("release", [pytest.param(drizzle.OLD, marks=pytest.mark.long), NEW])
def test_statements_of_ones_own_end_at_a_breakpoint_and_two_files_may_have_one_text(
    tmp_path: Path, release: str
) -> None:
    project = Project(f"{tmp_path.name}-own", release)
    project.generate("init", drizzle.BUSINESSES)
    for name in ("first", "second", "third"):
        project.custom(name)
    texts = dict.fromkeys(("first", "second"), "ANALYZE")
    # No semicolon: Drizzle cuts at the breakpoint.
    texts["third"] = "CREATE TABLE a (x)\n--> statement-breakpoint\nCREATE TABLE b (x)"
    for file in project.out.rglob("*.sql"):
        text = next((text for name, text in texts.items() if name in str(file)), None)
        file.write_text(text or file.read_text())
    folder = project.moved_to(tmp_path / "m")
    found = migration_folder.load(folder)
    assert found[1].sha256 == found[2].sha256
    theirs, ours = tmp_path / "theirs.db", tmp_path / "ours" / "ours.db"
    drizzle.migrate(theirs, folder, release)
    outcome = upgrade(theirs, found)
    assert (outcome.name, version(theirs)) == ("UP_TO_DATE", 4), outcome.cause
    ours.parent.mkdir()
    assert upgrade(ours, found).name == "CREATED"
    with closing(connections.open_reading(ours)) as one, closing(connections.open_reading(theirs)) as other:
        assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("spoil", "name", "cause"),
    [
        (
            "UPDATE __drizzle_migrations SET hash = 'f00' WHERE rowid = 2",
            "HISTORY_DIFFERS",
            "barcode with another text",
        ),
        ("UPDATE __drizzle_migrations SET name = 'x', hash = 'f00'", "HISTORY_DIFFERS", "a migration with hash f00"),
        ("DELETE FROM __drizzle_migrations WHERE rowid = 1", "UNTRACKED", "init, which comes before it"),
        ("ALTER TABLE __drizzle_migrations RENAME TO log", "HISTORY_DIFFERS", "to be in log (migrationsTable)"),
    ],
)
def test_what_the_table_of_1_0_leaves_in_doubt_is_not_guessed(
    tmp_path: Path, history: Path, spoil: str, name: str, cause: str
) -> None:
    database = tmp_path / "pos.db"
    drizzle.migrate(database, drizzle.first_folders(history, 2), NEW)
    filled(database, *SHOP, spoil)
    before = dump(database)
    outcome = upgrade(database, migration_folder.load(history))
    assert (outcome.name, cause in outcome.cause) == (name, True), outcome.cause
    assert dump(database) == before


def journal(folder: Path) -> None:
    (folder / "meta").mkdir()
    (folder / "meta" / "_journal.json").write_text('{"dialect": "sqlite", "entries": []}')


def twice_in_the_journal(folder: Path) -> None:
    entry = '{"tag": "0000_a", "when": 1}'
    (folder / "meta").mkdir()
    (folder / "meta" / "_journal.json").write_text(f'{{"dialect": "sqlite", "entries": [{entry}, {entry}]}}')
    shutil.rmtree(folder / "20240131120000_a")


def lost_in_the_journal(folder: Path) -> None:
    shutil.rmtree(folder / "20240131120000_a")
    journal(folder)
    (folder / "seed.sql").touch()
    assert migration_folder.load(folder) == (), "what has no number is nobody's migration"
    (folder / "0003_b.sql").touch()


def lost_on_the_way(folder: Path) -> None:
    (folder / "20240131120001_b").mkdir()
    (folder / "20240131120001_b" / "snapshot.json").write_text("{}")


def prisma(folder: Path) -> None:
    (folder / "migration_lock.toml").write_text('provider = "sqlite"\n')


def postgres(folder: Path) -> None:
    (folder / "20240131120000_a" / "snapshot.json").write_text('{"dialect": "postgres"}')


def torn(folder: Path) -> None:
    (folder / "20240131120000_a" / "snapshot.json").write_text('{"dialect":')


def a_list(folder: Path) -> None:
    (folder / "20240131120000_a" / "snapshot.json").write_text("[]")


def no_time(folder: Path) -> None:
    (folder / "20240131120000_a").rename(folder / "first")


def one_second(folder: Path) -> None:
    shutil.copytree(folder / "20240131120000_a", folder / "20240131120000_b")


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (journal, "it is in both of Drizzle's layouts .*: `drizzle-kit up` makes it one"),
        (twice_in_the_journal, "0000_a is in it more than once"),
        (lost_in_the_journal, "it does not name 0003_b.sql: a merge may have lost it"),
        (lost_on_the_way, "20240131120001_b has no migration.sql"),
        (prisma, "a folder of Prisma's, which is not read"),
        (postgres, "it is for postgres, not for SQLite"),
        (torn, "it is no snapshot of Drizzle's"),
        (a_list, "it is no snapshot of Drizzle's"),
        (no_time, "does not begin with a time"),
        (
            one_second,
            "without snapshot.json nobody can tell which .* comes first: 20240131120000_a or 20240131120000_b",
        ),
    ],
)
def test_a_folder_that_is_not_clearly_drizzles_is_refused_by_name(tmp_path: Path, spoil: object, cause: str) -> None:
    folder = tmp_path / "m"
    (folder / "20240131120000_a").mkdir(parents=True)
    (folder / "20240131120000_a" / "migration.sql").write_text("CREATE TABLE a (x);")
    assert [one.name for one in migration_folder.load(folder)] == ["20240131120000_a"], "snapshots may be left out"
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(BadMigrations, match=cause):
        migration_folder.load(folder)
