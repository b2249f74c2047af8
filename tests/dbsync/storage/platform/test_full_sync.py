"""Durable means: in the disk's own cache no more, which macOS has a call of its own for."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.storage import connections
from dbsync.storage.platform.macos import FULL_SYNC, MacPlatform
from tests.helpers.places import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fcntl is of POSIX")

SYNCS = (
    "import errno, fcntl, os, sys\n"
    "from dbsync.storage.platform import macos\n"
    "asked, synced, answer = [], [], int(sys.argv[2])\n"
    "def full(descriptor, call):\n"
    "    asked.append(call)\n"
    "    if answer:\n"
    "        raise OSError(answer, os.strerror(answer))\n"
    "fcntl.fcntl, os.fsync = full, synced.append\n"
    "with open(sys.argv[1], 'rb') as file:\n"
    "    try:\n"
    "        macos.MacPlatform().sync_open(file.fileno())\n"
    "        print(asked, len(synced))\n"
    "    except OSError as error:\n"
    "        print(asked, len(synced), errno.errorcode[error.errno])\n"
)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(0, "[51] 0"), (errno.ENOTSUP, "[51] 1"), (errno.ENOTTY, "[51] 1"), (errno.EIO, "[51] 0 EIO")],
)
def test_macos_empties_the_cache_of_the_disk_and_an_error_of_the_disk_is_one(
    tmp_path: Path, answer: int, said: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"sale")
    command = [sys.executable, "-c", SYNCS, str(path), str(answer)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS knows the call")
def test_where_the_call_is_unknown_a_file_is_synced_as_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"sale")
    descriptor = os.open(path, os.O_RDONLY)
    MacPlatform().sync_open(descriptor)
    os.close(descriptor)
    assert (FULL_SYNC, path.read_bytes()) == (51, b"sale")


def test_a_migration_and_a_restore_ask_sqlite_for_the_same(tmp_path: Path) -> None:
    with closing(connections.open_writing(tmp_path / "pos.db", create=True, like=tmp_path)) as connection:
        asked = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("fullfsync", "checkpoint_fullfsync")]
    assert asked == [(1,), (1,)]
    assert [path.name for path in tmp_path.iterdir()] == ["pos.db"]
