"""Self-tests: with which rights, what they may cost, and which failures are the release's."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from dbsync.errors import Refused, TillkeeperError, TryLater
from tests.dbsync.storage.test_rights import umask
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.answers import Offer
from updater.bundles.staging import SELF_TESTS_COUNT, Staging, is_spoilt_here
from updater.bundles.version_folders import Versions
from updater.host import this_host
from updater.host.base import NOT_STARTED
from updater.host.shared import TAIL_SIZE_BYTES


class Ended:
    """A self-test that ends as a test wants."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def __call__(self, command: Sequence[str], *, folder: Path, timeout_seconds: float) -> tuple[int | None, str]:
        return self.code, "out\x1b[2Jput"


def staged(till: Till, code: int | None) -> tuple[Staging, Offer]:
    """A staging that knows 1.1."""
    staging = Staging(till.settings, Versions(till.settings.program), self_test=Ended(code))
    (offer,) = staging.find_releases(None).newer[-1:]
    return staging, offer


def tried(staging: Staging, offer: Offer) -> TillkeeperError | None:
    folder = staging.unpack(offer, staging.download(offer))
    try:
        staging.check_unpacked(offer, folder)
    except TillkeeperError as error:
        return error
    return None


@pytest.mark.parametrize("code", [None, -9, -15, NOT_STARTED])
def test_what_this_machine_may_have_spoilt_is_tried_again_a_few_times(
    vendor: Vendor, till: Till, code: int | None
) -> None:
    vendor.release("1.1", schema=4)
    kinds = []
    for _ in range(SELF_TESTS_COUNT):
        error = tried(*staged(till, code))
        assert error is not None
        kinds.append(type(error))
        assert "\x1b" not in str(error)
    assert kinds == [TryLater] * (SELF_TESTS_COUNT - 1) + [Refused]
    vendor.release("1.2", schema=4)
    error = tried(*staged(till, code))
    assert isinstance(error, TryLater), "another release is counted by itself"


def test_a_self_test_that_fails_refuses_the_release_at_once(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    assert isinstance(tried(*staged(till, 1)), Refused)
    assert tried(*staged(till, 0)) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device of this system is always full")
def test_a_disk_that_is_full_is_no_fault_of_the_release(tmp_path: Path) -> None:
    text = "import os\nos.write(os.open('/dev/full', os.O_WRONLY), b'x')"
    code, output = this_host().run_and_wait([sys.executable, "-c", text], timeout_seconds=60, env=None, cwd=tmp_path)
    assert code == 1
    assert is_spoilt_here(code, output)
    wrong = this_host().run_and_wait([sys.executable, "-c", "1 / 0"], timeout_seconds=60, env=None, cwd=tmp_path)
    assert not is_spoilt_here(*wrong)


def test_much_output_costs_little(tmp_path: Path) -> None:
    text = "import sys\nfor _ in range(400):\n    sys.stdout.write('x' * 100_000)\nsys.stdout.write('the end')"
    before = threading.active_count()
    code, output = this_host().run_and_wait([sys.executable, "-c", text], timeout_seconds=60, env=None, cwd=tmp_path)
    assert (code, len(output), output[-7:]) == (0, TAIL_SIZE_BYTES, "the end")
    assert threading.active_count() == before


@pytest.mark.skipif(sys.platform == "win32", reason="sessions are of POSIX")
def test_a_process_that_keeps_the_output_open_is_not_waited_for(tmp_path: Path) -> None:
    text = (
        "import os, sys, time\n"
        "if not os.fork():\n    os.setsid()\n    time.sleep(15)\n    os._exit(0)\n"
        "print('done', flush=True)\n"
    )
    began = time.monotonic()
    assert this_host().run_and_wait([sys.executable, "-c", text], timeout_seconds=60, env=None, cwd=tmp_path) == (
        0,
        "done\n",
    )
    assert time.monotonic() - began < 12


def test_a_command_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    code, words = this_host().run_and_wait(["/no/such/program"], timeout_seconds=5, env=None, cwd=tmp_path)
    assert code == NOT_STARTED
    assert words in ("No such file or directory", "The system cannot find the file specified", "File not found")


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
@pytest.mark.parametrize("mask", [0o000, 0o077], ids=oct)
def test_a_version_folder_has_its_modes_whatever_the_umask_is(vendor: Vendor, till: Till, mask: int) -> None:
    vendor.release("1.1", schema=4)
    staging, offer = staged(till, 0)
    with umask(mask):
        assert tried(staging, offer) is None
    (folder,) = (till.settings.program / "versions").glob(".staging-*")
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert path.is_symlink() or mode in ((0o755,) if path.is_dir() else (0o644, 0o755)), path
    assert os.access(folder, os.X_OK)
