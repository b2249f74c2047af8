"""The second run of a folder of migrations: on another day, in another time zone, with another hash seed and locale.

Going back is proven by running migrations again, on another day and perhaps another machine: values of the environment
would look like changes by people.
"""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Final

from dbsync.backups import snapshot
from dbsync.lint.environment import standing_at
from dbsync.lint.risks import SAME_TWICE
from dbsync.migrations import runner
from dbsync.migrations.environment import OTHER, PINNED, Environment
from dbsync.model import Migration, MigrationKind
from dbsync.progress import nobody
from dbsync.storage.connections import attach_copy, open_copy, open_scratch
from dbsync.storage.introspection import version_of
from dbsync.verification import table_diff

SEEDS: Final = (OTHER.hash_seed, 2, 3)
"""Under one other seed, a set of two texts has the same order in every second case."""
STILL: Final = PINNED._replace(day="2024-02-29 23:59:58.765")
"""The environment of terminals with clocks that stand: what differs in a second run of it differs by chance."""
ALONE: Final = (
    ("chance", (STILL,)),
    ("the clock", (STILL._replace(day=OTHER.day),)),
    ("the time zone", (STILL._replace(time_zone=OTHER.time_zone),)),
    ("the locale", (STILL._replace(locale=OTHER.locale),)),
    ("the umask", (STILL._replace(umask=OTHER.umask),)),
    ("the hash seed, which orders a set", tuple(STILL._replace(hash_seed=seed) for seed in SEEDS)),
)
"""The parts of an environment by which two runs may differ, each with runs that differ from `STILL` in it alone."""
SAFE: Final = {
    "the time zone": "Use UTC, or a zone that the database names (`zoneinfo`).",
    "the locale": "Use a format of the migration's own.",
    "the umask": "Make no files.",
    "the hash seed, which orders a set": "Go through `sorted(…)` of the set; use `hashlib` in place of `hash()`.",
}
"""The safe way, where it is not that of the clock and of chance."""


def problems(found: tuple[Migration, ...], *, before: Path | None, scratch: Path) -> list[tuple[str, str, str]]:
    """Run the pending migrations again in other environments.

    Return each table that differs, with what it depends on and the safe way.

    Args:
        found: all migrations.
        before: a copy of a database; None: the runs start from the result of the first migration, which is never run
            again.
        scratch: an existing folder for copies, which are removed.

    Raises:
        TillkeeperError: a run fails.
    """
    runs = _Runs(found, before=before, scratch=scratch)
    try:
        runs.first(PINNED)
        has_process = any(migration.kind is not MigrationKind.SQL for migration in found)
        seeds = SEEDS if has_process else SEEDS[:1]
        differing: list[str] = []
        for seed in seeds:
            differing += [table for table in runs.differing(OTHER._replace(hash_seed=seed)) if table not in differing]
        if not differing:
            return []
        runs.first(STILL)
        by_part = {part: {table for each in alone for table in runs.differing(each)} for part, alone in ALONE}
    finally:
        runs.clear()
    return [(table, *_told(table, by_part)) for table in differing]


def _told(table: str, by_part: dict[str, set[str]]) -> tuple[str, str]:
    """Return the sentence on a table, and the safe way."""
    # Rows that come by chance differ in every run.
    parts = [part for part, tables in by_part.items() if table in tables]
    shown = parts[:1] if parts[:1] == ["chance"] else parts
    safe = " ".join(dict.fromkeys(SAFE.get(part, SAME_TWICE) for part in shown or [""]))
    return f"two runs come to different rows: they depend on {' and '.join(shown) or 'the environment'}", safe


class _Runs:
    def __init__(self, found: tuple[Migration, ...], *, before: Path | None, scratch: Path) -> None:
        self._found = found
        self._before = before
        self._once, self._again, self._made = (scratch / f"check-{name}.db" for name in ("once", "again", "made"))

    def first(self, environment: Environment) -> None:
        """Make the run that others are compared with."""
        if self._before is None and not self._made.exists():
            with closing(open_scratch(self._made)) as connection:
                runner.run_all(connection, self._found[:1])
        self._run(self._once, environment)

    def differing(self, environment: Environment) -> list[str]:
        """Run in an environment and return the tables whose rows differ from those of the first run."""
        self._run(self._again, environment)
        try:
            with closing(open_copy(self._once)) as connection:
                attach_copy(connection, self._again, "again")
                return [difference.table for difference in table_diff.differences(connection, "again")]
        finally:
            snapshot.drop_part(self._again)

    def _run(self, path: Path, environment: Environment) -> None:
        snapshot.scratch_copy(source=self._before or self._made, target=path, told=nobody)
        with closing(open_scratch(path)) as connection:
            pending = tuple(migration for migration in self._found if migration.number > version_of(connection))
            with standing_at(connection, environment.day) if environment.day else nullcontext():
                runner.run_all(connection, pending, among=self._found, environment=environment)

    def clear(self) -> None:
        """Remove the copies."""
        for path in (self._once, self._again, self._made):
            snapshot.drop_part(path)
