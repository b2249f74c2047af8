"""The house: what each module may import, that each says its purpose, and that none becomes the place for everything.

`python -m tests.test_house` prints the table: module, lines, purpose.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES_LIMIT = 330
MODULES = sorted([*ROOT.glob("updater/**/*.py"), *ROOT.glob("dbsync/**/*.py")])
VIEWS = {
    "updater.cli",
    "updater.__main__",
    "updater.publish.cli",
    "dbsync.cli",
    "dbsync.cli_adopt",
    "dbsync.cli_back",
    "dbsync.cli_backups",
    "dbsync.cli_check",
    "dbsync.cli_data",
    "dbsync.cli_history",
    "dbsync.cli_output",
    "dbsync.cli_repair",
    "dbsync.cli_upgrade",
    "dbsync.console",
    "updater.console",
    "updater.install",
}
AGENTS = {
    "updater.agent", "updater.staging", "updater.fetch", "updater.source", "updater.download", "updater.cli",
    "updater.console", "updater.install",
}  # fmt: skip
"""What only the agent's side loads, and may use libraries; everything else of a terminal is standard library only."""


def name_of(path: Path) -> str:
    """`updater.host.linux` for its file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, deep: bool = True) -> Iterator[str]:
    """The modules that a file imports, also inside functions; not those for type checking only."""
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
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def packages(path: Path) -> set[str]:
    """The top-level packages that a file imports and that are not the standard library's."""
    return {one.split(".")[0] for one in imports(path)} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_module_says_its_purpose_and_stays_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    purpose = ast.get_docstring(ast.parse(text)) or ""
    assert purpose.splitlines()[:1] != [], "a purpose in one line"
    assert purpose.splitlines()[0].endswith((".", ":")), "the purpose ends in its first line"
    assert len(text.splitlines()) <= LINES_LIMIT
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} fits on a screen"


@pytest.mark.parametrize("path", [one for one in MODULES if name_of(one).startswith("dbsync")], ids=name_of)
def test_dbsync_knows_nothing_of_the_updater_and_its_core_no_libraries(path: Path) -> None:
    views = {"dbsync", "click"} if name_of(path).startswith("dbsync.cli") else {"dbsync"}
    allowed = {
        "dbsync.engines.alembic": {"alembic", "sqlalchemy"},
        "dbsync.compress": {"backports", "compression"},
    }.get(name_of(path), set())
    assert packages(path) <= views | allowed


@pytest.mark.parametrize("path", [one for one in MODULES if name_of(one).startswith("updater")], ids=name_of)
def test_terminals_start_on_the_standard_library_alone(path: Path) -> None:
    name = name_of(path)
    if name.startswith("updater.publish"):
        return
    allowed = {
        "updater.agent": {"apscheduler"},
        "updater.staging": {"packaging"},
        "updater.source": {"tuf"},
        "updater.download": {"urllib3"},
        "updater.cli": {"click"},
        "updater.console": {"rich"},
    }.get(name, set())
    assert packages(path) <= allowed | {"updater", "dbsync"}
    if name not in AGENTS:
        assert not {one for one in imports(path, deep=False) if one in AGENTS - {"updater.cli"}}


def test_only_the_vendors_side_knows_tufup_and_nobody_on_a_terminal_imports_it() -> None:
    for path in MODULES:
        name = name_of(path)
        if not name.startswith("updater.publish"):
            assert "tufup" not in packages(path)
            assert not any(one.startswith("updater.publish") for one in imports(path)) or name == "updater.cli"
        if "tuf" in packages(path):
            assert name == "updater.source" or name.startswith("updater.publish")


def test_plans_are_pure() -> None:
    allowed = {"updater.plan": {"updater.model", "updater.trial"}, "updater.trial": {"updater.model"}}
    allowed |= {
        "updater.agent_plan": {"updater.model", "updater.plan"},
        "dbsync.plan": {"dbsync.model", "dbsync.follows"},
    }
    allowed |= {"dbsync.adoption_plan": {"dbsync.model", "dbsync.plan"}, "dbsync.follows": set()}
    allowed |= {"updater.rebuild": {"updater.model", "updater.plan"}}
    for name, modules in allowed.items():
        path = ROOT / f"{name.replace('.', '/')}.py"
        ours = {one for one in imports(path) if one.split(".")[0] in ("updater", "dbsync") and one.count(".") == 1}
        assert ours <= modules, name
        rest = {one for one in imports(path) if one.split(".")[0] not in ("updater", "dbsync")}
        assert {one.split(".")[0] for one in rest} <= {"__future__", "typing", "enum", "collections"}, name


def test_one_file_opens_sqlite_and_only_views_print_ask_and_exit() -> None:
    for path in MODULES:
        tree, name = ast.parse(path.read_text(encoding="utf-8")), name_of(path)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "sqlite3.connect":
                assert name == "dbsync.sqlite"
            if called in ("print", "input", "sys.exit", "exit", "click.echo", "click.prompt", "click.confirm"):
                assert name in VIEWS, f"{name} calls {called}"
            if called in ("os._exit", "os.fork"):
                assert name in ("updater.host.posix", "updater.source")


def test_the_top_level_is_as_it_was_agreed() -> None:
    import subprocess

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    tops = {one.split("/")[0] for one in listed if not one.startswith(".")}
    agreed = {"pyproject.toml", "updater", "dbsync", "tests", "scripts", "README.md", "docs", "CHANGELOG.md", "LICENSE"}
    assert tops <= agreed


def test_the_table_of_outcomes_for_support_is_the_programs_own() -> None:
    from updater.outcomes import OUTCOMES

    text = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    for name, one in OUTCOMES.items():
        assert f"| {one.code} | {name} | {one.exit_code} | {one.clerk} | {one.next_step} |" in text
    assert len({one.code for one in OUTCOMES.values()}) == len(OUTCOMES)


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
        print(f"{name_of(path):<28} {len(text.splitlines()):4d}  {purpose}")


if __name__ == "__main__":
    main()
