"""Exports are read back by sqlite3 and by us: every value, with its storage class."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsync.errors import UnreadableFile
from dbsync.storage.connections import attach_copy, open_copy
from dbsync.storage.raw_text import BadText, decoded, lines_of
from dbsync.verification import exports, table_diff

Row = tuple[object, ...]
SEPARATORS = "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029"
TEXTS = st.one_of(
    st.text(
        st.one_of(st.sampled_from(SEPARATORS + "'\",;X0-+.e"), st.characters(exclude_categories=["Cs"])), max_size=12
    ),
    st.sampled_from(
        ["", "NULL", "1", "-0.0", "1e5", "9e999", "inf", " x", "x ", "X'00'", "CAST(X'' AS TEXT)", "=1+1", ".q"]
    ),
)
BAD = st.binary(min_size=1, max_size=6).map(decoded).filter(lambda text: isinstance(text, BadText))
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1, -0.0, 0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308]),
    st.floats(allow_nan=False),
    st.decimals(places=2, allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9).map(float),
    TEXTS,
    st.binary(max_size=9),
    BAD,
)
TABLE = 'what\'s "this"'
NAMES = ["id", 'a "quoted" name', "with, comma\u2028and more", "", "select", "1"]


def same(one: object, other: object) -> bool:
    """The same value of the same kind; of real numbers the same bits."""
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    return type(one) is type(other) and one == other


def cell(value: object) -> object:
    return sqlite3.Binary(value) if isinstance(value, bytes) else value


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def table(path: Path, rows: Sequence[Row], *, encoding: str = "UTF-8") -> str:
    """A database with a table without types, by the means of Python alone."""
    name = TABLE
    with closing(sqlite3.connect(path)) as made, made:
        made.execute(f"PRAGMA encoding='{encoding}'")
        made.execute(f"CREATE TABLE {quoted(name)} ({', '.join(map(quoted, NAMES[: len(rows[0])]))})")
        marks = [", ".join("CAST(? AS TEXT)" if isinstance(value, BadText) else "?" for value in row) for row in rows]
        for row, mark in zip(rows, marks, strict=True):
            made.execute(f"INSERT INTO {quoted(name)} VALUES ({mark})", row)
    return name


def read(path: Path, name: str) -> list[Row]:
    with closing(sqlite3.connect(path)) as live:
        live.text_factory = decoded
        return live.execute(f"SELECT * FROM {quoted(name)} ORDER BY rowid").fetchall()


def empty_like(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        new.execute(f"PRAGMA encoding='{old.execute('PRAGMA encoding').fetchone()[0]}'")
        new.execute(old.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'").fetchone()[0])


def exported(path: Path, name: str, folder: Path) -> tuple[Path, Path]:
    with closing(sqlite3.connect(path)) as live:
        columns = [row[1] for row in live.execute(f"PRAGMA table_info({quoted(name)})")]
        rows = live.execute(f"SELECT * FROM {quoted(name)} ORDER BY rowid")
        as_csv, as_sql = exports.write(live, name, columns, rows, folder)
    return as_csv, as_sql


def all_same(found: list[Row], wanted: list[Row]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(same(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, len(NAMES)).flatmap(lambda width: st.lists(st.tuples(*[VALUES] * width), min_size=1, max_size=4)))
def test_every_row_reads_back_from_sql_from_csv_and_from_json(rows: list[Row]) -> None:
    with TemporaryDirectory() as made:
        folder = Path(made)
        name = table(folder / "now.db", rows)
        stored = read(folder / "now.db", name)
        as_csv, as_sql = exported(folder / "now.db", name, folder)
        empty_like(folder / "now.db", folder / "again.db")
        script = as_sql.read_text(encoding="utf-8")
        with closing(sqlite3.connect(folder / "again.db")) as again:
            again.executescript(script)
        assert all_same(read(folder / "again.db", name), stored)
        # One statement is one line, whoever splits them (a name is as it is).
        assert len(script.replace(NAMES[2], "").splitlines()) == len(rows)
        columns, found = exports.read_csv(as_csv)
        assert columns == tuple(NAMES[: len(rows[0])])
        assert all_same(list(found), stored)
        for row in stored:
            line = exports.json_line(exports.as_json(dict(zip(columns, row, strict=True))))
            assert len(line.splitlines()) == 1
            assert all_same([tuple(exports.from_json(json.loads(line)).values())], [row])


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_the_shell_of_sqlite_reads_an_export(tmp_path: Path, encoding: str) -> None:
    shell = shutil.which("sqlite3")
    if shell is None:
        pytest.skip("no sqlite3 shell here")
    numbers = [math.inf, -math.inf, -0.0, 0.1 + 0.2, 4.531653341091023e-296, 5e-324, 1e300, 2.675, 2**63 - 1, -(2**63)]
    texts = [
        *SEPARATORS,
        "a\r\nb",
        "x\0y",
        "\r\n.quit\r\n",
        "/",
        "\ngo\n",
        "\n;\n",
        "",
        "it's",
        "é€😀",
        "\r" * 4000,
        "a\n" * 4000,
    ]
    rows: list[Row] = [(value,) for value in [*numbers, *texts, None, b"", b"\0\xff"]]
    if encoding == "UTF-8":
        rows.append((BadText(b"caf\xe9\0"),))
    name = table(tmp_path / "now.db", rows, encoding=encoding)
    stored = read(tmp_path / "now.db", name)
    _, as_sql = exported(tmp_path / "now.db", name, tmp_path)
    empty_like(tmp_path / "now.db", tmp_path / "again.db")
    with as_sql.open("rb") as script:
        done = subprocess.run(
            [shell, "-bail", tmp_path / "again.db"], stdin=script, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert all_same(read(tmp_path / "again.db", name), stored)


def test_null_and_the_empty_text_and_text_that_looks_like_a_number_differ_in_csv(tmp_path: Path) -> None:
    name = table(tmp_path / "now.db", [(1, "1", None, "", b"", 1.0)])
    as_csv, _ = exported(tmp_path / "now.db", name, tmp_path)
    line = as_csv.read_bytes().split(b"\r\n")[1]
    assert line == b'1,"1",,"",X\'\',1.0'


def test_text_that_is_not_utf_8_stops_no_export_of_what_was_lost(tmp_path: Path) -> None:
    for name, rows in (("now", [(1, BadText(b"caf\xe9")), (2, "kept")]), ("base", [(2, "kept")])):
        table(tmp_path / f"{name}.db", rows)
    with closing(open_copy(tmp_path / "now.db")) as connection:
        attach_copy(connection, tmp_path / "base.db", "base")
        losses = table_diff.differences(connection, "base")
        as_csv, _ = table_diff.export(connection, "base", losses, tmp_path)
        assert connection.text_factory is str
    assert [loss.added for loss in losses] == [1]
    assert list(exports.read_csv(as_csv)[1]) == [(1, BadText(b"caf\xe9"))]


def test_tables_of_similar_names_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["a b", "a_b", "a/b", "a.b", "../x", "x" * 300, "x" * 301, "é", "e\u0301"]
    with closing(sqlite3.connect(":memory:")) as live:
        written = [exports.write(live, name, ["v"], [(name,)], tmp_path) for name in names]
    assert len({str(path).casefold() for paths in written for path in paths}) == 2 * len(names)
    assert {path.parent for paths in written for path in paths} == {tmp_path}
    assert [list(exports.read_csv(as_csv)[1]) for as_csv, _ in written] == [[(name,)] for name in names]


@pytest.mark.parametrize(
    "text", ['a,b\r\n"open', "a,b\r\n1\r\n", "a,b\r\n1,2,3\r\n", 'a,b\r\n"x"y,2\r\n', b"a\r\n\xff\r\n"], ids=range(5)
)
def test_a_file_that_is_no_export_is_refused(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UnreadableFile):
        list(exports.read_csv(path)[1])


def test_a_line_ends_at_a_newline_only() -> None:
    value = "".join(map(chr, range(0x3000)))
    assert lines_of(value) == value.split("\n")
    assert [lines_of(text) for text in ("", "\n", "a", "a\n", "a\n\nb")] == [[], [""], ["a"], ["a"], ["a", "", "b"]]
    for place in range(sys.maxunicode):
        if place != 10 and len(f"a{chr(place)}b".splitlines()) == 2:
            assert lines_of(f"a{chr(place)}b") == [f"a{chr(place)}b"]
