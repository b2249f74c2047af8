"""The decision where the folders of a terminal may lie, over facts of a disk and of what else works on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from dbsync.model import Disk, DiskKind

FAT_KINDS: Final = frozenset({"fat", "fat12", "fat16", "fat32", "vfat", "msdos", "exfat"})
"""File systems without a journal, owners, modes and links."""


class Hazard(StrEnum):
    """A kind of place in which a terminal, or a part of it, does not keep its promises."""

    NETWORK = "network"
    """Another machine can write the same files."""
    SYNCED = "synced"
    """Another program copies the files to other machines and back."""
    FORGETS = "forgets"
    """A restart undoes everything that is written."""
    REMOVABLE = "removable"
    """The disk can be taken out of the running machine."""
    FAT = "fat"
    """The file system has no journal and no rights."""


ACCEPTABLE: Final = (Hazard.FORGETS, Hazard.REMOVABLE, Hazard.FAT)
"""Hazards that a person may accept: they may know that it does not hold here."""


class Role(StrEnum):
    """Content of a folder of a terminal."""

    PROGRAM = "program"
    STATE = "state"
    SHARED = "shared"
    DATA = "data"
    DATABASE = "database"
    BACKUPS = "backups"
    SETTINGS = "settings"


class Zone(NamedTuple):
    """A part of this machine's disks in which files do not stay as they were written."""

    folder: str
    """Absolute; empty for all disks."""
    hazard: Hazard
    by: str
    """The program or the setting that does it."""
    way_out: str = ""
    """How a person keeps a folder out of it; empty where no way is known."""
    excluded: tuple[str, ...] = ()
    """Absolute paths below the folder that it leaves alone."""
    is_sure: bool = True
    """False if it can only be said that it may be so."""


class Danger(NamedTuple):
    """A reason why a folder does not fit, and what helps."""

    hazard: Hazard
    cause: str
    hint: str


def dangers(role: Role, disk: Disk, zones: Sequence[Zone]) -> Iterator[Danger]:
    """Yield why a folder does not fit for what lies in it.

    Args:
        role: what lies in it. Backups may lie elsewhere, but must stay.
        disk: the disk of the folder.
        zones: the zones that it lies in.
    """
    found = (*_of_disk(disk), *(_of_zone(zone) for zone in zones))
    yield from (danger for danger in found if role is not Role.BACKUPS or danger.hazard is Hazard.FORGETS)


def option_of(role: Role) -> str:
    """Return the option of `updater install` that gives another place; empty if there is none."""
    return f"--{role}" if role not in (Role.BACKUPS, Role.SHARED) else ""


def _of_disk(disk: Disk) -> Iterator[Danger]:
    match disk.kind:
        case DiskKind.NETWORK:
            cause = f"it lies on a network file system ({disk.file_system}), which another machine can write too"
            yield Danger(Hazard.NETWORK, cause, "Give a folder on a disk of this machine")
        case DiskKind.FORGETS:
            hint = "Give a folder on a disk that keeps it"
            yield Danger(Hazard.FORGETS, f"what is written there is gone after a restart: {disk.detail}", hint)
        case DiskKind.REMOVABLE:
            hint = "Give a folder on a disk that stays in this machine"
            yield Danger(Hazard.REMOVABLE, f"it lies on a removable disk: {disk.detail}", hint)
        case DiskKind.FIXED | DiskKind.UNKNOWN:
            pass
        case _:
            assert_never(disk.kind)
    if disk.file_system in FAT_KINDS and disk.kind is not DiskKind.NETWORK:
        cause = f"its file system ({disk.file_system}) has no journal and no rights: a power cut can damage every file"
        yield Danger(Hazard.FAT, cause, "Give a folder on NTFS, ext4, XFS, btrfs or APFS")


def _of_zone(zone: Zone) -> Danger:
    where = f" on {zone.folder}" if zone.folder else ""
    match zone.hazard:
        case Hazard.FORGETS:
            does = "undoes" if zone.is_sure else "may undo"
            cause = f"{zone.by} {does} at a restart what is written{where}"
        case Hazard.SYNCED:
            does = "copies" if zone.is_sure else "may copy"
            cause = f"{zone.by} {does} what lies in {zone.folder} to other machines"
        case Hazard.NETWORK | Hazard.REMOVABLE | Hazard.FAT:
            cause = f"{zone.by} holds {zone.folder}"
        case _:
            assert_never(zone.hazard)
    return Danger(zone.hazard, cause, zone.way_out or "Give a folder outside of it")
