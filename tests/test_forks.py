"""Commands that are forked end and say what new Pythons do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.helpers import forks
from tests.helpers.places import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux alone")


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "dbsync", "--help"],
        ["-m", "dbsync", "moan"],
        ["-m", "dbsync", "history", "--database", "here/shop.db", "--json"],
        ["-m", "updater", "status", "--settings", "none.toml"],
        ["-m", "updater", "launch", "--settings", "none.toml"],
        ["-m", "updater", "publish", "status", "--repository", "nowhere"],
    ],
    ids=lambda words: " ".join(words[1:]),
)
def test_a_forked_command_ends_and_says_what_a_new_python_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "70"}
    monkeypatch.setenv(forks.ASKED_BY, "1")
    forked = forks.run(words, env=env, cwd=tmp_path)
    monkeypatch.delenv(forks.ASKED_BY)
    new = forks.run(words, env=env, cwd=tmp_path)
    assert (forked.returncode, forked.stdout, forked.stderr) == (new.returncode, new.stdout, new.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_forked_command_reads_what_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(forks.ASKED_BY, "1")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "0001_first.sql").write_text("-- migration: 1 first\nCREATE TABLE a (x);\n")
    place = ["--database", "shop.db", "--migrations", "m"]
    assert forks.run(["-m", "dbsync", "upgrade", *place], cwd=tmp_path).returncode == 0
    refused, emptied = (forks.run(["-m", "dbsync", "empty", *place], cwd=tmp_path, typed=typed) for typed in ("n", "y"))
    assert (refused.returncode, emptied.returncode) == (4, 0), refused.stderr + emptied.stderr
