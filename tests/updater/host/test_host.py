"""The hosts of the updater: complete, importable everywhere, chosen by name; an unknown system is refused."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from tests.helpers import interfaces
from tests.helpers.places import ROOT
from tests.helpers.systems import on
from tests.helpers.terminal import Till
from updater.host import SYSTEMS, this_host
from updater.host.base import App, Host
from updater.host.posix import ForkedKeeperApp
from updater.host.shared import NotedApp
from updater.host.windows import SpawnedKeeperApp

PACKAGE = "updater.host"
UNKNOWN = ["plan9", "cygwin", "freebsd14"]
MAIN = "from updater.__main__ import main\nmain()\n"


def class_of(system: str) -> type[Host]:
    module, name = SYSTEMS[system]
    found: type[Host] = getattr(import_module(f"{PACKAGE}.{module}"), name)
    return found


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_implements_everything_and_can_be_instantiated_on_any(system: str) -> None:
    assert isinstance(class_of(system)(), Host)
    assert interfaces.differences(Host, class_of(system)) == []


def test_both_addresses_know_the_same_systems_and_every_module_of_one_has_its_line() -> None:
    from dbsync.storage import platform

    assert SYSTEMS.keys() == platform.SYSTEMS.keys()
    shared = {"__init__", "base", "posix", "shared", "signals", "stub", "win32"}
    for folder, systems in (("updater/host", SYSTEMS), ("dbsync/storage/platform", platform.SYSTEMS)):
        modules = {path.stem for path in (ROOT / folder).glob("*.py")} - shared
        assert modules == {module for module, _ in systems.values()}, folder


@pytest.mark.parametrize("app", [ForkedKeeperApp, NotedApp, SpawnedKeeperApp])
def test_each_kind_of_app_can_be_polled_and_waited_for(app: type[App]) -> None:
    assert issubclass(app, App)
    assert interfaces.differences(App, app) == []


@pytest.mark.parametrize("interface", [Host, App])
def test_the_whole_interface_is_abstract(interface: type) -> None:
    assert interfaces.not_abstract(interface) == []


@pytest.mark.parametrize("missing", sorted(Host.__abstractmethods__))
def test_a_class_that_lacks_one_method_cannot_be_instantiated(missing: str) -> None:
    with pytest.raises(TypeError, match=missing):
        interfaces.without(Host, missing)()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_process_chooses_its_system_when_it_first_needs_it_and_loads_no_other(system: str) -> None:
    done = on(
        system,
        "import updater.terminal.live\n"
        f"of = lambda: sorted(name for name in sys.modules if name.startswith('{PACKAGE}.'))\n"
        f"from {PACKAGE} import this_host\n"
        "print(type(this_host()).__name__, *of())\n",
    )
    assert done.returncode == 0, done.stderr
    name, *loaded = done.stdout.split()
    module, wanted = SYSTEMS[system]
    assert name == wanted
    assert set(loaded) - {f"{PACKAGE}.{shared}" for shared in ("base", "shared", "posix")} == {f"{PACKAGE}.{module}"}


def test_the_choice_is_made_once() -> None:
    assert this_host() is this_host()
    assert type(this_host()) is class_of(sys.platform)


@pytest.mark.parametrize("system", UNKNOWN)
def test_an_unknown_system_is_refused_by_name_and_no_app_starts(till: Till, system: str) -> None:
    before = {path: path.read_bytes() for path in till.folder.rglob("*") if path.is_file()}
    for words in (["launch", "--settings", till.settings_path], ["launch"], ["status"], ["check"]):
        done = on(system, MAIN, *words)
        assert done.returncode != 0
        assert f"the operating system {system} is not supported. Supported: {', '.join(SYSTEMS)}." in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == "", "no app has said anything"
    assert {path: path.read_bytes() for path in till.folder.rglob("*") if path.is_file()} == before


def test_the_rollback_script_refuses_an_unknown_system_by_name(till: Till) -> None:
    text = "import runpy\nsys.argv.pop(0)\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    for words in (["--list"], ["--list", "--settings", till.settings_path]):
        done = on("plan9", text, ROOT / "scripts" / "rollback.py", *words)
        assert done.stdout.startswith("Error: could not run: the operating system plan9 is not supported.")
        assert done.returncode != 0
