"""macOS: lsof lists open files. Written from the manual pages; untested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.storage.platform.posix import PosixPlatform

if TYPE_CHECKING:
    from dbsync.progress import Told

LSOF: Final = "/usr/sbin/lsof"
ASK_TIMEOUT_SECONDS: Final = 10.0


class MacPlatform(PosixPlatform):
    """macOS."""

    def clone_file(self, *, source: Path, target: Path) -> bool:
        """Return false: `cp -c` shares blocks on APFS, but falls back to copying without a word."""
        return False

    def copy_file(self, *, source: Path, target: Path, told: Told) -> bool:
        """Return false: whether its `cp` shares blocks depends on its version, and there was none to try it on."""
        return False

    def network_kind(self, path: Path) -> str:
        """Return an empty string: mounts are not read, so no database is refused for its place."""
        return ""

    def holder_of(self, path: Path) -> int | None:
        import subprocess

        from dbsync.storage.children import SYSTEM_ENVIRONMENT

        try:
            asked = subprocess.run(
                [LSOF, "-t", str(path.absolute())], cwd="/", env=SYSTEM_ENVIRONMENT, stdin=subprocess.DEVNULL,
                capture_output=True, check=False, timeout=ASK_TIMEOUT_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        found = asked.stdout.split()
        return int(found[0]) if found else None
