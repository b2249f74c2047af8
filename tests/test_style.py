"""How the code speaks: heads of docstrings, words that it does not use, hints that are commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from dbsync.cli.main import COMMANDS as DBSYNC_COMMANDS
from dbsync.outcomes import OutcomeName
from tests.helpers.places import ROOT
from updater.cli.main import COMMANDS as UPDATER_COMMANDS
from updater.outcomes import TerminalOutcome

MODULES: Final = sorted([*ROOT.glob("updater/**/*.py"), *ROOT.glob("dbsync/**/*.py")])
NO_HEADS: Final = ("What", "Whose", "Whoever", "Whatever", "Who", "Where", "Nobody", "Somebody")
"""A docstring begins with what a thing does or is, not with a question about it."""
NO_FUNCTION_HEADS: Final = (*NO_HEADS, "The", "A", "An", "Whether", "How", "Which", "Why")
"""The docstring of a function begins with a verb: "Return the …"."""
BASES: Final = frozenset({"Process", "Pass", "Access", "Address", "Compress", "Decompress", "Guess", "Press", "Miss"})
"""Verbs that end in s."""
UNUSED_WORDS: Final = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bonce more\b": "again, retry",
    r"\bha(s|ve) to be\b": "must be",
    r"\bgo(es|ne|ing)? on with\b": "resume, continue",
    r"\bnobody sits\b": "unattended",
    r"\b[Ww]hoever\b": "the process, the caller, the user: name it",
    r"\ba text\b": "a string",
}
"""Private words, and the field's words for them."""
ALLOWED: Final = {
    "dbsync/upgrade/released_history.py": {"mended"},  # the name of a kind, as reports have it
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def docstrings(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield all nodes that have a docstring, with its first line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node)
            if text:
                yield node, text.splitlines()[0]


def is_value(node: ast.FunctionDef) -> bool:
    """Return whether a function reads like a value or a command: a property, a context, a click command."""
    marks = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(part in mark for mark in marks for part in ("property", "contextmanager", "command", "group", "option"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_docstring_begins_with_a_verb_or_a_thing(path: Path) -> None:
    for node, line in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
        head = re.split(r"[^\w'’-]", line, maxsplit=1)[0]
        place = f"{getattr(node, 'name', 'the module')}: {line}"
        if isinstance(node, ast.FunctionDef) and not is_value(node):
            assert head not in NO_FUNCTION_HEADS, place
            assert not re.fullmatch(r"[A-Z][a-z]+s", head) or head in BASES, place
        else:
            assert head not in NO_HEADS, place


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_code_speaks_the_words_of_the_field(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for word, better in UNUSED_WORDS.items():
        found = {match.group(0) for match in re.finditer(word, text)} - ALLOWED.get(name_of(path), set())
        assert not found, f"{found}: {better}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_loop_names_its_item(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.comprehension | ast.For):
            assert "one" not in {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}, (
                f"{ast.unparse(node.target)} in {ast.unparse(node.iter)}"
            )


def test_the_commands_in_hints_are_commands() -> None:
    known = {"updater": frozenset(UPDATER_COMMANDS), "dbsync": frozenset(DBSYNC_COMMANDS)}
    for outcome in [*OutcomeName, *TerminalOutcome]:
        for command in re.findall(r"`([^`]+)`", outcome.hint):
            program, name, *_ = command.split()
            assert name in known[program], f"{outcome}: {command}"
