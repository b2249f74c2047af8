"""Events and reports of a terminal, on real files."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from updater.model import ProcessKind, Report, ReportPhase
from updater.outcomes import TerminalOutcome
from updater.terminal.events import Events


def test_an_old_report_that_another_program_holds_does_not_hide_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = tmp_path / "outbox"
    events = Events(tmp_path, outbox=outbox, kind=ProcessKind.AGENT, size_limit_bytes=1_000_000, reports_kept_count=1)
    unlink = Path.unlink

    def tell(cause: str, day: int) -> Path | None:
        report = Report(TerminalOutcome.CANNOT_START, None, ReportPhase.START, cause=cause)
        return events.tell(report, now=f"2026-11-0{day}T10:00:00Z", terminal_id="t1")

    held, removed = tell("the first", 1), tell("the second", 2)
    assert held is not None
    assert removed is not None
    assert list(outbox.iterdir()) == [removed]
    held = removed

    def refused(path: Path, *, missing_ok: bool = False) -> None:
        if path == held:
            raise PermissionError(errno.EACCES, "used by another program", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    newest = tell("the third", 3)
    assert newest is not None
    assert json.loads(newest.read_text())["cause"] == "the third"
    assert set(outbox.iterdir()) == {held, newest}
    monkeypatch.undo()
    last = tell("the fourth", 4)
    assert list(outbox.iterdir()) == [last]
