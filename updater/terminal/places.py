"""The places of a terminal's folders: whether each may lie there, on this machine as it is."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.storage.platform import this_platform
from updater.decisions.places import ACCEPTABLE, Danger, Hazard, Role, Zone, dangers, option_of
from updater.errors import UnfitPlace
from updater.host import this_host
from updater.settings import Settings

RESERVED_UNITS: Final[Mapping[Role, int]] = {
    Role.PROGRAM: 90, Role.STATE: 130, Role.SHARED: 90, Role.DATA: 60, Role.DATABASE: 60, Role.BACKUPS: 150,
}  # fmt: skip
"""Length of the longest path that Tillkeeper makes below a folder, or of what it appends to a name: a test measures it.

Below the program folder only the names of version folders count: each release is measured before it is downloaded. A
backup has the files of its migrations beside it.
"""


APPENDED_UNITS: Final = 80
"""Length of what is appended to the prefix in the name of a backup."""


class Place(NamedTuple):
    """A folder or file of a terminal."""

    role: Role
    path: Path


class Misfit(NamedTuple):
    """A place that does not fit."""

    place: Place
    danger: Danger
    is_accepted: bool


def places(settings: Settings) -> tuple[Place, ...]:
    """Return the places of a terminal, each path once: a folder inside another one is on its disk, or on its own."""
    return (
        Place(Role.PROGRAM, settings.program), Place(Role.STATE, settings.state), Place(Role.SHARED, settings.shared),
        Place(Role.DATA, settings.data), Place(Role.DATABASE, settings.database),
        Place(Role.BACKUPS, settings.backups), Place(Role.SETTINGS, settings.path),
    )  # fmt: skip


def misfits(settings: Settings, accepted: Collection[str] = ()) -> Iterator[Misfit]:
    """Yield the places that do not fit, each with every danger."""
    zones = this_host().zones()
    for place in places(settings):
        disk = this_platform().disk_of(place.path)
        for danger in dangers(place.role, disk, within(place.path, zones)):
            yield Misfit(place, danger, danger.hazard in ACCEPTABLE and danger.hazard in accepted)


def within(path: Path, zones: Sequence[Zone]) -> tuple[Zone, ...]:
    """Return the zones that a path lies in; links on the way are followed, and what a zone excludes is not in it."""
    real = _known(path)
    return tuple(
        zone
        for zone in zones
        if (not zone.folder or real.is_relative_to(_known(Path(zone.folder))))
        and not any(real.is_relative_to(_known(Path(excluded))) for excluded in zone.excluded)
    )


def unholdable(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Yield the places that this system cannot hold, or not with what is made below them, each with the reason."""
    for place in places(settings):
        problem = this_host().path_problem(place.path, below_units=RESERVED_UNITS.get(place.role, 0))
        if problem:
            yield place, problem


def refuse_unfit(settings: Settings, accepted: Collection[str], *, known: Settings | None) -> None:
    """Refuse places in which a terminal would not keep its promises, or whose names this system cannot hold.

    Args:
        settings: as they will be.
        accepted: hazards that a person has accepted.
        known: the settings of a terminal that is installed already: what it has is `updater doctor`'s to tell.

    Raises:
        UnfitPlace: it names the option, the folder and the reason.
    """
    before = set(places(known)) if known is not None else set()
    for place, problem in unholdable(settings):
        if place not in before:
            raise _unfit(place, problem, "Give another path")
    if known is None or known.backup_prefix != settings.backup_prefix:
        _refuse_prefix(settings)
    for misfit in misfits(settings, accepted):
        if not misfit.is_accepted and misfit.place not in before:
            danger = misfit.danger
            raise _unfit(misfit.place, danger.cause, danger.hint, accept=_accept(danger.hazard))


def _refuse_prefix(settings: Settings) -> None:
    """Refuse a prefix that is no beginning of a file's name on this system."""
    prefix = settings.backup_prefix
    problem = this_host().path_problem(settings.backups / f"{prefix}{'_' * APPENDED_UNITS}")
    if any(separator in prefix for separator in "/\\"):
        problem = "it has a separator of folders"
    if problem:
        raise UnfitPlace(
            operation="install", path=settings.backups, cause=f"--backup-prefix {prefix}: {problem}",
            hint="Give another prefix by --backup-prefix.",
        )  # fmt: skip


def _unfit(place: Place, cause: str, hint: str, *, accept: str = "") -> UnfitPlace:
    option = option_of(place.role)
    return UnfitPlace(
        operation="install", path=place.path, cause=f"{option}: {cause}" if option else cause,
        hint=f"{hint}{f' by {option}' if option else ''}{accept}.",
    )  # fmt: skip


def _accept(hazard: Hazard) -> str:
    if hazard not in ACCEPTABLE:
        return ""
    return f"; where it is known to keep its files, pass --accept-disk {hazard} (docs/machines.md)"


def _known(path: Path) -> Path:
    return Path(os.path.normcase(os.path.realpath(path)))
