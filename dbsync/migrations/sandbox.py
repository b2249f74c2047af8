"""The operations that a migration may use: statements, queries, log. Not: transactions, ATTACH, dangerous pragmas.

The sandbox guards against mistakes, not against malice: a migration is signed code of the vendor.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from dbsync.errors import MigrationFailed, TillkeeperError
from dbsync.migrations import repeated_rows
from dbsync.migrations.authorizer import WRITES, why_not
from dbsync.migrations.operations import Database, Rows
from dbsync.migrations.write_log import Write, carried_over
from dbsync.progress import Told, Unit, nobody
from dbsync.schema.sql_text import COLUMNS, Statement, adds_column, head_of, numbered, rename_of, shown, strict, use_of
from dbsync.storage.causes import raised_as
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import columns_of, quoted, rowid_of
from dbsync.storage.sql_tokens import pieces_of, unquoted

STRINGS: Final = (
    "Put strings in single quotes. Above the text of an existing schema, write `-- strings: double-quoted`."
)


CALLS: Final = frozenset(
    (
        "execute",
        "query",
        "columns",
        "script",
        "existing",
        "is_local",
        "log",
        "progress",
        "_rowid",
        "_statements",
        "_rows",
    )
)
"""The methods that code in another process may call: the others of `Database` are made of them there."""


def unheard(sql: str) -> None:
    """Ignore a statement: the default where no caller observes them."""


class Sandbox(Database):
    """The object that a migration gets in place of a connection.

    Args:
        connection: a connection with an open transaction.
        log: gets every line that the migration logs.
        source: the migration's file, for naming the line of a statement.
        told: gets the progress of a step.
        issued: gets each statement before it runs.
        place: the name of the file in findings; its own name by default.
        has_strings_in_double_quotes: whether the text is that of an existing schema, where "text" may be a string.
    """

    def __init__(
        self,
        connection: Connection,
        log: Callable[[str], None],
        source: Path,
        told: Told = nobody,
        issued: Callable[[str], None] = unheard,
        *,
        place: str = "",
        has_strings_in_double_quotes: bool = False,
    ) -> None:
        self._connection = connection
        self._file = str(connection.execute("PRAGMA database_list").fetchone()[2])
        self._log = log
        self._source = source
        self._told = told
        self._issued = issued
        self._place = place or source.name
        self._checks_names = not has_strings_in_double_quotes
        self.local: frozenset[tuple[str, str]] = frozenset()
        """The local indexes, triggers and views: kind, name in lower case."""
        self._statement = ""
        self._line = 0
        self._order = 0
        self._ours = False
        self._why_refused = ""
        self._last_failure: TillkeeperError | None = None
        self.written: set[Write] = set()
        """The possible writes of each statement, found as it is compiled: perhaps too many, never too few."""

    def __enter__(self) -> Self:
        self._connection.set_authorizer(self._authorize)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.set_authorizer(None)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement and return the number of rows that it changed (-1 where that has no meaning)."""
        return self._run(sql, parameters).rowcount

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one query and return all rows."""
        return self._run(sql, parameters).fetchall()

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns, in order; empty if there is no such table."""
        return [column.name for column in columns_of(self._connection, table)]

    def _rowid(self, table: str) -> str | None:
        """Return a name for a table's rowid that no column hides; None if it has none."""
        return rowid_of(self._connection, table)

    def existing(self, sql: str) -> None:
        """Run a statement of the database's own schema, which may have strings in double quotes."""
        checked, self._checks_names = self._checks_names, False
        try:
            self._run(sql, ())
        finally:
            self._checks_names = checked

    def is_local(self, kind: str, name: str) -> bool:
        """Return whether no schema of the vendor has an index or trigger; it is made again after the migration."""
        return (kind, name.lower()) in self.local

    def log(self, text: str) -> None:
        """Write one line to the run's log."""
        self._log(text)

    def progress(self, done: int, total: int, unit: Unit = Unit.ROWS) -> None:
        """Report the progress of a long step, for a bar and the remaining time."""
        self._told(done, total, unit=unit)

    def script(self, text: str) -> None:
        """Run the statements of an SQL file one by one, in the open transaction."""
        self._statements(list(numbered(text)))

    def _rows(self, sql: str, parameters: Sequence[Any]) -> Rows:
        cursor = self._run(sql, parameters)
        return Rows(cursor.fetchall(), cursor.description, cursor.rowcount, cursor.lastrowid)

    def _statements(self, statements: Sequence[Statement]) -> None:
        for number, (line, statement) in enumerate(statements):
            self._told(number, len(statements), unit=Unit.STATEMENTS)
            if self._source.suffix == ".sql":
                self._line = line
            self._run(statement, ())
        self._told(len(statements), len(statements), unit=Unit.STATEMENTS)

    def _run(self, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        self.check_transaction()
        self._why_refused, self._statement = "", sql
        self._order += 1
        self._issued(sql)
        try:
            self._check_quoted_names(sql, parameters)
            cursor = self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            refused = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH
            if refused and not self._why_refused:
                # Ctrl-C during `_authorize`: the exception of a callback is lost, and SQLite reports a refusal.
                raise KeyboardInterrupt from error
            self._last_failure = self._failure(error, sql)
            raise self._last_failure from error
        self.check_transaction()
        return cursor

    def check_transaction(self) -> None:
        """Refuse to proceed without a transaction: later writes would stay even if the run fails.

        Some failures end it ("disk full", for example), and a migration may have caught the error.

        Raises:
            TillkeeperError: the failure that ended it.
        """
        if not self._connection.in_transaction:
            cause = f"the transaction was ended by: {shown(self._statement)}"
            raise self._last_failure or MigrationFailed(operation="migrate", cause=cause)

    def _failure(self, error: sqlite3.Error, sql: str) -> TillkeeperError:
        cause, hint = self._why_refused or str(error), ""
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
            self._ours = True
            repeated = repeated_rows.of_index(self._connection, sql)
            self._ours = False
            cause += f": {repeated}" if repeated else ""
            hint = repeated_rows.WAY_OUT if repeated else ""
        kind = raised_as(error, MigrationFailed)
        path = Path(self._file) if self._file and kind is not MigrationFailed else None
        return kind(operation="migrate", path=path, cause=f"{cause} ({self._where()}: {shown(sql)})", hint=hint)

    def _where(self) -> str:
        """Return the line that the migration is executing."""
        return f"line {self._line}" if self._line else "in"

    # -------------------------------------------------------------------------------------------------- quoted names

    def _check_quoted_names(self, sql: str, parameters: Sequence[Any]) -> None:
        """Compile the statement with its "names" in backticks, which are never taken for strings.

        SQLite takes an unknown "name" for a string and silently fills a column with its own misspelt name
        (sqlite.org/quirks.html, 8). Disabling that (Python 3.12) would break triggers that a shop has already.
        """
        exact = strict(sql)
        if exact == sql or not self._checks_names:
            return
        try:
            self._connection.execute(f"EXPLAIN {exact}", parameters).close()
            self._check_body(sql, exact)
        except sqlite3.Error as error:
            if "no such column" not in str(error) or not self._compiles(sql, parameters):
                raise
            cause = f"{error}: a name in double quotes that does not exist would be taken for a string"
            raise MigrationFailed(
                operation="migrate",
                cause=f"{cause} ({self._where()}: {shown(sql)})",
                hint=STRINGS,
            ) from error

    def _compiles(self, sql: str, parameters: Sequence[Any]) -> bool:
        try:
            self._connection.execute(f"EXPLAIN {sql}", parameters).close()
        except sqlite3.Error:
            return False
        return True

    def _check_body(self, sql: str, exact: str) -> None:
        """Check the body of a view or trigger, compiled only in use: create it with strict names, use it, roll back."""
        use = use_of(sql)
        if use is None or self._why_unusable(sql, use) is not None:
            return
        why = self._why_unusable(exact, use)
        if why is not None:
            raise why

    def _why_unusable(self, sql: str, use: str) -> sqlite3.Error | None:
        self._ours = True
        self._connection.execute("SAVEPOINT body")
        try:
            self._connection.execute(sql)
            self._connection.execute(f"EXPLAIN {self._with_columns(use)}").close()
        except sqlite3.Error as error:
            return error
        finally:
            self._connection.execute("ROLLBACK TO body")
            self._connection.execute("RELEASE body")
            self._ours = False
        return None

    def _with_columns(self, use: str) -> str:
        update = use.removesuffix(COLUMNS)
        if update == use:
            return use
        *_, table, _ = pieces_of(update)
        columns = columns_of(self._connection, unquoted(table))
        return update + ", ".join(f"{quoted(column.name)} = NULL" for column in columns if column.is_written)

    # ---------------------------------------------------------------------------------------------------- authorizer

    def _authorize(
        self, action: int, first: str | None, second: str | None, schema: str | None, through: str | None
    ) -> int:
        if self._ours:
            return sqlite3.SQLITE_OK
        why = why_not(action, first, second, schema)
        if why is not None:
            self._why_refused = f"not allowed in a migration: {why}"
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_ALTER_TABLE:
            self._altered(second or "", schema)
        elif action in WRITES and first is not None:
            self._note(first, (second or "") if action == sqlite3.SQLITE_UPDATE else "", through or "")
        return sqlite3.SQLITE_OK

    def _altered(self, table: str, dropped: str | None) -> None:
        """Note the writes of ALTER TABLE.

        DROP COLUMN, which names its column here, rewrites rows. ADD COLUMN and RENAME do not, but after a RENAME the
        name may refer to other rows: two tables, or two columns, may change places.
        """
        if adds_column(self._statement):
            return
        self._note(table, dropped or "", "")
        renamed = rename_of(self._statement)
        if renamed is not None and renamed.to:
            self.written |= carried_over(self.written, table, renamed.to)

    def _note(self, table: str, column: str, through: str) -> None:
        place = f"{self._place} {self._where()}"
        self.written.add(Write(self._order, table.lower(), column.lower(), head_of(self._statement), place, through))


def perform(sandbox: Sandbox, name: str, arguments: Sequence[Any], *, line: int) -> object:
    """Call a method by name, for a migration whose code runs in another process.

    Args:
        sandbox: the object of the method.
        name: one of `CALLS`.
        arguments: what it is called with.
        line: the line of the migration that calls; 0: none of its own.
    """
    if name not in CALLS:
        raise MigrationFailed(operation="migrate", cause=f"db has no {name}")
    sandbox._line = line  # noqa: SLF001 - the same file
    method: Callable[..., object] = getattr(sandbox, name)
    return method(*arguments)
