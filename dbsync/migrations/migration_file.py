"""One file of a migration: its normalised text, its identity and its header. Runs none.

Engines share this to read their folders; `engines/registry` finds the engine of a folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import BadMigrations, DiskProblem, MigrationFailed, disk_problem
from dbsync.model import Migration, MigrationKind, Need, NeedKind, SchemaNumber, Sha256
from dbsync.storage import file_calls
from dbsync.storage.raw_text import lines_of
from dbsync.storage.sql_tokens import unquoted

if TYPE_CHECKING:
    import ast

HEADER: Final = re.compile(r"^--\s*(description|changes|needs|readable_from|replaces|strings)\s*:\s*(.*?)\s*$")
KINDS: Final = {".sql": MigrationKind.SQL, ".py": MigrationKind.PYTHON, ".toml": MigrationKind.COMMAND}
"""By the extension of the file."""
METADATA: Final = ("description", "changes", "needs", "readable_from", "replaces", "strings")
"""The keys of a migration's metadata."""
_LISTS: Final = ("changes", "needs", "replaces")
"""Those that may occur more than once in a header."""
DOUBLE_QUOTED: Final = "double-quoted"
"""Of `strings`: SQLite takes some "text" of an existing schema for a string (sqlite.org/quirks.html, 8)."""
_SHA256: Final = re.compile(r"^[0-9a-f]{64}$")
_NO_FOLDER: Final = (FileNotFoundError, NotADirectoryError)


def unreadable(path: Path, cause: OSError) -> BadMigrations | DiskProblem:
    """Return the error for a folder of migrations, or a file in it, that is not there, or cannot be read now.

    Another program may hold it: that says nothing about the release.
    """
    if isinstance(cause, (*_NO_FOLDER, IsADirectoryError)):
        hint = "Name the folder that holds the migrations." if isinstance(cause, _NO_FOLDER) else ""
        return BadMigrations(operation="read", path=path, cause=cause.strerror or str(cause), hint=hint)
    problem = disk_problem("read", path, cause)
    hint = "Make it readable for this user, or close the program that has it open."
    hint = hint if isinstance(cause, PermissionError) else ""
    return type(problem)(operation="read", path=path, cause=problem.cause, hint=hint)


def listed(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted by name.

    Raises:
        BadMigrations: there is no such folder.
        DiskProblem: it cannot be read now.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as cause:
        raise unreadable(folder, cause) from cause


def bytes_of(path: Path) -> bytes:
    """Return the content of a file in a folder of migrations.

    Raises:
        BadMigrations: there is no such file.
        DiskProblem: it cannot be read now.
    """
    try:
        return file_calls.read_bytes(path)
    except OSError as cause:
        raise unreadable(path, cause) from cause


def text_of(path: Path) -> str:
    """Return a migration's text, normalised: no BOM, LF, no white space at the end of a line.

    This text is hashed for the identity: other line ends of a checkout, or habits of an editor, do not change it.

    Raises:
        BadMigrations: there is no such file, or it is no text.
        DiskProblem: it cannot be read now.
    """
    try:
        text = bytes_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def hash_of(text: str) -> Sha256:
    """Return the hash of a normalised text."""
    return Sha256(hashlib.sha256(text.encode()).hexdigest())


def checked_text(migration: Migration) -> str:
    """Return the text that a migration was loaded from.

    Raises:
        MigrationFailed: the file changed after that.
    """
    text = text_of(migration.path)
    if hash_of(text) != migration.sha256:
        raise MigrationFailed(operation="migrate", path=migration.path, cause="the file changed after it was checked")
    return text


def metadata(path: Path, text: str, *, entry: str) -> Mapping[str, Any]:
    """Return a migration's metadata: from the header of SQL, or from assignments in Python.

    Args:
        path: the migration's file.
        text: its text.
        entry: the function that a migration in Python must define, as `up(db)`.

    Raises:
        BadMigrations: the Python code cannot be parsed, or lacks that function.
    """
    return _python_metadata(path, text, entry) if path.suffix == ".py" else _sql_metadata(text)


def built(path: Path, text: str, values: Mapping[str, Any], *, number: SchemaNumber, name: str) -> Migration:
    """Make a migration from its text and its metadata.

    Raises:
        BadMigrations: a value of the metadata has the wrong type.
    """
    return Migration(
        number=number,
        name=name,
        description=_text(path, values.get("description") or name.replace("_", " ")),
        sha256=hash_of(text),
        replaces=_hashes(path, values.get("replaces", ())),
        readable_from=_number(path, values.get("readable_from"), number),
        changes=tuple(_text(path, line) for line in _listed(path, "changes", values.get("changes", ()))),
        kind=KINDS[path.suffix],
        path=path,
        needs=tuple(_need(path, line) for line in _listed(path, "needs", values.get("needs", ()))),
        has_strings_in_double_quotes=_strings(path, values.get("strings")),
    )


def _strings(path: Path, value: object) -> bool:
    if value not in (None, DOUBLE_QUOTED):
        cause = f"strings can only be {DOUBLE_QUOTED!r}, not {value!r}"
        raise BadMigrations(operation="read", path=path, cause=cause)
    return value is not None


def header_of(text: str) -> list[str]:
    """Return the lines before the first statement, some of which are metadata."""
    return list(takewhile(lambda line: not line.strip() or line.startswith("--"), sql_lines(text)))


def sql_lines(text: str) -> list[str]:
    """Return the lines of an SQL file by SQLite's rule: a comment ends at a newline and nowhere else."""
    return [line.removesuffix("\r") for line in lines_of(text)]


def _sql_metadata(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {key: [] for key in _LISTS}
    for match in filter(None, map(HEADER.match, header_of(text))):
        key, value = match[1], match[2]
        if key in _LISTS:
            values[key].append(value)
        else:
            values[key] = int(value) if key == "readable_from" and value.isdigit() else value
    return values


def _python_metadata(path: Path, text: str, entry: str) -> Mapping[str, Any]:
    """Return the literals assigned at the top level, read from the syntax tree: reading a folder runs no code."""
    import ast

    try:
        tree = ast.parse(text, str(path))
    except (SyntaxError, ValueError) as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
    values = {
        target.id: _literal(path, target.id, node)
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id in METADATA
    }
    _check_entry(path, tree, entry)
    return values


def _check_entry(path: Path, tree: ast.Module, entry: str) -> None:
    """Refuse a file without its function, or with one whose body a call would not run."""
    import ast

    name = entry.partition("(")[0]
    named = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    if not named:
        raise BadMigrations(operation="read", path=path, cause=f"it has no function {entry}")
    last = named[-1]
    if isinstance(last, ast.AsyncFunctionDef):
        cause, hint = f"{entry} is async, so a call would not run it", "Remove `async` and `await`."
    elif any(isinstance(node, ast.Yield | ast.YieldFrom) for node in _own_nodes(last)):
        cause, hint = f"{entry} contains yield, so a call would not run it", "Remove `yield`."
    else:
        return
    raise BadMigrations(operation="read", path=path, cause=f"{cause} (line {last.lineno})", hint=hint)


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function's body without those of the functions and classes in it."""
    import ast

    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield node
            yield from _own_nodes(node)


def _literal(path: Path, name: str, node: ast.Assign | ast.AnnAssign) -> Any:
    import ast

    try:
        return ast.literal_eval(node.value or ast.Constant(None))
    except ValueError as cause:
        why = f"{name} must be written out, because it is read without running the file (line {node.lineno})"
        raise BadMigrations(operation="read", path=path, cause=why) from cause


def _listed(path: Path, key: str, value: object) -> Iterable[object]:
    if not isinstance(value, list | tuple):
        raise BadMigrations(operation="read", path=path, cause=f"{key} must be a list of strings, not {value!r}")
    return value


def _need(path: Path, value: object) -> Need:
    kind, _, name = _text(path, value).strip().partition(" ")
    name = unquoted(name.strip())
    if kind not in list(NeedKind) or not name:
        raise BadMigrations(
            operation="read",
            path=path,
            cause=f"the need {value!r} is not understood",
            hint="Write `function NAME`, `collation NAME`, `module NAME` or `tokenizer NAME`.",
        )
    return Need(NeedKind(kind), name)


def _text(path: Path, value: object) -> str:
    if not isinstance(value, str):
        raise BadMigrations(operation="read", path=path, cause=f"{value!r} must be a string")
    return value


def _number(path: Path, value: object, number: SchemaNumber) -> SchemaNumber | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= number:
        raise BadMigrations(operation="read", path=path, cause=f"readable_from must be between 1 and {number}")
    return SchemaNumber(value)


def _hashes(path: Path, values: object) -> tuple[Sha256, ...]:
    if not isinstance(values, list | tuple) or not all(
        isinstance(text, str) and _SHA256.match(text) for text in values
    ):
        raise BadMigrations(operation="read", path=path, cause="replaces must name SHA-256 hashes")
    return tuple(map(Sha256, values))
