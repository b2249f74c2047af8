"""A version folder that is there before its release is staged: taken only if it is exactly what was signed."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dbsync.errors import DiskProblem
from tests.helpers.places import link
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.answers import Offer
from updater.bundles.version_folders import Versions
from updater.manifest import MANIFEST_NAME, START_NAME
from updater.model import Phase
from updater.terminal.live import Terminal


def changed(folder: Path, _: Path) -> None:
    """A file of the release is another one."""
    (folder / "till.py").write_text("print('a stranger')")


def added(folder: Path, _: Path) -> None:
    """A module that the release's program would import."""
    (folder / "sqlite3.py").write_text("print('a stranger')")


def cut_short(folder: Path, _: Path) -> None:
    """A file of the release is missing."""
    (folder / "till.py").unlink()


def without_manifest(folder: Path, _: Path) -> None:
    """Nobody knows what the folder is."""
    (folder / MANIFEST_NAME).unlink()


def of_another_release(folder: Path, other: Path) -> None:
    """A signed release, under the name of a newer one."""
    shutil.rmtree(folder)
    shutil.copytree(other, folder, symlinks=True)


def started_otherwise(folder: Path, _: Path) -> None:
    """The file that says what a launch starts names something else."""
    start = folder / START_NAME
    start.write_bytes(start.read_bytes().replace(b"till.py", b"evil.py"))


def a_manifest_elsewhere(folder: Path, _: Path) -> None:
    """A manifest that somebody can change later."""
    there = folder.parent.parent.parent / "manifest"
    (folder / MANIFEST_NAME).rename(there)
    link(folder / MANIFEST_NAME, to=there)


def elsewhere(folder: Path, _: Path) -> None:
    """A link to a folder that somebody can change later."""
    there = folder.parent.parent.parent / "elsewhere"
    folder.rename(there)
    link(folder, to=there)


def a_file(folder: Path, _: Path) -> None:
    """No folder at all."""
    shutil.rmtree(folder)
    folder.write_text("")


def an_executable_bit(folder: Path, _: Path) -> None:
    """A file that is run, and that the manifest does not let run."""
    if sys.platform == "win32":
        pytest.skip("modes are of POSIX")
    (folder / "till.py").chmod(0o755)


PLANTED = [
    changed,
    added,
    cut_short,
    without_manifest,
    of_another_release,
    started_otherwise,
    a_manifest_elsewhere,
    elsewhere,
    a_file,
    an_executable_bit,
]


def staged(vendor: Vendor, till: Till) -> Path:
    """1.1 is complete on disk, and a crash took the journal back to the moment before it says so."""
    vendor.release("1.1", schema=2)
    till.check()
    journal, _ = till.state().read_journal()
    assert journal is not None
    assert journal.candidate is not None
    till.state().write_journal(journal._replace(phase=Phase.IDLE, candidate=None, trial_id=None))
    return till.settings.program / "versions" / journal.candidate.folder


def downloads(till: Till, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a cycle and return the releases that it downloaded."""
    found: list[str] = []
    download = Terminal.download

    def noted(self: Terminal, offer: Offer) -> Path:
        found.append(offer.release.version)
        return download(self, offer)

    monkeypatch.setattr(Terminal, "download", noted)
    till.check()
    return found


def test_a_whole_folder_is_taken_without_a_download(
    vendor: Vendor, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = staged(vendor, till)
    inode = folder.stat().st_ino
    assert downloads(till, monkeypatch) == []
    assert folder.stat().st_ino == inode
    journal, _ = till.state().read_journal()
    assert journal is not None
    assert (journal.phase, journal.candidate and journal.candidate.version) == (Phase.SWAPPED, "1.1")


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_folder_that_is_not_what_was_signed_is_made_again(
    vendor: Vendor, till: Till, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Path, Path], None]
) -> None:
    folder = staged(vendor, till)
    (other,) = [path for path in folder.parent.iterdir() if path != folder]
    plant(folder, other)
    assert downloads(till, monkeypatch) == ["1.1"]
    release = Versions(till.settings.program).verified(folder.name)
    journal, _ = till.state().read_journal()
    assert journal is not None
    assert journal.candidate is not None
    assert (journal.phase, journal.candidate.release_id) == (Phase.SWAPPED, release)
    assert not folder.is_symlink()
    # What the release did not bring is kept, and nothing else is left beside the two versions.
    kept = sorted(path.name for path in till.settings.kept_files.rglob("*") if path.is_file())
    wanted = {"changed": ["till.py"], "added": ["sqlite3.py"], "an_executable_bit": ["till.py"]}
    assert plant is without_manifest or kept == wanted.get(plant.__name__, [])
    assert {path.name for path in folder.parent.iterdir()} >= {folder.name, other.name}
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".") and path.is_dir()] == []
    if plant is elsewhere:
        assert (till.folder / "elsewhere" / "till.py").exists(), "nothing behind a link is touched"


def test_a_folder_that_cannot_be_read_now_is_tried_later(
    vendor: Vendor, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = staged(vendor, till)
    opened = Path.open

    def not_now(self: Path, *arguments: object, **options: object) -> object:
        if self.name == "till.py":
            raise OSError(errno.EIO, "input/output error", str(self))
        return opened(self, *arguments, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", not_now)
        with pytest.raises(DiskProblem, match="input/output error"):
            Versions(till.settings.program).verified(folder.name)
        assert folder.is_dir()
        cycle = till.check()
    assert (cycle.outcome, "input/output error" in cycle.reason) == ("STAGING_LATER", True)
    assert till.state().read_rejections(lambda _: True) == ()
    assert till.check().outcome == "SWAPPED"


def test_a_name_that_is_taken_twice_keeps_both(till: Till) -> None:
    versions = Versions(till.settings.program)
    (name,) = versions.names()
    (versions.root / f".old-{name}").mkdir()
    (versions.root / f".old-{name}" / "mine").write_text("1")
    versions.take_name(name)
    assert versions.names() == frozenset()
    assert len(list(versions.root.glob(f".old-{name}*"))) == 2
