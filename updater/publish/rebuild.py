"""A workshop from what is public and the keys: after a loss, on another machine, or after an old backup."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tuf.api.metadata import Metadata, Root

from dbsync.storage import files
from updater.bundle_names import AGENT
from updater.decisions.rollout import DOCUMENT_END
from updater.publish import keys
from updater.publish.deploy import verify
from updater.publish.errors import PublishError
from updater.publish.keys import ROLES
from updater.publish.repository import CONFIG_NAME, EXPIRATION_DAYS, Config, load, locked, save
from updater.publish.signing import TAKEN_NAME, ConsistentRoles
from updater.publish.storage import TIMESTAMP, Public, Storage, storage_of
from updater.repository.listing import named

NO_DAYS: Final[Mapping[str, int]] = {}


class Rebuilt(NamedTuple):
    """Result of a rebuild."""

    versions: dict[str, int]
    files_count: int
    """Files of releases that were fetched; what was there and right was not."""
    without_keys: tuple[str, ...]
    """Roles that this machine cannot sign alone."""
    expiration_days: Mapping[str, int]
    """For how many days each role is signed from now on."""
    ahead: bool = False
    """Whether the workshop has more than what is public: a publish that was cut, and that its repeat finishes."""


class Chain(NamedTuple):
    """Verified public metadata."""

    roots: dict[int, bytes]
    roles: dict[str, tuple[Metadata[Any], bytes]]
    highest: dict[str, int]
    """The highest public version of a role, also of a file that nothing points to."""


def rebuild(
    *,
    folder: Path,
    app: str | None,
    public: Public | None,
    keys_folder: Path | None,
    root: Path | None,
    metadata_only: bool = False,
    expiration_days: Mapping[str, int] = NO_DAYS,
) -> Rebuilt:
    """Make a workshop, or bring an old one forward, from what is public.

    Everything that is taken is verified: from `root`, or from the root of the workshop that is there. Metadata comes
    last, so a crash leaves a workshop that is refused as old, or none; a repeat fetches only what is missing.

    Args:
        folder: the workshop.
        app: the app's name; without it, as the workshop's configuration has it; the same with the next two.
        public: where the public files are.
        keys_folder: the folder of the keys.
        root: a root that is trusted, such as the 1.root.json that terminals are installed with.
        metadata_only: whether the files of releases are left out: a machine that only refreshes needs none.
        expiration_days: for how many days the roles are signed from now on; of others what the workshop's
            configuration says, or the usual. Nothing public says it.

    Raises:
        PublishError: it does not verify, or the keys are of another repository; nothing was changed.
    """
    config = _config(folder, app, public, keys_folder)
    config = config._replace(expiration_days={**config.expiration_days, **expiration_days})
    metadata, staged = folder / "workshop" / "metadata", folder / "workshop" / "targets"
    trusted = root if root is not None else metadata / "root.json"
    if not trusted.exists():
        raise PublishError(
            operation="rebuild", path=folder, cause="there is no root to begin with",
            hint="Pass --root FILE: the 1.root.json that terminals are installed with.",
        )  # fmt: skip
    storage = storage_of(config.public)
    with locked(folder):
        chain = _verified(storage, trusted.read_bytes())
        _check_app(config.app, chain)
        without_keys = _check_keys(chain, config)
        versions = {role: chain.roles[role][0].signed.version for role in ROLES}
        if _is_ahead(metadata, chain):
            return Rebuilt(versions, 0, without_keys, config.expiration_days, ahead=True)
        for place in (metadata, staged):
            files.make_folder(place)
        count = 0 if metadata_only else _fetch_targets(storage, staged, chain.roles["targets"][0])
        for version, data in chain.roots.items():
            files.write_durably(metadata / f"{version}.root.json", data)
        roles = ConsistentRoles(dir_path=metadata)
        # Versions that a lost workshop has used: public files never change, so the next ones must be above.
        files.write_json(folder / "workshop" / TAKEN_NAME, chain.highest)
        for role in ROLES:
            found, data = chain.roles[role]
            roles.store(role, found.signed.version, data)
        save(folder, config)
    return Rebuilt(versions, count, without_keys, config.expiration_days)


def _config(folder: Path, app: str | None, public: Public | None, keys_folder: Path | None) -> Config:
    if (folder / CONFIG_NAME).exists():
        known = load(folder)
        if app is not None and app != known.app:
            raise PublishError(
                operation="rebuild", path=folder, cause=f"it is the repository of {known.app!r}",
                hint=f"Leave --app away; if {known.app!r} is wrong, remove {folder / CONFIG_NAME} first.",
            )  # fmt: skip
        return known._replace(public=public or known.public, keys=(keys_folder or known.keys).absolute())
    if app is None or public is None:
        raise PublishError(
            operation="rebuild",
            path=folder,
            cause="there is no configuration",
            hint="Pass --app NAME and --public PLACE.",
        )
    return Config(app, public, (keys_folder or folder / "keys").absolute(), EXPIRATION_DAYS)


def _verified(storage: Storage, trusted: bytes) -> Chain:
    """Return the public metadata, verified from a root, also where a role has expired: the next signing renews it."""
    try:
        root = Metadata[Root].from_bytes(trusted)
        root.verify_delegate("root", root)
        roots = {root.signed.version: trusted}
        while (data := storage.read(f"metadata/{root.signed.version + 1}.root.json")) is not None:
            following = Metadata[Root].from_bytes(data)
            root.verify_delegate("root", following)
            following.verify_delegate("root", following)
            if following.signed.version != root.signed.version + 1:
                raise ValueError(f"version {following.signed.version} follows {root.signed.version}")  # noqa: TRY301
            root, roots[following.signed.version] = following, data
        roles = _roles_below(storage, root)
    except PublishError:
        raise
    except Exception as cause:
        raise PublishError(
            operation="rebuild", cause=f"{storage.place} does not verify: {type(cause).__name__}: {cause}",
            hint="Is it the place of this repository, and the root of this vendor?",
        ) from cause  # fmt: skip
    roles["root"] = (root, roots[root.signed.version])
    earlier = {}
    for version in range(1, min(roots)):
        before = storage.read(f"metadata/{version}.root.json")
        if before is not None:
            earlier[version] = before
    return Chain({**earlier, **roots}, roles, _highest(storage))


def _roles_below(storage: Storage, root: Metadata[Root]) -> dict[str, tuple[Metadata[Any], bytes]]:
    found = {"timestamp": _read(storage, root, "timestamp", TIMESTAMP)}
    meta = found["timestamp"][0].signed.snapshot_meta
    found["snapshot"] = _read(storage, root, "snapshot", f"metadata/{meta.version}.snapshot.json")
    meta.verify_length_and_hashes(found["snapshot"][1])
    meta = found["snapshot"][0].signed.meta["targets.json"]
    found["targets"] = _read(storage, root, "targets", f"metadata/{meta.version}.targets.json")
    meta.verify_length_and_hashes(found["targets"][1])
    return found


def _read(storage: Storage, root: Metadata[Root], role: str, name: str) -> tuple[Metadata[Any], bytes]:
    data = storage.read(name)
    if data is None:
        raise ValueError(f"{name} is missing")
    metadata = Metadata.from_bytes(data)
    root.verify_delegate(role, metadata)
    return metadata, data


def _highest(storage: Storage) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in storage.sizes("metadata"):
        number, _, rest = name.partition(".")
        if rest in ("targets.json", "snapshot.json") and number.isdecimal():
            role = rest.removesuffix(".json")
            found[role] = max(found.get(role, 0), int(number))
    return found


def _check_app(app: str, chain: Chain) -> None:
    """Refuse the name of an app of which nothing is public, where there is something of others: it is mistyped.

    What such a workshop signs, a brake for instance, no terminal would follow.
    """
    names = chain.roles["targets"][0].signed.targets
    known = sorted(
        {found for found, _ in map(named, names) if found and AGENT not in found}
        | {name.removesuffix(DOCUMENT_END) for name in names if name.endswith(DOCUMENT_END)}
    )
    if known and app not in known:
        raise PublishError(
            operation="rebuild", cause=f"nothing of {app!r} is public there; it is the repository of {known[0]!r}",
            hint=f"Pass --app {known[0]}.",
        )  # fmt: skip


def _check_keys(chain: Chain, config: Config) -> tuple[str, ...]:
    """Return the roles that this machine cannot sign alone; refuse keys of another repository."""
    root = chain.roles["root"][0].signed
    known = keys.in_folder(config.keys)
    here = {
        role: sum(key.value in known and known[key.value].is_here for key in keys.keys_of(root, role)) for role in ROLES
    }
    if not any(here.values()):
        raise PublishError(
            operation="rebuild", path=config.keys, cause="no key in this folder belongs to this repository",
            hint="Pass --keys DIR: the folder of the private keys.",
        )  # fmt: skip
    return tuple(role for role in ROLES if here[role] < root.roles[role].threshold)


def _is_ahead(metadata: Path, chain: Chain) -> bool:
    """Return whether the workshop has signed what is not public yet; the next publish makes it so.

    Raises:
        PublishError: it is ahead in one role and behind in another: two workshops have published.
    """
    ahead, behind = [], []
    for role in ROLES:
        path = metadata / f"{role}.json"
        try:
            here = Metadata.from_bytes(path.read_bytes()).signed.version if path.exists() else 0
        except Exception:  # noqa: BLE001 - a damaged file is what a rebuild is for
            return False
        there = chain.roles[role][0].signed.version
        if here > there:
            ahead.append(f"{role} is {here} here and {there} there")
        elif here < there and role != "timestamp":
            behind.append(f"{role} is {here} here and {there} there")
    if ahead and behind:
        raise PublishError(
            operation="rebuild", path=metadata,
            cause=f"another workshop has published too: {', '.join(ahead + behind)}",
            hint="Move the folder `workshop` away and rebuild again; then repeat what was not public yet.",
        )  # fmt: skip
    return bool(ahead)


def _fetch_targets(storage: Storage, staged: Path, targets: Metadata[Any]) -> int:
    count = 0
    for name, info in targets.signed.targets.items():
        path = staged / name
        if path.exists() and path.stat().st_size == info.length:
            with path.open("rb") as file:
                try:
                    info.verify_length_and_hashes(file)
                    continue
                except Exception:  # noqa: BLE001, S110 - it is fetched again
                    pass
        part = staged / f".new-{name}"
        storage.fetch(f"targets/{info.hashes['sha256']}.{name}", part, size_bytes=info.length)
        verify(part, info)
        files.sync_file(part)
        files.rename_durably(source=part, target=path)
        count += 1
    return count
