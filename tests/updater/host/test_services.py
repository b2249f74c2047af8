"""Services: the files that service managers read, as these read them; an agent that is asked to end."""

from __future__ import annotations

import plistlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dbsync.errors import Refused
from dbsync.storage.locks import Lock
from dbsync.storage.platform import this_platform
from tests.helpers.terminal import Till
from tests.helpers.vendor import Vendor
from updater.host import this_host
from updater.host.services import launchd, systemd
from updater.host.services.base import ServiceOrder, ServiceState
from updater.host.services.windows import WindowsService
from updater.terminal import kit_use
from updater.terminal.service import order_for

ODD = Path('/srv/Tillk äper 100% $HOME; "x"')
ORDER = ServiceOrder(
    "tillkeeper-shop", "Tillkeeper agent of 100% shop", ("/usr/bin/python3", "-I", "-c", "import a; a()", str(ODD)),
    "shopkeeper", (Path("/opt/tillkeeper/shop"), ODD), (Path("/usr/lib/shop"),), (ODD,),
)  # fmt: skip


def property_of(text: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
@pytest.mark.parametrize("order", [ORDER, ORDER._replace(account="", two_accounts=True, sets_group_bit=True)])
def test_systemd_takes_the_unit_whole(tmp_path: Path, order: ServiceOrder) -> None:
    path = tmp_path / "tillkeeper-shop.service"
    path.write_text(
        systemd.unit(order._replace(account="root" if order.account else "", command=("/bin/sh", *order.command[1:])))
    )
    words = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_unit_quotes_what_systemd_would_read_otherwise() -> None:
    (start,) = property_of(systemd.unit(ORDER), "ExecStart")
    assert start.endswith(' "import a; a()" "/srv/Tillk äper 100%% $$HOME; \\"x\\""')
    assert property_of(systemd.unit(ORDER), "ReadWritePaths") == [
        '-/opt/tillkeeper/shop "-/srv/Tillk äper 100%% $$HOME; \\"x\\""'
    ]
    assert property_of(systemd.unit(ORDER), "Description") == ["Tillkeeper agent of 100%% shop"]


def test_a_unit_gives_root_what_two_accounts_need_and_hides_homes() -> None:
    alone, both = systemd.unit(ORDER), systemd.unit(ORDER._replace(two_accounts=True, sets_group_bit=True))
    assert property_of(alone, "CapabilityBoundingSet") == [""]
    assert "CAP_SYS_ADMIN" not in both
    assert "CAP_SETUID" in property_of(both, "CapabilityBoundingSet")[0]
    assert (property_of(alone, "RestrictSUIDSGID"), property_of(both, "RestrictSUIDSGID")) == (["yes"], [])
    at_home = systemd.unit(ORDER._replace(reads=(Path("/home/clerk/app"),)))
    assert (property_of(alone, "ProtectHome"), property_of(at_home, "ProtectHome")) == (["yes"], ["read-only"])


def test_the_property_list_of_launchd_has_the_command_as_words() -> None:
    found = plistlib.loads(launchd.property_list(ORDER))
    assert found["ProgramArguments"] == list(ORDER.command)
    assert (found["Label"], found["UserName"], found["KeepAlive"]) == ("tillkeeper-shop", "shopkeeper", True)


class Answers:
    """A service manager's tool with answers that were written down, and what it was asked."""

    def __init__(self, **answers: tuple[int, str]) -> None:
        self.answers, self.asked = answers, list[list[str]]()

    def __call__(self, words: list[str], limit_seconds: float) -> tuple[int | None, str]:
        self.asked.append(words[1:])
        return self.answers.get(words[1], (0, ""))


def test_launchd_is_asked_by_the_words_of_its_manual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchd, "DAEMONS", tmp_path)
    tool = Answers(print=(113, "Could not find service"))
    service = launchd.Launchd(ORDER, tool, elevated=str, may=True)  # type: ignore[arg-type]
    assert service.status().state is ServiceState.NOT_INSTALLED
    with pytest.raises(Refused, match="not installed"):
        service.start()
    service.install()
    service.start()
    assert tool.asked[-1] == ["bootstrap", "system", str(tmp_path / "tillkeeper-shop.plist")]
    tool.answers["print"] = (0, "\tpid = 7\n")
    assert service.status() == (ServiceState.RUNNING, "pid = 7", True)
    service.stop()
    assert tool.asked[-1] == ["bootout", "system/tillkeeper-shop"]
    assert service.uninstall()
    assert not service.uninstall()


def test_an_account_that_may_not_is_told_the_command() -> None:
    for service in (
        launchd.Launchd(ORDER, Answers(), elevated=lambda command: f"sudo {command}", may=False),  # type: ignore[arg-type]
        systemd.Systemd(ORDER, Answers(), elevated=lambda command: f"sudo {command}", may=False),  # type: ignore[arg-type]
    ):
        with pytest.raises(Refused) as error:
            service.install()
        assert "sudo updater service install" in error.value.hint or "no systemd" in error.value.cause


def test_windows_gives_the_service_its_folders_and_the_clerks_theirs() -> None:
    service = WindowsService(ORDER, Answers())  # type: ignore[arg-type]
    assert service.account == "NT SERVICE\\tillkeeper-shop"
    assert service.command_line().endswith("--service tillkeeper-shop")
    rights = [(words[1], words[3]) for words in service.grants()]
    assert (str(ODD), "*S-1-5-32-545:(OI)(CI)M") in rights
    assert ("/opt/tillkeeper/shop", "NT SERVICE\\tillkeeper-shop:(OI)(CI)M") in [
        (path.replace("\\", "/"), given) for path, given in rights
    ]
    of_kit = WindowsService(ORDER._replace(only_read=(Path("/home/rescue"), Path("/home/till.exe"))), Answers())  # type: ignore[arg-type]
    changes = "(WD,AD,WEA,WA,DE,DC,WDAC,WO)"
    assert [(Path(words[1]).name, *words[2:4]) for words in of_kit.grants() if words[2] != "/grant"] == [
        ("rescue", "/deny", f"NT SERVICE\\tillkeeper-shop:(OI)(CI){changes}"),
        ("till.exe", "/deny", f"NT SERVICE\\tillkeeper-shop:{changes}"),
    ]
    programs = [words[1] for words in service.grants() if words[3].endswith("RX")]
    assert programs == [str(Path(ORDER.command[0]).parent), sys.base_prefix], "a Python of one person's own"
    assert not [words for words in of_kit.grants() if words[3].endswith("RX")]
    of_one = WindowsService(ORDER._replace(for_machine=False), Answers())  # type: ignore[arg-type]
    assert not [words for words in of_one.grants() if "S-1-5-32-545" in words[3]]


def test_the_order_of_a_terminal_names_what_its_agent_writes_and_reads(till: Till) -> None:
    order = order_for(till.settings)
    settings = till.settings
    assert {settings.path.parent, settings.program, settings.state, settings.data, settings.backups} <= set(
        order.writes
    )
    assert Path(sys.executable) in order.reads
    assert order.command[-3:] == ("run", "--settings", str(settings.path))
    done = subprocess.run([*order.command[:-3], "--version"], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.startswith("tillkeeper")
    assert order.account == (this_platform().own_account().name if this_host().has_accounts else "")


@pytest.mark.skipif(sys.platform == "win32", reason="two accounts are of POSIX")
def test_the_agent_of_two_accounts_may_lead_the_stable_path(till: Till, tmp_path: Path) -> None:
    link = tmp_path / "stable" / "app"
    settings = till.settings._replace(stable_path=link)
    assert link.parent not in order_for(settings).writes, "the app's own account leads it"
    order = order_for(settings._replace(till_user="nobody"))
    assert link.parent in order.writes
    (line,) = [line for line in systemd.unit(order).splitlines() if line.startswith("ReadWritePaths=")]
    assert f"-{link.parent}" in line.split()


def test_the_service_of_a_kit_changes_neither_the_rescue_folder_nor_the_programs(
    till: Till, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    for folder in ("agent-1", "rescue"):
        (home / folder).mkdir(parents=True)
    for name in ("tillkeeper.exe", "uninstall.exe", "current.json"):
        (home / name).touch()
    monkeypatch.setattr(kit_use, "own_folder", lambda: home / "agent-1")
    order = order_for(till.settings)
    assert home in order.writes
    assert set(order.only_read) == {home / "rescue", home / "tillkeeper.exe", home / "uninstall.exe"}


@pytest.mark.skipif(sys.platform == "win32", reason="a signal ends a process there at once")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_is_asked_to_end_ends_between_two_records(vendor: Vendor, till: Till, number: int) -> None:
    vendor.release("1.1", schema=4)
    words = [sys.executable, "-m", "updater", "run"]
    with subprocess.Popen(
        words, env=till.environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    ) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline().startswith("SWAPPED")
        # A record is being written: the agent ends after it.
        with Lock(till.settings.state / "terminal.lock"):
            agent.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                agent.wait(timeout=1)
        assert agent.wait(timeout=30) == 0
        assert agent.stdout.read().endswith("The agent ends.\n")
