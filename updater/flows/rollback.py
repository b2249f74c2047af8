"""A person's rollback: possible versions and backups, the expected losses, and the crash-safe execution.

Standard library only: `scripts/rollback.py` runs this with a bare Python when everything else is broken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from dbsync import losses
from dbsync.errors import Refused, TillkeeperError, TryLater, wrapped
from dbsync.facts import NO_SCHEMA
from dbsync.model import Backup, BackupKind, Carried, Change, Loss
from dbsync.upgrade import preparation, restore_decision
from dbsync.upgrade.decisions import within
from updater.decisions.claims import next_choice
from updater.decisions.launcher import fits, select
from updater.errors import Owed, WouldLose
from updater.flows.effects import Till, terminal_locked
from updater.flows.launch import journal_of
from updater.flows.prepare_database import migrations_of
from updater.flows.settle_trial import fold, fold_choice, fold_rollback, ruling_of
from updater.model import (
    Act,
    Back,
    By,
    Choice,
    Journal,
    Rejection,
    Release,
    Report,
    ReportPhase,
    State,
    Trial,
    Verdict,
    View,
)
from updater.outcomes import TerminalOutcome

RESTORE_ALONE: Final = (
    "A damaged or missing database is restored without a change of release: `dbsync backups --database FILE` lists the"
    " backups, `dbsync restore BACKUP --database FILE` restores one."
)


class Plan(NamedTuple):
    """Effects of a rollback that has not been performed."""

    current: Release
    to: Release
    backup: Backup | None
    """None if the database stays as it is."""
    done: tuple[Loss, ...]
    """Changes that people made since that backup."""
    losses: tuple[Loss, ...]
    """The part of these changes that the older database would not hold; it is kept aside."""
    not_known: str
    """Why the changes since the backup cannot be determined; empty if they can."""
    carries: bool
    """Whether the changes are carried back to the older schema. False if a person chose the backup: it is then restored
    as it is."""
    why_not: str
    """Cause for which carrying back failed when tried on copies; empty otherwise."""
    kept_beside: Path
    """The folder in which the current database would be kept."""
    nothing_there: bool = False
    """Whether there is no database now that could be compared, or kept."""

    @property
    def loses(self) -> bool:
        """Whether the live database would lack something afterwards, or nobody can say that it would not."""
        return self.backup is not None and bool(self.losses or (self.not_known and not self.carries))


class Done(NamedTuple):
    """Result of a rollback."""

    outcome: TerminalOutcome
    kept: Path | None
    """Path at which the replaced database is kept."""
    carried: bool
    losses: tuple[Loss, ...]
    """Changes that are not in the live database any more."""
    not_known: str
    """Why these cannot be determined; empty if they can."""
    export: Path | None
    """The folder with these changes as CSV and SQL."""
    gaps: Path | None = None
    """The folder that explains the numbers which are skipped because counters were raised."""


def choices(view: View, current: Release) -> list[Release]:
    """Return the releases to roll back to: they worked here and are still installed, newest proof first."""
    found: list[Release] = []
    for proof in reversed(view.proofs):
        release = proof.release
        out = release == current or release in found or view.rejection(release.release_id) is not None
        recalled = view.moment is not None and release.release_id in view.moment.recalled
        if not out and not recalled and release.folder in view.installed:
            found.append(release)
    return found


def current_release(view: View, journal: Journal | None) -> Release | None:
    """Return the release that would start now; during an unfinished rollback, the release that it replaces."""
    pending = next((rejection for rejection in view.rejections if not rejection.done), None)
    if pending is not None:
        return pending.release
    if journal is None:
        return None
    return select(journal, view.trial(journal.trial_id), view.rejections, view.proofs, view.database)


def end_if_done(till: Till) -> Rejection | None:
    """End a rollback whose restore is done, and return it; None if there is none to end.

    A command that was cut may be repeated: it must not go back by another release. A rollback is remembered until its
    proof is written, or as long as there is nothing else to go back to.
    """
    with terminal_locked(till):
        view = till.look()
        journal = journal_of(view, now=till.now())
        current = current_release(view, journal)
        if view.database.state is not State.OK:
            return None
        done = [
            rejection
            for rejection in view.rejections
            if rejection.by is By.PERSON and rejection.done and rejection.to is not None and rejection.to == current
        ]
        if not done or view.running is not None:
            return None
        proven = {proof.trial_id for proof in view.proofs}
        ended = next((rejection for rejection in done if rejection.intent_id not in proven), None)
        if ended is not None:
            _fold(till, view, ended)
            if lost := loss_of(till, ended):
                # The command that did it was cut before it could say so.
                till.tell(Report(TerminalOutcome.ROLLED_BACK_WITH_LOSS, ended.to, ReportPhase.ROLLBACK, cause=lost))
            return ended
        assert current is not None
        return done[-1] if not choices(view, current) else None


def loss_of(till: Till, rejection: Rejection) -> str:
    """Return, in one line, what a rollback that is done has lost and where it is kept; empty if it lost nothing."""
    intent = till.database().read_intent(rejection.intent_id) if rejection.backup is not None else None
    if intent is None or not (intent.losses or intent.not_known):
        return ""
    kept = Path(intent.set_aside) if intent.set_aside is not None else None
    return losses.lost(intent.losses, not_known=intent.not_known, kept=kept)


def make_plan(till: Till, *, to: str | None, backup: Path | None, backups: list[Backup], beside: Path) -> Plan:
    """Return the plan of a rollback; change nothing.

    Args:
        till: the terminal.
        to: a version, or the beginning of a release id; None for the newest release that worked before this one.
        backup: the backup to restore; None for the newest good one that fits, if the database must go back.
        backups: all backups, newest first.
        beside: the folder in which the current database would be kept.

    Raises:
        Refused: there is no such version or backup, or they do not fit each other.
        TryLater: the app is running.
    """
    view = till.look()
    if view.running is not None:
        raise TryLater(operation="roll back", cause="the app is running", hint="Close the app first.")
    journal = journal_of(view, now=till.now())
    current = current_release(view, journal)
    if current is None:
        raise Refused(operation="roll back", cause="no release is installed", hint="Run `updater install`.")
    target = _target(view, current, to)
    chosen = _backup(view, target, backup, backups)
    change = restore_decision.what_would_be_lost(till.database(), backup=chosen.path) if chosen else Change(known=True)
    plan = Plan(
        current, target, chosen, change.losses, change.losses, not_known="" if change.known else change.cause,
        carries=False, why_not="", kept_beside=beside,
        nothing_there=view.database.state in (State.MISSING, State.EMPTY),
    )  # fmt: skip
    if chosen is None or backup is not None or view.database.state is not State.OK:
        return plan
    try:
        return plan._replace(losses=_try_carrying(till, chosen, current).losses, carries=True)
    except TillkeeperError as error:
        # A missing module or a passing error is not a loss: it is raised.
        hinders = preparation.classified(error)
        if not isinstance(hinders, preparation.CannotCarry):
            raise hinders from error
        return plan._replace(why_not=error.cause)


def _try_carrying(till: Till, backup: Backup, current: Release) -> Carried:
    """Return the result of carrying back on copies.

    The database lock is held, because a running migration must not lose its scratch files to this.
    """
    if not till.try_database_lock():
        raise TryLater(operation="roll back", cause="the database is being updated", hint="Wait until it is done.")
    try:
        return till.database().try_carrying(backup, migrations_of(till, current))
    finally:
        till.release_database_lock()


def _target(view: View, current: Release, to: str | None) -> Release:
    possible = choices(view, current)
    if to is None:
        if not possible:
            cause = "no other release has worked on this terminal and is installed"
            raise Refused(operation="roll back", cause=cause, hint=RESTORE_ALONE)
        return possible[0]
    named = [release for release in possible if release.version == to or release.release_id.startswith(to)]
    if len(named) != 1:
        known = ", ".join(f"{release.version} ({release.release_id[:12]})" for release in possible) or "none"
        cause = f"{to} names {len(named)} releases that worked here; there are: {known}"
        raise Refused(operation="roll back", cause=cause, hint="`updater rollback --list` lists the versions.")
    return named[0]


def _backup(view: View, target: Release, path: Path | None, backups: list[Backup]) -> Backup | None:
    if path is not None:
        named = [
            backup for backup in backups if backup.path in (path, path.absolute()) or backup.path.name == str(path)
        ]
        if not named:
            raise Refused(operation="roll back", path=path, cause="this is no backup of this terminal")
        if named[0].version > target.schema:
            cause = f"it holds schema {named[0].version}, release {target.version} knows {target.schema}"
            raise Refused(
                operation="roll back", path=path, cause=cause, hint="Choose an older backup or a newer release."
            )
        return named[0]
    if target.schema == 0 or (fits(target, view.database) and view.database.state is State.OK):
        return None
    good = [backup for backup in backups if backup.verified]
    # A migration's own backup first: it is the exact state before, from which what people did can be carried back.
    fitting = [backup for backup in good if backup.version == target.schema and backup.kind == BackupKind.MIGRATION]
    fitting = fitting or [backup for backup in good if backup.version == target.schema]
    fitting = fitting or [backup for backup in backups if backup.verified and backup.version < target.schema]
    if not fitting:
        cause = f"no good backup holds a schema that release {target.version} knows ({target.schema} or lower)"
        raise Refused(operation="roll back", cause=cause, hint="`updater rollback --list` lists versions and backups.")
    return fitting[0]


def perform(till: Till, plan: Plan, *, accept_loss: bool) -> Done:
    """Roll back. Everything that it needs is made first; the choice is the commit point.

    It is written in the shared folder, so it needs no right of the agent's. Where this process has those rights, it
    folds the choice at once; otherwise the agent does, and until then the choice decides what starts.

    A rollback that is interrupted after its commit point is finished by the next start, with the same promise.

    Raises:
        TryLater: the app is running, another process has the database, the disk is in the way: nothing was changed.
        Refused: it cannot be done at all; nothing was changed.
        WouldLose: it would lose more than was agreed to; nothing was changed.
        Owed: it is decided, and the restore could not be finished; nothing that was recorded is discarded.
    """
    with terminal_locked(till):
        till.sync()
        if till.look().running is not None:
            raise TryLater(operation="roll back", cause="the app is running", hint="Close the app first.")
        if not till.try_database_lock():
            raise TryLater(operation="roll back", cause="the database is being updated", hint="Wait until it is done.")
    try:
        # No app starts without the database lock: from here on no other process writes.
        _check_plan(till.look(), plan, now=till.now())
        intent_id = till.new_id()
        prepared = _prepare(till, plan, intent_id, accept_loss=accept_loss)
        _decide(till, plan, intent_id, prepared)
        _check_decided(till, intent_id, prepared)
        aside = _restore(till, prepared)
        with terminal_locked(till):
            view = till.look()
            decided = _decided(view, intent_id)
            if decided is not None:
                _fold(till, view, decided)
    finally:
        till.release_database_lock()
    done = _done(till, plan, prepared, aside)
    till.tell(
        Report(
            done.outcome,
            release=plan.to,
            phase=ReportPhase.ROLLBACK,
            cause="a person went back" + (f"; {lost_in_words(done)}" if done.losses or done.not_known else ""),
            done=f"{plan.current.version} was rejected; {plan.to.version} starts",
            backup=str(plan.backup.path) if plan.backup else None,
            kept=str(done.kept) if done.kept else None,
            losses=done.losses,
            export=str(done.export) if done.export else None,
            gaps=str(done.gaps) if done.gaps else None,
        )
    )
    return done


def _check_plan(view: View, plan: Plan, *, now: str) -> None:
    """Refuse a plan that was made before the till was started or updated: a person has agreed to something else."""
    is_current = current_release(view, journal_of(view, now=now)) == plan.current
    stays = plan.backup is None and view.database.state is State.OK and plan.to.schema > 0
    if not is_current or (stays and not fits(plan.to, view.database)):
        cause = "the till was started or updated since this rollback was planned"
        raise TryLater(operation="roll back", cause=cause, hint="Run `updater rollback` again.")


def lost_in_words(done: Done) -> str:
    """Return the number of changes that are not in the live database any more, and where they are kept."""
    return losses.lost(done.losses, not_known=done.not_known, kept=done.kept, export=done.export)


def _prepare(till: Till, plan: Plan, intent_id: str, *, accept_loss: bool) -> preparation.Prepared | None:
    """Make everything that the restore needs; nothing is left of it if the rollback is refused."""
    if plan.backup is None:
        return None
    effects = till.database()
    wish = preparation.Wish(intent_id, plan.backup, carries=plan.carries, migrations=migrations_of(till, plan.current))
    prepared = preparation.prepare(effects, wish)
    change = prepared.change
    if not change.unchanged:
        counted = within(change.losses, plan.losses) if change.known else bool(plan.not_known)
        shown = plan.loses and counted
        if not (accept_loss and shown):
            preparation.abandon(effects, prepared)
            cause = change.cause or losses.lost(change.losses)
            raise WouldLose(operation="roll back", cause=cause)
        return preparation.accepted(effects, prepared)
    return prepared


def _decide(till: Till, plan: Plan, intent_id: str, prepared: preparation.Prepared | None) -> None:
    """Write the choice: the commit point. If it is not there, nothing that was prepared is."""
    try:
        with terminal_locked(till):
            _choose(till, till.look(), plan, prepared, intent_id)
    except BaseException as error:
        if _decided(till.look(), intent_id) is not None:
            # It is there, perhaps not durable: the copies are needed, and the next start decides by what it finds.
            raise Owed(operation="decide the rollback", cause=wrapped(error).located) from error
        if prepared is not None:
            preparation.abandon(till.database(), prepared)
        raise


def _decided(view: View, intent_id: str) -> Rejection | None:
    """Return the rollback of that id as every decision sees it, by a choice or a rejection; None if none holds."""
    return next((found for found in view.rejections if found.intent_id == intent_id), None)


def _check_decided(till: Till, intent_id: str, prepared: preparation.Prepared | None) -> None:
    """Stop before the restore if the choice does not hold: what it leaves is not what runs, by the agent's files."""
    view = till.look()
    if _decided(view, intent_id) is not None:
        return
    if prepared is not None:
        preparation.abandon(till.database(), prepared)
    why = next((why for choice, why in view.dead_choices if choice.intent_id == intent_id), "it is not there any more")
    raise TryLater(
        operation="roll back", cause=f"the agent's files do not allow it: {why}",
        hint="Run `updater check` with the agent's rights, then `updater rollback` again.",
    )  # fmt: skip


def _restore(till: Till, prepared: preparation.Prepared | None) -> Backup | None:
    """Restore with what was prepared; return what is kept of the replaced database."""
    if prepared is None:
        return None
    try:
        return preparation.complete(till.database(), prepared.intent)
    except Exception as error:
        raise Owed(operation="restore", path=Path(prepared.intent.backup), cause=wrapped(error).located) from error


def _done(till: Till, plan: Plan, prepared: preparation.Prepared | None, aside: Backup | None) -> Done:
    if prepared is None:
        return Done(TerminalOutcome.ROLLED_BACK, None, False, (), "", None)
    intent, carried = prepared.intent, prepared.carried
    outcome = TerminalOutcome.ROLLED_BACK if prepared.change.unchanged else TerminalOutcome.ROLLED_BACK_WITH_LOSS
    kept = aside.path if aside is not None else None
    export = carried.export if carried is not None else None
    if outcome is TerminalOutcome.ROLLED_BACK_WITH_LOSS and export is None and plan.backup is not None and aside:
        export = till.database().export_loss(migrations_of(till, plan.current), base=plan.backup, aside=aside)
    gaps = Path(intent.gaps) if intent.gaps is not None else None
    return Done(outcome, kept, carried is not None, intent.losses, intent.not_known, export, gaps)


def _choose(till: Till, view: View, plan: Plan, prepared: preparation.Prepared | None, intent_id: str) -> None:
    journal = journal_of(view, now=till.now())
    trial = view.trial(journal.trial_id) if journal is not None else None
    unbegun = journal is not None and journal.candidate == plan.current and (trial is None or not trial.begun)
    if unbegun:
        _reject(till, plan, prepared, intent_id)
        return
    backup = prepared.intent.backup if prepared is not None else None
    # A choice that waits for the agent is replaced: what the journal knows is left, and the way goes further back.
    left = view.choice.of if view.choice is not None else plan.current
    till.write_choice(Choice(next_choice(view), left, plan.to, till.now(), backup, intent_id))
    if trial is not None and trial.verdict is Verdict.OPEN and trial.candidate == plan.current:
        # A person's rollback of a begun trial gives that trial up. After a crash before this line, the launcher does
        # it by the choice, and finishes the restore that the choice owes, which removes the trial's row.
        till.write_trial(_given_up(trial, keeps=prepared is None))


def _reject(till: Till, plan: Plan, prepared: preparation.Prepared | None, intent_id: str) -> None:
    """Reject a candidate that has not begun: only the agent's rights can. The rejection is the commit point."""
    if not till.may_write_records():
        raise Refused(
            operation="roll back",
            cause=f"{plan.current.version} has not begun: only the agent's account can reject it",
            hint="Run `updater rollback` with the rights of the agent's account.",
        )  # fmt: skip
    backup = prepared.intent.backup if prepared is not None else None
    till.write_rejection(
        Rejection(
            plan.current, By.PERSON, TerminalOutcome.ROLLED_BACK, "a person went back", till.now(),
            to=plan.to, backup=backup, intent_id=intent_id,
        )
    )  # fmt: skip


def _fold(till: Till, view: View, rejection: Rejection) -> None:
    """Fold a rollback whose database part is done, if this process has the agent's rights."""
    if not till.may_write_records():
        return
    if view.choice is None or view.choice.intent_id != rejection.intent_id:
        # Decided by a rejection: of a candidate that had not begun, or by an earlier version.
        fold_rollback(till, view, rejection)
        return
    fold_choice(till, view, view.choice, claimed=False)


def _given_up(trial: Trial, *, keeps: bool) -> Trial:
    return trial._replace(
        verdict=Verdict.GIVEN_UP,
        by=By.PERSON,
        outcome=TerminalOutcome.PERSON,
        reason="a person went back",
        act=Act.NONE,
        back=Back.KEPT if keeps else None,
    )


def permit(till: Till) -> None:
    """Allow the next choice of the till's account, with the agent's rights.

    The rollback itself runs with the till's rights: it reads and writes what that account owns. A crash here leaves a
    choice that may be made once.

    Raises:
        Refused: the journal is lost, so that nobody knows which choice is the next.
    """
    with terminal_locked(till):
        view = till.look()
        if view.journal is None:
            raise Refused(
                operation="roll back", cause="the journal of this terminal is lost",
                hint="`updater check` makes it again from the other state files.",
            )  # fmt: skip
        till.write_journal(view.journal._replace(permitted_choice=next_choice(view)))


def allow(till: Till, name: str) -> Release:
    """Lift the rejection of a release (a version or the beginning of its id); the release is offered again.

    A release of the agent that failed here is lifted in the same way.

    Raises:
        Refused: no rejected release has that name, or more than one has.
        TryLater: a rollback from it, or its trial, is not finished yet.
    """
    with terminal_locked(till):
        till.sync()
        view, kit = till.look(), till.own_kit()
        if view.choice is not None and view.choice.done:
            # The database went back and the journal did not follow: it must, before the rejection is removed.
            _fold(till, view, view.rejections[-1])
            view = till.look()
        agents = kit.look() if kit is not None else None
        failed = [Release(item.release_id, item.version, NO_SCHEMA) for item in agents.failures] if agents else []
        release = _one_named(name, releases=[item.release for item in view.rejections], agents=failed)
        if kit is None or agents is None or release not in failed:
            _allow_app(till, view, release)
        elif agents.trial is not None and agents.trial.release.release_id == release.release_id:
            raise TryLater(
                operation="allow", cause="its trial is not closed yet",
                hint="`updater status` shows the trial; run this again when there is none.",
            )  # fmt: skip
        else:
            kit.forget_failure(release.release_id)
    till.tell(Report(TerminalOutcome.ALLOWED, release, ReportPhase.ALLOW, cause="a person lifted its rejection"))
    return release


def _one_named(name: str, *, releases: list[Release], agents: list[Release]) -> Release:
    named = [found for found in (*releases, *agents) if found.version == name or found.release_id.startswith(name)]
    if len(named) == 1:
        return named[0]
    labels = [
        *(f"{found.version} ({found.release_id[:12]})" for found in releases),
        *(f"agent {found.version} ({found.release_id[:12]})" for found in agents),
    ]
    known = ", ".join(labels) or "none"
    raise Refused(operation="allow", cause=f"{name} names {len(named)} rejected releases; there are: {known}")


def _allow_app(till: Till, view: View, release: Release) -> None:
    """Lift the rejection of a release of the app; the terminal lock is held."""
    if not all(rejection.done for rejection in view.rejections if rejection.release == release):
        raise TryLater(operation="allow", cause="a rollback from it is not finished yet", hint="Start the till once.")
    ending = view.trial(view.journal.trial_id) if view.journal is not None else None
    if view.journal is not None and ending is not None and ending.candidate == release:
        # The rejection is written but the journal is not: the journal must follow before the rejection is removed.
        fold(till, view, view.journal, ending)
    for trial in view.trials:
        if trial.candidate.release_id == release.release_id and trial.verdict is Verdict.GIVEN_UP:
            # Close the trial first: otherwise the next fold would write the rejection again.
            till.write_ruling(ruling_of(trial, now=till.now())._replace(verdict=Verdict.TAKEN_BACK, folded=True))
    till.remove_rejection(release.release_id)
