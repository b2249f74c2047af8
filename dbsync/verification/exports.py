r"""Rows in files that read back value for value, with their storage classes: CSV, SQL and JSON lines.

SQL: one INSERT a line, for `sqlite3` and every other program with SQLite. It holds no control character: `char(0)`
stands for a NUL, because shells end a statement there and drop `\r` before a newline. A real number that some version
of SQLite reads as a neighbouring one is a fraction of whole numbers, with the decimal beside it in a comment.

CSV (RFC 4180): a field without quotes is NULL if it is empty, a number if it looks like one, else text, except for the
two forms that SQL has for bytes: `X'00ff'` is a blob, and `CAST(X'00ff' AS TEXT)` is text that is not UTF-8 or holds a
NUL. A field in quotes is always text: `""` is the empty one, and `"12"` is no number.

JSON: strings, integers and null are their own. A blob is `{"bytes": "00ff"}`, text that is not UTF-8
`{"text": "00ff"}`, an infinite number `{"real": "inf"}` or `{"real": "-inf"}`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TextIO

from dbsync.errors import UnreadableFile
from dbsync.storage import file_calls
from dbsync.storage.connections import Connection, Row
from dbsync.storage.files import disk_errors, make_empty, new_file
from dbsync.storage.introspection import quoted
from dbsync.storage.raw_text import BadText, decoded, every_text

_INTEGER: Final = re.compile(r"-?[0-9]+", re.ASCII)
_REAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.ASCII)
_BYTES: Final = re.compile(r"X'((?:[0-9a-f]{2})*)'")
_BAD_TEXT: Final = re.compile(r"CAST\(X'((?:[0-9a-f]{2})*)' AS TEXT\)")
_LOOKS_OTHERWISE: Final = re.compile(r"[-+.0-9]|X'|CAST\(")
"""The beginning of text that is written in quotes, so that it is never taken for a number or for bytes."""
_SPECIAL: Final = re.compile('[",\x01-\x1f\x7f\x85\u2028\u2029]|^\\s|\\s$|^$')
_SEPARATORS: Final = re.compile("([\x00-\x1f\x7f\x85\u2028\u2029]+)")
"""Every character that is no part of a line for some program: in SQL each is written by its number."""
_JSON_SEPARATORS: Final = {0x7F: "\\u007f", 0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_EXACT_DIGITS: Final = 2**53
_EXACT_PLACES: Final = 4
"""A number of so few digits and decimal places is read alike by every version of SQLite, money for example. Of others
SQLite 3.40 reads about one in 400 as a neighbour (its parser rounds twice)."""
_SHIFT: Final = 62
_CHARACTERS_AT_ONCE: Final = 100
"""Arguments of `char()`: SQLite allows 127, older builds 100."""
_STEM_LIMIT: Final = 80


def write(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Row], folder: Path) -> list[Path]:
    """Write rows of a table as CSV and as SQL INSERTs and return both paths.

    Args:
        connection: reads the rows. The files get the owner and the rights of its database, and its encoding is that
            of the texts which are not UTF-8.
        table: whose name gives the files theirs.
        columns: names, in the order of the values.
        rows: read once, while every text can be read.
        folder: exists.

    Raises:
        DiskFull: or another disk problem.
    """
    encoding = str(connection.execute("PRAGMA encoding").fetchone()[0])
    like = Path(str(connection.execute("PRAGMA database_list").fetchone()[2]) or folder)
    stem = folder / _stem(table)
    as_csv, as_sql = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.sql")
    into = f"INSERT INTO {quoted(table)} ({', '.join(quoted(column) for column in columns)}) VALUES"
    with ExitStack() as opened, every_text(connection):
        opened.enter_context(disk_errors("write", folder))
        csv = opened.enter_context(_new_text(as_csv, like=like))
        sql = opened.enter_context(_new_text(as_sql, like=like))
        csv.write(_csv_line(columns))
        for row in rows:
            csv.write(_csv_line(row))
            sql.write(f"{into} ({', '.join(literal(value, encoding=encoding) for value in row)});\n")
    return [as_csv, as_sql]


def _new_text(path: Path, *, like: Path) -> TextIO:
    return os.fdopen(new_file(path, like=like), "w", newline="", encoding="utf-8")


def _stem(table: str) -> str:
    """Return the name of a table's files; one that is not the table's own has a digest, so that no two are equal."""
    plain = "".join(character if character.isalnum() or character in "_-" else "_" for character in table)
    if plain == table and plain.isascii() and len(plain) <= _STEM_LIMIT:
        return plain
    return f"{plain[:_STEM_LIMIT]}-{sha256(table.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


# -------------------------------------------------------------------------------------------------------------- SQL


def literal(value: object, *, encoding: str = "UTF-8") -> str:
    """Return the SQL expression for a value as `sqlite3` reads it, without any control character.

    `encoding` is that of the database: `CAST(… AS TEXT)` takes bytes in it.
    """
    if value is None:
        return "NULL"
    if isinstance(value, BadText):
        return f"CAST(X'{_in_encoding(value, encoding).hex()}' AS TEXT)"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, float):
        return _real(value)
    return str(value) if isinstance(value, int) else _text(str(value))


def _in_encoding(value: BadText, encoding: str) -> bytes:
    # SQLite hands out text of UTF-16 as UTF-8; half a surrogate pair is then three bytes that Python calls bad.
    return (
        bytes(value)
        if encoding == "UTF-8"
        else value.decode("utf-8", "surrogatepass").encode(encoding, "surrogatepass")
    )


def _real(value: float) -> str:
    if math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    shown = repr(value)
    digits, _, places = shown.partition(".")
    if "e" not in shown and len(places) <= _EXACT_PLACES and abs(int(digits + places)) < _EXACT_DIGITS:
        return shown
    whole, of = value.as_integer_ratio()
    # Powers of two change the exponent only: each step is exact.
    shift = of.bit_length() - 1 if of > 1 else -max(0, abs(whole).bit_length() - 53)
    steps, rest = divmod(abs(shift), _SHIFT)
    by = "/" if shift > 0 else "*"
    factors = f"{by}{1 << _SHIFT}" * steps + f"{by}{1 << rest}"
    return f"CAST({whole >> max(0, -shift)} AS REAL){factors} /* {shown} */"


def _text(value: str) -> str:
    parts = _SEPARATORS.split(value)
    found = []
    for number, part in enumerate(parts):
        if number % 2:
            chunks = (part[at : at + _CHARACTERS_AT_ONCE] for at in range(0, len(part), _CHARACTERS_AT_ONCE))
            found += [f"char({','.join(str(ord(character)) for character in chunk)})" for chunk in chunks]
        elif part or len(parts) == 1:
            found.append("'" + part.replace("'", "''") + "'")
    return _joined(found)


def _joined(parts: list[str]) -> str:
    """Return the concatenation, halved again and again: SQLite refuses an expression that is 1000 deep."""
    if len(parts) <= 2:
        return "||".join(parts)
    half = len(parts) // 2
    return f"({_joined(parts[:half])})||({_joined(parts[half:])})"


# -------------------------------------------------------------------------------------------------------------- CSV


def _csv_line(values: Iterable[object]) -> str:
    return ",".join(_field(value) for value in values) + "\r\n"


def _field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else _real(value)
    if not isinstance(value, str):
        return literal(value)
    if "\0" in value:
        return literal(BadText(value.encode("utf-8")))
    if _SPECIAL.search(value) or _LOOKS_OTHERWISE.match(value):
        return '"' + value.replace('"', '""') + '"'
    return value


def read_csv(path: Path) -> tuple[tuple[str, ...], Iterator[Row]]:
    """Return the columns and the rows of a CSV file that `write` made.

    Raises:
        UnreadableFile: it is not such a file; while the rows are read, for a row that is not.
        DiskProblem: it cannot be read.
    """
    with disk_errors("read", path):
        data = file_calls.read_bytes(path)
    try:
        lines = _records(data.decode("utf-8"))
    except UnicodeDecodeError as cause:
        raise UnreadableFile(operation="read", path=path, cause=str(cause)) from cause
    columns = tuple(name for name, _ in next(lines, []))

    def rows() -> Iterator[Row]:
        for number, fields in enumerate(lines, 1):
            if len(fields) != len(columns):
                cause = f"row {number} has {len(fields)} fields instead of {len(columns)}"
                raise UnreadableFile(operation="read", path=path, cause=cause)
            yield tuple(text if is_quoted else _value(text) for text, is_quoted in fields)

    return columns, rows()


_FIELD: Final = re.compile(r'("(?:[^"]+|"")*"|[^",\r\n]*)(,|\r\n|\n|\Z)')


def _records(text: str) -> Iterator[list[tuple[str, bool]]]:
    """Yield the fields of each record, and whether each was in quotes."""
    at, fields = 0, []
    while at < len(text):
        found = _FIELD.match(text, at)
        if found is None:
            raise UnreadableFile(operation="read", cause=f"a field at character {at} is not closed")
        field, end = found.groups()
        is_quoted = field.startswith('"')
        fields.append((field[1:-1].replace('""', '"') if is_quoted else field, is_quoted))
        at = found.end()
        if end != ",":
            yield fields
            fields = []
    if fields:
        yield [*fields, ("", False)]


def _value(field: str) -> object:
    if not field:
        return None
    if _INTEGER.fullmatch(field):
        return int(field)
    if _REAL.fullmatch(field):
        return float(field)
    if (found := _BYTES.fullmatch(field)) is not None:
        return bytes.fromhex(found[1])
    if (found := _BAD_TEXT.fullmatch(field)) is not None:
        return decoded(bytes.fromhex(found[1]))
    return field


# ------------------------------------------------------------------------------------------------------------- JSON


def json_line(value: Mapping[str, Any]) -> str:
    """Return one line of a JSON file, with its end; no other character in it ends a line for any program."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
    return line.translate(_JSON_SEPARATORS) + "\n"


def append(path: Path, value: Mapping[str, Any], *, like: Path) -> None:
    """Append a value as one line of a JSON file; a new one gets the owner and the rights of `like`.

    Nothing is made durable.

    Raises:
        DiskProblem: it cannot be written.
    """
    make_empty(path, like=like)
    with disk_errors("append", path), file_calls.open_to_append_text(path) as file:
        file.write(json_line(value))


def as_json(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row with its values in their JSON form."""
    return {name: _json_value(value) for name, value in row.items()}


def from_json(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row with the values that `as_json` was given."""
    return {name: _from_json_value(value) for name, value in row.items()}


def _json_value(value: object) -> object:
    if isinstance(value, BadText):
        return {"text": value.hex()}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": repr(value)}
    return value


def _from_json_value(value: object) -> object:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "real":
        return float(content)
    data = bytes.fromhex(content)
    return decoded(data) if kind == "text" else data
