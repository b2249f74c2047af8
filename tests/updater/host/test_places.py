"""Places as each host tells them: names, lengths, zones and links, asked of the system that runs this."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dbsync.model import DiskKind
from dbsync.storage.platform import this_platform
from tests.helpers.systems import on
from updater.host import this_host

ON_WINDOWS = pytest.mark.skipif(sys.platform != "win32", reason="it asks Windows itself")


def test_an_ordinary_folder_can_be_held_and_lies_in_no_zone_that_forgets(tmp_path: Path) -> None:
    assert this_host().path_problem(tmp_path) == ""
    zones = [zone for zone in this_host().zones() if zone.is_sure and tmp_path.is_relative_to(zone.folder or tmp_path)]
    assert zones == []
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_is_named_with_its_length(tmp_path: Path) -> None:
    long = tmp_path.joinpath(*["x" * 200] * 200)
    assert str(len(str(long))) in this_host().path_problem(long)
    assert this_host().path_problem(tmp_path, below_units=40_000)


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_posix_counts_bytes(system: str) -> None:
    done = on(
        system,
        "from pathlib import Path\n"
        "from updater.host import this_host\n"
        "host = this_host()\n"
        "print(bool(host.path_problem(Path('/x'), below_units=1020)), end=' ')\n"
        "print(bool(host.path_problem(Path('/x'), below_units=1022)), end=' ')\n"
        "print(bool(host.path_problem(Path('/' + 'ä' * 127))), bool(host.path_problem(Path('/' + 'ä' * 128))))\n",
    )
    wanted = {"linux": "False False False True", "darwin": "False True False True"}
    assert (done.returncode, done.stdout.strip()) == (0, wanted[system]), done.stderr


def test_the_zones_of_macos_are_those_of_the_home(tmp_path: Path) -> None:
    done = on(
        "darwin",
        "import os\n"
        "os.environ['HOME'] = sys.argv[1]\n"
        "from updater.host import this_host\n"
        "print(*(zone.hazard for zone in this_host().zones()))\n",
        tmp_path,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["synced", "synced"]), done.stderr


def test_a_link_is_made_led_elsewhere_and_removed(tmp_path: Path) -> None:
    host, link = this_host(), tmp_path / "link"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name, encoding="utf-8")
    assert host.link_target(link) is None
    for name in ("a", "b", "b"):
        host.point_link(link=link, target=tmp_path / name)
        assert host.link_target(link) == tmp_path / name
        assert (link / "file").read_text(encoding="utf-8") == name
    host.remove_link(link)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "b" / "file").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_link_is_neither_taken_for_one_nor_replaced(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("a person's own", encoding="utf-8")
    else:
        place.mkdir()
    with pytest.raises(OSError, match=r".+"):
        this_host().link_target(place)
    with pytest.raises(OSError, match=r".+"):
        this_host().point_link(link=place, target=tmp_path)
    assert place.is_file() == (kind == "file")
    assert place.is_dir() == (kind == "folder")


@ON_WINDOWS
def test_windows_names_the_disk_of_a_folder(tmp_path: Path) -> None:
    found = this_platform().disk_of(tmp_path / "not" / "there")
    assert (found.kind, bool(found.file_system)) == (DiskKind.FIXED, True), found
    assert list(tmp_path.iterdir()) == []


@ON_WINDOWS
@pytest.mark.parametrize("path", ["\\\\server\\share\\till", "\\\\?\\UNC\\server\\share\\till"])
def test_a_share_is_known_without_asking_the_server(path: str) -> None:
    assert this_platform().disk_of(Path(path)).kind is DiskKind.NETWORK


@ON_WINDOWS
@pytest.mark.parametrize("drive", ["B:\\till", "Q:\\till"])
def test_a_drive_that_is_not_there_is_no_error(drive: str) -> None:
    assert this_platform().disk_of(Path(drive)).kind in (DiskKind.UNKNOWN, DiskKind.REMOVABLE)


@ON_WINDOWS
@pytest.mark.parametrize("name", ["aux", "con.txt", "a:b", "till.", "what?"])
def test_windows_refuses_its_own_names(tmp_path: Path, name: str) -> None:
    assert name.rstrip(".") in this_host().path_problem(Path(f"{tmp_path}{os.sep}{name}"))
