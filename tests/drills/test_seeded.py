"""The seeded bugs: each patch applies and names a check that is there; a few of them are run. The rest:

python -m tests.drills.seeded
"""

from __future__ import annotations

import difflib
import re
import shutil
from pathlib import Path

import pytest

from tests.drills.faults import command, registry
from tests.drills.laws import __main__ as laws
from tests.drills.laws.judge import Law
from tests.drills.seeded.__main__ import main
from tests.drills.seeded.bugs import Bug, Runner, Verdict, apply, found_in, read, words_of
from tests.helpers.places import ROOT

BUGS = {bug.name: bug for bug in found_in()}
CHEAP = (
    "04-full-for-extra",
    # Twice it makes the terminals of a drill.
    pytest.param("06-counted-after-start", marks=pytest.mark.long),
    "12-boundary-removed",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="patches are applied by git"),
]


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_applies_and_its_check_is_there(name: str) -> None:
    bug = BUGS[name]
    apply(bug, ROOT, only_check=True)
    if bug.check.startswith("drill "):
        options = command.arguments().parse_args(words_of(bug.check))
        assert registry.wanted(options.flows) == options.flows
        return
    if bug.check.startswith("laws "):
        assert laws.arguments().parse_args(words_of(bug.check)).runs
        assert bug.says.partition(" ")[0] in Law.__members__
        return
    path, _, test = words_of(bug.check)[0].partition("::")
    function = re.escape(test.partition("[")[0])
    assert re.search(rf"^def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", CHEAP)
def test_a_seeded_bug_is_caught(name: str) -> None:
    found = Runner().verdict(BUGS[name])
    if found.verdict is Verdict.SKIPPED:
        pytest.skip(found.output)
    assert found.verdict is Verdict.CAUGHT, found.output


# ------------------------------------------------------------------------------------------------------- the runner

PATH = "updater/decisions/trial.py"
CHECK = "pytest tests/updater/decisions/test_journal_and_trial.py"


def seeded(folder: Path, right: str, wrong: str, *, check: str = CHECK, says: str = "assert") -> Bug:
    """Make a patch that changes a text of a file."""
    before = (ROOT / PATH).read_text(encoding="utf-8")
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        before.replace(right, wrong).splitlines(keepends=True),
        f"a/{PATH}",
        f"b/{PATH}",
    )
    path = folder / "99-made.patch"
    path.write_text(f"# A bug.\n# Check: {check}\n# Says: {says}\n{''.join(lines)}", encoding="utf-8")
    return read(path)


def test_a_bug_that_its_check_does_not_catch_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeded(tmp_path, "Counters of a trial", "Counts of a trial")
    assert main([], folder=tmp_path) == 1
    shown = capsys.readouterr().out
    assert re.search(r"^99-made +NOT CAUGHT +\d", shown, re.MULTILINE), shown
    assert shown.endswith("| exit status 0, and 'assert' is not there\nNOT GOOD\n")


def test_a_check_that_fails_for_another_reason_has_not_caught_it(tmp_path: Path) -> None:
    bug = seeded(
        tmp_path, "from updater.model import Act", "from updater.model import Act, Nothing", says="assert 1 =="
    )
    found = Runner().verdict(bug)
    assert (found.verdict, "ImportError" in found.output) == (Verdict.NOT_CAUGHT, True)


def test_a_check_that_fails_without_the_bug_is_named(tmp_path: Path) -> None:
    bug = seeded(tmp_path, "Counters of a trial", "Counts of a trial", check="pytest tests/there_is_none.py")
    assert Runner().verdict(bug).verdict is Verdict.FAILS_ANYWAY


def test_a_patch_that_does_not_apply_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bug = seeded(tmp_path, "Counters of a trial", "Counts of a trial")
    bug.path.write_text(bug.path.read_text(encoding="utf-8").replace('-"""Counters', '-"""Numbers'), encoding="utf-8")
    assert main([], folder=tmp_path) == 1
    shown = capsys.readouterr().out
    assert "DOES NOT APPLY" in shown
    assert "99-made.patch does not apply: the code that it changes is different now." in shown


def test_a_patch_without_a_check_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "98-bare.patch"
    path.write_text("# A bug.\n--- a/x\n+++ b/x\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must begin with"):
        read(path)
