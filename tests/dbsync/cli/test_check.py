"""`dbsync check` in CI, and `dbsync diff` and `downgrade` for people: as processes, with what they print."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers import forks
from tests.helpers.places import ROOT
from tests.helpers.shop import dump, files, make_shop, released, sales, sell, upgrade, version
from tests.sample_till.bundles import copy_migrations

UNTRIED = "not tried on the rows of a shop: pass --database"


def dbsync(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """`dbsync …`, with nobody at the console."""
    return forks.run(["-m", "dbsync", *words], cwd=ROOT)


def test_the_sample_tills_migrations_pass_against_every_earlier_release(tmp_path: Path) -> None:
    for schema in (2, 4, 5, 6):
        copy_migrations(tmp_path / f"m{schema}", schema=schema)
    copy_migrations(tmp_path / "mended", schema=6, mended=True)
    earlier = [word for schema in (2, 4, 5, 6) for word in ("--released", tmp_path / f"m{schema}")]
    done = dbsync("check", "--migrations", tmp_path / "mended", *earlier)
    assert (done.returncode, done.stdout) == (0, f"{UNTRIED}\nnothing to say against it\n"), done.stdout + done.stderr


def test_a_mended_migration_that_ends_elsewhere_is_refused(tmp_path: Path) -> None:
    copy_migrations(tmp_path / "m6", schema=6)
    copy_migrations(tmp_path / "mended", schema=6, mended=True)
    path = next((tmp_path / "mended").glob("0006*"))
    path.write_text(
        path.read_text(encoding="utf-8").replace("products(sku, businessId)", "products(sku)"), encoding="utf-8"
    )
    done = dbsync("check", "--migrations", tmp_path / "mended", "--released", tmp_path / "m6")
    assert (done.returncode, "it ends in another structure than what it replaces" in done.stdout) == (1, True)


def test_a_folder_without_migrations_never_passes(tmp_path: Path) -> None:
    copy_migrations(tmp_path / "m", schema=2)
    (tmp_path / "build").mkdir()
    for given in (
        ("--migrations", tmp_path / "build"),
        ("--migrations", tmp_path / "m", "--released", tmp_path / "build"),
    ):
        done = dbsync("check", *given)
        assert (done.returncode, "there is no migration in the folder" in done.stdout) == (1, True), done.stdout


@pytest.mark.parametrize("which", ["empty", "newer", "another app's"])
def test_a_database_on_which_nothing_can_be_tried_never_passes(tmp_path: Path, which: str) -> None:
    database = make_shop(tmp_path, schema=4)
    copy_migrations(tmp_path / "m", schema=2)
    if which != "newer":
        database.unlink()
        with closing(sqlite3.connect(database)) as live:
            live.executescript("CREATE TABLE notes (id)" if which != "empty" else "")
    before = files(tmp_path)
    done = dbsync("check", "--migrations", tmp_path / "m", "--database", database)
    assert (done.returncode, "nothing could be tried on it" in done.stdout) == (1, True), done.stdout
    assert files(tmp_path) == before


def test_a_database_whose_history_is_not_these_migrations_never_passes(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    copy_migrations(tmp_path / "m", schema=4)
    edited = next((tmp_path / "m").glob("0002*"))
    edited.write_text(edited.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    done = dbsync("check", "--migrations", tmp_path / "m", "--database", database)
    assert (done.returncode, "was changed after the database had taken it" in done.stdout) == (1, True), done.stdout
    tried = dbsync("upgrade", "--migrations", tmp_path / "m", "--database", database)
    assert (tried.returncode, "HISTORY_DIFFERS" in tried.stdout) == (4, True), "refused before anything is tried"
    assert version(database) == 2


def test_a_file_that_an_editor_named_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    copy_migrations(tmp_path / "m", schema=2)
    (tmp_path / "m" / "0003_more.sql.txt").write_text("SELECT 1;")
    (tmp_path / "m" / "README.md").write_text("What these are.")
    (problem,) = json.loads(dbsync("check", "--migrations", tmp_path / "m", "--json").stdout)["problems"]
    assert problem["where"].endswith("0003_more.sql.txt")
    assert "looks like a migration but has an unsupported extension" in problem["what"]


def test_a_database_without_our_history_is_tried_from_the_schema_that_it_has(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    with closing(sqlite3.connect(database)) as live, live:
        live.executescript("DROP TABLE dbsync_history; DROP TABLE schema_version; PRAGMA user_version=0;")
    copy_migrations(tmp_path / "m", schema=4)
    done = dbsync("check", "--migrations", tmp_path / "m", "--database", database)
    assert (done.returncode, done.stdout.endswith("\nnothing to say against it\n")) == (0, True), done.stdout
    assert version(database) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ALTER TABLE users DROP COLUMN role;", "it drops a column without a declaration"),
        ("-- changes: destroy it\nSELECT 1;", "is not understood"),
        ("CREATE TABLE users (again);", "already exists"),
    ],
)
def test_what_is_risky_or_wrong_is_named_with_the_safe_way(tmp_path: Path, text: str, words: str) -> None:
    copy_migrations(tmp_path / "m", schema=5)
    (tmp_path / "m" / "0006_step.sql").write_text(text)
    done = dbsync("check", "--migrations", tmp_path / "m")
    assert (done.returncode, words in done.stdout) == (1, True), done.stdout
    told = json.loads(dbsync("check", "--migrations", tmp_path / "m", "--json").stdout)
    assert any(words in one["what"] for one in told["problems"])


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("0006_step.sql", "UPDATE gone SET a = 1;", "0006_step: no such table: gone (line 1: "),
        (
            "0006_step.py",
            'def up(db):\n    db.execute("UPDATE gone SET a = 1")\n',
            "0006_step: no such table: gone (line 2: ",
        ),
        (
            "0006_step.py",
            'def up(db):\n    db.add_unique("users", "id")\n',
            '0006_step: columns must be a list of strings: ["id"]',
        ),
    ],
)
def test_a_migration_that_fails_is_named_once(tmp_path: Path, name: str, text: str, told: str) -> None:
    copy_migrations(tmp_path / "m", schema=5)
    (tmp_path / "m" / name).write_text(text)
    done = dbsync("check", "--migrations", tmp_path / "m")
    (line,) = [line for line in done.stdout.splitlines() if not line.startswith(("from schema", "needs"))]
    assert (done.returncode, line.startswith(told)) == (1, True), done.stdout


def test_a_migration_that_fails_on_rows_is_named_with_its_way_out(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=5)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("CREATE TABLE local (a); ")
        live.execute("INSERT INTO local VALUES (1), (1)")
    copy_migrations(tmp_path / "m", schema=5)
    step = 'def up(db):\n    if db.columns("local"):\n        db.add_unique("local", ["a"])\n'
    (tmp_path / "m" / "0006_step.py").write_text(step)
    assert UNTRIED in dbsync("check", "--migrations", tmp_path / "m").stdout, "a fresh database has no such rows"
    done = dbsync("check", "--migrations", tmp_path / "m", "--database", database)
    where, way_out = done.stdout.splitlines()
    assert where.startswith(f"0006_step: on {database}: 1 rows of local repeat a, keys 2")
    assert 'settle="suffix"' in way_out


@pytest.mark.parametrize("how", ["edited", "missing", "renamed"])
def test_released_migrations_stay_as_they_were(tmp_path: Path, how: str) -> None:
    copy_migrations(tmp_path / "m4", schema=4)
    copy_migrations(tmp_path / "m5", schema=5 if how != "missing" else 3)
    path = tmp_path / "m5" / "0003_add_categories_parent_id.py"
    if how == "edited":
        path.write_text(path.read_text(encoding="utf-8") + "# later\n", encoding="utf-8")
    elif how == "renamed":
        path.rename(path.with_name("0003_other.py"))
    done = dbsync("check", "--migrations", tmp_path / "m5", "--released", tmp_path / "m4")
    assert done.returncode == 1
    assert {"edited": "was changed", "missing": "is missing", "renamed": "is now called other"}[how] in done.stdout


def test_on_a_copy_it_prints_the_header_to_paste_and_finds_what_is_not_the_same_twice(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=5)
    before = (database.read_bytes(), files(database.parent))
    copy_migrations(tmp_path / "m", schema=5)
    step = tmp_path / "m" / "0006_step.sql"
    step.write_text("UPDATE products SET priceCents = priceCents + 1 WHERE id < 'p2';")
    done = dbsync("check", "--migrations", tmp_path / "m", "--database", database)
    assert done.returncode == 1
    assert "-- changes: update products.priceCents" in done.stdout
    step.write_text("-- changes: update products.priceCents\n" + step.read_text())
    assert dbsync("check", "--migrations", tmp_path / "m", "--database", database).returncode == 0
    step.write_text("CREATE TABLE log (a, at DEFAULT CURRENT_TIMESTAMP); INSERT INTO log (a) SELECT id FROM products;")
    done = dbsync("check", "--migrations", tmp_path / "m", "--database", database)
    assert "log: two runs come to different rows: they depend on the clock" in done.stdout
    assert (database.read_bytes(), files(database.parent)) == before


def test_diff_says_what_people_did_and_downgrade_goes_back_with_it(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    assert upgrade(database, released(tmp_path, 5)).ready
    sell(database, 4)
    place = ("--database", database, "--prefix", "auraswift", "--migrations", tmp_path / "migrations-5")
    before = (dump(database), files(database.parent))
    told = json.loads(dbsync("diff", *place, "--json").stdout)
    assert (told["lossless"], told["lost"]) == (True, [])
    assert told["done"] == [{"table": "transactions", "added": 4, "changed": 0, "removed": 0}]
    assert (dump(database), files(database.parent)) == before
    refused = dbsync("downgrade", *place)
    assert (refused.returncode, dump(database)) == (4, before[0]), "nobody answered"
    done = dbsync("downgrade", *place, "--yes")
    assert (done.returncode, "CARRIED_BACK" in done.stdout) == (0, True), done.stdout + done.stderr
    assert (version(database), sales(database)) == (2, 104)
    (aside,) = database.parent.glob("*before-restore*.db")
    assert (version(aside), sales(aside)) == (5, 104)


def test_a_downgrade_that_loses_something_has_to_be_agreed_to(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    assert upgrade(database, released(tmp_path, 5)).ready
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("UPDATE products SET barcode = '1' WHERE id = 'p1'")
    place = ("--database", database, "--prefix", "auraswift", "--migrations", tmp_path / "migrations-5")
    export = tmp_path / "export"
    assert json.loads(dbsync("diff", *place, "--json").stdout)["parked"] is None
    assert json.loads(dbsync("diff", *place, "--json", "--export", export).stdout)["parked"] == str(
        export / "parked.jsonl"
    )
    shown = dbsync("diff", *place, "--export", export)
    assert "products: 0 added, 1 changed, 0 removed" in shown.stdout.partition("going back would lose")[2]
    assert (export / "products.csv").exists()
    done = dbsync("downgrade", *place, "--yes")
    assert (done.returncode, "something would be lost" in done.stdout) == (5, True), done.stdout
    assert version(database) == 5
    done = dbsync("downgrade", *place, "--yes", "--accept-loss")
    assert (done.returncode, version(database)) == (6, 2)


def test_what_to_declare_is_shown_in_the_language_of_the_file(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    copy_migrations(tmp_path / "m", schema=4)
    step = tmp_path / "m" / "0005_step.py"
    body = '\n\n\ndef up(db):\n    db.execute("UPDATE products SET priceCents = priceCents + 1")\n'
    body += '    db.execute("DELETE FROM users WHERE rowid = 1")\n'
    body += '    db.execute("UPDATE categories SET name = name || 1")\n'
    step.write_text('"""A step."""\nchanges = ["update categories.name"]' + body)
    words = ("check", "--migrations", tmp_path / "m", "--database", database)
    done = dbsync(*words)
    line = next(line.strip() for line in done.stdout.splitlines() if line.strip().startswith("changes ="))
    assert line == 'changes = ["update categories.name", "delete users", "update products.priceCents"]', done.stdout
    step.write_text(f'"""A step."""\n{line}{body}')
    assert "without" not in dbsync(*words).stdout
    assert not [one for one in json.loads(dbsync(*words, "--json").stdout)["problems"] if "changes" in one["safe"]]


def test_a_downgrade_is_shown_and_goes_to_the_schema_that_is_asked_for(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    for schema in (3, 4):
        assert upgrade(database, released(tmp_path, schema)).ready
    place = ("--database", database, "--migrations", tmp_path / "migrations-4", "--prefix", "auraswift")
    before = (database.read_bytes(), files(database.parent))
    shown = dbsync("downgrade", *place, "--to", "2", "--dry-run")
    assert (shown.returncode, "(schema 2, made" in shown.stdout) == (0, True), shown.stdout + shown.stderr
    assert (database.read_bytes(), files(database.parent)) == before
    refused = dbsync("downgrade", *place, "--to", "1", "--yes")
    assert "there is no good migration backup of schema 1, only of 2, 3" in refused.stderr
    assert refused.returncode == 4
    assert (database.read_bytes(), files(database.parent)) == before
    assert dbsync("downgrade", *place, "--to", "2", "--yes").returncode == 0
    assert version(database) == 2
