"""Releases of the agent: the folder of a kit, signed beside the releases of the app, for one platform."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from packaging.version import Version

from dbsync.errors import Refused
from updater.bundle_names import agent_app, is_agent_app, is_version
from updater.manifest import Manifest, ManifestError, checked, empty_folders, release_id, scan
from updater.publish import repository
from updater.publish.bundle import FIRST_AGENT, checked_version
from updater.publish.errors import BadBundle, PublishError
from updater.publish.forms import Forms
from updater.publish.keys import Passwords
from updater.publish.repository import Config
from updater.publish.signing import ONLINE, Workshop
from updater.repository.listing import named
from updater.terminal import kit

ENTRY: Final = "site/updater/__main__.py"
ARCHIVE_ALONE: Final = Forms(pack=False, deltas_count=0)
"""Kits are compiled in place, so no delta continues one; and agents from kits before these had no zstd for packs."""


class PublishedAgent(NamedTuple):
    """Result of a publish."""

    name: str
    version: str
    kit_id: str
    size_bytes: int
    already: bool
    """Whether it was signed already."""


def release(*, folder: Path, payload: Path, passwords: Passwords) -> PublishedAgent:
    """Publish the folder of a kit as a release of the agent. A repeat finishes a publish that was cut.

    Args:
        folder: the repository.
        payload: the folder, as `updater publish kit --payload` leaves it.
        passwords: those of the keys.

    Raises:
        BadBundle: it is no kit of this app, is damaged, brings a version of the app, or is not newer.
        BadPassword: a key's password is missing or wrong; nothing was signed.
        PublishError: the publish failed; nothing became public.
    """
    config = repository.load(folder)
    manifest, kit_id = _described(payload, config)
    data = checked(manifest)

    def apply(workshop: Workshop, _: Config) -> PublishedAgent:
        targets = workshop.roles.targets.signed.targets
        name = f"{manifest.app}-{manifest.version}"
        signed = targets.get(f"{name}.manifest")
        already = signed is not None and signed.hashes["sha256"] == release_id(data)
        if not already:
            _check_newer(manifest, targets)
            repository.stage(workshop, payload, manifest, data, ARCHIVE_ALONE, lambda *_: None)
        size_bytes = targets[f"{name}.tar.gz"].length
        return PublishedAgent(manifest.app, manifest.version, kit_id, size_bytes, already)

    return repository.change(folder, apply, roles=ONLINE, passwords=passwords)


def withdraw(folder: Path, version: str, *, passwords: Passwords) -> tuple[str, ...]:
    """Withdraw a release of the agent on all platforms: it is signed no more, and a trial of it does not confirm.

    Raises:
        PublishError: there is none of that version; nothing became public.
    """

    def apply(workshop: Workshop, config: Config) -> tuple[str, ...]:
        targets = workshop.roles.targets.signed.targets
        names = [found for found in map(named, targets) if is_agent_app(found[0], config.app) and found[1] == version]
        if not names:
            raise PublishError(operation="withdraw", cause=f"no agent {version} is published")
        for app, _ in names:
            for end in (".manifest", ".tar.gz"):
                targets.pop(f"{app}-{version}{end}", None)
        return tuple(app for app, _ in names)

    return repository.change(folder, apply, roles=ONLINE, passwords=passwords)


def _described(payload: Path, config: Config) -> tuple[Manifest, str]:
    def bad(cause: str, hint: str = "") -> BadBundle:
        return BadBundle(operation="publish the agent", path=payload, cause=cause, hint=hint)

    try:
        found = kit.read(payload)
        kit.verify(found)
        files, folders = scan(payload), empty_folders(payload)
    except (ManifestError, Refused) as error:
        raise bad(error.cause, "Make it with `updater publish kit --payload DIR`.") from error
    if found.app != config.app:
        raise bad(f"it is of the app {found.app!r}, the repository of {config.app!r}")
    if any(path.startswith("first/") for path in files):
        raise bad("it brings a version of the app", "Make it without --app-version.")
    manifest = Manifest(
        app=agent_app(config.app, found.platform),
        version=checked_version(found.version),
        platform=found.platform,
        files=files,
        entry=ENTRY,
        interpreter=None,
        arguments=(),
        self_test=None,
        self_test_timeout_seconds=0.0,
        migrations_folder=None,
        migrations=(),
        least_agent=FIRST_AGENT,
        least_free_bytes=0,
        folders=folders,
    )
    return manifest, found.id


def _check_newer(manifest: Manifest, targets: dict[str, object]) -> None:
    versions = [version for app, version in map(named, targets) if app == manifest.app and is_version(version)]
    highest = max(map(Version, versions), default=None)
    if highest is not None and Version(manifest.version) <= highest:
        raise BadBundle(
            operation="publish the agent", cause=f"{manifest.version} is not newer than {highest}, which is published",
            hint="Give the kit a higher `version` in its settings, and make it again.",
        )  # fmt: skip
