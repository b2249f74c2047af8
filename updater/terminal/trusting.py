"""Trust of a terminal in its vendor's keys: shown, and begun again from a root that a person hands over."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from dbsync.errors import Refused
from dbsync.storage import file_calls
from updater.errors import Busy
from updater.model import ProcessKind, Report, ReportPhase
from updater.outcomes import TerminalOutcome
from updater.repository import trust
from updater.repository.client import app_of
from updater.repository.manner import asked_by
from updater.settings import Settings
from updater.terminal.live import Terminal


def shown(settings: Settings) -> dict[str, Any]:
    """Return what this terminal trusts and has seen, as JSON.

    Raises:
        Refused: the trusted root, or what was seen, is missing or damaged.
    """
    return trust.shown(settings.trust)


def in_words(found: dict[str, Any]) -> list[str]:
    """Return the same as lines for a support engineer."""
    lines = [f"begins    with root version {found['root']['version']}, in {found['folder']}"]
    for role, of_role in found["roles"].items():
        version = of_role["version"] if of_role["version"] is not None else "none"
        expires = f", expires {of_role['expires']}" if of_role["expires"] else ""
        keys = ", ".join(keyid[:12] for keyid in found["root"]["keys"][role])
        lines.append(f"{role:<9} version {version}, seen {of_role['seen'] or 'none'}{expires}; keys {keys}")
    lines.append(f"floor     {found['floor'] or 'none'}")
    return lines


def reset(settings: Settings, root_file: Path) -> str:
    """Trust a root again and forget all metadata; return what was done. The repository must pass with that root.

    A crash in between leaves a terminal that refuses every look until this is repeated, or one that was begun again.

    Raises:
        Refused: the file is no root, or the repository does not pass verification with it.
        TryLater: the repository cannot be asked now, or an agent is at work.
    """
    try:
        root = file_calls.read_bytes(root_file)
    except OSError as cause:
        raise Refused(operation="read the root", path=root_file, cause=cause.strerror or str(cause)) from cause
    # In a folder of its own: nothing here changes unless a new terminal would accept the repository.
    asked = asked_by(settings)
    app_of(asked.url, root, named=settings.app, mirrors=asked.mirrors, manner=asked.manner, operation="reset the trust")
    terminal = Terminal(settings, kind=ProcessKind.AGENT)
    if not terminal.try_agent_lock():
        raise Busy(
            operation="reset the trust", path=settings.trust, cause="the agent is at work",
            hint="Run it again when the cycle has ended.",
        )  # fmt: skip
    try:
        trust.forget(settings.trust)
        trust.begin(settings.trust, root)
        done = (
            f"the root with SHA-256 {hashlib.sha256(root).hexdigest()} is trusted; versions seen before are forgotten"
        )
        terminal.tell(Report(TerminalOutcome.TRUST_RESET, phase=ReportPhase.LOOK, cause="by a person", done=done))
    finally:
        terminal.release_agent_lock()
    return done
