"""Making deltas: which file each new one is made of, patches of all kinds, and publishes that cannot make them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from dbsync.storage import children
from tests.helpers.vendor import Vendor
from tests.sample_till.bundles import APP
from updater.bundles import patches as bundle_patches
from updater.bundles.packs import Moved, Patched, Stream
from updater.bundles.patches import BLOCK_BYTES, Cover, patched
from updater.errors import PackUnusable
from updater.manifest import FileEntry, Manifest, parse
from updater.model import Sha256
from updater.publish import covers, differ, patches
from updater.publish.covers import SMALLEST_BYTES, composed, fit
from updater.publish.deltas import plan
from updater.publish.differ import Between, Differ, Made
from updater.publish.errors import PublishError
from updater.publish.forms import Forms

CHANCE = random.Random(7)
OLD = CHANCE.randbytes(3 * BLOCK_BYTES + 123)


def rebuilt(patch: patches.Patch, old: bytes, size_bytes: int) -> bytes:
    """What a terminal makes of a patch."""
    streams = {stream: patches._Bytes(data) for stream, data in patch.parts.items()}
    return b"".join(patched(io.BytesIO(old), Patched("new", "old", *patch.counts()), streams, size_bytes))


def sprinkled(data: bytes, *, every: int) -> bytes:
    made = bytearray(data)
    for place in range(0, len(made), every):
        made[place] = (made[place] + 1) & 0xFF
    return bytes(made)


CASES: dict[str, bytes] = {
    "a byte": OLD[:1000] + b"?" + OLD[1001:],
    "its end": OLD[:-5],
    "more": OLD + b"more" * 10,
    "before": CHANCE.randbytes(70_000) + OLD,
    "in two": OLD[BLOCK_BYTES:] + OLD[:BLOCK_BYTES],
    "everywhere": sprinkled(OLD, every=40),
    "long runs": OLD[:BLOCK_BYTES] + bytes((byte + 3) & 0xFF for byte in OLD[BLOCK_BYTES:]),
    "twice": OLD + OLD,
}


@pytest.mark.parametrize("new", CASES.values(), ids=CASES.keys())
def test_a_patch_makes_the_new_file(new: bytes) -> None:
    patch = patches.make(old=OLD, new=new)
    assert patch is not None
    assert rebuilt(patch, OLD, len(new)) == new


def test_gaps_and_runs_of_any_length_survive() -> None:
    new = bytearray(OLD)
    for start, size in ((70_000, 600), (70_610, 1), (70_613, 255), (70_900, 256), (190_000, 3)):
        new[start : start + size] = bytes((byte + 9) & 0xFF for byte in new[start : start + size])
    covers = [Cover(0, 0, len(OLD))]
    patch = patches._encoded(covers, old=OLD, new=bytes(new))
    assert len(patch.parts[Stream.GAPS_LOW]) > 5
    assert rebuilt(patch, OLD, len(new)) == bytes(new)


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x01\x02", b"\x01\x02\x00\x03", b"\x00\x00\x00", b"\x01\x01\x03", b"\xff" * 9 + b"\x01\x01\x00"]
)
def test_covers_that_are_damaged_are_refused(data: bytes) -> None:
    with pytest.raises(PackUnusable, match="a patch is damaged"):
        list(bundle_patches.covers(data))


def test_covers_survive_whatever_their_numbers_are() -> None:
    numbers = (0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 1 << 31, 1 << 40)
    made = [Cover(literal, old, size) for literal in numbers for size in numbers for old in numbers if literal + size]
    # More than are remembered, and over the edges of the blocks in which they are read.
    made += [Cover(number, 3 * number, number + 1) for number in range(0, 1 << 19, 5)]
    data = bundle_patches.covers_to_bytes(iter(made))
    assert len(data) > 4 * BLOCK_BYTES
    assert list(bundle_patches.covers(data)) == made


def test_a_file_that_has_nothing_in_common_travels_whole() -> None:
    assert patches.make(old=OLD, new=CHANCE.randbytes(50_000)) is None


def test_a_patch_of_another_form_of_the_library_is_refused() -> None:
    with pytest.raises(ValueError, match="another format"):
        list(patches._covers(b"HDIFF14&\0"))


def places(covers: Iterable[Cover], size_bytes: int) -> list[int | None]:
    """Which byte of the old file each byte of the new one is made of."""
    found: list[int | None] = []
    for cover in covers:
        found += [None] * cover.literal_bytes
        found += range(cover.old_place, cover.old_place + cover.size_bytes)
    return found + [None] * (size_bytes - len(found))


def some_covers(chance: random.Random, *, old_bytes: int, new_bytes: int) -> list[Cover]:
    """Covers of any kind: beside each other, far apart, of no bytes, the same old bytes twice."""
    made: list[Cover] = []
    left_bytes = new_bytes
    while left_bytes > 40:
        size_bytes = chance.choice((0, 3, 8, 25))
        behind = made[-1].old_place + made[-1].size_bytes if made else 0
        place = (
            behind if chance.random() < 0.5 and behind + size_bytes <= old_bytes else chance.randrange(old_bytes - 25)
        )
        made.append(Cover(chance.choice((0, 0, 1, 9)), place, size_bytes))
        left_bytes -= made[-1].literal_bytes + size_bytes
    return made


@pytest.mark.parametrize("seed", range(20))
def test_composed_covers_lead_to_the_bytes_that_both_lead_to(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    first, second = (some_covers(chance, old_bytes=300, new_bytes=300) for _ in range(2))
    between = places(first, 300)
    wanted = [None if place is None else between[place] for place in places(second, 300)]
    shorter = list(composed(first, second))
    assert fit(shorter, old_bytes=300, new_bytes=300)
    assert all(cover.size_bytes >= SMALLEST_BYTES for cover in shorter)
    assert all(made in (right, None) for made, right in zip(places(shorter, 300), wanted, strict=True))
    monkeypatch.setattr(covers, "SMALLEST_BYTES", 1)
    assert places(composed(first, second), 300) == wanted


@pytest.mark.parametrize("known", [[Cover(0, 5, len(OLD))], [Cover(0, 0, 50), Cover(len(OLD), 0, 0)]])
def test_covers_that_lie_outside_the_files_are_not_believed(known: list[Cover]) -> None:
    patch = patches.make(old=OLD, new=CASES["a byte"], known=known)
    assert patch is not None
    assert patch.size_bytes < 200


def test_large_files_of_older_releases_are_not_compared_if_the_delta_before_tells(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differ, "OWN_LIMIT_BYTES", 100_000)
    composed_ones: list[tuple[int, bool]] = []
    make = Differ.make

    def watched(self: Differ, *, old: Path, new: Path, target: Path, between: Between | None = None) -> Made | None:
        made = make(self, old=old, new=new, target=target, between=between)
        if new.name == "engine.so":
            composed_ones.append((sum(made.sizes.values()) if made else 0, between is not None))
        return made

    monkeypatch.setattr(Differ, "make", watched)
    publish = published(vendor)
    publish("1.1", b"1", Forms(pack=False, deltas_count=0))
    publish("1.2", b"2", Forms(pack=False))
    publish("1.3", b"3", Forms(pack=False))
    sizes_bytes, known = zip(*composed_ones[1:], strict=True)
    assert known == (False, True)
    assert sizes_bytes[1] <= sizes_bytes[0] + 10
    # A delta that is not there, is of other releases, or is damaged tells nothing: they are compared.
    targets = vendor.archive("1.3").parent
    gone, other, damaged = (targets / f"{APP}-1.{number}-1.4.delta" for number in (1, 2, 3))
    publish("1.4", b"4", Forms(pack=False))
    assert [is_known for _, is_known in composed_ones[3:]] == [False, True, True]
    other.write_bytes(damaged.read_bytes())
    damaged.write_bytes(damaged.read_bytes()[:40])
    gone.unlink()
    publish("1.5", b"5", Forms(pack=False))
    assert [is_known for _, is_known in composed_ones[6:]] == [False, False, False, False]
    assert (targets / f"{APP}-1.1-1.5.delta").stat().st_size < 5000


def of(files: dict[str, str], sizes_bytes: int = 1000) -> Manifest:
    """A manifest with files of that content."""
    entries = {path: FileEntry(sizes_bytes, Sha256(f"{content:0>64}"), 0o644) for path, content in files.items()}
    return Manifest(APP, "1.0", "any", entries, "a", None, (), None, 0.0, None, (), "1.0", 0)


def test_files_are_found_by_place_content_and_name_without_numbers() -> None:
    found = plan(
        earlier=of({"a": "1", "b/same": "2", "lib-1.2/core-1.2.so": "3", "old/tool3.exe": "4"}),
        manifest=of({"a": "5", "c/moved": "2", "lib-1.3/core-1.3.so": "6", "bin/tool4.exe": "7", "none": "8"}),
    )
    assert found.moved == (Moved("c/moved", "b/same"),)
    assert found.patched == {
        "a": "a", "lib-1.3/core-1.3.so": "lib-1.2/core-1.2.so", "bin/tool4.exe": "old/tool3.exe",
    }  # fmt: skip
    assert found.new == ("none",)


def test_small_files_travel_whole() -> None:
    assert plan(earlier=of({"a": "1"}, 100), manifest=of({"a": "2"}, 100)).new == ("a",)


def published(vendor: Vendor) -> Callable[..., None]:
    """Publishes releases with a large file."""

    def publish(version: str, changed: bytes, forms: Forms) -> None:
        folder = vendor.bundle(version, schema=4)
        (folder / "engine.so").write_bytes(OLD[:-50] + changed * 50)
        vendor.publish(folder, version, forms=forms)

    return publish


def forms_of(vendor: Vendor, version: str) -> set[str]:
    """The public files of a release, without their hashes."""
    names = {path.name.partition(".")[2] for path in (vendor.public / "targets").iterdir()}
    return {name.removeprefix(f"{APP}-") for name in names if version in name}


def test_forms_are_those_that_were_asked_for_and_a_publish_leaves_nothing_else(vendor: Vendor) -> None:
    publish = published(vendor)
    publish("1.1", b"1", Forms(pack=False, deltas_count=0))
    publish("1.2", b"2", Forms(pack=True, deltas_count=1))
    publish("1.3", b"3", Forms(pack=False, deltas_count=2))
    assert forms_of(vendor, "1.1") == {"1.1.tar.gz", "1.1.manifest", "1.1-1.2.delta", "1.1-1.3.delta"}
    assert forms_of(vendor, "1.2") == {"1.2.tar.gz", "1.2.manifest", "1.2.pack", "1.1-1.2.delta", "1.2-1.3.delta"}
    assert forms_of(vendor, "1.3") == {"1.3.tar.gz", "1.3.manifest", "1.1-1.3.delta", "1.2-1.3.delta"}
    assert not (vendor.repository / "workshop" / "scratch").exists()


def test_an_earlier_archive_that_is_not_what_was_signed_is_found_and_nothing_becomes_public(vendor: Vendor) -> None:
    publish = published(vendor)
    publish("1.1", b"1", Forms(pack=False, deltas_count=0))
    archive = vendor.archive("1.1")
    archive.write_bytes(archive.read_bytes()[:2000])
    before = sorted(path.name for path in vendor.public.rglob("*"))
    with pytest.raises(PublishError, match=r"1\.1\.tar\.gz"):
        publish("1.2", b"2", Forms())
    assert sorted(path.name for path in vendor.public.rglob("*")) == before
    archive.unlink()
    vendor.publish(vendor.bundles / "1.2", "1.2", forms=Forms())
    assert "1.2.pack" in forms_of(vendor, "1.2")
    assert parse(vendor.manifest("1.2")).version == "1.2"


def test_large_files_are_compared_in_a_child_that_serves_again_and_its_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differ, "OWN_LIMIT_BYTES", 0)
    monkeypatch.setattr(differ, "LARGE_BYTES", 100_000)
    old, new, target = (tmp_path / name for name in ("old", "new", "patch"))
    old.write_bytes(OLD)
    made = Differ()
    for data in (CASES["a byte"], CASES["more"]):
        new.write_bytes(data)
        found = made.make(old=old, new=new, target=target)
        assert found is not None
        assert rebuilt(patches.Patch(found.read()), OLD, len(data)) == data
    new.write_bytes(CHANCE.randbytes(50_000))
    assert made.make(old=old, new=new, target=target) is None
    made.close()
    monkeypatch.setattr(children, "command", lambda _: [children.python(), "-c", "pass"])
    with pytest.raises(PublishError, match="was ended"):
        made.make(old=old, new=new, target=target)
