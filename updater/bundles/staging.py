"""The way from an offer to a version folder: ask the repository, download, unpack, check, self-test, shelve."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from packaging.version import Version

from dbsync.errors import Refused, TryLater
from dbsync.storage import file_calls, files
from dbsync.storage.claims import plain
from dbsync.storage.connections import LIBRARY_VERSION
from dbsync.storage.platform import this_platform
from updater import __version__
from updater.answers import Answer, Catalog, Offer, Unusable
from updater.bundle_names import agent_app, is_version
from updater.bundles import space
from updater.bundles.downloads import Downloads
from updater.bundles.foreign_files import Kept
from updater.bundles.offers import Found, Here, Manifests, meant_here, newest_usable
from updater.bundles.version_folders import Versions
from updater.bundles.ways import Way, Ways, ways
from updater.decisions.rollout import direct
from updater.errors import PackUnusable
from updater.host import this_host
from updater.host.base import NOT_STARTED
from updater.manifest import Manifest
from updater.model import Journal, Release, ReleaseId, Report, ReportPhase
from updater.outcomes import TerminalOutcome
from updater.repository import client
from updater.repository.conversation import Conversation
from updater.repository.manner import asked_by
from updater.settings import Settings

Progress = Callable[[int, int], None]
SELF_TESTS_COUNT: Final = 3
"""Self-tests that this machine may have spoilt until the release counts as one that cannot run here."""
ENDED_FROM_OUTSIDE: Final = frozenset({-1, -2, -9, -15, -24, -25, 0xC000_013A, 0xC000_0142, 0x4001_0004})
"""Exit codes of a program that the system or a person ended: for lack of memory, at a logoff, at a shutdown.

POSIX: SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGXCPU, SIGXFSZ; Windows: CONTROL_C_EXIT, DLL_INIT_FAILED, TERMINATE_PROCESS.
"""
ASIDE_UNITS: Final = 14
"""Length of what is put around the name of a version folder that is put aside."""
FOLDER_UNITS: Final = 12
"""Length that Windows keeps for a file in every folder."""
LACKS: Final = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
LACKS_IN_WINDOWS: Final = (8, 14, 39, 112, 1455)
"""Errors of a machine that is full: of memory, of open files, of files on its disk."""
LACKING_WORDS: Final = (
    "MemoryError", *(f"[WinError {number}]" for number in LACKS_IN_WINDOWS),
    *(words for number in LACKS for words in (os.strerror(number), f"[Errno {number}]")),
)  # fmt: skip

HELD_WORDS: Final = ("[WinError 5]", "[WinError 32]", "[WinError 33]", f"[Errno {errno.EACCES}]")
"""Errors of a program whose file another one has open, on a system where that one may forbid it."""


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
        told: Callable[[Report], None] | None = None,
        agent_version: str = "",
    ) -> None:
        """Begin with nothing known of the repository.

        Args:
            settings: the terminal.
            versions: its version folders.
            progress: receives bytes done and bytes in all during a download.
            self_test: runs self-tests.
            told: receives reports.
            agent_version: version of the kit that runs; empty where the agent does not update itself.
        """
        self._settings: Final = settings
        self._versions: Final = versions
        self._downloads: Final = Downloads(settings.downloads)
        self._progress: Final[Progress] = progress or _no_progress
        self._self_test: Final[SelfTest] = self_test or _self_test
        self._spoilt: Final = settings.private / "self-tests.json"
        self._told: Final = told or _no_report
        self._ways: Final = Ways(settings.private / "packs.json")
        self._agent_version: Final = agent_version
        self._offers: dict[ReleaseId, client.Signed] = {}
        self._conversation = Conversation()
        """Goes on from a look with something new to the download of it."""

    def close(self) -> None:
        """End the child that asks the repository, if there is one; the next question starts another."""
        self._conversation.close()

    def find_releases(self, journal: Journal | None, worked: tuple[Release, ...] = ()) -> Catalog:
        """Ask the repository; return releases that this terminal can run and that are newer than the good release.

        Args:
            journal: the terminal's journal.
            worked: releases that worked here; those that the vendor withdrew since are named in the result.
        """
        found = self._found(journal, worked)
        if not found.newer and found.agent is None:
            self.close()
        return found

    def _found(self, journal: Journal | None, worked: tuple[Release, ...]) -> Catalog:
        looked = client.look(
            self.source(), now=datetime.now(UTC), through=self._conversation, meanwhile=_load_unpacking
        )
        settings = self._settings
        direction = direct(looked.said, app=settings.app, channel=settings.channel)
        if looked.answer is not Answer.OK:
            return Catalog(
                looked.answer, looked.detail,
                paused=direction.paused, stays=direction.stays, withdrawn=direction.recalled,
            )  # fmt: skip
        releases = [listed for listed in looked.releases if listed.app == settings.app]
        meant = meant_here(releases, direction, channel=settings.channel)
        stays = direction.stays or meant.problem
        above = _version(journal.good.version) if journal is not None else None
        halted = bool(direction.paused or stays)
        self._offers = {}
        manifests = Manifests(self._settings.manifests, self._versions, self._fetch_manifest)
        found = Found(None) if halted else self._newest(meant.releases, above, manifests)
        agent = Found(None) if halted else self._newest_agent(looked.releases, direction.recalled, manifests)
        if not halted:
            manifests.forget_others()
        signed = frozenset(listed.release_id for listed in releases)
        newer = () if found.newest is None else (_offer(found.newest),)
        unusable = _vendor_says(direction.paused, stays, direction.recalled, journal, is_left=bool(newer))
        return Catalog(
            found.answer,
            found.detail,
            newer,
            signed,
            (*unusable, *agent.unusable, *found.unusable),
            tuple(
                sorted(_recalled(releases, worked) | {*direction.recalled} & {release.release_id for release in worked})
            ),
            direction.recalled,
            frozenset() if stays else signed - {listed.release_id for listed in meant.releases},
            direction.paused,
            None if agent.newest is None else _offer(agent.newest),
            stays,
        )

    def _newest_agent(
        self, releases: tuple[client.Listed, ...], recalled: Mapping[ReleaseId, str], manifests: Manifests
    ) -> Found:
        """Return the newest release of the agent for this platform that is newer than the one that runs."""
        if not self._agent_version:
            return Found(None)
        name = agent_app(self._settings.app, this_host().platform_tag())
        own = tuple(listed for listed in releases if listed.app == name and listed.release_id not in recalled)
        found = self._newest(own, _version(self._agent_version), manifests)
        # Not reachable now: what is known of the app's releases counts, and the next look asks again.
        return found._replace(unusable=tuple(item._replace(cause=f"agent {item.cause}") for item in found.unusable))

    def _newest(self, releases: tuple[client.Listed, ...], above: Version | None, manifests: Manifests) -> Found:
        here = Here(
            agent=__version__,
            platform=this_host().platform_tag(),
            sqlite=LIBRARY_VERSION,
            interpreters=frozenset(self._settings.interpreters),
            path_problem=self._path_problem,
        )
        found = newest_usable(releases, here, above=above, manifests=manifests)
        if found.newest is not None:
            self._offers[found.newest.listed.release_id] = found.newest
        return found

    def beside(self, versions: Versions) -> Staging:
        """Return the way of the same offers into other folders."""
        other = Staging(self._settings, versions, self._progress, told=self._told)
        other._offers, other._conversation = self._offers, self._conversation
        return other

    def reuse(self, offer: Offer) -> bool:
        """Return whether its version folder is there and exactly what was signed; one that differs loses its name."""
        is_there = self._versions.reuse(offer.release)
        if is_there:
            self.close()
        return is_there

    def download(self, offer: Offer) -> Path:
        """Return a verified file that the release can be made of: a delta, a pack or the archive.

        One that is here is used again, an interrupted download is resumed. One that the server has not, or has with
        other bytes, is reported, and the next one is fetched.

        Raises:
            TryLater: the terminal is offline, the link is too slow, or there is no space.
            Refused: the archive differs from the signed one.
        """
        known = self._known(offer)
        for way in self._all_ways(known, offer.release):
            if not way.is_archive and self._ways.is_spent(way):
                self._give_up(offer, way, "the agent was ended each time that it used it", for_good=True)
        while True:
            way = self._way(known, offer.release)
            self._make_room(known, offer.release, way)
            result = client.fetch_pack(
                self.source(), way.pack, to=way.path, progress=self._progress, through=self._conversation
            )
            if result.answer is Answer.OK and result.path is not None:
                # Its memory is free for what follows.
                self.close()
                return result.path
            if way.is_archive or result.answer not in (Answer.REFUSED, Answer.SERVER_WRONG):
                break
            # A way that is closed now may be open tomorrow, and its bytes are few.
            self._give_up(offer, way, f"{result.answer}: {result.detail}", for_good=False)
        kind = Refused if result.answer is Answer.REFUSED else TryLater
        raise kind(operation=f"download {offer.release.version}", cause=f"{result.answer}: {result.detail}")

    def unpack(self, offer: Offer, archive: Path) -> Path:
        """Make the files of the release beside the version folders, from what was downloaded.

        What they cannot be made of is reported, and the next form of the release is fetched and used at once.

        Raises:
            TryLater: there is no space, or the next form cannot be fetched now.
            Refused: the archive is damaged or differs from the manifest.
        """
        known = self._known(offer)
        while True:
            way = next(way for way in self._all_ways(known, offer.release) if way.path == archive)
            if way.is_archive:
                return self._versions.unpack(archive, known.manifest, known.manifest_bytes)
            try:
                with self._ways.used(way):
                    return self._versions.assemble(archive, known.manifest, known.manifest_bytes, base=way.base)
            except PackUnusable as error:
                cause = error.cause if error.path is None else error.located
                self._give_up(offer, way, cause, for_good=True)
            try:
                archive = self.download(offer)
            except Refused as error:
                # The transfer is bad, not the release.
                raise TryLater(operation=error.operation, cause=error.cause) from error

    def copy_bundle(self, offer: Offer, folder: Path) -> Path:
        """Copy the bundle from a folder instead of an archive; it is still checked against the signed manifest."""
        self.close()
        known = self._known(offer)
        return self._versions.copy_bundle(folder, known.manifest, known.manifest_bytes)

    def check_unpacked(self, offer: Offer, staging: Path) -> None:
        """Check every file against the manifest, then run the self-test in the unpacked folder.

        Raises:
            Refused: a file differs, or the self-test failed; this release can never run here.
            TryLater: this machine may have spoilt the self-test: it did not start or end, was killed, or lacked space.
        """
        manifest = self._known(offer).manifest
        self._versions.check(staging, manifest)
        if manifest.self_test is None:
            return
        code, output = self._tested(staging, manifest)
        if code != 0:
            ended = "did not end in time" if code is None else f"ended with code {code}"
            kind = TryLater if is_spoilt_here(code, output) and self._gets_another_test(offer) else Refused
            cause = f"it {ended}: {plain(output.strip())[-500:]}"
            if self._settings.till_user:
                cause += f" (it ran as {self._settings.till_user}, who cannot write in the program folder)"
            raise kind(operation=f"self-test {manifest.version}", path=staging, cause=cause)
        # The self-test may have left extra files (caches); the folder must be exactly what was signed.
        self._versions.check(staging, manifest, remove_extra=True)

    def _tested(self, staging: Path, manifest: Manifest) -> tuple[int | None, str]:
        """Run the self-test; return its exit code and the end of its output.

        A program that opens its files without waiting fails where a scanner holds a new one: then it is run again once
        all can be read.
        """
        command, is_held_alone = self._self_test_command(staging, manifest), not this_platform().renames_open_files
        for _ in range(SELF_TESTS_COUNT):
            if is_held_alone:
                for path in manifest.files:
                    with files.disk_errors("read", staging / path):
                        file_calls.open_to_read(staging / path).close()
            code, output = self._self_test(command, folder=staging, timeout_seconds=manifest.self_test_timeout_seconds)
            if code == 0 or not is_held_alone or not any(words in output for words in HELD_WORDS):
                break
        return code, output

    def shelve(self, offer: Offer, staging: Path) -> None:
        """Make the folder durable, give it its final name and remove the archive."""
        self._versions.shelve(staging, offer.release.folder)
        self._downloads.remove(offer.release)

    def tidy(
        self, keep: frozenset[ReleaseId], told: Callable[[Report], None], *, downloads: AbstractSet[str] | None
    ) -> None:
        """Remove version folders and downloads that nothing refers to; report files that were moved out of them.

        Args:
            keep: releases whose folders stay.
            told: receives the reports.
            downloads: names of the version folders whose archives stay; None for all. Where the disk has less than its
                reserve, none stays: sales come first.
        """
        if space.is_under_pressure(self._settings.downloads, reserve_bytes=self._settings.limits.least_free_bytes):
            downloads = frozenset()
        if downloads is not None:
            self._downloads.tidy(downloads)
        names = {
            name for name in self._versions.names() if any(name.endswith(f"-{release_id[:12]}") for release_id in keep)
        }

        def tell(kept: Kept) -> None:
            done = f"not moved: {kept.problem}" if kept.problem else f"moved to {kept.folder}"
            told(Report(TerminalOutcome.FILES_KEPT, phase=ReportPhase.STAGE, cause=kept.in_words, done=done))

        self._versions.tidy(keep=names, kept_files=self._settings.kept_files, told=tell)

    def _gets_another_test(self, offer: Offer) -> bool:
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

    def _all_ways(self, known: client.Signed, release: Release) -> list[Way]:
        return ways(known.listed, release, self._downloads, installed=self._versions.names())

    def _way(self, known: client.Signed, release: Release) -> Way:
        """Return the form of a release that brings it here with the fewest bytes, of those that were not given up."""
        return self._ways.best(self._all_ways(known, release))

    def _give_up(self, offer: Offer, way: Way, cause: str, *, for_good: bool) -> None:
        """Report a file that the release is not made of, and remove it. A crash before leaves it to the next run."""
        self._ways.give_up(way, for_good=for_good)
        self._downloads.remove_file(way.path)
        self._told(
            Report(
                TerminalOutcome.PACK_UNUSABLE, offer.release, ReportPhase.STAGE, cause=f"{way.in_words}: {cause}",
                done="another form of the release is used",
            )
        )  # fmt: skip

    def _make_room(self, offer: client.Signed, release: Release, way: Way) -> None:
        """Check every disk that the release is written to; where one is short, our own leftovers go first.

        Raises:
            DiskFull: there is no room, and the till's reserve stays.
        """
        unpacked_bytes = sum(entry.size_bytes for entry in offer.manifest.files.values())
        left_bytes = max(0, way.pack.size_bytes - way.here_bytes)
        needs = (
            space.Need(self._versions.root, max(unpacked_bytes, offer.manifest.least_free_bytes)),
            space.Need(self._settings.downloads, left_bytes),
        )
        reserve_bytes = self._settings.limits.least_free_bytes
        if space.shortage(needs, reserve_bytes=reserve_bytes) is None:
            return
        self._downloads.tidy({release.folder})
        self._versions.remove_unfinished()
        short = space.shortage(needs, reserve_bytes=reserve_bytes)
        if short is not None:
            raise short

    def _path_problem(self, manifest: Manifest) -> str:
        """Return why a file of a release, also while its folder is put aside, would have too long a path here."""
        root = self._versions.root / f"{manifest.version}-{'0' * 12}"
        folders = {*manifest.folders, *(path.rpartition("/")[0] for path in manifest.files)}
        candidates = [(path, ASIDE_UNITS) for path in _longest(manifest.files)]
        candidates += [(path, ASIDE_UNITS + FOLDER_UNITS) for path in _longest(folders)]
        for path, below_units in candidates:
            problem = this_host().path_problem(root / path, below_units=below_units)
            if problem:
                return f"the path {path!r} does not fit below {self._versions.root}: {problem}"
        return ""

    def _fetch_manifest(self, listed: client.Listed, path: Path) -> client.Fetched:
        return client.fetch_manifest(self.source(), listed, to=path, through=self._conversation)

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

    def source(self) -> client.Source:
        """Return the addresses of the repository, and the limits for asking it."""
        limits, asked = self._settings.limits, asked_by(self._settings)
        return client.Source(
            url=asked.url,
            mirrors=asked.mirrors,
            trust_folder=self._settings.trust,
            app=self._settings.app,
            look_seconds=limits.look_seconds,
            fetch_seconds=limits.fetch_seconds,
            manner=asked.manner,
            record=self._settings.addresses,
        )


def is_spoilt_here(code: int | None, output: str) -> bool:
    """Return whether this machine may be why a self-test failed, by its exit code and the end of its output.

    A release that says so without cause gains a few more self-tests.
    """
    if code is None or code == NOT_STARTED or code in ENDED_FROM_OUTSIDE:
        return True
    return any(words in output for words in LACKING_WORDS)


def _recalled(releases: list[client.Listed], worked: tuple[Release, ...]) -> set[ReleaseId]:
    """Return the releases that worked here and are not signed any more, though older ones are."""
    signed = {listed.release_id for listed in releases}
    oldest = min((Version(listed.version) for listed in releases if is_version(listed.version)), default=None)
    gone = {release for release in worked if release.release_id not in signed}
    return {release.release_id for release in gone if oldest is not None and _version(release.version) > oldest}


def _vendor_says(
    paused: str, stays: str, recalled: Mapping[ReleaseId, str], journal: Journal | None, *, is_left: bool
) -> tuple[Unusable, ...]:
    """Return what people of this terminal should know of the vendor's steering, in the form of unusable releases."""
    found = [Unusable("", TerminalOutcome.STEERING_REFUSED, stays)] if stays else []
    found += [Unusable("", TerminalOutcome.PAUSED_BY_VENDOR, paused)] if paused else []
    good = journal.good if journal is not None else None
    if good is not None and good.release_id in recalled and not is_left:
        reason = recalled[good.release_id]
        cause = f"{good.version}, which runs here, was withdrawn by the vendor{f': {reason}' if reason else ''}"
        found.insert(0, Unusable(good.version, TerminalOutcome.WITHDRAWN, cause))
    return tuple(found)


def _offer(offer: client.Signed) -> Offer:
    manifest = offer.manifest
    release = Release(offer.listed.release_id, manifest.version, manifest.schema)
    return Offer(release, offer.listed.archive_size_bytes, manifest.urgent)


def _longest(paths: Iterable[str]) -> set[str]:
    """Return the longest path as each system counts: in characters, and in bytes."""
    known = tuple(paths)
    return {max(known, key=size) for size in (len, lambda path: len(path.encode()))} if known else set()


def _version(text: str) -> Version:
    """Return the version of a release that is here; one that earlier rules let in and that has none is the lowest."""
    return Version(text if is_version(text) else "0.dev0")


def _self_test(command: Sequence[str], *, folder: Path, timeout_seconds: float) -> tuple[int | None, str]:
    return this_host().run_and_wait(command, timeout_seconds=timeout_seconds, env=None, cwd=folder)


def _no_report(report: Report) -> None:
    """Tell nobody: no place for reports was given."""


def _load_unpacking() -> None:
    """Load what unpacks a release, while the child loads what asks for it: mostly there is a new one."""
    # What is not in this Python fails where it is needed.
    with suppress(ImportError):
        from updater.bundles import packs, unpacking  # noqa: F401

        packs.has_zstd()


def _no_progress(done_bytes: int, total_bytes: int) -> None:
    """Ignore the progress: no progress display was requested."""
