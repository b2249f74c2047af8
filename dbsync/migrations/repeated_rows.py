"""The keys of the rows that a UNIQUE index would not allow: SQLite names the columns, not the rows."""

from __future__ import annotations

import sqlite3
from typing import Final

from dbsync.storage.connections import Connection
from dbsync.storage.introspection import key_of, quoted, rowid_of
from dbsync.storage.sql_tokens import Token, significant, unquoted

SHOWN_COUNT: Final = 6
"""Keys that are named; the count of all stands before them."""
WAY_OUT: Final = (
    "Settle these rows before it in the migration, and declare that. In Python `db.add_unique(table, columns,"
    " settle=…)` does it: docs/helpers.md."
)
_HEAD: Final = ("create", "unique", "index")


def of_index(connection: Connection, sql: str) -> str:
    """Return the rows that stand in the way of a CREATE UNIQUE INDEX; empty for any other statement.

    Keys are named, values never: they may be personal.
    """
    found = _indexed(sql)
    if found is None:
        return ""
    table, parts, condition = found
    keys = [quoted(name) for name in key_of(connection, table)] or [rowid_of(connection, table) or "NULL"]
    present = "".join(f" AND ({part}) IS NOT NULL" for part in parts)
    repeated = (
        f"SELECT {', '.join(keys)}, count(*) OVER (PARTITION BY {', '.join(parts)}) AS dbsync_times"
        f" FROM {quoted(table)} WHERE ({condition}){present}"
    )
    try:
        rows = connection.execute(
            f"SELECT *, count(*) OVER () FROM ({repeated}) WHERE dbsync_times > 1 LIMIT {SHOWN_COUNT}"
        ).fetchall()
    except sqlite3.Error:
        # A name that the cause shows already, or rows that cannot be evaluated.
        return ""
    if not rows:
        return ""
    shown = ", ".join("/".join(map(str, row[: len(keys)])) for row in rows)
    count = rows[0][-1]
    return f"{count} rows of {table} repeat others, keys {shown}{', …' if count > len(rows) else ''}"


def _indexed(sql: str) -> tuple[str, list[str], str] | None:
    """Return the table, the indexed expressions and the condition of a CREATE UNIQUE INDEX."""
    tokens = list(significant(sql.rstrip("; \n\t")))
    plain = [token.plain for token in tokens]
    if tuple(plain[: len(_HEAD)]) != _HEAD or "on" not in plain:
        return None
    after = plain.index("on") + 1
    if after + 1 >= len(tokens) or plain[after + 1] != "(":
        return None
    parts, depth, begin = [], 0, tokens[after + 1].end
    for index in range(after + 1, len(tokens)):
        depth += {"(": 1, ")": -1}.get(plain[index], 0)
        if depth == 0 or (depth == 1 and plain[index] == ","):
            parts.append(_without_order(sql[begin : tokens[index].begin]))
            begin = tokens[index].end
        if depth == 0:
            return unquoted(tokens[after].text), parts, _condition(sql, tokens[index + 1 :])
    return None


def _without_order(part: str) -> str:
    words = part.split()
    return part if not words or words[-1].lower() not in ("asc", "desc") else part[: part.rstrip().rfind(words[-1])]


def _condition(sql: str, rest: list[Token]) -> str:
    if rest and rest[0].plain == "where":
        return sql[rest[0].end :].rstrip("; \n\t")
    return "1"
