"""The table of outcomes, the tree of errors and the exit statuses: complete, unambiguous, and the only ones."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbsync import errors
from dbsync.outcomes import ExitStatus, Group, NamedOutcome, OutcomeName
from tests.helpers.places import ROOT
from updater import errors as terminal_errors
from updater.answers import Answer
from updater.outcomes import TerminalOutcome, done_sentence, named

OUTCOMES: list[NamedOutcome] = [*OutcomeName, *TerminalOutcome]
SOURCES = sorted([*ROOT.glob("updater/**/*.py"), *ROOT.glob("dbsync/**/*.py"), ROOT / "scripts" / "rollback.py"])
TABLES = ("dbsync/outcomes.py", "updater/outcomes.py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def calls(name: str) -> Iterator[tuple[Path, ast.Call]]:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if f"{name}(" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name:
                yield path, node


def test_names_and_codes_are_each_used_once() -> None:
    assert len({str(outcome) for outcome in OUTCOMES}) == len(OUTCOMES)
    assert len({outcome.code for outcome in OUTCOMES}) == len(OUTCOMES)
    assert all(re.fullmatch(r"U-\d{4}", outcome.code) for outcome in OUTCOMES)


def test_an_outcome_is_written_as_the_name_of_its_member() -> None:
    for table in (OutcomeName, TerminalOutcome):
        for name, outcome in table.__members__.items():
            assert outcome == name == outcome.value == f"{outcome}"
            assert named(name) is outcome
    assert named("FROM_A_NEWER_RELEASE") is TerminalOutcome.UNKNOWN


def test_every_group_has_an_exit_status_and_one_status_means_one_thing() -> None:
    assert {group.exit_status for group in Group} == set(ExitStatus) - {
        ExitStatus.USAGE, ExitStatus.GIVEN_UP, ExitStatus.INTERRUPTED, ExitStatus.TERMINATED,
    }  # fmt: skip
    assert Group.LATER.exit_status == 75
    assert (ExitStatus.USAGE, ExitStatus.GIVEN_UP) == (2, 3)
    assert [group for group in Group if group.exit_status == 4] == [Group.REFUSED, Group.UNFIT]


def test_an_outcome_is_at_most_one_of_ready_failed_and_refused() -> None:
    for outcome in OUTCOMES:
        assert outcome.ready + outcome.failed + outcome.refused <= 1, outcome
        if outcome.ready:
            assert outcome.exit_status == 0


def test_what_needs_a_person_or_failed_is_an_alarm_and_says_what_to_do() -> None:
    for outcome in OUTCOMES:
        if outcome.group in (Group.PERSON, Group.FAILED, Group.UNFIT, Group.LOSS):
            assert outcome.alarm, outcome
            assert outcome.hint, outcome
        if outcome.sentence:
            assert outcome.clerk_sentence == f"{outcome.sentence} Code {outcome.code}."
        else:
            assert outcome.clerk_sentence == ""


def test_the_outcomes_of_going_back_say_what_was_done() -> None:
    assert done_sentence(OutcomeName.KEPT, good_version="1.0").endswith("; 1.0 starts")
    assert "1.0" not in done_sentence(OutcomeName.STAYS, good_version="1.0")
    assert done_sentence(OutcomeName.LOCKED, good_version="1.0") == "nothing was changed; 1.0 starts"


def test_every_answer_of_the_repository_has_its_outcome() -> None:
    for answer in Answer:
        if answer is not Answer.OK:
            assert answer.outcome == answer.value
            assert answer.outcome is not TerminalOutcome.UNKNOWN


def error_classes() -> list[type[errors.TillkeeperError]]:
    found = [errors.TillkeeperError]
    for kind in found:
        found += [inner for inner in kind.__subclasses__() if inner not in found]
    return [kind for kind in found if kind.__module__.split(".")[0] in ("dbsync", "updater")]


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_an_error_and_its_outcome_ask_the_same_of_the_caller(kind: type[errors.TillkeeperError]) -> None:
    error = kind(operation="open", cause="it is so", path=Path("x"))
    assert str(error) == "could not open x: it is so"
    if kind.outcome is not None:
        assert error.exit_status == kind.outcome.exit_status == kind.group.exit_status, kind
    else:
        assert error.exit_status == kind.group.exit_status


def test_there_is_one_tree_of_errors() -> None:
    for module in (errors, terminal_errors):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Exception) and kind is not errors.TillkeeperError:
                bases = (errors.TryLater, errors.Refused, errors.Failed)
                assert issubclass(kind, bases), f"{name} says nothing of what the caller should do"
    names = [kind.__name__ for kind in error_classes()]
    assert len(names) == len(set(names)), "two errors of one name"


def test_nothing_else_lists_outcomes_by_hand() -> None:
    names = {str(outcome) for outcome in OUTCOMES}
    meant_otherwise = {
        "updater/answers.py": {str(answer) for answer in Answer},
        "updater/model.py": {"STAGED", "SWAPPED"},  # phases of the journal
    }
    for path in SOURCES:
        if name_of(path) in TABLES:
            continue
        found = {
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
        }
        assert found <= meant_otherwise.get(name_of(path), set()), name_of(path)


def test_every_outcome_arises_somewhere() -> None:
    named = {name for path in SOURCES for name in re.findall(r"\w+\.\w+", path.read_text(encoding="utf-8"))}
    answers = {f"TerminalOutcome.{answer.name}" for answer in Answer}
    only_on_disk = {"TerminalOutcome.REFUSED_COMMAND"}
    for outcome in OUTCOMES:
        name = f"{type(outcome).__name__}.{outcome.name}"
        assert name in named | answers | only_on_disk, name


def test_no_exit_status_is_written_as_a_number() -> None:
    allowed = {"0"}
    for path, call in [*calls("exit"), *calls("Failure")]:
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
            choices = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
            for choice in choices:
                literal = isinstance(choice, ast.Constant) and isinstance(choice.value, int)
                assert not literal or ast.unparse(choice) in allowed, f"{name_of(path)}:{call.lineno}"


def test_the_tables_for_support_are_the_programs_own() -> None:
    text = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    for outcome in OUTCOMES:
        status = int(outcome.exit_status)
        assert f"| {outcome.code} | {outcome} | {status} | {outcome.sentence} | {outcome.hint} |" in text, outcome
    for status_of in ExitStatus:
        assert f"| {int(status_of)} | {status_of.name} | " in text
    assert text.count("| U-") == len(OUTCOMES)


def test_no_sentence_contradicts_what_the_screen_shows() -> None:
    for outcome in OUTCOMES:
        assert not re.search("cannot open|try again|busy|being updated", outcome.when_open), outcome
        assert "You can sell" not in outcome.when_shut, outcome
        assert "undone" not in outcome.when_shut, outcome
        assert outcome.group is Group.DONE or f"Code {outcome.code}." in outcome.when_shut, outcome
