"""Outcomes of a run on a database, one line each, and the exit statuses of all commands.

An outcome's name is in state files, records and reports, and its code is read out over the telephone: neither ever
changes. Everything else about an outcome (its exit status, whether the app may start, the sentences for people) is an
attribute of the member; no other module lists outcomes. `updater.outcomes` has those of a terminal, in the same form.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, Self


class ExitStatus(IntEnum):
    """The exit statuses of `updater`, `dbsync` and `scripts/rollback.py`. One status means one thing in all of them.

    `updater launch` is the necessary exception: once the app runs, it passes the app's own status on.
    """

    DONE = 0
    """Done, or nothing to do."""
    FAILED = 1
    """A step failed and its effects were undone; or a check found something."""
    USAGE = 2
    """The command line is wrong; nothing was done."""
    GIVEN_UP = 3
    """`updater confirm` only: the trial is over, close without selling. A contract with every app."""
    REFUSED = 4
    """Nothing was changed, and the same call fails again until something else changes."""
    NEEDS_PERSON = 5
    """The terminal must not act by itself: a person must decide."""
    DONE_WITH_LOSS = 6
    """Done, and records were removed from the live database. They are kept, and exported."""
    TRY_LATER = 75
    """Nothing was changed, and the same call may succeed later (EX_TEMPFAIL of sysexits.h)."""
    INTERRUPTED = 130
    """Ctrl-C. The database is unchanged, or finished."""
    TERMINATED = 143
    """SIGTERM. The database is unchanged, or finished."""


class Group(StrEnum):
    """The groups of outcomes, by what the caller should do."""

    DONE = "done"
    """Nothing."""
    READY = "ready"
    """The app may start on this database."""
    SETTLED = "settled"
    """A database went back, or stays as it is; nothing is owed."""
    LOSS = "loss"
    """As SETTLED, and records are missing from the live database."""
    LATER = "later"
    """Repeat it later; nothing was changed."""
    REFUSED = "refused"
    """Change something else first; nothing was changed."""
    UNFIT = "unfit"
    """Nothing was changed; this release does not fit this database, or failed on it. On trial, that ends the trial."""
    FAILED = "failed"
    """The run failed and was undone. On trial, that ends the trial."""
    PERSON = "person"
    """Decide: the terminal does not proceed by itself."""

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of a command that ends with an outcome of this group."""
        return _STATUSES[self]


_STATUSES: Final = {
    Group.DONE: ExitStatus.DONE,
    Group.READY: ExitStatus.DONE,
    Group.SETTLED: ExitStatus.DONE,
    Group.LOSS: ExitStatus.DONE_WITH_LOSS,
    Group.LATER: ExitStatus.TRY_LATER,
    Group.REFUSED: ExitStatus.REFUSED,
    Group.UNFIT: ExitStatus.REFUSED,
    Group.FAILED: ExitStatus.FAILED,
    Group.PERSON: ExitStatus.NEEDS_PERSON,
}


class NamedOutcome(StrEnum):
    """An outcome: its name, code and group, and its sentences for people."""

    code: str
    """Read out over the telephone."""
    group: Group
    sentence: str
    """For the clerk: one calm sentence, or empty."""
    hint: str
    """For the support engineer: what to do."""
    alarm: bool
    """Whether a report goes to the outbox."""
    done: str
    """For a trial that was given up: the fate of its database, in words."""

    def __new__(
        cls, name: str, code: str, group: Group, sentence: str = "", hint: str = "", alarm: bool = False, done: str = ""
    ) -> Self:
        """Make the member of that name, which is its value in every file."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.code, member.group, member.alarm = code, group, alarm
        member.sentence, member.hint, member.done = sentence, hint, done
        return member

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of a command that ends with this outcome."""
        return self.group.exit_status

    @property
    def ready(self) -> bool:
        """Whether the app may start."""
        return self.group is Group.READY

    @property
    def failed(self) -> bool:
        """Whether the run was undone, or the release does not fit: on trial, this is the give-up."""
        return self.group in (Group.FAILED, Group.UNFIT)

    @property
    def refused(self) -> bool:
        """Whether nothing was changed, and a later run may succeed."""
        return self.group in (Group.LATER, Group.REFUSED)

    @property
    def clerk_sentence(self) -> str:
        """The clerk's sentence with its code, or an empty string."""
        return self._coded(self.sentence)

    @property
    def when_open(self) -> str:
        """The clerk's sentence where an app opens all the same: it never says that none does."""
        shown: str = self.sentence
        for shut in SHUT:
            shown = shown.replace(shut, CAN_SELL)
        return self._coded(shown)

    @property
    def when_shut(self) -> str:
        """The clerk's sentence where no app opens: there always is one, and it never says that one does."""
        says_so = self.sentence and CAN_SELL not in self.sentence
        return self._coded(self.sentence if says_so or self.group is Group.DONE else CANNOT_OPEN)

    def _coded(self, sentence: str) -> str:
        return f"{sentence} Code {self.code}." if sentence else ""


CAN_SELL: Final = "You can sell."
UNDONE: Final = f"The update was undone. {CAN_SELL}"
CALL: Final = "Please call support."
CANNOT_OPEN: Final = f"The till cannot open. {CALL}"
BUSY: Final = "The till is busy. Please try again in a minute."
UPDATING: Final = "The till is being updated. Please try again in a minute."
SHUT: Final = ("The till cannot open.", "The till cannot open yet.", BUSY, UPDATING)
"""What a sentence says where nothing opens; beside an app that opens all the same it would be false."""
ALLOW: Final = "A newer release will be tried by itself; `updater allow RELEASE` has this one tried again."


class OutcomeName(NamedOutcome):
    """The outcomes of a run on a database."""

    # fmt: off
    # the app may start
    UP_TO_DATE = ("UP_TO_DATE", "U-0012", Group.READY)
    CREATED = ("CREATED", "U-0011", Group.READY)
    MIGRATED = ("MIGRATED", "U-0010", Group.READY)
    # tried and undone
    MIGRATION_FAILED = (
        "MIGRATION_FAILED", "U-2001", Group.FAILED, UNDONE, "Send the report to the vendor. " + ALLOW, True,
    )
    VERIFICATION_FAILED = (
        "VERIFICATION_FAILED", "U-2002", Group.FAILED, UNDONE, "Send the report to the vendor. " + ALLOW, True,
    )
    COMMIT_FAILED = ("COMMIT_FAILED", "U-2003", Group.FAILED, UNDONE, "Check the disk. " + ALLOW, True)
    # the release does not fit
    BAD_MIGRATIONS = (
        "BAD_MIGRATIONS", "U-3009", Group.UNFIT, "", "The release's migrations are wrong: tell the vendor.", True,
    )
    HISTORY_DIFFERS = (
        "HISTORY_DIFFERS", "U-3010", Group.UNFIT, "",
        "The database's history is not this release's: ask the vendor.", True,
    )
    # nothing was changed; later
    LOCKED = (
        "LOCKED", "U-3002", Group.LATER, BUSY,
        "Find the process that has the database open.",
    )
    NO_SPACE = (
        "NO_SPACE", "U-3004", Group.LATER, f"The disk is full. {CALL}",
        "Free disk space; the report has the numbers.", True,
    )
    READ_ONLY = ("READ_ONLY", "U-3005", Group.LATER, CANNOT_OPEN, "Make the data folder writable.", True)
    CANNOT_READ = (
        "CANNOT_READ", "U-3024", Group.LATER, CANNOT_OPEN,
        "The database cannot be read now: check the disk, and the rights of this user.", True,
    )
    REHEARSAL_SKIPPED = (
        "REHEARSAL_SKIPPED", "U-3030", Group.LATER, "",
        "Free disk space if the rehearsal is wanted: nothing waits for it.",
    )
    MACHINE_PROBLEM = (
        "MACHINE_PROBLEM", "U-3025", Group.LATER, CANNOT_OPEN,
        "Something on this machine is in the way, not the release: see the cause. It is tried again by itself.", True,
    )
    # nothing was changed; not before something else changes
    TOO_NEW = (
        "TOO_NEW", "U-3001", Group.REFUSED, CANNOT_OPEN,
        "The database is newer than the program. `updater check` fetches a newer release. `dbsync downgrade --database FILE` goes back to an older schema with what was recorded since.",  # noqa: E501
        True,
    )
    DAMAGED = (
        "DAMAGED", "U-3006", Group.REFUSED, CANNOT_OPEN,
        "The database is damaged. `dbsync backups --database FILE` lists its backups. `dbsync restore BACKUP --database FILE --accept-loss` restores one and keeps the damaged file. `dbsync repair --database FILE --into NEW` reads what was recorded since.",  # noqa: E501
        True,
    )
    SCHEMA_NOT_PARSED = (
        "SCHEMA_NOT_PARSED", "U-3026", Group.REFUSED, CANNOT_OPEN,
        "The SQLite of this machine cannot parse an object in the database: the cause names both. Nothing was changed, and no backup needs to be restored. Use a newer SQLite, or have the app drop the object. If the newest SQLite cannot parse it either, its text is damaged: `dbsync repair --database FILE --into NEW` reads the rest.",  # noqa: E501
        True,
    )
    NETWORK_DRIVE = (
        "NETWORK_DRIVE", "U-3022", Group.REFUSED, "",
        "The database lies on a network drive: move it to a disk of this machine.", True,
    )
    MISSING = (
        "MISSING", "U-3007", Group.REFUSED, CANNOT_OPEN,
        "There was a database here and it is gone. Look for it first. `dbsync backups --database FILE` lists its backups. `dbsync restore BACKUP --database FILE` restores one, with --accept-loss if a later copy is kept.",  # noqa: E501
        True,
    )
    UNTRACKED = (
        "UNTRACKED", "U-3008", Group.REFUSED, CANNOT_OPEN,
        "The database's version is not known: ask the vendor.", True,
    )
    # not tried again by itself: on trial, that ends the trial
    FAILED_BEFORE = (
        "FAILED_BEFORE", "U-3023", Group.UNFIT, CANNOT_OPEN,
        "The migration failed twice in the same way and is not tried again by itself: `dbsync upgrade --again`, or a newer release.",  # noqa: E501
        True,
    )
    CANNOT_BACK_UP = (
        "CANNOT_BACK_UP", "U-3011", Group.REFUSED, "", "See the cause: without a backup nothing is migrated.", True,
    )
    # going back
    RESTORED = (
        "RESTORED", "U-2101", Group.SETTLED, UNDONE, "Nothing: nothing had been recorded since.", False,
        "the database was restored from its backup; nothing had been recorded since",
    )
    RESTORED_WITH_LOSS = (
        "RESTORED_WITH_LOSS", "U-2102", Group.LOSS, f"{UNDONE} {CALL}",
        "Records made since the backup were taken out. Enter them again from the export, or from the copy that is kept.",  # noqa: E501
        True,
        "an older database took its place; what that lacks is kept, and exported if it can be read",
    )
    CARRIED_BACK = (
        "CARRIED_BACK", "U-2108", Group.SETTLED, UNDONE,
        "Nothing: what was recorded since was carried back, with proof; the newer database is kept.", True,
        "everything recorded since was carried back, with proof; the newer database is kept",
    )
    KEPT = (
        "KEPT", "U-2103", Group.SETTLED, UNDONE, "Nothing: the older version works on the database as it is.", False,
        "the database stayed as it is; the older version works on it",
    )
    STAYS = (
        "STAYS", "U-2104", Group.PERSON, f"{CAN_SELL} {CALL}",
        "The database cannot go back without loss. `updater rollback --dry-run` shows what would be lost. `updater rollback --accept-loss` goes back all the same.",  # noqa: E501
        True,
        "the database cannot go back without loss, so the newer version goes on",
    )
    NOTHING_TO_RESTORE = ("NOTHING_TO_RESTORE", "U-2107", Group.SETTLED)
    RESTORE_PENDING = (
        "RESTORE_PENDING", "U-2105", Group.LATER, f"The till cannot open yet. {CALL}",
        "See the cause. The next start of the till tries again. `updater status` names what is unfinished.",
        True,
    )
    BACKUP_UNUSABLE = (
        "BACKUP_UNUSABLE", "U-2106", Group.REFUSED, CANNOT_OPEN,
        "`dbsync backups --database FILE` lists the backups. `updater rollback --backup BACKUP` restores another one.",
        True,
    )
    # fmt: on
