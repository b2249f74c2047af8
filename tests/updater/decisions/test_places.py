"""Places of a terminal: the decision by table, and zones of each system as they are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbsync.model import Disk, DiskKind
from updater.decisions.places import ACCEPTABLE, Hazard, Role, Zone, dangers, option_of
from updater.host.places import macos, windows
from updater.settings import ACCEPTABLE_DISKS

FIXED = Disk(DiskKind.FIXED, "ext4")
DISKS = {
    "fixed": (FIXED, []),
    "unknown": (Disk(DiskKind.UNKNOWN), []),
    "network": (Disk(DiskKind.NETWORK, "cifs"), [Hazard.NETWORK]),
    "network with FAT": (Disk(DiskKind.NETWORK, "vfat"), [Hazard.NETWORK]),
    "memory": (Disk(DiskKind.FORGETS, "tmpfs", "in memory"), [Hazard.FORGETS]),
    "removable": (Disk(DiskKind.REMOVABLE, "ext4", "sdb"), [Hazard.REMOVABLE]),
    "a stick": (Disk(DiskKind.REMOVABLE, "exfat", "E:"), [Hazard.REMOVABLE, Hazard.FAT]),
    "FAT": (Disk(DiskKind.FIXED, "fat32"), [Hazard.FAT]),
}


@pytest.mark.parametrize("name", DISKS)
@pytest.mark.parametrize("role", Role)
def test_every_role_on_every_disk(role: Role, name: str) -> None:
    disk, wanted = DISKS[name]
    found = [danger.hazard for danger in dangers(role, disk, ())]
    assert found == [hazard for hazard in wanted if role is not Role.BACKUPS or hazard is Hazard.FORGETS]


@pytest.mark.parametrize("hazard", Hazard)
@pytest.mark.parametrize("is_sure", [True, False])
def test_every_zone_is_named_with_a_way_out(hazard: Hazard, is_sure: bool) -> None:
    (danger,) = dangers(Role.STATE, FIXED, [Zone("C:\\", hazard, "the filter", is_sure=is_sure)])
    assert danger.hazard is hazard
    assert "the filter" in danger.cause
    assert "C:\\" in danger.cause
    assert danger.hint == "Give a folder outside of it"


def test_what_two_machines_write_cannot_be_accepted() -> None:
    assert {*Hazard} - {*ACCEPTABLE} == {Hazard.NETWORK, Hazard.SYNCED}
    assert tuple(map(str, ACCEPTABLE)) == ACCEPTABLE_DISKS


def test_every_place_that_can_be_given_has_its_option() -> None:
    options = {role: option_of(role) for role in Role}
    assert [role for role, option in options.items() if not option] == [Role.SHARED, Role.BACKUPS]


# ------------------------------------------------------------------------------------------------------------ Windows


def answered(*volumes: tuple[str, list[str | None]], enabled: bool = True) -> str:
    found = [{"drive": drive, "excluded": excluded} for drive, excluded in volumes]
    return "a line of a profile\r\n" + json.dumps({"enabled": enabled, "volumes": found}) + "\r\n"


def test_a_write_filter_protects_its_volumes_but_for_what_is_excluded() -> None:
    said = answered(("C:", ["\\ProgramData\\Tillkeeper", "C:\\tills"]), ("D:", [None]))
    first, second = windows.of_write_filter(said)
    assert (first.folder, first.hazard, first.is_sure) == ("C:\\", Hazard.FORGETS, True)
    assert first.excluded == ("C:\\ProgramData\\Tillkeeper", "C:\\tills")
    assert (second.folder, second.excluded) == ("D:\\", ())
    assert "uwfmgr.exe file add-exclusion" in first.way_out


def test_a_write_filter_that_is_off_forgets_nothing_and_one_that_cannot_be_asked_may() -> None:
    assert windows.of_write_filter(answered(("C:", []), enabled=False)) == ()
    for said in ("", "Access denied", "{}", '{"enabled": true}', '{"enabled": true, "volumes": 3}'):
        (zone,) = windows.of_write_filter(said)
        assert (zone.folder, zone.is_sure, zone.hazard) == ("", False, Hazard.FORGETS), said


@pytest.mark.parametrize(("code", "wanted"), [(0, []), (1, [True]), (3, [False]), (None, [False])])
def test_deep_freeze_is_asked_by_its_own_command(code: int | None, wanted: list[bool]) -> None:
    assert [zone.is_sure for zone in windows.of_deep_freeze(code)] == wanted


HOME = {"USERPROFILE": "C:\\Users\\anna", "LOCALAPPDATA": "C:\\Users\\anna\\AppData\\Local"}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [(0, []), (windows.ROAMING, [Hazard.SYNCED]), (windows.TEMPORARY, [Hazard.FORGETS]),
     (windows.MANDATORY, [Hazard.FORGETS]), (windows.ROAMING | windows.MANDATORY, [Hazard.FORGETS]), (8, [])],
)  # fmt: skip
def test_a_profile_that_roams_or_is_given_up(kind: int, wanted: list[Hazard]) -> None:
    found = list(windows.of_profile(kind, HOME))
    assert [zone.hazard for zone in found] == wanted
    assert all(zone.folder == HOME["USERPROFILE"] for zone in found)
    assert all((HOME["LOCALAPPDATA"] in zone.excluded) == (zone.hazard is Hazard.SYNCED) for zone in found)


def test_the_folders_of_onedrive_are_those_that_it_names() -> None:
    found = windows.of_onedrive({"OneDrive": "C:\\Users\\anna\\OneDrive", "OneDriveCommercial": "D:\\Shop"})
    assert [(zone.folder, zone.hazard) for zone in found] == [
        ("D:\\Shop", Hazard.SYNCED), ("C:\\Users\\anna\\OneDrive", Hazard.SYNCED),
    ]  # fmt: skip
    assert list(windows.of_onedrive({})) == []


PATHS = {
    "C:\\Program Files\\Tillkeeper\\till\\program": "",
    "C:\\tills\\aux\\program": "is a device on Windows",
    "C:\\tills\\COM1.old\\program": "is a device on Windows",
    "C:\\tills\\till.\\program": "ends with '.'",
    "C:\\tills\\till \\program": "ends with ' '",
    "C:\\tills\\a:b": "has ':'",
    "C:\\tills\\what?": "has '?'",
    "\\\\?\\C:\\tills": "other rules hold",
    "C:\\" + "x" * 156: "",
    "C:\\" + "x" * 157: "160 characters and 100 for what lies below it; without long paths Windows takes 259",
    "C:\\" + "\U0001f600" * 79: "161 characters",
    "D:\\con": "is a device on Windows",
    "D:\\console": "",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_windows_cannot_hold_are_named(path: str) -> None:
    found = windows.path_problem(path, below_units=100, limit=windows.PATH_LIMIT)
    assert (PATHS[path] in found, bool(found)) == (True, bool(PATHS[path])), found


def test_with_long_paths_only_the_names_count() -> None:
    path = "C:\\" + "\\".join(["x" * 200] * 5)
    assert windows.path_problem(path, below_units=100, limit=windows.LONG_PATH_LIMIT) == ""
    assert "a device" in windows.path_problem(f"{path}\\nul", below_units=100, limit=windows.LONG_PATH_LIMIT)


# -------------------------------------------------------------------------------------------------------------- macOS


def test_the_folders_that_icloud_copies_are_zones(tmp_path: Path) -> None:
    assert {Path(zone.folder).name for zone in macos.zones(tmp_path)} == {"Mobile Documents", "CloudStorage"}
    (tmp_path / "Library/Mobile Documents/com~apple~CloudDocs/Documents").mkdir(parents=True)
    found = {Path(zone.folder).name: zone.is_sure for zone in macos.zones(tmp_path)}
    assert found["Documents"] is False
    assert "Desktop" not in found
