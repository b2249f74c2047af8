"""Old backups made small: the same content comes back by every command, and a cut never costs a backup."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.backups import catalog, compaction, compression
from dbsync.errors import BackupUnusable
from dbsync.model import Backup, SchemaNumber, Sha256, TrialId
from dbsync.storage import files as disk_files
from dbsync.upgrade import coordinator, restore_decision
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.places import ROOT
from tests.helpers.shop import dump_but_marks, effects, files, make_shop, released, sales, sell, upgrade, version


def shop(tmp_path: Path) -> tuple[Path, Backup, list[str]]:
    """A shop brought from v2 to v4 and then backed up again: database, the old backup, what is in that."""
    database = make_shop(tmp_path, schema=2)
    before = dump_but_marks(database)
    outcome = upgrade(database, released(tmp_path, 4), trial_id="t1")
    assert outcome.backup is not None
    sell(database, 3)
    live = effects(database)
    live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(4), None)))
    return database, outcome.backup, before


def packed(database: Path, kept: Backup) -> Path:
    done = dbsync("backups", "--compress", "--keep-plain", "1", "--database", database, "--json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)["compressed"]
    small = Path(one["path"])
    assert small == kept.path.with_name(kept.path.name + ".zst")
    assert one["before_bytes"] == kept.size_bytes > 3 * one["after_bytes"] > 0
    assert small.stat().st_size == one["after_bytes"]
    return small


def test_old_ones_are_compressed_and_listed_with_both_checksums_and_new_ones_stay(tmp_path: Path) -> None:
    database, kept, _ = shop(tmp_path)
    before = files(database.parent)
    asked = dbsync("backups", "--compress", "--keep-plain", "1", "--dry-run", "--database", database)
    assert asked.stdout == f"would compress {kept.path} ({kept.size_bytes / 1e6:.1f} MB)\n"
    assert files(database.parent) == before
    assert dbsync("backups", "--compress", "--database", database).stdout == "nothing to compress\n", "three stay"
    small = packed(database, kept)
    newest, facts = catalog.list_backups(backups=database.parent / "backups", database=database)
    assert (newest.version, newest.path.suffix) == (4, ".db")
    assert facts == kept._replace(
        path=small, sha256=disk_files.sha256_of(small), size_bytes=small.stat().st_size,
        content_sha256=kept.sha256, content_size_bytes=kept.size_bytes,
    )  # fmt: skip
    assert not kept.path.exists()
    assert not catalog.facts_path(kept.path).exists()
    assert catalog.migrations_path(small) == catalog.migrations_path(kept.path)
    assert catalog.migrations_path(small).is_dir()
    assert not [one for one in files(database.parent) if ".part-" in one]
    assert dbsync("backups", "--compress", "--keep-plain", "1", "--database", database).stdout == (
        "nothing to compress\n"
    )


@pytest.mark.parametrize("by_its_old_name", [False, True])
def test_a_compressed_backup_is_restored(tmp_path: Path, by_its_old_name: bool) -> None:
    database, kept, before = shop(tmp_path)
    small = packed(database, kept)
    named = kept.path if by_its_old_name else small
    would = json.loads(dbsync("restore", named, "--database", database, "--dry-run", "--json").stdout)
    assert would["losses"], "what was sold since is counted"
    done = dbsync("restore", named, "--database", database, "--yes", "--accept-loss")
    assert done.returncode == 6, done.stdout + done.stderr
    assert dump_but_marks(database) == before
    assert not [one for one in files(database.parent) if ".part-" in one]


def test_going_back_from_a_compressed_backup_loses_nothing(tmp_path: Path) -> None:
    database, kept, _ = shop(tmp_path)
    small = packed(database, kept)
    place = ("--database", database, "--backup", small.name)
    assert json.loads(dbsync("diff", *place, "--json").stdout)["lossless"] is True
    done = dbsync("downgrade", *place, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (version(database), sales(database)) == (2, 103)
    assert not [one for one in files(database.parent) if ".part-" in one]


def test_a_trial_finds_its_backup_although_it_was_compressed_since(tmp_path: Path) -> None:
    database, kept, _ = shop(tmp_path)
    packed(database, kept)
    returned = restore_decision.go_back(
        effects(database), trial_id=TrialId("t1"), backup=kept, content_sha256=None, older_schema=SchemaNumber(2),
        ever_confirmed=False, migrations=released(tmp_path, 4),
    )  # fmt: skip
    assert returned.outcome.name == "CARRIED_BACK", returned.outcome.cause
    assert sales(database) == 103


def test_a_run_makes_a_new_backup_where_the_one_of_the_attempt_before_was_compressed(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    live = effects(database)
    earlier = live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(2), TrialId("t1"))))
    compaction.pack(earlier)
    small = catalog.read(catalog.find(earlier.path))
    outcome = coordinator.upgrade(live, migrations=released(tmp_path, 4), trial_id=TrialId("t1"), earlier_backup=small)
    assert outcome.name == "MIGRATED", outcome.cause
    assert outcome.backup is not None
    assert outcome.backup.path not in (earlier.path, small.path)
    assert not [one for one in files(database.parent) if ".part-" in one]


def test_an_import_takes_a_compressed_backup(tmp_path: Path) -> None:
    database, kept, _ = shop(tmp_path)
    small = packed(database, kept)
    folder = released(tmp_path, 4)[0].path.parent
    done = dbsync("import", small, "--database", database, "--migrations", folder, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (version(database), sales(database)) == (4, 100)


@pytest.mark.parametrize("how", ["a byte", "the end"])
def test_a_compressed_backup_that_was_changed_is_refused(tmp_path: Path, how: str) -> None:
    database, kept, _ = shop(tmp_path)
    small = packed(database, kept)
    data = bytearray(small.read_bytes())
    data[len(data) // 2] ^= 1
    small.write_bytes(bytes(data) if how == "a byte" else data[:-1000])
    before = dump_but_marks(database)
    done = dbsync("restore", small, "--database", database, "--yes")
    assert (done.returncode, "checksum differs" in done.stderr) == (4, True)
    catalog.write_facts(catalog.read(small)._replace(sha256=Sha256("")))
    done = dbsync("restore", small, "--database", database, "--yes")
    assert done.returncode == 4, "zstd's own checksum and the content's say it too"
    assert dump_but_marks(database) == before
    assert not [one for one in files(database.parent) if ".part-" in one]


def test_one_that_is_not_what_was_written_is_left_alone_and_named(tmp_path: Path) -> None:
    database, kept, _ = shop(tmp_path)
    kept.path.write_bytes(b"not it")
    done = dbsync("backups", "--compress", "--keep-plain", "1", "--database", database)
    assert done.stdout.startswith("left as it is (it is not what was written: its checksum differs)")
    assert kept.path.read_bytes() == b"not it"
    assert not list(kept.path.parent.glob("*.zst*"))


def test_one_that_does_not_come_out_as_it_went_in_takes_nothings_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, kept, _ = shop(tmp_path)
    before = kept.path.read_bytes()
    monkeypatch.setattr(compression, "expand", lambda *, source: "0" * 64)
    with pytest.raises(BackupUnusable, match="does not come out"):
        compaction.pack(kept)
    assert kept.path.read_bytes() == before
    assert not [one for one in files(database.parent) if ".zst" in one or ".part-" in one]


def test_rotation_counts_and_removes_compressed_ones_with_all_that_is_theirs(tmp_path: Path) -> None:
    database, kept, _ = shop(tmp_path)
    live = effects(database)
    older = live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(4), None)))
    for _ in range(2):
        live.keep_backup(live.check_backup(live.copy_backup(SchemaNumber(4), None)))
    for one in (kept, older):
        compaction.pack(one)
    removed = catalog.rotate(backups=database.parent / "backups", database=database, keep_count=2, pinned=())
    assert [one.suffix for one in removed] == [".zst", ".db"]
    left = [one.path.name for one in catalog.list_backups(backups=database.parent / "backups", database=database)]
    assert len(left) == 3
    assert left[-1] == kept.path.name + ".zst", "the newest good one of its schema stays, compressed or not"
    assert not [one for one in files(database.parent) if older.path.name in one]


WITHOUT = """
import sys
sys.modules["backports.zstd"] = sys.modules["compression.zstd"] = None
from dbsync.__main__ import main
main(sys.argv[1:])
"""


def test_without_zstd_the_error_says_what_to_do_and_all_else_works(tmp_path: Path) -> None:
    database, kept, before = shop(tmp_path)

    def bare(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT, *words, "--database", database],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip

    refused = bare("backups", "--compress", "--keep-plain", "1")
    assert refused.returncode == 4
    assert "there is no zstd in this Python. Install it (pip install backports.zstd)." in refused.stderr
    assert kept.path.exists()
    small = packed(database, kept)
    now = dump_but_marks(database)
    refused = bare("restore", small, "--yes")
    assert refused.returncode == 4
    assert f"or decompress it by hand (`zstd -d {small.name}`)" in refused.stderr
    assert dump_but_marks(database) == now
    assert str(small) in bare("backups").stdout
    compression.expand(source=small, target=kept.path)
    assert catalog.list_backups(backups=database.parent / "backups", database=database)[-1] == kept, (
        "decompressed by hand"
    )
    assert bare("restore", kept.path, "--yes", "--accept-loss").returncode == 6
    assert dump_but_marks(database) == before
    kept.path.write_bytes(b"something else")
    assert "checksum differs" in bare("restore", kept.path, "--yes").stderr
    assert dump_but_marks(database) == before


CUT = """
import os, sys
from pathlib import Path
from dbsync.backups import catalog, compression, snapshot, compaction
from dbsync.storage import files
names = {
    "half compressed": (compression, "expand"), "facts written": (files, "rename_durably"),
    "both there": (catalog, "remove_plain"),
}
if sys.argv[2] == "facts left":
    unlink = Path.unlink
    def gone(path, missing_ok=False):
        unlink(path, missing_ok)
        if path.suffix == ".db" and not path.name.startswith("."):
            os._exit(9)
    Path.unlink = gone
else:
    setattr(*names[sys.argv[2]], lambda *_, **__: os._exit(9))
compaction.pack(catalog.read(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("cut_at", ["half compressed", "facts written", "both there", "facts left"])
def test_a_cut_while_compressing_leaves_one_good_backup_and_the_next_time_ends_it(tmp_path: Path, cut_at: str) -> None:
    database, kept, before = shop(tmp_path)
    cut = subprocess.run([sys.executable, "-c", CUT, kept.path, cut_at], check=False, cwd=ROOT)
    assert cut.returncode == 9
    backups = database.parent / "backups"
    (_, one) = catalog.list_backups(backups=backups, database=database)
    assert (one.verified, one.sequence, one.path.suffix) == (True, kept.sequence, ".zst" if "left" in cut_at else ".db")
    catalog.check_file(one.path)
    for old in compaction.old_ones(backups=backups, database=database, plain_count=1):
        compaction.pack(old)
    assert upgrade(database, released(tmp_path, 4)).ready
    catalog.clear_parts(backups=backups, database=database, prefix=database.stem)
    small = catalog.compressed_path(kept.path)
    assert [one.path for one in catalog.list_backups(backups=backups, database=database)][-1] == small
    assert dbsync("restore", small, "--database", database, "--yes", "--accept-loss").returncode == 6
    assert dump_but_marks(database) == before
    assert not kept.path.exists()
    assert not [one for one in files(database.parent) if ".part-" in one]
