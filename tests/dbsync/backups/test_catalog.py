"""Backups as files: what their names and facts say, what is passed over, what is removed and what never is."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dbsync.backups import catalog, restore
from dbsync.errors import BackupUnusable, DiskProblem
from dbsync.model import Backup, BackupKind, SchemaNumber, Sha256
from dbsync.storage import temporary_files
from tests.helpers.shop import files

NOW = datetime(2024, 1, 15, 10, 35, 0, 444_000, tzinfo=UTC)


def kept(folder: Path, name: str, **facts: object) -> Backup:
    """A finished backup with its facts."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")
    values = {"kind": "migration", "version": 2, "sha256": "", "size_bytes": 7, "sequence": 1, "made_at": "", **facts}
    one = Backup(path, **values)  # type: ignore[arg-type]
    catalog.write_facts(one)
    return one


def test_names_are_those_of_the_requirements() -> None:
    database = Path("data/pos_system.db")
    assert (
        catalog.migration_name("auraswift", SchemaNumber(2), NOW) == "auraswift-backup-v2-2024-01-15T10-35-00-444Z.db"
    )
    assert catalog.beside_name(database, "before-empty", NOW) == (
        "pos_system-backup-before-empty-2024-01-15T10-35-00-444Z.db"
    )


def test_two_backups_of_one_millisecond_do_not_meet(tmp_path: Path) -> None:
    first = catalog.free_name(tmp_path, "a-backup-v1-x.db")
    assert first.name == "a-backup-v1-x.db"
    first.touch()
    assert catalog.free_name(tmp_path, "a-backup-v1-x.db").name == "a-backup-v1-x-2.db"
    (tmp_path / "a-backup-v1-x-2.db").touch()
    assert catalog.free_name(tmp_path, "a-backup-v1-x.db").name == "a-backup-v1-x-3.db"


def test_facts_come_back_as_they_were_written(tmp_path: Path) -> None:
    one = kept(
        tmp_path, "a-backup-v2-x.db", sha256="ab", size_bytes=12, sequence=4, made_at="2024-01-15T10:35:00.444Z",
        trial_id="t1", verified=False,
    )  # fmt: skip
    (read,) = catalog.list_backups(backups=tmp_path, database=tmp_path / "a.db")
    assert read == one
    assert isinstance(read.kind, BackupKind)
    assert "path" not in json.loads(catalog.facts_path(one.path).read_text())


def test_facts_of_a_time_before_backups_were_compressed_are_read(tmp_path: Path) -> None:
    one = kept(tmp_path, "a-backup-v2-x.db", sha256="ab")
    facts = json.loads(catalog.facts_path(one.path).read_text())
    del facts["content_sha256"], facts["content_size_bytes"]
    catalog.facts_path(one.path).write_text(json.dumps(facts))
    assert catalog.read(one.path) == one
    assert (one.content_sha256, one.content_size_bytes) == ("", 0)


def test_a_plain_backup_of_which_there_is_a_compressed_one_can_be_removed_twice(tmp_path: Path) -> None:
    one = kept(tmp_path, "a-backup-v2-x.db")
    for _ in range(2):
        catalog.remove_plain(one.path)
        assert files(tmp_path) == set()


@pytest.mark.parametrize(
    "facts",
    ["", "[]", "{}", '{"format": 2, "kind": "migration", "version": 9}', '{"format": 1, "version": "nine"}'],
    ids=["torn", "a list", "nothing", "another format", "wrong values"],
)
def test_facts_that_cannot_be_read_are_taken_from_the_name_and_not_trusted(tmp_path: Path, facts: str) -> None:
    path = tmp_path / "shop-backup-v3-2024-01-15T10-35-00-444Z.db"
    path.write_bytes(b"1234")
    catalog.facts_path(path).write_text(facts)
    expected = Backup(path, "migration", SchemaNumber(3), Sha256(""), 4, 0, "2024-01-15T10:35:00.444Z", verified=False)
    assert catalog.list_backups(backups=tmp_path, database=tmp_path / "shop.db") == [expected]


@pytest.mark.parametrize(
    ("name", "kind", "version", "made_at"),
    [
        ("shop-backup-v2-2025-11-06T12-06-18.db", "migration", 2, "2025-11-06T12:06:18.000Z"),
        ("shop-backup-v12-20251106-120618.db", "migration", 12, "2025-11-06T12:06:18.000Z"),
        ("shop-backup-manual-v3-2025-11-06T12-06-18-001Z.db", "manual", 3, "2025-11-06T12:06:18.001Z"),
        ("shop-backup-before-empty-2025-11-06T12-06-18-444Z.db", "before-empty", 0, "2025-11-06T12:06:18.444Z"),
        ("shop-backup-before-import-2025-11-06T12-06-18-444Z.db", "before-import", 0, "2025-11-06T12:06:18.444Z"),
        ("shop-backup-damaged-94fe358053fec11e.db", "damaged", 0, ""),
        (
            "a-backup-b-backup-before-empty-2025-11-06T12-06-18-444Z.db",
            "before-empty",
            0,
            "2025-11-06T12:06:18.444Z",
        ),
        ("copy of the shop.db", "manual", 0, ""),
    ],
)
def test_what_only_has_a_name_says_what_its_name_says(
    tmp_path: Path, name: str, kind: str, version: int, made_at: str
) -> None:
    (tmp_path / name).write_bytes(b"12")
    (one,) = catalog.list_backups(backups=tmp_path, database=tmp_path / "elsewhere" / "shop.db")
    assert one == Backup(tmp_path / name, kind, SchemaNumber(version), Sha256(""), 2, 0, made_at, verified=False)


def test_the_list_is_newest_first_has_those_beside_the_database_and_never_the_database(tmp_path: Path) -> None:
    database, backups = tmp_path / "shop.db", tmp_path / "backups"
    database.touch()
    old = kept(backups, "shop-backup-v1-x.db", sequence=1, made_at="2030-01-01")
    new = kept(tmp_path, "shop-backup-before-empty-x.db", sequence=3, made_at="2001-01-01", kind="before-empty")
    same_later = kept(backups, "shop-backup-v1-z.db", sequence=1, made_at="2030-01-02")
    (tmp_path / "another-backup-v1-x.db").touch()
    (backups / ".part-shop-backup-v9-x.db").touch()
    assert catalog.list_backups(backups=backups, database=database) == [new, same_later, old]
    assert catalog.next_sequence(backups=backups, database=database) == 4
    assert catalog.next_sequence(backups=tmp_path / "none", database=tmp_path / "elsewhere" / "other.db") == 1


def test_what_is_no_backup_is_passed_over(tmp_path: Path) -> None:
    one = kept(tmp_path / "backups", "shop-backup-v1-x.db")
    if sys.platform != "win32":
        (one.path.parent / "away.db").symlink_to(tmp_path / "a disk that is away.db")
    (one.path.parent / "shop-backup-v2-folder.db").mkdir()
    odd = kept(tmp_path / "backups", "shop-backup-v3-x.db", sequence=0)
    facts = catalog.facts_path(odd.path)
    facts.write_text(facts.read_text().replace('"sequence": 0', '"sequence": 1e999'))
    names = [
        found.path.name for found in catalog.list_backups(backups=tmp_path / "backups", database=tmp_path / "shop.db")
    ]
    assert names == ["shop-backup-v1-x.db", "shop-backup-v3-x.db"]
    assert not catalog.read(odd.path).verified


def test_a_database_whose_name_begins_with_a_dot_has_backups_like_any_other(tmp_path: Path) -> None:
    first = kept(tmp_path / "backups", ".coverage-backup-v1-x.db", sequence=1)
    second = kept(tmp_path, ".coverage-backup-before-restore-x.db", kind="before-restore", sequence=2)
    kept(tmp_path / "backups", ".part-.coverage~.coverage-backup-v2-x.db", sequence=3)
    assert catalog.list_backups(backups=tmp_path / "backups", database=tmp_path / ".coverage") == [second, first]
    assert catalog.next_sequence(backups=tmp_path / "backups", database=tmp_path / ".coverage") == 3


def test_a_backup_is_used_only_if_it_is_what_was_written(tmp_path: Path) -> None:
    good = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"  # sha256 of "content"
    one = kept(tmp_path, "a-backup-v2-x.db", sha256=good)
    assert catalog.check_file(one.path) == one
    one.path.write_bytes(b"c0ntent")
    with pytest.raises(BackupUnusable, match=re.escape(f"could not use the backup {one.path}: it is not what was wri")):
        catalog.check_file(one.path)
    one.path.unlink()
    with pytest.raises(BackupUnusable, match=re.escape(f"could not use the backup {one.path}: there is no such file")):
        catalog.check_file(one.path)


@pytest.mark.parametrize("verified", [True, False])
def test_one_that_was_never_verified_is_looked_at_and_one_that_was_is_as_it_was(tmp_path: Path, verified: bool) -> None:
    one = kept(
        tmp_path, "a-backup-v3-x.db", sha256=hashlib.sha256(b"content").hexdigest(), version=3, verified=verified
    )
    if verified:
        # Its content is proven by its checksum: no fault of the file has to be looked for again.
        assert restore.check_backup_file(one.path) == one
    else:
        with pytest.raises(BackupUnusable, match="not a database"):
            restore.check_backup_file(one.path)
    assert files(tmp_path) == {"a-backup-v3-x.db", "a-backup-v3-x.db.json"}


def test_a_backup_of_a_kind_that_another_version_made_is_kept_as_it_is(tmp_path: Path) -> None:
    backups, database = tmp_path / "backups", tmp_path / "shop.db"
    odd = kept(backups, "shop-backup-archive-v2-x.db", sequence=1, kind="archive")
    named = tmp_path / "shop-backup-before-archive-2025-11-06T12-06-18-444Z.db"
    named.touch()
    for number in range(2, 5):
        kept(backups, f"shop-backup-v2-{number}.db", sequence=number)
    listed = catalog.list_backups(backups=backups, database=database)
    assert {one.path: one.kind for one in listed if "archive" in one.kind} == {
        odd.path: "archive",
        named: "before-archive",
    }
    assert catalog.rotate(backups=backups, database=database, keep_count=0, pinned=()) == [
        backups / "shop-backup-v2-3.db", backups / "shop-backup-v2-2.db",
    ]  # fmt: skip
    catalog.write_facts(catalog.read(odd.path)._replace(verified=False))
    assert json.loads(catalog.facts_path(odd.path).read_text())["kind"] == "archive"


def test_rotation_counts_migration_backups_only_and_says_what_it_removed(tmp_path: Path) -> None:
    backups, database = tmp_path / "backups", tmp_path / "shop.db"
    for number in range(1, 7):
        kept(backups, f"shop-backup-v2-{number}.db", sequence=number)
    manual = [kept(backups, f"shop-backup-manual-v2-{number}.db", sequence=0, kind="manual") for number in range(4)]
    pinned = backups / "shop-backup-v2-2.db"
    shown = catalog.rotate(backups=backups, database=database, keep_count=3, pinned=(pinned,), dry_run=True)
    assert [one.name for one in shown] == ["shop-backup-v2-3.db", "shop-backup-v2-1.db"]
    assert len(files(backups)) == 20, "a dry run removes nothing"
    assert catalog.rotate(backups=backups, database=database, keep_count=3, pinned=(pinned,)) == shown
    left = {path.name for path in backups.glob("*.db")}
    assert left == {
        "shop-backup-v2-2.db",
        *(f"shop-backup-v2-{n}.db" for n in (4, 5, 6)),
        *(m.path.name for m in manual),
    }
    assert len(files(backups)) == 2 * len(left), "the facts went with their backups"


def test_rotation_spares_the_newest_good_one_of_each_schema(tmp_path: Path) -> None:
    backups, database = tmp_path / "backups", tmp_path / "shop.db"
    kept(backups, "shop-backup-v1-1.db", sequence=1, version=1)
    kept(backups, "shop-backup-v2-2.db", sequence=2)
    kept(backups, "shop-backup-v2-3.db", sequence=3)
    kept(backups, "shop-backup-v2-4.db", sequence=4, verified=False)
    removed = catalog.rotate(backups=backups, database=database, keep_count=0, pinned=())
    assert {one.name for one in removed} == {"shop-backup-v2-2.db", "shop-backup-v2-4.db"}


def test_what_is_half_gone_is_removed_without_a_word(tmp_path: Path) -> None:
    backups, database = tmp_path / "backups", tmp_path / "shop.db"
    for number in range(1, 3):
        kept(backups, f"shop-backup-v2-{number}.db", sequence=number)
    catalog.facts_path(backups / "shop-backup-v2-1.db").unlink()
    # Without facts it is the oldest and not verified.
    assert [one.name for one in catalog.rotate(backups=backups, database=database, keep_count=1, pinned=())] == [
        "shop-backup-v2-1.db"
    ]
    assert files(backups) == {"shop-backup-v2-2.db", "shop-backup-v2-2.db.json"}


def test_what_a_cut_left_beside_a_compressed_backup_goes_with_it(tmp_path: Path) -> None:
    backups, database = tmp_path / "backups", tmp_path / "shop.db"
    small = kept(backups, "shop-backup-v2-1.db.zst", sequence=1)
    left = kept(backups, "shop-backup-v2-1.db", sequence=1)
    left.path.unlink()
    kept(backups, "shop-backup-v2-2.db", sequence=2)
    assert catalog.rotate(backups=backups, database=database, keep_count=1, pinned=()) == [small.path]
    assert files(backups) == {"shop-backup-v2-2.db", "shop-backup-v2-2.db.json"}


def test_what_cannot_be_removed_is_said(tmp_path: Path) -> None:
    backups, database = tmp_path / "backups", tmp_path / "shop.db"
    for number in range(1, 3):
        kept(backups, f"shop-backup-v2-{number}.db", sequence=number)
    facts = catalog.facts_path(backups / "shop-backup-v2-1.db")
    facts.unlink()
    facts.mkdir()
    with pytest.raises(DiskProblem, match=r"could not remove .*shop-backup-v2-1\.db"):
        catalog.rotate(backups=backups, database=database, keep_count=0, pinned=())


def test_parts_of_cut_runs_are_cleared_in_both_places_and_nothing_else(tmp_path: Path) -> None:
    backups, database = tmp_path / "backups", tmp_path / "shop.db"
    one = kept(backups, "shop-backup-v1-x.db")
    others = temporary_files.scratch_of(backups, "shop.db-2", "carried")
    for place in (backups, tmp_path):
        temporary_files.part_of(place / "shop-backup-v1-x.db", "shop.db").touch()
        temporary_files.scratch_of(place, "shop.db", "work").mkdir()
        (temporary_files.scratch_of(place, "shop.db", "work") / "inner.db").touch()
        (place / ".new-shop-backup-v1-x.db.json").touch()
    database.touch()
    others.touch()
    catalog.clear_parts(backups=backups, database=database, prefix="shop")
    known = {f"backups/{one.path.name}{ending}" for ending in ("", ".json")}
    assert files(tmp_path) == {"shop.db", f"backups/{others.name}", *known}
    assert not temporary_files.scratch_of(tmp_path, "shop.db", "work").exists()


def test_a_name_with_a_tilde_gets_its_final_name_and_is_cleared(tmp_path: Path) -> None:
    final, owner = tmp_path / "POS~1-backup-v1-x.db", "pos~1.db"
    part = temporary_files.part_of(final, owner)
    assert temporary_files.is_part(part)
    assert temporary_files.final_of(part) == final
    part.touch()
    temporary_files.clear(tmp_path, owner)
    assert files(tmp_path) == set()


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", no)
    with pytest.raises(DiskProblem, match=re.escape(f"could not read {tmp_path}: Permission denied")):
        catalog.list_backups(backups=tmp_path, database=tmp_path / "shop.db")


def test_a_plain_backup_that_cannot_be_removed_is_said(tmp_path: Path) -> None:
    (tmp_path / "a-backup-v1-x.db").mkdir()
    with pytest.raises(DiskProblem, match=r"could not remove .*a-backup-v1-x\.db"):
        catalog.remove_plain(tmp_path / "a-backup-v1-x.db")
