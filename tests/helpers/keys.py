"""What somebody signs who has the keys: a vendor whose clock is wrong, a thief, and a vendor who replaces keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from securesystemslib.interface import import_ed25519_privatekey_from_file
from securesystemslib.keys import generate_ed25519_key
from securesystemslib.signer import SSlibKey, SSlibSigner
from tuf.api.metadata import Metadata, MetaFile

from tests.helpers.vendor import PASSWORD, Vendor
from updater.manifest import SIGNED_AT

HIGHEST = 2**31 - 1


def stolen(vendor: Vendor, role: str) -> SSlibSigner:
    """The key of a role, as it lies on the vendor's disk."""
    path = vendor.repository / "keys" / role
    return SSlibSigner(import_ed25519_privatekey_from_file(str(path), password=PASSWORD))


def at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def sign_timestamp(
    vendor: Vendor,
    signer: SSlibSigner,
    *,
    version: int,
    signed_at: datetime,
    expires: datetime,
    snapshot: MetaFile | None = None,
) -> None:
    """Puts a timestamp into the public folder, whatever was there before."""
    path = vendor.public / "metadata" / "timestamp.json"
    metadata = Metadata.from_bytes(path.read_bytes())
    metadata.signed.version = version
    metadata.signed.expires = expires.replace(tzinfo=None, microsecond=0)
    metadata.signed.unrecognized_fields[SIGNED_AT] = at(signed_at)
    if snapshot is not None:
        metadata.signed.snapshot_meta = snapshot
    metadata.signatures.clear()
    metadata.sign(signer)
    path.write_bytes(metadata.to_bytes())


def replace_keys(vendor: Vendor, *roles: str) -> dict[str, SSlibSigner]:
    """Publishes a root with new keys for these roles, signed with the root's key; returns them."""
    folder = vendor.public / "metadata"
    newest = max(int(path.name.split(".")[0]) for path in folder.glob("*.root.json"))
    metadata = Metadata.from_bytes((folder / f"{newest}.root.json").read_bytes())
    metadata.signed.version += 1
    found = {}
    for role in roles:
        new = generate_ed25519_key()
        for keyid in list(metadata.signed.roles[role].keyids):
            metadata.signed.revoke_key(keyid, role)
        metadata.signed.add_key(SSlibKey.from_securesystemslib_key(new), role)
        found[role] = SSlibSigner(new)
    metadata.signatures.clear()
    metadata.sign(stolen(vendor, "root"))
    (folder / f"{newest + 1}.root.json").write_bytes(metadata.to_bytes())
    return found


def sign_role(vendor: Vendor, role: str, signer: SSlibSigner, change: Callable[[Any], None]) -> MetaFile:
    """Puts a changed snapshot or targets into the public folder; returns what points to it."""
    folder = vendor.public / "metadata"
    newest = max(folder.glob(f"*.{role}.json"), key=lambda path: path.stat().st_mtime_ns)
    metadata = Metadata.from_bytes(newest.read_bytes())
    change(metadata.signed)
    metadata.signatures.clear()
    metadata.sign(signer)
    data = metadata.to_bytes()
    (folder / f"{metadata.signed.version}.{role}.json").write_bytes(data)
    return MetaFile(metadata.signed.version, len(data))


def seen(trust: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trust / "seen.json").read_text())
    return found
