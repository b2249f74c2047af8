"""The program of a kit's home: it starts one of the kits beside it, and counts the starts of an agent on trial.

A setup puts it there; no self-update ever changes it. It needs the standard library alone, and reads what it finds as
if anybody had written it: whatever is wrong with the pointer, a whole kit is started if one is there. It never writes
the pointer. What kits of all later releases can rely on is in docs/kit.md.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    import threading
    from collections.abc import Callable, Iterator, Sequence

    Stop = threading.Event

SETTINGS = ""
"""The terminal's settings file, with variables of the environment; the kit that brings this program fills it in."""
FIRST_WORD = ""
"""A word that is put before all others: `launch` for the program without a console."""
POINTER = "current.json"
ATTEMPTS = "attempts.json"
LAUNCHES = "launcher.json"
MARK = "placed"
"""A file in the folder of each kit that was put in place by a setup, or that has confirmed."""
ATTEMPTS_LIMIT = 3
"""Starts of an agent on trial that did not confirm."""
LAUNCHES_LIMIT = 3
"""Starts of a launcher in a row that did not reach the app."""
TRIAL_SECONDS = 900.0
GRACE_SECONDS = 20.0
"""How long an agent that was asked to end may take."""
SIZE_LIMIT_BYTES = 65_536
NAME_LIMIT = 64
OVER, REACHED, PIPE = "TILLKEEPER_AGENT_OVER", "TILLKEEPER_LAUNCHES", "TILLKEEPER_PIPE"
"""Variables of the environment by which a kit learns: that a trial will not be started any more; the file to remove
once the launcher has reached the app; that it must end when its standard input does."""
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from updater.__main__ import main; main()"
PYTHON = "python/python.exe"
"""Of a kit that has its own; without it the one that runs this program runs the kit."""
NO_KIT = 70
HELD_WAITS_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Virus scanners of Windows hold a file for seconds, a new one above all: a start that is not counted for that reason
would end a trial."""


def main(words: Sequence[str], *, home: Path | None = None) -> int:
    """Start the right kit with these words; return the exit status if it ran as a child."""
    home = home or Path(os.path.realpath(sys.argv[0])).parent
    words = [*filter(None, [FIRST_WORD]), *words]
    os.environ.setdefault(
        "TILLKEEPER_SETTINGS", os.path.expandvars(SETTINGS).replace("%PROGRAMDATA%", "C:\\ProgramData")
    )
    if words[:1] == ["run"] and "--service" in words[:-1]:
        return _serve(home, words)
    if words[:1] == ["run"]:
        import threading

        return _run(home, words, threading.Event())
    return _start(home, words, launched(home) if words[:1] == ["launch"] else settled(home))


# --------------------------------------------------------------------------------------------------------- the choice


def pointer(home: Path) -> dict[str, Any]:
    """Return the content of the pointer; nothing if it is missing, damaged, or no pointer."""
    return _document(home / POINTER)


def is_identity(identity: object) -> bool:
    """Return whether a value can be the id of a kit: nothing that leads out of the home."""
    return isinstance(identity, str) and identity.isascii() and identity.isalnum() and len(identity) <= NAME_LIMIT


def is_whole(home: Path, identity: object) -> bool:
    """Return whether the folder of a kit has what a start needs."""
    if not is_identity(identity):
        return False
    folder = home / f"agent-{identity}"
    try:
        if not all((folder / name).is_file() for name in ("kit.json", "site/updater/__main__.py")):
            return False
        return not (folder / "python").is_dir() or (folder / PYTHON).is_file()
    except OSError:
        return False


def settled(home: Path) -> list[str]:
    """Return the whole kits outside a trial, the best first: as the pointer says, then the last one put in place."""
    found = pointer(home)
    wanted: list[Any] = [found.get("id"), found.get("before"), *_kits(home)]
    return [
        identity
        for number, identity in enumerate(wanted)
        if is_whole(home, identity) and identity not in wanted[:number]
    ]


def trial(home: Path) -> dict[str, Any] | None:
    """Return the trial that the pointer names, if its kit is whole and it has the fields of one; else None."""
    found = pointer(home).get("trial")
    if not isinstance(found, dict) or not isinstance(found.get("token"), str) or not found["token"]:
        return None
    return found if is_whole(home, found.get("id")) else None


def attempts(home: Path, token: str) -> tuple[int, bool]:
    """Return how often a trial was started, and whether its agent was ended because it took too long."""
    found = _document(home / ATTEMPTS)
    count = found.get("count")
    if found.get("token") != token or isinstance(count, bool) or not isinstance(count, int):
        return 0, False
    return max(0, count), found.get("late") is True


def launched(home: Path) -> list[str]:
    """Return the kits for a launcher, the best first; count this start in the folder that the till's account writes.

    What is counted there is a claim: it can only lead to the kit before.
    """
    kits = settled(home)
    found = trial(home)
    if found is not None and attempts(home, found["token"])[0] < ATTEMPTS_LIMIT:
        kits = [found["id"], *(identity for identity in kits if identity != found["id"])]
    shared = pointer(home).get("shared")
    if not kits[1:] or not isinstance(shared, str) or not _may_count(Path(shared)):
        return kits
    path = Path(shared, LAUNCHES)
    noted = _document(path)
    count = noted.get("count") if noted.get("id") == kits[0] else 0
    if isinstance(count, int) and count >= LAUNCHES_LIMIT:
        return kits[1:]
    with suppress(OSError):
        _write(path, {"id": kits[0], "count": count + 1 if isinstance(count, int) and count > 0 else 1}, durable=False)
        os.environ[REACHED] = str(path)
    return kits


def _kits(home: Path) -> list[str]:
    """Return all kits, those that were put in place before the others, the newest first."""
    found = []
    try:
        folders = list(home.glob("agent-*"))
    except OSError:
        return []
    for folder in folders:
        try:
            placed = (folder / MARK).stat().st_mtime
        except OSError:
            placed = 0.0
        found.append((placed, folder.name.removeprefix("agent-")))
    return [identity for _, identity in sorted(found, reverse=True)]


def _may_count(shared: Path) -> bool:
    """Return whether this process may write there: root follows nothing that another account has planted."""
    try:
        return not hasattr(os, "geteuid") or os.geteuid() != 0 or shared.stat().st_uid == 0
    except OSError:
        return False


# ----------------------------------------------------------------------------------------------------------- the agent


def _run(home: Path, words: Sequence[str], stop: Stop) -> int:
    """Start the agent: one on trial as a child, with a limit; after that, or without a trial, the settled one."""
    found, named = trial(home), pointer(home).get("trial")
    if found is not None and _counted(home, found["token"]):
        code = _supervised(home, found, words, stop)
        if code is not None:
            return code
    if isinstance(named, dict) and isinstance(named.get("token"), str):
        os.environ[OVER] = named["token"]
    return _start(home, words, settled(home), stop=stop)


def _counted(home: Path, token: str) -> bool:
    """Count a start before it is made; return whether it may be. One that cannot be counted is not made."""
    count, late = attempts(home, token)
    if late or count >= ATTEMPTS_LIMIT:
        return False
    try:
        _write(home / ATTEMPTS, {"token": token, "count": count + 1, "late": False})
    except OSError:
        return False
    return True


def _supervised(home: Path, found: dict[str, Any], words: Sequence[str], stop: Stop) -> int | None:
    """Run an agent on trial; return its exit status, None if it was ended because it did not confirm in time."""
    limit = found.get("limit_seconds")
    is_usable = isinstance(limit, (int, float)) and not isinstance(limit, bool) and 1 <= limit <= 86_400
    token = found["token"]
    code = _child(
        home, found["id"], words, stop=stop, limit_seconds=limit if is_usable else TRIAL_SECONDS,
        is_open=lambda: (trial(home) or {}).get("token") == token,
    )  # fmt: skip
    if code is None:
        with suppress(OSError):
            _write(home / ATTEMPTS, {"token": token, "count": ATTEMPTS_LIMIT, "late": True})
    return code


def _serve(home: Path, words: Sequence[str]) -> int:
    """Be the service of Windows: its manager talks to the process that it has started, so the agent is a child.

    The rescue folder has the code for it, which no kit changes.
    """
    import threading

    place = list(words).index("--service")
    name, words = words[place + 1], [*words[:place], *words[place + 2 :]]
    sys.path.insert(0, str(home / "rescue" / "lib"))
    from updater.host.services.windows import dispatch

    def work(wait: Callable[[], None]) -> None:
        stop = threading.Event()

        def hear() -> None:
            wait()
            stop.set()

        threading.Thread(target=hear, daemon=True).start()
        # An agent that ends by itself without an error is started again: it has moved the pointer.
        while (code := _run(home, words, stop)) == 0 and not stop.is_set():
            os.environ.pop(OVER, None)
        if not stop.is_set():
            raise RuntimeError(f"the agent ended with {code}")

    return 0 if dispatch(name, work) is None else 1


# ----------------------------------------------------------------------------------------------------------- starting


def _start(home: Path, words: Sequence[str], kits: Sequence[str], *, stop: Stop | None = None) -> int:
    """Start the first of these kits that can be; return the exit status of one that ran as a child."""
    for identity in kits:
        folder = home / f"agent-{identity}"
        if (folder / PYTHON).is_file():
            return _child(home, identity, words, stop=stop) or 0
        site = str(folder / "site")
        sys.path.insert(0, site)
        sys.argv[1:] = words
        try:
            # By name: this file imports nothing of a kit.
            run = __import__("updater.__main__", fromlist=["main"]).main
        except Exception as error:  # noqa: BLE001 - of any type: the next kit may be whole
            _say(f"could not start {folder}: {type(error).__name__}: {error}")
            sys.path.remove(site)
            for name in [name for name in sys.modules if name.partition(".")[0] in ("updater", "dbsync")]:
                del sys.modules[name]
            continue
        run()
        return 0
    _say(f"Error: there is no kit in {home}. Run the vendor's setup again; the rescue folder can go back meanwhile.")
    return NO_KIT


def _child(
    home: Path, identity: str, words: Sequence[str], *, stop: Stop | None, limit_seconds: float | None = None,
    is_open: Callable[[], bool] = lambda: False,
) -> int | None:  # fmt: skip
    """Run a kit as a child; return its exit status, None if it was ended at its limit while its trial was open.

    With `stop` it is the agent, and it ends when its standard input does: also when this process is killed.
    """
    import subprocess

    folder = home / f"agent-{identity}"
    own = [(folder / PYTHON).with_name(Path(sys.executable).name), folder / PYTHON]
    program = next((str(path) for path in own if path.is_file()), sys.executable)
    command = [program, "-I", "-S", "-c", START, str(folder / "site"), *words]
    if stop is None:
        # In the folder, and with the streams, of the person whose command it is.
        with subprocess.Popen(command, cwd=None, env=None, stdin=None) as child:
            while True:
                # What a console sends to this process reaches the child as well.
                with suppress(KeyboardInterrupt):
                    return child.wait()
    with (
        _signals(stop),
        subprocess.Popen(command, cwd=home, env={**os.environ, PIPE: "1"}, stdin=subprocess.PIPE) as child,
    ):
        _pass_on(stop, child)
        try:
            return child.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            if not is_open() or stop.is_set():
                return child.wait()
        child.kill()
        child.wait()
        return None


def _pass_on(stop: Stop, child: subprocess.Popen[bytes]) -> None:
    """Ask a child to end once this process is asked to, and end it if it does not."""
    import threading

    def wait() -> None:
        stop.wait()
        with suppress(OSError):
            assert child.stdin is not None
            child.stdin.close()
        with suppress(Exception):
            child.wait(GRACE_SECONDS)
        child.kill()

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """Inside the block, a request to end this process sets an event; not in a thread of a service, which hears none."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _document(path: Path) -> dict[str, Any]:
    """Return an object of JSON; nothing if the file is missing, has another content, or cannot be read."""

    def read() -> bytes:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            return file.read(SIZE_LIMIT_BYTES + 1)

    try:
        # A folder is held by nobody, and Windows refuses to open it all the same.
        data = _waited(read) if not path.is_dir() else b""
        found = json.loads(data) if len(data) <= SIZE_LIMIT_BYTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, value: dict[str, Any], *, durable: bool = True) -> None:
    """Replace a file; a link in its place, or in that of the new one, is not followed."""
    new = path.with_name(f"{path.name}.new")

    def write() -> None:
        new.unlink(missing_ok=True)
        with new.open("xb") as file:
            file.write(json.dumps(value).encode())
            file.flush()
            if durable:
                os.fsync(file.fileno())
        new.chmod(0o644)
        new.replace(path)

    # A launch waits for nobody: its count may be lost.
    _waited(write) if durable else write()
    if durable and hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _waited(call: Callable[[], Any]) -> Any:
    """Do something with a file, again while another program holds it; return its result."""
    for seconds in HELD_WAITS_SECONDS if os.name == "nt" else ():
        try:
            return call()
        except PermissionError:
            import time

            time.sleep(seconds)
    return call()


def _say(line: str) -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{line}\n")
