"""tufup's repository with several keys a role, signatures that are collected, consistent snapshots, and no prompts.

What all needed keys have signed is in `metadata`; what waits for signatures is in `pending` and is not deployed. So
a daily refresh continues while a change of keys or a release waits for a person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from tuf.api.metadata import Key, Metadata, MetaFile, Role, Root
from tuf.api.serialization.json import JSONSerializer
from tufup.common import TargetMeta
from tufup.repo import Keys, Repository, Roles

from dbsync.storage import files
from updater.bundle_names import AGENT
from updater.manifest import SIGNED_AT
from updater.publish import clock, keys
from updater.publish.errors import AwaitsSignatures, PublishError
from updater.publish.keys import ROLES, KeyFile, Passwords, Signer

ONLINE: Final = ("targets", "snapshot", "timestamp")
"""The roles that a release needs; root's key is needed only to change keys."""
TAKEN_NAME: Final = "taken.json"
"""Versions that a lost workshop has used and that are public, though nothing points to them."""
NAMES_BELOW: Final[Mapping[str, str]] = {"snapshot": "targets", "timestamp": "snapshot"}
"""The role whose file each of these names with length and hash."""


JUMP_LIMIT: Final = 100_000
"""Timestamps that other machines may have signed since this one; a thief takes the highest version there is."""


class Missing(NamedTuple):
    """A role that has not enough signatures yet."""

    role: str
    version: int
    have: int
    threshold: int
    of: str = "signatures"


class PublicKeys(Keys):  # type: ignore[misc]
    """Public halves of any kind that a role may have; tufup knows one."""

    def import_public_key(self, role_name: str, key_name: str | None = None) -> None:
        """Take the key of a name for a role that is made now."""
        path = self.public_key_path(key_name=key_name or role_name)
        if path.exists():
            getattr(self, role_name).append(keys.read_public(path).public.to_securesystemslib_key())


class ConsistentRoles(Roles):  # type: ignore[misc]
    """Roles with every file under its version, and metadata with length and hash of the files it points to."""

    def initialize(self, keys: Keys, expiration_days: Any = None) -> None:
        """Make the missing roles, with versions in the names of all files."""
        made = [role for role in ROLES if getattr(self, role) is None]
        super().initialize(keys, expiration_days)
        self.root.signed.consistent_snapshot = True
        for role in made:
            self.set_expiration_date(role, expiration_days[role])

    def set_expiration_date(self, role_name: str, days: float) -> None:
        """Let a role end after some days from now."""
        # tuf 4 has times without a zone.
        getattr(self, role_name).signed.expires = (clock.now() + timedelta(days=days)).replace(tzinfo=None)

    def persist_role(self, role_name: str) -> None:
        """Write the versioned file first: the plain file is tufup's own state and marks the version as finished."""
        role = getattr(self, role_name)
        self.store(role_name, role.signed.version, serialized(role))

    def store(self, role_name: str, version: int, data: bytes) -> None:
        """Write the bytes of a role that all needed keys have signed."""
        files.write_durably(self.dir_path / f"{version}.{role_name}.json", data)
        files.write_durably(self.dir_path / f"{role_name}.json", data)

    def point(self, role_name: str, version: int, data: bytes) -> None:
        """Let the role above name this file of a role."""
        meta = MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})
        if role_name == "targets":
            self.snapshot.signed.meta["targets.json"] = meta
        elif role_name == "snapshot":
            self.timestamp.signed.snapshot_meta = meta

    def get_latest_archive(self) -> TargetMeta | None:
        """Return the newest archive of the app; tufup would sort all targets by version, and some of ours have none."""
        names = [name for name in self.targets.signed.targets if name.endswith(".tar.gz")] if self.targets else []
        archives = sorted(found for found in map(TargetMeta, names) if AGENT not in str(found.name))
        return archives[-1] if archives else None


class Workshop(Repository):  # type: ignore[misc]
    """tufup's repository with our roles, and without its configuration in the current folder."""

    def __init__(self, *, passwords: Passwords, **values: Any) -> None:
        super().__init__(**values)
        self.passwords = passwords
        self.renewed: set[str] = set()
        """Roles to sign again, also if nothing in them has changed."""
        self.collects = True
        """Whether a change waits for missing signatures; a refresh leaves out what it cannot sign."""
        self._signers: dict[str, Signer] = {}
        self._followed: dict[str, Any] | None = None
        """Fields of the public timestamp that was followed last."""

    @property
    def pending_dir(self) -> Path:
        """The folder of what waits for signatures."""
        return Path(self.repo_dir) / "pending"

    @property
    def config_dict(self) -> dict[str, Any]:
        """Return nothing for tufup to store in the current folder: `repository` has a file of its own."""
        return {}

    @classmethod
    def load_config(cls) -> dict[str, Any]:
        """Return nothing, as `config_dict`."""
        return {}

    def open(self, *, collects: bool = True) -> None:
        """Load keys and metadata; make missing metadata; finish what was cut after the last signature.

        Args:
            collects: whether changes that wait for signatures are continued.

        Raises:
            PublishError: a file is invalid.
        """
        self.collects = collects
        for folder in (self.metadata_dir, self.targets_dir, self.pending_dir):
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob(".new-*"):
                path.unlink()
        try:
            self._load_keys_and_roles(create_keys=False)
        except Exception as cause:
            raise PublishError(operation="read the repository", path=self.repo_dir, cause=str(cause)) from cause

    def _load_keys_and_roles(self, create_keys: bool = False) -> None:  # noqa: ARG002
        # The only private name of tufup that we override: it would make its own Roles (tufup 0.10.0, pinned).
        # A folder of keys that is not here, such as that of a stick, has no keys; tufup would ask whether to make it.
        folder = self.keys_dir if self.keys_dir.is_dir() else self.metadata_dir
        self.keys = PublicKeys(
            dir_path=folder, encrypted=self.encrypted_keys, key_map=self.key_map, thresholds=self.thresholds
        )
        self.roles = ConsistentRoles(dir_path=self.metadata_dir)
        if self._settle():
            # What was read before is not the newest any more.
            self.roles = ConsistentRoles(dir_path=self.metadata_dir)
        for role, (metadata, _) in self.pending().items():
            if self.collects or self.stored(role) is None:
                setattr(self.roles, role, metadata)
        self.roles.initialize(keys=self.keys, expiration_days=self.expiration_days)

    def stored(self, role: str) -> tuple[Metadata[Any], bytes] | None:
        """Return a role that all needed keys have signed, with its bytes; None if there is none yet."""
        return _read(self.metadata_dir / f"{role}.json")

    def pending(self) -> dict[str, tuple[Metadata[Any], bytes]]:
        """Return the roles that wait for signatures, or for those of others, with their bytes."""
        found = {role: _read(self.pending_dir / f"{role}.json") for role in ROLES}
        return {role: value for role, value in found.items() if value is not None}

    def discard(self) -> int:
        """Give up what waits for signatures; return the number of roles."""
        count = len(self.pending())
        for role in reversed(ROLES):
            (self.pending_dir / f"{role}.json").unlink(missing_ok=True)
        return count

    def is_complete(self, role: str, metadata: Metadata[Any]) -> bool:
        """Return whether enough keys have signed a role; for a root those of the one before it too."""
        before = self.stored("root")
        delegators = [self.roles.root]
        if role == "root" and before is not None:
            delegators.append(before[0])
        try:
            for delegator in delegators:
                delegator.verify_delegate(role, metadata)
        except Exception:  # noqa: BLE001 - whatever is wrong with a signature, it does not count
            return False
        return True

    def check_keys(self, roles: Iterable[str]) -> None:
        """Open the private keys that are here once before signing: a wrong password leaves nothing half signed.

        Raises:
            BadPassword: a key does not open.
        """
        for role in roles:
            list(self._signers_of(role))

    def has_keys(self, role: str) -> bool:
        """Return whether this machine has keys enough to sign a role alone."""
        known = keys.in_folder(self.keys_dir)
        here = [key for key in keys.keys_of(self.roles.root.signed, role) if key.value in known]
        return bool(sum(known[key.value].is_at_hand for key in here) >= self.roles.root.signed.roles[role].threshold)

    def renew(self, role: str, *, days: float | None = None) -> None:
        """Let a role be signed again, to be good from now on."""
        self.refresh_expiration_date(role, days)
        self.renewed.add(role)

    def follow(self, timestamp: bytes | None) -> None:
        """Go on from the public timestamp where another machine has refreshed it: its version, and fields of others.

        A field that this version does not know, such as a brake, stays as the newest timestamp has it, unless it was
        changed here. To change one, follow the public timestamp first.

        Raises:
            PublishError: the public version is one that only a thief of the key can have signed.
        """
        stored = self.stored("timestamp")
        public = _parsed(timestamp)
        if public is None or stored is None or stored[1] == timestamp or not self.is_complete("timestamp", public):
            return
        ours = self.roles.timestamp.signed
        if public.signed.version > ours.version + JUMP_LIMIT:
            raise PublishError(
                operation="sign", cause=f"timestamp is {ours.version} here and {public.signed.version} in public: no"
                " machine of yours can have signed so often",
                hint="Was the key of timestamp stolen? Replace it: `updater publish keys rotate timestamp KEY --name"
                " NEW`.",
            )  # fmt: skip
        if public.signed.version >= ours.version:
            ours.version = public.signed.version
            theirs = public.signed.unrecognized_fields
            known = self._followed if self._followed is not None else stored[0].signed.unrecognized_fields
            ours.unrecognized_fields = merged(known=known, ours=ours.unrecognized_fields, theirs=theirs)
            self._followed = dict(theirs)
            self.renew("timestamp")

    def sign_and_store(self) -> None:
        """Sign every changed role with the keys that are here, and store the result if it is complete.

        Raises:
            AwaitsSignatures: keys of other machines are needed; the change waits in the workshop.
            BadPassword: a key does not open.
        """
        signed: dict[str, bytes] = {}
        missing: list[Missing] = []
        for role in ROLES:
            below = NAMES_BELOW.get(role)
            if below is not None:
                if any(found.role == below for found in missing) or (role == "timestamp" and missing):
                    # Its content is the hash of the file below, which has no last byte yet.
                    continue
                self._point_to(below, signed)
            data = self._signed(role)
            if data is not None:
                signed[role] = data
                missing += self._missing(role)
        self._keep(signed, missing)

    def sign_apart(self, role: str, *, days: float) -> bytes:
        """Sign a role for a place of its own, and store nothing; the next signing has the version after it."""
        self.renew(role, days=days)
        metadata = getattr(self.roles, role)
        self._begin(role, metadata, self.stored(role))
        for _, signer in self._signers_of(role):
            _sign(metadata, signer)
        if not self.is_complete(role, metadata):
            raise AwaitsSignatures(operation="sign", path=self.keys_dir, cause=f"{role} needs keys that are not here")
        return serialized(metadata)

    def publish_changes(self, private_key_dirs: Any = None) -> None:  # noqa: ARG002
        """Sign and store, in place of tufup's own way, which stores what has not enough signatures."""
        self.sign_and_store()

    def accept(self, role: str, signatures: Iterable[Any]) -> None:
        """Add signatures of other machines to a role that waits; they were verified by the caller."""
        for signature in signatures:
            getattr(self.roles, role).signatures[signature.keyid] = signature
        files.write_durably(self.pending_dir / f"{role}.json", serialized(getattr(self.roles, role)))

    def _point_to(self, below: str, signed: Mapping[str, bytes]) -> None:
        stored = self.stored(below)
        data = signed[below] if below in signed else stored[1] if stored is not None else None
        if data is not None:
            self.roles.point(below, getattr(self.roles, below).signed.version, data)

    def _signed(self, role: str) -> bytes | None:
        """Return the bytes of a role with the signatures that it has now; None if the stored ones are right."""
        metadata = getattr(self.roles, role)
        stored, waiting = self.stored(role), self.pending().get(role) if self.collects else None
        if stored is not None and role not in self.renewed and stored[0].signed == metadata.signed:
            if self.is_complete(role, stored[0]):
                return None
            # Its keys were replaced: other bytes need another version.
            metadata.signed.version += 1
        if waiting is None or waiting[0].signed != metadata.signed:
            self._begin(role, metadata, stored)
        for keyid, signer in self._signers_of(role):
            # While a root waits to be public, signatures of both sides serve clients on both sides of it.
            if keyid not in metadata.signatures and (len(self._roots()) > 1 or not self.is_complete(role, metadata)):
                _sign(metadata, signer)
        return serialized(metadata)

    def _begin(self, role: str, metadata: Metadata[Any], stored: tuple[Metadata[Any], bytes] | None) -> None:
        """Give a changed role its version and its end, and drop signatures of what it was."""
        if role not in self.renewed:
            self.refresh_expiration_date(role)
        version = stored[0].signed.version if stored is not None else 0
        above = max(version, taken_versions(Path(self.repo_dir)).get(role, 0)) + 1
        if role == "root":
            # It follows the one before it.
            above = version + 1
        elif role == "timestamp" and role in self.renewed:
            # It may have to pass one that is public, or was signed for a stick.
            above = max(above, metadata.signed.version + 1)
        metadata.signed.version = above
        if role == "timestamp":
            metadata.signed.unrecognized_fields[SIGNED_AT] = f"{clock.now():%Y-%m-%dT%H:%M:%SZ}"
        metadata.signatures.clear()

    def _signers_of(self, role: str) -> Iterable[tuple[str, Signer]]:
        known = keys.in_folder(self.keys_dir)
        for root in self._roots():
            for keyid, file in self._at_hand(root.signed, role, known):
                yield keyid, self._signer(keyid, file)

    def _at_hand(self, root: Root, role: str, known: Mapping[str, KeyFile]) -> list[tuple[str, KeyFile]]:
        """Return the keys that sign a role here: without those whose tokens are out, if the others suffice.

        If they do not, opening the one whose token is out says so.
        """
        here = [
            (key.keyid, known[key.value])
            for key in keys.keys_of(root, role)
            if key.value in known and known[key.value].is_here
        ]
        at_hand = [(keyid, file) for keyid, file in here if keyid in self._signers or file.is_at_hand]
        return at_hand if len(at_hand) >= root.roles[role].threshold else here

    def _roots(self) -> list[Metadata[Any]]:
        """Return the root, and the one before it while that is the one of terminals."""
        before = self.stored("root")
        changes = before is not None and before[0].signed != self.roles.root.signed
        return [self.roles.root, before[0]] if before is not None and changes else [self.roles.root]

    def allowed(self, role: str) -> dict[str, Key]:
        """Return the keys whose signatures are taken for a role: those of the root and of the one before it."""
        return {keyid: root.signed.keys[keyid] for root in self._roots() for keyid in root.signed.roles[role].keyids}

    def _signer(self, keyid: str, file: KeyFile) -> Signer:
        if keyid not in self._signers:
            self._signers[keyid] = keys.opened(file, self.passwords, keyid=keyid)
        return self._signers[keyid]

    def _missing(self, role: str) -> list[Missing]:
        metadata = getattr(self.roles, role)
        if self.is_complete(role, metadata):
            return []
        wanted = self.roles.root.signed.roles[role]
        found = [Missing(role, metadata.signed.version, _have(metadata, wanted), wanted.threshold)]
        before = self.stored("root")
        if role == "root" and before is not None:
            # A root needs the keys of the one before it too: terminals go from one to the next.
            earlier = before[0].signed.roles[role]
            name = f"root {before[0].signed.version}'s signatures"
            found.append(Missing(role, metadata.signed.version, _have(metadata, earlier), earlier.threshold, name))
        return [missing for missing in found if missing.have < missing.threshold] or found[:1]

    def _keep(self, signed: Mapping[str, bytes], missing: list[Missing]) -> None:
        if missing and not self.collects:
            words = ", ".join(f"{found.role} has {found.have} of {found.threshold}" for found in missing)
            raise AwaitsSignatures(operation="sign", path=self.repo_dir, cause=f"signatures are missing: {words}")
        if not self.collects:
            # A refresh: one file names the next, and a crash between two is healed by the next refresh.
            for role, data in signed.items():
                self.roles.store(role, getattr(self.roles, role).signed.version, data)
            self.renewed.clear()
            return
        for role in ROLES:
            if role in signed:
                files.write_durably(self.pending_dir / f"{role}.json", signed[role])
            else:
                (self.pending_dir / f"{role}.json").unlink(missing_ok=True)
        self.renewed.clear()
        if missing:
            words = ", ".join(
                f"{found.role} {found.version} has {found.have} of {found.threshold} {found.of}" for found in missing
            )
            raise AwaitsSignatures(operation="publish", cause=f"{words}; the change waits in the workshop")
        self._settle()

    def _settle(self) -> bool:
        """Store what waits if it is complete; drop what a refresh has overtaken. Return whether it was stored.

        The files that wait are removed last: after a crash in between, the same bytes are stored again.
        """
        pending = self.pending()
        if not pending:
            return False
        found = {role: pending.get(role) or self.stored(role) for role in ROLES}
        if self._is_whole(found):
            for role in ROLES:
                if role in pending:
                    self.roles.store(role, pending[role][0].signed.version, pending[role][1])
            self.discard()
            (Path(self.repo_dir) / TAKEN_NAME).unlink(missing_ok=True)
            return True
        for role, (metadata, data) in pending.items():
            stored = self.stored(role)
            if stored is not None and metadata.signed.version <= stored[0].signed.version and data != stored[1]:
                (self.pending_dir / f"{role}.json").unlink()
        return False

    def _is_whole(self, found: Mapping[str, tuple[Metadata[Any], bytes] | None]) -> bool:
        """Return whether four roles are signed and name each other, as a client needs them."""
        values = {role: value for role, value in found.items() if value is not None}
        if len(values) < len(ROLES):
            return False
        trusted, root = self.stored("root"), values["root"][0]
        try:
            for role in ROLES:
                root.verify_delegate(role, values[role][0])
            if trusted is not None:
                trusted[0].verify_delegate("root", root)
            values["snapshot"][0].signed.meta["targets.json"].verify_length_and_hashes(values["targets"][1])
            values["timestamp"][0].signed.snapshot_meta.verify_length_and_hashes(values["snapshot"][1])
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not whole
            return False
        before = {role: self.stored(role) for role in ROLES}
        return all(
            stored is None or values[role][0].signed.version >= stored[0].signed.version
            for role, stored in before.items()
        )


def taken_versions(work: Path) -> dict[str, int]:
    """Return the versions that the next ones of a workshop must be above; empty for none.

    Raises:
        UnreadableFile: the file is damaged.
    """
    try:
        found = files.read_json(work / TAKEN_NAME)
    except FileNotFoundError:
        return {}
    return {str(role): int(version) for role, version in found.items()}


def merged(*, known: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of both sides: a field that was changed here since it was `known` counts, else theirs."""
    found = {}
    for name in {*ours, *theirs}:
        side = ours if ours.get(name) != known.get(name) else theirs
        if name in side:
            found[name] = side[name]
    return found


def _have(metadata: Metadata[Any], wanted: Role) -> int:
    return sum(keyid in metadata.signatures for keyid in wanted.keyids)


def _sign(metadata: Metadata[Any], signer: Signer) -> None:
    """Add a signature; an error of a token stays what it is, tuf would put its own in the place of it."""
    signature = signer.sign(metadata.signed_bytes)
    metadata.signatures[signature.keyid] = signature


def serialized(metadata: Metadata[Any]) -> bytes:
    """Return the bytes of a role's file."""
    return bytes(metadata.to_bytes(JSONSerializer(compact=False)))


def _parsed(data: bytes | None) -> Metadata[Any] | None:
    try:
        return Metadata.from_bytes(data) if data is not None else None
    except Exception:  # noqa: BLE001 - whatever it is, it is no metadata
        return None


def _read(path: Path) -> tuple[Metadata[Any], bytes] | None:
    """Return metadata and its bytes; None if there is no such file.

    Raises:
        PublishError: it is damaged.
    """
    try:
        data = path.read_bytes()
        return Metadata.from_bytes(data), data
    except FileNotFoundError:
        return None
    except Exception as cause:
        raise PublishError(operation="read", path=path, cause=str(cause)) from cause


def ends_at(metadata: Metadata[Any]) -> Any:
    """Return when a role ends, as an aware time: tuf 4 has it without a zone."""
    return metadata.signed.expires.replace(tzinfo=UTC)
