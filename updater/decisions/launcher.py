"""Decisions about the release that starts and the launcher's next step: pure functions of values.

The caller observes, decides here, records, acts, and observes again. So after a crash anywhere the next run observes
and decides again.
"""

# Annotations are evaluated here: as texts, NamedTuple compiles each again at every start (`scripts/bench launch`).
from typing import NamedTuple

from dbsync.outcomes import NamedOutcome, OutcomeName
from updater.decisions.trial import attempt_spent, launch_spent, settled
from updater.model import (
    Back,
    Facts,
    Journal,
    Limits,
    Phase,
    Proof,
    Rejection,
    Release,
    ReleaseId,
    Running,
    State,
    Trial,
    Verdict,
    View,
)
from updater.outcomes import TerminalOutcome

# ---------------------------------------------------------------------------------------------- which release starts


def select(
    journal: Journal,
    trial: Trial | None,
    rejections: tuple[Rejection, ...],
    proofs: tuple[Proof, ...],
    database: Facts,
) -> Release | None:
    """Return the release that starts now; None if no release may start.

    Args:
        journal: the terminal's journal.
        trial: the journal's trial, if it has begun.
        rejections: releases that must not start. A person's rejection names the release that starts instead.
        proofs: releases that worked here, by sequence.
        database: facts of the database; its newest trial row shows whether a given-up trial still owns it.
    """
    chosen = journal.good
    if journal.phase is Phase.SWAPPED and journal.candidate is not None:
        left = {rejection.release: rejection.to for rejection in rejections}.get(journal.candidate)
        # A person who leaves a trial may go further back than to the release before it.
        chosen = (left or journal.good) if gone_back(trial, database) else journal.candidate
    return _unless_rejected(chosen, journal.good, rejections, proofs)


def gone_back(trial: Trial | None, database: Facts) -> bool:
    """Return whether a trial has ended and the database is not its any more."""
    if trial is None or not trial.ends_back or trial.back is Back.STAYS:
        return False
    return is_settled(trial, database)


def is_settled(trial: Trial, database: Facts) -> bool:
    """Return whether a trial that ended owes no return: it is on record, or the trial's row is gone."""
    return trial.back is not None or row_gone(trial, database)


def row_gone(trial: Trial, database: Facts) -> bool:
    """Return whether the database provably does not belong to that trial; an unreadable database proves nothing."""
    unknown = database.state in (State.LOCKED, State.UNREADABLE, State.UNAVAILABLE)
    return not unknown and database.trial_id != trial.trial_id


def _unless_rejected(
    chosen: Release, good: Release, rejections: tuple[Rejection, ...], proofs: tuple[Proof, ...]
) -> Release | None:
    rejected = {rejection.release.release_id: rejection for rejection in rejections}
    rejection = rejected.get(chosen.release_id)
    if rejection is None:
        return chosen
    instead = [rejection.to, good, *(proof.release for proof in reversed(proofs))]
    return next((release for release in instead if release is not None and release.release_id not in rejected), None)


def fits(release: Release, database: Facts) -> bool:
    """Return whether that release may work on the database as it is, without a migration."""
    if release.schema == 0 or database.version == release.schema:
        return True
    oldest = database.readable_from if database.readable_from is not None else database.version
    return oldest <= release.schema < database.version


# ----------------------------------------------------------------------------------------------------- the launcher


class Attach(NamedTuple):
    """Step for an app that runs already: start nothing, and watch the app if it is on trial."""

    running: Running


class GiveUp(NamedTuple):
    """End the trial; the next step undoes its changes to the database."""

    trial: Trial
    outcome: NamedOutcome
    reason: str


class GoBack(NamedTuple):
    """Step for a database that still belongs to a given-up trial: settle it before anything starts."""

    trial: Trial


class FinishRollback(NamedTuple):
    """Step for a person's rollback that was interrupted after its commit point: finish its database part."""

    rejection: Rejection


class Prepare(NamedTuple):
    """Run the coordinator for a release; on trial, this is a counted attempt."""

    release: Release
    trial: Trial | None


class Start(NamedTuple):
    """Start a release whose schema the database has; on trial, this is a counted launch."""

    release: Release
    trial: Trial | None


class Refuse(NamedTuple):
    """Start nothing and report the cause."""

    outcome: NamedOutcome
    cause: str


StepAlone = GiveUp | GoBack | FinishRollback | Prepare | Refuse
"""Steps that the launcher takes while it holds the database lock and no app runs."""
LaunchStep = Attach | Start | StepAlone


def decide_launch(
    view: View,
    journal: Journal | None,
    limits: Limits,
    *,
    in_moment: bool = True,
    refused: ReleaseId | None = None,
    owed: bool = False,
) -> LaunchStep:
    """Return the launcher's next step.

    Args:
        view: the terminal, read at one moment.
        journal: the journal; if it is unreadable, the one that a rebuild in memory derives from the other files.
        limits: bounds of a trial.
        in_moment: whether an update may begin now; outside, the good release starts, and nothing is counted.
        refused: id of the candidate whose database could not be prepared in this run, with nothing changed; the good
            release starts this time and the trial stays open.
        owed: whether a return of the database is owed and could not be done in this run: the till opens on whatever
            fits the database meanwhile, even a rejected release.
    """
    if view.running is not None:
        return Attach(view.running)
    if view.database.state is State.LOCKED:
        return Refuse(OutcomeName.LOCKED, view.database.detail or "another process holds the database")
    if owed:
        cause = "no installed release fits the database as it is"
        return meanwhile(view, journal) or Refuse(OutcomeName.RESTORE_PENDING, cause)
    rollback = next((rejection for rejection in view.rejections if not rejection.done), None)
    if rollback is not None:
        return FinishRollback(rollback)
    owing = owing_trial(view, journal)
    if owing is not None:
        return GoBack(owing)
    stray = stray_trial(view, journal)
    if stray is not None:
        return GiveUp(stray, TerminalOutcome.TRIAL_LOST, "the journal does not know this trial")
    if journal is None:
        return Refuse(TerminalOutcome.NOTHING_INSTALLED, "there is no journal and nothing that worked here before")
    return _of_journal(view, journal, limits, in_moment=in_moment, refused=refused)


def _of_journal(
    view: View, journal: Journal, limits: Limits, *, in_moment: bool, refused: ReleaseId | None
) -> LaunchStep:
    """Return the step for what the journal says, once nothing is owed to the database."""
    trial = view.trial(journal.trial_id)
    if trial is not None and trial.verdict is Verdict.OPEN and view.rejection(trial.candidate.release_id) is not None:
        # A person's rollback was interrupted before it ended the trial: the rejection has decided the trial.
        return GiveUp(trial, TerminalOutcome.PERSON, "a person went back")
    release = select(journal, trial, view.rejections, view.proofs, view.database)
    on_trial = begun_or_new(journal, trial, release) if release is not None else None
    if release is not None and on_trial is not None and release.release_id == refused:
        release, on_trial = journal.good, None
    is_here = on_trial is None or on_trial.candidate.folder in view.installed
    if on_trial is not None and not is_here and owns_database(on_trial, view.database):
        # Nothing older fits before the database has gone back.
        reason = f"the version folder {on_trial.candidate.folder} is not there"
        return GiveUp(on_trial, TerminalOutcome.TRIAL_LOST, reason)
    not_now = view.choice is not None or not in_moment or not is_here
    if on_trial is not None and not_now and not owns_database(on_trial, view.database):
        # Not now: nothing of the trial has happened to the database, so the good release works on it as before.
        release, on_trial = _unless_rejected(journal.good, journal.good, view.rejections, view.proofs), None
    if release is None:
        return Refuse(TerminalOutcome.ALL_REJECTED, "every release that worked here has been rejected")
    return _ready_or_prepare(view, release, on_trial, limits, refused=refused)


def owns_database(trial: Trial, database: Facts) -> bool:
    """Return whether the database has a trial's row: then it goes on at any hour, because nothing older fits.

    A release without a schema leaves no row: it goes on once its app was started.
    """
    if trial.candidate.schema == 0:
        return bool(trial.launches_count or trial.clean_exits_count or trial.interruptions_count or trial.act)
    return database.trial_id == trial.trial_id


def meanwhile(view: View, journal: Journal | None) -> Start | None:
    """Return the start of a release that fits the database as it is, even a rejected one; None if there is none.

    For a return that is owed and could not be done: nothing is migrated meanwhile, and no trial begins.
    """
    known: list[Release] = []
    if journal is not None:
        trial = view.trial(journal.trial_id)
        chosen = select(journal, trial, view.rejections, view.proofs, view.database)
        of_journal = [release for release in (chosen, journal.good, journal.candidate) if release is not None]
        known += [release for release in of_journal if begun_or_new(journal, trial, release) is None]
    known += [proof.release for proof in reversed(view.proofs)]
    known += [rejection.release for rejection in view.rejections]
    sound = view.database.state is State.OK
    for release in known:
        if release.folder in view.installed and (release.schema == 0 or (sound and fits(release, view.database))):
            return Start(release, None)
    return None


def decide_despite(view: View, journal: Journal | None) -> Attach | Start | None:
    """Return the step after an error that nothing expected: an app that needs nothing written; None if none may start.

    An open trial is left as it is, and the good release starts in the place of its candidate. Where the database is
    owed a return or a restore, nothing starts: what would be recorded now could be taken out by it.
    """
    if view.running is not None:
        return Attach(view.running)
    owed = owing_trial(view, journal) is not None or any(not rejection.done for rejection in view.rejections)
    if journal is None or owed:
        return None
    trial = view.trial(journal.trial_id)
    release = select(journal, trial, view.rejections, view.proofs, view.database)
    if release is not None and begun_or_new(journal, trial, release) is not None:
        release = _unless_rejected(journal.good, journal.good, view.rejections, view.proofs)
    if release is None or release.folder not in view.installed:
        return None
    sound = view.database.state is State.OK or (release.schema == 0 and view.database.state is not State.LOCKED)
    return Start(release, None) if sound and fits(release, view.database) else None


def owing_trial(view: View, journal: Journal | None) -> Trial | None:
    """Return the given-up trial that the database still belongs to, or may belong to because it cannot be read."""
    unknown = view.database.state in (State.UNREADABLE, State.UNAVAILABLE)
    # It was moved aside, perhaps, by a return that was cut.
    unknown = unknown or (view.database.state in (State.MISSING, State.EMPTY) and view.database.had_data)
    trial_id = journal.trial_id if unknown and journal is not None else view.database.trial_id
    trial = view.trial(trial_id)
    return trial if trial is not None and trial.ends_back and trial.back is None else None


def _ready_or_prepare(
    view: View, release: Release, trial: Trial | None, limits: Limits, *, refused: ReleaseId | None
) -> LaunchStep:
    if release.folder not in view.installed:
        return Refuse(TerminalOutcome.FOLDER_MISSING, f"the version folder {release.folder} is not there")
    database = view.database
    unmarked = trial is not None and release.schema > 0 and database.trial_id != trial.trial_id
    sound = database.state is State.OK or release.schema == 0
    if fits(release, database) and sound and not unmarked:
        why = trial and launch_spent(settled(trial, view.boot_id), limits)
        return GiveUp(trial, *why) if trial and why else Start(release, trial)
    if sound and database.version > release.schema:
        return Refuse(
            OutcomeName.TOO_NEW,
            f"the database has schema {database.version}, release {release.version} knows {release.schema}",
        )
    if refused is not None and trial is None:
        return Refuse(
            TerminalOutcome.NOT_PREPARED,
            f"the database does not fit release {release.version} and could not be prepared",
        )
    why = trial and attempt_spent(settled(trial, view.boot_id), limits)
    return GiveUp(trial, *why) if trial and why else Prepare(release, trial)


def begun_or_new(journal: Journal, trial: Trial | None, release: Release) -> Trial | None:
    """Return the trial under which `release` starts: the open one, a new one that has not begun, or None."""
    if journal.phase is not Phase.SWAPPED or journal.candidate is None or journal.trial_id is None:
        return None
    if release != journal.candidate:
        return None
    if trial is None:
        return Trial(trial_id=journal.trial_id, candidate=journal.candidate, good=journal.good)
    return trial if trial.verdict is Verdict.OPEN else None


def stray_trial(view: View, journal: Journal | None) -> Trial | None:
    """Return a trial without a verdict that the journal does not name: no other step would ever end it."""
    named = journal.trial_id if journal is not None else None
    return next(
        (
            trial
            for trial in view.trials
            if trial.verdict is Verdict.OPEN and not trial.closed and trial.trial_id != named
        ),
        None,
    )
