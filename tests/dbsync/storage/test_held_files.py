"""Files that another program holds: there, absent, or cannot be read now; and for how long a call waits."""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dbsync.errors import DiskProblem
from dbsync.storage import claims, file_calls, files
from dbsync.storage.platform import this_platform, win32, windows
from dbsync.storage.platform.windows import (
    ACCESS_DENIED,
    DENIED_WAITS_SECONDS,
    HELD_WAITS_SECONDS,
    LOCK_VIOLATION,
    SHARING_VIOLATION,
    WindowsPlatform,
    waits_seconds,
)
from tests.helpers.held import BRIEFLY, Share, held_by_a_process, holder
from tests.helpers.windows import under_wine

WORD = win32.User(4312, "Microsoft Word")
on_windows = pytest.mark.skipif(sys.platform != "win32", reason="share modes are of Windows")
CALLS: dict[str, Callable[[Path], object]] = {
    "read": files.read_json,
    "write": lambda path: files.write_json(path, {"a": 2}),
    "append": lambda path: files.append_line(path, "x"),
    "copy": lambda path: files.copy_bytes(source=path, target=path.with_name("copy")),
    "hash": files.sha256_of,
    "claim": claims.read_json,
    "remove": file_calls.remove,
    "rename": lambda path: files.rename_durably(source=path, target=path.with_name("renamed")),
}


def document(folder: Path) -> Path:
    path = folder / "a.json"
    files.write_json(path, {"a": 1})
    return path


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("share", Share)
def test_a_file_that_is_held_briefly_is_waited_for(tmp_path: Path, name: str, share: Share) -> None:
    path = document(tmp_path)
    with holder() as found:
        found.share, found.paths, found.failures_left, found.watches = share, {str(path)}, BRIEFLY, True
        CALLS[name](path)


@pytest.mark.parametrize("name", CALLS)
def test_a_file_that_is_held_for_good_is_named_and_is_as_it_was(tmp_path: Path, name: str) -> None:
    path = document(tmp_path)
    with holder() as found:
        found.paths, found.watches = {str(path)}, True
        with pytest.raises((DiskProblem, PermissionError), match=r"a\.json|renamed"):
            CALLS[name](path)
        found.watches = False
    assert files.read_json(path) == {"a": 1}


def test_a_file_that_is_held_is_neither_absent_nor_damaged(tmp_path: Path) -> None:
    path = document(tmp_path)
    with holder() as found:
        found.paths, found.watches = {str(path)}, True
        with pytest.raises(DiskProblem):
            files.read_json(path)
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "b.json")


def test_a_reader_makes_a_file_durable_without_a_right_to_write(tmp_path: Path) -> None:
    path = document(tmp_path)
    with holder() as found:
        found.share, found.paths, found.watches = Share.READ, {str(path)}, True
        files.sync_seen(path)
        claims.sync(path)


def test_what_stops_nothing_is_left_where_it_is_held(tmp_path: Path) -> None:
    path = document(tmp_path)
    with holder() as found:
        found.paths, found.watches = {str(path)}, True
        assert not file_calls.remove_if_possible(path)
        file_calls.remove_tree_if_possible(tmp_path / "none")
    assert path.exists()
    assert file_calls.remove_if_possible(path)


@pytest.mark.parametrize("briefly", [True, False])
def test_the_end_of_a_temporary_folder_waits_for_who_holds_its_files_and_never_fails(briefly: bool) -> None:
    with holder() as found, file_calls.temporary_folder() as folder:
        path = folder / "a"
        path.write_bytes(b"x")
        found.share, found.paths, found.watches = Share.NOTHING, {str(path)}, True
        found.failures_left = BRIEFLY if briefly else None
    assert path.exists() != briefly
    file_calls.remove_tree_if_possible(folder)
    assert not folder.exists()


def test_each_error_has_its_patience() -> None:
    assert waits_seconds(SHARING_VIOLATION, briefly=False) == HELD_WAITS_SECONDS
    assert waits_seconds(LOCK_VIOLATION, briefly=True) == DENIED_WAITS_SECONDS
    assert waits_seconds(ACCESS_DENIED, briefly=False) == DENIED_WAITS_SECONDS
    assert waits_seconds(2, briefly=False) == waits_seconds(None, briefly=False) == ()
    assert 5 < sum(HELD_WAITS_SECONDS) < 10


@on_windows
@pytest.mark.parametrize("share", [Share.NOTHING, Share.READ, Share.READ_WRITE])
@pytest.mark.parametrize("name", ["read", "write", "append", "remove", "rename", "claim"])
def test_a_process_that_holds_a_file_is_waited_for(tmp_path: Path, name: str, share: Share) -> None:
    path = document(tmp_path)
    with held_by_a_process(path, share) as process:
        assert process.stdin is not None
        threading.Timer(0.3, process.stdin.close).start()
        CALLS[name](path)


@on_windows
def test_a_process_that_holds_a_file_for_good_makes_it_unreadable_and_not_absent(tmp_path: Path) -> None:
    path = document(tmp_path)
    with held_by_a_process(path, Share.NOTHING), pytest.raises(DiskProblem, match=r"a\.json"):
        files.read_json(path)
    assert files.read_json(path) == {"a": 1}


@on_windows
def test_a_reader_asks_for_no_right_to_write(tmp_path: Path) -> None:
    path = document(tmp_path)
    with held_by_a_process(path, Share.READ):
        files.sync_seen(path)
        claims.sync(path)


def entry(pid: int, name: str) -> bytes:
    """An RM_PROCESS_INFO as the Restart Manager fills it: 668 bytes."""
    return struct.pack("<III512s128sIIII", pid, 7, 8, name.encode("utf-16-le"), b"", 1000, 1, 1, 0)


def test_programs_are_read_from_what_the_restart_manager_fills() -> None:
    assert len(entry(1, "a")) == 668
    entries = entry(4312, "Microsoft Word") + entry(0, "") + entry(71, "Käse")
    assert win32.users_in(entries) == [WORD, win32.User(71, "Käse")]
    assert win32.users_in(b"") == []


def refused(path: Path, code: int) -> OSError:
    """Error of a call on a file on Windows."""
    error = PermissionError(errno.EACCES, "The file is in use", str(path))
    error.winerror = code  # type: ignore[attr-defined,unused-ignore]
    return error


@pytest.mark.parametrize(("code", "name"), [(SHARING_VIOLATION, "HELD"), (ACCESS_DENIED, "DENIED")])
def test_the_programs_that_have_a_file_open_are_named_when_the_waiting_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    path, asked = document(tmp_path), []

    def users_of(file: Path) -> list[win32.User]:
        asked.append(file)
        return [win32.User(os.getpid(), "python.exe"), WORD, WORD]

    def fail() -> None:
        raise refused(path, code)

    monkeypatch.setattr(win32, "users_of", users_of)
    monkeypatch.setattr(windows, f"{name}_WAITS_SECONDS", (0.0, 0.0))
    with (
        pytest.raises(DiskProblem, match=r"use \(open in Microsoft Word, process 4312\)"),
        files.disk_errors("a", path),
    ):
        WindowsPlatform().patiently(fail)
    assert asked == [path], "once"
    assert WindowsPlatform().holder_of(path) == WORD.pid


def test_no_program_is_named_where_none_is_known_and_none_is_asked_for_left_overs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(_: Path) -> list[win32.User]:
        raise OSError("RmGetList: not here")

    def fail() -> None:
        raise refused(path, SHARING_VIOLATION)

    path = document(tmp_path)
    monkeypatch.setattr(windows, "HELD_WAITS_SECONDS", (0.0,))
    monkeypatch.setattr(windows, "DENIED_WAITS_SECONDS", (0.0,))
    monkeypatch.setattr(win32, "users_of", cannot)
    with pytest.raises(PermissionError) as told:
        WindowsPlatform().patiently(fail)
    assert told.value.strerror == "The file is in use"
    assert WindowsPlatform().holder_of(path) is None
    monkeypatch.setattr(win32, "users_of", lambda _: [WORD])
    with pytest.raises(PermissionError) as told:
        WindowsPlatform().patiently(fail, briefly=True)
    assert told.value.strerror == "The file is in use"


@on_windows
def test_the_restart_manager_is_asked_and_wine_knows_nobody(tmp_path: Path) -> None:
    path = document(tmp_path)
    with held_by_a_process(path, Share.NOTHING) as process:
        expected = {None} if under_wine() else {process.pid}
        assert this_platform().holder_of(path) in expected
