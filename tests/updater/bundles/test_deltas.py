"""Deltas and packs: a real vendor publishes, a real server serves, a real terminal stages the release."""

from __future__ import annotations

import random

from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from tests.helpers.wires import wired
from tests.updater.bundles.test_downloads import through
from updater.publish.forms import Forms
from updater.publish.repository import Published


def published(
    vendor: Vendor, version: str, *, name: str = "engine-1.so", changed: int = 0, deltas_count: int = 5
) -> Published:
    """A release with a large file, a few bytes of which differ in each one."""
    folder = vendor.bundle(version, schema=4)
    data = bytearray(random.Random(1).randbytes(300_000))
    for place in range(0, changed * 1000, 1000):
        data[place] ^= 0x55
    (folder / name).write_bytes(data)
    return vendor.publish(folder, version, forms=Forms(deltas_count=deltas_count))


def test_a_delta_brings_the_release_with_few_bytes(vendor: Vendor, till: Till) -> None:
    published(vendor, "1.1")
    with wired(vendor.public) as server:
        assert through(till, server) == "SWAPPED"
        till.launch()
        published(vendor, "1.2", changed=40)
        server.sent_bytes = 0
        assert through(till, server) == "SWAPPED"
        assert [request.path for request in server.asked if ".delta" in request.path]
