"""Verification of a release before it is public: scratch terminals of every living version take it.

The product itself is the black box: each terminal is installed, asks a server on loopback, downloads, unpacks, tests
and swaps by the commands of a real one, in children with a time limit. Nothing outside of the copy is written.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from packaging.version import Version

from dbsync.errors import TillkeeperError
from dbsync.storage import children, files
from dbsync.storage.connections import open_reading
from dbsync.storage.introspection import version_of
from dbsync.upgrade.released_history import Kind, departures
from updater import settings as settings_file
from updater.bundle_names import ANY_PLATFORM, is_version
from updater.decisions.agent import lacks_sqlite
from updater.decisions.places import ACCEPTABLE
from updater.decisions.rollout import NO_BRAKE, Document
from updater.host import this_host
from updater.manifest import MANIFEST_NAME, Manifest, ManifestError, parse
from updater.model import STABLE, ReleaseId
from updater.outcomes import TerminalOutcome
from updater.publish import repository, rollout, trial_run
from updater.publish.errors import PublishError
from updater.publish.keys import Passwords
from updater.publish.repository import Config
from updater.publish.rollout import is_early
from updater.publish.serve import make_server, running
from updater.publish.signing import ONLINE, Workshop
from updater.publish.storage import storage_of
from updater.repository import trust
from updater.repository.listing import PACK_END
from updater.settings import Settings
from updater.terminal import events
from updater.terminal.state_files import StateFolder

LIVING_COUNT: Final = 5
"""So many of the newest versions that are signed count as living, unless the publisher says otherwise."""
OTHER: Final = "beta"
"""The channel of scratch terminals with a pre-release."""
STEP_SECONDS: Final = 300.0
"""Limit of one command of a scratch terminal."""
NOTHING: Final = "a new terminal"
"""What a terminal is called that has no version yet."""
BY_ARCHIVE: Final = "a new terminal, by the archive"
"""The same, where it cannot take packs."""
NEW: Final = "new"
"""The word that accepts a release with which new terminals cannot begin."""
MADE_UP: Final = " (in made-up trade; a --sample-database of a shop takes its place for that schema)"
_PASSWORD: Final = "of a throw-away repository"  # noqa: S105 - its keys sign what nobody else ever sees


class Stranded(PublishError):
    """The refusal of a release that living terminals could not take."""

    hint_by_default = (
        f"Nothing is public. Accept it by name with --strands VERSION ({NEW} for new terminals), or publish a release"
        " that they can take."
    )


class Wish(NamedTuple):
    """Options of a verification: what is tried, and what is accepted."""

    living: tuple[str, ...] = ()
    """Versions that run on terminals; empty for the newest ones that are signed."""
    accepted: frozenset[str] = frozenset()
    """Versions that may be left behind; `new` for terminals that have none yet."""
    sample_databases: tuple[Path, ...] = ()
    """Databases that take the place of the made-up ones of their schemas."""
    oldest_agent: str = "0"
    """The oldest Tillkeeper that a terminal has; else the manifest of its version says the least."""
    oldest_sqlite: str = ""
    """The oldest SQLite that a terminal has; empty: that of this machine's Python."""
    told: Callable[[str], None] = lambda _: None
    """Receives one line for each terminal."""


class Found(NamedTuple):
    """How one scratch terminal fared."""

    start: str
    """The version that it began with, or what stands for it."""
    problem: str
    """Why it cannot take the release; empty if it can."""
    seconds: float


def verify(folder: Path, version: str, *, passwords: Passwords, wish: Wish) -> tuple[Found, ...]:
    """Let scratch terminals take a release from a copy of a repository, whose public folder has it already.

    Args:
        folder: the copy; nothing in it is changed.
        version: the release.
        passwords: those of the keys, for lifting a pause on the way.
        wish: what is to be verified.

    Raises:
        Stranded: a terminal cannot take it, and that was not accepted; each is named with its cause.
        PublishError: this machine cannot try it.
    """
    with repository.copied(folder) as place:
        signed = repository.change(place, _unbraked, roles=ONLINE, passwords=passwords)
        manifests = _manifests(place / "public" / "targets", signed)
        if version not in manifests:
            raise PublishError(operation="verify", cause=f"{version} is not among the signed releases")
        _check_platform(manifests[version])
        older = [known for known in manifests if Version(known) < Version(version)]
        here = [known for known in older if _is_concerned(manifests[known])]
        # What is said by name and is none is refused below.
        living = sorted(set(wish.living), key=_order) or here[-LIVING_COUNT:]
        for known in older[-LIVING_COUNT:]:
            if known not in here and not wish.living:
                wish.told(f"{known}: not tried, it is for {manifests[known].platform}")
        unknown = sorted(set(living) - set(older))
        if unknown:
            cause = f"{', '.join(unknown)}: not signed, or not below {version}"
            raise PublishError(operation="verify", cause=cause)
        with _Fleet(place, manifests, signed, version=version, wish=wish) as fleet:
            fleet.check_samples(living)
            found = [_one(partial(fleet.updates, start, version), start, wish) for start in living]
            found.append(_one(partial(fleet.begins, version), NOTHING, wish))
            if signed.has_pack(version):
                found.append(_one(partial(fleet.begins_by_archive, version), BY_ARCHIVE, wish))
    left = [fared for fared in found if fared.problem and _accepts(fared.start) not in wish.accepted]
    if left:
        cause = "; ".join(f"from {fared.start}: {fared.problem}" for fared in left)
        raise Stranded(operation=f"verify {version}", cause=cause)
    return tuple(found)


def _is_concerned(before: Manifest) -> bool:
    """Return whether terminals with a version may be machines like this one, which alone can be tried here."""
    return before.platform in (ANY_PLATFORM, this_host().platform_tag())


def _order(version: str) -> Version:
    return Version(version if is_version(version) else "0")


def _accepts(start: str) -> str:
    return NEW if start in (NOTHING, BY_ARCHIVE) else start


def _one(run: Callable[[], str], start: str, wish: Wish) -> Found:
    began = time.monotonic()
    problem = run()
    found = Found(start, problem, round(time.monotonic() - began, 1))
    how = problem or "takes it"
    wish.told(f"{start}: {how} ({found.seconds:.1f} s)")
    return found


class _Signed(NamedTuple):
    """Releases and document that the copy signs."""

    document: Document
    releases: Mapping[str, ReleaseId]
    """Version to release id, lowest version first."""
    custom: Mapping[str, Any]
    """Version to the summary in the metadata."""
    hashes: Mapping[str, str]
    """Name of a target to its hash, with which its public name begins."""

    def has_pack(self, version: str) -> bool:
        """Return whether there is a pack of a release."""
        return f"{self.document.app}-{version}{PACK_END}" in self.hashes


def _unbraked(workshop: Workshop, config: Config) -> _Signed:
    """Lift pause and brake in a copy: a release that is published during a pause is tried all the same."""
    document = rollout.read(workshop, public=storage_of(config.public))
    if document.paused:
        document = rollout.write(workshop, document._replace(paused=False))
    if rollout.brake_of(workshop.roles.timestamp.signed) != NO_BRAKE:
        rollout.put_brake(workshop, NO_BRAKE)
    targets, known = workshop.roles.targets.signed.targets, rollout.releases(workshop)
    custom = {
        version: targets[f"{config.app}-{version}.manifest"].unrecognized_fields.get("custom") for version in known
    }
    return _Signed(document, known, custom, {name: info.hashes["sha256"] for name, info in targets.items()})


def _manifests(public: Path, signed: _Signed) -> dict[str, Manifest]:
    """Return the manifests that can be read, lowest version first: of the others no terminal has one."""
    found = {}
    for version, release_id in signed.releases.items():
        try:
            data = (public / f"{release_id}.{signed.document.app}-{version}.manifest").read_bytes()
            found[version] = parse(data, installed=True)
        except (OSError, ManifestError):
            continue
    return found


def _check_platform(manifest: Manifest) -> None:
    host = this_host().platform_tag()
    if manifest.platform not in (ANY_PLATFORM, host):
        raise PublishError(
            operation="verify", cause=f"{manifest.version} is for {manifest.platform}, and this machine is {host}",
            hint="Publish on such a machine; or, where terminals were tried in another way, with --unverified.",
        )  # fmt: skip


def _channel(signed: _Signed, version: str) -> str:
    """Return the channel that leads to the release; stable if several do."""
    wanted = signed.releases[version]
    names = [name for name, channel in signed.document.channels.items() if channel.release == wanted]
    return STABLE if STABLE in names or not names else names[0]


class _Fleet:
    """Scratch terminals, and the two servers that they ask: the copy, and a throw-away repository of one older version.

    A terminal of an older version is installed from the throw-away repository, in which that version is the newest, and
    then trusts the vendor's first root and asks the copy.
    """

    def __init__(
        self, folder: Path, manifests: Mapping[str, Manifest], signed: _Signed, *, version: str, wish: Wish
    ) -> None:
        self._folder: Final = folder
        self._manifests: Final = manifests
        self._channel: Final = _channel(signed, version)
        self._wish: Final = wish
        self._signed: Final = signed
        self._samples: Final = [(_schema_of(sample), sample) for sample in wish.sample_databases]
        self._app: Final = next(iter(manifests.values())).app
        self._public: Final = folder / "public"
        self._rehearsed: Final[dict[Path | int, str]] = {}
        self._open: Final = ExitStack()
        self._earlier: Final = folder / "earlier"
        self._url = self._earlier_url = ""

    def __enter__(self) -> Self:
        repository.init(
            folder=self._earlier, app=self._app, public=self._earlier / "public", keys=None,
            passwords=lambda _: _PASSWORD, expiration_days={},
        )  # fmt: skip
        self._url = self._open.enter_context(running(make_server(self._public)))
        self._earlier_url = self._open.enter_context(running(make_server(self._earlier / "public")))
        return self

    def __exit__(self, *raised: object) -> None:
        self._open.close()

    def check_samples(self, living: Iterable[str]) -> None:
        """Refuse a sample database that no living version works on: it would not be tried.

        Raises:
            PublishError: there is one.
        """
        schemas = {self._manifests[version].schema for version in living}
        for schema, sample in self._samples:
            if schema not in schemas:
                cause = f"it has schema {schema}, and the living versions have {', '.join(map(str, sorted(schemas)))}"
                raise PublishError(operation="try the sample database", path=sample, cause=cause)

    def updates(self, start: str, version: str) -> str:
        """Return why a terminal of a version cannot take the release; empty if it can."""
        before, after = self._manifests[start], self._manifests[version]
        if before.platform not in (after.platform, ANY_PLATFORM) and after.platform != ANY_PLATFORM:
            return f"it is for {before.platform}, the release for {after.platform}"
        agent = max(Version(before.least_agent), Version(self._wish.oldest_agent))
        if Version(after.least_agent) > agent:
            return f"its terminals may have Tillkeeper {agent}, the release needs {after.least_agent}"
        if self._wish.oldest_sqlite and lacks_sqlite(after.least_sqlite, self._wish.oldest_sqlite):
            return f"its terminals may have SQLite {self._wish.oldest_sqlite}, the release needs {after.least_sqlite}"
        self._offer(start)
        place = self._folder / f"terminal-{start}"
        root = self._earlier / "public" / "metadata" / "1.root.json"
        problem = self._install(place, self._earlier_url, root, before, STABLE if not is_early(start) else OTHER)
        if problem:
            return f"{start} itself cannot be installed: {problem}"
        channel = OTHER if self._channel == STABLE and is_early(start) else self._channel
        settings = settings_file.load(place / "settings.toml", {})._replace(url=self._url, channel=channel)
        files.write_durably(settings.path, settings_file.to_toml(settings).encode())
        trust.forget(settings.trust)
        trust.begin(settings.trust, (self._public / "metadata" / "1.root.json").read_bytes())
        given = [sample for schema, sample in self._samples if schema == before.schema]
        databases = [_copy(sample, settings.data / f"sample-{number}.db") for number, sample in enumerate(given)]
        if not given:
            problem = self._sample(place, start, settings.database)
            databases = [settings.database]
        if problem:
            return f"no database of {start} can be made: {problem}"
        code, said = _run("updater.__main__", "check", "--settings", str(settings.path))
        journal, _ = StateFolder(settings.state, shared=settings.shared).read_journal()
        candidate = journal.candidate if journal is not None else None
        if candidate is None or candidate.version != version:
            return _last_line(said) or f"`updater check` ended with {code}"
        if problem := _unusable(settings):
            return problem
        release = settings.program / "versions" / candidate.folder
        keys: list[Path | int] = [*given] or [before.schema]
        problems = [
            self._rehearse_once(key, database, release, after) for key, database in zip(keys, databases, strict=True)
        ]
        if not any(problems) and _is_fixed(before, after):
            former = next((settings.program / "versions").glob(f"{start}-*"))
            problems = [_fixed(database, former=former, release=release, after=after) for database in databases]
        return next(filter(None, problems), "")

    def begins(self, version: str) -> str:
        """Return why a terminal cannot begin with the release; empty if it can."""
        place, root = self._folder / "terminal-new", self._public / "metadata" / "1.root.json"
        problem = self._begins(place, self._url, root, version, self._channel)
        return problem or self._sample(place, version, settings_file.load(place / "settings.toml", {}).database)

    def begins_by_archive(self, version: str) -> str:
        """Return why a terminal that cannot take packs cannot begin with the release; empty if it can.

        The throw-away repository has no packs.
        """
        self._offer(version)
        root = self._earlier / "public" / "metadata" / "1.root.json"
        channel = STABLE if not is_early(version) else OTHER
        return self._begins(self._folder / "terminal-archive", self._earlier_url, root, version, channel)

    def _begins(self, place: Path, url: str, root: Path, version: str, channel: str) -> str:
        problem = self._install(place, url, root, self._manifests[version], channel)
        if problem:
            return problem
        settings = settings_file.load(place / "settings.toml", {})
        journal, _ = StateFolder(settings.state, shared=settings.shared).read_journal()
        if journal is None or journal.good.version != version:
            return f"it begins with {journal.good.version if journal is not None else 'nothing'}"
        return _unusable(settings)

    def _offer(self, start: str) -> None:
        """Sign an older version in the throw-away repository; the bytes are those of the copy."""
        targets = self._earlier / "public" / "targets"
        targets.mkdir(parents=True, exist_ok=True)

        def put(workshop: Workshop, _: Config) -> None:
            archive, manifest = f"{self._app}-{start}.tar.gz", f"{self._app}-{start}.manifest"
            for name, custom in ((archive, None), (manifest, self._signed.custom[start])):
                public = f"{self._signed.hashes[name]}.{name}"
                path = workshop.targets_dir / name
                repository.link_or_copy(self._public / "targets" / public, path)
                workshop.roles.add_or_update_target(local_path=path, custom=custom)
                # A link, which the deploy then leaves as it is: archives are large.
                repository.link_or_copy(path, targets / public)

        repository.change(self._earlier, put, roles=ONLINE, passwords=lambda _: _PASSWORD)

    def _install(self, place: Path, url: str, root: Path, manifest: Manifest, channel: str) -> str:
        words = ["--root", str(root), "--url", url, "--app", self._app, "--settings", str(place / "settings.toml")]
        words += ["--program", str(place / "program"), "--state", str(place / "state"), "--data", str(place / "data")]
        words += ["--channel", channel]
        # A scratch terminal may lie on any disk: it is removed at the end.
        words += [word for hazard in ACCEPTABLE for word in ("--accept-disk", hazard)]
        if manifest.interpreter is not None:
            program = _program(manifest.interpreter)
            if program is None:
                return f"this machine has no program for the role {manifest.interpreter!r}"
            words += ["--interpreter", f"{manifest.interpreter}={program}"]
        code, said = _run("updater.__main__", "install", *words)
        return "" if code == 0 else _last_line(said) or f"`updater install` ended with {code}"

    def _sample(self, place: Path, version: str, database: Path) -> str:
        """Make a database of that version's schema, with made-up trade."""
        manifest = self._manifests[version]
        if manifest.migrations_folder is None:
            return ""
        (release,) = (place / "program" / "versions").glob(f"{version}-*")
        folder = release / manifest.migrations_folder
        code, said = _run("dbsync.__main__", "upgrade", "--migrations", str(folder), "--database", str(database))
        return _tried("trade", str(database)) if code == 0 else _cause(said) or f"it ended with {code}"

    def _rehearse_once(self, key: Path | int, database: Path, release: Path, manifest: Manifest) -> str:
        # Once for each schema or sample: the made-up databases of one schema are the same.
        if key not in self._rehearsed:
            hint = MADE_UP if isinstance(key, int) else f" ({key})"
            problem = _rehearse(database, release, manifest)
            self._rehearsed[key] = f"{problem}{hint}" if problem else ""
        return self._rehearsed[key]


def _unusable(settings: Settings) -> str:
    """Return why a pack or a delta could not be used; empty if all could. A terminal then takes another form."""
    unusable = TerminalOutcome.PACK_UNUSABLE.name
    found = (event for event in events.read(settings.private, settings.shared) if event.get("outcome") == unusable)
    return next((str(event.get("cause")) for event in found), "")


def _schema_of(database: Path) -> int:
    try:
        with closing(open_reading(database)) as connection:
            return version_of(connection)
    except (TillkeeperError, sqlite3.Error) as cause:
        raise PublishError(operation="read the sample database", path=database, cause=str(cause)) from cause


def _copy(sample: Path, target: Path) -> Path:
    """Copy a database with what lies beside it."""
    for end in ("", "-wal", "-journal"):
        source = sample.with_name(sample.name + end)
        if source.exists():
            shutil.copyfile(source, target.with_name(target.name + end))
    return target


def _is_fixed(before: Manifest, after: Manifest) -> bool:
    found = departures(earlier=before.migrations, now=after.migrations)
    return any(departure.kind is Kind.MENDED for departure in found)


def _fixed(database: Path, *, former: Path, release: Path, after: Manifest) -> str:
    """Return how a database that ran a migration before it was fixed differs from a fresh one; empty if in nothing.

    No terminal can tell: the migration that it ran is replaced by name, and counts as the fixed one.
    """
    assert after.migrations_folder is not None
    folder, updated = release / after.migrations_folder, database.with_name(f"fixed-{database.name}")
    _copy(database, updated)
    code, said = _run("dbsync.__main__", "upgrade", "--migrations", str(folder), "--database", str(updated))
    if code != 0:
        return f"its migrations fail: {_cause(said)}"
    before = former / (parse((former / MANIFEST_NAME).read_bytes(), installed=True).migrations_folder or "")
    return _tried("compare", str(folder), str(updated), str(before), str(database))


def _rehearse(database: Path, release: Path, manifest: Manifest) -> str:
    if manifest.migrations_folder is None:
        return ""
    folder = release / manifest.migrations_folder
    return _tried("rehearse", str(folder), str(database))


def _tried(*words: str) -> str:
    code, said = _run("updater.publish.trial_run", *words)
    problem = _last_line(said) or f"`{words[0]}` ended with {code}"
    return "" if code == 0 and problem == trial_run.DONE else problem


def _run(module: str, *words: str) -> tuple[int | None, str]:
    command = [*children.command(module), *words]
    return this_host().run_and_wait(command, timeout_seconds=STEP_SECONDS, env=None, cwd=children.FOLDER)


def _program(role: str) -> str | None:
    return children.python() if role.startswith("python") else shutil.which(role)


def _cause(text: str) -> str:
    """Return the first error of a command, without its last full stop; else its last line."""
    errors = [line.strip() for line in text.splitlines() if line.strip().startswith("Error: ")]
    return (errors[0].removeprefix("Error: ") if errors else _last_line(text)).rstrip(".")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
