"""SQLite's clock set to another day, so that values that a migration takes from it differ in the second run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

from dbsync.storage.connections import Connection, open_scratch

_FUNCTIONS: Final = {
    "date": 0, "time": 0, "datetime": 0, "julianday": 0, "unixepoch": 0, "strftime": 1, "timediff": 2,
    "current_timestamp": 0, "current_date": 0, "current_time": 0,
}  # fmt: skip
"""Functions that know the time, and how many arguments come before it (sqlite.org/lang_datefunc.html)."""


@contextmanager
def standing_at(connection: Connection, day: str) -> Iterator[None]:
    """A context in which every function that reads the clock returns `day`; other days are computed as always.

    CURRENT_TIMESTAMP is a function inside SQLite, also as a column's default and in triggers, so this reaches them all.
    """
    with closing(open_scratch()) as real:
        known = {str(row[0]) for row in real.execute("SELECT name FROM pragma_function_list")}
        for name, before_count in _FUNCTIONS.items():
            if name in known:
                connection.create_function(name, -1, _shifted(real, name, before_count, day), deterministic=True)
        yield


def _shifted(real: Connection, name: str, before_count: int, day: str) -> Callable[..., Any]:
    plain = name.removeprefix("current_").replace("timestamp", "datetime") if name.startswith("current_") else name

    def answer(*values: object) -> Any:
        given = values if len(values) > before_count else (*values, day)
        asked = [day if isinstance(value, str) and value.lower() == "now" else value for value in given]
        return real.execute(f"SELECT {plain}({', '.join('?' * len(asked))})", asked).fetchone()[0]

    return answer
