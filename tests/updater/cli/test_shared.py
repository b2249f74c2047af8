"""Errors of the commands as people read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbsync.outcomes import ExitStatus
from updater.cli.shared import Failure, in_words


def test_a_file_error_that_no_effect_has_put_in_words_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"could not use .*gone: ") as raised, in_words():
        (tmp_path / "gone").read_bytes()
    assert raised.value.exit_code == ExitStatus.TRY_LATER
