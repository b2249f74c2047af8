"""Runs the laws: `python -m tests.drills.laws [random | scenes | lineages | faults] [--runs N] [--seed S]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import Pool
from multiprocessing.pool import ThreadPool
from os import W_OK, access
from pathlib import Path
from typing import Final, NamedTuple

from tests.drills.faults import native_code
from tests.drills.laws import faults, pairs
from tests.drills.laws.course import Case, Course, Ended, case_of, shrunk
from tests.drills.laws.judge import Law, Violation
from tests.drills.laws.scenes import SCENES

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


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.laws", description=__doc__)
    parser.add_argument(
        "kind", nargs="?", choices=list(KINDS), default="random",
        help="scenes: cases written by hand; random: schemas, migrations and trade by chance; "
        "lineages: every pair of versions of three apps; "
        "faults: going back and up again on the production path, while calls to the disk fail",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=200, help="how many cases (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the first case (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cases at the same time")
    parser.add_argument(
        "--show", type=int, default=SHOWN_COUNT, metavar="N", help="examples of each law that is broken"
    )
    parser.add_argument("--small", action="store_true", help="make each example as small as it still fails")
    parser.add_argument(
        "--points", type=int, default=12, metavar="N", help="faults: so many for each command of a case; 0: all"
    )
    parser.add_argument("--law", action="append", choices=[law.name for law in Law], help="show only this law; repeat")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Print a table of the laws; the exit status is 0 if all held, 1 otherwise."""
    options = arguments().parse_args(words)
    return KINDS[options.kind](options)


def by_chance(options: argparse.Namespace) -> int:
    """Run random cases."""
    began = time.monotonic()
    seeds = range(options.seed, options.seed + options.runs)
    with Pool(options.jobs) as pool:
        results = list(pool.imap_unordered(run_seed, seeds, chunksize=4))
    wanted = [Law[name] for name in options.law or []] or list(Law)
    good = report(sorted(results), wanted, shown=options.show, small=options.small)
    print(
        f"{len(results)} cases in {time.monotonic() - began:.0f} seconds: {'every law holds' if good else 'NOT GOOD'}"
    )
    return 0 if good else 1


def run_pair(pair: pairs.Pair, seed: int = 1, edits_count: int = pairs.EDITS_COUNT) -> pairs.Traded:
    """Run a pair in a folder that is removed afterwards."""
    place = IN_MEMORY if access(IN_MEMORY, W_OK) else None
    with tempfile.TemporaryDirectory(prefix="laws-", dir=place) as folder:
        return pairs.run(pair, Path(folder).resolve(), seed=seed, edits_count=edits_count)


def of_scenes(options: argparse.Namespace) -> int:
    """Run the cases that are written by hand."""
    good = True
    for name, case in SCENES.items():
        ended = run(case)
        wrong = [ended.skipped] if ended.skipped else [str(violation) for violation in ended.violations]
        good = good and not wrong
        print(f"{name}: {wrong[0] if wrong else 'every law holds'}", flush=True)
    return 0 if good else 1


def of_lineages(options: argparse.Namespace) -> int:
    """Run every pair of versions."""
    good = True
    print(f"{'pair':<30} {'edits':>6} {'cells':>6} {'kept':>6} {'left':>5}  laws")
    with Pool(options.jobs) as pool:
        for traded in pool.imap(partial(run_pair, seed=options.seed), pairs.PAIRS):
            counts = (
                f"{traded.edits_count:>6} {traded.changed_cells_count:>6} {traded.kept_count:>6} {traded.left_count:>5}"
            )
            good = good and not traded.violations
            print(
                f"{traded.pair!s:<30} {counts}  {f'{len(traded.violations)} broken' if traded.violations else 'hold'}",
                flush=True,
            )
            print("".join(f"    {violation}\n" for violation in traded.violations[: options.show]), end="")
    print("every law holds" if good else "NOT GOOD")
    return 0 if good else 1


def with_faults(options: argparse.Namespace) -> int:
    """Disturb random calls of going back and going up again."""
    began = time.monotonic()
    share = -(-options.runs // options.jobs)
    jobs = [
        faults.Job(options.seed + number * 20 * share, share, options.points, str(native_code.shim()))
        for number in range(options.jobs)
    ]
    count, broken = 0, 0
    with ThreadPool(options.jobs) as pool:
        for each in pool.imap_unordered(lambda job: list(faults.started(job)), jobs):
            for case in each:
                count += 1
                broken += bool(case.found)
                if case.found and broken <= options.show:
                    print(f"seed {case.seed} {case.command} {case.mode} at {case.call}; exit status {case.exit_code}")
                    print("".join(f"    {text}\n" for text in case.found[: options.show]), end="")
    print(f"{count} faults, {broken} broke something, {time.monotonic() - began:.0f} seconds")
    return 1 if broken or not count else 0


KINDS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "scenes": of_scenes,
    "random": by_chance,
    "lineages": of_lineages,
    "faults": with_faults,
}


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
