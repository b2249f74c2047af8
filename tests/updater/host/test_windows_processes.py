"""Processes of Windows whose pids were used again: what began in another one's time is none of ours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dbsync.storage.platform import win32
from updater.host.windows import WindowsMain

BEGAN = {10: 100, 20: 150, 21: 160, 30: 250, 31: 260, 40: 90}
"""When each process began. The app had the pid 10 from 100 on; another program has it from 200 on."""
PARENTS = {20: 10, 21: 20, 30: 10, 31: 30, 40: 10}


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with those processes."""
    monkeypatch.setattr(win32, "parents", lambda: PARENTS)
    monkeypatch.setattr(win32, "began_at", BEGAN.get)


def test_children_of_the_program_that_has_the_pid_now_are_another_ones() -> None:
    assert win32.descendants(10, since=100, until=200) == {20, 21}


def test_what_a_child_starts_later_is_the_apps_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(win32, "began_at", {**BEGAN, 21: 300}.get)
    assert win32.descendants(10, since=100, until=200) == {20, 21}


def test_while_nobody_else_has_the_pid_all_its_children_are_the_apps() -> None:
    assert win32.descendants(10, since=100) == {20, 21, 30, 31}


def test_what_a_program_before_the_app_left_is_not_noted_as_the_apps() -> None:
    process: Any = SimpleNamespace(pid=10)
    job: Any = SimpleNamespace(pids=lambda: [10, 50, 20])
    assert WindowsMain(process, job, 0).left() == [(20, "150"), (21, "160"), (30, "250"), (31, "260")]
