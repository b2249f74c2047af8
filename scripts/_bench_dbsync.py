"""dbsync beside plain sqlite3, Alembic and sqlite-utils on one generated shop: time, peak memory, peak disk, checks."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from _bench_steps import STEPS
from _environment import ROOT, say

ITEMS_PER_MEGABYTE = 10_400
LEAST_SECONDS = 0.01
WORK = str(Path(__file__).with_name("_bench_work.py"))
SAMPLE_SECONDS = 0.02
OURS = (
    "backup copied, quick_check, SHA-256; before COMMIT quick_check, structure against a fresh database, rows that"
    " were written against the backup, foreign keys whose rows are not those of before; after it quick_check from"
    " disk, SHA-256"
)
SIDES = {
    "plain": ("sqlite3", "quick_check and foreign_key_check of everything, before COMMIT"),
    "dbsync": ("dbsync", OURS),
    "alembic": ("Alembic", "none"),
    "sqlite_utils": ("sqlite-utils", "none"),
}
BUDGETS = {"UNIQUE rebuild": 1.4}
BACKUPS = {
    "backup_alone": ("copy of a migration, durable", 1.2),
    "backup_pages": ("copy while others write, durable", None),
    "backup_of_migration": ("backup of a migration", 2.5),
    "backup": ("backup by hand", None),
}
"""The labels of the backups, and the budget over `cp`."""
BACK_SECONDS, BACK_BYTES = 30.0, 950_000_000
"""The budget for going back is in seconds, for a shop of 1 GB."""


class Run(NamedTuple):
    """What one child needed."""

    seconds: float
    cpu_seconds: float
    """Of the whole child, with its start; other work on the machine hardly moves it."""
    memory_megabytes: float
    disk_megabytes: float
    """The most that its folder grew by."""
    told: dict


def bench(size_megabytes: int, rounds_count: int) -> None:
    """Makes one shop and runs every work on fresh copies of it, one side after the other in every round."""
    with tempfile.TemporaryDirectory(prefix="tillkeeper-bench-") as place:
        folder = Path(place)
        shop = _make(folder, size_megabytes)
        say(f"{rounds_count} rounds; medians, in brackets the least and the most; {os.cpu_count()} cores")
        cp_seconds = _copies(folder, shop, rounds_count)
        for step, (changes, sql) in STEPS.items():
            migrations = _migrations(folder, changes, sql)
            _upgrades(folder, shop, step, migrations, rounds_count)
            _comparing(folder, shop, step, migrations, cp_seconds, rounds_count)
        for step in ("add a column", "UNIQUE rebuild"):
            _going_back(folder, shop, step, cp_seconds, rounds_count)


def steps(size_megabytes: int) -> None:
    """Says where the time goes: the steps of each migration and of going back over it, by the events of the run."""
    with tempfile.TemporaryDirectory(prefix="tillkeeper-bench-") as place:
        folder = Path(place)
        shop = _make(folder, size_megabytes)
        for step, (changes, sql) in STEPS.items():
            migrations = _migrations(folder, changes, sql)
            with tempfile.TemporaryDirectory(dir=folder) as runs:
                database = _fresh(shop, Path(runs))
                plain = _fresh(shop, Path(_made(Path(runs) / "plain")))
                _say_steps(step, _run(Path(runs), "dbsync", database, migrations, step).told)
                say(f"  {_run(Path(runs), 'plain', plain, migrations, step).seconds:7.2f} s  sqlite3 with its checks")
                if step != "backfill":
                    _run(Path(runs), "trade", database)
                    _settle()
                    _say_steps(
                        f"going back over '{step}'", _run(Path(runs), "downgrade", database, migrations, step).told
                    )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _say_steps(title: str, told: dict) -> None:
    say(f"\n{title}: {told['seconds']:.2f} s; work in a second thread shows only where it is waited for")
    for name, seconds, cpu_seconds in told["steps"]:
        if seconds >= LEAST_SECONDS:
            say(f"  {seconds:7.2f} s {cpu_seconds:7.2f} s CPU  {name}")


def _make(folder: Path, size_megabytes: int, speak: "Callable[[str], None]" = say) -> Path:
    sys.path.insert(0, str(ROOT))
    from tests.sample_till.bundles import copy_migrations

    shop = folder / "shop.db"
    copy_migrations(folder / "base", schema=4)
    speak(f"making a shop of about {size_megabytes} MB ...")
    command = [
        sys.executable, "-m", "dbsync", "upgrade", "--database", str(shop), "--migrations", str(folder / "base"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    told = _run(folder, "fill", shop, size_megabytes * ITEMS_PER_MEGABYTE).told
    tables = ", ".join(f"{name} {count:,}" for name, count in told["tables"].items() if count > 1000)
    speak(f"{shop.stat().st_size / 1e6:.0f} MB, {told['rows']:,} rows: {tables}")
    return shop


def _migrations(folder: Path, changes: str, sql: str) -> Path:
    migrations = folder / "migrations"
    shutil.rmtree(migrations, ignore_errors=True)
    shutil.copytree(folder / "base", migrations)
    header = f"-- changes: {changes}\n" if changes else ""
    (migrations / "0005_step.sql").write_text(header + sql, encoding="utf-8")
    return migrations


# --------------------------------------------------------------------------------------------------------------- works


def _copies(folder: Path, shop: Path, rounds_count: int) -> float:
    runs: dict = {"cp": [], **{name: [] for name in BACKUPS}}
    for number in range(rounds_count):
        for name in _turned(runs, number):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                runs[name].append(_run(Path(place), name, shop, Path(place) / "copy.db"))
    cp = runs["cp"]
    say("\nbackup")
    _say_line("cp + fsync", cp)
    for name, (label, budget) in BACKUPS.items():
        _say_line(label, runs[name], cp, "cp", budget=budget)
    return statistics.median(one.seconds for one in cp)


def _upgrades(folder: Path, shop: Path, step: str, migrations: Path, rounds_count: int) -> None:
    runs: dict = {side: [] for side in SIDES}
    lost = {}
    for number in range(rounds_count):
        for side in _turned(runs, number):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                database = _fresh(shop, Path(place))
                runs[side].append(_run(Path(place), side, database, migrations, step))
                if number == 0:
                    lost[side] = _run(Path(place), "lost", shop, database, step).told
    say(f"\n{step}")
    for side, (label, checks) in SIDES.items():
        others = () if side == "plain" else (runs["plain"], "sqlite3")
        _say_line(label, runs[side], *others, budget=BUDGETS.get(step) if side == "dbsync" else None)
        say(f"    checks: {checks}")
        if lost[side]["found"]:
            say(f"    LOST: {'; '.join(lost[side]['found'])}")
        if not lost[side]["done"]:
            say("    NOT DONE")


def _comparing(folder: Path, shop: Path, step: str, migrations: Path, cp_seconds: float, rounds_count: int) -> None:
    """Conservation alone: nothing changed, and after the rebuild, of what was written and of everything."""
    if step != "UNIQUE rebuild":
        return
    with tempfile.TemporaryDirectory(dir=folder) as place:
        database = _fresh(shop, Path(place))
        _run(Path(place), "plain", database, migrations, step)
        works = {
            "the same database, all tables": (shop, "*"),
            "after the UNIQUE rebuild, all tables": (database, "*"),
            "after the UNIQUE rebuild, tables that were written": (database, "transaction_items"),
            "nothing written: counts only": (shop, "none"),
        }
        runs: dict = {label: [] for label in works}
        for number in range(rounds_count):
            for label in _turned(runs, number):
                one, touched = works[label]
                runs[label].append(_run(Path(place), "compare", one, shop, touched))
    say("\nconservation alone")
    for label, found in runs.items():
        seconds, rows = statistics.median(one.seconds for one in found), found[0].told["rows"]
        each = f", {seconds / rows * 1e6:.2f} microseconds a row" if rows else ""
        say(f"  {label:<52} {seconds:7.2f} s  {seconds / cp_seconds:5.2f} x cp{each}")


def _going_back(folder: Path, shop: Path, step: str, cp_seconds: float, rounds_count: int) -> None:
    migrations, runs = _migrations(folder, *STEPS[step]), []
    for _ in range(rounds_count):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            database = _fresh(shop, Path(place))
            _run(Path(place), "dbsync", database, migrations, step)
            traded = _run(Path(place), "trade", database).told
            _settle()
            runs.append(_run(Path(place), "downgrade", database, migrations, step))
            assert runs[-1].told["totals"] == traded["totals"], "not everything is there"
    middle = statistics.median(one.seconds for one in runs)
    say(f"\ngoing back over '{step}' with two days of sales, edits and voids; verified: nothing is lost")
    _say_line("dbsync downgrade", runs)
    budget = f", budget {BACK_SECONDS:.0f} s: {'met' if middle <= BACK_SECONDS else 'NOT MET'}"
    say(f"    {middle / cp_seconds:.1f} x cp{budget if shop.stat().st_size > BACK_BYTES else ''}")


# ------------------------------------------------------------------------------------------------------------- running


def _fresh(shop: Path, place: Path) -> Path:
    """A copy, in the system's cache like every other one, and on the disk before the clock starts."""
    database = place / "shop.db"
    shutil.copyfile(shop, database)
    _settle()
    return database


def _settle() -> None:
    """Write out what the system holds, before the clock starts."""
    os.sync()


def _turned(runs: dict, number: int) -> list:
    """The sides, each round beginning with another one."""
    names = list(runs)
    return names[number % len(names) :] + names[: number % len(names)]


def _run(folder: Path, work: str, *arguments: object) -> Run:
    """Runs one work in a child of its own, while its folder is watched."""
    before = _size_of(folder)
    most, ended = [before], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            most.append(max(most.pop(), _size_of(folder)))

    process = subprocess.Popen(
        [sys.executable, WORK, work, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.stdout is not None
    assert process.stderr is not None
    text, warned = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    watcher.join()
    if process.returncode != 0:
        sys.exit(f"{work} failed:\n{warned}")
    told = json.loads(text)
    return Run(
        told.get("seconds", 0.0),
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        (most[0] - before) / 1e6,
        told,
    )


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            # It was removed since it was listed.
            continue
    return total


# ------------------------------------------------------------------------------------------------------------- telling


def _say_line(
    label: str,
    runs: list,
    others: "list | None" = None,
    name: str = "",
    *,
    budget: "float | None" = None,
) -> None:
    seconds = [one.seconds for one in runs]
    middle = statistics.median(seconds)
    line = f"  {label:<30} {middle:7.2f} s ({min(seconds):.2f}-{max(seconds):.2f})"
    line += f"  {statistics.median(one.cpu_seconds for one in runs):7.2f} s CPU"
    line += f"  {max(one.memory_megabytes for one in runs):5.0f} MB memory"
    line += f"  {max(one.disk_megabytes for one in runs):6.0f} MB more disk"
    if others is not None:
        # Round by round: whatever else the machine did then met both.
        ratios = [one.seconds / other.seconds for one, other in zip(runs, others, strict=True)]
        ratio = statistics.median(ratios)
        line += f"  {ratio:.2f} x {name} ({min(ratios):.2f}-{max(ratios):.2f})"
        if budget is not None:
            line += f", budget {budget:.1f}: {'met' if ratio <= budget else 'NOT MET'}"
    say(line)
