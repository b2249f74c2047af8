"""The places of a terminal: refused by name before anything is written, accepted by name, told by the doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.model import Disk, DiskKind
from dbsync.storage.platform import this_platform
from tests.helpers.accounts import as_root
from tests.helpers.places import ROOT
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.decisions.places import Hazard, Role, Zone
from updater.errors import UnfitPlace
from updater.host import this_host
from updater.host.places import windows as windows_places
from updater.outcomes import TerminalOutcome
from updater.reporting import doctor
from updater.settings import ACCEPTED_VARIABLE, load
from updater.terminal import places
from updater.terminal.installation import install
from updater.terminal.rights import Severity


@pytest.fixture(autouse=True)
def _nothing_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the tests is a fixed one, and no hazard is accepted."""
    monkeypatch.delenv(ACCEPTED_VARIABLE, raising=False)
    monkeypatch.setattr(type(this_platform()), "disk_of", lambda _, path: Disk(DiskKind.FIXED, "ext4"))


def below(monkeypatch: pytest.MonkeyPatch, folder: Path, disk: Disk) -> None:
    """What lies below a folder is on that disk."""
    fixed = Disk(DiskKind.FIXED, "ext4")
    monkeypatch.setattr(
        type(this_platform()), "disk_of", lambda _, path: disk if path.is_relative_to(folder) else fixed
    )


def zoned(monkeypatch: pytest.MonkeyPatch, *zones: Zone) -> None:
    monkeypatch.setattr(type(this_host()), "zones", lambda _: zones)


LAYERS = (
    "mount -t tmpfs t {aside} && mkdir {aside}/u {aside}/w {aside}/l && "
    "mount -t overlay o -o lowerdir={aside}/l,upperdir={aside}/u,workdir={aside}/w {place}"
)
NETWORK = Disk(DiskKind.NETWORK, "cifs")
MEMORY = Disk(DiskKind.FORGETS, "tmpfs", "the files of /t are in memory (tmpfs)")
STICK = Disk(DiskKind.REMOVABLE, "exfat", "/dev/sdb1 can be taken out")
CASES = {
    "program on a share": ("program", NETWORK, "--program: it lies on a network file system (cifs)"),
    "state on a share": ("state", NETWORK, "--state: it lies on a network file system (cifs)"),
    "data on a share": ("data", NETWORK, "--data: it lies on a network file system (cifs)"),
    "settings on a share": ("settings.toml", NETWORK, "--settings: it lies on a network file system (cifs)"),
    "state in memory": ("state", MEMORY, "--state: what is written there is gone after a restart"),
    "data on a stick": ("data", STICK, "--data: it lies on a removable disk"),
    "program on FAT": ("program", Disk(DiskKind.FIXED, "vfat"), "--program: its file system (vfat) has no journal"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_place_that_does_not_keep_its_files_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: Vendor, url: str, name: str
) -> None:
    folder, disk, words = CASES[name]
    till = Till(tmp_path / "till")
    till.folder.mkdir()
    below(monkeypatch, till.folder / folder, disk)
    with pytest.raises(UnfitPlace) as refused:
        till.install(vendor.root, url)
    assert words in str(refused.value)
    assert refused.value.outcome is TerminalOutcome.UNFIT_PLACE
    assert refused.value.path is not None
    assert refused.value.path.is_relative_to(till.folder / folder)
    assert list(till.folder.iterdir()) == []


def test_backups_may_lie_elsewhere_but_must_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, till: Till) -> None:
    for disk, wanted in ((NETWORK, []), (STICK, []), (MEMORY, [Role.BACKUPS])):
        below(monkeypatch, till.settings.backups, disk)
        assert [misfit.place.role for misfit in places.misfits(till.settings)] == wanted


def test_a_hazard_that_a_person_accepts_is_written_into_the_settings_and_told_as_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: Vendor, url: str
) -> None:
    till = Till(tmp_path / "till")
    till.folder.mkdir()
    below(monkeypatch, till.folder, STICK)
    wish = till.wish(vendor.root, url)
    for accepted, named in (((), "removable"), (("removable",), "fat")):
        with pytest.raises(UnfitPlace) as refused:
            install(wish._replace(accepted_disks=accepted))
        assert f"--accept-disk {named}" in (refused.value.hint or "")
    install(wish._replace(accepted_disks=("removable", "fat")))
    assert load(till.settings_path, {}).accepted_disks == ("removable", "fat")
    found = [finding for finding in doctor.examine(till.settings_path) if "removable disk" in finding.cause]
    assert [finding.severity for finding in found] == [Severity.NOTE]
    text = till.settings_path.read_text(encoding="utf-8")
    till.settings_path.write_text(text.replace('"removable", ', ""), encoding="utf-8")
    found = [finding for finding in doctor.examine(till.settings_path) if "removable disk" in finding.cause]
    assert [(finding.severity, bool(finding.command)) for finding in found] == [(Severity.WARNING, True)]


def test_a_share_and_a_synchronised_folder_cannot_be_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: Vendor, url: str
) -> None:
    till = Till(tmp_path / "till")
    till.folder.mkdir()
    wish = till.wish(vendor.root, url)._replace(accepted_disks=("forgets", "removable", "fat"))
    zoned(monkeypatch, Zone(str(till.folder), Hazard.SYNCED, "OneDrive"))
    with pytest.raises(UnfitPlace, match="OneDrive copies what lies in") as refused:
        install(wish)
    assert "--accept-disk" not in (refused.value.hint or "")
    assert list(till.folder.iterdir()) == []


def test_what_a_filter_excludes_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: Vendor, url: str
) -> None:
    till = Till(tmp_path / "till")
    till.folder.mkdir()
    excluded = tuple(str(till.folder / name) for name in ("program", "state", "data"))
    zone = Zone(str(tmp_path), Hazard.FORGETS, "the filter", "Exclude it: `filter FOLDER`", excluded)
    zoned(monkeypatch, zone)
    with pytest.raises(UnfitPlace, match="--settings: the filter undoes at a restart") as refused:
        till.install(vendor.root, url)
    assert "Exclude it: `filter FOLDER`" in (refused.value.hint or "")
    assert list(till.folder.iterdir()) == []
    zoned(monkeypatch, zone._replace(excluded=(*excluded, str(till.settings_path))))
    till.install(vendor.root, url)
    assert [finding for finding in doctor.examine(till.settings_path) if "filter" in finding.cause] == []


def test_a_link_into_a_zone_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "frozen").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "frozen")
    zone = Zone(str(tmp_path / "frozen"), Hazard.FORGETS, "the filter")
    assert places.within(tmp_path / "link" / "till", [zone]) == (zone,)
    assert places.within(tmp_path / "frozen-not", [zone]) == ()
    assert places.within(tmp_path / "anywhere", [zone._replace(folder="")]) == (zone._replace(folder=""),)


def test_an_installed_terminal_is_told_by_the_doctor_and_can_still_be_changed(
    monkeypatch: pytest.MonkeyPatch, till: Till, vendor: Vendor, url: str
) -> None:
    below(monkeypatch, till.folder, NETWORK)
    found = [finding for finding in doctor.examine(till.settings_path) if "network" in finding.cause]
    assert [finding.severity for finding in found] == [Severity.ERROR], "one disk is one finding"
    install(till.wish(vendor.root, url)._replace(change=True, channel="beta"))
    assert till.settings.channel == "beta"
    with pytest.raises(UnfitPlace, match="--data"):
        install(till.wish(vendor.root, url)._replace(change=True, data=till.folder / "new"))
    assert not (till.folder / "new").exists()


# -------------------------------------------------------------------------------------------------------------- paths


def longest(folder: Path) -> int:
    return max(len(os.fsencode(path.relative_to(folder))) for path in folder.rglob("*"))


def test_what_lies_below_the_folders_is_not_longer_than_what_is_kept_for_it(till: Till, vendor: Vendor) -> None:
    vendor.release("1.1", schema=4)
    till.check()
    till.launch()
    settings = till.settings
    for role, folder in ((Role.STATE, settings.state), (Role.SHARED, settings.shared)):
        assert longest(folder) + len("/.new-") <= places.RESERVED_UNITS[role], role
    appended = max(len(path.name) - len("pos_system.db") for path in settings.database.parent.glob("*pos_system.db*"))
    assert appended <= places.RESERVED_UNITS[Role.DATABASE]
    assert longest(settings.backups) <= places.RESERVED_UNITS[Role.BACKUPS]
    names = [len(f"versions/.old-{path.name}-{'0' * 8}") for path in (settings.program / "versions").iterdir()]
    assert max(names) <= places.RESERVED_UNITS[Role.PROGRAM]


def limit_paths(monkeypatch: pytest.MonkeyPatch, units: int) -> None:
    """Give this system another limit of a path: bytes on POSIX, UTF-16 units on Windows."""
    if sys.platform == "win32":
        monkeypatch.setattr(windows_places, "path_limit", lambda: units)
    else:
        monkeypatch.setattr(this_host(), "path_limit_bytes", units)


def test_a_path_that_this_system_cannot_hold_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: Vendor, url: str
) -> None:
    till = Till(tmp_path / "till")
    till.folder.mkdir()
    limit_paths(monkeypatch, len(str(till.folder)) + 100)
    with pytest.raises(UnfitPlace, match=r"--state: it has .* for what lies below it") as refused:
        till.install(vendor.root, url)
    assert refused.value.path == till.folder / "state"
    assert list(till.folder.iterdir()) == []


@pytest.mark.parametrize("prefix", ["x" * 200, "shops/one", "..\\one"])
def test_a_prefix_of_backups_that_is_no_part_of_a_name_is_refused(
    tmp_path: Path, vendor: Vendor, url: str, prefix: str
) -> None:
    till = Till(tmp_path / "till")
    till.folder.mkdir()
    with pytest.raises(UnfitPlace, match="--backup-prefix"):
        install(till.wish(vendor.root, url)._replace(backup_prefix=prefix))
    assert list(till.folder.iterdir()) == []


def test_a_release_whose_paths_do_not_fit_here_is_left_out_by_name_and_the_one_before_runs(
    monkeypatch: pytest.MonkeyPatch, till: Till, vendor: Vendor
) -> None:
    bundle = vendor.bundle("1.1", schema=2, behaviour="good")
    (bundle / ("deep" * 8)).mkdir()
    (bundle / ("deep" * 8) / f"{'file' * 20}.txt").touch()
    vendor.publish(bundle, "1.1")
    versions = till.settings.program / "versions"
    before = sorted(path.name for path in versions.iterdir())
    limit_paths(monkeypatch, len(str(versions)) + 120)
    assert till.check().outcome is TerminalOutcome.PATH_TOO_LONG
    assert sorted(path.name for path in versions.iterdir()) == before
    assert list(till.settings.downloads.glob("*")) == []
    (unusable,) = json.loads((till.settings.state / "unusable.json").read_text(encoding="utf-8"))["releases"]
    assert (unusable["version"], unusable["outcome"]) == ("1.1", "PATH_TOO_LONG")
    assert "filefile" in unusable["cause"]
    monkeypatch.undo()
    assert till.check().outcome is TerminalOutcome.SWAPPED


# ---------------------------------------------------------------------------------------------------- with real mounts


@as_root
@pytest.mark.parametrize(
    ("mount", "words"),
    [("mount -t tmpfs t {place}", "are in memory (tmpfs)"), (LAYERS, "is kept in memory")],
)
def test_a_real_disk_that_forgets_is_refused_by_the_command(
    tmp_path: Path, vendor: Vendor, url: str, mount: str, words: str
) -> None:
    place, aside = tmp_path / "place", tmp_path / "aside"
    place.mkdir()
    aside.mkdir()
    folders = [word for name in ("program", "state", "data") for word in (f"--{name}", str(place / name))]
    options = ["--root", str(vendor.root), "--url", url, "--settings", str(place / "settings.toml"), *folders]
    options += ["--interpreter", f"python={sys.executable}"]
    command = " ".join(f"'{word}'" for word in (sys.executable, "-m", "updater", "install", *options))
    script = f"{mount.format(place=place, aside=aside)} && {command}; code=$?; ls -A {place}; exit $code"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120,
        env={name: value for name, value in os.environ.items() if name != ACCEPTED_VARIABLE},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (4, ""), done.stdout + done.stderr
    assert words in done.stderr
    assert "--accept-disk forgets" in done.stderr
