"""Folders of the repository that tests refer to, and paths inside files."""

import json
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
"""The top level of the repository."""


def quoted(path: Path | str) -> str:
    """Return a path as it is inside a string of JSON or TOML: both escape a backslash alike."""
    return json.dumps(str(path), ensure_ascii=False)[1:-1]


def link(path: Path, *, to: Path | str) -> None:
    """Make a symbolic link, or skip the test where that takes a privilege; wine reports success and makes none."""
    if sys.platform == "win32":
        import pytest

        pytest.skip("a symbolic link takes a privilege there")
    path.symlink_to(to)


def moved(file: Path, *, source: Path, target: Path) -> None:
    """Let a file of JSON or TOML name another folder."""
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(quoted(source), quoted(target)), encoding="utf-8", newline="\n")
