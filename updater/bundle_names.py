"""Names and links inside a bundle: what every system refuses, and what a single system cannot hold.

The publisher and the terminal call the same functions. The publisher asks for the platform that it publishes for, a
terminal for its own, so a terminal can always hold what was published for it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from dbsync.errors import Refused

MANIFEST_NAME: Final = "tillkeeper-manifest.json"
START_NAME: Final = "tillkeeper-start.json"
OWN_NAMES: Final = frozenset({MANIFEST_NAME, START_NAME})
"""Files in a version folder that are not the release's."""
ANY_PLATFORM: Final = "any"
NAME_LIMIT: Final = 255
"""Of one name: bytes of UTF-8 on Linux and macOS, units of UTF-16 on Windows."""
PATH_LIMIT_BYTES: Final = 800
"""Of a whole path: macOS takes 1024 bytes, and the version folder stands before it."""
WINDOWS_PATH_LIMIT: Final = 150
"""Of a whole path: Windows takes 260 units, and a version folder in the usual place may have a hundred."""
LINKS_LIMIT: Final = 40
"""Links on the way to one target; Linux follows no more."""
_VERSION: Final = (
    r"(0|[1-9]\d{0,8})(\.(0|[1-9]\d{0,8})){0,9}((a|b|rc)(0|[1-9]\d{0,8}))?(\.post(0|[1-9]\d{0,8}))?"
    r"(\.dev(0|[1-9]\d{0,8}))?(\+[a-z0-9]{1,32}(\.[a-z0-9]{1,32}){0,3})?"
)
"""The normal form of PEP 440, without an epoch; it holds no separator, so it is always the name of one folder."""
_APP: Final = r"[\w-]{1,100}"
AGENT: Final = "-agent-"
"""Between the name of an app and a platform: the name of the releases of its agent."""
_DEVICES: Final = r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[1-9¹²³])"
_NOT_ON_WINDOWS: Final = r'[<>:"|?*\x00-\x1f]'


class ManifestError(Refused):
    """A manifest that cannot be used."""

    hint_by_default = "It is signed but not understood: tell the release engineer, or update the agent."


def wrong(cause: str) -> ManifestError:
    """Return the error of a manifest with this cause."""
    return ManifestError(operation="read the manifest", cause=cause)


def is_version(text: str) -> bool:
    """Return whether this is a version in its normal form, which is also safe as a part of a path."""
    return re.fullmatch(_VERSION, text, re.ASCII) is not None


def is_app(text: str) -> bool:
    """Return whether this is a name of an app."""
    return re.fullmatch(_APP, text) is not None


def agent_app(app: str, platform: str) -> str:
    """Return the name under which releases of the agent for a platform are signed, in the repository of an app."""
    return f"{app}{AGENT}{platform}"


def is_agent_app(name: str, app: str) -> bool:
    """Return whether releases of that name are releases of the agent, for some platform, beside those of an app."""
    return name.startswith(f"{app}{AGENT}")


def check_path(path: str) -> str:
    """Return a path of the bundle unchanged; refuse one that leaves the bundle, or that no system takes as it is."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise wrong(f"the path {path!r} is not one inside the bundle")
    try:
        too_long = len(path.encode()) > PATH_LIMIT_BYTES or any(len(part.encode()) > NAME_LIMIT for part in parts)
    except UnicodeEncodeError:
        raise wrong(f"the name {path!r} is not Unicode: rename the file") from None
    if too_long:
        raise wrong(f"the path {path!r} is too long: at most {NAME_LIMIT} bytes a name, {PATH_LIMIT_BYTES} in all")
    return path


def check_link(*, path: str, target: str) -> str:
    """Return the target of a symbolic link unchanged; refuse one that is absolute or cannot be a relative path."""
    if target.startswith("/") or "\\" in target or ":" in target or "\0" in target or not target:
        raise wrong(f"the link {path} -> {target} leaves the bundle")
    if len(target.encode(errors="replace")) > PATH_LIMIT_BYTES or target != target.encode(errors="replace").decode():
        raise wrong(f"the link {path} -> {target!r} is too long, or not Unicode")
    return target


def check_tree(entries: Mapping[str, str | None], folders: Collection[str]) -> None:
    """Refuse paths that pass through a file or a link, and links that lead out of the bundle.

    Args:
        entries: paths of files, each with None, and of links, each with its target.
        folders: paths of folders that hold no file.

    Raises:
        ManifestError: it names the path.
    """
    for path in (*entries, *folders):
        for above in _above(path):
            if above in entries:
                kind = "a link" if entries[above] is not None else "a file"
                raise wrong(f"the path {path!r} passes through {above!r}, which is {kind}")
    for path in folders:
        if path in entries:
            raise wrong(f"{path!r} is both a folder and a file")
    for path, target in entries.items():
        if target is not None:
            _follow(path, target, entries)


def _follow(path: str, target: str, entries: Mapping[str, str | None]) -> None:
    """Walk a link as the system does, through other links, without a file: each step must stay in the bundle."""
    place = path.split("/")[:-1]
    left = target.split("/")[::-1]
    for _ in range(LINKS_LIMIT * PATH_LIMIT_BYTES):
        if not left:
            return
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not place:
                raise wrong(f"the link {path} -> {target} leaves the bundle")
            place.pop()
            continue
        place.append(part)
        through = entries.get("/".join(place))
        if through is not None:
            place.pop()
            left += through.split("/")[::-1]
        if len(left) > LINKS_LIMIT * PATH_LIMIT_BYTES:
            break
    raise wrong(f"the link {path} -> {target} leads in a circle")


def check_fits(entries: Mapping[str, str | None], folders: Collection[str], *, platform: str) -> None:
    """Refuse names that a system cannot hold.

    Args:
        entries: paths of files, each with None, and of links, each with its target.
        folders: paths of folders that hold no file.
        platform: such as `win32-amd64`; `any` for every system.

    Raises:
        ManifestError: it names the path and the system.
    """
    for_windows, for_macos = _is_for(platform, "win32"), _is_for(platform, "darwin")
    if for_windows:
        for path in (*entries, *folders):
            _check_on_windows(path)
    if not (for_windows or for_macos):
        return
    twins: dict[str, str] = {}
    for path in (*sorted(OWN_NAMES), *entries, *folders):
        for whole in (*_above(path), path):
            other = twins.setdefault(_folded(whole, normalised=for_macos), whole)
            if other != whole:
                system = "macOS" if for_macos else "Windows"
                raise wrong(f"{other!r} and {whole!r} are one name on {system}: rename one of them")
    if any(entries.values()):
        # There a target may name a link in other letters, and then passes through it.
        folded = {
            _folded(path, normalised=True): target and _folded(target, normalised=True)
            for path, target in entries.items()
        }
        check_tree(folded, ())


def _check_on_windows(path: str) -> None:
    if len(path.encode("utf-16-le")) // 2 > WINDOWS_PATH_LIMIT:
        raise wrong(f"the path {path!r} is too long for Windows: at most {WINDOWS_PATH_LIMIT} characters")
    for part in path.split("/"):
        problem = unfit_on_windows(part)
        if problem:
            raise wrong(f"the name {part!r} in {path!r} {problem}")


def unfit_on_windows(part: str) -> str:
    """Return why Windows cannot hold a file or folder of that name; empty if it can."""
    if re.fullmatch(_DEVICES, part.partition(".")[0].rstrip(" "), re.IGNORECASE):
        return "is a device on Windows: rename it"
    found = re.search(_NOT_ON_WINDOWS, part)
    if found:
        return f"has {found.group()!r}, which Windows does not take"
    return f"ends with {part[-1]!r}, which Windows drops" if part.endswith((".", " ")) else ""


def check_app_fits(app: str, *, platform: str) -> None:
    """Refuse an app whose name a system cannot hold as a folder: terminals have folders of that name.

    Raises:
        ManifestError: it names the app and the system.
    """
    problem = unfit_on_windows(app) if _is_for(platform, "win32") else ""
    if problem:
        raise wrong(f"the name of the app {app!r} {problem}")


def _above(path: str) -> Iterator[str]:
    """Yield the folders above a path, the outermost first."""
    end = path.find("/")
    while end != -1:
        yield path[:end]
        end = path.find("/", end + 1)


def _folded(path: str, *, normalised: bool) -> str:
    """Return a form that is the same for names that a file system takes for one."""
    if path.isascii():
        return path.lower()
    # Here, because no start of a till needs it.
    import unicodedata

    found = path.casefold()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", found).casefold()) if normalised else found


def _is_for(platform: str, system: str) -> bool:
    return platform == ANY_PLATFORM or platform.split("-", maxsplit=1)[0] == system
