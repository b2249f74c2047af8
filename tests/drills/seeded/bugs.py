"""A seeded bug: its patch, the check that catches it, and a run of that check on copies with and without the bug.

A patch begins with three lines, which `git apply` skips:

    # A sentence that says what is wrong, and what catches it.
    # Check: drill trace fold
    # Says: a part of the check's output
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.drills.faults import native_code
from tests.helpers.places import ROOT

FOLDER: Final = Path(__file__).parent
COPIED: Final = ("dbsync", "updater", "scripts", "tests", "docs")
LINKED: Final = ("tests/fixtures", ".cache")
"""Large folders that no check changes, but for C code that is compiled once."""
LIMIT_SECONDS: Final = 280.0
FAILED: Final = 1
"""The exit status with which a check says that something is wrong; any other says that it could not run."""
_KINDS: Final = {
    "drill": ("tests.drills.faults",),
    "laws": ("tests.drills.laws",),
    "pytest": ("pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
}


class Verdict(Enum):
    """Result of a seeded bug."""

    CAUGHT = "caught"
    NOT_CAUGHT = "NOT CAUGHT"
    DOES_NOT_APPLY = "DOES NOT APPLY"
    FAILS_ANYWAY = "FAILS WITHOUT IT"
    SKIPPED = "skipped"
    """This machine cannot run the check."""

    @property
    def is_good(self) -> bool:
        """Whether nothing has to be done about it."""
        return self in (Verdict.CAUGHT, Verdict.SKIPPED)


class Bug(NamedTuple):
    """A patch and its check."""

    path: Path
    sentence: str
    check: str
    """A kind and its words: `drill trace fold`, `laws random --runs 20`, or `pytest` and one node id."""
    says: str
    """The part of the check's output that names this bug."""

    @property
    def name(self) -> str:
        """The name of its patch."""
        return self.path.stem


class Found(NamedTuple):
    """A verdict with its reasons."""

    verdict: Verdict
    seconds: float = 0.0
    output: str = ""
    """The reason where the bug is not caught."""


class Ran(NamedTuple):
    """A check that ended."""

    exit_code: int
    output: str
    seconds: float


class CannotApply(Exception):
    """A patch does not fit the product any more; the text says where."""


def read(path: Path) -> Bug:
    """Return the bug of a patch.

    Raises:
        ValueError: its first lines are not those of a seeded bug.
    """
    lines = path.read_text(encoding="utf-8").splitlines()[:3]
    heads = ("# ", "# Check: ", "# Says: ")
    if len(lines) < len(heads) or not all(line.startswith(head) for line, head in zip(lines, heads, strict=True)):
        raise ValueError(f"{path.name} must begin with a line '# …', then '# Check: …' and '# Says: …'")
    sentence, check, says = (line.removeprefix(head) for line, head in zip(lines, heads, strict=True))
    if check.partition(" ")[0] not in _KINDS:
        raise ValueError(f"{path.name}: a check is one of {', '.join(_KINDS)}, not {check}")
    return Bug(path, sentence, check, says)


def found_in(folder: Path = FOLDER) -> list[Bug]:
    """Return the bugs of a folder, by name."""
    return [read(path) for path in sorted(folder.glob("*.patch"))]


def words_of(check: str) -> list[str]:
    """Return the arguments of a check, without its kind; the id of a test may contain spaces."""
    kind, _, rest = check.partition(" ")
    return [rest] if kind == "pytest" else shlex.split(rest)


def shown(check: str) -> str:
    """Return the command of a check, as a person enters it."""
    kind, _, rest = check.partition(" ")
    if kind == "laws":
        return f"python -m tests.drills.laws {rest}"
    return f"pytest '{rest}'" if kind == "pytest" else f"./scripts/{check}"


def apply(bug: Bug, place: Path, *, only_check: bool = False) -> None:
    """Apply a patch to a copy of the product, or only check that it fits.

    Raises:
        CannotApply: the lines that it changes are not there any more.
    """
    # A copy below another checkout must not be taken for a part of that one.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(place.parent), "LC_ALL": "C"}
    done = subprocess.run(
        ["git", "apply", *(["--check"] if only_check else []), str(bug.path)],
        cwd=place, env=environment, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise CannotApply(
            f"{bug.path.name} does not apply: the code that it changes is different now. Make the same bug again, and"
            f" keep the first three lines.\n{done.stderr.strip()}"
        )


@contextmanager
def copy_of_the_product() -> Iterator[Path]:
    """Provide a copy of the product and its tests, and remove it afterwards."""
    with TemporaryDirectory(prefix="seeded-") as folder:
        place = Path(folder).resolve() / "copy"
        place.mkdir()
        for name in COPIED:
            # With the compiled files, which stay valid: times are copied as well.
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("fixtures"))
        shutil.copy2(ROOT / "pyproject.toml", place)
        for name in LINKED:
            (ROOT / name).mkdir(exist_ok=True)
            (place / name).symlink_to(ROOT / name, target_is_directory=True)
        yield place


def run(check: str, place: Path) -> Ran:
    """Run a check in a copy of the product; its child processes use the copy, too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TILLKEEPER_"))}
    command = [sys.executable, "-m", *_KINDS[check.partition(" ")[0]], *words_of(check)]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=place, env=environment | {"PYTHONPATH": str(place)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", timeout=LIMIT_SECONDS,
        check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, time.monotonic() - began)


def reason_not_to(check: str) -> str:
    """Return why this machine cannot run a check; empty if it can, or if only the run can tell."""
    if check.startswith("drill "):
        try:
            native_code.compiler()
        except native_code.CannotDrill as cause:
            return str(cause)
    return ""


class Runner:
    """Runs the checks; without any bug, each check runs once."""

    def __init__(self) -> None:
        self._without: Final[dict[str, Ran]] = {}

    def verdict(self, bug: Bug) -> Found:
        """Return whether the check passes without the bug, and fails with it for the reason that is expected."""
        try:
            apply(bug, ROOT, only_check=True)
        except CannotApply as cause:
            return Found(Verdict.DOES_NOT_APPLY, output=str(cause))
        reason = reason_not_to(bug.check)
        if reason:
            return Found(Verdict.SKIPPED, output=reason)
        without = self._without.get(bug.check)
        if without is None:
            with copy_of_the_product() as place:
                without = self._without[bug.check] = run(bug.check, place)
        if without.exit_code != 0:
            return Found(Verdict.FAILS_ANYWAY, without.seconds, without.output)
        if bug.check.startswith("pytest ") and " passed" not in without.output:
            return Found(Verdict.SKIPPED, without.seconds, without.output)
        with copy_of_the_product() as place:
            apply(bug, place)
            ran = run(bug.check, place)
        if ran.exit_code == FAILED and bug.says in ran.output:
            return Found(Verdict.CAUGHT, ran.seconds)
        reason = f"exit status {ran.exit_code}, and {bug.says!r} is {'' if bug.says in ran.output else 'not '}there"
        return Found(Verdict.NOT_CAUGHT, ran.seconds, f"{ran.output.rstrip()}\n{reason}")
