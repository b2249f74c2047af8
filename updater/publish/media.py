"""A stick for shops without internet: a part of the public files, with a timestamp that is good for longer.

Two statements of one version would stand in each other's way: a terminal keeps the first that it meets. So the stick
has a version of its own, and the online one gets the version after it, before the stick is written. A terminal that
comes from the stick therefore always finds a newer one online.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

from packaging.version import Version

from updater.bundle_names import is_agent_app, is_version
from updater.decisions.rollout import Document
from updater.model import STABLE, ReleaseId
from updater.publish import clock, rollout
from updater.publish.deploy import check_stick, verify
from updater.publish.errors import PublishError
from updater.publish.keys import Passwords
from updater.publish.repository import _open, _publish, load, locked
from updater.publish.signing import Workshop, ends_at
from updater.publish.storage import TIMESTAMP, FolderStorage, storage_of
from updater.repository.listing import named

DAYS_LIMIT: Final = 366
"""What is lost with a stick can be shown to terminals for this long."""


class Stick(NamedTuple):
    """Result of writing a stick."""

    versions: tuple[str, ...]
    """The releases on it, oldest first."""
    files_count: int
    """Files that were written; what was there and right was not."""
    size_bytes: int
    """Of all files that belong to it."""
    expires: str


def write(
    *, folder: Path, target: Path, valid_days: int, releases_count: int, since: frozenset[str], passwords: Passwords
) -> Stick:
    """Write a folder that terminals use as their repository, such as a USB stick; its timestamp comes last.

    Args:
        folder: the workshop.
        target: the folder.
        valid_days: how long terminals take it.
        releases_count: how many of the newest releases up to stable's are on it; those of other channels are beside.
        since: versions for whose terminals shortened downloads are on it; without any, those for all versions.
        passwords: of the keys.

    Raises:
        AwaitsSignatures: keys of other machines are needed; nothing was changed.
        PublishError: a role ends before the stick does, and its key is not here; nothing was changed.
    """
    config = load(folder)
    if not 0 < valid_days <= DAYS_LIMIT:
        raise PublishError(operation="write media", cause=f"{valid_days} days is not between 1 and {DAYS_LIMIT}")
    for kind, own in (("workshop", folder), ("public folder", config.public)):
        if isinstance(own, Path) and (own.resolve() in (stick := target.resolve(), *stick.parents)):
            raise PublishError(operation="write media", path=target, cause=f"it is in the {kind}")
    with locked(folder):
        workshop = _open(folder, config, passwords, collects=False)
        _check_ends(workshop, valid_days)
        _check_since(since, rollout.releases(workshop))
        document = rollout.read(workshop, public=storage_of(config.public))
        versions = wanted_versions(rollout.releases(workshop), document, releases_count)
        # The agent comes first where a release needs it: its newest release for each platform is on every stick.
        releases = (*versions, *_newest_agents(workshop))
        names = chosen(workshop.roles.targets.signed.targets, config.app, releases, since)
        _check_files(workshop, names)
        _publish(workshop, config)
        timestamp = workshop.sign_apart("timestamp", days=valid_days)
        workshop.renew("timestamp")
        # Online first: a stick must never be newer than what terminals find online.
        _publish(workshop, config)
        count, size_bytes = _write(workshop, FolderStorage(target), names, timestamp)
    check_stick(target, timestamp, names)
    expires = clock.now() + timedelta(days=valid_days)
    return Stick(versions, count, size_bytes, f"{expires:%Y-%m-%d}")


def chosen(names: Iterable[str], app: str, versions: Iterable[str], since: frozenset[str]) -> frozenset[str]:
    """Return the files of these releases, and those of no release, such as what the vendor wants now.

    Names are `APP-VERSION.KIND`, and `APP-FROM-VERSION.KIND` for what leads from one release to another.
    """
    found: set[str] = set()
    wanted = frozenset(versions)
    known = {name.removeprefix(f"{app}-").removesuffix(".manifest") for name in names if name.endswith(".manifest")}
    for name in names:
        rest = name.removeprefix(f"{app}-")
        pairs = [(start, to) for start in known for to in known if rest.startswith(f"{start}-{to}.")]
        owners = {version for version in known if rest.startswith(f"{version}.")}
        if pairs:
            found.update(name for start, to in pairs if to in wanted and (not since or start in since))
        elif not owners or max(owners, key=len) in wanted:
            found.add(name)
    return frozenset(found)


def _check_since(since: frozenset[str], known: Mapping[str, ReleaseId]) -> None:
    unknown = sorted(since - known.keys())
    if unknown:
        raise PublishError(
            operation="write media", cause=f"--from: {', '.join(unknown)} is not among the signed releases",
            hint=f"Signed are {', '.join(known) or 'none'}.",
        )  # fmt: skip


def _check_files(workshop: Workshop, names: Iterable[str]) -> None:
    """Refuse a stick whose files this workshop has not, before a version of the timestamp is used up for it."""
    missing = sorted(name for name in names if not (workshop.targets_dir / name).exists())
    if missing:
        raise PublishError(
            operation="write media", path=workshop.targets_dir,
            cause=f"{len(missing)} of its files are not here, such as {missing[0]}",
            hint="`updater publish rebuild` without --metadata-only fetches the files of the releases.",
        )  # fmt: skip


def _check_ends(workshop: Workshop, valid_days: int) -> None:
    """Let every role outlast the stick; renew those that this machine can sign."""
    until = clock.now() + timedelta(days=valid_days)
    for role in ("root", "targets", "snapshot"):
        metadata = getattr(workshop.roles, role)
        if ends_at(metadata) >= until:
            continue
        if not workshop.has_keys(role):
            days = workshop.expiration_days[role]
            hint = f"`updater publish sign renew {role}` signs it anew with its keys, for {days} days."
            raise PublishError(
                operation="write media", cause=f"{role} ends on {ends_at(metadata):%Y-%m-%d}, before the stick would",
                hint=hint if valid_days < days else f"Choose fewer than {days} days: {role} is never signed for more.",
            )  # fmt: skip
        workshop.renew(role, days=max(valid_days + 1, workshop.expiration_days[role]))


def wanted_versions(known: Mapping[str, ReleaseId], document: Document, count: int) -> tuple[str, ...]:
    """Return the releases of a stick: all that a channel leads to, and the newest up to that of stable.

    Args:
        known: the signed releases, lowest version first.
        document: where the channels lead.
        count: how many of those up to stable's, it included.
    """
    led_to = {channel.release for channel in document.channels.values()}
    stable = document.channels.get(STABLE)
    place = list(known.values()).index(stable.release) + 1 if stable and stable.release in known.values() else 0
    up_to_stable = list(known)[:place][-count:]
    return tuple(version for version, found in known.items() if found in led_to or version in up_to_stable)


def _newest_agents(workshop: Workshop) -> Iterator[str]:
    """Yield the newest release of the agent for each platform, as its name goes on after that of the app."""
    newest: dict[str, Version] = {}
    for name in workshop.roles.targets.signed.targets:
        app, version = named(name)
        if is_agent_app(app, workshop.app_name) and is_version(version):
            newest[app] = max(newest.get(app, Version(version)), Version(version))
    for app, highest in newest.items():
        yield f"{app.removeprefix(f'{workshop.app_name}-')}-{highest}"


def _write(workshop: Workshop, stick: FolderStorage, names: frozenset[str], timestamp: bytes) -> tuple[int, int]:
    """Copy what is missing; return the number of files written and the size of all."""
    targets = workshop.roles.targets.signed.targets
    count, size_bytes = 0, 0
    listed = stick.sizes("targets")
    for name in sorted(names):
        info = targets[name]
        public_name = f"{info.hashes['sha256']}.{name}"
        size_bytes += info.length
        if (
            listed.get(public_name) == info.length
            and stick.sha256_of(f"targets/{public_name}") == info.hashes["sha256"]
        ):
            continue
        verify(workshop.targets_dir / name, info)
        stick.send(workshop.targets_dir / name, f"targets/{public_name}")
        count += 1
    roots = sorted(workshop.metadata_dir.glob("*.root.json"))
    newest = [
        workshop.metadata_dir / f"{getattr(workshop.roles, role).signed.version}.{role}.json"
        for role in ("targets", "snapshot")
    ]
    for path in (*roots, *newest):
        if stick.read(f"metadata/{path.name}") != path.read_bytes():
            stick.write(f"metadata/{path.name}", path.read_bytes())
            count += 1
    stick.write(TIMESTAMP, timestamp)
    return count + 1, size_bytes
