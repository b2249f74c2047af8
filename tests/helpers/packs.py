"""Packs that a vendor's mistake has made: taken apart, changed, put together and signed again."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from tests.helpers.vendor import Vendor, password
from updater.bundles.packs import MAGIC, Head, head_to_bytes, read_head
from updater.publish import repository

Change = Callable[[Head, list[bytes]], bytes]


def taken_apart(data: bytes) -> tuple[Head, list[bytes]]:
    """The head of a pack, and its packed streams."""
    file = io.BytesIO(data)
    head = read_head(file)
    return head, [file.read(packed.packed_bytes) for packed in head.streams]


def put_together(head: Head, streams: list[bytes]) -> bytes:
    """A pack of these."""
    return head_to_bytes(head) + b"".join(streams)


def with_head(data: bytes) -> bytes:
    """A pack that has nothing but these bytes for a packed head."""
    return MAGIC + len(data).to_bytes(4, "big") + data


def sign_again(vendor: Vendor, name: str, change: Callable[[bytes], bytes]) -> Path:
    """Changes a pack or a delta and signs it, whatever it has become."""
    config = repository.load(vendor.repository)
    workshop = repository._open(vendor.repository, config, password)
    path = Path(workshop.targets_dir) / name
    path.write_bytes(change(path.read_bytes()))
    known = workshop.roles.targets.signed.targets[name]
    workshop.roles.add_or_update_target(local_path=path, custom=known.unrecognized_fields["custom"])
    repository._publish(workshop, config)
    return path
