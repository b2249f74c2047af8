"""The table of commands: each line has its module, each module its line, and a command costs no other one's import."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from dbsync.cli.main import COMMANDS, main
from tests.helpers import forks
from tests.helpers.places import ROOT

PLACE = ROOT / "dbsync" / "cli"
LOADED = """
import sys
from dbsync.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", *sorted(sys.modules))
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_names_the_module_that_has_the_command(name: str) -> None:
    command = import_module(f"dbsync.cli.{COMMANDS[name].module}").command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert main.get_command(click.Context(main), name) is command


def test_every_module_with_a_command_is_in_the_table() -> None:
    found = {path.stem for path in PLACE.glob("*.py") if "\ndef command(" in path.read_text(encoding="utf-8")}
    assert found == {line.module for line in COMMANDS.values()}


def test_a_command_that_is_not_there_is_bad_usage() -> None:
    done = forks.run(["-m", "dbsync", "moan"])
    assert (done.returncode, "No such command 'moan'" in done.stderr) == (2, True)


def test_a_command_imports_no_other_commands_module(tmp_path: Path) -> None:
    words = ["status", "--database", str(tmp_path / "shop.db")]
    done = subprocess.run([sys.executable, "-c", LOADED, *words], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.partition("LOADED")[2].split())
    assert "dbsync.cli.status" in loaded
    assert not loaded & {f"dbsync.cli.{line.module}" for name, line in COMMANDS.items() if name != "status"}
    assert not [name for name in loaded if name.startswith(("dbsync.lint", "dbsync.recovery", "dbsync.commands."))]
