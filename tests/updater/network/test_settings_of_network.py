"""Network settings: written, read back, refused for the agent alone, shown without their secrets."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from tests.helpers.wires import MODES, Request, wired
from updater.errors import SettingsError
from updater.repository.manner import Asked, asked_by, check
from updater.settings import Settings, load, to_toml


def test_network_settings_are_read_back_as_they_were_written(till: Till, tmp_path: Path) -> None:
    settings = till.settings._replace(
        proxy="till:pass@proxy:3128", no_proxy=("10.0.0.0/8", ".shop"), ca_file=str(tmp_path / "ca.pem"),
        mirrors=(str(tmp_path / "stick"),),
    )  # fmt: skip
    path = tmp_path / "again.toml"
    path.write_text(to_toml(settings))
    again = load(path, {})
    assert again._replace(path=settings.path) == settings
    check(again)
    manner = asked_by(again).manner
    assert (manner.proxy, manner.no_proxy, manner.ca_file) == (settings.proxy, settings.no_proxy, settings.ca_file)
    assert manner.reserve_bytes == settings.limits.least_free_bytes


def wrong(settings: Settings) -> dict[str, Settings]:
    """Settings that no agent can use, by the key that the message names."""
    return {
        "url": settings._replace(url="https://me:s3cret@"),
        "mirrors": settings._replace(mirrors=("ftp://me:s3cret@host/x",)),
        "network.proxy": settings._replace(proxy="socks://me:s3cret@proxy:1"),
        "limits.maximum_bytes_per_second": settings._replace(
            limits=settings.limits._replace(maximum_bytes_per_second=1500)
        ),
    }


@pytest.mark.parametrize("key", ["url", "mirrors", "network.proxy", "limits.maximum_bytes_per_second"])
def test_what_cannot_be_is_refused_by_its_key_without_a_password(till: Till, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check(wrong(till.settings)[key])
    assert caught.value.cause.startswith(f"{key}: ")
    assert "s3cret" not in str(caught.value)


def test_a_mirror_that_cannot_be_one_stops_the_agent_and_not_the_till(till: Till) -> None:
    text = till.settings_path.read_text()
    till.settings_path.write_text(text.replace("mirrors = []", 'mirrors = ["ftp://host"]'))
    done = till.run("check")
    assert (done.returncode, "mirrors: ftp://host is not an address" in done.stderr) == (4, True)
    assert "mirrors: ftp://host is not an address" in till.run("doctor").stdout
    assert till.launch(sell=1).returncode == 0


def test_status_says_until_when_an_address_was_given_up_and_shows_no_secret(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    with wired(vendor.public, MODES["503, later"]) as server:
        text = till.settings_path.read_text()
        secret = server.url.replace("http://", "http://till:s3cret@") + "?sig=t0ken"
        till.settings_path.write_text(text.replace(till.settings.url, secret))
        done = till.run("check")
        shown = till.run("status")
        (found,) = till.status()["addresses"]
    assert done.stdout.startswith("SERVER_BUSY: ")
    assert "gave up until " in done.stdout
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("server ")]
    assert f"gave up until {found['until']}" in line
    assert (found["answer"], found["failures_count"]) == ("SERVER_BUSY", 1)
    written = [path for path in till.settings.state.rglob("*") if path.is_file()]
    everything = done.stdout + done.stderr + shown.stdout + "".join(path.read_text("latin-1") for path in written)
    assert "s3cret" not in everything
    assert "t0ken" not in everything
    till.settings_path.write_text(text)
    assert till.check().outcome == "SWAPPED"
    assert till.status()["addresses"] == [], "an address that is not asked any more is forgotten"


def secrets(till: Till, text: str) -> Asked:
    """Addresses and manner of the terminal with that file of secrets."""
    path = till.settings.private / "secrets.toml"
    path.write_text(text)
    path.chmod(0o600)
    return asked_by(till.settings)


def test_secrets_of_the_agents_own_file_reach_the_server_and_nobody_else(vendor: Vendor, till: Till) -> None:
    vendor.release("1.1", schema=4)
    needed = "Basic " + base64.b64encode(b"till 17:s3:cret/").decode()

    def script(request: Request) -> None:
        if request.headers.get("authorization") == needed:
            request.good()
        else:
            request.reply("403 Forbidden")

    with wired(vendor.public, script) as server:
        text = till.settings_path.read_text()
        till.settings_path.write_text(text.replace(till.settings.url, server.url))
        assert till.run("check").returncode != 0
        found = secrets(till, f'format = 1\n[secrets]\n"{server.url}" = "till 17:s3:cret/"\n')
        assert found.url.endswith(f":s3%3Acret%2F@127.0.0.1:{server.port}")
        assert till.check().outcome == "SWAPPED"
        shown = till.run("status").stdout + till.run("doctor").stdout
        assert not [
            name
            for name in till.settings.state.rglob("*")
            if name.is_file()
            and name.name != "secrets.toml"
            and b"s3" in name.read_bytes()
            and b"cret" in name.read_bytes()
        ]
    assert "s3:cret" not in shown


def test_trust_is_begun_again_through_the_terminals_own_way_to_the_repository(vendor: Vendor, till: Till) -> None:
    needed = "Basic " + base64.b64encode(b"till:s3cret").decode()

    def script(request: Request) -> None:
        if request.headers.get("authorization") == needed:
            request.good()
        else:
            request.reply("401 Unauthorized")

    with wired(vendor.public, script) as server:
        text = till.settings_path.read_text()
        # Nothing listens at the address: only through its proxy, this server, the repository can be asked.
        proxy = f'\n[network]\nproxy = "127.0.0.1:{server.port}"\n'
        till.settings_path.write_text(text + proxy)
        (till.settings.trust / "seen.json").unlink()
        denied = till.run("trust", "reset", "--root", str(vendor.root))
        assert (denied.returncode, "407" in denied.stderr or "401" in denied.stderr) == (75, True), denied.stderr
        till.settings_path.write_text(text.replace(till.settings.url, server.url))
        secrets(till, f'format = 1\n[secrets]\n"{server.url}" = "till:s3cret"\n')
        done = till.run("trust", "reset", "--root", str(vendor.root))
        assert (done.returncode, "is trusted" in done.stdout) == (0, True), done.stdout + done.stderr
        assert till.check().outcome == "NOTHING_NEW"


def test_a_token_and_a_proxy_have_secrets_too(till: Till) -> None:
    till.settings_path.write_text(
        till.settings_path.read_text().replace("mirrors = []", 'mirrors = ["https://bucket.example/public"]')
        + '\n[network]\nproxy = "proxy.shop:3128"\n'
    )
    found = secrets(
        till,
        'format = 1\n[secrets]\n"https://bucket.example/public" = "?token=abc"\n"proxy.shop:3128" = "till:pass"\n',
    )
    assert found.mirrors == ("https://bucket.example/public?token=abc",)
    assert found.manner.proxy == "http://till:pass@proxy.shop:3128"
    assert found.url == till.settings.url


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("x = s3cret\n", "it is no TOML (at line 1"),
        ("format = 2\n", "it must have `format = 1`"),
        ('format = 1\n"https://x" = "s3cret"\n', "it must have `format = 1`"),
        ("format = 1\n[secrets]\nurl = 5\n", "each secret must be a string"),
        ('format = 1\n[secrets]\n"https://other" = "a:s3cret"\n', "https://other is neither url"),
        ("\udcff", "it is no text"),
    ],
)
def test_a_wrong_file_of_secrets_stops_the_agent_alone_and_shows_none(till: Till, text: str, cause: str) -> None:
    path = till.settings.private / "secrets.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(0o600)
    done = till.run("check")
    assert (done.returncode, cause in done.stderr, "s3cret" in done.stderr) == (4, True, False), done.stderr
    assert cause in till.run("doctor").stdout
    assert till.launch(sell=1).returncode == 0
