"""Every engine that is registered: what it must say of itself, and that it does what it says on real folders.

A new engine needs a sample here; everything else is asked of it by these tests.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from dbsync.backups import bundled_migrations
from dbsync.counters import declaration
from dbsync.errors import BadMigrations, DiskProblem
from dbsync.migrations import folder as migration_folder
from dbsync.migrations import history, runner
from dbsync.migrations.engines import registry
from dbsync.migrations.engines.engine import Engine
from dbsync.model import TABLES_WITHOUT_ENGINE, EngineName, Migration
from dbsync.storage import connections, file_calls, introspection
from dbsync.storage.introspection import NOT_THE_APPS, OUR_TABLES, TRACKERS
from tests.helpers.places import ROOT

ENGINES: Final = ROOT / "dbsync" / "migrations" / "engines"
SHARED: Final = {"__init__", "engine", "foreign", "registry", "settings"}
"""Modules that belong to no one engine."""
FIRST: Final = "CREATE TABLE items (id INTEGER PRIMARY KEY);\n"
COUNTERS: Final = '[[counter]]\nname = "item"\ndescription = "Ids"\ntable = "items"\ncolumn = "id"\nholds = "last"\n'
SECOND: Final = "ALTER TABLE items ADD COLUMN name TEXT;\n"


class Sample(NamedTuple):
    """A small real folder of one tool's, with two migrations."""

    engine: EngineName
    make: Callable[[Path], object]
    table: str = ""
    """The statement with which the tool makes its table; empty: the engine makes it, as the tool does."""


def own(folder: Path) -> None:
    (folder / "0001_items.sql").write_text(FIRST)
    (folder / "0002_names.py").write_text(f'changes = []\n\n\ndef up(db):\n    db.execute("{SECOND.strip()}")\n')


def drizzle(folder: Path) -> None:
    entries = [{"idx": place, "when": 1700 + place, "tag": f"000{place}_step"} for place in range(2)]
    (folder / "meta").mkdir()
    (folder / "meta" / "_journal.json").write_text(
        json.dumps({"version": "7", "dialect": "sqlite", "entries": entries})
    )
    (folder / "0000_step.sql").write_text(FIRST)
    (folder / "0001_step.sql").write_text(SECOND)


def drizzle_of_1_0(folder: Path) -> None:
    for name, text, parents in (("first", FIRST, []), ("second", SECOND, ["first"])):
        place = folder / f"20240131120000_{name}"
        place.mkdir()
        (place / "migration.sql").write_text(text)
        (place / "snapshot.json").write_text(json.dumps({"dialect": "sqlite", "id": name, "prevIds": parents}))


def alembic(folder: Path) -> None:
    (folder / "versions").mkdir()
    (folder / "env.py").touch()
    (folder / "script.py.mako").touch()
    for revision, parent, text in (("aa1", None, FIRST), ("bb2", "aa1", SECOND)):
        (folder / "versions" / f"{revision}_step.py").write_text(
            f"from alembic import op\n\nrevision = {revision!r}\ndown_revision = {parent!r}\n\n\n"
            f'def upgrade():\n    op.execute("{text.strip()}")\n'
        )


def numbered(folder: Path) -> None:
    (folder / "engine.toml").write_text('engine = "numbered"\n')
    (folder / "3_items.up.sql").write_text(FIRST)
    (folder / "3_items.down.sql").write_text("DROP TABLE items;\n")
    (folder / "20_names.sql").write_text(f"-- +goose Up\n{SECOND}-- +goose Down\n")


SAMPLES: Final = {
    "own": Sample(EngineName.OWN, own),
    "drizzle 0.31": Sample(EngineName.DRIZZLE, drizzle),
    "drizzle 1.0": Sample(EngineName.DRIZZLE, drizzle_of_1_0),
    "alembic": Sample(EngineName.ALEMBIC, alembic),
    "dbmate": Sample(
        EngineName.NUMBERED, numbered, "CREATE TABLE schema_migrations (version varchar(128) PRIMARY KEY)"
    ),
    "golang-migrate": Sample(
        EngineName.NUMBERED, numbered, "CREATE TABLE schema_migrations (version uint64, dirty bool)"
    ),
    "goose": Sample(
        EngineName.NUMBERED, numbered,
        "CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY, version_id INTEGER, is_applied INTEGER)",
    ),
}  # fmt: skip


@pytest.fixture(params=list(SAMPLES.values()), ids=list(SAMPLES))
def sample(request: pytest.FixtureRequest) -> Sample:
    assert isinstance(request.param, Sample)
    return request.param


@pytest.fixture
def folder(tmp_path: Path, sample: Sample) -> Path:
    place = tmp_path / "migrations"
    place.mkdir()
    sample.make(place)
    (place / "README.md").write_text("Not read by any engine.\n")
    return place


def without_place(found: tuple[Migration, ...], folder: Path) -> list[Migration]:
    return [migration._replace(path=migration.path.relative_to(folder)) for migration in found]


def test_each_engine_has_a_module_and_a_sample_and_each_module_is_an_engines() -> None:
    assert {sample.engine for sample in SAMPLES.values()} == set(EngineName)
    modules = {path.stem for path in ENGINES.glob("*.py")} - SHARED
    assert modules >= set(EngineName)
    stray = {stem for stem in modules if not any(stem == name or stem.startswith(f"{name}_") for name in EngineName)}
    assert stray == set()


@pytest.mark.parametrize("name", EngineName)
def test_each_engine_says_all_of_itself(name: EngineName) -> None:
    engine = registry.named(name)
    assert isinstance(engine, Engine)
    assert engine.name is name
    assert engine.kept_files
    for patterns in (engine.marks, engine.weak_marks, engine.tables, engine.kept_files):
        assert isinstance(patterns, tuple)
        assert all(isinstance(pattern, str) and pattern for pattern in patterns)
    assert registry.named(name) is engine


@pytest.mark.parametrize("name", EngineName)
def test_an_engines_tables_are_those_of_its_line_and_no_part_of_an_apps_schema(name: EngineName) -> None:
    tables = set(registry.named(name).tables)
    assert tables == ({connections.HISTORY, connections.READABLE} if name is EngineName.OWN else set(name.tables))
    assert tables <= NOT_THE_APPS


def test_no_table_is_set_apart_without_a_tool_of_its_own() -> None:
    named = [table for name in EngineName for table in registry.named(name).tables]
    assert len(named) == len(set(named)), "two engines would write into one table"
    assert frozenset(named) - OUR_TABLES | set(TABLES_WITHOUT_ENGINE) == TRACKERS


def test_a_folder_is_known_by_its_marks_and_by_those_of_no_other_engine(sample: Sample, folder: Path) -> None:
    assert registry.engine_of(folder).name is sample.engine
    for name in EngineName:
        engine = registry.named(name)
        assert name is sample.engine or not registry.is_marked(folder, [*engine.marks, *engine.weak_marks])
    (folder / "README.md").unlink()
    assert registry.engine_of(folder).name is sample.engine
    assert [migration.engine for migration in migration_folder.load(folder)] == [sample.engine] * 2


@pytest.mark.parametrize("name", EngineName)
def test_the_settings_of_a_folder_can_name_each_engine(tmp_path: Path, name: EngineName) -> None:
    (tmp_path / "engine.toml").write_text(f'engine = "{name}"\n')
    assert registry.engine_of(tmp_path).name is name


def test_the_files_that_are_kept_are_enough_to_load_the_folder_again(
    tmp_path: Path, sample: Sample, folder: Path
) -> None:
    found = migration_folder.load(folder)
    before = without_place(found, folder)
    assert {migration_folder.folder_of(migration) for migration in found} == {folder}
    kept = tmp_path / "backups" / "x.db"
    kept.parent.mkdir()
    bundled_migrations.keep(kept, found, owner="shop.db")
    shutil.rmtree(folder)
    copy = tmp_path / "backups" / "x.db.migrations"
    assert without_place(bundled_migrations.beside(kept), copy) == before
    assert not list(copy.rglob("README.md"))
    # It is enough to run them, too.
    (database, *_) = run(tmp_path / "again.db", sample, migration_folder.load(copy))
    assert columns(database) == ["id", "name"]


def test_the_label_of_a_file_is_one_among_those_of_its_folder(folder: Path) -> None:
    found = migration_folder.load(folder)
    labels = [registry.named(migration.engine).file_label(migration) for migration in found]
    assert len(set(labels)) == len(found)
    assert all(label in migration.path.parts for label, migration in zip(labels, found, strict=True))


def test_a_file_that_another_program_holds_says_nothing_about_the_release(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "counters.toml").write_text(COUNTERS)
    read, seen, held = file_calls.read_bytes, set[Path](), set[Path]()

    def noted(path: Path) -> bytes:
        seen.add(path)
        if path in held:
            raise PermissionError(errno.EACCES, "used by another program", str(path))
        return read(path)

    def load() -> None:
        migration_folder.load(folder)
        declaration.load(folder)

    monkeypatch.setattr(file_calls, "read_bytes", noted)
    load()
    assert len(seen) >= 3
    for path in sorted(seen):
        held.add(path)
        with pytest.raises(DiskProblem, match=re.escape(f"{path}: used by another program")):
            load()
        held.clear()


def test_what_was_run_and_noted_is_what_the_tools_table_says(tmp_path: Path, sample: Sample, folder: Path) -> None:
    engine = registry.named(sample.engine)
    found = migration_folder.load(folder)
    database, *said = run(tmp_path / "shop.db", sample, found)
    assert columns(database) == ["id", "name"]
    names = [migration.name for migration in found]
    assert said == [set(names[:1]), set(names)]
    with closing(connections.open_reading(database)) as live:
        assert any(introspection.has_table(live, table) for table in engine.tables)
        assert introspection.tables_of(live) == ["items"], "the tool's table is none of the app's"


@pytest.mark.parametrize(("sample", "entry", "other"), [("own", "up", "upgrade"), ("alembic", "upgrade", "up")])
def test_a_migration_in_python_needs_the_function_that_its_engine_calls(
    tmp_path: Path, sample: str, entry: str, other: str
) -> None:
    SAMPLES[sample].make(tmp_path)
    path = max(tmp_path.rglob("*_*.py"))
    path.write_text(path.read_text().replace(f"def {entry}(", f"def {other}("))
    with pytest.raises(BadMigrations, match=rf"it has no function {entry}\("):
        migration_folder.load(tmp_path)


def run(database: Path, sample: Sample, found: tuple[Migration, ...]) -> tuple[Path, *tuple[set[str], ...]]:
    """Run migrations one by one on a real database; returns it, and what the tool's table says after each."""
    said = []
    engine = registry.named(sample.engine)
    with closing(connections.open_writing(database, create=True)) as live:
        if sample.table:
            live.execute(sample.table)
        for migration in found:
            live.execute("BEGIN")
            runner.apply(
                live, migration, trial_id=None, release=(None, None), at="", milliseconds=lambda: 0, log=lambda _: None
            )
            live.execute("COMMIT")
            recorded = engine.recorded(live, found)
            assert recorded is not None
            assert (recorded.unknown, recorded.problem) == ((), "")
            said.append(set(recorded.names))
        assert [row.number for row in history.applied(live)] == [1, 2], "and ours says the same"
    return database, *said


def columns(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as live:
        return [row[1] for row in live.execute("PRAGMA table_info(items)")]


LOADED = """
import sys
from dbsync import api
assert api.run_migrations(database=sys.argv[1], folder=sys.argv[2]).name == "UP_TO_DATE"
print(*sorted(name.rpartition(".")[2] for name in sys.modules if name.startswith("dbsync.migrations.engines.")))
"""


def test_a_start_with_nothing_pending_loads_no_engine_of_another_tools(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    own(folder)
    (folder / "0003_program.toml").write_text('command = ["{python}", "-c", "", "{database}"]\n')
    words = [sys.executable, "-c", LOADED, str(tmp_path / "shop.db"), str(folder)]
    first = LOADED.replace("UP_TO_DATE", "CREATED")
    subprocess.run([sys.executable, "-c", first, *words[3:]], check=True, capture_output=True)
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) == {"engine", "own", "registry", "settings"}
