"""Tillkeeper beside tufup: the same bundles, the same server, each step of one right after the other's.

Bundles are wheels that pip downloads once into a cache (TILLKEEPER_BENCH_CACHE), or the sample till, frozen.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

from _environment import ROOT, pip, say

PEER = Path(__file__).with_name("_bench_tufup.py")
APP, PASSWORD = "bench", "bench"
BUNDLES = {
    "uv": ("uv", "uv-{0}.data/scripts/uv", ("0.13.4", "0.13.5", "0.13.6", "0.13.7", "0.13.8", "0.13.9")),
    "ruff": (
        "ruff",
        "ruff-{0}.data/scripts/ruff",
        ("0.17.1", "0.17.2", "0.17.3", "0.17.4", "0.17.5", "0.17.6"),
    ),
    "pyside6": (
        "PySide6-Essentials",
        "PySide6/designer",
        ("6.8.2", "6.8.3", "6.9.0", "6.9.1", "6.9.2", "6.9.3"),
    ),
    "till": ("", "", ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5")),
}
"""What is downloaded, the entry in it, and its versions, oldest first."""
DEFAULT = ("uv", "ruff")
ONE_PATCH = ("pyside6",)
"""Bundles of which tufup makes one patch: each takes minutes and gigabytes. Older versions take the archive."""
PATCH_SECONDS = 20 * 60
"""The longest that tufup's publisher may take for one release."""
ALONE = ("--deltas", "0", "--no-pack")
"""Options of a publish that makes tufup's archive alone."""
SAMPLE_SECONDS = 0.05
SLOWEST_SAMPLE_SECONDS = 0.5
"""Of what takes minutes: looking at all processes so often would take a tenth of a core from it."""
MB = 1e6
WITHOUT = "without"
"""The terminal that has no base for a delta or a patch."""


class Cost:
    """What a process and all that it starts costs."""

    def __init__(self, seconds: float, cpu_seconds: float, peak_bytes: int) -> None:
        self.seconds, self.cpu_seconds, self.peak_bytes = seconds, cpu_seconds, peak_bytes

    def __str__(self) -> str:
        return f"{self.seconds:7.2f} s {self.cpu_seconds:7.2f} s CPU {self.peak_bytes / MB:6.0f} MB"


class TooLong(Exception):
    """A program that was ended because it took too long; its text says what it had cost by then."""


def run(words: list, env: dict | None = None, limit_seconds: float | None = None) -> Cost:
    """Runs a program to its end; its memory is that of its whole tree, looked at many times."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(words, env={**os.environ, **(env or {})}, cwd=ROOT, stdout=output, stderr=output)
        peak, over = [0], threading.Event()
        watch = threading.Thread(target=sample, args=(child.pid, peak, over))
        watch.start()
        late = threading.Timer(limit_seconds or threading.TIMEOUT_MAX, child.kill)
        late.daemon = True
        late.start()
        _, status, usage = os.wait4(child.pid, 0)
        late.cancel()
        seconds = time.monotonic() - began
        over.set()
        watch.join()
        if limit_seconds is not None and seconds >= limit_seconds:
            child.returncode = -1
            raise TooLong(f"ended after {Cost(seconds, usage.ru_utime + usage.ru_stime, peak[0])}")
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            output.seek(0)
            sys.exit(f"{words} ended with {child.returncode}: {output.read().decode()[-2000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak[0])


def sample(pid: int, peak: list, over: threading.Event) -> None:
    """Keeps the largest sum of the memory of a process and its descendants."""
    began = time.monotonic()
    while not over.wait(min(SLOWEST_SAMPLE_SECONDS, max(SAMPLE_SECONDS, (time.monotonic() - began) / 100))):
        parents, sizes = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents[int(entry.name)], sizes[int(entry.name)] = int(fields[1]), int(fields[21])
        tree, size = [pid], 0
        while tree:
            found = tree.pop()
            size += sizes.get(found, 0)
            tree += [child for child, parent in parents.items() if parent == found]
        peak[0] = max(peak[0], size * os.sysconf("SC_PAGE_SIZE"))


class Site:
    """A public folder on loopback; counts requests and bytes."""

    def __init__(self, public: Path) -> None:
        from updater.publish.serve import make_server

        self.requests = self.sent_bytes = 0
        self._server = make_server(public, told=self._count)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _count(self, line: str) -> None:
        self.requests += 1
        self.sent_bytes += int(line.split()[1]) if line.endswith(" bytes") else 0

    def measured(self, words: list) -> tuple:
        """Runs a client; returns its cost, the requests and the bytes."""
        self.requests = self.sent_bytes = 0
        cost = run(words)
        return cost, self.requests, self.sent_bytes


def bundle(name: str, version: str, folder: Path) -> Path:
    """The files of a wheel, or the frozen sample till, with the vendor's description."""
    package, entry, versions = BUNDLES[name]
    if not package:
        return frozen(version, folder / f"{name}-{version}", schema=versions.index(version) + 1)
    cache = Path(os.environ.get("TILLKEEPER_BENCH_CACHE") or Path.home() / ".cache" / "tillkeeper-bench")
    stem = f"{package.replace('-', '_').lower()}-{version}-"
    found = [path for path in cache.glob("*.whl") if path.name.lower().startswith(stem)]
    if not found:
        words = [*pip(), "download", "--quiet", "--no-deps", "--dest", str(cache), f"{package}=={version}"]
        if subprocess.run(words, check=False).returncode != 0:
            raise FileNotFoundError(f"{package} {version} could not be downloaded")
        found = [path for path in cache.glob("*.whl") if path.name.lower().startswith(stem)]
    target = folder / f"{name}-{version}"
    with zipfile.ZipFile(found[0]) as wheel:
        wheel.extractall(target)
    entry = entry.format(version)
    # The same name in each release, as a vendor's build has it.
    (target / entry).rename(target / "app")
    (target / "app").chmod(0o755)
    (target / "tillkeeper.toml").write_text(f'version = "{version}"\nentry = "app"\n')
    return target


def frozen(version: str, folder: Path, *, schema: int) -> Path:
    """A release of the sample till, frozen for itself as a vendor's build is; like the wheels without a self-test."""
    sys.path.insert(0, str(ROOT))
    from tests.sample_till.bundles import freeze, make_frozen_bundle

    made = freeze(folder.with_name(f"{folder.name}-frozen"))
    make_frozen_bundle(folder, made, version=version, schema=schema)
    (folder / "tillkeeper.toml").write_text(f'version = "{version}"\nentry = "till"\nmigrations = "migrations"\n')
    return folder


class Ours:
    """Tillkeeper's vendor and terminals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = [sys.executable, "-m", "updater"]
        os.environ["TILLKEEPER_KEY_PASSWORD"] = PASSWORD
        self.publish("init", "--app", APP, "--public", str(folder / "public"))
        self.site = Site(folder / "public")

    def publish(self, command: str, *more: str) -> Cost:
        """Runs `updater publish`."""
        return run([*self.words, "publish", command, "--repository", str(self.folder / "vendor"), *more])

    def add(self, files: Path, *, has_pack: bool, deltas_count: int) -> Cost:
        """Publishes; only the last releases need more than an archive."""
        forms = ["--deltas", str(deltas_count), *([] if has_pack else ["--no-pack"])]
        return self.publish("release", str(files), "--unverified", *forms)

    def install(self, version: str) -> Cost:
        """Makes a terminal that has the newest release."""
        folder = self.folder / version
        return run([
            *self.words, "install", "--url", self.site.url, "--root", str(self.folder / "public/metadata/1.root.json"),
            "--settings", str(folder / "settings.toml"), "--program", str(folder / "program"),
            "--state", str(folder / "state"), "--data", str(folder / "data"), "--accept-disk", "forgets",
        ])  # fmt: skip

    def install_without_deltas(self, version: str) -> None:
        """Makes a copy of a terminal that has found all deltas to be of no use."""
        folder = self.folder / WITHOUT
        shutil.copytree(self.folder / version, folder, symlinks=True)
        settings = folder / "settings.toml"
        settings.write_text(settings.read_text().replace(str(self.folder / version), str(folder)))
        deltas = [path.name.partition(".")[0] for path in (self.folder / "public/targets").glob("*.delta")]
        (folder / "state/private/packs.json").write_text(json.dumps({"format": 1, "given_up": deltas}))

    def update(self, terminal: str, _now: str) -> tuple:
        """Runs one cycle on a terminal."""
        return self.site.measured([*self.words, "check", "--settings", str(self.folder / terminal / "settings.toml")])

    def disk_bytes(self, version: str) -> int:
        """All that is on the terminal."""
        return size_of(self.folder / version)

    def made(self, version: str) -> str:
        """Sizes of the forms of a release."""
        found = sorted((self.folder / "public/targets").glob(f"*{version}.*"))
        wanted = [path for path in found if path.suffix in (".pack", ".delta", ".gz")]
        return ", ".join(f"{path.name.partition('.')[2]} {path.stat().st_size / MB:.2f} MB" for path in wanted)


class Theirs:
    """tufup's vendor and apps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = [sys.executable, str(PEER)]
        run([*self.words, "init", str(folder)])
        self.site = Site(folder / "public")

    def add(self, files: Path, *, version: str, patch: bool) -> Cost:
        """Publishes."""
        words = [*self.words, "add", str(self.folder), str(files), version]
        if patch:
            return run([*words, "patch"], limit_seconds=PATCH_SECONDS)
        return run([*words, "archive"])

    def add_again(self, files: Path, *, version: str) -> Cost:
        """Publishes a bundle without a patch, whose patch took too long."""
        for path in (self.folder / "public/targets").glob(f"{APP}-{version}.*"):
            path.unlink()
        return self.add(files, version=version, patch=False)

    def install(self, terminal: str, version: str, files: Path, *, with_archive: bool) -> None:
        """Makes an app of a version, with the archive that patches need, or without."""
        folder = self.folder / terminal
        shutil.copytree(files, folder / "app")
        for name in ("metadata", "targets"):
            (folder / name).mkdir()
        shutil.copy(self.folder / "public/metadata/root.json", folder / "metadata")
        if with_archive:
            shutil.copy(self.folder / f"public/targets/{APP}-{version}.tar.gz", folder / "targets")

    def update(self, terminal: str, now: str) -> tuple:
        """Updates an app that has a version now."""
        return self.site.measured([*self.words, "update", str(self.folder / terminal), self.site.url, now])

    def disk_bytes(self, version: str) -> int:
        """All that is on the terminal."""
        return size_of(self.folder / version)

    def made(self, version: str) -> str:
        """Sizes of what it publishes."""
        found = sorted((self.folder / "public/targets").glob(f"*{version}.*"))
        return ", ".join(f"{path.name} {path.stat().st_size / MB:.2f} MB" for path in found)


def size_of(folder: Path) -> int:
    """The bytes of the files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def bench(names: list, behind: int, *, patches: bool = True) -> None:
    """Measures each bundle: made, one behind, several behind, all of it, nothing new."""
    for name in names or DEFAULT:
        with tempfile.TemporaryDirectory() as folder:
            try:
                measure(name, behind, Path(folder), patches=patches)
            except FileNotFoundError as error:
                say(f"-- {name} is left out: {error}")


def many(count: int, gigabytes: float) -> None:
    """One release of many files, and one in which a hundredth of them differs: published, staged, checked."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "bundle"
        made_bytes = make_many(files, count, int(gigabytes * 1e9))
        say(f"-- {count} files, {made_bytes / MB:.0f} MB, half of each file random; load {os.getloadavg()[0]:.1f}")
        ours = Ours(folder / "ours")
        say(f"publish 1.0 (archive alone)     {ours.publish('release', str(files), '--unverified', *ALONE)}")
        say(f"install 1.0                     {ours.install('1.0')}")
        for number in range(0, count, 100):
            path = file_of(files, number)
            path.write_bytes(path.read_bytes()[:-8] + os.urandom(8))
        (files / "tillkeeper.toml").write_text('version = "1.1"\nentry = "app"\n')
        forms = ("--deltas", "1", "--no-pack")
        say(f"publish 1.1 (archive and delta) {ours.publish('release', str(files), '--unverified', *forms)}")
        say(f"{'':<31} {ours.made('1.1')}")
        for case in ("update by the delta", "nothing new"):
            cost, requests, sent_bytes = ours.update("1.0", "")
            say(f"{case:<31} {cost} {requests} requests {sent_bytes / MB:.1f} MB")
        words = ["status", "--settings", str(folder / "ours/1.0/settings.toml")]
        say(f"status                          {run([*ours.words, *words])}")
        say(f"on disk                         {size_of(folder / 'ours/1.0') / MB:.0f} MB")


def make_many(folder: Path, count: int, size_bytes: int) -> int:
    """Files of one size in folders of a hundred, half of each random and half of it repeated text."""
    half = size_bytes // count // 2
    text = (b"the same words in each file of the release " * (half // 43 + 1))[:half]
    for number in range(count):
        path = file_of(folder, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text + os.urandom(half))
    (folder / "app").write_text("#!/bin/sh\nexit 0\n")
    (folder / "app").chmod(0o755)
    (folder / "tillkeeper.toml").write_text('version = "1.0"\nentry = "app"\n')
    return size_of(folder)


def file_of(folder: Path, number: int) -> Path:
    """Return the place of a file of many."""
    return folder / f"data/part{number // 100:04d}/file_{number:06d}.bin"


def measure(name: str, behind: int, folder: Path, *, patches: bool) -> None:
    """One bundle, in a folder of its own."""
    versions = BUNDLES[name][2]
    behind = min(behind, len(versions) - 1)
    versions = versions[-behind - 1 :]
    last = versions[-1]
    say(f"-- {name} {' '.join(versions)}")
    bundles = {version: bundle(name, version, folder / "bundles") for version in versions}
    size_bytes = size_of(bundles[last])
    count = sum(1 for path in bundles[last].rglob("*") if path.is_file())
    say(f"{count} files, {size_bytes / MB:.1f} MB; load {os.getloadavg()[0]:.1f}")
    ours, theirs = Ours(folder / "ours"), Theirs(folder / "theirs")
    theirs_from = 0 if name not in ONE_PATCH else len(versions) - 2
    for place, version in enumerate(versions):
        is_last = version == last
        # A vendor who makes five deltas of the last release has made those of the one before.
        deltas_count = behind if is_last else behind - 1 if version == versions[-2] else 0
        cost = ours.add(bundles[version], has_pack=is_last, deltas_count=deltas_count)
        if is_last:
            say(f"made: Tillkeeper, {behind} delta(s) {cost}   {ours.made(last)}")
        elif version in (versions[0], versions[-2]):
            ours.install(version)
        if place < theirs_from:
            continue
        if not is_last:
            theirs.add(bundles[version], version=version, patch=patches and place > theirs_from)
            theirs.install(version, version, bundles[version], with_archive=True)
            continue
        try:
            peer = theirs.add(bundles[version], version=version, patch=patches)
        except TooLong as error:
            say(f"made: tufup, a patch {error}")
            patches = False
            peer = theirs.add_again(bundles[version], version=version)
        say(f"made: tufup                 {peer}   {theirs.made(last)}")
    ours.install_without_deltas(versions[-2])
    theirs.install(WITHOUT, versions[-2], bundles[versions[-2]], with_archive=False)
    cases = {"one behind": versions[-2], f"{behind} behind": versions[0], "full": WITHOUT}
    if behind == 1:
        del cases["1 behind"]
    say(f"{'':<12} {'':<11} {'wall':>9} {'CPU':>13} {'peak':>9} {'requests':>9} {'bytes':>10} {'on disk':>10}")
    for case, terminal in cases.items():
        now = versions[-2] if terminal == WITHOUT else terminal
        # Without patches tufup's way is the archive in every case, which is measured as "full".
        is_compared = terminal == WITHOUT or (patches and terminal in versions[theirs_from:])
        peers = theirs if is_compared else None
        compared(case, peers, ours, terminal, now)
    updated = versions[-2] if patches else WITHOUT
    compared("nothing new", theirs, ours, versions[-2], last, peers_terminal=updated)


def compared(
    case: str, theirs: Theirs | None, ours: Ours, terminal: str, now: str, *, peers_terminal: str | None = None
) -> None:
    """Lines of the table: both sides one after the other, and what ours costs of theirs."""
    found = {}
    if theirs is not None:
        place = peers_terminal or terminal
        found["tufup"] = tell(case, "tufup", theirs.update(place, now), theirs.disk_bytes(place))
    found["Tillkeeper"] = tell(case, "Tillkeeper", ours.update(terminal, now), ours.disk_bytes(terminal))
    if len(found) == 2:
        pairs = zip(("wall", "CPU", "peak", "bytes"), found["Tillkeeper"], found["tufup"], strict=True)
        ratios = [f"{name} {our / their:.2f}" for name, our, their in pairs if their]
        say(f"{'':<12} {'of it':<11} {', '.join(ratios)}")


def tell(case: str, side: str, found: tuple, disk_bytes: int) -> tuple:
    """One line of the table; returns what it costs."""
    cost, requests, sent_bytes = found
    disk = f"{disk_bytes / MB:8.1f} MB" if disk_bytes else ""
    say(f"{case:<12} {side:<11} {cost} {requests:9} {sent_bytes / MB:7.3f} MB {disk}")
    return cost.seconds, cost.cpu_seconds, cost.peak_bytes, sent_bytes
