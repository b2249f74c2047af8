"""The last boundary of the command lines: whatever a command raises is a sentence and an exit status."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from dbsync.cli import main as dbsync_table
from dbsync.cli.output import errors_told
from tests.helpers.places import ROOT
from tests.helpers.raised import HARD, INTERRUPTIONS
from updater import settings as settings_file
from updater.cli import main as updater_table
from updater.repository import child

GROUPS: dict[str, click.Group] = {"dbsync": dbsync_table.main, "updater": updater_table.commands}
ON_PURPOSE = ("the end of the process", "the end of the process, with a text")
"""A command ends with its status by these; a migration that raises them has failed (`test_boundary` of upgrade)."""


def ended(group: click.Group, *words: str) -> int:
    """The exit status with which a command line ends."""
    with pytest.raises(SystemExit) as end:
        group.main(list(words), prog_name="x", standalone_mode=True)
    assert isinstance(end.value.code, int)
    return end.value.code


def with_command(monkeypatch: pytest.MonkeyPatch, group: click.Group, raising: Callable[[], None]) -> None:
    """A group with a command that does nothing but raise."""

    @click.command("raises")
    def command() -> None:
        raising()

    monkeypatch.setitem(group.commands, "raises", command)


@pytest.mark.parametrize("kind", [kind for kind in HARD if kind not in ON_PURPOSE])
@pytest.mark.parametrize("name", GROUPS)
def test_whatever_a_command_raises_is_a_sentence(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        error = HARD[kind]()
        raise error

    with_command(monkeypatch, GROUPS[name], fail)
    status = ended(GROUPS[name], "raises")
    shown = capsys.readouterr()
    assert (status in (1, 4, 75), shown.out) == (True, "")
    assert shown.err.startswith("Error: could not ") or kind == "of ours, and hollow"
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("kind", INTERRUPTIONS)
@pytest.mark.parametrize("name", GROUPS)
def test_ctrl_c_is_130_in_every_command(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        error = INTERRUPTIONS[kind]()
        raise error

    with_command(monkeypatch, GROUPS[name], fail)
    assert ended(GROUPS[name], "raises") == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("kind", [kind for kind in HARD if kind not in (*ON_PURPOSE, "the end of a generator")])
def test_a_program_gets_one_document(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        with errors_told(as_json=True):
            error = HARD[kind]()
            raise error

    with_command(monkeypatch, dbsync_table.main, fail)
    status = ended(dbsync_table.main, "raises")
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["exit_code"]) == ("error", status)


@pytest.mark.parametrize("name", GROUPS)
def test_a_module_that_cannot_be_imported_is_a_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("dbsync.cli.status", "updater.cli.status"):
        monkeypatch.setitem(sys.modules, module, None)
    assert ended(GROUPS[name], "status") == 1
    assert "ModuleNotFoundError" in capsys.readouterr().err


def rollback_script() -> ModuleType:
    """The script, loaded as a module."""
    spec = spec_from_file_location("rollback_script", ROOT / "scripts" / "rollback.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", [*HARD, *INTERRUPTIONS])
def test_whatever_the_rollback_script_raises_is_a_sentence(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        error = {**HARD, **INTERRUPTIONS}[kind]()
        raise error

    monkeypatch.setattr(settings_file, "find", fail)
    monkeypatch.setattr(sys, "argv", ["rollback.py", "--list"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    status = rollback_script().main()
    shown = capsys.readouterr()
    assert status == 130 if kind in INTERRUPTIONS else status in (1, 4, 75)
    assert "Traceback" not in shown.out + shown.err
    assert shown.out.encode()


@pytest.mark.skipif(sys.platform == "win32", reason="/dev/full is POSIX's")
def test_the_rollback_script_keeps_its_status_when_nobody_can_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    script = rollback_script()
    with Path("/dev/full").open("w") as full:
        for stream in (full, None, io.TextIOWrapper(io.BytesIO(), encoding="ascii")):
            monkeypatch.setattr(sys, "stdout", stream)
            script._say("going back ✓")
            script._say("and on")


@pytest.mark.parametrize("kind", HARD)
def test_whatever_the_child_raises_is_its_answer(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: dict[str, Any]) -> dict[str, Any]:
        error = HARD[kind]()
        raise error

    monkeypatch.setattr(child, "look", fail)
    monkeypatch.setattr(child, "_end_with_parent", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"do": "look"}\n'))
    child.main()
    told = json.loads(capsys.readouterr().out)
    assert (told["answer"], bool(told["detail"]) or kind == "of ours, and hollow") == ("TROUBLE", True)


@pytest.mark.parametrize("request_line", ["", "{", '{"do": "dance"}', "[1]", '"x"'])
def test_a_request_that_is_none_is_answered_too(
    request_line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(child, "_end_with_parent", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(request_line + "\n"))
    child.main()
    assert json.loads(capsys.readouterr().out)["answer"] == "TROUBLE"
