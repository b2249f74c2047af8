"""Reads a folder of migrations: `NNNN_name.sql` and `NNNN_name.py`, by number, without gaps. Runs none of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dbsync.errors import BadMigrations
from dbsync.model import Migration

_NAME: Final = re.compile(r"^(\d{4})_([a-z][a-z0-9_]*)\.(sql|py)$")
_HEADER: Final = re.compile(r"^--\s*(description|changes|readable_from|replaces)\s*:\s*(.*?)\s*$")
_SHA256: Final = re.compile(r"^[0-9a-f]{64}$")
_METADATA: Final = ("description", "changes", "readable_from", "replaces")


def load(folder: Path) -> tuple[Migration, ...]:
    """All migrations of a folder, by number.

    Raises:
        BadMigrations: the folder is missing, a number is missing or there twice, or a file cannot be understood;
            nothing else was looked at.
    """
    try:
        paths = sorted(one for one in folder.iterdir() if one.suffix in (".sql", ".py") and one.name != "__init__.py")
    except OSError as cause:
        raise BadMigrations(operation="read", path=folder, cause=cause.strerror or str(cause)) from cause
    found = tuple(_load(path) for path in paths)
    numbers = [one.number for one in found]
    twice = sorted({one for one in numbers if numbers.count(one) > 1})
    if twice:
        raise BadMigrations(operation="read", path=folder, cause=f"the number {twice[0]:04d} is there more than once")
    missing = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
    if missing:
        raise BadMigrations(operation="read", path=folder, cause=f"the number {missing[0]:04d} is missing")
    return found


def text_of(path: Path) -> str:
    """A migration's text, normalised: no BOM, LF, no white space at the end of a line.

    Identity goes by this text: a checkout with other line ends, or an editor's habit, is not another migration.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def hash_of(text: str) -> str:
    """The hash of a normalised text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _load(path: Path) -> Migration:
    match = _NAME.match(path.name)
    if match is None:
        cause = "a migration's file is named like 0007_add_barcode.sql or 0007_add_barcode.py"
        raise BadMigrations(operation="read", path=path, cause=cause)
    text = text_of(path)
    values = _python_metadata(path, text) if path.suffix == ".py" else _sql_metadata(text)
    return Migration(
        number=int(match[1]),
        name=match[2],
        description=_text(path, values.get("description") or match[2].replace("_", " ")),
        sha256=hash_of(text),
        replaces=_hashes(path, values.get("replaces", ())),
        readable_from=_number(path, values.get("readable_from"), int(match[1])),
        changes=tuple(_text(path, one) for one in values.get("changes", ())),
        kind="python" if path.suffix == ".py" else "sql",
        path=path,
    )


def _sql_metadata(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {"changes": [], "replaces": []}
    for line in text.splitlines():
        match = _HEADER.match(line)
        if match is None:
            if line.strip() and not line.startswith("--"):
                break
            continue
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
        values = {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in _METADATA
        }
    except (SyntaxError, ValueError) as cause:
        raise BadMigrations(operation="read", path=path, cause=str(cause)) from cause
    if not any(isinstance(node, ast.FunctionDef) and node.name == "up" for node in tree.body):
        raise BadMigrations(operation="read", path=path, cause="it has no function up(db)")
    return values


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
