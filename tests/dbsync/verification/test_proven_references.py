"""A proof that rows are the same never hides a reference that a migration breaks: judged with it and without it."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

from dbsync.errors import MigrationFailed
from dbsync.migrations import runner
from dbsync.storage.connections import attach_copy, open_writing
from dbsync.verification import checks
from dbsync.verification.conservation import OLD
from tests.helpers.damages import BASE, CASCADES, DAMAGES, HARMLESS, base_shop, rebuild
from tests.helpers.declarations import DECLARED
from tests.helpers.shop import written

CHILD = "id INTEGER PRIMARY KEY AUTOINCREMENT, parent TEXT REFERENCES parent(id) ON DELETE CASCADE, note TEXT"
LATE = (
    "id INTEGER PRIMARY KEY, parent TEXT REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED,"
    " code TEXT UNIQUE ON CONFLICT REPLACE"
)
SOFT = "id INTEGER PRIMARY KEY, parent TEXT COLLATE NOCASE REFERENCES parent(id)"
STATEMENTS = (
    "UPDATE child SET note = 'x'",
    "UPDATE child SET parent = parent",
    "UPDATE child SET parent = 'p9' WHERE id = 1",
    "UPDATE parent SET name = name || '!'",
    "UPDATE OR REPLACE parent SET name = 'Ann' WHERE id = 'p2'",
    "UPDATE parent SET id = upper(id) WHERE id = 'p1'",
    "UPDATE parent SET rowid = rowid + 10",
    "REPLACE INTO parent VALUES ('p1', 'Ann')",
    "REPLACE INTO parent VALUES ('p7', 'Bo')",
    "DELETE FROM parent WHERE id = 'p3'",
    "INSERT INTO parent VALUES ('p3', 'Cy')",
    "INSERT INTO late VALUES (2, 'p2', 'two')",
    "UPDATE late SET code = 'one'",
    "UPDATE soft SET parent = CASE parent WHEN 'p1' THEN 'p2' ELSE 'p1' END",
    "UPDATE soft SET id = id + 5",
    rebuild("child", CHILD, "id, parent, note"),
    rebuild("child", CHILD, "id, parent, note", "id, CASE id WHEN 2 THEN 'p8' ELSE parent END, note"),
    rebuild("child", CHILD.replace("TEXT REF", "BLOB REF"), "id, parent, note"),
    rebuild("late", LATE, "id, parent, code"),
    rebuild("soft", SOFT, "id, parent", "id, upper(parent)"),
    rebuild("parent", "id TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE", "id, name"),
    rebuild("parent", "id TEXT, name TEXT NOT NULL COLLATE NOCASE UNIQUE", "id, name"),
    rebuild("parent", "id TEXT COLLATE NOCASE PRIMARY KEY, name TEXT", "id, name"),
    "UPDATE child SET parent = 'P1' WHERE id = 1",
)  # fmt: skip
LINES = (
    "update child.parent", "update child.parent where o.id = 1", "update child.note", "update parent.name",
    "update soft.parent", "update soft",
    "retype child.parent", "delete parent", "insert parent", "update late.code", "delete late",
)  # fmt: skip
ROUNDS = 90


def test_a_proof_hides_no_reference_that_a_migration_breaks(tmp_path: Path) -> None:
    database = base_shop(tmp_path)
    chance = random.Random(11)
    steps = [*((step, "") for step, _, _ in DAMAGES.values()), *((step, "") for step in HARMLESS.values())]
    steps += [(step, line) for line, step, _ in DECLARED.values()] + [(step, "") for step, _ in CASCADES.values()]
    for _ in range(ROUNDS):
        some = chance.sample(STATEMENTS, chance.randint(1, 4))
        lines = chance.sample(LINES, chance.randint(0, 3))
        steps.append(("; ".join(statement.rstrip(";") for statement in some) + ";", "\n-- changes: ".join(lines)))
    judged, broken, proven = 0, 0, 0
    with closing(open_writing(database)) as connection:
        before = tmp_path / "before.db"
        before.write_bytes(database.read_bytes())
        attach_copy(connection, before, OLD)
        for number, (step, line) in enumerate(steps):
            text = f"-- changes: {line}\n{step}" if line else step
            found = written(tmp_path / f"m{number}", BASE, text)
            connection.execute("BEGIN IMMEDIATE")
            try:
                seen = runner.apply_all(connection, found[1:])
            except MigrationFailed:
                connection.execute("ROLLBACK")
                continue
            same: dict[str, frozenset[str]] = {}
            case = checks.Case(connection, found, has_old=True, touched=seen, same=same)
            checks.conserved(case)
            told = checks.foreign_keys(case)
            assert told == checks.foreign_keys(case._replace(same=None)), text
            judged, broken, proven = judged + 1, broken + bool(told), proven + any(same.values())
            connection.execute("ROLLBACK")
    print(f"{judged} migrations, {broken} of them break a reference, in {proven} rows were proven to be the same")
    assert (judged > 180, broken > 40, proven > 40) == (True, True, True)
