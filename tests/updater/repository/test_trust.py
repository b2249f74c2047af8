"""Trust that heals: a clock that was wrong, keys that were stolen and replaced, and a memory that was lost."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.keys import HIGHEST, at, replace_keys, seen, sign_role, sign_timestamp, stolen
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, copy_of, served, serving
from tests.updater.repository.conftest import NEWER, OLDER, use
from updater.answers import Answer
from updater.network.manner import Manner
from updater.repository import client

NOW = datetime.now(UTC)
DAYS = {days: timedelta(days=days) for days in (1, 14, 60, 74)}


def looked(till: Till, *, now: datetime | None = None) -> client.Looked:
    """One look of this terminal."""
    settings = till.settings
    source = client.Source(settings.url, (), settings.trust, settings.app, 30.0, 30.0, Manner(1))
    return client.look(source, now=now or datetime.now(UTC))


def timestamp(vendor: Vendor) -> Any:
    return json.loads((vendor.public / "metadata" / "timestamp.json").read_bytes())["signed"]


@pytest.mark.without_links
def test_updates_come_and_metadata_that_a_power_cut_emptied_is_fetched_again(vendor: Vendor, till: Till) -> None:
    assert till.check().outcome == "NOTHING_NEW"
    (till.settings.trust / "listing.json").unlink()
    for path in (till.settings.trust / "metadata").glob("*.json"):
        path.write_bytes(b"")
    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"
    assert (till.settings.trust / "metadata" / "root.json").read_bytes()


def test_the_metadata_of_one_library_is_used_by_the_other(
    vendor: Vendor, till: Till, library: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.refresh()
    assert looked(till).answer is Answer.OK
    with monkeypatch.context() as patch:
        if library == OLDER:
            use(NEWER, request, patch)
        else:
            patch.undo()
        vendor.refresh()
        assert looked(till).answer is Answer.OK
    vendor.refresh()
    assert looked(till).answer is Answer.OK


def test_a_publisher_whose_clock_was_ahead_locks_no_till(vendor: Vendor, till: Till) -> None:
    assert looked(till).answer is Answer.OK
    version = timestamp(vendor)["version"]
    ahead = NOW + DAYS[60]
    sign_timestamp(vendor, stolen(vendor, "timestamp"), version=version + 1, signed_at=ahead, expires=ahead + DAYS[14])
    assert looked(till).answer is Answer.OK, "snapshot and targets hold for 90 days only"
    floor = seen(till.settings.trust)["floor"]
    assert floor <= at(datetime.now(UTC) + DAYS[1] + timedelta(minutes=1)), "not above this terminal's clock and a day"
    # The clock is right again: what is signed now ends long before the time that was claimed.
    sign_timestamp(vendor, stolen(vendor, "timestamp"), version=version + 2, signed_at=NOW, expires=NOW + DAYS[14])
    assert looked(till).answer is Answer.OK
    assert seen(till.settings.trust)["floor"] == at(NOW)


def test_a_floor_that_an_earlier_agent_set_too_high_is_lowered_by_the_next_publish(vendor: Vendor, till: Till) -> None:
    assert looked(till).answer is Answer.OK
    found = seen(till.settings.trust)
    found["floor"] = at(NOW + DAYS[60])
    del found["keys"]
    (till.settings.trust / "seen.json").write_text(json.dumps(found))
    assert looked(till).answer is Answer.REFUSED, "the timestamp of today ends before it"
    vendor.refresh()
    assert looked(till).answer is Answer.OK


@pytest.mark.parametrize("ahead", [False, True])
def test_a_version_that_a_stolen_key_signed_is_forgotten_when_the_key_is_replaced(
    vendor: Vendor, till: Till, ahead: bool
) -> None:
    assert looked(till).answer is Answer.OK
    version = timestamp(vendor)["version"]
    far = NOW + (timedelta(days=9000) if ahead else timedelta(0))
    thief = stolen(vendor, "timestamp")
    sign_timestamp(vendor, thief, version=HIGHEST, signed_at=far, expires=far + DAYS[14])
    assert looked(till).answer is Answer.OK
    assert seen(till.settings.trust)["versions"]["timestamp"] == HIGHEST
    sign_timestamp(vendor, thief, version=version + 1, signed_at=NOW, expires=NOW + DAYS[14])
    assert looked(till).answer is Answer.REFUSED, "with the same keys it is an older copy"
    new = replace_keys(vendor, "timestamp")
    sign_timestamp(vendor, new["timestamp"], version=version + 1, signed_at=NOW, expires=NOW + DAYS[14])
    found = looked(till)
    assert found.answer is Answer.OK, found.detail
    assert seen(till.settings.trust)["versions"]["timestamp"] == version + 1
    # The replaced key opens nothing any more.
    sign_timestamp(vendor, thief, version=HIGHEST, signed_at=NOW, expires=NOW + DAYS[14])
    assert looked(till).answer is Answer.REFUSED


def test_all_keys_of_the_publishing_machine_are_stolen_and_replaced(vendor: Vendor, till: Till) -> None:
    assert looked(till).answer is Answer.OK
    before = {role: json.loads(path.read_bytes())["signed"]["version"] for role, path in newest(vendor).items()}

    def forge(signed: Any) -> None:
        signed.version = HIGHEST

    def forge_snapshot(signed: Any) -> None:
        signed.version = HIGHEST
        signed.meta["targets.json"] = targets

    targets = sign_role(vendor, "targets", stolen(vendor, "targets"), forge)
    snapshot = sign_role(vendor, "snapshot", stolen(vendor, "snapshot"), forge_snapshot)
    thief = stolen(vendor, "timestamp")
    sign_timestamp(vendor, thief, version=HIGHEST, signed_at=NOW, expires=NOW + DAYS[14], snapshot=snapshot)
    assert looked(till).answer is Answer.OK
    assert seen(till.settings.trust)["versions"]["targets"] == HIGHEST

    new = replace_keys(vendor, "timestamp", "snapshot", "targets")

    def right(role: str) -> Any:
        def change(signed: Any) -> None:
            signed.version = before[role] + 1
            if role == "snapshot":
                signed.meta["targets.json"] = targets

        return change

    targets = sign_role(vendor, "targets", new["targets"], right("targets"))
    snapshot = sign_role(vendor, "snapshot", new["snapshot"], right("snapshot"))
    sign_timestamp(
        vendor,
        new["timestamp"],
        version=before["timestamp"] + 1,
        signed_at=NOW,
        expires=NOW + DAYS[14],
        snapshot=snapshot,
    )
    found = looked(till)
    assert found.answer is Answer.OK, found.detail
    versions = seen(till.settings.trust)["versions"]
    assert {role: versions[role] for role in before} == {role: version + 1 for role, version in before.items()}


def newest(vendor: Vendor) -> dict[str, Path]:
    folder = vendor.public / "metadata"
    found = {
        role: max(folder.glob(f"*.{role}.json"), key=lambda path: path.stat().st_mtime_ns)
        for role in ("snapshot", "targets")
    }
    return {**found, "timestamp": folder / "timestamp.json"}


@pytest.mark.parametrize("loss", ["missing", "damaged", "another type"])
def test_a_memory_that_is_lost_refuses_and_a_person_begins_again(
    vendor: Vendor, till: Till, tmp_path: Path, loss: str
) -> None:
    old = copy_of(vendor, tmp_path / "old")
    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"
    path = till.settings.trust / "seen.json"
    if loss == "missing":
        path.unlink()
    else:
        path.write_text({"damaged": "{", "another type": "[]"}[loss])
    shutil.rmtree(till.settings.trust / "metadata")
    with served(serving(old.public)) as address:
        done = till.run("check", TILLKEEPER_URL=address)
    assert (done.returncode, done.stdout.startswith("TRUST_LOST: ")) == (4, True), done.stdout + done.stderr
    assert "updater trust reset --root FILE" in done.stdout
    assert till.report("TRUST_LOST")["code"] == "U-1031"
    assert till.run("trust", "show").returncode == 4
    other = tmp_path / "other.json"
    other.write_text("{}")
    refused = till.run("trust", "reset", "--root", str(other))
    assert (refused.returncode, "as the root is none" in refused.stderr) == (4, True), refused.stderr
    assert till.run("check").stdout.startswith("TRUST_LOST: "), "nothing was changed"
    reset = till.run("trust", "reset", "--root", str(vendor.root))
    assert (reset.returncode, "is trusted" in reset.stdout) == (0, True), reset.stdout + reset.stderr
    assert till.check().outcome == "SWAPPED"
    assert till.report("TRUST_RESET")["alarm"] is True


@pytest.mark.parametrize("loss", ["missing", "of another role"])
def test_a_root_that_is_lost_is_named_with_the_way_to_begin_again(vendor: Vendor, till: Till, loss: str) -> None:
    vendor.release("1.1", schema=4)
    path = till.settings.trust / "root.json"
    if loss == "missing":
        path.unlink()
    else:
        other = (vendor.public / "metadata" / "timestamp.json").read_bytes()
        path.write_bytes(other)
    done = till.run("check")
    assert (done.returncode, done.stdout.startswith("TRUST_LOST: ")) == (4, True), done.stdout + done.stderr
    assert "updater trust reset --root FILE" in done.stdout
    reset = till.run("trust", "reset", "--root", str(vendor.root))
    assert reset.returncode == 0, reset.stdout + reset.stderr
    assert till.check().outcome == "SWAPPED"


def test_trust_show_names_versions_expiries_and_keys(vendor: Vendor, till: Till) -> None:
    till.check()
    done = till.run("trust", "show")
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (0, 6), done.stdout + done.stderr
    assert lines[2].startswith("timestamp version 2, seen 2, expires ")
    found = json.loads(till.run("trust", "show", "--json").stdout)
    assert (found["roles"]["targets"]["seen"], found["root"]["version"]) == (2, 1)
    replace_keys(vendor, "timestamp")
    root = json.loads((vendor.public / "metadata" / "2.root.json").read_text())["signed"]
    (new,) = root["roles"]["timestamp"]["keyids"]
    till.check()
    shown = json.loads(till.run("trust", "show", "--json").stdout)
    assert shown["root"]["keys"]["timestamp"] == [new] != found["root"]["keys"]["timestamp"], "the stolen one is out"
    assert new[:12] in till.run("trust", "show").stdout


def test_trust_reset_with_a_repository_that_is_away_changes_nothing(vendor: Vendor, till: Till) -> None:
    till.check()
    before = {path: path.read_bytes() for path in till.settings.trust.rglob("*") if path.is_file()}
    with served(serving(vendor.public)) as gone:
        pass
    done = till.run("trust", "reset", "--root", str(vendor.root), TILLKEEPER_URL=gone)
    assert (done.returncode, "OFFLINE" in done.stderr) == (75, True), done.stderr
    assert {path: path.read_bytes() for path in till.settings.trust.rglob("*") if path.is_file()} == before


def test_a_repository_that_delegates_is_refused_by_name(vendor: Vendor, till: Till) -> None:
    from tuf.api.metadata import Delegations

    def delegate(signed: Any) -> None:
        signed.version += 1
        signed.delegations = Delegations({}, {})

    def follow(signed: Any) -> None:
        signed.version += 1
        signed.meta["targets.json"] = targets

    targets = sign_role(vendor, "targets", stolen(vendor, "targets"), delegate)
    snapshot = sign_role(vendor, "snapshot", stolen(vendor, "snapshot"), follow)
    version = timestamp(vendor)["version"] + 1
    sign_timestamp(
        vendor, stolen(vendor, "timestamp"), version=version, signed_at=NOW, expires=NOW + DAYS[14], snapshot=snapshot
    )
    found = looked(till)
    assert (found.answer, "the repository delegates" in found.detail) == (Answer.REFUSED, True), found.detail
