"""The state files of a terminal: small JSON files, read defensively, written durably.

The agent's folder has journal, issued trials, rulings, proofs, rejections and the moment. The shared folder has what
the till's account claims: trials and choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dbsync.errors import DiskProblem, UnreadableFile, disk_problem
from dbsync.facts import known
from dbsync.storage import claims, file_calls, files
from dbsync.storage.files import disk_errors
from updater.decisions.claims import composed
from updater.model import (
    Act,
    Back,
    By,
    Choice,
    Claims,
    Issued,
    Journal,
    Moment,
    Phase,
    Proof,
    ProvenBy,
    Rejection,
    Release,
    ReleaseId,
    Ruling,
    SchemaNumber,
    Sha256,
    Trial,
    TrialId,
    Verdict,
)

if TYPE_CHECKING:
    from updater.answers import Unusable

FORMAT: Final = 1
LONGEST_SECONDS: Final = 1e9
"""Above every running time that can be true; a claim of more is no trial of ours."""
Value = TypeVar("Value")
_WRONG: Final = (KeyError, TypeError, ValueError, AttributeError)


class StateFolder:
    """State files of one terminal. Callers hold the terminal lock around every read-modify-write."""

    def __init__(self, folder: Path, *, shared: Path) -> None:
        self.folder: Final = folder
        self.shared: Final = shared
        self.tolerates_unavailable: bool = False
        """Whether a file that cannot be read now is read as one whose content is lost; else it raises DiskProblem."""
        self.journal_path: Final = folder / "journal.json"
        self.moment_path: Final = folder / "moment.json"
        self._unusable_path: Final = folder / "unusable.json"
        self._issued: Final = folder / "issued"
        self._rulings: Final = folder / "verdicts"
        self._proofs: Final = folder / "proofs"
        self._rejected: Final = folder / "rejected"
        self._trials: Final = shared / "trial"
        self._choices: Final = shared / "choices"

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
        """Return one trial, put together from the agent's files and the till's; None if it has not begun."""
        claim = self._read(self._trials / f"{trial_id}.json", _trial, claims.read_json) if _is_name(trial_id) else None
        return self.read_composed(trial_id, claim)

    def read_composed(self, trial_id: TrialId, claim: Trial | None) -> Trial | None:
        """Return one trial, put together from the agent's files and a claim of the till's; None if it has not begun."""
        issued = self._read(self._issued / f"{trial_id}.json", _issued) if _is_name(trial_id) else None
        if issued is None:
            return None
        return composed(issued, claim, self._read(self._rulings / f"{trial_id}.json", _ruling))

    def read_first_trials(self) -> tuple[Trial, ...]:
        """Return the trial files of a terminal that has not been moved, oldest first; they are trusted there."""
        paths = sorted(_files(self._trials), key=lambda path: path.stat().st_mtime_ns)
        found = [self._read(path, _trial) for path in paths]
        return tuple(trial for trial in found if trial is not None)

    def read_issued(self) -> tuple[Issued, ...]:
        """Return all issued trials, by number."""
        found = [self._read(path, _issued) for path in _files(self._issued)]
        return tuple(sorted((issued for issued in found if issued is not None), key=lambda issued: issued.number))

    def read_rulings(self) -> tuple[Ruling, ...]:
        """Return the agent's verdicts."""
        found = [self._read(path, _ruling) for path in _files(self._rulings)]
        return tuple(ruling for ruling in found if ruling is not None)

    def read_moment(self) -> Moment | None:
        """Return when an update may begin; None if the agent has not said so yet."""
        return self._read(self.moment_path, _moment)

    def read_unusable(self) -> tuple[Unusable, ...]:
        """Return the releases that the last look found unusable; a damaged record names none."""
        return self._read(self._unusable_path, _unusable) or ()

    def read_proofs(self) -> tuple[Proof, ...]:
        """Return all readable proofs, by sequence; an unreadable proof proves nothing."""
        found = [self._read(path, _proof) for path in _files(self._proofs)]
        return tuple(sorted((proof for proof in found if proof is not None), key=lambda proof: proof.sequence))

    def read_rejections(self, is_done: Callable[[str], bool]) -> tuple[Rejection, ...]:
        """Return all rejections; `is_done` returns whether the restore that a person's rollback owes is done.

        One that cannot be read now rejects all the same: its file is named by the release.
        """
        found = [self._read_rejection(path) for path in _files(self._rejected)]
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
        """Write one trial file durably; in the till's words, a trial that the agent took back is given up."""
        if trial.verdict is Verdict.TAKEN_BACK:
            trial = trial._replace(verdict=Verdict.GIVEN_UP)
        self._write(self._trials / f"{trial.trial_id}.json", trial)

    def write_choice(self, choice: Choice) -> None:
        """Write one choice durably."""
        self._write(self._choices / f"{choice.number:06d}.json", choice)

    def write_issued(self, issued: Issued) -> None:
        """Write one issued trial durably."""
        self._write(self._issued / f"{issued.trial_id}.json", issued)

    def write_ruling(self, ruling: Ruling) -> None:
        """Write one verdict of the agent's durably."""
        self._write(self._rulings / f"{ruling.trial_id}.json", ruling)

    def write_moment(self, moment: Moment) -> None:
        """Write durably when an update may begin."""
        self._write(self.moment_path, moment)

    def write_unusable(self, unusable: tuple[Unusable, ...]) -> None:
        """Write durably which releases cannot be used here."""
        files.write_json(
            self._unusable_path,
            {"format": FORMAT, "releases": [_plain(release) for release in unusable]},
            like=self._unusable_path.parent,
        )

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
            file_calls.remove(path)
            files.sync_folder(self._rejected)

    def forget_trials(self, *, keep_count: int, keep: frozenset[TrialId]) -> None:
        """Remove the agent's files of the oldest folded trials, except of the ids in `keep`, which are needed.

        The till's files of them go when nothing has issued them any more (`TillSide.tidy`). What another program holds
        stays until the next time.
        """
        folded = {ruling.trial_id for ruling in self.read_rulings() if ruling.folded} - keep
        closed = [issued.trial_id for issued in self.read_issued() if issued.trial_id in folded]
        for trial_id in closed[: max(0, len(closed) - keep_count)]:
            # The ruling last: an issued trial without one would be open again.
            if file_calls.remove_if_possible(self._issued / f"{trial_id}.json"):
                file_calls.remove_if_possible(self._rulings / f"{trial_id}.json")

    def sync(self) -> None:
        """Make the agent's files durable that a look reads."""
        with disk_errors("sync", self.folder):
            for folder in (self._issued, self._rulings, self._proofs, self._rejected):
                for path in _files(folder):
                    files.sync_seen(path)
                if folder.is_dir():
                    files.sync_folder(folder)
            for path in (self.journal_path, self.moment_path):
                if files.is_there(path):
                    files.sync_seen(path)
            if self.folder.is_dir():
                files.sync_folder(self.folder)

    def _read_rejection(self, path: Path) -> Rejection | None:
        try:
            return _rejection(files.read_json(path))
        except DiskProblem as error:
            if not self.tolerates_unavailable:
                raise
            release = Release(ReleaseId(path.stem), "", SchemaNumber(0))
            return Rejection(release, By.MACHINE, "", str(error), at="")
        except (FileNotFoundError, UnreadableFile, *_WRONG):
            return None

    def _read(
        self,
        path: Path,
        decode: Callable[[Mapping[str, Any]], Value],
        read: Callable[[Path], Mapping[str, Any]] = files.read_json,
    ) -> Value | None:
        try:
            return decode(read(path))
        except DiskProblem:
            if not self.tolerates_unavailable:
                raise
            return None
        except (FileNotFoundError, UnreadableFile, *_WRONG):
            return None

    def _write(self, path: Path, value: Any) -> None:
        # Like its folder, never by the umask: the other account reads it, or its group writes it.
        files.make_folder(path.parent, like=path.parent.parent)
        files.write_json(path, {"format": FORMAT, **_plain(value)}, like=path.parent)


def _unusable(data: Mapping[str, Any]) -> tuple[Unusable, ...]:
    # Here, because no start of a till needs it.
    from updater.answers import Unusable
    from updater.outcomes import named

    return tuple(
        Unusable(str(found["version"]), named(found["outcome"]), str(found["cause"])) for found in data["releases"]
    )


def claims_of(trials: Mapping[TrialId, Any], choices: Mapping[int, Any], is_done: Callable[[str], bool]) -> Claims:
    """Return the claims in documents of the shared folder; one that is none of ours is a lost trial or no choice.

    Args:
        trials: trial id to document.
        choices: number to document.
        is_done: whether the restore that a choice owes is done.
    """
    read = {trial_id: _decoded(document, _trial) for trial_id, document in trials.items()}
    good = {trial_id: trial for trial_id, trial in read.items() if trial is not None and trial.trial_id == trial_id}
    found = [_decoded(document, _choice) for _, document in sorted(choices.items())]
    held = [choice for number, choice in zip(sorted(choices), found, strict=True) if choice and choice.number == number]
    return Claims(
        tuple(good.values()),
        frozenset(read.keys() - good.keys()),
        tuple(choice._replace(done=choice.backup is None or is_done(choice.intent_id)) for choice in held),
    )


def _decoded(document: Any, decode: Callable[[Mapping[str, Any]], Value]) -> Value | None:
    try:
        return decode(document)
    except _WRONG:
        return None


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
        last=_number(data.get("last", 0)),
        last_choice=_number(data.get("last_choice", 0)),
        permitted_choice=_number(data.get("permitted_choice", 0)),
    )
    if (journal.phase is Phase.IDLE) is not (journal.candidate is None):
        raise ValueError("phase and candidate contradict each other")
    if (journal.phase is Phase.SWAPPED) is not (journal.trial_id is not None):
        raise ValueError("phase and trial contradict each other")
    return journal


def _trial(data: Mapping[str, Any]) -> Trial:
    _check_format(data)
    counts = {name: _number(data.get(name, 0)) for name in Trial._fields if name.endswith("_count")}
    backup, content_sha256, seconds = data.get("backup"), data.get("content_sha256"), data.get("running_seconds", 0.0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < LONGEST_SECONDS:
        raise ValueError("not a time")
    return Trial(
        trial_id=TrialId(_text(data["trial_id"])),
        candidate=_release(data["candidate"]),
        good=_release(data["good"]),
        verdict=Verdict(data["verdict"]),
        by=By(data["by"]),
        act=known(Act, _text(data.get("act", Act.NONE))),
        boot_id=_text(data.get("boot_id", "")),
        running_seconds=float(seconds),
        backup=_text(backup) if backup is not None else None,
        content_sha256=Sha256(_text(content_sha256)) if content_sha256 is not None else None,
        outcome=_text(data.get("outcome", "")),
        reason=_text(data.get("reason", "")),
        back=Back(data["back"]) if data["back"] is not None else None,
        closed=data.get("closed") is True,
        **counts,
    )


def _issued(data: Mapping[str, Any]) -> Issued:
    _check_format(data)
    return Issued(
        _number(data["number"]), TrialId(_text(data["trial_id"])), _release(data["candidate"]), _release(data["good"]),
        _text(data["at"]),
    )  # fmt: skip


def _ruling(data: Mapping[str, Any]) -> Ruling:
    _check_format(data)
    return Ruling(
        TrialId(_text(data["trial_id"])), Verdict(data["verdict"]), By(data["by"]), _text(data["outcome"]),
        _text(data["reason"]), _text(data["at"]), data["folded"] is True,
    )  # fmt: skip


def _choice(data: Mapping[str, Any]) -> Choice:
    _check_format(data)
    backup, intent_id = data["backup"], _text(data["intent_id"])
    if not _is_name(intent_id):
        raise ValueError("not an id of ours")
    return Choice(
        _number(data["number"]), _release(data["of"]), _release(data["to"]), _text(data["at"]),
        _text(backup) if backup is not None else None, intent_id,
    )  # fmt: skip


def _moment(data: Mapping[str, Any]) -> Moment:
    _check_format(data)
    windows = tuple((_text(begin), _text(end)) for begin, end in data["windows"])
    recalled = tuple(ReleaseId(_text(found)) for found in data["recalled"])
    return Moment(data["always"] is True, windows, recalled, data.get("till_may_roll_back", True) is True)


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


def _is_name(text: str) -> bool:
    """Return whether a string is an id as we make them: it becomes part of a path."""
    return 0 < len(text) <= 64 and all(character.isalnum() or character == "-" for character in text) and text.isascii()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a number")
    return value
