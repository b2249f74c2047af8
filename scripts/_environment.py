"""Makes the project's own environment beside it on first use, and runs the rest of a script inside it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
STAMP = ENVIRONMENT / "tillkeeper-stamp"
OLDEST, TOO_NEW = (3, 11), (3, 14)
INSIDE = "TILLKEEPER_INSIDE_ENVIRONMENT"


def say(text: str) -> None:
    """Prints a line at once, on any console."""
    try:
        print(text, flush=True)
    except UnicodeEncodeError:
        print(text.encode("ascii", "replace").decode(), flush=True)


def enter() -> None:
    """Goes on in the project's environment, which is made first if it is not there or not current."""
    if os.environ.get(INSIDE) == str(ENVIRONMENT):
        return
    _check_version()
    wanted = _wanted_stamp()
    if not _is_current(wanted):
        _make(wanted)
    python = _python()
    environment = {**os.environ, INSIDE: str(ENVIRONMENT)}
    arguments = [str(python), *sys.argv]
    if os.name == "nt":
        sys.exit(subprocess.run(arguments, env=environment, check=False).returncode)
    os.execve(python, arguments, environment)


def _check_version() -> None:
    found = sys.version_info[:2]
    if found < OLDEST:
        sys.exit(f"Python 3.11 or newer is needed; this is {found[0]}.{found[1]}.")
    if found >= TOO_NEW:
        sys.exit(
            f"This is Python {found[0]}.{found[1]}; the publishing side (tufup 0.10 and what it pins) has been "
            "tried up to 3.13. Please run this with one of 3.11 to 3.13."
        )


def _wanted_stamp() -> str:
    project = (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(project + sys.version.encode() + str(ROOT).encode()).hexdigest()


def _is_current(wanted: str) -> bool:
    try:
        return STAMP.read_text() == wanted and _python().exists()
    except OSError:
        return False


def _python(environment: Path = ENVIRONMENT) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _make(wanted: str) -> None:
    """Makes the environment; the stamp comes last, so a half-made one is made again."""
    say("First use (or the project changed): making the environment .venv; this takes a minute or two.")
    began = time.monotonic()
    lock = ROOT / ".venv.lock"
    with lock.open("w") as held:
        _lock(held)
        if _is_current(wanted):
            return
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        pip = _make_empty()
        _install(pip, "tillkeeper with everything for development", ["-e", f"{ROOT}[dev]"])
        STAMP.write_text(wanted)
    say(f"The environment is ready after {time.monotonic() - began:.0f} seconds.")


def _make_empty() -> list[str]:
    if importlib.util.find_spec("ensurepip") is not None:
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        return [str(_python()), "-m", "pip"]
    if importlib.util.find_spec("pip") is None:
        sys.exit("This Python has neither ensurepip nor pip; install one of them (Debian: python3-venv).")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(ENVIRONMENT)], check=True)
    return [sys.executable, "-m", "pip", "--python", str(_python())]


def _install(pip: list[str], what: str, arguments: list[str]) -> None:
    say(f"Installing {what} ...")
    command = [*pip, "install", "--disable-pip-version-check", "--progress-bar", "off", *arguments]
    collected: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            collected.append(line)
            words = line.split()
            if words[:1] == ["Collecting"]:
                say(f"  {words[1]}")
            elif words[:1] == ["Installing"]:
                say("  unpacking ...")
    if process.returncode != 0:
        sys.exit("".join(collected[-15:]) + "The packages could not be installed; see the lines above.")


def _lock(held: object) -> None:
    if os.name == "nt":
        return
    import fcntl

    fcntl.flock(held, fcntl.LOCK_EX)  # type: ignore[arg-type]
