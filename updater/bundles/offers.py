"""Choosing among the signed releases: the newest one that this terminal can use, and why not the newer ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, assert_never

from packaging.version import Version

from dbsync.errors import disk_problem
from dbsync.facts import NO_SCHEMA
from dbsync.outcomes import NamedOutcome
from dbsync.storage import file_calls, files
from dbsync.storage.files import disk_errors
from updater.answers import Answer, Summary, Unusable
from updater.bundle_names import ANY_PLATFORM, is_version
from updater.bundles.version_folders import Versions
from updater.decisions.agent import lacks_sqlite
from updater.decisions.rollout import Direction
from updater.manifest import Manifest, ManifestError, NewerFormat, check_fits_here, parse, release_id
from updater.model import STABLE, Release
from updater.outcomes import TerminalOutcome
from updater.repository.client import Fetched, Listed, Signed
from updater.summary import summary_of

UNUSABLE_LIMIT: Final = 10
"""Of the releases that are named: a terminal that lags behind may be unable to use hundreds."""


class Here(NamedTuple):
    """The properties of this terminal that a release may need."""

    agent: str
    platform: str
    sqlite: str
    interpreters: frozenset[str]
    path_problem: Callable[[Manifest], str]
    """Why a file of a release would have a path that this system cannot hold; empty if none would."""


class Found(NamedTuple):
    """The newest release that can be used here, and the newer ones that cannot."""

    newest: Signed | None
    unusable: tuple[Unusable, ...] = ()
    """Newest first."""
    answer: Answer = Answer.OK
    """Another one if a manifest could not be fetched for a cause that lies in the way, not in the release."""
    detail: str = ""


class Meant(NamedTuple):
    """The releases that the vendor means for this terminal."""

    releases: tuple[Listed, ...]
    problem: str = ""
    """Why what the vendor says cannot be followed; empty if it can."""


def meant_here(releases: Iterable[Listed], direction: Direction, *, channel: str) -> Meant:
    """Return the releases that may be chosen: up to that of the channel, without those that were withdrawn.

    Lower ones than the channel's are among them: where that one cannot be used here, the next lower one is.
    Pre-releases are for terminals that ask for a channel. Without a document every release may be chosen.

    Args:
        releases: all that are signed.
        direction: what this terminal follows.
        channel: the channel that its settings ask for.
    """
    takes_early_ones = channel != STABLE
    left = [listed for listed in releases if listed.release_id not in direction.recalled]
    left = [listed for listed in left if takes_early_ones or not _is_early(listed.version)]
    if direction.is_newest or direction.target is None:
        return Meant(tuple(left) if direction.is_newest else ())
    target = next((listed for listed in releases if listed.release_id == direction.target), None)
    if target is None or not is_version(target.version):
        if direction.target in direction.recalled:
            return Meant(())
        return Meant((), f"the vendor's steering names a release that is not signed: {direction.target}")
    highest = Version(target.version)
    return Meant(tuple(item for item in left if is_version(item.version) and Version(item.version) <= highest))


def _is_early(version: str) -> bool:
    return is_version(version) and Version(version).is_prerelease


class Manifests:
    """The manifests of releases: fetched once, kept by release id, and read from the version folder where it is there.

    A crash while one is fetched leaves a part, which the next look resumes.
    """

    def __init__(self, folder: Path, versions: Versions, fetch: Callable[[Listed, Path], Fetched]) -> None:
        self._folder: Final = folder
        self._versions: Final = versions
        self._fetch: Final = fetch
        self._used: Final[set[str]] = set()

    def bytes_of(self, listed: Listed) -> bytes | Fetched:
        """Return the bytes whose hash is the release id, or how fetching them ended."""
        path = self._folder / f"{listed.release_id}.manifest"
        self._used.add(path.name)
        if is_version(listed.version):
            shelved = self._versions.manifest_bytes(Release(listed.release_id, listed.version, NO_SCHEMA).folder)
            if shelved is not None and release_id(shelved) == listed.release_id:
                return shelved
        kept = _read(path)
        if kept is not None and release_id(kept) == listed.release_id:
            return kept
        with disk_errors("remove", path):
            file_calls.remove(path)
        fetched = self._fetch(listed, path)
        data = _read(path) if fetched.answer is Answer.OK else None
        return data if data is not None else fetched

    def forget_others(self) -> None:
        """Remove what the last look did not need; what another program holds stays until the next one."""
        for path in files.listed(self._folder, "*"):
            if path.name.removesuffix(".part") not in self._used:
                file_calls.remove_if_possible(path)


def newest_usable(releases: Iterable[Listed], here: Here, *, above: Version | None, manifests: Manifests) -> Found:
    """Return the newest release that this terminal can use.

    From the newest down, each is judged by its summary in the metadata; a manifest is fetched only for one that may be
    chosen, or whose repository has no summaries. A release that cannot be used is dropped with its cause, and the next
    older one is judged.

    Args:
        releases: all that are signed, of this terminal's app.
        here: what this terminal has.
        above: version of the good release; only higher ones count. None for all.
        manifests: where manifests come from.
    """
    unusable: list[Unusable] = []
    newer = [listed for listed in releases if above is None or _is_above(listed.version, above)]
    for listed in sorted(newer, key=_order, reverse=True):
        found = _examined(listed, here, manifests)
        match found:
            case Signed():
                return Found(found, tuple(unusable[:UNUSABLE_LIMIT]))
            case Unusable():
                unusable.append(found)
            case Fetched():
                return Found(None, tuple(unusable[:UNUSABLE_LIMIT]), found.answer, found.detail)
            case None:
                # For another platform: that is no news.
                continue
            case _:
                assert_never(found)
    return Found(None, tuple(unusable[:UNUSABLE_LIMIT]))


def _is_above(version: str, least: Version) -> bool:
    # A name without a version cannot be put in order: people should hear of it before something older is called newest.
    return not is_version(version) or Version(version) > least


def _order(listed: Listed) -> tuple[bool, Version]:
    is_ordered = is_version(listed.version)
    return not is_ordered, Version(listed.version if is_ordered else "0")


def _examined(listed: Listed, here: Here, manifests: Manifests) -> Signed | Unusable | Fetched | None:
    """Return a release with its manifest; why it cannot be used; how fetching ended; None for another platform."""
    if listed.problem:
        outcome = TerminalOutcome.NEEDS_NEWER_AGENT if listed.needs_newer else TerminalOutcome.RELEASE_MALFORMED
        return _unusable(listed, outcome, listed.problem)
    if not is_version(listed.version):
        return _unusable(listed, TerminalOutcome.RELEASE_MALFORMED, "this is no version")
    if listed.summary is not None and not _is_for(listed.summary, here):
        return None
    lack = _lack(listed.summary, here) if listed.summary is not None else None
    if lack is not None:
        return _unusable(listed, *lack)
    data = manifests.bytes_of(listed)
    if isinstance(data, Fetched):
        # Another answer says nothing of the release: the server is away, or this machine has no room.
        is_its_own = data.answer in (Answer.REFUSED, Answer.SERVER_WRONG)
        return _unusable(listed, data.answer.outcome, data.detail) if is_its_own else data
    return _described(listed, data, here)


def _described(listed: Listed, data: bytes, here: Here) -> Signed | Unusable | None:
    try:
        manifest = parse(data)
        check_fits_here(manifest, here.platform)
    except NewerFormat as error:
        return _unusable(listed, TerminalOutcome.NEEDS_NEWER_AGENT, error.cause)
    except ManifestError as error:
        return _unusable(listed, TerminalOutcome.RELEASE_MALFORMED, error.cause)
    summary = summary_of(manifest)
    if (summary.app, summary.version) != (listed.app, listed.version) or listed.summary not in (None, summary):
        return _unusable(listed, TerminalOutcome.RELEASE_MALFORMED, "its manifest differs from the metadata")
    if not _is_for(summary, here):
        return None
    lack, problem = _lack(summary, here), here.path_problem(manifest)
    if lack is None and problem:
        lack = TerminalOutcome.PATH_TOO_LONG, problem
    return _unusable(listed, *lack) if lack is not None else Signed(listed, manifest, data)


def _is_for(summary: Summary, here: Here) -> bool:
    return summary.platform in (ANY_PLATFORM, here.platform)


def _lack(summary: Summary, here: Here) -> tuple[NamedOutcome, str] | None:
    """Return outcome and cause if this terminal lacks what a release needs."""
    if Version(summary.least_agent) > Version(here.agent):
        cause = f"needs Tillkeeper {summary.least_agent}, this terminal has {here.agent}"
        return TerminalOutcome.NEEDS_NEWER_AGENT, cause
    if summary.interpreter is not None and summary.interpreter not in here.interpreters:
        cause = f"needs a program for the role {summary.interpreter!r}, which the settings do not name"
        return TerminalOutcome.INTERPRETER_UNKNOWN, cause
    if lacks_sqlite(summary.least_sqlite, here.sqlite):
        cause = f"needs SQLite {summary.least_sqlite}, this terminal has {here.sqlite}"
        return TerminalOutcome.NEEDS_NEWER_SQLITE, cause
    return None


def _unusable(listed: Listed, outcome: NamedOutcome, cause: str) -> Unusable:
    needs = cause.startswith("needs ")
    return Unusable(listed.version, outcome, f"{listed.version} {cause}" if needs else f"{listed.version}: {cause}")


def _read(path: Path) -> bytes | None:
    try:
        return file_calls.read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as cause:
        raise disk_problem("read", path, cause) from cause
