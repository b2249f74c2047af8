"""The structure in full: another meaning is another fingerprint, another spelling is the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsync.schema.fingerprint import Structure, differences, fingerprint, structure_of

OTHERS = """
CREATE TABLE parent (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b TEXT UNIQUE);
CREATE VIEW shown AS SELECT id FROM parent WHERE a = 'Open';
CREATE TRIGGER moved AFTER UPDATE ON parent BEGIN UPDATE parent SET b = 'Gone' WHERE id = old.id; END;
"""


class Piece(NamedTuple):
    """One part of a definition: as written, other spellings of the same, and texts that mean something else."""

    text: str
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


# Beside each column stands what no pragma shows: CHECK, COLLATE, ON CONFLICT, DEFERRABLE, the generated expression.
KEYS = (
    Piece("id INTEGER PRIMARY KEY", ('"ID" integer constraint k primary key', "[id] INTEGER /* k */ PRIMARY  KEY"),
          ("id INTEGER PRIMARY KEY AUTOINCREMENT", "id INTEGER PRIMARY KEY ON CONFLICT REPLACE",
           "id INTEGER PRIMARY KEY DESC", "id INT PRIMARY KEY", "id INTEGER")),
)  # fmt: skip
COLUMNS = (
    Piece("s TEXT CHECK (s IN ('a', 'B'))", ('"s" text check("S" in (\'a\',\'B\'))', "s TEXT CONSTRAINT x CHECK (s IN ('a', \"B\"))"),
          ("s TEXT CHECK (s IN ('a', 'b'))", "s TEXT CHECK (s NOT IN ('a', 'B'))", "s TEXT")),
    Piece("s TEXT COLLATE NOCASE", ('`s` text collate "nocase"',), ("s TEXT COLLATE RTRIM", "s TEXT", "s BLOB COLLATE NOCASE")),
    Piece("s TEXT DEFAULT 'Open'", ('s TEXT DEFAULT "Open"', "s TEXT DEFAULT Open", "s TEXT default ('Open')"),
          ("s TEXT DEFAULT 'open'", "s TEXT DEFAULT ' Open'", "s TEXT")),
    Piece("s INTEGER NOT NULL ON CONFLICT IGNORE", ("s INTEGER not  null on conflict ignore",),
          ("s INTEGER NOT NULL", "s INTEGER NOT NULL ON CONFLICT REPLACE", "s INTEGER")),
    Piece("s INTEGER NOT NULL", ("s INTEGER NOT NULL ON CONFLICT ABORT", "s INTEGER CONSTRAINT must NOT NULL"), ("s INTEGER",)),
    Piece("s TEXT UNIQUE ON CONFLICT REPLACE", ("s TEXT CONSTRAINT u UNIQUE ON CONFLICT REPLACE",),
          ("s TEXT UNIQUE", "s TEXT UNIQUE ON CONFLICT IGNORE", "s TEXT", "s TEXT COLLATE NOCASE UNIQUE ON CONFLICT REPLACE")),
    Piece("s INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED",
          ('s INTEGER REFERENCES "Parent" ([ID]) ON DELETE NO ACTION DEFERRABLE INITIALLY DEFERRED',
           "s INTEGER CONSTRAINT f REFERENCES parent(id) MATCH SIMPLE DEFERRABLE INITIALLY DEFERRED"),
          ("s INTEGER REFERENCES parent(id)", "s INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY IMMEDIATE",
           "s INTEGER REFERENCES parent(id) NOT DEFERRABLE INITIALLY DEFERRED", "s INTEGER",
           "s INTEGER REFERENCES parent(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED")),
    Piece("s TEXT REFERENCES parent(a) ON DELETE SET NULL", ("s TEXT REFERENCES parent(a) ON DELETE SET NULL NOT DEFERRABLE",),
          ("s TEXT REFERENCES parent(b) ON DELETE SET NULL", "s TEXT REFERENCES parent(a) ON UPDATE SET NULL")),
    Piece("s AS (id || 'X')", ('s GENERATED ALWAYS AS ("id"||\'X\') VIRTUAL', 's AS (id || "X")'),
          ("s AS (id || 'x')", "s AS (id || 'X') STORED", "s TEXT AS (id || 'X')")),
    Piece("s VARCHAR(10)", ("s varchar ( 10 )",), ("s VARCHAR(11)", "s CHAR(10)")),
    Piece('"check ""it""; ü" TEXT', ('[check "it"; ü] TEXT', '"Check ""It""; ü" TEXT'), ('"check it; ü" TEXT',)),
)  # fmt: skip
CONSTRAINTS = (
    Piece("CHECK (id <> 7)", ("CONSTRAINT seven CHECK (ID != 7)", "check(id<>7) -- never\n"), ("CHECK (id <> 8)", "")),
    Piece("UNIQUE (z, id)", ('CONSTRAINT u UNIQUE ("z", [id])', "UNIQUE (z COLLATE BINARY, id ASC)"),
          ("UNIQUE (id, z)", "UNIQUE (z, id) ON CONFLICT FAIL", "UNIQUE (z COLLATE NOCASE, id)", "UNIQUE (z, id DESC)", "")),
    Piece("FOREIGN KEY (z) REFERENCES parent(a)", ('CONSTRAINT f FOREIGN KEY ("Z") REFERENCES [parent] (a) ON UPDATE NO ACTION',),
          ("FOREIGN KEY (z) REFERENCES parent(b)", "FOREIGN KEY (z) REFERENCES parent(a) DEFERRABLE INITIALLY DEFERRED", "")),
)  # fmt: skip
INDEXES = (
    Piece("CREATE INDEX i ON t (z) WHERE z = 'a'", ('create  index "I" on [T]("z" ASC) where z=\'a\'', 'CREATE INDEX i ON t (z) WHERE z == "a"',
          "CREATE INDEX IF NOT EXISTS i ON t (z COLLATE BINARY) /* a */ WHERE z = 'a'"),
          ("CREATE INDEX i ON t (z) WHERE z = 'A'", "CREATE INDEX i ON t (z)", "CREATE UNIQUE INDEX i ON t (z) WHERE z = 'a'",
           "CREATE INDEX i ON t (z DESC) WHERE z = 'a'", "CREATE INDEX i ON t (z COLLATE NOCASE) WHERE z = 'a'", "")),
    Piece("CREATE INDEX i ON t (lower(z), id DESC)", ('CREATE INDEX i ON t (LOWER("z") ASC, id  desc)',),
          ("CREATE INDEX i ON t (upper(z), id DESC)", "CREATE INDEX i ON t (lower(z), id)", "CREATE INDEX i ON t (id DESC, lower(z))")),
)  # fmt: skip
OBJECTS = (
    Piece("CREATE VIEW v (a, b) AS SELECT id, 'Q' FROM t WHERE EXISTS (SELECT 1 FROM parent)",
          ("create view v(a,b) as select ID, 'Q' from \"T\" where exists(select 1 from [parent])",
           'CREATE VIEW IF NOT EXISTS v (a, b) AS SELECT id, "Q" FROM t /* all */ WHERE EXISTS (SELECT 1 FROM parent)'),
          ("CREATE VIEW v (a, b) AS SELECT id, 'q' FROM t WHERE EXISTS (SELECT 1 FROM parent)", "CREATE VIEW v (b, a) AS SELECT id, 'Q' FROM t WHERE EXISTS (SELECT 1 FROM parent)",
           "CREATE VIEW v (a, b) AS SELECT id, 'Q' FROM t WHERE (SELECT 1 FROM parent)", "")),
    Piece("CREATE TRIGGER w AFTER INSERT ON t BEGIN UPDATE parent SET a = 'In'; END",
          ("create trigger W after insert on [t] begin update parent set \"a\" = 'In'; end", 'CREATE TRIGGER w AFTER INSERT ON t BEGIN UPDATE parent SET a = "In"; END'),
          ("CREATE TRIGGER w AFTER INSERT ON t BEGIN UPDATE parent SET a = 'in'; END", "CREATE TRIGGER w BEFORE INSERT ON t BEGIN UPDATE parent SET a = 'In'; END",
           "CREATE TRIGGER w AFTER INSERT ON t WHEN new.id = 1 BEGIN UPDATE parent SET a = 'In'; END", "")),
)  # fmt: skip
OPTIONS = (
    (Piece("", (" -- nothing",), (" WITHOUT ROWID", " STRICT")),)
    if sqlite3.sqlite_version_info >= (3, 37)
    else (Piece(""),)
)


class Pieces(NamedTuple):
    """The parts of a random table."""

    columns: list[str]
    constraints: list[str]
    option: str
    objects: list[str]

    @property
    def sql(self) -> str:
        """The statements that make it."""
        parts = ", ".join(part for part in (*self.columns, *self.constraints) if part)
        made = f"CREATE TABLE t ({parts}\n){self.option}\n;"
        return OTHERS + made + ";\n".join(self.objects)


def structure(sql: str) -> Structure:
    """The structure of a new database."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(sql)
        return structure_of(connection)


def prints(sql: str) -> frozenset[str]:
    """The fingerprint of a new database; empty if SQLite refuses the text."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.executescript(sql)
        except sqlite3.Error:
            return frozenset()
        return fingerprint(connection)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str, str]:
    """One random table three times: as written, spelt otherwise everywhere, and with one part that means otherwise."""
    chosen = [draw(st.sampled_from(KEYS)), draw(st.sampled_from(COLUMNS)), Piece("z TEXT")]
    constraints = draw(st.lists(st.sampled_from(CONSTRAINTS), unique=True))
    objects = [draw(st.sampled_from(group)) for group in (INDEXES, OBJECTS)]
    option = draw(st.sampled_from(OPTIONS))

    def spelt(piece: Piece) -> str:
        return draw(st.sampled_from((piece.text, *piece.same)))

    written = Pieces([p.text for p in chosen], [p.text for p in constraints], option.text, [p.text for p in objects])
    otherwise = Pieces(
        [spelt(piece) for piece in chosen],
        draw(st.permutations([spelt(piece) for piece in constraints])),
        spelt(option),
        [spelt(piece) for piece in objects],
    )
    groups = {"columns": chosen, "constraints": constraints, "objects": objects}
    places = [(name, number) for name, group in groups.items() for number, piece in enumerate(group) if piece.other]
    name, number = draw(st.sampled_from([*places, *([("option", 0)] if option.other else [])]))
    if name == "option":
        changed = written._replace(option=draw(st.sampled_from(option.other)))
    else:
        texts: Any = list(getattr(written, name))
        texts[number] = draw(st.sampled_from(groups[name][number].other))
        fields: dict[str, Any] = {**written._asdict(), name: texts}
        changed = Pieces(**fields)
    return written.sql, otherwise.sql, changed.sql


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pairs())
def test_a_fingerprint_is_the_same_if_and_only_if_the_meaning_is(texts: tuple[str, str, str]) -> None:
    written, otherwise, changed = texts
    assert prints(written), f"SQLite takes {written}"
    assert prints(otherwise) == prints(written), otherwise
    assert prints(changed) != prints(written), changed


@pytest.mark.parametrize("piece", [*KEYS, *COLUMNS], ids=lambda piece: piece.text)
def test_each_column_in_each_spelling(piece: Piece) -> None:
    texts = {text: prints(f"{OTHERS} CREATE TABLE t ({text}, i INTEGER, id2 AS (1))".replace("(id ||", "(i ||")
                          .replace('("id"||', '("i"||')) for text in (piece.text, *piece.same, *piece.other)}  # fmt: skip
    assert texts[piece.text]
    for text in piece.same:
        assert texts[text] == texts[piece.text], text
    for text in piece.other:
        assert texts[text] != texts[piece.text], text


def test_a_column_that_was_added_is_the_one_of_a_new_table() -> None:
    made = "CREATE TABLE t (id INTEGER PRIMARY KEY, CHECK (id > 0));"
    added = f"{made} ALTER TABLE t ADD COLUMN s TEXT COLLATE NOCASE DEFAULT 'X' CHECK (s <> 'Y');"
    fresh = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT COLLATE NOCASE DEFAULT 'X', CHECK (s <> 'Y'), CHECK (id > 0));"
    )
    assert prints(added) == prints(fresh)


def test_a_constraint_of_a_column_is_the_same_of_its_table() -> None:
    column = "CREATE TABLE t (a TEXT PRIMARY KEY, b UNIQUE CHECK (b > 0) REFERENCES parent(id))"
    table = (
        "CREATE TABLE t (a TEXT, b, FOREIGN KEY (b) REFERENCES parent(id), CHECK (b > 0), UNIQUE (b), PRIMARY KEY (a))"
    )
    assert prints(OTHERS + column) == prints(OTHERS + table)


def test_the_order_of_columns_counts_and_a_column_of_one_side_does_not() -> None:
    wanted = structure("CREATE TABLE t (a, b, c)")
    assert structure("CREATE TABLE t (b, a, c)") != wanted
    assert differences(structure("CREATE TABLE t (b, a, c)"), wanted) == {"with column t.b before a"}
    more = differences(structure("CREATE TABLE t (b, own, a, c)"), wanted)
    assert {part for part in more if "before" in part} == {"with column t.b before a"}
    assert not [part for part in differences(structure("CREATE TABLE t (a, own, b, c)"), wanted) if "before" in part]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("fts5(a, b)", "fts5(a, b, tokenize='porter')"),
        ("fts5(a, b)", "fts5(b, a)"),
    ],
)
def test_the_arguments_of_a_module_count(one: str, other: str) -> None:
    texts = [f"CREATE VIRTUAL TABLE f USING {module}" for module in (one, other)]
    assert prints(texts[0]) == prints(texts[0].lower().replace("using", "  USING /* a module */ "))
    assert prints(texts[0]) != prints(texts[1])


def test_names_of_any_kind_are_read() -> None:
    odd = 'CREATE TABLE "it\'s ""so"" (ü)" ("a, b" TEXT CHECK ("a, b" <> \'c)\'), [check] INT UNIQUE, "unique" AS ("check" + 1));'
    again = odd.replace("[check]", "`check`").replace('"check" + 1', "[check]+1")
    assert prints(odd) == prints(again)
    assert prints(odd) != prints(odd.replace("'c)'", "'C)'"))
    assert prints(odd) != prints(odd.replace(" UNIQUE", ""))


def test_objects_of_sqlite_and_of_a_connection_are_no_structure() -> None:
    plain = "CREATE TABLE t (a); INSERT INTO t VALUES (1);"
    temporary = "CREATE TEMP TABLE own (x); CREATE TEMP TRIGGER g AFTER INSERT ON main.t BEGIN SELECT 1; END;"
    assert prints(f"{plain} CREATE INDEX i ON t(a); ANALYZE; {temporary}") == prints(f"{plain} CREATE INDEX i ON t(a);")
