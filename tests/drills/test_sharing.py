"""Files that another program holds: a sample of the drill, of every flow and every mode."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from dbsync.errors import DiskProblem
from tests.drills import sharing
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor

EVERY: Final = 61
"""Of all calls and modes; prime to the number of modes, so that each mode comes in each flow."""


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
