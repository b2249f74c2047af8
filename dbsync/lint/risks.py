"""Risks that the text of a migration shows, each with the safe way. Nothing is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final, NamedTuple, assert_never

from dbsync.errors import BadMigrations
from dbsync.migrations.migration_file import HEADER, header_of, sql_lines, text_of
from dbsync.model import EngineName, Migration, MigrationKind
from dbsync.schema.declarations import Declared, cell_of, declared
from dbsync.schema.sql_text import rename_of, split
from dbsync.storage.sql_tokens import words_of

COMPUTED: Final = "computed_by_the_migration"
"""Placeholder for a value that an f-string inserts."""
_CONTROL: Final = ("begin", "commit", "rollback", "end", "savepoint", "release", "attach", "detach", "vacuum")
_VERBS: Final = frozenset(
    [
        "alter",
        "create",
        "delete",
        "drop",
        "insert",
        "pragma",
        "reindex",
        "replace",
        "select",
        "update",
        "with",
        *_CONTROL,
    ]
)
_WRITING: Final = ("insert", "update", "delete", "replace", "with")
_NOW: Final = ("current_timestamp", "current_date", "current_time")
_CLOCKS: Final = ("date", "time", "datetime", "julianday", "unixepoch", "strftime")
_PYTHON_CLOCKS: Final = frozenset(
    ["datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns", "os.urandom"]
)
_PYTHON_CHANCE: Final = ("random.", "secrets.", "uuid.uuid1", "uuid.uuid4")
_DOWNS: Final = ("down", "downgrade", "revert", "rollback", "undo")
_DOWN_ROW: Final = (
    "Remove it. Rows go back by the names of their columns; where that is not enough, write `down_row(table, row)`:"
    " docs/migrations.md."
)
_NEARLY: Final = re.compile(
    r"^\s*(?:--|/\*)\s*(changes?|replaces?|needs?|readable[ _-]from|strings?)\s*:", re.IGNORECASE
)
_WHERE_IT_IS_READ: Final = (
    "Write it as `-- changes: …`, `-- needs: …`, `-- replaces: …`, `-- readable_from: …` or `-- strings: …`, at the"
    " beginning of a line and before the first statement."
)
_SAY_IT: Final = "Say it: "
SAME_TWICE: Final = (
    "Take the value from a column of the row, or a constant: going back is proven by running the migration again."
)


class Risk(NamedTuple):
    """A statement that can fail in the field."""

    what: str
    safe: str

    @property
    def is_allowed_by_a_line(self) -> bool:
        """Whether the safe way is a declaration, which changes nothing of what the statement does."""
        return self.safe.startswith(_SAY_IT)


def statements_of(migration: Migration) -> list[str]:
    """Return the statements in a migration's text; of Python those strings that look like SQL, of a program none."""
    match migration.kind:
        case MigrationKind.COMMAND:
            return []
        case MigrationKind.SQL:
            return list(split(text_of(migration.path)))
        case MigrationKind.PYTHON:
            return list(_in_python(text_of(migration.path)))
        case _:
            assert_never(migration.kind)


def risks(migration: Migration) -> list[Risk]:
    """Return the risks in a migration's text. Python is parsed; strings in it that look like SQL are statements."""
    if migration.kind is MigrationKind.COMMAND:
        return []
    text, statements = text_of(migration.path), statements_of(migration)
    try:
        said = declared([migration])
    except BadMigrations:
        # The check reports wrong declarations as a problem of their own.
        return []
    all_words = [words_of(statement) for statement in statements]
    made = {_created(words) for words in all_words} | {
        renamed.to.lower() for statement in statements if (renamed := rename_of(statement)) is not None
    }
    found = list(_unread(text)) if (migration.kind, migration.engine) == (MigrationKind.SQL, EngineName.OWN) else []
    for statement, words in zip(statements, all_words, strict=True):
        found += [*_altering(statement, words, said, made), *_dropping(words, said, made, all_words)]
        if migration.engine is EngineName.OWN:
            # The files of other tools usually contain such statements, which their engines skip.
            found += _breaking(words)
        if migration.number > 1:
            # The first migration starts from nothing, and is never run again for a downgrade.
            found += _unlike_twice(words)
    if migration.kind is MigrationKind.PYTHON and migration.engine is EngineName.OWN:
        found += _python_never_called(text)
    if migration.kind is MigrationKind.PYTHON and migration.number > 1:
        found += _python_unlike_twice(text)
    return list(dict.fromkeys(found))


def _unread(text: str) -> Iterator[Risk]:
    """Yield a risk for each line that was meant as a header of the migration and is not read as one."""
    header = header_of(text)
    for number, line in enumerate(sql_lines(text)):
        if _NEARLY.match(line) and not (number < len(header) and HEADER.match(line)):
            yield Risk(f"`{line.strip()}` is not read", _WHERE_IT_IS_READ)


def _in_python(text: str) -> Iterator[str]:
    tree = ast.parse(text)
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        # Docstrings and log messages are for people, and are not SQL.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "log":
            inner |= {id(argument) for argument in node.args}
        if id(node) in inner:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else COMPUTED for part in node.values]
            yield from _if_sql("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _if_sql(node.value)


def _if_sql(text: str) -> Iterator[str]:
    for statement in split(text):
        if (words_of(statement)[:1] or [""])[0] in _VERBS:
            yield statement


def _name_at(words: list[str], at: int) -> str:
    """Return the name at a place, without `IF EXISTS`, `IF NOT EXISTS` and the name of the database before it."""
    while words[at : at + 1] and words[at] in ("if", "not", "exists"):
        at += 1
    return (words[at + 2 : at + 3] if words[at + 1 : at + 2] == ["."] else words[at : at + 1] or [""])[0]


def _created(words: list[str]) -> str:
    return _name_at(words, 2) if words[:2] == ["create", "table"] else ""


def _altering(statement: str, words: list[str], said: Declared, made: set[str]) -> Iterator[Risk]:
    if words[:2] != ["alter", "table"]:
        return
    table = _name_at(words, 2)
    at = 5 if words[3:4] == ["."] else 3
    rest = [word for word in words[at + 1 :] if word not in ("column", ";")]
    renamed = rename_of(statement)
    before, column = cell_of(said, (table, (rest or [""])[0]))
    if words[at : at + 1] == ["drop"] and not _allowed(said, "column", f"{before}.{column}", COMPUTED in words):
        safe = f"{_SAY_IT}`changes: drop column {table}.{rest[0]}`; and release an app before that does without it."
        yield Risk("it drops a column without a declaration", safe)
    if (
        words[at : at + 1] == ["add"]
        and "null" in rest
        and "not" in rest
        and "default" not in rest
        and "as" not in rest
    ):
        safe = "Give it a DEFAULT, or add it without and use db.not_null(table, column, fill=...)."
        yield Risk("it adds a NOT NULL column without a default", safe)
    if renamed is not None and renamed.to and table not in made and said.tables.get(table, "") == "":
        safe = (
            f"{_SAY_IT}`changes: rename {table} -> {renamed.to}`. In a rebuild, make the new table, copy, drop, rename."
        )
        yield Risk("it renames a table without a declaration", safe)
    if renamed is not None and not renamed.to and not any(key[0] == before for key in said.columns):
        says = f"`changes: rename {table}.{rest[0]} -> {table}.{rest[-1]}`"
        safe = f"{_SAY_IT}{says}; an older app does not know the new name."
        yield Risk("it renames a column without a declaration", safe)


def _dropping(words: list[str], said: Declared, made: set[str], all_words: list[list[str]]) -> Iterator[Risk]:
    kind = words[1] if words[:1] == ["drop"] and len(words) > 1 else ""
    name = _name_at(words, 2)
    if kind == "table" and name not in made and not _allowed(said, kind, name, COMPUTED in name):
        yield Risk("it drops a table without a declaration", f"{_SAY_IT}`changes: drop table {name}`.")
    again = any(others[:1] == ["create"] and kind in others[1:4] for others in all_words)
    if kind in ("index", "trigger", "view") and not again and not _allowed(said, kind, name, COMPUTED in name):
        safe = f"{_SAY_IT}`changes: drop {kind} {name}`; or make it again in the same migration."
        article = "an" if kind == "index" else "a"
        yield Risk(f"it drops {article} {kind} without a declaration", safe)


def _allowed(said: Declared, kind: str, name: str, computed: bool) -> bool:
    """Return whether a drop is declared; where its name is computed, any declaration of the kind counts."""
    return (kind, name) in said.drops or (computed and any(drop[0] == kind for drop in said.drops))


def _breaking(words: list[str]) -> Iterator[Risk]:
    first = (words[:1] or [""])[0]
    if words[:2] == ["pragma", "foreign_keys"]:
        safe = (
            "Foreign keys are off while migrations run, so a rebuild cascades nowhere; they are checked before COMMIT."
        )
        yield Risk("PRAGMA foreign_keys does nothing inside a transaction", safe)
    if first in _CONTROL:
        yield Risk(f"{first.upper()} would break the one transaction", "Leave it out.")


def _unlike_twice(words: list[str]) -> Iterator[Risk]:
    if not (words[:1] and words[0] in _WRITING) and not (_created(words) and "select" in words):
        return
    for index, word in enumerate(words):
        called = words[index + 1 : index + 2] == ["("]
        if called and word in ("random", "randomblob"):
            yield Risk(f"it asks for chance: {word}()", SAME_TWICE)
        now = "'now'" in [later.lower() for later in words[index:]] or words[index + 2 : index + 3] == [")"]
        if word in _NOW or (called and word in _CLOCKS and now):
            yield Risk(f"it asks the clock: {word}", SAME_TWICE)


def _python_unlike_twice(text: str) -> Iterator[Risk]:
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    for node in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        called = ast.unparse(node.func)
        if any(called == clock or called.endswith(f".{clock}") for clock in _PYTHON_CLOCKS - {"os.urandom"}):
            yield Risk(f"it asks the clock: {called}() (line {node.lineno})", SAME_TWICE)
        elif called == "os.urandom" or called.startswith(_PYTHON_CHANCE):
            yield Risk(f"it asks for chance: {called}() (line {node.lineno})", SAME_TWICE)


def _python_never_called(text: str) -> Iterator[Risk]:
    """Yield a risk for each function that other tools call to go back, and nothing calls here."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in _DOWNS:
            yield Risk(f"{node.name}() is never called (line {node.lineno})", _DOWN_ROW)
