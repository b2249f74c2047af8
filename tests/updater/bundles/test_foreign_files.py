"""Files that an app keeps beside its program: moved aside before the version goes, and reported."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from dbsync.storage import files as storage
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.bundles import foreign_files
from updater.bundles.foreign_files import Kept
from updater.bundles.version_folders import Versions
from updater.settings import Settings


def fill(folder: Path) -> None:
    """What an app leaves behind: a setting, a queue in a folder, a changed file, a link, a cache, a socket's name."""
    (folder / "settings.ini").write_text("printer=2")
    (folder / "queue").mkdir()
    (folder / "queue" / "1.json").write_text("{}")
    (folder / "till.py").write_text("print('changed by the app')")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "till.pyc").touch()
    if sys.platform != "win32":
        (folder / "link").symlink_to("/etc")
        os.mkfifo(folder / "pipe")


LINKS = () if sys.platform == "win32" else ("link",)
FOREIGN = (*LINKS, "queue/1.json", "settings.ini", "till.py")


def test_a_version_as_it_was_signed_has_no_foreign_files(till: Till) -> None:
    (folder,) = (till.settings.program / "versions").iterdir()
    assert tuple(foreign_files.foreign(folder)) == ()
    fill(folder)
    assert tuple(sorted(foreign_files.foreign(folder))) == FOREIGN


def tidied(settings: Settings, *, keep: frozenset[str] = frozenset()) -> list[Kept]:
    told: list[Kept] = []
    Versions(settings.program).tidy(keep=keep, kept_files=settings.kept_files, told=told.append)
    return told


def test_foreign_files_are_moved_before_a_version_is_removed_and_told_once(till: Till) -> None:
    settings = till.settings
    (folder,) = (settings.program / "versions").iterdir()
    fill(folder)
    assert tidied(settings, keep=frozenset({folder.name})) == []
    assert (folder / "settings.ini").exists(), "a version that is still needed stays as it is"
    (kept,) = tidied(settings)
    assert (tuple(sorted(kept.paths)), kept.problem) == (FOREIGN, "")
    assert kept.folder == settings.kept_files / folder.name
    assert (kept.folder / "settings.ini").read_text() == "printer=2"
    assert all((kept.folder / name).is_symlink() for name in LINKS)
    assert list((settings.program / "versions").iterdir()) == []
    assert tidied(settings) == []


def test_a_version_without_foreign_files_leaves_nothing_behind(till: Till) -> None:
    assert tidied(till.settings) == []
    assert not till.settings.kept_files.exists()
    assert list((till.settings.program / "versions").iterdir()) == []


def test_a_folder_that_is_no_release_is_kept_whole(till: Till) -> None:
    mine = till.settings.program / "versions" / "config"
    mine.mkdir()
    (mine / "shop.ini").write_text("vat=19")
    (kept,) = [found for found in tidied(till.settings) if found.folder.name == "config"]
    assert (kept.folder / "shop.ini").read_text() == "vat=19"


@pytest.mark.parametrize("count", range(1, len(FOREIGN) + 1))
def test_a_cut_in_between_loses_no_file_and_the_repeat_tells_all(
    till: Till, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    settings = till.settings
    (folder,) = (settings.program / "versions").iterdir()
    fill(folder)
    real, calls = foreign_files._move, [0]

    def cut(**named: object) -> None:
        calls[0] += 1
        if calls[0] == count:
            raise KeyboardInterrupt
        real(**named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(foreign_files, "_move", cut)
        with pytest.raises(KeyboardInterrupt):
            tidied(settings)
    (kept,) = tidied(settings)
    assert tuple(sorted(kept.paths)) == FOREIGN
    assert list((settings.program / "versions").iterdir()) == []


def test_a_version_whose_files_cannot_be_moved_is_not_removed(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = till.settings
    (folder,) = (settings.program / "versions").iterdir()
    fill(folder)

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(foreign_files, "_move", full)
        (kept,) = tidied(settings)
    assert "No space left on device" in kept.problem
    (aside,) = (settings.program / "versions").iterdir()
    assert (aside / "settings.ini").exists()
    (kept,) = tidied(settings)
    assert (kept.folder / "settings.ini").exists()


def test_what_is_kept_is_bounded_and_the_newest_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(15):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "file").write_bytes(bytes(1000))
        os.utime(folder, (number, number))
    foreign_files.limit(tmp_path)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(5, 15))
    monkeypatch.setattr(foreign_files, "KEPT_SIZE_BYTES", 500)
    foreign_files.limit(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["14"]


def test_the_agent_reports_what_it_kept(vendor: Vendor, till: Till) -> None:
    (folder,) = (till.settings.program / "versions").iterdir()
    (folder / "settings.ini").write_text("printer=2")
    for version, schema in (("1.1", 2), ("1.2", 2), ("1.3", 2)):
        vendor.release(version, schema=schema)
        till.check()
        till.launch(sell=1)
        till.check()
    report = till.report("FILES_KEPT")
    assert (report["cause"], report["done"]) == ("settings.ini", f"moved to {till.settings.kept_files / folder.name}")
    assert (till.settings.kept_files / folder.name / "settings.ini").read_text() == "printer=2"
    assert not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
def test_every_account_can_read_a_version_whatever_the_umask_is(
    vendor: Vendor, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.release("1.1", schema=2)
    before = os.umask(0o077)
    try:
        till.check()
    finally:
        os.umask(before)
    (folder,) = (till.settings.program / "versions").glob("1.1-*")
    modes = {path.lstat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    assert modes <= {0o755, 0o644}, [oct(mode) for mode in modes]


def test_files_that_go_to_another_disk_leave_its_reserve_free(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk")
    folder = tmp_path / "1.0-ab"
    folder.mkdir()
    (folder / "queue.db").write_bytes(b"x" * 1000)
    with tempfile.TemporaryDirectory(dir=other) as place:
        free_bytes = storage.free_bytes(Path(place))
        kept = foreign_files.put_aside(folder=folder, into=Path(place, "kept"), reserve_bytes=2 * free_bytes)
        assert "stay free for the till" in kept.problem
        assert (folder / "queue.db").exists()
        assert not foreign_files.put_aside(folder=folder, into=Path(place, "kept"), reserve_bytes=0).problem
        assert Path(place, "kept", "queue.db").exists()
