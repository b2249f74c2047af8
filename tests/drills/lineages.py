"""The drill with real histories: public apps' schemas from a release to the newest, back and up again, with trade.

    python -m tests.drills.lineages --sources FOLDER [--only NAME ...] [--rounds N] [--keep FOLDER]

FOLDER has a git clone of each app's repository by its name. What is not there is named and left out. The exit status
is 1 if anything was not as it should be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.drills import lineage_sources
from tests.drills.lineage_sources import LINEAGES, Lineage
from tests.drills.lineage_story import Faulty, Seen, story
from tests.drills.real_sources import NotThere


def main() -> int:
    """Runs everything, or what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True, help="where the clones are")
    parser.add_argument("--only", nargs="*", default=[], choices=LINEAGES, help="names of apps")
    parser.add_argument("--fill", type=int, default=10, help="rounds of trade before the first migration")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of trade in each schema after it")
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    chosen = parser.parse_args()
    print(
        "| app | from | to | tables, rows | migrations | changes by people | untouched rows"
        " | cells live, kept, made again | put back, conflicts | lost | seconds |\n|" + " --- |" * 11,
        flush=True,
    )
    bad = []
    with tempfile.TemporaryDirectory(prefix="tillkeeper-lineages-") as scratch:
        for name, lineage in LINEAGES.items():
            if not chosen.only or name in chosen.only:
                folder = (chosen.keep or Path(scratch)) / name
                if not _ran(name, lineage, folder, chosen):
                    bad.append(name)
    print(f"NOT GOOD: {', '.join(bad)}" if bad else "all good", flush=True)
    return 1 if bad else 0


def _ran(name: str, lineage: Lineage, folder: Path, chosen: argparse.Namespace) -> bool:
    """Runs one; whether all was as it should be."""
    began = time.monotonic()
    try:
        histories = lineage_sources.read(lineage, chosen.sources)
        seen = story(histories, folder, fill_count=chosen.fill, rounds_count=chosen.rounds)
    except NotThere as why:
        print(f"{name}: left out, {why}", flush=True)
    except Faulty as why:
        print(f"{name}: NOT GOOD, {why}", flush=True)
        return False
    except Exception:
        print(f"{name}: NOT GOOD\n{traceback.format_exc()}", flush=True)
        return False
    else:
        print(_told(name, lineage, histories.newest, seen, time.monotonic() - began), flush=True)
    return True


def _told(name: str, lineage: Lineage, newest: str, seen: Seen, seconds: float) -> str:
    where, again = seen.where, seen.again
    return (
        f"| {name} | {lineage.released} | {newest} | {seen.tables_count}, {seen.rows_count} | {seen.migrations_count}"
        f" | {seen.edits_count} | {where.untouched} | {where.live}, {where.kept}, {where.made_again}"
        f" | {again.put_back}, {again.conflicts} | {len(where.lost) + len(again.lost)} | {seconds:.0f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
