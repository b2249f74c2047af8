"""The vendor's repository: create it, add a release, refresh it. Each leaves a complete public folder."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from packaging.version import Version
from tufup.common import TargetMeta
from tufup.repo import make_gztar_archive

from dbsync.errors import TillkeeperError
from dbsync.model import ReleaseId, SchemaNumber
from dbsync.storage import files
from dbsync.storage.locks import Lock
from updater.bundle_names import is_app
from updater.manifest import Manifest, ManifestError, empty_folders, parse, release_id, scan, to_bytes
from updater.publish.bundle import check_follows, describe
from updater.publish.deltas import Progress
from updater.publish.deploy import deploy
from updater.publish.errors import BadBundle, PublishError
from updater.publish.forms import Forms
from updater.publish.forms import forget_old as forget_old_forms
from updater.publish.forms import make as make_forms
from updater.publish.signing import ONLINE, ROLES, Passwords, Workshop, make_keys
from updater.repository.listing import packs_by_version
from updater.summary import custom_of, summary_of

ALL_FORMS: Final = Forms()
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
    forms: tuple[tuple[str, int], ...] = ()
    """Names and sizes of its pack and its deltas."""


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
    *, folder: Path, bundle: Path, version: str | None, config_file: Path | None, passwords: Passwords,
    forms: Forms = ALL_FORMS, progress: Progress = lambda _what, _done, _total: None,
) -> Published:  # fmt: skip
    """Publish a bundle as a new release.

    Raises:
        BadBundle: the bundle cannot be a release, is not newer, or its migrations do not follow the last release's.
        BadPassword: a key's password is missing or wrong; nothing was signed.
        PublishError: the publish failed; nothing became public.
    """
    config = load(folder)
    manifest = describe(bundle=bundle, app=config.app, version=version, config=config_file)
    data = to_bytes(manifest)
    with _locked(folder):
        workshop = _open(folder, config, passwords)
        workshop.check_keys(ONLINE)
        already = _is_signed(workshop, manifest, data)
        if not already:
            _check_newer(workshop, manifest)
            _stage(workshop, bundle, manifest, data, forms, progress)
        placed = _publish(workshop, config)
        targets = workshop.roles.targets.signed.targets
        archive = targets[_archive_name(manifest)]
        names = packs_by_version(targets).get((manifest.app, manifest.version), ())
    return Published(
        manifest.version, release_id(data), manifest.schema, archive.length, placed, already,
        tuple((name, targets[name].length) for name in names),
    )  # fmt: skip


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
    return workshop


def _publish(workshop: Workshop, config: Config) -> int:
    workshop.sign_and_store()
    return deploy(work=workshop.repo_dir, public=config.public)


def _stage(workshop: Workshop, bundle: Path, manifest: Manifest, data: bytes, forms: Forms, progress: Progress) -> None:
    """Put all files of a release into the workshop for signing. A crash leaves files that no metadata names."""
    archive = workshop.targets_dir / _archive_name(manifest)
    archive.unlink(missing_ok=True)
    # zlib and the other libraries let Python's other threads run: tufup's archive and the rest are made side by side.
    with ThreadPoolExecutor(1) as beside:
        archiving = beside.submit(make_gztar_archive, bundle, workshop.targets_dir, manifest.app, manifest.version)
        made = make_forms(workshop, bundle, manifest, data, forms=forms, progress=progress)
        try:
            archiving.result()
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
    for form in made:
        workshop.roles.add_or_update_target(local_path=form.path, custom=form.custom)
    forget_old_forms(workshop)


def _is_signed(workshop: Workshop, manifest: Manifest, data: bytes) -> bool:
    info = workshop.roles.targets.signed.targets.get(_manifest_name(manifest))
    return info is not None and info.hashes["sha256"] == release_id(data)


def _check_newer(workshop: Workshop, manifest: Manifest) -> None:
    latest = workshop.roles.get_latest_archive()
    if latest is None:
        return
    _refuse_second_platform(workshop, manifest)
    if Version(manifest.version) <= latest.version:
        raise BadBundle(
            operation="publish", cause=f"{manifest.version} is not newer than {latest.version}, which is published",
            hint="Give it a higher version.",
        )  # fmt: skip
    earlier = _last_readable(workshop)
    if earlier is not None:
        check_follows(earlier=earlier, manifest=manifest)


def _last_readable(workshop: Workshop) -> Manifest | None:
    """Return the newest manifest in the workshop that can be read: terminals took none of the others either."""
    targets = workshop.roles.targets.signed.targets
    archives = sorted((TargetMeta(name) for name in targets if name.endswith(".tar.gz")), reverse=True)
    for archive in archives:
        path = workshop.targets_dir / f"{archive.name}-{archive.version}.manifest"
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
