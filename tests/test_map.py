"""The map in docs/explanation, compared with the house: names, the steps of a first launch, the files of a terminal."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, Final

import pytest

from tests.helpers.places import ROOT
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.flows.launch import launch
from updater.model import ProcessKind
from updater.terminal.live import Terminal

EXPLANATION: Final = ROOT / "docs" / "explanation"
MAP: Final = (EXPLANATION / "architecture.md").read_text(encoding="utf-8")


def table(text: str, head: str) -> list[list[str]]:
    """Return the cells of the table that begins with this line."""
    assert text.count(f"{head}\n") == 1, head
    lines = text.partition(f"{head}\n")[2].partition("\n\n")[0].splitlines()[1:]
    return [re.split(r" *\| *", line.strip().removeprefix("| ").removesuffix(" |")) for line in lines]


def glossary() -> dict[str, list[str]]:
    """Return the names in the code of each term."""
    text = (EXPLANATION / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    found = {term: re.findall(r"`([\w.]+)`", names) for term, names in rows if term not in ("term", "---")}
    assert len(found) == sum(term not in ("term", "---") for term, _ in rows), "each term has one row"
    return found


def resolved(name: str) -> Any:
    """Return what a dotted name stands for: a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            place: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            place = getattr(place, part)
        return place
    raise AssertionError(f"there is no {name}")


@pytest.mark.parametrize("term", glossary())
def test_every_term_of_the_glossary_lives_where_it_says(term: str) -> None:
    names = glossary()[term]
    assert names, "a term names its place in the code"
    for name in names:
        resolved(name)


WITHOUT_A_STEP: Final = {
    "take_terminal_lock", "release_terminal_lock", "try_database_lock", "release_database_lock", "sync", "look",
    "read_trial", "database", "migrations", "backup_of", "history", "tried", "seconds", "content_digest", "await_app",
    "record", "tell", "note_start", "in_moment",
}  # fmt: skip
"""Effects of a first launch that change neither the database nor the terminal's state: locks, looks, records."""


class Seen:
    """Calls of the methods of another object go on to it, and are noted by name."""

    def __init__(self, inner: Any, names: list[str]) -> None:
        self._inner = inner
        self._names = names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def noted(*values: Any, **named: Any) -> Any:
            self._names.append(name)
            return found(*values, **named)

        return noted


def is_within(wanted: list[str], names: list[str]) -> bool:
    """Return whether these come in this order, whatever else comes in between."""
    rest = iter(names)
    return all(name in rest for name in wanted)


def test_a_first_launch_takes_the_steps_of_the_map_in_their_order(
    vendor: Vendor, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    from updater.flows import prepare_database

    names: list[str] = []
    vendor.release("1.1", schema=4)
    till.check()
    terminal = Terminal(till.settings, kind=ProcessKind.LAUNCHER, app_arguments=("--sell", "1"))
    effects = Seen(terminal.database(), names)
    monkeypatch.setattr(terminal, "database", lambda: effects)
    recorder = prepare_database.TrialRecorder
    monkeypatch.setattr(prepare_database, "TrialRecorder", lambda *values: Seen(recorder(*values), names))
    for name, value in till.environment().items():
        monkeypatch.setenv(name, value)

    watched: Any = Seen(terminal, names)
    ended = launch(watched, till.settings.limits)

    assert (ended.outcome, ended.exit_code) == ("APP_ENDED", 0), ended.cause
    rows = table(MAP, "| step | effect | after a crash here | the next start |")
    wanted = [row[1].strip("`") for row in rows if not row[1].endswith("(keeper)")]
    assert "CONFIRMED" in till.outcomes(), "the keeper's steps, in a process of its own"
    assert [path.read_text() for path in till.settings.shared.glob("confirm-*.ack")] == ["confirmed"]
    assert is_within(wanted, names), names
    # The trial file is written more often than the map says: what the coordinator learns goes into it at once.
    steps = [name for name in names if name not in {*WITHOUT_A_STEP, "write_trial"}]
    steps = [name for place, name in enumerate(steps) if name != "apply" or steps[place - 1] != "apply"]
    assert steps == [name for name in wanted if name != "write_trial"]


def patterns() -> list[re.Pattern[str]]:
    """Return the files of the map: `<word>` stands for a part of a name, `**` for whatever lies in a folder."""
    found: list[str] = []
    for row in table(MAP, "| file | format | written by | if it cannot be read |"):
        first, *others = re.findall(r"`([^`]+)`", row[0])
        found += [first, *(first + other if other.startswith(("-", ".")) else other for other in others)]
    parts = [re.split(r"(<[^>]+>|\*\*)", name) for name in found]
    kinds = {"<": "[^/]+", "*": ".+"}
    return [re.compile("".join(kinds.get(part[:1]) or re.escape(part) for part in name)) for name in parts]


def is_known(path: str) -> bool:
    """Return whether the map has this file of a terminal."""
    return any(pattern.fullmatch(path) for pattern in patterns())


def test_the_files_of_a_terminal_are_those_of_the_map(vendor: Vendor, till: Till) -> None:
    till.limits(confirm_seconds=1.0, end_grace_seconds=0.5)
    till.launch()
    for version, schema, behaviour in (("1.1", 4, "sells_then_hangs"), ("1.2", 4, "good")):
        vendor.release(version, schema=schema, behaviour=behaviour)
        till.check()
        till.launch(sell=2)
        till.check()
    assert till.run("rollback", "--yes").returncode == 0
    vendor.release("1.3", schema=6)
    till.check()
    till.launch(sell=1)
    till.check()
    assert {"CARRIED_BACK", "CONFIRMED", "ROLLED_BACK", "MIGRATION_FAILED"} <= set(till.outcomes())

    made = sorted(path.relative_to(till.folder) for path in till.folder.rglob("*") if path.is_file())
    ours = [path.as_posix() for path in made if path.parts[0] not in ("made-of", "receipts.txt")]
    assert [path for path in ours if not is_known(path)] == []


def test_a_file_that_the_map_does_not_have_is_not_known() -> None:
    assert is_known("state/private/events-agent.jsonl.1")
    assert is_known("data/pos_system.db-wal")
    unknown = ("state/another.json", "state/shared/trial/a/b.json", "state/trial/a.json", "data/notes.db", "program/x")
    assert not any(is_known(path) for path in unknown)


def test_every_setting_that_the_map_names_exists() -> None:
    from updater.model import Limits

    named = set(re.findall(r"`(\w+_(?:count|seconds|bytes))`", MAP))
    assert named <= set(Limits._fields)


def test_every_outcome_that_the_map_names_exists() -> None:
    text = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| U-\d{4} \| ([A-Z_]+) \|", text, re.MULTILINE))
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})`", MAP)) - {"LAYERS"}
    assert {"TRIAL_LOST", "CARRIED_BACK"} <= named <= known


def test_every_decision_is_in_the_index_in_order() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    index = re.findall(r"^\| \[(\d+)\]\(([^)]+)\) \|", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [page for _, page in index] == pages
    for number, page in index:
        assert page.startswith(f"{int(number):04d}-")
        assert (folder / page).read_text(encoding="utf-8").startswith(f"# {number}. "), page
