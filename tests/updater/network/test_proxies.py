"""Proxies in the forms that curl takes, certificates of a shop's own, and secrets that are shown to nobody."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.socks import socks
from tests.helpers.wires import Request, certificate, wired
from updater.addresses import folder_of, is_folder, joined, plain, problem, scrubbed, secrets_of, shown, without
from updater.answers import Answer
from updater.network.http import Http, Trouble
from updater.network.manner import Manner
from updater.network.proxies import BadProxy, Proxy, bypasses, chosen, parsed

MANNER = Manner(1, answer_seconds=5.0, proxy="none")


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A public folder with one file."""
    (tmp_path / "public" / "metadata").mkdir(parents=True)
    (tmp_path / "public" / "metadata" / "timestamp.json").write_bytes(b"{}")
    return tmp_path / "public"


def got(address: str, manner: Manner = MANNER) -> bytes:
    """What a request brings."""
    with Http(address, manner).get("metadata/timestamp.json") as reply:
        assert reply.status == 200, reply.status
        return b"".join(reply.chunks())


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("proxy.shop:3128", Proxy("http://proxy.shop:3128")),
        ("proxy.shop", Proxy("http://proxy.shop:1080")),
        ("http://proxy.shop:3128/", Proxy("http://proxy.shop:3128")),
        ("https://proxy.shop", Proxy("https://proxy.shop:443")),
        ("http://till:p%40ss@proxy.shop:3128", Proxy("http://proxy.shop:3128", "till:p@ss")),
        ("till:secret@proxy.shop:3128", Proxy("http://proxy.shop:3128", "till:secret")),
        ("till@proxy.shop:3128", Proxy("http://proxy.shop:3128", "till:")),
        ("[fd00::1]:3128", Proxy("http://[fd00::1]:3128")),
        ("socks5h://till:secret@proxy.shop", Proxy("socks5h://proxy.shop:1080", "till:secret")),
    ],
)
def test_a_proxy_in_each_form(text: str, proxy: Proxy) -> None:
    assert parsed(text) == proxy


@pytest.mark.parametrize("text", ["socks://proxy:1080", "ftp://proxy", "http://", "proxy:port", "http://[::1"])
def test_what_is_no_proxy_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(BadProxy) as caught:
        parsed(text.replace("://", "://me:s3cret@"))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "setting", "no_proxy", "url", "proxy"),
    [
        ({"http_proxy": "a:1"}, "", (), "http://shop", "http://a:1"),
        ({"HTTP_PROXY": "a:1"}, "", (), "http://shop", "http://a:1"),
        ({"HTTP_PROXY": "b:2", "http_proxy": "a:1"}, "", (), "http://shop", "http://a:1"),
        ({"https_proxy": "a:1"}, "", (), "http://shop", None),
        ({"https_proxy": "a:1"}, "", (), "https://shop", "http://a:1"),
        ({"ALL_PROXY": "a:1"}, "", (), "https://shop", "http://a:1"),
        ({"http_proxy": "a:1", "no_proxy": "other,shop"}, "", (), "http://shop", None),
        ({"http_proxy": "a:1", "NO_PROXY": ".shop"}, "", (), "http://www.shop", None),
        ({"http_proxy": "a:1"}, "none", (), "http://shop", None),
        ({"http_proxy": "a:1"}, "c:3", (), "http://shop", "http://c:3"),
        ({}, "c:3", ("10.0.0.0/8",), "http://10.1.2.3:80", None),
        ({}, "", (), "http://shop", "http://system:8"),
    ],
)
def test_settings_come_before_the_environment_and_that_before_the_system(
    environment: dict[str, str], setting: str, no_proxy: tuple[str, ...], url: str, proxy: str | None
) -> None:
    found = chosen(url, setting=setting, no_proxy=no_proxy, environment=environment, system={"http": "http://system:8"})
    assert (found.url if found else None) == proxy


@pytest.mark.parametrize(
    ("host", "port", "pattern", "direct"),
    [
        ("shop", None, "*", True),
        ("www.shop.example", None, "shop.example", True),
        ("www.shop.example", None, "*.shop.example", True),
        ("noshop.example", None, "shop.example", False),
        ("shop.example.", None, "shop.example", True),
        ("shop.example", 8080, "shop.example:8080", True),
        ("shop.example", 80, "shop.example:8080", False),
        ("127.0.0.1", None, "127.0.0.0/8", True),
        ("127.0.0.1", None, "127.0.0.1", True),
        ("::1", None, "[::1]", True),
        ("fd00::5", None, "fd00::/8", True),
        ("10.0.0.1", None, "0.0.1", False),
        ("shop", None, "", False),
    ],
)
def test_hosts_without_a_proxy(host: str, port: int | None, pattern: str, direct: bool) -> None:
    assert bypasses(host, port, [pattern]) is direct


def test_a_proxy_that_asks_for_a_name_gets_it_and_the_server_does_not(
    public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "Basic " + base64.b64encode(b"till:s3cret").decode()

    def script(request: Request) -> None:
        if request.headers.get("proxy-authorization") != good:
            request.reply("407 Proxy Authentication Required", b"", 'Proxy-Authenticate: Basic realm="shop"')
        else:
            request.reply("200 OK", b"by way of the proxy")

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with wired(public, script) as proxy:
        place = f"127.0.0.1:{proxy.port}"
        for setting in (f"till:s3cret@{place}", f"http://till:s3cret@{place}"):
            assert got("http://updates.example", MANNER._replace(proxy=setting)) == b"by way of the proxy"
            monkeypatch.setenv("http_proxy", setting)
            assert got("http://updates.example", MANNER._replace(proxy="")) == b"by way of the proxy"
        with pytest.raises(Trouble, match="407") as caught:
            got("https://updates.example", MANNER._replace(proxy=f"till:wr0ng@{place}"))
        assert (caught.value.answer, "wr0ng" in caught.value.detail) == (Answer.SERVER_WRONG, False)
    with pytest.raises(Trouble) as dead:
        # Not the port of before, which another test may have by now.
        got("http://updates.example", MANNER._replace(proxy="till:s3cret@127.0.0.1:9"))
    assert (dead.value.answer, "s3cret" in dead.value.detail) == (Answer.OFFLINE, False)


@pytest.mark.parametrize("kind", ["socks4", "socks4a", "socks5", "socks5h"])
def test_a_socks_proxy_of_each_kind(public: Path, kind: str) -> None:
    has_password = kind.startswith("socks5")
    who = "till:s3cret@" if has_password else ""
    asks_the_proxy = kind in ("socks4a", "socks5h")
    with wired(public) as server, socks(user_password="till:s3cret" if has_password else "") as proxy:
        manner = MANNER._replace(proxy=f"{kind}://{who}127.0.0.1:{proxy.port}")
        assert got(f"http://{'updates.example' if asks_the_proxy else 'localhost'}:{server.port}", manner) == b"{}"
        assert proxy.wanted == [("updates.example" if asks_the_proxy else "127.0.0.1", server.port)]
        assert not [request for request in server.asked if "proxy-authorization" in request.headers]
        if has_password:
            with pytest.raises(Trouble) as caught:
                got(server.url, MANNER._replace(proxy=f"{kind}://till:wr0ng@127.0.0.1:{proxy.port}"))
            assert (caught.value.answer, "wr0ng" in caught.value.detail) == (Answer.SERVER_WRONG, False)
    with pytest.raises(Trouble) as dead:
        got("http://127.0.0.1", MANNER._replace(proxy=f"{kind}://{who}127.0.0.1:9"))
    assert (dead.value.answer, "s3cret" in dead.value.detail) == (Answer.OFFLINE, False)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate")
def test_a_certificate_authority_of_the_shops_own(public: Path, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    with wired(public, tls=pem) as server:
        with pytest.raises(Trouble) as caught:
            got(server.url)
        assert (caught.value.answer, "CERTIFICATE_VERIFY_FAILED" in caught.value.detail) == (Answer.SERVER_WRONG, True)
        assert got(server.url, MANNER._replace(ca_file=str(tmp_path / "ca.pem"))) == b"{}"
        with pytest.raises(Trouble, match=r"network\.ca_file"):
            got(server.url, MANNER._replace(ca_file=str(tmp_path / "missing.pem")))
    with wired(public) as plainly, pytest.raises(Trouble) as wrong:
        got(plainly.url.replace("http:", "https:"))
    assert wrong.value.answer is Answer.SERVER_WRONG


STICK = "E:\\stick" if os.name == "nt" else "/media/stick"
FILE_ADDRESS = "file:///E:/stick" if os.name == "nt" else "file:///media/stick"


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("https://till:s3cret@host:8443/updates/?sv=1&sig=s3cret", "https://host:8443/updates/?***"),
        ("http://host/updates", "http://host/updates"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        (FILE_ADDRESS, FILE_ADDRESS),
        (STICK, STICK),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, seen: str) -> None:
    assert (shown(address), problem(address)) == (seen, "")
    assert "s3cret" not in plain(address) + scrubbed(f"failed at {address}: no") + scrubbed(
        "Max retries with /x?sig=s3cret"
    )


@pytest.mark.parametrize(
    "address", ["ftp://host/x", "host/updates", "https://", "http://host:port/", "media/stick", "http://[::1"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    assert problem(address)


def test_a_file_of_an_address() -> None:
    assert joined("https://u:p@h/a/?t=1", "metadata/x") == "https://u:p@h/a/metadata/x?t=1"
    assert (is_folder("file:///a%20b"), folder_of("file:///a%20b")) == (True, Path("/a b"))


def test_what_a_library_says_is_shown_without_secrets_too() -> None:
    trouble = Trouble(Answer.OFFLINE, "Max retries exceeded with url: /x?sig=t0ken (http://me:s3cret@proxy)")
    assert "t0ken" not in trouble.detail + str(trouble)
    assert "s3cret" not in trouble.detail + str(trouble)


@pytest.mark.parametrize("text", ["u:p@ss@proxy:1", "http://u:p@ss@proxy:1/", "https://u@h"])
def test_passwords_with_odd_letters_are_hidden_whole(text: str) -> None:
    assert scrubbed(f"is {text}, asked") in (
        "is ***@proxy:1, asked",
        "is http://***@proxy:1/, asked",
        "is https://***@h, asked",
    )


def test_a_line_of_any_length_is_scrubbed_in_one_pass() -> None:
    """Each character is looked at once: with more, a megabyte would take hours, and no deadline ends a search."""
    for word in ("a:", "a://", "://a:", "?a:@/", "x@"):
        assert len(scrubbed(word * 500_000)) > 400_000
    assert scrubbed("a:" * 500_000 + "b@host") == "***@host"


def test_what_a_server_repeats_of_a_secret_is_hidden() -> None:
    secrets = secrets_of("http://till:s3cret%2Fword@host/x?sig=to%2Fken12&v=1")
    said = "ftp://h/s3cret/word TO/KEN12 to%2fken12 Basic dGlsbDpzM2NyZXQvd29yZA== s3cret%2Fword v=1"
    assert without(said, secrets) == "ftp://h/*** *** *** Basic *** *** v=1"
    assert secrets_of("/media/stick") == secrets_of("http://host/x") == ()
