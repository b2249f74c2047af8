"""Files that another program holds: a sample of the drill, of every flow and every mode."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from dbsync.errors import DiskProblem
from tests.drills import sharing
from tests.helpers.held import NEVER, Seen, Share
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor

EVERY: Final = 197
"""Of all cases in which another program is in the way, which are about 2000."""


@pytest.mark.slow
def test_a_file_that_is_held_stops_no_till_for_good_and_is_named(
    first_release: Vendor, first_till: Till, tmp_path: Path
) -> None:
    with sharing.scenes(tmp_path, first_release, first_till) as (scenes, url):
        cases = []
        for name, scene in scenes.items():
            drill = sharing.Drill(name, scene, url, tmp_path)
            cases += [drill.run(call, mode) for call, mode in sharing.in_the_way(drill.calls())[::EVERY]]
    assert sharing.wrong(cases) == []
    assert {case.flow for case in cases} == set(scenes)
    assert any(case.became != "as ever" for case in cases), "something was in the way"


def test_a_flow_that_does_not_name_the_file_is_told_apart(
    first_release: Vendor, first_till: Till, tmp_path: Path
) -> None:
    def silent(till: Till) -> sharing.Result:
        with suppress(DiskProblem):
            till.state().read_journal()
        return sharing.Result("SHUT", "it does not say why")

    with sharing.scenes(tmp_path, first_release, first_till) as (scenes, url):
        drill = sharing.Drill("start", scenes["start"]._replace(flow=silent), url, tmp_path)
        call = next(call for call in drill.calls() if call.path.endswith("journal.json"))
        drill.usual = sharing.Result("APP_ENDED", "")
        held, reached = drill.run(call, sharing.MODES[1]), drill.run(call._replace(path="none"), sharing.MODES[1])
    assert sharing.wrong([held, reached]) == [held]


def test_a_handle_is_in_the_way_of_later_calls_that_it_does_not_share() -> None:
    folder, file = str(Path("/till/new")), str(Path("/till/new/a"))
    read = Seen("look", "open", file, Share.READ)
    removed, other = Seen("tidy", "os.remove", file, Share.ALL), Seen("tell", "os.remove", folder + ".x", Share.ALL)
    moved = Seen("shelve", "os.rename", folder, Share.ALL)
    assert sharing.needed(file, [read, other]) == Share.READ
    assert sharing.needed(file, [read, removed]) == Share.ALL
    assert sharing.needed(file, [read, moved]) == NEVER, "a folder with an open file in it stays"
    calls = {sharing.Call("look", "open", "new/a"): int(Share.READ), sharing.Call("tidy", "os.remove", "new/a"): NEVER}
    run, free = sharing.in_the_way(calls), sharing.shared("check", calls)
    assert (len(run), len(free)) == (2 + 8, 6)
    assert {mode.share for call, mode in run if call.effect == "look"} == {Share.NOTHING}
    assert len(sharing.Real().cases(calls)) == 2 * len(sharing.REAL_SHARES) * 2


def test_the_table_for_people_counts_what_became_of_the_cases() -> None:
    call, (first, second) = sharing.Call("look", "open", "a"), sharing.MODES[:2]
    cases = [
        sharing.Case("check", call, first, "as ever"), sharing.Case("check", call._replace(path="b"), first, "as ever"),
        sharing.Case("check", call, second, "it does not open afterwards"),
    ]  # fmt: skip
    assert sharing.summary(cases).splitlines() == [
        "| flow | effects | calls | 0 briefly | 0 for good |", "| --- | --- | --- | --- | --- |",
        "| check | 1 | 2 | 2 as ever | 1 WRONG |",
    ]  # fmt: skip
    assert sharing.wrong(cases) == cases[2:]
