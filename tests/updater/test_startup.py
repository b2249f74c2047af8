"""What a launch with nothing pending loads: the standard library and the core, nothing else. Costs: scripts/bench."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.helpers.places import ROOT
from tests.helpers.terminal import Till

ALLOWED = {
    "dbsync.outcomes",
    "updater.outcomes",
    "dbsync.backups",
    "dbsync.backups.restore_intents",
    "dbsync.errors",
    "dbsync.facts",
    "dbsync.storage",
    "dbsync.storage.children",
    "dbsync.storage.connections",
    "dbsync.storage.file_calls",
    "dbsync.storage.files",
    "dbsync.storage.locks",
    "dbsync.storage.platform",
    "dbsync.storage.platform.base",
    "dbsync.storage.claims",
    "dbsync.storage.platform.linux",
    "dbsync.storage.platform.macos",
    "dbsync.storage.platform.posix",
    "dbsync.storage.platform.win32",
    "dbsync.storage.platform.windows",
    "updater.__main__",
    "updater.bundle_names",
    "updater.bundles",
    "updater.bundles.version_folders",
    "updater.cli",
    "updater.cli.start",
    "updater.decisions",
    "updater.decisions.adoption",
    "updater.decisions.claims",
    "updater.decisions.launcher",
    "updater.decisions.trial",
    "updater.errors",
    "updater.flows",
    "updater.flows.effects",
    "updater.flows.launch",
    "updater.host",
    "updater.host.base",
    "updater.host.linux",
    "updater.host.macos",
    "updater.host.posix",
    "updater.host.shared",
    "updater.host.windows",
    "updater.manifest",
    "updater.model",
    "updater.settings",
    "updater.terminal",
    "updater.terminal.app_log",
    "updater.terminal.app_process",
    "updater.terminal.confirm_file",
    "updater.terminal.database",
    "updater.terminal.kit_use",
    "updater.terminal.launch_count",
    "updater.terminal.layout",
    "updater.terminal.live",
    "updater.terminal.own_side",
    "updater.terminal.sides",
    "updater.terminal.state_files",
    "updater.terminal.till_side",
}
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
from updater.__main__ import main
try:
    main(["launch", "--settings", sys.argv[2], "--", "--sell", "1"])
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(set(sys.modules) - before)]))
"""
EXPENSIVE = {"argparse", "asyncio", "dataclasses", "hashlib", "inspect", "logging", "secrets", "subprocess", "uuid"}
if sys.platform == "win32":
    # The launcher starts the keeper as a program, where others fork it.
    ALLOWED |= {"updater.terminal.keeper"}
    EXPENSIVE -= {"subprocess"}


def test_a_launch_with_nothing_pending_loads_the_standard_library_and_the_core_only(till: Till) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(ROOT), str(till.settings_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    ours = {name for name in loaded if name.split(".")[0] in ("dbsync", "updater") and "." in name}
    assert ours <= ALLOWED
    rest = {name.split(".")[0] for name in loaded} - {"dbsync", "updater"}
    assert rest <= set(sys.stdlib_module_names)
    assert not rest & EXPENSIVE


def test_a_launch_with_nothing_pending_writes_nothing(till: Till) -> None:
    before = {path: path.read_bytes() for path in till.settings.state.rglob("*") if path.is_file()}
    assert till.launch(sell=1).returncode == 0
    after = {path: path.read_bytes() for path in till.settings.state.rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before.get(path)} <= {"app.lock", "app.log", "terminal.lock"}


def test_the_rollback_script_loads_nothing_that_is_not_in_the_tree_or_the_standard_library(till: Till) -> None:
    text = (
        "import runpy, sys, json\n"
        "sys.argv = ['rollback.py', '--settings', sys.argv[2], '--list', '--json']\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "try:\n    runpy.run_path(sys.path[0] + '/scripts/rollback.py', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        # None stands for a module that cannot be imported.
        "loaded = {name.split('.')[0] for name, module in sys.modules.items() if module is not None}\n"
        "print('LOADED ' + json.dumps(sorted(loaded)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", text, "x", str(till.settings_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout.partition("LOADED ")[2]))
    assert loaded - set(sys.stdlib_module_names) <= {"updater", "dbsync", "__main__"}
