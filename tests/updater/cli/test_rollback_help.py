"""The commands that go back explain themselves in the same words."""

from __future__ import annotations

import re
import subprocess
import sys

import click

from dbsync.cli import downgrade, restore
from tests.helpers.places import ROOT
from updater.cli import rollback


def script_help() -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "scripts" / "rollback.py"), "--help"],
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return " ".join(done.stdout.split())


def help_of(command: click.Command) -> dict[str, str]:
    return {
        option.opts[0]: option.help or ""
        for option in command.params
        if isinstance(option, click.Option) and option.opts[0] != "--help"
    }


def test_the_script_and_the_command_have_the_same_options_in_the_same_words() -> None:
    shown = script_help()
    assert rollback.command.help is not None
    described, exit_statuses = (re.sub(r"\s+", " ", part) for part in rollback.command.help.split("\n\n"))
    assert described in shown
    assert exit_statuses.strip() in shown
    options = help_of(rollback.command)
    assert set(re.findall(r" (--[a-z-]+) ", shown.partition("options:")[2])) - {"--help"} == set(options)
    for option, words in options.items():
        assert words in shown, option


def test_every_way_back_says_what_yes_and_accept_loss_do_and_how_it_ends() -> None:
    for command in (rollback.command, downgrade.command, restore.command):
        assert help_of(command)["--yes"] == "Do not ask. This never accepts a loss."
        assert "even if something is lost. It is kept" in help_of(command)["--accept-loss"]
        assert "Exit status 5: something would be lost" in (command.help or "")
