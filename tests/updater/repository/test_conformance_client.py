"""The client that `scripts/conformance` gives to the suite: it asks as the terminal of today does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.places import ROOT
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor


def test_the_client_of_the_suite_looks_and_downloads(vendor: Vendor, till: Till, tmp_path: Path) -> None:
    metadata, targets = tmp_path / "client" / "metadata", tmp_path / "targets"
    metadata.mkdir(parents=True)
    targets.mkdir()
    url = till.settings.url
    name = next(path.name.split(".", 1)[1] for path in (vendor.public / "targets").glob("*.manifest"))
    wanted = (
        ("init", str(vendor.root)),
        ("refresh",),
        ("download",),
    )
    for words in wanted:
        options = [
            "--metadata-dir", str(metadata), "--metadata-url", f"{url}/metadata", "--target-name", name,
            "--target-dir", str(targets), "--target-base-url", f"{url}/targets",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-I", str(ROOT / "scripts" / "_tuf_client.py"), *options, *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), words
    left = {path.name for path in metadata.iterdir()}
    assert {"root.json", "snapshot.json", "targets.json", "timestamp.json"} <= left
    assert [path.read_bytes() for path in targets.iterdir()] == [
        next((vendor.public / "targets").glob("*.manifest")).read_bytes()
    ]
