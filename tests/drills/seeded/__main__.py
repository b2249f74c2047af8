"""Seeds each bug and runs its check: `python -m tests.drills.seeded [NAME…]`; a name may be a beginning, such as 04."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.drills.seeded.bugs import FOLDER, Runner, found_in, shown

TAIL_LINES: Final = 20
"""How much of a check's output is shown where a bug is not caught."""


def main(words: Sequence[str], folder: Path = FOLDER) -> int:
    """Print the table; the exit status is 0 if every bug is caught, 1 otherwise, 2 if a name is none."""
    bugs = [bug for bug in found_in(folder) if not words or bug.name.startswith(tuple(words))]
    if not bugs:
        print(f"No seeded bug is named {', '.join(words)}.", file=sys.stderr)
        return 2
    runner, good = Runner(), True
    print(f"{'bug':<27} {'result':<16} {'seconds':>7}  check")
    for bug in bugs:
        found = runner.verdict(bug)
        good = good and found.verdict.is_good
        print(f"{bug.name:<27} {found.verdict.value:<16} {found.seconds:7.1f}  {shown(bug.check)}", flush=True)
        if not found.verdict.is_good:
            tail = found.output.rstrip().splitlines()[-TAIL_LINES:]
            print("\n".join(f"        | {line}" for line in (bug.sentence, *tail)))
    print("every bug is caught" if good else "NOT GOOD")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
