"""The vendor's repository: create it, add a release, refresh it. Each leaves a complete public folder."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from packaging.version import Version
from tufup.repo import make_gztar_archive

from dbsync.errors import TillkeeperError
from dbsync.model import ReleaseId, SchemaNumber
from dbsync.storage import files
from dbsync.storage.locks import Lock
from updater.bundle_names import is_app
from updater.decisions.rollout import DOCUMENT_END, Document
from updater.manifest import Manifest, ManifestError, empty_folders, parse, release_id, scan, to_bytes
from updater.model import STABLE
from updater.publish import rollout
from updater.publish.bundle import check_follows, describe
from updater.publish.deploy import deploy
from updater.publish.errors import BadBundle, PublishError
from updater.publish.signing import ONLINE, ROLES, Passwords, Workshop, make_keys
from updater.summary import custom_of, summary_of

Result = TypeVar("Result")
CONFIG_NAME: Final = "publish.json"
EXPIRATION_DAYS: Final[Mapping[str, int]] = {"root": 730, "targets": 90, "snapshot": 90, "timestamp": 14}
"""If the repository is refreshed daily, a terminal may be offline for two weeks; roots are valid for years."""


class Config(NamedTuple):
    """Stored configuration of a repository."""

    app: str
    public: Path
    keys: Path
    expiration_days: Mapping[str, int]


class Published(NamedTuple):
    """Result of a publish."""

    version: str
    release_id: ReleaseId
    schema: SchemaNumber
    archive_size_bytes: int
    files_placed: int
    already: bool
    """True if the release was signed already: this run finished an interrupted publish."""


class _Wanted(NamedTuple):
    """A release that is to be published."""

    bundle: Path
    manifest: Manifest
    data: bytes
    channel: str
    accepts_jump: bool


def init(
    *, folder: Path, app: str, public: Path, keys: Path | None, passwords: Passwords, expiration_days: Mapping[str, int]
) -> Config:
    """Make a repository: keys with passwords, four roles, the public folder. A repeat finishes an interrupted run.

    Raises:
        BadPassword: a password is missing or wrong.
        PublishError: the folder holds another repository, or the app's name is invalid.
    """
    if not is_app(app):
        raise PublishError(operation="init", cause=f"{app!r} is no app name: letters, digits, - and _")
    config = Config(
        app, public.absolute(), (keys or folder / "keys").absolute(), {**EXPIRATION_DAYS, **expiration_days}
    )
    with _locked(folder):
        if (folder / CONFIG_NAME).exists() and load(folder).app != app:
            raise PublishError(operation="init", path=folder, cause=f"it is the repository of {load(folder).app!r}")
        make_keys(config.keys, passwords)
        values = config._asdict() | {"public": str(config.public), "keys": str(config.keys), "format": 1}
        files.write_json(folder / CONFIG_NAME, values)
        workshop = _open(folder, config, passwords)
        workshop.check_keys(ROLES)
        _publish(workshop, config)
    return config


def load(folder: Path) -> Config:
    """Return the configuration of a repository.

    Raises:
        PublishError: the folder has no repository, or its configuration cannot be read.
    """
    try:
        found = files.read_json(folder / CONFIG_NAME)
        return Config(found["app"], Path(found["public"]), Path(found["keys"]), found["expiration_days"])
    except FileNotFoundError:
        raise PublishError(
            operation="open the repository", path=folder, cause="it is not one", hint="`updater publish init`"
        ) from None
    except (TillkeeperError, KeyError, TypeError) as cause:
        raise PublishError(operation="open the repository", path=folder / CONFIG_NAME, cause=str(cause)) from cause


def release(
    *,
    folder: Path,
    bundle: Path,
    version: str | None,
    config_file: Path | None,
    passwords: Passwords,
    channel: str = STABLE,
    accepts_jump: bool = False,
    verify: Callable[[Path, str], object] | None = None,
) -> Published:
    """Publish a bundle as a new release.

    Args:
        folder: the repository.
        bundle: the folder with the release's files.
        version: the release's version; None takes it from the bundle's description.
        config_file: the description, if it is not in the bundle.
        passwords: those of the keys.
        channel: the channel that leads to it from now on.
        accepts_jump: whether a version far from the last one is meant so.
        verify: tries the version in a copy of the repository, in which it is public; what it raises ends the publish.

    Raises:
        BadBundle: the bundle cannot be a release, is not newer, or its migrations do not follow the last release's.
        BadPassword: a key's password is missing or wrong; nothing was signed.
        PublishError: the publish failed; nothing became public.
    """
    config = load(folder)
    manifest = describe(bundle=bundle, app=config.app, version=version, config=config_file)
    rollout.check_channel(channel, manifest.version)
    wanted = _Wanted(bundle, manifest, to_bytes(manifest), channel, accepts_jump)
    with _locked(folder):
        if verify is None:
            return _release(folder, wanted, passwords)
        # What is public is looked at first: another repository's folder, or an old workshop, is found out at once.
        _open(folder, config, passwords)
        # Signed and made public in a copy: a refusal, or a cut before `_adopt`, leaves the workshop as it was.
        with copied(folder) as copy:
            done = _release(copy, wanted, passwords)
            if not done.already:
                verify(copy, manifest.version)
            _adopt(source=copy / "workshop", target=folder / "workshop")
        workshop = _open(folder, config, passwords)
        return done._replace(files_placed=_publish(workshop, config))


def _release(folder: Path, wanted: _Wanted, passwords: Passwords) -> Published:
    config, manifest = load(folder), wanted.manifest
    workshop = _open(folder, config, passwords)
    workshop.check_keys(ONLINE)
    already = _is_signed(workshop, manifest, wanted.data)
    if not already:
        document = rollout.read(workshop, public=config.public)
        _check_newer(workshop, manifest, document, accepts_jump=wanted.accepts_jump)
        _stage(workshop, wanted.bundle, manifest, wanted.data)
        known, found = rollout.releases(workshop), release_id(wanted.data)
        rollout.write(workshop, rollout.with_release(document, manifest.version, found, wanted.channel, known))
    placed = _publish(workshop, config)
    archive = workshop.roles.targets.signed.targets[_archive_name(manifest)]
    return Published(manifest.version, release_id(wanted.data), manifest.schema, archive.length, placed, already)


def refresh(folder: Path, *, passwords: Passwords) -> int:
    """Sign expiring roles again: timestamp always, the others after half of their lifetime. For a daily job.

    Root is renewed only if its key is present; the key does not belong on a machine that runs a daily job.

    Returns:
        The number of files that became public.
    """
    config = load(folder)
    with _locked(folder):
        workshop = _open(folder, config, passwords)
        now = datetime.now(UTC)
        roles = ROLES if (config.keys / "root").exists() else ONLINE
        workshop.check_keys(roles)
        for role in roles:
            left = getattr(workshop.roles, role).signed.expires.replace(tzinfo=UTC) - now
            if role == "timestamp" or left < timedelta(days=config.expiration_days[role] / 2):
                workshop.refresh_expiration_date(role)
                # Also if the new date equals the old one, to the second.
                getattr(workshop.roles, role).signed.version += 1
        return _publish(workshop, config)


def change(
    folder: Path, apply: Callable[[Workshop, Config], Result], *, roles: tuple[str, ...], passwords: Passwords
) -> Result:
    """Change what is signed, and make it public.

    Args:
        folder: the repository.
        apply: makes the change in the workshop; its result is returned.
        roles: roles that the change needs; none for a look, after which nothing is published.
        passwords: those of the keys.

    Raises:
        BadPassword: a key's password is missing or wrong; nothing was signed.
        PublishError: the change failed; nothing became public.
    """
    config = load(folder)
    with _locked(folder):
        if roles == ("timestamp",):
            rollout.catch_up(metadata=folder / "workshop" / "metadata", public=config.public)
        workshop = _open(folder, config, passwords)
        workshop.check_keys(roles)
        result = apply(workshop, config)
        if roles:
            _publish(workshop, config)
    return result


@contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """Make a copy of a repository, with a public folder of its own, and remove it afterwards.

    Files are linked where the disk can: no publisher writes into one that has its final name.
    """
    place = folder / ".copy"
    shutil.rmtree(place, ignore_errors=True)
    config = load(folder)
    try:
        shutil.copytree(folder / "workshop", place / "workshop", copy_function=link_or_copy)
        values = files.read_json(folder / CONFIG_NAME) | {"public": str(place / "public")}
        files.write_json(place / CONFIG_NAME, values)
        _fill_public(place, config)
        newest = config.public / "metadata" / "timestamp.json"
        if newest.exists():
            # It may be another machine's, with a brake: what is signed in the copy carries it over.
            (place / "public" / "metadata").mkdir()
            shutil.copyfile(newest, place / "public" / "metadata" / newest.name)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _fill_public(place: Path, config: Config) -> None:
    """Link the signed targets into the public folder of a copy: deploying would copy each archive."""
    workshop = _open(place, load(place), lambda _: None)
    public = place / "public" / "targets"
    public.mkdir(parents=True)
    for name, info in workshop.roles.targets.signed.targets.items():
        hashed = f"{info.hashes['sha256']}.{name}"
        staged = workshop.targets_dir / name
        # A workshop may have removed what is public; and the document is staged under a name that is used again.
        source = (
            staged if staged.exists() and name != f"{config.app}{DOCUMENT_END}" else config.public / "targets" / hashed
        )
        if source.exists():
            link_or_copy(source, public / hashed)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make a second name for a file, or a copy on a disk that has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _adopt(*, source: Path, target: Path) -> None:
    """Take over a workshop from its copy: targets first, then metadata, in the order in which it is signed.

    A crash in between leaves files that no metadata names, or a publish that was cut, which the next one finishes.
    """
    paths = [path for path in source.rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: _turn(path.relative_to(source))):
        place = target / path.relative_to(source)
        if not (place.exists() and place.samefile(path)):
            place.parent.mkdir(parents=True, exist_ok=True)
            files.rename_durably(source=path, target=place)
    kept = {path.relative_to(source) for path in paths}
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if path.relative_to(target) not in kept:
            path.unlink()


def _turn(path: Path) -> tuple[bool, bool, int, str]:
    """Return the place of a file in the order in which it is taken over."""
    role = next((number for number, role in enumerate(ROLES) if path.name == f"{role}.json"), -1)
    return path.parts[0] != "targets", path.parts[0] != "metadata" or role >= 0, role, str(path)


def _open(folder: Path, config: Config, passwords: Passwords) -> Workshop:
    workshop = Workshop(
        passwords=passwords,
        app_name=config.app,
        repo_dir=folder / "workshop",
        keys_dir=config.keys,
        encrypted_keys=[],
        expiration_days=dict(config.expiration_days),
    )
    workshop.open()
    rollout.carry_over(workshop, public=config.public)
    return workshop


def _publish(workshop: Workshop, config: Config) -> int:
    targets = workshop.roles.targets.signed.targets
    for name in targets:
        archive = f"{name.removesuffix('.manifest')}.tar.gz"
        if name.endswith(".manifest") and archive not in targets:
            raise PublishError(operation="publish", cause=f"{name} would be signed without its archive {archive}")
    workshop.sign_and_store()
    return deploy(work=workshop.repo_dir, public=config.public)


def _stage(workshop: Workshop, bundle: Path, manifest: Manifest, data: bytes) -> None:
    """Put archive and manifest into the workshop for signing. A crash leaves files that no metadata names."""
    archive = workshop.targets_dir / _archive_name(manifest)
    archive.unlink(missing_ok=True)
    try:
        make_gztar_archive(bundle, workshop.targets_dir, manifest.app, manifest.version)
    except (OSError, tarfile.TarError) as cause:
        raise PublishError(operation="archive", path=bundle, cause=str(cause)) from cause
    if scan(bundle) != manifest.files or empty_folders(bundle) != manifest.folders:
        raise BadBundle(operation="publish", path=bundle, cause="it changed while it was archived")
    described = workshop.targets_dir / _manifest_name(manifest)
    files.write_durably(described, data)
    files.sync_file(archive)
    workshop.roles.add_or_update_target(local_path=archive)
    # What a look needs to know of it: a terminal then fetches only the manifest of what it may choose.
    workshop.roles.add_or_update_target(local_path=described, custom=custom_of(summary_of(manifest)))


def _is_signed(workshop: Workshop, manifest: Manifest, data: bytes) -> bool:
    info = workshop.roles.targets.signed.targets.get(_manifest_name(manifest))
    return info is not None and info.hashes["sha256"] == release_id(data)


def _check_newer(workshop: Workshop, manifest: Manifest, document: Document, *, accepts_jump: bool) -> None:
    withdrawn = [Version(about.version) for about in document.releases.values() if about.recalled]
    signed = [Version(version) for version in rollout.releases(workshop)]
    latest = workshop.roles.get_latest_archive()
    signed += [latest.version] if latest is not None else []
    if not signed and not withdrawn:
        return
    _refuse_second_platform(workshop, manifest)
    highest = max([*signed, *withdrawn])
    if Version(manifest.version) <= highest:
        how = "published" if highest in signed else "withdrawn, and may run on terminals"
        raise BadBundle(
            operation="publish", cause=f"{manifest.version} is not newer than {highest}, which is {how}",
            hint="Give it a higher version.",
        )  # fmt: skip
    if not accepts_jump:
        rollout.check_jump(version=manifest.version, latest=highest)
    # Also after one that was withdrawn: terminals that ran it have its migrations.
    earlier = _last_readable(workshop, sorted([*signed, *withdrawn], reverse=True))
    if earlier is not None:
        check_follows(earlier=earlier, manifest=manifest)


def _last_readable(workshop: Workshop, versions: list[Version]) -> Manifest | None:
    """Return the manifest of the first of these versions that can be read: terminals took none of the others."""
    for version in versions:
        path = workshop.targets_dir / f"{workshop.app_name}-{version}.manifest"
        try:
            return parse(path.read_bytes(), installed=True)
        except (FileNotFoundError, ManifestError):
            continue
    return None


def _refuse_second_platform(workshop: Workshop, manifest: Manifest) -> None:
    """Refuse a version that is published for another platform: a repository has one bundle of a version."""
    path = workshop.targets_dir / _manifest_name(manifest)
    if not path.exists() or _manifest_name(manifest) not in workshop.roles.targets.signed.targets:
        return
    try:
        known = parse(path.read_bytes(), installed=True)
    except ManifestError:
        return
    if known.platform != manifest.platform:
        raise BadBundle(
            operation="publish",
            cause=f"{manifest.version} is published for {known.platform}; this bundle is for {manifest.platform}, and a"
            " repository has one bundle of a version",
            hint=f"Make a repository for each platform: `updater publish init --repository DIR --app {manifest.app}"
            " --public DIR`; its terminals name its address in their settings.",
        )


def _archive_name(manifest: Manifest) -> str:
    return f"{manifest.app}-{manifest.version}.tar.gz"


def _manifest_name(manifest: Manifest) -> str:
    return f"{manifest.app}-{manifest.version}.manifest"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / "publish.lock")
    if not lock.try_take():
        raise PublishError(operation="publish", path=folder, cause="another publish is under way")
    with lock:
        yield
