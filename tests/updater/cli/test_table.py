"""The table of commands: each line has its module, each module its line; without the vendor's side the rest works."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import pytest

from tests.helpers.places import ROOT
from updater.cli.main import COMMANDS, commands
from updater.publish.cli.main import COMMANDS as VENDORS

PLACE = ROOT / "updater" / "cli"
WITHOUT_PUBLISH = """
import sys
sys.modules["updater.publish.cli.main"] = None
from updater.__main__ import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_names_the_module_that_has_the_command(name: str) -> None:
    command = import_module(COMMANDS[name]).command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert commands.get_command(click.Context(commands), name) is command


def test_every_module_with_a_command_is_in_the_table() -> None:
    found = {f"updater.cli.{path.stem}" for path in PLACE.glob("*.py") if "\ndef command(" in path.read_text("utf-8")}
    assert found | {"updater.publish.cli.main"} == set(COMMANDS.values())


def test_every_line_of_the_vendor_names_its_module_and_every_module_has_its_line() -> None:
    for name, module in VENDORS.items():
        assert import_module(module).command.name == name
    place = ROOT / "updater" / "publish" / "cli"
    found = {
        f"updater.publish.cli.{path.stem}" for path in place.glob("*.py") if "\ndef command(" in path.read_text("utf-8")
    }
    assert found - {"updater.publish.cli.main"} == set(VENDORS.values())


def test_without_the_vendors_side_publish_says_so_and_help_works() -> None:
    words = [sys.executable, "-c", WITHOUT_PUBLISH]
    missing = subprocess.run([*words, "publish", "init"], capture_output=True, text=True, check=False)
    assert (missing.returncode, "pip install 'tillkeeper[publish]'" in missing.stderr) == (4, True), missing.stderr
    shown = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True).stdout
    assert "(not installed) the vendor's side." in shown
    assert "rollback" in shown
