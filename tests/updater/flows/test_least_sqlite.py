"""A release that needs a newer SQLite: not staged, named, not rejected, and taken once there is one."""

from __future__ import annotations

import json

import pytest

from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.bundles import staging
from updater.decisions.agent import lacks_sqlite
from updater.manifest import ManifestError, parse, to_bytes


@pytest.mark.parametrize(
    ("least", "here", "lacks"),
    [("", "3.31.0", False), ("3.37", "3.37.0", False), ("3.37", "3.36.9", True), ("3.9", "3.40.1", False),
     ("3.51.3", "3.51.2", True), ("4", "3.99.9", True)],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(least: str, here: str, lacks: bool) -> None:
    assert lacks_sqlite(least, here) is lacks


def test_it_waits_is_named_and_is_taken_by_a_newer_sqlite(
    vendor: Vendor, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = vendor.bundle("1.1", schema=4)
    described = bundle / "tillkeeper.toml"
    described.write_text('least_sqlite = "3.38"\n' + described.read_text())
    vendor.publish(bundle, "1.1")
    monkeypatch.setattr(staging, "LIBRARY_VERSION", "3.37.2")
    for _ in range(2):
        cycle = till.check()
        assert (cycle.outcome, cycle.reason) == (
            "NEEDS_NEWER_SQLITE",
            "1.1 needs SQLite 3.38, this terminal has 3.37.2",
        )
    assert till.report("NEEDS_NEWER_SQLITE")["cause"] == cycle.reason
    status = till.status()
    assert (status["rejected"], status["candidate"], status["last_alarm"]["outcome"]) == (
        [],
        None,
        "NEEDS_NEWER_SQLITE",
    )
    assert not [name for name in status["installed"] if name.startswith("1.1")]
    assert not list(till.settings.downloads.glob("*"))
    monkeypatch.undo()
    assert till.check().outcome == "SWAPPED"


def test_a_manifest_without_the_field_keeps_its_bytes_and_a_wrong_one_is_refused(vendor: Vendor) -> None:
    vendor.release("1.1", schema=2)
    (path,) = vendor.public.glob("targets/*1.1.manifest")
    data = path.read_bytes()
    assert "least_sqlite" not in json.loads(data)
    assert to_bytes(parse(data)) == data
    assert parse(to_bytes(parse(data)._replace(least_sqlite="3.38"))).least_sqlite == "3.38"
    with pytest.raises(ManifestError, match="not a version of SQLite"):
        parse(to_bytes(parse(data)._replace(least_sqlite="3.x")))
