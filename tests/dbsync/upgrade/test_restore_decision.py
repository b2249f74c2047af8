"""Going back: what was sold in between is in the live database or put aside, whatever comes in between."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.backups import catalog, snapshot
from dbsync.downgrade import carry_back
from dbsync.errors import Damaged, MigrationFailed
from dbsync.migrations import runner
from dbsync.model import Back, Backup, BackupKind, Returned, SchemaNumber, Sha256, TrialId
from dbsync.upgrade import preparation, restore_decision
from tests.helpers.shop import ask, dump_but_marks, effects, make_shop, released, sales, sell, upgrade, version


def migrated(tmp_path: Path, *, wal: bool = False) -> tuple[Path, Backup, Sha256 | None, list[str]]:
    """A shop whose trial t1 brought it from v2 to v4: database, backup, content as of COMMIT, and how it was before."""
    database = make_shop(tmp_path, schema=2, wal=wal)
    before = dump_but_marks(database)
    outcome = upgrade(database, released(tmp_path, 4), trial_id="t1")
    assert outcome.name == "MIGRATED"
    assert outcome.backup is not None
    return database, outcome.backup, outcome.content_sha256, before


def go_back(
    database: Path,
    kept: Backup | None,
    content: Sha256 | None,
    tmp_path: Path,
    *,
    confirmed: bool = False,
    older: int = 2,
) -> Returned:
    """What the launcher does after a give-up."""
    return restore_decision.go_back(
        effects(database),
        trial_id=TrialId("t1"),
        backup=kept,
        content_sha256=content,
        older_schema=SchemaNumber(older),
        ever_confirmed=confirmed,
        migrations=released(tmp_path, 4),
    )


def test_a_database_so_ruined_that_it_can_only_be_moved_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, kept, content, before = migrated(tmp_path)
    sell(database, 3)

    def ruined(*_: object, **__: object) -> Backup:
        database.write_bytes(database.read_bytes()[:40_000])
        raise Damaged(operation="copy", cause="its end is gone")

    monkeypatch.setattr(snapshot, "copy_to_part", ruined)
    returned = go_back(database, kept, content, tmp_path, confirmed=True)
    assert (returned.back, returned.outcome.name) == (Back.DONE, "RESTORED_WITH_LOSS")
    assert dump_but_marks(database) == before
    assert returned.set_aside is not None
    assert (returned.set_aside.verified, returned.set_aside.path.stat().st_size) == (False, 40_000)


def test_a_database_whose_header_says_that_it_is_of_a_later_sqlite_is_restored_over(tmp_path: Path) -> None:
    database, kept, _, before = migrated(tmp_path)
    damaged = bytearray(database.read_bytes())
    damaged[18] = 129
    database.write_bytes(damaged)
    returned = restore_decision.restore(effects(database), backup=kept.path, intent_id="i1", accept_loss=True)
    assert (returned.back, returned.outcome.name) == (Back.DONE, "RESTORED_WITH_LOSS")
    assert dump_but_marks(database) == before
    assert returned.set_aside is not None
    assert (returned.set_aside.verified, returned.set_aside.path.read_bytes()) == (False, bytes(damaged))


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("noted", [True, False])
def test_an_untouched_database_goes_back_without_being_put_aside(tmp_path: Path, wal: bool, noted: bool) -> None:
    database, kept, content, before = migrated(tmp_path, wal=wal)
    returned = go_back(database, kept, content if noted else None, tmp_path)
    assert (returned.back, returned.set_aside, returned.losses) == (Back.DONE, None, ())
    assert dump_but_marks(database) == before
    assert not list(database.parent.glob("*before-restore*"))
    assert not list((database.parent / "backups").glob(".part*"))


def test_a_sale_after_commit_is_put_aside_and_carried_back(tmp_path: Path) -> None:
    database, kept, content, _ = migrated(tmp_path)
    sell(database, 3)
    returned = go_back(database, kept, content, tmp_path)
    assert (returned.back, returned.outcome.name, returned.losses) == (Back.DONE, "CARRIED_BACK", ())
    assert (version(database), sales(database)) == (2, 103)
    assert returned.set_aside is not None
    assert (version(returned.set_aside.path), sales(returned.set_aside.path)) == (4, 103)
    assert not list((database.parent / "backups").glob(".part*"))


def test_the_sale_between_two_restores_is_there(tmp_path: Path) -> None:
    database, kept, content, _ = migrated(tmp_path)
    assert go_back(database, kept, content, tmp_path).back is Back.DONE
    # Killed before the trial file could say so; the old version sells; then the launcher looks again.
    sell(database)
    again = go_back(database, kept, content, tmp_path)
    assert (again.back, again.outcome.name) == (None, "NOTHING_TO_RESTORE")
    assert sales(database) == 101
    assert version(database) == 2


def test_a_confirmed_candidate_goes_back_when_that_is_proven_to_lose_nothing(tmp_path: Path) -> None:
    database, kept, content, _ = migrated(tmp_path)
    sell(database)
    returned = go_back(database, kept, content, tmp_path, confirmed=True)
    assert (returned.back, returned.outcome.name) == (Back.DONE, "CARRIED_BACK")
    assert (version(database), sales(database)) == (2, 101)


def test_a_release_that_may_work_on_the_new_schema_keeps_it(tmp_path: Path) -> None:
    database, kept, content, _ = migrated(tmp_path)
    with closing(sqlite3.connect(database)) as live, live:
        live.execute("UPDATE dbsync_history SET readable_from = 2 WHERE number = 4")
    sell(database)
    assert go_back(database, kept, content, tmp_path).back is Back.KEPT
    assert (version(database), sales(database)) == (4, 101)


def test_a_ruined_database_is_moved_aside_with_its_journals(tmp_path: Path) -> None:
    database, kept, content, before = migrated(tmp_path)
    database.write_bytes(b"ruined" * 5000)
    Path(f"{database}-journal").write_bytes(b"")
    returned = go_back(database, kept, content, tmp_path)
    assert returned.back is Back.DONE
    assert dump_but_marks(database) == before
    assert returned.set_aside is not None
    assert returned.set_aside.path.read_bytes() == b"ruined" * 5000


def test_a_backup_that_changed_on_disk_is_not_restored(tmp_path: Path) -> None:
    database, kept, content, _ = migrated(tmp_path)
    with kept.path.open("r+b") as file:
        file.seek(5000)
        file.write(b"x")
    sell(database)
    before = dump_but_marks(database)
    returned = go_back(database, kept, content, tmp_path)
    assert (returned.back, returned.outcome.name) == (None, "BACKUP_UNUSABLE")
    assert dump_but_marks(database) == before


@pytest.mark.parametrize("wal", [False, True])
def test_a_stale_wal_beside_the_database_does_not_bring_the_new_schema_back(tmp_path: Path, wal: bool) -> None:
    database, kept, content, before = migrated(tmp_path, wal=wal)
    with closing(sqlite3.connect(database)) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("PRAGMA wal_autocheckpoint=0")
        with app:
            app.execute("UPDATE products SET stock = 1")
        # As a killed app leaves it: database and journal, nobody to take the one into the other.
        copy = tmp_path / "copy"
        copy.mkdir()
        for one in (database, Path(f"{database}-wal")):
            shutil.copy(one, copy / one.name)
    for one in copy.iterdir():
        shutil.copy(one, database.parent / one.name)
    returned = go_back(database, kept, content, tmp_path)
    assert returned.back is Back.DONE
    assert returned.outcome.name == "CARRIED_BACK"
    assert (version(database), ask(database, "SELECT max(stock) FROM products")) == (2, 1)
    assert before[0] == "version 2"
    assert returned.set_aside is not None
    assert ask(returned.set_aside.path, "SELECT max(stock) FROM products") == 1


def test_a_persons_restore_can_be_repeated_and_keeps_what_was_sold_in_between(tmp_path: Path) -> None:
    database, kept, _, before = migrated(tmp_path)
    sell(database, 2)
    first = restore_decision.restore(effects(database), backup=kept.path, intent_id="i1", accept_loss=True)
    assert first.set_aside is not None
    assert (dump_but_marks(database), sales(first.set_aside.path)) == (before, 102)
    sell(database)
    assert (
        restore_decision.restore(effects(database), backup=kept.path, intent_id="i1", accept_loss=True).outcome.name
        == "NOTHING_TO_RESTORE"
    )
    assert sales(database) == 101


def test_a_persons_restore_that_was_cut_puts_aside_again_what_was_sold_since(tmp_path: Path) -> None:
    database, kept, _, before = migrated(tmp_path)
    live = effects(database)
    sell(database)
    aside = preparation.put_aside(live, BackupKind.BEFORE_RESTORE)
    assert aside is not None
    from dbsync.model import Intent

    live.write_intent(Intent("i1", str(kept.path), str(aside.path)))
    # The plug was pulled here, before the restore; somebody sold, then the rollback was repeated.
    sell(database)
    returned = restore_decision.restore(effects(database), backup=kept.path, intent_id="i1", accept_loss=True)
    assert returned.set_aside is not None
    assert returned.set_aside.path != aside.path
    assert sales(returned.set_aside.path) == 102
    assert dump_but_marks(database) == before


def test_rotation_keeps_ten_and_never_the_ones_that_matter(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    backups = database.parent / "backups"
    live = effects(database)
    by_hand = live.make_backup()
    first = live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(2), None)))
    assert upgrade(database, released(tmp_path, 4)).ready
    for _ in range(14):
        live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(4), None)))
    live.rotate_backups((first.path,))
    listed = catalog.list_backups(backups=backups, database=database)
    migration = [one for one in listed if one.kind == "migration"]
    assert len(migration) == 12
    assert first.path in [one.path for one in migration]
    assert by_hand.path.exists()
    assert [one.sequence for one in listed] == sorted((one.sequence for one in listed), reverse=True)
    assert all(catalog.facts_path(one.path).exists() for one in listed)


def test_a_run_that_fails_at_every_start_does_not_fill_the_disk_nor_push_out_what_matters(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2, duplicate_sku=True)
    assert upgrade(database, released(tmp_path, 4)).ready
    before = dump_but_marks(database)
    for _ in range(14):
        assert upgrade(database, released(tmp_path, 6), again=True).name == "MIGRATION_FAILED"
    listed = catalog.list_backups(backups=database.parent / "backups", database=database)
    assert len(listed) == 11
    assert (listed[-1].version, listed[-1].verified) == (2, True)
    assert dump_but_marks(database) == before == dump_but_marks(listed[0].path)


def test_order_goes_by_sequence_and_not_by_a_clock_that_was_set_back(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    live = effects(database)
    older = live.make_backup()
    newer = live.make_backup()
    catalog.write_facts(newer._replace(made_at="1999-01-01T00:00:00.000Z"))
    assert [one.path for one in catalog.list_backups(backups=database.parent / "backups", database=database)] == [
        newer.path,
        older.path,
    ]


@pytest.mark.parametrize(
    ("name", "made_at"),
    [
        ("auraswift-backup-v2-2024-01-15T10-30-00.db", "2024-01-15T10:30:00.000Z"),
        ("auraswift-backup-v2-2025-11-06T12-06-18-444Z.db", "2025-11-06T12:06:18.444Z"),
        ("auraswift-backup-v2-20251106-120618.db", "2025-11-06T12:06:18.000Z"),
    ],
)
def test_backups_of_older_tools_are_listed_and_not_trusted(tmp_path: Path, name: str, made_at: str) -> None:
    database = make_shop(tmp_path, schema=2)
    shutil.copy(database, database.parent / "backups" / name)
    (found,) = catalog.list_backups(backups=database.parent / "backups", database=database)
    assert (found.version, found.made_at, found.verified, found.kind) == (2, made_at, False, "migration")


def test_where_nothing_can_be_carried_the_backup_is_restored_and_the_loss_exported(tmp_path: Path) -> None:
    database, kept, _, before = migrated(tmp_path)
    sell(database, 3)
    # The newer release's folder is gone, and so is what was kept of it: the proof has no migrations to run.
    shutil.rmtree(catalog.migrations_path(kept.path))
    returned = restore_decision.go_back(
        effects(database), trial_id=TrialId("t1"), backup=kept, content_sha256=None, older_schema=SchemaNumber(2),
        ever_confirmed=False, migrations=(),
    )  # fmt: skip
    assert (returned.back, returned.outcome.name) == (Back.DONE, "RESTORED_WITH_LOSS")
    assert dump_but_marks(database) == before
    assert returned.export is not None
    assert len((returned.export / "transactions.csv").read_text().splitlines()) == 4
    assert returned.set_aside is not None
    assert sales(returned.set_aside.path) == 103


def test_without_a_backup_a_person_is_called_and_nothing_is_touched(tmp_path: Path) -> None:
    database, _, _, _ = migrated(tmp_path)
    sell(database)
    before = dump_but_marks(database)
    assert go_back(database, None, None, tmp_path).outcome.name == "BACKUP_UNUSABLE"
    assert go_back(database, None, None, tmp_path, confirmed=True).back is Back.STAYS
    assert dump_but_marks(database) == before


def test_an_earlier_attempts_backup_is_used_again_only_if_it_is_the_database_now(tmp_path: Path) -> None:
    from dbsync.upgrade import coordinator

    database = make_shop(tmp_path, schema=2)
    live = effects(database)
    earlier = live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(2), TrialId("t1"))))
    found = released(tmp_path, 4)
    failing = (*found[:3], found[3]._replace(sha256=Sha256("0" * 64)))
    outcome = coordinator.upgrade(live, migrations=failing, trial_id=TrialId("t1"), earlier_backup=earlier)
    assert (outcome.name, outcome.backup) == ("MIGRATION_FAILED", earlier)
    sell(database)
    outcome = coordinator.upgrade(live, migrations=found, trial_id=TrialId("t1"), earlier_backup=earlier)
    assert outcome.backup is not None
    assert outcome.backup.path != earlier.path
    assert (sales(outcome.backup.path), sales(earlier.path)) == (101, 100)


def test_a_database_that_the_trial_made_stays_because_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    database = tmp_path / "data" / "pos_system.db"
    database.parent.mkdir()
    made = upgrade(database, released(tmp_path, 4), trial_id="t1")
    assert (made.name, made.backup) == ("CREATED", None)
    before = dump_but_marks(database)
    returned = go_back(database, None, made.content_sha256, tmp_path)
    assert (returned.back, returned.outcome.name) == (Back.STAYS, "STAYS")
    assert dump_but_marks(database) == before
    assert [path.name for path in database.parent.glob("*before*")] == []


def test_a_loss_that_cannot_be_counted_is_still_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, kept, content, before = migrated(tmp_path)
    sell(database, 2)

    def fails(*_: object, **__: object) -> None:
        raise MigrationFailed(operation="migrate", cause="no such function: vendor_round")

    monkeypatch.setattr(runner, "migrate_up", fails)
    monkeypatch.setattr(carry_back, "carry_back", fails)
    returned = go_back(database, kept, content, tmp_path)
    assert (returned.back, returned.outcome.name) == (Back.DONE, "RESTORED_WITH_LOSS")
    assert dump_but_marks(database) == before
    assert returned.losses or returned.not_known
    assert returned.set_aside is not None
    assert sales(returned.set_aside.path) == 102
