"""Runs the laws on random databases: `python -m tests.drills.laws [--runs N] [--seed S] [--jobs N]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from multiprocessing import Pool
from os import access, W_OK
from pathlib import Path
from typing import Final, NamedTuple

from tests.drills.laws.course import Case, Course, Ended, case_of, shrunk
from tests.drills.laws.judge import Law, Violation

IN_MEMORY: Final = Path("/dev/shm")
SHOWN_COUNT: Final = 3


class Result(NamedTuple):
    """One case that ended."""

    seed: int
    ended: Ended
    broke: str = ""
    """The harness itself failed."""


def run(case: Case) -> Ended:
    """Run a case in a folder that is removed afterwards."""
    place = IN_MEMORY if access(IN_MEMORY, W_OK) else None
    with tempfile.TemporaryDirectory(prefix="laws-", dir=place) as folder:
        return Course(case, Path(folder).resolve()).run()


def run_seed(seed: int) -> Result:
    """Run the case of a seed."""
    try:
        return Result(seed, run(case_of(seed)))
    except Exception:
        return Result(seed, Ended([], {}), traceback.format_exc())


def smallest(seed: int, law: Law) -> tuple[Case, Violation]:
    """Return the smallest case found that breaks a law like this seed's, and how it breaks it."""

    def first(case: Case) -> Violation | None:
        try:
            return next((found for found in run(case).violations if found.law is law), None)
        except Exception:
            return None

    case = shrunk(case_of(seed), law, lambda smaller: first(smaller) is not None)
    found = first(case)
    assert found is not None
    return case, found


def main(words: Sequence[str] | None = None) -> int:
    """Print a table of the laws; the exit status is 0 if all held, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.laws", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="how many cases (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the first case (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cases at the same time")
    parser.add_argument("--show", type=int, default=SHOWN_COUNT, metavar="N", help="examples of each law that is broken")
    parser.add_argument("--small", action="store_true", help="make each example as small as it still fails")
    parser.add_argument("--law", action="append", choices=[law.name for law in Law], help="show only this law; repeat")
    options = parser.parse_args(words)
    began = time.monotonic()
    seeds = range(options.seed, options.seed + options.runs)
    with Pool(options.jobs) as pool:
        results = list(pool.imap_unordered(run_seed, seeds, chunksize=4))
    wanted = [Law[name] for name in options.law or []] or list(Law)
    good = report(sorted(results), wanted, shown=options.show, small=options.small)
    print(f"{len(results)} cases in {time.monotonic() - began:.0f} seconds: {'every law holds' if good else 'NOT GOOD'}")
    return 0 if good else 1


def report(results: list[Result], wanted: list[Law], *, shown: int, small: bool) -> bool:
    """Print the table and the examples, and return whether all is well."""
    asked, broken = Counter[Law](), dict[Law, list[tuple[int, Violation]]]()
    for seed, ended, _ in results:
        asked.update(ended.checks)
        for law in {found.law for found in ended.violations}:
            first = next(found for found in ended.violations if found.law is law)
            broken.setdefault(law, []).append((seed, first))
    for law in Law:
        print(f"{law.name:<12} asked {asked[law]:>6}  broken {len(broken.get(law, [])):>5}  {law.value}")
    for law in (law for law in wanted if law in broken):
        for seed, violation in broken[law][:shown]:
            print(f"\nseed {seed}: {violation}")
            if small:
                case, again = smallest(seed, law)
                print("\n".join(f"    | {line}" for line in [*case.in_words().splitlines(), f"=> {again}"]))
    skipped = Counter(ended.skipped.partition(":")[0] for _, ended, _ in results if ended.skipped)
    failed = [result for result in results if result.broke]
    for reason, count in skipped.items():
        print(f"\n{count} cases were none: {reason}")
    for result in failed[:shown]:
        print(f"\nthe drill itself failed at seed {result.seed}:\n{result.broke}")
    return not broken and not failed


if __name__ == "__main__":
    sys.exit(main())
