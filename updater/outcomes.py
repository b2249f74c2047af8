"""Every outcome: its name, its code, the command's exit status, the clerk's sentence, and support's next step."""

from __future__ import annotations

from typing import Final, NamedTuple


class Meaning(NamedTuple):
    """What an outcome means to whom."""

    code: str
    """Read out over the telephone."""
    exit_code: int
    """Exit status of a command that ends with it; 0 where nothing is wrong."""
    clerk: str
    """One calm sentence, or nothing."""
    next_step: str
    """For the support engineer."""
    alarm: bool = False
    """Whether a report goes to the outbox."""


_UNDONE: Final = "The update was undone. You can sell."
_CALL: Final = "Please call support."
_ALLOW: Final = "A newer release will be tried by itself; `updater allow RELEASE` has this one tried again."

OUTCOMES: Final[dict[str, Meaning]] = {
    # nothing is wrong
    "NOTHING_NEW": Meaning("U-0001", 0, "", ""),
    "STAGED": Meaning("U-0002", 0, "", ""),
    "SWAPPED": Meaning("U-0003", 0, "", "It starts at the next launch."),
    "WAITING": Meaning("U-0004", 0, "", ""),
    "ON_TRIAL": Meaning("U-0005", 0, "", "Wait until the app has confirmed or the trial was given up."),
    "CONFIRMED": Meaning("U-0006", 0, "", ""),
    "APP_ENDED": Meaning("U-0007", 0, "", ""),
    "CLOSED_UNCONFIRMED": Meaning("U-0008", 0, "", "The app was closed before it confirmed; its trial goes on."),
    "ALREADY_RUNNING": Meaning("U-0009", 0, "The till is open already.", ""),
    "MIGRATED": Meaning("U-0010", 0, "", ""),
    "CREATED": Meaning("U-0011", 0, "", ""),
    "UP_TO_DATE": Meaning("U-0012", 0, "", ""),
    "INSTALLED": Meaning("U-0013", 0, "", ""),
    "ROLLED_BACK": Meaning("U-0014", 0, "", "A person went back; what was replaced is kept beside the database.", True),
    "REJECTED_HERE": Meaning("U-0015", 0, "", _ALLOW),
    "UNSTAGED": Meaning("U-0016", 0, "", ""),
    "ALLOWED": Meaning("U-0017", 0, "", ""),
    "ANOTHER_AGENT": Meaning("U-0019", 0, "", ""),
    "NOT_ASKED": Meaning("U-0018", 0, "", ""),
    # looking and staging
    "OFFLINE": Meaning("U-1001", 10, "", "Check the network; nothing else is needed."),
    "SERVER_WRONG": Meaning("U-1002", 11, "", "Something other than the vendor's server answered: check proxy, portal, URL."),
    "REFUSED": Meaning("U-1003", 12, "", "The repository did not pass verification: tell the release engineer.", True),
    "CLOCK_SUSPECT": Meaning("U-1004", 13, "", "Set this terminal's clock.", True),
    "TIMED_OUT": Meaning("U-1005", 14, "", "The link was too slow; it goes on where it stopped."),
    "STAGING_LATER": Meaning("U-1006", 15, "", "It is tried again by itself."),
    "STAGING_REFUSED": Meaning("U-1007", 16, "", "The release is damaged as signed: tell the release engineer.", True),
    "TROUBLE": Meaning("U-1010", 18, "", "Something on this machine is in the way: see the cause.", True),
    "CYCLE_FAILED": Meaning("U-1008", 17, "", "See the cause; the agent tries again."),
    "JOURNAL_REBUILT": Meaning("U-1009", 0, "", "Check the disk: a state file was damaged.", True),
    # trials that ended; the old version sells
    "MIGRATION_FAILED": Meaning("U-2001", 20, _UNDONE, "Send the report to the vendor. " + _ALLOW, True),
    "VERIFICATION_FAILED": Meaning("U-2002", 21, _UNDONE, "Send the report to the vendor. " + _ALLOW, True),
    "COMMIT_FAILED": Meaning("U-2003", 22, _UNDONE, "Check the disk. " + _ALLOW, True),
    "APP_FAILED": Meaning("U-2004", 23, _UNDONE, "Send the report to the vendor. " + _ALLOW, True),
    "NEVER_CONFIRMED": Meaning("U-2005", 24, _UNDONE, _ALLOW, True),
    "CONFIRM_OVERDUE": Meaning("U-2006", 25, _UNDONE, "Send the report to the vendor. " + _ALLOW, True),
    "ATTEMPTS_SPENT": Meaning("U-2007", 26, _UNDONE, _ALLOW, True),
    "INTERRUPTED": Meaning("U-2008", 27, _UNDONE, "Check this terminal's power. " + _ALLOW, True),
    "TRIAL_LOST": Meaning("U-2009", 28, _UNDONE, "Check the disk. " + _ALLOW, True),
    "PERSON": Meaning("U-2010", 0, "", ""),
    # what became of the database
    "RESTORED": Meaning("U-2101", 0, _UNDONE, "Nothing: nothing had been recorded since."),
    "RESTORED_WITH_LOSS": Meaning(
        "U-2102", 29, "The update was undone. You can sell. " + _CALL,
        "Records made by the undone version were taken out; enter them again from the export.", True,
    ),
    "CARRIED_BACK": Meaning(
        "U-2108", 0, _UNDONE, "Nothing: what was recorded since was carried back, with proof; the newer database is kept.", True,
    ),
    "KEPT": Meaning("U-2103", 0, _UNDONE, "Nothing: the older version works on the database as it is."),
    "STAYS": Meaning(
        "U-2104", 30, "You can sell. " + _CALL,
        "The database cannot go back without loss: decide with `updater rollback --dry-run`.", True,
    ),
    "RESTORE_PENDING": Meaning("U-2105", 31, "The till cannot open yet. " + _CALL, "See the cause; the next start goes on.", True),
    "BACKUP_UNUSABLE": Meaning("U-2106", 32, "The till cannot open. " + _CALL, "Choose another backup: `updater rollback`.", True),
    "NOTHING_TO_RESTORE": Meaning("U-2107", 0, "", ""),
    # nothing can start
    "TOO_NEW": Meaning(
        "U-3001", 40, "The till cannot open. " + _CALL,
        "The database is newer than the program: update, or restore an older backup with `updater rollback`.", True,
    ),
    "LOCKED": Meaning("U-3002", 41, "The till is busy. Please try again in a minute.", "Find the process that has the database open."),
    "BUSY": Meaning("U-3003", 42, "The till is being updated. Please try again in a minute.", ""),
    "NO_SPACE": Meaning("U-3004", 43, "The disk is full. " + _CALL, "Free disk space; the report has the numbers.", True),
    "READ_ONLY": Meaning("U-3005", 44, "The till cannot open. " + _CALL, "Make the data folder writable.", True),
    "DAMAGED": Meaning("U-3006", 45, "The till cannot open. " + _CALL, "The database is damaged: `updater rollback` lists backups.", True),
    "NETWORK_DRIVE": Meaning(
        "U-3022", 61, "", "The database lies on a network drive: move it to a disk of this machine.", True,
    ),
    "MISSING": Meaning(
        "U-3007", 46, "The till cannot open. " + _CALL,
        "There was a database here and it is gone: look for it, or restore a backup with `updater rollback`.", True,
    ),
    "UNTRACKED": Meaning("U-3008", 47, "The till cannot open. " + _CALL, "The database's version is not known: ask the vendor.", True),
    "BAD_MIGRATIONS": Meaning("U-3009", 48, "", "The release's migrations are wrong: tell the vendor.", True),
    "HISTORY_DIFFERS": Meaning("U-3010", 49, "", "The database's history is not this release's: ask the vendor.", True),
    "FAILED_BEFORE": Meaning("U-3023", 62, "The till cannot open. " + _CALL, "The migration failed twice in the same way and is not tried again by itself: `dbsync upgrade --again`, or a newer release.", True),
    "CANNOT_BACK_UP": Meaning("U-3011", 50, "", "See the cause: without a backup nothing is migrated.", True),
    "NOT_PREPARED": Meaning("U-3012", 51, "The till cannot open. " + _CALL, "See the report before this one.", True),
    "NOTHING_INSTALLED": Meaning("U-3013", 52, "The till cannot open. " + _CALL, "Run `updater install`.", True),
    "ALL_REJECTED": Meaning("U-3014", 53, "The till cannot open. " + _CALL, "`updater allow` lifts a rejection.", True),
    "FOLDER_MISSING": Meaning("U-3015", 54, "The till cannot open. " + _CALL, "`updater check` fetches it again; or roll back.", True),
    "APP_WILL_NOT_END": Meaning("U-3016", 55, "Please restart this terminal.", "A process of the app does not end.", True),
    "GOES_IN_CIRCLES": Meaning("U-3017", 56, "The till cannot open. " + _CALL, "Send all state files to the developers.", True),
    "CANNOT_START": Meaning("U-3018", 57, "The till cannot open. " + _CALL, "See the cause.", True),
    "RELEASE_FAILS": Meaning(
        "U-3019", 58, _CALL, "A confirmed release does not start any more: `updater rollback --dry-run` shows the way back.", True,
    ),
    "BAD_SETTINGS": Meaning("U-3020", 59, "The till cannot open. " + _CALL, "Mend the settings file.", True),
    "STATE_NOT_WRITABLE": Meaning("U-3021", 60, "The till cannot open. " + _CALL, "Make room and make the state folder writable."),
    # commands of people
    "REFUSED_COMMAND": Meaning("U-4001", 2, "", ""),
}  # fmt: skip


def meaning(outcome: str) -> Meaning:
    """What an outcome means; one without an entry is a mistake of ours and says so."""
    return OUTCOMES.get(outcome, Meaning("U-9999", 99, "Please call support.", f"outcome {outcome} is not known", True))


def exit_code(outcome: str) -> int:
    """The exit status of a command that ends with this outcome."""
    return meaning(outcome).exit_code


def clerk_sentence(outcome: str) -> str:
    """What the clerk reads: one calm sentence with the code, or nothing."""
    found = meaning(outcome)
    return f"{found.clerk} Code {found.code}." if found.clerk else ""


def done_sentence(outcome: str, good_version: str) -> str:
    """What was done about a trial that was given up."""
    what = {
        "RESTORED": "the database was restored from its backup; nothing had been recorded since",
        "CARRIED_BACK": "everything recorded since was carried back, with proof; the newer database is kept",
        "RESTORED_WITH_LOSS": "the database was put aside and the backup restored; what was recorded since is exported",
        "KEPT": "the database stayed as it is; the older version works on it",
        "STAYS": "the database cannot go back without loss, so the newer version goes on",
    }.get(outcome, "nothing was changed")
    return f"{what}; {good_version} starts" if outcome != "STAYS" else what
