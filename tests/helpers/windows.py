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
NOT_ON_WINDOWS: Final[dict[str, str]] = {
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

NOT_UNDER_WINE: Final[dict[str, str]] = {}
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
