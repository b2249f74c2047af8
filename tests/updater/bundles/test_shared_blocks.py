"""Files of a release that did not change share their blocks with those of the version before, where the disk can."""

from __future__ import annotations

import errno
import hashlib
import io
import random
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from dbsync.storage import file_calls
from dbsync.storage.platform import this_platform
from tests.dbsync.storage.test_block_clone import told_on
from updater.bundles.writing import Folder, OldFile, Target
from updater.errors import PackUnusable
from updater.manifest import FileEntry
from updater.model import Sha256

DATA = random.Random(1).randbytes(3_000_000)
ENTRY = FileEntry(len(DATA), Sha256(hashlib.sha256(DATA).hexdigest()), 0o644)
STORY = """
import os, sys
from pathlib import Path
from tests.updater.bundles.test_shared_blocks import DATA, copied

place = Path(sys.argv[1])
(place / "old").write_bytes(DATA)
os.sync()
before = os.statvfs(place)
copied(place, place / "old")
os.sync()
taken = (before.f_bfree - os.statvfs(place).f_bfree) * before.f_frsize
assert taken < len(DATA) / 4, taken
with (place / "new").open("r+b") as file:
    file.write(b"changed")
assert (place / "old").read_bytes() == DATA, "what one account changes in the new version is not in the old one"
print("shared and as it was")
"""


def copied(place: Path, old: Path | BinaryIO) -> list[str]:
    """Makes `new` of an old file, and returns what was told to be written."""
    written: list[str] = []
    folder = Folder(lambda path, _: file_calls.open_to_write(place / path, "x+b"), lambda _: None, written.append)
    with old.open("rb", buffering=0) if isinstance(old, Path) else old as base:
        Target("new", ENTRY, folder).copy(OldFile(base))
    assert (place / "new").read_bytes() == DATA
    return written


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked to")
@pytest.mark.parametrize(("kind", "size"), [("xfs", "400M"), ("btrfs", "200M")])
def test_blocks_are_shared_and_stay_apart(tmp_path: Path, kind: str, size: str) -> None:
    told_on(kind, size, tmp_path, STORY, "")


def test_where_a_disk_shares_nothing_bytes_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(this_platform()), "share_blocks", lambda *_, **__: False)
    (tmp_path / "old").write_bytes(DATA)
    assert copied(tmp_path, tmp_path / "old") == ["new"]


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("old", [DATA[:-1], b"x" + DATA[1:], b""])
def test_an_old_file_that_is_another_one_is_found_by_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares: bool, old: bytes
) -> None:
    def share(self: object, *, source: int, target: int) -> bool:
        del self, source
        if shares:
            (tmp_path / "new").write_bytes(old)
        return shares

    monkeypatch.setattr(type(this_platform()), "share_blocks", share)
    (tmp_path / "old").write_bytes(old if not shares else DATA)
    with pytest.raises(PackUnusable, match="new does not become what the manifest says"):
        copied(tmp_path, tmp_path / "old")


def test_an_old_file_that_has_more_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(DATA + b"more")
    assert copied(tmp_path, tmp_path / "old") == ["new"]


class Unreadable(io.FileIO):
    """A file on a disk with a fault."""

    def read(self, size_bytes: int | None = None, /) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


def test_an_old_file_that_cannot_be_read_is_no_base_and_a_new_one_is_the_disks_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = type(this_platform())
    (tmp_path / "old").write_bytes(DATA)
    monkeypatch.setattr(platform, "share_blocks", lambda *_, **__: False)
    with pytest.raises(PackUnusable, match="an old file cannot be read: Input/output error"):
        copied(tmp_path, Unreadable(tmp_path / "old"))
    (tmp_path / "new").unlink()
    monkeypatch.setattr(platform, "share_blocks", lambda *_, **__: True)
    folder = Folder(lambda *_: Unreadable(tmp_path / "new", "x+"), lambda _: None, lambda _: None)
    with (tmp_path / "old").open("rb", buffering=0) as base, pytest.raises(OSError, match="Input/output error"):
        Target("new", ENTRY, folder).copy(OldFile(base))
