"""Messages between the agent and its worker: values as JSON, and back with every type and size checked.

The worker has the till's rights, so what comes from it is a claim: `read_…` raises ValueError for what no worker of
ours says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync import errors as dbsync_errors
from dbsync.errors import TillkeeperError, TryLater
from dbsync.facts import Facts, ReleaseId, SchemaNumber, Sha256, State, TrialId
from dbsync.storage.claims import plain
from updater import errors as updater_errors
from updater.model import Running
from updater.terminal.till_side import RawClaims, RawReports

if TYPE_CHECKING:
    from dbsync.commands.scheduled_backup import Done
    from dbsync.model import Backup

REQUEST_LIMIT_BYTES: Final = 8 << 20
ANSWER_LIMIT_BYTES: Final = 8 << 20
"""All claims at their own limits fit; what a hostile account writes instead takes little memory."""
TEXT_LIMIT: Final = 4000
NUMBER_LIMIT: Final = 1 << 62
PATHS_LIMIT: Final = 10_000
_ERRORS: Final[Mapping[str, type[TillkeeperError]]] = {
    name: kind
    for module in (dbsync_errors, updater_errors)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, TillkeeperError)
}


def line(value: Mapping[str, Any]) -> bytes:
    """Return a message as one line."""
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n"


# -------------------------------------------------------------------------------------------------------------- errors


def error_json(error: TillkeeperError) -> dict[str, Any]:
    """Return an error for the other side."""
    return {
        "kind": type(error).__name__,
        "operation": error.operation,
        "path": str(error.path) if error.path is not None else None,
        "cause": error.cause,
        "hint": error.hint,
    }


def read_error(found: Any) -> TillkeeperError:
    """Return the error that the worker names; an unknown kind may be tried again."""
    table = _table(found)
    kind = _ERRORS.get(_text(table.get("kind")), TryLater)
    path = table.get("path")
    return kind(
        operation=plain(_text(table.get("operation"))),
        path=Path(_text(path)) if path is not None else None,
        cause=plain(_text(table.get("cause"))),
        hint=plain(_text(table.get("hint", ""))),
    )


# -------------------------------------------------------------------------------------------------------------- values


def claims_json(claims: RawClaims) -> dict[str, Any]:
    """Return claims for the other side."""
    choices = {str(number): document for number, document in claims.choices.items()}
    return {"trials": claims.trials, "choices": choices, "refused": list(claims.refused)}


def read_claims(found: Any, asked: frozenset[TrialId]) -> RawClaims:
    """Return claims of the worker about trials that were asked for."""
    table = _table(found)
    trials = {TrialId(name): _document(document) for name, document in _table(table.get("trials")).items()}
    if not trials.keys() <= asked:
        raise ValueError("a trial that was not asked for")
    choices = {int(name): _document(document) for name, document in _table(table.get("choices")).items()}
    return RawClaims(trials, choices, _texts(table.get("refused")))


def facts_json(facts: Facts) -> dict[str, Any]:
    """Return facts of a database for the other side."""
    return {**facts._asdict(), "state": str(facts.state)}


def read_facts(found: Any) -> Facts:
    """Return facts of the database."""
    table = _table(found)
    readable_from, trial_id, release_id = table["readable_from"], table["trial_id"], table["release_id"]
    return Facts(
        state=State(_text(table["state"])),
        version=SchemaNumber(_number(table["version"])),
        readable_from=SchemaNumber(_number(readable_from)) if readable_from is not None else None,
        trial_id=TrialId(_text(trial_id)) if trial_id is not None else None,
        release_id=ReleaseId(_text(release_id)) if release_id is not None else None,
        detail=plain(_text(table["detail"])),
        had_data=_flag(table["had_data"]),
        unparsed=plain(_text(table["unparsed"])),
    )


def running_json(running: Running | None) -> dict[str, Any] | None:
    """Return the app that runs for the other side."""
    return running._asdict() if running is not None else None


def read_running(found: Any) -> Running | None:
    """Return the app that runs."""
    if found is None:
        return None
    table = _table(found)
    pid, trial_id, release_id, seconds = (table[name] for name in Running._fields)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < NUMBER_LIMIT:
        raise ValueError("not a time")
    return Running(
        pid=_number(pid) if pid is not None else None,
        trial_id=TrialId(_text(trial_id)) if trial_id is not None else None,
        release_id=ReleaseId(_text(release_id)) if release_id is not None else None,
        seconds=float(seconds),
    )


def done_json(done: Done | None) -> dict[str, Any] | None:
    """Return what became of a scheduled backup for the other side."""
    if done is None:
        return None
    made = {**done.made._asdict(), "path": str(done.made.path)} if done.made is not None else None
    paths = {name: [str(path) for path in getattr(done, name)] for name in ("removed", "rotten", "replaced", "copied")}
    return {"made": made, **paths, "away": done.away}


def read_done(found: Any) -> Done | None:
    """Return what became of a scheduled backup."""
    if found is None:
        return None
    from dbsync.commands.scheduled_backup import Done

    table = _table(found)
    made = table["made"]
    return Done(
        made=_backup(_table(made)) if made is not None else None,
        removed=_paths(table["removed"]),
        rotten=_paths(table["rotten"]),
        replaced=_paths(table["replaced"]),
        copied=_paths(table["copied"]),
        away=plain(_text(table["away"])),
    )


def _backup(table: Mapping[str, Any]) -> Backup:
    from dbsync.model import Backup

    trial_id = table["trial_id"]
    return Backup(
        path=Path(_text(table["path"])),
        kind=_text(table["kind"]),
        version=SchemaNumber(_number(table["version"])),
        sha256=Sha256(_text(table["sha256"])),
        size_bytes=_number(table["size_bytes"]),
        sequence=_number(table["sequence"]),
        made_at=_text(table["made_at"]),
        trial_id=TrialId(_text(trial_id)) if trial_id is not None else None,
        verified=_flag(table["verified"]),
        content_sha256=Sha256(_text(table["content_sha256"])),
        content_size_bytes=_number(table["content_size_bytes"]),
        database=_text(table["database"]),
        checked=_text(table["checked"]),
        read_back_at=_text(table["read_back_at"]),
    )


def reports_json(reports: RawReports) -> dict[str, Any]:
    """Return the till's reports for the other side."""
    return {"documents": dict(reports.documents), "refused": dict(reports.refused)}


def read_reports(found: Any) -> RawReports:
    """Return the till's reports."""
    table = _table(found)
    documents = {_text(name): _table(document) for name, document in _table(table["documents"]).items()}
    refused = {_text(name): plain(_text(cause)) for name, cause in _table(table["refused"]).items()}
    return RawReports(documents, refused)


def read_flag(found: Any) -> bool:
    """Return a yes or no."""
    return _flag(found)


def _table(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of error for every wrong message
    return found


def _document(found: Any) -> dict[str, Any] | None:
    return None if found is None else _table(found)


def _text(found: Any) -> str:
    if not isinstance(found, str) or len(found) > TEXT_LIMIT:
        raise ValueError("not a string, or a long one")
    return found


def _texts(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or len(found) > PATHS_LIMIT:
        raise ValueError("not a list, or a long one")
    return tuple(plain(_text(part)) for part in found)


def _paths(found: Any) -> tuple[Path, ...]:
    return tuple(map(Path, _texts(found)))


def _number(found: Any) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or abs(found) > NUMBER_LIMIT:
        raise ValueError("not a number")
    return found


def _flag(found: Any) -> bool:
    if not isinstance(found, bool):
        raise ValueError("not a yes or no")  # noqa: TRY004 - one kind of error for every wrong message
    return found
