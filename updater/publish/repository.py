"""The vendor's repository: create it, add a release, refresh it. Each leaves a complete public folder."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from packaging.version import Version
from tuf.api.metadata import Root
from tufup.repo import make_gztar_archive

from dbsync.errors import TillkeeperError
from dbsync.model import ReleaseId, SchemaNumber
from dbsync.storage import files
from dbsync.storage.locks import Lock
from updater.bundle_names import is_app
from updater.decisions.rollout import DOCUMENT_END, Document
from updater.manifest import Manifest, ManifestError, empty_folders, parse, release_id, scan, to_bytes
from updater.model import STABLE
from updater.publish import clock, rollout
from updater.publish import keys as role_keys
from updater.publish.bundle import check_follows, describe
from updater.publish.deltas import Progress
from updater.publish.deploy import check_not_behind, deploy
from updater.publish.errors import AwaitsSignatures, BadBundle, Occupied, PublishError
from updater.publish.forms import Forms
from updater.publish.forms import forget_old as forget_old_forms
from updater.publish.forms import make as make_forms
from updater.publish.keys import ROLES, Passwords
from updater.publish.signing import ONLINE, Workshop, ends_at
from updater.publish.storage import TIMESTAMP, Bucket, FolderStorage, Public, Storage, public_of, storage_of
from updater.repository.listing import packs_by_version
from updater.summary import custom_of, summary_of

ALL_FORMS: Final = Forms()
Result = TypeVar("Result")
Verify = Callable[[Path, str], object]
"""Tries a version in a copy of a repository; what it raises ends the publish."""
CONFIG_NAME: Final = "publish.json"
EXPIRATION_DAYS: Final[Mapping[str, int]] = {"root": 730, "targets": 90, "snapshot": 90, "timestamp": 14}
"""If the repository is refreshed daily, a terminal may be offline for two weeks; roots are valid for years."""


class Config(NamedTuple):
    """Stored configuration of a repository."""

    app: str
    public: Public
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
    leads: bool = True
    """Whether the wanted channel leads to it; not where it was signed already for another one."""


class _Wanted(NamedTuple):
    """A release that is to be published."""

    bundle: Path
    manifest: Manifest
    data: bytes
    channel: str
    accepts_jump: bool
    forms: Forms
    progress: Progress


def init(
    *,
    folder: Path,
    app: str,
    public: Public,
    keys: Path | None,
    passwords: Passwords,
    expiration_days: Mapping[str, int],
    role_public: Mapping[str, Sequence[Path]] = MappingProxyType({}),
    thresholds: Mapping[str, int] = MappingProxyType({}),
) -> Config:
    """Make a repository: keys with passwords, four roles, the public folder. A repeat finishes an interrupted run.

    Args:
        folder: the workshop.
        app: the app's name.
        public: where the public files are.
        keys: the folder of the private keys.
        passwords: of these.
        expiration_days: how long a role's signature is good.
        role_public: public halves of keys that other machines have; a role without one gets a key that is made here.
        thresholds: signatures that a role needs, one unless said otherwise.

    Raises:
        AwaitsSignatures: a key of another machine must sign first.
        BadPassword: a password is missing or wrong.
        PublishError: the folder holds another repository, or the app's name is invalid.
    """
    if not is_app(app):
        raise PublishError(operation="init", cause=f"{app!r} is no app name: letters, digits, - and _")
    place = public.absolute() if isinstance(public, Path) else public
    config = Config(app, place, (keys or folder / "keys").absolute(), {**EXPIRATION_DAYS, **expiration_days})
    with locked(folder):
        if (folder / CONFIG_NAME).exists() and load(folder).app != app:
            raise PublishError(operation="init", path=folder, cause=f"it is the repository of {load(folder).app!r}")
        if _has_root(folder):
            _check_settled(folder, config, role_public, thresholds)
        key_map = {} if _has_root(folder) else _first_keys(config, passwords, role_public)
        save(folder, config)
        workshop = _open(folder, config, passwords, key_map=key_map, thresholds=thresholds)
        role_keys.check(workshop.roles.root.signed)
        workshop.check_keys(ROLES)
        _publish(workshop, config)
    return config


def _has_root(folder: Path) -> bool:
    """Return whether the keys are settled: then only `publish keys` changes them."""
    return any((folder / "workshop" / name / "root.json").exists() for name in ("metadata", "pending"))


def _check_settled(
    folder: Path, config: Config, role_public: Mapping[str, Sequence[Path]], thresholds: Mapping[str, int]
) -> None:
    """Refuse keys and thresholds that are not those of the root that is there: a repeat of init changes none.

    Raises:
        PublishError: one differs, or a file of a key cannot be read.
    """
    workshop = _open(folder, config, lambda _: None)
    root: Root = workshop.roles.root.signed
    wrong = [
        f"{role} needs {root.roles[role].threshold} signatures, not {count}"
        for role, count in thresholds.items()
        if root.roles[role].threshold != count
    ]
    for role, paths in role_public.items():
        known = {key.value for key in role_keys.keys_of(root, role)}
        if {role_keys.read_public(path).value for path in paths} != known:
            wrong.append(f"{role} has other keys than those given ({len(known)} of them)")
    if wrong:
        begin_anew = workshop.stored("root") is None
        raise PublishError(
            operation="init", path=folder, cause=f"the root is made already: {'; '.join(wrong)}",
            hint=f"To begin anew, nothing of it is public: `updater publish sign discard --repository {folder}`, then"
            " this command again." if begin_anew else "`updater publish keys` changes the keys of a repository.",
        )  # fmt: skip


def _first_keys(
    config: Config, passwords: Passwords, role_public: Mapping[str, Sequence[Path]]
) -> dict[str, list[str]]:
    """Return the names of each role's keys, after making those that no other machine has."""
    found: dict[str, list[str]] = {}
    for role in ROLES:
        found[role] = [role_keys.adopt(source=path, into=config.keys) for path in role_public.get(role, ())]
        if not found[role]:
            role_keys.make(config.keys / role, passwords)
            found[role] = [role]
    return found


def save(folder: Path, config: Config) -> None:
    """Write the configuration of a repository."""
    values = config._asdict() | {"public": str(config.public), "keys": str(config.keys), "format": 1}
    if isinstance(config.public, Bucket):
        values["endpoint"] = config.public.endpoint
    files.write_json(folder / CONFIG_NAME, values)


def load(folder: Path) -> Config:
    """Return the configuration of a repository.

    Raises:
        PublishError: the folder has no repository, or its configuration cannot be read.
    """
    try:
        found = files.read_json(folder / CONFIG_NAME)
        public = public_of(found["public"], found.get("endpoint", ""))
        return Config(found["app"], public, Path(found["keys"]), found["expiration_days"])
    except FileNotFoundError:
        raise PublishError(
            operation="open the repository", path=folder.absolute(), cause="it is not one",
            hint="Is --repository right, seen from this folder? `updater publish init --help` says how one is made.",
        ) from None  # fmt: skip
    except (TillkeeperError, KeyError, TypeError) as cause:
        raise PublishError(operation="open the repository", path=folder / CONFIG_NAME, cause=str(cause)) from cause


def release(
    *,
    folder: Path,
    bundle: Path,
    version: str | None,
    config_file: Path | None,
    passwords: Passwords,
    forms: Forms = ALL_FORMS,
    progress: Progress = lambda _what, _done, _total: None,
    channel: str = STABLE,
    accepts_jump: bool = False,
    verify: Verify | None = None,
) -> Published:
    """Publish a bundle as a new release.

    Args:
        folder: the repository.
        bundle: the folder with the release's files.
        version: the release's version; None takes it from the bundle's description.
        config_file: the description, if it is not in the bundle.
        passwords: those of the keys.
        forms: what is made beside tufup's archive.
        progress: receives the steps.
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
    wanted = _Wanted(bundle, manifest, to_bytes(manifest), channel, accepts_jump, forms, progress)
    with locked(folder):
        if verify is None:
            return _release(folder, wanted, passwords)
        done, placed = tried(folder, lambda copy: _release(copy, wanted, passwords), passwords=passwords, verify=verify)
        return done._replace(files_placed=placed)


def _release(folder: Path, wanted: _Wanted, passwords: Passwords) -> Published:
    config, manifest = load(folder), wanted.manifest
    workshop = _open(folder, config, passwords)
    workshop.check_keys(ONLINE)
    _follow(workshop, config)
    already = _is_signed(workshop, manifest, wanted.data)
    if not already:
        document = rollout.read(workshop, public=storage_of(config.public))
        _check_newer(workshop, manifest, document, accepts_jump=wanted.accepts_jump)
        stage(workshop, wanted.bundle, manifest, wanted.data, wanted.forms, wanted.progress)
        known, found = rollout.releases(workshop), release_id(wanted.data)
        rollout.write(workshop, rollout.with_release(document, manifest.version, found, wanted.channel, known))
    placed = _publish(workshop, config)
    channel = rollout.read(workshop, public=storage_of(config.public)).channels.get(wanted.channel)
    leads = channel is not None and channel.release == release_id(wanted.data)
    targets = workshop.roles.targets.signed.targets
    archive = targets[_archive_name(manifest)]
    names = packs_by_version(targets).get((manifest.app, manifest.version), ())
    return Published(
        manifest.version, release_id(wanted.data), manifest.schema, archive.length, placed, already,
        tuple((name, targets[name].length) for name in names), leads,
    )  # fmt: skip


def tried(
    folder: Path, change: Callable[[Path], Result], *, passwords: Passwords, verify: Verify
) -> tuple[Result, int]:
    """Make a change in a copy of the repository, try the releases that it signs, take it over, and publish it.

    A refusal, or a cut before the copy is taken over, leaves the workshop as it was. A change that waits for signatures
    is taken over untried; the one that completes it is tried.

    Args:
        folder: the repository; the caller holds its lock.
        change: makes the change in the repository that it is given, and its public folder.
        passwords: those of the keys.
        verify: tries a version in a copy in which it is public; what it raises ends the publish.

    Returns:
        The result of the change, and the number of files that became public.
    """
    config = load(folder)
    # An old workshop is refused before anything is tried.
    _follow(_open(folder, config, passwords), config)
    before = _complete(folder)
    with copied(folder) as copy:
        try:
            result = change(copy)
        except AwaitsSignatures:
            _adopt(source=copy / "workshop", target=folder / "workshop")
            raise
        for version in _complete(copy):
            if version not in before:
                verify(copy, version)
        _adopt(source=copy / "workshop", target=folder / "workshop")
    return result, _publish(_open(folder, config, passwords), config)


def _complete(folder: Path) -> list[str]:
    """Return the versions that all needed keys have signed, lowest first."""
    return list(rollout.releases(_open(folder, load(folder), lambda _: None, collects=False)))


class Refreshed(NamedTuple):
    """Result of a refresh."""

    files_placed: int
    not_here: frozenset[str]
    """Roles that this machine cannot sign alone."""


def refresh(folder: Path, *, passwords: Passwords, within_days: float = 0) -> Refreshed:
    """Sign expiring roles again: timestamp always, the others after half of their lifetime. For a daily job.

    A role whose keys are not on this machine is left as it is, and so is a change that waits for signatures.

    Args:
        folder: the repository.
        passwords: those of the keys.
        within_days: a role that ends so soon is signed too, if it is signed for longer than that.
    """
    config = load(folder)
    with locked(folder):
        workshop = _open(folder, config, passwords, collects=False)
        roles = [role for role in ROLES if role == "timestamp" or _is_due(workshop, config, role, within_days)]
        workshop.check_keys(roles)
        for role in roles:
            workshop.renew(role)
        not_here = frozenset(role for role in ROLES if not workshop.has_keys(role))
        return Refreshed(_publish(workshop, config), not_here)


def _is_due(workshop: Workshop, config: Config, role: str, within_days: float = 0) -> bool:
    """Return whether a role is past half of its lifetime, or ends soon, and this machine can sign it."""
    left = ends_at(getattr(workshop.roles, role)) - clock.now()
    waits = role == "root" and "root" in workshop.pending()
    days = config.expiration_days[role]
    due_days = max(days / 2, within_days if within_days < days else 0)
    return left < timedelta(days=due_days) and workshop.has_keys(role) and not waits


def change(
    folder: Path, apply: Callable[[Workshop, Config], Result], *, roles: tuple[str, ...], passwords: Passwords,
    collects: bool = True,
) -> Result:  # fmt: skip
    """Change what is signed, and make it public.

    Args:
        folder: the repository.
        apply: makes the change in the workshop; its result is returned.
        roles: roles that the change needs; none for a look, after which nothing is published.
        passwords: those of the keys.
        collects: whether a change that waits for signatures is continued.

    Raises:
        BadPassword: a key's password is missing or wrong; nothing was signed.
        PublishError: the change failed; nothing became public.
    """
    config = load(folder)
    with locked(folder):
        # With the timestamp key alone, as a refresh: what waits for signatures waits on.
        workshop = _open(folder, config, passwords, collects=collects and roles != ("timestamp",))
        workshop.check_keys(roles)
        _follow(workshop, config)
        result = apply(workshop, config)
        if roles:
            _publish(workshop, config)
    return result


@contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """Make a copy of a repository, with a public folder of its own, and remove it afterwards.

    Files are linked where the disk can: no publisher writes into one that has its final name.
    """
    # Absolute: the terminals of a trial run in folders of their own.
    place = folder.absolute() / ".copy"
    shutil.rmtree(place, ignore_errors=True)
    config = load(folder)
    try:
        shutil.copytree(folder / "workshop", place / "workshop", copy_function=link_or_copy)
        save(place, config._replace(public=place / "public"))
        _fill_public(place, storage_of(config.public))
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _fill_public(place: Path, public: Storage) -> None:
    """Link the signed targets into the public folder of a copy: deploying would copy each archive."""
    config = load(place)
    workshop = _open(place, config, lambda _: None)
    into = FolderStorage(place / "public")
    (into.folder / "targets").mkdir(parents=True)
    listed = public.sizes("targets")
    for name, info in workshop.roles.targets.signed.targets.items():
        hashed = f"targets/{info.hashes['sha256']}.{name}"
        staged = workshop.targets_dir / name
        # The document is staged under a name that is used again.
        if staged.exists() and name != f"{config.app}{DOCUMENT_END}":
            link_or_copy(staged, into.folder / hashed)
        elif hashed.removeprefix("targets/") in listed:
            # A workshop may have removed what is public.
            public.fetch(hashed, into.folder / hashed, size_bytes=info.length)
    newest = public.read(TIMESTAMP)
    if newest is not None:
        # It may be another machine's, with a brake: what is signed in the copy carries it over.
        into.write(TIMESTAMP, newest)


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


def _open(
    folder: Path,
    config: Config,
    passwords: Passwords,
    *,
    collects: bool = True,
    key_map: Mapping[str, Sequence[str]] | None = None,
    thresholds: Mapping[str, int] = MappingProxyType({}),
) -> Workshop:
    workshop = Workshop(
        passwords=passwords,
        app_name=config.app,
        repo_dir=folder / "workshop",
        keys_dir=config.keys,
        encrypted_keys=[],
        key_map=dict(key_map or {}),
        thresholds={role: thresholds.get(role, 1) for role in ROLES},
        expiration_days=dict(config.expiration_days),
    )
    workshop.open(collects=collects)
    if key_map is None and workshop.roles.root.signed.roles["root"] is None:
        raise PublishError(
            operation="open the repository", path=folder, cause="it has no root yet: what waited was given up",
            hint="Repeat `updater publish init` with its keys.",
        )  # fmt: skip
    return workshop


def _follow(workshop: Workshop, config: Config) -> None:
    """Refuse a workshop that is behind what is public; take over a timestamp that another machine has signed."""
    if workshop.stored("root") is not None:
        storage = storage_of(config.public)
        # A timestamp of another machine is no sign of an old workshop: it is followed, and signed anew.
        check_not_behind(workshop.metadata_dir, storage, follows=True)
        workshop.follow(storage.read(TIMESTAMP))


def _publish(workshop: Workshop, config: Config) -> int:
    _follow(workshop, config)
    if workshop.stored("root") is not None and _is_due(workshop, config, "timestamp"):
        workshop.renew("timestamp")
    targets = workshop.roles.targets.signed.targets
    for name in targets:
        archive = f"{name.removesuffix('.manifest')}.tar.gz"
        if name.endswith(".manifest") and archive not in targets:
            raise PublishError(operation="publish", cause=f"{name} would be signed without its archive {archive}")
    workshop.sign_and_store()
    return deploy(work=workshop.repo_dir, public=config.public)


def stage(workshop: Workshop, bundle: Path, manifest: Manifest, data: bytes, forms: Forms, progress: Progress) -> None:
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
def locked(folder: Path) -> Iterator[None]:
    """Keep other publishers out of a workshop, as long as this lasts.

    Raises:
        Occupied: one is at work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / "publish.lock")
    if not lock.try_take():
        raise Occupied(operation="publish", path=folder, cause="another publish is under way")
    with lock:
        yield
