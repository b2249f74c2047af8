"""Outcomes of a terminal, except those of its database, one entry each, in the form of `dbsync.outcomes`."""

from __future__ import annotations

from dbsync.outcomes import ALLOW, CALL, CANNOT_OPEN, UNDONE, UPDATING, Group, NamedOutcome, OutcomeName


class TerminalOutcome(NamedOutcome):
    """Outcome of a command, a cycle of the agent, a launch or a trial."""

    # fmt: off
    # nothing is wrong
    NOTHING_NEW = ("NOTHING_NEW", "U-0001", Group.DONE)
    STAGED = ("STAGED", "U-0002", Group.DONE)
    SWAPPED = ("SWAPPED", "U-0003", Group.DONE, "", "It starts at the next launch.")
    WAITING = ("WAITING", "U-0004", Group.DONE)
    ON_TRIAL = (
        "ON_TRIAL", "U-0005", Group.DONE, "", "Wait until the app has confirmed or the trial was given up.",
    )
    CONFIRMED = ("CONFIRMED", "U-0006", Group.DONE)
    APP_ENDED = ("APP_ENDED", "U-0007", Group.DONE)
    CLOSED_UNCONFIRMED = (
        "CLOSED_UNCONFIRMED", "U-0008", Group.DONE, "", "The app was closed before it confirmed; its trial goes on.",
    )
    ALREADY_RUNNING = ("ALREADY_RUNNING", "U-0009", Group.DONE, "The till is open already.")
    INSTALLED = ("INSTALLED", "U-0013", Group.DONE)
    ROLLED_BACK = (
        "ROLLED_BACK", "U-0014", Group.DONE, "",
        "A person went back; what was replaced is kept beside the database.", True,
    )
    ROLLED_BACK_WITH_LOSS = (
        "ROLLED_BACK_WITH_LOSS", "U-2109", Group.LOSS, "",
        "A person went back and agreed to a loss: enter what is missing again from the copy that is kept.", True,
    )
    REJECTED_HERE = ("REJECTED_HERE", "U-0015", Group.DONE, "", ALLOW)
    UNSTAGED = ("UNSTAGED", "U-0016", Group.DONE)
    ALLOWED = ("ALLOWED", "U-0017", Group.DONE)
    NOT_ASKED = ("NOT_ASKED", "U-0018", Group.DONE)
    ANOTHER_AGENT = ("ANOTHER_AGENT", "U-0019", Group.DONE)
    AGENT_SWAPPED = (
        "AGENT_SWAPPED", "U-0020", Group.DONE, "", "It starts on trial when the service starts its agent again.",
    )
    AGENT_CONFIRMED = ("AGENT_CONFIRMED", "U-0021", Group.DONE)
    # looking and staging
    OFFLINE = ("OFFLINE", "U-1001", Group.LATER, "", "Check the network; nothing else is needed.")
    SERVER_WRONG = (
        "SERVER_WRONG", "U-1002", Group.LATER, "",
        "Something other than the vendor's server answered: check proxy, portal, URL.",
    )
    SERVER_BUSY = (
        "SERVER_BUSY", "U-1041", Group.LATER, "",
        "The vendor's server is overloaded or closed for now. It is asked again by itself.",
    )
    REFUSED = (
        "REFUSED", "U-1003", Group.REFUSED, "",
        "The repository did not pass verification: tell the release engineer.", True,
    )
    CLOCK_SUSPECT = ("CLOCK_SUSPECT", "U-1004", Group.REFUSED, "", "Set this terminal's clock.", True)
    TRUST_LOST = (
        "TRUST_LOST", "U-1031", Group.REFUSED, "",
        "Get the vendor's root.json on a way you trust and run `updater trust reset --root FILE`.", True,
    )
    TRUST_RESET = (
        "TRUST_RESET", "U-1032", Group.DONE, "",
        "A person made this terminal trust a root again: make sure that it is the vendor's.", True,
    )
    NEEDS_NEWER_AGENT = (
        "NEEDS_NEWER_AGENT", "U-1033", Group.REFUSED, "",
        "Update Tillkeeper on this terminal; the next cycle takes the release.", True,
    )
    RELEASE_MALFORMED = (
        "RELEASE_MALFORMED", "U-1034", Group.REFUSED, "",
        "The release is signed and cannot be used: tell the release engineer. Older releases still work.", True,
    )
    INTERPRETER_UNKNOWN = (
        "INTERPRETER_UNKNOWN", "U-1035", Group.REFUSED, "",
        "Add the role under [interpreters] in the settings (when installing: --interpreter ROLE=PATH); the next cycle takes the release.", True,
    )
    PAUSED_BY_VENDOR = (
        "PAUSED_BY_VENDOR", "U-1051", Group.DONE, "", "Wait: the vendor resumes updates. Nothing is wrong here.",
    )
    WITHDRAWN = (
        "WITHDRAWN", "U-1052", Group.PERSON, "",
        "The vendor withdrew the release that runs here, and has no newer one: ask the vendor. `updater rollback --dry-run` shows the way back.",
        True,
    )
    STEERING_REFUSED = (
        "STEERING_REFUSED", "U-1053", Group.REFUSED, "",
        "What the vendor says about which release to run cannot be followed: tell the release engineer. This terminal stays as it is.",
        True,
    )
    WAITS_FOR_AGENT = (
        "WAITS_FOR_AGENT", "U-1061", Group.LATER, "", "Wait: a newer agent is signed, and comes first by itself.",
    )
    AGENT_UNPROVEN = (
        "AGENT_UNPROVEN", "U-1062", Group.LATER, "",
        "Wait: the agent on trial tries again, and the one before comes back by itself if it cannot confirm.",
    )
    AGENT_LATER = ("AGENT_LATER", "U-1063", Group.LATER, "", "It is tried again by itself.")
    AGENT_REFUSED = (
        "AGENT_REFUSED", "U-1064", Group.REFUSED, "",
        "A release of the agent cannot run here, and the agent before runs on: send the report to the vendor. `updater allow RELEASE` has this one tried again.", True,
    )
    AGENT_WENT_BACK = (
        "AGENT_WENT_BACK", "U-1065", Group.FAILED, "",
        "The agent before runs again, and the till is not touched: send the report to the vendor. `updater allow RELEASE` has this one tried again.", True,
    )
    AGENT_LAUNCHER = (
        "AGENT_LAUNCHER", "U-1066", Group.FAILED, "",
        "The till opens with the launcher before: send the report to the vendor. A newer kit ends this.", True,
    )
    PATH_TOO_LONG = (
        "PATH_TOO_LONG", "U-1067", Group.REFUSED, "",
        "A file of the release would have too long a path on this terminal: install it below a shorter folder, or tell the vendor. Older releases still work.",
        True,
    )
    TIMED_OUT = ("TIMED_OUT", "U-1005", Group.LATER, "", "The link was too slow; the download resumes where it stopped.")
    STAGING_LATER = ("STAGING_LATER", "U-1006", Group.LATER, "", "It is tried again by itself.")
    PACK_UNUSABLE = (
        "PACK_UNUSABLE", "U-1043", Group.DONE, "",
        "Nothing is needed here: another form of the same release was used. Tell the release engineer which file it was.", True,
    )
    STAGING_REFUSED = (
        "STAGING_REFUSED", "U-1007", Group.REFUSED, "",
        "The release is damaged as signed: tell the release engineer.", True,
    )
    CYCLE_FAILED = ("CYCLE_FAILED", "U-1008", Group.LATER, "", "See the cause; the agent tries again.")
    JOURNAL_REBUILT = (
        "JOURNAL_REBUILT", "U-1009", Group.DONE, "", "Check the disk: a state file was damaged.", True,
    )
    TROUBLE = ("TROUBLE", "U-1010", Group.LATER, "", "Something on this machine is in the way: see the cause.", True)
    NEEDS_NEWER_SQLITE = (
        "NEEDS_NEWER_SQLITE", "U-1011", Group.REFUSED, "",
        "The newest release needs a newer SQLite than the agent's Python has. Update that Python; the next cycle takes the release.",
        True,
    )
    BACKUP_NOT_MADE = (
        "BACKUP_NOT_MADE", "U-1012", Group.LATER, "",
        "See the cause; it is tried again every hour. `dbsync backup --keep POLICY --database FILE` tries it now.", True,
    )
    BACKUP_ROTTEN = (
        "BACKUP_ROTTEN", "U-1013", Group.FAILED, "",
        "Check the disk. A new backup was made; `dbsync backups --database FILE` lists them all.", True,
    )
    SECOND_PLACE_AWAY = (
        "SECOND_PLACE_AWAY", "U-1014", Group.LATER, "",
        "Connect the disk or the share of the second place; what is missing there is copied by itself.",
    )
    CHOICE_REFUSED = (
        "CHOICE_REFUSED", "U-1015", Group.REFUSED, "",
        "A rollback that the till's account decided does not hold: see the cause. `updater rollback --dry-run` shows the way back.",
        True,
    )
    URGENT_RETRIED = (
        "URGENT_RETRIED", "U-1016", Group.DONE, "",
        "The release is urgent, and only the till's account gave it up: see why it failed here.", True,
    )
    LOCK_HELD = (
        "LOCK_HELD", "U-1019", Group.LATER, UPDATING,
        "A process keeps the lock of the state files and does not end: the cause names it. End it, or restart this terminal.",
        True,
    )
    TRIAL_STALLED = (
        "TRIAL_STALLED", "U-1017", Group.LATER, "",
        "Start the till in the update window and look at `updater status`: the trial has no end, and no update follows it.",
        True,
    )
    UNSAFE_RIGHTS = (
        "UNSAFE_RIGHTS", "U-1020", Group.REFUSED, "",
        "Another account can replace what the agent trusts: `updater doctor` names each folder and the command that repairs it.",
        True,
    )
    FILES_KEPT = (
        "FILES_KEPT", "U-1021", Group.DONE, "",
        "The app kept files beside its program. They were moved before the version was removed: copy what is needed into the data folder, and tell the vendor.",
        True,
    )
    NEW_TERMINAL_ID = (
        "NEW_TERMINAL_ID", "U-1022", Group.DONE, "",
        "This terminal is a copy of another one and has its own id from now on. If its disk was only moved to another machine, the cause names the id that it had.",
        True,
    )
    TILL_FILE_REFUSED = (
        "TILL_FILE_REFUSED", "U-1018", Group.REFUSED, "",
        "A file in the shared folder is none of ours: another program of the till's account made it. Remove it, see why.",
        True,
    )
    # trials that ended; the old version sells
    APP_FAILED = (
        "APP_FAILED", "U-2004", Group.FAILED, UNDONE, "Send the report to the vendor. " + ALLOW, True,
    )
    NEVER_CONFIRMED = ("NEVER_CONFIRMED", "U-2005", Group.FAILED, UNDONE, ALLOW, True)
    CONFIRM_OVERDUE = (
        "CONFIRM_OVERDUE", "U-2006", Group.FAILED, UNDONE, "Send the report to the vendor. " + ALLOW, True,
    )
    ATTEMPTS_SPENT = ("ATTEMPTS_SPENT", "U-2007", Group.FAILED, UNDONE, ALLOW, True)
    INTERRUPTED = (
        "INTERRUPTED", "U-2008", Group.FAILED, UNDONE, "Check this terminal's power. " + ALLOW, True,
    )
    TRIAL_LOST = ("TRIAL_LOST", "U-2009", Group.FAILED, UNDONE, "Check the disk. " + ALLOW, True)
    PERSON = ("PERSON", "U-2010", Group.DONE)
    # no release can start
    BUSY = ("BUSY", "U-3003", Group.LATER, UPDATING)
    NOT_PREPARED = ("NOT_PREPARED", "U-3012", Group.REFUSED, CANNOT_OPEN, "See the report before this one.", True)
    NOTHING_INSTALLED = ("NOTHING_INSTALLED", "U-3013", Group.REFUSED, CANNOT_OPEN, "Run `updater install`.", True)
    ALL_REJECTED = (
        "ALL_REJECTED", "U-3014", Group.PERSON, CANNOT_OPEN,
        "`updater status` lists the rejected releases. `updater allow RELEASE` lifts a rejection.", True,
    )
    FOLDER_MISSING = (
        "FOLDER_MISSING", "U-3015", Group.REFUSED, CANNOT_OPEN,
        "`updater check` fetches it again. `updater rollback` goes back to another release.", True,
    )
    APP_WILL_NOT_END = (
        "APP_WILL_NOT_END", "U-3016", Group.PERSON, "Please restart this terminal.",
        "A process of the app does not end.", True,
    )
    GOES_IN_CIRCLES = (
        "GOES_IN_CIRCLES", "U-3017", Group.PERSON, CANNOT_OPEN, "Send all state files to the developers.", True,
    )
    CANNOT_START = ("CANNOT_START", "U-3018", Group.REFUSED, CANNOT_OPEN, "See the cause.", True)
    RELEASE_FAILS = (
        "RELEASE_FAILS", "U-3019", Group.PERSON, CALL,
        "A confirmed release does not start any more: `updater rollback --dry-run` shows the way back.", True,
    )
    BAD_SETTINGS = ("BAD_SETTINGS", "U-3020", Group.REFUSED, CANNOT_OPEN, "Fix the settings file.", True)
    STATE_NOT_WRITABLE = (
        "STATE_NOT_WRITABLE", "U-3021", Group.LATER, CANNOT_OPEN, "Make room and make the state folder writable.",
    )
    UNFIT_PLACE = (
        "UNFIT_PLACE", "U-3041", Group.REFUSED, "",
        "A folder cannot be where it should be: see the cause, and give another one. `updater doctor` names what does not fit on an installed terminal.",
        True,
    )
    # commands of people
    REFUSED_COMMAND = ("REFUSED_COMMAND", "U-4001", Group.REFUSED)
    # for a name in a state file or a report that this release does not know
    UNKNOWN = ("UNKNOWN", "U-9999", Group.PERSON, CALL, "This outcome is not known here.", True)
    # fmt: on


def named(name: str) -> NamedOutcome:
    """Return the outcome with that name in state files; UNKNOWN for a name that only another release knows."""
    for table in (OutcomeName, TerminalOutcome):
        if name in table.__members__:
            return table.__members__[name]
    return TerminalOutcome.UNKNOWN


def done_sentence(outcome: NamedOutcome, *, good_version: str) -> str:
    """Return the sentence that says what was done about a given-up trial."""
    if outcome is OutcomeName.STAYS:
        return outcome.done
    return f"{outcome.done or 'nothing was changed'}; {good_version} starts"
