"""The site files of the documentation, with the nginx of this machine: a site with TLS, and a cache in the store."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from tests.helpers.wires import certificate

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
FOLDER = ROOT / "docs" / "nginx"
START_SECONDS = 20.0
pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="there is no nginx: apt-get install -y nginx-light"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate"),
]
FRAME = """\
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log info;
events {{}}
http {{
    include /etc/nginx/mime.types;
    log_format till '$status $upstream_cache_status $request_uri $http_range';
    access_log {folder}/access.log till;
    client_body_temp_path {folder}/temporary; proxy_temp_path {folder}/temporary;
    {before}
    {file}
}}
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


class Nginx:
    """One that runs."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def lines(self, on: str) -> list[str]:
        """What was asked for, of files whose path contains `on`: status, cache, path, range."""
        return [line for line in (self.folder / "access.log").read_text().splitlines() if on in line]


@contextmanager
def running(folder: Path, name: str, changes: dict[str, str], *, before: str = "") -> Iterator[Nginx]:
    """An nginx with a file of the documentation, in which only places and names were changed."""
    assert NGINX is not None
    folder.mkdir()
    port = free_port()
    text = (FOLDER / name).read_text(encoding="utf-8")
    for old, new in {**changes, "PORT": str(port)}.items():
        assert old == "PORT" or old in text, f"{name} says {old}"
        text = text.replace(old, new.replace("PORT", str(port)))
    config = folder / "nginx.conf"
    config.write_text(FRAME.format(folder=folder, file=text, before=before), encoding="utf-8")
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(config)], stdout=output, stderr=output)
    try:
        ends = time.monotonic() + START_SECONDS
        while not answers(port):
            assert process.poll() is None, (folder / "output").read_text() + (folder / "error.log").read_text()
            assert time.monotonic() < ends
        yield Nginx(folder, port)
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(timeout=START_SECONDS)


@pytest.fixture
def site(vendor: Vendor, tmp_path: Path) -> Iterator[Nginx]:
    """The vendor's site, with TLS by an authority of its own."""
    pem = certificate(tmp_path)
    changes = {
        "listen 443 ssl;": "listen 127.0.0.1:PORT ssl;", "updates.example.com;": "localhost;",
        "/srv/updates": str(vendor.public),
        "/etc/ssl/updates.example.com.pem": str(pem), "/etc/ssl/updates.example.com.key": str(pem),
    }  # fmt: skip
    # nginx as root has no other account here: `master_process off` keeps it as it is.
    with running(tmp_path / "site", "site.conf", changes) as found:
        yield found


def pointed(till: Till, url: str, *, ca_file: Path | None = None, mirror: str = "") -> None:
    """Lets a terminal ask elsewhere."""
    text = till.settings_path.read_text().replace(till.settings.url, url)
    text = text.replace("mirrors = []", f'mirrors = ["{mirror}"]') if mirror else text
    text = text.replace("[agent]", f'[network]\nca_file = "{ca_file}"\n\n[agent]') if ca_file else text
    till.settings_path.write_text(text)


def released(vendor: Vendor, version: str) -> int:
    """A release of some size; the size of its archive."""
    (vendor.bundle(version, schema=4) / "assets.bin").write_bytes(random.Random(1).randbytes(300_000))
    vendor.publish(vendor.bundles / version, version)
    return next((vendor.public / "targets").glob(f"*{version}.tar.gz")).stat().st_size


def halved(till: Till, vendor: Vendor, version: str) -> int:
    """Leaves the first half of an archive in a terminal's downloads; its size."""
    (offer,) = till.terminal().find_releases().newer[-1:]
    data = next((vendor.public / "targets").glob(f"*{version}.tar.gz")).read_bytes()
    till.settings.downloads.mkdir(exist_ok=True)
    (till.settings.downloads / f"{offer.release.folder}.archive.part").write_bytes(data[: len(data) // 2])
    return len(data) // 2


def test_the_site_serves_updates_resumes_and_says_what_may_be_kept(
    vendor: Vendor, till: Till, site: Nginx, tmp_path: Path
) -> None:
    pointed(till, f"https://127.0.0.1:{site.port}", ca_file=tmp_path / "ca.pem")
    released(vendor, "1.1")
    half = halved(till, vendor, "1.1")
    assert till.check().outcome == "SWAPPED"
    (line,) = site.lines(".tar.gz")
    assert (line.split()[0], line.split()[-1]) == ("206", f"bytes={half - 1024}-")
    names = ("timestamp.json", "1.root.json", "99.root.json")
    found = subprocess.run(
        ["curl", "-sik", *(f"https://127.0.0.1:{site.port}/metadata/{name}" for name in names)],
        capture_output=True, check=False,
    ).stdout.decode("latin-1").lower()  # fmt: skip
    if found:
        kept = [line.partition(": ")[2].strip() for line in found.splitlines() if line.startswith("cache-control")]
        assert kept == ["no-cache", "public, max-age=31536000, immutable", "no-store"]


def test_a_cache_in_the_store_fetches_once_and_tells_no_old_news(
    vendor: Vendor, till: Till, site: Nginx, tmp_path: Path
) -> None:
    changes = {
        "/var/cache/nginx/tillkeeper": str(tmp_path / "cached"), "listen 8080;": "listen 127.0.0.1:PORT;",
        "https://updates.example.com": f"https://127.0.0.1:{site.port}", "updates.example.com": "localhost",
        "/etc/ssl/certs/ca-certificates.crt": str(tmp_path / "ca.pem"),
    }  # fmt: skip
    with ExitStack() as stack:
        cache = stack.enter_context(running(tmp_path / "cache", "cache.conf", changes))
        other = till.copy_to(tmp_path / "other", till.settings.url)
        for one in (till, other):
            pointed(
                one,
                f"http://127.0.0.1:{cache.port}",
                mirror=f"https://127.0.0.1:{site.port}",
                ca_file=tmp_path / "ca.pem",
            )
        assert till.check().outcome == "NOTHING_NEW"
        released(vendor, "1.1")
        half = halved(till, vendor, "1.1")
        assert till.check().outcome == "SWAPPED", "no old timestamp came from the cache"
        assert other.check().outcome == "SWAPPED"
        assert [line.split()[:2] for line in cache.lines(".tar.gz")] == [["206", "MISS"], ["200", "HIT"]]
        assert cache.lines(".tar.gz")[0].endswith(f"bytes={half - 1024}-")
        (line,) = site.lines(".tar.gz")
        assert line.split()[0] == "200", "the whole file, once, for a terminal that asked for a part"
    # The cache is switched off: the mirror is asked in the same cycle.
    released(vendor, "1.2")
    assert till.check().outcome == "SWAPPED"
