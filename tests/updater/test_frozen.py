"""End to end with a program that PyInstaller froze: published, swapped, migrated, confirmed; and gone back from."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.shop import sales, version
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, served, serving
from tests.sample_till.bundles import freeze, make_frozen_bundle


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("PyInstaller") is None, reason="PyInstaller is not installed")
@pytest.mark.skipif(
    sys.platform == "linux" and shutil.which("objdump") is None, reason="PyInstaller needs objdump (binutils)"
)
def test_a_frozen_app_is_updated_and_a_crashing_one_gone_back_from(tmp_path: Path) -> None:
    frozen = freeze(tmp_path / "frozen")
    vendor = Vendor(tmp_path / "vendor")
    vendor.init()
    vendor.publish(make_frozen_bundle(tmp_path / "b10", frozen, version="1.0", schema=2), "1.0")
    till = Till(tmp_path / "till")
    with served(serving(vendor.public)) as url:
        till.install(vendor.root, url)
        till.fill()
        assert "till 1.0 is open" in till.launch(sell=1).stdout
        vendor.publish(make_frozen_bundle(tmp_path / "b11", frozen, version="1.1", schema=4), "1.1")
        assert till.check().outcome == "SWAPPED"
        assert "till 1.1 is open" in till.launch(sell=1).stdout
        assert till.check().outcome == "NOTHING_NEW"
        crashing = make_frozen_bundle(tmp_path / "b12", frozen, version="1.2", schema=5, behaviour="crash")
        vendor.publish(crashing, "1.2")
        assert till.check().outcome == "SWAPPED"
        assert "till 1.1 is open" in till.launch(sell=1).stdout
    assert till.outcomes()[-2:] == ["APP_FAILED", "RESTORED"]
    assert (version(till.database), sales(till.database), till.lost_receipts()) == (4, 103, [])
    names = {one.name.split("-")[0] for one in (till.folder / "program" / "versions").iterdir()}
    assert names == {"1.0", "1.1", "1.2"}
