"""The house: which package may import which, what each module is for, and where systems and libraries are met.

`python -m tests.test_house` prints the table: module, lines, purpose.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePath
from typing import Final

import pytest

from tests.helpers.places import ROOT

LAYERS: Final = (
    # base: imports nothing of ours
    "dbsync.outcomes",
    "dbsync.errors",
    "dbsync.model",
    "dbsync.progress",
    "dbsync.losses",
    "dbsync.storage",
    "dbsync.schema",
    "dbsync.migrations",
    "dbsync.verification",
    "dbsync.backups",
    "dbsync.upgrade",
    "dbsync.downgrade",
    "dbsync.database",
    "dbsync.commands",
    "dbsync.recovery",
    "dbsync.lint",
    "dbsync.cli",
    "dbsync.api",
    "dbsync",
    "dbsync.__main__",
    "updater",
    "updater.outcomes",
    "updater.errors",
    "updater.answers",
    "updater.model",
    "updater.manifest",
    "updater.decisions",
    "updater.flows",
    "updater.host",
    "updater.settings",
    "updater.network",
    "updater.repository",
    "updater.bundles",
    "updater.terminal",
    "updater.reporting",
    "updater.cli",
    "updater.publish",
    "updater.__main__",
)
"""A package, or a module of the base, imports only what stands above it here. Packages inside one belong to it."""

LIBRARIES: Final = {
    "dbsync.migrations.engines.alembic": {"alembic", "sqlalchemy"},
    "dbsync.backups.compression": {"backports", "compression"},
    "dbsync.cli": {"click"},
    "updater.network": {"urllib3"},
    "updater.repository.child": {"tuf"},
    "updater.bundles.staging": {"packaging"},
    "updater.flows.agent": {"apscheduler"},
    "updater.cli": {"click", "rich"},
    "updater.publish": {"click", "packaging", "tuf", "tufup", "securesystemslib"},
}
"""Who imports which library; everything else is the standard library's. A name stands for what is below it, too."""

VIEWS: Final = ("dbsync.cli", "updater.cli", "updater.publish.cli", "updater.__main__")
"""Who prints, asks and exits."""

PURE: Final = ("updater.decisions", "dbsync.upgrade.decisions", "dbsync.upgrade.adoption_decision")
"""Decisions over values: of the standard library they import typing, enum and collections."""

FILE_EFFECTS: Final = frozenset(dir(Path)) - frozenset(dir(PurePath)) | {"open"}
"""Names of calls that read or write files: all that a `Path` can and a `PurePath` cannot."""

FUNCTION_LINES_LIMIT: Final = 60
MODULES: Final = sorted([*ROOT.glob("updater/**/*.py"), *ROOT.glob("dbsync/**/*.py")])


def name_of(path: Path) -> str:
    """Return the dotted name of a module: `updater.host.linux` for its file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES: Final = {name_of(path): path for path in MODULES}


def layer_of(name: str) -> str:
    """Return the line of LAYERS that a module belongs to: the longest that begins its name."""
    fitting = [layer for layer in LAYERS if name == layer or (name + ".").startswith(layer + ".")]
    exact = [layer for layer in fitting if layer not in ("dbsync", "updater")]
    if exact:
        return max(exact, key=len)
    assert name in ("dbsync", "updater"), f"{name} is in no line of LAYERS"
    return name


def imports(path: Path, *, deep: bool = True) -> Iterator[str]:
    """Yield the modules that a file imports, also inside functions; not those for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree) if deep else tree.body:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner_name = f"{node.module}.{alias.name}"
                yield inner_name if inner_name in NAMES else node.module


def own_imports(path: Path) -> set[str]:
    """Return the modules of ours that a file imports."""
    return {name for name in imports(path) if name in NAMES}


def libraries(path: Path) -> set[str]:
    """Return the top-level packages that a file imports and that are not the standard library's or ours."""
    return {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"dbsync", "updater"}


def is_below(name: str, packages: tuple[str, ...]) -> bool:
    """Return whether a module is one of these packages or modules, or lies in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_module_states_its_purpose_and_its_functions_fit_a_screen(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    purpose = ast.get_docstring(tree) or ""
    assert purpose.splitlines()[:1] != [], "a purpose in one line"
    assert purpose.splitlines()[0].endswith((".", ":")), "the purpose ends in its first line"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES_LIMIT, f"{node.name} fits a screen"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_package_imports_only_what_stands_above_it(path: Path) -> None:
    name = name_of(path)
    place = LAYERS.index(layer_of(name))
    for imported in own_imports(path):
        assert LAYERS.index(layer_of(imported)) <= place, f"{name} imports {imported}, which stands below it in LAYERS"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: own_imports(path) - {name} for name, path in NAMES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_is_known_to_few(path: Path) -> None:
    name = name_of(path)
    allowed = set().union(*(names for place, names in LIBRARIES.items() if is_below(name, (place,))))
    assert libraries(path) <= allowed


def test_terminals_never_import_the_vendors_side() -> None:
    for name, path in NAMES.items():
        if not is_below(name, ("updater.publish", "updater.__main__")):
            assert not any(is_below(imported, ("updater.publish",)) for imported in own_imports(path)), name


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    for path in MODULES:
        if path.name == "__init__.py" and name_of(path) not in ("dbsync", "updater", "updater.host"):
            (docstring,) = ast.parse(path.read_text(encoding="utf-8")).body
            assert isinstance(docstring, ast.Expr), name_of(path)


def test_decisions_are_pure() -> None:
    for name, path in NAMES.items():
        if is_below(name, PURE):
            foreign = {imported.split(".")[0] for imported in imports(path)} - {"dbsync", "updater"}
            assert foreign <= {"__future__", "typing", "enum", "collections"}, name
            layers = {layer_of(imported) for imported in own_imports(path)}
            base = {f"{package}.{name}" for package in ("dbsync", "updater") for name in ("model", "outcomes")}
            assert layers <= base | {"updater.answers", "updater.decisions", "dbsync.upgrade"}, name


def test_upgrade_touches_files_and_sqlite_through_its_effects_only() -> None:
    for name, path in NAMES.items():
        if not is_below(name, ("dbsync.upgrade",)):
            continue
        foreign = {imported.split(".")[0] for imported in imports(path)} - {"dbsync", "updater"}
        assert foreign <= {"__future__", "typing", "enum", "collections", "functools", "pathlib"}, name
        layers = {layer_of(imported) for imported in own_imports(path)}
        assert layers <= {"dbsync.errors", "dbsync.model", "dbsync.outcomes", "dbsync.upgrade"}, name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called.rpartition(".")[2] not in FILE_EFFECTS, f"{name} calls {called}"


def test_one_file_opens_sqlite_and_only_views_print_ask_and_exit() -> None:
    for name, path in NAMES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "sqlite3.connect":
                assert name == "dbsync.storage.connections"
            if called in ("print", "input", "sys.exit", "exit", "click.echo", "click.prompt", "click.confirm"):
                assert is_below(name, VIEWS), f"{name} calls {called}"
            if called in ("os._exit", "os.fork"):
                assert name in ("updater.host.posix", "updater.repository.child")


def test_the_top_level_is_as_it_was_agreed() -> None:
    import subprocess

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    tops = {one.split("/")[0] for one in listed if not one.startswith(".")}
    agreed = {"pyproject.toml", "updater", "dbsync", "tests", "scripts", "README.md", "docs", "CHANGELOG.md", "LICENSE"}
    assert tops <= agreed | {"CONTRIBUTING.md", "SECURITY.md"}


def test_the_map_names_every_package_in_the_order_of_the_layers() -> None:
    import re

    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    layers = text.partition("\n## Layers\n")[2].partition("\n## ")[0]
    named = re.findall(r"^  ((?:dbsync|updater)[\w.]*)  +\S", layers, re.MULTILINE)
    assert named == list(LAYERS)


def test_every_row_of_the_requirements_says_where_it_is_held() -> None:
    import re

    text = (ROOT / "docs" / "requirements.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| S(\d+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 197))
    for place in set(re.findall(r"(?:tests|updater|dbsync|docs|scripts)/[\w./-]+\w", text)):
        assert (ROOT / place).exists(), place
    for place, test in set(re.findall(r"(tests/[\w./]+\.py)::(\w+)", text)):
        assert f"def {test}(" in (ROOT / place).read_text(encoding="utf-8"), f"{place}::{test}"
    for letter, count in {"F": 27, "B": 10, "V": 1, "W": 15, "K": 8}.items():
        traps = re.findall(rf"^\| {letter}(\d+) \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)
        assert [int(one) for one in traps] == list(range(1, count + 1)), letter


def test_every_setting_and_limit_is_explained_with_its_default() -> None:
    from updater.model import Limits

    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for name, default in Limits._field_defaults.items():
        (line,) = [one for one in text.splitlines() if f"`{name}`" in one]
        assert f"{default:.0f}" in line, name


def main() -> None:
    """Prints the table."""
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        purpose = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
        print(f"{name_of(path):<44} {len(text.splitlines()):4d}  {purpose}")


if __name__ == "__main__":
    main()
