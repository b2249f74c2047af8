"""The drill of the wire: a download that is cut at twenty places, and every hostile way of a server, as two tables.

`python -m tests.drills.wire [--seed N] [--mode NAME …] [--jobs N]`. Real servers, a real agent as a process, real TLS.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.errors import TillkeeperError
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, served, serving
from tests.helpers.wires import MODES, Request, Script, certificate, wired
from updater.bundles.version_folders import Versions

CUTS_COUNT: Final = 20
ARCHIVE_BYTES: Final = 6_000_000
SMALL_BYTES: Final = 300_000
BYTES_LIMIT: Final = 1.1
"""Bytes in all of a download that was cut, in archives."""
LOOK_SECONDS, FETCH_SECONDS = 4.0, 6.0
LIMITS: Final = {
    "look_seconds": LOOK_SECONDS, "fetch_seconds": FETCH_SECONDS, "answer_seconds": 1.5, "silence_seconds": 1.5,
    "retry_seconds": 0.05,
}  # fmt: skip
LINE_SECONDS: Final = 0.001
"""For 4096 bytes."""
START_SECONDS: Final = 15.0
"""What starting the agent and its child may take on a busy machine, beside the deadlines."""
MEMORY_LIMIT_MB: Final = 120.0
BYTES_COUNT_LIMIT: Final = 4.5
"""Archives that a hostile server gets rid of in one cycle: wrong ones, whole ones after a part, tries for nothing."""
SENT_LIMIT_BYTES: Final = 24_000_000
"""What waits in sockets on both sides of a server that never ends is sent, and never read."""
STALLED_NAME: Final = "http://updates.till-drill.example"
PHASES: Final = {"metadata": "metadata/", "archive": ".tar.gz"}
STALL: Final = "silent name server"
SURVIVED: Final = frozenset({"SWAPPED"})
NAMED: Final = frozenset({"OFFLINE", "SERVER_WRONG", "REFUSED", "TIMED_OUT", "SERVER_BUSY", "STAGING_LATER"})
TROUBLES: Final = ("truncate", "stall", "corrupt", "redirect", "reset")


class Ground(NamedTuple):
    """A vendor with 1.0 and 1.1, and a terminal with 1.0, for copying."""

    folder: Path
    vendor: Vendor
    till: Till
    archive_bytes: int


def ground(folder: Path, size_bytes: int) -> Ground:
    """Makes both."""
    vendor, till = Vendor(folder / "vendor"), Till(folder / "till")
    vendor.init()
    vendor.release("1.0")
    with served(serving(vendor.public)) as address:
        till.install(vendor.root, address)
    till.limits(**LIMITS)
    (vendor.bundle("1.1", schema=2) / "assets.bin").write_bytes(random.Random(1).randbytes(size_bytes))
    vendor.publish(vendor.bundles / "1.1", "1.1")
    archive = next((vendor.public / "targets").glob("*1.1.tar.gz"))
    return Ground(folder, vendor, till, archive.stat().st_size)


def broken_folders(till: Till) -> list[str]:
    """Version folders under a final name that are not whole."""
    versions, found = Versions(till.folder / "program"), []
    for name in versions.names():
        try:
            versions.check(versions.folder(name), versions.manifest(name))
        except TillkeeperError as error:
            found.append(str(error))
    return found


# ------------------------------------------------------------------------------------------------------- cut in places


class Cutter:
    """A proxy on the line itself: it passes bytes on, and at each place in turn something happens to them."""

    def __init__(self, port: int, places: Sequence[tuple[int, str]]) -> None:
        self._target = port
        self._places = list(places)
        self.passed_bytes = 0
        self.redirects_count = 0
        self.happened: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def redirects(self) -> bool:
        """Whether the server answers with a redirect now; then not again."""
        is_due = self.redirects_count > 0
        self.redirects_count -= is_due
        return is_due

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(connection,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target)) as server:
            asking = threading.Thread(target=self._ask, args=(client, server), daemon=True)
            asking.start()
            with suppress(OSError):
                self._answer(client, server)
            # A thread that reads keeps a socket open, whoever closes it.
            for side, how in ((server, socket.SHUT_RDWR), (client, socket.SHUT_RD)):
                with suppress(OSError):
                    side.shutdown(how)
            asking.join()

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        while data := server.recv(4096):
            kind = ""
            if self._places and self.passed_bytes + len(data) > self._places[0][0]:
                kind = self._places.pop(0)[1]
                self.happened.append(kind)
                # For a redirect the connection ends; the server answers the next request with one.
                self.redirects_count += kind == "redirect"
            if kind == "corrupt":
                data = bytes([data[0] ^ 1]) + data[1:]
            elif kind == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            elif kind == "stall":
                time.sleep(2 * LIMITS["silence_seconds"])
                return
            elif kind in ("truncate", "redirect"):
                return
            client.sendall(data)
            self.passed_bytes += len(data)
            # Slower than a till reads, as a shop's line is: what waits in a socket is lost when the line breaks.
            time.sleep(LINE_SECONDS)

    @staticmethod
    def _ask(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(4096):
                server.sendall(data)


class Cut(NamedTuple):
    """A download that was cut."""

    outcome: str
    happened: tuple[str, ...]
    cycles_count: int
    passed_bytes: int
    archive_bytes: int
    seconds: float

    @property
    def ratio(self) -> float:
        """Bytes in all, in archives."""
        return self.passed_bytes / self.archive_bytes


def cut(folder: Path, *, seed: int, cuts_count: int = CUTS_COUNT, size_bytes: int = ARCHIVE_BYTES) -> Cut:
    """Downloads a release over TLS, while its line is truncated, stalled, corrupted, reset and redirected."""
    found, chance = ground(folder, size_bytes), random.Random(seed)
    places = sorted(chance.randrange(size_bytes // 50, size_bytes) for _ in range(cuts_count))
    kinds = [TROUBLES[count % len(TROUBLES)] for count in range(cuts_count)]
    chance.shuffle(kinds)
    schedule = list(zip(places, kinds, strict=True))
    pem = certificate(folder)
    cutter: Cutter | None = None

    def script(request: Request) -> None:
        if cutter is not None and "elsewhere" not in request.path and cutter.redirects():
            request.reply("302 Found", b"", f"Location: {request.path}?elsewhere")
        else:
            request.good()

    with wired(found.vendor.public, script, on=".tar.gz", tls=pem) as server:
        cutter = Cutter(server.port, schedule)
        till = found.till.copy_to(folder / "cut", f"https://127.0.0.1:{cutter.port}")
        text = till.settings_path.read_text().replace(f"fetch_seconds = {FETCH_SECONDS}", "fetch_seconds = 200.0")
        text = text.replace(f"look_seconds = {LOOK_SECONDS}", "look_seconds = 30.0")
        till.settings_path.write_text(text.replace("[agent]", f'[network]\nca_file = "{folder}/ca.pem"\n\n[agent]'))
        began, cycles_count, outcome = time.monotonic(), 0, ""
        while outcome != "SWAPPED" and cycles_count < cuts_count:
            outcome, cycles_count = str(till.check().outcome), cycles_count + 1
        assert not broken_folders(till)
        seconds = time.monotonic() - began
        cutter.close()
    return Cut(outcome, tuple(cutter.happened), cycles_count, cutter.passed_bytes, found.archive_bytes, seconds)


# ------------------------------------------------------------------------------------------------------- hostile modes


class Row(NamedTuple):
    """What an agent made of one way of being wrong."""

    mode: str
    phase: str
    outcome: str
    exit_status: int
    seconds: float
    deadline_seconds: float
    memory_mb: float
    sent_bytes: int
    archive_bytes: int
    status: str
    after: str
    """What the next cycle makes of the good server."""
    problems: tuple[str, ...]

    def in_words(self) -> str:
        """A line of the table."""
        return (
            f"| {self.mode} | {self.phase} | {self.outcome} | {self.exit_status} "
            f"| {self.seconds:.1f} of {self.deadline_seconds:.0f} | {self.memory_mb:.0f} "
            f"| {self.sent_bytes / self.archive_bytes:.2f} | {self.status} | {self.after}"
            f"{'' if not self.problems else ' | ' + '; '.join(self.problems)} |"
        )


HEAD: Final = """\
| way | phase | outcome | exit | seconds | memory MB | bytes / archive | status says | then, with the good server |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def can_stall_names() -> bool:
    """Whether this machine lets a test have name servers of its own."""
    unshare = shutil.which("unshare")
    return (
        unshare is not None
        and subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode == 0
    )


@contextmanager
def silent_name_server(folder: Path) -> Iterator[list[str]]:
    """A name server that never answers; yields what a command begins with to have it alone."""
    # One for each: cases run beside each other.
    place = f"127.77.{random.SystemRandom().randrange(256)}.{random.SystemRandom().randrange(1, 255)}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind((place, 53))
        resolver = folder / "resolv.conf"
        resolver.write_text(f"nameserver {place}\n")
        yield ["unshare", "-rm", "sh", "-c", f'mount --bind "{resolver}" /etc/resolv.conf && exec "$@"', "sh"]


MEASURE: Final = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([done.stdout.decode(errors="replace"), done.returncode, time.monotonic() - began, used / 1000]))
"""
"""In a small process between: the memory of one that starts another counts as the other's."""


def measured(till: Till, before: Sequence[str]) -> tuple[str, int, float, float]:
    """`updater check` as a process: its output, exit status, seconds and the largest memory of it or its child."""
    done = subprocess.run(
        [*before, sys.executable, "-c", MEASURE, sys.executable, "-m", "updater", "check"],
        env=till.environment(), stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    output, code, seconds, memory_mb = json.loads(done.stdout)
    return output, code, seconds, memory_mb


def tried(found: Ground, mode: str, phase: str) -> Row:
    """One way of being wrong, in one phase; then the good server."""
    folder = found.folder / f"{mode}-{phase}".replace(" ", "-").replace(",", "")
    script: Script = MODES.get(mode) or MODES["redirect loop"]
    address = ""
    if mode == STALL and phase == "archive":

        def script(request: Request) -> None:
            request.reply("302 Found", b"", f"Location: {STALLED_NAME}{request.path}")

    with wired(found.vendor.public, script, on=PHASES[phase]) as server:
        address = STALLED_NAME if mode == STALL and phase == "metadata" else server.url
        till = found.till.copy_to(folder, address)
        if mode == STALL:
            with silent_name_server(folder) as before:
                output, code, seconds, memory_mb = measured(till, before)
        else:
            output, code, seconds, memory_mb = measured(till, ())
    last = output.strip().splitlines()[-1] if output.strip() else ""
    outcome = last.partition(":")[0]
    lines = [line for line in till.run("status").stdout.splitlines() if line.startswith("server")]
    parts = broken_folders(till)
    with served(serving(found.vendor.public)) as good:
        text = till.settings_path.read_text()
        till.settings_path.write_text(text.replace(address, good))
        after = str(till.check().outcome)
    deadline_seconds = LOOK_SECONDS + (FETCH_SECONDS if phase == "archive" else 0)
    row = Row(
        mode, phase, outcome, code, seconds, deadline_seconds, memory_mb, server.sent_bytes, found.archive_bytes,
        lines[0].partition("gave up")[1] or "a cause" if lines else "nothing", after, (),
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    return row._replace(problems=tuple(problems(row, output, parts)))


def problems(row: Row, output: str, broken: Sequence[str]) -> Iterator[str]:
    """What must not be."""
    yield from broken
    if row.outcome not in SURVIVED | NAMED or "Traceback" in output:
        yield f"not a named outcome: {output[-500:]}"
    if row.outcome in NAMED and row.status != "gave up":
        yield "status does not say until when it gave up"
    if row.seconds > row.deadline_seconds + START_SECONDS:
        yield "later than its deadline"
    if row.memory_mb > MEMORY_LIMIT_MB:
        yield "too much memory"
    if row.sent_bytes > BYTES_COUNT_LIMIT * row.archive_bytes + SENT_LIMIT_BYTES:
        yield "too many bytes"
    wanted = ("NOTHING_NEW", "SWAPPED") if row.outcome in SURVIVED else ("SWAPPED",)
    if row.after not in wanted:
        yield "the good server was not believed again"


def table(folder: Path, modes: Sequence[str], *, jobs_count: int) -> Iterator[Row]:
    """Every way, in both phases."""
    found = ground(folder, SMALL_BYTES)
    cases = [(mode, phase) for mode in modes for phase in PHASES]
    with ThreadPoolExecutor(jobs_count) as pool:
        yield from pool.map(lambda case: tried(found, *case), cases)


def main() -> int:
    """Both parts; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", action="append", choices=[*MODES, STALL])
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if not chosen.mode:
            (folder / "cut").mkdir()
            seen = cut(folder / "cut", seed=chosen.seed)
            print(f"seed {chosen.seed}: {len(seen.happened)} of {CUTS_COUNT} places ({', '.join(seen.happened)})")
            print(
                f"{seen.outcome} after {seen.cycles_count} cycles, {seen.seconds:.0f} s: {seen.ratio:.3f} x the archive"
            )
            bad += seen.ratio > BYTES_LIMIT or seen.outcome != "SWAPPED"
        modes = chosen.mode or [*MODES, STALL]
        if STALL in modes and not can_stall_names():
            print(f"skipped: {STALL}: this machine has no unshare")
            modes.remove(STALL)
        print(HEAD)
        (folder / "table").mkdir()
        for row in table(folder / "table", modes, jobs_count=chosen.jobs):
            print(row.in_words(), flush=True)
            bad += bool(row.problems)
    print(f"\n{len(modes)} ways in {len(PHASES)} phases, {bad} bad")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
