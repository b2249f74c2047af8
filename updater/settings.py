"""Settings of one terminal: one TOML file, overridden by the environment, validated once, frozen, passed down."""

# Annotations are evaluated here: as texts, NamedTuple compiles each again at every start (`scripts/bench launch`).
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from dbsync.errors import disk_problem
from dbsync.storage import file_calls
from updater.errors import SettingsError
from updater.model import STABLE, Limits

if TYPE_CHECKING:
    from updater.host.base import Folders

FORMAT: Final = 1
CHANNEL_LIMIT: Final = 40
PREFIX: Final = "TILLKEEPER_"
ACCEPTED_VARIABLE: Final = PREFIX + "ACCEPTED_DISKS"
ACCEPTABLE_DISKS: Final = ("forgets", "removable", "fat")
"""The values of `decisions.places.ACCEPTABLE`, which a start does not load; a test compares them."""
FOLDERS: Final = ("program", "state", "data", "backups", "shared")
_OVERRIDABLE: Final = ("url", "program", "state", "data", "database", "backups")
_LISTS: Final = ("mirrors",)


class Settings(NamedTuple):
    """Paths, window and limits of one terminal. Paths are absolute."""

    path: Path
    """The file that these settings were read from."""
    app: str
    terminal_id: str
    url: str
    mirrors: tuple[str, ...]
    program: Path
    state: Path
    data: Path
    database: Path
    backups: Path
    backup_prefix: str
    interpreters: Mapping[str, str]
    """Interpreter role in a manifest → program on this terminal."""
    python: str
    """The Python with which this was installed; empty if it is not known, or is no program of its own."""
    window_from: str
    window_until: str
    """Swaps happen between these times of day, local time, "HH:MM"; equal times mean always."""
    interval_seconds: float
    jitter_seconds: float
    limits: Limits
    backup_keep: str = ""
    """The policy of backups on a schedule, as `dbsync backup --keep` takes it; empty: none are made."""
    backup_second: Path | None = None
    """The second place of these backups, perhaps away."""
    shared_folder: Path | None = None
    """The folder that the till's account writes; None for the usual one, inside the state folder."""
    private_folder: Path | None = None
    """Not in the file: where a terminal that has not been moved has the agent's files (`terminal.layout`)."""
    till_user: str = ""
    """The account that runs the app, if it is not the agent's; empty: one account does everything."""
    till_group: str = ""
    """The group of several accounts that run the app by turns; empty: only `till_user` does."""
    till_may_roll_back: bool = True
    """Whether that account may go back without the rights of the agent's."""
    proxy: str = ""
    """Proxy of all requests, or `none`; empty for what the environment or the system says."""
    no_proxy: tuple[str, ...] = ()
    """Hosts that are asked without a proxy, beside those of the environment."""
    channel: str = STABLE
    """The vendor's channel that this terminal follows."""
    ca_file: str = ""
    """PEM file with certificate authorities beside the system's; empty for none."""
    accepted_disks: tuple[str, ...] = ()
    """Hazards of its disks that a person accepted (`decisions.places.Hazard`)."""
    stable_path: Path | None = None
    """A link that leads to the version that runs, or starts next; None for none. No decision ever reads it."""

    @property
    def shared(self) -> Path:
        """Folder that the till's account writes: trials, choices, confirms, its events and alarms."""
        return self.shared_folder or self.state / "shared"

    @property
    def private(self) -> Path:
        """Folder that only the agent's account reads and writes."""
        return self.private_folder or self.state / "private"

    @property
    def trust(self) -> Path:
        """Folder of trusted metadata."""
        return self.private / "trust"

    @property
    def manifests(self) -> Path:
        """Folder of manifests of releases that may be chosen, by release id."""
        return self.trust / "manifests"

    @property
    def downloads(self) -> Path:
        """Folder of archives that are being downloaded."""
        return self.private / "downloads"

    @property
    def addresses(self) -> Path:
        """Record of the addresses of the repository that failed."""
        return self.private / "addresses.json"

    @property
    def outbox(self) -> Path:
        """Folder of reports that are to be delivered."""
        return self.private / "outbox"

    @property
    def kept_files(self) -> Path:
        """Folder of files that the app kept beside its program, one folder for each version that was removed."""
        return self.private / "kept"

    @property
    def reports(self) -> Path:
        """Folder of loss reports."""
        return self.shared / "reports"


def find(path: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the settings file: the given one, else TILLKEEPER_SETTINGS, else the only one in the usual places.

    These are the place of this account's settings and that of this machine's.

    Raises:
        SettingsError: there is none, or several apps are installed and no file was named.
    """
    if path is not None:
        return path.absolute()
    if environment.get(PREFIX + "SETTINGS"):
        return Path(environment[PREFIX + "SETTINGS"]).absolute()
    places = [folders.settings_file.parent.parent for folders in usual_folders("app")]
    found = [path for place in places for path in sorted(place.glob("*/settings.toml"))]
    if len(found) == 1:
        return found[0]
    raise SettingsError(
        operation="find the settings",
        path=places[0],
        cause=f"there are none, and none in {places[1]}"
        if not found
        else f"there are {len(found)} apps: {', '.join(map(str, found))}",
        hint=f"Name the file with --settings FILE or in {PREFIX}SETTINGS.",
    )


def usual_folders(app: str) -> "tuple[Folders, Folders]":
    """Return the usual places of an app: those of this account, and those of this machine."""
    from updater.host import this_host

    return this_host().default_folders(app), this_host().machine_folders(app)


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings.

    Raises:
        SettingsError: the file is missing, unreadable or invalid (the message names the key); or data and program
            files would share a folder (uninstalling the one would then remove the other).
        DiskProblem: the file cannot be read now.
    """
    try:
        table = tomllib.loads(file_calls.read_text(path))
    except FileNotFoundError:
        raise SettingsError(operation="read the settings", path=path, cause="there is no such file") from None
    except (IsADirectoryError, NotADirectoryError, ValueError) as cause:
        raise SettingsError(operation="read the settings", path=path, cause=str(cause)) from cause
    except OSError as cause:
        # It says nothing about what they are: another program may hold the file.
        raise disk_problem("read the settings", path, cause) from cause
    for name in _OVERRIDABLE:
        if PREFIX + name.upper() in environment:
            table[name] = environment[PREFIX + name.upper()]
    if environment.get(ACCEPTED_VARIABLE):
        table["accepted_disks"] = [*table.get("accepted_disks", ()), *accepted_by(environment)]
    settings = _build(_Reader(path, table))
    check_apart(settings)
    return settings


def accepted_by(environment: Mapping[str, str]) -> list[str]:
    """Return the hazards of disks that the environment accepts, beside those of the settings."""
    return [word for word in environment.get(ACCEPTED_VARIABLE, "").split(",") if word]


def check_apart(settings: Settings) -> None:
    """Refuse data inside the program folder, or the program inside the data folder (requirement S113)."""
    for name in ("data", "database", "backups", "state", "shared"):
        place: Path = getattr(settings, name)
        if _inside(place, settings.program):
            raise SettingsError(
                operation="use the settings",
                path=settings.path,
                cause=f"{name} ({place}) lies inside the program folder ({settings.program})",
                hint="Choose a folder outside: what is in the program folder is replaced and removed by updates.",
            )
        if _inside(settings.program, place) and name != "database":
            raise SettingsError(
                operation="use the settings",
                path=settings.path,
                cause=f"the program folder ({settings.program}) lies inside {name} ({place})",
                hint="Choose folders beside each other.",
            )
    link = settings.stable_path
    if link is not None and _inside(link.parent, settings.program / "versions"):
        raise SettingsError(
            operation="use the settings", path=settings.path,
            cause=f"stable_path ({link}) lies inside the folder of the versions",
            hint=f"Choose another place, such as {settings.program / 'stable'}.",
        )  # fmt: skip


def to_toml(settings: Settings) -> str:
    """Return the text of a settings file that `load` reads back; limits only where they differ from the defaults."""
    defaults = Limits()._asdict()
    lines = [f"format = {FORMAT}"]
    names = ("app", "terminal_id", "url", "program", "state", "data", "database", "backups", "backup_prefix", "python")
    lines += [f"{name} = {_quoted(str(getattr(settings, name)))}" for name in names if getattr(settings, name)]
    lines += [f"shared = {_quoted(str(settings.shared_folder))}"] if settings.shared_folder is not None else []
    lines += [f"stable_path = {_quoted(str(settings.stable_path))}"] if settings.stable_path is not None else []
    accepted = ", ".join(map(_quoted, settings.accepted_disks))
    lines += [f"accepted_disks = [{accepted}]"] if accepted else []
    lines += [f"channel = {_quoted(settings.channel)}"] if settings.channel != STABLE else []
    lines.append(f"mirrors = [{', '.join(_quoted(mirror) for mirror in settings.mirrors)}]")
    lines += ["", "[interpreters]"]
    lines += [f"{_quoted(role)} = {_quoted(place)}" for role, place in sorted(settings.interpreters.items())]
    lines += ["", "[window]  # local time; equal means always"]
    lines += [f"from = {_quoted(settings.window_from)}", f"until = {_quoted(settings.window_until)}"]
    if settings.backup_keep:
        lines += ["", "[backup]", f"keep = {_quoted(settings.backup_keep)}"]
        lines += [f"second = {_quoted(str(settings.backup_second))}"] if settings.backup_second is not None else []
    if settings.till_user:
        lines += ["", "[accounts]", f"till = {_quoted(settings.till_user)}"]
        lines += [f"group = {_quoted(settings.till_group)}"] if settings.till_group else []
        lines += [] if settings.till_may_roll_back else ["till_may_roll_back = false"]
    lines += _network_lines(settings)
    lines += ["", "[agent]", f"interval_seconds = {settings.interval_seconds}"]
    lines += [f"jitter_seconds = {settings.jitter_seconds}", "", "[limits]"]
    lines += [f"{name} = {value}" for name, value in settings.limits._asdict().items() if value != defaults[name]]
    return "\n".join(lines) + "\n"


def _network_lines(settings: Settings) -> list[str]:
    lines = [f"proxy = {_quoted(settings.proxy)}"] if settings.proxy else []
    lines += [f"no_proxy = [{', '.join(map(_quoted, settings.no_proxy))}]"] if settings.no_proxy else []
    lines += [f"ca_file = {_quoted(settings.ca_file)}"] if settings.ca_file else []
    return ["", "[network]", *lines] if lines else []


class _Reader:
    """Reader that takes values out of a table by name and type; a value left over at the end is an unknown key."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self.path = path
        self.table = table

    def wrong(self, key: str, what: str) -> SettingsError:
        return SettingsError(operation="read the settings", path=self.path, cause=f"{key}: {what}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.table.pop(key, default)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "missing" if value is None else "must be a string")
        return value

    def text_if_any(self, key: str) -> str:
        return self.text(key) if key in self.table else ""

    def folder(self, key: str) -> Path:
        value = Path(self.text(key))
        if not value.is_absolute():
            raise self.wrong(key, f"{value} is not an absolute path")
        return value

    def number(self, key: str, default: float, *, least: float = 0) -> float:
        value = self.table.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            raise self.wrong(key, f"must be a number of at least {least}")
        return type(default)(value)

    def yes_or_no(self, key: str, default: bool) -> bool:
        value = self.table.pop(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.table.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "must be a list of strings")
        return tuple(value)

    def section(self, key: str) -> Self:
        value = self.table.pop(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "must be a section")
        return type(self)(self.path, value)

    def end(self) -> None:
        if self.table:
            raise self.wrong(", ".join(sorted(self.table)), "not known")


def _build(read: _Reader) -> Settings:
    if read.table.pop("format", None) != FORMAT:
        raise read.wrong("format", f"must be {FORMAT}")
    interpreters, window = read.section("interpreters"), read.section("window")
    agent, limits, backup = read.section("agent"), read.section("limits"), read.section("backup")
    accounts, network = read.section("accounts"), read.section("network")
    settings = Settings(
        path=read.path,
        app=read.text("app"),
        terminal_id=read.text("terminal_id"),
        url=read.text("url"),
        mirrors=read.texts("mirrors"),
        channel=_channel(read),
        accepted_disks=_accepted_disks(read),
        stable_path=read.folder("stable_path") if "stable_path" in read.table else None,
        program=read.folder("program"),
        state=read.folder("state"),
        data=read.folder("data"),
        database=read.folder("database"),
        backups=read.folder("backups"),
        backup_prefix=read.text("backup_prefix"),
        interpreters={role: interpreters.text(role) for role in list(interpreters.table)},
        python=read.text_if_any("python"),
        window_from=_time_of_day(window, "from"),
        window_until=_time_of_day(window, "until"),
        interval_seconds=agent.number("interval_seconds", 4 * 3600.0, least=1),
        jitter_seconds=agent.number("jitter_seconds", 1800.0),
        backup_keep=backup.text_if_any("keep"),
        backup_second=backup.folder("second") if "second" in backup.table else None,
        shared_folder=read.folder("shared") if "shared" in read.table else None,
        till_user=accounts.text_if_any("till"),
        till_group=accounts.text_if_any("group"),
        till_may_roll_back=accounts.yes_or_no("till_may_roll_back", True),
        proxy=network.text_if_any("proxy"),
        no_proxy=network.texts("no_proxy"),
        ca_file=str(network.folder("ca_file")) if "ca_file" in network.table else "",
        limits=Limits(**{  # type: ignore[arg-type]
            name: limits.number(name, default) for name, default in Limits._field_defaults.items()
        }),
    )  # fmt: skip
    for part in (read, interpreters, window, agent, limits, backup, accounts, network):
        part.end()
    if settings.till_group and not settings.till_user:
        raise read.wrong("accounts.group", "needs accounts.till, the account that owns the data")
    return settings


def _channel(read: _Reader) -> str:
    value = read.text("channel", STABLE)
    is_name = value.isascii() and value.replace("-", "a").isalnum() and value == value.lower()
    if not (is_name and len(value) <= CHANNEL_LIMIT):
        raise read.wrong("channel", f"{value[:CHANNEL_LIMIT]} is no name of a channel: small letters, digits and -")
    return value


def _accepted_disks(read: _Reader) -> tuple[str, ...]:
    found = read.texts("accepted_disks")
    for name in found:
        if name not in ACCEPTABLE_DISKS:
            raise read.wrong("accepted_disks", f"{name} is none of {', '.join(ACCEPTABLE_DISKS)}")
    return tuple(dict.fromkeys(found))


def _time_of_day(read: _Reader, key: str) -> str:
    value = read.text(key, "00:00")
    hours, _, minutes = value.partition(":")
    if not (len(value) == 5 and hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60):
        raise read.wrong(f"window.{key}", f"{value} is not a time of day (HH:MM)")
    return value


def _inside(inner: Path, outer: Path) -> bool:
    real = Path(os.path.realpath(inner))
    return real.is_relative_to(os.path.realpath(outer))


def _quoted(text: str) -> str:
    """Return a TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(character if character >= " " else f"\\u{ord(character):04x}" for character in escaped) + '"'
