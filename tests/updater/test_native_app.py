"""An app without a database of ours, as a plain program: published, updated on its confirm, and gone back from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from tests.sample_till.bundles import APP

SCRIPT = """#!/bin/sh
echo "program $TILLKEEPER_RELEASE with $*"
if [ -n "$TILLKEEPER_CONFIRM_FILE" ]; then
    printf %s "$TILLKEEPER_TRIAL_ID" > "$TILLKEEPER_CONFIRM_FILE.new"
    mv "$TILLKEEPER_CONFIRM_FILE.new" "$TILLKEEPER_CONFIRM_FILE"
    while [ ! -e "$TILLKEEPER_CONFIRM_FILE.ack" ]; do :; done
    echo "answer: $(cat "$TILLKEEPER_CONFIRM_FILE.ack")"
fi
"""


def native(vendor: Vendor, version: str) -> Path:
    """A bundle with one shell script."""
    folder = vendor.bundles / version
    folder.mkdir(parents=True)
    program = folder / "program"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    (folder / "tillkeeper.toml").write_text(
        f'app = "{APP}"\nentry = "program"\narguments = ["--kiosk"]\nplatform = "any"\nversion = "{version}"\n'
    )
    return folder


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_a_program_without_a_database_is_updated_and_gone_back_from(tmp_path: Path) -> None:
    from tests.helpers.vendor import served, serving

    vendor = Vendor(tmp_path / "vendor")
    vendor.init()
    vendor.publish(native(vendor, "1.0"), None)
    till = Till(tmp_path / "till")
    with served(serving(vendor.public)) as url:
        till.install(vendor.root, url)
        assert till.run("launch", "--", "a", "b c").stdout == "program 1.0 with --kiosk a b c\n"
        vendor.publish(native(vendor, "1.1"), None)
        assert till.check().outcome == "SWAPPED"
        assert till.run("launch").stdout == "program 1.1 with --kiosk\nanswer: confirmed\n"
        assert till.check().outcome == "NOTHING_NEW"
    done = till.run("rollback", "--yes")
    assert (done.returncode, "1.0 starts next" in done.stdout) == (0, True), done.stderr
    assert till.run("launch").stdout == "program 1.0 with --kiosk\n"
    assert not till.database.exists()
    assert till.status()["starts"]["version"] == "1.0"
