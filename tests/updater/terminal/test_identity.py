"""A terminal's id belongs to its machine: a copy gets one of its own, and says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from dbsync.errors import DiskProblem
from dbsync.storage import files
from tests.helpers.terminal import Till
from updater.host import this_host
from updater.model import ProcessKind
from updater.terminal import identity


def on_machine(patch: pytest.MonkeyPatch, ids: Mapping[str, str]) -> None:
    patch.setattr(type(this_host()), "machine_ids", lambda _: dict(ids))


@pytest.mark.parametrize(
    ("noted", "seen", "copied"),
    [
        ({"system": "a", "board": "x"}, {"system": "a", "board": "x"}, False),
        ({"system": "a", "board": "x"}, {"system": "b", "board": "x"}, True),
        ({"system": "a", "board": "x"}, {"system": "a", "board": "y"}, True),
        ({"system": "a"}, {"system": "a", "board": "y"}, False),
        ({"system": "a"}, {"board": "y"}, False),
        ({"system": "a"}, {}, False),
        ({}, {"system": "a"}, False),
    ],
)
def test_only_what_is_known_of_both_machines_tells_a_copy(
    noted: Mapping[str, str], seen: Mapping[str, str], copied: bool
) -> None:
    assert identity.is_copy(noted=noted, seen=seen) is copied


def test_a_copy_gets_an_id_of_its_own_once_and_tells_both(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    (till.settings.private / "machine.json").unlink()
    on_machine(monkeypatch, {"system": "a"})
    assert identity.settle(till.settings) is None, "a terminal of an earlier release notes its machine"
    text, before = till.settings_path.read_text(), till.settings.terminal_id
    assert identity.settle(till.settings) is None
    on_machine(monkeypatch, {"system": "b", "board": "x"})
    assert identity.is_copied(till.settings)
    copied = identity.settle(till.settings)
    assert copied is not None
    assert (copied.before, copied.after) == (before, till.settings.terminal_id)
    assert copied.after != before
    assert till.settings_path.read_text() == text.replace(before, copied.after), "nothing else of it is changed"
    assert identity.settle(till.settings) is None
    note = (till.settings.private / "machine.json").read_text()
    assert set(json.loads(note)["ids"]) == {"system", "board"}
    assert '"b"' not in note, "the ids themselves are not written down"


@pytest.mark.parametrize("where", ["the settings", "the note"])
def test_a_copy_that_is_cut_ends_with_an_id_of_its_own(till: Till, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    on_machine(monkeypatch, {"system": "a"})
    identity.settle(till.settings)
    before = till.settings.terminal_id
    on_machine(monkeypatch, {"system": "b"})
    real = files.write_durably

    def cut(path: Path, *values: object, **named: object) -> None:
        if (path == till.settings_path) is (where == "the settings"):
            raise DiskProblem(operation="write", path=path, cause="no space")
        real(path, *values, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_durably", cut)
        if where == "the settings":
            copied = identity.settle(till.settings)
            assert copied is not None
            assert (copied.after, "no space" in copied.problem) == (before, True)
        else:
            with pytest.raises(DiskProblem):
                identity.settle(till.settings)
    copied = identity.settle(till.settings)
    assert copied is not None
    assert before != till.settings.terminal_id == copied.after
    assert identity.settle(till.settings) is None


def test_the_agent_takes_the_new_id_before_its_first_cycle_and_reports_it(till: Till) -> None:
    before = till.settings.terminal_id
    assert till.run("check").returncode == 0
    note = till.settings.private / "machine.json"
    document = json.loads(note.read_text())
    if not document["ids"]:
        pytest.skip("this machine tells no id")
    note.write_text(json.dumps({**document, "ids": dict.fromkeys(document["ids"], "another")}))
    assert till.run("doctor").returncode == 1
    assert till.run("check").returncode == 0
    after = till.settings.terminal_id
    found = [
        json.loads(line)
        for path in till.folder.rglob(f"events-{ProcessKind.AGENT}.jsonl")
        for line in path.read_text().splitlines()
        if "NEW_TERMINAL_ID" in line
    ]
    assert [(event["terminal"], event["alarm"]) for event in found] == [(after, True)]
    assert before in found[0]["cause"]
    assert after in found[0]["done"]
    assert len(list(till.folder.rglob("outbox/*U-1022*.json"))) == 1
