"""State files: what is written is what was written before, and what another version wrote is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbsync.errors import DiskProblem
from dbsync.model import ReleaseId, SchemaNumber, TrialId
from tests.helpers.held import Share, holder
from updater.decisions.trial import settled
from updater.model import Act, By, Issued, Proof, ProvenBy, Rejection, Release, Ruling, Trial, Verdict
from updater.terminal.state_files import StateFolder, claims_of

OLD, NEW = Release(ReleaseId("a" * 64), "1.0", SchemaNumber(1)), Release(ReleaseId("b" * 64), "2.0", SchemaNumber(2))


def claimed(folder: Path) -> tuple[Trial, ...]:
    """Return what is in the trial files."""
    found = {TrialId(path.stem): json.loads(path.read_bytes()) for path in (folder / "trial").glob("*.json")}
    return claims_of(found, {}, lambda _: True).trials


AT = "2026-01-02T03:04:05.006Z"


def test_the_members_of_enumerations_stand_in_files_as_strings_and_come_back_as_members(tmp_path: Path) -> None:
    state = StateFolder(tmp_path, shared=tmp_path)
    trial = Trial(TrialId("t1"), candidate=NEW, good=OLD, attempts_count=1, act=Act.ATTEMPT, boot_id="b1")
    proof = Proof(1, OLD, ProvenBy.INSTALLED, None, AT)
    state.write_trial(trial)
    state.write_proof(proof)
    assert '"act": "attempt"' in (tmp_path / "trial" / "t1.json").read_text(encoding="utf-8")
    (path,) = (tmp_path / "proofs").iterdir()
    assert '"why": "installed"' in path.read_text(encoding="utf-8")
    (read,), (proven,) = claimed(tmp_path), state.read_proofs()
    assert (read, proven) == (trial, proof)
    assert isinstance(read.act, Act)
    assert isinstance(proven.why, ProvenBy)


def test_what_another_version_wrote_is_read_and_written_back_as_it_is(tmp_path: Path) -> None:
    state = StateFolder(tmp_path, shared=tmp_path)
    state.write_trial(Trial(TrialId("t1"), candidate=NEW, good=OLD, launches_count=1, boot_id="b1", act="warm-up"))
    state.write_proof(Proof(7, OLD, "inherited", None, AT))
    (trial,), (proof,) = claimed(tmp_path), state.read_proofs()
    assert (trial.act, proof.why, proof.release) == ("warm-up", "inherited", OLD)
    assert settled(trial, "b1") == trial, "it goes on in the same boot"
    cut = settled(trial, "b2")
    assert (cut.act, cut.launches_count, cut.interruptions_count) == (Act.NONE, 1, 1)
    state.write_trial(trial)
    assert json.loads((tmp_path / "trial" / "t1.json").read_bytes())["act"] == "warm-up"


def test_a_rejection_that_cannot_be_read_now_rejects_all_the_same(tmp_path: Path) -> None:
    state = StateFolder(tmp_path, shared=tmp_path)
    state.write_rejection(Rejection(NEW, By.PERSON, "ROLLED_BACK", "it was slow", AT))
    (path,) = (tmp_path / "rejected").iterdir()
    with holder() as found:
        found.paths, found.watches = {str(path)}, True
        with pytest.raises(DiskProblem):
            state.read_rejections(lambda _: True)
        state.tolerates_unavailable = True
        (rejection,) = state.read_rejections(lambda _: True)
    assert rejection.release.release_id == NEW.release_id
    path.write_text("{")
    assert state.read_rejections(lambda _: True) == (), "one that is damaged for good rejects nothing"


@pytest.mark.parametrize(("folder", "left"), [("issued", ["issued", "verdicts"]), ("verdicts", ["verdicts"])])
def test_a_closed_trial_whose_file_is_held_is_forgotten_later_and_never_open_again(
    tmp_path: Path, folder: str, left: list[str]
) -> None:
    state = StateFolder(tmp_path, shared=tmp_path)
    trial_id = TrialId("t" * 8)
    state.write_issued(Issued(1, trial_id, NEW, OLD, AT))
    state.write_ruling(Ruling(trial_id, Verdict.CONFIRMED, By.MACHINE, "", "", AT, folded=True))
    (path,) = (tmp_path / folder).iterdir()
    with holder() as found:
        found.share, found.paths, found.watches = Share.READ, {str(path)}, True
        state.forget_trials(keep_count=0, keep=frozenset())
        found.watches = False
    assert [name for name in ("issued", "verdicts") if list((tmp_path / name).iterdir())] == left
    state.forget_trials(keep_count=0, keep=frozenset())
    assert list((tmp_path / "issued").iterdir()) == []
