"""The environment in which migrations run: the same on every terminal, so that none of it gets into the data.

Python code and programs get it with their process (`code_process`, `engines.own_command`), SQLite's own functions get
the time zone of this process. `dbsync check` runs everything again in another environment (`lint.second_run`).
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from dbsync.storage.platform import this_platform


class Environment(NamedTuple):
    """All that a migration could see of the machine and that differs between machines."""

    hash_seed: int
    """Of Python's hashes of texts, which decide in which order a set is walked."""
    time_zone: str
    """In the form of POSIX, which needs no table of zones: the name and the hours west of UTC. The runtime of Windows
    knows only names of three letters (learn.microsoft.com, _tzset)."""
    locale: str
    umask: int
    day: str = ""
    """A time, as SQLite writes one, at which every clock stands; empty: clocks are right."""

    @property
    def variables(self) -> dict[str, str]:
        """The variables that give a process this environment, but for the umask and the clocks."""
        return {
            "PYTHONHASHSEED": str(self.hash_seed),
            "TZ": self.time_zone,
            "LC_ALL": self.locale,
            "LANGUAGE": "",
        }

    @property
    def in_words(self) -> str:
        """The environment as it is recorded with a migration that ran in it."""
        return (
            f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, hash seed {self.hash_seed},"
            f" TZ {self.time_zone}, locale {self.locale}, umask {self.umask:03o}"
        )


PINNED: Final = Environment(hash_seed=0, time_zone="UTC0", locale="C.UTF-8", umask=0o077)
"""The environment of every terminal, rehearsal and check."""
OTHER: Final = Environment(
    hash_seed=1, time_zone="OTH-13:45", locale="de_DE.UTF-8", umask=0o027, day="2031-03-04 05:06:07.089"
)
"""An environment that differs from it in everything, for the second run of a check."""


@contextmanager
def time_zone_of(environment: Environment) -> Iterator[None]:
    """A block in which SQLite's `localtime` and `utc` compute with the environment's time zone, in this whole process.

    Killed inside, nothing is left: it is the process's own setting.
    """
    before = os.environ.get("TZ")
    os.environ["TZ"] = environment.time_zone
    this_platform().reread_time_zone()
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = before
        this_platform().reread_time_zone()
