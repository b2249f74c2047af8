"""A stick for shops without internet, and terminals that meet it before, after and beside the online repository."""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from tests.helpers.shop import contents
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, password
from tests.updater.publish.test_deploy import PlugPulled, cut_at, source
from updater.answers import Answer
from updater.publish import media, repository
from updater.publish.errors import PublishError
from updater.repository import client as repository_client

DAY = timedelta(days=1)


def write(vendor: Vendor, target: Path, *, days: int = 60, releases: int = 1, since: str = "") -> media.Stick:
    return media.write(
        folder=vendor.repository, target=target, valid_days=days, releases_count=releases,
        since=frozenset([since] if since else []), passwords=password,
    )  # fmt: skip


def version(place: Path) -> int:
    found = Metadata.from_file(str(place / "metadata" / "timestamp.json")).signed.version
    return int(found)


def test_a_shop_without_internet_updates_from_a_stick(vendor: Vendor, till: Till, tmp_path: Path) -> None:
    vendor.release("1.1", schema=4)
    done = write(vendor, tmp_path / "stick")
    assert (done.versions, done.files_count) == (("1.1",), 7)
    offline = till.copy_to(tmp_path / "offline", str(tmp_path / "stick"))
    assert offline.check().outcome == "SWAPPED"
    assert offline.launch().returncode == 0
    assert write(vendor, tmp_path / "stick").files_count == 1, "what is there is not written again"


def test_a_stick_is_good_for_its_days_and_online_is_newer_from_the_first_moment(
    vendor: Vendor, url: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    write(vendor, tmp_path / "stick")
    assert version(vendor.public) == version(tmp_path / "stick") + 1

    def look(address: str, trust: str, days: int, *mirrors: str) -> Answer:
        asked = source(address, tmp_path / trust, vendor.root)
        return repository_client.look(asked._replace(mirrors=mirrors), now=now + days * DAY).answer

    stick = str(tmp_path / "stick")
    assert [look(stick, "offline", days) for days in (0, 40, 59)] == [Answer.OK] * 3
    assert look(stick, "offline", 61) is Answer.REFUSED
    assert look(url, "fresh", 15) is not Answer.OK, "the online one is as short as ever"
    # From the stick to the line, at once and later.
    assert look(stick, "both", 0) is Answer.OK
    assert look(url, "both", 0) is Answer.OK
    vendor.refresh()
    assert look(url, "both", 0) is Answer.OK
    # A stick that is older than what a terminal has seen says nothing; the server beside it does.
    assert look(stick, "both", 0) is Answer.REFUSED
    assert look(stick, "both", 0, url) is Answer.OK
    write(vendor, tmp_path / "stick")
    assert look(stick, "both", 0) is Answer.OK


def test_a_stick_that_was_cut_while_it_was_written_is_finished_by_repeating_it(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, ended = 0, False
    while not ended:
        number += 1
        with monkeypatch.context() as patch:
            counted = cut_at(number, patch)
            with contextlib.suppress(PlugPulled):
                write(vendor, tmp_path / "stick")
        ended = counted() < number
        asked = source(str(tmp_path / "stick"), tmp_path / f"trust{number}", vendor.root)
        found = (tmp_path / "stick" / "metadata" / "timestamp.json").exists()
        assert (repository_client.look(asked, now=datetime.now(UTC)).answer is Answer.OK) == found
        assert version(vendor.public) > (version(tmp_path / "stick") if found else 0)
    assert number > 5


def test_what_ends_before_the_stick_is_signed_anew_or_refused(vendor: Vendor, tmp_path: Path) -> None:
    before = contents(vendor.public)
    shutil.move(vendor.repository / "keys" / "targets", tmp_path / "targets")
    with pytest.raises(PublishError, match=r"targets ends on .*, before the stick would"):
        write(vendor, tmp_path / "stick", days=120)
    with pytest.raises(PublishError, match="367 days is not between 1 and 366"):
        write(vendor, tmp_path / "stick", days=367)
    assert contents(vendor.public) == before
    assert not (tmp_path / "stick").exists()
    shutil.move(tmp_path / "targets", vendor.repository / "keys" / "targets")
    write(vendor, tmp_path / "stick", days=120)
    asked = source(str(tmp_path / "stick"), tmp_path / "trust", vendor.root)
    assert repository_client.look(asked, now=datetime.now(UTC) + 119 * DAY).answer is Answer.OK


def test_a_stick_is_never_promised_for_longer_than_a_role_is_signed(vendor: Vendor, tmp_path: Path) -> None:
    shutil.move(vendor.repository / "keys" / "targets", tmp_path / "targets")
    with pytest.raises(PublishError) as raised:
        write(vendor, tmp_path / "stick", days=120)
    assert raised.value.hint.startswith("Choose fewer than 90 days")


def test_terminals_of_every_channel_find_their_release_on_a_stick(vendor: Vendor, till: Till, tmp_path: Path) -> None:
    vendor.release("1.1", schema=4)
    vendor.publish(vendor.bundle("1.2rc1", schema=4), "1.2rc1", channel="beta")
    assert write(vendor, tmp_path / "stick").versions == ("1.1", "1.2rc1")
    offline = till.copy_to(tmp_path / "offline", str(tmp_path / "stick"))
    assert offline.check().outcome == "SWAPPED"
    assert offline.status()["candidate"]["version"] == "1.1"
    assert write(vendor, tmp_path / "two", releases=2).versions == ("1.0", "1.1", "1.2rc1")


def test_a_stick_has_the_files_of_its_releases_and_those_of_none() -> None:
    names = [
        *(f"till-{release}.{kind}" for release in ("1.0", "1.0.1", "1.1") for kind in ("manifest", "tar.gz", "pack")),
        "till-1.0-1.0.1.delta", "till-1.0-1.1.delta", "till-1.0.1-1.1.delta", "till.rollout.json",
    ]  # fmt: skip
    newest = {"till-1.1.manifest", "till-1.1.tar.gz", "till-1.1.pack", "till.rollout.json"}
    assert media.chosen(names, "till", ["1.1"], frozenset(["1.0"])) == newest | {"till-1.0-1.1.delta"}
    assert media.chosen(names, "till", ["1.1"], frozenset()) == newest | {"till-1.0-1.1.delta", "till-1.0.1-1.1.delta"}
    assert "till-1.0.tar.gz" in media.chosen(names, "till", ["1.0"], frozenset())
    assert "till-1.0.1.tar.gz" not in media.chosen(names, "till", ["1.0"], frozenset())


def test_a_stick_is_written_from_the_workshop_wherever_the_public_files_are(vendor: Vendor, tmp_path: Path) -> None:
    config = repository.load(vendor.repository)
    repository.save(vendor.repository, config._replace(public=tmp_path / "other"))
    assert write(vendor, tmp_path / "stick").versions == ("1.0",)
    assert version(tmp_path / "other") == version(tmp_path / "stick") + 1


def test_a_stick_is_no_part_of_the_workshop_or_the_public_folder(vendor: Vendor, tmp_path: Path) -> None:
    before = (contents(vendor.public), contents(vendor.repository))
    (tmp_path / "link").symlink_to(vendor.public)
    for target in (vendor.public, vendor.public / "stick", vendor.repository, tmp_path / "link"):
        with pytest.raises(PublishError, match=r"it is in the (workshop|public folder)"):
            write(vendor, target)
    with pytest.raises(PublishError, match=r"--from: 9\.9 is not among"):
        write(vendor, tmp_path / "stick", since="9.9")
    assert (contents(vendor.public), contents(vendor.repository)) == before
    assert not (tmp_path / "stick").exists()


def test_a_workshop_without_the_files_writes_no_stick_and_uses_up_no_version(vendor: Vendor, tmp_path: Path) -> None:
    for path in (vendor.repository / "workshop" / "targets").glob("*.tar.gz"):
        path.unlink()
    before = (contents(vendor.public), contents(vendor.repository))
    with pytest.raises(PublishError) as caught:
        write(vendor, tmp_path / "stick")
    assert "without --metadata-only" in caught.value.in_words
    assert (contents(vendor.public), contents(vendor.repository)) == before
