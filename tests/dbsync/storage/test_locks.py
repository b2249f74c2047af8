"""Locks: who may ask, and what is said where there can be none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.errors import DiskProblem, Locked
from dbsync.storage.locks import Lock, locked
from dbsync.storage.platform import this_platform
from tests.helpers.places import ROOT


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX has them")
def test_whoever_may_read_the_file_may_ask_whether_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    lock = Lock(path)
    assert lock.try_take()
    path.chmod(0o444)
    tmp_path.chmod(0o755)
    # Root may write everything: it asks as nobody, from within the folder, for whom the folders above are closed.
    text = """
import fcntl, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from dbsync.storage.locks import Lock
if os.geteuid() == 0:
    os.setuid(65534)
print(Lock(Path("a.lock")).is_free())
"""

    def asked() -> str:
        words = [sys.executable, "-I", "-c", text, str(ROOT)]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert asked() == "False\n"
    lock.release()
    assert asked() == "True\n"
    assert path.stat().st_size == 0


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX has them")
def test_an_account_that_may_not_write_the_file_may_lock_it(tmp_path: Path) -> None:
    (tmp_path / "a.lock").touch(0o644)
    tmp_path.chmod(0o755)
    text = """
import fcntl, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from dbsync.storage.locks import Lock
if os.geteuid() == 0:
    os.setuid(65534)
print(os.access("a.lock", os.W_OK), Lock(Path("a.lock")).try_take())
"""
    words = [sys.executable, "-I", "-c", text, str(ROOT)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{os.geteuid() != 0} True\n"


def test_a_lock_that_cannot_be_is_an_error_of_the_disk_and_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS without its lock daemon answers ENOLCK; a folder in the lock's place cannot be opened."""
    import errno

    from dbsync.storage.platform import this_platform

    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskProblem, match="lock"):
        Lock(tmp_path / "folder").try_take()

    def refuse(descriptor: int, *, shared: bool) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(this_platform(), "try_lock", refuse)
    lock = Lock(tmp_path / "a.lock")
    before = os.open(os.devnull, os.O_RDONLY)
    os.close(before)
    for ask in (lock.try_take, lock.is_free):
        with pytest.raises(DiskProblem, match="No locks available"):
            ask()
    after = os.open(os.devnull, os.O_RDONLY)
    os.close(after)
    assert (lock.held, after) == (False, before)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_two_names_of_one_database_have_one_lock(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "other.db").symlink_to(tmp_path / "real" / "pos.db")
    with locked(tmp_path / "real" / "pos.db"):
        for name in ("linked/pos.db", "other.db"):
            with pytest.raises(Locked), locked(tmp_path / name):
                pass
    assert [one.name for one in (tmp_path / "real").iterdir()] == ["pos.db.lock"]


def test_a_question_at_that_moment_does_not_refuse_a_taker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock(tmp_path / "a.lock")
    assert lock.try_take()
    lock.release()
    question = os.open(lock.path, os.O_RDWR)
    assert this_platform().try_lock(question, shared=True)
    asked: list[float] = []

    def question_is_over(seconds: float) -> None:
        asked.append(seconds)
        os.close(question)

    monkeypatch.setattr("dbsync.storage.locks.time.sleep", question_is_over)
    assert lock.try_take()
    assert len(asked) == 1


def test_a_lock_that_is_held_refuses_a_taker_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Lock(tmp_path / "a.lock")
    assert holder.try_take()
    monkeypatch.setattr("dbsync.storage.locks.time.sleep", lambda _: pytest.fail("it waited"))
    assert not Lock(holder.path).try_take()
