"""Rehearsing, emptying, importing, pruning backups: by the command, and what is left on the disk after each."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from dbsync.__main__ import main
from dbsync.model import Intent, SchemaNumber
from dbsync.storage import connections
from dbsync.upgrade import restore_decision
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.shop import ask, dump, effects, files, make_shop, released, sales, sell, upgrade, version
from tests.sample_till.fill import fill


def place(database: Path, schema: int) -> list[str | Path]:
    """The options of a command."""
    released(database.parent.parent, schema)
    folder = database.parent.parent / f"migrations-{schema}"
    return ["--database", database, "--prefix", "auraswift", "--migrations", folder]


def test_a_rehearsal_beside_a_running_app_tells_how_it_would_go_and_leaves_nothing(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2, wal=True)
    with closing(sqlite3.connect(database)) as app:
        app.execute("SELECT count(*) FROM products").fetchone()
        sell(database)
        before = (dump(database), files(database.parent / "backups"))
        told = json.loads(dbsync("rehearse", *place(database, 5), "--json").stdout)
        assert (told["good"], told["cause"]) == (True, "")
        assert [one.split()[0] for one in told["migrations"]] == ["v3", "v4", "v5"]
        assert told["peak_bytes"] >= told["size_bytes"] > 0
        sell(database)
    assert sales(database) == 102
    assert (before[0][0], files(database.parent / "backups")) == ("version 2", before[1])


def test_a_rehearsal_finds_what_this_shop_does_not_allow(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4, duplicate_sku=True)
    before = (dump(database), files(database.parent))
    done = dbsync("rehearse", *place(database, 6))
    assert done.returncode == 1
    assert "IT WOULD FAIL" in done.stdout
    assert "UNIQUE constraint failed: products.sku" in done.stdout
    assert (dump(database), files(database.parent)) == before


def test_emptying_keeps_the_shop_beside_and_starts_with_the_newest_schema(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    refused = dbsync("empty", *place(database, 5), "--json")
    assert (refused.returncode, sales(database)) == (4, 100)
    done = dbsync("empty", *place(database, 5), "--yes", "--json")
    assert done.returncode == 0, done.stderr
    kept = Path(json.loads(done.stdout)["kept"])
    assert kept.name.startswith("pos_system-backup-before-empty-")
    assert (version(database), sales(database)) == (5, 0)
    assert (version(kept), sales(kept)) == (4, 100)
    assert not [one for one in files(database.parent) if ".part-" in one]
    assert upgrade(database, released(tmp_path, 5)).name == "UP_TO_DATE"


def test_an_import_is_checked_brought_up_to_date_and_what_it_replaces_is_kept(tmp_path: Path) -> None:
    database = make_shop(tmp_path / "here", schema=5)
    other = make_shop(tmp_path / "other", schema=2, items_count=40)
    done = dbsync("import", other, *place(database, 5), "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    kept = Path(json.loads(done.stdout)["kept"])
    assert kept.name.startswith("pos_system-backup-before-import-")
    assert (version(database), sales(database), sales(kept), version(other)) == (5, 10, 100, 2)
    before = dump(database)
    newer = make_shop(tmp_path / "newer", schema=6)
    assert dbsync("import", newer, *place(database, 5), "--yes").returncode == 4
    ruined = tmp_path / "ruined.db"
    ruined.write_bytes(b"no database" * 1000)
    assert dbsync("import", ruined, *place(database, 5), "--yes").returncode == 4
    assert dump(database) == before
    assert not [one for one in files(database.parent) if ".part-" in one]


def test_pruning_says_what_it_would_remove_and_keeps_what_matters(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    live = effects(database)
    made = [live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(4), None))).path for _ in range(6)]
    by_hand = live.make_backup().path
    words = ("--database", str(database), "--keep", "3")
    would = json.loads(dbsync("backups", "--prune", *words, "--dry-run", "--json").stdout)["removed"]
    assert would == [str(one) for one in reversed(made[:3])]
    assert all(one.exists() for one in made)
    done = dbsync("backups", "--prune", *words)
    assert (done.returncode, done.stdout) == (0, "".join(f"removed {one}\n" for one in would))
    assert [one.exists() for one in made] == [False, False, False, True, True, True]
    assert by_hand.exists()
    assert dbsync("backups", "--prune", *words).stdout == "nothing to remove\n"
    listed = json.loads(dbsync("backups", "--database", database, "--json").stdout)["backups"]
    assert [one["path"] for one in listed] == [str(one) for one in (by_hand, *reversed(made[3:]))]
    assert dbsync("backups", "--prune", "--database", database, "--keep", "1").returncode == 2
    assert dbsync("backups", "--database", database, "--dry-run").returncode == 2, "it would look like a prune"


@pytest.mark.parametrize(
    ("pragma", "expected"),
    [
        ("encoding='UTF-16le'", [4096, "UTF-16le", 0, 0]),
        ("page_size=512", [512, "UTF-8", 0, 0]),
        ("auto_vacuum=INCREMENTAL", [4096, "UTF-8", 2, 0]),
        ("application_id=252006", [4096, "UTF-8", 0, 252006]),
    ],
)
def test_an_emptied_database_is_of_the_kind_it_was_and_the_one_before_can_be_restored(
    tmp_path: Path, pragma: str, expected: list[object]
) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database, isolation_level=None)) as live:
        live.execute(f"PRAGMA {pragma}")
        live.execute("CREATE TABLE first (x)")
        live.execute("DROP TABLE first")
    assert upgrade(database, released(tmp_path, 4)).ready
    fill(database, items_count=400)
    assert dbsync("empty", *place(database, 5), "--yes").returncode == 0

    def kind() -> list[object]:
        return [ask(database, f"PRAGMA {one}") for one in ("page_size", "encoding", "auto_vacuum", "application_id")]

    assert (kind(), sales(database), version(database)) == (expected, 0, 5)
    (kept,) = database.parent.glob("*before-empty*.db")
    assert dbsync("restore", kept, "--database", database, "--yes", "--accept-loss").returncode == 6
    assert (kind(), sales(database), version(database)) == (expected, 100, 4)


def test_a_backup_that_cannot_be_compared_can_be_restored_and_what_is_not_known_is_said(tmp_path: Path) -> None:
    """Another text encoding cannot be attached; a collation of the app's own is not there to compare with."""
    database = make_shop(tmp_path, schema=2)
    other = tmp_path / "data" / "other.db"
    with closing(sqlite3.connect(other, isolation_level=None)) as live:
        live.execute("PRAGMA encoding='UTF-16be'")
        live.execute("CREATE TABLE first (x)")
    told = json.loads(dbsync("restore", other, "--database", database, "--dry-run", "--json").stdout)
    assert "must use the same text encoding" in told["not_known"]
    done = dbsync("restore", other, "--database", database, "--yes", "--accept-loss")
    assert done.returncode == 6, done.stdout + done.stderr
    assert "cannot determine what was recorded since then: attached databases must use the same" in done.stdout
    assert ask(database, "PRAGMA encoding") == "UTF-16be"
    (kept,) = database.parent.glob("*before-restore*.db")
    live_effects = effects(database)
    live_effects.write_intent(Intent("again", str(kept), None))
    assert (
        restore_decision.restore(live_effects, backup=kept, intent_id="again", accept_loss=True).outcome.name
        == "RESTORED_WITH_LOSS"
    )
    assert (ask(database, "PRAGMA encoding"), sales(database)) == ("UTF-8", 100)
    with closing(sqlite3.connect(database)) as live, live:
        live.create_collation("german", lambda one, two: (one > two) - (one < two))
        live.executescript("CREATE TABLE words (word TEXT COLLATE german PRIMARY KEY); INSERT INTO words VALUES ('a')")
    assert effects(database).make_backup().checked == "quick_check", "the full check needs the collation"
    done = dbsync("restore", kept, "--database", database, "--yes", "--accept-loss")
    assert (done.returncode, sales(database)) == (6, 100), done.stdout + done.stderr


def test_a_database_that_somebody_writes_is_left_alone_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=4)
    other = make_shop(tmp_path / "other", schema=4)
    kept = effects(database).make_backup()
    Path(f"{database}.lock").touch()
    options, before = place(database, 4), files(tmp_path)
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_SECONDS", 0.1)
    with closing(sqlite3.connect(database)) as live:
        live.execute("BEGIN IMMEDIATE")
        for command in (("empty", *options), ("import", other, *options), ("restore", kept.path, *options[:4])):
            done = CliRunner().invoke(main, [*map(str, command), "--yes", "--json"])
            assert (done.exit_code, json.loads(done.stdout)["error"]) == (75, "Locked"), done.output
    assert files(tmp_path) == before
    assert (version(database), sales(database)) == (4, 100)


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_a_file_of_which_a_part_lies_beside_it_is_neither_imported_nor_restored(tmp_path: Path, ending: str) -> None:
    """As bytes it would come without its last sales, or with half a transaction, and look sound."""
    database, other = make_shop(tmp_path, schema=4), make_shop(tmp_path / "other", schema=4, wal=ending == "-wal")
    taken = tmp_path / "taken.db"
    with closing(sqlite3.connect(other, isolation_level=None)) as seller:
        seller.execute("PRAGMA cache_size=1")
        sell(other, 3)
        if ending == "-journal":
            seller.execute("BEGIN")
            seller.execute("UPDATE transactions SET totalCents = 0")
            seller.execute("UPDATE transaction_items SET quantity = 9")
        for end in ("", ending):
            Path(f"{taken}{end}").write_bytes(Path(f"{other}{end}").read_bytes())
        assert Path(f"{taken}{ending}").stat().st_size > 0
    before = dump(database)
    for command in (["import", taken, *place(database, 4)], ["restore", taken, "--database", database]):
        done = dbsync(*command, "--yes")
        assert (done.returncode, f"a part of it is still in taken.db{ending}" in done.stderr) == (4, True), done.stderr
    assert dump(database) == before
    whole = tmp_path / "whole.db"
    assert dbsync("backup", "--database", taken, "--to", whole).returncode == 0
    assert dbsync("import", whole, *place(database, 4), "--yes").returncode == 0
    assert sales(database) == 103


def test_emptying_needs_migrations(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    (tmp_path / "nothing").mkdir()
    before = files(tmp_path)
    done = dbsync("empty", "--database", database, "--migrations", tmp_path / "nothing", "--yes")
    assert (done.returncode, "there is no migration in the folder" in done.stderr) == (4, True), done.stderr
    assert (files(tmp_path), sales(database)) == (before, 100)
