"""Examination of a terminal: settings, folders, owners, modes, programs, space. Only reads, but for the repair."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from dbsync.errors import Refused, TillkeeperError
from dbsync.storage import files
from dbsync.storage.platform import this_platform
from dbsync.storage.platform.base import Account
from updater import settings as settings_file
from updater.addresses import scrubbed, shown
from updater.decisions.places import ACCEPTABLE, option_of
from updater.errors import SettingsError
from updater.host import this_host
from updater.host.base import Entry, Rights
from updater.model import ProcessKind
from updater.reporting import agents
from updater.settings import Settings
from updater.terminal import identity, layout, places, rights, stable_path
from updater.terminal.live import Terminal
from updater.terminal.rights import Finding, Severity

EARLIER_LAYOUT: Final = ("trial", "trust", "downloads", "outbox", "agent.lock", "events-*.jsonl")
"""Names that earlier releases had in the state folder itself."""
ONE_ACCOUNT: Final = (
    "one account runs the agent and the app: the app, and whatever its account runs, can replace the program, the"
    " trusted keys and the state. Signatures protect the way to this terminal, not what this account does on it"
)


def examine(settings_path: Path | None) -> tuple[Finding, ...]:
    """Return the problems of a terminal, the worst first; each check stands for itself.

    A check that fails is a finding too: the others still run.
    """
    try:
        path = settings_file.find(settings_path)
        settings = settings_file.load(path)
    except TillkeeperError as error:
        where = str(settings_path or "settings")
        return (Finding(Severity.ERROR, where, str(error), "updater install --help"),)
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(settings)
        except TillkeeperError as error:
            found.append(Finding(Severity.ERROR, str(settings.path), str(error), _doctor(settings)))
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: list(Severity).index(finding.severity)))


def repair(settings_path: Path | None) -> tuple[str, ...]:
    """Set owners and modes of a terminal; return the paths that were changed.

    Raises:
        Refused: there are two accounts, and this process may not give files away.
        SettingsError: the settings are invalid, or name an account that does not exist.
    """
    settings = settings_file.load(settings_file.find(settings_path))
    host = this_host()
    if settings.till_user and not this_platform().is_privileged:
        raise Refused(
            operation="set owners and modes", path=settings.state,
            cause=f"{this_platform().own_account().name} may not give files to {settings.till_user}",
            hint=f"Run `{host.elevated(f'updater doctor --repair --settings {settings.path}')}`.",
        )  # fmt: skip
    return tuple(str(item.path) for item in rights.set_all(settings))


def counts(found: tuple[Finding, ...]) -> bool:
    """Return whether any finding asks for something to be done."""
    return any(finding.severity is not Severity.NOTE for finding in found)


def as_json(found: tuple[Finding, ...], changed: tuple[str, ...]) -> dict[str, Any]:
    """Return findings as a document, and the paths that a repair changed."""
    return {"format": 1, "findings": [finding._asdict() for finding in found], "changed": list(changed)}


def in_words(found: tuple[Finding, ...], changed: tuple[str, ...]) -> list[str]:
    """Return findings as lines for a support engineer."""
    lines = [f"set      {path}" for path in changed]
    for finding in found:
        lines.append(f"{finding.severity:<8} {finding.object}: {finding.cause}")
        lines += [f"         {finding.command}"] if finding.command else []
    if not counts(found):
        lines.append("no problem was found")
    return lines


# -------------------------------------------------------------------------------------------------------------- checks


def _check_secrets(settings: Settings) -> Iterator[Finding]:
    # Here, because launchers load this module's neighbours: what asks the repository is the agent's.
    from updater.repository import credentials, manner

    try:
        manner.check(settings)
    except SettingsError as error:
        yield Finding(Severity.ERROR, str(settings.path), error.cause, "")
    places = [("url", settings.url), *(("mirrors", mirror) for mirror in settings.mirrors)]
    for key, url in [*places, ("network.proxy", settings.proxy)]:
        if scrubbed(url) != url:
            cause = f"{key} has a password or a token, and every account can read this file: its place is"
            cause += f" {settings.private / credentials.NAME}"
            option = {"url": "--url", "mirrors": "--mirror", "network.proxy": "--proxy"}[key]
            command = f"updater install --change --root ROOT --url {shown(settings.url)}"
            command += f" {option} {scrubbed(url)}" if key != "url" else ""
            yield Finding(Severity.WARNING, str(settings.path), cause, this_host().elevated(command))


def _check_accounts(settings: Settings) -> Iterator[Finding]:
    if not settings.till_user:
        yield Finding(Severity.NOTE, settings.app, ONE_ACCOUNT)
    if not this_host().has_accounts:
        yield Finding(Severity.NOTE, settings.app, "owners and modes are not examined on this system")


def _check_rights(settings: Settings) -> Iterator[Finding]:
    yield from rights.check_at_start(settings)


def _check_inside(settings: Settings) -> Iterator[Finding]:
    host = this_host()
    if not settings.till_user or not host.has_accounts:
        return
    if not this_platform().is_privileged and rights.look(settings.private) is not None:
        cause = "what lies in the folders was not examined: this account may not read all of it"
        yield Finding(Severity.NOTE, str(settings.state), cause, _doctor(settings))
        return
    needed = tuple(rights.inside(settings, rights.accounts_of(settings)))
    yield from rights.findings(needed, {item.path: rights.look(item.path) for item in needed})


def _check_links(settings: Settings) -> Iterator[Finding]:
    for folder, severity in (
        (settings.state, Severity.ERROR), (settings.private, Severity.ERROR), (settings.shared, Severity.WARNING),
        (settings.shared / "trial", Severity.WARNING), (settings.shared / "choices", Severity.WARNING),
        *((settings.state / name, Severity.ERROR) for name in rights.AGENTS_FOLDERS),
    ):  # fmt: skip
        try:
            names = files.listed(folder, "*")
        except TillkeeperError:
            continue
        for path in names:
            seen = rights.look(path)
            if isinstance(seen, Rights) and seen.entry in (Entry.LINK, Entry.OTHER):
                rest = seen._replace(entry=Entry.FILE)
                command = this_host().rights_command(path, rest, found=seen)
                yield Finding(severity, str(path), f"it is a {seen.entry}, which Tillkeeper never makes here", command)


def _check_reach(settings: Settings) -> Iterator[Finding]:
    """Find what the till's account cannot use, whatever the reason: a folder above may be closed."""
    if not settings.till_user or not this_host().has_accounts:
        return
    till = rights.till_account(settings)
    for path, need in (
        (settings.path, 4), (settings.state / "terminal.lock", 6), (settings.program / "versions", 5),
        (settings.shared, 7), (settings.data, 7),
    ):  # fmt: skip
        cause = rights.barred(till, path, need=need)
        if cause:
            yield Finding(Severity.ERROR, str(path), f"the till cannot start: {cause}", _repair(settings))


def _check_installation(settings: Settings) -> Iterator[Finding]:
    journal, proofs = settings.state / "journal.json", settings.state / "proofs"
    install = f"updater install --settings {settings.path} --url {shown(settings.url)} --root ROOT"
    if not files.is_there(journal):
        has_proofs = bool(files.listed(proofs, "*.json"))
        cause = "the journal is missing" if has_proofs else "no version is installed: the installation did not end"
        command = f"updater check --settings {settings.path}" if has_proofs else install
        yield Finding(Severity.ERROR, str(journal), cause, this_host().elevated(command))
    if not (settings.program / "versions").is_dir():
        yield Finding(
            Severity.ERROR, str(settings.program), "there are no version folders", this_host().elevated(install)
        )


def _check_layout(settings: Settings) -> Iterator[Finding]:
    earlier = sorted(path.name for name in EARLIER_LAYOUT for path in files.listed(settings.state, name))
    if earlier or layout.is_first(settings):
        cause = f"files of an earlier release were not moved yet: {', '.join(earlier)}"
        command = this_host().elevated(f"updater check --settings {settings.path}")
        yield Finding(Severity.WARNING, str(settings.state), cause, command)


def _check_programs(settings: Settings) -> Iterator[Finding]:
    import shutil

    till: Account | None = None
    if settings.till_user and this_host().has_accounts:
        till = rights.till_account(settings)
    programs = [(f"interpreter {role}", place) for role, place in settings.interpreters.items()]
    programs += [("python", settings.python)] if settings.python else []
    for what, place in programs:
        cause = f"{place} is missing or cannot be run" if shutil.which(place) is None else ""
        if till is not None and not cause and "/" in place:
            cause = rights.barred(till, Path(place), need=1)
        if cause:
            severity = Severity.WARNING if what == "python" else Severity.ERROR
            # The settings are a file for people: there is no option for the Python of an installation.
            yield Finding(severity, str(settings.path), f"{what}: {cause}", this_host().look_command(Path(place)))
    if settings.python and settings.python != sys.executable:
        cause = f"this command runs with another Python than the one of the installation: {sys.executable}"
        yield Finding(Severity.NOTE, settings.python, cause)


def _check_space(settings: Settings) -> Iterator[Finding]:
    least_bytes = settings.limits.least_free_bytes
    for folder in (settings.data, settings.program, settings.state):
        free_bytes = files.free_bytes(folder)
        if free_bytes < least_bytes:
            cause = f"{free_bytes / 1e6:.1f} MB are free; no update starts below {least_bytes / 1e6:.1f} MB"
            command = this_host().space_command(files.nearest_folder(folder))
            yield Finding(Severity.WARNING, str(folder), cause, command)


def _check_machine(settings: Settings) -> Iterator[Finding]:
    try:
        copied = identity.is_copied(settings)
    except TillkeeperError:
        # Only the agent reads its note.
        return
    if copied:
        cause = f"this is another machine than the one of {settings.terminal_id}: a copy of its disk"
        command = this_host().elevated(f"updater check --settings {settings.path}")
        yield Finding(Severity.WARNING, settings.terminal_id, f"{cause}; the agent gives it a new id", command)


def _check_places(settings: Settings) -> Iterator[Finding]:
    """Find folders on disks that do not keep the promises, and paths that are too long for what is made below them."""
    known: set[str] = set()
    for misfit in places.misfits(settings, settings.accepted_disks):
        hazard, cause, _ = misfit.danger
        if cause in known:
            # One disk has several folders.
            continue
        known.add(cause)
        if misfit.is_accepted:
            yield Finding(Severity.NOTE, str(misfit.place.path), f"{cause}; `{hazard}` is accepted in the settings")
            continue
        severity = Severity.WARNING if hazard in ACCEPTABLE else Severity.ERROR
        yield Finding(
            severity, str(misfit.place.path), f"{cause}. {misfit.danger.hint}", _moved(settings, misfit.place)
        )
    for place, problem in places.unholdable(settings):
        yield Finding(Severity.WARNING, str(place.path), problem, _moved(settings, place))


def _moved(settings: Settings, place: places.Place) -> str:
    """Return the command that gives a terminal another place; program and state need a new installation."""
    option = option_of(place.role)
    if option in ("--data", "--database"):
        words = f"updater install --change --root ROOT --url {shown(settings.url)} {option} NEW"
    else:
        words = f"updater uninstall --settings {settings.path}"
    return this_host().elevated(words)


def _check_stable_path(settings: Settings) -> Iterator[Finding]:
    link = settings.stable_path
    if link is None:
        return
    command = this_host().elevated(f"updater check --settings {settings.path}")
    try:
        target, wanted = this_host().link_target(link), stable_path.wanted(Terminal(settings, kind=ProcessKind.STATUS))
    except OSError:
        cause = "something that is no link is in the place of the stable path"
        yield Finding(Severity.WARNING, str(link), cause, f"{command}, after it was moved away")
        return
    if target != wanted and wanted is not None:
        cause = f"the stable path leads to {target or 'nothing'} instead of {wanted}"
        yield Finding(Severity.WARNING, str(link), cause, command)
    above = rights.look(link.parent)
    if this_host().has_accounts and isinstance(above, Rights):
        till = this_platform().account(settings.till_user) if settings.till_user else None
        is_open = above.mode & rights.WRITABLE_BY_OTHERS and not above.mode & rights.STICKY
        if is_open or (till is not None and above.user == till.user):
            cause = "accounts that are not trusted can lead the stable path elsewhere: no rule may name it"
            yield Finding(Severity.WARNING, str(link.parent), cause, this_host().look_command(link.parent))


def _doctor(settings: Settings) -> str:
    return this_host().elevated(f"updater doctor --settings {settings.path}")


def _repair(settings: Settings) -> str:
    return this_host().elevated(f"updater doctor --repair --settings {settings.path}")


CHECKS: Final[tuple[Callable[[Settings], Iterator[Finding]], ...]] = (
    _check_secrets, _check_accounts, _check_rights, _check_inside, _check_links, _check_reach, _check_installation,
    _check_layout, _check_programs, _check_space, _check_machine, _check_places, _check_stable_path, agents.check,
)  # fmt: skip
"""The checks in the order of the documentation."""
