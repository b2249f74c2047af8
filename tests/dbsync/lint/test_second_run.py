"""The second run of a check: each part of the environment that gets into rows is found, and named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dbsync.lint.check import check
from tests.helpers.shop import written

FIRST = "CREATE TABLE goods (id INTEGER PRIMARY KEY, kind TEXT); INSERT INTO goods VALUES (1, 'tea'), (2, 'cake');"
CATEGORIES = """    db.execute("CREATE TABLE kinds (id INTEGER PRIMARY KEY, name TEXT)")
    for name in {row[0] for row in db.query("SELECT kind FROM goods")}:
        db.execute("INSERT INTO kinds (name) VALUES (?)", (name,))
"""
TWO = "two runs come to different rows: they depend on "


def python(*body: str) -> str:
    """A migration in Python with this body of `up`."""
    return (
        '"""A step."""\nimport locale\nimport os\nimport time\nfrom datetime import date, datetime\n\n\ndef up(db):\n'
        + "".join(body)
    )


def stores(expression: str) -> str:
    """A migration in Python that stores a value."""
    return python(
        '    db.execute("CREATE TABLE t (x)")\n', f'    db.execute("INSERT INTO t VALUES (?)", (str({expression}),))\n'
    )


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (python(CATEGORIES), f"kinds: {TWO}the hash seed, which orders a set"),
        (stores("hash('bread') % 1000"), f"t: {TWO}the hash seed, which orders a set"),
        (stores("getattr(time, 'loc' + 'altime')(0).tm_hour"), f"t: {TWO}the time zone"),
        ("CREATE TABLE t AS SELECT datetime(id, 'unixepoch', 'localtime') AS at FROM goods;", f"t: {TWO}the time zone"),
        ("CREATE TABLE t AS SELECT strftime('%s', '2020-01-01', 'utc') AS at FROM goods;", f"t: {TWO}the time zone"),
        (stores("locale.setlocale(locale.LC_ALL, '')"), f"t: {TWO}the locale"),
        (stores("[mask := os.umask(0), os.umask(mask)][0]"), f"t: {TWO}the umask"),
        (stores("getattr(date, 'to' + 'day')()"), f"t: {TWO}the clock"),
        (stores("getattr(datetime, 'now')().year"), f"t: {TWO}the clock"),
        (stores("getattr(time, 'strftime')('%Y %H')"), f"t: {TWO}the clock"),
        (stores("getattr(time, 'time_' + 'ns')()"), f"t: {TWO}the clock"),
        (stores("(hash('bread'), getattr(time, 'loc' + 'altime')(0).tm_hour)"),
         f"t: {TWO}the time zone and the hash seed, which orders a set"),
        (stores("os.getpid() % 1 or getattr(__import__('ran' + 'dom'), 'ran' + 'dom')()"), f"t: {TWO}chance"),
        ("CREATE TABLE t (x DEFAULT CURRENT_TIMESTAMP, y); INSERT INTO t (y) VALUES (1);", f"t: {TWO}the clock"),
    ],
)  # fmt: skip
def test_what_rows_depend_on_is_named(tmp_path: Path, step: str, found: str) -> None:
    if sys.platform == "win32" and "umask" in step:
        pytest.skip("there is none")
    written(tmp_path / "m", FIRST, step)
    problems = check(folder=tmp_path / "m", scratch=tmp_path)
    (told,) = (f"{problem.where}: {problem.what}" for problem in problems)
    # A local date differs in another zone for a part of the day.
    assert told.removesuffix(" and the time zone" if "the clock" in found else "") == found
    ways = {"hash seed": "sorted(", "time zone": "UTC", "locale": "format", "clock": "constant", "chance": "constant"}
    assert all(way in problems[0].safe for part, way in ways.items() if part in told), problems[0].safe
    assert {path.name for path in tmp_path.iterdir()} == {"m"}, "nothing is left of the copies"


@pytest.mark.parametrize(
    "step",
    [
        python(CATEGORIES.replace("in {row", "in sorted({row").replace('goods")}:', 'goods")}):')),
        stores("datetime.fromisoformat('2020-01-01').isoformat()"),
        stores("isinstance(datetime(2020, 1, 1), datetime) and datetime(2020, 1, 1) < datetime(2020, 1, 2)"),
        stores("time.strftime('%Y', time.gmtime(0))"),
        "CREATE TABLE t AS SELECT datetime(id, 'unixepoch') AS at FROM goods;",
    ],
)
def test_what_is_the_same_everywhere_raises_no_alarm(tmp_path: Path, step: str) -> None:
    written(tmp_path / "m", FIRST, step)
    assert check(folder=tmp_path / "m", scratch=tmp_path) == []
