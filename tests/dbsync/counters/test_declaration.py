"""The declaration of counters: what is refused and with which words, and the way back through declared renames."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbsync.counters import declaration
from dbsync.counters.declaration import Counter, Gaps, Holds
from dbsync.errors import BadMigrations
from dbsync.model import SchemaNumber
from tests.helpers.shop import written

HEAD = '[[counter]]\nname = "receipt"\ndescription = "On paper"\n'
ROW = HEAD + 'table = "settings"\ncolumn = "value"\nwhere = "key = \'next\'"\n'


def declared(folder: Path, text: str) -> tuple[Counter, ...]:
    (folder / "counters.toml").write_text(text)
    return declaration.load(folder)


def test_a_counter_is_read_with_its_defaults(tmp_path: Path) -> None:
    (counter,) = declared(tmp_path, ROW)
    assert (counter.holds, counter.gaps, counter.is_mark) == (Holds.LAST, Gaps.RECORD, False)
    assert counter.reads == 'SELECT "settings"."value" FROM "settings" WHERE key = \'next\''
    assert counter.raises == 'UPDATE "settings" SET "value" = ? WHERE key = \'next\''
    assert declaration.from_json(declaration.as_json(counter)) == counter
    assert declaration.load(tmp_path / "nowhere") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("counter = 1", "tables [[counter]]"),
        ("[[counters]]\n", "tables [[counter]]"),
        ("[[counter]", "line 1"),
        ('[[counter]]\ndescription = "x"', "counter number 1: name is missing"),
        ('[[counter]]\nname = "a"', "counter 'a': description is missing"),
        (HEAD, "counter 'receipt': table is missing"),
        (HEAD + 'table = "t"', "column is missing"),
        (HEAD + "table = 1", "table must be a string"),
        (HEAD + 'colunm = "x"', "colunm is not a key"),
        (HEAD + 'query = "SELECT 1"', "update is missing"),
        (HEAD + 'query = "SELECT 1"\ntable = "t"\nupdate = "UPDATE t SET a = ?"', "table cannot stand beside query"),
        (HEAD + 'query = "DELETE FROM t"\nupdate = "UPDATE t SET a = ?"', "query must begin with SELECT"),
        (HEAD + 'query = "SELECT 1; SELECT 2"\nupdate = "UPDATE t SET a = ?"', "query must be one"),
        (HEAD + 'query = "SELECT 1"\nupdate = "UPDATE t SET a = 1"', "exactly one parameter"),
        (HEAD + 'query = "SELECT 1"\nupdate = "UPDATE t SET a = ? WHERE b = ?"', "exactly one parameter"),
        (HEAD + 'query = "SELECT 1"\nupdate = "DROP TABLE t"', "update must begin with"),
        (ROW + 'gaps = "maybe"', "gaps must be record or free"),
        (ROW + 'holds = "now"', "holds must be last or next"),
        (ROW + ROW.replace("receipt", "RECEIPT"), "'receipt' is declared more than once"),
        (ROW.replace("receipt", "sqlite_sequence:x"), "must not begin with sqlite_sequence:"),
    ],
)
def test_what_is_no_counter_is_refused_with_file_key_and_cause(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadMigrations) as refused:
        declared(tmp_path, text)
    assert refused.value.path == tmp_path / "counters.toml"
    assert words in refused.value.cause


def test_a_declaration_is_no_migration_and_lies_in_the_folder_of_any_engine(tmp_path: Path) -> None:
    found = written(tmp_path / "m", "CREATE TABLE settings (key TEXT, value TEXT);")
    (tmp_path / "m" / "counters.toml").write_text(ROW)
    from dbsync.migrations import folder

    assert folder.load(tmp_path / "m") == found
    assert [counter.name for counter in declaration.of_release(found)] == ["receipt"]
    assert declaration.of_release(()) == ()


def test_a_counter_follows_declared_renames_back(tmp_path: Path) -> None:
    found = written(
        tmp_path / "m",
        "CREATE TABLE sale (no INTEGER); CREATE TABLE conf (k TEXT, v TEXT);",
        "-- changes: rename sale -> ticket\nALTER TABLE sale RENAME TO ticket;",
        "-- changes: rename conf -> settings, x\n".replace(", x", "")
        + "-- changes: rename settings.v -> settings.value\n"
        + "ALTER TABLE conf RENAME TO settings; ALTER TABLE settings RENAME COLUMN v TO value;",
    )
    (tmp_path / "m" / "counters.toml").write_text(
        ROW.replace("key =", "k =")
        + '[[counter]]\nname = "ticket"\ndescription = "x"\nquery = "SELECT max(no) FROM ticket WHERE \'ticket\' = 1"\n'
        + 'update = "INSERT INTO ticket (no) VALUES (?)"\n'
    )
    counters = declaration.of_release(found)
    assert declaration.at_schema(counters, found, 3) == counters
    receipt, ticket = declaration.at_schema(counters, found, 2)
    assert (receipt.table, receipt.column) == ("conf", "v")
    assert ticket == counters[1]
    _, ticket = declaration.at_schema(counters, found, 1)
    # A string is no name.
    assert ticket.query == "SELECT max(no) FROM \"sale\" WHERE 'ticket' = 1"
    assert ticket.raises == 'INSERT INTO "sale" (no) VALUES (?)'
    assert declaration.renames_of(found) == (
        declaration.Rename(SchemaNumber(2), "sale", "ticket"),
        declaration.Rename(SchemaNumber(3), "conf", "settings"),
    )
