"""The way from an offer to a version folder: ask the repository, download, unpack, check, self-test, shelve."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

from dbsync.errors import Refused, TryLater
from dbsync.storage.connections import LIBRARY_VERSION
from dbsync.storage.files import disk_errors
from updater import __version__
from updater.answers import Answer, Catalog, Offer
from updater.bundles.version_folders import Versions
from updater.decisions.agent import lacks_sqlite
from updater.host import this_host
from updater.manifest import Manifest
from updater.model import Journal, Release, ReleaseId
from updater.repository import client
from updater.settings import Settings

Progress = Callable[[int, int], None]


class Staging:
    """The agent's steps to new version folders. Keeps the result of the last look at the repository for one cycle."""

    def __init__(self, settings: Settings, versions: Versions, progress: Progress | None = None) -> None:
        self._settings: Final = settings
        self._versions: Final = versions
        self._progress: Final[Progress] = progress or _no_progress
        self._offers: dict[ReleaseId, client.Signed] = {}

    def find_releases(self, journal: Journal | None) -> Catalog:
        """Ask the repository; return releases that this terminal can run and that are newer than the good release."""
        found = client.look(self._source(), now=datetime.now(UTC))
        releases = [release for release in found.releases if release.manifest.app == self._settings.app]
        self._offers = {offer.release_id: offer for offer in releases}
        good = _version(journal.good.version) if journal is not None else None
        fitting = [
            offer
            for offer in releases
            if (good is None or _version(offer.manifest.version) > good) and self._can_run(offer.manifest)
        ]
        fitting.sort(key=lambda offer: _version(offer.manifest.version))
        lacking = [offer for offer in fitting if lacks_sqlite(offer.manifest.least_sqlite, LIBRARY_VERSION)]
        newer = tuple(_offer(offer) for offer in fitting if offer not in lacking)
        words = ""
        if lacking and lacking[-1] is fitting[-1]:
            manifest = lacking[-1].manifest
            words = f"{manifest.version} needs SQLite {manifest.least_sqlite}, this terminal has {LIBRARY_VERSION}"
        return Catalog(found.answer, found.detail, newer, frozenset(self._offers), words)

    def download(self, offer: Offer) -> Path:
        """Download and verify the archive into the downloads folder; resume an interrupted download.

        Raises:
            TryLater: the terminal is offline, the link is too slow, or there is no space.
            Refused: the archive differs from the signed one.
        """
        known = self._known(offer)
        self._check_space(known)
        result = client.fetch(self._source(), known, to=self._settings.downloads, progress=self._progress)
        if result.answer is Answer.OK and result.path is not None:
            return result.path
        kind = Refused if result.answer is Answer.REFUSED else TryLater
        raise kind(operation=f"download {offer.release.version}", cause=f"{result.answer}: {result.detail}")

    def unpack(self, offer: Offer, archive: Path) -> Path:
        """Unpack the archive beside the version folders."""
        known = self._known(offer)
        return self._versions.unpack(archive, known.manifest, known.manifest_bytes)

    def copy_bundle(self, offer: Offer, folder: Path) -> Path:
        """Copy the bundle from a folder instead of an archive; it is still checked against the signed manifest."""
        known = self._known(offer)
        return self._versions.copy_bundle(folder, known.manifest, known.manifest_bytes)

    def check_unpacked(self, offer: Offer, staging: Path) -> None:
        """Check every file against the manifest, then run the self-test in the unpacked folder.

        Raises:
            Refused: a file differs, or the self-test failed; this release can never run here.
        """
        manifest = self._known(offer).manifest
        self._versions.check(staging, manifest)
        if manifest.self_test is None:
            return
        command = self._self_test_command(staging, manifest)
        code, output = this_host().run_and_wait(
            command, timeout_seconds=manifest.self_test_timeout_seconds, env=None, cwd=staging
        )
        if code != 0:
            ended = "did not end in time" if code is None else f"ended with code {code}"
            raise Refused(
                operation=f"self-test {manifest.version}", path=staging, cause=f"it {ended}: {output.strip()[-500:]}"
            )
        # The self-test may have left extra files (caches); the folder must be exactly what was signed.
        self._versions.check(staging, manifest, remove_extra=True)

    def shelve(self, offer: Offer, staging: Path) -> None:
        """Make the folder durable, give it its final name and remove the archive."""
        self._versions.shelve(staging, offer.release.folder)
        archive = self._settings.downloads / self._known(offer).archive_name
        with disk_errors("remove", archive):
            archive.unlink(missing_ok=True)

    def tidy(self, keep: frozenset[ReleaseId]) -> None:
        """Remove version folders that nothing refers to."""
        names = {
            name for name in self._versions.names() if any(name.endswith(f"-{release_id[:12]}") for release_id in keep)
        }
        self._versions.tidy(keep=names)

    def _known(self, offer: Offer) -> client.Signed:
        return self._offers[offer.release.release_id]

    def _check_space(self, offer: client.Signed) -> None:
        unpacked_bytes = sum(entry.size_bytes for entry in offer.manifest.files.values())
        needed_bytes = max(offer.archive_size_bytes + unpacked_bytes, offer.manifest.least_free_bytes)
        self._versions.check_space(needed_bytes)

    def _can_run(self, manifest: Manifest) -> bool:
        least = Version(manifest.least_agent)
        return least <= Version(__version__) and manifest.platform in ("any", this_host().platform_tag())

    def _self_test_command(self, folder: Path, manifest: Manifest) -> list[str]:
        assert manifest.self_test is not None
        entry = str(folder / manifest.entry)
        role = manifest.interpreter
        if role is None:
            return [entry, *manifest.self_test]
        if role not in self._settings.interpreters:
            raise TryLater(
                operation="self-test",
                path=folder,
                cause=f"the settings name no interpreter for the role {role!r}",
                hint=f"Add it under [interpreters] in {self._settings.path}.",
            )
        return [self._settings.interpreters[role], entry, *manifest.self_test]

    def _source(self) -> client.Source:
        limits = self._settings.limits
        return client.Source(
            url=self._settings.url,
            mirrors=self._settings.mirrors,
            trust_folder=self._settings.trust,
            app=self._settings.app,
            look_seconds=limits.look_seconds,
            fetch_seconds=limits.fetch_seconds,
            minimum_bytes_per_second=limits.minimum_bytes_per_second,
        )


def _offer(offer: client.Signed) -> Offer:
    manifest = offer.manifest
    return Offer(Release(offer.release_id, manifest.version, manifest.schema), offer.archive_size_bytes)


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        # Signed, but not a comparable version: it sorts below everything, so it is never offered.
        return Version("0.dev0")


def _no_progress(done_bytes: int, total_bytes: int) -> None:
    """Ignore the progress: no progress display was requested."""
