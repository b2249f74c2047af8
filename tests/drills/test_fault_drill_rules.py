"""The pure parts of the fault drill: rules over the order of calls, rules over sentences, selection of points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.drills.faults import kept_values, rare_states, records, trace_rules
from tests.drills.faults.calls import (
    IS_WRITE,
    TAKES_SPACE,
    Call,
    in_turn,
    is_same_place,
    parsed,
    sampled,
    smart,
    turns_in,
)
from tests.drills.faults.kept_values import Explained, Value
from tests.drills.faults.modes import Mode
from tests.drills.faults.trace_rules import Rule
from tests.drills.faults.truth import Told, false_sentences, kept_files

SYNCED_STATE = (
    "write state/.new-a.json",
    "fsync state/.new-a.json",
    "rename state/.new-a.json -> state/a.json",
    "fsync state",
)
SHELVED = (
    "mkdir program/versions/.staging-1", "write program/versions/.staging-1/app",
    "fsync program/versions/.staging-1/app",
    "fsync program/versions/.staging-1", "rename program/versions/.staging-1 -> program/versions/1",
    "fsync program/versions",
)  # fmt: skip
SWAPPED = (
    "write state/.new-journal.json", "fsync state/.new-journal.json",
    "rename state/.new-journal.json -> state/journal.json", "fsync state",
)  # fmt: skip
COUNTED = (
    "write state/shared/trial/.new-t.json", "fsync state/shared/trial/.new-t.json",
    "rename state/shared/trial/.new-t.json -> state/shared/trial/t.json", "fsync state/shared/trial",
)  # fmt: skip
MIGRATED = (
    "pwrite data/pos_system.db-journal", "fdatasync data/pos_system.db-journal", "pwrite data/pos_system.db",
    "fdatasync data/pos_system.db", "unlink data/pos_system.db-journal", "fdatasync data",
)  # fmt: skip


def replaced(path: str) -> tuple[str, ...]:
    folder, _, name = path.rpartition("/")
    new = f"{folder}/.new-{name}"
    return f"write {new}", f"fsync {new}", f"rename {new} -> {path}", f"fsync {folder}"


ISSUED = replaced("state/issued/t.json")
RULED = replaced("state/verdicts/t.json")
PROVEN = replaced("state/proofs/1.json")
MARKED = replaced("state/layout.json")
TRIALS_MOVED = ("rename state/trial -> state/shared/trial", "fsync state/shared", "fsync state")
TIMESTAMP = "public/metadata/timestamp.json"
STARTED = ("exec program/versions/1.1-abc/till",)
TRIAL = (*COUNTED, *MIGRATED, *COUNTED, *STARTED)


def calls(*lines: str, program: str = "python", process: int = 0) -> list[Call]:
    found = []
    for number, line in enumerate(lines, 1):
        name, _, rest = line.partition(" ")
        source, _, path = rest.rpartition(" -> ")
        kind = {
            "write": TAKES_SPACE | IS_WRITE,
            "pwrite": TAKES_SPACE | IS_WRITE,
            "mkdir": TAKES_SPACE,
            "open": TAKES_SPACE,
        }
        found.append(Call(0 if name == "exec" else number, process, program, kind.get(name, 0), name, path, source))
    return found


def without(lines: Sequence[str], *gone: str) -> list[str]:
    left = [line for line in lines if line not in gone]
    assert len(left) < len(lines)
    return left


@pytest.mark.parametrize("lines", [SYNCED_STATE, (*SHELVED, *SWAPPED), TRIAL], ids=["state file", "swap", "trial"])
def test_the_right_order_is_found_right(lines: Sequence[str]) -> None:
    assert trace_rules.findings(calls(*lines), trace_rules.GENERAL) == []


def test_a_trial_in_the_right_order_is_found_right() -> None:
    assert trace_rules.findings(calls(*TRIAL), trace_rules.TRIAL) == []


@pytest.mark.parametrize(
    ("rules", "lines"),
    [
        (trace_rules.SWAP, [*ISSUED, *SWAPPED]),
        (trace_rules.FOLD, [*RULED, *PROVEN]),
        (trace_rules.MOVE, [*TRIALS_MOVED, *MARKED]),
    ],
    ids=["swap", "fold", "move"],
)
def test_records_in_the_right_order_are_found_right(rules: Sequence[Rule], lines: Sequence[str]) -> None:
    assert trace_rules.findings(calls(*lines), rules) == []


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        (trace_rules.synced_before_rename, without(SYNCED_STATE, "fsync state/.new-a.json")),
        (trace_rules.synced_before_rename, without(SHELVED, "fsync program/versions/.staging-1/app")),
        (trace_rules.folder_synced_after_rename, without(SYNCED_STATE, "fsync state")),
        (trace_rules.folder_synced_after_rename, [*SYNCED_STATE[:3], "write state/b.json", "fsync state"]),
        (trace_rules.folder_synced_after_rename, ["rename state/a.json -> data/a.json", "fsync data"]),
        (trace_rules.folder_synced_after_journal, without(MIGRATED, "fdatasync data")),
        (trace_rules.pointer_last, [*SHELVED[:5], *SWAPPED]),
        (trace_rules.pointer_last, ["write data/pos_system.db", *SWAPPED]),
        (trace_rules.pointer_last, ["write public/targets/a", "rename public/metadata/.t -> " + TIMESTAMP]),
        (trace_rules.counted_before_acts, [*MIGRATED, *COUNTED, *STARTED]),
        (trace_rules.counted_before_acts, [*COUNTED[:3], *MIGRATED, *COUNTED, *STARTED]),
        (trace_rules.counted_before_acts, [*COUNTED, *MIGRATED, *STARTED, *COUNTED]),
        (trace_rules.counted_before_acts, [*COUNTED, *MIGRATED, *COUNTED[:3], *STARTED]),
        (trace_rules.issued_before_named, [*SWAPPED, *ISSUED]),
        (trace_rules.ruled_before_folded, [*PROVEN, *RULED]),
        (trace_rules.ruled_before_folded, [*RULED[:3], *PROVEN]),
        (trace_rules.marked_last, [*MARKED, *TRIALS_MOVED]),
        (trace_rules.marked_last, TRIALS_MOVED),
        (trace_rules.durable_at_end, ["write state/events.jsonl"]),
        (trace_rules.names_durable_at_end, ["mkdir state/outbox"]),
        (trace_rules.names_durable_at_end, ["open state/a.jsonl", "write state/a.jsonl", "fsync state/a.jsonl"]),
    ],
)  # fmt: skip
def test_a_wrong_order_is_found(rule: Rule, lines: Sequence[str]) -> None:
    assert len(rule(calls(*lines))) == 1


def test_what_the_app_writes_is_the_apps_affair() -> None:
    assert trace_rules.findings(calls("write state/a.json", program="till"), trace_rules.GENERAL) == []


def test_calls_of_another_process_come_in_between() -> None:
    ours, others = calls(*SYNCED_STATE), calls("write data/x", process=1, program="till")
    assert trace_rules.findings([*ours[:3], *others, *ours[3:]], trace_rules.GENERAL) == []


TRUE = Told("1.0 starts next. 1.1 is not tried again here", 0, "1.0")


@pytest.mark.parametrize(
    "told",
    [
        TRUE,
        Told("till 1.0 is open", 0, "1.1"),  # an attempt to update that failed for now
        Told("nothing has been recorded since; nothing is lost", 0, "1.0"),
        Told("The till cannot open. Please call support.", 75, "1.0"),
        Told("4 records are missing from the live database: they are kept", 6, "1.0", lost_count=4),
        Told("Error: the app is running. Nothing was changed.", 75, "1.1"),
        Told("put back 3 rows that the older schema could not hold", 0, "", put_back_count=3),
        Told("put back 3 rows that the older schema could not hold\nError: the disk is full", 75, "", put_back_count=0),
    ],
)
def test_a_true_sentence_is_no_violation(told: Told) -> None:
    assert false_sentences(told) == []


@pytest.mark.parametrize(
    "told",
    [
        TRUE._replace(next_opened="1.1"),
        Told("till 1.1 is open", 0, "1.0"),
        Told("nothing has been recorded since; nothing is lost", 0, "1.0", sold_since_backup=2),
        Told("notice: The till cannot open. Please call support.\ntill 1.0 is open", 0, "1.0"),
        TRUE._replace(lost_count=4),
        Told("done", 6, "1.0", lost_count=4),
        Told("Error: it failed. Nothing was changed.", 75, "1.1", changed=True),
        Told("The database as it was is kept: /data/x.db", 0, "1.0", missing_files=("/data/x.db",)),
        Told("put back 3 rows that the older schema could not hold", 0, "", put_back_count=2),
    ],
)
def test_a_false_sentence_is_found(told: Told) -> None:
    assert len(false_sentences(told)) == 1


def test_files_that_a_sentence_names_are_found() -> None:
    told = (
        "The newer database is kept: /data/x.db\nWhat the older schema has no place for: /data/p.jsonl\n"
        "Numbers that are skipped are explained: /data/counters-1"
    )
    assert kept_files(told) == ["/data/x.db", "/data/p.jsonl", "/data/counters-1"]


def test_a_counter_that_is_lower_or_not_explained_is_found() -> None:
    seen = {"sale": 9, "receipt": 4}
    assert kept_values.lower(seen, {"sale": 9, "receipt": 7}) == []
    assert kept_values.lower(seen, {"sale": 8}) == ["sale is 8, and was seen at 9", "receipt is 0, and was seen at 4"]
    line = Explained("sale", 5, 9, done=False)
    assert kept_values.unexplained({"sale": 5, "receipt": 4}, seen, [line], ended=False) == []
    for told, ended in (([line], True), ([line._replace(number=6)], False), ([], False)):
        (text,) = kept_values.unexplained({"sale": 5, "receipt": 4}, seen, told, ended=ended)
        assert text.startswith("sale was raised from 5 to 9, and no explanation")


def test_a_kept_value_belongs_live_where_the_schema_holds_it() -> None:
    one, gone = Value("products", "barcode", "p1", "1"), Value("products", "barcode", "p2", "2")
    both, none = frozenset({one, gone}), frozenset[Value]()
    refused = frozenset({gone})
    back = (frozenset({one}), refused)
    assert kept_values.misplaced((none, both), back, refused=refused, can_hold=True) == ""
    assert kept_values.misplaced((both, none), (none, both), refused=refused, can_hold=False) == ""
    assert "wrongly kept or not" in kept_values.misplaced((none, both), (back[0], none), refused=refused, can_hold=True)
    assert "wrongly live or not" in kept_values.misplaced((both, none), (both, both), refused=none, can_hold=False)


def test_of_a_run_of_writes_the_first_the_last_and_every_eighth_matter() -> None:
    run = calls("open a", *["pwrite a"] * 20, "fsync a", "pwrite b")
    assert [call.number for call in smart(run)] == [1, 2, 10, 18, 21, 22, 23]
    assert [call.number for call in sampled(run, "smart/3")] == [1, 18, 23]
    assert [call.number for call in sampled(run, "all/10")] == [1, 11, 21]
    assert [call.number for call in sampled(run, "3,17")] == [3, 17]
    with pytest.raises(ValueError, match="no sample"):
        sampled(run, "some")


def test_points_in_turn_lie_all_over_a_flow() -> None:
    run = calls(*[f"write {letter}" for letter in "abcdefghijklmnop"])
    assert [call.number for number in range(9) for call in in_turn(run, number)] == [2, 4, 6, 8, 10, 12, 14, 16, 2]
    assert [call.number for number in range(8) for call in in_turn(run[:1], number)] == [1] * 8
    assert in_turn([], 3) == []
    assert [turns_in(sample) for sample in ("turns", "turns/2", "smart/2", "3,17")] == [1, 2, 0, 0]


def test_a_log_is_read_in_the_order_of_its_numbers_and_marks_keep_their_place() -> None:
    log = (
        "2\t71\tpython\t0\tfsync\t/case/a\t\n1\t70\tpython\t3\twrite\t/case/a\t\n1\t70\tpython\t0\texec\t/case/till\t\n"
        "3\t72\ttill\t0\trename\t/case/b\t/case/a\n4\t72\ttorn"
    )
    assert [(call.number, call.process, str(call)) for call in parsed(log, Path("/case"))] == [
        (1, 0, "write a"),
        (0, 0, "exec till"),
        (2, 1, "fsync a"),
        (3, 2, "rename a -> b"),
    ]


def test_a_place_is_known_again_in_another_run() -> None:
    first, again, other = calls(
        "write data/.part-x~0123456789abcdef-now", "write data/.part-x~fedcba9876543210-now", "fsync data"
    )
    assert is_same_place(first, again)
    assert not is_same_place(first, other)


def on_trial(folder: Path, **trial: object) -> Path:
    """A terminal whose candidate is on trial: its journal, its version folders, and its trial if that has begun."""
    releases = {
        word: {"version": version, "release_id": f"{word:_<64}"}
        for word, version in (("good", "1.0"), ("candidate", "1.1"))
    }
    for word, version in (("good", "1.0"), ("candidate", "1.1")):
        (folder / "program" / "versions" / f"{version}-{word:_<12}").mkdir(parents=True)
    (folder / "state" / "shared" / "trial").mkdir(parents=True)
    journal = {**releases, "phase": "SWAPPED", "trial_id": "t"}
    (folder / "state" / "journal.json").write_text(json.dumps(journal))
    if trial:
        (folder / "state" / "shared" / "trial" / "t.json").write_text(json.dumps(trial))
    return folder


def test_a_release_that_the_journal_names_and_that_is_not_there_is_found(tmp_path: Path) -> None:
    till = on_trial(tmp_path)
    assert records.missing_folders(till) == []
    (till / "program" / "versions" / "1.1-candidate___").rmdir()
    assert records.missing_folders(till) == ["the journal names 1.1 as candidate, and its version folder is not there"]
    (till / "state" / "journal.json").write_text("torn")
    assert records.missing_folders(till) == [], "a torn journal is another promise"


@pytest.mark.parametrize(
    ("trial", "counted"),
    [
        ({}, 0),
        ({"verdict": "open", "launches_count": 0, "attempts_count": 1}, 0),
        ({"verdict": "open", "launches_count": 1}, 1),
        ({"verdict": "open", "launches_count": 0, "clean_exits_count": 1}, 1),
        ({"verdict": "open", "launches_count": 1, "interruptions_count": 1}, 2),
        ({"verdict": "confirmed", "launches_count": 0}, 2),
    ],
)
def test_a_launch_on_trial_that_is_not_counted_is_found(tmp_path: Path, trial: dict[str, object], counted: int) -> None:
    till = on_trial(tmp_path, **trial)
    candidate, good = "exec program/versions/1.1-candidate___/till", "exec program/versions/1.0-good________/till"
    for started in range(3):
        found = records.uncounted_launches(till, calls(good, *[candidate] * started))
        words = f"1.1 was started {started} times on trial, and {counted} are counted"
        assert found == ([words] if started > counted else [])


def test_a_fault_fits_only_calls_that_it_can_disturb() -> None:
    write, sync, mark = calls("write a", "fsync a", "exec till")
    sale = write._replace(program="till")
    assert [mode for mode in Mode if mode.fits(write)] == list(Mode)
    assert not any(mode.fits(sync) for mode in (Mode.ENOSPC, Mode.FULL_ON, Mode.SHORT))
    assert [mode for mode in Mode if mode.fits(sale)] == [Mode.PLUG, Mode.KILL]
    assert not any(mode.fits(mark) for mode in Mode)


def test_a_rare_state_is_demanded_where_a_flow_and_a_fault_can_reach_it() -> None:
    names = {state.name for state in rare_states.expected(["rollback"], [Mode.FULL_ON], twice=False)}
    assert names == {"the disk is full after the commit point of a rollback"}
    assert rare_states.expected(["backup"], list(Mode), twice=True) == []
    assert any(state.twice for state in rare_states.expected(["launch"], [Mode.PLUG], twice=True))


def test_a_rare_state_is_reached_at_its_points_only() -> None:
    (state,) = rare_states.expected(["rollback"], [Mode.FULL_ON], twice=False)
    course = calls(
        "write state/shared/choices/.new-1.json",
        "rename state/shared/choices/.new-1.json -> state/shared/choices/1.json", "fsync state/shared/choices",
        "pwrite data/pos_system.db",
    )  # fmt: skip
    assert [call.number for call in state.points(course, Mode.FULL_ON)] == [4]
