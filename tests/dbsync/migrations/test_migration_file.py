"""Files of migrations: needs of the app in a header, and functions whose call would run nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbsync.errors import BadMigrations
from dbsync.lint.check import check
from dbsync.migrations import folder
from dbsync.model import Need, NeedKind
from dbsync.outcomes import OutcomeName
from tests.helpers.shop import files, upgrade, written

HEAD = '"""A step."""\n'
SHOP = "CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INT);"


def test_needs_are_read_from_a_header_in_sql_and_from_a_list_in_python(tmp_path: Path) -> None:
    in_sql, in_python = written(
        tmp_path / "m",
        '-- needs: function REGEXP\n-- needs: collation "de DE"\n-- needs: module spellfix1\nSELECT 1;',
        f'{HEAD}needs = ["tokenizer german"]\n\n\ndef up(db):\n    pass\n',
    )
    assert in_sql.needs == (
        Need(NeedKind.FUNCTION, "REGEXP"), Need(NeedKind.COLLATION, "de DE"), Need(NeedKind.MODULE, "spellfix1"),
    )  # fmt: skip
    assert in_python.needs == (Need(NeedKind.TOKENIZER, "german"),)
    assert files(tmp_path) == {"m/0001_step.sql", "m/0002_step.py"}


def test_needs_of_another_tools_file_stand_in_the_settings_of_its_folder(tmp_path: Path) -> None:
    place = tmp_path / "m"
    place.mkdir()
    (place / "1_begin.sql").write_text(SHOP)
    declared = '[declared.1_begin]\nneeds = ["function REGEXP"]\n'
    (place / "engine.toml").write_text(f'engine = "numbered"\n{declared}')
    (migration,) = folder.load(place)
    assert migration.needs == (Need(NeedKind.FUNCTION, "REGEXP"),)
    assert files(tmp_path) == {"m/1_begin.sql", "m/engine.toml"}


@pytest.mark.parametrize("line", ["REGEXP", "function", "functions REGEXP", "", "Function REGEXP"])
def test_a_need_of_another_form_is_refused_with_the_forms(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadMigrations, match=r"the need .* is not understood") as caught:
        written(tmp_path / "m", f"-- needs: {line}\nSELECT 1;")
    assert "`function NAME`" in caught.value.hint


def test_a_need_below_the_first_statement_is_told_as_not_read(tmp_path: Path) -> None:
    written(tmp_path / "m", f"{SHOP}\n-- needs: function REGEXP")
    (problem,) = check(folder=tmp_path / "m", scratch=tmp_path)
    assert problem.what == "`-- needs: function REGEXP` is not read"


STEPS = "def steps(db):\n    yield\n\n\ndef up(db):\n    return steps(db)\n"
NOT_RUN = {
    "a generator": "def up(db):\n    db.execute('DELETE FROM sale')\n    yield\n",
    "a generator of others": "def up(db):\n    if db:\n        yield from ()\n",
    "async": "async def up(db):\n    db.execute('DELETE FROM sale')\n",
    "the last one counts": "def up(db):\n    pass\n\n\ndef up(db):\n    yield\n",
}
RETURNS = {
    "another generator": (STEPS, "generator"),
    "a coroutine": ("async def steps(db):\n    pass\n\n\ndef up(db):\n    return steps(db)\n", "coroutine"),
    "an asynchronous generator": (
        "async def steps(db):\n    yield\n\n\ndef up(db):\n    return steps(db)\n", "async_generator",
    ),
    "a function": ("def up(db):\n    return lambda: db.execute('DELETE FROM sale')\n", "function"),
    "a lazy map": ("def up(db):\n    return map(db.execute, ['DELETE FROM sale'])\n", "map"),
    "a context": (
        f"from contextlib import contextmanager\n\n\n@contextmanager\n{STEPS}", "_GeneratorContextManager",
    ),
}  # fmt: skip
RUN = {
    "a list": "def up(db):\n    return db.query('SELECT 1')\n",
    "a number": "def up(db):\n    return db.execute('SELECT 1')\n",
    "a generator inside": "def up(db):\n    def numbers():\n        yield 1\n\n    for _ in numbers():\n        pass\n",
    "a generator expression": "def up(db):\n    sum(number for number in range(2))\n",
}


@pytest.mark.parametrize("name", NOT_RUN)
def test_a_function_whose_call_would_run_nothing_is_refused_as_it_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "0001_step.py").write_text(NOT_RUN[name])
    with pytest.raises(BadMigrations, match="so a call would not run it"):
        folder.load(tmp_path / "m")
    (problem,) = check(folder=tmp_path / "m", scratch=tmp_path)
    assert problem.where.endswith("0001_step.py")
    assert "up(db)" in problem.what
    assert files(tmp_path) == {"m/0001_step.py"}


@pytest.mark.parametrize("name", RETURNS)
@pytest.mark.filterwarnings("error")
def test_a_function_that_returns_what_would_have_to_be_run_has_failed(tmp_path: Path, name: str) -> None:
    text, kind = RETURNS[name]
    found = written(tmp_path / "m", SHOP, HEAD + text)
    database = tmp_path / "s.db"
    upgrade(database, found[:1])
    outcome = upgrade(database, found)
    assert outcome.name is OutcomeName.MIGRATION_FAILED
    assert outcome.cause == f"it returned {kind} instead of running, so its statements were not run"
    assert kind in str(check(folder=tmp_path / "m", scratch=tmp_path))
    assert upgrade(database, found[:1]).version_after == 1
    assert {name for name in files(tmp_path) if "/" not in name} == {"s.db"}


@pytest.mark.parametrize("name", RUN)
def test_what_other_functions_return_is_their_own_matter(tmp_path: Path, name: str) -> None:
    found = written(tmp_path / "m", HEAD + RUN[name])
    assert upgrade(tmp_path / "s.db", found).name is OutcomeName.CREATED
