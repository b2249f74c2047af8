"""The platforms of dbsync: complete, importable everywhere, chosen by name; an unknown system is refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import pytest

from dbsync.storage.locks import Lock
from dbsync.storage.platform import SYSTEMS, this_platform
from dbsync.storage.platform.base import Platform
from tests.helpers import interfaces
from tests.helpers.places import ROOT
from tests.helpers.shop import make_shop, released
from tests.helpers.systems import on

PACKAGE = "dbsync.storage.platform"
UNKNOWN = ["plan9", "cygwin", "freebsd14"]
LOCK_AND_STAY = """
import sys, time
from pathlib import Path
from dbsync.storage.locks import Lock
lock = Lock(Path(sys.argv[1]))
lock.try_take()
print("held", flush=True)
time.sleep(600)
"""
LEAVE_BEHIND = """
import subprocess, sys
left = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE, text=True)
print(left.stdout.readline().strip())
print(repr(sys.stdin.read()))
"""
HOLD = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


def class_of(system: str) -> type[Platform]:
    module, name = SYSTEMS[system]
    found: type[Platform] = getattr(import_module(f"{PACKAGE}.{module}"), name)
    return found


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_implements_everything_and_can_be_instantiated_on_any(system: str) -> None:
    assert isinstance(class_of(system)(), Platform)
    assert interfaces.differences(Platform, class_of(system)) == []


def test_the_whole_interface_is_abstract() -> None:
    assert interfaces.not_abstract(Platform) == []


@pytest.mark.parametrize("missing", sorted(Platform.__abstractmethods__))
def test_a_class_that_lacks_one_method_cannot_be_instantiated(missing: str) -> None:
    with pytest.raises(TypeError, match=missing):
        interfaces.without(Platform, missing)()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_process_chooses_its_system_when_it_first_needs_it_and_loads_no_other(system: str) -> None:
    done = on(
        system,
        "import dbsync.storage.files, dbsync.storage.locks\n"
        f"of = lambda: sorted(name for name in sys.modules if name.startswith('{PACKAGE}.'))\n"
        "before = of()\n"
        f"from {PACKAGE} import this_platform\n"
        "print(type(this_platform()).__name__, before, *of())\n",
    )
    assert done.returncode == 0, done.stderr
    name, before, *loaded = done.stdout.split()
    module, wanted = SYSTEMS[system]
    assert (name, before) == (wanted, "[]")
    assert set(loaded) - {f"{PACKAGE}.base", f"{PACKAGE}.posix", f"{PACKAGE}.win32"} == {f"{PACKAGE}.{module}"}


def test_the_free_space_is_that_of_the_standard_library(tmp_path: Path) -> None:
    # Others write on the disk meanwhile.
    assert this_platform().free_bytes(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    with pytest.raises(FileNotFoundError):
        this_platform().free_bytes(tmp_path / "nothing")


def test_the_choice_is_made_once() -> None:
    assert this_platform() is this_platform()
    assert type(this_platform()) is class_of(sys.platform)


@pytest.mark.parametrize("system", UNKNOWN)
def test_an_unknown_system_is_refused_by_name_before_anything_is_touched(tmp_path: Path, system: str) -> None:
    database = make_shop(tmp_path, schema=2)
    released(tmp_path, 4)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    words = ["upgrade", "--database", database, "--migrations", tmp_path / "migrations-4"]
    done = on(system, "from dbsync.__main__ import main\nmain()\n", *words)
    assert done.returncode not in (0, 1), "refused, not failed"
    assert f"the operating system {system} is not supported. Supported: {', '.join(SYSTEMS)}." in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_look_at_a_database_needs_no_platform(tmp_path: Path) -> None:
    database = make_shop(tmp_path, schema=2)
    text = "from pathlib import Path\nfrom dbsync.storage import connections\n"
    text += "print(connections.look(Path(sys.argv[1])).version)\n"
    assert on("plan9", text, database).stdout == "2\n"


# this system, for real ---------------------------------------------------------------------------------------------


@contextmanager
def typed(text: bytes) -> Iterator[None]:
    """Text on the input of this process, which a program that it starts must not get."""
    mine, (reading, writing) = os.dup(0), os.pipe()
    os.write(writing, text)
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        yield
    finally:
        os.dup2(mine, 0)
        os.close(mine)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it needs a program, or nobody can say")
def test_the_holder_of_a_file_is_found_by_the_file_that_a_name_leads_to(tmp_path: Path) -> None:
    file, link = tmp_path / "held", tmp_path / "link"
    file.write_text("")
    link.symlink_to(file)
    with file.open():
        assert this_platform().holder_of(file) is None, "another process is asked for"
        holder = subprocess.Popen([sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            assert this_platform().holder_of(link) == holder.pid
    assert this_platform().holder_of(file) is None


@pytest.mark.skipif(sys.platform == "win32", reason="nothing holds a tree together there")
def test_a_tree_has_no_input_and_ends_with_what_it_started(tmp_path: Path) -> None:
    lock, env = Lock(tmp_path / "a.lock"), {**os.environ, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "output").open("w+b") as output:
        command = [sys.executable, "-c", LEAVE_BEHIND, LOCK_AND_STAY, str(lock.path)]
        with typed(b"yes"):
            process = this_platform().start_tree(command, cwd=tmp_path, env=env, output=output)
        assert process.wait(timeout=60) == 0
        assert not lock.is_free(), "what the program started outlives it"
        this_platform().end_tree(process)
        output.seek(0)
        assert output.read() == b"held\n''\n"
    assert lock.take(timeout_seconds=60)
    lock.release()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_signal_that_somebody_else_handles_is_left_to_them() -> None:
    theirs, ours = [], []

    def handle(number: int) -> NoReturn:
        ours.append(number)
        raise InterruptedError

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, _: theirs.append(number))
    try:
        with this_platform().termination_handled(handle):
            signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with pytest.raises(InterruptedError), this_platform().termination_handled(handle):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (theirs, ours) == ([signal.SIGTERM], [signal.SIGTERM])
