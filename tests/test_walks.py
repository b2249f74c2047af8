"""The walks of docs/contributing, followed on a copy of the repository: with all of a walk its tests pass, else not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.helpers.places import ROOT

WALKS: Final = sorted((ROOT / "docs" / "contributing").glob("new-*.md"))
_STEP: Final = re.compile(
    r"^(?:New file `(?P<new>[^`]+)`|At the end of `(?P<end>[^`]+)`"
    r"|In `(?P<inside>[^`]+)`, below the line `(?P<line>[^`]+)`):\n\n```\w+\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND: Final = re.compile(r"^```\n\.venv/bin/python (-m pytest .*?)\n```$", re.MULTILINE)


class Step(NamedTuple):
    """One edit that a walk asks for."""

    path: str
    below: str
    """The line below which the text goes; empty: the end, or a new file."""
    text: str
    is_new: bool

    def take(self, place: Path) -> None:
        """Make the edit in a copy of the repository."""
        path = place / self.path
        if self.is_new:
            assert not path.exists(), f"{self.path} is there already"
            path.write_text(self.text, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if self.below:
            assert lines.count(f"{self.below}\n") == 1, f"{self.path} has {self.below!r} once"
        at = lines.index(f"{self.below}\n") + 1 if self.below else len(lines)
        apart = "\n\n" if self.text.startswith(("def ", "class ")) else ""
        path.write_text("".join([*lines[:at], apart, self.text, *lines[at:]]), encoding="utf-8")


def steps(walk: Path) -> list[Step]:
    """Return the edits of a walk, in order."""
    return [
        Step(
            path=found["new"] or found["end"] or found["inside"],
            below=found["line"] or "",
            text=found["text"],
            is_new=bool(found["new"]),
        )
        for found in _STEP.finditer(walk.read_text(encoding="utf-8"))
    ]


def command(walk: Path) -> list[str]:
    """Return the words of the command with which a walk is tested."""
    (found,) = _COMMAND.findall(walk.read_text(encoding="utf-8"))
    return [sys.executable, *found.split()]


def copy_of_the_repository(place: Path) -> Path:
    """Copy what belongs to the repository: tracked files, and new ones that are not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if not name.startswith("tests/fixtures/") and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            # With its time: then what is compiled of it counts for the copy too.
            shutil.copy2(ROOT / name, place / name)
    for source in ROOT.glob("[!.]*/**/__pycache__"):
        target = place / source.relative_to(ROOT)
        if target.parent.is_dir():
            shutil.copytree(source, target)
    return place


def followed(place: Path, walk: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a walk in a copy."""
    environment = {**os.environ, "PYTHONPATH": str(place)}
    return subprocess.run(
        [*command(walk), *options, "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs a git checkout"),
]


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.stem)
def test_a_walk_that_is_followed_passes_its_tests(walk: Path, tmp_path: Path) -> None:
    place = copy_of_the_repository(tmp_path / "copy")
    for step in steps(walk):
        step.take(place)
    done = followed(place, walk)
    assert done.returncode == 0, done.stdout
    for path in {step.path for step in steps(walk) if step.path.endswith(".py")}:
        checked = subprocess.run([sys.executable, "-m", "ruff", "check", "-q", path], cwd=place, check=False)
        assert checked.returncode == 0, path


@pytest.mark.long
@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.stem)
def test_the_tests_of_a_walk_tell_what_was_forgotten(walk: Path, tmp_path: Path) -> None:
    """Each step is left out once, and every one is missed by a test; but for a new test, which nobody else can miss."""
    for number, left_out in enumerate(steps(walk)):
        if left_out.is_new and left_out.path.startswith("tests/"):
            continue
        place = copy_of_the_repository(tmp_path / str(number))
        for step in steps(walk):
            if step != left_out:
                step.take(place)
        done = followed(place, walk, "--exitfirst")
        assert done.returncode != 0, f"nothing misses {left_out.path}"


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.stem)
def test_the_tests_that_a_walk_names_are_there(walk: Path) -> None:
    written = "".join(step.text for step in steps(walk))
    sources = {ROOT / word for word in command(walk) if word.endswith(".py")} | {ROOT / "tests" / "test_house.py"}
    text = written + "".join(path.read_text(encoding="utf-8") for path in sources if path.exists())
    names = re.findall(r"\| `(test_\w+)` \|$", walk.read_text(encoding="utf-8"), re.MULTILINE)
    assert names
    assert [name for name in names if f"def {name}(" not in text] == []
