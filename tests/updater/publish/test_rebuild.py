"""A workshop that is older than what is public changes nothing, and one is made again from what is public."""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.keys import generate_ed25519_key
from securesystemslib.signer import SSlibKey, SSlibSigner
from tuf.api.metadata import Metadata

from tests.helpers.keys import replace_keys
from tests.helpers.places import moved
from tests.helpers.shop import contents
from tests.helpers.vendor import Vendor, copy_of
from tests.updater.publish.test_deploy import PlugPulled, cut_at
from tests.updater.publish.test_refusals import publish
from updater.publish import deploy, rebuild
from updater.publish.errors import OldWorkshop, PublishError
from updater.publish.storage import TIMESTAMP, FolderStorage


def again(vendor: Vendor, root: Path | None = None) -> rebuild.Rebuilt:
    return rebuild.rebuild(folder=vendor.repository, app=None, public=None, keys_folder=None, root=root)


def beside(vendor: Vendor, folder: Path) -> Vendor:
    """The same public folder, and a copy of the workshop as it is now: a backup."""
    found = copy_of(vendor, folder)
    shutil.rmtree(found.public)
    moved(found.repository / "publish.json", source=found.public, target=vendor.public)
    return found


def check(vendor: Vendor) -> None:
    deploy.check_with_a_fresh_client(vendor.public, (vendor.public / "metadata" / "timestamp.json").read_bytes())


def test_an_old_workshop_is_refused_and_nothing_changes(vendor: Vendor, tmp_path: Path) -> None:
    old = beside(vendor, tmp_path / "old")
    vendor.release("1.1")
    before = contents(vendor.public)
    for attempt in (old.refresh, lambda: old.release("1.2")):
        with pytest.raises(OldWorkshop, match="targets is 2 here and 3 there"):
            attempt()
        assert contents(vendor.public) == before
    told = publish(old, "refresh")
    assert (told.returncode, "publish rebuild --repository DIR" in told.stderr) == (4, True), told.stderr
    with pytest.raises(OldWorkshop, match="targets is 2 here"):
        deploy.deploy(work=old.repository / "workshop", public=vendor.public)
    again(old)
    old.release("1.3")
    check(vendor)
    with pytest.raises(OldWorkshop):
        vendor.refresh()


def test_an_old_timestamp_alone_is_never_deployed(vendor: Vendor, tmp_path: Path) -> None:
    old = beside(vendor, tmp_path / "old")
    vendor.refresh()
    before = contents(vendor.public)
    with pytest.raises(OldWorkshop, match="timestamp is 2 here and 3 there"):
        deploy.deploy(work=old.repository / "workshop", public=vendor.public)
    assert contents(vendor.public) == before


def test_a_workshop_that_does_not_know_the_newest_root_is_refused(vendor: Vendor, tmp_path: Path) -> None:
    replace_keys(vendor, "timestamp")
    before = contents(vendor.public)
    with pytest.raises(OldWorkshop, match="root is 1 here and 2 there"):
        vendor.refresh()
    assert contents(vendor.public) == before


def test_the_same_version_with_other_bytes_is_refused(vendor: Vendor, tmp_path: Path) -> None:
    other = beside(vendor, tmp_path / "other")
    vendor.release("1.1")
    moved(other.repository / "publish.json", source=vendor.public, target=tmp_path / "elsewhere")
    other.release("1.1.1")
    before = contents(vendor.public)
    with pytest.raises(PublishError, match="it is public already with other bytes"):
        deploy.deploy(work=other.repository / "workshop", public=vendor.public)
    assert contents(vendor.public) == before


def test_a_lost_workshop_is_made_again_and_publishes(vendor: Vendor, tmp_path: Path) -> None:
    vendor.release("1.1", schema=4)
    before = contents(vendor.public)
    keys = tmp_path / "keys"
    shutil.move(vendor.repository / "keys", keys)
    shutil.rmtree(vendor.repository)
    words = ["--app", "sample-till", "--public", str(vendor.public), "--keys", str(keys)]
    told = publish(vendor, "rebuild", *words)
    assert (told.returncode, "there is no root to begin with" in told.stderr) == (4, True), told.stderr
    told = publish(vendor, "rebuild", *words, "--root", str(vendor.root), "--expires", "timestamp=3")
    assert (told.returncode, "5 files were fetched" in told.stdout) == (0, True), told.stderr
    assert "good for so many days: root 730, targets 90, snapshot 90, timestamp 3;" in told.stdout
    assert contents(vendor.public) == before
    told = publish(vendor, "rebuild", "--metadata-only")
    assert "timestamp 3;" in told.stdout, "the workshop keeps it"
    vendor.refresh()
    signed = Metadata.from_file(str(vendor.public / "metadata" / "timestamp.json")).signed
    assert timedelta(days=2) < signed.expires.replace(tzinfo=UTC) - datetime.now(UTC) <= timedelta(days=3)
    vendor.release("1.2", schema=6)
    check(vendor)


def test_a_file_that_only_a_lost_workshop_knew_stands_in_nobodys_way(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publish was cut before its timestamp, and the workshop was lost then: its numbers are taken."""
    old = beside(vendor, tmp_path / "old")
    bundle = vendor.bundle("1.1")
    right = FolderStorage.write

    def pulled(self: FolderStorage, name: str, data: bytes) -> None:
        if name == TIMESTAMP:
            raise PlugPulled
        right(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "write", pulled)
        with pytest.raises(PlugPulled):
            vendor.publish(bundle, "1.1")
    assert (vendor.public / "metadata" / "3.snapshot.json").exists()
    for attempt in (old.refresh, lambda: old.release("1.2")):
        with pytest.raises(OldWorkshop):
            attempt()
    again(old)
    old.release("1.3")
    check(vendor)
    assert (vendor.public / "metadata" / "4.targets.json").exists()


@pytest.mark.parametrize("keep", ["targets", "metadata"])
def test_a_rebuild_that_is_cut_is_finished_by_repeating_it(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    vendor.release("1.1")
    number, ended = 0, False
    while not ended:
        number += 1
        own = beside(vendor, tmp_path / f"own{number}")
        shutil.rmtree(own.repository / "workshop" / ("metadata" if keep == "targets" else "targets"))
        with monkeypatch.context() as patch:
            counted = cut_at(number, patch)
            with contextlib.suppress(PlugPulled):
                again(own, vendor.root)
        ended = counted() < number
        again(own, vendor.root)
        own.refresh()
        check(vendor)
        again(vendor)


def test_what_does_not_verify_is_not_taken(vendor: Vendor, tmp_path: Path) -> None:
    other = Vendor(tmp_path / "other")
    other.init()
    own = beside(vendor, tmp_path / "own")
    before = contents(own.repository)
    with pytest.raises(PublishError, match="does not verify"):
        again(own, other.root)
    thief = generate_ed25519_key()
    forged = Metadata.from_file(str(vendor.root))
    forged.signed.version = 2
    forged.signed.revoke_key(forged.signed.roles["root"].keyids[0], "root")
    forged.signed.add_key(SSlibKey.from_securesystemslib_key(thief), "root")
    forged.signatures.clear()
    forged.sign(SSlibSigner(thief))
    forged.to_file(str(vendor.public / "metadata" / "2.root.json"))
    with pytest.raises(PublishError, match="does not verify: UnsignedMetadataError: root was signed by 0/1"):
        again(own)
    (vendor.public / "metadata" / "2.root.json").unlink()
    with pytest.raises(PublishError, match="no key in this folder belongs to this repository"):
        rebuild.rebuild(
            folder=own.repository, app=None, public=None, keys_folder=other.repository / "keys", root=vendor.root
        )
    (archive,) = (vendor.public / "targets").glob("*.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    shutil.rmtree(own.repository / "workshop" / "targets")
    with pytest.raises(PublishError, match="it is not what was signed"):
        again(own)
    before = {name: data for name, data in before.items() if not name.startswith("workshop/targets/")}
    assert before.items() <= contents(own.repository).items()


def test_a_workshop_that_is_ahead_is_not_taken_back(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = vendor.bundle("1.1")
    with monkeypatch.context() as patch:
        patch.setattr(deploy, "_place_targets", lambda *_: (_ for _ in ()).throw(PlugPulled))
        with contextlib.suppress(PlugPulled):
            vendor.publish(bundle, "1.1")
    before = contents(vendor.repository)
    assert again(vendor).ahead
    assert contents(vendor.repository) == before
    vendor.publish(bundle, "1.1")
    check(vendor)


def test_an_app_of_which_nothing_is_public_is_refused(vendor: Vendor, tmp_path: Path) -> None:
    """Its workshop would sign a brake that no terminal follows."""
    words = ["--public", str(vendor.public), "--keys", str(vendor.repository / "keys"), "--root", str(vendor.root)]
    job = Vendor(tmp_path / "job")
    done = publish(job, "rebuild", "--app", "sample-tll", *words, "--metadata-only")
    assert (done.returncode, "it is the repository of 'sample-till'" in done.stderr) == (4, True), done.stderr
    assert not (job.repository / "publish.json").exists()
    assert publish(job, "rebuild", "--app", "sample-till", *words, "--metadata-only").returncode == 0
    other = publish(job, "rebuild", "--app", "sample-tll")
    assert (other.returncode, "Leave --app away" in other.stderr) == (4, True), other.stderr
