"""The page about keys, followed from nothing, with terminals that it is for: one stays off for three months."""

from __future__ import annotations

import os
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from securesystemslib import rsa_keys

from tests.helpers.keys import HIGHEST, sign_timestamp
from tests.helpers.terminal import Till
from tests.helpers.vendor import ITERATIONS_COUNT, Vendor, served, serving
from tests.sample_till.bundles import make_bundle
from tests.test_guides import blocks
from updater.bundles import staging
from updater.publish import clock, keys
from updater.publish.cli.main import command

WAITS = "# ends with 75"


class Guide:
    """A person who follows the page in one folder, with a clock that the test sets."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        patch.chdir(folder)
        patch.setattr(rsa_keys, "_PBKDF2_ITERATIONS", ITERATIONS_COUNT)
        for name in (
            "root_a",
            "root_b",
            "root_c",
            "root_d",
            "targets",
            "snapshot",
            "timestamp",
            "timestamp_2",
            "targets_a",
        ):
            patch.setenv(f"TILLKEEPER_KEY_PASSWORD_{name.upper()}", f"password of {name}")
        self.later(0)

    def later(self, days: int) -> None:
        """Days after the beginning, for vendor and terminals."""
        shift = timedelta(days=days)

        class Shifted(datetime):
            @classmethod
            def now(cls, tz=None):  # type: ignore[no-untyped-def]
                return datetime.now(tz) + shift

        self._patch.setattr(clock, "now", lambda: datetime.now(UTC).replace(microsecond=0) + shift)
        self._patch.setattr(staging, "datetime", Shifted)

    def follow(self, block: str) -> str:
        """Runs the commands of a block; each ends as the page says."""
        told = ""
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[0] == "export":
                self._patch.setenv(*words[1].split("=", 1))
            elif words[:2] == ["updater", "publish"]:
                done = CliRunner().invoke(command, words[2:])
                assert done.exit_code == (75 if line.endswith(WAITS) else 0), f"{line}\n{done.output}"
                told += done.output
            else:
                subprocess.run(words, cwd=self.folder, check=True)
        return told


@pytest.mark.skipif(os.name == "nt", reason="the page's commands are of a POSIX shell")
def test_the_page_of_keys_is_followed_from_nothing_and_terminals_go_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = blocks("keys.md")
    assert len(parts) == 9
    guide = Guide(tmp_path, monkeypatch)
    for version, schema in (("1.0", 2), ("1.1", 2)):
        make_bundle(tmp_path / "dist" / version, version=version, schema=schema)
    told = "".join(guide.follow(part) for part in parts[:4])
    assert "root 1: 2 of 3" in told
    assert "root: 2 of 3 keys must sign" in told
    vendor = Vendor(tmp_path)
    vendor.repository = tmp_path / "work"
    with served(serving(vendor.public)) as url:
        off, on = (_terminal(tmp_path / name, tmp_path / "carry" / "1.root.json", url) for name in ("off", "on"))
        guide.follow(parts[4])
        daily = parts[5]
        guide.follow(daily)
        guide.later(30)
        guide.follow(daily)
        guide.follow(parts[6])
        assert on.check().outcome == "NOTHING_NEW"
        guide.later(60)
        guide.follow(daily)
        # The thief has the key and the server.
        thief = keys.opened(
            keys.read_public(vendor.repository / "keys" / "timestamp"), lambda _: "password of timestamp",
            keyid=_keyid(vendor),
        )  # fmt: skip
        now = clock.now()
        sign_timestamp(vendor, thief, version=HIGHEST, signed_at=now, expires=now + timedelta(days=20))
        assert on.check().outcome == "NOTHING_NEW", "nobody can tell"
        refused = CliRunner().invoke(command, ["refresh", "--repository", "job"])
        assert (refused.exit_code, "Was the key of timestamp stolen?" in refused.output) == (4, True), refused.output
        guide.follow(parts[7])
        assert on.check().outcome == "NOTHING_NEW"
        sign_timestamp(vendor, thief, version=HIGHEST, signed_at=now, expires=now + timedelta(days=20))
        assert on.check().outcome != "NOTHING_NEW", "the key is worth nothing any more"
        guide.follow("updater publish refresh --repository job")
        assert on.check().outcome == "NOTHING_NEW"
        guide.later(90)
        told = guide.follow(parts[8])
        assert "sample-till-1.1.tar.gz is added" in told
        for till in (off, on):
            assert till.check().outcome == "SWAPPED"
            assert till.launch().returncode == 0
    assert sorted(path.name for path in (vendor.public / "metadata").glob("*.root.json")) == [
        "1.root.json", "2.root.json", "3.root.json", "4.root.json",
    ]  # fmt: skip


def _keyid(vendor: Vendor) -> str:
    from tuf.api.metadata import Metadata

    (keyid,) = Metadata.from_file(str(vendor.public / "metadata" / "2.root.json")).signed.roles["timestamp"].keyids
    return str(keyid)


def _terminal(folder: Path, root: Path, url: str) -> Till:
    found = Till(folder)
    found.install(root, url)
    found.fill()
    assert found.check().outcome in ("SWAPPED", "NOTHING_NEW")
    assert found.launch().returncode == 0
    return found
