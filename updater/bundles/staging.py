"""The way from an offer to a version folder: ask the repository, download, unpack, check, self-test, shelve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from packaging.version import InvalidVersion, Version

from dbsync.errors import Refused, TryLater
from dbsync.storage import file_calls, files
from dbsync.storage.claims import plain
from dbsync.storage.connections import LIBRARY_VERSION
from dbsync.storage.files import disk_errors
from updater import __version__
from updater.answers import Answer, Catalog, Offer
from updater.bundles.foreign_files import Kept
from updater.bundles.version_folders import Versions
from updater.decisions.agent import lacks_sqlite
from updater.host import this_host
from updater.host.base import NOT_STARTED
from updater.manifest import Manifest
from updater.model import Journal, Release, ReleaseId, Report, ReportPhase
from updater.outcomes import TerminalOutcome
from updater.repository import client
from updater.settings import Settings

Progress = Callable[[int, int], None]
SELF_TESTS_COUNT: Final = 3
"""Self-tests that this machine may have spoilt until the release counts as one that cannot run here."""
KILLED: Final = -9
"""By the system, for lack of memory, or by a person."""


class SelfTest(Protocol):
    """The way to run a self-test, with the rights of the account that runs the app."""

    def __call__(self, command: Sequence[str], *, folder: Path, timeout_seconds: float) -> tuple[int | None, str]:
        """Return its exit code, None if it did not end in time, and the end of its output."""


class Staging:
    """The agent's steps to new version folders. Keeps the result of the last look at the repository for one cycle."""

    def __init__(
        self,
        settings: Settings,
        versions: Versions,
        progress: Progress | None = None,
        *,
        self_test: SelfTest | None = None,
    ) -> None:
        self._settings: Final = settings
        self._versions: Final = versions
        self._progress: Final[Progress] = progress or _no_progress
        self._self_test: Final[SelfTest] = self_test or _self_test
        self._spoilt: Final = settings.private / "self-tests.json"
        self._offers: dict[ReleaseId, client.Signed] = {}

    def find_releases(self, journal: Journal | None, worked: tuple[Release, ...] = ()) -> Catalog:
        """Ask the repository; return releases that this terminal can run and that are newer than the good release.

        Args:
            journal: the terminal's journal.
            worked: releases that worked here; those that the vendor withdrew since are named in the result.
        """
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
        oldest = min((_version(offer.manifest.version) for offer in releases), default=None)
        recalled = {
            release.release_id
            for release in worked
            if release.release_id not in self._offers and oldest is not None and _version(release.version) > oldest
        }
        return Catalog(found.answer, found.detail, newer, frozenset(self._offers), words, tuple(sorted(recalled)))

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
            TryLater: this machine may have spoilt the self-test: it did not start or end, or was killed.
        """
        manifest = self._known(offer).manifest
        self._versions.check(staging, manifest)
        if manifest.self_test is None:
            return
        command = self._self_test_command(staging, manifest)
        code, output = self._self_test(command, folder=staging, timeout_seconds=manifest.self_test_timeout_seconds)
        if code != 0:
            ended = "did not end in time" if code is None else f"ended with code {code}"
            kind = TryLater if code in (None, KILLED, NOT_STARTED) and self._may_be_spoilt(offer) else Refused
            cause = f"it {ended}: {plain(output.strip())[-500:]}"
            if self._settings.till_user:
                cause += f" (it ran as {self._settings.till_user}, who cannot write in the program folder)"
            raise kind(operation=f"self-test {manifest.version}", path=staging, cause=cause)
        # The self-test may have left extra files (caches); the folder must be exactly what was signed.
        self._versions.check(staging, manifest, remove_extra=True)

    def shelve(self, offer: Offer, staging: Path) -> None:
        """Make the folder durable, give it its final name and remove the archive."""
        self._versions.shelve(staging, offer.release.folder)
        archive = self._settings.downloads / self._known(offer).archive_name
        with disk_errors("remove", archive):
            file_calls.remove(archive)

    def tidy(self, keep: frozenset[ReleaseId], told: Callable[[Report], None]) -> None:
        """Remove version folders that nothing refers to; report files that were moved out of them."""
        names = {
            name for name in self._versions.names() if any(name.endswith(f"-{release_id[:12]}") for release_id in keep)
        }

        def tell(kept: Kept) -> None:
            done = f"not moved: {kept.problem}" if kept.problem else f"moved to {kept.folder}"
            told(Report(TerminalOutcome.FILES_KEPT, phase=ReportPhase.STAGE, cause=kept.in_words, done=done))

        self._versions.tidy(keep=names, kept_files=self._settings.kept_files, told=tell)

    def _may_be_spoilt(self, offer: Offer) -> bool:
        """Count a self-test that this machine may have spoilt; return whether the release gets another one."""
        release_id = offer.release.release_id
        try:
            noted = files.read_json(self._spoilt)
            count = int(noted["count"]) if noted["release_id"] == release_id else 0
        except (FileNotFoundError, Refused, KeyError, TypeError, ValueError):
            count = 0
        files.make_folder(self._spoilt.parent)
        files.write_json(self._spoilt, {"format": 1, "release_id": release_id, "count": count + 1})
        return count + 1 < SELF_TESTS_COUNT

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
    return Offer(
        Release(offer.release_id, manifest.version, manifest.schema), offer.archive_size_bytes, manifest.urgent
    )


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        # Signed, but not a comparable version: it sorts below everything, so it is never offered.
        return Version("0.dev0")


def _self_test(command: Sequence[str], *, folder: Path, timeout_seconds: float) -> tuple[int | None, str]:
    return this_host().run_and_wait(command, timeout_seconds=timeout_seconds, env=None, cwd=folder)


def _no_progress(done_bytes: int, total_bytes: int) -> None:
    """Ignore the progress: no progress display was requested."""
