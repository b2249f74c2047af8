"""A terminal from one file, whole: a machine without Python, the kit, trade, updates, the way back, the agent deleted.

`python -m tests.drills.kit linux --wheels DIR [--root DIR]` boots a bare Debian in a container (systemd-container,
debootstrap; root). `python -m tests.drills.kit windows --wheels DIR --python ZIP` takes an empty wine prefix.
`updater publish kit` names the command that fetches the wheels. Each prints what it saw, seconds and sizes, and ends
with 0 if all of it was as it must be.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.helpers.places import ROOT
from tests.helpers.vendor import Vendor, served
from tests.sample_till.bundles import APP
from updater.publish.serve import make_server

PORT: Final = 8765
PACKAGE: Final = f"tillkeeper-{APP}"
STEP_SECONDS: Final = 300.0
DESCRIPTION: Final = """\
name = "Corner Shop"
vendor = "Corner Shop GmbH"
contact = "support@corner.example"
version = "{version}"
url = "http://127.0.0.1:{port}"
"""
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
wait_for() { for _ in $(seq 600); do eval "$1" && return 0; sleep 0.2; done; echo "NOT SEEN: $1"; systemctl poweroff; exit 1; }
must() { local said; said=$("${@:2}" 2>&1); local code=$?; echo "$said"; [[ $said == *"$1"* ]] || { echo "NOT SEEN: $1 (exit $code)"; systemctl poweroff; exit 1; }; }
publish() { touch /srv/want-$1; wait_for "[ -e /srv/done-$1 ]"; systemctl restart $S; wait_for "$P status --json | grep -q '\"phase\": \"SWAPPED\"'"; }
say "the service installs the terminal"
wait_for "[ -e $STATE/journal.json ]"
must running $P service status
must "the shop has no products" clerk $P launch -- --sell 2
clerk python3 -I -c "$FILL" || echo "NOT SEEN: a shop"
must "till 1.0 is open" clerk $P launch -- --sell 2
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
        sys.executable, "-m", "updater", "publish", "kit", "--repository", str(vendor.repository), "--platform", platform,
        "--settings", str(described), "--output", str(output), "--wheels", str(wheels), "--app-version", "1.0", *options,
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
    story = STORY.replace("@PACKAGE@", PACKAGE).replace("@APP@", APP).replace("@FILL@", fill)
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


def main() -> int:
    """Does what the words say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=["linux"])
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--root", type=Path, help="A bare Debian that debootstrap made; it is copied.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tillkeeper-kit-") as folder:
        began = time.monotonic()
        good = linux(Path(folder), given.wheels, given.root)
        print(f"{given.system}: {'good' if good else 'NOT GOOD'}, {time.monotonic() - began:.0f} seconds")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
