"""The vendor's command that signs a program, run for each program of a kit, and last for the setup program."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from updater.publish.errors import PublishError

VARIABLE: Final = "TILLKEEPER_SIGN"
"""The command, for the uninstaller: the compiler of the setup program asks for its signature by running `main`."""
SIGN_SECONDS: Final = 300.0
"""A time stamp is fetched from a server."""


def sign(command: str, path: Path) -> None:
    """Sign a program.

    Args:
        command: the vendor's; `{file}` is the program, and `{signed}`, if it is there, a new file that replaces it.
        path: the program.

    Raises:
        PublishError: the command failed, or made no file.
    """
    signed = path.with_name(f"{path.name}.signed")
    words = [word.replace("{file}", str(path)).replace("{signed}", str(signed)) for word in shlex.split(command)]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=None, env=None,
            timeout=SIGN_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise PublishError(operation="sign", path=path, cause=str(cause)) from cause
    if done.returncode != 0:
        words_of_it = done.stdout.decode(errors="replace").strip()[-500:]
        raise PublishError(
            operation="sign", path=path, cause=f"the command ended with {done.returncode}: {words_of_it}"
        )
    if "{signed}" in command:
        if not signed.is_file():
            raise PublishError(operation="sign", path=path, cause=f"the command made no {signed.name}")
        signed.replace(path)


def main() -> None:
    """Sign the program that is named by the first argument."""
    sign(os.environ[VARIABLE], Path(sys.argv[1]))
