"""What a migration may do: statements, queries, words to the log. Not: transactions, ATTACH, dangerous pragmas.

It guards against mistakes, not against malice: a migration is signed code of the vendor.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self

from dbsync.errors import MigrationFailed
from dbsync.helpers import Helpers
from dbsync.progress import STATEMENTS, Told, nobody
from dbsync.sqlite import OUR_TABLES, Connection, columns_of, kind_of

_READING_PRAGMAS: Final = frozenset(
    [
        "table_info",
        "table_xinfo",
        "table_list",
        "index_list",
        "index_info",
        "index_xinfo",
        "foreign_key_list",
        "foreign_key_check",
        "quick_check",
        "integrity_check",
        "collation_list",
        "function_list",
        "compile_options",
        "data_version",  # FTS5 asks for it
        "encoding",
        "page_count",
        "page_size",
        "user_version",
        "application_id",
        "freelist_count",
    ]
)
_SCHEMA_STEPS: Final = frozenset({"legacy_alter_table", "defer_foreign_keys"})
"""Pragmas that the documented way to rebuild a table needs, and that cannot break the transaction."""
_WRITES: Final = frozenset(
    {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_DROP_TABLE}
)
_REFUSED: Final = {
    sqlite3.SQLITE_TRANSACTION: "BEGIN, COMMIT and ROLLBACK are dbsync's: all migrations are one transaction",
    sqlite3.SQLITE_SAVEPOINT: "savepoints are dbsync's: each migration has one",
    sqlite3.SQLITE_ATTACH: "another database cannot be attached: its changes would not be part of the transaction",
    sqlite3.SQLITE_DETACH: "databases are attached and detached by dbsync",
}
_TOKENS: Final = re.compile(
    r"""(?P<skip>'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|\[[^\]]*\]|`(?:[^`]|``)*`)|(?P<quoted>"(?:[^"]|"")*")""", re.DOTALL
)
_BLANK: Final = re.compile(r"^(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))*$", re.DOTALL)


def unheard(sql: str) -> None:
    """Nobody asks which statements run."""


class Sandbox(Helpers):
    """What a migration gets in place of a connection."""

    def __init__(
        self,
        connection: Connection,
        log: Callable[[str], None],
        told: Told = nobody,
        issued: Callable[[str], None] = unheard,
    ) -> None:
        self._connection = connection
        self._log = log
        self._told = told
        self._issued = issued
        self._why_refused = ""
        self.written: set[str] = set()
        """Lower-case names of the tables that some statement may write: asked as it is compiled, so never too few."""
        if sys.version_info >= (3, 12):
            # An unknown "quoted" name is an error then, instead of a text (sqlite.org/quirks.html, 8).
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_DQS_DDL, False)
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_DQS_DML, False)

    def __enter__(self) -> Self:
        self._connection.set_authorizer(self._authorize)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.set_authorizer(None)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Runs one statement; returns how many rows it changed (-1 where that has no meaning)."""
        return self._run(sql, parameters).rowcount

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Runs one query; returns all rows."""
        return self._run(sql, parameters).fetchall()

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns, in order; empty if there is no such table."""
        return [str(row[1]) for row in columns_of(self._connection, table)]

    def log(self, text: str) -> None:
        """A line for whoever watches."""
        self._log(text)

    def progress(self, done: int, total: int, unit: str = "rows") -> None:
        """How far a long step has come, for a bar and the time that remains."""
        self._told(done, total, unit=unit)

    def script(self, text: str) -> None:
        """Runs the statements of an SQL file one by one, in the open transaction."""
        statements = list(split(text))
        for number, statement in enumerate(statements):
            self._told(number, len(statements), unit=STATEMENTS)
            self._run(statement, ())
        self._told(len(statements), len(statements), unit=STATEMENTS)

    def _run(self, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        self._why_refused = ""
        self._issued(sql)
        try:
            if sys.version_info < (3, 12):
                self._check_quoted_names(sql, parameters)
            cursor = self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise self._failure(error, sql) from error
        if not self._connection.in_transaction:
            raise MigrationFailed(operation="migrate", cause=f"a statement ended the transaction: {_short(sql)}")
        return cursor

    def _failure(self, error: sqlite3.Error, sql: str) -> Exception:
        cause = self._why_refused or str(error)
        kind = kind_of(error) or MigrationFailed
        return kind(operation="migrate", cause=f"{cause} (in: {_short(sql)})")

    def _check_quoted_names(self, sql: str, parameters: Sequence[Any]) -> None:
        """Compiles the statement with its "names" in backticks, which are never taken for texts.

        Python 3.11 cannot switch that fallback off, and it fills a column with its own misspelt name in silence.
        """
        strict = _TOKENS.sub(lambda one: _in_backticks(one["quoted"]) if one["quoted"] else one[0], sql)
        if strict == sql:
            return
        try:
            self._connection.execute(f"EXPLAIN {strict}", parameters).close()
        except sqlite3.Error as error:
            if "no such column" not in str(error):
                raise
            cause = f"{error}: a name in double quotes that is not there would be taken for a text"
            raise MigrationFailed(
                operation="migrate", cause=f"{cause} (in: {_short(sql)})", hint="Put texts in single quotes."
            ) from error

    def _authorize(self, action: int, first: str | None, second: str | None, schema: str | None, _: str | None) -> int:
        why = _REFUSED.get(action)
        if action == sqlite3.SQLITE_PRAGMA:
            why = _why_not_pragma(first or "", second)
        elif action in _WRITES and first in OUR_TABLES:
            why = f"{first} is written by dbsync only"
        elif (first if action == sqlite3.SQLITE_ALTER_TABLE else schema) not in (None, "main", "temp"):
            # ALTER TABLE names its database first; where others name theirs it has the column that is dropped.
            why = "only the database that is migrated may be touched"
        if why is None:
            if action in _WRITES and first is not None:
                self.written.add(first.lower())
            elif action == sqlite3.SQLITE_ALTER_TABLE and second is not None and schema is not None:
                # Only DROP COLUMN, which names its column here, rewrites rows; ADD COLUMN and RENAME leave them alone.
                self.written.add(second.lower())
            return sqlite3.SQLITE_OK
        self._why_refused = f"not allowed in a migration: {why}"
        return sqlite3.SQLITE_DENY


def split(text: str) -> Iterator[str]:
    """The statements of an SQL text by SQLite's own rules: triggers hold semicolons, comments hold nothing."""
    begin, end = 0, text.find(";")
    while end >= 0:
        chunk = text[begin : end + 1]
        if sqlite3.complete_statement(chunk):
            if not _BLANK.match(chunk):
                yield chunk.strip()
            begin = end + 1
        end = text.find(";", end + 1)
    if not _BLANK.match(text[begin:]):
        yield text[begin:].strip()


def _why_not_pragma(name: str, value: str | None) -> str | None:
    name = name.lower()
    if name in _SCHEMA_STEPS or (
        name in _READING_PRAGMAS and (value is None or name not in ("user_version", "application_id"))
    ):
        return None
    return f"PRAGMA {name}: it is dbsync's, or would not be part of the transaction"


def _in_backticks(quoted: str) -> str:
    name = quoted[1:-1].replace('""', '"')
    return "`" + name.replace("`", "``") + "`"


def _short(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= 120 else text[:117] + "..."
