"""What is declared is allowed, and no more; declarations of several migrations are taken together."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbsync.errors import BadMigrations
from dbsync.schema.declarations import declared
from tests.helpers.damages import run
from tests.helpers.declarations import DECLARED
from tests.helpers.shop import version, written


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_declared_is_allowed_and_no_more(tmp_path: Path, name: str) -> None:
    line, step, words = DECLARED[name]
    database, outcome = run(tmp_path, step, line)
    if words is None:
        assert outcome.name == "MIGRATED", outcome.cause
    else:
        assert outcome.name == "VERIFICATION_FAILED"
        assert words in outcome.cause, outcome.cause
    assert version(database) == (2 if words is None else 1)


@pytest.mark.parametrize("line", ["", "destroy everything", "update", "rename a", "drop product", "retype product"])
def test_a_declaration_that_is_not_understood_is_said_so_before_anything_runs(tmp_path: Path, line: str) -> None:
    found = written(tmp_path / "m", f'"""x"""\nchanges = [{line!r}]\n\n\ndef up(db):\n    pass\n')
    with pytest.raises(BadMigrations, match="is not understood"):
        declared(found)


def test_two_migrations_that_speak_of_one_column_prove_nothing_about_the_whole_way(tmp_path: Path) -> None:
    texts = (
        "-- changes: update product.price = o.price + 1\nUPDATE product SET price = price + 1;",
        "-- changes: update product.price = o.price * 2\nUPDATE product SET price = price * 2;",
    )
    found = written(tmp_path / "m", *texts)
    assert declared(found).updates == {("product", "price"): (None, None)}
    assert declared(found[:1]).updates[("product", "price")].value == "o.price + 1"


def test_a_table_that_only_a_string_names_takes_no_condition_away(tmp_path: Path) -> None:
    texts = (
        "-- changes: update product.price where o.kind = 'category' -- not category\nUPDATE product SET price = 1;",
        "-- changes: update category.name\nUPDATE category SET name = 'x';",
    )
    condition = "o.kind = 'category' -- not category"
    assert declared(written(tmp_path / "m", *texts)).updates[("product", "price")].where == condition


def test_names_in_any_quotes_and_names_of_kinds_are_names(tmp_path: Path) -> None:
    lines = (
        'update "a ""b""".[c d] , `e``f` where o.x = "a, b -> c"',
        "rename table.column->index . view",
        "redefine table",
        "redefine table table",
        "drop column [trigger].where",
        "retype where.update",
        "insert größe where n.x = ';'",
    )
    found = declared(written(tmp_path / "m", f'"""x"""\nchanges = {list(lines)!r}\n\n\ndef up(db):\n    pass\n'))
    assert found.updates == {
        ('a "b"', "c d"): ('o.x = "a, b -> c"', None),
        ("e`f", "*"): ('o.x = "a, b -> c"', None),
    }
    assert found.columns == {("table", "column"): "view"}
    assert found.redefines == {("table", "table")}
    assert found.drops == {("column", "trigger.where")}
    assert found.retypes == {("where", "update")}
    assert found.inserts == {"größe": "n.x = ';'"}


def test_a_column_that_is_renamed_twice_keeps_the_name_that_it_had_before(tmp_path: Path) -> None:
    texts = (
        "-- changes: rename a -> b\n-- changes: rename b.x -> b.y\n",
        "-- changes: rename b.y -> b.z\n-- changes: update b.z\n",
    )
    found = declared(written(tmp_path / "m", *texts))
    assert (found.tables, found.columns) == ({"a": "b"}, {("a", "x"): "z"})
    assert list(found.updates) == [("a", "x")]
