"""The frames of a write-ahead log: counted as SQLite reads them, and what it drops is named."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.storage import wal
from dbsync.storage.wal import FRAME_HEADER_BYTES, HEADER_BYTES, Summary, parse_header, summarize, summary_of
from tests.helpers.damage import flip, logged

PAGE = 512
SALT = bytes(range(8))


def checksum(data: bytes, start: tuple[int, int], *, big_endian: bool) -> tuple[int, int]:
    """The checksum by the letter of the file format, written a second time."""
    first, second = start
    for at in range(0, len(data), 8):
        one = int.from_bytes(data[at : at + 4], "big" if big_endian else "little")
        two = int.from_bytes(data[at + 4 : at + 8], "big" if big_endian else "little")
        first = (first + one + second) % 2**32
        second = (second + two + first) % 2**32
    return first, second


def signed_anew(path: Path, *, page_bytes: int, big_endian: bool) -> None:
    """Writes every checksum of a log that SQLite wrote in the other order of bytes."""
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, 0, 0x377F0682 | big_endian)
    running = checksum(bytes(data[:24]), (0, 0), big_endian=big_endian)
    struct.pack_into(">2I", data, 24, *running)
    for at in range(HEADER_BYTES, len(data), FRAME_HEADER_BYTES + page_bytes):
        running = checksum(bytes(data[at : at + 8]), running, big_endian=big_endian)
        page = bytes(data[at + FRAME_HEADER_BYTES : at + FRAME_HEADER_BYTES + page_bytes])
        running = checksum(page, running, big_endian=big_endian)
        struct.pack_into(">2I", data, at + 16, *running)
    path.write_bytes(data)


def log(*, big_endian: bool, commits: str) -> tuple[bytes, list[bytes]]:
    """A log written by the letter of the file format; one letter for each frame, C for a commit."""
    magic = 0x377F0682 | big_endian
    begin = struct.pack(">4I", magic, 3007000, PAGE, 0) + SALT
    running = checksum(begin, (0, 0), big_endian=big_endian)
    header, frames = begin + struct.pack(">2I", *running), []
    for number, letter in enumerate(commits, 1):
        head, page = struct.pack(">2I", number, 9 if letter == "C" else 0), bytes([number]) * PAGE
        running = checksum(page, checksum(head, running, big_endian=big_endian), big_endian=big_endian)
        frames.append(head + SALT + struct.pack(">2I", *running) + page)
    return header, frames


def counted(raw: bytes, frames: list[bytes]) -> Summary:
    header = parse_header(raw)
    assert header is not None
    return summarize(header, frames)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize(
    ("commits", "found"),
    [
        ("", Summary()),
        ("C", Summary(1)),
        ("..C.C", Summary(5)),
        ("..C..", Summary(3, 2)),
        ("..", Summary(0, 2)),
    ],
)
def test_sound_frames_are_committed_up_to_the_last_commit(big_endian: bool, commits: str, found: Summary) -> None:
    assert counted(*log(big_endian=big_endian, commits=commits)) == found
    assert found.in_words == ""


@pytest.mark.parametrize("big_endian", [False, True])
def test_what_follows_a_frame_that_does_not_check_is_lost(big_endian: bool) -> None:
    header, frames = log(big_endian=big_endian, commits=".C.C.C")
    frames[2] = frames[2][:-1] + b"\xff"
    assert counted(header, frames) == Summary(2, 0, 4, 2)
    assert "up to 2 committed transaction(s)" in counted(header, frames).in_words


def test_a_last_write_without_a_commit_that_does_not_check_loses_nothing() -> None:
    """A power cut, or a kill in the middle of a write; or what a rolled-back transaction left behind."""
    header, frames = log(big_endian=False, commits=".C..")
    assert counted(header, [*frames[:3], frames[3][:-100]]) == Summary(2, 1, 1, 0)
    assert not counted(header, [*frames[:3], frames[3][:-100]]).may_lose


def test_frames_of_an_earlier_generation_are_normal() -> None:
    header, frames = log(big_endian=False, commits="CCC")
    older = [frame[:8] + b"earlier!" + frame[16:] for frame in frames[1:]]
    assert counted(header, [frames[0], *older]) == Summary(1, 0, 0, 0, 2)


def test_a_damaged_header_loses_all_of_it() -> None:
    header, frames = log(big_endian=False, commits=".C.C")
    broken = bytes([header[0] ^ 1]) + header[1:]
    assert counted(broken, frames) == Summary(0, 0, 4, 2, 0, header_broken=True)
    assert "its header does not check" in counted(broken, frames).in_words
    salted = header[:16] + b"another!" + header[24:]
    assert counted(salted, frames).lost_commits_count == 2


def test_a_header_without_a_page_size_needs_that_of_the_database() -> None:
    header, _ = log(big_endian=False, commits="")
    broken = header[:8] + bytes(4) + header[12:]
    assert parse_header(broken) is None
    known = parse_header(broken, page_bytes=4096)
    assert known is not None
    assert (known.page_bytes, known.sound) == (4096, False)


def test_it_counts_what_sqlite_itself_counts(tmp_path: Path) -> None:
    """A log that SQLite wrote, with a restart, an unfinished transaction and more than one size of page."""
    for page_bytes in (512, 1024, 4096, 65536):
        database = logged(tmp_path / f"{page_bytes}.db", page_bytes=page_bytes, commits_count=7)
        summary = summary_of(Path(f"{database}-wal"))
        assert summary is not None
        with closing(sqlite3.connect(database)) as live:
            count = live.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        assert (summary.committed_count, summary.may_lose) == (count, False)


@pytest.mark.parametrize("big_endian", [False, True])
def test_both_orders_of_bytes_are_read_as_sqlite_reads_them(tmp_path: Path, big_endian: bool) -> None:
    database = logged(tmp_path / "a.db", page_bytes=1024, commits_count=3)
    path = Path(f"{database}-wal")
    Path(f"{database}-shm").unlink()
    signed_anew(path, page_bytes=1024, big_endian=big_endian)
    summary = summary_of(path)
    assert summary is not None
    with closing(sqlite3.connect(database)) as live:
        assert live.execute("SELECT count(*) FROM sale").fetchone()[0] == 3
        count = live.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    assert (summary.committed_count, summary.broken_count) == (count, 0)


@pytest.mark.parametrize("frame", [0, 5, 20, 38, 50])
def test_a_flipped_bit_loses_what_sqlite_loses(tmp_path: Path, frame: int) -> None:
    """The last one is in a transaction that was never committed."""
    database = logged(tmp_path / "a.db", page_bytes=4096, commits_count=12)
    path = Path(f"{database}-wal")
    flip(path, HEADER_BYTES + (FRAME_HEADER_BYTES + 4096) * frame + FRAME_HEADER_BYTES)
    summary = summary_of(path)
    assert summary is not None
    with closing(sqlite3.connect(database)) as live:
        rows_count = live.execute("SELECT count(*) FROM sale").fetchone()[0]
        count = live.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    assert summary.committed_count == count
    assert rows_count + summary.lost_commits_count == 12
    assert summary.may_lose == (frame < 39)


def test_a_missing_empty_or_too_large_log_has_no_summary(tmp_path: Path) -> None:
    path = tmp_path / "x-wal"
    assert summary_of(path) is None
    path.write_bytes(bytes(HEADER_BYTES))
    assert summary_of(path) is None
    path.write_bytes(bytes(5000))
    assert wal.summary_of(path, size_limit_bytes=4999) is None
