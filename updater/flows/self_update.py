"""The agent's own update: the trial of an agent at the beginning of a cycle, and a newer one after the look.

It begins only where no release of the app is on its way, and before one that needs it. Whatever fails here is reported
and stops no app release but those.
"""

from __future__ import annotations

from typing import Final, assert_never

from dbsync.errors import Refused, TillkeeperError, TryLater
from updater.answers import Answer, Catalog, Offer
from updater.decisions import self_update as decisions
from updater.decisions.agent import Wait
from updater.flows.effects import OwnKit, Till, terminal_locked
from updater.model import Phase, Report, ReportPhase
from updater.outcomes import TerminalOutcome

ENDS: Final = (TerminalOutcome.AGENT_SWAPPED, TerminalOutcome.AGENT_CONFIRMED, TerminalOutcome.AGENT_WENT_BACK)
"""Outcomes of a cycle after which the agent ends, so that its service manager starts another one."""
RETRY_SECONDS: Final = 30.0
"""After so long an agent on trial that could not confirm tries again."""


def settle(till: Till) -> Wait | None:
    """Take the step that is due in the trial of an agent; return the Wait that ends the cycle, None to continue."""
    kit = till.own_kit()
    if kit is None:
        return None
    view = kit.look()
    step = decisions.decide_kit(view, now=till.now())
    match step:
        case decisions.Free():
            _tell_launches(till, kit, view)
            return None
        case decisions.Prove():
            return _prove(till, kit, step.trial)
        case decisions.GiveUp():
            kit.write_note(decisions.Note(step.trial.token, step.reason, is_away=False))
            kit.give_up(step.trial)
            return Wait(TerminalOutcome.AGENT_WENT_BACK, step.reason)
        case decisions.StepAside():
            return Wait(
                TerminalOutcome.AGENT_SWAPPED,
                f"agent {step.trial.release.version} starts on trial when the service starts its agent again",
            )
        case decisions.Return():
            _return(till, kit, view, step)
            return None
        case _:
            assert_never(step)


def is_on_trial(till: Till) -> bool:
    """Return whether this process is an agent on trial, which does nothing but to prove itself."""
    kit = till.own_kit()
    if kit is None:
        return False
    view = kit.look()
    return view.trial is not None and view.trial.kit_id == view.kit_id


def _prove(till: Till, kit: OwnKit, trial: decisions.KitTrial) -> Wait:
    try:
        till.look()
        problem = kit.prove(trial)
    except TillkeeperError as error:
        problem = decisions.Note(trial.token, str(error), is_away=False)
    if problem is not None:
        kit.write_note(problem)
        return Wait(TerminalOutcome.AGENT_UNPROVEN, problem.problem)
    with terminal_locked(till):
        confirmed = kit.confirm(trial)
    if not confirmed:
        return Wait(TerminalOutcome.AGENT_SWAPPED, "the trial of this agent is over; another kit was put in place")
    done = "it is the agent of this terminal"
    # A crash before it leaves this untold. Told before, it could be untrue; `updater status` names the agent.
    till.tell(Report(TerminalOutcome.AGENT_CONFIRMED, trial.release, ReportPhase.AGENT, done=done))
    # Started anew, it does what an agent does when it begins, without the program that watched its trial above it.
    return Wait(TerminalOutcome.AGENT_CONFIRMED, f"agent {trial.release.version} {done}")


def _return(till: Till, kit: OwnKit, view: decisions.KitView, step: decisions.Return) -> None:
    done = f"agent {view.version} runs on"
    why = decisions.barred((step.failure,), step.failure.release_id, now=till.now())
    cause = f"{step.failure.reason}; {why.partition(': ')[0]}" if why else step.failure.reason
    report = Report(TerminalOutcome.AGENT_WENT_BACK, step.trial.release, ReportPhase.AGENT, cause=cause, done=done)
    with terminal_locked(till):
        # The end of the trial comes last. A crash before it repeats this: the trial is counted once, and told twice.
        kit.write_failure(step.failure)
        till.tell(report)
        kit.end_trial(step.trial)


def _tell_launches(till: Till, kit: OwnKit, view: decisions.KitView) -> None:
    if view.launches_spent and kit.tell_launches():
        cause = f"launchers of agent {view.version} were started again and again and did not reach the app"
        done = "the launcher of the agent before opens the till"
        till.tell(Report(TerminalOutcome.AGENT_LAUNCHER, phase=ReportPhase.AGENT, cause=cause, done=done))


def take(till: Till, catalog: Catalog, done: list[str]) -> Wait | None:
    """Bring a newer agent here and let the pointer name it; return the Wait that ends the cycle, None to continue."""
    kit, offer = till.own_kit(), catalog.agent
    if kit is None or offer is None or catalog.verdict is not Answer.OK:
        return None
    journal = till.look().journal
    if journal is None or journal.phase is not Phase.IDLE:
        return None
    view = kit.look()
    if view.trial is not None or decisions.barred(view.failures, offer.release.release_id, now=till.now()):
        return None
    try:
        kit_id = kit.stage(offer)
        kit.test(kit_id)
    except (TryLater, Refused) as error:
        _not_taken(till, kit, view, offer, error)
        return None
    with terminal_locked(till):
        # Decided again under the lock: a person may have installed or rolled back meanwhile.
        journal = till.look().journal
        if journal is None or journal.phase is not Phase.IDLE or kit.look().trial is not None:
            return None
        kit.begin_trial(offer.release, kit_id, till.new_id())
    till.tell(
        Report(
            TerminalOutcome.AGENT_SWAPPED, offer.release, ReportPhase.AGENT,
            done=f"agent {view.version} ends, and it starts on trial",
        )
    )  # fmt: skip
    done.append(f"agent {offer.release.version} is here and tested")
    return Wait(TerminalOutcome.AGENT_SWAPPED, f"agent {offer.release.version} starts on trial")


def _not_taken(
    till: Till, kit: OwnKit, view: decisions.KitView, offer: Offer, error: TillkeeperError
) -> None:  # fmt: skip
    is_refused, is_test = isinstance(error, Refused), error.operation.startswith("test")
    outcome = TerminalOutcome.AGENT_REFUSED if is_refused else TerminalOutcome.AGENT_LATER
    # A crash behind it tries the release again, and tells it twice.
    till.tell(Report(outcome, offer.release, ReportPhase.AGENT, cause=str(error), done=f"agent {view.version} runs on"))
    if is_refused or is_test:
        failure = decisions.untested(view, offer.release, reason=str(error), is_refused=is_refused, now=till.now())
        kit.write_failure(failure)


def waiting(till: Till, catalog: Catalog) -> Catalog:
    """Return the catalog in which releases that need a newer agent wait for the one that is signed, if it may come."""
    kit, offer = till.own_kit(), catalog.agent
    if kit is None or offer is None:
        return catalog
    if decisions.barred(kit.look().failures, offer.release.release_id, now=till.now()):
        return catalog
    words = f"; agent {offer.release.version} comes first"
    return catalog._replace(
        unusable=tuple(
            item._replace(outcome=TerminalOutcome.WAITS_FOR_AGENT, cause=item.cause + words)
            if item.outcome is TerminalOutcome.NEEDS_NEWER_AGENT and not item.cause.startswith("agent ")
            else item
            for item in catalog.unusable
        )
    )
