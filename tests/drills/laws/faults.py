"""Random faults while a random database goes back, and while it goes up again: nothing is ever in no place.

A worker of it runs with the shim of `tests.drills.faults` preloaded:

    python -m tests.drills.laws.faults '{"seed": 1, "runs": 4, "points": 12, "shim": "…"}'
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.drills.faults.calls import Call
from tests.drills.faults.engine import TRACEBACK, Engine, Fault, Ran
from tests.drills.faults.modes import Mode
from tests.drills.faults.product import import_all
from tests.drills.faults.stage import dbsync
from tests.drills.laws import trade
from tests.drills.laws.cells import ROWID, Picture, bag, in_words, keyed, picture
from tests.drills.laws.course import Case, case_of, problem_of
from tests.drills.laws.judge import Law, all_kept, same_content
from tests.drills.laws.kept import kept_in
from tests.helpers.places import ROOT

IN_MEMORY: Final = Path("/dev/shm")
MODES: Final = (Mode.EIO, Mode.ENOSPC, Mode.EIO_ON, Mode.FULL_ON, Mode.SHORT, Mode.READ, Mode.KILL, Mode.PLUG)
LATER: Final = 75
LOSS: Final = 6


class Job(NamedTuple):
    """The share of a worker."""

    seed: int
    runs: int
    points: int
    """How many faults for each command of a case; 0: one at every call, for each kind of fault."""
    shim: str


class Disturbed(NamedTuple):
    """One command with one fault, judged."""

    seed: int
    command: str
    mode: str
    call: str
    exit_code: int | None
    found: list[str]


class Scene:
    """One case on the production path, with snapshots before each command."""

    def __init__(self, case: Case, folder: Path, engine: Engine) -> None:
        self.case: Final = case
        self.engine: Final = engine
        self.folder: Final = folder / "till"
        self.database: Final = self.folder / "shop.db"
        self.kept: Final = folder / "kept"
        self.elsewhere: Final = folder / "elsewhere"
        self.migrations: Final = folder / "migrations"
        self.elsewhere.mkdir()
        case.write(self.migrations)
        self.older: Final = folder / "older"
        self.older.mkdir()
        for path in sorted(self.migrations.iterdir())[: case.bottom]:
            shutil.copy(path, self.older)

    def words(self, command: str) -> tuple[str, ...]:
        """Return the words of a command."""
        on = ("--database", str(self.database), "--migrations", str(self.migrations))
        return ("upgrade", *on) if command == "upgrade" else ("downgrade", *on, "--yes", "--accept-loss", "--json")

    def run(self, command: str, fault: Fault | None = None) -> Ran:
        """Run a command, perhaps with a fault, and end what it left behind."""
        ran = self.engine.run(dbsync(*self.words(command)), {}, fault=fault)
        self.engine.end_all()
        return ran

    def build(self) -> str:
        """Make the database with the real commands; return why it cannot be made, empty if it is."""
        self.folder.mkdir()
        first = ("upgrade", "--database", str(self.database), "--migrations", str(self.older))
        if self.engine.run(dbsync(*first), {}).exit_code != 0:
            return "the first schema"
        trade.perform(self.database, [*self.case.fill, *self.case.local_before])
        if problem_of(self.database) or self.run("upgrade").exit_code != 0:
            return "its migrations do not run"
        trade.perform(self.database, self.case.trades[0])
        self.keep("newer")
        if self.run("downgrade").exit_code not in (0, LOSS):
            return "it does not go back without a fault"
        self.keep("older")
        return ""

    def keep(self, name: str) -> None:
        """Take a snapshot."""
        shutil.copytree(self.folder, self.kept / name)

    def reset(self, name: str) -> None:
        """Put a snapshot in place."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept / name, self.folder)

    def look(self, path: Path) -> Path:
        """Return a copy of a database, with what lies beside it, that SQLite has recovered."""
        for end in ("", "-wal", "-journal"):
            (self.elsewhere / f"looked.db{end}").unlink(missing_ok=True)
            if Path(f"{path}{end}").exists():
                shutil.copy(f"{path}{end}", self.elsewhere / f"looked.db{end}")
        return self.elsewhere / "looked.db"


def judged(scene: Scene, command: str, ran: Ran, newest: Picture, older: Picture) -> Iterator[str]:
    """Yield what is wrong after a command with a fault.

    Args:
        scene: the case.
        command: downgrade or upgrade.
        ran: how the command ended.
        newest: the database before it went back.
        older: the same after it went back without a fault.
    """
    if TRACEBACK in ran.output:
        yield f"a traceback: {ran.output[-300:]!r}"
    if ran.hung:
        yield "it does not end"
    try:
        looked = scene.look(scene.database)
        problem, live, kept = problem_of(looked), picture(looked), kept_in(looked)
    except (sqlite3.Error, OSError) as error:
        yield f"the live database cannot be read: {error}"
        return
    if problem:
        yield f"the live database is not sound: {problem}"
    up = live.version == newest.version
    wanted = newest if up else older
    yield from (f"live: {found}" for found in same_content(Law.UP_AGAIN, wanted, live))
    if not up:
        alone = _alone(scene, looked)
        if alone is not None:
            yield from (f"live and kept: {found}" for found in all_kept(newest, alone, kept, frozenset()))
    goal = newest.version if command == "upgrade" else older.version
    if ran.exit_code in (0, LOSS) and live.version != goal:
        yield f"exit status {ran.exit_code}, and the schema is {live.version}"
    # What fails after the last step of going back must say so by status 75.
    ended = ran.exit_code in (0, LOSS, LATER, None)
    if not ended and live.version == goal and command == "downgrade":
        yield f"exit status {ran.exit_code}, and it is done: {ran.output[-200:]!r}"
    if command == "downgrade" and not ran.hung:
        yield from _nowhere(scene, newest)
        yield from _said(ran, kept_count=len(kept))


def _alone(scene: Scene, looked: Path) -> Picture | None:
    """Return the older database brought up without what it keeps, by a plain run; None if that is not possible."""
    from dbsync.errors import TillkeeperError
    from dbsync.migrations import folder, runner

    path = Path(shutil.copy(looked, scene.elsewhere / "alone.db"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for table in ("dbsync_kept_cells", "dbsync_kept_rows"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
    try:
        runner.migrate_up(path, folder.load(scene.migrations))
    except TillkeeperError:
        return None
    return picture(path)


def _nowhere(scene: Scene, newest: Picture) -> Iterator[str]:
    """Yield rows that are in no database at all: neither live, nor kept, nor in a copy that was set aside."""
    copies = [path for path in scene.folder.rglob("*.db") if not path.name.startswith(".")]
    for path in copies:
        try:
            looked = scene.look(path)
            if picture(looked).version == newest.version and not any(True for _ in _lacking(newest, picture(looked))):
                return
        except sqlite3.Error:
            continue
    alone = _alone(scene, scene.look(scene.database))
    if alone is not None and not list(all_kept(newest, alone, kept_in(scene.look(scene.database)), frozenset())):
        return
    yield "no file holds every row: neither the live one with what it keeps, nor one that was set aside"


def _lacking(before: Picture, after: Picture) -> Iterator[str]:
    for name, rows in before.tables.items():
        key = before.keys[name]
        if key == (ROWID,):
            yield from (in_words(dict(row)) for row in bag(rows) - bag(after.tables.get(name, [])))
            continue
        found = keyed(after.tables.get(name, []), key)
        yield from (in_words(row) for place, row in keyed(rows, key).items() if found.get(place) != row)


def _said(ran: Ran, *, kept_count: int) -> Iterator[str]:
    """Yield where the report of a downgrade does not agree with what is kept."""
    if ran.exit_code not in (0, LOSS):
        return
    try:
        said: dict[str, Any] = json.loads(ran.output[ran.output.index("{\n") :])
    except ValueError:
        yield f"no report: {ran.output[-200:]!r}"
        return
    if bool(said.get("lost")) != bool(kept_count):
        yield f"{kept_count} rows are kept, and what is said to be lost is {said.get('lost')}"


def disturbed(scene: Scene, command: str, mode: Mode, call: Call, newest: Picture, older: Picture) -> Disturbed | None:
    """Run a command with a fault, judge it, repeat it, judge that; None if the fault never came."""
    scene.reset("newer" if command == "downgrade" else "older")
    ran = scene.run(command, Fault(mode, call.number))
    if not ran.was_hit:
        return None
    found = list(judged(scene, command, ran, newest, older))
    again = scene.run(command)
    if again.exit_code not in (0, LOSS) and picture(scene.look(scene.database)).version != _goal(
        command, newest, older
    ):
        found.append(f"the repeated command ends with {again.exit_code}: {again.output[-300:]!r}")
    elif not found:
        found += [f"after the repeated command: {text}" for text in _at_the_end(scene, command, newest, older)]
    left = [path.name for path in scene.folder.rglob(".part-*")]
    found += [f"left behind: {name}" for name in left]
    return Disturbed(scene.case.seed, command, mode.value, str(call), ran.exit_code, found)


def _goal(command: str, newest: Picture, older: Picture) -> int:
    return newest.version if command == "upgrade" else older.version


def _at_the_end(scene: Scene, command: str, newest: Picture, older: Picture) -> Iterator[str]:
    wanted = newest if command == "upgrade" else older
    live = picture(scene.look(scene.database))
    yield from map(str, same_content(Law.UP_AGAIN, wanted, live))


def cases_of(job: Job) -> Iterator[Disturbed]:
    """Run the share of a worker."""
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    import_all(publish=False)
    done = 0
    for seed in range(job.seed, job.seed + 20 * job.runs):
        if done == job.runs:
            return
        folder = Path(tempfile.mkdtemp(prefix="laws-faults-", dir=place)).resolve()
        orders = folder / "engine"
        orders.mkdir()
        engine = Engine(orders, Path(job.shim))
        try:
            scene = Scene(case_of(seed), folder, engine)
            scene.case.local_after.clear()
            if scene.build():
                continue
            done += 1
            yield from _of_scene(scene, job.points)
        finally:
            engine.close()
            shutil.rmtree(folder, ignore_errors=True)


def _of_scene(scene: Scene, points_count: int) -> Iterator[Disturbed]:
    scene.reset("newer")
    newest = picture(scene.look(scene.database))
    scene.reset("older")
    older = picture(scene.look(scene.database))
    for command in ("downgrade", "upgrade"):
        scene.engine.watch(scene.folder)
        calls = {reading: _calls(scene, command, reading=reading) for reading in (False, True)}
        pairs = [(mode, call) for mode in MODES for call in calls[mode.reading] if mode.fits(call)]
        if points_count:
            pairs = random.Random(scene.case.seed).sample(pairs, min(points_count, len(pairs)))
        for mode, call in pairs:
            found = disturbed(scene, command, mode, call, newest, older)
            if found is not None:
                yield found


def _calls(scene: Scene, command: str, *, reading: bool) -> Sequence[Call]:
    scene.reset("newer" if command == "downgrade" else "older")
    mode = Mode.READ if reading else Mode.PLUG
    _, calls = scene.engine.trace(dbsync(*scene.words(command)), {}, mode=mode)
    scene.engine.end_all()
    return [call for call in calls if call.number]


def started(job: Job) -> Iterator[Disturbed]:
    """Run a worker in a process of its own and yield what it finds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TILLKEEPER_")}
    environment |= {"LD_PRELOAD": job.shim, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.drills.laws.faults", json.dumps(job._asdict())]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            yield Disturbed(*json.loads(line))
    if worker.returncode != 0:
        raise RuntimeError(f"a worker of the drill ended with {worker.returncode}")


def main() -> int:
    """Run the job on the command line."""
    fields: dict[str, Any] = json.loads(sys.argv[1])
    for found in cases_of(Job(**fields)):
        print(json.dumps(list(found)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
