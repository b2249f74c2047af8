"""Values for made-up rows: those that a table's own SQL names, those like an existing one, and one of each class.

They are chosen by a number alone, so that the same number always gives the same values.
"""

from __future__ import annotations

from typing import Final

from dbsync.storage.sql_tokens import TokenKind, significant

Value = str | bytes | int | float | None
"""The value of a cell, in the five storage classes."""

NEAR_COUNT: Final = 40
"""Tokens after a column's name in which a literal is taken for one that concerns the column."""
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_DIGITS: Final = "0123456789"


def literals_near(sql: str, column: str) -> list[Value]:
    """Return the texts and numbers that a table's SQL names near a column, each number with its neighbours."""
    found: list[Value] = []
    left = 0
    for token in significant(sql):
        if token.kind in (TokenKind.WORD, TokenKind.QUOTED) and token.name.lower() == column.lower():
            left = NEAR_COUNT
        elif left and token.kind is TokenKind.STRING:
            found.append(token.text[1:-1].replace("''", "'"))
        elif left and token.kind is TokenKind.NUMBER:
            found += _neighbours(token.text)
        left = max(0, left - 1)
    return _distinct(found)


def _neighbours(text: str) -> list[Value]:
    lower = text.lower()
    if lower.startswith("0x"):
        return [int(lower, 16)]
    if lower.isdigit():
        number = int(lower)
        return [number, number + 1, number - 1]
    return [float(lower)]


def like(value: Value, number: int) -> Value:
    """Return another value of the same storage class and shape: a receipt `R-0017` becomes `R-9321`.

    The last digits of a string are replaced, or its last letters if it has no digits.
    """
    if isinstance(value, str):
        return _text_like(value, number)
    if isinstance(value, bytes):
        return value[:-3] + number.to_bytes(8, "big")[-3:]
    if isinstance(value, float):
        return value + number + 0.25
    if isinstance(value, int):
        return value + number if abs(value) < 1 << 40 else number
    return number


def longer(value: Value, number: int) -> Value:
    """Return another value of the same storage class, a longer one of a string: a short one has few of its length."""
    return f"{value}{number}" if isinstance(value, str) else like(value, number)


def _text_like(value: str, number: int) -> str:
    alphabet = _DIGITS if any(character in _DIGITS for character in value) else _LETTERS
    characters = list(value)
    for at in range(len(characters) - 1, -1, -1):
        if not number:
            break
        if characters[at].lower() in alphabet:
            number, place = divmod(number, len(alphabet))
            characters[at] = alphabet[place]
    made = "".join(characters)
    return made if made != value and value else f"{value}~{number}"


def typical(declared: str, number: int) -> list[Value]:
    """Return values that suit a declared type, for a column of which no value is known."""
    lower = declared.lower()
    if "int" in lower or "bool" in lower:
        return [number, 1, 0]
    if any(part in lower for part in ("real", "floa", "doub", "dec", "num")):
        return [number + 0.5, 1.0, 0.0]
    if "blob" in lower:
        return [number.to_bytes(4, "big")]
    if "date" in lower or "time" in lower:
        return ["2026-01-02 03:04:05", "2026-01-02", 1767323045]
    return [f"made up {number}", "a", "{}", "[]", "2026-01-02", "2026-01-02 03:04:05"]


def of_every_class(number: int) -> list[Value]:
    """Return values of each storage class, among them those that are easily taken for each other: 1, 1.0 and '1'."""
    return [None, 1, 1.0, "1", -number, 2.675, "", f"é{number}\u2028\n'\"", b"\x00\xff", 1 << 53]


def _distinct(values: list[Value]) -> list[Value]:
    """Return the values without repetitions; 1, 1.0 and '1' are three values."""
    return list({(type(value), value): value for value in values}.values())


def candidates(*, near: list[Value], known: list[Value], declared: str, number: int) -> list[Value]:
    """Return what is tried in a column, likely values first.

    Args:
        near: literals of the table's SQL.
        known: values that the column has in other rows.
        declared: its declared type.
        number: chooses the values.
    """
    varied = [like(value, number + place) for place, value in enumerate(known[:2]) if value is not None]
    usual = varied or typical(declared, number)
    return _distinct([*near[:12], *usual, *known[:4], *of_every_class(number)])
