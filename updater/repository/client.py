"""Queries of the repository, each in a child with a hard deadline (`conversation`).

A repository that has not changed is recognised without a child (`unchanged`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from dbsync.errors import Refused, TryLater
from dbsync.facts import NO_SHA256
from dbsync.storage import file_calls
from updater.addresses import shown as shown_address
from updater.answers import Answer, Summary
from updater.bundle_names import is_agent_app
from updater.decisions.rollout import NOTHING_SAID, Said
from updater.manifest import Manifest, ManifestError, NewerFormat
from updater.model import Limits, ReleaseId, Sha256
from updater.network.manner import Manner
from updater.repository import listing, steering, trust, unchanged
from updater.repository.conversation import Conversation
from updater.summary import parse_custom, parse_pack


class Source(NamedTuple):
    """Addresses of a repository, and limits for asking it."""

    url: str
    mirrors: tuple[str, ...]
    trust_folder: Path
    app: str
    """Empty for all apps of the repository."""
    look_seconds: float
    fetch_seconds: float
    manner: Manner
    record: Path | None = None
    """The record of addresses that failed; None for one beside the trusted metadata."""

    def asked(self, do: str, seconds: float) -> dict[str, Any]:
        """Return the request of the child that every question begins with."""
        return {
            "do": do,
            "bases": [self.url, *self.mirrors],
            "record": str(self.record or self.trust_folder / "addresses.json"),
            "seconds": seconds,
            "asked_at": time.time(),
            "manner": self.manner._asdict(),
        }


class Pack(NamedTuple):
    """A pack, or a delta, as listed in the signed metadata."""

    path: str
    size_bytes: int
    sha256: Sha256
    since: ReleaseId | None
    """The release that a delta continues; None for a pack."""


class Listed(NamedTuple):
    """Release as listed in the signed metadata."""

    app: str
    version: str
    """From the target's name; it may be no version at all."""
    release_id: ReleaseId
    summary: Summary | None
    """None where the metadata has none, as in repositories of earlier releases: only the manifest says it."""
    problem: str
    """Why it cannot be read; empty if it can."""
    needs_newer: bool
    """Whether the problem is a format that a newer agent may know."""
    manifest_path: str = ""
    manifest_size_bytes: int = 0
    archive_name: str = ""
    archive_path: str = ""
    archive_size_bytes: int = 0
    archive_sha256: Sha256 = NO_SHA256
    packs: tuple[Pack, ...] = ()
    """Other forms of the same release; none in repositories of earlier releases."""


class Signed(NamedTuple):
    """A listed release with its manifest."""

    listed: Listed
    manifest: Manifest
    manifest_bytes: bytes


class Looked(NamedTuple):
    """Result of a look."""

    answer: Answer
    detail: str
    releases: tuple[Listed, ...] = ()
    said: Said = NOTHING_SAID
    """What the vendor says of the rollout; without an answer, what the last look has verified."""


class Fetched(NamedTuple):
    """Result of a download."""

    answer: Answer
    detail: str
    path: Path | None = None
    fetched_bytes: int = 0


def look(
    source: Source, *, now: datetime, through: Conversation | None = None, meanwhile: Callable[[], None] = lambda: None
) -> Looked:
    """Return the result of one look: all signed releases from refreshed, verified metadata, or the cause of failure.

    Args:
        source: the repository.
        now: this terminal's clock.
        through: the child that is asked, which may be asked more; None for one of this question alone.
        meanwhile: is called while the child is at work, if it takes one.
    """
    request = {
        **source.asked("look", source.look_seconds),
        "app": source.app,
        "trust_folder": str(source.trust_folder),
        "now": now.isoformat(),
    }
    answer = unchanged.answer(request)
    if answer is None:
        answer = _ask(through, request, limit_seconds=source.look_seconds, meanwhile=meanwhile)
    releases = tuple(_listed(offer) for offer in answer.get("offers", ()))
    done = Answer(answer["answer"])
    said = steering.said_of(answer.get("steering"), app=source.app) if done is Answer.OK else last_said(source)
    return Looked(done, answer["detail"], releases, said)


def last_said(source: Source) -> Said:
    """Return what the last verified look has shown of the vendor's steering: a pause holds while nothing answers."""
    kept = listing.read(source.trust_folder)
    if kept is None or kept.app != source.app:
        return NOTHING_SAID
    return steering.said_of(kept.steering, app=source.app)


def app_of(
    url: str,
    root: bytes,
    *,
    named: str | None = None,
    mirrors: tuple[str, ...] = (),
    manner: Manner | None = None,
    operation: str = "install",
) -> str:
    """Return the name of an app of which a repository has releases, verified against a trusted root.

    Args:
        url: the repository.
        root: the trusted root, whole.
        named: the app; None for the only one.
        mirrors: further places of the same repository.
        manner: limits, proxy and certificates; None for the defaults.
        operation: the operation that needs it, for the error.

    Raises:
        TryLater: the repository cannot be asked now.
        Refused: the repository does not pass verification, has no release of the named app, or without a name has
            releases of no app or of several.
    """
    releases = _look_afresh(url, root, mirrors, manner, operation=operation)
    named_apps = {release.app for release in releases}
    apps = sorted(name for name in named_apps if not any(is_agent_app(name, app) for app in named_apps))
    if named in apps:
        return named
    if len(apps) != 1 or named is not None:
        cause = f"the repository at {shown_address(url)} has releases of {', '.join(apps) or 'no app'}"
        cause += f", and none of {named}" if named is not None else ""
        raise Refused(operation=operation, cause=cause, hint="Say which with --app NAME.")
    return apps[0]


def signed_ids(
    url: str, root: bytes, *, mirrors: tuple[str, ...] = (), manner: Manner | None = None
) -> frozenset[ReleaseId]:
    """Return the releases of a repository, verified against a trusted root and nothing else that this terminal has.

    Raises:
        TryLater: the repository cannot be asked now.
        Refused: the repository does not pass verification.
    """
    return frozenset(release.release_id for release in _look_afresh(url, root, mirrors, manner, operation="install"))


def _look_afresh(
    url: str, root: bytes, mirrors: tuple[str, ...], manner: Manner | None, *, operation: str
) -> tuple[Listed, ...]:
    """Look at a repository as a terminal does that knows its root alone."""
    with file_calls.temporary_folder() as folder:
        trust.begin(Path(folder), root)
        limits = Limits()
        manner = manner or Manner(limits.minimum_bytes_per_second)
        found = look(Source(url, mirrors, Path(folder), "", limits.look_seconds, 0, manner), now=datetime.now(UTC))
    if found.answer is Answer.TRUST_LOST:
        # This terminal lost nothing: that is the root which was handed over.
        raise Refused(operation=operation, cause="what was handed over as the root is none")
    if found.answer is not Answer.OK:
        kind = Refused if found.answer is Answer.REFUSED else TryLater
        raise kind(operation=operation, cause=f"{found.answer}: {found.detail}")
    return found.releases


def fetch_manifest(source: Source, wanted: Listed, *, to: Path, through: Conversation | None = None) -> Fetched:
    """Download a release's manifest, of the signed size and hash."""
    request = {
        **source.asked("fetch", source.look_seconds),
        "path": wanted.manifest_path,
        "target": str(to),
        "size_bytes": wanted.manifest_size_bytes,
        "sha256": wanted.release_id,
    }
    answer = _ask(through, request, limit_seconds=source.look_seconds)
    return Fetched(Answer(answer["answer"]), answer["detail"], to, answer.get("fetched_bytes", 0))


def fetch_pack(
    source: Source, wanted: Pack, *, to: Path, progress: Callable[[int, int], None],
    through: Conversation | None = None,
) -> Fetched:  # fmt: skip
    """Download a form of a release under the name `to`; use it if it is there, resume an unfinished download."""
    request = {
        **source.asked("fetch", source.fetch_seconds),
        "path": wanted.path,
        "target": str(to),
        "size_bytes": wanted.size_bytes,
        "sha256": wanted.sha256,
    }
    answer = _ask(
        through, request,
        limit_seconds=source.fetch_seconds,
        progress=lambda line: progress(line["done"], line["total"]),
    )  # fmt: skip
    done = answer["answer"] == Answer.OK
    return Fetched(Answer(answer["answer"]), answer["detail"], to if done else None, answer.get("fetched_bytes", 0))


def _listed(found: dict[str, Any]) -> Listed:
    """Return a listed release; one that cannot be read has a problem, and the others are read all the same."""
    summary, problem, needs_newer = None, str(found.get("problem", "")), False
    try:
        summary = parse_custom(found.get("custom"))
    except NewerFormat as error:
        problem, needs_newer = error.cause, True
    except ManifestError as error:
        problem = problem or error.cause
    if summary is not None and (summary.app, summary.version) != (found["app"], found["version"]):
        problem = f"the metadata calls it {summary.app} {summary.version}"
    fields = {name: found[name] for name in found.keys() & frozenset(Listed._fields)}
    fields["packs"] = tuple(pack for value in found.get("packs", ()) if (pack := _pack(found, value)) is not None)
    return Listed(**{**fields, "summary": summary, "problem": problem, "needs_newer": needs_newer})


def _pack(found: dict[str, Any], value: dict[str, Any]) -> Pack | None:
    """Return a pack of a release; None for one that this agent does not know, or that makes another release."""
    known = parse_pack(value.get("custom"))
    if known is None or known[0] != found["release_id"] or not value["sha256"]:
        return None
    since = None if known[1] is None else ReleaseId(known[1])
    return Pack(value["path"], value["size_bytes"], Sha256(value["sha256"]), since)


def _ask(
    through: Conversation | None,
    request: dict[str, Any],
    *,
    limit_seconds: float,
    progress: Callable[[dict[str, Any]], None] = lambda _: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    if through is not None:
        return through.ask(request, limit_seconds=limit_seconds, progress=progress, meanwhile=meanwhile)
    with Conversation() as alone:
        return alone.ask(request, limit_seconds=limit_seconds, progress=progress, meanwhile=meanwhile)
