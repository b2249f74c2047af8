"""Steering the fleet from the workshop: withdraw, pause, resume, promote, brake, and what the public says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import Version

from updater.decisions.rollout import NO_BRAKE, Brake, Document, brake_json, document_json
from updater.model import STABLE, ReleaseId
from updater.publish import rebuild, repository, rollout
from updater.publish.errors import OldWorkshop, PublishError
from updater.publish.keys import Passwords
from updater.publish.repository import Config
from updater.publish.signing import ONLINE, Workshop
from updater.publish.storage import TIMESTAMP, storage_of
from updater.repository.listing import packs_by_version


class Public(NamedTuple):
    """Content of the public folder that steers terminals, as the workshop knows it."""

    document: Document
    brake: Brake
    releases: dict[str, ReleaseId]
    """Version to release id, lowest version first."""
    waiting: tuple[str, ...] = ()
    """Roles of a change that waits for signatures; nothing of it is among the rest."""
    is_public: bool = True
    """Whether terminals can see the rest: a deploy that was cut is not public yet."""


def withdraw(folder: Path, version: str, *, reason: str, passwords: Passwords) -> Document:
    """Withdraw a release: it is signed no more, and terminals take back what of it has not been confirmed.

    Raises:
        PublishError: there is no such release; nothing became public.
    """

    def change(workshop: Workshop, document: Document) -> Document:
        known = rollout.releases(workshop)
        release_id = _known(version, known, document)
        targets = workshop.roles.targets.signed.targets
        # Signed no more, so that agents and clients that know no document do not take it either.
        packs = packs_by_version(targets).get((workshop.app_name, version), ())
        for name in (f"{workshop.app_name}-{version}.tar.gz", f"{workshop.app_name}-{version}.manifest", *packs):
            targets.pop(name, None)
        return rollout.without_release(document, version, release_id, reason, known)

    return _changed(folder, change, passwords)


def pause(folder: Path, *, reason: str, passwords: Passwords) -> Document:
    """Pause all updates of the app: no download, no swap, and swaps that have not begun are taken back."""
    return _changed(folder, lambda _, document: document._replace(paused=True, reason=reason), passwords)


def resume(folder: Path, *, passwords: Passwords) -> Document:
    """Resume updates that the document pauses; a brake stays until it is lifted by name."""
    return _changed(folder, lambda _, document: document._replace(paused=False, reason=""), passwords)


def promote(folder: Path, version: str, *, channel: str, passwords: Passwords) -> Document:
    """Let a channel lead to a release that is signed already.

    Raises:
        PublishError: there is no such release, it is withdrawn, a pre-release, or not above the channel's.
    """

    def change(workshop: Workshop, document: Document) -> Document:
        known = rollout.releases(workshop)
        rollout.check_channel(channel, version)
        release_id = _known(version, known, document)
        before = document.channels.get(channel)
        lower = [name for name, found in known.items() if before is not None and found == before.release]
        if lower and Version(version) <= Version(lower[0]):
            raise PublishError(
                operation="promote", cause=f"{channel} leads to {lower[0]} already, and goes up only",
                hint=f"To take {lower[0]} back: `updater publish withdraw {lower[0]}`.",
            )  # fmt: skip
        return rollout.with_release(document, version, release_id, channel, known)

    return _changed(folder, change, passwords)


def brake(folder: Path, *, on: bool, recalled: tuple[str, ...], passwords: Passwords) -> Brake:
    """Pull or lift the brake, with the timestamp key alone.

    Args:
        folder: the repository.
        on: whether it is pulled; else all of it is lifted.
        recalled: versions that are recalled, beside those that the brake recalls already; none pauses the app.
        passwords: those of the keys.

    Raises:
        PublishError: there is no such release, or the brake would name too many.
    """

    def pull(workshop: Workshop, config: Config) -> Brake:
        now = rollout.brake_of(workshop.roles.timestamp.signed)
        known = rollout.releases(workshop)
        found = NO_BRAKE
        if on:
            more = tuple(_known(version, known, None) for version in recalled)
            apps = now.paused if recalled else (*now.paused, config.app)
            found = Brake(tuple(dict.fromkeys(apps)), tuple(dict.fromkeys((*now.recalled, *more))))
        rollout.put_brake(workshop, found)
        return found

    try:
        return repository.change(folder, pull, roles=("timestamp",), passwords=passwords)
    except OldWorkshop:
        # A machine with the timestamp key alone, whose copy of the workshop is old: it brakes over what is public.
        rebuild.rebuild(folder=folder, app=None, public=None, keys_folder=None, root=None, metadata_only=True)
        return repository.change(folder, pull, roles=("timestamp",), passwords=passwords)


def status(folder: Path) -> Public:
    """Return what the newest complete signatures and the public timestamp say; nothing is changed.

    Raises:
        PublishError: one of them cannot be read.
    """

    def look(workshop: Workshop, config: Config) -> Public:
        stored, public = workshop.stored("timestamp"), storage_of(config.public)
        return Public(
            rollout.read(workshop, public=public),
            rollout.brake_of(workshop.roles.timestamp.signed),
            rollout.releases(workshop),
            tuple(workshop.pending()),
            # A newer public one, of another machine, was followed by now.
            stored is not None and _is_as_new(public.read(TIMESTAMP), stored[0].signed.version),
        )

    return repository.change(folder, look, roles=(), passwords=lambda _: None, collects=False)


def _is_as_new(public: bytes | None, version: int) -> bool:
    """Return whether a public timestamp has at least some version."""
    try:
        return public is not None and int(json.loads(public)["signed"]["version"]) >= version
    except (ValueError, KeyError, TypeError):
        return False


def in_words(public: Public) -> list[str]:
    """Return lines for a release engineer."""
    document, versions = public.document, {release_id: version for version, release_id in public.releases.items()}
    lines = []
    if public.waiting:
        lines.append(f"WAITS      for signatures: {', '.join(public.waiting)}; terminals see nothing of it")
    if not public.is_public:
        lines.append("NOT PUBLIC what follows: " + (
            "it waits too" if public.waiting else "it is signed and was not deployed; repeat the command"
        ))  # fmt: skip
    lines += [f"{document.app}: document {document.sequence or 'none yet'}, issued {document.issued_at or '-'}"]
    for name, channel in sorted(document.channels.items(), key=lambda item: (item[0] != STABLE, item[0])):
        lines.append(f"{name:<10} {versions.get(channel.release, channel.release)}")
    if document.paused:
        lines.append(f"PAUSED     {document.reason or 'no reason given'}")
    lines += [
        f"withdrawn  {about.version}{f': {about.reason}' if about.reason else ''}"
        for about in document.releases.values()
        if about.recalled
    ]
    if public.brake.paused:
        lines.append(f"BRAKE      paused: {', '.join(public.brake.paused)}")
    if public.brake.recalled:
        named = [versions.get(release_id, release_id) for release_id in public.brake.recalled]
        lines.append(f"BRAKE      recalled: {', '.join(named)}")
    lines.append(f"signed     {', '.join(public.releases) or 'nothing'}")
    return lines


def as_json(public: Public) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "format": 1,
        "document": document_json(public.document) if public.document.sequence else None,
        "brake": brake_json(public.brake),
        "releases": public.releases,
        "is_public": public.is_public,
        "waiting": list(public.waiting),
    }


def _changed(folder: Path, change: Callable[[Workshop, Document], Document], passwords: Passwords) -> Document:
    def write(workshop: Workshop, config: Config) -> Document:
        return rollout.write(workshop, change(workshop, rollout.read(workshop, public=storage_of(config.public))))

    return repository.change(folder, write, roles=ONLINE, passwords=passwords)


def _known(version: str, known: dict[str, ReleaseId], document: Document | None) -> ReleaseId:
    if version in known:
        return known[version]
    gone = document is not None and any(about.version == version for about in document.releases.values())
    raise PublishError(
        operation="steer", cause=f"{version} is {'withdrawn already' if gone else 'not among the signed releases'}",
        hint=f"Signed are {', '.join(known) or 'none'}.",
    )  # fmt: skip
