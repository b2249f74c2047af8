"""The flows of requirements S19 to S48, by the command that people run, with their transcripts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from dbsync.storage.platform import this_platform
from tests.helpers.places import ROOT
from tests.helpers.shop import dump, files, make_shop, released, version

LINES_V3_V4 = """\
📝 Migration v3: add_categories_parent_id
   Add parentId column to categories for hierarchy support
🔄 Adding parentId to categories...
✅ Added 'parentId' column
✅ Database version updated to 3
✅ Migration v3 completed successfully
📝 Migration v4: add_categories_unique_constraint
   Add UNIQUE constraint on (name, businessId) in categories
🔄 Adding UNIQUE constraint to categories...
✅ UNIQUE constraint added successfully
✅ Database version updated to 4
✅ Migration v4 completed successfully
✅ Database integrity check passed
"""
FRESH = (
    """\
🔍 Database Version Check:
   Current: v0
   Latest:  v4
🚀 Running 4 migration(s)...
📦 Nothing to back up: there was no database before
✅ Database integrity check passed
📝 Migration v1: initial_schema
   Baseline schema with all tables
ℹ️ Baseline schema (v1): all tables made
✅ Database version updated to 1
✅ Migration v1 completed successfully
📝 Migration v2: add_business_contact_fields
   Add address, phone, vatNumber to businesses table
🔄 Adding business contact fields...
✅ Added 'address' column
✅ Added 'phone' column
✅ Added 'vatNumber' column
✅ Database version updated to 2
✅ Migration v2 completed successfully
"""
    + LINES_V3_V4
    + """\
✅ All 4 migration(s) completed successfully!
   Database updated from v0 to v4
✅ Database initialized successfully (v4/4)
"""
)
EXISTING = (
    """\
🔍 Database Version Check:
   Current: v2
   Latest:  v4
🚀 Running 2 migration(s)...
📦 Backup created: BACKUPS/auraswift-backup-v2-STAMP.db
"""
    + LINES_V3_V4
    + """\
✅ Database integrity check passed
✅ All 2 migration(s) completed successfully!
   Database updated from v2 to v4
✅ Database initialized successfully (v4/4)
"""
)
UP_TO_DATE = """\
🔍 Database Version Check:
   Current: v4
   Latest:  v4
✅ Database is up to date!
✅ Database initialized successfully (v4/4)
"""


def run(
    command: str, database: Path, schema: int, *words: str, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """`dbsync …` as people run it."""
    released(database.parent.parent, schema)
    folder = database.parent.parent / f"migrations-{schema}"
    return subprocess.run(
        [
            sys.executable, "-m", "dbsync", command, "--database", str(database), "--migrations", str(folder),
            "--prefix", "auraswift", *words,
        ],
        capture_output=True, encoding=encoding, env={"PYTHONIOENCODING": encoding, "PATH": ""}, check=False,
        cwd=ROOT,
    )  # fmt: skip


def literal(output: str, database: Path) -> str:
    """The output with folder and stamp taken out."""
    text = output.replace(f"{database.parent / 'backups'}{os.sep}", "BACKUPS/")
    text = text.replace(str(database.parent / "backups"), "BACKUPS")
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z", "STAMP", text)


def test_a_fresh_database_comes_to_v4_with_the_transcript_of_the_requirements(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    done = run("upgrade", database, 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert literal(done.stdout, database) == FRESH
    assert version(database) == 4
    assert files(database.parent) == {"pos_system.db", "backups/dbsync-flight.jsonl"}


def test_an_existing_v2_runs_only_v3_and_v4_after_a_backup_named_v2(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)
    done = run("upgrade", database, 4)
    assert (done.returncode, done.stderr) == (0, "")
    expected = EXISTING.splitlines(keepends=True)
    if not this_platform().renames_open_files:
        # The copy is not read beside the migrations there, but before them.
        line = next(line for line in expected if "integrity check" in line)
        expected.remove(line)
        expected.insert(next(place for place, line in enumerate(expected) if "BACKUPS/" in line) + 1, line)
    assert literal(done.stdout, database) == "".join(expected)
    assert version(database) == 4
    (backup,) = (database.parent / "backups").glob("*.db")
    assert dump(backup) == before
    assert version(backup) == 2


def test_an_up_to_date_database_gets_two_lines_and_no_backup(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    before = (database.read_bytes(), files(database.parent))
    done = run("upgrade", database, 4)
    assert (done.returncode, literal(done.stdout, database)) == (0, UP_TO_DATE)
    assert (database.read_bytes(), files(database.parent)) == before


def test_v4_to_v5_adds_the_barcode_and_a_second_run_is_a_no_op(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    done = run("upgrade", database, 5)
    assert "✅ Added 'barcode' column to products" in done.stdout
    assert "Database updated from v4 to v5" in done.stdout
    after = dump(database)
    assert after[0] == "version 5"
    assert run("upgrade", database, 5).returncode == 0
    assert dump(database) == after
    assert len(list((database.parent / "backups").glob("*.db"))) == 1


def test_a_console_without_the_signs_gets_letters_and_the_run_goes_on(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    done = run("upgrade", database, 5, encoding="cp1252")
    assert done.returncode == 0
    assert "[ok] Migration v5 completed successfully" in done.stdout
    assert version(database) == 5


def test_every_command_that_reports_speaks_json(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=4)
    lines = [json.loads(line) for line in run("upgrade", database, 5, "--json").stdout.splitlines()]
    assert [line["kind"] for line in lines if line["kind"] != "progress"][-2:] == ["finished", "outcome"]
    assert (lines[-1]["name"], lines[-1]["version_after"]) == ("MIGRATED", 5)
    status = json.loads(run("status", database, 6, "--json").stdout)
    assert (status["version"], status["latest"], status["pending"]) == (5, 6, ["0006_add_products_sku_unique"])
    assert json.loads(run("verify", database, 5, "--json").stdout)["problems"] == []
    for command in ("history", "backups"):
        done = subprocess.run(
            [sys.executable, "-m", "dbsync", command, "--database", str(database), "--json"],
            capture_output=True, check=True, cwd=ROOT,
        )  # fmt: skip
        assert json.loads(done.stdout)["format"] == 1
    assert version(database) == 5


def test_the_readable_history_is_kept_in_the_table_that_the_specification_names(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    database = make_shop(tmp_path, schema=4)
    with closing(sqlite3.connect(database)) as live:
        rows = live.execute("SELECT version, migration_name FROM schema_version ORDER BY version").fetchall()
        columns = [(row[1], row[2], row[3]) for row in live.execute("PRAGMA table_info(schema_version)")]
    assert [row[0] for row in rows] == [1, 2, 3, 4]
    assert rows[3][1] == "add_categories_unique_constraint"
    assert columns == [("version", "INTEGER", 0), ("migration_name", "TEXT", 1), ("applied_at", "TEXT", 1)]
