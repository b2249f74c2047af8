"""What a terminal makes of servers, copies and clocks that are wrong: each has a name, and nothing is staged."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.hostile import hostile
from tests.helpers.shop import files
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, copy_of, served, serving
from tests.helpers.wires import MODES, Request, wired
from updater.answers import Answer
from updater.decisions.transfer import OVERLAP_BYTES
from updater.flows.agent import Cycle
from updater.model import Release
from updater.network.manner import Manner
from updater.repository import client


def check_against(till: Till, address: str) -> Cycle:
    """The agent's cycle against another server."""
    text = till.settings_path.read_text()
    old = till.settings.url
    till.settings_path.write_text(text.replace(old, address))
    try:
        return till.check()
    finally:
        till.settings_path.write_text(text)


def newer_releases(till: Till) -> list[Release]:
    """What the vendor offers."""
    return [offer.release for offer in till.terminal().find_releases().newer]


def nothing_is_staged(till: Till) -> bool:
    """Only 1.0 is there, nothing is on its way, and it sells."""
    names = [one.name for one in (till.folder / "program" / "versions").iterdir()]
    return len(names) == 1 and till.status()["phase"] == "IDLE"


@pytest.mark.parametrize(
    "date",
    ["Fri, 31 Dec 9999 23:59:59 -0100", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +2359", "soon"],
)
def test_a_date_that_is_none_stops_no_look(vendor: Vendor, till: Till, date: str) -> None:
    assert till.check().outcome == "NOTHING_NEW"
    with wired(vendor.public, lambda request: request.good(f"Date: {date}")) as server:
        assert check_against(till, server.url).outcome == "NOTHING_NEW"
        vendor.release("1.1", schema=4)
        assert check_against(till, server.url).outcome == "SWAPPED"


@pytest.mark.parametrize(
    ("how", "on", "outcome", "words"),
    [
        ("html", "", "SERVER_WRONG", "not metadata"),
        ("missing", "", "SERVER_WRONG", "status 404"),
        ("missing", "timestamp", "SERVER_WRONG", "status 404"),
        ("hang up", "timestamp", "OFFLINE", "timestamp.json"),
        ("flip", "timestamp", "REFUSED", ""),
        ("flip", "snapshot", "REFUSED", "snapshot"),
        ("flip", "targets.json", "REFUSED", "targets"),
        ("flip", "1.1.manifest", "REFUSED", "manifest"),
        ("more", "timestamp", "REFUSED", ""),
        ("redirect", "timestamp", "SERVER_WRONG", "more than 5 redirects"),
    ],
)
def test_a_look_at_a_wrong_server_has_a_name_and_changes_nothing(
    vendor: Vendor, till: Till, how: str, on: str, outcome: str, words: str
) -> None:
    vendor.release("1.1", schema=4)
    with served(hostile(vendor.public, how, on=on)) as address:
        found = check_against(till, address)
    assert (found.outcome, words in found.reason) == (outcome, True), found
    assert nothing_is_staged(till)
    assert till.check().outcome == "SWAPPED", "and the real server is believed again at once"


@pytest.mark.parametrize(
    ("how", "outcome", "words", "left"),
    [
        ("flip", "STAGING_LATER", "REFUSED", False),
        ("hang up", "STAGING_LATER", "OFFLINE", True),
        ("missing", "STAGING_LATER", "status 404", False),
        ("html", "STAGING_LATER", "", False),
    ],
)
def test_a_download_from_a_wrong_server_leaves_at_most_a_part(
    vendor: Vendor, till: Till, how: str, outcome: str, words: str, left: bool
) -> None:
    vendor.release("1.1", schema=4)
    with served(hostile(vendor.public, how, on=".tar.gz")) as address:
        found = check_against(till, address)
    assert (found.outcome, words in found.reason) == (outcome, True), found
    assert nothing_is_staged(till)
    parts = files(till.settings.downloads)
    assert {one.endswith(".part") for one in parts} <= {True}
    assert bool(parts) is left or how == "html"
    assert till.state().read_rejections(lambda _: True) == ()
    assert till.check().outcome == "SWAPPED", "a bad way is not a bad release: it is fetched again"


def test_a_download_that_broke_off_goes_on_where_it_stopped(vendor: Vendor, till: Till) -> None:
    (vendor.bundle("1.1", schema=4) / "assets.bin").write_bytes(bytes(range(256)) * 4000)
    vendor.publish(vendor.bundles / "1.1", "1.1")
    with served(hostile(vendor.public, "hang up", on=".tar.gz")) as address:
        check_against(till, address)
    (part,) = till.settings.downloads.glob("*.part")
    had_bytes = part.stat().st_size
    assert had_bytes > 0
    sent: list[str] = []
    from updater.publish.serve import make_server

    with served(make_server(vendor.public, told=sent.append)) as address:
        assert check_against(till, address).outcome == "SWAPPED"
    (line,) = [one for one in sent if ".tar.gz" in one]
    archive = next((vendor.public / "targets").glob("*1.1.tar.gz"))
    assert int(line.split()[1]) == archive.stat().st_size - had_bytes + OVERLAP_BYTES


def test_a_part_that_was_damaged_on_disk_is_fetched_again_from_nothing(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    till.settings.downloads.mkdir(exist_ok=True)
    (release,) = newer_releases(till)
    (till.settings.downloads / f"{release.folder}.archive.part").write_bytes(b"damage" * 100)
    assert till.check().outcome == "SWAPPED"
    assert not files(till.settings.downloads)


@pytest.mark.parametrize("how", ["silent", "drip"])
def test_a_server_that_never_ends_is_ended_by_the_deadline(vendor: Vendor, till: Till, how: str) -> None:
    till.limits(look_seconds=2.0)
    with served(hostile(vendor.public, how, on="timestamp")) as address:
        found = check_against(till, address)
    assert found.outcome == "TIMED_OUT"
    assert nothing_is_staged(till)


def test_no_server_at_all_is_offline(vendor: Vendor, till: Till) -> None:
    with served(serving(vendor.public)) as address:
        pass
    assert check_against(till, address).outcome == "OFFLINE"
    done = till.run("check", TILLKEEPER_URL=address)
    assert (done.returncode, done.stdout.startswith("OFFLINE: ")) == (75, True)
    assert nothing_is_staged(till)


def test_another_vendors_repository_is_refused(vendor: Vendor, till: Till, tmp_path: Path) -> None:
    other = Vendor(tmp_path / "other")
    other.init()
    other.release("9.0")
    with served(serving(other.public)) as address:
        found = check_against(till, address)
        with pytest.raises(Exception, match="REFUSED"):
            Till(tmp_path / "new").install(vendor.root, address)
    assert found.outcome == "REFUSED"
    assert nothing_is_staged(till)


def test_an_old_copy_of_the_repository_is_refused_even_when_the_metadata_on_disk_is_lost(
    vendor: Vendor, till: Till, tmp_path: Path
) -> None:
    old = copy_of(vendor, tmp_path / "old")
    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"
    shutil.rmtree(till.settings.trust / "metadata")
    with served(serving(old.public)) as address:
        found = check_against(till, address)
    assert (found.outcome, "this terminal has seen" in found.reason) == ("REFUSED", True)
    seen = json.loads((till.settings.trust / "seen.json").read_text())
    assert seen["versions"]["targets"] == 3


def test_metadata_emptied_by_a_power_cut_is_fetched_again(vendor: Vendor, till: Till) -> None:
    for path in (till.settings.trust / "metadata").glob("*.json"):
        path.write_bytes(b"")
    vendor.release("1.1", schema=4)
    assert till.check().outcome == "SWAPPED"


def test_expired_metadata_is_refused_and_a_wrong_clock_is_named(tmp_path: Path) -> None:
    vendor = Vendor(tmp_path / "vendor")
    vendor.init(timestamp=2)
    vendor.release("1.0")
    till = Till(tmp_path / "till")
    with served(serving(vendor.public)) as address:
        till.install(vendor.root, address)
        settings = till.settings
        source = client.Source(settings.url, (), settings.trust, settings.app, 30.0, 30.0, Manner(1))
        now = datetime.now(UTC)
        assert client.look(source, now=now).answer is Answer.OK
        ahead = client.look(source, now=now + timedelta(days=30))
        assert (ahead.answer, "the server's" in ahead.detail) == (Answer.CLOCK_SUSPECT, True)
        # A clock that was set back does not make old metadata fresh again: the floor is the vendor's own time.
        (settings.trust / "seen.json").write_text(
            json.dumps({"versions": {}, "floor": (now + timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")})
        )
        behind = client.look(source, now=now - timedelta(hours=1))
        assert (behind.answer, "timestamp expired" in behind.detail) == (Answer.REFUSED, True)
    assert nothing_is_staged(till)


def test_nothing_new_costs_two_requests(vendor: Vendor, till: Till) -> None:
    from updater.publish.serve import make_server

    sent: list[str] = []
    with served(make_server(vendor.public, told=sent.append)) as address:
        assert check_against(till, address).outcome == "NOTHING_NEW"
    # The server tells of a request when it is through with it, and each has a thread of its own.
    assert sorted(line.split()[0] for line in sent) == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def test_a_mirror_is_asked_where_the_server_does_not_answer(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    with served(serving(vendor.public)) as gone:
        pass
    with served(hostile(vendor.public, "html")) as portal, served(serving(vendor.public)) as good:
        text = till.settings_path.read_text().replace(till.settings.url, gone)
        till.settings_path.write_text(text.replace("mirrors = []", f'mirrors = ["{portal}", "{good}"]'))
        assert till.check().outcome == "SWAPPED"


@pytest.mark.parametrize(
    "mode", ["silent", *(pytest.param(mode, marks=pytest.mark.long) for mode in ("drip the head", "drip chunk sizes"))]
)
def test_a_primary_that_never_ends_has_its_share_of_a_look_and_comes_last_afterwards(
    vendor: Vendor, till: Till, mode: str
) -> None:
    vendor.release("1.1", schema=4)
    till.limits(look_seconds=20.0, answer_seconds=1.0, silence_seconds=1.0)
    with wired(vendor.public, MODES[mode]) as primary, wired(vendor.public) as mirror:
        text = till.settings_path.read_text().replace(till.settings.url, primary.url)
        till.settings_path.write_text(text.replace("mirrors = []", f'mirrors = ["{mirror.url}"]'))
        assert till.check().outcome == "SWAPPED"
        assert len(primary.asked) == 2, "by the cheap look and the full one; the archive came from the mirror at once"
        assert till.check().outcome == "SWAPPED"
        assert len(primary.asked) == 2


def test_a_stick_updates_a_till_without_a_network_and_hides_no_news_from_one_with(
    vendor: Vendor, till: Till, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    vendor.release("1.1", schema=4)
    shutil.copytree(vendor.public, stick)
    url = till.settings.url
    text = till.settings_path.read_text().replace("mirrors = []", f'mirrors = ["{stick}"]')
    till.settings_path.write_text(text.replace(url, "http://127.0.0.1:9"))
    assert till.check().reason.startswith("1.1 ")
    vendor.release("1.2", schema=4)
    till.settings_path.write_text(text)
    assert till.check().reason.startswith("1.2 ")


def test_expired_metadata_is_what_the_user_reads(vendor: Vendor, till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.helpers.vendor import password
    from updater.publish import repository
    from updater.publish.signing import Workshop

    # Each signature of this publisher is given its time.
    monkeypatch.setattr(Workshop, "refresh_expiration_date", lambda *_: None)
    config = repository.load(vendor.repository)
    workshop = repository._open(vendor.repository, config, password)
    workshop.roles.set_expiration_date("timestamp", days=-1)
    workshop.sign_and_store()
    # The publisher would not let this out; somebody who serves an old copy would.
    stale = (vendor.repository / "workshop" / "metadata" / "timestamp.json").read_bytes()
    (vendor.public / "metadata" / "timestamp.json").write_bytes(stale)
    done = till.run("check")
    assert done.returncode == 4
    assert done.stdout.startswith("REFUSED: ")
    assert "expired" in done.stdout
    report = till.report("REFUSED")
    assert (report["code"], report["next"]) == (
        "U-1003",
        "The repository did not pass verification: tell the release engineer.",
    )
    assert nothing_is_staged(till)


def test_a_status_line_of_any_length_is_one_addresss_and_the_next_one_is_asked(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    with (
        wired(vendor.public, lambda request: request.send(b"HTTP/1.1 " + b"a:" * 32_000)) as bad,
        wired(vendor.public) as good,
    ):
        text = till.settings_path.read_text().replace(till.settings.url, bad.url)
        till.settings_path.write_text(text.replace("mirrors = []", f'mirrors = ["{good.url}"]'))
        assert till.check().outcome == "SWAPPED"
    (known,) = json.loads(till.settings.private.joinpath("addresses.json").read_text())["addresses"].values()
    assert len(known["detail"]) < 600


def test_odd_metadata_of_one_address_is_not_the_others(vendor: Vendor, till: Till) -> None:
    """Whatever it makes of our own code: each shape is a fault of its address."""
    vendor.release("1.1", schema=4)
    for body in (b"[]", b"null", b'{"signed": []}', b'{"signed": {"expires": 1e999}, "signatures": 5}', b"[" * 100_000):
        with wired(vendor.public, partial(Request.reply, status="200 OK", body=body)) as bad:
            found = check_against(till, bad.url)
        assert found.outcome in ("REFUSED", "SERVER_WRONG"), (body[:40], found)
    assert till.check().outcome == "SWAPPED"
