"""The folder of downloads: an archive is used again, goes when nothing wants it, and never takes the till's reserve."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from dbsync.errors import DiskFull
from dbsync.storage import files as storage
from tests.dbsync.test_bad_days import mounted
from tests.helpers.places import quoted
from tests.helpers.shop import files
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from tests.helpers.wires import Request, Wire, wired
from updater.bundles.downloads import Downloads
from updater.bundles.space import Need, shortage
from updater.bundles.version_folders import SPACE_CHECK_BYTES, Versions
from updater.manifest import parse
from updater.model import Release, ReleaseId, SchemaNumber


def published(vendor: Vendor, version: str, **changes: str) -> None:
    """A release whose description differs in some words."""
    folder = vendor.bundle(version, schema=4)
    config = folder / "tillkeeper.toml"
    for old, new in changes.items():
        config.write_text(config.read_text().replace(f'"{old}"', f'"{new}"'))
    (folder / "assets.bin").write_bytes(random.Random(1).randbytes(200_000))
    vendor.publish(folder, version)


def through(till: Till, server: Wire) -> str:
    """A cycle by way of another server."""
    text = till.settings_path.read_text()
    till.settings_path.write_text(text.replace(till.settings.url, server.url))
    try:
        return str(till.check().outcome)
    finally:
        till.settings_path.write_text(text)


def test_only_the_archives_of_wanted_releases_stay(tmp_path: Path) -> None:
    folder, release = tmp_path / "downloads", Release(ReleaseId("ab" * 32), "1.1", SchemaNumber(4))
    folder.mkdir()
    wanted = Downloads(folder).path_of(release)
    for name in (
        wanted.name,
        f"{wanted.name}.part",
        "1.0-cdcdcdcdcdcd.archive",
        "sample-till-1.1.tar.gz",
        "1.1",
        "x.part",
    ):
        (folder / name).write_bytes(b"12345")
    if sys.platform != "win32":
        (folder / "link.archive").symlink_to(tmp_path)
    (folder / "folder").mkdir()
    assert Downloads(folder).here_bytes(wanted) == 10
    Downloads(folder).tidy({release.folder})
    assert sorted(path.name for path in folder.iterdir()) == [wanted.name, f"{wanted.name}.part", "folder"]
    Downloads(tmp_path / "none").tidy(frozenset())


def test_the_archive_of_a_refused_release_goes_with_its_rejection(vendor: Vendor, till: Till) -> None:
    published(vendor, "1.1", **{"--self-test": "--no-such-option"})
    with wired(vendor.public) as server:
        assert through(till, server) == "STAGING_REFUSED"
        assert not files(till.settings.downloads)
        assert through(till, server) == "REJECTED_HERE"
    assert len(server.starts(".tar.gz")) == 1


def test_an_archive_that_this_machine_cannot_stage_is_fetched_once(vendor: Vendor, till: Till) -> None:
    published(vendor, "1.1", python="lua")
    text = till.settings_path.read_text()
    absent = text.replace("[interpreters]", f'[interpreters]\nlua = "{quoted(till.folder / "lua")}"')
    till.settings_path.write_text(absent)
    with wired(vendor.public) as server:
        assert [through(till, server) for _ in range(2)] == ["STAGING_LATER"] * 2
        assert len(server.starts(".tar.gz")) == 1
        (path,) = till.settings.downloads.iterdir()
        assert path.name.startswith("1.1-")
        # Damage on the disk is found: it is checked each time.
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        till.settings_path.write_text(absent.replace(quoted(till.folder / "lua"), quoted(sys.executable)))
        assert through(till, server) == "SWAPPED"
    assert len(server.starts(".tar.gz")) == 2
    assert not files(till.settings.downloads)


def test_what_was_superseded_half_way_goes(vendor: Vendor, till: Till) -> None:
    published(vendor, "1.1")

    def cut(request: Request) -> None:
        request.begin()
        request.send(request.rest[:100_000])

    till.limits(retry_seconds=0.001)
    with wired(vendor.public, cut, on="1.1.tar.gz") as server:
        text = till.settings_path.read_text()
        till.limits(retries_count=1)
        server.script = lambda request: request.reply("500 Internal Server Error") if request.start else cut(request)
        assert through(till, server) == "STAGING_LATER"
        till.settings_path.write_text(text)
        assert [path.suffix for path in till.settings.downloads.iterdir()] == [".part"]
        published(vendor, "1.2")
        assert through(till, server) == "SWAPPED"
    assert not files(till.settings.downloads)


def test_needs_on_one_disk_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "free_bytes", lambda _: 100)
    one, other = Need(tmp_path / "a" / "b", 40), Need(tmp_path / "c", 40)
    assert shortage([one, other], reserve_bytes=20) is None
    found = shortage([one, other], reserve_bytes=21)
    assert found is not None
    assert "stay free for the till" in found.cause


def test_the_reserve_stays_free_while_a_version_is_unpacked(
    vendor: Vendor, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = vendor.bundle("1.1", schema=4)
    (folder / "assets.bin").write_bytes(bytes(2 * SPACE_CHECK_BYTES))
    vendor.publish(folder, "1.1")
    manifest = next((vendor.public / "targets").glob("*1.1.manifest")).read_bytes()
    archive = next((vendor.public / "targets").glob("*1.1.tar.gz"))
    versions = Versions(till.settings.program, reserve_bytes=1000)
    monkeypatch.setattr(storage, "free_bytes", lambda _: SPACE_CHECK_BYTES)
    for make, source in ((versions.unpack, archive), (versions.copy_bundle, folder)):
        with pytest.raises(DiskFull, match="stay free for the till"):
            make(source, parse(manifest), manifest)
        assert [path.name for path in versions.root.iterdir() if path.name.startswith(".")] == []


SMALL = """
import sys
from tests.helpers.terminal import Till
from pathlib import Path
till = Till(Path(sys.argv[1]))
print(till.check().outcome, [path.name for path in till.settings.downloads.iterdir()])
"""


@pytest.mark.parametrize(("junk_mb", "reserve_mb", "outcome"), [(12, 8, "SWAPPED"), (0, 20, "STAGING_LATER")])
def test_on_a_small_disk_our_own_leftovers_go_first_and_the_reserve_stays(
    vendor: Vendor, till: Till, junk_mb: int, reserve_mb: int, outcome: str
) -> None:
    folder = vendor.bundle("1.1", schema=4)
    (folder / "assets.bin").write_bytes(random.Random(1).randbytes(10_000_000))
    vendor.publish(folder, "1.1")
    till.limits(least_free_bytes=reserve_mb * 1_000_000)
    place = till.settings.downloads
    place.mkdir(exist_ok=True)
    junk = f'head -c {junk_mb}000000 /dev/zero > "{place}/1.0-cdcdcdcdcdcd.archive.part"'
    done = mounted(
        f'mount -t tmpfs -o size=24m till "{place}" && {junk}', [sys.executable, "-c", SMALL, str(till.folder)]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{outcome} []", done.stdout
