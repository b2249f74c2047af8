"""Every process that the product starts: by which command, in which folder, with which environment."""

from __future__ import annotations

import ast
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import zipapp
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from dbsync.storage import children
from tests.helpers.places import ROOT
from updater.host import this_host
from updater.host.posix import PosixHost
from updater.repository import trust

SPAWNS: Final = {
    "dbsync.storage.platform.posix:start_tree": "a session of its own, ended as a tree; folder and environment given",
    "dbsync.storage.platform.win32:start_suspended": "the program of `start_tree`, or the app, in a Job at once",
    "dbsync.storage.platform.linux:clone_file": "cp of the system, by its absolute path",
    "dbsync.storage.platform.linux:copy_file": "as for clone_file",
    "dbsync.storage.platform.macos:holder_of": "lsof of the system, by its absolute path",
    "updater.host.posix:start_app": "the fork that becomes the keeper, in a session of its own, with no file of ours",
    "updater.host.posix:run_main": "the fork that becomes the app, in a session of its own",
    "updater.host.posix:_become": "the app: its version folder, the launcher's environment",
    "updater.host.windows:start_app": "the keeper, our own child: `command`, `FOLDER`, `isolated`",
    "updater.host.stub:_child": "the program of a home: a kit of it, isolated, with its environment",
    "updater.publish.kit.debian:_run": "dpkg-deb of the vendor's machine",
    "updater.publish.kit.setup:_compile": "makensis of the vendor's machine, which asks for a signature",
    "updater.publish.kit.sign:sign": "the vendor's own command that signs",
}
"""Every place in the product that starts a process, with what isolates it. All others go through `start_tree`."""

TREES: Final = {
    "dbsync.migrations.code_process:_start": "the code of migrations: `pinned_command`, `FOLDER`, `isolated`",
    "dbsync.migrations.engines.own_command:_run": "the vendor's program: the folder of migrations, `isolated`",
    "updater.host.shared:run_and_wait": "a self-test: the unpacked folder, `isolated`",
    "updater.terminal.other_side:_start": "our own child with the till's rights: `command`, `/`, `of_account`",
    "updater.repository.conversation:_start": "our own child: `command`, `FOLDER`, `isolated`",
    "updater.publish.differ:_start": "our own child, the vendor's: `command`, `FOLDER`, `isolated`",
}
"""Every call of `start_tree`."""

TOOLS: Final = {
    "scripts/_bench_dbsync.py", "scripts/_bench_look.py", "scripts/_bench_updater.py", "scripts/_demo/stage.py",
    "scripts/_environment.py",
    "scripts/bench", "scripts/conformance", "scripts/test", "scripts/winbench",
}  # fmt: skip
"""Scripts for developers start what they like; the script for a till starts nothing."""

SPAWNING: Final = ("subprocess.", "multiprocessing.", "asyncio.create_subprocess", "pty.", "os.exec", "os.spawn")
SPAWNING_NAMES: Final = {
    "os.fork", "os.forkpty", "os.system", "os.popen", "os.posix_spawn", "os.posix_spawnp", "os.startfile",
    "Popen", "ProcessPoolExecutor", "check_output", "check_call", "webbrowser.open",
}  # fmt: skip
HARMLESS: Final = {"subprocess.list2cmdline", "subprocess.TimeoutExpired"}


def spawns(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls that start a process, each with the function that they are in."""
    for node in ast.iter_child_nodes(tree):
        name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else inside
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called not in HARMLESS and (called.startswith(SPAWNING) or called in SPAWNING_NAMES):
                yield inside, node
        yield from spawns(node, name)


def calls_of(tree: ast.AST, called: str, inside: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls of a method by its name."""
    for node in ast.iter_child_nodes(tree):
        name = node.name if isinstance(node, ast.FunctionDef) else inside
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == called:
            yield inside, node
        yield from calls_of(node, called, name)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the product's modules by name."""
    for path in sorted([*ROOT.glob("dbsync/**/*.py"), *ROOT.glob("updater/**/*.py"), ROOT / "scripts" / "rollback.py"]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def test_every_spawn_is_on_the_list() -> None:
    found = [(f"{name}:{inside}", call) for name, tree in modules() for inside, call in spawns(tree)]
    assert {place for place, _ in found} == SPAWNS.keys()
    for place, call in found:
        if ast.unparse(call.func).startswith("subprocess."):
            given = {keyword.arg for keyword in call.keywords}
            assert {"cwd", "env", "stdin"} <= given, f"{place}: nothing is inherited by chance"
            assert "shell" not in given, place


def test_every_tree_has_a_folder_and_an_environment_of_the_one_place() -> None:
    found = [(f"{name}:{inside}", call) for name, tree in modules() for inside, call in calls_of(tree, "start_tree")]
    assert {place for place, _ in found} == TREES.keys()
    for place, call in found:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        of_the_one_place = given["env"].startswith(("children.isolated(", "children.of_account("))
        assert of_the_one_place or given["env"] == "environment", place
        assert given["cwd"], place


def test_developers_scripts_are_known() -> None:
    found = set()
    for path in (ROOT / "scripts").rglob("*"):
        script = path.is_file() and path.suffix in ("", ".py") and "__pycache__" not in path.parts
        if script and list(spawns(ast.parse(path.read_text(encoding="utf-8")))):
            found.add(path.relative_to(ROOT).as_posix())
    assert found <= TOOLS, found


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess\ndef f():\n    subprocess.run(['x'])",
        "import os\ndef f():\n    os.execvp('x', [])",
        "import os\ndef f():\n    os.system('x')",
        "import os\ndef f():\n    os.posix_spawn('x', [], {})",
        "import multiprocessing\ndef f():\n    multiprocessing.Process()",
        "from subprocess import Popen\ndef f():\n    Popen(['x'])",
        "async def f():\n    await asyncio.create_subprocess_exec('x')",
    ],
)
def test_a_spawn_is_seen(text: str) -> None:
    assert [inside for inside, _ in spawns(ast.parse(text))] == ["f"]


# ------------------------------------------------------------------------------------------------------- environment


def test_a_child_of_ours_is_isolated() -> None:
    assert children.command("a.b")[:3] == [sys.executable, "-I", "-c"]
    assert children.pinned_command("a.b")[:5] == [sys.executable, "-P", "-s", "-X", "utf8"]
    assert children.FOLDER.is_dir()


def test_no_variable_brings_code_into_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES"):
        monkeypatch.setenv(name, "/tmp/trap")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    found = children.isolated(MORE="1")
    assert "/tmp/trap" not in found.values()
    assert (found["HTTPS_PROXY"], found["MORE"]) == ("http://proxy:1", "1")


def test_a_frozen_program_gives_on_what_it_was_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "/tmp/_MEI123")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/opt/till/lib")
    monkeypatch.setenv("_PYI_APPLICATION_HOME_DIR", "/tmp/_MEI123")
    found = children.inherited()
    assert found["LD_LIBRARY_PATH"] == "/opt/till/lib"
    assert "/tmp/_MEI123" not in found.values()
    assert "LD_LIBRARY_PATH_ORIG" not in found


# ------------------------------------------------------------------------------------------------ where it is run from


def test_a_frozen_program_that_is_not_ours_is_never_started_as_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(children, "_answering", [])
    with pytest.raises(children.NoPython, match="frozen program that starts none"):
        children.command("updater.repository.child")
    with pytest.raises(children.NoPython):
        children.python()
    assert not children.serve(["status"])
    assert children.command("a.b") == [sys.executable, children.FROZEN_WORD, "a.b"]


EMBEDDED = """
import sys
sys.path.insert(0, sys.argv[1])
sys.executable = sys.argv[2]
if sys.argv[3:]:
    sys.exec_prefix = sys.base_exec_prefix = sys.argv[3]
from dbsync.storage import children
try:
    print(children.command("x")[0])
except children.NoPython as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("program", ["", shutil.which("cat") or "cat"])
def test_an_embedded_python_takes_the_one_of_its_library_or_refuses_by_name(tmp_path: Path, program: str) -> None:
    def run(*words: str) -> str:
        command = [sys.executable, "-I", "-c", EMBEDDED, str(ROOT), program, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    found = run().strip()
    assert Path(found).name.startswith("python")
    assert subprocess.run([found, "-I", "-c", "print(1)"], capture_output=True, text=True, check=True).stdout == "1\n"
    refused = run(str(tmp_path))
    assert refused.startswith("refused: could not start a Python: ")
    assert (program or "a host program") in refused


ASKS = """
import datetime, sys
from pathlib import Path
from updater.network.manner import Manner
from updater.repository import client
source = client.Source("http://127.0.0.1:9", (), Path(sys.argv[1]), "", 20.0, 20.0, Manner(1))
found = client.look(source, now=datetime.datetime.now(datetime.UTC))
print(found.answer, found.detail)
"""


def trusting(folder: Path, root: Path) -> Path:
    """A folder that trusts a vendor's root."""
    folder.mkdir()
    trust.begin(folder, root.read_bytes())
    return folder


def test_a_zipped_product_asks_the_repository(tmp_path: Path, first_release: object) -> None:
    from tests.helpers.vendor import Vendor

    assert isinstance(first_release, Vendor)
    tree = tmp_path / "tree"
    for package in ("dbsync", "updater"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "__main__.py").write_text(ASKS)
    archive = tmp_path / "tillkeeper.pyz"
    zipapp.create_archive(tree, archive)
    trap = tmp_path / "elsewhere"
    (trap / "updater" / "repository").mkdir(parents=True)
    (trap / "updater" / "repository" / "child.py").write_text("raise SystemExit('a trap')")
    trust = trusting(tmp_path / "trust", first_release.root)
    done = subprocess.run(
        [sys.executable, str(archive), str(trust)],
        cwd=trap, env={**os.environ, "PYTHONPATH": str(trap)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("OFFLINE"), done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.skipif(
    sys.platform == "linux" and shutil.which("objdump") is None, reason="PyInstaller needs objdump (binutils)"
)
def test_a_frozen_product_is_its_own_child_and_another_program_is_not_started_again(
    tmp_path: Path, first_release: object
) -> None:
    from tests.helpers.vendor import Vendor

    assert isinstance(first_release, Vendor)
    trust = trusting(tmp_path / "trust", first_release.root)
    ours = "import sys\nfrom dbsync.storage import children\nif children.serve(sys.argv[1:]):\n    sys.exit()\n"
    answers = {}
    for name, begin in (("ours", ours), ("other", "print('it begins')\n")):
        script = tmp_path / f"{name}.py"
        script.write_text(begin + ASKS)
        built = [
            sys.executable, "-m", "PyInstaller", "--noconfirm", "--onedir", "--log-level", "ERROR",
            "--distpath", str(tmp_path / "dist"), "--workpath", str(tmp_path / "work"), "--specpath", str(tmp_path),
            "--paths", str(ROOT), "--collect-submodules", "updater.repository", "--collect-submodules", "dbsync",
            "--collect-submodules", "tuf", str(script),
        ]  # fmt: skip
        subprocess.run(built, check=True, capture_output=True)
        program = tmp_path / "dist" / name / name
        answers[name] = subprocess.run([program, trust], capture_output=True, text=True, check=False)
    assert answers["ours"].stdout.startswith("OFFLINE"), answers["ours"]
    assert answers["other"].stdout.count("it begins") == 1
    assert "TROUBLE" in answers["other"].stdout
    assert "is a frozen program that starts none" in answers["other"].stdout


MIGRATES: Final = """
import sys
from dbsync.storage import children
if children.serve(sys.argv[1:]):
    sys.exit()
import dbsync
outcome = dbsync.run_migrations(database=sys.argv[1], folder=sys.argv[2])
print(outcome.name, outcome.cause)
"""


@pytest.mark.long
@pytest.mark.skipif(
    sys.platform == "linux" and shutil.which("objdump") is None, reason="PyInstaller needs objdump (binutils)"
)
def test_a_frozen_product_runs_code_of_migrations_only_with_a_fixed_hash_seed(tmp_path: Path) -> None:
    script, folder = tmp_path / "migrates.py", tmp_path / "m"
    script.write_text(MIGRATES)
    folder.mkdir()
    (folder / "0001_set.py").write_text(
        '"""A set."""\n\n\ndef up(db):\n    db.execute("CREATE TABLE t (x)")\n'
        '    db.execute("INSERT INTO t VALUES (?)", (" ".join({"bread", "milk", "salt", "rice"}),))\n'
    )
    answers, rows = {}, set()
    for name, options in (("with", ["--python-option", "hash_seed=0"]), ("without", [])):
        built = [
            sys.executable, "-m", "PyInstaller", "--noconfirm", "--onedir", "--log-level", "ERROR", "--name", name,
            "--distpath", str(tmp_path / "dist"), "--workpath", str(tmp_path / "work"), "--specpath", str(tmp_path),
            "--paths", str(ROOT), "--collect-submodules", "dbsync", *options, str(script),
        ]  # fmt: skip
        subprocess.run(built, check=True, capture_output=True)
        program = tmp_path / "dist" / name / name
        for turn in range(2):
            database = tmp_path / f"{name}{turn}.db"
            done = subprocess.run([program, database, folder], capture_output=True, text=True, check=False)
            answers[name] = done.stdout + done.stderr
            if name == "with":
                with closing(sqlite3.connect(database)) as connection:
                    rows.add(connection.execute("SELECT x FROM t").fetchone())
            else:
                assert not database.exists()
    assert answers["with"].startswith("CREATED"), answers
    assert len(rows) == 1
    assert "whose hash seed differs from start to start" in answers["without"]


# ------------------------------------------------------------------------------------------------------------- trees


@pytest.mark.skipif(sys.platform == "win32", reason="there, children of a self-test are in no job")
def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    text = (
        "import os, pathlib, sys, time\n"
        f"if not os.fork():\n    pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\n    time.sleep(600)\n"
        f"while not pathlib.Path({str(mark)!r}).exists() or not pathlib.Path({str(mark)!r}).read_text(): pass\n"
        "print('began', flush=True)\n"
        "if sys.argv[1] == 'stays':\n    time.sleep(600)\n"
    )
    for how, code in (("stays", None), ("leaves a child", 0)):
        mark.unlink(missing_ok=True)
        ended = this_host().run_and_wait([sys.executable, "-c", text, how], timeout_seconds=5.0, env=None, cwd=tmp_path)
        assert ended == (code, "began\n")
        deadline = time.monotonic() + 10
        while is_alive(int(mark.read_text())):
            assert time.monotonic() < deadline, how


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has asked for its status does not."""
    host = this_host()
    assert isinstance(host, PosixHost)
    return host.is_alive(pid)
