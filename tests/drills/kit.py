"""A terminal from one file, whole: a machine without Python, the kit, trade, updates, the way back, the agent deleted.

`python -m tests.drills.kit linux --wheels DIR [--root DIR]` boots a bare Debian in a container (systemd-container,
debootstrap; root). `python -m tests.drills.kit windows --wheels DIR --python ZIP` takes an empty wine prefix.
`updater publish kit` names the command that fetches the wheels. Each prints what it saw, seconds and sizes, and ends
with 0 if all of it was as it must be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.helpers.places import ROOT
from tests.helpers.vendor import Vendor, served
from tests.sample_till.bundles import APP
from updater.publish.serve import make_server

PORT: Final = 8765
PACKAGE: Final = f"tillkeeper-{APP}"
STEP_SECONDS: Final = 600.0
"""Under wine, on a machine that does other work too, a setup program takes minutes."""
LOG_SHOWN: Final = 3000
DESCRIPTION: Final = """\
name = "Corner Shop"
vendor = "Corner Shop GmbH"
contact = "support@corner.example"
version = "{version}"
url = "http://127.0.0.1:{port}"
"""
PYTHON_ROLE: Final = '[interpreters]\npython = "{rescue}"\n'
FILL: Final = (
    "import sys, pathlib; sys.path.insert(0, r'{folder}'); from fill import fill;"
    " fill(pathlib.Path(r'{database}'), items_count=400)"
)
"""Needs the standard library alone."""
UNIT: Final = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/srv/story.sh
[Install]
WantedBy=graphical.target multi-user.target
"""
STORY: Final = r"""#!/bin/bash
exec >/srv/out.txt 2>&1
P=@PACKAGE@; S=$P.service; STATE=/var/lib/tillkeeper/@APP@
export HOME=/root
FILL="@FILL@"
say() { echo "### $(cut -d. -f1 /proc/uptime) s: $*"; }
clerk() { runuser -u clerk -- env HOME=/home/clerk "$@"; }
missing() { echo "NOT SEEN: $*"; systemctl poweroff; exit 1; }
wait_for() { for _ in $(seq 600); do eval "$1" && return 0; sleep 0.2; done; missing "$1"; }
must() {
    local said; said=$("${@:2}" 2>&1); local code=$?
    echo "$said"; [[ $said == *"$1"* ]] || missing "$1 (exit $code)"
}
publish() {
    touch /srv/want-$1; wait_for "[ -e /srv/done-$1 ]"; systemctl restart $S
    wait_for "$P status --json | grep -q '\"phase\": \"SWAPPED\"'"
}
say "the service installs the terminal"
wait_for "[ -e $STATE/journal.json ]"
must running $P service status
must "the shop has no products" clerk $P launch -- --sell 2
clerk python3 -I -c "$FILL" || echo "NOT SEEN: a shop"
must "till 1.0 is open" clerk $P launch -- --sell 2
for code in /usr/lib/$P/agent-*/site /usr/lib/$P-rescue/lib; do
    must "zstd: True" python3 -IS -c "@ZSTD@" $code
done
say "an update"
publish 1.1
must "till 1.1 is open" clerk $P launch -- --sell 2
systemctl restart $S; wait_for "$P status --json | grep -q '\"phase\": \"IDLE\"'"
say "a release that crashes"
publish 1.2
must "till 1.1 is open" clerk $P launch -- --sell 2
systemctl restart $S; wait_for "$P status --json | grep -q '\"phase\": \"IDLE\"'"
say "the service is killed, and stopped"
before=$(systemctl show -P MainPID $S); systemctl kill -s KILL $S
wait_for "[ \$(systemctl show -P MainPID $S) != 0 ] && [ \$(systemctl show -P MainPID $S) != $before ]"
echo "pid $before, killed; then $(systemctl show -P MainPID $S); restarts $(systemctl show -P NRestarts $S)"
sleep 1; systemctl stop $S; systemctl show -p Result -p ExecMainStatus $S
must "Result=success" systemctl show -p Result $S
journalctl -u $S -n 3 --no-pager -o cat
systemd-analyze verify $S; echo "verify: $?"
systemd-analyze security --no-pager $S | tail -1
say "a unit of updater service install, in place of the package's"
$P service install --settings /etc/tillkeeper/@APP@/settings.toml
must running $P service status
must "is removed" $P service uninstall --settings /etc/tillkeeper/@APP@/settings.toml
systemctl enable --now $S
say "a newer kit while the till is open"
clerk $P launch -- --sell 8 --pause 2 >/srv/open.txt 2>&1 &
wait_for "grep -q 'is open' /srv/open.txt"
dpkg -i /srv/newer.deb; echo "dpkg: $?"
ls -d /usr/lib/$P/agent-*
wait; tail -1 /srv/open.txt
say "the package cannot be removed while the till is open"
clerk $P launch -- --sell 8 --pause 2 >/srv/open2.txt 2>&1 &
wait_for "grep -q 'is open' /srv/open2.txt"
dpkg -r $P; echo "dpkg -r: $? (1 is right)"
[ -x /usr/lib/$P/start ] || { echo "NOT SEEN: the kit"; systemctl poweroff; exit 1; }
wait
say "the agent's folder is deleted"
systemctl stop $S; rm -rf /usr/lib/$P
must "1.0" clerk $P-rollback --list
must "1.0" clerk $P-rollback --yes
say "the same kit again"
dpkg -i /srv/newer.deb
must "till 1.0 is open" clerk $P launch -- --sell 1
say "removed"
dpkg -r $P; echo "dpkg -r: $?"
ls /usr/lib | grep tillkeeper; ls $STATE /var/opt/tillkeeper/@APP@
echo "ALL SEEN"
systemctl poweroff
"""


ZSTD: Final = (
    "import sys; sys.path[:0] = sys.argv[1:]; from dbsync.backups import compression as found;"
    " print('zstd:', found.is_there())"
)
"""A program for a Python of a kit; its argument is the folder with our code."""


def seen(words: list[str], **options: object) -> str:
    """Runs a command that must succeed; what it said."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        sys.exit(f"{words[0]} ended with {done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return str(done.stdout)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Prints how long something took."""
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def make_kit(vendor: Vendor, output: Path, *, platform: str, wheels: Path, more: str, options: list[str]) -> None:
    """`updater publish kit`."""
    described = output.with_suffix(".toml")
    version = "1.0.1" if "newer" in output.name else "1.0.0"
    described.write_text(DESCRIPTION.format(version=version, port=PORT) + more, encoding="utf-8")
    words = [
        sys.executable, "-m", "updater", "publish", "kit", "--repository", str(vendor.repository),
        "--platform", platform, "--settings", str(described), "--output", str(output), "--wheels", str(wheels),
        "--app-version", "1.0", *options,
    ]  # fmt: skip
    with step(f"{output.name} made"):
        print(seen(words, cwd=ROOT).splitlines()[0], flush=True)


def size_of(folder: Path) -> float:
    """Megabytes of a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


# --------------------------------------------------------------------------------------------------------------- linux


def linux(scratch: Path, wheels: Path, bare: Path | None) -> bool:
    """The story in a container that boots."""
    vendor = Vendor(scratch / "vendor")
    vendor.init()
    vendor.release("1.0", schema=2)
    more = '[accounts]\ntill = "clerk"\n[interpreters]\npython = "/usr/bin/python3"\n'
    for name in ("kit.deb", "newer.deb"):
        changed = more if name == "kit.deb" else more.replace("/usr/bin/python3", "/usr/bin/python3.11")
        make_kit(vendor, scratch / name, platform="linux-x86_64", wheels=wheels, more=changed, options=[])
    root = scratch / "root"
    if bare is None:
        with step("debootstrap"):
            seen(["debootstrap", "--variant=minbase", "--include=systemd-sysv,dbus", "bookworm", str(root)])
    else:
        seen(["cp", "-a", str(bare), str(root)])
    if (root / "usr/bin/python3").exists():
        sys.exit(f"{root} has a Python: it is not bare")
    for name in ("kit.deb", "newer.deb"):
        shutil.copy(scratch / name, root / "srv" / name)
    before = size_of(root)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with step("apt-get install ./kit.deb, with python3 of Debian"):
        install = "apt-get install -y -qq --no-install-recommends /srv/kit.deb"
        seen(["chroot", str(root), "sh", "-c", f"apt-get update -qq && {install}"], env=environment)
    home, rescue = root / "usr/lib" / PACKAGE, root / "usr/lib" / f"{PACKAGE}-rescue"
    print(f"kit {size_of(home):.1f} MB, rescue {size_of(rescue):.1f} MB, with Python {size_of(root) - before:.0f} MB")
    shutil.copy(ROOT / "tests/sample_till/fill.py", root / "srv/fill.py")
    fill = FILL.format(folder="/srv", database=f"/var/opt/tillkeeper/{APP}/pos_system.db")
    story = STORY.replace("@PACKAGE@", PACKAGE).replace("@APP@", APP).replace("@FILL@", fill).replace("@ZSTD@", ZSTD)
    for place, text in (("srv/story.sh", story), ("etc/systemd/system/story.service", UNIT)):
        (root / place).write_text(text, encoding="utf-8")
    (root / "srv/story.sh").chmod(0o755)
    seen(["chroot", str(root), "systemctl", "enable", "story.service"])
    with served(make_server(vendor.public, port=PORT)), step("the container, from boot to power off"):
        words = ["systemd-nspawn", "-q", "--boot", "-D", str(root), "--register=no", "--keep-unit"]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as container:
            deadline = time.monotonic() + STEP_SECONDS
            while container.poll() is None and time.monotonic() < deadline:
                publish_wanted(vendor, root / "srv")
                time.sleep(0.2)
            container.terminate()
    said = (root / "srv/out.txt").read_text(encoding="utf-8", errors="replace")
    print(said)
    return "ALL SEEN" in said and "NOT SEEN" not in said


def publish_wanted(vendor: Vendor, folder: Path) -> None:
    """Publishes the release that the story asks for."""
    for version, schema, behaviour in (("1.1", 4, "good"), ("1.2", 5, "crash")):
        if (folder / f"want-{version}").exists() and not (folder / f"done-{version}").exists():
            vendor.release(version, schema=schema, behaviour=behaviour)
            (folder / f"done-{version}").touch()


# ------------------------------------------------------------------------------------------------------------- windows


class Wine:
    """An empty Windows of its own."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "prefix"
        self.drive = self.prefix / "drive_c"
        self.home = self.drive / "Program Files" / "Corner Shop"
        self.state = self.drive / "ProgramData" / "Tillkeeper" / APP / "state"
        debian = "/usr/lib/wine/wine64"
        self._wine = debian if Path(debian).exists() else "wine64"
        self._environment = {
            **os.environ, "WINEPREFIX": str(self.prefix), "WINEARCH": "win64", "WINEDEBUG": "-all", "DISPLAY": "",
            "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=", "ROLLBACK_NO_PAUSE": "1",
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A program that runs on; through pipes, because wine gives Python no usable handle on a plain file."""
        return subprocess.Popen(
            [self._wine, *words], env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
        )  # fmt: skip

    def run(self, *words: str) -> tuple[int, str]:
        """A program to its end."""
        with self.start(*words) as process:
            said, _ = process.communicate(timeout=STEP_SECONDS)
        return process.returncode, said

    def hold(self) -> subprocess.Popen[bytes]:
        """A program that waits for words, and uses no file of the kit."""
        holder = subprocess.Popen(
            [self._wine, "cmd"], env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert holder.stdout is not None
        holder.stdout.read(1)
        return holder

    def setup(self, *words: str) -> int:
        """A setup program to its end. Without pipes: what it starts in wine would keep them open."""
        return subprocess.run(
            [self._wine, *words], env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=STEP_SECONDS, check=False,
        ).returncode  # fmt: skip

    def uninstall(self) -> int:
        """The uninstaller to its end: it waits only for a folder without quotes, which takes a file of commands."""
        place = r"C:\Program Files\Corner Shop"
        text = f'@echo off\r\n"{place}\\uninstall.exe" /S _?={place}\r\nexit /b %errorlevel%\r\n'
        (self.drive / "remove.cmd").write_bytes(text.encode())
        return self.setup("cmd", "/c", r"C:\remove.cmd")

    def updater(self, *words: str) -> str:
        """What a command of the kit says."""
        return self.run(r"C:\Program Files\Corner Shop\tillkeeper.exe", *words)[1]

    def must(self, wanted: str, *words: str) -> None:
        """A command of the kit that must say something."""
        said = self.updater(*words)
        if wanted not in said:
            self.missing(f"{wanted} in {words}: {said}")
        print(f"  seen: {wanted} ({' '.join(words)})", flush=True)

    def has_zstd(self, kit: str, code: str) -> None:
        """A Python of the kit, with the code beside it, opens packs and compressed backups."""
        folder = rf"C:\Program Files\Corner Shop\{kit}"
        status, said = self.run(rf"{folder}\python\python.exe", "-I", "-S", "-c", ZSTD, rf"{folder}\{code}")
        if "zstd: True" not in said:
            self.missing(f"zstd in {kit} ({status}): {said}")
        print(f"  seen: zstd in {kit}", flush=True)

    def missing(self, what: str) -> None:
        """Ends the drill, with what setup program and terminal have written down."""
        logs = [*self.drive.glob("users/*/Temp/tillkeeper-setup.log"), *self.state.rglob("events-*.jsonl")]
        texts = [f"{path.name}:\n{path.read_text(encoding='utf-8', errors='replace')[-LOG_SHOWN:]}" for path in logs]
        sys.exit("\n".join([f"NOT SEEN: {what}", *texts]))

    def wait_for_phase(self, phase: str) -> None:
        """The agent comes to a phase by itself."""
        deadline = time.monotonic() + STEP_SECONDS
        while f'"phase": "{phase}"' not in (said := self.updater("status", "--json")):
            if time.monotonic() > deadline:
                self.missing(f"{phase}: {said}")

    def end_app(self) -> None:
        """Ends the app as the Task Manager does."""
        pid = json.loads((self.state / "shared" / "app.lock").read_bytes())["pid"]
        code, said = self.run("taskkill", "/F", "/PID", str(pid))
        if code != 0:
            self.missing(f"the end of the app ({code}): {said}")

    def stop(self) -> None:
        """Ends everything in it."""
        subprocess.run(["/usr/lib/wine/wineserver64", "-k"], env=self._environment, check=False)


def windows(scratch: Path, wheels: Path, python: Path) -> bool:
    """The story under wine. Files are looked at: wine's own programs end with 0 whatever they did."""
    vendor = Vendor(scratch / "vendor")
    vendor.init()
    vendor.release("1.0", schema=2)
    sha256 = hashlib.sha256(python.read_bytes()).hexdigest()
    for name, role in (("setup.exe", "python"), ("newer.exe", "python3")):
        # Of another content, so another kit.
        more = f'[interpreters]\npython = "{{rescue}}"\n{role} = "{{rescue}}"\n' if role != "python" else PYTHON_ROLE
        options = ["--python", str(python), "--python-sha256", sha256, "--stub", "amd64"]
        make_kit(vendor, scratch / name, platform="windows-x86_64", wheels=wheels, more=more, options=options)
    wine = Wine(scratch)
    with step("an empty Windows"):
        wine.run("wineboot", "-i")
    try:
        with served(make_server(vendor.public, port=PORT)):
            _windows_story(wine, vendor, scratch)
    finally:
        wine.stop()
    return True


def _windows_story(wine: Wine, vendor: Vendor, scratch: Path) -> None:
    wine.run("winecfg", "-v", "win7")
    code = wine.setup(str(scratch / "setup.exe"), "/S")
    print(f"  on Windows 7: exit status {code}", flush=True)
    if code != 10 or wine.home.exists():
        wine.missing("the refusal of Windows 7")
    wine.run("winecfg", "-v", "win10")
    with step("setup.exe /S"):
        code = wine.setup(str(scratch / "setup.exe"), "/S")
    if code != 0 or not (wine.state / "journal.json").exists():
        wine.missing(f"the terminal ({code})")
    (agent,) = wine.home.glob("agent-*")
    print(f"  kit {size_of(agent):.1f} MB, rescue {size_of(wine.home / 'rescue'):.1f} MB", flush=True)
    wine.has_zstd(agent.name, "site")
    wine.has_zstd("rescue", "lib")
    # Its services end with wine's last process. This is the first: what wine starts by itself keeps its pipes.
    holder = wine.hold()
    try:
        _trade(wine, vendor)
        _newer(wine, scratch)
        _deleted(wine, scratch)
    finally:
        holder.kill()


def _trade(wine: Wine, vendor: Vendor) -> None:
    wine.must("running", "service", "status")
    wine.must("the shop has no products", "launch", "--", "--sell", "2")
    shutil.copy(ROOT / "tests/sample_till/fill.py", wine.drive / "fill.py")
    text = FILL.format(folder="C:/", database=rf"C:\ProgramData\Tillkeeper\{APP}\data\pos_system.db")
    (wine.drive / "fill_it.py").write_text(text, encoding="utf-8")
    wine.run(r"C:\Program Files\Corner Shop\rescue\python\python.exe", r"C:\fill_it.py")
    wine.must("till 1.0 is open", "launch", "--", "--sell", "2")
    for version, schema, behaviour, opens in (("1.1", 4, "good", "1.1"), ("1.2", 5, "crash", "1.1")):
        vendor.release(version, schema=schema, behaviour=behaviour)
        with step(f"{version} ({behaviour}): the service is stopped and started, the till opens, the agent settles it"):
            wine.must("is stopped", "service", "stop")
            wine.must("runs", "service", "start")
            wine.wait_for_phase("SWAPPED")
            wine.must(f"till {opens} is open", "launch", "--", "--sell", "2")
            wine.must("is stopped", "service", "stop")
            wine.must("runs", "service", "start")
            wine.wait_for_phase("IDLE")


def _newer(wine: Wine, scratch: Path) -> None:
    """A newer kit, and a removal, while the till is open."""
    launcher = r"C:\Program Files\Corner Shop\tillkeeper.exe"
    with wine.start(launcher, "launch", "--", "--sell", "0", "--pause", "2") as till:
        assert till.stdout is not None
        while "is open" not in (line := till.stdout.readline()):
            assert line, "the till ended"
        with step("newer.exe /S while the till is open"):
            code = wine.setup(str(scratch / "newer.exe"), "/S")
        agents = sorted(path.name for path in wine.home.glob("agent-*"))
        print(f"  exit status {code}: {agents}", flush=True)
        if code != 0 or len(agents) != 2:
            wine.missing("both kits")
        wine.must("running", "service", "status")
        code = wine.uninstall()
        print(f"  uninstall.exe /S while the till is open: exit status {code}", flush=True)
        if code != 16 or not (wine.home / "tillkeeper.exe").exists():
            wine.missing("the refusal to remove it")
        wine.must("running", "service", "status")
        if till.poll() is not None:
            wine.missing("an open till")
        wine.end_app()
        till.communicate(timeout=STEP_SECONDS)


def _deleted(wine: Wine, scratch: Path) -> None:
    """The agent's folder is deleted; the way back; the same kit again; its removal."""
    wine.must("is stopped", "service", "stop")
    for folder in wine.home.glob("agent-*"):
        shutil.rmtree(folder)
    rollback = r"C:\Program Files\Corner Shop\rescue\rollback.cmd"
    for words in (["--list"], ["--yes"]):
        with step(f"rollback.cmd {words[0]}"):
            code, said = wine.run("cmd", "/c", rollback, *words)
        print("".join(f"  {line}\n" for line in said.splitlines()[:4]), end="", flush=True)
        if code != 0:
            wine.missing(f"rollback.cmd {words[0]} ({code}): {said}")
    with step("newer.exe /S again"):
        wine.setup(str(scratch / "newer.exe"), "/S")
    wine.must("till 1.0 is open", "launch", "--", "--sell", "1")
    code = wine.uninstall()
    left = sorted(path.name for path in wine.home.iterdir()) if wine.home.exists() else []
    print(f"  uninstall.exe /S: exit status {code}, left: {left}, data: {(wine.state / 'journal.json').exists()}")
    if code != 0 or left not in ([], ["uninstall.exe"]) or not (wine.state / "journal.json").exists():
        wine.missing("the removal, with the data kept")


def main() -> int:
    """Does what the words say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=["linux", "windows"])
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--python", type=Path, help="The embeddable Windows Python, as a zip archive.")
    parser.add_argument("--root", type=Path, help="A bare Debian that debootstrap made; it is copied.")
    parser.add_argument("--folder", type=Path, help="Where to work, and what to leave; without it nothing is left.")
    given = parser.parse_args()
    with ExitStack() as left:
        if given.folder is None:
            folder = left.enter_context(tempfile.TemporaryDirectory(prefix="tillkeeper-kit-"))
        else:
            given.folder.mkdir(parents=True)
            folder = given.folder
        began = time.monotonic()
        if given.system == "linux":
            good = linux(Path(folder), given.wheels, given.root)
        elif given.python is None:
            parser.error("--python is needed for Windows")
        else:
            good = windows(Path(folder), given.wheels, given.python)
        print(f"{given.system}: {'good' if good else 'NOT GOOD'}, {time.monotonic() - began:.0f} seconds")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
