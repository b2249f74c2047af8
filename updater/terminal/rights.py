"""Owners, groups and modes of a terminal's folders and files: what they must be, what they are, and how they are set.

With two accounts the agent's folders belong to the agent, and the till's account reads them; the till's folders belong
to the till, and the agent trusts nothing in them. With one account for everything only what is open to others is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.errors import Refused, disk_problem, place_of
from dbsync.storage.platform import this_platform
from dbsync.storage.platform.base import Account
from updater.errors import SettingsError, UnsafeRights
from updater.host import this_host
from updater.host.base import Entry, Host, Rights
from updater.settings import Settings

OPEN_FOLDER: Final = 0o755
OPEN_FILE: Final = 0o644
CLOSED_FOLDER: Final = 0o700
GROUP_FOLDER: Final = 0o2770
"""New files get the group of the folder, not that of the account that makes them."""
GROUP_FILE: Final = 0o660
LOCK_FILE: Final = 0o666
"""A lock is taken by opening the file for writing; it has no content."""
WRITABLE_BY_OTHERS: Final = 0o022
STICKY: Final = 0o1000
AGENTS_FOLDERS: Final = ("proofs", "rejected", "issued", "verdicts")
AGENTS_FILES: Final = ("journal.json", "moment.json", "layout.json", "unusable.json")


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Something does not work, or an account that is not trusted can replace what is."""
    WARNING = "warning"
    """It works, and should be changed."""
    NOTE = "note"
    """Nothing to do; a person should know."""


class Finding(NamedTuple):
    """One problem of a terminal: the object, its cause, and a command that repairs it."""

    severity: Severity
    object: str
    """A path, or what else the finding is about."""
    cause: str
    """What it is, and what it should be."""
    command: str = ""
    """A command to paste; empty if there is nothing to do."""


class Accounts(NamedTuple):
    """The numbers of the accounts of a terminal."""

    agent: int
    agent_group: int
    till: int | None = None
    """None: one account does everything."""
    till_group: int | None = None
    """The group of the till's files."""
    shared_by_group: bool = False
    """Whether several accounts run the app, all members of that group."""


class Wanted(NamedTuple):
    """Rights that an entry must have."""

    path: Path
    anchor: Path
    """A folder above it: nobody but the owner of the terminal can replace an entry between the two."""
    rights: Rights
    """What a repair gives it."""
    least: int
    """Bits of the mode that it must have."""
    most: int
    """Bits of the mode that it may have."""
    severity: Severity = Severity.WARNING
    """How bad another owner, or a bit too many, is."""
    required: bool = False
    """Whether it is a finding if it is missing."""
    any_owner: bool = False


class Unreadable(NamedTuple):
    """An entry whose rights this account cannot read."""

    cause: str


Seen = Rights | Unreadable | None
"""What was found under a path; None if it is missing."""


# -------------------------------------------------------------------------------------------------------------- values


def wanted(settings: Settings, accounts: Accounts) -> tuple[Wanted, ...]:
    """Return what the folders and files of a terminal must be, the outer ones first."""
    if accounts.till is None:
        return tuple(_of_one_account(settings, accounts))
    return (*_of_the_agent(settings, accounts), *_of_the_till(settings, accounts))


def _of_one_account(settings: Settings, accounts: Accounts) -> Iterator[Wanted]:
    """Yield the folders of an account that does everything: other accounts must not write them.

    The group may, because on many systems it is the account's own. Nothing here stops the agent.
    """

    def folder(path: Path, mode: int, *, most: int = 0o2775) -> Wanted:
        rights = Rights(Entry.FOLDER, accounts.agent, accounts.agent_group, mode)
        return Wanted(path, path.parent, rights, 0o700, most, any_owner=True)

    yield folder(settings.program, OPEN_FOLDER)
    yield folder(settings.state, OPEN_FOLDER)
    yield folder(settings.private, CLOSED_FOLDER, most=CLOSED_FOLDER)
    yield folder(settings.shared, CLOSED_FOLDER)


def _of_the_agent(settings: Settings, accounts: Accounts) -> Iterator[Wanted]:
    """Yield what the agent alone writes: another owner, or a right to write for others, is an error."""
    state, program = settings.state, settings.program

    def exactly(path: Path, anchor: Path, entry: Entry, mode: int, *, required: bool = False) -> Wanted:
        rights = Rights(entry, accounts.agent, accounts.agent_group, mode)
        return Wanted(path, anchor, rights, mode, mode, Severity.ERROR, required)

    for path in (program, state):
        yield exactly(path, path.parent, Entry.FOLDER, OPEN_FOLDER, required=True)
    yield exactly(program / "versions", program, Entry.FOLDER, OPEN_FOLDER)
    yield exactly(settings.private, state, Entry.FOLDER, CLOSED_FOLDER, required=True)
    yield exactly(settings.trust, state, Entry.FOLDER, CLOSED_FOLDER)
    yield exactly(state / "terminal.lock", state, Entry.FILE, LOCK_FILE, required=True)
    for name in AGENTS_FOLDERS:
        yield exactly(state / name, state, Entry.FOLDER, OPEN_FOLDER)
    for name in AGENTS_FILES:
        yield exactly(state / name, state, Entry.FILE, OPEN_FILE)
    yield exactly(settings.path, settings.path.parent, Entry.FILE, OPEN_FILE, required=True)


def _of_the_till(settings: Settings, accounts: Accounts) -> Iterator[Wanted]:
    """Yield what the till writes; the agent trusts none of it, so a mistake here only stops the till."""
    assert accounts.till is not None
    group = accounts.till_group if accounts.till_group is not None else accounts.agent_group
    shared = accounts.shared_by_group
    folder_mode, file_mode = (GROUP_FOLDER, GROUP_FILE) if shared else (CLOSED_FOLDER, 0o600)

    def of_till(path: Path, anchor: Path, entry: Entry, *, most: int, required: bool = False) -> Wanted:
        mode = folder_mode if entry is Entry.FOLDER else file_mode
        rights = Rights(entry, accounts.till or 0, group, mode)
        return Wanted(path, anchor, rights, mode, most | mode, required=required)

    # Its owner opens it as far as he likes, but not for everybody to write.
    yield of_till(settings.shared, settings.shared.parent, Entry.FOLDER, most=0o2750, required=True)
    for path in (settings.data, settings.backups):
        yield of_till(path, path.parent, Entry.FOLDER, most=0o2755, required=path == settings.data)
    yield of_till(settings.database, settings.database.parent, Entry.FILE, most=0o664)


def findings(needed: tuple[Wanted, ...], seen: Mapping[Path, Seen], *, host: Host | None = None) -> tuple[Finding, ...]:
    """Compare what is needed with what was seen; return a finding for each difference, with its command.

    `host` gives names to numbers and makes the commands.
    """
    known = host or this_host()
    found = (_finding(item, seen.get(item.path), known) for item in needed)
    return tuple(finding for finding in found if finding is not None)


def _finding(item: Wanted, seen: Seen, host: Host) -> Finding | None:
    path, rights = item.path, item.rights
    if isinstance(seen, Unreadable):
        return Finding(
            item.severity, str(path), f"its rights cannot be read: {seen.cause}", host.elevated("updater doctor")
        )
    if seen is None:
        if not item.required:
            return None
        command = host.rights_command(path, rights, found=None)
        return Finding(Severity.ERROR, str(path), f"it is missing; it must be {_words(rights, host)}", command)
    cause = _difference(item, seen, host)
    if not cause:
        return None
    # What is missing to its owner stops something; what is too much is as bad as its severity.
    lacks = seen.entry is not rights.entry or bool(item.least & ~seen.mode)
    severity = Severity.ERROR if lacks else item.severity
    return Finding(severity, str(path), cause, host.rights_command(path, rights, found=seen))


def _difference(item: Wanted, seen: Rights, host: Host) -> str:
    """Return how an entry differs from what is needed, in words; empty if it does not."""
    rights = item.rights
    if seen.entry is not rights.entry:
        return f"it is a {seen.entry}; it must be a {rights.entry}"
    if seen.entry is Entry.FILE and seen.names_count != 1:
        return f"the file has {seen.names_count} names; it must have one"
    parts = []
    if not item.any_owner and seen.user != rights.user:
        parts.append(f"its owner is {host.account_name(seen.user)}, not {host.account_name(rights.user)}")
    group_writes = (item.least | seen.mode) & 0o020 and not item.least & 0o002 and not item.any_owner
    if (group_writes or (item.rights.mode & 0o020 and item.any_owner)) and seen.group != rights.group:
        parts.append(f"its group is {host.group_name(seen.group)}, not {host.group_name(rights.group)}")
    if item.least & ~seen.mode or seen.mode & ~item.most:
        parts.append(f"its mode is {seen.mode:04o}, not {rights.mode:04o}")
    return "; ".join(parts)


def _words(rights: Rights, host: Host) -> str:
    return (
        f"a {rights.entry} of {host.account_name(rights.user)}:{host.group_name(rights.group)}"
        f" with mode {rights.mode:04o}"
    )


def replaceable(path: Path, above: Mapping[Path, Seen], *, trusted: frozenset[int]) -> str:
    """Return why an account that is not trusted can replace `path`, in words; empty if none can.

    Args:
        path: an entry that only trusted accounts may replace.
        above: what was seen under each folder above it.
        trusted: the accounts that may, as numbers.
    """
    for folder in path.parents:
        seen = above.get(folder)
        if not isinstance(seen, Rights) or seen.entry is Entry.LINK:
            continue
        if seen.user not in trusted:
            return f"the folder {folder} above it belongs to another account"
        if seen.mode & WRITABLE_BY_OTHERS and not seen.mode & STICKY:
            return f"the folder {folder} above it can be written by others (mode {seen.mode:04o})"
    return ""


# ------------------------------------------------------------------------------------------------------------- effects


def accounts_of(settings: Settings) -> Accounts:
    """Return the numbers of the accounts in the settings; the agent's is the owner of the state folder.

    Raises:
        SettingsError: the settings name an account or a group that this machine does not have.
    """
    own = this_platform().own_account()
    state = look(settings.state)
    agent, agent_group = (state.user, state.group) if isinstance(state, Rights) else (own.user, own.group)
    if not settings.till_user:
        return Accounts(agent, agent_group)
    till = till_account(settings)
    if agent == till.user and this_platform().is_privileged:
        # The clerk's account may have made the folder: then it is to be taken from it.
        agent, agent_group = own.user, own.group
    group = _group_of(settings, till)
    return Accounts(agent, agent_group, till.user, group, bool(settings.till_group))


def till_account(settings: Settings) -> Account:
    """Return the account of the till in the settings.

    Raises:
        SettingsError: this machine does not have it.
    """
    found = this_platform().account(settings.till_user)
    if found is None:
        raise SettingsError(
            operation="use the settings", path=settings.path,
            cause=f"accounts.till: this machine has no account {settings.till_user}",
            hint=f"Make the account, or name another one: {_install_hint()}",
        )  # fmt: skip
    return found


def _group_of(settings: Settings, till: Account) -> int:
    if not settings.till_group:
        return till.group
    found = this_host().group(settings.till_group)
    if found is None:
        raise SettingsError(
            operation="use the settings", path=settings.path,
            cause=f"accounts.group: this machine has no group {settings.till_group}",
            hint=f"Make the group, or name another one: {_install_hint()}",
        )  # fmt: skip
    if found not in till.groups:
        raise SettingsError(
            operation="use the settings", path=settings.path,
            cause=f"accounts.group: {till.name} is not a member of the group {settings.till_group}",
            hint=f"Add it: `{this_host().elevated(f'usermod -aG {settings.till_group} {till.name}')}`.",
        )  # fmt: skip
    return found


def _install_hint() -> str:
    return "`updater install --change --till-user NAME` with the options of the installation."


def look(path: Path) -> Seen:
    """Return the rights of an entry; a link is not followed."""
    try:
        return this_host().rights_of(path)
    except OSError as cause:
        return Unreadable(cause.strerror or str(cause))


def check_at_start(settings: Settings) -> tuple[Finding, ...]:
    """Return what is wrong with the rights of a terminal, by one look at each folder and file of the agent.

    It opens nothing and reads no folder, so the agent runs it at every start. A finding whose severity is ERROR means
    that the agent must not act.

    Raises:
        SettingsError: the settings name an account that does not exist.
    """
    host = this_host()
    if not host.has_accounts:
        return ()
    accounts = accounts_of(settings)
    needed = wanted(settings, accounts)
    found = list(findings(needed, {item.path: look(item.path) for item in needed}))
    if accounts.till is not None:
        found += _above(settings, accounts)
        found += _own(settings, accounts)
    return tuple(found)


def _above(settings: Settings, accounts: Accounts) -> Iterator[Finding]:
    trusted = frozenset({0, accounts.agent})
    for path in (settings.program, settings.state, settings.path):
        cause = replaceable(path, {folder: look(folder) for folder in path.parents}, trusted=trusted)
        if cause:
            command = "updater install --machine --till-user " + settings.till_user
            yield Finding(
                Severity.ERROR, str(path), f"another account can replace it: {cause}", this_host().elevated(command)
            )


def _own(settings: Settings, accounts: Accounts) -> Iterator[Finding]:
    if accounts.agent == accounts.till:
        cause = f"it belongs to the till's account ({settings.till_user}), which the agent must not trust"
        command = this_host().elevated(f"updater doctor --repair --settings {settings.path}")
        yield Finding(Severity.ERROR, str(settings.state), cause, command)


def refuse_unsafe(settings: Settings) -> None:
    """Refuse to act on a terminal whose trusted files another account could have replaced.

    Raises:
        UnsafeRights: there is a finding whose severity is ERROR.
    """
    errors = [finding for finding in check_at_start(settings) if finding.severity is Severity.ERROR]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise UnsafeRights(
            operation="trust", path=Path(errors[0].object), cause=errors[0].cause + more,
            hint=f"`{this_host().elevated(f'updater doctor --repair --settings {settings.path}')}` sets owners and"
            " modes. `updater doctor` lists them.",
        )  # fmt: skip


def refuse_clerk(settings: Settings, command: str) -> None:
    """Refuse a command of the agent to any other account, where there are two.

    Raises:
        Refused: this process runs as neither the agent's account nor the administrator; the hint is the command.
    """
    host, platform = this_host(), this_platform()
    if not settings.till_user or not host.has_accounts or platform.is_privileged:
        return
    own, state = platform.own_account(), look(settings.state)
    if isinstance(state, Rights) and state.user == own.user and own.name != settings.till_user:
        return
    raise Refused(
        operation=f"run updater {command}", path=settings.state,
        cause=f"it is the agent's work, and {own.name} is not the agent's account",
        hint=f"Run `{host.elevated(f'updater {command} --settings {settings.path}')}`.",
    )  # fmt: skip


def set_all(settings: Settings) -> tuple[Wanted, ...]:
    """Give every folder and file of a terminal its owner, group and mode; return those that were changed.

    Missing folders that must exist are made. What lies in the till's folders is reached without following a link.

    Raises:
        Refused: an entry cannot be given its rights: it is a link, it has a second name, or this account may not.
        SettingsError: the settings name an account that does not exist.
    """
    if not this_host().has_accounts:
        return ()
    accounts = accounts_of(settings)
    changed = [item for item in wanted(settings, accounts) if put(item)]
    return (*changed, *(item for item in inside(settings, accounts) if put(item)))


def put(item: Wanted) -> bool:
    """Give one entry its rights, or make it if it must exist; return whether anything was changed."""
    host, seen = this_host(), look(item.path)
    if seen is None and not item.required:
        return False
    if isinstance(seen, Rights) and not _difference(item, seen, host):
        return False
    rights = item.rights
    if isinstance(seen, Rights) and not item.least & ~seen.mode and not seen.mode & ~item.most:
        # Only its owner is wrong: a mode that an account chose within the limits stays.
        rights = rights._replace(mode=seen.mode)
    if item.any_owner and isinstance(seen, Rights):
        rights = rights._replace(user=seen.user, group=rights.group if rights.mode & 0o020 else seen.group)
    try:
        host.set_rights(path=item.path, anchor=item.anchor, rights=rights, make=item.required)
    except OSError as cause:
        raise Refused(
            operation="set the rights of", path=item.path, cause=cause.strerror or str(cause),
            hint=f"`{host.rights_command(item.path, rights, found=seen if isinstance(seen, Rights) else None)}`",
        ) from cause  # fmt: skip
    return True


def inside(settings: Settings, accounts: Accounts) -> Iterator[Wanted]:
    """Yield what lies inside the folders of a terminal with two accounts, with the rights that it must have.

    Raises:
        DiskProblem: a folder cannot be read.
    """
    if accounts.till is None:
        return
    agent = Rights(Entry.FOLDER, accounts.agent, accounts.agent_group, OPEN_FOLDER)
    for root in (settings.program, *(settings.state / name for name in AGENTS_FOLDERS)):
        for path, entry in entries(root):
            mode = _agents_mode(path, entry)
            yield Wanted(path, root.parent, agent._replace(entry=entry, mode=mode), mode, mode, Severity.ERROR)
    for path, entry in entries(settings.private):
        # The folder above is closed; what lies in it must not be a way in if somebody opens that by mistake.
        mode = CLOSED_FOLDER if entry is Entry.FOLDER else 0o600
        most = mode if path.name == "secrets.toml" else OPEN_FOLDER if entry is Entry.FOLDER else OPEN_FILE
        yield Wanted(path, settings.state, agent._replace(entry=entry, mode=mode), mode, most, Severity.ERROR)
    group = accounts.till_group if accounts.till_group is not None else accounts.agent_group
    till = Rights(Entry.FOLDER, accounts.till, group, CLOSED_FOLDER)
    for root in (settings.shared, settings.backups):
        for path, entry in entries(root):
            folder, file = (GROUP_FOLDER, GROUP_FILE) if accounts.shared_by_group else (CLOSED_FOLDER, 0o600)
            mode = folder if entry is Entry.FOLDER else file
            most = mode | (0o2755 if entry is Entry.FOLDER else 0o664)
            # With a group any member may own a file: the group is what lets the others work.
            yield Wanted(
                path, root.parent, till._replace(entry=entry, mode=mode), mode, most,
                any_owner=accounts.shared_by_group and _is_member(path, accounts),
            )  # fmt: skip


def _is_member(path: Path, accounts: Accounts) -> bool:
    seen = look(path)
    return isinstance(seen, Rights) and seen.user not in (0, accounts.agent)


def _agents_mode(path: Path, entry: Entry) -> int:
    if entry is Entry.FOLDER:
        return OPEN_FOLDER
    seen = look(path)
    return OPEN_FOLDER if isinstance(seen, Rights) and seen.mode & 0o100 else OPEN_FILE


def barred(account: Account, path: Path, *, need: int) -> str:
    """Return why an account cannot use a file, in words; empty if it can.

    Args:
        account: the account.
        path: the file or folder; links are followed, as its programs would.
        need: the bits that it needs on it, such as 4 to read and 1 to run.
    """
    import os

    host, real = this_host(), Path(os.path.realpath(path))
    for folder in reversed(real.parents):
        seen = look(folder)
        if isinstance(seen, Rights) and not _bits(account, seen) & 1:
            return f"{account.name} cannot enter {folder} (owner {host.account_name(seen.user)}, mode {seen.mode:04o})"
    seen = look(real)
    if seen is None:
        return f"{real} is missing"
    if isinstance(seen, Rights) and need & ~_bits(account, seen):
        run = "enter" if seen.entry is Entry.FOLDER else "run"
        lacking = need & ~_bits(account, seen)
        verb = "write" if lacking & 2 else "read" if lacking & 4 else run
        return f"{account.name} cannot {verb} {real} (owner {host.account_name(seen.user)}, mode {seen.mode:04o})"
    return ""


def _bits(account: Account, rights: Rights) -> int:
    """Return the three bits of a mode that count for an account."""
    if account.user == 0:
        return 7
    if account.user == rights.user:
        return rights.mode >> 6 & 7
    return (rights.mode >> 3 if rights.group in account.groups else rights.mode) & 7


def entries(root: Path) -> Iterator[tuple[Path, Entry]]:
    """Yield the folders and files below a folder; links and special files are left out, and not followed.

    Raises:
        DiskProblem: a folder cannot be read.
    """
    import os

    def unreadable(cause: OSError) -> None:
        raise disk_problem("read", place_of(cause, root), cause) from cause

    if not isinstance(seen := look(root), Rights) or seen.entry is not Entry.FOLDER:
        return
    for parent, folders, names in os.walk(root, onerror=unreadable):
        for name in sorted((*folders, *names)):
            path = Path(parent, name)
            found = look(path)
            if isinstance(found, Rights) and found.entry in (Entry.FOLDER, Entry.FILE):
                yield path, found.entry
