"""Seeded mistakes for the explorer: each changes a small part of the real flows, decisions or effects.

A mistake says in which scenario the explorer must notice it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest

from dbsync.upgrade import decisions as dbsync_decisions
from tests.simulators.database import SimulatedEffects
from tests.simulators.moves import ExploredTill
from tests.simulators.till import SimulatedTill
from updater.decisions import agent as agent_decisions
from updater.decisions import claims, launcher
from updater.flows import agent as agent_flow
from updater.flows import launch as launch_flow
from updater.flows import rollback as rollback_flow
from updater.flows import settle_trial
from updater.model import Issued, Journal, Phase, Ruling, Seen, Trial, Verdict, View

Patch = pytest.MonkeyPatch


class Mistake(NamedTuple):
    """A mistake, and where it shows."""

    make: Callable[[Patch], None]
    scenario: str

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.make.__name__


def _fold_by(patch: Patch, wrong: Callable[[Any, View, Journal, Trial], None]) -> None:
    for place in (settle_trial, agent_flow, rollback_flow):
        patch.setattr(place, "fold", wrong)


def journal_before_verdict(patch: Patch) -> None:
    right = settle_trial.fold

    class JournalFirst:
        """A till that keeps the rulings until the journal is written."""

        def __init__(self, till: Any) -> None:
            self.till = till
            self.kept: list[Ruling] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(self.till, name)

        def write_ruling(self, ruling: Ruling) -> None:
            self.kept.append(ruling)

    def wrong(till: Any, view: View, journal: Journal, trial: Trial) -> None:
        late = JournalFirst(till)
        right(late, view, journal, trial)  # type: ignore[arg-type]
        for ruling in late.kept:
            till.write_ruling(ruling)

    _fold_by(patch, wrong)


def choice_folded_before_the_database_is_back(patch: Patch) -> None:
    def wrong(view: View, journal: Journal) -> Any:
        return agent_decisions.FoldChoice(view.choice) if view.choice else None

    patch.setattr(agent_decisions, "_went_back", wrong)


def given_up_before_its_rejection(patch: Patch) -> None:
    right = settle_trial.fold

    def wrong(till: Any, view: View, journal: Journal, trial: Trial) -> None:
        if not trial.closed:
            till.write_ruling(settle_trial.ruling_of(trial, now=till.now())._replace(folded=True))
        right(till, view, journal, trial)

    _fold_by(patch, wrong)


def folded_before_the_database_is_back(patch: Patch) -> None:
    patch.setattr(agent_decisions, "is_settled", lambda trial, database: True)


def issued_after_the_journal(patch: Patch) -> None:
    right_issued, right_journal = ExploredTill.write_issued, ExploredTill.write_journal
    kept: list[Issued] = []

    def write_issued(self: ExploredTill, issued: Issued) -> None:
        kept.append(issued)

    def write_journal(self: ExploredTill, journal: Journal) -> None:
        right_journal(self, journal)
        while kept:
            right_issued(self, kept.pop())

    patch.setattr(ExploredTill, "write_issued", write_issued)
    patch.setattr(ExploredTill, "write_journal", write_journal)


def issued_not_synced(patch: Patch) -> None:
    def wrong(self: SimulatedTill, issued: Issued) -> None:
        self.world.tick(self.process, f"write issued/{issued.trial_id}")
        self.world.pending[f"issued/{issued.trial_id}"] = issued

    patch.setattr(SimulatedTill, "write_issued", wrong)


def _composed_by(patch: Patch, wrong: Callable[[Issued, Trial | None, Ruling | None], Trial | None]) -> None:
    from tests.simulators import till

    patch.setattr(claims, "composed", wrong)
    patch.setattr(till, "composed", wrong)


def releases_from_the_shared_file(patch: Patch) -> None:
    right = claims.composed

    def wrong(issued: Issued, claim: Trial | None, ruling: Ruling | None) -> Trial | None:
        found = right(issued, claim, ruling)
        return found._replace(candidate=claim.candidate, good=claim.good) if found and claim else found

    _composed_by(patch, wrong)


def shared_file_beats_the_agent(patch: Patch) -> None:
    right = claims.composed

    def wrong(issued: Issued, claim: Trial | None, ruling: Ruling | None) -> Trial | None:
        return right(issued, claim, None if claim is not None and claim.verdict is not Verdict.OPEN else ruling)

    _composed_by(patch, wrong)


def confirm_reads_the_shared_file_only(patch: Patch) -> None:
    right = SimulatedTill.read_trial

    def wrong(self: SimulatedTill, trial_id: Any) -> Trial | None:
        found = self.world.visible().get(f"trial/{trial_id}")
        return found if isinstance(found, Trial) and right(self, trial_id) is not None else None

    patch.setattr(SimulatedTill, "read_trial", wrong)


def unissued_trials_count(patch: Patch) -> None:
    from tests.simulators import till

    right = claims.compose

    def wrong(seen: Seen) -> View:
        known = {one.trial_id for one in seen.issued}
        claimed = [one for one in seen.claims.trials if one.trial_id not in known]
        forged = [Issued(9, one.trial_id, one.candidate, one.good, "") for one in claimed]
        return right(seen._replace(issued=(*seen.issued, *forged)))

    patch.setattr(till, "compose", wrong)


def begun_trial_is_not_decisive(patch: Patch) -> None:
    patch.setattr(claims, "effective", lambda journal, issued, trials, database: journal)


def choice_without_a_proof(patch: Patch) -> None:
    right = claims._refused

    def wrong(choice: Any, *others: Any) -> str:
        why = right(choice, *others)
        return "" if why.endswith("has never worked here") else why

    patch.setattr(claims, "_refused", wrong)


def choice_to_a_rejected_release(patch: Patch) -> None:
    right = claims._refused

    def wrong(choice: Any, *others: Any) -> str:
        why = right(choice, *others)
        return "" if why.endswith("is rejected here") else why

    patch.setattr(claims, "_refused", wrong)


def choice_leaves_anything(patch: Patch) -> None:
    patch.setattr(claims, "_leaves_what_runs", lambda *_: True)


def no_moment(patch: Patch) -> None:
    patch.setattr(SimulatedTill, "in_moment", lambda self: True)


def moment_judged_once(patch: Patch) -> None:
    patch.setattr(launcher, "owns_database", lambda trial, database: trial.begun)


def confirmed_before_it_is_durable(patch: Patch) -> None:
    right = ExploredTill.write_trial

    def wrong(self: ExploredTill, trial: Trial) -> None:
        if trial.verdict is Verdict.CONFIRMED:
            self.world.tick(self.process, f"write trial/{trial.trial_id}")
            self.world.pending[f"trial/{trial.trial_id}"] = trial
        else:
            right(self, trial)

    patch.setattr(ExploredTill, "write_trial", wrong)


def start_not_counted(patch: Patch) -> None:
    patch.setattr(launch_flow, "counted", lambda trial, act, boot_id: trial)


def aside_not_synced(patch: Patch) -> None:
    right = SimulatedEffects.keep_aside

    def wrong(self: SimulatedEffects, part: Any) -> Any:
        kept = right(self, part)
        self.world.backups[kept.path.name].durable = False
        return kept

    patch.setattr(SimulatedEffects, "keep_aside", wrong)


def restored_without_a_comparison(patch: Patch) -> None:
    patch.setattr(dbsync_decisions, "decide_return", lambda facts, change, **_: dbsync_decisions.Restore(aside=False))


def database_lock_not_asked(patch: Patch) -> None:
    def wrong(self: SimulatedTill) -> bool:
        self.world.tick(self.process, "try database lock")
        self.world.database_lock = self.process
        return True

    patch.setattr(SimulatedTill, "try_database_lock", wrong)


def nothing_owed(patch: Patch) -> None:
    patch.setattr(launcher, "owing_trial", lambda view, journal: None)


def journal_without_numbers(patch: Patch) -> None:
    for place in (settle_trial, agent_flow):
        patch.setattr(place, "following", lambda view, journal: journal)


def recall_leaves_an_open_trial(patch: Patch) -> None:
    right = agent_decisions._on_trial
    patch.setattr(agent_decisions, "_on_trial", lambda trial, catalog: right(trial, catalog._replace(signed=_All())))


def pause_leaves_a_swap(patch: Patch) -> None:
    right = agent_decisions._halt
    patch.setattr(
        agent_decisions, "_halt",
        lambda journal, catalog: right(journal, catalog) if journal.phase is not Phase.SWAPPED else None,
    )  # fmt: skip


class _All(frozenset[Any]):
    def __contains__(self, one: object) -> bool:
        return True


def rebuild_forgets_a_choice(patch: Patch) -> None:
    right = SimulatedTill.look

    def wrong(self: SimulatedTill) -> View:
        view = right(self)
        return view._replace(choice=None) if view.journal is None else view

    patch.setattr(SimulatedTill, "look", wrong)


def no_alarm(patch: Patch) -> None:
    patch.setattr(agent_decisions, "is_stalled", lambda issued, trial, now: False)


def urgent_stays_rejected(patch: Patch) -> None:
    patch.setattr(agent_decisions, "_to_lift", lambda view, catalog, moment: None)


def rollback_by_an_old_plan(patch: Patch) -> None:
    patch.setattr(rollback_flow, "_check_plan", lambda view, plan, *, now: None)


def good_release_staged_again(patch: Patch) -> None:
    right = agent_decisions._wanted

    def wrong(view: View, journal: Journal, catalog: Any) -> Any:
        return (
            right(view, journal._replace(good=catalog.newer[-1].release._replace(version="")), catalog)
            if (catalog.newer)
            else None
        )

    patch.setattr(agent_decisions, "_wanted", wrong)


def nothing_synced(patch: Patch) -> None:
    patch.setattr(ExploredTill, "sync", lambda self: None)


MISTAKES: Final = (
    Mistake(journal_before_verdict, "one halt, schema"),
    Mistake(choice_folded_before_the_database_is_back, "a choice and a halt, schema"),
    Mistake(given_up_before_its_rejection, "one halt, schema"),
    Mistake(folded_before_the_database_is_back, "one halt, schema"),
    Mistake(issued_after_the_journal, "one disturbance, schema"),
    Mistake(issued_not_synced, "one disturbance, schema"),
    Mistake(releases_from_the_shared_file, "lies"),
    Mistake(shared_file_beats_the_agent, "two halts, schema"),
    Mistake(confirm_reads_the_shared_file_only, "a lost journal and a halt, schema"),
    Mistake(unissued_trials_count, "lies"),
    Mistake(begun_trial_is_not_decisive, "two halts, schema"),
    Mistake(choice_without_a_proof, "lies"),
    Mistake(choice_to_a_rejected_release, "a choice and a forged one, schema"),
    Mistake(choice_leaves_anything, "lies"),
    Mistake(no_moment, "the moment, schema"),
    Mistake(moment_judged_once, "the moment, schema"),
    Mistake(confirmed_before_it_is_durable, "one disturbance, schema"),
    Mistake(start_not_counted, "one disturbance, schema"),
    Mistake(aside_not_synced, "one disturbance, lossy"),
    Mistake(restored_without_a_comparison, "one disturbance, schema"),
    Mistake(database_lock_not_asked, "one disturbance, schema"),
    Mistake(nothing_owed, "one disturbance, schema"),
    Mistake(journal_without_numbers, "one disturbance, schema"),
    Mistake(recall_leaves_an_open_trial, "lies"),
    Mistake(pause_leaves_a_swap, "lies"),
    Mistake(rebuild_forgets_a_choice, "a person and a lost journal, schema"),
    Mistake(no_alarm, "lies"),
    Mistake(urgent_stays_rejected, "lies about what is urgent"),
    Mistake(rollback_by_an_old_plan, "a person, schema"),
    Mistake(good_release_staged_again, "one disturbance, schema"),
    Mistake(nothing_synced, "two halts, schema"),
)
