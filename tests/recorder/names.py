"""Names that terminals keep on disk: as the code has them now. The only file here that knows the product's modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.helpers.places import ROOT

SOURCES = sorted([*ROOT.glob("updater/**/*.py"), *ROOT.glob("dbsync/**/*.py")])
ENUMERATIONS = (
    "Act", "Answer", "Back", "BackupKind", "By", "ConfirmAnswer", "FlightEvent", "HistoryKind", "OutcomeName", "Phase",
    "ProcessKind", "ProvenBy", "ReportPhase", "RunPhase", "State", "Verdict", "WorkPhase",
)  # fmt: skip
"""The enumerations whose values stand on disks."""


def outcomes() -> dict[str, str]:
    """Return the U-code of each outcome."""
    from dbsync.outcomes import OutcomeName
    from updater.outcomes import TerminalOutcome

    return {str(outcome): outcome.code for outcome in sorted([*OutcomeName, *TerminalOutcome])}


def enumerations() -> dict[str, list[str]]:
    """Return the values of every string enumeration by its class; read from the source, wherever the class is."""
    found: dict[str, list[str]] = {}
    for tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base) in ("StrEnum", "NamedOutcome") for base in node.bases
            ):
                found[node.name] = sorted(_values(node))
    return found


def strings() -> frozenset[str]:
    """Return every string constant of the code."""
    nodes = (node for tree in _trees() for node in ast.walk(tree))
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def persisted() -> dict[str, object]:
    """Return what a recording notes: names that must stay known as long as a terminal may hold them."""
    known = enumerations()
    return {
        "format": 1,
        "outcomes": outcomes(),
        "enumerations": {name: known[name] for name in ENUMERATIONS},
        "plain": {},  # names that are no members of an enumeration: there are none
    }


def _trees() -> Iterator[ast.Module]:
    return (ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES)


def _values(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        # A member of a table is a line that begins with its name.
        value = line.value if isinstance(line, ast.Assign) else None
        first = value.elts[0] if isinstance(value, ast.Tuple) else value
        if isinstance(first, ast.Constant):
            yield str(first.value)
