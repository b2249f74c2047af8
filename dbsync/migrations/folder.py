"""Reads a folder of migrations: `NNNN_name.sql`, `.py` or `.toml`, by number, without gaps. Runs none of them.

Folders of other tools are read by their engines (`engines/`), into the same values.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import BadMigrations, MigrationFailed
from dbsync.migrations.engines import registry
from dbsync.model import Migration

if TYPE_CHECKING:
    import ast

NONE: Final = "there is no migration in the folder"
NONE_HINT: Final = "Name the folder that holds the migrations."
_NAME: Final = re.compile(r"^(\d{4})_([a-z][a-z0-9_]*)\.(sql|py|toml)$")
_NUMBERED: Final = re.compile(r"^\d{4}_")
_KINDS: Final = {".sql": "sql", ".py": "python", ".toml": "command"}
HEADER: Final = re.compile(r"^--\s*(description|changes|readable_from|replaces)\s*:\s*(.*?)\s*$")
_SHA256: Final = re.compile(r"^[0-9a-f]{64}$")
_METADATA: Final = ("description", "changes", "readable_from", "replaces")


def load(folder: Path) -> tuple[Migration, ...]:
    """All migrations of a folder, by number.

    Raises:
        BadMigrations: the folder is missing, a number is missing or there twice, or a file cannot be understood;
            nothing else was looked at.
    """
    engine = registry.engine_of(folder)
    if engine != registry.OWN:
        return registry.named(engine).load(folder)
    inside = listed(folder)
    paths = [
        one for one in inside if one.suffix.lower() in _KINDS and one.name not in ("__init__.py", registry.SETTINGS)
    ]
    found = tuple(_load(path) for path in paths)
    if not found and any(one.name[0].isdigit() for one in inside):
        # A release without migrations is one thing, a folder that nobody here can read is another.
        cause = f"it has no migration that is read here, and {inside[0].name}: is it another tool's?"
        raise BadMigrations(operation="read", path=folder, cause=cause)
    numbers = [one.number for one in found]
    twice = sorted({one for one in numbers if numbers.count(one) > 1})
    if twice:
        raise BadMigrations(operation="read", path=folder, cause=f"the number {twice[0]:04d} is there more than once")
    missing = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
    if missing:
        raise BadMigrations(operation="read", path=folder, cause=f"the number {missing[0]:04d} is missing")
    return found


def passed_over(folder: Path) -> list[Path]:
    """Files that look like migrations and are none, as an editor leaves them: `0007_add_barcode.sql.txt`."""
    if registry.engine_of(folder) != registry.OWN:
        return []
    return [one for one in listed(folder) if _NUMBERED.match(one.name) and one.suffix.lower() not in _KINDS]


def folder_of(migration: Migration) -> Path:
    """The folder that a migration was loaded from."""
    folder = migration.path.parent
    has_own = migration.engine == "drizzle" and migration.path.name == "migration.sql"
    return folder.parent if migration.engine == "alembic" or has_own else folder


def listed(folder: Path) -> list[Path]:
    """What is in a folder, by name.

    Raises:
        BadMigrations: it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as cause:
        raise registry.unreadable(folder, cause) from cause


def text_of(path: Path) -> str:
    """A migration's text, normalised: no BOM, LF, no white space at the end of a line.

    Identity goes by this text: a checkout with other line ends, or an editor's habit, is not another migration.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as cause:
        raise registry.unreadable(path, cause) from cause
    except UnicodeDecodeError as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def hash_of(text: str) -> str:
    """The hash of a normalised text."""
    return hashlib.sha256(text.encode()).hexdigest()


def checked_text(migration: Migration) -> str:
    """The text that a migration was loaded from.

    Raises:
        MigrationFailed: the file was changed since.
    """
    text = text_of(migration.path)
    if hash_of(text) != migration.sha256:
        raise MigrationFailed(operation="migrate", path=migration.path, cause="the file changed after it was checked")
    return text


def metadata(path: Path, text: str) -> Mapping[str, Any]:
    """What a migration's text says of itself: a header of SQL, assignments of Python, keys of TOML."""
    if path.suffix == ".py":
        return _python_metadata(path, text)
    return _command_metadata(path, text) if path.suffix == ".toml" else _sql_metadata(text)


def built(path: Path, text: str, values: Mapping[str, Any], *, number: int, name: str) -> Migration:
    """A migration out of its text and what is said of it.

    Raises:
        BadMigrations: something that is said is not of its kind.
    """
    return Migration(
        number=number,
        name=name,
        description=_text(path, values.get("description") or name.replace("_", " ")),
        sha256=hash_of(text),
        replaces=_hashes(path, values.get("replaces", ())),
        readable_from=_number(path, values.get("readable_from"), number),
        changes=tuple(_text(path, one) for one in _listed(path, values.get("changes", ()))),
        kind=_KINDS[path.suffix],
        path=path,
    )


def _load(path: Path) -> Migration:
    match = _NAME.match(path.name)
    if match is None:
        cause = "a migration's file is named like 0007_add_barcode.sql or 0007_add_barcode.py"
        cause += f'; another tool\'s folder says so in {registry.SETTINGS} (engine = "numbered")'
        raise BadMigrations(operation="read", path=path, cause=cause)
    text = text_of(path)
    return built(path, text, metadata(path, text), number=int(match[1]), name=match[2])


def header_of(text: str) -> list[str]:
    """The lines before the first statement, of which those that name something say it of the migration."""
    return list(takewhile(lambda line: not line.strip() or line.startswith("--"), text.splitlines()))


def _sql_metadata(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {"changes": [], "replaces": []}
    for match in filter(None, map(HEADER.match, header_of(text))):
        key, value = match[1], match[2]
        if key in ("changes", "replaces"):
            values[key].append(value)
        else:
            values[key] = int(value) if key == "readable_from" and value.isdigit() else value
    return values


def _python_metadata(path: Path, text: str) -> Mapping[str, Any]:
    """Literals assigned at the top level, read from the syntax tree: reading a folder runs no code."""
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
        if isinstance(target, ast.Name) and target.id in _METADATA
    }
    wanted = {"up", "upgrade"}  # Alembic's name for it is the second one
    if not any(isinstance(node, ast.FunctionDef) and node.name in wanted for node in tree.body):
        raise BadMigrations(operation="read", path=path, cause="it has no function up(db)")
    return values


def _literal(path: Path, name: str, node: ast.Assign | ast.AnnAssign) -> Any:
    import ast

    try:
        return ast.literal_eval(node.value or ast.Constant(None))
    except ValueError as cause:
        why = f"{name} has to be written out, because it is read without running the file (line {node.lineno})"
        raise BadMigrations(operation="read", path=path, cause=why) from cause


def _command_metadata(path: Path, text: str) -> Mapping[str, Any]:
    import tomllib

    try:
        values = tomllib.loads(text)
    except ValueError as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
    words = values.get("command")
    if not isinstance(words, list) or not words or not all(isinstance(one, str) for one in words):
        raise BadMigrations(operation="read", path=path, cause="command has to be a list of words")
    if not any("{database}" in one for one in words):
        raise BadMigrations(operation="read", path=path, cause="no word of the command is or holds {database}")
    proofs = values.get("proves", [])
    if not isinstance(proofs, list) or not all(isinstance(one, str) for one in proofs):
        raise BadMigrations(operation="read", path=path, cause="proves has to be a list of queries")
    timeout_seconds = values.get("timeout_seconds", 1)
    if not isinstance(timeout_seconds, int | float) or timeout_seconds <= 0:
        raise BadMigrations(operation="read", path=path, cause="timeout_seconds has to be a number above 0")
    unknown = sorted(values.keys() - {*_METADATA, "command", "timeout_seconds", "proves"})
    if unknown:
        raise BadMigrations(operation="read", path=path, cause=f"{', '.join(unknown)}: not known")
    return values


def _listed(path: Path, value: object) -> Iterable[object]:
    if not isinstance(value, list | tuple):
        raise BadMigrations(operation="read", path=path, cause=f"changes has to be a list of texts, not {value!r}")
    return value


def _text(path: Path, value: object) -> str:
    if not isinstance(value, str):
        raise BadMigrations(operation="read", path=path, cause=f"{value!r} has to be a text")
    return value


def _number(path: Path, value: object, number: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= number:
        raise BadMigrations(operation="read", path=path, cause=f"readable_from has to be between 1 and {number}")
    return value


def _hashes(path: Path, values: object) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not all(isinstance(one, str) and _SHA256.match(one) for one in values):
        raise BadMigrations(operation="read", path=path, cause="replaces has to name SHA-256 hashes")
    return tuple(values)
