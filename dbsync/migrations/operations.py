"""Difficult schema changes as calls on `db`: each checks first, keeps what a plain rebuild would lose, and logs.

A rebuild follows SQLite's documented order (sqlite.org/lang_altertable.html, 7): make the new table, copy, drop the old
one, rename; indexes, triggers, rowids and the AUTOINCREMENT counter are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

from dbsync.errors import MigrationFailed
from dbsync.progress import Unit
from dbsync.schema.declarations import same
from dbsync.schema.sql_text import Definition, Statement, definition_of, with_not_null
from dbsync.storage.introspection import quoted

BATCH_ROWS: Final = 10_000
KEYS_SHOWN: Final = 6
"""Keys of rows that are named in a failure; values never are: they may be personal."""
Settle = Literal["refuse", "suffix", "keep_oldest", "keep_newest"]
OnDelete = Literal["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"]
"""These words, so that editors offer them and a type checker finds another one."""
SETTLES: Final[tuple[str, ...]] = get_args(Settle)


class Rows(NamedTuple):
    """The result of a statement, all of it: migrations never get a cursor, because that leads to its connection."""

    rows: list[tuple[Any, ...]]
    description: Any
    rowcount: int
    lastrowid: int | None


class Database(ABC):
    """Base class of the object that a migration gets as `db`."""

    @abstractmethod
    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement."""

    @abstractmethod
    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one query."""

    @abstractmethod
    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns."""

    @abstractmethod
    def _rowid(self, table: str) -> str | None:
        """Return a name for a table's rowid; None where it has none, or no name for it is left."""

    @abstractmethod
    def script(self, text: str) -> None:
        """Run the statements of an SQL text one by one."""

    @abstractmethod
    def _statements(self, statements: Sequence[Statement]) -> None:
        """Run statements that are split already."""

    @abstractmethod
    def _rows(self, sql: str, parameters: Sequence[Any]) -> Rows:
        """Run one statement of an engine's library and return all that its cursor would show."""

    @abstractmethod
    def existing(self, sql: str) -> None:
        """Run a statement of the database's own schema, which may have strings in double quotes."""

    @abstractmethod
    def is_local(self, kind: str, name: str) -> bool:
        """Return whether no schema of the vendor has an index or trigger; it is made again after the migration."""

    @abstractmethod
    def log(self, text: str) -> None:
        """Write one line to the run's log."""

    @abstractmethod
    def progress(self, done: int, total: int, unit: Unit = Unit.ROWS) -> None:
        """Report the progress of a long step."""

    def add_column(self, table: str, column: str, definition: str) -> bool:
        """Add a column if it is missing and return whether it was."""
        if any(same(name, column) for name in self.columns(table)):
            return False
        self.execute(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(column)} {definition}")
        self.log(f"✅ Added '{column}' column to {table}")
        return True

    def rebuild_table(self, table: str, definition: str, copy: Mapping[str, str] | None = None) -> None:
        """Give a table another definition.

        Args:
            table: its name, which stays.
            definition: the text between the parentheses of CREATE TABLE; with the parentheses if options follow them.
            copy: new column → expression over the old row; all other columns are copied by name.
        """
        body = definition if definition.lstrip().startswith("(") else f"({definition})"
        self._rebuild(table, lambda new: self.execute(f"CREATE TABLE {quoted(new)} {body}"), dict(copy or {}))

    def rebuild_with(self, table: str, body: str, copy: Mapping[str, str]) -> None:
        """Give a table a definition that consists of text that the database has or had, parentheses included."""
        self._rebuild(table, lambda new: self.existing(f"CREATE TABLE {quoted(new)} {body}"), dict(copy))

    def add_foreign_key(self, table: str, column: str, references: str, on_delete: OnDelete = "NO ACTION") -> None:
        """Add a foreign key: `references` is like `categories(id)`. Rows without a parent are refused."""
        parent, _, target = references.rstrip(")").partition("(")
        lost = self.query(
            f"SELECT count(*) FROM {quoted(table)} WHERE {quoted(column)} IS NOT NULL AND {quoted(column)} NOT IN"
            f" (SELECT {quoted(target.strip())} FROM {quoted(parent.strip())})"
        )[0][0]
        self._refuse(
            lost,
            f"{lost} rows of {table} refer to rows of {parent.strip()} that are not there",
            "Remove these references before it in the migration, or add the rows.",
        )
        clause = f"FOREIGN KEY ({quoted(column)}) REFERENCES {quoted(parent.strip())}({quoted(target.strip())})"
        self.rebuild_with(table, self._with_constraint(table, f"{clause} ON DELETE {on_delete}"), {})
        self.log(f"✅ Foreign key of {table}.{column} added")

    def add_unique(
        self, table: str, columns: Sequence[str], settle: Settle = "refuse", name: str | None = None
    ) -> None:
        """Make columns unique by an index, after resolving duplicates as `settle` says.

        Args:
            table: the table.
            columns: the columns that must be unique together.
            settle: refuse (with counts), suffix (the last column gets -2, -3 …), keep_oldest or keep_newest (by rowid;
                by key in a table without rowids).
            name: the name of the index.
        """
        if settle not in SETTLES:
            cause = f"settle must be one of {', '.join(SETTLES)}, not {settle}"
            raise MigrationFailed(operation="make unique", cause=cause)
        if isinstance(columns, str):
            # A string is a sequence of strings, so no type checker finds it.
            cause = f'columns must be a list of strings: ["{columns}"]'
            raise MigrationFailed(operation="make unique", cause=cause)
        names = ", ".join(map(quoted, columns))
        order = "DESC" if settle == "keep_newest" else "ASC"
        present = " AND ".join(f"{quoted(column)} IS NOT NULL" for column in columns)
        row = self._known_by(table)
        oldest = ", ".join(f"{column} {order}" for column in row)
        twice = self.query(
            f"SELECT nth, {', '.join(row)} FROM (SELECT {', '.join(row)}, row_number() OVER (PARTITION BY {names}"
            f" ORDER BY {oldest}) AS nth FROM {quoted(table)} WHERE {present}) WHERE nth > 1 ORDER BY {', '.join(row)}"
        )
        if settle == "refuse":
            shown = ", ".join("/".join(map(str, key)) for _, *key in twice[:KEYS_SHOWN])
            more = ", …" if len(twice) > KEYS_SHOWN else ""
            self._refuse(
                len(twice),
                f"{len(twice)} rows of {table} repeat {', '.join(columns)}, keys {shown}{more}",
                'Fix the rows before it in the migration, or pass settle="suffix", "keep_oldest" or "keep_newest".',
            )
        where = " AND ".join(f"{column} = ?" for column in row)
        for number, *key in twice:
            self._settle(table, columns[-1], settle, where, key, number)
        if twice:
            self.log(f"ℹ️ {len(twice)} duplicates in {table} settled by {settle}")
        index = name or f"{table}_{'_'.join(columns)}_unique"
        self.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {quoted(index)} ON {quoted(table)} ({names})")
        self.log("✅ UNIQUE constraint added successfully")

    def _settle(self, table: str, column: str, settle: str, where: str, key: list[Any], number: int) -> None:
        if settle != "suffix":
            self.execute(f"DELETE FROM {quoted(table)} WHERE {where}", key)
            return
        value = self.query(f"SELECT {quoted(column)} FROM {quoted(table)} WHERE {where}", key)[0][0]
        taken = f"SELECT 1 FROM {quoted(table)} WHERE {quoted(column)} = ?"
        while self.query(taken, (f"{value}-{number}",)):
            number += 1
        self.execute(f"UPDATE {quoted(table)} SET {quoted(column)} = ? WHERE {where}", (f"{value}-{number}", *key))

    def _known_by(self, table: str) -> list[str]:
        """Return the quoted columns that identify a row: the rowid, else the primary key, which then is never NULL."""
        rowid = self._rowid(table)
        keys = sorted(
            (row for row in self.query(f"PRAGMA table_info({quoted(table)})") if row[5]), key=lambda row: row[5]
        )
        return [rowid] if rowid is not None else [quoted(str(row[1])) for row in keys]

    def not_null(self, table: str, column: str, fill: str) -> None:
        """Make a column NOT NULL, after setting NULLs to `fill`, an expression over the row."""
        self.execute(f"UPDATE {quoted(table)} SET {quoted(column)} = {fill} WHERE {quoted(column)} IS NULL")
        left = self.query(f"SELECT count(*) FROM {quoted(table)} WHERE {quoted(column)} IS NULL")[0][0]
        self._refuse(left, f"{left} rows of {table} have no {column} even so", "Pass a fill that is never NULL.")
        parts, tail = self._definition(table)
        self.rebuild_with(table, f"({','.join(with_not_null(part, column) for part in parts)}){tail}", {})
        self.log(f"✅ {table}.{column} is NOT NULL")

    def backfill(self, table: str, column: str, expression: str, batch_rows: int = BATCH_ROWS) -> int:
        """Set a column of every row, in batches with progress, and return the number of rows.

        A table without rowids is one batch.
        """
        rowid = self._rowid(table)
        update = f"UPDATE {quoted(table)} SET {quoted(column)} = {expression}"
        if rowid is None:
            done = self.execute(update)
            self.log(f"🔄 {table}.{column}: {done} rows")
            return done
        total = self.query(f"SELECT count(*) FROM {quoted(table)}")[0][0]
        done, after = 0, -(2**63)
        # Batches of existing rows, not ranges of keys: keys made from a time or at random lie far apart.
        batch = f"SELECT {rowid} AS r FROM {quoted(table)} WHERE {rowid} >= ? ORDER BY r LIMIT ?"
        while (last := self.query(f"SELECT max(r) FROM ({batch})", (after, batch_rows))[0][0]) is not None:
            done += self.execute(f"{update} WHERE {rowid} >= ? AND {rowid} <= ?", (after, last))
            self.log(f"🔄 {table}.{column}: {done} of {total} rows")
            self.progress(done, total)
            if last == 2**63 - 1:
                break
            after = last + 1
        return done

    def constrain(self, table: str, check: str, clean: str | None = None) -> None:
        """Add a CHECK after counting the rows that break it and fixing them with `clean`, one statement.

        It is refused if rows that break the CHECK are left.
        """
        broken = f"SELECT count(*) FROM {quoted(table)} WHERE NOT ({check})"
        count = self.query(broken)[0][0]
        if count and clean is not None:
            self.execute(clean)
            self.log(f"ℹ️ {count} rows of {table} cleaned")
            count = self.query(broken)[0][0]
        hint = "Pass clean=, one statement that fixes these rows, or fix them before it in the migration."
        self._refuse(count, f"{count} rows of {table} break CHECK ({check})", hint)
        self.rebuild_with(table, self._with_constraint(table, f"CHECK ({check})"), {})
        self.log(f"✅ CHECK added to {table}")

    # ------------------------------------------------------------------------------------------------------- rebuilds

    def _rebuild(self, table: str, make: Callable[[str], object], copy: dict[str, str]) -> None:
        new = f"dbsync_new_{table}"
        kept = self.query(
            "SELECT type, name, sql FROM sqlite_schema WHERE lower(tbl_name) = lower(?)"
            " AND type IN ('index', 'trigger') AND sql IS NOT NULL",
            (table,),
        )
        before = self.columns(table)
        make(new)
        names = [name for name in self._written_columns(new) if name in copy or any(same(name, old) for old in before)]
        chosen = [copy.get(name, quoted(name)) for name in names]
        rowids = self._rowid(new), self._rowid(table)
        listed = [quoted(name) for name in names]
        if rowids[0] is not None and rowids[1] is not None and not self._has_integer_key(new):
            listed, chosen = [rowids[0], *listed], [rowids[1], *chosen]
        self.execute(f"INSERT INTO {quoted(new)} ({', '.join(listed)}) SELECT {', '.join(chosen)} FROM {quoted(table)}")
        self._carry_mark(table, new)
        self.execute(f"DROP TABLE {quoted(table)}")
        # The legacy rename leaves views and other tables' references alone: they refer to the name that is restored.
        self.execute("PRAGMA legacy_alter_table=ON")
        self.execute(f"ALTER TABLE {quoted(new)} RENAME TO {quoted(table)}")
        self.execute("PRAGMA legacy_alter_table=OFF")
        for kind, name, sql in kept:
            # A local index may be on a column that is not there yet.
            if not self.is_local(kind, name):
                self.existing(sql)

    def _carry_mark(self, table: str, new: str) -> None:
        if not self.query("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'"):
            return
        mark = self.query("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
        known = self.query("SELECT 1 FROM sqlite_sequence WHERE name = ?", (new,))
        if mark and known:
            self.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (mark[0][0], new))
        elif mark:
            self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (new, mark[0][0]))

    def _has_integer_key(self, table: str) -> bool:
        rows = self.query(f"PRAGMA table_info({quoted(table)})")
        keys = [row for row in rows if row[5]]
        return len(keys) == 1 and str(keys[0][2]).upper() == "INTEGER"

    def _written_columns(self, table: str) -> list[str]:
        """Return the columns that an INSERT may name: not the generated ones."""
        return [str(row[1]) for row in self.query(f"PRAGMA table_xinfo({quoted(table)})") if row[6] == 0]

    def _definition(self, table: str) -> Definition:
        sql = str(self.query("SELECT sql FROM sqlite_schema WHERE lower(name) = lower(?)", (table,))[0][0])
        definition = definition_of(sql)
        if definition is None:
            raise MigrationFailed(operation="rebuild", cause=f"the definition of {table} is not understood")
        return definition

    def _with_constraint(self, table: str, constraint: str) -> str:
        parts, tail = self._definition(table)
        return f"({','.join([*parts, f' {constraint}'])}){tail}"

    def _refuse(self, count: int, cause: str, hint: str) -> None:
        if count:
            raise MigrationFailed(operation="validate", cause=cause, hint=hint)


def rows_of(db: Database, sql: str, parameters: Sequence[Any]) -> Rows:
    """Run one statement of an engine's library and return all that its cursor would show."""
    return db._rows(sql, parameters)  # noqa: SLF001 - the same file


def run_statements(db: Database, statements: Sequence[Statement]) -> None:
    """Run statements that an engine has split, like those of an SQL file."""
    db._statements(statements)  # noqa: SLF001 - the same file
