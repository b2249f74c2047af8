"""Owners and rights of new files: those of the database or fewer, from the first byte, whatever the umask is."""

from __future__ import annotations

import ast
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dbsync.backups import catalog, compression
from dbsync.errors import DiskProblem
from dbsync.storage import connections, files
from dbsync.storage.locks import Lock, lock_of
from dbsync.storage.platform import this_platform, windows
from tests.helpers.places import ROOT

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
as_root = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can give files away")
SOMEBODY = 12345
MAKERS = {
    "write_text", "write_bytes", "touch", "mkdir", "makedirs", "mkdtemp", "mkstemp", "copyfile", "copy2", "copytree",
    "move", "TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "chmod", "symlink_to", "hardlink_to", "umask",
}  # fmt: skip
ALLOWED = {
    "dbsync.storage.files": {
        "mkdir": "without a database, for the state of a terminal",
        "chmod": "the same",
    },
    "dbsync.storage.file_calls": {
        "mkdtemp": "a folder for this account alone",
        "open": "for callers that have made the file before, or work in a folder of their own",
        "write_bytes": "the same",
        "move": "between folders of a terminal",
    },
    "dbsync.storage.locks": {"mkdir": "without a database, for the state of a terminal"},
    "dbsync.storage.platform.posix": {"mkdir": "here the rights are set", "open": "here the rights are set"},
    "dbsync.storage.platform.windows": {"mkdir": "here the rights are set", "open": "here the rights are set"},
    "dbsync.storage.connections": {"mkdtemp": "a folder for this account alone", "connect": "files are made before"},
    "dbsync.backups.compression": {"open": "the null device"},
    "dbsync.migrations.code_child": {"umask": "of its own process, which makes no file", "open": "the null device"},
    "dbsync.migrations.engines.own_command": {"TemporaryFile": "without a name"},
}
"""The only places that make files by themselves, with the call and the reason; all others ask `storage.files`."""


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def database(folder: Path, rights: int) -> Path:
    path = folder / "shop.db"
    path.write_bytes(b"")
    path.chmod(rights)
    return path


# ------------------------------------------------------------------------------------------------------------ modes


@posix
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize(
    ("rights", "of_files", "of_folders"),
    [(0o600, 0o600, 0o700), (0o640, 0o640, 0o750), (0o644, 0o644, 0o755), (0o660, 0o660, 0o770), (0o444, 0o644, 0o755),
     (0o755, 0o644, 0o755)],
)  # fmt: skip
def test_every_new_file_has_the_rights_of_the_database(
    tmp_path: Path, mask: int, rights: int, of_files: int, of_folders: int
) -> None:
    model = database(tmp_path, rights)
    with umask(mask):
        files.write_durably(tmp_path / "durable", b"x", like=model)
        files.write_json(tmp_path / "json", {}, like=model)
        files.append_line(tmp_path / "line", "x", like=model)
        files.copy_bytes(source=model, target=tmp_path / "copy")
        files.make_folder(tmp_path / "one" / "two", like=model)
        connections.open_writing(tmp_path / "writing", create=True, like=model).close()
        connections.open_scratch(tmp_path / "scratch", like=model).close()
        with lock_of(model):
            pass
    found = {path.name: mode(path) for path in tmp_path.rglob("*") if path != model}
    folders = {"one": of_folders, "two": of_folders}
    names = ["durable", "json", "line", "copy", "writing", "scratch", "shop.db.lock"]
    assert found == {**dict.fromkeys(names, of_files), **folders}


@posix
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_mode_that_is_asked_for_does_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        files.write_durably(tmp_path / "open", b"x", mode=0o644)
        files.write_durably(tmp_path / "closed", b"x", mode=0o600)
        files.write_durably(tmp_path / "usual", b"x")
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == {
        "open": 0o644, "closed": 0o600, "usual": 0o644 & ~mask,
    }  # fmt: skip


@posix
def test_a_new_file_has_its_rights_before_it_has_content(tmp_path: Path) -> None:
    model = database(tmp_path, 0o640)
    with umask(0):
        descriptor = this_platform().create(tmp_path / "new", like=model)
    found = os.fstat(descriptor)
    os.close(descriptor)
    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (0, 0o640)


@posix
@pytest.mark.parametrize(("mask", "wanted"), [(0o000, 0o644), (0o027, 0o640), (0o077, 0o600), (0o277, 0o600)])
def test_a_database_that_is_not_there_yet_is_made_as_sqlite_makes_it(tmp_path: Path, mask: int, wanted: int) -> None:
    path = tmp_path / "new.db"
    with umask(mask):
        connections.open_writing(path, create=True).close()
    assert mode(path) == wanted


@posix
def test_what_an_earlier_run_left_too_open_is_closed_when_it_is_used(tmp_path: Path) -> None:
    model = database(tmp_path, 0o600)
    for name in ("shop.db.lock", "flight.jsonl"):
        (tmp_path / name).touch(0o666)
        (tmp_path / name).chmod(0o666)
    with lock_of(model):
        pass
    files.append_line(tmp_path / "flight.jsonl", "x", like=model)
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == dict.fromkeys(
        ["shop.db", "shop.db.lock", "flight.jsonl"], 0o600
    )


@posix
def test_a_compressed_backup_and_what_comes_out_of_it_have_the_rights_of_the_backup(tmp_path: Path) -> None:
    pytest.importorskip("backports.zstd") if sys.version_info < (3, 14) else None
    kept = database(tmp_path, 0o600)
    kept.write_bytes(b"content")
    with umask(0):
        compression.squeeze(source=kept, target=tmp_path / f"shop.db{catalog.COMPRESSED}")
        compression.expand(source=tmp_path / f"shop.db{catalog.COMPRESSED}", target=tmp_path / "plain")
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}


# ----------------------------------------------------------------------------------------------------------- owners


@as_root
def test_root_gives_what_it_makes_to_the_owner_of_the_database(tmp_path: Path) -> None:
    model = database(tmp_path, 0o640)
    os.chown(model, SOMEBODY, SOMEBODY + 1)
    files.write_durably(tmp_path / "durable", b"x", like=model)
    files.make_folder(tmp_path / "one" / "two", like=model)
    connections.open_scratch(tmp_path / "scratch", like=model).close()
    with lock_of(model):
        pass
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in tmp_path.rglob("*")}
    assert owners == dict.fromkeys(
        ["shop.db", "durable", "one", "two", "scratch", "shop.db.lock"], (SOMEBODY, SOMEBODY + 1)
    )


@as_root
def test_what_root_makes_before_there_is_a_database_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, SOMEBODY, SOMEBODY)
    with lock_of(data / "deep" / "new.db"):
        connections.open_writing(data / "deep" / "new.db", create=True).close()
    assert {path.name: path.stat().st_uid for path in data.rglob("*")} == dict.fromkeys(
        ["deep", "new.db", "new.db.lock"], SOMEBODY
    )


@as_root
def test_what_root_left_under_an_earlier_version_is_given_back(tmp_path: Path) -> None:
    model = database(tmp_path, 0o600)
    os.chown(model, SOMEBODY, SOMEBODY)
    (tmp_path / "shop.db.lock").touch(0o644)
    with lock_of(model):
        pass
    left = (tmp_path / "shop.db.lock").stat()
    assert (left.st_uid, left.st_gid, stat.S_IMODE(left.st_mode)) == (SOMEBODY, SOMEBODY, 0o600)


@as_root
@pytest.mark.parametrize(("groups", "wanted"), [([], 0o644), ([SOMEBODY + 1], 0o664)])
def test_another_group_gets_no_more_than_everybody(groups: list[int], wanted: int) -> None:
    """Another account works on the database; a member of its group gives that group the same rights."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o777)
        model = database(folder, 0o664)
        os.chown(model, SOMEBODY, SOMEBODY + 1)
        platform, child = this_platform(), os.fork()
        if child == 0:
            try:
                os.setgroups(groups)
                os.setgid(SOMEBODY + 2)
                os.setuid(SOMEBODY + 2)
                os.umask(0)
                os.close(platform.create(folder / "new", like=model))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert mode(folder / "new") == wanted


# ------------------------------------------------------------------------------------------------------------ links


@posix
@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link"])
def test_a_link_at_the_name_of_a_new_file_is_replaced_and_never_written_through(tmp_path: Path, kind: str) -> None:
    model, foreign = database(tmp_path, 0o600), tmp_path / "foreign"
    foreign.write_text("kept")
    foreign.chmod(0o666)
    for name in ("copy", ".new-durable"):
        if kind == "hard link":
            (tmp_path / name).hardlink_to(foreign)
        else:
            (tmp_path / name).symlink_to(foreign if kind == "link" else tmp_path / "nowhere")
    files.copy_bytes(source=model, target=tmp_path / "copy")
    files.write_durably(tmp_path / "durable", b"new", like=model)
    assert (foreign.read_text(), mode(foreign)) == ("kept", 0o666)
    assert not (tmp_path / "nowhere").exists()
    assert [path.is_symlink() for path in (tmp_path / "copy", tmp_path / "durable")] == [False, False]
    assert (tmp_path / "durable").read_bytes() == b"new"


@posix
@pytest.mark.parametrize("where", ["lock", "record"])
def test_a_link_at_the_name_of_a_file_that_stays_is_refused_by_name(tmp_path: Path, where: str) -> None:
    model, foreign = database(tmp_path, 0o600), tmp_path / "foreign"
    foreign.write_text("kept")
    foreign.chmod(0o666)
    planted = tmp_path / ("shop.db.lock" if where == "lock" else "flight.jsonl")
    planted.symlink_to(foreign)
    with pytest.raises(DiskProblem) as raised:
        lock_of(model).try_take() if where == "lock" else files.append_line(planted, "x", like=model)
    assert raised.value.path == planted
    assert (foreign.read_text(), mode(foreign)) == ("kept", 0o666)


@posix
def test_a_file_with_another_name_keeps_its_owner_and_rights(tmp_path: Path) -> None:
    model, foreign = database(tmp_path, 0o600), tmp_path / "foreign"
    foreign.touch()
    foreign.chmod(0o644)
    (tmp_path / "shop.db.lock").hardlink_to(foreign)
    with lock_of(model):
        pass
    assert mode(foreign) == 0o644


# ----------------------------------------------------------------------------------------------------------- others


def test_a_lock_of_no_database_is_made_as_before(tmp_path: Path) -> None:
    with Lock(tmp_path / "state" / "terminal.lock"):
        assert (tmp_path / "state" / "terminal.lock").exists()


def test_a_protected_list_of_rights_stays_protected_on_windows() -> None:
    assert windows.parts_to_set(0x8004) == 0x2000_0004
    assert windows.parts_to_set(0x8004 | windows.DACL_PROTECTED) == 0x8000_0004


def made_by(path: Path) -> Iterator[str]:
    """Yield the calls of a module that make a file or a folder, or change the rights of one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in MAKERS or (name == "open" and any("O_CREAT" in ast.unparse(given) for given in node.args)):
            yield name
        elif name in ("open", "fdopen"):
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if name == "open" and any(isinstance(text, str) and set(text) & set("wxa") for text in texts):
                yield name
        elif name == "connect" and node.args and not ast.unparse(node.args[0]).startswith(("':memory:'", "''")):
            yield name


def test_no_other_module_makes_a_file_by_itself() -> None:
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "dbsync").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if calls := set(made_by(path)):
            found[name] = calls
    strays = {name: calls - set(ALLOWED.get(name, {})) for name, calls in found.items()}
    assert {name: calls for name, calls in strays.items() if calls} == {}
    assert {name for name in ALLOWED if name not in found} == set(), "no longer needed"


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077])
@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o700, 0o600), (0o750, 0o640), (0o777, 0o664)])
def test_a_file_that_is_made_like_its_folder_has_its_mode_whatever_the_umask_is(
    tmp_path: Path, folder: int, file: int, mask: int
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(folder)
    with umask(mask):
        files.write_json(place / "a.json", {}, like=place)
        files.append_line(place / "a.jsonl", "{}", like=place)
        files.make_folder(place / "inner", like=place)
    assert {mode(place / name) for name in ("a.json", "a.jsonl")} == {file}
    assert mode(place / "inner") == file | (file & 0o444) >> 2


@as_root
@posix
def test_a_folder_of_a_group_passes_its_group_on_also_to_a_database_that_does_not_exist_yet(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, SOMEBODY, SOMEBODY + 1)
    place.chmod(0o2770)
    with umask(0o077):
        files.make_empty(place / "shop.db", like=place / "shop.db")
        files.make_folder(place / "inner", like=place)
        with lock_of(place / "other.db"):
            pass
    for name, wanted in (("shop.db", 0o660), ("inner", 0o2770), ("other.db.lock", 0o660)):
        found = (place / name).lstat()
        assert (found.st_uid, found.st_gid, mode(place / name)) == (SOMEBODY, SOMEBODY + 1, wanted), name
    place.chmod(0o770)
    with umask(0o077):
        files.make_empty(place / "third.db", like=place / "third.db")
    assert mode(place / "third.db") == 0o600, "without the mark of a group the umask decides, as in SQLite"
