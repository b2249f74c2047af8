"""The house: which package may import which, what each module is for, and where systems and libraries are met.

`python -m tests.test_house` prints the table: module, lines, purpose.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePath
from typing import Final

import pytest

from tests.helpers.places import ROOT

LAYERS: Final = (
    # base: imports nothing of ours
    "dbsync.outcomes",
    "dbsync.errors",
    "dbsync.facts",
    "dbsync.model",
    "dbsync.progress",
    "dbsync.losses",
    "dbsync.storage",
    "dbsync.schema",
    "dbsync.complement",
    "dbsync.migrations",
    "dbsync.verification",
    "dbsync.counters",
    "dbsync.backups",
    "dbsync.upgrade",
    "dbsync.downgrade",
    "dbsync.database",
    "dbsync.rehearsal",
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
    "updater.model",
    "updater.answers",
    "updater.bundle_names",
    "updater.addresses",
    "updater.manifest",
    "updater.summary",
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
    "updater.repository.look": {"tuf"},
    "updater.bundles.offers": {"packaging"},
    "updater.bundles.staging": {"packaging"},
    "updater.flows.agent": {"apscheduler"},
    "updater.cli": {"click", "rich"},
    "updater.publish": {"click", "hdiffpatch", "packaging", "tuf", "tufup", "securesystemslib"},
    "updater.publish.keys": {"cryptography"},
    "updater.publish.tokens": {"PyKCS11", "asn1crypto"},
    "updater.publish.kit.bill": {"cyclonedx", "packageurl"},
    "updater.publish.kit.starters": {"distlib"},
    "updater.publish.storage": {"boto3", "botocore"},
}
"""The libraries that a module, or each module below a package, may import beside the standard library."""

AGENTS: Final = (
    "updater.network", "updater.repository", "updater.bundles.offers", "updater.bundles.staging",
    "updater.bundles.ways",
    "updater.terminal.installation", "updater.terminal.trusting", "updater.cli.main", "updater.cli.shared",
    "updater.cli.install", "updater.cli.check", "updater.cli.run", "updater.cli.status", "updater.cli.allow",
    "updater.cli.rollback", "updater.cli.launch", "updater.cli.confirm", "updater.cli.progress_bar",
    "updater.cli.doctor", "updater.cli.trust", "updater.cli.uninstall",
    "updater.cli.service", "updater.cli.kit", "updater.terminal.kit", "updater.terminal.kit_installation",
    "updater.terminal.kit_test", "updater.terminal.own_kit",
)  # fmt: skip
"""Modules that only the agent and people's commands load: they may use libraries."""

NETS: Final = {
    "dbsync.database.restore": "what was tried to carry back is on record before it is given up",
    "dbsync.database.comparing": "an export is a convenience: the restore goes on without it",
    "dbsync.database.leftovers": "clearing left-overs stops nothing",
    "dbsync.backups.quarantine": "a copy of what is damaged stops nothing",
    "updater.terminal.app_process": "a count for support stops no till",
    "updater.terminal.kit_use": "a lock that cannot be had stops no till",
    "updater.cli.shared": "a command of a person ends with a sentence, whatever the disk does",
}
"""The modules that catch an OSError beside errors of ours, with the reason; elsewhere it is one of ours by then."""

VIEWS: Final = ("dbsync.cli", "updater.cli", "updater.publish.cli", "updater.__main__")
"""The modules that print, ask and exit."""

PURE: Final = ("updater.decisions", "dbsync.upgrade.decisions", "dbsync.upgrade.adoption_decision")
"""Decisions over values: of the standard library they import typing, enum and collections."""

FILE_EFFECTS: Final = frozenset(dir(Path)) - frozenset(dir(PurePath)) | {"open"}
"""Names of calls that read or write files: all that a `Path` can and a `PurePath` cannot."""

SPEAKS_SQL: Final = (
    "dbsync.complement",
    "dbsync.schema",
    "dbsync.migrations.authorizer",
    "dbsync.migrations.operations",
    "dbsync.migrations.runner",
    "dbsync.migrations.sandbox",
    "dbsync.verification",
    "dbsync.counters",
    "dbsync.downgrade",
    "dbsync.recovery",
    "dbsync.rehearsal",
    "dbsync.commands",
)
"""The packages that read SQL text, by its tokens: regular expressions are for names of files and lines of headers."""
SYSTEMS: Final = ("dbsync.storage.platform", "updater.host")
"""The two addresses for differences between operating systems: only there may a module ask which one this is."""

SYSTEM_MODULES: Final = {
    "_posixsubprocess", "_winapi", "ctypes", "fcntl", "grp", "msvcrt", "nt", "platform", "posix", "pty", "pwd",
    "resource", "select", "selectors", "signal", "syslog", "termios", "tty", "winreg", "winsound",
}  # fmt: skip
"""Modules of the standard library that are different, missing or half there on some system."""

SYSTEM_NAMES: Final = {
    "sys.platform", "sys.getwindowsversion", "sys.winver", "os.name", "os.uname", "os.fork", "os.forkpty", "os.kill",
    "os.killpg", "os.nice", "os.setsid", "os.setpgid", "os.getuid", "os.geteuid", "os.getgid", "os.waitpid", "os.wait",
    "os.execv", "os.execve", "os.posix_spawn", "os.startfile", "os.chown", "os.mkfifo", "os.sync", "os.statvfs",
    "os.O_BINARY", "os.O_CLOEXEC", "os.O_DIRECTORY", "os.O_NOFOLLOW", "time.clock_gettime",
    "subprocess.list2cmdline", "subprocess.STARTUPINFO",
}  # fmt: skip
"""Names that are asked for the system, or that are different, missing or half there on some system."""

SYSTEM_ARGUMENTS: Final = {"start_new_session", "process_group", "creationflags", "startupinfo", "preexec_fn"}
SYSTEM_ATTRIBUTES: Final = {"winerror", "st_birthtime", "st_file_attributes"}
SYSTEM_PLACES: Final = ("/proc/", "/sys/", "/dev/", "/etc/", "HKEY_", "C:\\")

STRAYS: Final = {
    "scripts._environment": "it runs before there is an environment, also on a Python that cannot read dbsync",
    "scripts._demo.stage": "the demonstration pulls the plug of a launcher that it started with pipes",
    "scripts._bench_look": "it measures what processes cost with what Linux counts",
    "scripts._bench_updater": "as for scripts._bench_look",
    "scripts._bench_dbsync": "it reads the size of a process while it measures",
    "scripts.bench": "it measures what a process costs with what Linux counts",
    "scripts.test": "it looks for memory with room for the files of tests before pytest starts",
}
"""Who else may ask which system this is, each with the reason."""

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


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a module, which each of these rules reads."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, *, deep: bool = True) -> Iterator[str]:
    """Yield the modules that a file imports, also inside functions; not those for type checking only."""
    tree = tree_of(path)
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
    tree = tree_of(path)
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


def test_only_the_agents_side_loads_libraries() -> None:
    """The launcher, confirm and the rollback script run on a bare Python: what they import at once has no library."""
    for name, path in NAMES.items():
        if not is_below(name, (*AGENTS, "updater.publish", "dbsync.cli", "dbsync.__main__")):
            at_once = {imported for imported in imports(path, deep=False) if imported in NAMES}
            assert not [imported for imported in at_once if is_below(imported, AGENTS)], name


def test_terminals_never_import_the_vendors_side() -> None:
    for name, path in NAMES.items():
        if not is_below(name, ("updater.publish", "updater.__main__")):
            assert not any(is_below(imported, ("updater.publish",)) for imported in own_imports(path)), name


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    for path in MODULES:
        if path.name == "__init__.py" and name_of(path) not in ("dbsync", "updater", *SYSTEMS):
            (docstring,) = tree_of(path).body
            assert isinstance(docstring, ast.Expr), name_of(path)


def test_decisions_are_pure() -> None:
    for name, path in NAMES.items():
        if is_below(name, PURE):
            foreign = {imported.split(".")[0] for imported in imports(path)} - {"dbsync", "updater"}
            assert foreign <= {"__future__", "typing", "enum", "collections", "datetime"}, name
            calls = [node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
            asked = {call.attr for call in calls if isinstance(call, ast.Attribute)}
            assert not asked & {"now", "utcnow", "today"}, f"{name}: a decision is given the time"
            layers = {layer_of(imported) for imported in own_imports(path)}
            base = {f"{package}.{name}" for package in ("dbsync", "updater") for name in ("facts", "model", "outcomes")}
            assert layers <= base | {"updater.answers", "updater.decisions", "dbsync.upgrade"}, name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_method_without_a_docstring_is_documented_where_it_is_declared(path: Path) -> None:
    import importlib
    import inspect

    for node in tree_of(path).body:
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")]
        bare = [method.name for method in methods if ast.get_docstring(method) is None]
        if bare:
            found = getattr(importlib.import_module(name_of(path)), node.name)
            assert not [name for name in bare if not inspect.getdoc(getattr(found, name))], node.name


PATH_TYPES: Final = frozenset({"Path", "Path | None", "StrPath", "StrPath | None"})
"""Annotations of an argument that is one path."""


def public_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Yield the functions and methods that other modules may call; click calls its commands with names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            if "click." not in decorators and ".command(" not in decorators:
                yield node


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_two_paths_are_given_by_name(path: Path) -> None:
    """A source that stands in the place of its target is found out when it has been written over.

    `like`, after `*`, is only looked at: the file whose owner and rights another one gets.
    """
    for function in public_functions(tree_of(path)):
        by_place = [*function.args.posonlyargs, *function.args.args]
        paths = {
            argument.arg
            for argument in (*by_place, *(named for named in function.args.kwonlyargs if named.arg != "like"))
            if argument.annotation is not None and ast.unparse(argument.annotation) in PATH_TYPES
        }
        assert len(paths) < 2 or not paths & {one.arg for one in by_place}, (
            f"{function.name}: {sorted(paths)} after `*`"
        )


IDENTITIES: Final = {
    "trial_id": "TrialId",
    "release_id": "ReleaseId",
    "sha256": "Sha256",
    "content_sha256": "Sha256",
    "readable_from": "SchemaNumber",
    "older_schema": "SchemaNumber",
}
"""Names of fields and arguments, and the type that keeps one identity from standing in the place of another."""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_an_identity_has_a_type_of_its_own(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.AnnAssign):
            name, annotation = ast.unparse(node.target), node.annotation
        elif isinstance(node, ast.arg) and node.annotation is not None:
            name, annotation = node.arg, node.annotation
        else:
            continue
        if name in IDENTITIES:
            assert ast.unparse(annotation).removesuffix(" | None") == IDENTITIES[name], f"line {node.lineno}: {name}"


def steps() -> frozenset[str]:
    """Return the classes between which decisions choose: the members of the unions `Step = A | B` beside them."""
    found: set[str] = set()
    for name, path in NAMES.items():
        for node in tree_of(path).body if is_below(name, PURE) else ():
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
                found |= {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
    return frozenset(found)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_step_is_told_by_match_and_no_case_falls_through(path: Path) -> None:
    """With a new member of a union or an enum, mypy names every place that does not handle it yet."""
    known = steps()
    assert {"Refuse", "Migrate", "RestoreCarried", "Overwrite", "Adopt", "Swap", "GoBack"} <= known
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Match):
            *_, last = node.cases
            assert ast.unparse(last.pattern) == "_", f"line {node.lineno}: the last case is `case _`"
            ends = ast.unparse(last.body[0])
            closed = f"assert_never({ast.unparse(node.subject)})"
            refuses = isinstance(last.body[0], ast.Raise) or ends == "return False"
            assert ends == closed or refuses, f"line {last.body[0].lineno}: it refuses"
        elif (
            isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance" and not is_below(name_of(path), PURE)
        ):
            asked = {
                part.rpartition(".")[2]
                for part in ast.unparse(node.args[1]).strip("()").replace(",", " |").split(" | ")
            }
            assert not asked & known, f"line {node.lineno}: match the step, and end in assert_never"


def test_upgrade_touches_files_and_sqlite_through_its_effects_only() -> None:
    for name, path in NAMES.items():
        if not is_below(name, ("dbsync.upgrade",)):
            continue
        foreign = {imported.split(".")[0] for imported in imports(path)} - {"dbsync", "updater"}
        assert foreign <= {"__future__", "abc", "typing", "enum", "collections", "functools", "pathlib"}, name
        layers = {layer_of(imported) for imported in own_imports(path)}
        assert layers <= {"dbsync.errors", "dbsync.facts", "dbsync.model", "dbsync.outcomes", "dbsync.upgrade"}, name
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called.rpartition(".")[2] not in FILE_EFFECTS, f"{name} calls {called}"


def test_a_file_error_becomes_one_of_ours_where_it_arises() -> None:
    """Nobody expects an OSError of a function of ours: only the last nets catch one beside our own errors."""
    for name, path in NAMES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler) and node.type is not None:
                caught = {ast.unparse(part) for part in ast.walk(node.type) if isinstance(part, ast.Name)}
                if {"OSError", "TillkeeperError"} <= caught:
                    assert name in NETS, f"{name}: let the function that calls the system raise one of ours"


def test_one_file_opens_sqlite_and_only_views_print_ask_and_exit() -> None:
    for name, path in NAMES.items():
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "sqlite3.connect":
                assert name == "dbsync.storage.connections"
            if called in ("print", "input", "sys.exit", "exit", "click.echo", "click.prompt", "click.confirm"):
                assert is_below(name, VIEWS), f"{name} calls {called}"
            if called in ("os._exit", "os.fork"):
                assert name in (
                    "updater.host.posix", "updater.repository.child", "updater.terminal.worker",
                    "dbsync.migrations.code_child", "updater.host.windows",
                )  # fmt: skip


def test_one_module_asks_which_kind_a_table_is_and_one_cuts_sql() -> None:
    for name, path in NAMES.items():
        if name not in ("dbsync.storage.introspection", "dbsync.migrations.authorizer"):
            assert "table_list" not in path.read_text(encoding="utf-8"), f"{name}: ask introspection"
        if is_below(name, SPEAKS_SQL) and name != "dbsync.verification.exports":  # it cuts CSV
            assert "re" not in imports(path), f"{name}: storage.sql_tokens cuts SQL"


RAW_FILE_CALLS: Final = {
    "dbsync.storage.file_calls": "here they are made patient",
    "dbsync.storage.platform": "below that: what patience is, on each system",
    "updater.host": "the other address of systems: devices, and folders that a command of root makes",
    "updater.publish": "the vendor's machine, where a person repeats a command",
    "updater.terminal.app_process": "the watch of the app, which asks again at every poll",
    "dbsync.backups.compression": "it gives zstd an open file",
    "updater.bundles.archives": "it gives tarfile an open file",
    "dbsync.cli.output": "the null device",
    "updater.terminal.app_log": "the null device",
    "dbsync.migrations.code_child": "the null device",
    "updater.cli.start": "the null device",
}
"""Who calls `open`, `unlink` and the like by itself, with the reason; all others ask `storage.file_calls`, which waits
for a program that holds the file."""
RAW_ATTRIBUTES: Final = {
    "open", "unlink", "rmdir", "rmtree", "read_bytes", "read_text", "write_bytes", "write_text", "rename", "renames",
    "remove", "removedirs", "touch", "move", "copyfile", "copytree", "copy2", "utime", "truncate",
}  # fmt: skip
OF_MODULES: Final = {"remove", "rename", "renames", "move", "touch", "copytree", "truncate"}
"""Names that other objects have as well: they count as calls on files of `os` and `shutil` alone."""


def raw_file_calls(text: str) -> Iterator[str]:
    """Yield the calls of a module on files that raise at once when another program holds the file."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            yield "open"
        if not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        if owner in ("file_calls", "files"):
            continue
        if name in RAW_ATTRIBUTES and (name not in OF_MODULES or owner in ("os", "shutil")):
            yield ast.unparse(node.func)
        if name == "replace" and len(node.args) + len(node.keywords) == 1 and not node.keywords:
            # A string takes two, a time takes names; `os.replace` takes two as well.
            yield ast.unparse(node.func)
        if (owner, name) == ("os", "replace"):
            yield "os.replace"


def test_only_the_patient_layer_opens_removes_and_renames_files() -> None:
    found = {name: set(raw_file_calls(path.read_text(encoding="utf-8"))) for name, path in NAMES.items()}
    found["scripts.rollback"] = set(raw_file_calls((ROOT / "scripts/rollback.py").read_text(encoding="utf-8")))
    calling = {name: calls for name, calls in found.items() if calls}
    allowed = (*RAW_FILE_CALLS, "scripts.rollback")
    assert {name: calls for name, calls in calling.items() if not is_below(name, allowed)} == {}
    assert [place for place in RAW_FILE_CALLS if not any(is_below(name, (place,)) for name in calling)] == []
    assert calling.get("scripts.rollback") == {"os.open"}, "the null device"


def test_only_the_systems_know_how_a_file_is_made_durable() -> None:
    syncing = {name for name, path in NAMES.items() if "os.fsync(" in path.read_text(encoding="utf-8")}
    assert syncing == {
        "dbsync.storage.platform.posix", "dbsync.storage.platform.windows",
        "updater.host.stub",  # It imports nothing of ours.
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "path.unlink()", "path.open('rb')", "open(path)", "os.replace(a, b)", "source.replace(target)",
        "shutil.rmtree(folder)", "path.read_text(encoding='utf-8')", "os.open(path, 0)", "(a / b).write_bytes(c)",
    ],
)  # fmt: skip
def test_a_raw_file_call_is_seen(text: str) -> None:
    assert list(raw_file_calls(text)) != []


@pytest.mark.parametrize(
    "text", ["text.replace('a', 'b')", "at.replace(tzinfo=UTC)", "file_calls.remove(path)", "found.remove(path)"]
)
def test_calls_of_other_objects_are_no_file_calls(text: str) -> None:
    assert list(raw_file_calls(text)) == []


def strays(text: str) -> Iterator[str]:
    """Yield what a module asks of one operating system: modules, names, arguments, attributes and places."""
    tree = ast.parse(text)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        if isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in SYSTEM_MODULES)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & SYSTEM_NAMES
            if (node.module or "").split(".")[0] in SYSTEM_MODULES:
                yield str(node.module)
        elif isinstance(node, ast.Attribute):
            if ast.unparse(node) in SYSTEM_NAMES or node.attr in SYSTEM_ATTRIBUTES:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call):
            yield from (str(argument.arg) for argument in node.keywords if argument.arg in SYSTEM_ARGUMENTS)
            if ast.unparse(node.func) in ("getattr", "hasattr") and len(node.args) > 1:
                asked = ast.unparse(node.args[0])
                name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
                if asked in ("os", "sys", "signal", "time", "socket") or name in SYSTEM_ATTRIBUTES:
                    yield ast.unparse(node)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and f"{node.value}/".startswith(SYSTEM_PLACES)
            and id(node) not in docstrings
        ):
            yield node.value


def test_systems_differ_at_two_addresses_only() -> None:
    found = {
        name: sorted(set(strays(path.read_text(encoding="utf-8"))))
        for name, path in NAMES.items()
        if not is_below(name, SYSTEMS)
    }
    scripts = [*ROOT.glob("scripts/**/*.py"), ROOT / "scripts/test", ROOT / "scripts/bench", ROOT / "scripts/demo"]
    scripts += [ROOT / "scripts/winbench"]
    for path in scripts:
        found[name_of(path)] = sorted(set(strays(path.read_text(encoding="utf-8"))))
    asking = {name: asked for name, asked in found.items() if asked}
    assert {name: asked for name, asked in asking.items() if name not in STRAYS} == {}
    assert not STRAYS.keys() - asking.keys(), "a reason for a place that asks nothing any more"


@pytest.mark.parametrize(
    "text",
    [
        "import sys\nif sys.platform == 'win32':\n    pass",
        "from sys import platform",
        "import os\nx = os.name",
        "import platform\nplatform.system()",
        "def f():\n    import ctypes.util",
        "from fcntl import flock",
        "import msvcrt",
        "import winreg",
        "import os\nos.fork()",
        "from pathlib import Path\nx = Path('/proc/self/mounts')",
        "from pathlib import Path\nx = Path('/proc') / 'self'",
        "x = f'/proc/{1}/fd'",
        "import signal\nsignal.signal(15, print)",
        "import os\nx = getattr(os, 'O_BINARY', 0)",
        "import os\nx = hasattr(os, 'geteuid')",
        "x = getattr(error, 'winerror', None)",
        "import subprocess\nsubprocess.Popen(['x'], start_new_session=True)",
    ],
)
def test_a_stray_is_seen(text: str) -> None:
    assert list(strays(text))
    assert not list(strays(f'"""It reads /proc/self/mounts and sys.platform."""\nx = {text!r}'))


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
