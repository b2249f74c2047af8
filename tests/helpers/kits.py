"""Real kits of this checkout, in a home of their own, and releases of the agent made from them."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.helpers.terminal import COMMAND_SECONDS, Till
from tests.helpers.vendor import Vendor, password
from updater.host import stub, this_host
from updater.publish import agents
from updater.publish.kit import payload
from updater.publish.kit.description import Description
from updater.publish.kit.payload import Order, Payload
from updater.publish.kit.programs import program
from updater.terminal import kit

LIBRARIES: Final = (
    "apscheduler", "certifi", "charset-normalizer", "click", "idna", "packaging", "requests", "rich",
    "securesystemslib", "tuf", "tzlocal", "urllib3",
)  # fmt: skip
"""Those that its commands load, of this environment; what colours text is left out: a kit is compiled as a whole."""
BROKEN: Final = {
    "good": ("", "", ""),
    "blind": (
        "updater/repository/look.py",
        "            root = self._root()\n",
        '            raise RuntimeError("this agent cannot look")\n',
    ),
    "crash": ("updater/cli/run.py", "    kit_use.hold()\n", "    os._exit(9)\n"),
    "syntax": ("updater/flows/agent.py", "STEPS_LIMIT: Final = 20\n", "STEPS_LIMIT: Final = = 20\n"),
    "no app": ("updater/cli/start.py", "    launched = run(terminal, settings.limits)\n", "    os._exit(7)\n"),
}
"""A file, a line of it, and what stands there instead."""


def make_payload(
    vendor: Vendor, folder: Path, *, version: str, behaviour: str = "good", settings: Path, cuts: bool = False
) -> Payload:
    """The folder of a kit, made by the code that makes one for a vendor, but for the unpacking of wheels."""
    described = Description(
        name="Corner Shop", vendor="Corner Shop GmbH", contact="a@b.example", version=version,
        url="http://127.0.0.1:9", mirrors=(), proxy="", ca_file=None, till_user="", till_group="", interpreters={},
    )  # fmt: skip
    order = Order("linux-x86_64", vendor.repository, described, folder)
    into = folder / f"new-{version}"
    app = payload.begin(order, into=into)
    for name in LIBRARIES:
        for file in importlib.metadata.files(name) or ():
            if (
                (file.suffix == ".py" or file.name in ("METADATA", "entry_points.txt"))
                and not file.is_absolute()
                and ".." not in file.parts
            ):
                target = into / "site" / str(file)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
    if cuts:
        package = into / "site/updater/__init__.py"
        package.write_text(package.read_text(encoding="utf-8") + CUT, encoding="utf-8")
    place, line, instead = BROKEN[behaviour]
    if place:
        text = (into / "site" / place).read_text(encoding="utf-8")
        assert line in text, f"{place} has the line that is broken here"
        (into / "site" / place).write_text(text.replace(line, instead, 1), encoding="utf-8")
    future = "from __future__ import annotations\n"
    text = program(settings=str(settings)).replace(future, f"{future}\n{CUT}" if cuts else future, 1)
    start = f"#!{sys.executable} -IS\n{text}"
    made = payload.finish(order, into, app=app, materials=version, programs={"start": start.encode()})
    payload.seal(made)
    return made


CUT: Final = """\
import os as _os

if _os.environ.get("CUT_AT") and not vars(_os).get("is_cut"):
    _os.is_cut = True

    def _cut(call):
        def counted(*values, **options):
            folder = _os.environ["CUT_FOLDER"]
            with open(folder + "/count", "ab") as file:
                file.write(b".")
                number = file.tell()
            if number == int(_os.environ["CUT_AT"]):
                open(folder + "/cut", "w").close()
                _os.kill(_os.getpid(), 19)
            return call(*values, **options)

        return counted

    _os.replace, _os.rename = _cut(_os.replace), _cut(_os.rename)
"""
"""Stops a process before one of its renames: the tests then kill all of them. Every durable step is a rename."""


class Home:
    """The home of the kits of one terminal."""

    def __init__(self, folder: Path, till: Till, vendor: Vendor, *, cuts: bool = False) -> None:
        self.folder = folder
        self.till = till
        self.vendor = vendor
        self.cuts = cuts
        self.ids: dict[str, str] = {}
        self.values: dict[str, str] = {}
        """Added to the environment."""

    def place(self, version: str, *, behaviour: str = "good") -> str:
        """Do what a setup does."""
        self.folder.mkdir(exist_ok=True)
        made = self.payload(version, behaviour)
        folder = self.folder / made.folder.name
        if not folder.exists():
            shutil.copytree(made.folder, folder)
        found = kit.read(folder)._replace(platform=this_host().platform_tag())
        kit.place(found, home=self.folder, rescue=self.folder / "rescue")
        return made.id

    def payload(self, version: str, behaviour: str = "good") -> Payload:
        """A kit as the vendor has it."""
        folder = self.vendor.folder / "kits"
        folder.mkdir(exist_ok=True)
        shutil.rmtree(folder / f"new-{version}", ignore_errors=True)
        made = make_payload(
            self.vendor, folder, version=version, behaviour=behaviour, settings=self.till.settings_path, cuts=self.cuts
        )
        self.ids[version] = made.id
        return made

    def publish(self, version: str, *, behaviour: str = "good") -> str:
        """A release of the agent."""
        made = self.payload(version, behaviour)
        agents.release(folder=self.vendor.repository, payload=made.folder, passwords=password)
        return made.id

    def service(self, *, ends: int = 0) -> str:
        """The agent, as a service, until it ends by itself: because another one is to start."""
        code, said = self.run("run")
        assert code == ends, said
        return said

    def environment(self, **values: str) -> dict[str, str]:
        """As a service manager gives it, but for what the sample app needs."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TILLKEEPER_"))}
        return {**kept, "SAMPLE_TILL_RECEIPTS": str(self.till.receipts), **values}

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """The program of the home, running."""
        return subprocess.Popen(
            [str(self.folder / "start"), *words], env=self.environment(**self.values), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", **options,
        )  # fmt: skip

    @contextmanager
    def open_till(self) -> Iterator[subprocess.Popen[str]]:
        """The app, open until the block ends."""
        with self.start("launch", "--", "--sell", "1", "--pause", "600") as till:
            try:
                assert till.stdout is not None
                said = []
                while "is open" not in (line := till.stdout.readline()):
                    said.append(line)
                    assert line, "".join(said)
                yield till
                assert till.poll() is None, "it was open all the while"
            finally:
                till.terminate()
                till.communicate(timeout=COMMAND_SECONDS)

    def run(self, *words: str) -> tuple[int, str]:
        """The program of the home to its end."""
        with self.start(*words) as process:
            said, _ = process.communicate(timeout=COMMAND_SECONDS)
        return process.returncode, said

    def run_until(self, outcome: str) -> str:
        """The agent, as a service, until it has reported an outcome; then it is asked to end."""
        before = self.till.outcomes().count(outcome)
        with self.start("run") as process:
            try:
                assert process.stdout is not None
                said = []
                while self.till.outcomes().count(outcome) == before and process.poll() is None:
                    line = process.stdout.readline()
                    said.append(line)
                assert self.till.outcomes().count(outcome) > before, "".join(said)
            finally:
                process.terminate()
            rest, _ = process.communicate(timeout=COMMAND_SECONDS)
        return "".join(said) + rest

    def pointer(self) -> dict[str, Any]:
        """Return what starts."""
        return stub.pointer(self.folder)

    def kits(self) -> set[str]:
        """The versions whose folders are there."""
        there = {path.name.removeprefix("agent-") for path in self.folder.glob("agent-*")}
        return {version for version, kit_id in self.ids.items() if kit_id in there}
