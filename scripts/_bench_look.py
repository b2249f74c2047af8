"""A look at repositories of 10 to 1000 releases: requests, bytes, CPU and peak memory, each in processes of its own."""

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

from _environment import ROOT, say

sys.path.insert(0, str(ROOT))

COUNTS = (10, 100, 1000)
FILES_COUNT = 2500
RUNS_COUNT = 5
ENTRY = "#!/bin/sh\nexit 0\n"
LOOK = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from updater.bundles.staging import Staging
from updater.bundles.version_folders import Versions
from updater.model import Journal, Phase, Release
from updater.settings import load
good = Journal(Phase.IDLE, Release("0" * 64, sys.argv[3], 0)) if sys.argv[3:] else None
settings = load(Path(sys.argv[2]), {})
staging = Staging(settings, Versions(settings.program))
found = staging.find_releases(good)
staging.close()
# Not `ru_maxrss`: that of a new process begins with its parent's.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "answer": found.verdict, "offers": [offer.release.version for offer in found.newer], "signed": len(found.signed),
    "cpu_milliseconds": 1000 * sum((own.ru_utime, own.ru_stime, children.ru_utime, children.ru_stime)),
    "agent_bytes": int(peak) * 1024, "child_bytes": children.ru_maxrss * 1024,
}))
"""

SERVICE = """
import statistics, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from updater import settings
from updater.cli.cycle import ready_agent, terminal_of
from updater.flows.agent import cycle
from updater.model import ProcessKind
till = terminal_of(ready_agent(settings.load(Path(sys.argv[2])), "check"), ProcessKind.AGENT)
found = []
for _ in range(int(sys.argv[3])):
    began = time.process_time()
    ended = cycle(till)
    found.append(1000 * (time.process_time() - began))
    assert ended.outcome == "NOTHING_NEW", ended
print(statistics.median(found[1:]))
"""


class Shelf:
    """A vendor's repository with many releases, of which only the newest one's files are there."""

    def __init__(self, folder, bundle, count):
        from updater.manifest import to_bytes
        from updater.publish import repository
        from updater.publish.bundle import describe

        self.folder = folder
        self.public = folder / "public"
        self.config = repository.init(
            folder=folder / "repository", app="bench", public=self.public, keys=None, passwords=lambda _: "bench",
            expiration_days={},
        )  # fmt: skip
        self._manifest = describe(bundle=bundle, app="bench", version="1.0")
        self._to_bytes = to_bytes
        self.number = 0
        self.add(count)

    def add(self, count=1):
        """Publishes so many releases at once."""
        from tuf.api.metadata import TargetFile

        from updater.publish import repository
        from updater.summary import custom_of, summary_of

        workshop = repository._open(self.folder / "repository", self.config, lambda _: "bench")  # noqa: SLF001
        targets = workshop.roles.targets.signed.targets
        for _ in range(count):
            self.number += 1
            manifest = self._manifest._replace(version=f"1.{self.number}")
            data = self._to_bytes(manifest)
            described = TargetFile.from_data(f"bench-1.{self.number}.manifest", data)
            described.unrecognized_fields["custom"] = custom_of(summary_of(manifest))
            archive = TargetFile.from_data(f"bench-1.{self.number}.tar.gz", f"archive {self.number}".encode())
            targets |= {described.path: described, archive.path: archive}
        target = self.public / "targets" / f"{described.hashes['sha256']}.{described.path}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
        workshop.sign_and_store()
        work = self.folder / "repository" / "workshop" / "metadata"
        for path in [*work.glob("[0-9]*.json"), work / "timestamp.json"]:
            (self.public / "metadata" / path.name).write_bytes(path.read_bytes())


def bench():
    """Prints a line for each number of releases, and what `updater check` costs with nothing new."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder) / "bundle")
        say(f"bundles of {FILES_COUNT} files; CPU and memory are medians of {RUNS_COUNT}, agent and child together")
        say(f"{'releases':>8}  {'look':<22} {'requests':>8} {'bytes':>10} {'CPU':>8} {'agent':>9} {'child':>9}")
        for count in COUNTS:
            with Serving(Shelf(Path(folder) / str(count), bundle, count)) as (shelf, url, sent):
                for name, measure in (("new terminal", fresh), ("one release more", another), ("nothing new", again)):
                    show(count, name, [measure(shelf, url, sent, Path(folder)) for _ in range(RUNS_COUNT)])
                if count == COUNTS[1]:
                    check(shelf, url, bundle, Path(folder) / "till")


def make_bundle(folder):
    """A bundle with many small files."""
    for number in range(FILES_COUNT - 2):
        path = folder / f"lib/package{number % 50:02d}/module_with_a_usual_name_{number:04d}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"number = {number}\n")
    (folder / "app").write_text(ENTRY)
    (folder / "app").chmod(0o755)
    (folder / "tillkeeper.toml").write_text('entry = "app"\n')
    return folder


class Serving:
    """The repository, served while it is measured; its requests are counted."""

    def __init__(self, shelf):
        from updater.publish.serve import make_server

        self.shelf, self.sent = shelf, []
        self.server = make_server(shelf.public, told=self.sent.append)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.shelf, f"http://127.0.0.1:{self.server.server_port}", self.sent

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def fresh(shelf, url, sent, folder):
    """A terminal that has never looked."""
    from updater.repository import trust

    place = Path(tempfile.mkdtemp(dir=folder))
    settings = place / "settings.toml"
    names = ("program", "state", "data", "backups")
    lines = [f'{name} = "{place / name}"' for name in names]
    text = f'format = 1\napp = "bench"\nterminal_id = "b"\nurl = "{url}"\nbackup_prefix = "b"\n'
    settings.write_text(f'{text}database = "{place}/data/pos.db"\n' + "\n".join(lines) + "\n")
    (place / "state" / "private" / "trust").mkdir(parents=True)
    trust.begin(place / "state" / "private" / "trust", (shelf.public / "metadata" / "1.root.json").read_bytes())
    shelf.settings = settings
    return look(settings, sent)


def another(shelf, _url, sent, _folder):
    """A terminal that has looked before, after one more release."""
    shelf.add()
    return look(shelf.settings, sent)


def again(shelf, _url, sent, _folder):
    """A terminal that looks at what it has seen."""
    return look(shelf.settings, sent, f"1.{shelf.number}")


def look(settings, sent, *good):
    """One look, in processes of its own, by a terminal that has nothing or that release."""
    sent.clear()
    command = [sys.executable, "-I", "-c", LOOK, str(ROOT), str(settings), *good]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if found["answer"] != "OK" or len(found["offers"]) + len(good) != 1:
        sys.exit(f"the look failed: {found}")
    sizes = [int(line.split()[1]) if line.split()[1].isdecimal() else 0 for line in sent]
    return {**found, "requests": len(sizes), "bytes": sum(sizes)}


def show(count, name, runs):
    """One line of the table."""
    middle = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key not in ("answer", "offers")}
    say(
        f"{count:>8}  {name:<22} {middle['requests']:>8.0f} {middle['bytes']:>10.0f}"
        f" {middle['cpu_milliseconds']:>5.0f} ms"
        f" {middle['agent_bytes'] / 2**20:>5.1f} MiB {middle['child_bytes'] / 2**20:>5.1f} MiB"
    )


def check(shelf, url, bundle, folder):
    """CPU of `updater check` as a whole with nothing new, its child included, and of a cycle of the service."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    newest = folder / "newest"
    newest.parent.mkdir(parents=True)
    shutil.copytree(bundle, newest)
    options = [f"--{name}={folder / name}" for name in ("settings", "program", "state", "data")]
    root = shelf.public / "metadata" / "1.root.json"
    subprocess.run(
        [sys.executable, "-m", "updater", "install", f"--root={root}", f"--url={url}", f"--bundle={newest}", *options],
        check=True, env=environment, capture_output=True,
    )  # fmt: skip
    with closing(sqlite3.connect(folder / "data" / "pos_system.db")) as database:
        # As in a shop: without a database each look searches for what is left of one.
        database.execute("CREATE TABLE sale (total)")
    words = ["updater", "check", "--settings", str(folder / "settings")]
    for name, before in (("nothing new", lambda: None), ("all verified", lambda: forget_listing(folder))):
        values = []
        for _ in range(RUNS_COUNT + 1):
            before()
            pid = os.posix_spawn(sys.executable, [sys.executable, "-m", *words], environment, file_actions=quiet())
            _, status, usage = os.wait4(pid, 0)
            if os.waitstatus_to_exitcode(status) != 0:
                sys.exit("updater check failed")
            values.append((usage.ru_utime + usage.ru_stime) * 1000)
        # The first run compiles what is not compiled yet.
        say(f"`updater check`, {name}: {statistics.median(values[1:]):.0f} ms CPU with its child")
    # A service loads its modules once; what it pays for each look is a cycle of a process that runs.
    command = [sys.executable, "-I", "-c", SERVICE, str(ROOT), str(folder / "settings"), "21"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    say(f"a cycle of the service, nothing new: {float(done.stdout):.0f} ms CPU, median of 20")


def forget_listing(folder):
    """Lets the next look verify all signatures."""
    (folder / "state" / "private" / "trust" / "listing.json").unlink()


def quiet():
    """No output of a process that is measured."""
    return [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
