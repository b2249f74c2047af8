"""Entries of another account in the place of a file: never followed, never waited for, never more than a little."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dbsync.errors import DiskProblem, UnreadableFile
from dbsync.storage import claims
from dbsync.storage.platform import windows

posix = pytest.mark.skipif(sys.platform == "win32", reason="kinds of files of POSIX")


def link(path: Path) -> None:
    (path.parent / "elsewhere").write_text("{}")
    path.symlink_to(path.parent / "elsewhere")


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    os.mknod(path, 0o20666, os.makedev(1, 5))


def bound_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def folder(path: Path) -> None:
    path.mkdir()


def giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def deep(path: Path) -> None:
    path.write_text('{"x":' + "[" * 100_000 + "]" * 100_000 + "}")


def deep_string(path: Path) -> None:
    path.write_text('{"x":' + "[" * 40 + '"' + '\\"' * 100_000)


def not_utf8(path: Path) -> None:
    path.write_bytes(b'{"x": "\xff\xfe"}')


def half_a_pair(path: Path) -> None:
    path.write_text('{"x": "\\uD800"}')


def twice(path: Path) -> None:
    path.write_text('{"release": "a", "release": "b"}')


def no_number(path: Path) -> None:
    path.write_text('{"x": NaN}')


def endless_number(path: Path) -> None:
    path.write_text('{"x": 1e999}')


def long_number(path: Path) -> None:
    path.write_text('{"x": ' + "9" * 100_000 + "}")


def torn(path: Path) -> None:
    path.write_text('{"x": ')


def a_list(path: Path) -> None:
    path.write_text("[]")


def empty(path: Path) -> None:
    path.write_text("")


BAD = [
    link, dangling, fifo, device, bound_socket, folder, giant, deep, deep_string, not_utf8, half_a_pair, twice,
    no_number, endless_number, long_number, torn, a_list, empty,
]  # fmt: skip


@posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_what_is_no_file_of_ours_is_one_kind_of_error_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "trial.json"
    make(path)
    began = time.monotonic()
    with pytest.raises(claims.NotOurs) as raised:
        claims.read_json(path)
    assert isinstance(raised.value, UnreadableFile), "callers treat it as damaged content"
    assert raised.value.path == path
    if not path.is_file() or path.is_symlink():
        assert "regular file" in raised.value.cause
    if make is giant:
        assert f"it has {1 << 40} bytes" in raised.value.cause, "it is not read at all"
    assert time.monotonic() - began < 5


@posix
def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.json").write_text("{}")
    (tmp_path / "trial").symlink_to(tmp_path / "real")
    with pytest.raises(claims.NotOurs):
        claims.read_json(tmp_path / "trial" / "a.json")
    with pytest.raises(claims.NotOurs):
        claims.names(tmp_path / "trial", r".*")
    (tmp_path / "file").write_text("")
    with pytest.raises(claims.NotOurs):
        claims.names(tmp_path / "file", r".*")


def test_a_file_of_ours_is_read_and_a_missing_one_is_missing(tmp_path: Path) -> None:
    value = {"format": 1, "reason": 'a "name" and [brackets] {in} text \\ é', "deep": [[[[{"x": 1.5}]]]]}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert claims.read_json(tmp_path / "a.json") == value
    (tmp_path / "many.json").write_text(json.dumps({"x": [{"y": '\\"['} for _ in range(1000)]}))
    assert len(claims.read_json(tmp_path / "many.json")["x"]) == 1000
    with pytest.raises(FileNotFoundError):
        claims.read_json(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError):
        claims.read_json(tmp_path / "none" / "none.json")


@posix
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_problem_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch(0o000)
    with pytest.raises(DiskProblem):
        claims.read(tmp_path / "a.json")


def test_a_file_that_grows_while_it_is_read_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "a.json", os.fstat
    path.write_bytes(b"x" * 1000)
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result((*real(fd)[:6], 10, *real(fd)[7:10])))
    with pytest.raises(claims.NotOurs):
        claims.read(path, limit_bytes=100)


def test_only_names_of_ours_are_listed_and_only_so_many_are_looked_at(tmp_path: Path) -> None:
    # Windows has no names with a line end.
    strange = () if sys.platform == "win32" else ("4.json\n",)
    for name in ("1.json", "02.json", "x.json", "..json", "3.json.new", "-rf", *strange):
        (tmp_path / name).touch()
    assert claims.names(tmp_path, r"[0-9]{1,9}\.json") == claims.Listing(("02.json", "1.json"))
    assert claims.names(tmp_path / "none", r".*") == claims.Listing()
    for number in range(100):
        (tmp_path / f"{number}-junk").touch()
    found = claims.names(tmp_path, r"[0-9]{1,9}\.json", count_limit=50)
    assert not found.complete


def test_text_for_a_console_has_nothing_that_a_console_obeys() -> None:
    assert claims.plain("a\x1b[2Jb\nc\u202ed\x9be é") == "a [2Jb c d e é"


@posix
def test_a_reparse_point_is_refused_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        st_file_attributes = 0x400

    monkeypatch.setattr(Path, "lstat", lambda _: Found())
    with pytest.raises(OSError, match="levels of symbolic links"):
        windows._check_no_link(tmp_path)
