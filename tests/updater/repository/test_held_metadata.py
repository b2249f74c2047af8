"""A look while another program holds a file of the trusted metadata, as a scanner does with each new file."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from tests.helpers.held import BRIEFLY, Share, holder
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.answers import Answer
from updater.network.manner import Manner
from updater.repository import trust
from updater.repository.look import Look

ROLES = ("root", "timestamp", "snapshot", "targets")


@pytest.mark.parametrize("role", ROLES)
def test_a_look_waits_for_who_holds_its_metadata(vendor: Vendor, till: Till, role: str) -> None:
    vendor.release("1.1")
    settings = till.settings
    path = settings.trust / "metadata" / f"{role}.json"
    before = path.read_bytes()
    request = {"app": settings.app, "trust_folder": str(settings.trust), "now": datetime.now(UTC).isoformat()}
    with holder() as held:
        held.share, held.paths, held.failures_left, held.watches = Share.NOTHING, {str(path)}, BRIEFLY, True
        found = Look(request, settings.url, Manner(1), until=time.monotonic() + 30.0).run()
        held.watches = False
    assert held.failures_left == 0, "it was held"
    assert found["answer"] is Answer.OK
    assert {offer["version"] for offer in found["offers"]} == {"1.0", "1.1"}
    assert (path.read_bytes() == before) == (role == "root")
    assert trust.read(settings.trust).versions["timestamp"] > 1
    assert sorted(path.name for path in path.parent.iterdir()) == sorted(f"{role}.json" for role in ROLES)


def test_a_manifest_that_is_not_needed_any_more_and_is_held_stops_no_cycle(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    old = till.settings.manifests / f"{'0' * 64}.manifest"
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(b"of an earlier release")
    with holder() as held:
        held.share, held.paths, held.watches = Share.NOTHING, {str(old)}, True
        assert till.check().outcome == "SWAPPED"
        held.watches = False
    assert old.exists(), "it was held"
    till.check()
    assert not old.exists()
