"""Makes the project's own environment, `.venv`, on first use and goes on inside it.

Old Pythons have to be able to read this file to its version check, so its annotations stay plain.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
STAMP = ENVIRONMENT / "tillkeeper-stamp"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLDEST, TOO_NEW = (3, 11), (3, 14)
WAIT_SECONDS = 900.0
PIP_LINES_SHOWN = 12
SILENCE_SECONDS = 10.0


def say(text: str) -> None:
    """Prints a line at once, on any console."""
    try:
        print(text, flush=True)
    except UnicodeEncodeError:
        print(text.encode("ascii", "replace").decode(), flush=True)


def enter() -> None:
    """Goes on in the project's environment; makes it first if it is missing, half made or not current."""
    # Thousands of short processes are started below: each would compile all its modules again, for half of its time.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    _check_version()
    if _is_current():
        if os.path.realpath(sys.prefix) == os.path.realpath(ENVIRONMENT):
            return
    else:
        try:
            _make()
        except KeyboardInterrupt:
            sys.exit("Interrupted; the next run makes the environment anew.")
    command = [str(PYTHON), *sys.argv]
    if os.name == "nt":
        sys.exit(subprocess.run(command, check=False).returncode)
    os.execv(command[0], command)  # noqa: S606


def add(extra: str, *modules: str) -> None:
    """Installs an extra of the project into the environment that runs, unless it is there: for what few need."""
    if all(importlib.util.find_spec(name) is not None for name in modules):
        return
    say(f"Installing the project's extra '{extra}', as this is its first use:")
    _install(pip(), extra)
    importlib.invalidate_caches()


def pip() -> "list[str]":
    """The pip that works on the environment that runs."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    base = getattr(sys, "_base_executable", sys.executable)
    return [base, "-m", "pip", "--python", sys.executable]


def _check_version() -> None:
    found = "{}.{}".format(*sys.version_info[:2])
    if sys.version_info[:2] < OLDEST:
        sys.exit(f"Python 3.11 or newer is needed, and this is {found}: run it with python3.11, 3.12 or 3.13.")
    if sys.version_info[:2] >= TOO_NEW:
        sys.exit(
            f"This is Python {found}, for which bsdiff4 1.2, which tufup 0.10 needs, is not built:"
            " run it with python3.11, 3.12 or 3.13."
        )


def _key() -> str:
    """What the environment was made from; installed in editable mode, it also belongs to this very folder."""
    project = (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(b"\0".join((project, sys.version.encode(), str(ROOT).encode()))).hexdigest()


def _installed() -> "set[str]":
    packages = "Lib/site-packages/*" if os.name == "nt" else "lib/*/site-packages/*"
    return {path.name for path in ENVIRONMENT.glob(packages)}


def _is_current() -> bool:
    """Whether the stamp, which is written last, is of today and everything that it lists is still there."""
    try:
        key, *names = STAMP.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    return key == _key() and PYTHON.exists() and _installed().issuperset(names)


def _make() -> None:
    """Makes the environment under a lock, so that of two at once one makes it and the other waits and uses it."""
    say("Making the project's environment, .venv, as this is the first use or something changed.")
    say("It downloads about 60 packages and unpacks them: half a minute on a fast machine and link, ten on slow ones.")
    began = time.monotonic()
    sys.path.insert(0, str(ROOT))
    from dbsync.storage.locks import Lock

    lock = Lock(ROOT / ".venv.lock")
    if not lock.try_take():
        say("  another process is making it; waiting for it ...")
        if not lock.take(timeout_seconds=WAIT_SECONDS):
            sys.exit(f"The other process did not finish within {WAIT_SECONDS:.0f} seconds.")
    with lock:
        if not _is_current():
            _remove()
            _install(_make_empty())
            STAMP.write_text("\n".join([_key(), *sorted(_installed())]), encoding="utf-8")
    if not _is_current():
        sys.exit("The environment did not become what it should be: remove the folder .venv, then try again.")
    say(f"  ready after {time.monotonic() - began:.0f} seconds")


def _remove() -> None:
    # The stamp goes first: whatever stops this half-way, what is left is not taken for whole.
    try:
        STAMP.unlink(missing_ok=True)
        if ENVIRONMENT.exists():
            shutil.rmtree(ENVIRONMENT)
    except OSError as cause:
        sys.exit(f"The old environment could not be removed ({cause}): close what runs in it, then try again.")


def _make_empty() -> "list[str]":
    """Makes it without packages; returns the pip that can fill it."""
    own, ours = (importlib.util.find_spec(name) is not None for name in ("ensurepip", "pip"))
    if importlib.util.find_spec("venv") is None or not (own or ours):
        sys.exit("This Python lacks venv, or both ensurepip and pip (Debian: apt-get install python3-venv).")
    say("  an empty environment ...")
    # Inside the environment that was just removed, sys.executable is gone; the Python it was made from is not.
    python = getattr(sys, "_base_executable", sys.executable)
    command = [python, "-m", "venv", str(ENVIRONMENT)]
    if own and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        return [str(PYTHON), "-m", "pip"]
    if not ours:
        sys.exit(
            "The ensurepip of this Python does not work, and it has no pip (Debian: apt-get install python3-venv)."
        )
    if subprocess.run([*command, "--clear", "--without-pip"], check=False).returncode != 0:
        sys.exit("This Python could not make an environment; it says why above.")
    return [python, "-m", "pip", "--python", str(PYTHON)]


class _Clock:
    """Says every few seconds what is still under way: a download or the unpacking can be silent for minutes."""

    def __init__(self) -> None:
        self.step = "starting pip"
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Clock":  # noqa: PYI034 - Self is not in old Pythons
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SILENCE_SECONDS):
            say(f"  ... {self.step} ({time.monotonic() - self._began:.0f} seconds so far)")


def _install(pip: "list[str]", extra: str = "dev") -> None:
    """Fills it with the project and all that developing it takes, or an extra; one line for each package."""
    command = [*pip, "install", "--disable-pip-version-check", "--progress-bar", "off", "-e", f".[{extra}]"]
    # A plain path instead of a finder, which each Python of the environment would load at its start: 40 milliseconds.
    command += ["--config-settings", "editable_mode=compat"]
    lines, seen = [], set()
    with (
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
        ) as process,
        _Clock() as clock,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            first, _, rest = line.strip().partition(" ")
            if first in ("Collecting", "Processing"):
                package = re.split(r"[^A-Za-z0-9_.]", Path(rest.split()[0]).name)[0]
                clock.step = f"looking for {package}"
                if package not in seen:
                    seen.add(package)
                    say(f"  {package}")
            elif first == "Downloading":
                clock.step = f"downloading {rest}"
            elif first == "Installing" and rest.startswith("collected"):
                clock.step = "unpacking"
                say(f"  unpacking {rest.count(',') + 1} packages ...")
    if process.returncode != 0:
        say("".join(lines[-PIP_LINES_SHOWN:]))
        sys.exit("pip could not install the packages; it says why above.")
