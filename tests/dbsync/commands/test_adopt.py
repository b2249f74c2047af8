"""Databases without a history of ours: known by structure and their tool's words, or by a person's; never guessed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbsync import api
from dbsync.commands import adopt
from dbsync.errors import Untracked
from dbsync.migrations import folder as migration_folder
from dbsync.model import Migration, MigrationKind, Recognised, SchemaNumber, Sha256, TrialId
from dbsync.upgrade import coordinator
from dbsync.upgrade.adoption_decision import Adopt, decide_adoption
from dbsync.upgrade.decisions import Refuse
from tests.helpers import forks
from tests.helpers.shop import ask, dump, effects, files, make_shop, released, upgrade, version, written


def untracked(folder: Path, schema: int, *, user_version: int = 0, readable: bool = False) -> Path:
    """A shop whose history is gone, as if another program had made it."""
    database = make_shop(folder, schema=schema)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("DROP TABLE dbsync_history")
        if not readable:
            live.execute("DROP TABLE schema_version")
        live.execute(f"PRAGMA user_version={user_version}")
    for path in (database.parent / "backups").iterdir():
        path.unlink()
    return database


def run(database: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forks.run(["-m", "dbsync", *words, "--database", database, "--migrations", folder])


def content(database: Path) -> list[str]:
    """Everything but the histories and the number."""
    ours = ("dbsync_history", "schema_version", "version ")
    return [line for line in dump(database) if not any(one in line for one in ours)]


# ---------------------------------------------------------------------------------------------------------- deciding


def of(count: int) -> tuple[Migration, ...]:
    return tuple(
        Migration(SchemaNumber(number), f"m{number}", "", Sha256(""), (), None, (), MigrationKind.SQL, Path("m"))
        for number in range(1, count + 1)
    )


def seen(*fits: int, recorded: str | None = None, unknown: str = "", user_version: int = 0) -> Recognised:
    names = None if recorded is None else frozenset(recorded.split())
    return Recognised(
        user_version,
        names,
        tuple(unknown.split()),
        tuple(map(SchemaNumber, fits)),
        "" if fits else "nearest is schema 2, with x",
    )


@pytest.mark.parametrize(
    ("found", "at", "expected"),
    [
        (seen(2), None, 2),
        (seen(0), None, 0),
        (seen(2, recorded="m1 m2"), None, 2),
        (seen(2, 3, recorded="m1 m2 m3"), None, 3),
        (seen(2, 3), 3, 3),
        (seen(2, 3), None, "its structure is that of 2 and 3, which differ in content only"),
        (seen(2), 3, "it is not at 3: what shows it says 2"),
        (seen(2, 3, recorded="m1 m2"), 3, "it is not at 3: what shows it says 2"),
        (seen(), None, "its structure is none of this release's: nearest is schema 2"),
        (seen(3, recorded="m1 m2"), None, "says that it had 2 migrations, and its structure is that of 3"),
        (seen(2, recorded=""), None, "says that it had 0 migrations, and its structure is that of 2"),
        (seen(2, recorded="m1 m3"), None, "it had m3 and never m2, which comes before it"),
        (seen(2, recorded="m1", unknown="other"), None, "its own table names other, which is not here"),
        (seen(4, recorded="m1 m2 m3 m4", unknown="m5"), None, "the database has m5, which this release does not know"),
        (seen(2, user_version=9), None, "the app keeps 9 in user_version, where dbsync would keep 2"),
        (seen(2, user_version=2), None, 2),
    ],
)
def test_two_witnesses_have_to_agree(found: Recognised, at: int | None, expected: int | str) -> None:
    step = decide_adoption(found, of(4), SchemaNumber(at) if at is not None else None)
    if isinstance(expected, int):
        assert step == Adopt(SchemaNumber(expected))
    else:
        assert isinstance(step, Refuse)
        assert expected in step.cause
        assert step.hint


# ------------------------------------------------------------------------------------------------------------- doing


def test_the_first_start_takes_over_a_database_that_it_knows_by_its_structure(tmp_path: Path) -> None:
    database = untracked(tmp_path, 3)
    before = content(database)
    assert upgrade(database, released(tmp_path, 3)).name == "UP_TO_DATE"
    assert content(database) == before
    assert version(database) == 3
    assert ask(database, "SELECT group_concat(kind) FROM dbsync_history") == "adopted,adopted,adopted"
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, outcome.version_before) == ("MIGRATED", 3)


def test_only_the_readable_history_speaks_and_goes_by_name(tmp_path: Path) -> None:
    """schema_version says 2 and user_version 0: an app was released that way."""
    database = untracked(tmp_path, 2, readable=True)
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, outcome.version_before) == ("MIGRATED", 2), outcome.cause


def test_a_program_in_the_folder_hides_no_schema_before_it(tmp_path: Path) -> None:
    found = written(tmp_path / "m", "CREATE TABLE a (x);", "CREATE TABLE b (x);")
    folder = found[0].path.parent
    (folder / "0003_tool.toml").write_text('command = ["{python}", "-c", "", "{database}"]\n')
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE a (x)")
        live.execute("CREATE TABLE b (x)")
    outcome = upgrade(database, migration_folder.load(folder))
    assert (outcome.name, outcome.version_before, version(database)) == ("MIGRATED", 2, 3), outcome.cause
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as live, live:
        live.execute("CREATE TABLE c (x)")
    before = other.read_bytes()
    outcome = upgrade(other, migration_folder.load(folder))
    assert outcome.name == "UNTRACKED"
    assert "schema 3 is a program's, and not known without running it" in outcome.cause
    assert other.read_bytes() == before


def test_trackers_that_disagree_are_an_unclear_version_and_nothing_is_touched(tmp_path: Path) -> None:
    database = untracked(tmp_path, 2, readable=True)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("INSERT INTO schema_version VALUES (3, 'add_categories_parent_id', '')")
    before = database.read_bytes()
    outcome = upgrade(database, released(tmp_path, 4))
    assert outcome.name == "UNTRACKED"
    assert "says that it had 3 migrations, and its structure is that of 2" in outcome.cause
    assert database.read_bytes() == before
    # A number that is not an identity: another product's second migration has another name.
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("DELETE FROM schema_version WHERE version > 1")
        live.execute("INSERT INTO schema_version VALUES (2, 'add_discount_fields', '')")
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, "add_discount_fields" in outcome.cause) == ("HISTORY_DIFFERS", True)


def test_baseline_says_what_it_found_writes_it_and_keeps_what_was(tmp_path: Path) -> None:
    database, folder = untracked(tmp_path, 2), released(tmp_path, 4)[0].path.parent
    bytes_before, before = database.read_bytes(), content(database)
    told = run(database, folder, "baseline", "--dry-run", "--json")
    assert json.loads(told.stdout) == {"format": 1, "schema": 2, "of": 4, "written": False}
    assert database.read_bytes() == bytes_before
    assert run(database, folder, "baseline").returncode == 0
    assert (version(database), content(database)) == (2, before)
    (kept,) = database.parent.glob("pos_system-backup-before-baseline-*.db")
    assert version(kept) == 0
    again = run(database, folder, "baseline")
    assert again.returncode == 4
    assert "it is tracked already, at schema 2" in again.stderr
    assert run(database, folder, "upgrade").returncode == 0
    assert version(database) == 4


def test_a_schema_that_cannot_be_made_here_is_said_to_be_so(tmp_path: Path) -> None:
    """A function or collation of the app is no obstacle to a structure; a module that is not there is."""
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as live, live:
        live.create_collation("german", lambda one, other: (one > other) - (one < other))
        live.execute("CREATE TABLE a (name TEXT COLLATE german UNIQUE)")
        live.execute("PRAGMA writable_schema=ON")
        sql = "CREATE VIRTUAL TABLE vec USING vec0(embedding float[4])"
        live.execute("INSERT INTO sqlite_master VALUES ('table', 'vec', 'vec', 0, ?)", (sql,))
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "0001_initial_schema.sql").write_text(f"{sql};")
    before = database.read_bytes()
    refused = run(database, folder, "baseline")
    assert (refused.returncode, "schema 1 cannot be made: no such module: vec0" in refused.stderr) == (4, True)
    assert database.read_bytes() == before
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("PRAGMA writable_schema=ON")
        live.execute("DELETE FROM sqlite_master WHERE name = 'vec'")
    with closing(sqlite3.connect(database)) as live:
        (folder / "0001_initial_schema.sql").write_text(adopt.written_schema(live))
    adopted = run(database, folder, "baseline")
    assert (adopted.returncode, version(database)) == (0, 1), adopted.stderr


def test_what_differs_in_content_only_is_asked_for(tmp_path: Path) -> None:
    found = written(tmp_path / "m", "CREATE TABLE a (x);", "UPDATE a SET x = 1;")
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE a (x)")
    folder = found[0].path.parent
    assert "pass one with --at" in run(database, folder, "baseline").stderr
    assert run(database, folder, "baseline", "--at", "1").returncode == 0
    assert version(database) == 1


def test_a_persons_word_is_taken_after_a_copy(tmp_path: Path) -> None:
    database, folder = untracked(tmp_path, 2), released(tmp_path, 4)[0].path.parent
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("ALTER TABLE products ADD COLUMN shelf TEXT")
    refused = run(database, folder, "baseline")
    assert refused.returncode == 4
    assert "nearest is schema 2, with column products.shelf" in refused.stderr
    assert run(database, folder, "stamp", "--at", "2", "--json").returncode == 4, "nobody agreed"
    assert run(database, folder, "stamp", "--at", "9", "--yes").returncode == 4
    assert version(database) == 0
    assert run(database, folder, "stamp", "--at", "2", "--yes").returncode == 0
    assert ask(database, "SELECT group_concat(DISTINCT kind) FROM dbsync_history") == "stamped"
    assert len(list(database.parent.glob("*before-stamp*.db"))) == 1
    # The column that nobody's release made was there before: it stops no update.
    assert run(database, folder, "upgrade").returncode == 0
    assert ask(database, "SELECT count(*) FROM pragma_table_info('products') WHERE name = 'shelf'") == 1


def test_stamp_is_the_way_on_where_a_released_migration_was_edited(tmp_path: Path) -> None:
    database, folder = make_shop(tmp_path, schema=2), released(tmp_path, 4)[0].path.parent
    edited = folder / "0002_add_business_contact_fields.py"
    edited.write_text(edited.read_text() + "\n# a comment that came later\n")
    assert upgrade(database, migration_folder.load(folder)).name == "HISTORY_DIFFERS"
    assert run(database, folder, "stamp", "--at", "2", "--yes").returncode == 0
    assert upgrade(database, migration_folder.load(folder)).name == "MIGRATED"


def test_a_schema_is_written_as_the_first_migration_and_fits(tmp_path: Path) -> None:
    database = untracked(tmp_path, 4)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE VIEW cheap AS SELECT * FROM products WHERE priceCents < 100")
        live.execute("CREATE TABLE __drizzle_migrations (id, hash, created_at)")
        live.execute("CREATE VIRTUAL TABLE search USING fts5(name)")
    folder = tmp_path / "mine"
    folder.mkdir()
    file = folder / "0001_initial_schema.sql"
    words: list[str | Path] = ["-m", "dbsync", "write-schema", file, "--database", database]
    assert forks.run(words).returncode == 0
    assert "drizzle" not in file.read_text()
    assert "search_data" not in file.read_text()
    assert forks.run(words).returncode == 4, "a file of that name stays"
    assert api.adopt_database(database=database, folder=folder) == 1
    assert upgrade(database, migration_folder.load(folder)).name == "UP_TO_DATE"
    assert run(database, folder, "check").returncode == 0


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_there_has_to_be_a_database(tmp_path: Path, kind: str) -> None:
    database = tmp_path / "app.db"
    if kind == "empty":
        database.touch()
    with pytest.raises(Untracked, match=f"it is {kind}"):
        api.adopt_database(database=database, folder=released(tmp_path, 2)[0].path.parent)
    assert files(tmp_path) >= ({"app.db"} if kind == "empty" else set())
    assert not list(tmp_path.glob("*before*"))


def test_nothing_is_written_into_a_database_whose_list_of_free_pages_is_damaged(tmp_path: Path) -> None:
    database = tmp_path / "app.db"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT)")
        live.execute("CREATE TABLE gone (x)")
        live.execute("INSERT INTO gone VALUES (zeroblob(100000))")
        live.commit()
        live.execute("DROP TABLE gone")
    with database.open("r+b") as file:
        trunk = int.from_bytes(file.read(36)[32:])
        file.seek((trunk - 1) * 4096 + 8)
        # The next page to be used would be far behind the end of any disk.
        file.write((100_000_000).to_bytes(4) * 20)
    before = database.read_bytes()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "0001_first.sql").write_text("CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT);")
    done = run(database, tmp_path / "m", "stamp", "--at", "1", "--yes")
    assert done.returncode == 4
    assert "dbsync repair" in done.stdout + done.stderr
    assert database.read_bytes() == before
    assert not list(tmp_path.glob("*before*"))
    assert upgrade(database, migration_folder.load(tmp_path / "m"), trial_id="t1").name == "DAMAGED"
    assert database.read_bytes() == before


# ------------------------------------------------------------------------------------- what fails again and again


def test_what_failed_twice_in_the_same_way_is_not_tried_a_third_time(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4, duplicate_sku=True)
    found, before = released(tmp_path, 6), dump(database)
    first, second = upgrade(database, found), upgrade(database, found)
    assert first.name == second.name == "MIGRATION_FAILED"
    copies = files(database.parent)
    third = upgrade(database, found)
    assert (third.name, third.failed) == ("FAILED_BEFORE", True)
    assert first.cause in third.cause
    assert "--again" in third.hint
    assert (dump(database), files(database.parent)) == (before, copies), "no backup was made for it"
    # A person can have it tried, and a release that changes the migrations is another matter.
    assert upgrade(database, found, again=True).name == "MIGRATION_FAILED"
    assert upgrade(database, released(tmp_path, 6, mended=True)).name == "MIGRATED"


def test_what_failed_twice_in_one_trial_is_not_tried_a_third_time_in_it(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4, duplicate_sku=True)
    found = released(tmp_path, 6)
    names = [
        coordinator.upgrade(effects(database), migrations=found, trial_id=trial_id).name
        for trial_id in (TrialId("t1"), TrialId("t1"), TrialId("t1"), TrialId("t2"), None)
    ]
    assert names == [
        "MIGRATION_FAILED", "MIGRATION_FAILED", "FAILED_BEFORE", "MIGRATION_FAILED", "MIGRATION_FAILED",
    ]  # fmt: skip
    assert version(database) == 4


def test_another_trial_and_another_way_of_failing_are_tried(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4, duplicate_sku=True)
    found = released(tmp_path, 6)
    for _ in range(2):
        upgrade(database, found)
    assert upgrade(database, found, trial_id="t1").name == "MIGRATION_FAILED"
    with closing(sqlite3.connect(database)) as live, live:
        live.execute(
            "DELETE FROM products WHERE rowid IN (SELECT max(rowid) FROM products GROUP BY sku HAVING count(*) > 1)"
        )
    assert upgrade(database, found).name == "FAILED_BEFORE", "it is not known that somebody mended the rows"
    assert upgrade(database, found, again=True).name == "MIGRATED"


def test_runs_that_die_count_apart_and_longer(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    found, before = released(tmp_path, 4), dump(database)
    text = (
        "import os, sys; from dbsync import api; from dbsync.database.live import LiveEffects\n"
        "LiveEffects.apply = lambda *_: os._exit(9)\n"
        "api.run_migrations(database=sys.argv[1], folder=sys.argv[2], backups=sys.argv[3])"
    )
    backups = database.parent / "backups"
    words = [sys.executable, "-c", text, str(database), str(found[0].path.parent), str(backups)]
    for _ in range(10):
        assert subprocess.run(words, check=False).returncode == 9
    outcome = upgrade(database, found)
    assert outcome.name == "FAILED_BEFORE"
    assert "10 runs of it were cut" in outcome.cause
    assert dump(database) == before
    assert upgrade(database, released(tmp_path, 3)).ready, "another run is another matter"
    assert upgrade(database, found).ready


QUOTED = """
CREATE TABLE sale (id INTEGER PRIMARY KEY, status TEXT DEFAULT "open", old TEXT, CHECK (status IN ("open", "Paid")));
CREATE INDEX sale_open ON sale(id) WHERE status = "open";
CREATE VIEW unpaid AS SELECT id FROM sale WHERE status <> "Paid";
CREATE TRIGGER settled AFTER UPDATE ON sale WHEN new.status = "Paid" BEGIN UPDATE sale SET old = "was " || id; END;
"""
OBJECTS = "CREATE TABLE sale (id INTEGER PRIMARY KEY, status TEXT, old TEXT);\n"
REBUILT = '''"""A rebuild with the definition that there is."""
def up(db):
    db.not_null("sale", "status", "'open'")
'''


def write_schema(database: Path, folder: Path) -> None:
    target = folder / "0001_initial_schema.sql"
    assert forks.run(["-m", "dbsync", "write-schema", target, "--database", database]).returncode == 0


@pytest.mark.parametrize("schema", [QUOTED, *(OBJECTS + line for line in QUOTED.splitlines()[2:])])
def test_a_schema_with_strings_in_double_quotes_is_taken_over(tmp_path: Path, schema: str) -> None:
    database = tmp_path / "data" / "app.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as live, live:
        live.executescript(schema)
        live.execute("INSERT INTO sale (status, old) VALUES ('Paid', 'x')")
    folder = tmp_path / "m"
    folder.mkdir()
    write_schema(database, folder)
    assert "\n-- strings: double-quoted\n" in (folder / "0001_initial_schema.sql").read_text()
    done = run(database, folder, "baseline")
    assert done.returncode == 0, done.stderr
    (folder / "0002_note.sql").write_text("ALTER TABLE sale ADD COLUMN note TEXT;")
    (folder / "0003_rebuilt.py").write_text(REBUILT)
    done = run(database, folder, "upgrade")
    assert done.returncode == 0, done.stdout
    assert ask(database, "SELECT status || old FROM sale") == "Paidx"
    fresh = tmp_path / "fresh" / "new.db"
    fresh.parent.mkdir()
    assert run(fresh, folder, "upgrade").returncode == 0, "a new shop is made by the same text"
    assert version(fresh) == version(database) == 3


def test_the_rule_for_new_sql_stays_for_every_other_text(tmp_path: Path) -> None:
    database, folder = untracked(tmp_path, 2), tmp_path / "m"
    folder.mkdir()
    write_schema(database, folder)
    assert "strings" not in (folder / "0001_initial_schema.sql").read_text()
    assert run(database, folder, "baseline").returncode == 0
    (folder / "0002_set.sql").write_text('UPDATE products SET name = "nmae";')
    done = run(database, folder, "upgrade")
    assert "no such column: nmae" in done.stdout
    assert "Above the text of an existing schema, write `-- strings: double-quoted`" in done.stdout
    (folder / "0002_set.sql").write_text("-- strings: single\nSELECT 1;")
    assert "strings can only be 'double-quoted', not 'single'" in run(database, folder, "upgrade").stderr
    assert version(database) == 1
