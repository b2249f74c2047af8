"""Every test of the repository runs on both libraries that a terminal may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbsync.storage import children
from tests.helpers.newer_tuf import make_library, make_python

OLDER, NEWER, NO_LINKS = "older tuf", "newest tuf", "newest tuf without links"
NO_LIBRARY = ("test_conformance_client", "test_held_metadata", "test_isolation", "test_time_floor", "test_unchanged")
"""Modules about paths, and about decisions that no library takes."""
SERVERS = ("test_bad_servers",)
"""Modules about servers, which cost seconds a case, and for which the library that kits pin is enough."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "without_links: also runs where no symbolic link can be made")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "library" not in metafunc.fixturenames:
        return
    module = Path(metafunc.module.__file__).stem
    names: list[object] = [OLDER] if module in NO_LIBRARY else [OLDER, NEWER]
    if module in SERVERS:
        names[0] = pytest.param(OLDER, marks=pytest.mark.long)
    if metafunc.definition.get_closest_marker("without_links"):
        names.append(NO_LINKS)
    metafunc.parametrize("library", names, indirect=True)


@pytest.fixture(scope="session")
def newer_library(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The newest library; None where it cannot be had."""
    return make_library(tmp_path_factory.mktemp("tuf"))


@pytest.fixture(scope="session")
def pythons(newer_library: Path | None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pythons with the newest library, by name."""
    if newer_library is None:
        return {}
    folder = tmp_path_factory.mktemp("pythons")
    return {
        NEWER: make_python(folder / "with", newer_library),
        NO_LINKS: make_python(folder / "without", newer_library, links=False),
    }


@pytest.fixture(autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The library of the children that this process starts."""
    name: str = request.param
    use(name, request, monkeypatch)
    return name


def use(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts children with that library from here on."""
    if name == OLDER:
        return
    found: dict[str, Path] = request.getfixturevalue("pythons")
    if not found:
        pytest.skip("the newest library cannot be installed here")
    monkeypatch.setattr(children, "python", lambda: str(found[name]))
