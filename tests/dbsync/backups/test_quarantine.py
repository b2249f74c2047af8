"""A damaged database: refused, as it was, and kept once as not verified; no good backup goes for it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups import catalog, snapshot
from dbsync.model import Outcome, SchemaNumber
from dbsync.upgrade import coordinator
from tests.helpers.shop import effects, files, make_shop, released, upgrade


def page(database: Path) -> None:
    """Two pages in the middle are something else: SQLite copies them without an error."""
    with database.open("r+b") as file:
        file.seek(4096 * 6)
        file.write(b"\xff" * 8192)


def cut_off(database: Path) -> None:
    """The second half is gone: SQLite does not read it at all."""
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2)


def text(database: Path) -> None:
    database.write_bytes(b"this is a text" * 1000)


def kept_copies(database: Path) -> list[Path]:
    return sorted((database.parent / "backups").glob("*-backup-damaged-*.db"))


def refused(database: Path, tmp_path: Path) -> Outcome:
    outcome = upgrade(database, released(tmp_path, 4))
    assert outcome.name == "DAMAGED", outcome.cause
    return outcome


@pytest.mark.parametrize("damage", [page, cut_off, text])
def test_a_damaged_database_is_refused_as_it_was_and_one_copy_is_kept(tmp_path: Path, damage: object) -> None:
    database = make_shop(tmp_path, schema=2)
    assert callable(damage)
    damage(database)
    before = database.read_bytes()
    outcomes = [refused(database, tmp_path) for _ in range(3)]
    (kept,) = kept_copies(database)
    assert all(one.hint.endswith(f"It is kept as it is, not verified ({kept.name}).") for one in outcomes)
    assert database.read_bytes() == before
    (facts,) = catalog.list_backups(backups=database.parent / "backups", database=database)
    assert (facts.path, facts.kind, facts.verified, facts.size_bytes) == (kept, "damaged", False, kept.stat().st_size)
    assert len(kept.read_bytes()) == len(before)
    if damage is not page:
        assert kept.read_bytes() == before
    # The counters of a database that can be read in part are on record too.
    assert files(database.parent) - {"backups/pos_system.db.counters.json"} == {
        "pos_system.db", "backups/dbsync-flight.jsonl", f"backups/{kept.name}", f"backups/{kept.name}.json",
    }  # fmt: skip


HOLDER = """
import sqlite3, sys
live = sqlite3.connect(sys.argv[1], isolation_level=None)
live.execute("PRAGMA wal_autocheckpoint=0").fetchall()
live.execute("UPDATE products SET stock = stock + 1")
print("written", flush=True)
sys.stdin.read()
"""


def test_what_another_program_has_not_yet_put_into_the_file_is_kept_with_it(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2, wal=True)
    journal = Path(f"{database}-wal")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().split() == [b"written"]
        with database.open("r+b") as file:
            file.write(b"no header any more")
        before = (database.read_bytes(), journal.read_bytes())
        assert before[1]
        refused(database, tmp_path)
        (kept,) = kept_copies(database)
        assert (kept.read_bytes(), Path(f"{kept}-wal").read_bytes()) == before
        assert (database.read_bytes(), journal.read_bytes()) == before
        holder.kill()
    assert not [one for one in files(database.parent) if ".part-" in one]


def test_copies_of_damaged_databases_are_few_and_push_out_no_good_backup(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    live = effects(database)
    good = [live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(2), None))).path for _ in range(10)]
    page(database)
    seen = []
    for number in range(5):
        with database.open("r+b") as file:
            file.seek(4096 * 6)
            file.write(bytes([number]) * 100)
        refused(database, tmp_path)
        seen += [one for one in kept_copies(database) if one not in seen]
    assert sorted(seen[-3:]) == kept_copies(database)
    assert len(seen) == 5
    live.rotate_backups(())
    assert all(one.exists() for one in good)
    marks = {"pos_system.db.counters.json"}
    assert len({path.name for path in (database.parent / "backups").glob("*.json")} - marks) == 13


def test_a_full_disk_is_not_filled_further_and_the_refusal_is_the_same(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    cut_off(database)
    outcome = coordinator.upgrade(effects(database, least_free_bytes=10**16), migrations=released(tmp_path, 4))
    assert (outcome.name, outcome.hint) == (
        "DAMAGED",
        (
            "Nothing was changed. `dbsync backups` lists the backups; `dbsync restore BACKUP --accept-loss` restores"
            " one and keeps the damaged file."
        ),
    )
    assert files(database.parent) == {"pos_system.db", "backups/dbsync-flight.jsonl"}


def test_a_copy_that_went_wrong_is_not_taken_for_a_damaged_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make_shop(tmp_path, schema=2)
    copy_to_part = snapshot.copy_to_part

    def wrong_once(*arguments: object, **values: object) -> object:
        part = copy_to_part(*arguments, **values)  # type: ignore[arg-type]
        monkeypatch.setattr(snapshot, "copy_to_part", copy_to_part)
        page(part.path)
        return part

    monkeypatch.setattr(snapshot, "copy_to_part", wrong_once)
    outcome = refused(database, tmp_path)
    assert "kept" not in outcome.hint
    with closing(sqlite3.connect(database)) as live:
        assert live.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert files(database.parent) == {
        "pos_system.db", "backups/dbsync-flight.jsonl", "backups/pos_system.db.counters.json",
    }  # fmt: skip
    assert upgrade(database, released(tmp_path, 4)).ready
