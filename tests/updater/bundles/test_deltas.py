"""Deltas and packs: a real vendor publishes, a real server serves, a real terminal stages the release."""

from __future__ import annotations

import json
import lzma
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dbsync.backups import compression
from dbsync.errors import Refused
from dbsync.storage import files as storage
from tests.helpers.packs import put_together, sign_again, taken_apart, with_head
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, copy_of, served, serving
from tests.helpers.wires import Request, Wire, wired
from tests.sample_till.bundles import APP
from tests.updater.bundles.test_downloads import through
from updater import manifest
from updater.bundles import packs, patches, version_folders
from updater.bundles.packs import Codec, New, Patched, Stream
from updater.bundles.version_folders import Versions
from updater.bundles.ways import Way, Ways
from updater.manifest import MANIFEST_NAME, START_NAME, parse, scan
from updater.model import ReleaseId, Sha256
from updater.publish import differ
from updater.publish.forms import Forms
from updater.publish.packs import make_pack, squeeze
from updater.publish.repository import Published
from updater.repository.client import Pack

ENGINE = random.Random(1).randbytes(300_000)
QUICK = ({"id": lzma.FILTER_LZMA2, "preset": 0},)
KILLED_WHILE_IT_UNPACKS = """
import os, signal, sys
from updater.__main__ import main
from updater.bundles.unpacking import Unpacking

Unpacking.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[1:] = ["check", "--settings", sys.argv[1]]
main()
"""
DELTA, PACK = f"{APP}-1.1-1.2.delta", f"{APP}-1.2.pack"


def publish(
    vendor: Vendor, version: str, *, name: str = "engine-1.1.so", number: int = 0, deltas_count: int = 5
) -> Published:
    """A release with a large file, a few more bytes of which differ in each one, and one more small file."""
    folder = vendor.bundle(version, schema=4)
    data = bytearray(ENGINE)
    for place in range(0, number * 40_000, 997):
        data[place] ^= 0x55
    (folder / name).write_bytes(bytes(data[:100_000]) + b"new" * number + bytes(data[100_000:]))
    (folder / f"notes-{number}.txt").write_bytes(random.Random(number).randbytes(6000))
    (folder / "plain.bin").write_bytes(ENGINE[:60_000])
    return vendor.publish(folder, version, forms=Forms(deltas_count=deltas_count))


@pytest.fixture(scope="module")
def first_shop(
    first_release: Vendor, first_till: Till, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Vendor, Till]:
    """A vendor with 1.1 and 1.2, and a terminal that was installed with 1.1."""
    folder = tmp_path_factory.mktemp("shop")
    vendor = copy_of(first_release, folder / "vendor")
    publish(vendor, "1.1")
    till = Till(folder / "till")
    with served(serving(vendor.public)) as url:
        till.install(vendor.root, url)
    publish(vendor, "1.2", number=1)
    return vendor, till


@pytest.fixture
def shop(first_shop: tuple[Vendor, Till], tmp_path: Path) -> tuple[Vendor, Till]:
    """The same, of the test's own."""
    vendor, till = first_shop
    return copy_of(vendor, tmp_path / "shop" / "vendor"), till.copy_to(tmp_path / "shop" / "till", till.settings.url)


def staged(till: Till, version: str, bundle: Path) -> bool:
    """Whether a version folder has exactly the files of a bundle."""
    (folder,) = (till.settings.program / "versions").glob(f"{version}-*")
    own = {folder / MANIFEST_NAME, folder / START_NAME}
    assert own <= set(folder.iterdir())
    return scan(folder) == scan(bundle)


def asked(server: Wire) -> list[str]:
    """The forms that were asked for, in order."""
    names = [request.path.rpartition("/")[2] for request in server.asked]
    return [name.rpartition(".")[2] for name in names if name.endswith((".delta", ".pack", ".gz"))]


def unusable(till: Till) -> int:
    """How many reports there are of packs that were no use."""
    return till.outcomes().count("PACK_UNUSABLE")


def test_a_delta_brings_the_release_with_few_bytes(shop: tuple[Vendor, Till]) -> None:
    vendor, till = shop
    with wired(vendor.public) as server:
        assert through(till, server) == "SWAPPED"
        assert asked(server) == ["delta"]
        assert server.sent_bytes < 20_000
        assert staged(till, "1.2", vendor.bundles / "1.2")
        assert unusable(till) == 0
    assert not list(till.settings.downloads.iterdir())


def test_a_renamed_file_is_found_by_its_content_and_by_its_name_without_numbers(shop: tuple[Vendor, Till]) -> None:
    vendor, till = shop
    folder = vendor.bundle("1.3", schema=4)
    (folder / "lib").mkdir()
    (folder / "lib" / "plain.bin").write_bytes(ENGINE[:60_000])
    (folder / "lib" / "engine-1.3.so").write_bytes(ENGINE[:-7] + b"changed")
    vendor.publish(folder, "1.3", forms=Forms())
    with wired(vendor.public) as server:
        assert through(till, server) == "SWAPPED"
        assert asked(server) == ["delta"]
        assert server.sent_bytes < 20_000
        assert staged(till, "1.3", folder)


def test_a_terminal_that_is_five_behind_needs_one_delta(
    shop: tuple[Vendor, Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The large file is not compared with its older ones: their covers are composed.
    monkeypatch.setattr(differ, "OWN_LIMIT_BYTES", 2 * len(ENGINE))
    vendor, till = shop
    for number in range(2, 6):
        publish(vendor, f"1.{number + 1}", number=number, deltas_count=5 if number > 3 else 0)
    with wired(vendor.public) as server:
        assert through(till, server) == "SWAPPED"
        assert asked(server) == ["delta"]
        assert staged(till, "1.6", vendor.bundles / "1.6")
    names = {path.name.partition(".")[2] for path in (vendor.public / "targets").iterdir()}
    assert {f"{APP}-1.{number}-1.6.delta" for number in range(1, 6)} <= names


def garbage(data: bytes) -> bytes:
    return random.Random(2).randbytes(len(data))


def cut(data: bytes) -> bytes:
    return data[: len(data) - 40]


def flipped(data: bytes) -> bytes:
    head, streams = taken_apart(data)
    index = [packed.stream for packed in head.streams].index(Stream.DIFFERENCES)
    streams[index] = streams[index][:20] + bytes([streams[index][20] ^ 1]) + streams[index][21:]
    return put_together(head, streams)


def of_another_release(data: bytes) -> bytes:
    head, streams = taken_apart(data)
    return put_together(head._replace(release_id="ab" * 32), streams)  # type: ignore[arg-type]


def leaving_the_folder(data: bytes) -> bytes:
    head, streams = taken_apart(data)
    return put_together(head._replace(parts=(New("../evil"), *head.parts)), streams)


def with_a_foreign_file(data: bytes) -> bytes:
    head, streams = taken_apart(data)
    return put_together(head._replace(parts=(New("evil"), *head.parts)), streams)


def with_a_base_outside(data: bytes) -> bytes:
    head, streams = taken_apart(data)
    parts = tuple(
        part._replace(base="../../settings.toml") if isinstance(part, Patched) else part for part in head.parts
    )
    return put_together(head._replace(parts=parts), streams)


def with_a_file_twice(data: bytes) -> bytes:
    head, streams = taken_apart(data)
    return put_together(head._replace(parts=(*head.parts, head.parts[-1])), streams)


def with_an_unknown_codec(data: bytes) -> bytes:
    head, streams = taken_apart(data)
    packed = tuple(packed._replace(codec="lz5") for packed in head.streams)  # type: ignore[arg-type]
    return put_together(head._replace(streams=packed), streams)


def with_a_bomb(data: bytes) -> bytes:
    """Literals that would become a gigabyte."""
    head, streams = taken_apart(data)
    bomb = lzma.compress(bytes(64_000_000), format=lzma.FORMAT_RAW, filters=QUICK)
    packed = tuple(
        packed._replace(packed_bytes=len(bomb)) if packed.stream is Stream.LITERALS else packed
        for packed in head.streams
    )
    streams[[packed.stream for packed in head.streams].index(Stream.LITERALS)] = bomb
    return put_together(head._replace(streams=packed), streams)


def with_a_bomb_for_a_head(_: bytes) -> bytes:
    return with_head(lzma.compress(bytes(packs.HEAD_LIMIT_BYTES + 1), format=lzma.FORMAT_RAW, filters=QUICK))


def with_endless_runs(data: bytes) -> bytes:
    head, streams = taken_apart(data)
    parts = tuple(part._replace(runs_count=1 << 23) if isinstance(part, Patched) else part for part in head.parts)
    return put_together(head._replace(parts=parts), streams)


def with_a_head_of_empty_lists(data: bytes) -> bytes:
    """Ten kilobytes that JSON would make two gigabytes of."""
    plain = b'{"format": 1, "x": [' + b"[]," * 10_000_000 + b"[]]}"
    return with_head(lzma.compress(plain, format=lzma.FORMAT_RAW, filters=QUICK))


def with_a_far_cover(data: bytes) -> bytes:
    """A piece of the old file where no file has one."""
    head, streams = taken_apart(data)
    far = patches.covers_to_bytes(iter([patches.Cover(0, (1 << 62) - 1, 10)]))
    at = [packed.stream for packed in head.streams].index(Stream.COVERS)
    streams[at] = lzma.compress(far, format=lzma.FORMAT_RAW, filters=packs.XZ_FILTERS)
    packed = head.streams[at]._replace(packed_bytes=len(streams[at]), plain_bytes=len(far))
    parts = tuple(part._replace(covers_bytes=len(far)) if isinstance(part, Patched) else part for part in head.parts)
    return put_together(
        head._replace(parts=parts, streams=(*head.streams[:at], packed, *head.streams[at + 1 :])), streams
    )


def with_more_runs_than_bytes(data: bytes) -> bytes:
    """Runs of nothing, which take time and make nothing."""
    head, streams = taken_apart(data)
    count = 1 << 20
    empty = lzma.compress(bytes(count), format=lzma.FORMAT_RAW, filters=packs.XZ_FILTERS)
    changed = list(head.streams)
    for at, packed in enumerate(head.streams):
        if packed.stream in (Stream.GAPS_LOW, Stream.GAPS_HIGH, Stream.LENGTHS):
            streams[at] = empty
            changed[at] = packed._replace(packed_bytes=len(empty), plain_bytes=count)
    parts = tuple(
        part._replace(runs_count=count, differences_bytes=0) if isinstance(part, Patched) else part
        for part in head.parts
    )
    return put_together(head._replace(parts=parts, streams=tuple(changed)), streams)


def empty(_: bytes) -> bytes:
    return b""


WRONG = (
    garbage, cut, flipped, of_another_release, leaving_the_folder, with_a_foreign_file, with_a_base_outside,
    with_a_file_twice, with_an_unknown_codec, with_a_bomb, with_a_bomb_for_a_head, with_endless_runs,
    with_a_head_of_empty_lists, with_a_far_cover, with_more_runs_than_bytes, empty,
)  # fmt: skip


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_a_delta_that_is_signed_and_wrong_gives_way_to_the_pack_in_the_same_run(
    shop: tuple[Vendor, Till], change: Callable[[bytes], bytes]
) -> None:
    vendor, till = shop
    sign_again(vendor, DELTA, change)
    with wired(vendor.public) as server:
        assert through(till, server) == "SWAPPED"
        assert asked(server) == ["delta", "pack"]
        assert staged(till, "1.2", vendor.bundles / "1.2")
    assert unusable(till) == 1
    assert "the delta from 1.1-" in till.report("PACK_UNUSABLE")["cause"]
    assert not (till.settings.program / "evil").exists()
    assert not list(till.settings.downloads.iterdir())


def with_other_content(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def without_an_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def missing(path: Path) -> None:
    path.unlink()


def with_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def with_a_link(path: Path) -> None:
    kept = path.rename(path.with_name("elsewhere"))
    path.symlink_to(kept.name)


@pytest.mark.skipif(os.name == "nt", reason="a pipe in the file system")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("engine-1.1.so", with_other_content), ("engine-1.1.so", missing), ("engine-1.1.so", with_a_pipe),
        ("plain.bin", without_an_end), ("plain.bin", with_a_link),
    ],
)  # fmt: skip
def test_an_old_file_that_is_not_what_it_was_gives_way_to_the_pack(
    shop: tuple[Vendor, Till], change: Callable[[Path], None], name: str
) -> None:
    vendor, till = shop
    (folder,) = (till.settings.program / "versions").glob("1.1-*")
    change(folder / name)
    with wired(vendor.public) as server:
        assert through(till, server) == "SWAPPED"
        assert asked(server) == ["delta", "pack"]
        assert staged(till, "1.2", vendor.bundles / "1.2")
    assert unusable(till) == 1


def test_what_the_server_has_not_or_has_damaged_gives_way_to_the_next_form(shop: tuple[Vendor, Till]) -> None:
    vendor, till = shop
    till.limits(retry_seconds=0.001)
    (path,) = (vendor.public / "targets").glob(f"*{DELTA}")
    path.unlink()
    (path,) = (vendor.public / "targets").glob(f"*{PACK}")
    path.write_bytes(garbage(path.read_bytes()))
    with wired(vendor.public) as server:
        assert through(till, server) == "SWAPPED"
        assert list(dict.fromkeys(asked(server))) == ["delta", "pack", "gz"]
        assert staged(till, "1.2", vendor.bundles / "1.2")
    assert unusable(till) == 2
    record = json.loads((till.settings.private / "packs.json").read_text())
    assert record["given_up"] == [], "what did not come today may come tomorrow"


def test_a_pack_that_is_signed_and_wrong_gives_way_to_the_archive_and_is_not_fetched_again(
    shop: tuple[Vendor, Till],
) -> None:
    vendor, till = shop
    for name in (DELTA, PACK):
        sign_again(vendor, name, cut)

    def offline(request: Request) -> None:
        request.reply("503 Service Unavailable")

    till.limits(retry_seconds=0.001)
    with wired(vendor.public, offline, on=".tar.gz") as server:
        assert through(till, server) == "STAGING_LATER"
        server.script = Request.good
        till.settings.private.joinpath("addresses.json").unlink()
        assert through(till, server) == "SWAPPED"
        assert [name for name in asked(server) if name != "gz"] == ["delta", "pack"]
        assert staged(till, "1.2", vendor.bundles / "1.2")
    assert unusable(till) == 2


def test_the_form_with_the_fewest_bytes_left_is_taken(tmp_path: Path) -> None:
    def way(size_bytes: int, here_bytes: int, *, is_archive: bool = False) -> Way:
        sha256 = Sha256(f"{size_bytes:064}")
        return Way(Pack("", size_bytes, sha256, None), tmp_path / sha256, here_bytes, is_archive=is_archive)

    delta, pack, archive = way(100, 0), way(1000, 950), way(1300, 1280, is_archive=True)
    known = Ways(tmp_path / "private" / "packs.json")
    assert known.best([delta, pack, archive]) == archive
    assert known.best([delta, pack, way(1300, 0, is_archive=True)]) == pack
    known.give_up(pack, for_good=True)
    for ways in (known, Ways(tmp_path / "private" / "packs.json")):
        assert ways.best([pack, delta, way(1300, 0, is_archive=True)]) == delta
    (tmp_path / "private" / "packs.json").write_text("[]")
    assert known.best([pack, way(1300, 0, is_archive=True)]).is_archive
    assert Ways(tmp_path / "private" / "packs.json").best([pack, archive]) == archive


def test_a_python_without_zstd_uses_deltas_and_the_archive(
    shop: tuple[Vendor, Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor, till = shop
    monkeypatch.setattr(packs, "has_zstd", lambda: False)
    sign_again(vendor, DELTA, cut)
    with wired(vendor.public) as server:
        assert through(till, server) == "SWAPPED"
        assert asked(server) == ["delta", "gz"]


def test_an_interrupted_delta_is_resumed(
    shop: tuple[Vendor, Till],
) -> None:
    vendor, till = shop

    def half(request: Request) -> None:
        request.begin()
        request.send(request.rest[: len(request.rest) // 2])

    till.limits(retries_count=1, retry_seconds=0.001)
    with wired(vendor.public, half, on=".delta") as server:
        server.script = lambda request: request.reply("500 Internal Server Error") if request.start else half(request)
        assert through(till, server) == "STAGING_LATER"
        (part,) = till.settings.downloads.iterdir()
        assert part.name.endswith(".pack.part")
        server.script = Request.good
        till.settings.private.joinpath("addresses.json").unlink()
        server.asked.clear()
        assert through(till, server) == "SWAPPED"
        assert [request.start > 0 for request in server.asked if ".delta" in request.path] == [True]


@pytest.mark.parametrize(("spare_bytes", "outcome"), [(20_000, "SWAPPED"), (2_000, "STAGING_LATER")])
def test_a_delta_needs_the_room_of_the_new_files_and_its_own(
    shop: tuple[Vendor, Till], monkeypatch: pytest.MonkeyPatch, spare_bytes: int, outcome: str
) -> None:
    vendor, till = shop
    till.limits(least_free_bytes=1_000_000)
    unpacked_bytes = sum(entry.size_bytes for entry in parse(vendor.manifest("1.2")).files.values())
    assert vendor.archive("1.2").stat().st_size > 100_000
    monkeypatch.setattr(storage, "free_bytes", lambda _: 1_000_000 + unpacked_bytes + spare_bytes)
    with wired(vendor.public) as server:
        assert through(till, server) == outcome


@pytest.mark.parametrize("count", [1, 3, 6, 12])
def test_a_staging_that_ends_anywhere_begins_again(
    shop: tuple[Vendor, Till], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    vendor, till = shop
    left = [count]

    def plug(self: Versions, size_bytes: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with wired(vendor.public) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Versions, "_keep_reserve", plug)
            with pytest.raises(KeyboardInterrupt):
                through(till, server)
        names = [path.name for path in (till.settings.program / "versions").iterdir()]
        assert [name for name in names if name.startswith("1.2-")] == []
        assert through(till, server) == "SWAPPED"
        assert staged(till, "1.2", vendor.bundles / "1.2")
        assert asked(server) == ["delta"]


def test_each_file_is_hashed_once_and_again_only_if_it_was_touched(
    shop: tuple[Vendor, Till], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor, till = shop
    hashed: list[str] = []
    right = manifest.entry_of

    def noted(path: Path, relative: str) -> object:
        if ".staging-" in str(path):
            hashed.append(relative)
        return right(path, relative)

    monkeypatch.setattr(version_folders, "entry_of", noted)
    monkeypatch.setattr(manifest, "entry_of", noted)
    with wired(vendor.public) as server:
        assert through(till, server) == "SWAPPED"
    # A program can set all that Windows tells of a file: each is hashed a second time there, after the self-test.
    again = list(scan(vendor.bundles / "1.2")) if os.name == "nt" else []
    assert sorted(hashed) == sorted(again)


def test_a_file_that_was_touched_after_it_was_written_is_found(shop: tuple[Vendor, Till]) -> None:
    vendor, till = shop
    (pack,) = (vendor.public / "targets").glob(f"*{PACK}")
    data = vendor.manifest("1.2")
    versions = Versions(till.settings.program)
    staging = versions.assemble(pack, parse(data), data, base=None)
    versions.check(staging, parse(data))
    path = staging / "plain.bin"
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(Refused, match="not what the signed manifest says"):
        # The check after a self-test, which trusts no times on Windows.
        versions.check(staging, parse(data), remove_extra=os.name == "nt")


def test_only_the_newest_releases_have_packs_and_deltas_in_the_metadata(shop: tuple[Vendor, Till]) -> None:
    vendor, _ = shop
    publish(vendor, "1.3", number=2)
    targets = json.loads((vendor.repository / "workshop" / "metadata" / "targets.json").read_text())["signed"][
        "targets"
    ]
    forms = sorted(name for name in targets if name.endswith((".pack", ".delta")))
    assert forms == sorted(
        [DELTA, PACK, f"{APP}-1.0-1.2.delta", f"{APP}-1.3.pack"]
        + [f"{APP}-{since}-1.3.delta" for since in ("1.0", "1.1", "1.2")]
    )


def test_sums_of_bytes_have_no_carry_into_the_next() -> None:
    chance = random.Random(3)
    for size in (1, 7, 255, patches.BLOCK_BYTES):
        old, difference = chance.randbytes(size), chance.randbytes(size)
        wanted = bytes((one + other) & 0xFF for one, other in zip(old, difference, strict=True))
        assert patches.added(old, difference) == wanted


def test_codecs_are_bounded_in_their_windows() -> None:
    zstd = compression.library("pack", Path())
    parameter = zstd.CompressionParameter
    compressor = zstd.ZstdCompressor(options={parameter.window_log: packs.ZSTD_WINDOW_LOG + 1})
    data = compressor.compress(bytes(1000)) + compressor.flush()
    undo, damage = packs.decompressor(Codec.ZSTD)
    with pytest.raises(damage):
        undo.decompress(data)


def calls(count: int) -> bytes:
    """A program of x86: a few functions, called from everywhere, as `call` with the way to each."""
    chance, code = random.Random(5), bytearray()
    while len(code) < 12 * count:
        code += chance.randbytes(3) + b"\xe8"
        code += (0x40_0000 + 0x1111 * chance.randrange(8) - len(code) - 4).to_bytes(4, "little", signed=True)
        code += b"\x90" * 4
    return bytes(code)


def in_pieces(data: bytes, codec: Codec, folder: Path, piece_bytes: int) -> tuple[int, bytes]:
    """Bytes that were packed a piece at a time and unpacked: how many they were in between, and what they became."""
    parts = (data[place : place + 70_001] for place in range(0, len(data), 70_001))
    made = squeeze(parts, folder / codec, stream=Stream.LITERALS, codec=codec, plain_bytes=len(data))
    with made.path.open("rb") as file:
        source = packs.Source(file, made.packed, 0)
        sizes_bytes = [piece_bytes] * (len(data) // piece_bytes) + [len(data) % piece_bytes]
        return made.packed.packed_bytes, b"".join(map(source.read, sizes_bytes))


@pytest.mark.parametrize("piece_bytes", [1, packs.LZMA2_CHUNK_BYTES, 10_000_000])
def test_a_program_of_x86_packs_smaller_with_calls_by_place(tmp_path: Path, piece_bytes: int) -> None:
    # One byte at a time is slow, and the ends of chunks are what matters.
    data = calls(2_000 if piece_bytes == 1 else 100_000)
    plain_bytes, plain = in_pieces(data, Codec.ZSTD, tmp_path, piece_bytes)
    filtered_bytes, filtered = in_pieces(data, Codec.ZSTD_X86, tmp_path, piece_bytes)
    assert (plain, filtered) == (data, data)
    assert filtered_bytes < 0.8 * plain_bytes


@pytest.mark.parametrize("size_bytes", [0, 1, 5, packs.LZMA2_CHUNK_BYTES, packs.PIECE_BYTES, packs.PIECE_BYTES + 1])
def test_what_the_filter_holds_back_is_not_lost_at_the_end(tmp_path: Path, size_bytes: int) -> None:
    data = (b"\xe8\0\0\0" * (size_bytes // 4 + 1))[:size_bytes]
    assert in_pieces(data, Codec.ZSTD_X86, tmp_path, 1000)[1] == data


@pytest.mark.parametrize(
    ("platform", "codec"),
    [("linux-x86_64", Codec.ZSTD_X86), ("win32-amd64", Codec.ZSTD_X86), ("linux-aarch64", Codec.ZSTD)],
)
def test_a_pack_has_the_filter_of_its_platform(
    shop: tuple[Vendor, Till], tmp_path: Path, platform: str, codec: Codec
) -> None:
    vendor, _ = shop
    bundle = vendor.bundle("1.3", schema=4)
    (bundle / "program").write_bytes(calls(30_000))
    described = parse((vendor.repository / "workshop" / "targets" / f"{APP}-1.2.manifest").read_bytes(), installed=True)
    manifest = described._replace(files=scan(bundle), platform=platform)
    identity, made = ReleaseId("f" * 64), tmp_path / "made.pack"
    make_pack(bundle=bundle, target=made, manifest=manifest, release_id=identity, scratch=tmp_path)
    with made.open("rb") as file:
        head = packs.read_head(file)
        assert [stream.codec for stream in head.streams] == [codec]
        (source,) = packs.sources(file, head).values()
        for part in head.parts:
            assert source.read(manifest.files[part.path].size_bytes) == (bundle / part.path).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["made.pack"]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_delta_whose_use_ends_the_agent_each_time_is_given_up(shop: tuple[Vendor, Till]) -> None:
    """As the power does, or a machine without memory for what a vendor has made: nothing runs that could tell."""
    vendor, till = shop
    with wired(vendor.public) as server:
        till.settings_path.write_text(till.settings_path.read_text().replace(till.settings.url, server.url))
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", KILLED_WHILE_IT_UNPACKS, str(till.settings_path)],
                env=till.environment(),
                check=False,
            )
            assert done.returncode == -signal.SIGKILL
        assert till.check().outcome == "SWAPPED"
        assert list(dict.fromkeys(asked(server))) == ["delta", "pack"]
        assert staged(till, "1.2", vendor.bundles / "1.2")
    assert "the agent was ended each time" in till.report("PACK_UNUSABLE")["cause"]
    assert json.loads((till.settings.private / "packs.json").read_text())["begun"] == {}


def test_the_use_of_a_file_that_ends_in_any_way_is_not_counted(tmp_path: Path) -> None:
    known = Ways(tmp_path / "private" / "packs.json")
    way = Way(Pack("", 1, Sha256("ab" * 32), None), tmp_path / "x", 0)
    for _ in range(5):
        with pytest.raises(OSError, match="full"), known.used(way):
            raise OSError("full")
        assert not known.is_spent(way)
    (tmp_path / "private" / "packs.json").write_text('{"given_up": [], "begun": {"' + "ab" * 32 + '": 3}}')
    assert known.is_spent(way)
    assert not known.is_spent(way._replace(pack=way.pack._replace(sha256=Sha256("cd" * 32))))
