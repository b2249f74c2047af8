"""The first version of a terminal: the newest signed release, shelved, recorded as a proof and in the journal."""

from __future__ import annotations

from pathlib import Path

from dbsync.errors import Refused, TryLater
from updater.answers import Answer, Catalog, Offer
from updater.decisions.journal_rebuild import next_sequence
from updater.flows.effects import Till, terminal_locked
from updater.model import Journal, Phase, Proof, ProvenBy, Release, Report, ReportPhase, View
from updater.outcomes import TerminalOutcome


def first_version(till: Till, *, bundle: Path | None = None) -> Journal:
    """Install the newest signed release as the first version; leave a terminal that has a version as it is.

    Args:
        till: the terminal.
        bundle: a folder with the bundle's files, which saves the download; checked against the signed manifest.

    Raises:
        TryLater: the repository cannot be reached; only folders and settings exist yet.
        Refused: the repository does not pass verification, or has no release for this terminal.
    """
    with terminal_locked(till):
        till.sync()
        view = till.look()
        if view.journal is not None:
            return view.journal
        cut_short = _cut_short(view)
        if cut_short is not None:
            return _begin(till, cut_short)
        if view.journal_broken or view.proofs:
            raise TryLater(
                operation="install", cause="this terminal had a journal and lost it",
                hint="`updater check` makes it again from the other state files.",
            )  # fmt: skip
    offer = _newest(till.find_releases())
    if not till.reuse(offer):
        _shelve(till, offer, bundle)
    with terminal_locked(till):
        view = till.look()
        if view.journal is not None:
            return view.journal
        # The proof first: a crash before the journal leaves a terminal that a repeated install or a rebuild finishes.
        till.write_proof(Proof(next_sequence(view.proofs), offer.release, ProvenBy.INSTALLED, None, till.now()))
        return _begin(till, offer.release)


def _cut_short(view: View) -> Release | None:
    """Return the release of an installation that was interrupted between proof and journal; None if there is none."""
    if view.journal_broken or view.trials or view.rejections or len(view.proofs) != 1:
        return None
    (proof,) = view.proofs
    is_whole = proof.why == ProvenBy.INSTALLED and proof.release.folder in view.installed
    return proof.release if is_whole else None


def _begin(till: Till, release: Release) -> Journal:
    """Write the first journal, under the terminal lock."""
    journal = Journal(Phase.IDLE, good=release)
    till.write_moment(())
    till.write_journal(journal)
    till.tell(Report(TerminalOutcome.INSTALLED, release, ReportPhase.INSTALL))
    return journal


def _shelve(till: Till, offer: Offer, bundle: Path | None) -> None:
    if bundle is None:
        staging = till.unpack(offer, till.download(offer))
        till.check_unpacked(offer, staging)
    else:
        try:
            staging = till.copy_bundle(offer, bundle)
            till.check_unpacked(offer, staging)
        except Refused as error:
            newest = offer.release.version
            raise Refused(
                operation="install the bundle", path=bundle,
                cause=f"it is not release {newest}, the newest that is signed: {error.cause}",
                hint=f"Give the bundle of {newest}, or leave --bundle out: then {newest} is downloaded.",
            ) from error  # fmt: skip
    till.shelve(offer, staging)


def _newest(catalog: Catalog) -> Offer:
    if catalog.verdict in (Answer.REFUSED, Answer.CLOCK_SUSPECT):
        raise Refused(operation="install", cause=f"{catalog.verdict}: {catalog.detail}")
    if catalog.verdict is not Answer.OK:
        raise TryLater(operation="install", cause=f"{catalog.verdict}: {catalog.detail}", hint="Run it again later.")
    if not catalog.newer:
        cause = "the repository has no release that this terminal can run"
        hint = ""
        if catalog.unusable:
            newest = catalog.unusable[0]
            cause, hint = f"{cause}: {newest.cause}", newest.outcome.hint
        raise Refused(operation="install", cause=cause, hint=hint)
    return catalog.newer[-1]
