"""Tests that Windows does not run, each with its reason: what it does not have, and what wine shows wrongly.

A line names a file, or a test in it with all its cases. `conftest.py` skips them, and `test_windows_lists.py` sees that
each line still names one.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

TWO_ACCOUNTS: Final = "two accounts, and root that becomes one of them, are of POSIX"
MODES: Final = "owners, groups and modes are of POSIX"
UNITS: Final = "the units of systemd have paths of POSIX"
MOUNTS: Final = "mounts, and how others read them, are of POSIX"
BEFORE: Final = "an open file cannot be renamed there, so a backup is checked before the migration, not beside it"
CHECK_BESIDE: Final = "tests/dbsync/backups/test_check_beside.py"
LINKS: Final = "a stable path is a junction there, which wine does not make"
NOT_ON_WINDOWS: Final[dict[str, str]] = {
    f"{CHECK_BESIDE}::test_the_check_runs_beside_the_migration_and_is_joined_before_commit": BEFORE,
    f"{CHECK_BESIDE}::test_a_rotten_backup_lets_nothing_be_committed_even_of_a_migration_that_is_verified": BEFORE,
    f"{CHECK_BESIDE}::test_after_ctrl_c_neither_a_thread_nor_a_part_is_left": BEFORE,
    f"{CHECK_BESIDE}::test_ctrl_c_while_the_check_is_waited_for_leaves_neither": BEFORE,
    f"{CHECK_BESIDE}::test_a_check_that_is_cancelled_ends_although_it_has_not_begun": BEFORE,
    "tests/dbsync/database/test_in_the_way.py::test_every_network_file_system_is_refused_with_the_reason": MOUNTS,
    "tests/dbsync/storage/platform/test_disks.py::test_linux_knows_what_a_mount_keeps": MOUNTS,
    "tests/dbsync/storage/platform/test_disks.py::test_linux_knows_a_disk_that_can_be_taken_out": MOUNTS,
    "tests/dbsync/storage/platform/test_disks.py::test_macos_asks_the_nearest_folder": MOUNTS,
    "tests/updater/host/test_places.py::test_posix_counts_bytes": MOUNTS,
    "tests/updater/host/test_places.py::test_the_zones_of_macos_are_those_of_the_home": MOUNTS,
    "tests/updater/terminal/test_places.py::test_a_link_into_a_zone_lies_in_it": "links need a privilege there",
    "tests/updater/terminal/test_stable_path.py::test_a_cut_at_each_step_leaves_a_whole_link_or_none": MOUNTS,
    "tests/dbsync/test_rights_of_commands.py": MODES,
    "tests/dbsync/test_root_becomes_the_owner.py": TWO_ACCOUNTS,
    "tests/dbsync/test_two_accounts.py": TWO_ACCOUNTS,
    "tests/updater/host/test_services.py::test_a_unit_gives_root_what_two_accounts_need_and_hides_homes": UNITS,
    "tests/updater/host/test_services.py::test_a_unit_quotes_what_systemd_would_read_otherwise": UNITS,
    "tests/updater/host/test_services.py::test_an_account_that_may_not_is_told_the_command": UNITS,
    "tests/updater/publish/test_kit.py": "kits are made on a machine of the vendor's that runs Linux",
    "tests/updater/terminal/test_rights.py": MODES,
    "tests/updater/terminal/test_till_side.py": TWO_ACCOUNTS,
    "tests/updater/test_attacks_of_the_till.py": TWO_ACCOUNTS,
    "tests/updater/test_two_accounts_story.py": TWO_ACCOUNTS,
}
"""What only a POSIX system has."""

NOT_UNDER_WINE: Final[dict[str, str]] = {
    "tests/updater/host/test_places.py::test_a_link_is_made_led_elsewhere_and_removed": LINKS,
    "tests/updater/terminal/test_stable_path.py": LINKS,
}
"""What wine 8 does otherwise than Windows; docs/contributing/windows.md has the checks for a real machine."""

NOT_YET: Final[dict[str, str]] = {}
"""What the product does not do on Windows yet."""


EVERY: Final = "TILLKEEPER_TESTS_EVERY"
"""Names a number N: of the tests of a run about every N-th is run, always the same ones. `winbench test --every N`."""


def left_out_of_the_sample(nodes: Iterable[str]) -> set[str]:
    """Return the tests that the sample of this run leaves out; none, unless the environment asks for a sample."""
    every = int(os.environ.get(EVERY, "1"))
    return {node for node in nodes if zlib.crc32(node.encode()) % every}


def under_wine() -> bool:
    """Return whether this Windows is wine."""
    if sys.platform != "win32":
        return False
    import ctypes

    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")  # type: ignore[attr-defined,unused-ignore]


def reason_to_skip(node: str) -> str | None:
    """Return why this system does not run a test; None if it does. `node` is `tests/a/test_b.py::test_c[case]`."""
    if sys.platform != "win32":
        return None
    plain = node.partition("[")[0]
    names = {
        plain,
        plain.partition("::")[0],
        *(str(parent.as_posix()) for parent in PurePath(plain.partition("::")[0]).parents),
    }
    lists = (NOT_ON_WINDOWS, NOT_YET, *((NOT_UNDER_WINE,) if under_wine() else ()))
    return next((reason for found in lists for name, reason in found.items() if name in names), None)
