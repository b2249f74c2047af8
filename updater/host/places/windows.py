"""Windows: write filters that forget, roaming and temporary profiles, OneDrive, and paths that are too long.

Read from the documents of the systems; under wine none of them is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Final

from updater.bundle_names import unfit_on_windows
from updater.decisions.places import Hazard, Zone

Tool = Callable[[Sequence[str], float], tuple[int | None, str]]
TOOL_LIMIT_SECONDS: Final = 60.0
PATH_LIMIT, LONG_PATH_LIMIT = 259, 32_000
"""Of a file, in units of UTF-16 (learn.microsoft.com, Maximum Path Length Limitation); the second where long paths are
switched on, less what the long form adds."""
UWF: Final = "the Unified Write Filter (UWF)"
UWF_DRIVER: Final = r"SYSTEM\CurrentControlSet\Services\uwfvol"
UWF_WAY_OUT: Final = 'Exclude it: `uwfmgr.exe file add-exclusion "FOLDER"`, and restart'
UWF_QUESTION: Final = (
    r"$n='root\standardcimv2\embedded';"
    "$f=Get-CimInstance -Namespace $n -ClassName UWF_Filter -ErrorAction Stop;"
    "$v=@(Get-CimInstance -Namespace $n -ClassName UWF_Volume -Filter 'CurrentSession=true' -ErrorAction Stop"
    "|Where-Object Protected|ForEach-Object{$e=(Invoke-CimMethod -InputObject $_ -MethodName GetExclusions)"
    ".ExcludedFiles;@{drive=$_.DriveLetter;excluded=@($e|ForEach-Object FileName)}});"
    "@{enabled=[bool]$f.CurrentEnabled;volumes=$v}|ConvertTo-Json -Depth 5 -Compress"
)
"""The state of this session, for an administrator (learn.microsoft.com, UWF_Filter, UWF_Volume)."""
DEEP_FREEZE: Final = "Deep Freeze"
DEEP_FREEZE_SERVICE: Final = r"SYSTEM\CurrentControlSet\Services\DFServ"
DEEP_FREEZE_WAY_OUT: Final = "Give a folder on a ThawSpace, or on a disk that is not frozen"
FROZEN, THAWED = 1, 0
"""Exit codes of `DFC.exe get /ISFROZEN` (Faronics, Deep Freeze Command Line Control)."""
TEMPORARY, ROAMING, MANDATORY = 1, 2, 4
"""PT_TEMPORARY, PT_ROAMING, PT_MANDATORY (learn.microsoft.com, GetProfileType)."""


def zones(tool: Tool) -> tuple[Zone, ...]:
    """Return the zones of this machine and of this account's profile."""
    system = os.environ.get("SYSTEMROOT", "C:\\Windows")
    return (
        *_write_filter(tool, system),
        *_deep_freeze(tool, system),
        *of_profile(_profile(), os.environ),
        *of_onedrive(os.environ),
    )


# ------------------------------------------------------------------------------------------------- disks that forget


def _write_filter(tool: Tool, system: str) -> tuple[Zone, ...]:
    # PowerShell takes a second: it is started only where the driver is there.
    if not _has_key(UWF_DRIVER):
        return ()
    shell = rf"{system}\System32\WindowsPowerShell\v1.0\powershell.exe"
    words = [shell, "-NoProfile", "-NonInteractive", "-Command", UWF_QUESTION]
    code, said = tool(words, TOOL_LIMIT_SECONDS)
    return of_write_filter(said if code == 0 else "")


def of_write_filter(said: str) -> tuple[Zone, ...]:
    """Return the zones of UWF, by the answer to UWF_QUESTION; a part of all disks if there is no answer."""
    try:
        found = json.loads(said[said.index("{") : said.rindex("}") + 1])
        if not found["enabled"]:
            return ()
        return tuple(_volume(str(volume["drive"]), volume["excluded"]) for volume in found["volumes"])
    except (ValueError, KeyError, TypeError):
        hint = "Run it as administrator, who may ask the filter"
        return (Zone("", Hazard.FORGETS, UWF, hint, is_sure=False),)


def _volume(drive: str, excluded: Sequence[str | None]) -> Zone:
    root = drive.rstrip("\\") + "\\"
    # Names are given from the root of the volume on.
    paths = tuple(root + path.removeprefix(root).lstrip("\\") for path in excluded if path)
    return Zone(root, Hazard.FORGETS, UWF, UWF_WAY_OUT, paths)


def _deep_freeze(tool: Tool, system: str) -> tuple[Zone, ...]:
    for program in (rf"{system}\SysWOW64\DFC.exe", rf"{system}\System32\DFC.exe"):
        if Path(program).is_file():
            return of_deep_freeze(tool([program, "get", "/ISFROZEN"], TOOL_LIMIT_SECONDS)[0])
    return of_deep_freeze(None) if _has_key(DEEP_FREEZE_SERVICE) else ()


def of_deep_freeze(code: int | None) -> tuple[Zone, ...]:
    """Return the zone of Deep Freeze, by the exit code of its command; which disks are frozen it does not tell."""
    if code == THAWED:
        return ()
    return (Zone("", Hazard.FORGETS, DEEP_FREEZE, DEEP_FREEZE_WAY_OUT, is_sure=code == FROZEN),)


def _has_key(place: str) -> bool:
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place):  # type: ignore[attr-defined,unused-ignore]
            return True
    except FileNotFoundError:
        return False
    except OSError:
        # It is there, and this account may not read it.
        return True


# ------------------------------------------------------------------------------------ profiles and synchronised folders


def _profile() -> int:
    """Return the kind of this account's profile; 0 for a local one, or if it cannot be determined."""
    import ctypes

    kind = ctypes.c_ulong()
    library = ctypes.WinDLL("userenv")  # type: ignore[attr-defined,unused-ignore]
    return kind.value if library.GetProfileType(ctypes.byref(kind)) else 0


def of_profile(kind: int, environment: Mapping[str, str]) -> Iterator[Zone]:
    """Yield the zone of a profile that roams, or that is given up at the end of a session."""
    home = environment.get("USERPROFILE", "")
    if not home:
        return
    local = environment.get("LOCALAPPDATA") or rf"{home}\AppData\Local"
    if kind & (TEMPORARY | MANDATORY):
        by = "a temporary profile" if kind & TEMPORARY else "a mandatory profile"
        yield Zone(home, Hazard.FORGETS, by, "Pass --machine for places that belong to no profile")
    elif kind & ROAMING:
        hint = f"Pass --machine, or give a folder below {local}"
        yield Zone(
            home, Hazard.SYNCED, "the roaming profile of this account", hint, (local, rf"{home}\AppData\LocalLow")
        )


def of_onedrive(environment: Mapping[str, str]) -> Iterator[Zone]:
    """Yield the folders that OneDrive copies: it names them in the environment of its account."""
    for name in ("OneDriveConsumer", "OneDriveCommercial", "OneDrive"):
        folder = environment.get(name) or environment.get(name.upper(), "")
        if folder:
            yield Zone(folder, Hazard.SYNCED, "OneDrive", "Give a folder outside of it")


# ------------------------------------------------------------------------------------------------------------- paths


@cache
def path_limit() -> int:
    """Return the length that the path of a file may have in this process."""
    import ctypes

    library = ctypes.WinDLL("ntdll")  # type: ignore[attr-defined,unused-ignore]
    asked = getattr(library, "RtlAreLongPathsEnabled", None)
    if asked is None:
        # Before Windows 10 1607.
        return PATH_LIMIT
    asked.restype = ctypes.c_ubyte
    return LONG_PATH_LIMIT if asked() else PATH_LIMIT


def path_problem(text: str, *, below_units: int, limit: int) -> str:
    """Return why Windows cannot hold a path, and what is appended to it; empty if it can."""
    if text.startswith(("\\\\?\\", "\\\\.\\")):
        return "it begins with \\\\?\\ or \\\\.\\, where other rules hold: give it as C:\\FOLDER"
    path = PureWindowsPath(text)
    for part in path.parts[1:] if path.anchor else path.parts:
        problem = unfit_on_windows(part)
        if problem:
            return f"the name {part!r} {problem}"
    units = len(text.encode("utf-16-le", errors="surrogatepass")) // 2
    if units + below_units > limit:
        need = f" and {below_units} for what lies below it" if below_units else ""
        return f"it has {units} characters{need}; without long paths Windows takes {limit}"
    return ""
