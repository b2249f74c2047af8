"""The steering document and the brake on the vendor's side: read, changed as values, and put into the workshop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from packaging.version import Version
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Timestamp
from tufup.common import TargetMeta

from dbsync.storage import files
from updater.decisions.rollout import (
    BRAKE,
    BRAKE_RELEASES_LIMIT,
    DOCUMENT_END,
    NO_BRAKE,
    SIZE_LIMIT_BYTES,
    Brake,
    Channel,
    Document,
    Said,
    Steered,
    brake_json,
    direct,
    document_json,
    is_channel,
    parse_brake,
)
from updater.model import STABLE, ReleaseId
from updater.publish import clock
from updater.publish.errors import BadBundle, FarVersion, PublishError
from updater.publish.signing import Workshop
from updater.publish.storage import Storage
from updater.repository.steering import document_of

MAJOR_STEP: Final = 1
MINOR_STEP: Final = 10
"""A version whose first or second number rises by more is asked about: 20.0 after 2.0, or 1.20 after 1.2."""


def is_early(version: str) -> bool:
    """Return whether a version is a pre-release, such as 2.0rc1 or 1.4.dev3."""
    return Version(version).is_prerelease


def check_channel(channel: str, version: str) -> None:
    """Refuse a name that is none, and a pre-release for the terminals that ask for no channel.

    Raises:
        BadBundle: one of these.
    """
    if not is_channel(channel):
        cause = f"{channel!r} is no name of a channel: small letters, digits and hyphens"
        raise BadBundle(operation="publish", cause=cause)
    if channel == STABLE and is_early(version):
        raise BadBundle(
            operation="publish", cause=f"{version} is a pre-release, which the channel {STABLE} never gets",
            hint="Publish it to terminals that ask for it: --channel beta.",
        )  # fmt: skip


def check_jump(*, version: str, latest: Version) -> None:
    """Refuse a version that is far from the last one: a typing error would shut out every number in between.

    Raises:
        FarVersion: it is far.
    """
    new, old = (*Version(version).release, 0), (*latest.release, 0)
    is_far = new[0] > old[0] + MAJOR_STEP or (new[0] == old[0] and new[1] > old[1] + MINOR_STEP)
    if is_far or Version(version).epoch != latest.epoch:
        raise FarVersion(operation="publish", cause=f"{version} is far from {latest}, the last one")


def releases(workshop: Workshop) -> dict[str, ReleaseId]:
    """Return the signed releases: version to release id, lowest version first."""
    targets = workshop.roles.targets.signed.targets
    found_archives = [TargetMeta(name) for name in targets if name.endswith(".tar.gz")]
    archives = sorted(archive for archive in found_archives if archive.name == workshop.app_name)
    found = {}
    for archive in archives:
        manifest = targets.get(f"{workshop.app_name}-{archive.version}.manifest")
        if manifest is not None:
            found[str(archive.version)] = ReleaseId(manifest.hashes["sha256"])
    return found


def read(workshop: Workshop, *, public: Storage) -> Document:
    """Return the signed document; before there was one, what terminals do then: the newest release for all.

    Raises:
        PublishError: the signed document is neither in the workshop nor public, or cannot be read.
    """
    name = f"{workshop.app_name}{DOCUMENT_END}"
    info = workshop.roles.targets.signed.targets.get(name)
    if info is None:
        full = [release_id for version, release_id in releases(workshop).items() if not is_early(version)]
        channels = {STABLE: Channel(full[-1])} if full else {}
        return Document(workshop.app_name, 0, "", channels)
    # The staged one is not the signed one after a command that was cut before it signed: then it is taken back.
    path = workshop.targets_dir / name
    for found in (_staged(path), public.read(f"targets/{info.hashes['sha256']}.{name}")):
        try:
            info.verify_length_and_hashes(found or b"")
            return document_of(found or b"", app=workshop.app_name)
        except RepositoryError:
            continue
        except ValueError as cause:
            raise PublishError(operation="read", path=path, cause=str(cause)) from cause
    raise PublishError(operation="read", path=workshop.targets_dir / name, cause="it is not the one that was signed")


def _staged(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def write(workshop: Workshop, document: Document) -> Document:
    """Put a changed document into the workshop for signing, after the terminals' own rules have read it.

    Raises:
        PublishError: a terminal would not follow it.
    """
    changed = document._replace(sequence=document.sequence + 1, issued_at=f"{clock.now():%Y-%m-%dT%H:%M:%SZ}")
    data = json.dumps(document_json(changed), indent=1, sort_keys=True, ensure_ascii=False).encode()
    path = workshop.targets_dir / f"{workshop.app_name}{DOCUMENT_END}"
    try:
        read_back = document_of(data, app=workshop.app_name)
    except ValueError as cause:
        raise PublishError(operation="write", path=path, cause=str(cause)) from cause
    problem = direct(Said(read_back), app=workshop.app_name, channel=STABLE).stays
    if len(data) > SIZE_LIMIT_BYTES:
        problem = f"it has {len(data)} bytes, at most {SIZE_LIMIT_BYTES} are read"
    if problem or read_back != changed:
        raise PublishError(operation="write", path=path, cause=problem or "a terminal would read something else")
    files.write_durably(path, data)
    workshop.roles.add_or_update_target(local_path=path)
    return changed


def with_release(
    document: Document, version: str, release_id: ReleaseId, channel: str, known: Mapping[str, ReleaseId]
) -> Document:
    """Return a document in which a channel leads to a release; lower ones of other channels follow stable again."""
    channels = {**document.channels, channel: Channel(release_id)}
    if channel == STABLE:
        above = {found for name, found in known.items() if Version(name) > Version(version)}
        channels = {name: found for name, found in channels.items() if name == STABLE or found.release in above}
    return document._replace(channels=channels)


def without_release(
    document: Document, version: str, release_id: ReleaseId, reason: str, known: Mapping[str, ReleaseId]
) -> Document:
    """Return a document in which a release is withdrawn; channels that led to it lead to the next lower one.

    A channel for which none is left leads nowhere.
    """
    gone = {**document.releases, release_id: Steered(version, recalled=True, reason=reason)}
    channels = dict(document.channels)
    for name, found in document.channels.items():
        if found.release != release_id:
            continue
        lower = [
            lower_id
            for lower_version, lower_id in known.items()
            if Version(lower_version) < Version(version)
            and not (lower_id in gone and gone[lower_id].recalled)
            and (name != STABLE or not is_early(lower_version))
        ]
        del channels[name]
        if lower:
            channels[name] = Channel(lower[-1])
    return document._replace(channels=channels, releases=gone)


# ----------------------------------------------------------------------------------------------------------- the brake


def brake_of(timestamp: Timestamp) -> Brake:
    """Return the brake of a timestamp.

    Raises:
        PublishError: it cannot be read.
    """
    try:
        return parse_brake(timestamp.unrecognized_fields.get(BRAKE))
    except ValueError as cause:
        raise PublishError(operation="read the brake", cause=str(cause)) from cause


def put_brake(workshop: Workshop, brake: Brake) -> None:
    """Put a brake into the workshop's timestamp, which must be signed.

    Raises:
        PublishError: it names more than a terminal reads.
    """
    if len(brake.recalled) > BRAKE_RELEASES_LIMIT:
        raise PublishError(
            operation="brake", cause=f"it would recall {len(brake.recalled)} releases, at most {BRAKE_RELEASES_LIMIT}",
            hint="Withdraw them instead: `updater publish withdraw VERSION`.",
        )  # fmt: skip
    _put(workshop.roles.timestamp.signed, brake)
    # Above the public one, though nothing but a field differs: TUF looks at the version alone.
    workshop.renew("timestamp")


def _put(timestamp: Timestamp, brake: Brake) -> None:
    if brake == NO_BRAKE:
        timestamp.unrecognized_fields.pop(BRAKE, None)
    else:
        timestamp.unrecognized_fields[BRAKE] = brake_json(brake)
