"""The story of one real database: taken over, migrated, worked with, taken back, and damaged; each with its proof."""

from __future__ import annotations

import json
import marshal
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple

from dbsync import api
from tests.drills import real_damage, real_people
from tests.drills.content import Content, columns, content, differing, name, opened
from tests.drills.real_course import Course, course, people_have

FIRST = "0001_initial_schema.sql"


class Shop:
    """One database with its folders, and the commands that are run on it. Seconds are kept by step."""

    def __init__(self, folder: Path, source: Path | None = None, *, in_place: Path | None = None) -> None:
        """Takes a copy of `source`, or the database where it lies."""
        self.folder = folder
        self.migrations = folder / "migrations"
        self.seconds: dict[str, float] = {}
        self.migrations.mkdir(parents=True)
        if in_place is not None:
            self.database = in_place
            return
        assert source is not None
        self.database = folder / "data" / source.name
        self.database.parent.mkdir()
        shutil.copyfile(source, self.database)

    def dbsync(self, *words: str | Path, refused: bool = False) -> Any:
        """Runs a command; what it says with --json, else all of it. `refused`: what it says against it."""
        command = [sys.executable, "-m", "dbsync", *map(str, words), "--database", str(self.database)]
        with self.timed(str(words[0])):
            ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=600)
        assert "Traceback" not in ran.stderr, ran.stderr
        if refused:
            assert ran.returncode == 4, ran
            return ran.stderr
        assert ran.stdout, ran.stderr
        if "--json" not in words:
            return ran.stdout
        lines = ran.stdout.splitlines()
        return json.loads(lines[-1] if lines[-1].startswith("{") else ran.stdout)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds to the seconds of a step."""
        began = time.monotonic()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - began

    def adopt(self) -> Content:
        """A database without a history gets one, with nothing of its own touched; what it holds."""
        before = content(self.database)
        self.dbsync("write-schema", self.migrations / FIRST)
        told = self.dbsync("baseline", "--migrations", self.migrations, "--json")
        assert told["schema"] == 1, told
        assert differing(before, content(self.database)) == []
        return before

    def upgrade(self, plan: Course) -> dict[str, Any]:
        """Writes the migrations and runs them; the outcome."""
        for file, text in plan.steps.items():
            (self.migrations / file).write_text(text, encoding="utf-8")
        outcome = self.dbsync("upgrade", "--migrations", self.migrations, "--json")
        assert isinstance(outcome, dict)
        return outcome

    def tried(self, folder: str, file: str, text: str) -> Any:
        """Runs one other second migration; the outcome."""
        place = self.folder / folder
        place.mkdir()
        shutil.copyfile(self.migrations / FIRST, place / FIRST)
        (place / file).write_text(text, encoding="utf-8")
        return api.run_migrations(database=self.database, folder=place)


class Result(NamedTuple):
    """What was seen; everything that could be wrong was asserted."""

    tables_count: int
    rows_count: int
    size_bytes: int
    steps_count: int
    done: real_people.Done
    lossy: real_people.Lossy
    damages_count: int
    same_bytes_count: int
    """How many failed migrations left not only the same content, but the same file."""
    rebuilds_count: int
    seconds: dict[str, float]


def story(source: Path, folder: Path, *, edits_count: int, damages_count: int) -> Result:
    """Everything, in order.

    Raises:
        AssertionError: something is not as it should be.
    """
    shop = Shop(folder, source)
    with opened(source) as one:
        tables = people_have(one)
        rows_count = sum(one.execute(f"SELECT count(*) FROM {name(table)}").fetchone()[0] for table in tables)
    before = shop.adopt()
    same_bytes_count = _damaged(shop, before, damages_count)
    rebuilds_count = _rebuilt(shop, before)
    with shop.timed("choosing (the drill's own)"):
        plan = course(shop.database)
    outcome = shop.upgrade(plan)
    assert outcome["name"] == "MIGRATED", outcome
    done = _worked_and_back(shop, source, before, plan, edits_count)
    lossy = _with_a_loss(shop, plan)
    return Result(
        len(tables), rows_count, source.stat().st_size, len(plan.steps), done, lossy, damages_count, same_bytes_count,
        rebuilds_count, shop.seconds,
    )  # fmt: skip


def _damaged(shop: Shop, before: Content, count: int) -> int:
    """Every silent damage fails, names its table, and leaves the content, and mostly the very file, as it was."""
    same_bytes_count = 0
    with shop.timed("choosing (the drill's own)"):
        chosen = real_damage.damages(shop.database, count=count)
    assert len(chosen) == count, [one.kind for one in chosen]
    was = shop.database.read_bytes()
    for number, damage in enumerate(chosen):
        with shop.timed("a damage fails"):
            outcome = shop.tried(f"damage-{number}", "0002_damage.sql", f"{damage.sql};\n")
        assert outcome.name == "VERIFICATION_FAILED", (damage, outcome)
        named = damage.sql.split()[-1].strip('"').lower() if damage.sql.startswith("DROP") else damage.table.lower()
        assert named in outcome.cause.lower(), (damage, outcome.cause)
        same = shop.database.read_bytes() == was
        same_bytes_count += same
        assert same or differing(before, content(shop.database)) == [], damage
    return same_bytes_count


def _rebuilt(shop: Shop, before: Content) -> int:
    """Every table anew with the definition that it has: no alarm, by the helper and by hand. On copies."""
    count = 0
    texts = {
        "helper": ("0002_again.py", real_damage.rebuilt_by_helper(shop.database)),
        "hand": ("0002_again.sql", real_damage.rebuilt_by_hand(shop.database)),
    }
    for way, (file, text) in texts.items():
        copy = Shop(shop.folder / way, shop.database)
        shutil.copyfile(shop.migrations / FIRST, copy.migrations / FIRST)
        with shop.timed(f"all rebuilt by {way}"):
            outcome = copy.tried("again", file, text)
        assert outcome.name == "MIGRATED", (way, outcome)
        after = content(copy.database)
        assert (after.rows, after.marks) == (before.rows, before.marks)
        count += len(before.rows)
    return count


def _worked_and_back(shop: Shop, source: Path, before: Content, plan: Course, edits_count: int) -> real_people.Done:
    """People write; all of it is carried back, to the row."""
    twin = shop.folder / "twin.db"
    shutil.copyfile(source, twin)
    done = real_people.work(twin, shop.database, plan, edits_count=edits_count)
    expected = content(twin)
    found = shop.dbsync("diff", "--migrations", shop.migrations, "--json")
    assert found["lossless"], found
    told, counted = {one["table"]: one for one in found["done"]}, _counted(twin, before, expected)
    assert told == counted, [
        (told.get(one), counted.get(one)) for one in told | counted if told.get(one) != counted.get(one)
    ]
    returned = shop.dbsync("downgrade", "--yes", "--json")
    assert (returned["outcome"]["name"], returned["losses"], returned["parked"]) == ("CARRIED_BACK", [], None), returned
    assert differing(expected, content(shop.database)) == []
    return done


def _with_a_loss(shop: Shop, plan: Course) -> real_people.Lossy:
    """Up again; what the older schema has no place for is counted to the row, and lost only if a person agrees."""
    assert shop.upgrade(plan)["name"] == "MIGRATED"
    twin = shop.folder / "twin.db"
    lossy = real_people.write_what_is_lost(twin, shop.database, plan, count=5)
    before, expected = shop.database.read_bytes(), content(twin)
    wanted = {plan.biggest: lossy.notes_count}
    if plan.scaled and lossy.odd_count:
        # In a database of one table they are the same rows.
        wanted[plan.scaled[0]] = max(wanted.get(plan.scaled[0], 0), lossy.odd_count)
    found = shop.dbsync("diff", "--json")
    lost = {one["table"]: max(one["changed"], one["added"]) for one in found["lost"]}
    assert (found["lossless"], lost) == (False, wanted), found
    refused = shop.dbsync("downgrade", "--yes", "--json")
    assert refused["outcome"]["name"] == "STAYS", refused
    assert shop.database.read_bytes() == before
    returned = shop.dbsync("downgrade", "--yes", "--accept-loss", "--json")
    assert returned["outcome"]["name"] == "RESTORED_WITH_LOSS", returned
    assert differing(expected, content(shop.database)) == []
    parked = Path(returned["parked"]).read_text(encoding="utf-8").splitlines()
    assert len(parked) == sum(wanted.values()), parked
    return lossy


def _counted(database: Path, before: Content, after: Content) -> dict[str, dict[str, Any]]:
    """What is different between two databases of one schema, counted in Python: by key, and without one by content."""
    found = {}
    with opened(database) as one:
        for table in people_have(one):
            gone, new = before.rows[table] - after.rows[table], after.rows[table] - before.rows[table]
            if not gone and not new:
                continue
            changed = 0
            places = _key(one, table)
            if places:
                keys = [{tuple(marshal.loads(row)[place] for place in places) for row in rows} for rows in (gone, new)]
                changed = len(keys[0] & keys[1])
            found[table] = {
                "table": table, "added": new.total() - changed, "changed": changed, "removed": gone.total() - changed
            }  # fmt: skip
    return found


def _key(connection: Connection, table: str) -> list[int]:
    """Where the columns of the primary key stand, if it tells all rows apart."""
    rows = columns(connection, table)
    keys = [row for row in rows if row[5]]
    nulls = " OR ".join(f"{name(row[1])} IS NULL" for row in keys)
    if not keys or connection.execute(f"SELECT 1 FROM {name(table)} WHERE {nulls}").fetchone():
        return []
    return [rows.index(row) for row in keys]
