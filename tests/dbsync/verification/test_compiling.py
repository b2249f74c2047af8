"""A migrated database must work: what compiles, what fails and why, and what only the app could tell."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.lint.check import check
from dbsync.model import NO_SHA256, Migration, MigrationKind, Need, NeedKind, SchemaNumber
from dbsync.outcomes import ExitStatus, OutcomeName
from dbsync.schema.declarations import declared
from dbsync.verification import compiling
from dbsync.verification.compiling import IMPOSSIBLE, Action, Verb
from dbsync.verification.schema_copy import Schema, schema_of
from dbsync.verification.working import Judgement, judge
from tests.dbsync.cli.test_check import dbsync
from tests.helpers.shop import files, upgrade, written

SELECT, INSERT, DELETE = Action(Verb.SELECT), Action(Verb.INSERT), Action(Verb.DELETE)
SALE = "CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INT);"
AUDIT = "CREATE TABLE audit (id INTEGER PRIMARY KEY, sale INT, who TEXT);"
STAMP = "CREATE TRIGGER stamp AFTER INSERT ON sale BEGIN INSERT INTO audit (sale, who) VALUES (new.id, 'x'); END;"
USES = "uses table audit, which the migration drops"


def schema(sql: str, add: Callable[[sqlite3.Connection], None] = lambda _: None) -> Schema:
    """The schema that an app makes; `add` gives its connection the functions that only the app has."""
    with closing(sqlite3.connect(":memory:")) as connection:
        add(connection)
        connection.executescript(sql)
        return schema_of(connection)


def tax(connection: sqlite3.Connection) -> None:
    connection.create_function("tax", 1, lambda value: value, deterministic=True)
    connection.create_collation("german", lambda one, other: (one > other) - (one < other))


def judged(before: str, after: str, *, changes: tuple[str, ...] = (), needs: tuple[Need, ...] = ()) -> Judgement:
    migration = Migration(
        number=SchemaNumber(2), name="m", description="", sha256=NO_SHA256, replaces=(), readable_from=None,
        changes=changes, kind=MigrationKind.SQL, path=Path("0002_m.sql"), needs=needs,
    )  # fmt: skip
    return judge(schema(before, tax), schema(after, tax), declared([migration]), needs)


# ------------------------------------------------------------------------------------------------------ one statement


def test_every_statement_on_every_table_and_view_is_compiled() -> None:
    made = compiling.survey(
        schema(SALE + "CREATE VIEW report AS SELECT id FROM sale; CREATE VIRTUAL TABLE found USING fts5(name);")
    )
    of_sale = {str(action): result for (name, action), result in made.results.items() if name == "sale"}
    assert set(of_sale) == {
        "SELECT", "INSERT", "INSERT OR REPLACE", "INSERT DEFAULT VALUES", "UPDATE of id", "UPDATE of cents", "DELETE",
    }  # fmt: skip
    assert set(of_sale.values()) == {compiling.Compiled()}
    assert made.results["report", SELECT] == compiling.Compiled()
    assert made.results["report", INSERT] is IMPOSSIBLE
    assert made.results["found", DELETE] == compiling.Compiled()
    assert not [name for name, _ in made.results if name.startswith(("found_", "sqlite_"))]


def test_a_failure_only_of_foreign_keys_is_kept_apart() -> None:
    made = compiling.survey(schema("CREATE TABLE line (id INTEGER PRIMARY KEY, sale INT REFERENCES sale (id))"))
    assert made.results["line", INSERT] == compiling.Compiled(keys_cause="no such table: main.sale")
    assert made.results["line", SELECT] == compiling.Compiled()


def test_a_string_in_double_quotes_is_told_from_a_column() -> None:
    made = compiling.survey(
        schema(SALE + 'CREATE TRIGGER t AFTER INSERT ON sale BEGIN UPDATE sale SET cents = "later"; END;')
    )
    assert made.results["sale", INSERT] == compiling.Compiled(quoted_cause="no such column: later")


@pytest.mark.parametrize(
    ("sql", "name", "need"),
    [
        (SALE + "CREATE VIEW v AS SELECT tax(cents) FROM sale;", "v", Need(NeedKind.FUNCTION, "tax")),
        (SALE + "CREATE VIEW v AS SELECT id FROM sale WHERE id REGEXP 'x';", "v", Need(NeedKind.FUNCTION, "REGEXP")),
        ("CREATE TABLE t (a CHECK (tax(a) > 0));", "t", Need(NeedKind.FUNCTION, "tax")),
        ("CREATE TABLE t (a, b AS (tax(a)));", "t", Need(NeedKind.FUNCTION, "tax")),
        ("CREATE TABLE t (a); CREATE INDEX i ON t (tax(a));", "t", Need(NeedKind.FUNCTION, "tax")),
        ("CREATE TABLE t (a); CREATE INDEX i ON t (a) WHERE tax(a) > 1;", "t", Need(NeedKind.FUNCTION, "tax")),
        ("CREATE TABLE t (a COLLATE german UNIQUE);", "t", Need(NeedKind.COLLATION, "german")),
        (SALE + "CREATE VIEW v AS SELECT value FROM series(1, 3);", "v", Need(NeedKind.MODULE, "series")),
    ],
)
def test_what_only_the_app_has_is_named_and_counts_neither_as_working_nor_as_failing(
    sql: str, name: str, need: Need
) -> None:
    made = compiling.survey(schema(sql, tax))
    results = [result for (each, _), result in made.results.items() if each == name]
    assert {need} == {each for result in results for each in result.needs}
    assert not any(result.cause or result.keys_cause for result in results)


def test_a_table_of_an_unknown_module_and_an_index_with_an_unknown_tokenizer_are_named() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE plain (a)")
        connection.execute("PRAGMA writable_schema=ON")
        for name, rest in (("near", "spellfix1"), ("found", "fts5(a, tokenize = 'german')")):
            sql = f"CREATE VIRTUAL TABLE {name} USING {rest}"
            connection.execute("INSERT INTO sqlite_master VALUES ('table', ?, ?, 0, ?)", (name, name, sql))
        connection.execute("PRAGMA writable_schema=RESET")
        made = compiling.survey(schema_of(connection))
    assert made.results["near", SELECT].needs == {Need(NeedKind.MODULE, "spellfix1")}
    (need,) = made.results["found", SELECT].needs
    # Newer versions of SQLite only name the module.
    assert need in (Need(NeedKind.TOKENIZER, "german"), Need(NeedKind.MODULE, "fts5"))
    assert made.results["plain", INSERT] == compiling.Compiled()


def test_a_function_of_the_app_does_not_hide_what_fails_beside_it() -> None:
    gone = judged(
        "CREATE TABLE t (a CHECK (tax(a) > 0));" + AUDIT
        + "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO audit (sale) VALUES (new.a); END;",
        "CREATE TABLE t (a CHECK (tax(a) > 0));"
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO audit (sale) VALUES (new.a); END;",
    )  # fmt: skip
    assert gone.failing == [f"trigger g on t {USES}: INSERT on t fails (no such table: main.audit)"]
    assert gone.undeclared == []


# ------------------------------------------------------------------------------------------------------- before, after

BREAKING = {
    "trigger on a dropped table": (SALE + AUDIT + STAMP, SALE + STAMP, (), f"trigger stamp on sale {USES}"),
    "trigger of a trigger": (
        SALE + AUDIT + STAMP + "CREATE TABLE log (a);"
        "CREATE TRIGGER g AFTER INSERT ON audit BEGIN INSERT INTO log VALUES (1); END;",
        SALE + AUDIT + STAMP + "CREATE TRIGGER g AFTER INSERT ON audit BEGIN INSERT INTO log VALUES (1); END;", (),
        "trigger g on audit uses table log, which the migration drops: INSERT on sale and INSERT on audit fail",
    ),
    "two triggers": (
        SALE + AUDIT + STAMP + "CREATE TRIGGER g AFTER INSERT ON sale BEGIN DELETE FROM audit; END;",
        SALE + STAMP + "CREATE TRIGGER g AFTER INSERT ON sale BEGIN DELETE FROM audit; END;", (),
        "trigger stamp on sale and trigger g on sale use table audit, which the migration drops: INSERT on sale fails",
    ),
    "view on a dropped table": (
        AUDIT + "CREATE VIEW v AS SELECT id FROM audit;", "CREATE VIEW v AS SELECT id FROM audit;", (),
        f"view v {USES}: SELECT on v fails (no such table: main.audit)",
    ),
    "view on a dropped view": (
        SALE + "CREATE VIEW v AS SELECT id FROM sale; CREATE VIEW w AS SELECT id FROM v;",
        SALE + "CREATE VIEW w AS SELECT id FROM v;", (), "view w uses table v, which the migration drops",
    ),
    "view on a dropped column": (
        SALE + "CREATE VIEW v AS SELECT s.cents FROM sale s;",
        "CREATE TABLE sale (id INTEGER PRIMARY KEY); CREATE VIEW v AS SELECT s.cents FROM sale s;",
        ("drop column sale.cents",), "view v uses column cents, which the migration drops",
    ),
    "trigger on a view": (
        SALE + AUDIT + "CREATE VIEW v AS SELECT id FROM sale;"
        "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN INSERT INTO audit (sale) VALUES (new.id); END;",
        SALE + "CREATE VIEW v AS SELECT id FROM sale;"
        "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN INSERT INTO audit (sale) VALUES (new.id); END;", (),
        f"trigger g on v {USES}: INSERT on v fails",
    ),
    "a lost trigger of a view": (
        SALE + "CREATE VIEW v AS SELECT id FROM sale;"
        "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN INSERT INTO sale (id) VALUES (new.id); END;",
        SALE + "CREATE VIEW v AS SELECT id FROM sale;", (),
        "view v has lost its INSTEAD OF trigger: INSERT on v fails",
    ),
    "parent of a foreign key": (
        SALE + "CREATE TABLE line (id INTEGER PRIMARY KEY, sale INT REFERENCES sale (id));",
        "CREATE TABLE line (id INTEGER PRIMARY KEY, sale INT REFERENCES sale (id));", (),
        "table line refers to table sale, which the migration drops: INSERT, DELETE",
    ),
    "key of a foreign key": (
        "CREATE TABLE p (k TEXT UNIQUE); CREATE TABLE c (k TEXT REFERENCES p (k));",
        "CREATE TABLE p (k TEXT); CREATE TABLE c (k TEXT REFERENCES p (k));", (),
        "table c refers to columns of p that are no key of it",
    ),
    "one more column": (
        SALE + "CREATE TABLE log (a);"
        "CREATE TRIGGER g AFTER DELETE ON sale BEGIN INSERT INTO log VALUES (old.id); END;",
        SALE + "CREATE TABLE log (a, b);"
        "CREATE TRIGGER g AFTER DELETE ON sale BEGIN INSERT INTO log VALUES (old.id); END;", (),
        "trigger g on sale inserts without naming the columns, and their number changed: DELETE on sale fails",
    ),
    "a column of the row itself": (
        SALE + AUDIT + "CREATE TRIGGER g AFTER UPDATE ON sale BEGIN DELETE FROM audit WHERE sale = new.cents; END;",
        "CREATE TABLE sale (id INTEGER PRIMARY KEY, euro INT);" + AUDIT
        + "CREATE TRIGGER g AFTER UPDATE ON sale BEGIN DELETE FROM audit WHERE sale = new.cents; END;",
        ("rename sale.cents -> sale.euro",), "trigger g on sale uses column cents, which the migration renames to euro",
    ),
    "a column that would be a string": (
        SALE + AUDIT + 'CREATE TRIGGER g AFTER INSERT ON sale BEGIN UPDATE audit SET sale = 1 WHERE "who" = 1; END;',
        SALE + "CREATE TABLE audit (id INTEGER PRIMARY KEY, sale INT);"
        'CREATE TRIGGER g AFTER INSERT ON sale BEGIN UPDATE audit SET sale = 1 WHERE "who" = 1; END;',
        ("drop column audit.who",),
        'trigger g on sale names "who", which the migration drops: SQLite would take it for a string',
    ),
    "a new trigger": (
        SALE + AUDIT,
        SALE + AUDIT + "CREATE TRIGGER g AFTER UPDATE ON sale BEGIN INSERT INTO audti (sale) VALUES (1); END;", (),
        "trigger g on sale uses table audti, which does not exist (is audit meant?): UPDATE of id, cents on sale fail",
    ),
    "a new view": (
        SALE, SALE + "CREATE VIEW v AS SELECT cent FROM sale;", (),
        "view v uses column cent, which does not exist (is cents meant?): SELECT on v fails",
    ),
    "a new reference": (
        SALE, SALE + "CREATE TABLE line (id INTEGER PRIMARY KEY, sale INT REFERENCES sales (id));", (),
        "table line refers to table sales, which does not exist (is sale meant?)",
    ),
    "content of a search index": (
        "CREATE TABLE item (name); CREATE VIRTUAL TABLE found USING fts5(name, content = 'item');",
        "CREATE VIRTUAL TABLE found USING fts5(name, content = 'item');", (),
        "table found refers to table item, which the migration drops: SELECT on found fails",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKING)
def test_what_worked_before_and_fails_after_is_told_with_its_cause(name: str) -> None:
    before, after, changes, words = BREAKING[name]
    found = judged(before, after, changes=changes).failing
    assert found[0].startswith(words), found
    assert found[0].endswith(")") or "create it again" in found[0]
    assert len(found) == 1, found


HARMLESS = {
    "a failure that was there": (SALE + STAMP, SALE + STAMP + "CREATE TABLE t (a);", ()),
    "a new column beside it": (
        SALE + "CREATE TRIGGER g AFTER UPDATE ON sale BEGIN DELETE FROM nowhere; END;",
        SALE.replace(")", ", more)")
        + "CREATE TRIGGER g AFTER UPDATE ON sale BEGIN DELETE FROM nowhere; END;", (),
    ),
    "a failure in a renamed table": (
        SALE + STAMP, (SALE + STAMP).replace(" sale ", " bill "), ("rename sale -> bill",),
    ),
    "a missing parent that was missing": (
        "CREATE TABLE line (sale REFERENCES sale (id));", "CREATE TABLE line (sale REFERENCES sale (id), more);", (),
    ),
    "a mismatch that was there": (
        "CREATE TABLE p (k); CREATE TABLE c (k REFERENCES p (k));",
        "CREATE TABLE p (k, more); CREATE TABLE c (k REFERENCES p (k));", (),
    ),
    "a string in double quotes": (
        SALE + 'CREATE TRIGGER g AFTER INSERT ON sale BEGIN UPDATE sale SET cents = "later"; END;',
        SALE + 'CREATE TRIGGER g AFTER INSERT ON sale BEGIN UPDATE sale SET cents = "later"; END;'
        "CREATE TABLE t (a);", (),
    ),
    "a drop of everything": (SALE + AUDIT + STAMP, SALE, ("drop table audit", "drop trigger stamp")),
    "a dropped trigger of a view": (
        SALE + "CREATE VIEW v AS SELECT id FROM sale;"
        "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN INSERT INTO sale (id) VALUES (new.id); END;",
        SALE + "CREATE VIEW v AS SELECT id FROM sale;", ("drop trigger g",),
    ),
    "a table that cannot be written": (SALE, SALE + "CREATE VIRTUAL TABLE w USING fts5vocab('f', 'row');", ()),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_the_migration_did_not_break_is_no_failure(name: str) -> None:
    before, after, changes = HARMLESS[name]
    assert judged(before, after, changes=changes).failing == []


def test_a_fresh_database_must_work_but_for_what_depends_on_the_apps_settings() -> None:
    without = declared(())
    typo = judge(None, schema(SALE + "CREATE VIEW v AS SELECT cent FROM sale;"), without, ())
    assert typo.failing == [
        "view v uses column cent, which does not exist (is cents meant?): SELECT on v fails (no such column: cent)"
    ]
    accepted = schema(
        "CREATE TABLE line (sale REFERENCES sale (id));"
        'CREATE TRIGGER g AFTER DELETE ON line BEGIN UPDATE line SET sale = "none"; END;'
    )
    assert judge(None, accepted, without, ()).failing == []


# --------------------------------------------------------------------------------------------------------------- needs


def test_a_need_must_be_declared_where_the_migration_brings_or_touches_it() -> None:
    view = "CREATE VIEW v AS SELECT tax(cents) FROM sale;"
    new = judged(SALE, SALE + view)
    assert [str(each.need) for each in new.undeclared] == ["function tax"]
    assert judged(SALE, SALE + view, needs=(Need(NeedKind.FUNCTION, "TAX"),)).undeclared == []
    assert judged(SALE, SALE + view, needs=(Need(NeedKind.COLLATION, "tax"),)).undeclared == new.undeclared
    untouched = judged(SALE + view, SALE + view + "CREATE TABLE t (a);")
    assert untouched.undeclared == []
    touched = judged(SALE + view, SALE + view.replace("tax(cents)", "tax(cents), id"))
    assert touched.undeclared == new.undeclared
    # A local trigger on a table that the release changes is not the release's.
    local = "CREATE TRIGGER g AFTER INSERT ON sale BEGIN SELECT tax(new.id); END;"
    wider = "CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INT, more);"
    assert judged(SALE + local, wider + local).undeclared == []
    named = judged(SALE + local, (SALE + local).replace("sale", "bill"), changes=("rename sale -> bill",))
    assert named.undeclared == []


def test_a_need_is_refused_with_the_line_that_declares_it_and_accepted_with_that_line(tmp_path: Path) -> None:
    body = "CREATE VIEW cheap AS SELECT id FROM sale WHERE cents REGEXP '^1';"
    found = written(tmp_path / "m", SALE, body)
    database = tmp_path / "s.db"
    assert upgrade(database, found[:1]).name is OutcomeName.CREATED
    refused = upgrade(database, found)
    assert refused.name is OutcomeName.VERIFICATION_FAILED
    assert "view cheap needs function REGEXP, which is not available here" in refused.cause
    assert "declare it with `needs: function REGEXP`" in refused.cause
    (problem,) = check(folder=tmp_path / "m", scratch=tmp_path)
    assert (problem.where, problem.safe) == ("0002_step", "-- needs: function REGEXP")
    found = written(tmp_path / "n", SALE, f"{problem.safe}\n{body}")
    assert found[1].needs == (Need(NeedKind.FUNCTION, "REGEXP"),)
    assert check(folder=tmp_path / "n", scratch=tmp_path) == []
    assert upgrade(database, found).name is OutcomeName.MIGRATED
    assert {name for name in files(tmp_path) if "/" not in name} == {"s.db"}


# ------------------------------------------------------------------------------------------------ no line that kills it

DEADLY = {
    "a drop": (SALE + AUDIT + STAMP, "DROP TABLE audit;", "drop table audit"),
    "a rename aside": (
        SALE + AUDIT + STAMP,
        f"ALTER TABLE audit RENAME TO old; {AUDIT} INSERT INTO audit SELECT * FROM old; DROP TABLE old;",
        "redefine trigger stamp",
    ),
    "a view under a view": (
        SALE + "CREATE VIEW v AS SELECT id FROM sale; CREATE VIEW w AS SELECT id FROM v;",
        "DROP VIEW v;",
        "drop view v",
    ),
    "a parent": (
        SALE + "CREATE TABLE line (id INTEGER PRIMARY KEY, sale INT REFERENCES sale (id));", "DROP TABLE sale;",
        "drop table sale",
    ),
    "a view with a trigger": (
        SALE + "CREATE VIEW v AS SELECT id FROM sale;"
        "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN INSERT INTO sale (id) VALUES (new.id); END;",
        "DROP VIEW v; CREATE VIEW v AS SELECT id FROM sale WHERE id > 0;", "redefine view v",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEADLY)
def test_no_line_is_offered_with_which_the_database_would_be_dead(tmp_path: Path, name: str) -> None:
    first, then, line = DEADLY[name]
    database = tmp_path / "s.db"
    for folder, text in (("plain", then), ("declared", f"-- changes: {line}\n{then}")):
        found = written(tmp_path / folder, first, text)
        if folder == "plain":
            assert upgrade(database, found[:1]).name is OutcomeName.CREATED
        content = database.read_bytes()
        outcome = upgrade(database, found)
        assert outcome.name is OutcomeName.VERIFICATION_FAILED
        assert "changes:" not in outcome.cause, outcome.cause
        assert "fail" in outcome.cause
        for given in (None, database):
            problems = check(folder=tmp_path / folder, database=given, scratch=tmp_path)
            assert problems
            assert not [problem for problem in problems if "changes:" in problem.what + problem.safe], problems
        assert database.read_bytes() == content
    assert {name for name in files(tmp_path) if "/" not in name} == {"s.db"}


@pytest.mark.parametrize("more", ["", ', "redefine trigger stamp"'], ids=["the column", "the trigger too"])
def test_a_rebuild_without_a_column_into_which_a_trigger_inserts_is_named(tmp_path: Path, more: str) -> None:
    step = (
        f'"""A step."""\n\nchanges = ["drop column audit.who"{more}]\n\n\n'
        'def up(db):\n    db.rebuild_table("audit", "(id INTEGER PRIMARY KEY, sale INT)")\n'
    )
    found = written(tmp_path / "m", SALE + AUDIT + STAMP, step)
    database = tmp_path / "s.db"
    assert upgrade(database, found[:1]).name is OutcomeName.CREATED
    content = database.read_bytes()
    why = (
        "trigger stamp on sale uses column who of audit, which the migration drops: INSERT on sale fails"
        " (table audit has no column named who)"
    )
    for given in (None, database):
        (problem,) = check(folder=tmp_path / "m", database=given, scratch=tmp_path)
        assert (problem.where, problem.what, problem.safe) == ("0002_step", why, "")
    outcome = upgrade(database, found)
    assert (outcome.name, outcome.cause) == (OutcomeName.VERIFICATION_FAILED, why)
    assert database.read_bytes() == content


def test_what_is_broken_in_one_database_only_is_found_on_its_copy_and_no_line_is_offered(tmp_path: Path) -> None:
    found = written(tmp_path / "m", SALE + AUDIT, "DROP TABLE audit;")
    database = tmp_path / "s.db"
    upgrade(database, found[:1])
    (tmp_path / "m" / "0002_step.sql").write_text("-- changes: drop table audit\nDROP TABLE audit;")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(STAMP + "INSERT INTO sale VALUES (1, 100);")
    assert check(folder=tmp_path / "m", scratch=tmp_path) == []
    problems = check(folder=tmp_path / "m", database=database, scratch=tmp_path)
    assert [problem.safe for problem in problems] == [""]
    assert f"trigger stamp on sale {USES}" in problems[0].what
    assert {name for name in files(tmp_path) if "/" not in name} == {"s.db"}


@pytest.mark.parametrize(
    "words", [("upgrade", "--dry-run"), ("upgrade", "--dry-run", "--on-copy"), ("rehearse",), ("check",)], ids=" ".join
)
def test_every_command_that_tries_a_migration_tells_what_it_would_break(tmp_path: Path, words: tuple[str, ...]) -> None:
    found = written(tmp_path / "m", SALE + AUDIT + STAMP, "-- changes: drop table audit\nDROP TABLE audit;")
    database = tmp_path / "s.db"
    upgrade(database, found[:1])
    content = database.read_bytes()
    done = dbsync(*words, "--database", database, "--migrations", tmp_path / "m")
    assert done.returncode == ExitStatus.FAILED, done.stdout + done.stderr
    assert f"trigger stamp on sale {USES}" in " ".join(done.stdout.split())
    assert database.read_bytes() == content


def test_verify_tells_what_does_not_work_in_a_database_as_it_is_and_asks_for_no_declaration(tmp_path: Path) -> None:
    found = written(tmp_path / "m", SALE)
    database = tmp_path / "s.db"
    upgrade(database, found)
    words = ("verify", "--database", database, "--migrations", tmp_path / "m", "--json")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE VIEW ours AS SELECT id FROM sale WHERE cents REGEXP '^1'")
        connection.execute("CREATE VIEW dead AS SELECT id FROM nowhere")
    problems = json.loads(dbsync(*words).stdout)["problems"]
    about_views = [problem for problem in problems if "structure differs" not in problem]
    assert about_views == [
        "view dead uses table nowhere, which does not exist: SELECT on dead fails (no such table: main.nowhere)"
    ]


def test_an_update_is_not_stopped_by_what_a_shop_had_broken_before(tmp_path: Path) -> None:
    found = written(tmp_path / "m", SALE, "ALTER TABLE sale ADD COLUMN more;")
    database = tmp_path / "s.db"
    upgrade(database, found[:1])
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE VIEW ours AS SELECT id FROM sale WHERE cents REGEXP '^1'")
        connection.execute("CREATE VIEW dead AS SELECT id FROM nowhere")
        connection.execute("CREATE TRIGGER dead_too AFTER INSERT ON sale BEGIN DELETE FROM nowhere; END")
    outcome = upgrade(database, found)
    assert outcome.name is OutcomeName.MIGRATED, outcome.cause
    assert {name for name in files(tmp_path) if "/" not in name} == {"s.db"}


def test_what_a_later_migration_makes_work_again_is_no_problem(tmp_path: Path) -> None:
    written(tmp_path / "m", SALE + AUDIT + STAMP, "-- changes: drop table audit\nDROP TABLE audit;", AUDIT)
    assert check(folder=tmp_path / "m", scratch=tmp_path) == []
    assert files(tmp_path) == {"m/0001_step.sql", "m/0002_step.sql", "m/0003_step.sql"}
