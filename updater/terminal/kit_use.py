"""Kits in use: a process that runs for long holds its kit, and a kit that is held is not removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dbsync.errors import TillkeeperError
from dbsync.storage import children, file_calls, files
from dbsync.storage.platform import this_platform
from updater.bundle_names import MANIFEST_NAME

NAME: Final = "kit.json"
"""The file that is locked: every kit has it, and every account may read it."""
FOLDER: Final = "agent-{}"
RESCUE: Final = "rescue"
"""Folder of a home with the code, and on Windows the Python, that no kit changes."""
GONE: Final = ".gone-"
_HELD: Final[list[int]] = []


def own_folder() -> Path | None:
    """Return the folder of the kit that this process runs from; None if it runs from no kit."""
    folder = children.CODE.parent
    if children.CODE.name != "site" or not folder.name.startswith(FOLDER.format("")):
        return None
    return folder if files.is_there(folder / NAME) else None


def hold() -> None:
    """Keep the kit of this process from being removed until the process ends, however it does."""
    try:
        folder = own_folder()
        if folder is None:
            return
        descriptor = this_platform().open_claim(folder / NAME)
    except (OSError, TillkeeperError):
        # A till starts without it: its kit is that of the pointer, which is not removed.
        return
    try:
        this_platform().try_lock(descriptor, shared=True)
    except OSError:
        os.close(descriptor)
        return
    _HELD.append(descriptor)


def remove_unused(home: Path, *, keep: frozenset[str], by_setup: bool = False) -> Iterator[str]:
    """Remove the kits that are neither kept nor held; yield their names.

    A kit loses its name first: a crash in between leaves no half of one under a name that could be started.

    Args:
        home: the folder of the kits.
        keep: the ids of those that stay.
        by_setup: whether a setup asks. For others a kit that was never in place, and is no release, is one that a
            setup is just bringing.
    """
    # Here, because a launch needs none of it.
    from updater.host import stub

    for folder in files.listed(home, f"{GONE}*"):
        file_calls.remove_tree_if_possible(folder)
    for folder in files.listed(home, FOLDER.format("*")):
        kit_id = folder.name.removeprefix(FOLDER.format(""))
        if kit_id in keep or not stub.is_identity(kit_id) or _is_held(folder):
            continue
        if not by_setup and not any(files.is_there(folder / name) for name in (stub.MARK, MANIFEST_NAME)):
            continue
        gone = folder.with_name(f"{GONE}{folder.name}")
        try:
            files.rename_durably(source=folder, target=gone)
        except TillkeeperError:
            # A program that runs from it, on a system that renames no folder then.
            continue
        file_calls.remove_tree_if_possible(gone)
        yield folder.name


def _is_held(folder: Path) -> bool:
    try:
        descriptor = this_platform().open_claim(folder / NAME)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not this_platform().try_lock(descriptor, shared=False)
    except OSError:
        return True
    finally:
        os.close(descriptor)
