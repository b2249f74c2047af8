"""Two databases side by side: what was added, changed and removed, for every kind of key, against a second opinion."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.downgrade.changed_rows import Sides, collect
from dbsync.errors import DiskProblem
from dbsync.storage import files as disk_files
from dbsync.storage.connections import attach_copy, check_soundness, open_copy
from dbsync.verification import table_diff
from tests.helpers.shop import dump, files, make_shop, released, upgrade

KEYED = {
    "integer": "CREATE TABLE t (k INTEGER PRIMARY KEY, a, b TEXT)",
    "descending": "CREATE TABLE t (k INTEGER PRIMARY KEY DESC, a, b TEXT)",
    "text": "CREATE TABLE t (k TEXT PRIMARY KEY, a, b TEXT COLLATE NOCASE)",
    "composite": "CREATE TABLE t (k TEXT, a, b TEXT, x INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (x, k))",
    "without rowid": "CREATE TABLE t (k TEXT PRIMARY KEY, a, b TEXT) WITHOUT ROWID",
    "named rowid": 'CREATE TABLE t (k TEXT PRIMARY KEY, a, b TEXT, "rowid" TEXT)',
    "every name taken": 'CREATE TABLE t (k TEXT PRIMARY KEY, a, b TEXT, "rowid" TEXT, _rowid_ TEXT, oid TEXT)',
}
Cells = dict[object, tuple[object, object]]


def make(path: Path, sql: str, rows: Cells, *, order: random.Random | None = None) -> Path:
    """A database with one table; `order` mixes the rowids."""
    with closing(sqlite3.connect(path)) as made, made:
        made.execute(sql)
        listed = [(key, *cells) for key, cells in rows.items()]
        if order is not None:
            order.shuffle(listed)
        made.executemany("INSERT INTO t (k, a, b) VALUES (?, ?, ?)", listed)
    return path


def edited(rows: Cells, chance: random.Random) -> Cells:
    """What people may do: add, remove, and change, be it a storage class, a case or a space only."""
    found = dict(rows)
    keys = list(rows)
    for key in chance.sample(keys, 6):
        del found[key]
    for key in chance.sample(sorted(found, key=str), 9):
        a, b = found[key]
        others = [(str(a), b), (float(str(a)), b), (a, str(b).upper()), (None, b), (a, None), (a, f"{b} ")]
        found[key] = chance.choice(others)
    # Mostly people add at the end, which is a quicker way; some seeds also add before the first row.
    ends = chance.choice([(1000,), (1000, -1000)])
    for number in range(5):
        found[chance.choice(ends) + number if isinstance(keys[0], int) else f"new{number}"] = (number, "new")
    return found


def told(now: Cells, base: Cells) -> tuple[int, int, int]:
    """Added, changed, removed, by Python's own means."""
    changed = [key for key in now.keys() & base.keys() if list(map(repr, now[key])) != list(map(repr, base[key]))]
    return len(now.keys() - base.keys()), len(changed), len(base.keys() - now.keys())


@pytest.mark.parametrize("kind", KEYED)
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_added_changed_and_removed_is_counted_and_found(
    tmp_path: Path, kind: str, mixed: bool, seed: int
) -> None:
    chance = random.Random(seed)
    numbers = kind in ("integer", "descending")
    base: Cells = {(n if numbers else f"k{n}"): (chance.choice([n, f"{n}", n + 0.5]), f"b{n}") for n in range(60)}
    now = edited(base, chance)
    order = chance if mixed else None
    one = make(tmp_path / "now.db", KEYED[kind], now, order=order)
    other = make(tmp_path / "base.db", KEYED[kind], base, order=order)
    wanted = told(now, base)
    with closing(open_copy(one)) as connection:
        attach_copy(connection, other, "base")
        assert table_diff.differences(connection, "base") == (("t", *wanted),)
    with closing(open_copy(other)) as connection:
        attach_copy(connection, other, "base")
        assert table_diff.differences(connection, "base") == ()
    with closing(sqlite3.connect(":memory:", uri=True)) as connection:
        attach_copy(connection, one, "now")
        attach_copy(connection, other, "base")
        found = collect(connection, "t", Sides("now", "base", "changes"))
        cells = [f"{side}{found.columns.index(name)}" for side in "bn" for name in ("k", "a", "b")]
        changes = connection.execute(f"SELECT kind, {', '.join(cells)} FROM changes").fetchall()
    kinds = Counter(kind for kind, *_ in changes)
    assert (kinds["added"], kinds["changed"], kinds["removed"]) == wanted
    for kind, *cells in changes:
        assert kind == "added" or base[cells[0]] == (cells[1], cells[2])
        assert kind == "removed" or now[cells[3]] == (cells[4], cells[5])


@pytest.mark.parametrize("sql", ["CREATE TABLE t (k, a, b)", "CREATE TABLE t (k TEXT PRIMARY KEY, a, b)"])
def test_rows_without_a_key_are_told_apart_by_what_they_hold_and_how_often(tmp_path: Path, sql: str) -> None:
    many = [(None, 1, "x")] * 3 + [(None, 2, "y"), (None, 1.0, "x")]
    for name, rows in (("now", many[:-1]), ("base", many[1:])):
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as made, made:
            made.execute(sql)
            made.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    with closing(open_copy(tmp_path / "now.db")) as connection:
        attach_copy(connection, tmp_path / "base.db", "base")
        (loss,) = table_diff.differences(connection, "base")
    # 1.0 went; of the equal ones a third one came, which only the counts show.
    assert loss == ("t", 1, 0, 1)


def test_equal_rows_without_a_key_are_counted_and_exported_each(tmp_path: Path) -> None:
    kept, added, removed = ("k", 1), ("a", 2), ("r", 3)
    for name, rows in (("now", [kept] * 3 + [added] * 2), ("base", [kept] + [removed] * 2)):
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as made, made:
            made.execute("CREATE TABLE t (a, b)")
            made.executemany("INSERT INTO t VALUES (?, ?)", rows)
    with closing(open_copy(tmp_path / "now.db")) as connection:
        attach_copy(connection, tmp_path / "base.db", "base")
        losses = table_diff.differences(connection, "base")
        table_diff.export(connection, "base", losses, tmp_path)
    assert losses == (("t", 4, 0, 2),)
    assert sorted((tmp_path / "t.csv").read_text().split()) == ["a,2", "a,2", "a,b", "k,1", "k,1"]


def test_the_same_rows_under_other_rowids_are_the_same(tmp_path: Path) -> None:
    rows: Cells = {f"k{n}": (n, "b") for n in range(40)}
    one = make(tmp_path / "now.db", KEYED["text"], rows)
    other = make(tmp_path / "base.db", KEYED["text"], rows, order=random.Random(1))
    with closing(open_copy(one)) as connection:
        attach_copy(connection, other, "base")
        assert table_diff.differences(connection, "base") == ()


def test_damage_in_an_attached_copy_is_not_the_databases_own(tmp_path: Path) -> None:
    rows: Cells = {n: (n, "b" * 100) for n in range(2000)}
    one = make(tmp_path / "now.db", KEYED["integer"], rows)
    other = make(tmp_path / "base.db", KEYED["integer"], rows)
    with other.open("r+b") as file:
        file.seek(4096 * 9)
        file.write(b"\xff" * 4096)
    with closing(open_copy(other)) as connection, pytest.raises(sqlite3.DatabaseError, match="malformed"):
        check_soundness(connection)
    with closing(open_copy(one)) as connection:
        attach_copy(connection, other, "base")
        assert check_soundness(connection) is None


def test_a_backup_whose_checksum_cannot_be_taken_is_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make_shop(tmp_path, schema=2)
    before = dump(database)

    def torn(path: Path) -> str:
        raise DiskProblem(operation="read", path=path, cause="Input/output error")

    monkeypatch.setattr(disk_files, "sha256_of", torn)
    outcome = upgrade(database, released(tmp_path, 4))
    assert (outcome.name, outcome.cause.rpartition(": ")[2]) == ("MACHINE_PROBLEM", "Input/output error")
    assert dump(database) == before
    assert files(database.parent) - {"backups/pos_system.db.counters.json"} == {
        "pos_system.db",
        "backups/dbsync-flight.jsonl",
    }
