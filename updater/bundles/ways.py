"""The forms in which a release can come to this terminal, and the choice among them: the fewest bytes on the line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.errors import Refused
from dbsync.storage import files
from updater.bundles.downloads import Downloads
from updater.model import Release, ReleaseId, Sha256
from updater.repository.client import Listed, Pack

GIVEN_UP_COUNT: Final = 50
"""How many files that were no use are remembered."""
BEGUN_COUNT: Final = 3
"""How often the making of a release of one file may be ended from outside: by the power, or because it takes the memory
of the machine. A fourth time it is not begun."""


class Way(NamedTuple):
    """One form of a release, and where it is put."""

    pack: Pack
    path: Path
    here_bytes: int
    """How much of it is here already."""
    base: tuple[str, ReleaseId] | None = None
    """For a delta: name and release of the version folder that it continues."""
    is_archive: bool = False

    @property
    def in_words(self) -> str:
        """The name of the form, for a report."""
        return f"the delta from {self.base[0]}" if self.base is not None else "the pack"


class Ways:
    """The choice, with a record of what was no use: such a file is not used again.

    Without the record, or after a crash before it is written, it is fetched again.
    """

    def __init__(self, record: Path) -> None:
        self._record: Final = record
        self._own: Final[set[Sha256]] = set()
        """What this process has given up, whatever becomes of the record: no file is tried twice in one run."""

    def best(self, found: Iterable[Way]) -> Way:
        """Return the way with the fewest bytes left to fetch; the archive is always one."""
        given_up = {*self._read()[0], *self._own}
        usable = [way for way in found if way.is_archive or way.pack.sha256 not in given_up]
        return min(usable, key=lambda way: (max(0, way.pack.size_bytes - way.here_bytes), way.is_archive))

    def give_up(self, way: Way, *, for_good: bool) -> None:
        """Use a file no more: in this run, because it did not come, or never, because it is no use."""
        self._own.add(way.pack.sha256)
        if for_good:
            given_up, begun = self._read()
            begun.pop(way.pack.sha256, None)
            self._write([*given_up, way.pack.sha256], begun)

    def is_spent(self, way: Way) -> bool:
        """Return whether the agent was ended each time that it used this file."""
        return self._read()[1].get(way.pack.sha256, 0) >= BEGUN_COUNT

    @contextmanager
    def used(self, way: Way) -> Iterator[None]:
        """A block that uses a file; whatever ends the process inside is counted."""
        given_up, begun = self._read()
        self._write(given_up, {way.pack.sha256: begun.get(way.pack.sha256, 0) + 1})
        try:
            yield
        finally:
            self._write(self._read()[0], {})

    def _read(self) -> tuple[list[Sha256], dict[Sha256, int]]:
        """Return what was given up, and how often the use of a file was begun and not ended."""
        try:
            found = files.read_json(self._record)
            given_up = [Sha256(str(sha256)) for sha256 in found["given_up"]]
            return given_up, {Sha256(sha256): int(count) for sha256, count in found.get("begun", {}).items()}
        except (FileNotFoundError, Refused, KeyError, TypeError, ValueError, AttributeError):
            return [], {}

    def _write(self, given_up: list[Sha256], begun: dict[Sha256, int]) -> None:
        files.make_folder(self._record.parent)
        kept = {"format": 1, "given_up": given_up[-GIVEN_UP_COUNT:], "begun": begun}
        files.write_json(self._record, kept)


def ways(listed: Listed, release: Release, downloads: Downloads, *, installed: AbstractSet[str]) -> list[Way]:
    """Return the forms in which a release can be used here.

    Args:
        listed: the release as it is signed.
        release: the same, by name.
        downloads: where they are put.
        installed: names of the version folders. What is in one is not trusted: every file that is made is hashed.
    """
    found = []
    for pack in listed.packs:
        path = downloads.path_of_pack(release, pack.sha256)
        if pack.since is not None:
            name = next((name for name in installed if name.endswith(f"-{pack.since[:12]}")), None)
            if name is not None:
                found.append(Way(pack, path, downloads.here_bytes(path), (name, pack.since)))
        elif _can_unpack():
            found.append(Way(pack, path, downloads.here_bytes(path)))
    path = downloads.path_of(release)
    archive = Pack(listed.archive_path, listed.archive_size_bytes, listed.archive_sha256, None)
    return [*found, Way(archive, path, downloads.here_bytes(path), is_archive=True)]


def _can_unpack() -> bool:
    # Here, because a look that finds nothing new needs none of it.
    from updater.bundles import packs

    return packs.has_zstd()
