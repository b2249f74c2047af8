"""Dialog of a manual rollback: list, plan, losses, question, execution. As text or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbsync import losses
from dbsync.backups.catalog import list_backups
from dbsync.backups.description import backup_json
from dbsync.errors import NotAgreed, Refused
from dbsync.model import Backup
from dbsync.outcomes import ExitStatus
from dbsync.storage.platform import this_platform
from dbsync.upgrade.preparation import NeedsTool
from updater.errors import WouldLose
from updater.flows.launch import journal_of
from updater.flows.rollback import (
    Done,
    Plan,
    choices,
    current_release,
    end_if_done,
    loss_of,
    lost_in_words,
    make_plan,
    perform,
    permit,
)
from updater.host import this_host
from updater.model import ProcessKind
from updater.settings import Settings
from updater.terminal.live import Terminal


def run(
    settings: Settings,
    *,
    listing: bool,
    to: str | None,
    backup: Path | None,
    dry_run: bool,
    yes: bool,
    accept_loss: bool,
    as_json: bool,
    ask: Callable[[str], bool],
    say: Callable[[str], Any],
) -> int:
    """Run one `rollback` command and return its exit status; Tillkeeper's errors propagate to the caller."""
    if settings.till_user:
        _take_the_tills_rights(settings, reads_only=listing or dry_run)
    try:
        return _run(
            settings, listing=listing, to=to, backup=backup, dry_run=dry_run, yes=yes, accept_loss=accept_loss,
            as_json=as_json, ask=ask, say=say,
        )  # fmt: skip
    except NeedsTool as error:
        if not settings.python:
            raise
        words = [settings.python, "-m", "updater", "rollback", "--settings", str(settings.path)]
        words += ["--to", to] if to is not None else []
        words += ["--dry-run"] if dry_run else []
        hint = f"Nothing was changed. Use this Python: `{this_platform().command_line(words)}`."
        raise NeedsTool(operation=error.operation, path=error.path, cause=error.cause, hint=hint) from error


def _take_the_tills_rights(settings: Settings, *, reads_only: bool) -> None:
    """Become the till's account, whose database it is; with the rights of the agent, allow its choice first.

    Raises:
        Refused: the till's account may not go back here, and this process has no other rights; or it has neither.
    """
    platform, host = this_platform(), this_host()
    if platform.is_this_account(settings.till_user):
        if reads_only or settings.till_may_roll_back:
            return
        raise Refused(
            operation="roll back", path=settings.path, cause="the till's account may not go back on this terminal",
            hint=f"Run `{host.elevated(f'updater rollback --settings {settings.path}')}`.",
        )  # fmt: skip
    account = platform.account(settings.till_user)
    if not platform.is_privileged or account is None:
        return
    if not reads_only:
        # Only state files are touched with these rights.
        agents = Terminal(settings, kind=ProcessKind.ALLOW)
        permit(agents)
        agents.close()
    platform.become(account)


def _run(
    settings: Settings,
    *,
    listing: bool,
    to: str | None,
    backup: Path | None,
    dry_run: bool,
    yes: bool,
    accept_loss: bool,
    as_json: bool,
    ask: Callable[[str], bool],
    say: Callable[[str], Any],
) -> int:
    terminal = Terminal(settings, kind=ProcessKind.ROLLBACK, reads_only=listing or dry_run)
    backups = list_backups(backups=settings.backups, database=settings.database)
    if listing:
        found = _listing(terminal, backups)
        _tell(say, found, _listing_lines(found), as_json=as_json)
        return 0
    if to is None and backup is None and not dry_run and (ended := end_if_done(terminal)) is not None:
        assert ended.to is not None
        line = f"Nothing to do: {ended.to.version} starts next; the rollback from {ended.release.version} is done."
        lost = loss_of(terminal, ended)
        facts = {"format": 1, "done": True, "to": ended.to._asdict(), "lost_in_words": lost}
        _tell(say, facts, [line, *([f"LOST: {lost}."] if lost else [])], as_json=as_json)
        return ExitStatus.DONE_WITH_LOSS if lost else ExitStatus.DONE
    plan = make_plan(terminal, to=to, backup=backup, backups=backups, beside=settings.database.parent)
    facts = _facts(plan)
    if dry_run:
        _tell(say, {**facts, "done": False}, [*_plan_lines(plan), "Nothing was changed (--dry-run)."], as_json=as_json)
        return 0
    if not as_json:
        for line in _plan_lines(plan):
            say(line)
    if plan.loses and not accept_loss:
        raise WouldLose(operation="roll back", cause=_would_lose(plan))
    if not yes and (as_json or not ask("Go back now?")):
        raise NotAgreed(operation="roll back", cause="it was not agreed to")
    done = perform(terminal, plan, accept_loss=accept_loss)
    kept = str(done.kept) if done.kept else None
    found = {
        "done": True, "kept": kept, "carried": done.carried, "lost": losses.as_json(done.losses),
        "lost_not_known": done.not_known, "export": str(done.export) if done.export else None,
        "outcome": str(done.outcome), "gaps": str(done.gaps) if done.gaps else None,
    }  # fmt: skip
    _tell(say, {**facts, **found}, _done_lines(plan, done, final=terminal.may_write_records()), as_json=as_json)
    return done.outcome.exit_status


def _done_lines(plan: Plan, done: Done, *, final: bool) -> list[str]:
    lines = [
        f"{plan.to.version} starts next. {plan.current.version} is not tried again here (`updater allow` lifts that)."
    ]
    if not final:
        lines.append("The agent makes it final at its next look; until then the choice of this account decides.")
    loses = bool(done.losses or done.not_known)
    if done.carried:
        lines.append(f"{'All else that' if loses else 'What'} was recorded since was carried back.")
    if done.kept and not loses:
        lines.append(f"The database as it was is kept: {done.kept}")
    if done.gaps is not None:
        lines.append(f"Numbers that are skipped are explained: {done.gaps}")
    if loses:
        # Last, because the last line is what people read.
        lines.append(f"LOST: {lost_in_words(done)}.")
    return lines


def _would_lose(plan: Plan) -> str:
    if plan.not_known:
        return losses.not_known(plan.not_known)
    return losses.lost(plan.losses).replace(" are not ", " would not be ").replace(" is not ", " would not be ")


def _listing(terminal: Terminal, backups: list[Backup]) -> dict[str, Any]:
    view = terminal.look()
    current = current_release(view, journal_of(view, now=terminal.now()))
    return {
        "format": 1,
        "starts": current._asdict() if current else None,
        "can_go_back_to": [release._asdict() for release in choices(view, current)] if current else [],
        "backups": [backup_json(backup) for backup in backups],
    }


def _listing_lines(found: dict[str, Any]) -> list[str]:
    starts = found["starts"]
    lines = [f"starts now: {starts['version']} (schema {starts['schema']})" if starts else "nothing can start"]
    lines.append("versions to go back to:")
    lines += [
        f"  {release['version']}  schema {release['schema']}  {release['release_id'][:12]}"
        for release in found["can_go_back_to"]
    ]
    lines.append("backups, newest first:")
    lines += [
        f"  {backup['made_at']}  schema {backup['schema']}  {backup['size_bytes'] / 1e6:9.1f} MB  {backup['kind']:<14} "
        f"{'good' if backup['verified'] else 'NOT VERIFIED'}  {backup['path']}"
        for backup in found["backups"]
    ]
    return lines


def _facts(plan: Plan) -> dict[str, Any]:
    return {
        "format": 1,
        "from": plan.current._asdict(),
        "to": plan.to._asdict(),
        "backup": str(plan.backup.path) if plan.backup else None,
        "recorded_since": losses.as_json(plan.done),
        "not_known": plan.not_known,
        "carries": plan.carries,
        "why_not": plan.why_not,
        "losses": losses.as_json(plan.losses),
        "kept_beside": str(plan.kept_beside) if plan.backup else None,
    }


def _plan_lines(plan: Plan) -> list[str]:
    now, then = plan.current, plan.to
    lines = [f"from {now.version} (schema {now.schema}) back to {then.version} (schema {then.schema})"]
    if plan.backup is None:
        return [*lines, f"the database stays as it is: {plan.to.version} works on it; nothing is lost"]
    lines.append(
        f"the database is restored from {plan.backup.path} (made {plan.backup.made_at}, schema {plan.backup.version})"
    )
    kept = f"nothing is discarded: the current database will be kept in {plan.kept_beside}"
    if plan.not_known and not plan.carries:
        return [*lines, losses.not_known(plan.not_known), kept]
    if plan.nothing_there:
        return [*lines, "there is no database now: nothing is replaced"]
    if not plan.done and not plan.losses and not plan.not_known:
        return [*lines, "nothing has been recorded since; nothing is lost"]
    counted = ["recorded since then:", *losses.listed(plan.done)]
    lines += [losses.not_known(plan.not_known)] if plan.not_known else counted
    if plan.carries and not plan.losses:
        lines.append("all of it is carried back to the older schema, with proof: nothing is lost")
    elif plan.carries:
        lines += ["carried back to the older schema, but for:", *losses.listed(plan.losses)]
    else:
        lines.append("none of it is in the restored database" + (f": {plan.why_not}" if plan.why_not else ""))
    return [*lines, kept]


def _tell(say: Callable[[str], Any], facts: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    for line in [json.dumps(facts, indent=1, ensure_ascii=False)] if as_json else lines:
        say(line)
