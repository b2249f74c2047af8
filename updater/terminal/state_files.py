"""The state folder: journal, trials, proofs, rejections as small JSON files, read defensively, written durably."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from dbsync.errors import DiskProblem, UnreadableFile, disk_problem
from dbsync.facts import known
from dbsync.storage import files
from dbsync.storage.files import disk_errors
from updater.model import (
    Act,
    Back,
    By,
    Journal,
    Phase,
    Proof,
    ProvenBy,
    Rejection,
    Release,
    ReleaseId,
    SchemaNumber,
    Trial,
    TrialId,
    Verdict,
)
from updater.outcomes import TerminalOutcome

FORMAT: Final = 1
Value = TypeVar("Value")
_WRONG: Final = (KeyError, TypeError, ValueError, AttributeError)


class StateFolder:
    """State files of one terminal. Callers hold the terminal lock around every read-modify-write."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.tolerates_unavailable: bool = False
        """Whether a file that cannot be read now is read as one whose content is lost; else it raises DiskProblem."""
        self.journal_path: Final = folder / "journal.json"
        self._trials: Final = folder / "trial"
        self._proofs: Final = folder / "proofs"
        self._rejected: Final = folder / "rejected"

    # ---------------------------------------------------------------------------------------------------- reading

    def read_journal(self) -> tuple[Journal | None, bool]:
        """Return the journal, and whether there is one whose content is damaged.

        Raises:
            DiskProblem: it cannot be read now.
        """
        try:
            return _journal(files.read_json(self.journal_path)), False
        except FileNotFoundError:
            return None, False
        except (UnreadableFile, *_WRONG):
            return None, True

    def read_trial(self, trial_id: TrialId) -> Trial | None:
        """Return one trial; None if it has not begun or its file cannot be read."""
        return self._read(self._trials / f"{trial_id}.json", _trial)

    def read_trials(self, journal: Journal | None) -> tuple[Trial, ...]:
        """Return all trials; an unreadable trial that the journal names counts as given up: unknown means good."""
        found = [(path, self._read(path, _trial)) for path in _files(self._trials)]
        trials = [trial for _, trial in found if trial is not None]
        lost = [path.stem for path, trial in found if trial is None]
        if journal is not None and journal.candidate is not None and journal.trial_id in lost:
            reason = "the trial's file could not be read"
            trials.append(
                Trial(
                    journal.trial_id, journal.candidate, journal.good,
                    verdict=Verdict.GIVEN_UP, outcome=TerminalOutcome.TRIAL_LOST, reason=reason,
                )
            )  # fmt: skip
        return tuple(trials)

    def read_proofs(self) -> tuple[Proof, ...]:
        """Return all readable proofs, by sequence; an unreadable proof proves nothing."""
        found = [self._read(path, _proof) for path in _files(self._proofs)]
        return tuple(sorted((proof for proof in found if proof is not None), key=lambda proof: proof.sequence))

    def read_rejections(self, is_done: Callable[[str], bool]) -> tuple[Rejection, ...]:
        """Return all rejections; `is_done` returns whether the restore that a person's rollback owes is done."""
        found = [self._read(path, _rejection) for path in _files(self._rejected)]
        return tuple(
            rejection._replace(done=rejection.backup is None or is_done(rejection.intent_id))
            for rejection in found
            if rejection is not None
        )

    # ---------------------------------------------------------------------------------------------------- writing

    def write_journal(self, journal: Journal) -> None:
        """Write the journal durably; the content of `current` is derived from it elsewhere."""
        self._write(self.journal_path, journal)

    def put_aside_journal(self) -> None:
        """Rename an unreadable journal to `journal.json.broken`, replacing an older such file."""
        files.rename_durably(source=self.journal_path, target=self.journal_path.with_name("journal.json.broken"))

    def write_trial(self, trial: Trial) -> None:
        """Write one trial file durably."""
        self._write(self._trials / f"{trial.trial_id}.json", trial)

    def write_proof(self, proof: Proof) -> None:
        """Write one proof durably."""
        self._write(self._proofs / f"{proof.sequence:06d}-{proof.release.release_id}.json", proof)

    def write_rejection(self, rejection: Rejection) -> None:
        """Write one rejection durably."""
        self._write(self._rejected / f"{rejection.release.release_id}.json", rejection)

    def remove_rejection(self, release_id: ReleaseId) -> None:
        """Lift a rejection durably."""
        path = self._rejected / f"{release_id}.json"
        with disk_errors("remove", path):
            path.unlink(missing_ok=True)
            files.sync_folder(self._rejected)

    def forget_trials(self, *, keep_count: int, keep: frozenset[TrialId]) -> None:
        """Remove the oldest closed trial files, except those of the trial ids in `keep`, which are still referenced."""
        closed = [
            path for path in _files(self._trials)
            if path.stem not in keep and ((trial := self._read(path, _trial)) is None or trial.closed)
        ]  # fmt: skip
        closed.sort(key=lambda path: path.stat().st_mtime_ns)
        for path in closed[: max(0, len(closed) - keep_count)]:
            path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Make durable everything that a look reads."""
        with disk_errors("sync", self.folder):
            for folder in (self._trials, self._proofs, self._rejected):
                for path in _files(folder):
                    files.sync_file(path)
                if folder.is_dir():
                    files.sync_folder(folder)
            if self.journal_path.exists():
                files.sync_file(self.journal_path)
            files.sync_folder(self.folder)

    def _read(self, path: Path, decode: Callable[[Mapping[str, Any]], Value]) -> Value | None:
        try:
            return decode(files.read_json(path))
        except DiskProblem:
            if not self.tolerates_unavailable:
                raise
            return None
        except (FileNotFoundError, UnreadableFile, *_WRONG):
            return None

    def _write(self, path: Path, value: Any) -> None:
        with disk_errors("make", path.parent):
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True)
                files.sync_folder(path.parent.parent)
        files.write_json(path, {"format": FORMAT, **_plain(value)})


def _files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(folder.iterdir())
    except FileNotFoundError:
        return iter(())
    except OSError as cause:
        raise disk_problem("read", folder, cause) from cause
    return (path for path in names if path.suffix == ".json" and not path.name.startswith("."))


def _plain(value: Any) -> Any:
    """Return a value as plain JSON data: NamedTuples become objects; enums are strings already."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return value


def _release(data: Mapping[str, Any]) -> Release:
    return Release(ReleaseId(_text(data["release_id"])), _text(data["version"]), SchemaNumber(_number(data["schema"])))


def _release_or_none(data: Mapping[str, Any] | None) -> Release | None:
    return None if data is None else _release(data)


def _journal(data: Mapping[str, Any]) -> Journal:
    _check_format(data)
    journal = Journal(
        phase=Phase(data["phase"]),
        good=_release(data["good"]),
        candidate=_release_or_none(data["candidate"]),
        trial_id=data["trial_id"],
        previous=_release_or_none(data["previous"]),
    )
    if (journal.phase is Phase.IDLE) is not (journal.candidate is None):
        raise ValueError("phase and candidate contradict each other")
    if (journal.phase is Phase.SWAPPED) is not (journal.trial_id is not None):
        raise ValueError("phase and trial contradict each other")
    return journal


def _trial(data: Mapping[str, Any]) -> Trial:
    _check_format(data)
    values = {name: data[name] for name in Trial._fields if name in data}
    return Trial(**values)._replace(
        candidate=_release(data["candidate"]),
        good=_release(data["good"]),
        verdict=Verdict(data["verdict"]),
        by=By(data["by"]),
        act=known(Act, data.get("act", Act.NONE)),
        back=Back(data["back"]) if data["back"] is not None else None,
        attempts_count=_number(data["attempts_count"]),
        launches_count=_number(data["launches_count"]),
    )


def _proof(data: Mapping[str, Any]) -> Proof:
    _check_format(data)
    return Proof(
        _number(data["sequence"]),
        _release(data["release"]),
        known(ProvenBy, _text(data["why"])),
        data["trial_id"],
        _text(data["at"]),
    )


def _rejection(data: Mapping[str, Any]) -> Rejection:
    _check_format(data)
    values = {name: data[name] for name in Rejection._fields if name in data}
    return Rejection(**values)._replace(
        release=_release(data["release"]), by=By(data["by"]), to=_release_or_none(data["to"])
    )


def _check_format(data: Mapping[str, Any]) -> None:
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']} is not known")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a number")
    return value
