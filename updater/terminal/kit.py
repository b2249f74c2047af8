"""Kits on a terminal: verified, put beside the one before, and switched to by one rename of the pointer.

A kit lies in a folder of its own below its home, `agent-ID`. The programs in the home start the kit that the pointer
names (`updater.host.stub`). A cut at any moment leaves whole kits: the one before stays, and one in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from dbsync.errors import Refused, UnreadableFile
from dbsync.storage import file_calls, files
from updater.host import stub, this_host
from updater.terminal import kit_pointer, kit_use

FORMAT: Final = 1
SUMS: Final = "SHA256SUMS"
FOLDER: Final = kit_use.FOLDER
PROGRAMS: Final = "programs"
"""Folder of a kit with what is put into the home."""
RESCUE_PARTS: Final = (
    ("site/dbsync", "lib/dbsync"),
    ("site/updater", "lib/updater"),
    # zstd: a backup may be compressed.
    ("site/backports", "lib/backports"),
    ("python", "python"),
    ("rescue", "."),
)
"""Folders of a kit, and their places in the rescue folder. On Linux the Python is that of the system."""


class Kit(NamedTuple):
    """A kit on this machine."""

    folder: Path
    id: str
    app: str
    platform: str
    """The platform that it serves, as the host tags it."""
    url: str
    mirrors: tuple[str, ...]
    proxy: str
    has_ca_file: bool
    till_user: str
    till_group: str
    interpreters: Mapping[str, str]
    version: str = ""
    """Its version, as releases of the agent have one; kits of before had none."""


def read(folder: Path) -> Kit:
    """Return the kit in a folder.

    Raises:
        UnreadableFile: it is none, or it was made for a newer agent.
    """
    path = folder / "kit.json"
    try:
        found: dict[str, Any] = files.read_json(path)
        if found.pop("format") != FORMAT:
            raise UnreadableFile(operation="read", path=path, cause="its format is not known to this agent")
        found["mirrors"] = tuple(found["mirrors"])
        # A field that a later kit adds is not known here: the agent before looks at it too.
        return Kit(folder.absolute(), **{name: found[name] for name in found.keys() & frozenset(Kit._fields)})
    except (FileNotFoundError, KeyError, TypeError) as cause:
        raise UnreadableFile(operation="read", path=path, cause=f"this folder is no kit ({cause})") from cause


def refuse_other_platform(kit: Kit) -> None:
    """Refuse a kit that was made for another system or another kind of processor.

    Raises:
        Refused: this machine is not what it serves.
    """
    tag = this_host().platform_tag()
    if tag != kit.platform:
        raise Refused(
            operation="use the kit", path=kit.folder, cause=f"it serves {kit.platform}, and this machine is {tag}",
            hint="Ask the vendor for the kit of this platform.",
        )  # fmt: skip


def verify(kit: Kit) -> None:
    """Compare every file of a kit with its list, and make all of it durable.

    Raises:
        Refused: a file is missing or differs.
        DiskProblem: a file cannot be read, or may not be durable.
    """
    paths = {kit.folder / PurePosixPath(name): sha256 for sha256, name in _sums(kit.folder)}
    wrong = [path for path, sha256 in paths.items() if not files.is_there(path) or files.sha256_of(path) != sha256]
    if wrong:
        raise Refused(
            operation="verify the kit", path=kit.folder, cause=f"{len(wrong)} files differ, the first is {wrong[0]}",
            hint="Run the setup again; fetch it anew if that does not help.",
        )  # fmt: skip
    for path in paths:
        # Windows lets nobody flush a program that runs, and the Python that runs this is one of them.
        files.sync_seen(path)
    for folder in {folder for path in paths for folder in path.parents if kit.folder in (folder, *folder.parents)}:
        files.sync_folder(folder)


def _sums(folder: Path) -> Iterator[tuple[str, str]]:
    with files.disk_errors("read", folder / SUMS):
        text = file_calls.read_text(folder / SUMS)
    for line in text.splitlines():
        sha256, _, name = line.partition("  ")
        yield sha256, name


def place(kit: Kit, *, home: Path, rescue: Path) -> tuple[str, ...]:
    """Let the programs in the home run this kit; return the kits that were removed.

    The rescue folder is made once, and never changed again: it works when this kit does not.

    Raises:
        Refused: the kit is not in its place, serves another platform, or is damaged.
        DiskProblem: a file cannot be written; the programs that were not replaced run the kit before.
    """
    refuse_other_platform(kit)
    if kit.folder != home / FOLDER.format(kit.id):
        raise Refused(
            operation="use the kit", path=kit.folder, cause=f"its place is {home / FOLDER.format(kit.id)}",
            hint="Run the vendor's setup program, which puts it there.",
        )  # fmt: skip
    verify(kit)
    compile_code(kit.folder / "site")
    if not files.is_there(rescue):
        _make_rescue(kit, rescue)
    pointed = stub.pointer(home)
    # A setup that is repeated keeps the kit before, too: processes of it may run.
    before = pointed.get("before") if pointed.get("id") == kit.id else pointed.get("id")
    before = before if isinstance(before, str) else None
    for path in files.listed(kit.folder / PROGRAMS, "*"):
        _replace(source=path, target=home / path.name)
    # Last: a cut before it repeats the setup, and the kit before is kept either way. The trial of an agent is over.
    kit_pointer.settle(home, kit_id=kit.id, before=before)
    return tuple(kit_use.remove_unused(home, keep=frozenset({kit.id, before or kit.id}), by_setup=True))


def compile_code(site: Path) -> None:
    """Compile the code: the till's account may not write here, and would compile it at every start."""
    import compileall

    compileall.compile_dir(site, quiet=2)


def _make_rescue(kit: Kit, rescue: Path) -> None:
    made = rescue.with_name(f"{files.NEW}{rescue.name}")
    with files.disk_errors("remove", made):
        if files.is_there(made):
            file_calls.remove_tree(made)
    for source, target in RESCUE_PARTS:
        if files.is_there(kit.folder / source):
            _copy_tree(source=kit.folder / source, target=made / target)
    if kit.has_ca_file:
        files.copy_bytes(source=kit.folder / "ca.pem", target=made / "ca.pem")
    files.sync_tree(made)
    files.rename_durably(source=made, target=rescue)


def _copy_tree(*, source: Path, target: Path) -> None:
    for parent, folders, names in os.walk(source):
        folders[:] = [name for name in folders if name != "__pycache__"]
        into = target / Path(parent).relative_to(source)
        files.make_folder(into)
        with files.disk_errors("set the mode of", into):
            files.set_mode(into, 0o755)
        for name in names:
            _copy(source=Path(parent, name), target=into / name)


def _copy(*, source: Path, target: Path) -> None:
    files.copy_bytes(source=source, target=target)
    # A copy has the rights of a file of data: a program is one that may be run.
    with files.disk_errors("set the mode of", target):
        files.set_mode(target, source.stat().st_mode & 0o777)


def _replace(*, source: Path, target: Path) -> None:
    """Put a program into its place by a rename; one that runs is put aside first, and removed once it may be."""
    new, aside = target.with_name(f"{files.NEW}{target.name}"), target.with_name(f".old-{target.name}")
    file_calls.remove_if_possible(aside)
    _copy(source=source, target=new)
    files.sync_file(new)
    if not this_host().keeps_executable_bit and files.is_there(target) and not files.is_there(aside):
        # A program that runs there cannot be replaced, but renamed. A cut in between leaves its other name: the setup
        # is repeated, and the shortcut opens nothing until then.
        files.rename_durably(source=target, target=aside)
    files.rename_durably(source=new, target=target)
