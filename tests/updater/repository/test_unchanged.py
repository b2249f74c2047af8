"""The cheap look: it takes no library, and it stands for a full look only while time allows that."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.keys import replace_keys
from tests.helpers.places import ROOT
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor, served
from tests.helpers.wires import Request, wired
from updater.answers import Answer
from updater.network.manner import Manner
from updater.repository import client, listing, unchanged

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from datetime import UTC, datetime
from pathlib import Path
from updater.network.manner import Manner
from updater.repository import client
url, folder, app = sys.argv[2:]
looked = client.look(client.Source(url, (), Path(folder), app, 30.0, 30.0, Manner(1)), now=datetime.now(UTC))
print(json.dumps([looked.answer, len(looked.releases), sorted({name.split(".")[0] for name in sys.modules})]))
"""


def source(till: Till) -> client.Source:
    """A terminal's look at its repository."""
    settings = till.settings
    return client.Source(settings.url, (), settings.trust, settings.app, 30.0, 30.0, Manner(1))


def request(till: Till, now: datetime | None = None, **values: Any) -> dict[str, Any]:
    """What the agent asks its child."""
    settings = till.settings
    asked = {
        **source(till).asked("look", 30.0), "app": settings.app, "trust_folder": str(settings.trust),
        "now": (now or datetime.now(UTC)).isoformat(),
    }  # fmt: skip
    return {**asked, **values}


def verified(till: Till) -> dict[str, Any]:
    """What a full look has kept, right after it."""
    settings = till.settings
    assert client.look(source(till), now=datetime.now(UTC)).answer is Answer.OK
    kept: dict[str, Any] = json.loads((settings.trust / "listing.json").read_text())
    return kept


def test_an_unchanged_repository_takes_no_library_and_no_child(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    kept = verified(till)
    asked = (till.settings.url, str(till.settings.trust), till.settings.app)
    done = subprocess.run(
        [sys.executable, "-I", "-c", CODE, str(ROOT), *asked], capture_output=True, text=True, check=True
    )
    answer, count, modules = json.loads(done.stdout)
    assert (answer, count) == ("OK", 2)
    assert not {"tuf", "urllib3", "requests", "securesystemslib", "packaging", "subprocess"} & set(modules)
    found = unchanged.answer(request(till))
    assert found is not None
    assert found["offers"] == kept["offers"]


def test_whatever_has_changed_is_left_to_the_full_look(vendor: Vendor, till: Till) -> None:
    verified(till)
    assert unchanged.answer(request(till)) is not None
    vendor.refresh()
    assert unchanged.answer(request(till)) is None, "another timestamp"
    verified(till)
    assert unchanged.answer(request(till)) is not None
    replace_keys(vendor, "timestamp")
    assert unchanged.answer(request(till)) is None, "a newer root"


@pytest.mark.parametrize("loss", ["listing.json", "seen.json", "root.json"])
def test_without_its_memory_it_says_nothing(vendor: Vendor, till: Till, loss: str) -> None:
    verified(till)
    path = till.settings.trust / loss
    data = path.read_bytes()
    for damage in (b"{", b"[]", b'{"format": 1}', b""):
        path.write_bytes(damage)
        assert unchanged.answer(request(till)) is None, damage
    path.unlink()
    assert unchanged.answer(request(till)) is None
    path.write_bytes(data)
    assert unchanged.answer(request(till)) is not None


def test_time_ends_it(till: Till) -> None:
    kept = verified(till)
    now, expires = datetime.now(UTC), datetime.fromisoformat(kept["expires"])
    assert now + 13 * DAY < expires < now + 15 * DAY

    def holds(moment: datetime, *, floor: datetime | None = None, **values: str) -> bool:
        found = listing.read(till.settings.trust)
        assert found is not None
        asked = {"app": kept["app"], "root_sha256": kept["root_sha256"], **values}
        return listing.holds(found, now=moment, floor=floor, **asked)

    assert holds(now)
    assert holds(now, floor=now + 13 * DAY)
    assert not holds(now, floor=expires), "the floor counts as the clock does"
    assert holds(now + 6 * DAY)
    assert not holds(now + 7 * DAY + HOUR), "once a week all signatures are verified"
    assert not holds(expires + HOUR)
    assert holds(now - HOUR)
    assert not holds(now - 2 * DAY), "the clock went back"
    assert not holds(now, app="another")
    assert not holds(now, root_sha256="another")
    late = {**kept, "verified_at": (expires - DAY).isoformat(), "format": 2}
    (till.settings.trust / "listing.json").write_text(json.dumps(late))
    assert holds(expires - HOUR)
    assert not holds(expires), "however young the last full look is"


class _Server(BaseHTTPRequestHandler):
    """A public folder, with one thing that is otherwise."""

    def __init__(self, public: Path, change: Callable[[_Server], bool], *rest: Any) -> None:
        self.public, self.change = public, change
        super().__init__(*rest)

    def do_GET(self) -> None:
        if self.change(self):
            return
        path = self.public / self.path.lstrip("/")
        data = path.read_bytes() if path.is_file() else b""
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


def date_is_off(server: _Server) -> bool:
    right = server.date_time_string
    server.date_time_string = lambda timestamp=None: right(datetime(2030, 1, 1, tzinfo=UTC).timestamp())  # type: ignore[method-assign]
    return False


def moves(server: _Server) -> bool:
    server.send_response(302)
    server.send_header("Location", server.path)
    server.end_headers()
    return True


def never_ends(server: _Server) -> bool:
    server.send_response(200)
    server.end_headers()
    server.wfile.write(b"x" * 200_000)
    return True


def has_every_root(server: _Server) -> bool:
    if "root" not in server.path:
        return False
    server.send_response(200)
    server.end_headers()
    return True


def breaks(server: _Server) -> bool:
    server.wfile.write(b"nothing of HTTP\r\n\r\n")
    return True


@pytest.mark.parametrize("change", [date_is_off, moves, never_ends, has_every_root, breaks])
def test_a_server_that_is_otherwise_is_left_to_the_full_look(
    vendor: Vendor, till: Till, change: Callable[[_Server], bool]
) -> None:
    verified(till)
    for way, is_known in ((lambda _: False, True), (change, False)):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Server, vendor.public, way))
        with served(server) as address:
            assert (unchanged.answer(request(till, bases=[address])) is not None) is is_known


def test_a_proxy_and_a_password_are_left_to_the_full_look(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = verified(till)
    url = till.settings.url
    assert unchanged.answer(request(till, bases=[url.replace("http://", "http://clerk:secret@")])) is None
    assert unchanged.answer(request(till, bases=["ftp://127.0.0.1/x"])) is None
    assert unchanged.answer(request(till, bases=[])) is None
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert unchanged.answer(request(till)) is None
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert unchanged.answer(request(till)) is not None
    assert kept["format"] == 2


def test_a_signed_release_stays_offered_while_nothing_changes(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    verified(till)
    assert unchanged.answer(request(till)) is not None
    assert till.check().outcome == "SWAPPED", "by the answer that is known, and a manifest that is fetched for it"


def test_a_server_that_goes_on_for_ever_loses_its_connection(
    vendor: Vendor, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified(till)
    monkeypatch.setattr(unchanged, "LIMIT_SECONDS", 0.3)
    hung_up = threading.Event()

    def endless(asked: Request) -> None:
        try:
            while True:
                asked.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError:
            hung_up.set()

    with wired(vendor.public, endless, on="timestamp") as server:
        assert unchanged.answer(request(till, bases=[server.url])) is None
        assert hung_up.wait(60), "an agent that runs for months has no use for it"
        (asked,) = unchanged._ASKED
        assert asked.is_over(seconds=60)
        server.script = Request.good
        assert unchanged.answer(request(till, bases=[server.url])) is not None
