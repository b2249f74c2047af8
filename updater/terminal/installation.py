"""Installation of a terminal: examined first, then built in an order that a repeated command finishes.

Settings without a version count as none: a corrected command begins with its own options.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.errors import Refused, TillkeeperError, TryLater
from dbsync.storage import children, file_calls, files
from dbsync.storage.platform import this_platform
from dbsync.storage.platform.base import Account
from updater import settings as settings_file
from updater.addresses import problem, scrubbed
from updater.bundles.version_folders import Versions
from updater.errors import SettingsError
from updater.flows.first_install import first_version
from updater.host import this_host
from updater.host.base import Entry, Folders, Rights
from updater.model import STABLE, Journal, Limits, ProcessKind
from updater.network.manner import Manner
from updater.repository.client import app_of, signed_ids
from updater.repository.manner import asked_by
from updater.repository.manner import check as check_network
from updater.repository.trust import begin as begin_trust
from updater.settings import Settings
from updater.terminal import identity, layout, rights, stable_path
from updater.terminal.live import Terminal
from updater.terminal.places import refuse_unfit
from updater.terminal.state_files import StateFolder

FIXED: Final = frozenset({"--app", "--program", "--state"})
"""Options that no installed terminal can change: its versions and its journal lie there."""


class Wish(NamedTuple):
    """Options of an installation, as a person gave them; None takes the default of this system."""

    app: str | None
    """None for the only app of the repository."""
    url: str
    root: Path
    settings: Path | None = None
    program: Path | None = None
    state: Path | None = None
    data: Path | None = None
    database: Path | None = None
    backup_prefix: str | None = None
    interpreters: tuple[tuple[str, str], ...] = ()
    mirrors: tuple[str, ...] = ()
    channel: str | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    bundle: Path | None = None
    machine: bool = False
    """Whether the defaults are the places of this machine instead of this account's."""
    till_user: str | None = None
    """The account that runs the app; None: the installing account does everything."""
    till_group: str | None = None
    """The group of several accounts that run the app."""
    accepted_disks: tuple[str, ...] = ()
    """Hazards of the disks that a person accepts."""
    stable_path: str | None = None
    """A link that leads to the version that runs; `none` for no such link."""
    change: bool = False
    """Whether options that differ from the installed settings replace them."""


class Difference(NamedTuple):
    """An option that differs from the settings of the installed terminal."""

    option: str
    installed: str
    asked: str


class Plan(NamedTuple):
    """An installation that was examined; nothing is written yet."""

    settings: Settings
    root: bytes
    is_new: bool
    """Whether no version is installed yet."""
    differences: tuple[Difference, ...]
    """What `--change` replaces."""
    foreign: tuple[str, ...] = ()
    """Version folders that the till's account could write until now, and that are not what the vendor signed."""
    stable_path: Path | None = None
    """The link of the settings until now."""


def install(wish: Wish) -> tuple[Settings, Journal]:
    """Install a terminal with its first version; return settings and journal. A repeat finishes an interrupted run.

    Raises:
        Refused, SettingsError, TryLater: it cannot succeed; nothing was written, except by a download that broke off.
    """
    plan = examine(wish)
    if layout.is_first(layout.settled(plan.settings, reads_only=False, insists=True)):
        raise TryLater(
            operation="install", path=plan.settings.state,
            cause="a process of an earlier release is at work, and its files were not moved yet",
            hint="Close the app, stop the agent's service, and run it again.",
        )  # fmt: skip
    _make_folders(plan)
    settings = plan.settings
    if plan.is_new or plan.differences:
        # Everything that they name exists. A process with the till's rights reads them while the version is installed.
        # A cut after it leaves settings without a version, which count as none (`_is_complete`).
        _write_settings(settings)
    try:
        journal = first_version(Terminal(settings, kind=ProcessKind.INSTALL), bundle=wish.bundle)
    except TillkeeperError:
        if plan.is_new:
            with files.disk_errors("remove", settings.path):
                file_calls.remove(settings.path)
        raise
    identity.record(settings)
    rights.set_all(settings)
    for name in plan.foreign:
        Versions(settings.program).take_name(name)
    stable_path.install(Terminal(settings, kind=ProcessKind.INSTALL), before=plan.stable_path)
    return settings, journal


def _is_complete(settings: Settings) -> bool:
    """Return whether a terminal ever had a version: before that, the next command starts from its own options."""
    journal = settings.state / "journal.json"
    return files.is_there(journal) or bool(files.listed(settings.state / "proofs", "*.json"))


# ----------------------------------------------------------------------------------------------------------- examining


def examine(wish: Wish) -> Plan:
    """Find out whether an installation can succeed, as far as that can be known; write nothing.

    Raises:
        SettingsError: the options contradict each other or the installed settings, or an existing file is invalid.
        Refused: the root, an account, a folder or the repository does not allow it; or another root is trusted here.
        TryLater: the repository cannot be reached.
    """
    _check_url(wish)
    till = _check_accounts(wish)
    root = _read_root(wish.root)
    app = wish.app
    path = _settings_path(wish, app)
    if path is None:
        app = app_of(wish.url.rstrip("/"), root, mirrors=wish.mirrors, manner=_manner(wish))
        path = _settings_path(wish, app)
        assert path is not None
    # Without the environment: an override of this moment is no setting.
    known = settings_file.load(path, {}) if path.exists() else None
    installed = known if known is not None and _is_complete(known) else None
    differing: tuple[Difference, ...] = ()
    if installed is None:
        _refuse_elsewhere(wish, app)
        app = app_of(wish.url.rstrip("/"), root, named=app, mirrors=wish.mirrors, manner=_manner(wish))
        settings = settings_for(wish, app, path)
        settings = settings._replace(terminal_id=known.terminal_id) if known is not None else settings
    else:
        rights.refuse_clerk(installed, "install")
        differing = tuple(differences(wish, installed))
        settings = _changed(wish, installed, differing)
    _check_root(settings, wish.root, root, is_new=installed is None)
    check_network(settings)
    if installed is not None and _network(settings) != _network(installed):
        asked = asked_by(settings)
        app_of(asked.url, root, named=settings.app, mirrors=asked.mirrors, manner=asked.manner)
    refuse_unfit(settings, (*settings.accepted_disks, *settings_file.accepted_by(os.environ)), known=installed)
    _check_folders(settings)
    _check_programs(settings)
    if settings.till_user:
        _check_reach(settings, till or rights.till_account(settings))
        rights.accounts_of(settings)
    parts = installed is not None and settings.till_user and not installed.till_user
    foreign = tuple(_foreign_versions(settings, root)) if parts else ()
    stable_path.check(settings)
    before = installed.stable_path if installed is not None else None
    return Plan(settings, root, installed is None, differing, foreign, before)


def _foreign_versions(settings: Settings, root: bytes) -> Iterator[str]:
    """Yield the version folders that are not what the vendor signed; one account could write all of them until now.

    Raises:
        Refused: the release that starts is one of them, or the repository does not pass verification.
        TryLater: the repository cannot be asked now, or a folder cannot be read.
    """
    versions, asked = Versions(settings.program), asked_by(settings)
    signed = signed_ids(asked.url, root, mirrors=asked.mirrors, manner=asked.manner)
    journal, _ = StateFolder(settings.state, shared=settings.shared).read_journal()
    for name in sorted(versions.names()):
        found = versions.verified(name)
        is_named = journal is not None and name == journal.good.folder
        if found in signed and (not is_named or journal is None or found == journal.good.release_id):
            continue
        if is_named:
            raise Refused(
                operation="give this terminal two accounts", path=versions.folder(name),
                cause="the release that starts is not what the vendor signed, or was withdrawn since",
                hint=f"`updater uninstall --settings {settings.path}` keeps the data; then install again.",
            )  # fmt: skip
        yield name


def settings_for(wish: Wish, app: str, path: Path) -> Settings:
    """Return the settings of a new installation, with absolute paths: a service and a clerk have different folders.

    Raises:
        SettingsError: data and program would share a folder.
    """
    folders = _folders(wish, app)
    data = _absolute(wish.data or folders.data)
    database = _absolute(wish.database) if wish.database else data / "pos_system.db"
    built = Settings(
        path=path,
        app=app,
        terminal_id=identity.new_id(),
        url=wish.url.rstrip("/"),
        mirrors=wish.mirrors,
        program=_absolute(wish.program or folders.program),
        state=_absolute(wish.state or folders.state),
        data=data,
        database=database,
        backups=database.parent / "backups",
        backup_prefix=wish.backup_prefix or database.stem,
        interpreters=dict(wish.interpreters),
        python=_own_python(),
        window_from="00:00",
        window_until="00:00",
        interval_seconds=4 * 3600.0,
        jitter_seconds=1800.0,
        limits=Limits(),
        till_user=wish.till_user or "",
        till_group=wish.till_group or "",
        channel=wish.channel or STABLE,
        proxy=wish.proxy or "",
        ca_file=str(_absolute(wish.ca_file)) if wish.ca_file else "",
        accepted_disks=tuple(dict.fromkeys(wish.accepted_disks)),
        stable_path=_stable_path(wish, None),
    )
    settings_file.check_apart(built)
    return built


def differences(wish: Wish, installed: Settings) -> Iterator[Difference]:
    """Yield the options that a person gave and that are not what is installed, in the order of the command's help."""
    paths = {
        "--program": (wish.program, installed.program),
        "--state": (wish.state, installed.state),
        "--data": (wish.data, installed.data),
        "--database": (wish.database, installed.database),
    }
    given: dict[str, tuple[str | None, str]] = {
        "--url": (wish.url.rstrip("/"), installed.url),
        "--channel": (wish.channel, installed.channel),
        "--proxy": (wish.proxy, installed.proxy),
        "--ca-file": (str(_absolute(wish.ca_file)) if wish.ca_file else None, installed.ca_file),
        "--app": (wish.app, installed.app),
        **{option: (str(_absolute(asked)) if asked else None, str(is_)) for option, (asked, is_) in paths.items()},
        "--backup-prefix": (wish.backup_prefix, installed.backup_prefix),
        "--mirror": (", ".join(wish.mirrors) or None, ", ".join(installed.mirrors)),
        "--till-user": (wish.till_user, installed.till_user),
        "--till-group": (wish.till_group, installed.till_group),
        "--stable-path": (_text_of(_stable_path(wish, installed.stable_path)), _text_of(installed.stable_path)),
    }
    for option, (asked, is_) in given.items():
        if asked is not None and asked != is_:
            yield Difference(option, is_ or "none", asked)
    added = sorted({*wish.accepted_disks} - {*installed.accepted_disks})
    if added:
        yield Difference("--accept-disk", ", ".join(installed.accepted_disks) or "none", ", ".join(added))
    for role, place in wish.interpreters:
        known = installed.interpreters.get(role, "none")
        if known != place:
            yield Difference("--interpreter", f"{role}={known}", f"{role}={place}")


def _changed(wish: Wish, installed: Settings, differing: tuple[Difference, ...]) -> Settings:
    """Return the settings with what a person asked to change.

    Raises:
        SettingsError: something differs and `--change` was not given, or it is an option that cannot be changed.
    """
    fixed = [difference for difference in differing if difference.option in FIXED]
    if fixed or (differing and not wish.change):
        raise SettingsError(
            operation="install", path=installed.path,
            cause="this terminal is installed with other options: "
            + "; ".join(f"{option} {_contrast(before, after)}" for option, before, after in fixed or differing),
            hint=f"`updater uninstall --settings {installed.path}` removes the installed terminal and keeps its data."
            if fixed
            else "Pass --change to replace these settings, or give the options as they are installed.",
        )  # fmt: skip
    data = _absolute(wish.data) if wish.data else installed.data
    database = _absolute(wish.database) if wish.database else installed.database
    if wish.data and not wish.database and installed.database.parent == installed.data:
        database = data / installed.database.name
    beside = installed.backups == installed.database.parent / "backups"
    changed = installed._replace(
        url=wish.url.rstrip("/"),
        mirrors=wish.mirrors or installed.mirrors,
        channel=wish.channel or installed.channel,
        proxy=wish.proxy or installed.proxy,
        ca_file=str(_absolute(wish.ca_file)) if wish.ca_file else installed.ca_file,
        data=data,
        database=database,
        backups=database.parent / "backups" if beside else installed.backups,
        backup_prefix=wish.backup_prefix or installed.backup_prefix,
        interpreters={**installed.interpreters, **dict(wish.interpreters)},
        till_user=wish.till_user or installed.till_user,
        till_group=wish.till_group or installed.till_group,
        accepted_disks=tuple(dict.fromkeys((*installed.accepted_disks, *wish.accepted_disks))),
        stable_path=_stable_path(wish, installed.stable_path),
    )
    settings_file.check_apart(changed)
    return changed


def _stable_path(wish: Wish, installed: Path | None) -> Path | None:
    if wish.stable_path is None:
        return installed
    return None if wish.stable_path == "none" else _absolute(Path(wish.stable_path))


def _text_of(path: Path | None) -> str:
    return str(path) if path is not None else "none"


def _contrast(before: str, after: str) -> str:
    """Return the words for two values that differ, without passwords: if these alone differ, that is said."""
    if scrubbed(before) == scrubbed(after):
        return "has another password or token"
    return f"is {scrubbed(before)}, asked {scrubbed(after)}"


def _manner(wish: Wish) -> Manner:
    """Return how a repository is asked before there are settings."""
    least_rate = Limits().minimum_bytes_per_second
    return Manner(least_rate, proxy=wish.proxy or "", ca_file=str(_absolute(wish.ca_file)) if wish.ca_file else "")


def _network(settings: Settings) -> tuple[object, ...]:
    return settings.url, settings.mirrors, settings.proxy, settings.ca_file


def _folders(wish: Wish, app: str) -> Folders:
    host = this_host()
    return host.machine_folders(app) if wish.machine else host.default_folders(app)


def _settings_path(wish: Wish, app: str | None) -> Path | None:
    if wish.settings is not None:
        return _absolute(wish.settings)
    return _absolute(_folders(wish, app).settings_file) if app is not None else None


def _check_url(wish: Wish) -> None:
    for option, url in (("--url", wish.url), *(("--mirror", mirror) for mirror in wish.mirrors)):
        found = problem(url)
        if found:
            raise SettingsError(
                operation="install", cause=f"{option} {scrubbed(url)} {found}",
                hint=f"Give it with its scheme: {option} https://…",
            )  # fmt: skip


def _check_accounts(wish: Wish) -> Account | None:
    """Return the till's account of the options; None if they name none."""
    host, platform = this_host(), this_platform()
    if not wish.till_user:
        return None
    if not host.has_accounts:
        raise Refused(
            operation="install", cause="--till-user is not implemented on this system",
            hint="Leave --till-user out: one account then does everything.",
        )  # fmt: skip
    if not platform.is_privileged:
        command = host.elevated(f"updater install --machine --till-user {wish.till_user}")
        raise Refused(
            operation="install",
            cause=f"--till-user needs the rights of the administrator, and this is {platform.own_account().name}",
            hint=f"Run it as `{command}` with the other options.",
        )
    till = platform.account(wish.till_user)
    if till is None:
        raise Refused(
            operation="install", cause=f"this machine has no account {wish.till_user}",
            hint="Make the account first, or give the name of one that exists.",
        )  # fmt: skip
    if till.user == platform.own_account().user:
        raise Refused(
            operation="install", cause=f"--till-user {wish.till_user} is the account that installs",
            hint="Leave --till-user out where one account does everything.",
        )  # fmt: skip
    return till


def _refuse_elsewhere(wish: Wish, app: str | None) -> None:
    """Refuse a second installation of an app that is installed in the other usual place."""
    if wish.settings is not None or app is None:
        return
    host = this_host()
    other = (host.default_folders if wish.machine else host.machine_folders)(app).settings_file
    if other.exists():
        raise SettingsError(
            operation="install", path=other,
            cause=f"{app} is installed here already, {'for one account' if wish.machine else 'for this machine'}",
            hint=f"Name it with --settings {other}, or remove it first: `updater uninstall --settings {other}`.",
        )  # fmt: skip


def _read_root(path: Path) -> bytes:
    try:
        return file_calls.read_bytes(path)
    except OSError as cause:
        raise Refused(
            operation="read the trusted root",
            path=path,
            cause=cause.strerror or str(cause),
            hint="It is metadata/1.root.json of the vendor's repository, handed over on a way you trust.",
        ) from cause


def _check_root(settings: Settings, path: Path, root: bytes, *, is_new: bool) -> None:
    """Refuse another root than the one that an installed terminal trusts.

    A root without settings and journal was left by an installation that did not succeed.
    """
    trusted = layout.settled(settings, reads_only=True).trust / "root.json"
    known = file_calls.read_bytes(trusted) if trusted.exists() else b""
    if known in (b"", root) or (is_new and not (settings.state / "journal.json").exists()):
        return
    raise Refused(
        operation="trust", path=path, cause=f"this terminal trusts another root already ({trusted})",
        hint="Leave --root away: a new root of the vendor's comes with the metadata. To trust another one from now on:"
        f" `updater trust reset --root {path}`.",
    )  # fmt: skip


def _check_folders(settings: Settings) -> None:
    """Refuse a folder that cannot be made, or that is something else."""
    for folder in (
        settings.program,
        settings.state,
        settings.shared,
        settings.data,
        settings.backups,
        settings.path.parent,
    ):
        nearest = files.nearest_folder(folder)
        if not nearest.is_dir():
            raise Refused(operation="install", path=nearest, cause="it is not a folder", hint="Give another path.")
        if not os.access(nearest, os.W_OK | os.X_OK):
            command = this_host().elevated("updater install")
            raise Refused(
                operation="make" if nearest != folder else "write into", path=folder,
                cause=f"{this_platform().own_account().name} may not write {nearest}",
                hint=f"Run it as `{command}` with the same options, or give other folders.",
            )  # fmt: skip


def _check_programs(settings: Settings) -> None:
    import shutil

    for role, place in settings.interpreters.items():
        if shutil.which(place) is None:
            raise Refused(
                operation="install", path=Path(place),
                cause=f"--interpreter {role}={place}: there is no such program, or it cannot be run",
                hint="Give the absolute path of the program.",
            )  # fmt: skip


def _check_reach(settings: Settings, till: Account) -> None:
    """Refuse places that the till's account could not use: its start would fail."""
    places: list[tuple[str, Path, int]] = [
        ("--program", files.nearest_folder(settings.program), 1),
        ("--state", files.nearest_folder(settings.state), 1),
        ("--settings", files.nearest_folder(settings.path.parent), 1),
        ("--data", files.nearest_folder(settings.data), 1),
        *((f"--interpreter {role}", Path(place), 1) for role, place in settings.interpreters.items()),
        # The agent starts a process with the till's rights, by the Python that installs.
        *([("this command's Python", Path(settings.python), 1)] if settings.python else []),
    ]
    for option, path, need in places:
        cause = rights.barred(till, path, need=need)
        if cause:
            raise Refused(
                operation="install", path=path, cause=f"{option}: {cause}",
                hint="Pass --machine for places that every account reaches, or give other paths.",
            )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ building


def _make_folders(plan: Plan) -> None:
    """Make folders and trusted root, each with its rights before the next; a repeat makes what is missing."""
    settings = plan.settings
    trust = settings.trust
    folders = [settings.program / "versions", settings.state, settings.private, settings.shared, trust]
    for folder in (*folders, settings.data, settings.backups, settings.path.parent):
        _make_folder(folder, closed=folder in (settings.private, trust))
    if this_host().has_accounts:
        needed = rights.wanted(settings, rights.accounts_of(settings))
        made = {*folders, settings.program, settings.data, settings.backups, settings.state / "terminal.lock"}
        for item in needed:
            if item.path in made:
                rights.put(item)
    trusted = trust / "root.json"
    if not trusted.exists() or file_calls.read_bytes(trusted) != plan.root:
        if plan.is_new:
            # Metadata of another repository: left by an installation that did not succeed.
            _clear(trust)
        begin_trust(trust, plan.root)
    layout.write_marker(settings)


def _make_folder(folder: Path, *, closed: bool) -> None:
    """Make a folder and those above it, each with its mode whatever the umask is; those above are open to enter.

    They get the owner of the folder that exists, so that a folder in an account's home is that account's.
    """
    host, missing = this_host(), [folder]
    while not files.is_there(missing[-1].parent):
        missing.append(missing[-1].parent)
    if files.is_there(folder):
        return
    above = rights.look(missing[-1].parent)
    own = this_platform().own_account()
    user, group = (above.user, above.group) if isinstance(above, Rights) else (own.user, own.group)
    if not this_platform().is_privileged:
        user, group = own.user, own.group
    for made in reversed(missing):
        mode = rights.CLOSED_FOLDER if closed and made == folder else rights.OPEN_FOLDER
        try:
            host.set_rights(path=made, anchor=made.parent, rights=Rights(Entry.FOLDER, user, group, mode), make=True)
        except OSError as cause:
            raise Refused(operation="make", path=made, cause=cause.strerror or str(cause)) from cause


def _clear(folder: Path) -> None:

    for path in files.listed(folder, "*"):
        with files.disk_errors("remove", path):
            if path.is_dir() and not path.is_symlink():
                file_calls.remove_tree(path)
            else:
                file_calls.remove(path, missing_ok=False)


def _write_settings(settings: Settings) -> None:
    files.write_durably(settings.path, settings_file.to_toml(settings).encode(), like=settings.path.parent)


def _own_python() -> str:
    """Return the Python that installs this; empty for a frozen program."""
    try:
        return children.python()
    except children.NoPython:
        return ""


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()
