"""Downloads over real sockets: what is asked, what is kept, and how much comes over the line."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dbsync.errors import DiskFull
from dbsync.facts import Sha256
from dbsync.storage import files
from tests.helpers.wires import MODES, Request, Wire, wired
from updater.answers import Answer
from updater.decisions.transfer import OVERLAP_BYTES
from updater.network.addresses import Addresses
from updater.network.download import Download, Wanted
from updater.network.http import READ_BYTES, Trouble
from updater.network.manner import Manner
from updater.network.record import read

SIZE = 300_000
DATA = b"\x1f\x8b" + random.Random(7).randbytes(SIZE - 2)
MANNER = Manner(1, answer_seconds=5.0, silence_seconds=1.0, retry_seconds=0.001, reserve_bytes=0)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A public folder with one file."""
    folder = tmp_path / "public"
    (folder / "targets").mkdir(parents=True)
    (folder / "targets" / "archive.tar.gz").write_bytes(DATA)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the file is put."""
    (tmp_path / "downloads").mkdir()
    return tmp_path / "downloads" / "1.1.archive"


def wanted(target: Path) -> Wanted:
    return Wanted("targets/archive.tar.gz", target, SIZE, Sha256(hashlib.sha256(DATA).hexdigest()))


def part(target: Path) -> Path:
    return wanted(target).part


def run(target: Path, *addresses: str, manner: Manner = MANNER, seconds: float = 20.0) -> Download:
    """One run that brings the file."""
    found = Addresses(addresses, target.parent.parent / "addresses.json", manner)
    download = Download(wanted(target), found, manner, seconds=seconds, progress=lambda _: None)
    try:
        download.run()
    finally:
        found.save()
    assert target.read_bytes() == DATA
    assert not part(target).exists()
    return download


def fails(target: Path, *addresses: str, manner: Manner = MANNER, seconds: float = 20.0) -> Trouble:
    """One run that does not."""
    with pytest.raises(Trouble) as caught:
        run(target, *addresses, manner=manner, seconds=seconds)
    assert not target.exists()
    return caught.value


@pytest.mark.parametrize(
    "mode", ["ranges refused with 416", "ranges refused with 403", "ranges refused with 501", "many parts"]
)
def test_a_server_that_refuses_ranges_is_asked_for_the_whole_file_in_the_same_run(
    public: Path, target: Path, mode: str
) -> None:
    with wired(public, MODES[mode]) as server:
        run(target, server.url)
    assert [start > 0 for start in server.starts("archive")] == [False, True, False]


@pytest.mark.parametrize(
    "mode", ["portal", "portal without length", "404", "403", "truncated", "a part that nobody asked for"]
)
def test_an_answer_that_does_not_fit_leaves_what_is_here_and_the_next_run_needs_the_rest_only(
    public: Path, target: Path, mode: str
) -> None:
    have = SIZE * 95 // 100
    part(target).write_bytes(DATA[:have])
    with wired(public, MODES[mode]) as server:
        trouble = fails(target, server.url)
    assert (trouble.answer, "gave up until" in trouble.detail) == (Answer.SERVER_WRONG, True)
    assert part(target).read_bytes() == DATA[:have]
    with wired(public) as server:
        assert run(target, server.url).fetched_bytes == SIZE - have + OVERLAP_BYTES


def test_a_part_that_does_not_continue_what_is_here_is_not_written(public: Path, target: Path) -> None:
    part(target).write_bytes(DATA[:100_000])

    def other(request: Request) -> None:
        if request.start:
            request.reply("206 Partial Content", bytes(len(request.rest)), request.span())
        else:
            request.reply("500 Internal Server Error")

    with wired(public, other) as server:
        fails(target, server.url)
    assert part(target).read_bytes() == DATA[:100_000]


def test_damage_in_what_is_here_is_replaced_by_a_whole_file_of_the_signed_length(public: Path, target: Path) -> None:
    part(target).write_bytes(DATA[:1000] + bytes(200_000))
    with wired(public) as server:
        assert run(target, server.url).fetched_bytes <= SIZE + READ_BYTES
    assert server.starts("archive")[-1] == 0


def test_damage_before_what_overlaps_is_found_by_the_hash_and_blamed_on_nobody(public: Path, target: Path) -> None:
    part(target).write_bytes(DATA[:1000] + b"?" + DATA[1001:200_000])
    with wired(public) as server:
        run(target, server.url)
    assert [start > 0 for start in server.starts("archive")] == [True, False]


def test_a_wrong_hash_is_blamed_on_the_address_that_brought_all_of_it(public: Path, target: Path) -> None:
    with wired(public, MODES["flip a byte"]) as bad, wired(public) as good:
        run(target, bad.url, good.url)
        assert read(target.parent.parent / "addresses.json")[bad.url].answer == Answer.REFUSED
        target.unlink()
        run(target, bad.url, good.url)
        assert len(bad.asked) == 1, "and it comes last from then on"
        target.unlink()
        assert fails(target, bad.url).answer is Answer.REFUSED
    assert not part(target).exists()
    assert bad.sent_bytes < 3.1 * SIZE


def test_a_complete_archive_is_used_again_without_a_request(public: Path, target: Path) -> None:
    target.write_bytes(DATA)
    with wired(public) as server:
        assert run(target, server.url).fetched_bytes == 0
    assert not server.asked
    target.write_bytes(DATA[:-1] + b"?")
    with wired(public) as server:
        run(target, server.url)
    assert len(server.asked) == 1


@pytest.mark.parametrize("mode", ["gzip as a label", "gzip in flight", "no length, HTTP/1.0", "endless"])
def test_codings_and_lengths_of_servers_that_mean_well(public: Path, target: Path, mode: str) -> None:
    script = MODES[mode]
    if mode == "endless":

        def script(request: Request) -> None:
            request.head("200 OK")
            for _ in range(100):
                request.send(DATA if not request.server.sent_bytes > SIZE else b"x" * 1000)

    with wired(public, script) as server:
        run(target, server.url)


@pytest.mark.parametrize("coding", ["deflate", "raw deflate"])
def test_both_kinds_of_deflate_are_undone(public: Path, target: Path, coding: str) -> None:
    import zlib

    packer = zlib.compressobj(wbits=15 if coding == "deflate" else -15)
    body = packer.compress(DATA) + packer.flush()
    with wired(public, lambda request: request.reply("200 OK", body, "Content-Encoding: deflate")) as server:
        run(target, server.url)


def test_a_coding_that_cannot_be_undone_is_refused_once_more_by_name_then_given_up(public: Path, target: Path) -> None:
    def script(request: Request) -> None:
        if "*;q=0" in request.headers["accept-encoding"]:
            request.good()
        else:
            request.reply("200 OK", b"packed", "Content-Encoding: br")

    with wired(public, script) as server:
        run(target, server.url)
        target.unlink()
    with wired(public, MODES["brotli"]) as server:
        assert "br" in fails(target, server.url).detail
    assert len(server.asked) == 2


@pytest.mark.parametrize("mode", ["silent", "drip the head", "drip the body", "drip chunk sizes", "stall in the body"])
def test_a_primary_that_drips_does_not_starve_a_good_mirror(public: Path, target: Path, mode: str) -> None:
    manner = MANNER._replace(answer_seconds=0.5, silence_seconds=0.5, retries_count=1)
    with wired(public, MODES[mode]) as primary, wired(public) as mirror:
        run(target, primary.url, mirror.url, manner=manner, seconds=4.0)
        assert mirror.asked
        target.unlink()
        primary.asked.clear()
        run(target, primary.url, mirror.url, manner=manner)
    assert not primary.asked, "it is left alone for a while"


def at_rate(count: int) -> Callable[[Request], None]:
    """A server that sends so many bytes twenty times a second."""

    def script(request: Request) -> None:
        request.begin()
        request.drip(request.rest, count=count, seconds=0.05)

    return script


def test_a_primary_that_is_too_slow_gives_way_to_a_mirror(
    public: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("updater.network.http.RATE_WINDOW_SECONDS", 0.2)
    # 30 kB a second would take all of the 10 seconds.
    with wired(public, at_rate(1_500)) as primary, wired(public) as mirror:
        run(target, primary.url, mirror.url, seconds=10.0)
    assert (len(primary.asked), len(mirror.asked)) == (1, 1)
    assert mirror.sent_bytes > SIZE / 2


def test_where_all_are_too_slow_the_fastest_brings_it(
    public: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("updater.network.http.RATE_WINDOW_SECONDS", 0.2)
    with wired(public, at_rate(5_000)) as faster, wired(public, at_rate(2_000)) as slower:
        run(target, faster.url, slower.url, seconds=5.0)
    assert (len(faster.asked), len(slower.asked)) == (2, 1)
    assert faster.sent_bytes > SIZE / 2


def test_an_address_below_the_least_speed_is_given_up_for_now(
    public: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("updater.network.http.RATE_WINDOW_SECONDS", 0.2)
    with wired(public, at_rate(1_500)) as server:
        trouble = fails(target, server.url, manner=MANNER._replace(least_rate=200_000))
    assert trouble.answer is Answer.TIMED_OUT
    assert "bytes per second" in trouble.detail
    assert len(server.asked) == MANNER.retries_count
    assert files.size_of(part(target)) > OVERLAP_BYTES, "the next run goes on there"


@pytest.mark.parametrize("name", ["1.1.manifest", "1.1.pack", "rollout.json"])
def test_a_server_that_compresses_in_flight_serves_files_of_every_kind(public: Path, target: Path, name: str) -> None:
    data = b"TKPACK1" + bytes(SIZE)
    (public / "targets" / name).write_bytes(data)
    asked = Wanted(f"targets/{name}", target, len(data), Sha256(hashlib.sha256(data).hexdigest()))
    with wired(public, MODES["gzip in flight"]) as server:
        found = Addresses((server.url,), target.parent.parent / "addresses.json", MANNER)
        Download(asked, found, MANNER, seconds=20.0, progress=lambda _: None).run()
    assert target.read_bytes() == data
    assert server.sent_bytes < SIZE / 10


def test_retry_after_is_kept_within_bounds_and_said(public: Path, target: Path) -> None:
    manner = MANNER._replace(give_up_seconds=600.0)
    record = target.parent.parent / "addresses.json"
    with wired(public, MODES["429, in a year"]) as server:
        first = fails(target, server.url, manner=manner)
        again = fails(target, server.url, manner=manner)
        count = len(server.asked)
        # A record of a clock that ran ahead holds nobody up.
        text = record.read_text()
        record.write_text(text.replace('"until": ', '"until": 9'))
        server.script = Request.good
        run(target, server.url, manner=manner)
        record.write_text(text)
    assert (first.answer, again.answer, count) == (Answer.SERVER_BUSY, Answer.SERVER_BUSY, 1)
    assert "asked to be left alone until" in again.detail
    assert 300 < read(record)[server.url].until - record.stat().st_mtime <= 1.25 * 600


@pytest.mark.parametrize("form", [str, Path.as_uri])
def test_a_folder_is_a_mirror_and_serves_archives_first(
    public: Path, target: Path, tmp_path: Path, form: Callable[[Path], str]
) -> None:
    with wired(public) as server:
        run(target, server.url, form(public))
        assert not server.asked
        target.unlink()
        (public / "targets" / "archive.tar.gz").unlink()
        if sys.platform != "win32":
            os.mkfifo(public / "targets" / "archive.tar.gz")
            assert "is no file" in fails(target, form(public)).detail
        assert fails(target, form(tmp_path / "unplugged")).answer is Answer.OFFLINE


def test_the_rate_is_limited(public: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("updater.network.http.time.sleep", slept.append)
    with wired(public) as server:
        run(target, server.url, manner=MANNER._replace(most_rate=100_000))
    assert max(slept) > 1.0, "300 kB at 100 kB a second, asked for at once"


def test_the_reserve_stays_free_while_a_download_is_written(
    public: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: 5_000_000)
    with wired(public) as server, pytest.raises(DiskFull, match="stay free for the till"):
        run(target, server.url, manner=MANNER._replace(reserve_bytes=2_000_000))
    assert files.size_of(part(target)) == 0


def test_name_and_password_go_to_this_server_alone_and_are_shown_to_nobody(public: Path, target: Path) -> None:
    with wired(public) as other:

        def script(request: Request) -> None:
            if "authorization" in request.headers:
                request.reply("302 Found", b"", f"Location: {other.url}/targets/archive.tar.gz?sig=t0ken")
            else:
                request.reply("401 Unauthorized")

        with wired(public, script) as server:
            run(target, server.url.replace("http://", "http://till:s3cret@"))
            assert "authorization" not in other.asked[0].headers
            target.unlink()
            other.script = MODES["404"]
            trouble = fails(target, server.url.replace("http://", "http://till:s3cret@") + "?sig=t0ken")
    record = (target.parent.parent / "addresses.json").read_text()
    for secret in ("s3cret", "t0ken"):
        assert secret not in trouble.detail + record
    assert server.asked[-1].path.endswith("/targets/archive.tar.gz?sig=t0ken")


def test_a_server_that_begins_anew_each_time_has_an_end(public: Path, target: Path) -> None:
    chance = random.Random(1)

    def script(request: Request) -> None:
        request.head("200 OK", length=SIZE)
        count = min(SIZE - 1, 20_000 + 5_000 * len(request.server.asked))
        request.send(chance.randbytes(count))

    with wired(public, script) as server:
        fails(target, server.url)
    assert server.sent_bytes < 6 * SIZE


def test_a_run_without_time_says_so(public: Path, target: Path) -> None:
    with wired(public) as server:
        assert fails(target, server.url, seconds=0.0).answer is Answer.TIMED_OUT


def test_an_address_of_ipv6(public: Path, target: Path) -> None:
    with wired(public, host="::1") as server:
        run(target, server.url)


def test_cut_twenty_times_it_costs_little_more_than_the_file(public: Path, target: Path) -> None:
    chance = random.Random(3)

    def cut(request: Request) -> None:
        request.begin()
        room = SIZE // 20 + chance.randrange(2000)
        request.send(request.rest[: max(room, OVERLAP_BYTES + 5000)])

    with wired(public, cut) as server:
        download = run(target, server.url)
    assert len(server.asked) >= 19
    assert download.fetched_bytes <= 1.1 * SIZE


def test_a_wire_says_what_it_was_asked(public: Path) -> None:
    assert Wire(public).starts("x") == []


def poisoned(target: Path) -> None:
    part(target).write_bytes(DATA[:1000] + bytes(150_000))


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_part_that_was_poisoned_gives_way_to_the_file_of_a_server_that_says_no_length(
    public: Path, target: Path, ranges: bool, coding: str
) -> None:
    def script(request: Request) -> None:
        if ranges and request.start:
            request.reply("206 Partial Content", request.rest, request.span())
            return
        request.head("200 OK", *([f"Content-Encoding: {coding}"] if coding else []))
        request.send(gzip.compress(DATA) if coding else DATA)

    poisoned(target)
    with wired(public, script) as server:
        run(target, server.url)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        (b"<html>portal</html>", "without a length"),
        (DATA[:1000] + b"x" * (SIZE - 1000), "without"),
        (DATA[:90_000], ""),
    ],
)
def test_what_has_no_length_and_is_not_the_file_leaves_the_part(
    public: Path, target: Path, body: bytes, ends: str
) -> None:
    def script(request: Request) -> None:
        if request.start:
            request.reply("416 Range Not Satisfiable")
        else:
            request.head("200 OK")
            request.send(body)

    have = DATA[:120_000] if ends else DATA[:1000] + bytes(150_000)
    part(target).write_bytes(have)
    with wired(public, script) as server:
        assert ends in fails(target, server.url).detail
    assert part(target).read_bytes() == have
    assert [path.name for path in target.parent.iterdir()] == [part(target).name]


def test_a_body_that_unpacks_to_nothing_has_an_end(public: Path, target: Path) -> None:
    def script(request: Request) -> None:
        coder = zlib.compressobj(0, zlib.DEFLATED, 31)
        request.head("200 OK", "Content-Encoding: gzip")
        request.send(coder.compress(DATA[:1000]) + coder.flush(zlib.Z_FULL_FLUSH))
        for _ in range(1000):
            request.send(b"\0\0\0\xff\xff" * 10_000)

    with wired(public, script) as server:
        trouble = fails(target, server.url)
    assert (trouble.answer, "and no end" in trouble.detail) == (Answer.SERVER_WRONG, True)
    assert server.sent_bytes < 8_000_000, "with what the system's buffers hold"


def test_a_file_without_a_byte_is_a_file(public: Path, target: Path) -> None:
    (public / "targets" / "none").write_bytes(b"")
    found = Wanted("targets/none", target, 0, Sha256(hashlib.sha256(b"").hexdigest()))
    with wired(public) as server:
        addresses = Addresses([server.url], target.parent.parent / "addresses.json", MANNER)
        Download(found, addresses, MANNER, seconds=20.0, progress=lambda _: None).run()
    assert target.read_bytes() == b""


def test_a_status_line_that_is_a_book_is_told_in_a_sentence_without_the_secrets_in_it(
    public: Path, target: Path
) -> None:
    def script(request: Request) -> None:
        request.send(f"HTTP/1.1 {request.headers['authorization']} s3cret-t0ken {'a:' * 30_000}\r\n\r\n".encode())

    with wired(public, script) as server:
        url = server.url.replace("http://", "http://till:s3cret-t0ken@")
        trouble = fails(target, url, manner=MANNER._replace(retries_count=1))
    assert len(trouble.detail) < 600
    record = (target.parent.parent / "addresses.json").read_text()
    for secret in ("s3cret-t0ken", "dGlsbDpzM2NyZXQtdDBrZW4="):
        assert secret not in trouble.detail + record
    assert "***" in trouble.detail
