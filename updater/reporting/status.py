"""State of this terminal as values, for people and as JSON. Only reads."""

from __future__ import annotations

from typing import Any

from dbsync import losses
from dbsync.backups.catalog import list_backups
from dbsync.backups.description import backup_json
from dbsync.database.flight_recorder import FlightRecorder
from dbsync.database.timeline import last_run, notes_of
from dbsync.errors import TillkeeperError
from dbsync.model import Loss
from dbsync.outcomes import Group
from dbsync.storage import files
from updater.decisions.launcher import fits, owing_trial
from updater.decisions.trial import brief
from updater.flows.launch import journal_of
from updater.flows.rollback import choices, current_release
from updater.model import Journal, Phase, Release, View
from updater.outcomes import TerminalOutcome, named
from updater.reporting import agents
from updater.settings import Settings
from updater.terminal import events, moments
from updater.terminal.live import Terminal

SHOWN_BACKUPS_COUNT = 10
STEERED = (TerminalOutcome.PAUSED_BY_VENDOR, TerminalOutcome.WITHDRAWN, TerminalOutcome.STEERING_REFUSED)
"""Outcomes that say what the vendor wants of this terminal, not what a release lacks."""
OF_LOOKS = frozenset(
    map(
        str,
        (
            *STEERED, TerminalOutcome.NEEDS_NEWER_AGENT, TerminalOutcome.NEEDS_NEWER_SQLITE,
            TerminalOutcome.INTERPRETER_UNKNOWN, TerminalOutcome.PATH_TOO_LONG, TerminalOutcome.RELEASE_MALFORMED,
        ),
    )
)  # fmt: skip
"""Outcomes of releases that a look met: the last look says whether they still hold."""


def status(terminal: Terminal) -> dict[str, Any]:
    """Return versions, schema, phase, trial, last outcome, backups and free disk space; change nothing."""
    settings = terminal.settings
    view = terminal.look()
    journal = journal_of(view, now=terminal.now())
    current = current_release(view, journal)
    trial = view.trial(journal.trial_id) if journal is not None else None
    # While the files of an earlier release are moved, some lie in the state folder.
    happened = events.read(*{settings.private, settings.shared, settings.state})
    alarms = [event for event in happened if event.get("alarm")]
    lines = FlightRecorder(settings.backups, settings.database).lines()
    backups = list_backups(backups=settings.backups, database=settings.database)
    owed = _owed(view, journal)
    return {
        "format": 1,
        "owed": owed,
        "terminal": settings.terminal_id,
        "app": settings.app,
        "starts": _release(current),
        "phase": str(journal.phase) if journal is not None else TerminalOutcome.NOTHING_INSTALLED,
        "good": _release(journal.good if journal else None),
        "candidate": _release(journal.candidate if journal else None),
        "window_begins": moments.next_begin(view.moment),
        "trial": _trial(trial),
        "app_running": view.running is not None,
        "database": {
            "path": str(settings.database),
            "state": str(view.database.state),
            "schema": view.database.version,
            "readable_from": view.database.readable_from,
            "fits": current is not None and fits(current, view.database),
            # `last_outcome` is the updater's last event; these come from the database's record, as in `dbsync status`.
            **last_run(lines).as_json(),
            "notes": [*filter(None, [view.database.unparsed]), *notes_of(settings.database, lines)],
        },
        "installed": sorted(terminal.versions.names()),
        "can_go_back_to": [release.version for release in choices(view, current)] if current else [],
        "unusable": [release._asdict() for release in terminal.read_unusable()],
        "rejected": [
            {
                "version": rejection.release.version,
                "by": rejection.by,
                "outcome": rejection.outcome,
                "reason": rejection.reason,
                "at": rejection.at,
            }
            for rejection in view.rejections
        ],
        "agent": agents.status(settings),
        "addresses": _addresses(settings),
        "last_outcome": happened[-1] if happened else None,
        "last_alarm": alarms[-1] if alarms else None,
        "backups_count": len(backups),
        "last_good_backup": next((backup_json(backup) for backup in backups if backup.verified), None),
        "backups": [backup_json(backup) for backup in backups[:SHOWN_BACKUPS_COUNT]],
        "free_bytes": _free(terminal),
        "next": _next(view, _standing(alarms, terminal), owed),
    }  # fmt: skip


def in_words(found: dict[str, Any]) -> list[str]:
    """Return the status as lines for a support engineer."""
    starts, database = found["starts"], found["database"]
    lines = [f"UNFINISHED {found['owed']}"] if found["owed"] else []
    lines += [
        f"{found['app']} on {found['terminal']}: "
        + (f"{starts['version']} starts ({found['phase']})" if starts else "nothing can start"),
        f"database  schema {database['schema']}, {database['state']}, "
        + ("fits" if database["fits"] else "does NOT fit what starts")
        + f"  {database['path']}",
    ]
    lines += [f"          {note}" for note in database["notes"]]
    if found["candidate"]:
        lines.append(f"candidate {found['candidate']['version']}, schema {found['candidate']['schema']}{_when(found)}")
    if found["trial"]:
        trial = found["trial"]
        lines.append(
            f"trial     {trial['verdict']}, attempts {trial['attempts_count']}, launches {trial['launches_count']}"
            + (f", {trial['outcome']}: {brief(trial['reason'])}" if trial["outcome"] else "")
        )
    lines.append(f"app       {'running' if found['app_running'] else 'not running'}")
    lines += [
        f"{'vendor  ' if release['outcome'] in STEERED else 'unusable'}  {release['outcome']}: {release['cause']}"
        for release in found["unusable"]
    ]
    lines += [
        f"rejected  {rejection['version']} by {rejection['by']}: {rejection['outcome']}, {brief(rejection['reason'])}"
        for rejection in found["rejected"]
    ]
    lines += agents.in_words(found["agent"])
    alarm = found["last_alarm"]
    if alarm:
        lines.append(f"alarm     {alarm['code']} {alarm['outcome']} at {alarm['at']}: {alarm['cause']}")
        lines += [f"          {label}: {alarm[key]}" for key, label in _ALARM_LINES if alarm.get(key)]
        if alarm.get("losses"):
            counts = [losses.counted(Loss(**loss)) for loss in alarm["losses"]]
            lines.append(f"          {_lacking(alarm['outcome'])}: {'; '.join(counts)}")
    lines += [
        f"server    {found['address']}: {found['answer']}, {found['detail']}; gave up until {found['until']}"
        for found in found["addresses"]
    ]
    lines.append(f"back to   {', '.join(found['can_go_back_to']) or 'nothing'}")
    good = found["last_good_backup"]
    which = f", last good one of {good['made_at']}: {good['path']}" if good else ""
    which = ", NONE OF THEM IS GOOD" if found["backups"] and not good else which
    lines.append(f"backups   {found['backups_count']}{which}")
    lines.append(
        f"disk      {found['free_bytes'] / 1e9:.1f} GB free" if found["free_bytes"] is not None else "disk      ?"
    )
    lines.append(f"next      {found['next']}")
    return lines


def _when(found: dict[str, Any]) -> str:
    """Return when a release that is swapped in begins its trial; empty if it has begun or is not swapped in."""
    if found["phase"] != Phase.SWAPPED or found["trial"]:
        return ""
    begins = found["window_begins"]
    return f"; it starts at the next launch{f' from {begins} on' if begins else ''}"


def _lacking(outcome: str) -> str:
    """Return the words before the losses of an alarm: whether they happened, or were the reason to change nothing."""
    happened = named(outcome).group is Group.LOSS
    return "not in the live database" if happened else "would be lost by going back"


_ALARM_LINES = (
    ("done", "done"),
    ("migration", "migration"),
    ("kept", "kept"),
    ("export", "exported"),
    ("gaps", "skipped"),
    ("next", "next"),
)


def _owed(view: View, journal: Journal | None) -> str:
    """Return the return of the database that is owed, with the command that finishes it; empty if none is."""
    rejection = next((rejection for rejection in view.rejections if not rejection.done), None)
    if rejection is not None and rejection.to is not None:
        way = f"rollback from {rejection.release.version} to {rejection.to.version} is decided and not finished"
        now = "`updater rollback` finishes it now, or names what it would lose"
        return f"{way}: the next start of the till tries again; {now}"
    trial = owing_trial(view, journal)
    if trial is None:
        return ""
    way = f"{trial.candidate.version} was given up, and the database is still that of its trial"
    return f"{way}: the next start of the till tries to take it back; `updater rollback --dry-run` shows the way back"


def _release(release: Release | None) -> dict[str, Any] | None:
    return release._asdict() if release is not None else None


def _trial(trial: Any) -> dict[str, Any] | None:
    if trial is None:
        return None
    names = (
        "trial_id", "verdict", "attempts_count", "launches_count", "clean_exits_count", "interruptions_count",
        "running_seconds", "outcome", "reason", "back", "backup",
    )  # fmt: skip
    return {name: getattr(trial, name) for name in names}


def _addresses(settings: Settings) -> list[dict[str, Any]]:
    """Return the addresses of the repository that failed last, as far as this account may read them."""
    # Here, because nothing else of the agent's network is loaded for a status.
    from updater.network.record import in_words as moment_in_words
    from updater.network.record import read as read_record

    return [
        {
            "address": address,
            "answer": health.answer,
            "detail": health.detail,
            "failures_count": health.failures_count,
            "until": moment_in_words(health.until),
        }
        for address, health in sorted(read_record(settings.addresses).items())
    ]


def _free(terminal: Terminal) -> int | None:
    try:
        return files.free_bytes(terminal.settings.data)
    except TillkeeperError:
        return None


def _standing(alarms: list[dict[str, Any]], terminal: Terminal) -> list[dict[str, Any]]:
    """Return the alarms that still ask for something: what a look found of releases holds until another look."""
    now = {str(release.outcome) for release in terminal.read_unusable()}
    return [alarm for alarm in alarms if alarm.get("outcome") not in OF_LOOKS or alarm.get("outcome") in now]


def _next(view: View, alarms: list[dict[str, Any]], owed: str) -> str:
    if view.journal is None:
        return TerminalOutcome.NOTHING_INSTALLED.hint if not view.proofs else "`updater check` rebuilds the journal"
    if owed:
        return owed
    return str(alarms[-1]["next"]) if alarms else "nothing"
