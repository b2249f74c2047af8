"""tufup's roles, extended by consistent snapshots, passwords without a prompt, and the time of signing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from securesystemslib.exceptions import CryptoError, Error
from securesystemslib.interface import generate_and_write_ed25519_keypair, import_ed25519_privatekey_from_file
from securesystemslib.signer import SSlibSigner
from tuf.api.metadata import MetaFile
from tuf.api.serialization.json import JSONSerializer
from tufup.common import TargetMeta
from tufup.repo import Keys, Repository, Roles

from dbsync.errors import TillkeeperError
from dbsync.storage import files
from updater.manifest import SIGNED_AT
from updater.publish.errors import BadPassword, PublishError

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
ONLINE: Final = ("targets", "snapshot", "timestamp")
"""The roles that a release needs; root's key is needed only to change keys."""
Passwords = Callable[[str], str | None]
"""Role → password of its key; None if no password is known."""


def make_keys(folder: Path, passwords: Passwords) -> None:
    """Make the missing key pairs, one for each role, encrypted.

    Raises:
        BadPassword: no password was given for a key that must be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for role in ROLES:
        if (folder / role).exists():
            continue
        password = passwords(role)
        if not password:
            raise BadPassword(operation=f"make the key {role}", path=folder / role, cause="no password was given")
        generate_and_write_ed25519_keypair(password, filepath=str(folder / role))
        (folder / role).chmod(0o600)


class ConsistentRoles(Roles):  # type: ignore[misc]
    """Roles with every file under its version, and metadata with length and hash of the files it points to."""

    passwords: Passwords = staticmethod(lambda _: None)

    def initialize(self, keys: Keys, expiration_days: Any = None) -> None:
        """Make the roles, with versions in the names of all files."""
        super().initialize(keys, expiration_days)
        self.root.signed.consistent_snapshot = True

    def persist_role(self, role_name: str) -> None:
        """Write the versioned file first: the plain file is tufup's own state and marks the version as finished."""
        role = getattr(self, role_name)
        data = role.to_bytes(JSONSerializer(compact=False))
        files.write_durably(self.dir_path / f"{role.signed.version}.{role_name}.json", data)
        files.write_durably(self.dir_path / f"{role_name}.json", data)
        self._point_to(role_name, role.signed.version, data)

    def relink(self) -> None:
        """Make snapshot and timestamp point to the files on disk: an interrupted publish leaves them outdated."""
        for role_name in ("targets", "snapshot"):
            path = self.dir_path / f"{role_name}.json"
            if path.exists():
                self._point_to(role_name, getattr(self, role_name).signed.version, path.read_bytes())

    def _point_to(self, role_name: str, version: int, data: bytes) -> None:
        meta = MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})
        if role_name == "targets":
            self.snapshot.signed.meta["targets.json"] = meta
        elif role_name == "snapshot":
            self.timestamp.signed.snapshot_meta = meta

    def get_latest_archive(self) -> TargetMeta | None:
        """Return the newest archive; tufup would sort all targets by version, and some of ours have none."""
        names = [name for name in self.targets.signed.targets if name.endswith(".tar.gz")] if self.targets else []
        archives = sorted(TargetMeta(name) for name in names)
        return archives[-1] if archives else None

    def sign_role(self, role_name: str, private_key_path: Path | str) -> None:
        """Sign with the given password; tufup would prompt for it."""
        if role_name == "timestamp":
            self.timestamp.signed.unrecognized_fields[SIGNED_AT] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        key_name = Path(private_key_path).name
        password = self.passwords(key_name)
        try:
            key = import_ed25519_privatekey_from_file(filepath=str(private_key_path), password=password or None)
        except (CryptoError, Error, ValueError) as cause:
            why = "its password is wrong" if password else "it has a password and none was given"
            raise BadPassword(operation=f"sign {role_name}", path=Path(private_key_path), cause=why) from cause
        getattr(self, role_name).sign(SSlibSigner(key), append=True)


class Workshop(Repository):  # type: ignore[misc]
    """tufup's repository with our roles, and without its configuration in the current folder."""

    def __init__(self, *, passwords: Passwords, **values: Any) -> None:
        super().__init__(**values)
        self.passwords = passwords

    @property
    def config_dict(self) -> dict[str, Any]:
        """Return nothing for tufup to store in the current folder: `repository` has a file of its own."""
        return {}

    @classmethod
    def load_config(cls) -> dict[str, Any]:
        """Return nothing, as `config_dict`."""
        return {}

    def sign_and_store(self) -> None:
        """Sign every changed role and store it in the workshop.

        Raises:
            PublishError: a role could not be signed; the public folder is unchanged.
        """
        self.roles.relink()
        try:
            self.publish_changes(private_key_dirs=[self.keys_dir])
        except TillkeeperError:
            raise
        except Exception as cause:
            raise PublishError(operation="sign", path=self.repo_dir, cause=str(cause)) from cause

    def open(self) -> None:
        """Load keys and metadata; make missing metadata.

        Raises:
            PublishError: a file is invalid.
        """
        for folder in (self.metadata_dir, self.targets_dir):
            folder.mkdir(parents=True, exist_ok=True)
        for path in self.metadata_dir.glob(".new-*"):
            path.unlink()
        try:
            self._load_keys_and_roles(create_keys=False)
        except Exception as cause:
            raise PublishError(operation="read the repository", path=self.repo_dir, cause=str(cause)) from cause

    def _load_keys_and_roles(self, create_keys: bool = False) -> None:  # noqa: ARG002
        # The only private name of tufup that we override: it would make its own Roles (tufup 0.10.0, pinned).
        self.keys = Keys(
            dir_path=self.keys_dir, encrypted=self.encrypted_keys, key_map=self.key_map, thresholds=self.thresholds
        )
        self.roles = ConsistentRoles(dir_path=self.metadata_dir)
        self.roles.passwords = self.passwords
        self.roles.initialize(keys=self.keys, expiration_days=self.expiration_days)

    def check_keys(self, roles: Iterable[str]) -> None:
        """Open the private keys once before signing, so that a wrong password leaves nothing half signed.

        Raises:
            BadPassword: a key does not open.
        """
        for role_name in roles:
            path = self.keys.private_key_path(role_name)
            if not path.exists():
                raise PublishError(operation="sign", path=path, cause="the key is not there")
            password = self.passwords(role_name)
            try:
                import_ed25519_privatekey_from_file(filepath=str(path), password=password or None)
            except (CryptoError, Error, ValueError) as cause:
                why = "its password is wrong" if password else "it has a password and none was given"
                raise BadPassword(operation="open the key", path=path, cause=why) from cause
