"""Rules over the order of calls in one undisturbed run: what a power cut between two calls could leave behind.

Pure functions over the list of calls. A rule returns what it finds, in words, each with the number of the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from tests.drills.faults.calls import Call

WRITES: Final = frozenset(
    {"write", "pwrite", "writev", "sendfile", "copy_file_range", "clone", "ftruncate", "truncate", "posix_fallocate"}
)
SYNCS: Final = frozenset({"fsync", "fdatasync", "syncfs"})
DATABASE: Final = "data/pos_system.db"
JOURNAL: Final = "state/journal.json"
MARKER: Final = "state/layout.json"
POINTERS: Final = {
    JOURNAL: ("program/versions/", "state/", "data/"),
    "public/metadata/timestamp.json": ("public/",),
}
"""Files that point to others, and the folders of those: terminals and clients begin with them."""
MOVED_TO: Final = ("state/shared", "state/private")
_TRIAL: Final = re.compile(r"state/shared/trial/[^/.][^/]*\.json")
_APP: Final = re.compile(r"program/versions/[^/.][^/]*/till")

EXEMPT: Final = {
    r"state/private/downloads/.*": "an archive is checked against its signed hash each time it is used",
    r"state/private/trust/metadata/.*": "the library writes it; it is synced after the refresh, or fetched again",
    r"state/private/trust/manifests/.*": "a manifest is fetched again if it is lost; its hash is signed",
    r"state/shared/confirm-.*": "the app writes it; a confirm that is lost is asked for again",
}
"""Files whose order of writes nothing depends on, with the reason."""


class Finding(NamedTuple):
    """A call at which the order is wrong."""

    number: int
    text: str

    def __str__(self) -> str:
        return f"at call {self.number}: {self.text}"


Rule = Callable[[Sequence[Call]], list[Finding]]


def is_exempt(path: str) -> bool:
    """Return whether nothing depends on the order in which a file is written."""
    return any(re.fullmatch(pattern, path) for pattern in EXEMPT)


def folder_of(path: str) -> str:
    """Return the folder of a path."""
    return str(PurePosixPath(path).parent)


def _ours(calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if call.program != "till"]


def _only_shortens(call: Call) -> bool:
    """Return whether a call cuts pages off a database: its header says already that they are not part of it."""
    return call.name == "ftruncate" and PurePosixPath(call.path).name == PurePosixPath(DATABASE).name


class _Unsynced:
    """The files that were written since they were last synced, as the calls go by."""

    def __init__(self) -> None:
        self.since: dict[str, int] = {}

    def follow(self, call: Call) -> None:
        if call.name in WRITES and not _only_shortens(call):
            self.since.setdefault(call.path, call.number)
        elif call.name == "syncfs":
            self.since.clear()
        elif call.name in SYNCS or call.name == "unlink":
            self.since.pop(call.path, None)
        elif call.name in ("rename", "link"):
            for path in self.below(call.source):
                self.since[call.path + path.removeprefix(call.source)] = self.since.pop(path)

    def below(self, path: str) -> list[str]:
        """Return the unsynced files that are this path or lie below it."""
        return [name for name in self.since if name == path or name.startswith(f"{path}/")]


def synced_before_rename(calls: Sequence[Call]) -> list[Finding]:
    """Find a file, or a file of a tree, that gets its final name before its content is durable."""
    found, unsynced = [], _Unsynced()
    for call in _ours(calls):
        if call.name == "rename" and not is_exempt(call.path) and not is_unfinished(call.path):
            late = unsynced.below(call.source)
            if late:
                found.append(Finding(call.number, f"{call}: {len(late)} of its files not synced, such as {late[0]}"))
        unsynced.follow(call)
    return found


def folder_synced_after_rename(calls: Sequence[Call]) -> list[Finding]:
    """Find a rename whose folder is not synced by the next calls of its process."""
    found = []
    for call, after in _with_next(calls, count=2):
        if call.name == "rename" and not is_exempt(call.path):
            wanted = {folder_of(call.path), folder_of(call.source)}
            synced = {later.path for later in after[: len(wanted)] if later.name in SYNCS}
            if wanted - synced:
                found.append(Finding(call.number, f"{call}: folder {min(wanted - synced)} is not synced next"))
    return found


def folder_synced_after_journal(calls: Sequence[Call]) -> list[Finding]:
    """Find a commit whose journal is unlinked and not gone for good: it would be rolled back after a power cut."""
    found = []
    for call, after in _with_next(calls, count=1):
        is_journal = call.path.endswith("-journal") and not is_unfinished(call.path)
        if call.name == "unlink" and is_journal:
            synced = {later.path for later in after if later.name in SYNCS}
            if folder_of(call.path) not in synced:
                found.append(Finding(call.number, f"{call}: its folder is not synced next"))
    return found


def pointer_last(calls: Sequence[Call]) -> list[Finding]:
    """Find a pointer that is renamed into place while something that it may point to is not durable."""
    found, unsynced = [], _Unsynced()
    shelved = ""
    for call in _ours(calls):
        if call.name == "rename" and call.path in POINTERS:
            late = [path for path in unsynced.since if path.startswith(POINTERS[call.path])]
            late = [path for path in late if not is_exempt(path) and not is_unfinished(path)]
            if late:
                found.append(Finding(call.number, f"{call}: {late[0]} is not synced yet"))
            if shelved:
                found.append(Finding(call.number, f"{call}: the name of {shelved} is not synced yet"))
        if call.name == "rename" and folder_of(call.path) == "program/versions" and not is_unfinished(call.path):
            shelved = call.path
        elif call.name in SYNCS and call.path == "program/versions":
            shelved = ""
        unsynced.follow(call)
    return found


def issued_before_named(calls: Sequence[Call]) -> list[Finding]:
    """Find a trial that is issued and that no journal is written after: it was named before it was issued.

    For runs that swap; the move of a terminal of before writes the journal first, which then knows the highest number.
    """
    return [
        Finding(call.number, f"{call}: the journal is not written after it")
        for call, after in _with_next(calls, count=len(calls))
        if call.name == "rename" and call.path.startswith("state/issued/")
        if not any(later.name == "rename" and later.path == JOURNAL for later in after)
    ]


def ruled_before_folded(calls: Sequence[Call]) -> list[Finding]:
    """Find a proof, or a rejection, of a trial whose verdict is not durable: for runs that fold one."""
    found, is_ruled = [], False
    for call, after in _with_next(calls, count=1):
        if call.name == "rename" and call.path.startswith("state/verdicts/"):
            is_ruled = any(later.name in SYNCS and later.path == "state/verdicts" for later in after)
        elif call.name == "rename" and call.path.startswith(("state/proofs/", "state/rejected/")) and not is_ruled:
            found.append(Finding(call.number, f"{call}: the verdict is not durable yet"))
    return found


def marked_last(calls: Sequence[Call]) -> list[Finding]:
    """Find a file of a terminal of before that moves after the mark that all have, or a move that has no mark."""
    found, marks, moves = [], [], []
    for call in _ours(calls):
        if call.name == "rename" and call.path == MARKER:
            marks.append(call)
        elif call.name == "rename" and folder_of(call.path) in MOVED_TO and folder_of(call.source) == "state":
            moves.append(call)
            if marks:
                found.append(Finding(call.number, f"{call}: it moves after {marks[0]}"))
    if moves and not marks:
        found.append(Finding(moves[0].number, f"{moves[0]}: {MARKER} is not written"))
    return found


def counted_before_acts(calls: Sequence[Call]) -> list[Finding]:
    """Find the first write of a migration, or the start of an app, that no durable count came before.

    For runs on trial: an attempt is counted before the database is written, a launch before the app starts. The calls
    show that a trial was written and not what: `records.uncounted_launches` looks at the counts.
    """
    found: list[Finding] = []
    counted = written = False
    for call, after in _with_next(calls, count=1):
        if call.name == "rename" and _TRIAL.fullmatch(call.path):
            counted = any(later.name in SYNCS and later.path == "state/shared/trial" for later in after)
        elif call.name in WRITES and call.path == DATABASE and not written:
            written = True
            if not counted:
                found.append(Finding(call.number, f"{call}: the attempt is not counted"))
            counted = False
        elif call.name == "exec" and _APP.fullmatch(call.path):
            if not counted:
                found.append(Finding(call.number, f"{call}: the launch is not counted"))
            break
    return found


def durable_at_end(calls: Sequence[Call]) -> list[Finding]:
    """Find files under final names that the run leaves unsynced."""
    unsynced = _Unsynced()
    for call in _ours(calls):
        unsynced.follow(call)
    left = {path: number for path, number in unsynced.since.items() if not is_exempt(path) and not is_unfinished(path)}
    gone = {call.path for call in calls if call.name == "unlink"}
    return [
        Finding(number, f"{path} is not synced until the end")
        for path, number in left.items()
        if path not in gone and not path.endswith((".lock", "-shm", "-wal"))
    ]


def names_durable_at_end(calls: Sequence[Call]) -> list[Finding]:
    """Find folders and files that were made under final names, and whose names a power cut would take back."""
    made: dict[str, Call] = {}
    for call in _ours(calls):
        if call.name in ("mkdir", "open", "symlink", "link") and call.takes_space:
            made[call.path] = call
        elif call.name in SYNCS:
            made = {path: maker for path, maker in made.items() if folder_of(path) != call.path}
        elif call.name == "rename":
            made.pop(call.source, None)
        elif call.name in ("unlink", "rmdir"):
            made.pop(call.path, None)
    return [
        Finding(call.number, f"{call}: its folder is not synced until the end")
        for path, call in made.items()
        if not is_exempt(path) and not is_unfinished(path) and not path.endswith((".lock", "-shm", "-wal"))
    ]


def is_unfinished(path: str) -> bool:
    """Return whether a path is that of a file or folder that has not got its final name."""
    return any(part.startswith((".part-", ".new-", ".staging-", ".old-")) for part in PurePosixPath(path).parts)


def _with_next(calls: Sequence[Call], *, count: int) -> list[tuple[Call, list[Call]]]:
    """Return our calls, each with the next ones of the same process."""
    ours = _ours(calls)
    return [
        (call, [later for later in ours[index + 1 :] if later.process == call.process][:count])
        for index, call in enumerate(ours)
    ]


GENERAL: Final[tuple[Rule, ...]] = (
    synced_before_rename, folder_synced_after_rename, folder_synced_after_journal, pointer_last, durable_at_end,
    names_durable_at_end,
)  # fmt: skip
TRIAL: Final[tuple[Rule, ...]] = (*GENERAL, counted_before_acts)
SWAP: Final[tuple[Rule, ...]] = (*GENERAL, issued_before_named)
FOLD: Final[tuple[Rule, ...]] = (*GENERAL, ruled_before_folded)
MOVE: Final[tuple[Rule, ...]] = (*GENERAL, marked_last)


def findings(calls: Sequence[Call], rules: Iterable[Rule]) -> list[Finding]:
    """Return what all rules find, in the order of the calls."""
    return sorted(found for rule in rules for found in rule(calls))
